"""The arguments with which a block of the library is a given graph.

Candidates for each argument come from the graph's own numbers; those sets are tried first that
differ least from the defaults. Each trial is a lowering and a comparison, so nothing is guessed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from resnet_spec.importing.graph import Op, Value
from resnet_spec.importing.matching import Key, key
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.language.syntax import Definition
from resnet_spec.primitives import Shape

MOST_CHANGED = 3  # arguments besides filters and stride that differ from their defaults
# So many differ together in these alone: groups of a stated width, without expansion.
_TOGETHER = frozenset({"groups", "base_width", "expansion"})
_REDUCTIONS = (16, 8, 4, 2, 32, 64)
_EXPANSIONS = (4, 1, 2, 8)
# What arguments are that no number of a graph tells directly.
_LISTED = {
    "expansion": _EXPANSIONS,
    "reduction": _REDUCTIONS,
    "divisor": (8, 16, 32, 1),
    "bottleneck": (4, 2, 1),
    "reduce_first": (1, 2),
}


class Piece(NamedTuple):
    """A part of a graph between two values, with what is asked of a block that stands for it."""

    ops: Sequence[Op]
    given: Shape
    result: Shape
    key: Key

    @classmethod
    def of(
        cls, ops: Sequence[Op], first: Value, last: Value, shapes: Mapping[Value, Shape]
    ) -> Piece:
        return cls(ops, shapes[first], shapes[last], key(ops, first, last))

    def numbers(self, name: str) -> list[int]:
        """The different values of an attribute of its convolutions."""
        found = (op.attributes.get(name) for op in self.ops if op.kind in ("conv", "linear"))
        return list(dict.fromkeys(each for each in found if isinstance(each, int)))


class Solution(NamedTuple):
    """Arguments of a block, and how many of them differ from their defaults."""

    changed: int
    block: str
    arguments: dict[str, Any]


def solutions(
    prober: Prober, block: str, chosen: Mapping[str, Any], piece: Piece, changed: int
) -> list[Solution]:
    """All arguments, so many not their defaults, with which a block is the piece.

    `chosen` fills the slots and has the structural arguments, and whatever else is known already.
    """
    definition = prober.definition(block)
    candidates = _candidates(definition, chosen, piece)
    if "filters" in candidates and "growth" not in definition.arguments:
        # Such a block has as many output channels as filters, or a multiple that it states.
        del candidates["filters"]
    required = [name for name in candidates if _default(definition, name) is None]
    found = []
    for combination in _combinations(definition, candidates, required, changed):
        arguments = _joined(chosen, combination)
        if "filters" in definition.arguments and "filters" not in combination:
            expansion = arguments.get("expansion", _default(definition, "expansion")) or 1
            if piece.result.channels % expansion:
                continue
            arguments["filters"] = piece.result.channels // expansion
        if prober.key(block, arguments, piece.given) == piece.key:
            found.append(Solution(changed, block, arguments))
    return found


def _combinations(
    definition: Definition,
    candidates: Mapping[str, list[Any]],
    required: Sequence[str],
    changed: int,
) -> Iterator[dict[str, Any]]:
    """Values for the required arguments and for so many of the others, not their defaults."""
    free = [name for name in candidates if name not in required and name != "stride"]
    always = [*required, *(name for name in ("stride",) if name in candidates)]
    for names in itertools.combinations(free, changed):
        if changed == MOST_CHANGED and not _TOGETHER.issuperset(names):
            continue
        domains = [candidates[name] for name in always]
        domains += [
            [each for each in candidates[name] if each != _default(definition, name)]
            for name in names
        ]
        for values in itertools.product(*domains):
            yield dict(zip((*always, *names), values, strict=True))


def _joined(chosen: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with those of what fills a slot, which are found as `attention.reduction`."""
    arguments = dict(chosen)
    for name, value in found.items():
        slot, _, inner = name.partition(".")
        if not inner:
            arguments[name] = value
            continue
        filler = arguments[slot]
        filled = filler if isinstance(filler, dict) else {filler: {}}
        ((target, given),) = filled.items()
        arguments[slot] = {target: {**given, inner: value}}
    return arguments


def _default(definition: Definition, name: str) -> Any:
    argument = definition.arguments.get(name)
    if argument is None or argument.default is None:
        return None if argument is not None else _FILLER_DEFAULTS.get(name)
    try:
        return int(argument.default.text)
    except ValueError:
        return argument.default.text


_FILLER_DEFAULTS = {"attention.reduction": 16}


# --- candidates ----------------------------------------------------------------------------------


def _candidates(
    definition: Definition, chosen: Mapping[str, Any], piece: Piece
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in definition.arguments:
        values = None if name in chosen else _values(name, piece)
        if values:
            found[name] = values
    attention = chosen.get("attention")
    if attention in ("squeeze_excitation", "cbam"):
        found["attention.reduction"] = list(_REDUCTIONS)
    return found


def _values(name: str, piece: Piece) -> list[Any] | None:
    """What an argument may be, by the numbers of the piece; None for one that is not looked for."""
    if name in _LISTED:
        return list(_LISTED[name])
    filters, groups = piece.numbers("filters"), piece.numbers("groups")
    channels = piece.result.channels
    match name:
        case "filters":
            return _different([channels, *filters])
        case "growth":
            return _different([channels - piece.given.channels, *filters])
        case "width":
            return filters
        case "stride":
            return [max(1, -(-(piece.given.height or 1) // (piece.result.height or 1)))]
        case "groups":
            return _different([*groups, *(each // 2 for each in groups)])
        case "base_width":
            return _base_widths(filters, groups, channels)
        case "dilation" | "first_dilation":
            return piece.numbers("dilation")
        case "gate_kernel":
            return piece.numbers("kernel")
        case _:
            return None


def _base_widths(filters: Iterable[int], groups: Iterable[int], channels: int) -> list[int]:
    """How wide a group would be at 64 filters, for each width that a convolution has."""
    found = []
    for width, group, expansion in itertools.product(filters, groups, _EXPANSIONS):
        whole, rest = divmod(width * 64 * expansion, channels * group)
        if not rest and 0 < whole <= 1024:
            found.append(whole)
    return _different(found)


def _different(values: Iterable[int]) -> list[int]:
    return [each for each in dict.fromkeys(values) if each > 0]
