"""Values seen through reshapes and transpositions: each axis is a product of factors.

The value itself is a map of rows and columns of channels, in a batch. A model may turn its axes,
split them and join them; as long as every axis is a product of parts of the value's own, nothing is
computed, and what comes after is understood by the factors that it works along. So channels that
are shuffled, parts that are stacked and maps whose channels stand last are all plain maps here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.graph import Value
from resnet_spec.primitives import Shape

BATCH, CHANNELS, ROWS, COLUMNS = "N", "C", "H", "W"


class Factor(NamedTuple):
    """A part of an axis of the value: `C`, or `Ca` and `Cb` where that was split, in this order."""

    name: str
    size: int

    @property
    def axis(self) -> str:
        return self.name[0]


Axis = tuple[Factor, ...]


class View(NamedTuple):
    """A value, and by which factors each axis goes; an axis of size 1 has none."""

    value: Value
    axes: tuple[Axis, ...]

    @property
    def dims(self) -> list[int]:
        """The size of each axis."""
        return [math.prod(factor.size for factor in axis) for axis in self.axes]

    def of(self, value: Value) -> View:
        """Another value of the same shape, seen in the same way."""
        return View(value, self.axes)

    def transposed(self, order: Sequence[int]) -> View:
        """The axes in another order."""
        return View(self.value, tuple(self.axes[each] for each in order))

    def arrangement(self) -> tuple[Axis, ...]:
        """The axes without the batch's factor of one."""
        return tuple(tuple(f for f in axis if f.size != 1) for axis in self.axes)


def plain(value: Value, shape: Shape, batch: int, rank: int = 4) -> View:
    """A map as it is: batch, channels, rows, columns; of rank 2 batch and channels."""
    sizes = zip(
        (BATCH, CHANNELS, ROWS, COLUMNS)[:rank],
        (batch, shape.channels, shape.height or 1, shape.width or 1),
        strict=False,
    )
    return View(value, tuple(_axis(name, size) for name, size in sizes))


def channels_last(value: Value, shape: Shape, batch: int) -> View:
    """A map whose channels stand last."""
    return plain(value, shape, batch).transposed((0, 2, 3, 1))


def _axis(name: str, size: int) -> Axis:
    return (Factor(name, size),) if size != 1 or name == BATCH else ()


def reshaped(view: View, dims: Sequence[int]) -> View:
    """The same numbers in the same order with other axes; factors are split where they must be."""
    waiting = [factor for axis in view.axes for factor in axis]
    axes: list[Axis] = []
    for size in dims:
        axis: list[Factor] = []
        have = 1
        while waiting and (have < size or (waiting[0].name == BATCH and size == waiting[0].size)):
            factor = waiting.pop(0)
            needed = size // have
            if needed and factor.size <= needed and needed % factor.size == 0:
                axis.append(factor)
                have *= factor.size
            elif needed and factor.size % needed == 0:
                axis.append(Factor(f"{factor.name}a", needed))
                waiting.insert(0, Factor(f"{factor.name}b", factor.size // needed))
                have = size
            else:
                _unseen(view, dims)
        if have != size:
            _unseen(view, dims)
        axes.append(_joined(axis))
    if any(factor.size != 1 for factor in waiting):
        _unseen(view, dims)
    return View(view.value, tuple(axes))


def _unseen(view: View, dims: Sequence[int]) -> None:
    sizes = ("x".join(map(str, each)) for each in (view.dims, dims))
    raise Unsupported("a reshape of {} to {} that mixes axes".format(*sizes))


def _joined(axis: Sequence[Factor]) -> Axis:
    """Neighbours that were one factor are one again."""
    result: list[Factor] = []
    for factor in axis:
        result.append(factor)
        while len(result) > 1:
            first, second = result[-2:]
            halves = first.name[-1], second.name[-1]
            if first.name[:-1] != second.name[:-1] or halves != ("a", "b"):
                break
            result[-2:] = [Factor(first.name[:-1], first.size * second.size)]
    return tuple(result)


def layout(view: View, shape: Shape) -> str | None:
    """`NCHW`, `NHWC` or `NC` where the axes are the value's own, each whole; else None."""
    axes = view.arrangement()
    whole = {
        name: ((Factor(name, size),) if size != 1 else ())
        for name, size in (
            (BATCH, math.prod(f.size for f in view.axes[0]) if view.axes else 1),
            (CHANNELS, shape.channels),
            (ROWS, shape.height or 1),
            (COLUMNS, shape.width or 1),
        )
    }
    point = whole[ROWS] == whole[COLUMNS] == ()
    for names in ("NCHW", "NHWC") if len(axes) == 4 else ("NC",):
        fits = len(axes) == len(names) and all(
            axis == whole[name] for axis, name in zip(axes[1:], names[1:], strict=True)
        )
        if fits and (len(names) == 4 or point):
            return names
    return None
