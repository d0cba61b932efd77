"""Networks of torchvision and timm, by both exporters of PyTorch: read as blocks of the library."""

from __future__ import annotations

import importlib.util
import statistics
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
    assert networks.lines(found.text) <= MOST_LINES
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


# --- networks that the library has not -----------------------------------------------------------

# With the lines that each may have.
OTHERS: dict[str, tuple[Maker, int]] = {
    "regnetx_002": (of_timm, 41),
    "regnety_002": (of_timm, 45),
    "repvgg_a0": (of_timm, 43),
    "vovnet39a": (of_timm, 55),
    "ese_vovnet19b_dw": (of_timm, 67),
    "fbnetc_100": (of_timm, 58),
    "selecsls42": (of_timm, 70),
    "efficientnet_b0": (of_timm, 68),
    "mobilenetv3_small_050": (of_timm, 92),
    "mnasnet_small": (of_timm, 77),
    "semnasnet_075": (of_timm, 71),
    "ghostnet_050": (of_timm, 138),
    "tinynet_e": (of_timm, 68),
    "gernet_s": (of_timm, 68),
    "darknet53": (of_timm, 52),
    "cspresnet50": (of_timm, 134),
    "hgnet_tiny": (of_timm, 63),
    "convmixer_768_32": (of_timm, 34),
    "mnasnet0_5": (of_torchvision, 55),
    "squeezenet1_1": (of_torchvision, 61),
    "shufflenet_v2_x0_5": (of_torchvision, 71),
}
OTHERS_SIZE = 64


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=() if name in ("regnetx_002", "squeezenet1_1") else pytest.mark.slow
        )
        for name in OTHERS
    ],
)
def test_networks_that_the_library_has_not(name: str, tmp_path: Path) -> None:
    """Exact, by blocks of their own."""
    maker, most = OTHERS[name]
    shape = (1, 3, OTHERS_SIZE, OTHERS_SIZE)
    model = networks.randomized(maker(name))
    path = networks.exported(model, shape, tmp_path / "model.onnx")
    read = onnx_file.read(path, path.name)
    found = imported(read, Options("imported", "Imported"), str(tmp_path / "imported.yaml"))
    assert found.written.own > 0
    assert networks.lines(found.text) <= most
    assert networks.distance(found, model, shape) < TOLERANCE


def test_half_of_these_networks_have_at_most_eighty_lines() -> None:
    assert len(OTHERS) >= 20
    assert statistics.median(most for _, most in OTHERS.values()) <= 80
