"""A picture read back from its SVG, with nothing but XML and the table of widths."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from resnet_spec.drawing.text_width import text_width

SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]
OPERATIONS = ("conv", "pool", "gate", "route", "other", "block")  # styles of boxes
_LEGEND = 15  # a box no wider than this shows a colour in the legend


@dataclass(frozen=True)
class Word:
    """A text; `whole` is what it was cut from."""

    text: str
    size: float
    box: Box
    style: str
    whole: str

    @property
    def center(self) -> Point:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass
class Picture:
    """What is on a page, or in one panel of it."""

    title: str = ""
    words: list[Word] = field(default_factory=list)
    boxes: list[tuple[str, Box]] = field(default_factory=list)
    circles: list[Box] = field(default_factory=list)
    wires: list[tuple[Point, ...]] = field(default_factory=list)
    panels: list[Picture] = field(default_factory=list)

    @property
    def operations(self) -> list[tuple[str, Box]]:
        """The boxes of operations, without the legend's."""
        return [
            (style, box)
            for style, box in self.boxes
            if style in OPERATIONS and box[2] - box[0] > _LEGEND
        ]


@dataclass
class Page(Picture):
    """A whole file."""

    width: float = 0
    height: float = 0
    description: str = ""


def read(text: str) -> Page:
    """The page of a file; raises ParseError where it is no XML."""
    root = ET.fromstring(text)
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    page = Page(root.findtext(f"{SVG}title", ""), width=width, height=height)
    page.description = root.findtext(f"{SVG}desc", "")
    _collect(root, page)
    for group in root.iter(f"{SVG}g"):
        panel = Picture(group.findtext(f"{SVG}title", ""))
        _collect(group, panel)
        page.panels.append(panel)
    return page


def _collect(root: ET.Element, into: Picture) -> None:
    way: tuple[Point, ...] = ()
    for element in root.iter():
        style = element.get("class", "").removeprefix("rs-")
        match element.tag.removeprefix(SVG):
            case "text":
                into.words.append(_word(element, style))
            case "rect":
                x, y, w, h = (float(element.attrib[k]) for k in ("x", "y", "width", "height"))
                into.boxes.append((style, (x, y, x + w, y + h)))
            case "circle":
                x, y, r = (float(element.attrib[k]) for k in ("cx", "cy", "r"))
                into.circles.append((x - r, y - r, x + r, y + r))
            case "path" if style == "line" and "stroke-linejoin" in element.attrib:
                way = _corners(element.attrib["d"])
            case "path" if style == "tip":
                tip = next(_points(element.attrib["d"]))
                into.wires.append((*way[:-1], tip))


def _word(element: ET.Element, style: str) -> Word:
    size = float(element.attrib["font-size"])
    pieces = [(element.text or "", element.get("font-weight") == "700")]
    whole = ""
    for child in element:
        if child.tag == f"{SVG}title":
            whole = child.text or ""
            pieces.append((child.tail or "", pieces[0][1]))
        else:
            pieces.append((child.text or "", child.get("font-weight") == "700"))
    width = sum(text_width(text, size, bold) for text, bold in pieces)
    x, y = float(element.attrib["x"]), float(element.attrib["y"])
    left = x - {"start": 0, "middle": width / 2, "end": width}[element.get("text-anchor", "start")]
    box = (left, y - 0.73 * size, left + width, y + 0.2 * size)
    return Word("".join(text for text, _ in pieces), size, box, style, whole)


def _points(way: str) -> Iterator[Point]:
    numbers = [float(each) for each in re.findall(r"-?[\d.]+", way)]
    yield from zip(numbers[::2], numbers[1::2], strict=True)


def _corners(way: str) -> tuple[Point, ...]:
    """The corners that a line would have if they were not rounded."""
    steps = re.findall(r"([MLQ])([^MLQ]+)", way)
    curves = [next(_points(numbers)) for letter, numbers in steps if letter == "Q"]
    return (next(_points(steps[0][1])), *curves, next(_points(steps[-1][1])))


def pieces(wire: tuple[Point, ...]) -> Iterator[Box]:
    """The straight pieces of a line."""
    for (x1, y1), (x2, y2) in pairwise(wire):
        yield min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


# --- what is wrong with a picture ----------------------------------------------------------------

UNSAFE = (
    "<script",
    "<use",
    "<marker",
    "<filter",
    "<foreignObject",
    "var(",
    "href",
    "<image",
    "@import",
)


def faults(text: str, page: Page | None = None) -> list[str]:
    """Everything in a picture that an eye would stumble over."""
    page = page or read(text)
    lines = text.splitlines()
    found = [f"{each} occurs" for each in UNSAFE if each in text]
    if not (page.title and page.description and 'role="img"' in lines[0]):
        found.append("nothing is said to those who hear it")
    found += _words(page)
    found += _overlaps(page)
    for panel in page.panels:
        found += _wires(panel)
    return found + list(_strip(page))


def meet(a: Box, b: Box, slack: float) -> bool:
    """Whether two boxes overlap by more than the slack."""
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


def inside(a: Box, b: Box, margin: float) -> bool:
    """Whether a text stands in a box, with room at its sides."""
    return (
        a[0] >= b[0] + margin
        and a[2] <= b[2] - margin
        and a[1] >= b[1] - 0.5
        and a[3] <= b[3] + 0.5
    )


def _words(page: Page) -> Iterator[str]:
    whole = (0.0, 0.0, page.width, page.height)
    # Letters stand on tiles, which stand in boxes themselves.
    homes = page.operations + [(s, b) for s, b in page.boxes if s in ("panel", "tile", "hollow")]
    for word in page.words:
        if word.size < 11:
            yield f"small type: {word.text}"
        if not inside(word.box, whole, 4):
            yield f"off the page: {word.text}"
        x, y = word.center
        around = [(s, b) for s, b in homes if b[0] <= x <= b[2] and b[1] <= y <= b[3]]
        if around:
            style, home = min(around, key=lambda each: _area(each[1]))
            if not inside(word.box, home, 2.5):
                yield f"over the edge of its {style}: {word.text}"
        for style, box in page.operations:
            if (style, box) not in around and meet(word.box, box, 0.3):
                yield f"on a {style} that is not its own: {word.text}"


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlaps(page: Page) -> Iterator[str]:
    words = sorted(page.words, key=lambda word: word.box[1])
    for i, a in enumerate(words):
        for b in words[i + 1 :]:
            if b.box[1] > a.box[3]:
                break
            if meet(a.box, b.box, 0.5):
                yield f"text on text: {a.text!r} {b.text!r}"
    solid = [box for _, box in page.operations] + page.circles
    yield from (f"box on box: {a} {b}" for a, b in _pairs(solid) if meet(a, b, 0.2))
    panels = [box for style, box in page.boxes if style == "panel"]
    yield from (f"panel on panel: {a} {b}" for a, b in _pairs(panels) if meet(a, b, 0.2))


def _pairs(boxes: list[Box]) -> Iterator[tuple[Box, Box]]:
    return ((a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def _wires(panel: Picture) -> Iterator[str]:
    solid = [box for _, box in panel.operations] + panel.circles
    loose = [word for word in panel.words if not any(inside(word.box, b, 0) for b in solid)]
    # Lines stop a little before a word, and at the edge of a box.
    named = [word.box for word in loose if word.text in ("input", "output")]
    ends = solid + [(b[0], b[1] - 3, b[2], b[3] + 1) for b in named]
    for wire in panel.wires:
        for piece in pieces(wire):
            yield from (f"line through a box: {piece} {b}" for b in solid if _through(piece, b, 1))
            for word in loose:
                if _through(piece, word.box, 0.5):
                    yield f"line through a text: {piece} {word.text}"
        for what, (x, y) in (("begins", wire[0]), ("ends", wire[-1])):
            if not any(b[0] - 1 <= x <= b[2] + 1 and b[1] - 1 <= y <= b[3] + 1 for b in ends):
                yield f"a line {what} nowhere: {x} {y}"
    for i, a in enumerate(panel.wires):
        for b in panel.wires[i + 1 :]:
            if a[0] != b[0] and a[-1] != b[-1] and _along(a, b):
                yield f"line on line: {a} {b}"


def _strip(page: Page) -> Iterator[str]:
    """Of the lines between the sections of a network."""
    panels = {wire for panel in page.panels for wire in panel.wires}
    glyphs = [box for style, box in page.boxes if style in ("map", "stage")]
    for wire in page.wires:
        for piece in pieces(wire) if wire not in panels else ():
            yield from (f"line through a glyph: {b}" for b in glyphs if _through(piece, b, 1))
            for word in page.words:
                if _through(piece, word.box, 0.5):
                    yield f"line through a text: {piece} {word.text}"


def _through(piece: Box, box: Box, slack: float) -> bool:
    return (
        piece[0] < box[2] - slack
        and piece[2] > box[0] + slack
        and piece[1] < box[3] - slack
        and piece[3] > box[1] + slack
    )


def _along(first: tuple[Point, ...], second: tuple[Point, ...]) -> bool:
    """Whether two lines run on one another for a stretch."""
    for a in pieces(first):
        for b in pieces(second):
            for i, j in ((0, 1), (1, 0)):
                flat = a[j] == a[j + 2] == b[j] == b[j + 2]
                if flat and min(a[i + 2], b[i + 2]) - max(a[i], b[i]) > 1:
                    return True
    return False
