"""The marks that a picture is made of, in units of the page: between the layout and its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from resnet_spec.drawing.text_width import fitted, text_width

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


class Rect(NamedTuple):
    """A rectangle from its upper left corner; `style` names its colours."""

    x: float
    y: float
    width: float
    height: float
    style: str
    radius: float = 0
    dash: str = ""
    stroke: float = 1


class Circle(NamedTuple):
    x: float
    y: float
    radius: float
    style: str


class Text(NamedTuple):
    """One line of type: pieces that are bold or not; `x` is where its `anchor` stands.

    `whole` is the text that was cut to fit, where it was.
    """

    x: float
    y: float  # of the base line
    pieces: tuple[tuple[str, bool], ...]
    size: float
    style: str = "ink"
    anchor: Anchor = "start"
    italic: bool = False
    whole: str = ""

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    @property
    def width(self) -> float:
        return sum(text_width(text, self.size, bold) for text, bold in self.pieces)

    @property
    def left(self) -> float:
        return self.x - {"start": 0.0, "middle": self.width / 2, "end": self.width}[self.anchor]


class Stroke(NamedTuple):
    """Straight pieces, each from a point to a point, that end as they are."""

    pieces: tuple[tuple[Point, Point], ...]
    style: str
    width: float = 1
    dash: str = ""


class Wire(NamedTuple):
    """A line with right angles that ends in an arrow's tip."""

    points: tuple[Point, ...]
    dashed: bool = False


class Group(NamedTuple):
    """Marks that belong together, with a title that is shown where a pointer rests."""

    marks: tuple[Mark, ...]
    title: str = ""


Mark = Rect | Circle | Text | Stroke | Wire | Group


def text(
    x: float,
    y: float,
    content: str,
    size: float,
    style: str = "ink",
    anchor: Anchor = "start",
) -> Text:
    """A text of the usual weight."""
    return Text(x, y, ((content, False),), size, style, anchor)


def bold(mark: Text) -> Text:
    """The same text in bold type."""
    return mark._replace(pieces=tuple((content, True) for content, _ in mark.pieces))


def fitting(mark: Text, room: float) -> Text:
    """A text of one weight, cut to a width, that keeps the whole of it as its title."""
    ((content, bold),) = mark.pieces
    short = fitted(content, mark.size, room, bold)
    if short == content:
        return mark
    return mark._replace(pieces=((short, bold),), whole=content)


def moved(marks: Iterable[Mark], dx: float, dy: float) -> Iterator[Mark]:
    """The marks elsewhere on the page."""

    def point(given: Point) -> Point:
        return given[0] + dx, given[1] + dy

    for mark in marks:
        match mark:
            case Wire():
                yield mark._replace(points=tuple(map(point, mark.points)))
            case Stroke():
                pieces = tuple((point(start), point(end)) for start, end in mark.pieces)
                yield mark._replace(pieces=pieces)
            case Group():
                yield mark._replace(marks=tuple(moved(mark.marks, dx, dy)))
            case _:
                yield mark._replace(x=mark.x + dx, y=mark.y + dy)


def styles(marks: Sequence[Mark]) -> set[str]:
    """The names of all colours that occur."""
    found: set[str] = set()
    for mark in marks:
        match mark:
            case Wire():
                found |= {"line", "tip"}
            case Group():
                found |= styles(mark.marks)
            case _:
                found.add(mark.style)
    return found
