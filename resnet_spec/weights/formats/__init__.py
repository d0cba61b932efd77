"""The formats of files with weights: which one a file has, and which one a name asks for."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.ir import Network
from resnet_spec.weights import keras_layers, states
from resnet_spec.weights.checkpoint import CUT_OFF, Checkpoint, Layout, MissingPackage, unreadable
from resnet_spec.weights.formats import other_files

# The endings of a name, the module that knows the format, and whose names and axes it can hold.
ENDINGS: dict[str, tuple[str, tuple[Layout, ...]]] = {
    ".safetensors": ("safetensors", ("torch", "flax")),
    ".pt": ("pytorch", ("torch",)),
    ".pth": ("pytorch", ("torch",)),
    ".weights.h5": ("hdf5", ("keras",)),
    ".keras": ("keras", ("keras",)),
}
KNOWN = (
    "safetensors, PyTorch's .pt, .pth and .pt2, Keras' .weights.h5, .h5 and .keras, ONNX, "
    "NumPy's .npz, TensorFlow's checkpoints"
)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_TFLITE = b"TFL3"  # after four bytes
_TABLE = bytes.fromhex("57fb808b247547db")  # the end of the index of TensorFlow's checkpoints


@contextmanager
def opened(path: Path, shown: str, state: str | None = None) -> Iterator[Checkpoint]:
    """A file's tensors, to be read within the context.

    The format follows from the content, not from the name. `state` names one of several states of
    the network. Raises `SpecError` (RS901, RS902, RS907) for what is no such file, `MissingPackage`
    for what can't be read here.
    """
    path = _index(path)
    module = importlib.import_module(f"resnet_spec.weights.formats.{format_of(path, shown)}")
    with ExitStack() as stack:
        try:
            checkpoint = stack.enter_context(module.opened(path, shown))
        except ModuleNotFoundError as error:
            raise _missing(f"reading {quoted(shown)}", error) from None
        checkpoint = states.chosen(checkpoint, state)
        keras = checkpoint.layout == "keras"
        yield keras_layers.expanded(checkpoint) if keras else checkpoint


def _index(path: Path) -> Path:
    """The file that stands for what is several: TensorFlow's folders and names of checkpoints."""
    try:
        saved = path / "variables" / "variables.index"
        if path.is_dir() and saved.is_file():
            return saved
        beside = path.with_name(f"{path.name}.index")
        return beside if not path.exists() and beside.is_file() else path
    except (OSError, ValueError):
        return path


def write(path: Path, name: str, network: Network, state: Mapping[str, Any]) -> None:
    """Write a state to a file in the format that the ending of `name` asks for.

    Raises `MissingPackage` where the format's library is not installed.
    """
    asked = ending(name)
    assert asked is not None
    module = importlib.import_module(f"resnet_spec.weights.formats.{ENDINGS[asked][0]}")
    try:
        module.write(path, network, state)
    except ModuleNotFoundError as error:
        raise _missing(f"writing {asked}", error) from None
    except OSError as error:
        raise _plain(error) from None


def _plain(error: OSError) -> OSError:
    """What the system said; HDF5 and safetensors tell it in a paragraph, with the number in it."""
    number = re.search(r"(?:errno =|os error) (\d+)", str(error))
    if error.strerror is not None or number is None:
        return error
    return OSError(int(number.group(1)), os.strerror(int(number.group(1))))


def _missing(what: str, error: ModuleNotFoundError) -> MissingPackage:
    package = error.name or "a package"
    if package == "tensorflow" and what.startswith("writing"):  # Keras' default, where it has none
        return MissingPackage(what, "tensorflow, jax or torch", "torch")
    extra = package if package in ("torch", "keras", "onnx") else "weights"
    return MissingPackage(what, package, extra)


def ending(name: str) -> str | None:
    """The ending of a name that says in which format to write; None for any other."""
    return next((each for each in ENDINGS if name.lower().endswith(each)), None)


def layouts(name: str) -> tuple[Layout, ...]:
    """Whose names and axes a file can have that is written under a name; first the usual one."""
    asked = ending(name)
    assert asked is not None
    return ENDINGS[asked][1]


def format_of(path: Path, shown: str) -> str:
    """The module for a file, by how it begins."""
    head = _head(path, shown)
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(_ZIP):
        return _format_of_archive(path, shown)
    # A length of eight bytes, then JSON.
    is_named = shown.lower().endswith(".safetensors")
    if (is_named and not head.startswith(other_files.POINTER)) or head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x80" and 2 <= head[1] <= 5:  # a pickle, as PyTorch wrote it before 1.6
        return "pytorch"
    if head[:1] == b"\x08" and not head.startswith(_ZIP):  # the version of a graph of ONNX
        return "onnx"
    if _ends(path) == _TABLE:
        return "tensorflow"
    if head.startswith(b"{") and shown.lower().endswith(".json"):
        return "shards"
    if head[4:8] == _TFLITE:
        unreadable(
            shown,
            f"{quoted(shown)} is a TensorFlow Lite model, whose weights are fused",
            "take the model that it was made of: .h5, .keras or a saved model",
        )
    other = other_files.told(path, shown)
    told = f"{other.what}, no file of weights" if other else "no file of weights"
    help = other.help if other else None
    unreadable(shown, f"{quoted(shown)} is {told}", help or f"these can be read: {KNOWN}")


def _head(path: Path, shown: str) -> bytes:
    try:
        if path.is_dir():
            found = other_files.folder(path, shown)
            unreadable(shown, f"{quoted(shown)} is {found.what}, no file", found.help)
        if path.exists() and not path.is_file():
            unreadable(shown, f"{quoted(shown)} is no file")
        with open_regular(path) as file:
            head = file.read(16)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        unreadable(shown, f"cannot read {quoted(shown)}: {reason}")
    if len(head) < 16:
        what = "is empty" if not head else "is too short for a file of weights"
        unreadable(shown, f"{quoted(shown)} {what}", CUT_OFF)
    return head


def _ends(path: Path) -> bytes:
    """The last eight bytes of a file."""
    with open_regular(path) as file:
        file.seek(-8, os.SEEK_END)
        return file.read(8)


def _format_of_archive(path: Path, shown: str) -> str:
    """The module for a zip archive, by the names in it."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if min((each.header_offset for each in archive.infolist()), default=0):
                raise zipfile.BadZipFile("cut off behind an archive that stands within it")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        unreadable(
            shown,
            f"{quoted(shown)} is a broken zip archive",
            CUT_OFF,
        )
    if any(name.startswith("model.weights") for name in names):
        return "keras"
    last = {name.rpartition("/")[2] for name in names}
    if "archive_format" in last or any(name.endswith("/models/model.json") for name in names):
        return "exported"
    if "data.pkl" in last:
        return "torchscript" if "constants.pkl" in last else "pytorch"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    if "saved_model.pb" in last:
        unreadable(
            shown, f"{quoted(shown)} is a packed folder of TensorFlow", "unpack it, and name it"
        )
    unreadable(
        shown,
        f"{quoted(shown)} is a zip archive, without weights in it",
        other_files.packed(path) or f"these can be read: {KNOWN}",
    )
