"""The network from left to right: a column for each section, with rows as in a table.

That is the paper's table 1, turned. Each section's output is a glyph, as wide as it has channels
and as high as its map, both by their logarithms. More than ten sections go on in a further row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, log2
from typing import NamedTuple

from resnet_spec.drawing.columns import tile_width
from resnet_spec.drawing.figure import Figure, Inset, Section
from resnet_spec.drawing.inset import tile
from resnet_spec.drawing.labels import bracket
from resnet_spec.drawing.scene import Mark, Rect, Stroke, Text, Wire, bold, fitting, text
from resnet_spec.drawing.symbols import Symbols, shown
from resnet_spec.drawing.text_width import text_width
from resnet_spec.drawing.words import count, entry, size

MARGIN = 24.0
MOST = 10  # sections in a row
_GUTTER, _FIRST = 92.0, 52.0  # widths of the column of headings, and of that of the input
_AXIS, _NAMES = 36.0, 86.0  # from the top of a row to the middle of the glyphs, and to the names
_LAYERS = 6  # lines of layers, at most
_LINES = 3  # lines of blocks, at most

Run = tuple[Inset, int]


class Cell(NamedTuple):
    """A column: its middle and width, and the section in it; None: the input."""

    x: float
    width: float
    number: int
    section: Section | None


class Strip:
    """All rows of a network's table; `marks` and `height` are what comes out."""

    def __init__(self, figure: Figure, symbols: Symbols, page: float, compact: bool) -> None:
        self.figure, self.symbols, self.page, self.compact = figure, symbols, page, compact
        self.marks: list[Mark] = []
        sections = figure.sections
        rows = max(1, ceil(len(sections) / MOST))
        each = ceil(len(sections) / rows)
        self.column = (page - 2 * MARGIN - _GUTTER - _FIRST) / max(1, each)
        y = 0.0
        for row in range(rows):
            numbers = range(row * each, min(len(sections), (row + 1) * each))
            y = self.row(y, numbers, row == 0, row == rows - 1) + (0 if row == rows - 1 else 14)
        self.height = y

    def row(self, y: float, numbers: range, first: bool, last: bool) -> float:
        left = MARGIN + _GUTTER
        cells = [Cell(left + _FIRST / 2, _FIRST, -1, None)] if first else []
        for place, number in enumerate(numbers):
            x = left + _FIRST + (place + 0.5) * self.column
            cells.append(Cell(x, self.column, number, self.figure.sections[number]))
        self.glyphs(y + _AXIS, cells, first, last)
        y = self.names(y + _NAMES, cells)
        y = (self.block_names if self.compact else self.blocks)(y, cells)
        if not self.compact:
            y = self.layers(y, cells)
            y = self.symbol_rows(y, cells)
        y = self.totals(y, "parameters", cells, [s.parameters for s in self.figure.sections])
        return self.totals(y, "multiply-adds", cells, [s.macs for s in self.figure.sections])

    def add(self, *marks: Mark) -> None:
        self.marks += marks

    def heading(self, y: float, content: str) -> None:
        self.add(text(MARGIN, y, content, 11.5, "soft"))

    # - glyphs -

    def glyph(self, output: Sequence[int]) -> tuple[float, float]:
        """Width by channels, height by resolution."""
        side = output[1] if len(output) == 3 else 1
        top = log2(max(self.figure.network.input.dimensions[1:2] or (2,)) + 1)
        tall = 10 + 56 * min(1.0, log2(side + 1) / top) ** 1.6 if side > 1 else 10
        wide = 6 + min(1.0, log2(output[0]) / 11) ** 1.7 * min(46.0, max(8.0, self.column - 44))
        return round(wide, 1), round(tall, 1)

    def glyphs(self, axis: float, cells: Sequence[Cell], first: bool, last: bool) -> None:
        before = None if first else MARGIN + _GUTTER
        for cell in cells:
            wide, tall = self.glyph(_output(self.figure, cell))
            if before is not None:
                self.add(Wire(((before + 4, axis), (cell.x - wide / 2 - 3, axis))))
            style = "stage" if cell.section and cell.section.runs else "map"
            self.add(Rect(cell.x - wide / 2, axis - tall / 2, wide, tall, style, 2))
            before = cell.x + wide / 2
        if not last and before is not None:
            self.add(Wire(((before + 4, axis), (self.page - MARGIN, axis))))

    # - rows -

    def names(self, y: float, cells: Sequence[Cell]) -> float:
        for cell in cells:
            name = cell.section.label if cell.section else "input"
            room = cell.width - 4
            self.add(fitting(bold(text(cell.x, y, name, 12.5, "ink", "middle")), room))
            output = size(_output(self.figure, cell))
            style = "ink" if cell.section else "soft"
            # The input's column is narrow, but nothing stands to its left.
            room = cell.width + (14 if cell.section is None else -4)
            self.add(_smaller(text(cell.x, y + 17, output, 12, style, "middle"), room))
        self.heading(y + 17, "output")
        return y + 28

    def blocks(self, y: float, cells: Sequence[Cell]) -> float:
        """Letters with how often each comes, one after the other."""
        deepest = y
        for cell in cells:
            runs = cell.section.runs if cell.section else []
            lines: list[list[Run] | None] = [*_lines(runs, cell.width - 8)] if runs else []
            if len(lines) > _LINES:
                lines = [lines[0], None, lines[-1]]
            top = y
            for line in lines:
                if line is None:
                    self.add(text(cell.x, top + 9, "…", 12, "soft", "middle"))
                    top += 14
                else:
                    self.add(*_runs(cell.x, top, line))
                    top += 21
            deepest = max(deepest, top)
        if deepest > y:
            self.heading(y + 13, "blocks")
            return deepest + 6
        return y

    def block_names(self, y: float, cells: Sequence[Cell]) -> float:
        """The same in words: a strip alone has nothing that a letter could stand for."""
        said = {}
        for cell in cells:
            runs = cell.section.runs if cell.section else []
            if runs:
                names = ", ".join(dict.fromkeys(inset.title for inset, _ in runs))
                said[cell] = (f"{sum(number for _, number in runs)}×", names)
        if not said:
            return y
        room = self.column - 6
        two = any(text_width(" ".join(each), 12) > room for each in said.values())
        for cell, (times, names) in said.items():
            if two:
                self.add(bold(text(cell.x, y + 13, times, 12, "ink", "middle")))
                self.add(fitting(text(cell.x, y + 28, names, 11.5, "ink", "middle"), room))
            else:
                self.add(text(cell.x, y + 13, f"{times} {names}", 12, "ink", "middle"))
        self.heading(y + 13, "blocks")
        return y + (38 if two else 24)

    def layers(self, y: float, cells: Sequence[Cell]) -> float:
        most = 0
        for cell in cells:
            lines = bracket(self.figure, cell.number) if cell.section else []
            said = [self.layer(line, cell.width - 6) for line in lines]
            if len(said) > _LAYERS:
                said = [*said[: _LAYERS - 1], "…"]
            for place, content in enumerate(said):
                mark = text(cell.x, y + 10 + 15 * place, content, 11.5, "ink", "middle")
                self.add(_smaller(mark, cell.width - 6))
            most = max(most, len(said))
        if not most:
            return y
        self.heading(y + 10, "layers")
        return y + 15 * most + 5

    def layer(self, line: tuple[str, Inset | None, int], room: float) -> str:
        content = entry(*line)
        if line[1] is not None and text_width(content, 11) > room:
            return entry(f"block {line[1].label}", None, line[2])
        return content

    def symbol_rows(self, y: float, cells: Sequence[Cell]) -> float:
        """What each symbol stands for; channels come first."""
        meanings = self.symbols.meanings
        names = sorted(self.symbols.table, key=lambda name: meanings[name] != "channels")
        for name in names:
            values = self.symbols.table[name]
            known = [cell for cell in cells if cell.number in values]
            if not known:
                continue
            self.heading(y + 10, f"{meanings[name]} {name}")
            for cell in known:
                mark = text(cell.x, y + 10, shown(values[cell.number]), 11.5, "ink", "middle")
                self.add(_smaller(mark, cell.width - 4))
            y += 16
        return y + 2

    def totals(self, y: float, name: str, cells: Sequence[Cell], values: Sequence[int]) -> float:
        """A number for each section, and a bar that is full for the largest."""
        self.add(Stroke((((MARGIN, y), (self.page - MARGIN, y)),), "rule"))
        self.heading(y + 15, name)
        largest = max(values, default=0)
        for cell in cells:
            if cell.section is None:
                continue
            value = values[cell.number]
            style = "ink" if value else "soft"
            said = count(value) if value else "–"
            self.add(text(cell.x, y + 15, said, 12, style, "middle"))
            width = min(76.0, cell.width - 16)
            left = cell.x - width / 2
            self.add(Rect(left, y + 20, width, 5, "track", 2.5))
            if value:
                self.add(Rect(left, y + 20, max(1.5, width * value / largest), 5, "bar", 2.5))
        return y + 33


def _output(figure: Figure, cell: Cell) -> tuple[int, ...]:
    return cell.section.output if cell.section else figure.network.input.dimensions


def _smaller(mark: Text, room: float) -> Text:
    """The text in smaller type where it is too wide, and cut where that is not enough."""
    if mark.width > room:
        mark = mark._replace(size=11)
    return fitting(mark, room)


# --- runs of blocks ------------------------------------------------------------------------------


def _width(runs: Sequence[Run]) -> float:
    total = 9.0 * (len(runs) - 1)
    for inset, times in runs:
        total += tile_width(inset.label, 18)
        total += 4 + text_width(f"×{times}", 12, True) if times > 1 else 0
    return total


def _lines(runs: Sequence[Run], room: float) -> Iterator[list[Run]]:
    """Runs in as few lines as fit."""
    line: list[Run] = []
    for run in runs:
        if line and _width([*line, run]) > room:
            yield line
            line = []
        line.append(run)
    yield line


def _runs(middle: float, y: float, runs: Sequence[Run]) -> Iterator[Mark]:
    x = middle - _width(runs) / 2
    for inset, times in runs:
        yield from tile(x, y, inset)
        x += tile_width(inset.label, 18)
        if times > 1:
            mark = bold(text(x + 4, y + 13.2, f"×{times}", 12))
            yield mark
            x += 4 + mark.width
        x += 9
