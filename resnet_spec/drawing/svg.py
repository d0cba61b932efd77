"""A picture as SVG text: numbers rounded, light colours as attributes, dark ones by one rule.

Attributes are what office programs and converters read; browsers let the rule win. There are no
`var()`, markers, filters, `use` and foreign objects: each is unknown to some program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from resnet_spec.diagnostics import escapes
from resnet_spec.drawing.scene import Circle, Group, Mark, Point, Rect, Stroke, Text, Wire, styles
from resnet_spec.drawing.text_width import is_measured
from resnet_spec.drawing.theme import COLORS, Paint, Theme

_FONT = "Helvetica, Arial, 'Liberation Sans', 'Nimbus Sans', sans-serif"
_ROUND = 5.0  # radius of the corners of lines
_TIP = (6.5, 3.2)  # length and half the width of an arrow's tip


class Picture(NamedTuple):
    """Marks on a page of a size; `key` begins the ids, so that pages may hold many pictures."""

    width: float
    height: float
    marks: tuple[Mark, ...]
    key: str
    title: str
    description: str


def render(picture: Picture, theme: Theme = "auto", header: Sequence[str] = ()) -> str:
    """The text of an SVG file; the lines of `header` stand at its top, unseen."""
    writer = _Writer(theme)
    body = "\n".join(writer.marks(picture.marks))
    size = f'width="{_number(picture.width)}" height="{_number(picture.height)}"'
    view = f'viewBox="0 0 {_number(picture.width)} {_number(picture.height)}"'
    key = escapes.html(picture.key)
    told = "\n".join(map(escapes.html, header))
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img" lang="en" '
            f'aria-labelledby="{key}-title {key}-desc" font-family="{_FONT}">\n',
            f'<title id="{key}-title">{escapes.html(picture.title)}</title>\n',
            f'<desc id="{key}-desc">{escapes.html(picture.description)}</desc>\n',
            f"<metadata>\n{told}\n</metadata>\n" if header else "",
            _dark_rules(styles(picture.marks)) if theme == "auto" else "",
            f"{body}\n</svg>\n",
        )
    )


def _dark_rules(used: set[str]) -> str:
    rules = []
    for name, colors in COLORS.items():
        if name in used:
            given = [("fill", colors.dark.fill), ("stroke", colors.dark.stroke)]
            said = ";".join(f"{key}:{value}" for key, value in given if value)
            rules.append(f".rs-{name}{{{said}}}")
    dark = "@media screen and (prefers-color-scheme:dark)"
    return f"<style>{dark}{{{''.join(rules)}}}</style>\n"


class _Writer:
    def __init__(self, theme: Theme) -> None:
        self.theme = theme

    def marks(self, marks: Sequence[Mark]) -> Iterator[str]:
        for mark in marks:
            match mark:
                case Rect():
                    yield self.rect(mark)
                case Circle():
                    place = _attributes(cx=mark.x, cy=mark.y, r=mark.radius)
                    yield f'<circle{place} stroke-width="1.2"{self.paint(mark.style)}/>'
                case Text():
                    yield self.text(mark)
                case Stroke():
                    yield self.stroke(mark)
                case Wire():
                    yield from self.wire(mark)
                case Group():
                    yield f"<g><title>{escapes.html(mark.title)}</title>" if mark.title else "<g>"
                    yield from self.marks(mark.marks)
                    yield "</g>"

    def paint(self, style: str) -> str:
        colors: Paint = COLORS[style].dark if self.theme == "dark" else COLORS[style].light
        name = f' class="rs-{style}"' if self.theme == "auto" else ""
        stroke = f' stroke="{colors.stroke}"' if colors.stroke else ""
        return f'{name} fill="{colors.fill or "none"}"{stroke}'

    def rect(self, mark: Rect) -> str:
        place = _attributes(x=mark.x, y=mark.y, width=mark.width, height=mark.height)
        more = _attributes(rx=mark.radius) if mark.radius else ""
        more += f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
        more += _attributes(stroke_width=mark.stroke) if mark.stroke != 1 else ""
        return f"<rect{place}{more}{self.paint(mark.style)}/>"

    def text(self, mark: Text) -> str:
        """One line of type; its length is given where it is known, so that any typeface fits.

        In pieces it begins at its left, whatever its anchor: converters misplace pieces otherwise.
        """
        (first, bold), *rest = mark.pieces
        whole = f"<title>{escapes.html(mark.whole)}</title>" if mark.whole else ""
        anchor = mark.anchor if not rest else "start"
        place = _attributes(x=mark.left if rest else mark.x, y=mark.y, font_size=mark.size)
        place += f' text-anchor="{anchor}"' if anchor != "start" else ""
        place += ' font-weight="700"' if bold else ""
        place += ' font-style="italic"' if mark.italic else ""
        if all(is_measured(*piece) for piece in mark.pieces):
            place += _attributes(textLength=mark.width) + ' lengthAdjust="spacingAndGlyphs"'
        # A space at the edge of a piece is dropped by some programs unless it is told to stay.
        place += ' xml:space="preserve"' if rest else ""
        pieces = "".join(
            f'<tspan font-weight="{700 if bold else 400}">{escapes.html(text)}</tspan>'
            for text, bold in rest
        )
        return f"<text{place}{self.paint(mark.style)}>{whole}{escapes.html(first)}{pieces}</text>"

    def stroke(self, mark: Stroke) -> str:
        way = "".join(f"M{_point(start)}L{_point(end)}" for start, end in mark.pieces)
        dash = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
        width = _attributes(stroke_width=mark.width)
        return f'<path d="{way}"{width}{dash}{self.paint(mark.style)}/>'

    def wire(self, mark: Wire) -> Iterator[str]:
        points = list(mark.points)
        (x1, y1), (x2, y2) = points[-2:]
        size = max(abs(x2 - x1), abs(y2 - y1)) or 1.0
        ux, uy = (x2 - x1) / size, (y2 - y1) / size
        length, half = _TIP
        base = x2 - ux * length, y2 - uy * length
        points[-1] = x2 - ux * 4, y2 - uy * 4  # under the tip
        dash = ' stroke-dasharray="4 3"' if mark.dashed else ""
        line = f'stroke-width="1.3" stroke-linejoin="round"{dash}{self.paint("line")}'
        yield f'<path d="{_rounded(points)}" {line}/>'
        wings = [(base[0] - uy * half, base[1] + ux * half)]
        wings += [(base[0] + uy * half, base[1] - ux * half)]
        tip = "L".join(map(_point, [(x2, y2), *wings]))
        yield f'<path d="M{tip}Z"{self.paint("tip")}/>'


def _rounded(points: Sequence[Point]) -> str:
    """A line with its corners rounded."""
    way = f"M{_point(points[0])}"
    for a, b, c in zip(points, points[1:], points[2:], strict=False):
        before, after = abs(a[0] - b[0]) + abs(a[1] - b[1]), abs(c[0] - b[0]) + abs(c[1] - b[1])
        radius = min(_ROUND, before / 2, after / 2)
        start = tuple(q + (p - q) / before * radius for p, q in zip(a, b, strict=True))
        end = tuple(q + (p - q) / after * radius for p, q in zip(c, b, strict=True))
        way += f"L{_point((start[0], start[1]))}Q{_point(b)} {_point((end[0], end[1]))}"
    return f"{way}L{_point(points[-1])}"


def _point(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _attributes(**values: float) -> str:
    names = ((name.replace("_", "-"), value) for name, value in values.items())
    return "".join(f' {name}="{_number(value)}"' for name, value in names)


def _number(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
