"""Whether two networks compute the same, proven by their graphs in one canonical form.

Every value becomes a term: an operation as it is in evaluation, its tensors, and the terms of its
inputs. Equal terms have equal values, whatever the weights and the size of the image. Names of
tensors are part of a term; without them, terms are equal where the graphs are the same up to names,
and then the tensors are brought together in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from resnet_spec.compare.graph import Graph, Placed
from resnet_spec.ir import Operation
from resnet_spec.primitives import SAME

# What does nothing in evaluation, whatever its attributes.
_NEUTRAL = frozenset({"identity", "dropout", "drop_path"})
# What does nothing with these attributes.
_NEUTRAL_WITH: dict[str, dict[str, object]] = {
    "rescale": {"factor": 1, "offset": 0},
    "subsample": {"stride": 1},
    "zero_pad": {"padding": 0},
    "pad_channels": {"before": 0, "after": 0},
    "take": {"start": 0, "stop": 0},
    "max_pool": {"kernel": 1, "stride": 1, "padding": 0},
    "avg_pool": {"kernel": 1, "stride": 1, "padding": 0},
}
_JOINING = frozenset({"add", "multiply", "concat", "stack_rows"})  # of one input they are neutral
COMMUTATIVE = frozenset({"add", "multiply"})
_OF_TRAINING = frozenset({"momentum"})

Renaming = Callable[[str], str]


def is_neutral(operation: Operation) -> bool:
    """Whether an operation gives its input as it is, in evaluation."""
    name = operation.primitive.name
    if name in _NEUTRAL or (name in _JOINING and len(operation.inputs) == 1):
        return True
    needed = _NEUTRAL_WITH.get(name)
    return needed is not None and needed.items() <= operation.attributes.items()


def meaning(operation: Operation) -> Hashable:
    """An operation as it is in evaluation: what its attributes say beside tensors and inputs."""
    primitive = operation.primitive
    told = {
        each.name: operation.attributes[each.name]
        for each in primitive.attributes
        if each.type != "init" and each.name not in _OF_TRAINING
    }
    if primitive.name == "conv":
        if not told["standardize"]:
            del told["eps"]
        if told["kernel"] == 1:
            told["dilation"] = 1
    if primitive.name in ("conv", "max_pool") and told["padding"] == SAME and told["stride"] == 1:
        extent = _number(told["kernel"]) - 1
        reach = extent * _number(told.get("dilation", 1))
        if reach % 2 == 0:  # of such a window the padding does not depend on the image
            told["padding"] = reach // 2
    return primitive.name, tuple(told.items())


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


class Terms:
    """Numbers for terms: equal ones have equal numbers, of all graphs that are numbered here."""

    def __init__(self) -> None:
        self.known: dict[Hashable, int] = {}

    def number(self, term: Hashable) -> int:
        return self.known.setdefault(term, len(self.known))

    def of(self, graph: Graph, renaming: Renaming | None) -> dict[int, int]:
        """The term of each value; without `renaming` the names of tensors are left out."""
        found = {0: self.number(("input", graph.channels))}
        for placed in graph.operations:
            inputs = [found[number] for number in placed.inputs]
            if is_neutral(placed.operation):
                found[placed.outputs[0]] = inputs[0]
                continue
            if placed.operation.primitive.name in COMMUTATIVE:
                inputs.sort()
            tensors = tuple((each.name, each.shape) for each in placed.operation.parameters)
            name = renaming(placed.name) if renaming is not None and tensors else None
            term = self.number((meaning(placed.operation), name, tensors, tuple(inputs)))
            for place, number in enumerate(placed.outputs):
                found[number] = self.number((term, place))
        return found


class Sameness(NamedTuple):
    """What is proven of two graphs, once tensors are carried from the one to the other."""

    logits: bool
    features: bool  # of the stages in their order, whatever they are called

    @property
    def whole(self) -> bool:
        return self.logits and self.features


def sameness(old: Graph, new: Graph, renaming: Renaming | None) -> Sameness:
    """What both compute alike; `renaming` gives the new name of an old operation with tensors.

    None: whether there may be such a renaming.
    """
    terms = Terms()
    ours = terms.of(old, renaming)
    theirs = terms.of(new, None if renaming is None else str)
    return Sameness(
        ours[old.result] == theirs[new.result],
        [ours[n] for _, n in old.features] == [theirs[n] for _, n in new.features],
    )


def correspondence(old: Graph, new: Graph) -> dict[str, str] | None:
    """For each operation with tensors that the logits rest on, its equal in the other network.

    None where the graphs are not the same up to names. What it gives is proven by `sameness`.
    """
    terms = Terms()
    walk = _Walk(old, new, terms.of(old, None), terms.of(new, None))
    values = [(old.result, new.result)]
    values += [(a, b) for (_, a), (_, b) in zip(old.features, new.features, strict=False)]
    if any(walk.ours[a] != walk.theirs[b] for a, b in values[:1]):
        return None
    found = walk.pairs(values)
    if found is None or not sameness(old, new, lambda name: found.get(name, name)).logits:
        return None
    return found


class _Walk:
    """From the results of two graphs to their inputs, side by side."""

    def __init__(
        self, old: Graph, new: Graph, ours: dict[int, int], theirs: dict[int, int]
    ) -> None:
        self.old, self.new = old.sources, new.sources
        self.ours, self.theirs = ours, theirs
        self.found: dict[str, str] = {}
        self.taken: set[str] = set()

    def pairs(self, values: list[tuple[int, int]]) -> dict[str, str] | None:
        seen: set[tuple[int, int]] = set()
        waiting = list(reversed(values))
        while waiting:
            a, b = (_behind(n, s) for n, s in zip(waiting.pop(), (self.old, self.new), strict=True))
            if (a, b) in seen or a not in self.old or b not in self.new:
                continue
            seen.add((a, b))
            if self.ours[a] != self.theirs[b]:
                continue  # a feature map that differs
            ours, theirs = self.old[a], self.new[b]
            if ours.operation.parameters and not self.bring_together(ours, theirs):
                return None
            waiting.extend(self.inputs(ours, theirs))
        return self.found

    def bring_together(self, ours: Placed, theirs: Placed) -> bool:
        """Whether two operations can be each other's only equals."""
        known = self.found.get(ours.name)
        if known is None and theirs.name not in self.taken:
            self.found[ours.name] = theirs.name
            self.taken.add(theirs.name)
            return True
        return known == theirs.name

    def inputs(self, ours: Placed, theirs: Placed) -> Iterator[tuple[int, int]]:
        if ours.operation.primitive.name not in COMMUTATIVE:
            yield from zip(ours.inputs, theirs.inputs, strict=True)
            return
        left = list(theirs.inputs)
        for number in ours.inputs:
            alike = [each for each in left if self.theirs[each] == self.ours[number]]
            chosen = next((each for each in alike if self.meant(number, each)), alike[0])
            left.remove(chosen)
            yield number, chosen

    def meant(self, number: int, other: int) -> bool:
        """Of several inputs that are alike: whether the two are, or are called, the same."""
        ours = self.old.get(_behind(number, self.old))
        theirs = self.new.get(_behind(other, self.new))
        if ours is None or theirs is None:
            return ours is theirs
        return self.found.get(ours.name, ours.name) == theirs.name


def _behind(number: int, sources: dict[int, Placed]) -> int:
    """The value that neutral operations pass on."""
    while number in sources and is_neutral(sources[number].operation):
        number = sources[number].inputs[0]
    return number
