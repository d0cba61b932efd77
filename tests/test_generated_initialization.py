"""Fresh weights have the distribution that the spec states, in both backends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import parity
import pytest

from resnet_spec.ir import Network
from resnet_spec.ops import Parameter
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


def parameters(network: Network) -> Iterator[tuple[str, Parameter]]:
    for name, operation in network.operations():
        for parameter in operation.parameters:
            yield f"{name}.{parameter.name}", parameter


def fan(parameter: Parameter) -> int:
    window = int(np.prod(parameter.shape[2:]))
    given = parameter.initializer
    out = given.value == "fan_out" or given.kind == "fan_out_normal"
    return window * parameter.shape[0 if out else 1]


def expected(parameter: Parameter) -> tuple[float, float, float | None]:
    """Mean, standard deviation, and the bound of a uniform distribution."""
    kind, value = parameter.initializer.kind, parameter.initializer.value
    if kind in ("zeros", "ones", "constant"):
        return {"zeros": 0.0, "ones": 1.0}.get(kind, float(value or 0)), 0.0, None
    if kind == "normal":
        return 0.0, float(value or 0), None
    if kind in ("fan_in_normal", "fan_out_normal"):
        return 0.0, (float(value or 0) / fan(parameter)) ** 0.5, None
    variance = {"he_normal": 2.0, "he_uniform": 2.0, "lecun_uniform": 1 / 3}[kind] / fan(parameter)
    return 0.0, variance**0.5, None if kind == "he_normal" else (3 * variance) ** 0.5


def check(network: Network, values: Values) -> None:
    for name, parameter in parameters(network):
        value = values[name]
        assert value.shape == parameter.shape, name
        mean, deviation, bound = expected(parameter)
        if deviation == 0.0:
            assert np.allclose(value, mean, atol=1e-7), name
            continue
        # Five standard errors: a fair draw fails once in a million.
        sure = 5 * deviation / value.size**0.5
        assert abs(value.mean() - mean) < sure, name
        assert abs(value.std() / deviation - 1) < 5 / (2 * value.size) ** 0.5, name
        if bound is not None:
            assert np.abs(value).max() <= bound * (1 + 1e-6), name
        elif value.size > 1000:
            # Not cut off: a value beyond two standard deviations is common.
            assert np.abs(value).max() > 2.5 * deviation, name
    check_fresh(network, values)


def check_fresh(network: Network, values: Values) -> None:
    """No two tensors got the same draw, as one shared initializer would give them."""
    seen: dict[bytes, str] = {}
    for name, parameter in parameters(network):
        if expected(parameter)[1] > 0.0:
            first = np.sort(values[name].ravel())[:8].astype("float32").tobytes()
            assert first not in seen, f"{name} and {seen.get(first)}"
            seen[first] = name


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
    from resnet_spec.ops import INITIALIZERS

    networks = [parity.network_of(spec) for spec in SPECS]
    found = {p.initializer.kind for network in networks for _, p in parameters(network)}
    assert found == set(INITIALIZERS)
