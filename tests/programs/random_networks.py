"""Random networks of the whole language: a number gives a network, always the same.

`random_network(seed)` is a pure function. Blocks, names, lists, loops, conditions, slots and what
extends what are drawn so that they meet in ways that no person would think of, and names so that
they collide; shapes are followed while drawing, so that a good share of the networks is valid.
Run as a program it prints how many are, and how many of those have which feature.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import yaml_text
from random_blocks import (
    ACTS,
    KEEPING,
    NORMS,
    PRIMITIVES,
    Block,
    signature,
)
from random_bodies import Body, Call
from random_operations import Operation
from random_values import (
    ONE,
    TWO,
    Expression,
    Fill,
    Layer,
    Shape,
    World,
    computed,
    constant,
    named,
    number_of,
)

STAGES = (
    "layer1",
    "layer2",
    "features",
    "stage.1",
    "stage.2",
    "body.layer",
    "out",
    "y",
    "k",
    "sum",
)
NETWORKS = ("net", "drawn", "y", "out", "residual", "sum", "filters", "train", "forward", "k")
CLASSES = ("Thing", "Y2", "Sum", "Other", "Net", "Module", "Block", "Sequential", "Layers")
LETS = ("half", "sum", "out", "y", "k", "filters", "wide", "forward", "j", "residual")


KNOWN: tuple[Layer, ...] = (
    {"block": "basic", "filters": 8},
    {"block": "basic", "filters": 8, "attention": "efficient_channel_attention"},
    {"block": "preact_basic", "filters": 12},
    {"block": "bottleneck", "filters": 4, "expansion": 2},
    {"block": "conv_norm_act", "filters": 8, "kernel": 3},
    {"block": "res2net", "filters": 16, "expansion": 1, "scale": 2, "base_width": 32},
    {"block": "dense_layer", "growth": 4, "bottleneck": 2},
)


class Files(NamedTuple):
    """A network: the path of its spec, all texts by path, and what was drawn for it."""

    main: str
    texts: Mapping[str, str]
    tags: frozenset[str] = frozenset()


def random_network(seed: int) -> Files:
    """The network of a number."""
    return _Drawn(Random(seed)).files()


class _Drawn:
    """One network being drawn."""

    def __init__(self, r: Random) -> None:
        self.r = r
        self.tags: set[str] = set()
        self.odd_names = r.random() < 0.04
        self.size = r.choice((1, 1, 2, 3))
        self.blocks: list[Block] = []
        self.fills: dict[str, Fill] = {"norm": NORMS[0][1], "act": ACTS[0][1]}
        self.spec: dict[str, Any] = {}

    # - what bodies ask for -

    def callees(self, index: int, vector: bool) -> list[Block]:
        return [each for each in self.blocks if each.index > index and each.vector == vector]

    def fill(self, index: int, vector: bool, own: Sequence[str] = ()) -> tuple[Any, Any]:
        """What may fill a slot: as it is written, and what it is; None for a slot of the caller."""
        kind = self.r.random()
        if own and kind < 0.6:
            return self.r.choice(own), None
        kind = self.r.random()
        if kind < 0.5:
            return self.r.choice(PRIMITIVES)
        if kind < 0.6:
            return "none", Fill()
        blocks = [b for b in self.callees(index, vector) if b.contract == "same"]
        if kind < 0.7 or not blocks:
            return self.r.choice(KEEPING)
        return self.block_fill(self.r.choice(blocks), own)

    def block_fill(self, block: Block, own: Sequence[str]) -> tuple[Any, Fill]:
        self.tags.add("slot: a block of its own")
        block.needed = True
        given = {
            name: self.r.choice((True, False)) if argument.kind == "bool" else self.r.choice((1, 2))
            for name, argument in block.arguments.items()
            if argument.kind != "float" and self.r.random() < 0.4
        }
        written: dict[str, Any] = dict(given)
        slots = []
        for slot in block.slots:
            if self.r.random() < 0.6:
                self.tags.add("slot: within a slot")
                written[slot], fill = self.fill(block.index, False)
                slots.append((slot, fill))
        fill = Fill(block, 1, tuple(given.items()), tuple(slots), not block.weightless)
        return ({block.name: written} if written else block.name), fill

    # - the whole -

    def files(self) -> Files:
        r = self.r
        self.spec = {
            "spec_version": 1,
            "name": r.choice(NETWORKS),
            "description": "A network that was drawn at random",
            "input": {
                "channels": r.choice((3, 1, 4, 2)), "height": r.choice((8, 9, 8, 12)),
                "width": r.choice((8, 7, 8)),
            },
            "classes": r.choice((2, 4, 5, 8)),
        }  # fmt: skip
        if r.random() < 0.1:
            self.spec["class_name"] = r.choice(CLASSES)
        if r.random() < 0.05:
            self.spec["numerics"] = "exact"
        self.signatures()
        self.defaults()
        self.network()
        for block in self.blocks:
            self.draw_block(block)
        return self.written()

    def signatures(self) -> None:
        count = min(self.r.choice((1, 2, 2, 3, 3, 4)), self.size + 1)
        for index in range(count):
            taken = {block.name for block in self.blocks}
            self.blocks.append(signature(self.r, index, taken, last=index == count - 1))
        for block in reversed(self.blocks):  # what fills a slot has slots of its own
            self.slots(block)

    def slots(self, block: Block) -> None:
        if block.weightless or block.vector or self.r.random() < 0.35:
            return
        words = [w for w in ("attention", "extra", "sum", "out", "k") if w not in block.arguments]
        for name in words[: self.r.choice((1, 1, 2))]:
            block.slots[name] = self.fill(block.index, False)

    def defaults(self) -> None:
        r, found = self.r, {}
        if r.random() < 0.2:
            found["norm"], self.fills["norm"] = r.choice(NORMS)
        if r.random() < 0.2:
            found["act"], self.fills["act"] = r.choice(ACTS)
        if r.random() < 0.12:
            found["conv"] = r.choice(({"bias": True}, {"standardize": True}, {"init": "zeros"}))
        if r.random() < 0.08:
            found["batch_norm"] = {"eps": 1e-4, "momentum": 0.2}
        for block in self.blocks:
            if r.random() < 0.12:
                given = {
                    name: r.choice((1, 2, 3))
                    for name, each in block.arguments.items()
                    if each.kind == "int" and name not in (block.stride, block.filters)
                }
                block.defaults = dict(given)
                if given:
                    found[block.name] = given
                    block.needed = True
                    self.tags.add("defaults: of a block")
        if found:
            self.tags.add("defaults")
            self.spec["defaults"] = found

    # - the network's own layers -

    def network(self) -> None:
        spec = self.spec
        numbers = {"classes": spec["classes"]}
        given: Shape = tuple(spec["input"].values())
        world = World(numbers, given, self.fills)
        self.lets(spec, world, ["classes", "in_channels"], 0.35)
        # What holds the number of classes or of input channels is open, so no count may use it.
        kinds = {name: "int" for name in spec.get("let", {}) if name not in self.open}
        body = Body(self.r, self, [world], -1, kinds)
        body.free_size = True
        self.stem(body)
        self.stages(body)
        self.head(body)

    def lets(self, owner: dict[str, Any], world: World, known: list[str], chance: float) -> None:
        """Named numbers over those that are known; `open` has those that follow from the input."""
        self.open = {"classes", "in_channels"} if owner is self.spec else set()
        words = [word for word in LETS if word not in world.contexts[0]]
        found: dict[str, Any] = {}
        names = list(known)
        while words and self.r.random() < chance:
            name = words.pop(self.r.randrange(len(words)))
            one, two = named(self.r.choice(names)), named(self.r.choice(names))
            drawn = computed(self.r.choice((*ONE[:8], *TWO[:3])), one, two)
            if owner is self.spec and self.r.random() < 0.5:
                drawn = constant(self.r.choice((2, 3, 8)))
            value = number_of(drawn, world.contexts[0])
            if type(value) is not int or not 0 < value < 100:
                continue
            found[name] = drawn.text
            world.contexts[0][name] = value
            if isinstance(drawn.text, str) and {one.text, two.text} & self.open:
                self.open.add(name)
            names.append(name)
        if found:
            owner["let"] = found
            self.tags.add("let: network" if owner is self.spec else "let: block")

    def stem(self, body: Body) -> None:
        layers: list[Layer] = []
        body.layers = layers
        if self.r.random() < 0.9:
            open_filters = self.r.random() < 0.1
            filters = "in_channels * 4" if open_filters else body.channels()[0].text
            number = body.worlds[0].current[0] * 4 if open_filters else None
            layer: Layer = {"conv": None, "filters": filters, "kernel": 3}
            shape = body.worlds[0].current
            if number is None:
                number = number_of(_expression(filters), body.worlds[0].contexts[0])
            else:
                self.tags.add("open: input channels")
            body.place(Operation(layer, [(number, *shape[1:])], True), None, conditional=False)
            body.budget = self.r.choice((0, 1, 2, 3, 5)[: self.size + 2])
            body.statements(5)
            body.drain()
        self.spec["stem"] = layers

    def stages(self, body: Body) -> None:
        r = self.r
        count = r.choice((1, 2, 2, 3))
        names = list(STAGES)
        r.shuffle(names)
        self.spec["stages"] = found = []
        fitting = [b for b in self.blocks if not b.vector and not b.weightless] or self.blocks[:1]
        repeats = [r.choice((0, 0, 1, 2, 2, 3)) for _ in range(count)]
        total = sum(max(each, 1) for each in repeats)
        before = 0
        for number, repeat in enumerate(repeats):
            block = (
                fitting[min(number, len(fitting) - 1)] if r.random() < 0.3 else r.choice(fitting)
            )
            name = names.pop()
            if not body.places.claim(name, ()) and r.random() < 0.9:
                name = f"stage{number}"
            stage = self.stage(body, block, name, (repeat, before, total), number == count - 1)
            before += max(repeat, 1)
            if stage is not None:
                found.append(stage)
        if not found:
            found.append(self.known_stage(body, "layer9"))

    def stage(
        self, body: Body, block: Block, name: str, place: tuple[int, int, int], last: bool
    ) -> Layer | None:
        r, (repeat, before, total) = self.r, place
        if r.random() < 0.08:
            return self.known_stage(body, name)
        call = StageCall(body, block, before, total)
        call.large, call.wanted = True, repeat
        shapes = call.run([world.current for world in body.worlds])
        if shapes is None:
            return None
        layer: Layer = {"name": name, "block": block.name}
        if repeat:
            layer["repeat"] = repeat if r.random() < 0.8 else f"{repeat + 1} - 1"
            self.tags.add("repeat of a stage")
            if r.random() < 0.35:
                layer["names"] = r.choice(("{i}", "unit{i + 1}", "blocks.{i}", "b{2 * i}"))
                self.tags.add("names of repeats")
        call.written(layer)
        if not last and r.random() < 0.15:
            layer["feature"] = False
            self.tags.add("feature: false")
        if r.random() < 0.05 and shapes == [world.current for world in body.worlds]:
            layer["when"] = r.choice(("1 > 0", "2 == 2"))
        self.staged(body, layer, name, shapes)
        return layer

    def known_stage(self, body: Body, name: str) -> Layer:
        """A stage of a block that comes with the package."""
        self.tags.add("block of the package")
        channels, *size = body.worlds[0].current
        layer: Layer = {"name": name, **self.r.choice(KNOWN)}
        layer["repeat"] = self.r.choice((1, 2))
        given = layer["filters"] if "filters" in layer else channels + 4 * layer["repeat"]
        self.staged(body, layer, name, [(given * layer.get("expansion", 1), *size)])
        return layer

    def staged(self, body: Body, layer: Layer, name: str, shapes: list[Shape]) -> None:
        """The output of a stage is what comes next, and goes by its name."""
        for world, shape in zip(body.worlds, shapes, strict=True):
            world.current = shape
        if self.r.random() < 0.08:
            layer["as"] = body.value_name(shapes)
        body.fresh, body.current_name = False, None
        for world in body.worlds:  # later layers may not read what was before the last stage
            world.values = {}
            if layer.get("as"):
                world.values[layer["as"]] = world.current
            elif "." not in name:
                world.values[name] = world.current
                body.singles.add(name)

    def head(self, body: Body) -> None:
        r = self.r
        layers: list[Layer] = []
        body.layers = layers
        if not body.worlds[0].values:
            body.layers.append({"identity": None, "as": "y"})
            body.bind("y")
        body.free_size = True
        body.budget = r.choice((0, 0, 1, 2, 4)[: self.size + 2])
        body.statements(3)
        body.drain()
        if len(body.worlds[0].current) == 3:
            self.flattened(body)
        body.budget = r.choice((0, 0, 1, 2))
        body.statements(1)
        body.drain()
        if len(body.worlds[0].current) == 3:
            self.flattened(body)
        filters = r.choice(("classes", "classes", "classes", "classes * 1", "max(classes, 2)"))
        layer: Layer = {"linear": None, "features": filters}
        body.place(Operation(layer, [(self.spec["classes"],)], True), None, conditional=False)
        layer.pop("as", None)
        self.spec["head"] = layers

    def flattened(self, body: Body) -> None:
        """From a map to a vector."""
        r, (channels, height, width) = self.r, body.worlds[0].current
        kind = r.random()
        if kind < 0.15:
            body.plain({"adaptive_avg_pool": None, "size": 2}, [(channels, 2, 2)])
            body.plain({"flatten": None, "height": 2}, [(channels * 4,)])
        elif kind < 0.25 and channels * height * width < 800:
            layer: Layer = {"flatten": None, "height": height}
            if width != height:
                layer["width"] = width
            body.plain(layer, [(channels * height * width,)])
        elif kind < 0.32:
            # A convolution gives the classes; a layer for vectors follows all the same.
            layer = {"conv": None, "filters": "classes", "kernel": 1, "bias": True}
            shape = (self.spec["classes"], height, width)
            body.place(Operation(layer, [shape], True), None, conditional=False)
            body.plain({"global_avg_pool": None}, [(shape[0],)])
            self.tags.add("open: classes")
        else:
            lead = r.choice(("global_avg_pool", "global_avg_pool", "global_max_pool"))
            body.plain({lead: None}, [(channels,)])

    # - blocks -

    def draw_block(self, block: Block) -> None:
        r = self.r
        written: dict[str, Any] = {"description": f"Block {block.index}"}
        if r.random() < 0.12:
            written["class_name"] = f"{r.choice(CLASSES)}{block.index}"
            self.tags.add("class_name of a block")
        if block.arguments:
            written["args"] = {name: each.written for name, each in block.arguments.items()}
            self.tags.update("only: first" for each in block.arguments.values() if each.first)
            self.tags.update(f"argument: {each.kind}" for each in block.arguments.values())
        if block.slots:
            written["slots"] = {name: each for name, (each, _) in block.slots.items()}
        if not block.worlds:
            self.unused(block)
        body = self.body(block, written)
        body.budget = r.choice((2, 3, 4, 6, 8, 12)[: 3 * self.size]) if block.used else 1
        body.statements(14)
        self.finish(block, body)
        written["layers"] = body.layers
        block.written = written
        if block.weightless and block.used:
            self.tags.add("weightless block")
        if block.vector and block.used:
            self.tags.add("block of vectors")

    def unused(self, block: Block) -> None:
        """A use that no network has, to draw the layers by."""
        given = {block.filters: 8} if block.filters else {}
        position = {"i": 0, "n": 1, "block_index": 0, "block_count": 1}
        numbers = block.numbers(given, position) or dict.fromkeys(block.arguments, 1)
        fills = {name: fill for name, (_, fill) in block.slots.items()}
        shape: Shape = (8,) if block.vector else (8, 8, 8)
        block.worlds.append(World(numbers, shape, {**self.fills, **fills}))

    def body(self, block: Block, written: dict[str, Any]) -> Body:
        kinds = {name: each.kind for name, each in block.arguments.items()}
        for world in block.worlds:
            world.contexts[0] = dict(world.contexts[0])
        self.block_lets(block, written, kinds)
        body = Body(self.r, self, list(block.worlds), block.index, {**kinds, "in_channels": "int"})
        body.slots = list(block.slots)
        body.weightless, body.vector = block.weightless, block.vector
        return body

    def block_lets(self, block: Block, written: dict[str, Any], kinds: dict[str, str]) -> None:
        words = [word for word in LETS if word not in kinds and word not in block.slots]
        found: dict[str, Any] = {}
        self.r.shuffle(words)
        names = ["in_channels", *(name for name, kind in kinds.items() if kind == "int")]
        while words and self.r.random() < 0.25:
            name = words.pop()
            one, two = named(self.r.choice(names)), named(self.r.choice(names))
            drawn = computed(self.r.choice((*ONE[:8], *TWO[:3])), one, two)
            values = [number_of(drawn, world.contexts[0]) for world in block.worlds]
            if all(type(value) is int for value in values):
                found[name] = drawn.text
                kinds[name] = "int"
                names.append(name)
                for world, value in zip(block.worlds, values, strict=True):
                    world.contexts[0][name] = value
        if found:
            written["let"] = found
            self.tags.add("let: block")

    def finish(self, block: Block, body: Body) -> None:
        """Keep the contract, with a shortcut sometimes."""
        body.drain()
        body.budget = 9
        given = [world.contexts[0]["in_channels"] for world in body.worlds]
        inputs = [world.given for world in body.worlds]
        if block.contract == "same":
            body.fit(inputs)
            if self.same(body, inputs) or block.weightless:
                return
            self.conv(body, "in_channels", given, {})
        elif block.contract == "grow":
            numbers = [world.contexts[0][block.filters] for world in body.worlds]
            self.conv(body, block.filters, numbers, {})
            name = body.name_current()
            if [world.values.get("x") for world in body.worlds] == inputs and name != "x":
                body.layers.append({"concat": ["x", name]})
                body.unread.clear()
        else:
            numbers = [world.contexts[0][block.filters] for world in body.worlds]
            stride = {"stride": block.stride} if block.stride else {}
            self.conv(body, block.filters, numbers, stride)
            self.shortcut(block, body, inputs)
            if self.r.random() < 0.5:
                body.layers.append(self.r.choice(({"act": body.layer()}, {"relu": None})))

    def same(self, body: Body, inputs: list[Shape]) -> bool:
        """Whether the block keeps the shape, with its input added sometimes."""
        if [world.current for world in body.worlds] != inputs:
            return False
        if self.r.random() < 0.4 and [w.values.get("x") for w in body.worlds] == inputs:
            name = body.name_current()
            body.layers.append({"add": [name, "x"] if self.r.random() < 0.5 else ["x", name]})
        return True

    def conv(self, body: Body, filters: str, numbers: list[int], more: Layer) -> None:
        vector = len(body.worlds[0].current) == 1
        layer: Layer = {"linear": None, "features": filters}
        if not vector:
            layer = {"conv": None, "filters": filters, "kernel": self.r.choice((1, 1, 3)), **more}
        shapes = [
            (number, *world.current[1:]) for number, world in zip(numbers, body.worlds, strict=True)
        ]
        body.place(Operation(layer, shapes, True), None, conditional=False)

    def shortcut(self, block: Block, body: Body, inputs: list[Shape]) -> None:
        if self.r.random() < 0.5 or [w.values.get("x") for w in body.worlds] != inputs:
            return
        if block.vector:
            return
        name, other = body.name_current(), self.r.choice(("shortcut", "short", "out_"))
        if name in ("x", other):
            return
        changes = [f"in_channels != {block.filters}"]
        layer: Layer = {"conv": body.layer(), "from": "x", "as": other, "filters": block.filters}
        layer["kernel"] = 1
        if block.stride:
            layer["stride"] = block.stride
            changes.insert(0, f"{block.stride} != 1")
        if self.r.random() < 0.8:
            layer["when"] = " or ".join(changes)
            if self.r.random() < 0.3:
                layer["else"] = "x"
            self.tags.add("shortcut with when")
        if self.r.random() < 0.3:
            kind = self.r.choice(("projection", "conv_shortcut", "avg_pool_shortcut"))
            del layer["conv"], layer["kernel"]
            layer = {"block": kind, "name": body.layer(), **layer}
            self.tags.add("block of the package")
        body.layers += [layer, {"add": self.r.sample([name, other], 2)}]
        body.current_name = None

    # - files -

    def written(self) -> Files:
        r, spec = self.r, self.spec
        texts: dict[str, str] = {}
        inline = {}
        for block in self.blocks:
            if not block.used and not block.needed and r.random() < 0.7:
                continue
            if block.in_file:
                self.tags.add("block file")
                own = {"block": block.name, **block.written}
                texts[f"blocks/{block.name}.yaml"] = yaml_text.text(own)
            else:
                inline[block.name] = block.written
        if inline:
            self.tags.add("block inline")
            spec["blocks"] = inline
        main = "net.yaml"
        if r.random() < 0.22:
            self.tags.add("extends")
            spec, base = _Extended(r, spec, self.tags).both()
            texts["base.yaml"] = yaml_text.text(base)
        texts[main] = yaml_text.text(spec)
        return Files(main, texts, frozenset(self.tags))


class StageCall(Call):
    """The use of a block that is a stage."""

    wanted = 0

    def run(self, given: list[Shape], chance: float = 0.35) -> list[Shape] | None:
        for _ in range(4):
            self.repeat = constant(self.wanted) if self.wanted else None
            self.draw()
            shapes = self.simulate(given)
            if shapes is not None:
                return shapes
        return None


def _expression(text: Any) -> Expression:
    """The expression that a body drew for the network itself, read again."""
    from resnet_spec import expressions

    if not isinstance(text, str):
        return constant(text)
    tree, _ = expressions.parse(text)
    return Expression(text, lambda numbers: expressions.evaluate(tree, numbers))


class _Extended:
    """A spec taken apart into one that changes another."""

    def __init__(self, r: Random, spec: dict[str, Any], tags: set[str]) -> None:
        self.r, self.tags = r, tags
        self.whole = spec
        self.base = copy.deepcopy(spec)
        self.base |= {"name": "base", "description": "The base"}
        self.base.pop("class_name", None)
        self.change: dict[str, Any] = {
            key: spec[key] for key in ("name", "class_name", "description") if key in spec
        }
        self.change["extends"] = "base.yaml"

    def both(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The spec that extends, and its base; together they are the whole."""
        for part in (self.stages, self.stem, self.lets, self.defaults, self.input, self.blocks):
            if self.r.random() < 0.5:
                part()
        return self.change, self.base

    def stages(self) -> None:
        self.tags.add("extends: a stage by name")
        changes: dict[str, Any] = {}
        stage = self.r.choice(self.base["stages"])
        keys = [key for key in stage if key not in ("name", "block", "names")]
        if keys and isinstance(stage["name"], str):
            key = self.r.choice(keys)
            changes[stage["name"]] = {key: stage.pop(key)}
        if self.r.random() < 0.4:
            extra = {"name": "extra", "block": "basic", "filters": 8}
            self.base["stages"].append(extra)
            changes["extra"] = self.r.choice((None, "none"))
        if changes:
            self.change["stages"] = changes

    def stem(self) -> None:
        for layer in self.base["stem"]:
            lead, name = next(iter(layer.items()))
            rest = [key for key in layer if key not in (lead, "name", "layers", "count", "for")]
            if isinstance(name, str) and rest and lead != "for":
                self.tags.add("extends: a layer by name")
                key = self.r.choice(rest)
                self.change["stem"] = {layer.get("name", name): {key: layer.pop(key)}}
                return

    def lets(self) -> None:
        lets = self.base.get("let")
        if lets:
            self.tags.add("extends: let")
            name = self.r.choice(list(lets))
            self.change["let"] = {name: lets[name]}
            lets[name] = 1

    def defaults(self) -> None:
        found = self.base.pop("defaults", None)
        if found:
            self.tags.add("extends: defaults")
            name = self.r.choice(list(found))
            self.change["defaults"] = {name: found.pop(name)}
            if found:
                self.base["defaults"] = found

    def input(self) -> None:
        key = self.r.choice(("height", "width"))
        self.change["input"] = {key: self.base["input"].pop(key)}

    def blocks(self) -> None:
        found = self.base.get("blocks")
        if found:
            name = self.r.choice(list(found))
            self.change["blocks"] = {name: found.pop(name)}
            if not found:
                del self.base["blocks"]


def main(count: int) -> None:
    """How many of so many networks are valid, and how many of those show which feature."""
    import collections
    import time

    import fuzz

    from resnet_spec.diagnostics import SpecError
    from resnet_spec.primitives import PRIMITIVES as known

    began = time.perf_counter()
    drawn = [random_network(seed) for seed in range(count)]
    each = (time.perf_counter() - began) * 1000 / count
    tags = collections.Counter({f"primitive: {name}": 0 for name in known})
    valid = 0
    for files in drawn:
        try:
            fuzz.read(files, fuzz.folder())
        except SpecError:
            continue
        valid += 1
        tags.update(files.tags)
    print(f"{count} networks, {each:.2f} ms each to draw, {100 * valid / count:.1f} % valid")
    for tag, number in sorted(tags.items(), key=lambda item: (-item[1], item[0])):
        print(f"{100 * number / valid:6.1f} % {tag}")


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
