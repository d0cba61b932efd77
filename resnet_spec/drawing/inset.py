"""A panel with one block: its letter, name, number and place, and its graph below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.drawing.boxes import BLOCK, CHAIN, INPUT, MORE, OUTPUT
from resnet_spec.drawing.columns import (
    CIRCLE,
    SMALL,
    SMALL_HEIGHT,
    TILE,
    TITLE,
    TITLE_HEIGHT,
    Graph,
    Placed,
    divided,
    tile_width,
)
from resnet_spec.drawing.figure import Figure, Inset
from resnet_spec.drawing.labels import Drawn
from resnet_spec.drawing.routing import bounds, numbered
from resnet_spec.drawing.scene import (
    Circle,
    Group,
    Mark,
    Point,
    Rect,
    Stroke,
    Text,
    Wire,
    bold,
    fitting,
    moved,
    text,
)
from resnet_spec.drawing.text_width import text_width
from resnet_spec.drawing.theme import CATEGORIES
from resnet_spec.drawing.tower import laid_out
from resnet_spec.drawing.words import role

_PAD, _TOP, _BOTTOM, _NARROWEST = 16.0, 56.0, 14.0, 150.0
_TITLE_SIZE = 13.5


class Panel:
    """A block with its graph laid out; where the panel stands is decided by the page."""

    def __init__(self, figure: Figure, inset: Inset, items: Sequence[Drawn]) -> None:
        self.inset, self.items = inset, items
        self.graph = laid_out(items)
        self.role = role(figure, inset)
        left, _, right, bottom = bounds(self.graph)
        self.left, self.graph_width = left, right - left
        # The letter's tile, the title and the number of uses.
        self.title_left = 12 + tile_width(inset.label, 18) + 8
        self.times_left = self.title_left + text_width(inset.title, _TITLE_SIZE, True) + 8
        head = self.times_left + text_width(self.times, 12) + 12
        below = min(text_width(self.role, SMALL), 240) + 2 * _PAD
        self.width = max(self.graph_width + 2 * _PAD, head, below, _NARROWEST)
        self.height = _TOP + bottom + _BOTTOM

    @property
    def times(self) -> str:
        return f"×{self.inset.count}"

    def marks(self, x: float, y: float, width: float, height: float) -> Group:
        """The panel as large as there is room for."""
        inset = self.inset
        found: list[Mark] = [Rect(x + 0.5, y + 0.5, width - 1, height - 1, "panel", 8)]
        found += tile(x + 12, y + 11, inset)
        base = y + 24.5
        found.append(bold(text(x + self.title_left, base, inset.title, _TITLE_SIZE)))
        found.append(text(x + self.times_left, base, self.times, 12, "soft"))
        found.append(fitting(text(x + 12, y + 43, self.role, SMALL, "soft"), width - 24))
        dx = x + (width - self.graph_width) / 2 - self.left
        found += moved(_graph(self.graph), dx, y + _TOP)
        return Group(tuple(found), f"Block {inset.label}, {inset.title}, {self.role}")


def tile(x: float, y: float, inset: Inset, height: float = 18) -> Iterator[Mark]:
    """The letter of a block: solid, or hollow and dashed for a variant."""
    width = tile_width(inset.label, height)
    if inset.variant == 0:
        yield Rect(x, y, width, height, "tile", 3.5)
    else:
        yield Rect(x + 0.5, y + 0.5, width - 1, height - 1, "hollow", 3.5, "3 2")
    style = "ink" if inset.variant else "tile-text"
    middle, base = x + width / 2, y + height / 2 + 4.1
    yield bold(text(middle, base, inset.label, TILE, style, "middle"))


def category(placed: Placed) -> str:
    """By which colours a box is drawn."""
    kind = placed.box.kind
    if kind == BLOCK:
        named = placed.drawn.lines[0].inset
        return "gate" if named is not None and named.scales else "block"
    return CATEGORIES.get(kind, "other")


def _graph(graph: Graph) -> Iterator[Mark]:
    for link in sorted(graph.links, key=lambda link: not link.dashed):
        yield Wire(link.points, link.dashed)
    for placed in graph.placed:
        yield from _box(placed)
    yield from _numbers(graph)


def _box(placed: Placed) -> Iterator[Mark]:
    kind, first = placed.box.kind, placed.drawn.lines[0].text
    x, y, left = placed.x, placed.y, placed.x - placed.width / 2
    dash = "4 3" if placed.box.shortcut else ""
    if kind in (INPUT, OUTPUT):
        yield Text(x, y + 11, ((first, False),), SMALL, "soft", "middle", italic=True)
    elif placed.box.is_join:
        yield from sign(x, placed.middle, kind == "add")
    elif kind in (CHAIN, MORE) or placed.box.is_bar or kind == "take":
        style = "route" if placed.box.is_bar or kind == "take" else "other"
        radius = 3 if style == "route" else placed.height / 2
        yield Rect(left, y, placed.width, placed.height, style, radius, dash)
        yield text(x, placed.middle + 3.9, first, SMALL, anchor="middle")
    else:
        style = category(placed)
        yield Rect(left, y, placed.width, placed.height, style, 4, dash, 1.2)
        yield from _lines(placed, style)


def sign(x: float, y: float, is_sum: bool) -> Iterator[Mark]:
    """A circle with a plus or a cross."""
    yield Circle(x, y, CIRCLE, "join")
    arm = 4.6 if is_sum else 3.5
    if is_sum:
        pieces = (((x - arm, y), (x + arm, y)), ((x, y - arm), (x, y + arm)))
    else:
        pieces = (
            ((x - arm, y - arm), (x + arm, y + arm)),
            ((x + arm, y - arm), (x - arm, y + arm)),
        )
    yield Stroke(pieces, "sign", 1.7)


def _lines(placed: Placed, style: str) -> Iterator[Mark]:
    x, y = placed.x, placed.y
    left, right = x - placed.width / 2, x + placed.width / 2
    for line in placed.drawn.lines:
        if line.inset is not None:
            width = tile_width(line.inset.label, 16)
            start = x - (width + 6 + text_width(line.text, TITLE, True)) / 2
            yield from tile(start, y + (TITLE_HEIGHT - 16) / 2, line.inset, 16)
            yield bold(text(start + width + 6, y + 16, line.text, TITLE))
            y += TITLE_HEIGHT
        elif line.kind == "title":
            head, rest = divided(line.text)
            pieces = ((head, True), (rest, False)) if rest else ((head, True),)
            yield Text(x, y + 16, pieces, TITLE, "ink", "middle")
            y += TITLE_HEIGHT
        else:
            edge = y + SMALL_HEIGHT if line.kind == "before" else y
            yield Stroke((((left, edge), (right, edge)),), f"{style}-rule", 0.6)
            yield text(x, y + 11.7, line.text, SMALL, anchor="middle")
            y += SMALL_HEIGHT


def _numbers(graph: Graph) -> Iterator[Mark]:
    """The order of a bar's inputs, where they do not lie from left to right."""
    for index in numbered(graph):
        said: dict[Point, list[str]] = {}
        for link in graph.entering(index):
            said.setdefault(link.points[-1], []).append(str(link.slot + 1))
        for (x, y), numbers in said.items():
            yield text(x - 5, y - 8, ", ".join(numbers), SMALL, "soft", "end")
