"""Published implementations that tests compare with, made importable without their extras."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

# Operators that torchvision's compiled half defines. Its Python half cannot be imported without
# them, although no classification model calls one.
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def torchvision() -> ModuleType:
    """torchvision, also where its compiled half is built for another torch than the installed."""
    if not _has_compiled_half():
        _define_operators()
    importlib.import_module("torchvision.models")
    return importlib.import_module("torchvision")


@functools.cache
def timm() -> ModuleType:
    """timm, which imports torchvision."""
    torchvision()
    return importlib.import_module("timm")


@functools.cache
def keras_applications() -> ModuleType:
    """keras.applications, its models to be built with `weights=None`."""
    return importlib.import_module("keras.applications")


def _has_compiled_half() -> bool:
    import torch

    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return False
    found = sorted(Path(package.origin).parent.glob("_C*"))
    try:
        for library in found:
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return bool(found)


@functools.cache
def _define_operators() -> Any:
    """Schemas without an implementation; they last as long as the object that is returned."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _OPERATORS:
        library.define(schema)
    return library
