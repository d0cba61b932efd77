"""Plots of what the sections of a network cost: a bar for each, drawn as the pictures are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from resnet_spec.drawing.scene import Mark, Rect, Stroke, fitting, text
from resnet_spec.drawing.svg import Picture
from resnet_spec.drawing.text_width import text_width
from resnet_spec.drawing.words import count
from resnet_spec.ir import Network
from resnet_spec.ir.summary import Section, Summary, peak_activations

_WIDTH, _ROW, _NAMES, _SIZE = 460.0, 24.0, 92.0, 12.5
_SMALL, _EDGE = 11.5, 4.0


class Plot(NamedTuple):
    """A quantity of each section; None where it has no bound, as what sees the whole input.

    `limit` is a number that the bars are compared with, and what it is.
    """

    kind: str
    title: str
    values: tuple[int | None, ...]
    limit: tuple[int, str] | None = None


def plots(network: Network, summary: Summary) -> list[Plot]:
    """Parameters, multiply-adds, memory and receptive fields of all sections."""
    sections = summary.sections
    size = max(network.input.height or 1, network.input.width or 1)

    def plot(kind: str, title: str, value: Callable[[Section], int | None]) -> Plot:
        return Plot(kind, title, tuple(map(value, sections)))

    memory = Plot(
        "peak-activation",
        "Peak activation, in elements of one sample",
        tuple(peak_activations(network)),
    )
    fields = plot("fields", "Receptive field, in pixels", lambda each: each.receptive_field)
    return [
        plot("parameters", "Parameters", lambda each: each.parameters),
        plot("multiply-adds", "Multiply-adds", lambda each: each.macs),
        memory,
        fields._replace(limit=(size, "size of the input")),
    ]


def picture(network: Network, names: Sequence[str], plot: Plot) -> Picture:
    """A plot as bars from left to right, one below the other."""
    known = [value for value in plot.values if value is not None]
    largest = max([1, *known, *([plot.limit[0]] if plot.limit else [])])
    labels = [_label(value) for value in plot.values]
    right = max(text_width(label, _SIZE) for label in labels)
    room = _WIDTH - _NAMES - right - 20 - _EDGE
    marks: list[Mark] = [Rect(0, 0, _WIDTH, _height(plot), "page")]
    for place, (name, value, label) in enumerate(zip(names, plot.values, labels, strict=True)):
        y = place * _ROW
        length = room if value is None else room * value / largest
        marks.append(fitting(text(_EDGE, y + 16, name, _SIZE), _NAMES - 8 - _EDGE))
        marks.append(Rect(_NAMES, y + 5, room, 14, "track", 2))
        if length:
            marks.append(Rect(_NAMES, y + 5, max(1.0, length), 14, "bar", 2))
        marks.append(text(_WIDTH - _EDGE, y + 16, label, _SIZE, anchor="end"))
    if plot.limit:
        marks += _limit(plot, _NAMES + room * plot.limit[0] / largest)
    told = ", ".join(
        f"{name} {_told(value)}" for name, value in zip(names, plot.values, strict=True)
    )
    limit = f"; {plot.limit[1]} {plot.limit[0]:,}" if plot.limit else ""
    key = f"rs-{network.name}-plot-{plot.kind}"
    return Picture(_WIDTH, _height(plot), tuple(marks), key, plot.title, f"{told}{limit}.")


def _height(plot: Plot) -> float:
    return len(plot.values) * _ROW + (18 if plot.limit else 2)


def _limit(plot: Plot, x: float) -> list[Mark]:
    assert plot.limit is not None
    bottom = len(plot.values) * _ROW
    said = f"{plot.limit[1]}: {plot.limit[0]:,}"
    left = min(x, _WIDTH - text_width(said, _SMALL) - _EDGE - 1)
    line = Stroke((((x, 1), (x, bottom)),), "sign", 1.2, "4 3")
    return [line, text(left, bottom + 13, said, _SMALL, "soft")]


def _label(value: int | None) -> str:
    if value is None:
        return "all"
    return count(value) if value >= 10_000 else f"{value:,}"


def _told(value: int | None) -> str:
    return "the whole input" if value is None else f"{value:,}"
