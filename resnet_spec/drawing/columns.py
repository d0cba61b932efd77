"""The layout of a block's graph, first part: layers from top to bottom, and straight columns.

1. The layer of every box is its longest path from the input.
2. The longest path from the input to the output is the main column.
3. The rest becomes further columns: other paths, and lanes for lines that pass boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from resnet_spec.drawing.boxes import CHAIN, INPUT, MORE, OUTPUT, Box
from resnet_spec.drawing.labels import Drawn, Line
from resnet_spec.drawing.scene import Point
from resnet_spec.drawing.text_width import SLACK, text_width

TITLE, SMALL, TILE = 12.5, 11.0, 11.5  # sizes of type
TITLE_HEIGHT, SMALL_HEIGHT, PAD = 23.0, 16.0, 9.0
CIRCLE, BAR_HEIGHT, PILL_HEIGHT = 10.0, 20.0, 18.0


@dataclass(eq=False)
class Placed:
    """A box with its size and place; `x` is its middle, `y` its upper edge.

    A box that `stretches` is as wide as the lines that begin and end at it lie apart.
    """

    drawn: Drawn
    width: float
    height: float
    layer: int = 0
    column: int = 0
    x: float = 0.0
    y: float = 0.0
    stretches: bool = False

    @property
    def box(self) -> Box:
        return self.drawn.box

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(eq=False)
class Link:
    """A line from an output of a box to an input of another; `lane` is the column it runs in."""

    source: int
    port: int
    target: int
    slot: int
    lane: int = -1
    dashed: bool = False
    points: tuple[Point, ...] = ()


@dataclass(eq=False)
class Column:
    """Boxes one below the other, or a lane for lines; `source` is whose lines a lane has."""

    members: list[int]
    top: int = 0
    bottom: int = 0
    x: float = 0.0
    source: tuple[int, int] = (-1, 0)


@dataclass(eq=False)
class Graph:
    """A block on the way to its place on the page."""

    placed: list[Placed]
    links: list[Link]
    columns: list[Column] = field(default_factory=list)

    def leaving(self, index: int) -> list[Link]:
        return [link for link in self.links if link.source == index]

    def entering(self, index: int) -> list[Link]:
        return [link for link in self.links if link.target == index]


def graph_of(items: Sequence[Drawn]) -> Graph:
    """The boxes of a block and the lines between them, without places."""
    links = [
        Link(source, port, item.box.index, slot)
        for item in items
        for slot, (source, port) in enumerate(item.box.inputs)
    ]
    placed = [Placed(item, *_size(item), stretches=item.box.is_bar) for item in items]
    for link in links:
        link.dashed = any(placed[end].box.shortcut for end in (link.source, link.target))
    return Graph(placed, links)


def divide(graph: Graph) -> None:
    """Put boxes and lines into layers and columns; where the columns stand is not known yet."""
    _Columns(graph, _layer(graph)).divide()


def tile_width(label: str, height: float) -> float:
    """Of the tile with a block's letter."""
    return max(height, text_width(label, TILE, True) + 9)


def _size(item: Drawn) -> tuple[float, float]:
    kind, line = item.box.kind, item.lines[0]
    if item.box.is_join:
        return 2 * CIRCLE, 2 * CIRCLE
    small = text_width(line.text, SMALL) * SLACK + 2 * PAD
    if kind in (INPUT, OUTPUT):
        return text_width(line.text, SMALL) + 4, 14.0
    if kind in (CHAIN, MORE):
        return small, PILL_HEIGHT
    if item.box.is_bar or kind == "take":
        return small, BAR_HEIGHT
    width = max(map(line_width, item.lines))
    height = sum(
        TITLE_HEIGHT if each.kind in ("title", "block") else SMALL_HEIGHT for each in item.lines
    )
    return round(width * SLACK + 2 * PAD), height


def line_width(line: Line) -> float:
    """Of one line of a box."""
    if line.inset is not None:
        return tile_width(line.inset.label, 16) + 6 + text_width(line.text, TITLE, True)
    if line.kind == "title":
        head, rest = divided(line.text)
        return text_width(head, TITLE, True) + text_width(rest, TITLE)
    return text_width(line.text, SMALL)


def divided(title: str) -> tuple[str, str]:
    """A title as what it is, in bold, and the numbers behind: `3×3 conv`, ` /2, 64`."""
    places = [place for mark in (" /", ", ") if (place := title.find(mark)) >= 0]
    cut = min(places, default=len(title))
    return title[:cut], title[cut:]


def _layer(graph: Graph) -> list[int]:
    """Put each box into its earliest layer; gives the latest that each could be in."""
    count = len(graph.placed)
    early = [0] * count
    for link in graph.links:  # in the order of their targets, which is that of running
        early[link.target] = max(early[link.target], early[link.source] + 1)
    late = [max(early)] * count
    for link in reversed(graph.links):
        late[link.source] = min(late[link.source], late[link.target] - 1)
    for placed, layer in zip(graph.placed, early, strict=True):
        placed.layer = layer
    # A value that nothing reads ends above the output.
    graph.placed[-1].layer = late[-1] = max(early)
    return late


class _Columns:
    def __init__(self, graph: Graph, late: list[int]) -> None:
        self.graph, self.placed, self.late = graph, graph.placed, late
        self.leaving: list[list[Link]] = [[] for _ in graph.placed]
        self.entering: list[list[Link]] = [[] for _ in graph.placed]
        for link in graph.links:
            self.leaving[link.source].append(link)
            self.entering[link.target].append(link)

    def divide(self) -> None:
        main = self._main()
        self.graph.columns = [Column(main, 0, self.placed[-1].layer)]
        self.column_of = dict.fromkeys(main, 0)
        self._own_links(main, 0)
        while rest := [i for i in range(len(self.placed)) if i not in self.column_of]:
            self._add_column(max((self._way(start) for start in rest), key=len))
        order = sorted(
            (link for link in self.graph.links if link.lane < 0),
            key=lambda e: (self.placed[e.source].layer, e.source, e.port, e.target),
        )
        for link in order:
            self._choose_lane(link)

    # - the main column -

    def _main(self) -> list[int]:
        """The longest way from the input to the output, but straight from a split to its concat."""
        last = len(self.placed) - 1
        inside = self._aside()
        best: list[tuple[int, list[int]]] = [(0, [0])] + [(-1, [])] * last
        for i in range(1, last + 1):
            for link in self.entering[i] if i not in inside else ():
                length, way = best[link.source]
                if length < 0 or link.source in inside or (link.source == 0 and i == last):
                    continue
                length += 1 if self.placed[i].box.shortcut else 3
                if length > best[i][0]:
                    best[i] = (length, [*way, i])
        return best[last][1] or [0, last]

    def _aside(self) -> set[int]:
        """Boxes between a split and its concat that the shortest way leaves aside."""
        inside: set[int] = set()
        for i, placed in enumerate(self.placed):
            if placed.box.kind != "split":
                continue
            for j in range(i + 1, len(self.placed)):
                if self.placed[j].box.kind == "concat" and self._all_lead(i, j):
                    short = self._shortest(i, j)
                    inside |= {k for k in range(i + 1, j) if k not in short}
                    break
        return inside

    def _all_lead(self, start: int, end: int) -> bool:
        """Whether every way from `start` goes through `end`."""
        seen: set[int] = set()
        todo = [link.target for link in self.leaving[start]]
        while todo:
            i = todo.pop()
            if i > end:
                return False
            if i != end and i not in seen:
                seen.add(i)
                todo += [link.target for link in self.leaving[i]]
        return True

    def _shortest(self, start: int, end: int) -> set[int]:
        """The shortest way with a box on it."""
        before = {start: start}
        queue = [start]
        for i in queue:
            for link in sorted(self.leaving[i], key=lambda e: (e.port, e.target)):
                if link.target == end and i == start:
                    continue
                if link.target not in before and link.target <= end:
                    before[link.target] = i
                    queue.append(link.target)
        way, i = {start, end}, before.get(end, start)
        while i != start:
            way.add(i)
            i = before[i]
        return way

    # - further columns -

    def _own_links(self, members: list[int], number: int) -> None:
        """The lines from each member of a column to the next run in it."""
        for a, b in pairwise(members):
            link = next(e for e in self.leaving[a] if e.target == b and e.lane < 0)
            link.lane = number

    def _way(self, start: int) -> list[int]:
        """From a box as far down as no column has been."""
        way = [start]
        while True:
            links = self.leaving[way[-1]]
            free = [e for e in links if e.target not in self.column_of]
            ends = any(
                e.target in self.column_of and self.placed[e.target].box.is_bar for e in links
            )
            if not free or ends:
                return way
            way.append(min(free, key=lambda e: (e.target, e.slot)).target)

    def _add_column(self, members: list[int]) -> None:
        number = len(self.graph.columns)
        slack = [self.late[i] - self.placed[i].layer for i in members]
        shift = min(slack[-1] // 2, *slack)
        for i in members:
            self.column_of[i] = number
            self.placed[i].layer += shift
            self.placed[i].column = number
        top, bottom = self.placed[members[0]].layer, self.placed[members[-1]].layer
        self.graph.columns.append(Column(members, top, bottom))
        self._own_links(members, number)

    def _choose_lane(self, link: Link) -> None:
        """Down the column of one of its ends, where that is free, or down a lane of its own."""
        source, target = self.placed[link.source], self.placed[link.target]
        top, bottom = source.layer, target.layer
        apart = source.column != target.column
        near = bottom - top == 1 and not source.box.is_bar
        down = not source.box.is_bar and self._is_free(source.column, top + 1, bottom)
        up = self._is_free(target.column, top, bottom - 1) and not self._is_used(link, top, bottom)
        if target.box.is_join and down and apart:
            link.lane = source.column  # then into the side of the join
        elif target.column and up:
            link.lane = target.column
        elif apart and ((down and source.column) or near):
            link.lane = source.column
        else:
            link.lane = self._lane(link, top, bottom)
        column = self.graph.columns[link.lane]
        if link.lane:
            column.top, column.bottom = min(column.top, top), max(column.bottom, bottom)

    def _is_free(self, column: int, first: int, last: int) -> bool:
        """Whether a column has no box in these layers."""
        members = self.graph.columns[column].members
        return not any(first <= self.placed[i].layer <= last for i in members)

    def _is_used(self, link: Link, top: int, bottom: int) -> bool:
        """Whether a line with another value runs down the column of the link's target there."""
        lane = self.placed[link.target].column
        return any(
            other is not link
            and other.lane == lane
            and self.placed[other.source].layer < bottom
            and self.placed[other.target].layer > top
            and (other.source, other.port) != (link.source, link.port)
            for other in self.graph.links
        )

    def _lane(self, link: Link, top: int, bottom: int) -> int:
        columns, source = self.graph.columns, (link.source, link.port)
        ends = self.placed[link.source].box, self.placed[link.target].box
        if not any(box.is_bar for box in ends):
            for number, column in enumerate(columns):
                if not column.members and column.source == source:
                    return number
        columns.append(Column([], top, bottom, source=source))
        return len(columns) - 1
