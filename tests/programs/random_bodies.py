"""The layers of a random block, or of a network, drawn to fit in every use of the block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol

import random_operations as operations
from random_blocks import (
    ACTS,
    NORMS,
    Block,
    call_position,
)
from random_operations import Operation
from random_values import (
    ATTRIBUTES,
    COUNTERS,
    LAYERS,
    LISTS,
    LOGIC,
    ONE,
    RESERVED,
    TESTS,
    TWO,
    VALUES,
    Expression,
    Fill,
    Layer,
    Numbers,
    Places,
    Shape,
    Value,
    World,
    computed,
    constant,
    layer_name,
    named,
    number_of,
)

MAX_LOOPS = 3
MAX_VALUE = 24


class Plan(Protocol):
    """What a body needs of the network around it."""

    tags: set[str]
    odd_names: bool

    def callees(self, index: int, vector: bool) -> list[Block]: ...
    def fill(self, index: int, vector: bool, own: Sequence[str] = ()) -> tuple[Any, Any]: ...


class Reference(NamedTuple):
    """The name of a value, an element or a list, and its shapes in each use."""

    text: str
    name: str
    shapes: list[list[Shape]]

    @property
    def first(self) -> list[Shape]:
        return [each[0] for each in self.shapes]


class Body:
    """Draws statements from top to bottom and follows the shapes of all values."""

    def __init__(
        self, r: Random, plan: Plan, worlds: list[World], index: int, numbers: dict[str, str]
    ) -> None:
        self.r, self.plan, self.worlds, self.index = r, plan, worlds, index
        self.kinds = dict(numbers)  # names in expressions: int, bool, float
        self.slots: list[str] = []
        self.weightless = self.vector = self.free_size = False
        self.places = Places()
        self.layers: list[Layer] = []
        self.counters: list[str] = []
        self.growing: dict[str, str] = {}  # lists that a loop adds to: the last element's index
        self.loops: list[dict[str, Any]] = []
        self.runs_always = True
        self.unread: dict[str, None] = {}  # values with weights behind them
        self.fresh = False  # so is the previous output, and it has no name
        self.last_test: Expression | None = None  # of the last layer with a condition
        self.current_name: str | None = "x"
        self.divided: set[str] = set()  # lists that a split gave: one part stands for all
        self.singles = {"x"}  # names of values that are no lists
        self.budget = 10
        self.count = 0

    # - numbers -

    def names(self, kind: str) -> list[str]:
        return [name for name, each in self.kinds.items() if each == kind]

    def operand(self) -> Expression:
        names = self.names("int")
        if self.counters and self.r.random() < 0.5:
            names = self.counters
        return named(self.r.choice(names)) if names else constant(self.r.choice((1, 2, 4)))

    def expression(self) -> Expression:
        """Over arguments, lets and counters, whatever its value."""
        kind = self.r.random()
        if kind < 0.35:
            return self.operand()
        if kind < 0.75:
            return computed(self.r.choice(ONE), self.operand())
        two = computed(self.r.choice(TWO), self.operand(), self.operand())
        return two if kind < 0.9 else computed(self.r.choice(ONE), two)

    def values_of(self, expression: Expression) -> list[list[Any]]:
        return [[number_of(expression, n) for n in world.contexts] for world in self.worlds]

    def integer(self, low: int, high: int, same: bool = True) -> Expression | None:
        """A drawn expression within bounds in every use; with `same`, alike in every turn."""
        for _ in range(3):
            drawn = self.expression()
            if all(
                all(type(n) is int and low <= n <= high for n in found)
                and (not same or len(set(found)) == 1)
                for found in self.values_of(drawn)
            ):
                return drawn
        return None

    def channels(self) -> tuple[Expression, list[int]]:
        """A number of channels, alike in every turn of the loops."""
        drawn = self.integer(2, 16) if self.r.random() < 0.6 else None
        if drawn is None or any(found[0] % 2 for found in self.values_of(drawn)):
            drawn = constant(self.r.choice((8, 8, 8, 4, 12, 16, 6)))
        else:
            self.plan.tags.add("filters: expression")
        return drawn, [found[0] for found in self.values_of(drawn)]

    def rate(self) -> Any:
        rates = self.names("float")
        if rates and self.r.random() < 0.5:
            return f"{self.r.choice(rates)} / 4"
        return self.r.choice((0.1, 0.5, "1 / 4"))

    def test(self, turns: bool = True) -> Expression | None:
        """A condition; without `turns` none that looks at a counter."""
        flags = [named(name) for name in self.names("bool")]
        names = [n for n in self.names("int") if turns or n not in self.counters]
        if self.counters and turns and self.r.random() < 0.6:
            names = self.counters
        if flags and self.r.random() < 0.5:
            found = self.r.choice(flags)
        elif names:
            one, two = named(self.r.choice(names)), named(self.r.choice(names))
            found = computed(self.r.choice(TESTS), one, two)
        else:
            return None
        if self.r.random() < 0.3:
            other = self.r.choice(flags) if flags else found
            found = computed(self.r.choice(LOGIC), found, other)
        return found

    # - names -

    def layer(self) -> str:
        words = (*LAYERS, *ATTRIBUTES) if self.plan.odd_names else LAYERS
        for _ in range(4):
            name = layer_name(self.r, self.counters, words)
            if name.count(".") > 1:
                self.plan.tags.add("name: deep")
            elif "." in name:
                self.plan.tags.add("name: dotted")
            if self.places.claim(name, self.counters):
                return name
        self.count += 1
        name = ".".join((f"u{self.count}", *(f"{{{each}}}" for each in self.counters)))
        self.places.claim(name, self.counters)
        return name

    def value_name(self, shapes: list[Shape]) -> str:
        words = RESERVED if self.plan.odd_names and self.r.random() < 0.1 else VALUES
        for _ in range(4):
            name = self.r.choice(words)
            if self.may_bind(name, shapes):
                return name
        self.count += 1
        return f"v{self.count}"

    def may_bind(self, name: str, shapes: list[Shape]) -> bool:
        """Whether a value may get this name: nothing is lost, and every turn finds its shape."""
        if name in self.unread or name in self.growing:
            return False
        before = self.loops[-1]["values"] if self.loops else None
        if before is None or all(name not in each for each in before):
            return True
        return all(
            each.get(name) in (None, shape) for each, shape in zip(before, shapes, strict=True)
        )

    # - references -

    def reference(self, whole: bool = False) -> Reference | None:
        """Something that can be read in every use."""
        for _ in range(3):
            names = self.worlds[0].values
            if self.unread and self.r.random() < 0.4:
                names = self.unread  # type: ignore[assignment]
            name = self.r.choice(list(names))
            found = [world.values.get(name) for world in self.worlds]
            if all(isinstance(each, tuple) for each in found):
                return Reference(name, name, [[each] for each in found])  # type: ignore[list-item]
            if all(isinstance(each, list) and each for each in found):
                lists: list[list[Shape]] = found  # type: ignore[assignment]
                if whole and self.r.random() < 0.6:
                    self.plan.tags.add("list: whole")
                    return Reference(name, name, lists)
                return self.element(name, lists)
        return None

    def element(self, name: str, lists: list[list[Shape]]) -> Reference:
        index = self.index_of(name, lists)
        if isinstance(index, int):
            text = f"{name}.{index}" if self.r.random() < 0.7 else f"{name}.{{{index}}}"
            shapes = [each[index] for each in lists]
        else:
            self.plan.tags.add("list: element by expression")
            text = f"{name}.{{{index}}}"
            shapes = [each[0] for each in lists]
        return Reference(text, name, [[shape] for shape in shapes])

    def index_of(self, name: str, lists: list[list[Shape]]) -> int | str:
        if name in self.growing:
            return self.growing[name] if self.r.random() < 0.7 else 0
        least = min(map(len, lists))
        alike = all(shape == each[0] for each in lists for shape in each)
        if alike and self.r.random() < 0.7:
            wanted = [named(counter) for counter in self.counters]
            wanted += [computed(ONE[3], named(each)) for each in self.names("int")]
            self.r.shuffle(wanted)
            for drawn in wanted:
                turns = self.values_of(drawn)
                if all(
                    type(n) is int and 0 <= n < len(each)
                    for each, found in zip(lists, turns, strict=True)
                    for n in found
                ):
                    return str(drawn.text)
        return self.r.randrange(least)

    def read(self, reference: Reference | None) -> bool:
        """Its weights are of use now; without one, those of the previous output. Had it any?"""
        if reference is None:
            laden = self.fresh or self.current_name in self.unread
            self.fresh = False
            self.unread.pop(self.current_name or "", None)
            return laden
        laden = reference.name in self.unread
        is_part = reference.text != reference.name and reference.name not in self.divided
        if not is_part or all(len(world.values[reference.name]) == 1 for world in self.worlds):
            self.unread.pop(reference.name, None)
        return laden

    def leave(self) -> None:
        """Before a statement that does not read the previous output."""
        if self.fresh and self.r.random() < 0.97:
            self.name_current()

    def name_current(self) -> str:
        """A name of the previous output; gives it one where it has none."""
        if self.current_name is not None:
            return self.current_name
        shapes = [world.current for world in self.worlds]
        name = self.value_name(shapes)
        last = self.layers[-1] if self.layers else {}
        if not last or "for" in last or "as" in last:
            self.layers.append({"identity": None, "as": name})
        else:
            last["as"] = name
        self.bind(name)
        return name

    def bind(self, name: str) -> None:
        self.singles.add(name)
        for world in self.worlds:
            world.values[name] = world.current
        if self.fresh:
            self.unread[name] = None
        self.fresh = False
        self.current_name = name

    # - statements -

    def put(
        self,
        layer: Layer,
        shapes: list[Shape],
        weights: bool,
        source: Reference | None = None,
        conditional: bool = True,
    ) -> None:
        """Add a layer, with `from`, `when` and `as`."""
        if source is not None:
            layer["from"] = source.text
        passing = source.first if source is not None else [w.current for w in self.worlds]
        rare = 0.05 if "{" in str(next(iter(layer.values()))) else 0.16
        if self.in_branch():
            rare = 0.6
        if conditional and self.r.random() < rare:
            shapes = self.conditional(layer, shapes, passing, weights)
        for world, shape in zip(self.worlds, shapes, strict=True):
            world.current = shape
        self.fresh, self.current_name = weights, None
        self.layers.append(layer)
        self.budget -= 1
        self.named(layer, shapes)

    def conditional(
        self, layer: Layer, shapes: list[Shape], passing: list[Shape], laden: bool = True
    ) -> list[Shape]:
        """`when`, and `else` sometimes, where what passes fits; the shapes that come of it."""
        # With `else` nothing reads the input where the condition does not hold.
        other = self.reference() if self.r.random() < (0.08 if laden else 0.7) else None
        test = self.last_test if self.in_branch() and self.r.random() < 0.8 else self.test()
        if test is None:
            return shapes
        if other is not None:
            passing = other.first
        result = []
        for shape, through, found in zip(shapes, passing, self.values_of(test), strict=True):
            if None in found or (len(set(found)) > 1 and shape != through):
                return shapes
            result.append(shape if found[0] else through)
        layer["when"] = test.text
        self.last_test = test
        self.plan.tags.add("when")
        if other is not None:
            layer["else"] = other.text
            self.read(other)
            self.plan.tags.add("else")
        return result

    def in_branch(self) -> bool:
        """Whether the last layer is under a condition, which the next may share."""
        last = self.layers[-1].get("when") if self.layers else None
        return self.last_test is not None and last == self.last_test.text

    def named(self, layer: Layer, shapes: list[Shape]) -> None:
        kind = self.r.random()
        if kind < 0.3:
            layer["as"] = name = self.value_name(shapes)
            self.bind(name)
        elif kind < 0.5:
            self.listed(layer, shapes)

    def listed(self, layer: Layer, shapes: list[Shape]) -> None:
        """`as` an element of a list: the next one, or the first of a new one."""
        name = self.r.choice(LISTS)
        if name in self.growing or (name in self.unread and self.r.random() < 0.97):
            return
        found = [world.values.get(name) for world in self.worlds]
        if name in self.singles and self.r.random() < 0.97:
            return  # a value does not become a list
        sizes = {len(each) if isinstance(each, list) else 0 for each in found}
        if self.counters and self.r.random() < 0.75:
            if not self.grown(layer, name, shapes, sizes):
                return
        elif len(sizes) == 1 and 0 not in sizes and not self.counters and self.r.random() < 0.8:
            layer["as"] = f"{name}.{sizes.pop()}"
            for world, shape in zip(self.worlds, shapes, strict=True):
                world.values[name] = [*world.values[name], shape]
        else:
            if self.loops and any(name in each for each in self.loops[-1]["values"]):
                return
            self.plan.tags.add("list: begun again" if sizes != {0} else "list")
            layer["as"] = f"{name}.0"
            for world, shape in zip(self.worlds, shapes, strict=True):
                world.values[name] = [shape]
        self.divided.discard(name)
        if self.fresh:
            self.unread[name] = None
            self.fresh = False

    def grown(self, layer: Layer, name: str, shapes: list[Shape], sizes: set[int]) -> bool:
        """A loop adds an element in each turn."""
        counter = self.counters[-1]
        fits = all(
            isinstance(world.values.get(name), list) and world.values[name][0] == shape
            for world, shape in zip(self.worlds, shapes, strict=True)
        )
        before = self.loops[-1]["values"]
        if sizes == {1} and fits and all(name in each for each in before):
            index, first = f"{counter} + 1", 1
            self.plan.tags.add("list: grows from k + 1")
        elif all(name not in each for each in before):
            index, first = counter, 0
            index = self.flat_index(name) or counter
            self.plan.tags.add("list: grows in a loop")
        else:
            return False
        layer["as"] = f"{name}.{{{index}}}"
        for world, shape in zip(self.worlds, shapes, strict=True):
            world.values[name] = [shape] * (first + 1)
        self.growing[name] = index
        self.loops[-1]["grown"][name] = first
        return True

    def flat_index(self, name: str) -> str | None:
        """Of a list that grows in each turn of two loops."""
        inner = self.loops[-1]["count"]
        if len(self.loops) < 2 or type(inner) is not int or inner < 1:
            return None
        outer = self.loops[-2]
        if name in outer["grown"] or any(name in each for each in outer["values"]):
            return None
        outer["flat"][name] = inner
        self.plan.tags.add("list: over two loops")
        return f"{self.counters[-2]} * {inner} + {self.counters[-1]}"

    def flat_end(self, start: list[Shape]) -> None:
        name = self.r.choice(LISTS)
        free = name not in self.singles and name not in self.growing and name not in self.unread
        if not free or any(name in each for each in self.loops[-1]["values"]):
            return
        if [world.current for world in self.worlds] != start:
            return
        index = self.flat_index(name)
        if index is not None:
            self.layers.append({"identity": None, "as": f"{name}.{{{index}}}"})
            self.current_name = None
            for world in self.worlds:
                world.values[name] = [world.current]
            self.growing[name] = index
            self.loops[-1]["grown"][name] = 0

    def operation(self) -> None:
        """A primitive with one input."""
        source = self.reference() if self.r.random() < 0.25 else None
        given = source.first if source is not None else [w.current for w in self.worlds]
        ranks = {len(shape) for shape in given}
        if len(ranks) > 1:
            return
        choices = operations.MAP_TABLE if ranks == {3} else operations.VECTOR_TABLE
        for _ in range(4):
            made = self.r.choice(choices)(self, given)
            if made is not None and not (made.weights and self.weightless):
                self.place(made, source)
                return

    def place(self, made: Operation, source: Reference | None, conditional: bool = True) -> None:
        lead = next(iter(made.layer))
        self.plan.tags.add(f"primitive: {lead}")
        if made.weights or self.r.random() < 0.4:
            made.layer[lead] = self.layer()
        else:
            self.plan.tags.add("unnamed layer")
        if source is not None:
            self.leave()
        laden = self.read(source)
        self.put(made.layer, made.shapes, made.weights or laden, source, conditional)

    def role(self) -> None:
        role = "act" if self.weightless or self.vector else self.r.choice(operations.ROLES)
        for world in self.worlds:
            fill = world.fills[role]
            needs_map = fill.weights or fill.target == "map"
            if world.current[0] % fill.groups or (needs_map and len(world.current) == 1):
                return
            if self.weightless and fill.weights:
                return
        weights = any(world.fills[role].weights for world in self.worlds)
        self.plan.tags.add(f"role: {role}")
        laden = self.read(None)
        shapes = [world.current for world in self.worlds]
        self.put({role: self.layer()}, shapes, weights or laden)

    def merge(self) -> None:
        """`add`, `multiply`, `concat` or `stack_rows` of what there is."""
        first: Reference | None = None
        if self.r.random() < 0.5:
            name = self.name_current()
            first = Reference(name, name, [[w.current] for w in self.worlds])
        else:
            first = self.reference(whole=True)
        if first is None:
            return
        for _ in range(5):
            kind = self.r.choice(
                ("add", "add", "add", "concat", "concat", "multiply", "stack_rows")
            )
            others = [self.reference(whole=True) for _ in range(self.r.choice((1, 1, 2)))]
            parts = [first, *(each for each in others if each is not None)]
            self.r.shuffle(parts)
            shapes = [
                merged(kind, [s for part in parts for s in part.shapes[n]], self.free_size)
                for n in range(len(self.worlds))
            ]
            if None not in shapes:
                self.join(kind, parts, shapes)  # type: ignore[arg-type]
                return

    def join(
        self, kind: str, parts: list[Reference], shapes: list[Shape], conditional: bool = True
    ) -> None:
        self.leave()
        mixed = {isinstance(self.worlds[0].values[part.name], list) for part in parts}
        if len(mixed) > 1 and len({part.text for part in parts}) > 1:
            self.plan.tags.add("merge: list and value")
        self.plan.tags.add(f"primitive: {kind}")
        weights = any(part.name in self.unread for part in parts)
        for part in parts:
            self.read(part)
        layer: Layer = {kind: [part.text for part in parts]}
        if self.r.random() < 0.4:
            layer["name"] = self.layer()
        if all(len(each) == 1 for each in parts[0].shapes):
            passing = Reference(parts[0].text, parts[0].name, parts[0].shapes)
            if conditional and self.r.random() < 0.15:
                shapes = self.conditional(layer, shapes, passing.first, weights)
        self.put(layer, shapes, weights, conditional=False)

    def split(self) -> None:
        given = [world.current for world in self.worlds]
        parts = operations.dividing(given, 2, 4)
        drawn = self.integer(2, 4) if self.r.random() < 0.4 else None
        if drawn is not None:
            numbers = [found[0] for found in self.values_of(drawn)]
            if any(s[0] % n for s, n in zip(given, numbers, strict=True)):
                drawn = None
        if drawn is None:
            if not parts:
                return
            drawn = constant(self.r.choice(parts))
        numbers = [found[0] for found in self.values_of(drawn)]
        name = self.r.choice(LISTS)
        if name in self.growing or name in self.unread or self.kept_by_loop(name):
            return
        self.plan.tags.add("primitive: split")
        laden = self.read(None)
        label = self.layer() if self.r.random() < 0.5 else None
        self.layers.append({"split": label, "parts": drawn.text, "as": name})
        for world, number in zip(self.worlds, numbers, strict=True):
            shape = (world.current[0] // number, *world.current[1:])
            world.values[name] = [shape] * number
            world.current = shape
        self.divided.add(name)
        if laden:
            self.unread[name] = None
        self.fresh, self.current_name = False, None
        self.budget -= 1
        if self.r.random() < 0.85:  # what follows a split reads its last part; mostly say which
            found: list[list[Shape]] = [world.values[name] for world in self.worlds]  # type: ignore[misc]
            element = self.element(name, found)
            self.layers.append({"identity": None, "from": element.text})
            self.fresh = self.read(element)

    def kept_by_loop(self, name: str) -> bool:
        return bool(self.loops) and any(name in each for each in self.loops[-1]["values"])

    def gate(self) -> None:
        """A value scaled by something smaller that is made of it."""
        given = [world.current for world in self.worlds]
        if any(len(shape) != 3 or min(shape[1:]) < 2 for shape in given):
            return
        name = self.name_current()
        if self.current_name in self.growing:
            return
        over_map = self.r.random() < 0.3
        squeezed = [(1, *s[1:]) if over_map else (s[0], 1, 1) for s in given]
        source = Reference(name, name, [[shape] for shape in given])
        if over_map:
            kinds: tuple[Layer, ...] = ({"channel_avg_pool": None}, {"channel_max_pool": None})
        else:
            kinds = (
                {"global_avg_pool": None, "keep_map": True},
                {"global_max_pool": None, "keep_map": True},
                {"adaptive_avg_pool": None, "size": 1},
            )
        self.plain(dict(self.r.choice(kinds)), squeezed, source)
        if not over_map and self.r.random() < 0.25:
            self.stacked(squeezed)
        if not self.weightless and not over_map and self.r.random() < 0.25:
            small: Layer = {"channel_conv": None, "kernel": self.r.choice((1, 3, 5))}
            self.place(Operation(small, squeezed, True), None, conditional=False)
        elif not self.weightless and self.r.random() < 0.7:
            width = 1 if over_map else "in_channels"
            fits = over_map or all(
                shape[0] == n["in_channels"]
                for world, shape in zip(self.worlds, given, strict=True)
                for n in world.contexts
            )
            if fits:
                layer: Layer = {"conv": None, "filters": width, "kernel": 1, "bias": True}
                self.place(Operation(layer, squeezed, True), None, conditional=False)
        self.plain({self.r.choice(("sigmoid", "hard_sigmoid", "softmax")): None}, squeezed)
        self.put_name_and_multiply(source, squeezed, given)

    def stacked(self, squeezed: list[Shape]) -> None:
        one = self.name_current()
        part = Reference(one, one, [[shape] for shape in squeezed])
        rows: list[Shape] = [(s[0], 2, 1) for s in squeezed]
        self.join("stack_rows", [part, part], rows, conditional=False)
        self.plain({"global_avg_pool": None, "keep_map": True}, squeezed)

    def put_name_and_multiply(
        self, source: Reference, squeezed: list[Shape], given: list[Shape]
    ) -> None:
        if [world.values.get(source.name) for world in self.worlds] != given:
            return  # its name was taken for something else
        gate = self.name_current()
        if gate == source.name:
            return
        part = Reference(gate, gate, [[shape] for shape in squeezed])
        self.join("multiply", [source, part], given, conditional=False)

    def plain(self, layer: Layer, shapes: list[Shape], source: Reference | None = None) -> None:
        """A primitive without weights, neither conditional nor an element of a list."""
        lead = next(iter(layer))
        self.plan.tags.add(f"primitive: {lead}")
        if self.r.random() < 0.4:
            layer[lead] = self.layer()
        if source is not None:
            layer["from"] = source.text
        if source is not None:
            self.leave()
        weights = self.read(source)
        self.layers.append(layer)
        for world, shape in zip(self.worlds, shapes, strict=True):
            world.current = shape
        self.fresh, self.current_name = weights, None

    def bordered(self) -> None:
        """A border of zeros, and a window that needs it."""
        given = [world.current for world in self.worlds]
        if any(len(shape) != 3 for shape in given):
            return
        grown: list[Shape] = [(s[0], s[1] + 2, s[2] + 2) for s in given]
        self.plain({"zero_pad": None, "padding": 1}, grown)
        layer: Layer = {self.r.choice(("max_pool", "avg_pool")): None, "kernel": 3, "stride": 1}
        if self.weightless or self.r.random() < 0.5:
            self.plain({**layer, "padding": 0}, given)
            return
        filters, numbers = self.channels()
        layer = {"conv": None, "filters": filters.text, "kernel": 3, "padding": 0}
        shapes = [(n, *shape[1:]) for n, shape in zip(numbers, given, strict=True)]
        self.place(Operation(layer, shapes, True), None, conditional=False)

    # - loops -

    def loop(self) -> None:
        if len(self.counters) == MAX_LOOPS or self.budget < 2:
            return
        free = [name for name in COUNTERS if name not in self.worlds[0].contexts[0]]
        counter = self.r.choice(free) if free else "kk"
        drawn = self.integer(0, 3, same=False) if self.r.random() < 0.6 else None
        if drawn is not None and "in_channels" in str(drawn.text) and self.r.random() < 0.7:
            drawn = None  # it may follow from the network's own input channels, and be refused
        count = drawn or constant(self.r.choice((1, 2, 2, 2, 3, 3, 0)))
        self.plan.tags.add(f"loop: depth {len(self.counters) + 1}")
        self.plan.tags.add("loop: count by expression" if drawn else f"loop: count {count.text}")
        if counter in self.worlds[0].values:
            self.plan.tags.add("counter called like a value")
        if self.index < 0:
            self.plan.tags.add("loop: in stem or head")
        chain = self.chain_begun() if self.r.random() < 0.25 else None
        outer = self.enter(counter, count)
        if chain is not None:
            self.growing[chain] = counter
            self.loops[-1]["grown"][chain] = 1
        self.turn(chain)
        self.leave_loop(counter, count, outer)

    def chain_begun(self) -> str | None:
        """A list with one element, to which a loop adds one in each turn."""
        name = self.r.choice(LISTS)
        taken = (*self.singles, *self.growing, *self.unread)
        if name in taken or any(name in world.values for world in self.worlds):
            return None
        self.plan.tags.add("list: grows from k + 1")
        self.layers.append({"identity": None, "as": f"{name}.0"})
        for world in self.worlds:
            world.values[name] = [world.current]
        self.divided.discard(name)
        self.current_name = None
        return name

    def enter(self, counter: str, count: Expression) -> dict[str, Any]:
        """Go into a loop, with the uses of the block in which it runs at all."""
        outer: dict[str, Any] = {
            "worlds": self.worlds, "layers": self.layers, "growing": self.growing,
            "unread": self.unread, "contexts": [world.contexts for world in self.worlds],
        }  # fmt: skip
        active = []
        for world in self.worlds:
            turns = [
                {**n, counter: turn}
                for n in world.contexts
                for turn in range(number_of(count, n) or 0)
            ]
            if turns:
                world.contexts = turns
                active.append(world)
        if not active:  # it never runs
            active = [world.copy() for world in self.worlds]
            for world in active:
                world.contexts = [{**n, counter: 0} for n in world.contexts]
        self.worlds, self.layers = active, []
        # What comes in is, in later turns, what the turn before gave.
        self.current_name, self.fresh = None, True
        self.growing, self.unread = dict(self.growing), {}
        self.kinds[counter] = "int"
        self.counters.append(counter)
        self.runs_always = len(active) == len(outer["worlds"])
        self.loops.append(
            {
                "values": [dict(world.values) for world in active],
                "start": [world.current for world in active],
                "grown": {},
                "flat": {},
                "count": count.text,
            }
        )
        return outer

    def turn(self, chain: str | None) -> None:
        """The layers of a loop, which leave shapes as they found them."""
        start = self.loops[-1]["start"]
        carried = self.carried(start) if self.r.random() < 0.2 else None
        self.statements(self.r.randint(1, 3))
        if not self.layers:
            self.plain({"relu": None}, [world.current for world in self.worlds])
        self.drain()
        self.fit(start)
        if len(self.counters) > 1 and self.r.random() < 0.5:
            self.flat_end(start)
        if chain is not None:
            if [world.current for world in self.worlds] == start:
                self.layers.append({"identity": None, "as": f"{chain}.{{{self.counters[-1]} + 1}}"})
                for world in self.worlds:
                    world.values[chain] = [world.current] * 2
                self.current_name = None
            else:
                del self.loops[-1]["grown"][chain]
        if carried is not None and self.may_bind(carried, start):
            self.layers.append({"identity": None, "as": carried})
            self.bind(carried)
            self.unread.pop(carried, None)

    def carried(self, start: list[Shape]) -> str | None:
        """Read what the turn before gives a name at its end."""
        name = self.value_name(start)
        if name == "x" or any(name in world.values for world in self.worlds):
            return None
        previous = self.name_current()
        if previous == name:
            return None
        self.plan.tags.add("value of the turn before")
        self.layers.append(
            {"add": [previous, name], "when": f"{self.counters[-1]} > 0", "else": previous}
        )
        self.current_name, self.fresh = None, self.read(None)
        return name

    def leave_loop(self, counter: str, count: Expression, outer: dict[str, Any]) -> None:
        state = self.loops.pop()
        self.counters.pop()
        del self.kinds[counter]
        layers, active = self.layers, self.worlds
        self.worlds, self.layers = outer["worlds"], outer["layers"]
        for world, contexts in zip(self.worlds, outer["contexts"], strict=True):
            world.contexts = contexts
        unread = self.unread
        self.growing, self.unread = outer["growing"], outer["unread"]
        for world, before in zip(active, state["values"], strict=True):
            if not any(world is each for each in self.worlds):
                continue  # it never runs
            _after(world, before, state, {number_of(count, n) for n in world.contexts})
        if self.loops:
            self.growing.update(dict.fromkeys(self.loops[-1]["flat"], "0"))
        for name in unread:
            if all(name in world.values for world in self.worlds):
                self.unread[name] = None
        self.layers.append({"for": counter, "count": count.text, "layers": layers})
        self.current_name, self.fresh = None, True

    def drain(self) -> None:
        """Use what has weights and is not read."""
        for name in list(self.unread):
            if name == self.current_name or self.r.random() < 0.03:
                continue
            if name in self.growing and self.runs_always:
                continue  # read after the loop
            found = [world.values.get(name) for world in self.worlds]
            if not all(found):
                del self.unread[name]
                continue
            lists: list[list[Shape]] = [e if isinstance(e, list) else [e] for e in found]  # type: ignore[list-item]
            self.used(Reference(name, name, lists))

    def used(self, part: Reference) -> None:
        """Join a value to the previous output, whatever their shapes."""
        current = self.name_current()
        if current == part.name:
            return
        own = Reference(current, current, [[world.current] for world in self.worlds])
        parts = [own, part]
        self.r.shuffle(parts)
        shapes = [
            merged("add", [s for each in parts for s in each.shapes[n]], False)
            for n in range(len(self.worlds))
        ]
        if None not in shapes:
            self.join("add", parts, shapes, conditional=False)  # type: ignore[arg-type]
            return
        self.reduced(own, part)

    def reduced(self, own: Reference, part: Reference) -> None:
        """A value of another shape scales the previous output by its mean."""
        shapes = [merged("concat", each, False) for each in part.shapes]
        if None in shapes:
            return
        whole: list[Shape] = shapes  # type: ignore[assignment]
        if any(len(shape) != 3 for shape in whole) or any(len(s) != 3 for s in own.first):
            return
        if isinstance(self.worlds[0].values.get(part.name), list):
            self.join("concat", [part], whole, conditional=False)
            source = None
        else:
            source = part
        self.unread.pop(part.name, None)
        self.plain({"channel_avg_pool": None}, [(1, *shape[1:]) for shape in whole], source)
        small: list[Shape] = [(1, 1, 1) for _ in whole]
        self.plain({"global_avg_pool": None, "keep_map": True}, small)
        self.put_name_and_multiply(own, small, own.first)

    def fit(self, wanted: list[Shape]) -> None:
        """Bring the previous output to these shapes."""
        given = [world.current for world in self.worlds]
        if given == wanted:
            return
        same_size = all(a[1:] == b[1:] for a, b in zip(given, wanted, strict=True))
        filters = self.written_channels([shape[0] for shape in wanted])
        if same_size and not self.weightless and filters is not None:
            layer: Layer = {"conv": None, "filters": filters, "kernel": 1}
            if len(given[0]) == 1:
                layer = {"linear": None, "features": filters}
            self.place(Operation(layer, wanted, True), None, conditional=False)
            return
        for name in self.worlds[0].values:
            if [world.values.get(name) for world in self.worlds] == wanted:
                if self.weightless or self.fresh:
                    self.name_current()
                self.layers.append({"identity": None, "from": name})
                self.unread.pop(name, None)
                for world, shape in zip(self.worlds, wanted, strict=True):
                    world.current = shape
                self.current_name, self.fresh = None, True
                self.drain()
                return

    def written_channels(self, numbers: list[int]) -> Any:
        """A number or a name that has these values."""
        for name in self.r.sample(found := self.names("int"), len(found)):
            if name in self.counters:
                continue
            turns = self.values_of(named(name))
            if all(set(each) == {n} for each, n in zip(turns, numbers, strict=True)):
                return name
        return numbers[0] if len(set(numbers)) == 1 else None

    # - blocks -

    def slot(self) -> None:
        """What fills a slot, in each use."""
        if not self.slots or self.weightless:
            return
        name = self.r.choice(self.slots)
        if any(len(w.current) != 3 or w.current[0] % w.fills[name].groups for w in self.worlds):
            return
        if any(min(world.current[1:]) < 3 for world in self.worlds):
            return
        for world in self.worlds:
            use_fill(world.fills[name], world.current, world.fills)
        self.plan.tags.add("slot")
        self.read(None)
        shapes = [world.current for world in self.worlds]
        self.put({"slot": name, "name": self.layer()}, shapes, True)

    def call(self) -> None:
        """A block of the network's own, perhaps several times."""
        given = [world.current for world in self.worlds]
        vector = len(given[0]) == 1
        choices = self.plan.callees(self.index, vector)
        if self.weightless:
            choices = [block for block in choices if block.weightless]
        if self.slots and self.r.random() < 0.7:
            choices = [block for block in choices if block.slots] or choices
        if not choices or any((len(shape) == 1) != vector for shape in given):
            return
        call = Call(self, self.r.choice(choices))
        shapes = call.run(given)
        if shapes is not None:
            laden = self.read(None)
            layer = call.layer(self.layer())
            self.put(layer, shapes, laden or not call.block.weightless)

    def statements(self, count: int) -> None:
        kinds: tuple[tuple[Callable[[], None], int], ...] = (
            (self.operation, 46), (self.merge, 15), (self.split, 4), (self.loop, 13),
            (self.call, 9), (self.slot, 7), (self.role, 9), (self.gate, 5), (self.bordered, 2),
        )  # fmt: skip
        chosen = self.r.choices([k for k, _ in kinds], [n for _, n in kinds], k=count)
        for kind in chosen:
            if self.budget > 0:
                kind()


def _after(world: World, before: dict[str, Value], loop: dict[str, Any], counts: set[int]) -> None:
    """The values of a use after a loop of which one turn was drawn."""
    for name in set(world.values) - set(before):
        if len(counts) > 1:
            del world.values[name]  # not in every turn of the loops around
    turns = max(counts)
    lengths = {name: first + turns for name, first in loop["grown"].items()}
    lengths |= {name: inner * turns for name, inner in loop["flat"].items()}
    for name, length in lengths.items():
        found = world.values.get(name)
        if isinstance(found, list):
            world.values[name] = [found[0]] * length


def merged(kind: str, shapes: list[Shape], free_size: bool) -> Shape | None:
    """What a merge of these shapes gives; None where they do not fit."""
    first = shapes[0]
    if len({len(shape) for shape in shapes}) > 1:
        return None
    if kind == "add":
        return first if all(shape == first for shape in shapes) else None
    if kind == "multiply":
        fits = all(
            shape == first
            or (len(shape) == 3 and shape[0] in (1, first[0]) and shape[1:] in ((1, 1), first[1:]))
            for shape in shapes
        )
        return first if fits else None
    if kind == "concat":
        channels = sum(shape[0] for shape in shapes)
        fits = channels <= MAX_VALUE and all(shape[1:] == first[1:] for shape in shapes)
        return (channels, *first[1:]) if fits else None
    if not free_size or len(first) == 1 or len({(s[0], s[2]) for s in shapes}) > 1:
        return None
    return (first[0], sum(shape[1] for shape in shapes), first[2])


def use_fill(fill: Fill, given: Shape, fills: dict[str, Fill]) -> None:
    """Draw the layers of what fills a slot for this use as well."""
    block = fill.target
    if not isinstance(block, Block):
        return
    numbers = block.numbers(dict(fill.arguments), call_position(0, 1))
    if numbers is None or block.output(numbers, given) != given:
        return
    own = {name: each for name, (_, each) in block.slots.items()}
    roles = {role: fills[role] for role in ("norm", "act")}
    block.use(numbers, given, {**roles, **own, **dict(fill.slots)})


class Call:
    """One use, or a run of uses, of a block: its arguments, and what it gives."""

    def __init__(self, body: Body, block: Block, before: int = 0, all_blocks: int = 1) -> None:
        self.body, self.block, self.r = body, block, body.r
        self.before, self.all_blocks = before, all_blocks
        self.repeat: Expression | None = None
        self.given: dict[str, Expression | list[Any]] = {}
        self.slots: dict[str, tuple[Any, Any]] = {}
        self.large = False  # a stride may shrink the map

    def draw(self) -> None:
        self.given, self.slots = {}, {}
        for name, argument in self.block.arguments.items():
            if name == self.block.stride:
                if self.large and self.r.random() < 0.5:
                    self.given[name] = constant(2)
            elif argument.default is None or self.r.random() < 0.55:
                self.given[name] = self.argument(name, argument.kind)
        taken = set(self.given)
        for slot in self.block.slots:
            if self.r.random() < 0.4 and slot not in taken:
                index = max(self.body.index, self.block.index)
                self.slots[slot] = self.body.plan.fill(index, False, self.body.slots)
        for role, table in (("norm", NORMS), ("act", ACTS)):
            if self.r.random() < 0.05:
                self.slots[role] = self.r.choice(table)

    def argument(self, name: str, kind: str) -> Expression | list[Any]:
        if name == self.block.filters:
            return self.filters()
        turns = ("i", "block_index") if self.repeat is not None else ()
        if kind == "bool":
            if turns and self.r.random() < 0.4:
                return computed(self.r.choice(TESTS[:4]), named(self.r.choice(turns)))
            drawn = self.body.test() if self.r.random() < 0.5 else None
            return drawn or constant(self.r.random() < 0.7)
        if kind == "float":
            return self.r.choice(
                (constant(0.2), constant(0.5), Expression("0.1 * i", lambda n: 0.1 * n["i"]))
            )
        if self.fixed and self.r.random() < 0.2:
            self.body.plan.tags.add("argument: list")
            return [self.r.randint(0, 3) for _ in range(self.repeat.text)]  # type: ignore[union-attr]
        if turns and self.r.random() < 0.3:
            self.body.plan.tags.add("argument: varies over repeats")
            return named(self.r.choice(turns))
        drawn = self.body.integer(0, 3, same=False) if self.r.random() < 0.5 else None
        return drawn or constant(self.r.randint(0, 3))

    @property
    def fixed(self) -> bool:
        return self.repeat is not None and isinstance(self.repeat.text, int)

    def filters(self) -> Expression | list[Any]:
        if self.block.contract == "grow":
            return self.body.integer(1, 4) or constant(self.r.choice((1, 2, 4)))
        if self.fixed and self.r.random() < 0.2:
            self.body.plan.tags.add("argument: list")
            return [self.r.choice((4, 8, 8, 12)) for _ in range(self.repeat.text)]  # type: ignore[union-attr]
        if self.repeat is not None and self.r.random() < 0.35:
            self.body.plan.tags.add("channels grow along repeats")
            return self.r.choice(
                (
                    Expression("4 * (i + 1)", lambda n: 4 * (n["i"] + 1)),
                    Expression("8 + 2 * i", lambda n: 8 + 2 * n["i"]),
                    Expression(
                        "16 if i < n // 2 else 8", lambda n: 16 if n["i"] < n["n"] // 2 else 8
                    ),
                )
            )
        return self.body.channels()[0]

    def run(self, given: list[Shape], chance: float = 0.35) -> list[Shape] | None:
        """Draw the arguments until they fit; the shapes of the output."""
        for _ in range(3):
            self.repeat = None
            if self.r.random() < chance:
                self.repeat = self.body.integer(1, 3) if self.r.random() < 0.4 else None
                if self.repeat is not None and "in_channels" in str(self.repeat.text):
                    self.repeat = None
                self.repeat = self.repeat or constant(self.r.randint(1, 3))
            self.draw()
            shapes = self.simulate(given)
            if shapes is not None:
                return shapes
        return None

    def simulate(self, given: list[Shape]) -> list[Shape] | None:
        results, uses = [], []
        for world, source in zip(self.body.worlds, given, strict=True):
            fills = self.fills(world)
            ends = set()
            for numbers in world.contexts[:4]:
                shape: Shape | None = source
                count = 1 if self.repeat is None else number_of(self.repeat, numbers)
                for index in range(count):
                    assert shape is not None
                    values = self.numbers(numbers, index, count)
                    uses.append((values, shape, fills))
                    shape = self.block.output(values, shape) if values is not None else None
                    if shape is None:
                        return None
                ends.add(shape)
            if len(ends) > 1:
                return None
            results.append(ends.pop())
        for values, shape, fills in uses:
            if values is not None:
                self.block.use(values, shape, fills)
        return results  # type: ignore[return-value]

    def numbers(self, numbers: Numbers, index: int, count: int) -> Numbers | None:
        position = call_position(index, count, self.before, self.all_blocks)
        scope = {**numbers, **position}
        given = {
            name: value[index] if isinstance(value, list) else number_of(value, scope)
            for name, value in self.given.items()
        }
        if None in given.values():
            return None
        return self.block.numbers(given, position)

    def fills(self, world: World) -> dict[str, Any]:
        found = {role: world.fills[role] for role in ("norm", "act")}
        found |= {slot: fill for slot, (_, fill) in self.block.slots.items()}
        for slot, (written, fill) in self.slots.items():
            found[slot] = world.fills[written] if fill is None else fill
        return found

    def layer(self, name: str | None) -> Layer:
        layer: Layer = {"block": self.block.name}
        if name is not None:
            layer["name"] = name
        if self.repeat is not None:
            layer["repeat"] = self.repeat.text
            self.body.plan.tags.add("repeat within a block")
            if self.r.random() < 0.4:
                layer["names"] = self.r.choice(("{i}", "unit{i + 1}", "blocks.{i}", "b{2 * i}"))
        return self.written(layer)

    def written(self, layer: Layer) -> Layer:
        for argument, value in self.given.items():
            layer[argument] = value if isinstance(value, list) else value.text
        for slot, (written, fill) in self.slots.items():
            layer[slot] = written
            self.body.plan.tags.add("slot: forwarded" if fill is None else "slot: filled")
        return layer
