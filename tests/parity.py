"""Runs generated code of both backends with the same weights; what the parity tests stand on."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.backends.keras.variables import VARIABLES, layer_name
from resnet_spec.generate import generate
from resnet_spec.ir import Network
from resnet_spec.library import Library
from resnet_spec.load import load
from resnet_spec.lower import lower

SPECS = Path(__file__).parent / "specs"


def network_of(spec: str | Path) -> Network:
    """The network of a spec given by name or path."""
    return lower(load(str(spec), Library()))


def source_of(network: Network, backend: str) -> str:
    """The generated source of a network."""
    (text,) = generate(network, [backend]).values()
    return text


def module_of(network: Network, backend: str) -> types.ModuleType:
    """The generated module of a network, imported."""
    return run(source_of(network, backend), f"generated_{backend}_{network.name}")


def run(source: str, name: str) -> types.ModuleType:
    """A module from its source."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses and pickling look a class up there
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module


def build(network: Network, backend: str, **arguments: Any) -> Any:
    """A model of the generated module."""
    return getattr(module_of(network, backend), network.name)(**arguments)


def randomize(model: Any, seed: int = 0) -> None:
    """Random weights, biases and statistics, so that nothing is zero, one or alike.

    A zero-initialised scale would hide a whole branch, a variance of one a wrong epsilon.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            value = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                value = 0.5 + value
            elif tensor.dim() > 1:
                fan_in = tensor[0].numel()
                value = (value - 0.5) * (12 * 2 / fan_in) ** 0.5
            else:
                value = value - 0.5 if name.endswith(("bias", "running_mean")) else 0.5 + value
            tensor.copy_(value.to(tensor.dtype))


def carry_over(network: Network, torch_model: Any, keras_model: Any) -> int:
    """Copies every parameter from PyTorch to Keras by the names of the IR; returns their number."""
    state = torch_model.state_dict()
    carried = 0
    for name, operation in network.operations():
        for parameter in operation.parameters:
            attribute, axes = VARIABLES[operation.primitive.name, parameter.name]
            variable = getattr(keras_model.get_layer(layer_name(name)), attribute)
            value = state[f"{name}.{parameter.name}"].detach().numpy()
            assert value.shape == parameter.shape, f"{name}.{parameter.name}"
            variable.assign(np.transpose(value, axes))
            carried += 1
    assert carried == len(keras_model.weights)
    return carried


def images(*shape: int, seed: int = 1) -> np.ndarray:
    """A batch (N, C, H, W) of float64 in PyTorch's order."""
    return np.random.default_rng(seed).standard_normal(shape)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest absolute difference, relative to the largest value."""
    assert one.shape == other.shape, f"{one.shape} and {other.shape}"
    assert np.isfinite(other).all()
    return float(np.abs(one - other).max() / np.abs(other).max())


def keras_to_torch(value: Any) -> np.ndarray:
    """An output of Keras in PyTorch's order of axes."""
    array = np.asarray(value)
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def torch_outputs(model: Any, batch: np.ndarray) -> dict[str, np.ndarray]:
    """The logits and every stage's output of a PyTorch model in evaluation mode."""
    import torch

    model.eval()
    with torch.no_grad():
        given = torch.from_numpy(batch).to(next(model.parameters()).dtype)
        found = {name: value.numpy() for name, value in model.forward_features(given).items()}
        return found | {"logits": model(given).numpy()}


def keras_outputs(logits: Any, features: Any, batch: np.ndarray) -> dict[str, np.ndarray]:
    """The same of a Keras model and its backbone."""
    given = batch.transpose(0, 2, 3, 1)
    found = features(given, training=False)
    outputs = {name: keras_to_torch(value) for name, value in found.items()}
    return outputs | {"logits": keras_to_torch(logits(given, training=False))}
