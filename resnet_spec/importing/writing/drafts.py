"""Stretches of a graph that no block of the library is: what becomes a block of the spec's own.

Two stretches are of one kind if their main branches are alike but for numbers, so that uses with
and without a shortcut, or a projection in it, are uses of one block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resnet_spec.importing.graph import GATED, Graph, Op, Value, is_point
from resnet_spec.importing.matching import Ambiguous, isomorphism, key, word
from resnet_spec.importing.structure.arguments import Solution
from resnet_spec.importing.structure.parse import Part
from resnet_spec.importing.structure.roles import ACTIVATIONS, USUAL_EPS
from resnet_spec.importing.structure.segments import Segment, halved, segments
from resnet_spec.importing.writing.names import Path, block_path, shared_start
from resnet_spec.importing.writing.stages import Use

Kind = tuple[Any, ...]
_MANY = 3  # blocks after which the same layers are no chance


@dataclass(eq=False)
class Draft:
    """One use of a block of the spec's own.

    `main` runs from its input to `main_last`; where there is a sum, `shortcut` is its other branch,
    empty where that is the input itself, and `behind` follows the sum. A shortcut takes the input,
    or what the first so many layers of the main branch give: those `before` it.
    """

    kind: Kind
    first: Value
    last: Value
    main: list[Op]
    main_last: Value
    shortcut: list[Op]
    is_residual: bool = False
    behind: list[Op] | None = None
    before: int = 0

    @property
    def ops(self) -> list[Op]:
        """All operations but the sum."""
        return [*self.main, *self.shortcut, *(self.behind or [])]


Item = Op | Use | Draft


def items(graph: Graph, parts: Sequence[Part], taken: Sequence[Solution | None]) -> list[Item]:
    """The graph as operations by themselves, uses of the library's blocks, and drafts."""
    found: list[Item] = []
    region: list[Segment] = []
    for part, solution in zip(parts, taken, strict=True):
        if solution is None:
            region.append(part.segment)
            continue
        found += _region(graph, region)
        region = []
        segment = part.segment
        found.append(
            Use(solution.block, solution.arguments, segment.ops, segment.first, segment.last)
        )
    found += _region(graph, region)
    if not any(isinstance(item, Use | Draft) for item in found):
        return _of_layers_alone(graph, [item for item in found if isinstance(item, Op)])
    return _chained(found)


def alike_as_own(
    graph: Graph, parts: Sequence[Part], taken: Sequence[Solution | None]
) -> tuple[list[Part], list[Solution | None]]:
    """Parts and their solutions, without those that are the same block as one that has none.

    A block whose projection is none of the library's is the library's where it has no projection:
    it is one block of the spec's own with a condition. So are blocks of one of the model's stages
    of which some have widths that the library has not.
    """
    whole = [_segments(graph, part.segment) for part in parts]
    drafts = [_residual(graph, each[0]) for each in whole]
    region = [part.segment for part in parts]
    tokens = [_token(each) for each in region]
    projected = {True: set[Kind](), False: set[Kind]()}
    staged = {True: set[tuple[Kind, Path]](), False: set[tuple[Kind, Path]]()}
    for at, draft in enumerate(drafts):
        found = draft or _late_shortcut(region, drafts, tokens, at)
        if found is None:
            continue
        is_known = taken[at + found.before] is not None
        path = block_path(found.ops)
        if found.shortcut:
            projected[is_known].add(found.kind)
        if len(path) > 1:
            staged[is_known].add((found.kind, path[:-1]))
    own = projected[False] - projected[True]
    own |= {kind for kind, _ in staged[False] & staged[True]}
    result: list[tuple[Part, Solution | None]] = []
    for part, pieces, draft, solution in zip(parts, whole, drafts, taken, strict=True):
        if solution is not None and draft is not None and draft.kind in own:
            result += [(Part(each), None) for each in pieces]
        else:
            result.append((part, solution))
    return [part for part, _ in result], [solution for _, solution in result]


def _segments(graph: Graph, segment: Segment) -> list[Segment]:
    return segments(Graph(list(segment.ops), segment.first, segment.last, graph.shapes))


def first_stage(found: Sequence[Item], blocks: Sequence[int]) -> int:
    """The place of the first of the blocks that is a stage: what orders images anew is the stem."""
    first, *rest = (found[place] for place in blocks)
    if not isinstance(first, Draft) or first.is_residual or not rest:
        return blocks[0]
    if any(op.parameters for op in first.ops):
        return blocks[0]
    chain = isinstance(rest[0], Draft) and rest[0].kind[0] == "chain"
    return blocks[2] if chain and len(rest) > 1 else blocks[1]


def last_stage(graph: Graph, found: Sequence[Item], blocks: Sequence[int]) -> int:
    """The place of the last of the blocks that is a stage: what makes vectors of it is the head."""
    for place, before in zip(blocks[:0:-1], blocks[-2::-1], strict=True):
        item, giver = found[place], found[before]
        assert not isinstance(item, Op) and not isinstance(giver, Op)
        alone = isinstance(item, Draft) and not item.is_residual
        if not alone or not is_point(graph.shapes[item.last]):
            return place
        if is_point(graph.shapes[giver.last]):
            return place
    return blocks[0]


# --- residual units ------------------------------------------------------------------------------


def _region(graph: Graph, region: Sequence[Segment]) -> list[Item]:
    """Segments between blocks of the library."""
    region = _norms_apart(graph, region)
    units = [_residual(graph, each) for each in region]
    kinds = sorted({unit.kind for unit in units if unit is not None}, key=len, reverse=True)
    tokens = [_token(each) for each in region]
    found: list[Item] = []
    at = 0
    while at < len(region):
        unit = units[at]
        if unit is not None:
            found.append(unit)
            at += 1
            continue
        late = _late_shortcut(region, units, tokens, at)
        if late is not None:
            found.append(late)
            at += late.before + 1
            continue
        chain = next((kind for kind in kinds if len(kind) > 1 and _begins(tokens[at:], kind)), None)
        if chain is not None:
            found.append(_without_sum(chain, region[at : at + len(chain)]))
            at += len(chain)
        elif len(region[at].ops) > 1:
            found.append(_whole(region[at], tokens[at]))
            at += 1
        else:
            found.append(region[at].ops[0])
            at += 1
    return _with_what_follows(found)


def _norms_apart(graph: Graph, region: Sequence[Segment]) -> list[Segment]:
    """The segments, with the norm that a unit begins with apart from the stem's convolution.

    Other units begin behind a sum, so that nothing takes theirs as its own.
    """
    units = [_residual(graph, each) for each in region]
    tokens = [_token(each) for each in region]
    result: list[Segment] = []
    for at, segment in enumerate(region, 1):
        halves = _halves(graph, segment)
        if len(halves) > 1:
            norm = halves[-1]
            behind = [norm, *region[at:]], [None, *units[at:]], [_token(norm), *tokens[at:]]
            halves = halves if _late_shortcut(*behind, 0) is not None else [segment]
        result += halves
    return result


def _halves(graph: Graph, segment: Segment) -> list[Segment]:
    """A convolution without a bias and its norm as two segments; else the one."""
    parts = segment.ops[0].parts
    if len(segment.ops) > 1 or len(parts) < 2 or parts[0].attributes.get("bias"):
        return [segment]
    return halved(graph, [segment], USUAL_EPS)


def _late_shortcut(
    region: Sequence[Segment], units: Sequence[Draft | None], tokens: Sequence[Any], at: int
) -> Draft | None:
    """Layers and the unit behind them, where these are a unit elsewhere whose shortcut is bare.

    Before a projection norm and activation stand for both branches, so the graph has a cut there.
    """
    number = next((k for k, unit in enumerate(units[at:]) if unit is not None), 0)
    unit = units[at + number]
    if unit is None or not unit.shortcut:
        return None
    kind = (*tokens[at : at + number], *unit.kind)
    if not any(each and each.kind == kind and not each.shortcut for each in units):
        return None
    ops = [op for each in region[at : at + number] for op in each.ops]
    if len(ops) != number:
        return None
    main = [*ops, *unit.main]
    first = region[at].first
    return Draft(kind, first, unit.last, main, unit.main_last, unit.shortcut, True, before=number)


def _token(segment: Segment) -> Any:
    """What a segment is but for numbers; a convolution with groups is another than one without.

    A convolution of each channel by itself may have any window, as those of mobile networks.
    """
    groups = tuple(op.attributes["groups"] == 1 for op in segment.ops if op.kind == "conv")
    takes = sum(op.kind == "take" for op in segment.ops)  # rather than one split
    ops = _of_any_window(segment.ops)
    return (key(ops, segment.first, segment.last, skeleton=True), groups, takes)


def _of_any_window(ops: Sequence[Op]) -> list[Op]:
    """Operations without the windows of convolutions of each channel by itself."""
    return [
        op.copy(attributes={**op.attributes, "kernel": 0})
        if op.kind == "conv" and op.attributes["groups"] == op.attributes["filters"] > 1
        else op
        for op in ops
    ]


def _begins(tokens: Sequence[Any], kind: Kind) -> bool:
    return tuple(tokens[: len(kind)]) == kind


def _without_sum(kind: Kind, chain: Sequence[Segment]) -> Draft:
    ops = [op for each in chain for op in each.ops]
    return Draft(kind, chain[0].first, chain[-1].last, ops, chain[-1].last, [])


def _whole(segment: Segment, token: Any) -> Draft:
    """What has branches and is no sum of two."""
    ops = list(segment.ops)
    return Draft(("whole", token), segment.first, segment.last, ops, segment.last, [])


def _residual(graph: Graph, segment: Segment) -> Draft | None:
    """A sum of two branches that share nothing but the input; the main one is the longer."""
    makers = {value: op for op in segment.ops for value in op.outputs}
    last = makers[segment.last]
    if last.kind != "add" or len(last.inputs) != 2 or len(segment.ops) < 3:
        return None
    one, other = (_behind(makers, value, segment.first) for value in last.inputs)
    if one & other:
        return None
    branches = [
        ([op for op in segment.ops if id(op) in each], value)
        for each, value in zip((one, other), last.inputs, strict=True)
    ]
    branches.sort(key=lambda each: len(each[0]), reverse=True)
    (main, main_last), (shortcut, _) = branches
    inner = Graph(list(main), segment.first, main_last, graph.shapes)
    inner.sort()
    kind = tuple(_token(each) for each in segments(inner))
    return Draft(kind, segment.first, segment.last, inner.ops, main_last, shortcut, True)


def _behind(makers: Mapping[Value, Op], value: Value, first: Value) -> set[int]:
    """The operations that a value follows from."""
    found: set[int] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        op = makers.get(each)
        if each != first and op is not None and id(op) not in found:
            found.add(id(op))
            waiting += op.inputs
    return found


def _with_what_follows(found: Sequence[Item]) -> list[Item]:
    """Layers that follow every block of a kind belong to it: an activation, a convolution."""
    follows: dict[Kind, list[list[Op]]] = {}
    for place, item in enumerate(found):
        if isinstance(item, Draft):
            after = itertools.takewhile(lambda each: isinstance(each, Op), found[place + 1 :])
            follows.setdefault(item.kind, []).append([op for op in after if isinstance(op, Op)])
    lengths = {kind: _shared(chains) for kind, chains in follows.items()}
    result: list[Item] = []
    place = 0
    while place < len(found):
        item = found[place]
        place += 1
        result.append(item)
        if isinstance(item, Draft) and lengths[item.kind]:
            length = lengths[item.kind]
            item.behind = [op for op in found[place : place + length] if isinstance(op, Op)]
            item.last = item.behind[-1].output
            place += length
    return result


def _shared(chains: Sequence[Sequence[Op]]) -> int:
    """How many layers all chains begin with; of few blocks an activation alone."""
    words = [tuple(word(op, skeleton=True) for op in chain) for chain in chains]
    length = len(shared_start(words))
    if len(chains) < _MANY:
        return min(length, int(bool(length) and _is_activation(chains[0][0])))
    return length


def _is_activation(op: Op) -> bool:
    return op.kind in ACTIVATIONS or op.kind.startswith(GATED)


# --- chains of layers ----------------------------------------------------------------------------


def _chained(found: Sequence[Item]) -> list[Item]:
    """Layers between the first and the last block as blocks: each chain is one."""
    inner = [place for place, item in enumerate(found) if not isinstance(item, Op)]
    result: list[Item] = list(found[: inner[0]])
    chain: list[Op] = []
    for item in found[inner[0] : inner[-1] + 1]:
        if isinstance(item, Op):
            chain.append(item)
            continue
        if chain:
            result.append(_chain(chain))
            chain = []
        result.append(item)
    return [*result, *found[inner[-1] + 1 :]]


def _chain(ops: Sequence[Op], called: str = "chain") -> Draft:
    kind = (called, *(word(op, skeleton=True) for op in ops))
    return Draft(kind, ops[0].inputs[0], ops[-1].output, list(ops), ops[-1].output, [])


def _of_layers_alone(graph: Graph, ops: Sequence[Op]) -> list[Item]:
    """A network without branches: what ends in a pooling is a stage."""
    maps = [k for k, op in enumerate(ops) if not is_point(graph.shapes[op.output])]
    end = maps[-1] + 1 if maps else 0
    result: list[Item] = []
    chain: list[Op] = []
    for place, op in enumerate(ops[:end]):
        chain.append(op)
        if op.kind in ("max_pool", "avg_pool") or place == end - 1:
            result.append(_chain(chain, "layers"))
            chain = []
    return [*result, *ops[end:]]


# --- alike ---------------------------------------------------------------------------------------


def aligned(graph: Graph, drafts: Sequence[Draft]) -> list[list[Op]]:
    """The main branches of drafts of one kind, in the order of the first one's operations."""
    first = _main(graph, drafts[0])
    return [first.ops, *(_as_in(first, _main(graph, each)) for each in drafts[1:])]


def _main(graph: Graph, draft: Draft) -> Graph:
    return Graph(list(draft.main), draft.first, draft.main_last, graph.shapes)


def _as_in(first: Graph, other: Graph) -> list[Op]:
    one, two = (replace(each, ops=_of_any_window(each.ops)) for each in (first, other))
    own = {id(op): mine for op, mine in zip(two.ops, other.ops, strict=True)}
    try:
        images = {id(op): own[id(image)] for op, image in isomorphism(one, two, skeleton=True)}
    except Ambiguous:
        return other.ops
    return [images[id(op)] for op in one.ops]


def by_kind(drafts: Iterable[Draft], apart: bool) -> list[list[Draft]]:
    """Drafts of one block each: of one kind, and with shortcuts that are alike; or each apart."""
    if apart:
        return [[draft] for draft in drafts]
    found: dict[Kind, list[Draft]] = {}
    for draft in drafts:
        found.setdefault(draft.kind, []).append(draft)
    return [group for kind in found.values() for group in _by_shortcut(kind)]


def _by_shortcut(drafts: Sequence[Draft]) -> list[list[Draft]]:
    """One group for each kind of shortcut; those without one belong to the largest."""
    groups: dict[tuple[int | str, ...], list[Draft]] = {}
    for draft in drafts:
        words = tuple(word(op, skeleton=True) for op in draft.shortcut)
        groups.setdefault((draft.before, *words), []).append(draft)
    bare = groups.pop((0,), [])
    for pooled in [*groups]:
        unpooled = (pooled[0], *pooled[2:])
        strided = any(map(_strided, groups.get(unpooled, ())))
        if unpooled in groups and all(map(_pools, groups[pooled])) and not strided:
            groups[pooled] += groups.pop(unpooled)
    if not groups:
        return [bare]
    largest = max(groups.values(), key=len)
    members = {id(each) for each in (*largest, *bare)}
    rest = [group for group in groups.values() if group is not largest]
    return [[each for each in drafts if id(each) in members], *rest]


def _pools(draft: Draft) -> bool:
    """Whether a pooling makes the input of a projection smaller, which itself has no stride."""
    pool, *rest = draft.shortcut
    pools = pool.kind in ("avg_pool", "max_pool") and pool.attributes["stride"] > 1
    return pools and bool(rest) and not any(map(_has_stride, rest))


def _strided(draft: Draft) -> bool:
    return any(map(_has_stride, draft.shortcut))


def _has_stride(op: Op) -> bool:
    return int(op.attributes.get("stride", 1)) > 1
