"""Values of frameworks whose maps are (batch, rows, columns, channels)."""

from __future__ import annotations

from typing import Any, Self

from standins.graph import Pair
from standins.run import Difference, Value, is_range, step, whole


class ChannelsLast(Value):
    """A value whose channels are its last axis."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, *self.dimensions[1:], self.dimensions[0])

    def axis(self, axis: int) -> int:
        """An axis as one of (channels, rows, columns)."""
        rank = len(self.dimensions)
        if not -rank <= axis <= rank or axis == 0:
            raise Difference(f"there is no axis {axis} beside the batch")
        return axis % (rank + 1) % rank

    def taken(self, start: int, stop: int) -> Self:
        number = self.run.graph.take(self.seen(), start, stop, self.channels)
        return self.like(number, (stop - start, *self.dimensions[1:]))

    def __getitem__(self, key: Any) -> Self:
        parts = key if isinstance(key, tuple) else (key,)
        if Ellipsis in parts:
            index = parts.index(Ellipsis)
            missing = len(self.dimensions) + 2 - len(parts)
            parts = (*parts[:index], *[slice(None)] * missing, *parts[index + 1 :])
        parts += (slice(None),) * (len(self.dimensions) + 1 - len(parts))
        if len(parts) == len(self.dimensions) + 1 and all(map(whole, parts[:-1])):
            if is_range(parts[-1]):
                return self.taken(*parts[-1].indices(self.channels)[:2])
        elif len(parts) == 4 and whole(parts[0]) and whole(parts[3]):
            stride: Pair = (step(parts[1]), step(parts[2]))
            _, rows, columns = self.dimensions
            size = (-(-rows // stride[0]), -(-columns // stride[1]))
            number = self.run.graph.subsample(self.seen(), stride)
            return self.like(number, (self.channels, *size))
        raise Difference(f"takes {key}, which is no operation of the IR")
