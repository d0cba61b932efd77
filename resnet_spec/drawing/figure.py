"""What a picture shows: the sections of a network, and every block once, with its uses.

Blocks that differ only in numbers (channels, strides, groups, dilations, rates) are one inset; a
block of the same name with another structure is a variant of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet_spec.drawing.boxes import BLOCK, Box, Key, boxes_of
from resnet_spec.drawing.variants import lettered, merged, take_form
from resnet_spec.ir import Instance, Network, Operation
from resnet_spec.ir.summary import Kind, stretches


class Use(NamedTuple):
    """One use of a block, or of several that are equal: in which section, at which places."""

    section: int
    first: int
    last: int
    number: int
    boxes: tuple[Box, ...]


@dataclass(eq=False)
class Inset:
    """A block as it is drawn once. `letter` names it, `variant` tells it from its like."""

    block: str
    nested: bool
    uses: list[Use] = field(default_factory=list)
    letter: str = ""
    variant: int = 0
    hosts: list[Inset] = field(default_factory=list)

    @property
    def label(self) -> str:
        """`A`, `A′`, `A″`, `A‴`, `A4`."""
        primes = ("", "′", "″", "‴")
        return self.letter + (primes[self.variant] if self.variant < 4 else str(self.variant))

    @property
    def title(self) -> str:
        return self.block.replace("_", " ")

    @property
    def count(self) -> int:
        return sum(use.number for use in self.uses)

    @property
    def boxes(self) -> tuple[Box, ...]:
        return self.uses[0].boxes

    @property
    def scales(self) -> bool:
        """Whether it computes what something is multiplied by: a gate, an attention."""
        return any(box.kind in ("multiply", "softmax") for box in self.boxes)


@dataclass(eq=False)
class Section:
    """The stem, a stage or the head: its runs of blocks, and the boxes of its other layers."""

    name: str
    label: str  # the name without what the names of all stages begin with
    kind: Kind
    output: tuple[int, ...]
    parameters: int
    macs: int
    runs: list[tuple[Inset, int]] = field(default_factory=list)
    layers: tuple[Box, ...] = ()


@dataclass(eq=False)
class Figure:
    """Everything that a picture of a network is made from."""

    network: Network
    sections: list[Section]
    insets: list[Inset]
    nested: dict[int, Inset]  # by the id of its instance

    def inset_of(self, box: Box) -> Inset:
        """The inset of a box that names a block."""
        return self.nested[id(box.nested)]


def figure_of(network: Network) -> Figure:
    """What is drawn of a network."""
    collected = _Collector()
    sections = list(collected.sections(network))
    aliases = merged(list(collected.insets.values()), collected.nested)
    for section in sections:
        section.runs = [(aliases.get(inset, inset), count) for inset, count in section.runs]
    nested = {key: aliases.get(inset, inset) for key, inset in collected.nested.items()}
    insets = lettered([each for each in collected.insets.values() if each.uses])
    for inset in insets:
        named = {id(box.nested) for use in inset.uses for box in use.boxes if box.nested}
        for each in insets:
            if any(nested[key] is each for key in named):
                each.hosts.append(inset)
    return Figure(network, sections, insets, nested)


class _Collector:
    def __init__(self) -> None:
        self.insets: dict[Key, Inset] = {}
        self.nested: dict[int, Inset] = {}
        self.known: dict[int, tuple[Key, tuple[Box, ...]]] = {}

    def sections(self, network: Network) -> Iterator[Section]:
        root = network.root
        common = _common([stage.name for stage in network.stages])
        for number, (name, kind, indices, output) in enumerate(stretches(network)):
            steps = [root.steps[index] for index in indices]
            nodes = [step.node for step in steps]
            section = Section(
                name,
                name.removeprefix(common),
                kind,
                output.dimensions,
                sum(_parameters(node) for node in nodes),
                sum(node.macs for node in nodes),
            )
            plain = steps
            if kind == "stage":
                plain = [step for step in steps if isinstance(step.node, Operation)]
                blocks = [step.node for step in steps if isinstance(step.node, Instance)]
                section.runs = list(self.runs(blocks, number))
            if plain:
                section.layers = boxes_of(plain, plain[0].inputs[0], plain[-1].outputs[0])
                self.inside(section.layers, number, 0, 0, 1)
            yield section

    def runs(self, blocks: Sequence[Instance], section: int) -> Iterator[tuple[Inset, int]]:
        """A section's blocks as `(inset, how many)`, equal neighbours as one."""
        first = 0
        before: tuple[Inset, int] | None = None
        while first < len(blocks):
            last = first
            while last + 1 < len(blocks) and blocks[last + 1] is blocks[first]:
                last += 1
            inset = self.register(blocks[first], section, first, last, last - first + 1)
            count = last - first + 1
            if before is not None and before[0] is inset:
                before = (inset, before[1] + count)
            else:
                if before is not None:
                    yield before
                before = (inset, count)
            first = last + 1
        if before is not None:
            yield before

    def register(
        self, instance: Instance, section: int, first: int, last: int, count: int
    ) -> Inset:
        """The inset of a block of a stage, with one use more."""
        key, boxes = self.form(instance)
        inset = self.insets.setdefault(("stage", key), Inset(instance.definition.name, False))
        inset.uses.append(Use(section, first, last, count, boxes))
        self.inside(boxes, section, first, last, count)
        return inset

    def inside(self, boxes: Sequence[Box], section: int, first: int, last: int, count: int) -> None:
        """The insets of the blocks that boxes name, with their uses."""
        for box in boxes:
            if box.kind != BLOCK:
                continue
            assert box.nested is not None
            key, inner = self.form(box.nested)
            name = box.nested.definition.name
            inset = self.insets.setdefault(("nested", key), Inset(name, True))
            self.nested[id(box.nested)] = inset
            inset.uses.append(Use(section, first, last, count, inner))
            self.inside(inner, section, first, last, count)

    def form(self, instance: Instance) -> tuple[Key, tuple[Box, ...]]:
        """The boxes of a block, and what is equal for blocks that are drawn as one."""
        if id(instance) not in self.known:
            boxes = boxes_of(instance.steps, 0, instance.result)
            inner = [self.form(box.nested)[0] if box.nested else None for box in boxes]
            key = (instance.definition.name, take_form(boxes), tuple(inner))
            self.known[id(instance)] = (key, boxes)
        return self.known[id(instance)]


def _common(names: Sequence[str]) -> str:
    """The first part of dotted names, with its dot, where all have the same."""
    parts = {name.partition(".")[0] for name in names if "." in name}
    return f"{parts.pop()}." if len(parts) == 1 and all("." in name for name in names) else ""


def _parameters(node: Any) -> int:
    if isinstance(node, Instance):
        return node.parameters
    return sum(each.size for each in node.parameters if each.trainable)
