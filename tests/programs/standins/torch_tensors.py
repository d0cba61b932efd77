"""PyTorch's tensors: values that share storage, are changed in place and are kept for gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

from standins.graph import Drawn, Pair
from standins.run import Difference, Run, Value, is_range, namespace, step, whole

Dims = int | tuple[int, ...]

# What PyTorch keeps for the gradient: the operation's inputs, or its output.
KEEPS_INPUT = frozenset(
    {
        *("conv", "linear", "channel_conv", "batch_norm", "group_norm", "filter_response_norm"),
        *("evo_norm", "threshold", "learned_scale", "silu", "gelu", "hard_sigmoid", "leaky_relu"),
        *("max_pool", "avg_pool", "adaptive_avg_pool", "multiply", "reflect", "global_max_pool"),
        *("channel_max_pool",),
    }
)
KEEPS_OUTPUT = frozenset(
    {"relu", "sigmoid", "tanh", "softmax", "global_max_pool", "channel_max_pool"}
)


class Storage:
    """Memory that several tensors may share; `version` counts the changes in place."""

    def __init__(self) -> None:
        self.version = 0
        self.split = False  # whether tensors of one `chunk` share it
        self.kept: list[tuple[int, str]] = []  # versions that a gradient needs, and whose


class Tensor(Value):
    """A value in memory: reading it after another tensor has changed that memory is a mistake."""

    def __init__(self, run: Run, number: int, dimensions: tuple[int, ...]) -> None:
        super().__init__(run, number, dimensions)
        self.storage = Storage()
        self.version = 0

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, *self.dimensions)

    def seen(self) -> int:
        if self.version != self.storage.version:
            kind = self.run.graph.rows[self.number].kind
            self.run.note(f"a {kind} is read after its memory was changed in place")
        return self.number

    def like(self, number: int, dimensions: tuple[int, ...] | None = None) -> Self:
        made = super().like(number, dimensions)
        row = self.run.graph.rows[number]
        if row.kind in KEEPS_OUTPUT:
            made.keep(row.kind)
        if number != self.number and row.kind in KEEPS_INPUT:
            self.keep(row.kind)
        return made

    def joined(self, kind: str, values: Any) -> Self:
        listed = list(values)
        if kind == "multiply":
            for value in listed:
                value.keep(kind)
        return super().joined(kind, listed)

    def keep(self, kind: str) -> None:
        """Someone needs the present content for a gradient."""
        self.storage.kept.append((self.version, kind))

    def view(self, number: int, dimensions: tuple[int, ...] | None = None) -> Self:
        """A tensor of the same memory."""
        made = self.like(number, dimensions)
        made.storage, made.version = self.storage, self.version
        return made

    def activated(self, kind: str, inplace: bool, **attributes: Any) -> Self:
        """An activation of one input; in place, all that shares the memory changes."""
        if not inplace:
            return self.made(kind, **attributes)
        if self.storage.split:
            raise Difference(f"{kind} in place changes one of several views of one chunk")
        number = self.run.graph.add(kind, [self.seen()], **attributes)
        for version, whose in self.storage.kept:
            if version == self.storage.version:
                self.run.note(f"{kind} in place changes what {whose} keeps for its gradient")
        self.storage.version += 1
        self.number, self.version = number, self.storage.version
        self.keep(kind)
        return self

    # - methods -

    def mean(self, dim: Dims, keepdim: bool = False) -> Self:
        return self._reduced("avg", dim, keepdim)

    def amax(self, dim: Dims, keepdim: bool = False) -> Self:
        return self._reduced("max", dim, keepdim)

    def _axes(self, dim: Dims) -> tuple[int, ...]:
        rank = len(self.dimensions) + 1
        given = (dim,) if isinstance(dim, int) else tuple(dim)
        if any(not -rank <= each < rank for each in given):
            raise Difference(f"there are no dimensions {given} of {rank}")
        return tuple(sorted(each % rank for each in given))

    def _reduced(self, how: str, dim: Dims, keepdim: bool) -> Self:
        axes = self._axes(dim)
        if axes == (1,) and keepdim and len(self.dimensions) == 3:
            return self.made(f"channel_{how}_pool", shape=(1, *self.dimensions[1:]))
        if axes != (2, 3):
            raise Difference(f"the {how} over {axes}, which is no operation of the IR")
        shape = (self.channels, 1, 1) if keepdim else (self.channels,)
        return self.made(f"global_{how}_pool", shape=shape, keep_map=keepdim)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Self, ...]:
        if self._axes(dim) != (1,):
            raise Difference(f"chunks along dimension {dim}")
        size = math.ceil(self.channels / chunks)
        starts = range(0, self.channels, size)
        made = tuple(self._taken(start, min(start + size, self.channels)) for start in starts)
        self.storage.split = True
        return made

    def _taken(self, start: int, stop: int) -> Self:
        number = self.run.graph.take(self.seen(), start, stop, self.channels)
        return self.view(number, (stop - start, *self.dimensions[1:]))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Self:
        if start_dim != 1 or self._axes(end_dim) != (len(self.dimensions),):
            raise Difference(f"flattens {start_dim} to {end_dim}")
        number = self.run.graph.add("flatten", [self.seen()])
        return self.view(number, (math.prod(self.dimensions),))

    def __getitem__(self, key: Any) -> Self:
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) > 1 and whole(parts[0]) and all(whole(part) for part in parts[2:]):
            if is_range(parts[1]):
                return self._taken(*parts[1].indices(self.channels)[:2])
        elif len(parts) == 4 and whole(parts[0]) and whole(parts[1]):
            stride: Pair = (step(parts[2]), step(parts[3]))
            _, rows, columns = self.dimensions
            size = (-(-rows // stride[0]), -(-columns // stride[1]))
            return self.view(self.run.graph.subsample(self.seen(), stride), (self.channels, *size))
        raise Difference(f"takes {key}, which is no operation of the IR")


class Stacked:
    """Tensors of one shape, stacked along a new first dimension, to be summed."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors

    def sum(self, dim: int) -> Tensor:
        if dim != 0:
            raise Difference(f"sums stacked tensors along dimension {dim}")
        return self.tensors[0].joined("add", self.tensors)


class Parameter:
    """A parameter, or a statistic: its shape and how it is drawn."""

    def __init__(self, shape: tuple[int, ...], drawn: Drawn, trainable: bool = True) -> None:
        self.shape, self.drawn, self.trainable = shape, drawn, trainable
        self.requires_grad = trainable

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        self.requires_grad = requires_grad
        return self

    def numel(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, key: Any) -> Any:
        """A part of it: only how many values it has may be asked."""
        shape = list(self.shape)
        for axis, part in reversed(list(enumerate(key if isinstance(key, tuple) else (key,)))):
            if isinstance(part, int):
                del shape[axis]
            elif not whole(part):
                raise Difference(f"takes {key} of a parameter")
        return namespace(numel=lambda: math.prod(shape), shape=tuple(shape))


def chosen(kind: str, tensors: Sequence[Tensor], dim: int) -> Tensor:
    """`torch.cat` along channels or rows."""
    axis = tensors[0]._axes(dim)
    names = {(1,): "concat", (2,): "stack_rows"}
    if axis not in names:
        raise Difference(f"{kind} along dimension {dim}")
    return tensors[0].put_together(names[axis], tensors, axis[0] - 1)
