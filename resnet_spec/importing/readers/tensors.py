"""The tensors of an exported model in a file of their own, so that no process holds them twice.

One file has all values one after the other, and an index beside it what each is. It is mapped, not
read: what is looked at is in memory once, as long as it is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
_ALIGNED = 64  # bytes at which each tensor begins


def write(folder: Path, tensors: Mapping[str, Array]) -> None:
    """Write arrays of NumPy to a new folder."""
    folder.mkdir()
    index = {}
    with (folder / "values").open("wb") as file:
        for name, value in tensors.items():
            file.write(bytes(-file.tell() % _ALIGNED))
            index[name] = [file.tell(), value.dtype.str, value.shape]
            np.ascontiguousarray(value).tofile(file)
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def mapped(folder: Path) -> dict[str, Array]:
    """The arrays of a folder by their names, none of which can be changed."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    values = folder / "values"
    data = np.memmap(values, mode="r") if values.stat().st_size else np.zeros(0, np.uint8)
    return {
        name: np.frombuffer(data, kind, int(np.prod(shape)), start).reshape(shape)
        for name, (start, kind, shape) in index.items()
    }
