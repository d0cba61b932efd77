"""Models that were not trained: of a norm that was folded zeros are left, and then nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networks
import pytest

from resnet_spec.importing.readers import onnx_file
from resnet_spec.importing.run import Imported, Options, imported
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

pytestmark = pytest.mark.torch

SPEC = networks.SMALL.format("basic", 8, 16)


def brought(folder: Path, unfold: Any) -> tuple[Any, Imported]:
    """A model whose norms shift nothing, exported with these folded, and imported."""
    import torch

    model = networks.built(lower(load("small.yaml", Library(), text=SPEC.encode())))
    with torch.no_grad():
        state = model.state_dict()
        for mean in [name for name in state if name.endswith("running_mean")]:
            state[mean].zero_()
            state[mean.replace("running_mean", "bias")].zero_()
    path = networks.exported(model, (1, 3, 32, 32), folder / "model.onnx")
    read = onnx_file.read(path, path.name)
    options = Options("small", "A small network", unfold=unfold)
    return model, imported(read, options, str(folder / "n.yaml"))


@pytest.mark.parametrize("unfold", ["auto", "yes"])
def test_norms_come_back(unfold: str, tmp_path: Path) -> None:
    import torch

    model, found = brought(tmp_path, unfold)
    assert [line for line in found.text.splitlines() if line] == SPEC.splitlines()
    told = " ".join(found.notes)
    assert ("no convolution has a bias, and nothing is a norm" in told) == (unfold == "auto")
    ours = networks.built(found.network, "imported")
    ours.load_state_dict({k: torch.tensor(v) for k, v in found.state.items()}, strict=True)
    given, wanted = (networks.logits(each, (1, 3, 32, 32)) for each in (ours, model))
    assert (given - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_none_where_none_are_wanted(tmp_path: Path) -> None:
    _, found = brought(tmp_path, "no")
    assert "norm: none" in found.text or "norm" not in found.text
    assert not any(name.endswith("running_var") for name in found.state)
