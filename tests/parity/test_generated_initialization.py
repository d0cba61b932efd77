"""Fresh weights have the distribution that the spec states, in both backends."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import parity
import pytest

from resnet_spec.ir import Network
from resnet_spec.verify import initialization
from resnet_spec.verify.plan import plan_of
from resnet_spec.weights import keras_model

SPECS = [str(parity.SPECS / "inits.yaml"), "resnet18", str(parity.SPECS / "resnest.yaml")]

Values = Mapping[str, np.ndarray]  # by the canonical name, in PyTorch's order of axes


def torch_values(network: Network) -> Values:
    import torch

    torch.manual_seed(0)
    state = parity.build(network, "torch").state_dict()
    return {name: value.double().numpy() for name, value in state.items()}


def keras_values(network: Network) -> Values:
    import keras

    keras.utils.set_random_seed(0)
    return keras_model.values(network, parity.build(network, "keras"))


def check(network: Network, values: Values) -> None:
    """By the tests that `verify` makes."""
    tensors = dict(plan_of(network, "float32")[0].tensors())
    summaries = {}
    for name, tensor in tensors.items():
        assert values[name].shape == tensor.shape, name
        summaries[name] = initialization.summarize([values[name]], initialization.stated(tensor))
    ratio, name, test = initialization.worst(tensors, summaries)
    assert ratio <= 1.0, f"{name}: not {test}"


@pytest.mark.torch
@pytest.mark.parametrize("spec", SPECS)
def test_torch(spec: str) -> None:
    network = parity.network_of(spec)
    check(network, torch_values(network))


@pytest.mark.keras
@pytest.mark.parametrize("spec", SPECS)
def test_keras(spec: str) -> None:
    network = parity.network_of(spec)
    check(network, keras_values(network))


def test_every_initializer_has_a_case() -> None:
    from resnet_spec.primitives import INITIALIZERS

    networks = [parity.network_of(spec) for spec in SPECS]
    operations = [op for network in networks for _, op in network.operations()]
    found = {each.initializer.kind for op in operations for each in op.parameters}
    assert found == set(INITIALIZERS)
