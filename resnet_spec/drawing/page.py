"""Whole pictures: a page with strip, insets and legend; a strip alone; the insets of one block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.drawing.columns import SMALL
from resnet_spec.drawing.figure import Figure, Inset, figure_of
from resnet_spec.drawing.inset import Panel, category, sign
from resnet_spec.drawing.labels import Drawn, abridged, drawn
from resnet_spec.drawing.scene import Mark, Rect, Stroke, bold, fitting, moved, text
from resnet_spec.drawing.strip import MARGIN, Strip
from resnet_spec.drawing.svg import Picture
from resnet_spec.drawing.symbols import Symbols, shown
from resnet_spec.drawing.text_width import text_width
from resnet_spec.drawing.theme import MEANINGS
from resnet_spec.drawing.words import count, describe, span, title
from resnet_spec.ir import Network

WIDTH = 1000.0  # of a page, unless a block is wider
_GAP, _SPARE = 12.0, 300.0  # between panels, and by how much one is widened at most
_STACKED = 8  # panels in a row of the page, at most


class Drawing:
    """A network with its labels; each method gives a picture of it."""

    def __init__(self, network: Network) -> None:
        self.figure = figure_of(network)
        self.symbols = Symbols(self.figure.insets)
        self.items = {
            inset: abridged(drawn(self.figure, inset, self.symbols)) for inset in self.figure.insets
        }

    @property
    def blocks(self) -> list[str]:
        """The names of the blocks that are drawn."""
        return list(dict.fromkeys(inset.block for inset in self.figure.insets))

    def page(self) -> Picture:
        """The strip, an inset for each block, and what the marks mean."""
        panels = self._panels(self.figure.insets)
        width = max([WIDTH, *(panel.width + 2 * MARGIN for panel in panels)])
        marks, y = _header(self.figure, width)
        strip = Strip(self.figure, self.symbols, width, compact=False)
        marks += moved(strip.marks, 0, y)
        y += strip.height + 6
        for row in packed(panels, width - 2 * MARGIN):
            placed, height = _row(row, y, width)
            marks += placed
            y += height + _GAP
        legend, height = _legend(panels, y + 8, width)
        marks += legend
        return self._picture("page", width, y + 8 + height, marks, self.figure.insets)

    def compact(self) -> Picture:
        """The strip alone."""
        marks, y = _short_header(self.figure, WIDTH)
        strip = Strip(self.figure, self.symbols, WIDTH, compact=True)
        marks += moved(strip.marks, 0, y)
        return self._picture("compact", WIDTH, y + strip.height + 8, marks, ())

    def sections(self) -> Picture:
        """The strip with layers and symbols, for what shows heading and blocks by itself."""
        strip = Strip(self.figure, self.symbols, WIDTH, compact=False)
        return self._picture("all-sections", WIDTH, strip.height + 8, strip.marks, ())

    def block(self, name: str) -> Picture:
        """One block with its variants, side by side, and what its symbols stand for."""
        insets = [inset for inset in self.figure.insets if inset.block == name]
        panels = self._panels(insets)
        height = max(panel.height for panel in panels)
        x, marks = _GAP, list[Mark]()
        for panel in panels:
            marks.append(panel.marks(x, _GAP, panel.width, height))
            x += panel.width + _GAP
        y = height + 28
        for line in self.symbol_lines(insets):
            marks.append(fitting(text(_GAP + 2, y, line, SMALL, "soft"), x - 2 * _GAP - 4))
            y += 15
        return self._picture(name, x, y, marks, insets, sections=False)

    def _panels(self, insets: Sequence[Inset]) -> list[Panel]:
        return [Panel(self.figure, inset, self.items[inset]) for inset in insets]

    def symbol_lines(self, insets: Sequence[Inset]) -> Iterator[str]:
        """`w = 64, 128, 256, 512 in layer1–4`, for the symbols in the labels of these."""
        used = {name for inset in insets for name in _symbols_in(self.items[inset])}
        for name, values in self.symbols.table.items():
            if name in used:
                said = ", ".join(map(shown, values.values()))
                where = span([self.figure.sections[number].label for number in values])
                yield f"{name} = {said} in {where}"

    def _picture(
        self,
        kind: str,
        width: float,
        height: float,
        marks: Sequence[Mark],
        insets: Sequence[Inset],
        sections: bool = True,
    ) -> Picture:
        described = describe(self.figure, {inset: self.items[inset] for inset in insets}, sections)
        ground = Rect(0, 0, width, height, "page", 6)
        network = self.figure.network
        head = title(self.figure) if sections else f"{network.name}: {kind.replace('_', ' ')}"
        key = f"rs-{network.name}-{kind}"
        return Picture(width, height, (ground, *marks), key, head, described)


def _symbols_in(items: Sequence[Drawn]) -> set[str]:
    """The single letters among the words of a block's labels, with a factor or without."""
    words = " ".join(line.text for item in items for line in item.lines if not line.inset)
    letters = (
        word.partition("/")[0].lstrip("0123456789")
        for word in words.replace(",", " ").replace(" /", " ").split()
    )
    return {letter for letter in letters if len(letter) == 1}


# --- the head ------------------------------------------------------------------------------------


def _header(figure: Figure, width: float) -> tuple[list[Mark], float]:
    network, right = figure.network, width - MARGIN
    sums = f"{_parameters(figure)} · {_macs(figure)}"
    total = bold(text(right, 32, sums, 13.5, "ink", "end"))
    source = (network.source or "").replace("https://", "").replace("arxiv.org/abs/", "arXiv:")
    origin = fitting(text(right, 53, source, 12, "soft", "end"), width / 2)
    room = width - 2 * MARGIN - origin.width - 30
    said = " ".join(network.description.split())
    name = bold(text(MARGIN, 38, network.name, 22))
    marks: list[Mark] = [
        fitting(name, width - 2 * MARGIN - total.width - 20),
        fitting(text(MARGIN, 57, said, 13, "soft"), room),
        total,
    ]
    return ([*marks, origin] if source else marks), 68.0


def _short_header(figure: Figure, width: float) -> tuple[list[Mark], float]:
    sums = f"{_parameters(figure)} · {_macs(figure)}"
    total = bold(text(width - MARGIN, 32, sums, 12.5, "ink", "end"))
    name = fitting(bold(text(MARGIN, 32, figure.network.name, 18)), width / 2)
    x = MARGIN + name.width + 12
    said = text(x, 32, " ".join(figure.network.description.split()), 12, "soft")
    return [name, total, fitting(said, total.left - 16 - x)], 44.0


def _parameters(figure: Figure) -> str:
    return f"{count(figure.network.root.parameters)} parameters"


def _macs(figure: Figure) -> str:
    return f"{count(figure.network.root.macs)} multiply-adds"


# --- the panels ----------------------------------------------------------------------------------

Row = list[list[Panel]]  # columns of panels


def packed(panels: Sequence[Panel], room: float) -> list[Row]:
    """The panels in their order, in rows of columns, as low as can be."""
    best: list[tuple[float, list[Row]]] = [(0.0, [])]
    for end in range(1, len(panels) + 1):
        tries = []
        for start in range(max(0, end - _STACKED), end):
            height, row = _best_row(panels[start:end], room)
            tries.append((best[start][0] + height + _GAP, [*best[start][1], row]))
        best.append(min(tries, key=lambda each: (round(each[0], 3), len(each[1]))))
    return best[-1][1]


def _best_row(panels: Sequence[Panel], room: float) -> tuple[float, Row]:
    """The lowest way to stack panels in columns that fit side by side."""
    best: tuple[float, int, Row] | None = None
    for cuts in range(1 << (len(panels) - 1)):
        columns: Row = [[panels[0]]]
        for place, panel in enumerate(panels[1:]):
            if cuts >> place & 1:
                columns.append([])
            columns[-1].append(panel)
        if _width(columns) > room and len(columns) > 1:
            continue
        found = (max(map(_height, columns)), -len(columns), columns)
        if best is None or found[:2] < best[:2]:
            best = found
    assert best is not None
    return best[0], best[2]


def _width(columns: Row) -> float:
    return sum(max(p.width for p in column) for column in columns) + _GAP * (len(columns) - 1)


def _height(column: Sequence[Panel]) -> float:
    return sum(panel.height for panel in column) + _GAP * (len(column) - 1)


def _row(columns: Row, y: float, page: float) -> tuple[list[Mark], float]:
    """The marks of a row of panels, and its height."""
    room, height = page - 2 * MARGIN, max(map(_height, columns))
    most = _SPARE if len(columns) > 1 else 0.0
    spare = max(0.0, min((room - _width(columns)) / len(columns), most))
    x = MARGIN + (room - _width(columns) - spare * len(columns)) / 2
    marks: list[Mark] = []
    for column in columns:
        width, top = max(panel.width for panel in column) + spare, y
        for panel in column:
            tall = panel.height if panel is not column[-1] else y + height - top
            marks.append(panel.marks(x, top, width, tall))
            top += panel.height + _GAP
        x += width + _GAP
    return marks, height


# --- the legend ----------------------------------------------------------------------------------


def _legend(panels: Sequence[Panel], y: float, width: float) -> tuple[list[Mark], float]:
    """What the marks mean that occur, and the height of that."""
    x, top, marks = MARGIN, y, list[Mark]()
    for mark, room, meaning in _meanings(panels):
        need = room + text_width(meaning, SMALL) + 13
        if x + need > width - MARGIN and x > MARGIN:
            x, y = MARGIN, y + 18
        marks += moved(mark, x, y)
        marks.append(text(x + room, y, meaning, SMALL, "soft"))
        x += need
    return marks, y - top + 16


def _meanings(panels: Sequence[Panel]) -> Iterator[tuple[list[Mark], float, str]]:
    """Each as a mark, the room that it takes, and what it means."""
    placed = [each for panel in panels for each in panel.graph.placed]
    boxes = [each.box for each in placed]
    kinds = {box.kind for box in boxes}
    styles = {category(each) for each in placed if not each.box.is_join}
    for style, meaning in MEANINGS.items():
        if style in styles:
            yield [Rect(0, -9, 14, 10, style, 2.5)], 19, meaning
    for kind, meaning in (("add", "sum"), ("multiply", "product")):
        if kind in kinds:
            small = [mark for mark in sign(8, -4, kind == "add") if isinstance(mark, Stroke)]
            yield [*small], 19, meaning
    if any(box.shortcut for box in boxes):
        line = Stroke((((0, -4), (22, -4)),), "line", 1.3, "4 3")
        yield [line], 27, "shortcut that changes its input"
    if any(panel.inset.variant for panel in panels):
        yield [Rect(0.5, -9.5, 13, 11, "hollow", 2.5, "3 2")], 19, "variant"
    titles = [line.text for panel in panels for item in panel.items for line in item.lines]
    if any(" /" in each for each in titles):
        yield [], 0, "/2, /s: stride"
