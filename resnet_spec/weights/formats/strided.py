"""Tensors of PyTorch in a zip archive: places in files of plain values."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from resnet_spec.diagnostics import quoted
from resnet_spec.weights.checkpoint import BROKEN, CUT_OFF, Tensor, unreadable

_MAX_AXES = 16


class Strided(NamedTuple):
    """A tensor as an archive states it; offset and strides are numbers of values."""

    member: str  # of the archive
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def stated(
    member: str, dtype: str, offset: Any, shape: Sequence[Any], strides: Sequence[Any]
) -> Strided:
    """A tensor; raises `ValueError` for numbers that are none."""
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise ValueError("a tensor without its values")
    if not all(isinstance(each, int) and 0 <= each < 2**53 for each in numbers):
        raise ValueError("a tensor with a size that is none")
    return Strided(member, dtype, offset, tuple(shape), tuple(strides))


def tensor(archive: zipfile.ZipFile, name: str, stated: Strided, shown: str) -> Tensor:
    """The tensor, to be read while the archive is open."""
    return Tensor(name, stated.shape, stated.dtype, partial(_array, archive, stated, name, shown))


def _array(archive: zipfile.ZipFile, stated: Strided, name: str, shown: str) -> Any:
    """The values, of which no more are read than the archive holds."""
    import numpy

    kind: Any = stated.dtype
    if kind == "bfloat16":
        from ml_dtypes import bfloat16 as kind
    try:
        values = numpy.frombuffer(archive.read(stated.member), kind)
    except (*BROKEN, KeyError, ValueError) as error:
        unreadable(shown, f"{quoted(name)} in {quoted(shown)} can't be read: {error}", CUT_OFF)
    last = stated.offset + sum(
        (size - 1) * stride for size, stride in zip(stated.shape, stated.strides, strict=True)
    )
    if math.prod(stated.shape) and last >= len(values):
        unreadable(shown, f"{quoted(name)} in {quoted(shown)} states more values than it holds")
    width = values.itemsize
    view = numpy.lib.stride_tricks.as_strided(
        values[stated.offset :], stated.shape, [width * stride for stride in stated.strides]
    )
    return numpy.ascontiguousarray(view).reshape(stated.shape)
