"""Expressions for numbers that differ between the uses of a block."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from resnet_spec.expressions import make_divisible
from resnet_spec.importing.graph import Graph
from resnet_spec.importing.writing.drafts import Draft

_FACTORS = (2, 3, 4, 6, 8, 16, 32)
_PARTS = (4, 2, 8, 16, 3, 6, 32)  # of a width, the most usual of squeezed channels first
_DIVISORS = (8, 4, 16)
_ADDED = ("before", "after")  # zeros around channels: as many as a sum needs
_EXPANSION = "expansion"
# How an argument is called that stands for an attribute alone.
_CALLED = {"filters": "width", "features": "width", "start": "start", "stop": "stop"}


class Fitting(NamedTuple):
    """The values of an attribute in those uses that have it."""

    name: str
    values: list[Any]
    places: list[int]


class Given:
    """What a block is given: its input's channels, and arguments as they are found to be needed."""

    def __init__(self, graph: Graph, drafts: Sequence[Draft]) -> None:
        shapes = graph.shapes
        self.count = len(drafts)
        self.channels = [shapes[each.first].channels for each in drafts]
        self.results = [shapes[each.last].channels for each in drafts]
        self.strides = [
            max(1, -(-(shapes[each.first].height or 1) // (shapes[each.last].height or 1)))
            for each in drafts
        ]
        self.arguments: dict[str, list[Any]] = {}
        self.lets: dict[str, str] = {}
        self.known: list[tuple[str, list[int]]] = []
        self._begin(graph, drafts)

    def names(self) -> set[str]:
        """Names that no value may have."""
        return {*self.arguments, *self.lets, "in_channels", "i", "n"}

    def _begin(self, graph: Graph, drafts: Sequence[Draft]) -> None:
        """`filters`, and `out_channels` as a multiple of it, where the output's channels vary."""
        follows = self._by_rule(self.results, [("in_channels", self.channels)])
        residual = any(each.is_residual for each in drafts)
        if len(set(self.results)) > 1 and (follows is None or residual):
            base = self._base(graph, drafts)
            self.arguments["filters"] = base
            self.known.append(("filters", base))
            if base != self.results:
                self.lets["out_channels"] = f"filters * {self.results[0] // base[0]}"
                self.known.insert(0, ("out_channels", self.results))
        if len(set(self.strides)) > 1:
            self.arguments["stride"] = self.strides
        self.known.append(("in_channels", self.channels))

    def _base(self, graph: Graph, drafts: Sequence[Draft]) -> list[int]:
        """The channels of a convolution within of which all outputs are one multiple, or these."""
        for factor in (2, 4, 8):
            for place, op in enumerate(drafts[0].main):
                if op.kind != "conv" or (graph.shapes[op.output].height or 1) == 1:
                    continue
                column = [each.main[place].attributes.get("filters") for each in drafts]
                if (
                    all(isinstance(v, int) for v in column)
                    and [v * factor for v in column if v is not None] == self.results
                ):
                    return [v for v in column if v is not None]
        return self.results

    # --- numbers ---------------------------------------------------------------------------------

    def expression(self, wanted: Fitting) -> Any:
        """What stands for an attribute; None where the first use's own number does for all."""
        name, values, places = wanted
        strides = [self.strides[place] for place in places]
        if name == "stride" and "stride" in self.arguments and values == strides:
            return "stride" if set(values) != {1} else None
        results = [self.results[place] for place in places]
        varies = len(set(self.results)) > 1
        known = [(each, [column[place] for place in places]) for each, column in self.known]
        added = _difference(values, known) if varies and name in _ADDED else None
        if added is not None:
            return added
        if len(set(values)) == 1 and not (name == "filters" and varies and values == results):
            return None
        found = self._by_rule(values, known) if _is_whole(values) else None
        if found is None and name == "filters" and len(places) == self.count:
            found = self._expanded(values)
        return self._argument(name, values, places) if found is None else found

    def _by_rule(self, values: Sequence[int], known: Sequence[tuple[str, list[int]]]) -> str | None:
        """A name, a multiple or a part of it, or the multiple of 8 nearest to a part of it."""
        for name, column in known:
            if column == list(values):
                return name
        for name, column in known:
            for factor in _FACTORS:
                if [each * factor for each in column] == list(values):
                    return f"{name} * {factor}"
                whole = all(each % factor == 0 for each in column)
                if whole and [each // factor for each in column] == list(values):
                    return f"{name} // {factor}"
        return _rounded(values, known)

    def _expanded(self, values: Sequence[int]) -> str | None:
        """A multiple that a stage says: of whose values fewer uses change than of the widths."""
        found: tuple[int, str, list[int]] | None = None
        for name, column in self.known:
            pairs = list(zip(values, column, strict=True))
            factors = [value // each for value, each in pairs]
            if any(value % each for value, each in pairs) or _changes(factors) >= _changes(values):
                continue
            if found is None or _changes(factors) < found[0]:
                found = _changes(factors), name, factors
        if found is None or _EXPANSION in self.arguments:
            return None
        _, name, self.arguments[_EXPANSION] = found
        called = next(each for each in ("width", "expanded") if each not in self.names())
        self.lets[called] = f"{name} * {_EXPANSION}"
        self.known.append((called, list(values)))
        return called

    def _argument(self, name: str, values: Sequence[Any], places: Sequence[int]) -> str:
        """An argument of its own; where a use does not have it, it makes no difference."""
        column = [values[0]] * self.count
        for place, value in zip(places, values, strict=True):
            column[place] = value
        for argument, have in self.arguments.items():
            if have == column:
                return argument
        called = _CALLED.get(name, name)
        number, argument = 2, called
        while argument in self.arguments or argument in self.lets:
            argument, number = f"{called}{number}", number + 1
        self.arguments[argument] = column
        if _is_whole(column):
            self.known.append((argument, column))
        return argument

    # --- conditions ------------------------------------------------------------------------------

    def condition(self, flags: list[bool], name: str, widens_too: bool = True) -> str:
        """When something stands in a block: where channels or the size change, or an argument.

        Of those that fit all uses the one that fits other depths and widths as well, as blocks
        of the library have it: a shortcut needs a projection wherever channels or the size change.
        `widens_too`: it may change channels, which a pooling does not.
        """
        widens = [a != b for a, b in zip(self.channels, self.results, strict=True)]
        strided = [each != 1 for each in self.strides]
        either = [a or b for a, b in zip(widens, strided, strict=True)]
        out = self._result()
        channels = f"in_channels != {out}", f"in_channels == {out}", widens
        candidates = [channels]
        if "stride" in self.arguments:
            sizes = "stride != 1", "stride == 1", strided
            both = f"{sizes[0]} or {channels[0]}", f"{sizes[1]} and {channels[1]}", either
            candidates = [both, sizes, channels] if widens_too else [sizes, channels, both]
        for when, unless, holds in candidates:
            if flags == holds:
                return when
            if flags == [not each for each in holds]:
                return unless
        self.arguments[name] = list(flags)
        return name

    def _result(self) -> str:
        """The channels of the output, by what the block is told and not by its input."""
        if len(set(self.results)) == 1:
            return str(self.results[0])
        told = [each for each in self.known if each[0] != "in_channels"]
        return self._by_rule(self.results, told) or "filters"


def _is_whole(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int) and not isinstance(each, bool) for each in values)


def _changes(values: Sequence[int]) -> int:
    """How many uses have another value than the one before."""
    return sum(one != other for one, other in itertools.pairwise(values))


def _difference(values: Sequence[int], known: Sequence[tuple[str, list[int]]]) -> str | None:
    """What one is more than another, or half of it, as zeros around channels are."""
    for (more, column), (less, other) in itertools.permutations(known, 2):
        apart = [one - two for one, two in zip(column, other, strict=True)]
        if apart == list(values):
            return f"{more} - {less}"
        if [each // 2 for each in apart] == list(values):
            return f"({more} - {less}) // 2"
    return None


def _rounded(values: Sequence[int], known: Sequence[tuple[str, list[int]]]) -> str | None:
    """A part, cut off or rounded to a whole number or to a multiple, as squeezed channels are."""
    for (name, column), factor in itertools.product(known, _PARTS):
        parts = [each / factor for each in column]
        if [int(each) for each in parts] == list(values):
            return f"{name} // {factor}"
        if [round(each) for each in parts] == list(values):
            return f"round({name} / {factor})"
    for (name, column), factor in itertools.product(known, _PARTS):
        for divisor, limit in itertools.product(_DIVISORS, (0.9, 0)):
            rounded = [make_divisible(each / factor, divisor, None, limit) for each in column]
            if rounded == list(values):
                said = "" if limit else ", round_limit=0"
                return f"make_divisible({name} / {factor}, {divisor}{said})"
    return None
