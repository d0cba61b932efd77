"""Which step of one network stands where which step of the other does.

Within a block, and in the network itself, steps of one name belong together. What is left between
them is brought together where its tensors have the same shapes, and blocks where they are of one
kind. Equal instances are one object, so a pair of them is looked at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from resnet_spec.ir import Instance, Node, Operation, Step

MAX_COMPARED = 4_000_000  # pairs of steps without a name in common, between the same two others

Indices = tuple[int | None, int | None]  # of a step of the old and of one of the new


class Pair(NamedTuple):
    """Two steps in the same place by their dotted names; one of them is None where it is alone."""

    old_name: str
    old: Step | None
    new_name: str
    new: Step | None


class Alignment:
    """The pairs of two networks' steps."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], list[Indices]] = {}
        self.signatures: dict[int, Hashable] = {}

    def pairs(
        self, old: Instance, new: Instance, prefixes: tuple[str, str] = ("", "")
    ) -> Iterator[Pair]:
        """All pairs of steps, a block before what it is made of."""
        before, after = prefixes
        for a, b in self.steps(old, new):
            ours = old.steps[a] if a is not None else None
            theirs = new.steps[b] if b is not None else None
            names = (
                before + ours.name if ours else "",
                after + theirs.name if theirs else "",
            )
            yield Pair(names[0], ours, names[1], theirs)
            if ours and theirs and isinstance(ours.node, Instance):
                assert isinstance(theirs.node, Instance)
                yield from self.pairs(ours.node, theirs.node, (f"{names[0]}.", f"{names[1]}."))

    def steps(self, old: Instance, new: Instance) -> list[Indices]:
        """The steps of two instances, in the order of the new one, what is gone where it was."""
        key = (id(old), id(new))
        if key not in self.known:
            if old is new:
                self.known[key] = [(number, number) for number in range(len(old.steps))]
            else:
                self.known[key] = _in_order(self.partners(old.steps, new.steps), new.steps)
        return self.known[key]

    def partners(self, old: Sequence[Step], new: Sequence[Step]) -> list[int | None]:
        """For each old step the index of its partner."""
        named = {step.name: index for index, step in enumerate(new)}
        found: list[int | None] = []
        for step in old:
            index = named.get(step.name)
            fits = index is not None and _can_be_one(step.node, new[index].node)
            found.append(index if fits else None)
        for alike in (self.signature, _kind):
            for ours, theirs in _gaps(found, len(new)):
                if len(ours) * len(theirs) > MAX_COMPARED:
                    continue
                first = [alike(old[index]) for index in ours]
                second = [alike(new[index]) for index in theirs]
                matcher = SequenceMatcher(None, first, second, autojunk=False)
                for a, b, size in matcher.get_matching_blocks():
                    for offset in range(size):
                        if first[a + offset] is not None:
                            found[ours[a + offset]] = theirs[b + offset]
        return found

    def signature(self, step: Step) -> Hashable:
        """What a step is, but for names: equal for steps that could be a renamed one's."""
        if isinstance(step.node, Operation):
            shapes = tuple((each.name, each.shape) for each in step.node.parameters)
            return step.node.primitive.name, shapes
        key = id(step.node)
        if key not in self.signatures:
            self.signatures[key] = tuple(self.signature(each) for each in step.node.steps)
        return self.signatures[key]


def _can_be_one(old: Node, new: Node) -> bool:
    """Whether what has one name is one thing: two norms are, a norm and a convolution are not."""
    if isinstance(old, Instance) or isinstance(new, Instance):
        return isinstance(old, Instance) and isinstance(new, Instance)
    if old.primitive is new.primitive or not (old.parameters or new.parameters):
        return True
    return old.primitive.group == new.primitive.group


def _kind(step: Step) -> Hashable:
    """The name of a block; operations that are no equals are not brought together."""
    return step.node.definition.name if isinstance(step.node, Instance) else None


def _gaps(found: Sequence[int | None], count: int) -> Iterator[tuple[list[int], list[int]]]:
    """What is left of both sides after the same pair of steps."""
    taken = {index for index in found if index is not None}
    ours: dict[int, list[int]] = {}
    theirs: dict[int, list[int]] = {}
    last = -1
    for number, index in enumerate(found):
        if index is None:
            ours.setdefault(last, []).append(number)
        else:
            last = index
    last = -1
    for index in range(count):
        if index in taken:
            last = index
        else:
            theirs.setdefault(last, []).append(index)
    for place in sorted(ours.keys() & theirs.keys()):
        yield ours[place], theirs[place]


def _in_order(partners: Sequence[int | None], new: Sequence[Step]) -> list[Indices]:
    of_new = {index: number for number, index in enumerate(partners) if index is not None}
    gone: dict[int | None, list[int]] = {}
    last: int | None = None
    for number, index in enumerate(partners):
        if index is None:
            gone.setdefault(last, []).append(number)
        else:
            last = index
    found: list[Indices] = [(number, None) for number in gone.get(None, [])]
    for index in range(len(new)):
        found.append((of_new.get(index), index))
        found += [(number, None) for number in gone.get(index, [])]
    return found
