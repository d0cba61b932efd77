"""The cheapest reading of a graph: stretches that are blocks of the library, and what is between.

Each stretch between two cuts whose skeleton some block has is tried with arguments. Of all ways to
cover the graph that one is taken in which fewest operations stand alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from resnet_spec.importing.graph import Graph, Op, Value
from resnet_spec.importing.matching import Key, graph_key, key
from resnet_spec.importing.structure.arguments import MOST_CHANGED, Piece, Solution, solutions
from resnet_spec.importing.structure.library_index import Index, Variant
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.importing.structure.segments import Segment, halved, joined, segments
from resnet_spec.importing.structure.vocabulary import Vocabulary

_MOST_SEGMENTS = 18  # of one block
_MOST_OPERATIONS = 120
# Where so many stretches that only look like a block are none with any arguments, others of that
# look are tried with the defaults and with what held elsewhere.
_PATIENCE = 2

Progress = Callable[[str], None]


class Part(NamedTuple):
    """A segment, or a stretch of them that blocks of the library stand for."""

    segment: Segment
    solutions: tuple[Solution, ...] = ()


def parse(
    graph: Graph,
    prober: Prober,
    index: Index,
    words: Vocabulary,
    eps: float,
    progress: Progress | None = None,
) -> list[Part]:
    """The parts of a folded graph, in their order."""
    whole = segments(graph)
    pieces = whole
    # A chain without any sum is told by its layers: nothing begins or ends a block in it.
    if any(len(each.ops) > 1 for each in whole):
        pieces = halved(graph, whole, eps)
    parser = _Parser(graph, prober, index, words, pieces, progress)
    while True:
        found = parser.parts()
        if not parser.forget_partial():
            return found


class _Parser:
    def __init__(
        self,
        graph: Graph,
        prober: Prober,
        index: Index,
        words: Vocabulary,
        pieces: Sequence[Segment],
        progress: Progress | None,
    ) -> None:
        self.graph, self.prober, self.index, self.pieces = graph, prober, index, pieces
        self.words = words
        self.progress = progress
        self.branches = any(len(each.ops) > 1 for each in pieces)
        self.solved: dict[object, tuple[Solution, ...]] = {}
        self.failed: Counter[Key] = Counter()
        self.held: set[Key] = set()
        self.known: dict[str, list[dict[str, Any]]] = {}  # by block, arguments that held

    def parts(self) -> list[Part]:
        """The cheapest way from the first cut to the last, by dynamic programming."""
        count = len(self.pieces)
        cost: list[float] = [0.0, *([float("inf")] * count)]
        came: list[tuple[int, tuple[Solution, ...]]] = [(0, ())] * (count + 1)
        for start in range(count):
            if self.progress is not None and start % 16 == 0:
                self.progress(f"matching blocks: {start} of {count} segments")
            alone = len(self.pieces[start].ops)
            price = 1.0 if alone == 1 else 2.0 + 2 * alone
            steps: list[tuple[int, float, tuple[Solution, ...]]] = [(start + 1, price, ())]
            steps += [(stop, 0.5, found) for stop, found in self._blocks_from(start)]
            for stop, price, found in steps:
                if cost[start] + price < cost[stop]:
                    cost[stop], came[stop] = cost[start] + price, (start, found)
        path, stop = [], count
        while stop > 0:
            start, found = came[stop]
            path.append((start, stop, found))
            stop = start
        return self._joined(path[::-1])

    def _joined(self, path: Iterable[tuple[int, int, tuple[Solution, ...]]]) -> list[Part]:
        """Parts of the path; halves that both stand alone are whole again."""
        result: list[Part] = []
        for start, stop, found in path:
            pieces = self.pieces[start:stop]
            segment = Segment(
                pieces[0].first,
                pieces[-1].last,
                tuple(joined(op for each in pieces for op in each.ops)),
            )
            last = result[-1] if result else None
            if last is not None and not found and not last.solutions:
                ops = joined((*last.segment.ops, *segment.ops))
                if len(ops) < len(last.segment.ops) + len(segment.ops):
                    both = Segment(last.segment.first, segment.last, tuple(ops))
                    result[-1] = Part(both)
                    continue
            result.append(Part(segment, found))
        return result

    def _blocks_from(self, start: int) -> Iterable[tuple[int, tuple[Solution, ...]]]:
        """Where blocks end that begin at a cut, and which they are."""
        ops: list[Op] = []
        first = self.pieces[start].first
        for stop in range(start, min(len(self.pieces), start + _MOST_SEGMENTS)):
            ops = joined((*ops, *self.pieces[stop].ops))
            if len(ops) > _MOST_OPERATIONS:
                return
            variants = self._variants(ops, first, self.pieces[stop].last)
            if variants:
                found = self._solved(ops, first, self.pieces[stop].last, variants)
                if found:
                    yield stop + 1, found

    def _variants(self, ops: Sequence[Op], first: Value, last: Value) -> list[Variant]:
        return self.index.get(key(ops, first, last, skeleton=True), [])

    def _solved(
        self, ops: Sequence[Op], first: Value, last: Value, variants: Sequence[Variant]
    ) -> tuple[Solution, ...]:
        piece = Piece.of(ops, first, last, self.graph.shapes)
        known = (piece.key, piece.given.dimensions, piece.result.dimensions)
        if known not in self.solved:
            skeleton = key(ops, first, last, skeleton=True)
            most = MOST_CHANGED if self.failed[skeleton] < _PATIENCE else 0
            self.solved[known] = tuple(self._tried(piece, variants, most))
            if self.solved[known]:
                self.held.add(skeleton)
            else:
                self.failed[skeleton] += 1
        return self.solved[known]

    def forget_partial(self) -> bool:
        """Take back blocks that are only some of the stretches that look like them.

        The others would be blocks of the spec's own, and one network would say one thing twice.
        In a chain of layers a stretch looks like a block wherever it begins: there it is no sign.
        """
        if not self.branches:
            return False
        partial = self.held & set(self.failed)
        self.index = {k: v for k, v in self.index.items() if k not in partial}
        self.held -= partial
        return bool(partial)

    def _tried(self, piece: Piece, variants: Sequence[Variant], most: int) -> list[Solution]:
        """Solutions of the smallest change, of all variants that are alike on this input."""
        groups: dict[object, list[Variant]] = {}
        for variant in variants:
            groups.setdefault(self._alike(variant, piece), []).append(variant)
        found = self._as_before(piece, groups.values())
        for changed in range(most + 1):
            if found:
                break
            for group in groups.values():
                block, chosen = group[0].block, group[0].chosen()
                for solution in solutions(self.prober, block, chosen, piece, changed, self.words):
                    found += _for_all(solution, group)
        for solution in found:
            rest = {k: v for k, v in solution.arguments.items() if k not in VARYING}
            if rest not in self.known.setdefault(solution.block, []):
                self.known[solution.block].append(rest)
        return found

    def _as_before(self, piece: Piece, groups: Iterable[Sequence[Variant]]) -> list[Solution]:
        """Solutions whose arguments, but for filters and stride, a block had elsewhere."""
        found = []
        for group in groups:
            block = group[0].block
            for chosen in [each.chosen() for each in group]:
                for rest in self.known.get(block, []):
                    if _extends(rest, chosen):
                        both = {**chosen, **rest}
                        found += solutions(self.prober, block, both, piece, 0, self.words)
        return found

    def _alike(self, variant: Variant, piece: Piece) -> object:
        """What fills the shortcut of an identity makes no difference: such variants are one."""
        definition = self.prober.definition(variant.block)
        arguments = variant.chosen()
        for name, argument in definition.arguments.items():
            if argument.default is None and name not in arguments:
                arguments[name] = _sample(name, definition.arguments, piece)
        if "stride" in definition.arguments:
            given, result = piece.given.height or 1, piece.result.height or 1
            arguments["stride"] = max(1, -(-given // result))
        graph = self.prober.graph(variant.block, arguments, piece.given)
        return variant if graph is None else (variant.block, graph_key(graph))


def _extends(arguments: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    """Whether arguments have all that was chosen; a filler may have arguments of its own."""
    for name, value in chosen.items():
        if name in VARYING:
            continue
        given = arguments.get(name)
        filled = next(iter(given)) if isinstance(given, dict) else given
        if value not in (given, filled):
            return False
    return True


def _sample(name: str, arguments: object, piece: Piece) -> int:
    """A value of a required argument with which the shortcut is what it is in the piece."""
    channels = piece.result.channels
    if name == "filters":
        return channels // 4 if "expansion" in arguments else channels  # type: ignore[operator]
    if name == "growth":
        return max(1, channels - piece.given.channels)
    return max(piece.numbers("filters"), default=1)


def _for_all(solution: Solution, group: Sequence[Variant]) -> list[Solution]:
    """A solution with what each variant of a group fills the slots with."""
    tried = group[0].chosen()
    filled = {k: v for k, v in solution.arguments.items() if k in tried and v != tried[k]}
    return [
        solution._replace(arguments={**solution.arguments, **variant.chosen(), **filled})
        for variant in group
    ]


# --- one solution for each block -----------------------------------------------------------------

# What differs between blocks of one kind.
VARYING = ("filters", "stride", "first", "project", "growth")


def chosen(parts: Sequence[Part], words: Vocabulary) -> list[Solution | None]:
    """One solution for each part that has some: that of most blocks, then the shortest.

    Of blocks that are one graph, that of most networks is taken.
    """
    count: Counter[str] = Counter()
    for part in parts:
        count.update({_constant(each) for each in part.solutions})
    return [
        min(
            part.solutions,
            key=lambda each: (
                -count[_constant(each)],
                each.changed,
                words.rank(each.block),
                str(each.arguments),
            ),
        )
        if part.solutions
        else None
        for part in parts
    ]


def others(parts: Sequence[Part], taken: Sequence[Solution | None]) -> list[str]:
    """The blocks that every part of a taken block would be as well: other readings of the graph."""
    alternatives: dict[str, set[str]] = {}
    for part, solution in zip(parts, taken, strict=True):
        if solution is not None:
            names = {each.block for each in part.solutions} - {solution.block}
            known = alternatives.get(solution.block)
            alternatives[solution.block] = names if known is None else known & names
    return [
        f"{block} could be {' or '.join(sorted(names))} as well: the plainest is taken"
        for block, names in alternatives.items()
        if names
    ]


def _constant(solution: Solution) -> str:
    """A block with all that does not vary from one use to the next."""
    rest = {k: v for k, v in solution.arguments.items() if k not in VARYING}
    return f"{solution.block} {sorted(rest.items(), key=str)}"
