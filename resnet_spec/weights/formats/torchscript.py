"""TorchScript archives: a program with its parameters, of which the parameters alone are read.

The program's text and constants are not looked at, and PyTorch is not asked to load it. The pickle
in the archive names modules and their attributes; tensors are places in files of the archive.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from resnet_spec.diagnostics import quoted
from resnet_spec.weights.checkpoint import CUT_OFF, Checkpoint, bounded, refused, unreadable
from resnet_spec.weights.formats import inert, modules, strided

_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# Functions of the pickle that make lists of numbers: their arguments are all that they give.
_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")


class _Storage(NamedTuple):
    """Values of one type in a file of the archive."""

    key: str
    dtype: str


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The parameters and buffers of a scripted or traced module."""
    with zipfile.ZipFile(path) as archive:
        size = sum(each.file_size for each in archive.infolist())
        # The program's text is compressed, the tensors are not.
        if size > 2 * path.stat().st_size + 1_000_000:
            refused(shown, f"{quoted(shown)} would grow to {size:,} bytes while it is read")
        name = next(n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl")
        root = name.rpartition("/")[0]
        held = _parameters(archive, name, shown)
        folder = f"{root}/data" if root else "data"
        placed = {n: s._replace(member=f"{folder}/{s.member}") for n, s in held.items()}
        tensors = bounded((strided.tensor(archive, n, s, shown) for n, s in placed.items()), shown)
        if not tensors:
            unreadable(
                shown,
                f"{quoted(shown)} is a TorchScript archive without parameters: it was frozen",
                "script or trace the model again, without torch.jit.freeze",
            )
        notes = ("a TorchScript archive: its program is not looked at",)
        yield Checkpoint(shown, "TorchScript", "torch", tensors, notes)


def _parameters(archive: zipfile.ZipFile, name: str, shown: str) -> dict[str, strided.Strided]:
    try:
        with archive.open(name) as file:
            # Seeking back in a member of an archive works where it is stored as it is.
            root = _Unpickler(file).load()
        if not isinstance(root, inert.Placeholder):
            raise pickle.UnpicklingError("it holds no module")
        return modules.tensors(root, lambda each: isinstance(each, strided.Strided))
    except inert.AsksForProgram as error:
        refused(shown, f"{quoted(shown)} asks for {quoted(error.what)} beside its own program")
    except modules.TooDeep:
        refused(shown, f"the modules in {quoted(shown)} are too deep, or go in circles")
    except Exception as error:  # whatever a broken pickle makes Python say
        reason = str(error).partition("\n")[0].lower()[:200] or type(error).__name__
        unreadable(
            shown,
            f"{quoted(shown)} is no whole TorchScript archive: {reason}",
            CUT_OFF,
        )


class _Unpickler(pickle.Unpickler):
    """Makes placeholders of modules, and of tensors where they stand."""

    def __init__(self, file: Any) -> None:
        inert.check_sizes(file)
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _stored if name == "_rebuild_tensor_v2" else _first
        if module == "torch.jit._pickle" and name in _LISTS:
            return list
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _TYPES:
            return inert.placeholder(name)
        return inert.placeholder(inert.checked(module, name))

    def persistent_load(self, given: Any) -> Any:
        kind, holder, key, *_ = given
        if kind != "storage" or not isinstance(key, str):
            raise pickle.UnpicklingError("it holds something that is no tensor")
        return _Storage(key, _TYPES[holder.what])


def _first(value: Any, *_: Any) -> Any:
    return value


def _stored(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> strided.Strided:
    """A tensor; raises `UnpicklingError` or `ValueError` for what is none."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without its values")
    return strided.stated(storage.key, storage.dtype, offset, shape, strides)
