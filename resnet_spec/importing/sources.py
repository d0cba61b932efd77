"""Where a model comes from: which reader has it, and who can run it for the proof."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.importing.errors import unreadable
from resnet_spec.importing.readers.model import Model

KNOWN = "an ONNX file (.onnx), and module:function of a PyTorch model"
_ONNX = b"\x08"  # its first field, the version
_FUNCTION = re.compile(r"(?P<module>[\w./-]+):(?P<function>[A-Za-z_]\w*)")
_OTHERS = {
    b"\x89HDF": "HDF5",
    b"PK\x03\x04": "a zip archive",
    b"\x80": "a pickle, as PyTorch saves weights: it has no graph",
    b"{": "JSON",
    b"<": "a web page or XML",
}


class Source(NamedTuple):
    """A model that was read, and what a worker is asked for its output."""

    model: Model
    asked: Mapping[str, Any]


def read(name: str) -> Source:
    """A model by what it is called on the command line; raises `SpecError`, `MissingPackage`."""
    path = Path(name)
    head = _head(path, name)
    if head.startswith(_ONNX):
        from resnet_spec.importing.readers import onnx_file

        model = onnx_file.read(path, name)
        asked = {"kind": "onnx", "do": "onnx", "path": str(path), "packages": ("onnxruntime",)}
        return Source(model, asked)
    what = next((text for start, text in _OTHERS.items() if head.startswith(start)), None)
    told = f"{what}, no model" if what else "no model"
    unreadable(name, f"{quoted(name)} is {told}", f"these can be read: {KNOWN}")


def _head(path: Path, shown: str) -> bytes:
    """How a file begins."""
    try:
        with open_regular(path) as file:
            head = file.read(16)
    except FileNotFoundError:
        unreadable(shown, f"there is no file {quoted(shown)}", f"these can be read: {KNOWN}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        unreadable(shown, f"cannot read {quoted(shown)}: {reason.lower()}")
    if not head:
        unreadable(shown, f"{quoted(shown)} is empty")
    return head
