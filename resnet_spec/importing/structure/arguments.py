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
from resnet_spec.importing.structure.vocabulary import Vocabulary
from resnet_spec.language.library import builtin_blocks
from resnet_spec.language.syntax import Definition
from resnet_spec.primitives import Shape

_MOST_TIMES = 64  # a width is another
_EXPANSIONS = (4, 1, 2, 8)  # of output channels per filter
MOST_CHANGED = 3  # arguments besides filters and stride that differ from their defaults
# So many differ together only where a network has groups of a stated width.
_GROUPED = frozenset({"groups", "base_width"})
# What the numbers of a graph tell; of others the values are tried that networks have.
_TOLD = frozenset(
    {
        "filters", "growth", "width", "stride", "groups", "base_width", "dilation",
        "first_dilation", "gate_kernel", "reduction", "expansion",
    }
)  # fmt: skip


def is_sought(name: str) -> bool:
    """Whether an argument is found by the numbers of a graph."""
    return name in _TOLD


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

    def taken(self) -> list[tuple[int, int]]:
        """The channels that it takes of some value: the first one, and the one behind the last."""
        found = (op.attributes for op in self.ops if op.kind == "take")
        return list(dict.fromkeys((each["start"], each["stop"]) for each in found))


class Solution(NamedTuple):
    """Arguments of a block, and how many of them differ from their defaults."""

    changed: int
    block: str
    arguments: dict[str, Any]


def solutions(
    prober: Prober,
    block: str,
    chosen: Mapping[str, Any],
    piece: Piece,
    changed: int,
    words: Vocabulary,
) -> list[Solution]:
    """All arguments, so many not their defaults, with which a block is the piece.

    `chosen` fills the slots and has the structural arguments, and whatever else is known already.
    """
    definition = prober.definition(block)
    candidates = _candidates(prober, definition, chosen, piece, words)
    sizes = {name: candidates.pop(name) for name in _SIZES if name in candidates}
    if "filters" in sizes and "growth" not in definition.arguments:
        # Such a block has as many output channels as filters, or a multiple that it states.
        del sizes["filters"]
    found = []
    for others in _combinations(candidates, changed):
        for values in itertools.product(*sizes.values()):
            sized = dict(zip(sizes, values, strict=True))
            arguments = joined(chosen, {**sized, **others})
            if "filters" in definition.arguments and "filters" not in sized:
                expansion = arguments.get("expansion", default_of(definition, "expansion")) or 1
                if piece.result.channels % expansion:
                    continue
                arguments["filters"] = piece.result.channels // expansion
            if prober.key(block, arguments, piece.given) == piece.key:
                found.append(Solution(changed, block, arguments))
                break
    return found


_SIZES = ("filters", "growth", "width", "stride")  # which a use always says


def _combinations(candidates: Mapping[str, list[Any]], changed: int) -> Iterator[dict[str, Any]]:
    """Values for so many arguments."""
    for names in itertools.combinations(candidates, changed):
        if changed == MOST_CHANGED and not _GROUPED.issubset(names):
            continue
        for values in itertools.product(*(candidates[name] for name in names)):
            yield dict(zip(names, values, strict=True))


def joined(chosen: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
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


def default_of(definition: Definition, name: str) -> Any:
    """What an argument is where a use does not say it: a number, an expression's text or None."""
    argument = definition.arguments.get(name)
    if argument is None or argument.default is None:
        return None
    try:
        return int(argument.default.text)
    except ValueError:
        return argument.default.text


# --- candidates ----------------------------------------------------------------------------------


def _candidates(
    prober: Prober,
    definition: Definition,
    chosen: Mapping[str, Any],
    piece: Piece,
    words: Vocabulary,
) -> dict[str, list[Any]]:
    """Values that are no defaults: of a block's numbers, and of those of what fills its slots."""
    found: dict[str, list[Any]] = {}
    for name, argument in definition.arguments.items():
        if name not in chosen and argument.type == "int":
            found[name] = possible_values(name, piece, words)
            if name not in _SIZES:
                found[name] = _without(found[name], default_of(definition, name))
    for slot in definition.slots:
        filler = chosen.get(slot)
        if isinstance(filler, str) and filler in builtin_blocks():
            filling = prober.definition(filler)
            for name, argument in filling.arguments.items():
                if argument.type == "int" and argument.default and name not in _SIZES:
                    values = possible_values(name, piece, words)
                    found[f"{slot}.{name}"] = _without(values, default_of(filling, name))
    return {name: each for name, each in found.items() if each}


def _without(values: Iterable[Any], default: Any) -> list[Any]:
    return [each for each in values if each != default]


def possible_values(name: str, piece: Piece, words: Vocabulary) -> list[Any]:
    """What an argument may be, by the numbers of the piece or by the networks of the package."""
    filters, groups = piece.numbers("filters"), piece.numbers("groups")
    channels = piece.result.channels
    match name:
        case "filters":
            return _different([*(start for start, _ in piece.taken()), channels, *filters])
        case "growth":
            widths = (stop - start for start, stop in piece.taken() if start)
            return _different([*widths, channels - piece.given.channels, *filters])
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
            said = [each for each in words.values.get(name, ()) if type(each) is int]
            return _different([*said, *_ratios([channels, *filters])])


def _ratios(widths: Sequence[int]) -> list[int]:
    """How many times one width is another."""
    pairs = ((one // other, one % other) for one in widths for other in widths)
    return sorted({ratio for ratio, rest in pairs if not rest and ratio <= _MOST_TIMES})


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
