"""What a network computes, as a graph: each value is a number, equal where the value is.

A value's meaning is what makes it: the kind of the operation, the numbers of its inputs and every
attribute that changes the result; of a layer with parameters its dotted name, too. Meanings are
interned, so two programs compute the same where the numbers of their outputs are equal. What the
frameworks and the IR spell in several ways (padding that follows from the size, windows of one,
sums of many values) has one spelling here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from resnet_spec.primitives import Initializer, distribution

Pair = tuple[int, int]  # of height and width
Padding = Literal["same"] | tuple[Pair, Pair]  # (above, below), (left, right)
Drawn = tuple[float, float, bool]  # mean, standard deviation, whether uniform

NONNEGATIVE = frozenset({"relu", "sigmoid", "hard_sigmoid", "softmax"})
# No output of these is below zero if no input is.
PRESERVING = frozenset(
    {
        *("max_pool", "avg_pool", "subsample", "take", "concat", "stack_rows", "shuffle", "add"),
        *("multiply", "zero_pad", "pad_channels", "dropout", "drop_path", "global_avg_pool"),
        *("global_max_pool", "channel_avg_pool", "channel_max_pool", "adaptive_avg_pool"),
        *("flatten", "reflect"),
    }
)


class Meaning(NamedTuple):
    """What makes a value: an operation with numbers, and the numbers of its inputs."""

    kind: str
    name: str  # of the layer whose parameters take part, dotted
    inputs: tuple[int, ...]
    attributes: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        attributes = ", ".join(f"{key} {value}" for key, value in self.attributes)
        return f"{self.kind}({attributes})"


class Window(NamedTuple):
    """A sliding window, in pairs of height and width."""

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair = (1, 1)

    def __str__(self) -> str:
        return " ".join(f"{key} {value}" for key, value in self._asdict().items())

    @functools.cache  # noqa: B019 - of values that are alike everywhere
    def fitted(self) -> Window:
        """Padding by the size of the input as numbers, where the size makes no difference."""
        if self.padding != "same":
            return self
        near = []
        for kernel, stride, dilation in zip(self.kernel, self.stride, self.dilation, strict=True):
            half, odd = divmod(dilation * (kernel - 1), 2)
            if odd or (kernel > 1 and stride > 1):
                return self
            near.append(half)
        return self._replace(padding=even(near[0], near[1]))

    def size(self, axis: int, given: int, ceil: bool = False) -> int:
        """Rows (axis 0) or columns of the output."""
        stride = self.stride[axis]
        if self.padding == "same":
            return -(-given // stride)
        extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        room = given + sum(self.padding[axis]) - extent
        if room < 0:
            raise ValueError(f"a window of {extent} does not fit into {given}")
        return (-(-room // stride) if ceil else room // stride) + 1


def even(rows: int, columns: int) -> tuple[Pair, Pair]:
    """As many rows and columns on both sides."""
    return ((rows, rows), (columns, columns))


@functools.cache
def drawn(given: Initializer, shape: tuple[int, ...]) -> Drawn:
    """How the IR says that a parameter begins."""
    return rounded(*distribution(given, shape))


def rounded(mean: float, deviation: float, uniform: bool = False) -> Drawn:
    return (float(mean), float(f"{deviation:.9g}"), uniform and deviation > 0)


class Graph:
    """All meanings by number; 0 is the network's input."""

    def __init__(self) -> None:
        first = Meaning("input", "", (), ())
        self.rows = [first]
        self.numbers = {first: 0}

    def add(self, kind: str, inputs: Iterable[int], name: str = "", **attributes: Any) -> int:
        """The number of a meaning, a new one where it was never met."""
        inputs = tuple(inputs)
        if kind == "adaptive_avg_pool" and attributes["size"] == 1:
            return self.add("global_avg_pool", inputs, keep_map=True)
        before = self.rows[inputs[0]] if kind == "flatten" else None
        if before is not None and before.kind in ("global_avg_pool", "global_max_pool"):
            return self.add(before.kind, before.inputs, keep_map=False)
        meaning = Meaning(kind, name, inputs, tuple(attributes.items()))
        found = self.numbers.get(meaning)
        if found is None:
            found = self.numbers[meaning] = len(self.rows)
            self.rows.append(meaning)
        return found

    # - operations with more than one spelling -

    def conv(
        self,
        x: int,
        name: str,
        window: Window,
        *,
        channels: int,
        filters: int,
        groups: int,
        eps: float | None,
    ) -> int:
        """A convolution; `eps` is that of standardised filters, None where they are not."""
        window = window.fitted()
        seen = {"channels": channels, "filters": filters, "groups": groups, "eps": eps}
        return self.add("conv", [x], name, window=window, **seen)

    def max_pool(self, x: int, window: Window, ceil: bool) -> int:
        """Max pooling; a last window that is cut off is what padding far enough makes of it."""
        if window.kernel == (1, 1) and window.padding in ("same", even(0, 0)):
            return self.subsample(x, window.stride)
        window = window.fitted()
        if ceil and window.padding != "same":
            (above, _), (left, _) = window.padding
            rows, columns = window.stride
            far = ((above, above + rows - 1), (left, left + columns - 1))
            window = window._replace(padding=far)
        return self.add("max_pool", [x], window=window)

    def avg_pool(self, x: int, window: Window, ceil: bool, counted: bool) -> int:
        """Average pooling; `counted` tells whether padding counts as zeros."""
        if window.kernel == (1, 1) and window.padding in ("same", even(0, 0)):
            return self.subsample(x, window.stride)
        if window.padding == "same":
            counted = False
        window = window.fitted()
        if window.padding == even(0, 0):
            counted = True  # as there is nothing to count
            if ceil and window.kernel == window.stride and max(window.kernel) <= 2:
                # A window of two that is cut off lacks the far side alone, as with `same`.
                window, ceil, counted = window._replace(padding="same"), False, False
        return self.add("avg_pool", [x], window=window, ceil=ceil, counted=counted)

    def subsample(self, x: int, stride: Pair) -> int:
        return self.add("subsample", [x], stride=stride) if stride != (1, 1) else x

    def blur(self, x: int, stride: Pair) -> int:
        """(1, 2, 1) / 4 in both directions: the mean of two neighbours, twice."""
        once = self.reflect(x, ((1, 1), (1, 1)))
        for step in ((1, 1), stride):
            once = self.avg_pool(once, Window((2, 2), step, even(0, 0)), ceil=False, counted=True)
        return once

    def reflect(self, x: int, sides: tuple[Pair, Pair]) -> int:
        return self.add("reflect", [x], sides=sides)

    def take(self, x: int, start: int, stop: int, channels: int) -> int:
        if (start, stop) == (0, channels):
            return x
        return self.add("take", [x], start=start, stop=stop)

    def chained(self, kind: str, numbers: Iterable[int]) -> int:
        """A sum or product of many values, from left to right."""
        return functools.reduce(lambda a, b: self.add(kind, [a, b]), numbers)

    def times(self, x: int, factor: float) -> int:
        return self.add("times", [x], factor=float(factor)) if factor != 1 else x

    def plus(self, x: int, offset: float) -> int:
        return self.add("plus", [x], offset=float(offset)) if offset else x

    # - what follows from a graph -

    def reached(self, numbers: Iterable[int]) -> list[int]:
        """These values and all that they come from, in order."""
        waiting, found = [*numbers], set[int]()
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting += self.rows[number].inputs
        return sorted(found)

    def is_nonnegative(self, number: int) -> bool:
        """Whether no value is below zero, whatever the input."""
        waiting, seen = [number], set[int]()
        while waiting:
            row = self.rows[waiting.pop()]
            if row.kind in PRESERVING:
                waiting += set(row.inputs) - seen
                seen.update(row.inputs)
            elif row.kind not in NONNEGATIVE:
                return False
        return True
