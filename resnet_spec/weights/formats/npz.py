"""NumPy's .npz: a zip archive with an array in each member, whose header states its shape.

The trainers of Keras networks keep their runs so: `model|layer/kernel`, `ema|layer/kernel`.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.weights.checkpoint import (
    BROKEN,
    CUT_OFF,
    Checkpoint,
    Stated,
    Tensor,
    bounded,
    layout_of,
    refused,
    unreadable,
)

_MAX_HEADER = 10_000  # bytes
_MAX_GROWTH = 100  # weights hardly shrink: what grows more was made to fill the memory
_SMALL = 1 << 22  # bytes that may shrink to nothing, as images of zeros do
_STATES = ("model", "ema")  # of a run; its other groups are no states of the network
_NUMBERS = "biufV"  # kinds of types; V: bfloat16, which NumPy does not know by name


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The arrays of a file; objects in it are passed over, for they are pickles."""
    with zipfile.ZipFile(path) as archive:
        passed: list[str] = []
        tensors = bounded(_tensors(archive, shown, passed), shown)
        if not tensors:
            unreadable(shown, f"{quoted(shown)} is a NumPy archive (.npz) without arrays")
        notes: tuple[str, ...] = ()
        if passed:
            listed = ", ".join(quoted(name) for name in passed[:8])
            notes = (f"not read, for it is no array of numbers: {listed}",)
        layout = layout_of([tensor.name for tensor in tensors])
        states = _states(tensors)
        # The networks of the trainers are generated ones.
        stated = Stated(flatten_order="chw" if states else None)
        yield Checkpoint(shown, "NumPy", layout, tensors, notes, states, stated)


def _states(tensors: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, ...]]:
    """The networks of a trainer's run, an empty average left out."""
    states: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        group, mark, name = tensor.name.partition("|")
        if mark and group in _STATES:
            states.setdefault(group, []).append(tensor._replace(name=name))
    return {group: tuple(held) for group, held in states.items()}


def _tensors(archive: zipfile.ZipFile, shown: str, passed: list[str]) -> Iterator[Tensor]:
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if member.filename == name:
            continue
        try:
            with archive.open(member) as file:
                shape, dtype = _header(file)
        except (*BROKEN, NotImplementedError, ValueError) as error:
            reason = str(error).partition("\n")[0].lower()[:200]
            message = f"{quoted(name)} in {quoted(shown)} can't be read: {reason}"
            unreadable(shown, message, CUT_OFF)
        if dtype.kind not in _NUMBERS or (dtype.kind == "V" and dtype.itemsize != 2):
            passed.append(name)
            continue
        if member.file_size > max(_MAX_GROWTH * member.compress_size, _SMALL):
            size = f"{member.file_size:,} bytes"
            refused(shown, f"{quoted(name)} in {quoted(shown)} would grow to {size}")
        kind = "bfloat16" if dtype.kind == "V" else dtype.name
        yield Tensor(name.removesuffix(":0"), shape, kind, partial(_array, archive, member, shown))


def _header(file: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and type of an array; raises `ValueError` for what is none."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"a header of version {version[0]}.{version[1]}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(file, max_header_size=_MAX_HEADER)
    except ValueError:
        raise
    except Exception as error:  # it takes the header for Python, and trips over what is none
        raise ValueError("its header is no description of an array") from error
    if any(size < 0 for size in shape):
        raise ValueError("an array with a negative size")
    return shape, dtype


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str) -> Any:
    """The values; the header's size is that of the member, so no more memory is taken."""
    from numpy.lib import format as npy

    with archive.open(member) as file:
        shape, dtype = _header(file)
        if math.prod(shape) * dtype.itemsize > member.file_size:
            name = quoted(member.filename)
            unreadable(shown, f"{name} in {quoted(shown)} states more values than it holds")
    with archive.open(member) as file:
        try:
            value = npy.read_array(file, allow_pickle=False, max_header_size=_MAX_HEADER)
        except ValueError as error:
            raise EOFError(str(error)) from None
    if dtype.kind == "V":
        import ml_dtypes

        return value.view(ml_dtypes.bfloat16)
    return value
