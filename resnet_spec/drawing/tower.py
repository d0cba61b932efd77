"""The layout of a block, whatever its graph: columns where that is clear, else a tower.

Columns are how people draw blocks, but a graph may be so entangled that a line would run through a
box. Then all boxes stand one below the other, with lanes for the lines beside them, and nothing can
be in the way of anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from resnet_spec.drawing.columns import Column, Graph, Link, divide, graph_of
from resnet_spec.drawing.labels import Drawn
from resnet_spec.drawing.ordering import BESIDE_LINE, BETWEEN_LINES, arrange
from resnet_spec.drawing.routing import place

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

_MOST = 100  # boxes of a graph that is laid out in columns


def laid_out(items: Sequence[Drawn]) -> Graph:
    """The boxes and lines of a block in their places."""
    graph = graph_of(items)
    if len(items) <= _MOST:
        divide(graph)
        arrange(graph)
        place(graph)
        if is_clear(graph):
            return graph
        graph = graph_of(items)
    stack(graph)
    place(graph)
    return graph


def stack(graph: Graph) -> None:
    """All boxes in one column, and each line that passes one in a lane to its right."""
    for layer, placed in enumerate(graph.placed):
        placed.layer, placed.column, placed.stretches = layer, 0, False
    graph.columns = [Column(list(range(len(graph.placed))), 0, len(graph.placed))]
    x = max(placed.width for placed in graph.placed) / 2 + BESIDE_LINE
    ends: list[int] = []  # of the last line in each lane
    straight: set[int] = set()
    for link in sorted(graph.links, key=lambda link: (link.source, link.target, link.slot)):
        if link.target == link.source + 1 and link.source not in straight:
            straight.add(link.source)
            link.lane = 0
            continue
        free = next((k for k, end in enumerate(ends) if end < link.source), len(ends))
        if free == len(ends):
            ends.append(0)
            graph.columns.append(Column([], x=x + BETWEEN_LINES * free))
        ends[free] = link.target
        link.lane = free + 1


# --- whether nothing is in the way ---------------------------------------------------------------


def is_clear(graph: Graph) -> bool:
    """Whether no boxes overlap, and no line runs through a box or along another line."""
    boxes = [(p.x - p.width / 2, p.y, p.x + p.width / 2, p.bottom) for p in graph.placed]
    if any(_overlap(a, b, 0.1) for a, b in combinations(boxes, 2)):
        return False
    lines = [(link, list(_pieces(link))) for link in graph.links]
    through = any(_overlap(piece, box, 0.9) for _, way in lines for piece in way for box in boxes)
    return not through and not any(
        a.points[0] != b.points[0] and a.points[-1] != b.points[-1] and _along(first, second)
        for (a, first), (b, second) in combinations(lines, 2)
    )


def _pieces(link: Link) -> Iterator[Rectangle]:
    for (x1, y1), (x2, y2) in pairwise(link.points):
        yield min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _overlap(a: Rectangle, b: Rectangle, slack: float) -> bool:
    return (
        a[0] < b[2] - slack and a[2] > b[0] + slack and a[1] < b[3] - slack and a[3] > b[1] + slack
    )


def _along(first: Sequence[Rectangle], second: Sequence[Rectangle]) -> bool:
    """Whether two lines have a stretch in common, or are as near as that to the eye."""
    return any(
        abs(a[low] - b[low]) < 2
        and a[low] == a[low + 2]
        and b[low] == b[low + 2]
        and min(a[3 - low], b[3 - low]) - max(a[1 - low], b[1 - low]) > 1
        for a in first
        for b in second
        for low in (0, 1)
    )
