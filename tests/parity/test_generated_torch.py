"""Generated PyTorch models under the tools that people put models through."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import parity
import pytest

from resnet_spec.ir import Network

pytestmark = pytest.mark.torch

LARGE = {"keras_resnet50", "resnext50_32x4d", "wide_resnet50_2", "inits"}
SMALL = sorted(str(p) for p in parity.SPECS.glob("*.yaml") if p.stem not in LARGE)
SPECS = ["resnet18", *SMALL]


def name_of(spec: str) -> str:
    return Path(spec).stem


def given(network: Network) -> Any:
    size = min(network.input.height or 0, 64)
    return parity.tensor(parity.images(2, network.input.channels, size, size)).float()


def model_of(spec: str) -> tuple[Network, Any]:
    network = parity.network_of(spec)
    model = parity.build(network, "torch").eval()
    parity.randomize(model)
    return network, model


def assert_close(one: Any, other: Any, bound: float = 1e-5) -> None:
    assert parity.difference(one.detach().numpy(), other.detach().numpy()) < bound


@pytest.mark.parametrize("spec", parity.costly(SPECS))
def test_copies_compute_the_same(spec: str) -> None:
    import torch

    network, model = model_of(spec)
    images = given(network)
    with torch.no_grad():
        expected = model(images)
        assert_close(copy.deepcopy(model)(images), expected, 1e-12)
        assert_close(pickle.loads(pickle.dumps(model))(images), expected, 1e-12)
        assert_close(model.to(memory_format=torch.channels_last)(images), expected)
        channels_last = images.contiguous(memory_format=torch.channels_last)
        assert_close(model(channels_last), expected)

        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        fresh = parity.build(network, "torch").eval()
        assert parity.difference(fresh(images).numpy(), expected.numpy()) > 1e-3
        fresh.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
        assert_close(fresh(images), expected)


@pytest.mark.parametrize("spec", parity.costly(SPECS, parity.OPERATIONS))
def test_export(spec: str) -> None:
    import torch

    network, model = model_of(spec)
    images = given(network)
    exported = torch.export.export(model, (images,), strict=False)
    assert_close(exported.module()(images), model(images))


@pytest.mark.parametrize("spec", parity.costly(SPECS))
def test_compile_sees_one_graph(spec: str) -> None:
    import torch

    network, model = model_of(spec)
    images = given(network)
    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    assert_close(compiled(images), model(images))


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_numbers_of_classes_and_of_input_channels(spec: str) -> None:
    import torch

    network = parity.network_of(spec)
    size = min(network.input.height or 0, 64)
    model = parity.build(network, "torch", num_classes=7, in_channels=5).eval()
    with torch.no_grad():
        assert model(torch.zeros(3, 5, size, size)).shape == (3, 7)
        features = model.forward_features(torch.zeros(3, 5, size, size))
    assert list(features) == [stage.name for stage in network.stages if stage.feature]
    reached = {stage.name: stage.output.channels for stage in network.stages}
    assert {name: value.shape[1] for name, value in features.items()} == {
        name: reached[name] for name in features
    }


@pytest.mark.parametrize("spec", parity.costly(SPECS))
def test_a_training_step(spec: str) -> None:
    """Gradients reach every parameter, so nothing hangs loose and nothing breaks the graph."""
    network, model = model_of(spec)
    model.train()
    images = given(network).requires_grad_()
    model(images).square().mean().backward()
    assert images.grad is not None
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_drop_path_keeps_the_mean_and_drops_samples() -> None:
    import torch

    module = parity.module_of(parity.network_of(parity.SPECS / "primitives.yaml"), "torch")
    layer = module.DropPath(0.25)
    torch.manual_seed(0)
    out = layer.train()(torch.ones(4000, 2, 3, 3))
    values = out.flatten(1)
    assert (values == values[:, :1]).all()  # a sample as a whole
    assert sorted(set(values[:, 0].tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert abs(out.mean().item() - 1.0) < 0.05
    assert torch.equal(layer.eval()(out), out)
