"""A picture of many variants by two numbers each, and of those that no other is better than."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from resnet_spec.drawing.scene import Circle, Group, Mark, Rect, Stroke, bold, fitting, text
from resnet_spec.drawing.svg import Picture
from resnet_spec.drawing.words import count

WIDTH, HEIGHT = 760.0, 480.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 92.0, 30.0, 88.0, 66.0
_TICKS = 5
_CELL = 3.0  # points nearer than this are drawn once


class Point(NamedTuple):
    """A variant: what stands for it, and its two numbers."""

    label: str
    x: float
    y: float


class Axis(NamedTuple):
    """What is drawn along an axis; `most` tells that more of it is better."""

    name: str
    most: bool = False

    @property
    def goal(self) -> str:
        """What of it is better, in words."""
        return f"{self.name} ({'more' if self.most else 'less'} is better)"


def front(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """The points than which no other is better in one number and as good in the other, along x."""
    signs = (-1 if x.most else 1), (-1 if y.most else 1)
    best = math.inf
    found = []
    for point in sorted(points, key=lambda p: (signs[0] * p.x, signs[1] * p.y, p.label)):
        if signs[1] * point.y < best:
            best = signs[1] * point.y
            found.append(point)
    return sorted(found, key=lambda point: point.x)


def scatter(points: Sequence[Point], x: Axis, y: Axis, title: str) -> Picture:
    """All points, those of the front joined and told by their names where a pointer rests."""
    best = front(points, x, y)
    across = _Scale([p.x for p in points], _LEFT, WIDTH - _RIGHT)
    upward = _Scale([p.y for p in points], HEIGHT - _BOTTOM, _TOP)
    marks: list[Mark] = [Rect(0, 0, WIDTH, HEIGHT, "page")]
    marks.append(fitting(bold(text(24, 32, title, 15)), WIDTH - 48))
    marks.append(text(24, 50, f"{len(points):,} variants, {len(best):,} on the front", 11, "soft"))
    marks += _grid(across, upward)
    marks.append(text(WIDTH - _RIGHT, HEIGHT - 20, x.goal, 12, "ink", "end"))
    marks.append(text(_LEFT, _TOP - 12, y.goal, 12))
    places = [(across.at(p.x), upward.at(p.y)) for p in best]
    dots = _dots(points, set(best), across, upward)
    marks.append(Group(tuple(dots)))
    marks.append(Stroke(tuple(pairwise(places)), "conv-rule", 1.5))
    marks += [
        Group((Circle(*place, 4.5, "conv"),), f"{point.label}: {_told(point, x, y)}")
        for point, place in zip(best, places, strict=True)
    ]
    told = "; ".join(f"{point.label}: {_told(point, x, y)}" for point in best[:20])
    description = f"{len(points):,} variants by {x.name} and {y.name}. On the front: {told}."
    return Picture(WIDTH, HEIGHT, tuple(marks), "rs-sweep", title, description)


def _told(point: Point, x: Axis, y: Axis) -> str:
    return f"{x.name} {_number(point.x)}, {y.name} {_number(point.y)}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


class _Scale:
    """Numbers along an axis of the page, from round numbers to round numbers."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        spread = high - low or abs(high) or 1
        self.step = _round_step(spread / _TICKS)
        self.low = math.floor(low / self.step) * self.step
        self.high = math.ceil(high / self.step) * self.step
        if self.high == self.low:
            self.high = self.low + self.step
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        steps = round((self.high - self.low) / self.step)
        values = [self.low + number * self.step for number in range(steps + 1)]
        return [(self.at(each), _tick(each)) for each in values]


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5, times a power of ten, that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _tick(value: float) -> str:
    if abs(value) >= 1000:
        return count(round(value)) if value > 0 else f"{value:,.0f}"
    return f"{value:.6g}"


def _grid(across: _Scale, upward: _Scale) -> Iterator[Mark]:
    bottom, top = HEIGHT - _BOTTOM, _TOP
    lines = [((place, bottom), (place, top)) for place, _ in across.ticks()]
    lines += [((_LEFT, place), (WIDTH - _RIGHT, place)) for place, _ in upward.ticks()]
    yield Stroke(tuple(lines), "rule")
    for place, told in across.ticks():
        yield text(place, bottom + 18, told, 11, "soft", "middle")
    for place, told in upward.ticks():
        yield text(_LEFT - 10, place + 4, told, 11, "soft", "end")


def _dots(
    points: Sequence[Point], best: set[Point], across: _Scale, upward: _Scale
) -> Iterator[Mark]:
    """The points beside the front; of many in one place, one."""
    seen = set()
    for point in points:
        place = across.at(point.x), upward.at(point.y)
        cell = round(place[0] / _CELL), round(place[1] / _CELL)
        if point not in best and cell not in seen:
            seen.add(cell)
            yield Circle(*place, 2, "map")
