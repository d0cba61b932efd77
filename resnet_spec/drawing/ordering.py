"""The layout of a block's graph, second part: the order of its columns from left to right.

Orders are compared by their cost: lines that cross, overlap or run through a box, and the total
length of horizontal lines. With few columns all orders are tried; with more, columns are moved as
long as that lowers the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

from resnet_spec.drawing.columns import Graph, Link

BETWEEN_BOXES, BESIDE_LINE, BETWEEN_LINES = 18.0, 13.0, 12.0
_CROSSING, _ALONG, _THROUGH = 260.0, 400.0, 3000.0
_ALL_ORDERS = 6  # columns, up to which all orders are tried
_EFFORT = 10_000_000  # steps of comparing lines, after which the best order so far is taken

Order = Sequence[int]
Gaps = dict[tuple[int, int], float | None]


def arrange(graph: Graph) -> None:
    """Give every column its place."""
    count = len(graph.columns)
    search = _Search(graph)
    best: tuple[float, Order] = (search.price(range(count)), range(count))
    if count <= _ALL_ORDERS:
        best = min((search.price(order), order) for order in permutations(range(count)))
    else:
        best = _improved(search, best)
    places = search.places(best[1])
    for number, column in enumerate(graph.columns):
        column.x = places[number]


def _improved(search: _Search, best: tuple[float, Order]) -> tuple[float, Order]:
    count = len(best[1])
    left = _EFFORT // max(1, len(search.graph.links) ** 2)
    better = True
    while better:
        better = False
        for i in range(count):
            for j in range(count):
                left -= 1
                if left < 0:
                    return best
                order = list(best[1])
                order.insert(j, order.pop(i))
                price = search.price(order)
                if price < best[0] - 1e-9:
                    best, better = (price, order), True
    return best


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.bars = {p.layer: i for i, p in reversed(list(enumerate(graph.placed))) if p.box.is_bar}
        self.halves: list[dict[int, float]] = [
            {graph.placed[i].layer: graph.placed[i].width / 2 for i in column.members}
            for column in graph.columns
        ]
        numbers = range(len(graph.columns))
        self.gaps: Gaps = {(a, b): self._gap(a, b) for a in numbers for b in numbers if a < b}

    # - places -

    def _gap(self, a: int, b: int) -> float | None:
        """The distance that two columns need; None where they share no layer."""
        first, second = self.graph.columns[a], self.graph.columns[b]
        need: float | None = None
        for layer in range(max(first.top, second.top), min(first.bottom, second.bottom) + 1):
            left, right = self.halves[a].get(layer, 0.0), self.halves[b].get(layer, 0.0)
            bar = self.bars.get(layer)
            if (
                bar is not None
                and not (left and right)
                and self._meet(a, bar)
                and self._meet(b, bar)
            ):
                left = right = 0.0
            space = BETWEEN_BOXES if left and right else BESIDE_LINE if left or right else 0.0
            need = max(need or 0.0, left + right + (space or BETWEEN_LINES))
        return need

    def _meet(self, column: int, bar: int) -> bool:
        """Whether a column's lines begin or end at a bar."""
        return bar in self.graph.columns[column].members or any(
            link.lane == column and bar in (link.source, link.target) for link in self.graph.links
        )

    def places(self, order: Order) -> dict[int, float]:
        """Every column as near to the main one, which stands at 0, as its neighbours let it."""
        order = list(order)
        middle = order.index(0)
        found = {0: 0.0}
        for k in range(middle + 1, len(order)):
            gaps = [(j, self._between(order[j], order[k])) for j in range(middle, k)]
            near = [found[order[j]] + gap for j, gap in gaps if gap is not None]
            found[order[k]] = max(near, default=BETWEEN_LINES)
        for k in reversed(range(middle)):
            gaps = [(j, self._between(order[k], order[j])) for j in range(k + 1, middle + 1)]
            near = [found[order[j]] - gap for j, gap in gaps if gap is not None]
            found[order[k]] = min(near, default=-BETWEEN_LINES)
        return found

    def _between(self, a: int, b: int) -> float | None:
        return self.gaps[min(a, b), max(a, b)]

    # - prices -

    def price(self, order: Order) -> float:
        places = self.places(order)
        return (
            self._price_of_lines(places)
            + self._price_of_bars(places)
            + self._price_of_sides(places)
            + 0.15 * (max(places.values()) - min(places.values()))
        )

    def _price_of_lines(self, places: dict[int, float]) -> float:
        graph, total = self.graph, 0.0
        across = [piece for link in graph.links for piece in self._across(link, places)]
        down = [
            (places[e.lane], graph.placed[e.source].layer, graph.placed[e.target].layer, e)
            for e in graph.links
        ]
        for layer, low, high, link in across:
            total += high - low
            value = (link.source, link.port)
            for x, top, bottom, other in down:
                if low < x < high and top < layer < bottom and value != (other.source, other.port):
                    total += _CROSSING
            if layer != int(layer):
                continue
            for layer2, low2, high2, other in across:
                along = layer2 == layer and low < high2 and low2 < high
                if along and value != (other.source, other.port):
                    total += _ALONG
            for i, placed in enumerate(graph.placed):
                inside = placed.layer == layer and low < places[placed.column] < high
                if inside and i not in (link.source, link.target):
                    total += _THROUGH
        return total

    def _across(
        self, link: Link, places: dict[int, float]
    ) -> list[tuple[float, float, float, Link]]:
        """The pieces of a line that run across: the layer, between layers where it is no whole."""
        source, target = self.graph.placed[link.source], self.graph.placed[link.target]
        lane, found = places[link.lane], []
        start = lane if source.box.is_bar else places[source.column]
        end = lane if target.box.is_bar else places[target.column]
        if start != lane:
            found.append((source.layer + 0.4, *sorted((start, lane)), link))
        if end != lane:
            layer = target.layer - (0.0 if target.box.is_join else 0.4)
            found.append((layer, *sorted((lane, end)), link))
        return found  # type: ignore[return-value]

    def _price_of_bars(self, places: dict[int, float]) -> float:
        """Bars are short, no line passes through them, and their ports are in order."""
        graph, total = self.graph, 0.0
        for i, placed in enumerate(graph.placed):
            if not placed.box.is_bar:
                continue
            own = [link for link in graph.links if i in (link.source, link.target)]
            lanes = [places[link.lane] for link in own]
            low, high = min(lanes), max(lanes)
            total += 0.2 * (high - low)
            for link in graph.links:
                top, bottom = graph.placed[link.source].layer, graph.placed[link.target].layer
                inside = top < placed.layer < bottom and low - 4 < places[link.lane] < high + 4
                if inside and i not in (link.source, link.target):
                    total += _THROUGH
            if placed.box.kind == "split":
                ports = sorted((e.port, places[e.lane]) for e in own if e.source == i)
            else:
                ports = sorted((e.slot, places[e.lane]) for e in own if e.target == i)
            total += 40 * sum(a[1] > b[1] for a, b in pairwise(ports))
        return total

    def _price_of_sides(self, places: dict[int, float]) -> float:
        """Shortcuts stand to the right, as in the paper."""
        total = 0.0
        for number, column in enumerate(self.graph.columns):
            left = max(0.0, -places[number])
            total += 0.02 * left
            if number and not column.members and column.source[0] == 0:
                total += 0.3 * left
            if any(self.graph.placed[i].box.shortcut for i in column.members):
                total += 0.5 * left
        return total
