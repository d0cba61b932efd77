"""The layout of a block's graph, last part: where boxes stand, and the corners of the lines.

Lines go straight down, or down, across between two layers and down. A bar stretches over the
columns that it serves, so that its lines are straight.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from resnet_spec.drawing.columns import CIRCLE, Graph, Link, Placed
from resnet_spec.drawing.scene import Point

GAP, TRACK = 17.0, 6.0  # between layers, and for each further line that runs across there
_NUMBERS = 11.0  # for numbers above a bar
_OVERHANG = 12.0  # of a bar, beyond its outer lines
_SAME = 0.5


def place(graph: Graph) -> None:
    """Give every box its place and every line its corners."""
    for placed in graph.placed:
        placed.x = graph.columns[placed.column].x
    for i, placed in enumerate(graph.placed):
        if placed.stretches:
            _stretch(graph, i, placed)
    tracks = _Tracks(graph)
    below = _stack(graph, tracks)
    for link in graph.links:
        link.points = _corners(graph, link, tracks, below)


def numbered(graph: Graph) -> list[int]:
    """The bars whose inputs do not come in their order from left to right, so need numbers."""
    found = []
    for index, placed in enumerate(graph.placed):
        if placed.stretches and placed.box.kind != "split":
            lanes = [graph.columns[link.lane].x for link in graph.entering(index)]
            if lanes != sorted(lanes):
                found.append(index)
    return found


def bounds(graph: Graph) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of all boxes and lines."""
    sides = [(p.x - p.width / 2, p.x + p.width / 2) for p in graph.placed]
    xs = [x for pair in sides for x in pair]
    xs += [x for link in graph.links for x, _ in link.points]
    return min(xs), 0.0, max(xs), max(placed.bottom for placed in graph.placed)


def _stretch(graph: Graph, index: int, bar: Placed) -> None:
    lanes = [graph.columns[e.lane].x for e in graph.links if index in (e.source, e.target)]
    low, high = min(lanes) - _OVERHANG, max(lanes) + _OVERHANG
    if high - low < bar.width:
        most = bar.width / 2 - _OVERHANG
        middle = min(max((low + high) / 2, bar.x - most), bar.x + most)
        low, high = middle - bar.width / 2, middle + bar.width / 2
    bar.x, bar.width = (low + high) / 2, high - low


class _Tracks:
    """Which lines run across below each layer, and at which of several heights.

    Lines that leave a box run above those that go to one: at the same column, the one would else
    come down where the other still goes down.
    """

    def __init__(self, graph: Graph) -> None:
        self.taken: dict[int, dict[tuple[str, int], tuple[int, float, float]]] = {}
        for link in graph.links:
            source, lane = graph.placed[link.source], graph.columns[link.lane].x
            if abs(lane - source.x) > _SAME and not source.stretches:
                self._take(source.layer, ("from", link.source), source.x, lane)
        for link in graph.links:
            target, lane = graph.placed[link.target], graph.columns[link.lane].x
            straight = target.stretches or target.box.is_join
            if abs(lane - target.x) > _SAME and not straight:
                self._take(target.layer - 1, ("to", link.target), lane, target.x)

    def _take(self, layer: int, key: tuple[str, int], x1: float, x2: float) -> None:
        """The lines of one box share a track, so it spans all of them."""
        low, high = min(x1, x2), max(x1, x2)
        mine = self.taken.setdefault(layer, {})
        if key in mine:
            _, low1, high1 = mine.pop(key)
            low, high = min(low, low1), max(high, high1)
        beside = [(k[0], n) for k, (n, a, b) in mine.items() if low <= b and a <= high]
        above = max((n + 1 for kind, n in beside if kind != key[0]), default=0)
        used = {number for _, number in beside}
        mine[key] = (next(n for n in count(above) if n not in used), low, high)

    def of(self, layer: int, kind: str, index: int) -> int:
        return self.taken.get(layer, {}).get((kind, index), (0, 0.0, 0.0))[0]

    def count(self, layer: int) -> int:
        return 1 + max((track for track, _, _ in self.taken.get(layer, {}).values()), default=0)


def _stack(graph: Graph, tracks: _Tracks) -> dict[int, float]:
    """Layers one below the other; gives where each ends."""
    heights = [0.0] * (1 + max(placed.layer for placed in graph.placed))
    for placed in graph.placed:
        heights[placed.layer] = max(heights[placed.layer], placed.height)
    tops, below, y = [], {}, 0.0
    with_numbers = {graph.placed[index].layer for index in numbered(graph)}
    for layer, height in enumerate(heights):
        y += _NUMBERS if layer in with_numbers else 0
        tops.append(y)
        below[layer] = y + height
        y += height + GAP + TRACK * (tracks.count(layer) - 1)
    for placed in graph.placed:
        placed.y = tops[placed.layer] + (heights[placed.layer] - placed.height) / 2
    return below


def _corners(
    graph: Graph, link: Link, tracks: _Tracks, below: dict[int, float]
) -> tuple[Point, ...]:
    source, target = graph.placed[link.source], graph.placed[link.target]
    lane = graph.columns[link.lane].x
    start = lane if source.stretches else source.x
    points = [(start, source.bottom)]
    if abs(lane - start) > _SAME:
        y = below[source.layer] + 6 + TRACK * tracks.of(source.layer, "from", link.source)
        points += [(start, y), (lane, y)]
    if target.stretches or abs(lane - target.x) <= _SAME:
        points.append((lane, target.y))
    elif target.box.is_join:
        side = CIRCLE if lane > target.x else -CIRCLE
        points += [(lane, target.middle), (target.x + side, target.middle)]
    else:
        y = below[target.layer - 1] + 6 + TRACK * tracks.of(target.layer - 1, "to", link.target)
        points += [(lane, y), (target.x, y), (target.x, target.y)]
    return _tidied(points)


def _tidied(points: Sequence[Point]) -> tuple[Point, ...]:
    """Without points that are no corners."""
    found: list[Point] = []
    for point in points:
        if found and point == found[-1]:
            continue
        if len(found) > 1 and any(found[-2][k] == found[-1][k] == point[k] for k in (0, 1)):
            found[-1] = point
        else:
            found.append(point)
    return tuple(found)
