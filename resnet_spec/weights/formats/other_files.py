"""What people take for weights or a model: what a file or folder is, and what to do with it.

Of what strangers packed no more is read than its list of names, or how it begins.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular

POINTER = b"version https:"
_HEAD = 8192  # bytes
_BLOCK = 512  # bytes of the head of a file in a tar archive
_ENTRIES = "xgLK"  # kinds of entries of a tar archive that only tell of the next one
_MAX_LISTED = 1000  # entries of a folder
_WEIGHTS = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".pth",
    ".pt",
    ".h5",
    ".keras",
    ".onnx",
)
_PLAIN = {
    b"\x93NUMPY": ("an array of NumPy (.npy)", None),
    b"GGUF": ("a GGUF file", None),
    b"(\xb5/\xfd": ("compressed by zstd", "unpack it: zstd -d {}"),
    POINTER: ("a pointer of Git LFS, whose file was not fetched", "fetch it: git lfs pull"),
    b"<": ("a web page or XML", "was it downloaded from the address of the file itself?"),
    b"{": ("JSON", None),
}


class Other(NamedTuple):
    """What a path is; `weights` is the file of weights in it, where it is a folder with one."""

    what: str
    help: str | None = None
    weights: str = ""


def folder(path: Path, shown: str) -> Other:
    """What a folder is, by what stands in it."""
    names = [each.name for _, each in zip(range(_MAX_LISTED), path.iterdir(), strict=False)]
    found = [
        f"{shown.rstrip('/')}/{name}"
        for end in _WEIGHTS
        for name in sorted(names)
        if name.endswith(end)
    ]
    name = found[0] if found else ""
    if "saved_model.pb" in names:
        return Other("a saved model of TensorFlow", weights=shown)
    if "config.json" in names and found:
        return Other("a folder of Hugging Face", f"name the file of weights in it: {name}", name)
    return Other("a folder", f"name the file that is meant: {name}" if found else None, name)


def told(path: Path, shown: str) -> Other | None:
    """What a file is that has neither weights nor a model, by how it begins."""
    with open_regular(path) as file:
        head = file.read(_HEAD)
    if _is_tar(head):
        return Other("a tar archive", f"unpack it: tar -xf {shown}{_holds(_first(head))}")
    packed = _unpacked(path, head)
    if packed is not None:
        name, block = packed
        unpack = "tar -xf" if _is_tar(block) else f"{name} -d"
        return Other(f"compressed by {name}", f"unpack it: {unpack} {shown}{_holds(_first(block))}")
    for start, (what, help) in _PLAIN.items():
        if head.startswith(start):
            return Other(what, help.format(shown) if help else None)
    return None


def _unpacked(path: Path, head: bytes) -> tuple[str, bytes] | None:
    """The name of what compressed a file, and how the file begins that it was."""
    import bz2
    import gzip
    import lzma

    openers: dict[bytes, tuple[str, Any]] = {
        b"\x1f\x8b": ("gzip", gzip.open),
        b"BZh": ("bzip2", bz2.open),
        b"\xfd7zXZ": ("xz", lzma.open),
    }
    for start, (name, opener) in openers.items():
        if head.startswith(start):
            return name, _beginning(path, opener)
    return None


def _beginning(path: Path, opener: Any) -> bytes:
    import lzma

    try:
        with opener(path) as file:
            stream: IO[bytes] = file
            return stream.read(_HEAD)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return b""


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _first(head: bytes) -> list[str]:
    """The name of the first file in a tar archive, if it stands near its beginning."""
    place = 0
    while _is_tar(block := head[place : place + _BLOCK]) and len(block) == _BLOCK:
        if chr(block[156]) not in _ENTRIES:
            return [block[:100].partition(b"\0")[0].decode("utf-8", "replace")]
        size = int(block[124:135], 8) if block[124:135].isdigit() else _HEAD
        place += _BLOCK * (1 + -(-size // _BLOCK))
    return []


def packed(path: Path) -> str | None:
    """What to do with a zip archive that is no format of weights."""
    with zipfile.ZipFile(path) as archive:
        names = [each for each in archive.namelist() if not each.endswith("/")]
    ranked = sorted(names, key=lambda each: not each.lower().endswith(_WEIGHTS))
    return f"unpack it{_holds(ranked)}" if names else None


def _holds(names: Sequence[str]) -> str:
    shown = ", ".join(quoted(each) for each in names[:3])
    return f"; it holds {shown}{' …' if len(names) > 3 else ''}" if names else ""
