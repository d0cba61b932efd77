"""Small networks with something odd in them, exported and imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.importing.readers import onnx_file
from resnet_spec.importing.readers.model import Model
from resnet_spec.importing.run import Imported, Options, imported
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.lower.unused import findings

SHAPE = (1, 3, 12, 12)
Apply = Callable[[Any], Any]


def of(apply: Apply) -> Any:
    """A module that does to its input what a function does."""
    from torch import nn

    class Of(nn.Module):
        def forward(self, x: Any) -> Any:
            return apply(x)

    return Of()


def network(*, images: Any = None, stem: Any = None, tail: Any = None, channels: int = 8) -> Any:
    """A stem, a residual block and a head, with something odd between them."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
            self.conv2 = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)

    torch.manual_seed(0)
    parts = [images, nn.Conv2d(3, 8, 3, padding=1), stem, Block(), tail]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]
    return nn.Sequential(*(each for each in parts if each is not None), *head)


def read(model: Any, folder: Path, folds: bool = False) -> Model:
    path = networks.exported(networks.randomized(model), SHAPE, folder / "odd.onnx", folds)
    return onnx_file.read(path, path.name)


def brought(model: Any, folder: Path, library: bool = False) -> Imported:
    """A model exported and imported, with the same logits."""
    options = Options("odd", "Odd", library)
    found = imported(read(model, folder), options, str(folder / "odd.yaml"))
    assert networks.distance(found, model, SHAPE) < 1e-6, found.text
    return found


def changed(found: Imported, *settings: str) -> Network:
    """An imported network as somebody changes it, with no finding."""
    loaded = load("odd.yaml", Library(), settings, found.text.encode())
    network = lower(loaded)
    assert not findings(loaded, network)
    return network


def refused(model: Any, folder: Path) -> str:
    with pytest.raises(SpecError) as caught:
        imported(read(model, folder), Options("odd", "Odd", False), str(folder / "odd.yaml"))
    (found,) = caught.value.diagnostics
    assert found.code == "RS953", found.message
    return found.message


def of_blocks(act: Any, *head: Any) -> Any:
    """A network of basic blocks with an activation of one's own."""
    import torch
    from torch import nn

    def convolved(inputs: int, outputs: int, stride: int = 1) -> list[Any]:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return [conv, nn.BatchNorm2d(outputs)]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts = *convolved(8, 8), of(act), *convolved(8, 8)
            self.residual, self.act = nn.Sequential(*parts), of(act)

        def forward(self, x: Any) -> Any:
            return self.act(self.residual(x) + x)

    torch.manual_seed(0)
    end = head or (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return nn.Sequential(*convolved(3, 8), of(act), Block(), Block(), *end)
