"""Networks of torchvision and timm, by both exporters of PyTorch: read as blocks of the library."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import pytest
import reference

from resnet_spec.importing.readers import onnx_file
from resnet_spec.importing.run import Imported, Options, imported

pytestmark = pytest.mark.torch

SIZE = 96  # rows and columns: enough for three of them at the end
TOLERANCE = 1e-4
MOST_LINES = 30


def of_torchvision(name: str) -> Any:
    return getattr(reference.torchvision().models, name)(weights=None)


def of_timm(name: str) -> Any:
    return reference.timm().create_model(name, pretrained=False)


Maker = Callable[[str], Any]
TEN: dict[str, Maker] = {
    "resnet18": of_torchvision,
    "resnet50": of_torchvision,
    "resnext50_32x4d": of_torchvision,
    "densenet121": of_torchvision,
    "seresnet50": of_timm,
    "resnet50d": of_timm,
    "res2net50_26w_4s": of_timm,
    "skresnet18": of_timm,
    "resnest14d": of_timm,
    "resnetv2_50": of_timm,
}
QUICK = "resnet18"


def needs_dynamo() -> None:
    for package in ("onnxscript", "onnx_ir"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: the exporter needs it")


def by_tracing(model: Any, shape: tuple[int, ...], path: Path) -> Path:
    return networks.exported(model, shape, path)


def not_folded(model: Any, shape: tuple[int, ...], path: Path) -> Path:
    return networks.exported(model, shape, path, folds=False)


def by_dynamo(model: Any, shape: tuple[int, ...], path: Path, optimize: bool = True) -> Path:
    needs_dynamo()
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(shape),), str(path), dynamo=True, verbose=False, optimize=optimize
        )
    return path


def by_dynamo_as_it_is(model: Any, shape: tuple[int, ...], path: Path) -> Path:
    return by_dynamo(model, shape, path, optimize=False)


Exporter = Callable[[Any, tuple[int, ...], Path], Path]
EXPORTERS: tuple[Exporter, ...] = (by_tracing, not_folded, by_dynamo, by_dynamo_as_it_is)


def check(name: str, exporter: Exporter, folder: Path) -> Imported:
    """Import an export of a network; its blocks are the library's, and its logits the network's."""
    shape = (1, 3, SIZE, SIZE)
    model = networks.randomized(TEN[name](name))
    path = exporter(model, shape, folder / "model.onnx")
    read = onnx_file.read(path, path.name)
    found = imported(read, Options("imported", "Imported"), str(folder / "imported.yaml"))
    assert found.written.own == 0
    assert len(found.text.splitlines()) <= MOST_LINES
    assert networks.distance(found, model, shape) < TOLERANCE
    return found


@pytest.mark.parametrize("exporter", [by_tracing, by_dynamo])
def test_both_exporters(exporter: Exporter, tmp_path: Path) -> None:
    found = check(QUICK, exporter, tmp_path)
    assert "{name: layer2, block: basic, repeat: 2, filters: 128, stride: 2}" in found.text


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", TEN)
def test_networks_that_the_library_has(name: str, exporter: Exporter, tmp_path: Path) -> None:
    check(name, exporter, tmp_path)
