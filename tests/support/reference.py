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


@functools.cache
def torchvision_detection() -> ModuleType:
    """torchvision's detectors, with their two operators in Python where no compiled one loads."""
    detection = importlib.import_module(f"{torchvision().__name__}.models.detection")
    if not _has_compiled_half():
        boxes = importlib.import_module("torchvision.ops.boxes")
        align: Any = importlib.import_module("torchvision.ops.roi_align")
        boxes.nms = _nms  # type: ignore[attr-defined]
        align._roi_align = align._roi_align.__wrapped__  # is compiled at its first call otherwise
    return detection


@functools.cache
def segmentation_models() -> ModuleType:
    """segmentation_models_pytorch, which imports timm."""
    timm()
    return importlib.import_module("segmentation_models_pytorch")


@functools.cache
def keras_hub() -> ModuleType:
    """KerasHub; its vision models need none of the tokenizers that it would install."""
    return importlib.import_module("keras_hub")


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """The boxes that overlap no better one by more than the threshold, the best first."""
    import torch
    from torchvision.ops.boxes import box_iou

    waiting, kept = scores.argsort(descending=True, stable=True), []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        overlap = box_iou(boxes[best][None], boxes[waiting])[0]
        waiting = waiting[overlap <= iou_threshold]
    return torch.stack(kept) if kept else waiting


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
