"""One reading of the numbers that all uses of a block share.

Each use alone is told by the fewest arguments, so that one thing could be said in several ways: a
gate of a quarter of 16, 32 and 64 channels by three. Who changes the widths would get another
network than the model's author. Values that fit all uses take their place, where there are such.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnet_spec.importing.graph import Graph
from resnet_spec.importing.structure.arguments import (
    Piece,
    Solution,
    default_of,
    joined,
    possible_values,
)
from resnet_spec.importing.structure.parse import VARYING, Part
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.importing.structure.vocabulary import Vocabulary

_MOST_NAMES = 2  # that differ: all their values are tried together

Values = dict[str, Any]  # by the name of an argument, `attention.reduction` of what fills a slot


def agreed(
    graph: Graph,
    parts: Sequence[Part],
    taken: Sequence[Solution | None],
    prober: Prober,
    words: Vocabulary,
) -> list[Solution | None]:
    """The solutions that were taken, with the same numbers in all uses of a block if some fit."""
    uses: dict[str, list[int]] = defaultdict(list)
    for number, solution in enumerate(taken):
        if solution is not None:
            uses[solution.block].append(number)
    result = list(taken)
    for numbers in uses.values():
        result = _with_one_reading(graph, parts, result, numbers, prober, words)
    return result


def _with_one_reading(
    graph: Graph,
    parts: Sequence[Part],
    taken: list[Solution | None],
    numbers: Sequence[int],
    prober: Prober,
    words: Vocabulary,
) -> list[Solution | None]:
    found = {number: solution for number in numbers if (solution := taken[number]) is not None}
    names = _differing([_flat(each.arguments) for each in found.values()])
    if not 0 < len(names) <= _MOST_NAMES:
        return taken
    pieces = {}
    for number in found:
        segment = parts[number].segment
        pieces[number] = Piece.of(segment.ops, segment.first, segment.last, graph.shapes)
    for values in _candidates(found, pieces, names, prober, words):
        made = {number: _said(each, values, prober) for number, each in found.items()}
        if all(_holds(made[number], pieces[number], prober) for number in found):
            return [made.get(number, each) for number, each in enumerate(taken)]
    return taken


def _candidates(
    found: Mapping[int, Solution],
    pieces: Mapping[int, Piece],
    names: Sequence[str],
    prober: Prober,
    words: Vocabulary,
) -> Iterator[Values]:
    """Values for these names, those first that differ least from the defaults."""
    usual = {name: _default(next(iter(found.values())), name, prober) for name in names}
    choices = [
        dict.fromkeys(
            value
            for known in ([usual[name]], *_of_pieces(name, pieces, words))
            for value in known
            if value is not None
        )
        for name in names
    ]
    each = [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]
    yield from sorted(each, key=lambda values: sum(values[k] != usual[k] for k in names))


def _of_pieces(name: str, pieces: Mapping[int, Piece], words: Vocabulary) -> Iterator[list[Any]]:
    inner = name.rpartition(".")[2]
    for piece in pieces.values():
        yield possible_values(inner, piece, words)


def _holds(solution: Solution, piece: Piece, prober: Prober) -> bool:
    return prober.key(solution.block, solution.arguments, piece.given) == piece.key


def _said(solution: Solution, values: Values, prober: Prober) -> Solution:
    """A solution with other numbers, of which those that are the defaults go without saying."""
    plain = dict(solution.arguments)
    for name in values:
        slot, _, inner = name.rpartition(".")
        if not slot:
            plain.pop(inner, None)
        elif isinstance(filler := plain[slot], dict):
            ((target, given),) = filler.items()
            rest = {key: value for key, value in given.items() if key != inner}
            plain[slot] = {target: rest} if rest else target
    told = {k: v for k, v in values.items() if v != _default(solution, k, prober)}
    return solution._replace(arguments=joined(plain, told))


def _default(solution: Solution, name: str, prober: Prober) -> Any:
    slot, _, inner = name.rpartition(".")
    filler = solution.arguments[slot] if slot else solution.block
    block = next(iter(filler)) if isinstance(filler, dict) else filler
    return default_of(prober.definition(block), inner)


def _flat(arguments: Mapping[str, Any]) -> Values:
    """Arguments, those of what fills a slot beside it."""
    found: Values = {}
    for name, value in arguments.items():
        if isinstance(value, dict):
            ((target, given),) = value.items()
            found |= {name: target, **{f"{name}.{inner}": each for inner, each in given.items()}}
        elif name not in VARYING:
            found[name] = value
    return found


def _differing(uses: Sequence[Values]) -> list[str]:
    """The numbers in which uses differ; none where they differ in more than numbers."""
    every = dict.fromkeys(name for each in uses for name in each)
    differ = [name for name in every if len({str(each.get(name)) for each in uses}) > 1]
    values = [each.get(name) for name in differ for each in uses]
    numbers = all(value is None or type(value) is int for value in values)
    return differ if numbers else []
