"""Compares a spec with the published network that it says it equals.

The published network is built with random weights and random statistics; they are carried over by
name, through the rules in the spec, with every name and shape matched, and the logits compared.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import parity
import reference
from resnet_spec.backends.keras.variables import layer_name

from resnet_spec.ir import Network, Published
from resnet_spec.library import builtin_specs
from resnet_spec.renames import renamed
from resnet_spec.weights import keras_model

TABLE = Path(__file__).parent / "data" / "parameters.csv"


class Row(NamedTuple):
    """A line of the table of published networks."""

    source: str
    name: str
    parameters: int


def table() -> list[Row]:
    """Every published network with its exact number of parameters."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [Row(r["source"], r["name"], int(r["parameters"])) for r in csv.DictReader(file)]


def references() -> Iterator[tuple[str, Network, Published]]:
    """Every spec of ours with each published network that it names."""
    for name in builtin_specs():
        network = parity.network_of(name)
        for published in network.references:
            yield name, network, published


def published_state(
    published: Published, size: int, dtype: Any = None
) -> tuple[Any, dict[str, Any]]:
    """A published PyTorch network with random weights, and its tensors under our names."""
    import torch

    if published.library == "timm":
        model = reference.timm().create_model(published.model, pretrained=False)
    else:
        models = reference.torchvision().models
        model = getattr(models, published.model)(weights=None)
    model = model.to(dtype or torch.float64).eval()
    parity.randomize(model)
    return model, our_state(model, published)


def our_state(model: Any, published: Published) -> dict[str, Any]:
    """The tensors of a published PyTorch network under our names."""
    return {renamed(name, published.rename): value for name, value in model.state_dict().items()}


def load_strictly(ours: Any, state: dict[str, Any]) -> None:
    """Every name must be there; a 1x1 convolution and a linear layer hold the same numbers."""
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    fitted = {
        name: value.reshape(shapes[name])
        if name in shapes and value.numel() == shapes[name].numel()
        else value
        for name, value in state.items()
    }
    ours.load_state_dict(fitted, strict=True)


class Comparison(NamedTuple):
    """How far a spec's two outputs and the published network are from each other."""

    reference: float  # PyTorch against the published network
    backends: float | None  # Keras against PyTorch
    size: int


def compare(network: Network, published: Published, size: int, keras: bool = True) -> Comparison:
    """The largest relative differences of the logits, in float64."""
    import torch

    if published.library == "keras.applications":
        return compare_keras(network, published, size)
    theirs, state = published_state(published, size)
    ours = parity.build(network, "torch").double().eval()
    load_strictly(ours, state)
    batch = parity.images(2, network.input.channels, size, size)
    with torch.no_grad():
        given = torch.from_numpy(batch)
        expected, found = theirs(given).numpy(), ours(given).numpy()
    between = keras_difference(network, ours, batch, found) if keras else None
    return Comparison(parity.difference(found, expected), between, size)


def keras_difference(network: Network, ours: Any, batch: np.ndarray, found: np.ndarray) -> float:
    """Our Keras model's logits against our PyTorch model's, with its weights."""
    with parity.float64():
        _, _, height, width = batch.shape
        shape = (height, width, network.input.channels)
        model = parity.build(network, "keras", input_shape=shape)
        parity.carry_over(network, ours, model)
        logits = model(batch.transpose(0, 2, 3, 1), training=False)
        return parity.difference(parity.keras_to_torch(logits), found)


def compare_keras(network: Network, published: Published, size: int) -> Comparison:
    """The same for a network of keras.applications, whose weights go to Keras and to PyTorch."""
    import torch

    with parity.float64():
        shape = (network.input.height, network.input.width, network.input.channels)
        theirs = getattr(reference.keras_applications(), published.model)(
            weights=None, input_shape=shape, classifier_activation=None
        )
        ours = parity.build(network, "keras", input_shape=shape)
        generator = np.random.default_rng(0)
        carried = 0
        for layer in theirs.layers:
            values = parity.random_values(layer, generator)
            if values:
                layer.set_weights(values)
                ours.get_layer(layer_name(renamed(layer.name, published.rename))).set_weights(
                    values
                )
                carried += len(values)
        assert carried == len(ours.weights)
        batch = parity.images(1, network.input.channels, shape[0], shape[1])
        given = batch.transpose(0, 2, 3, 1)
        expected = np.asarray(theirs(given, training=False))
        found = np.asarray(ours(given, training=False))
        torch_model = parity.build(network, "torch").double().eval()
        torch_model.load_state_dict(state_of_keras(network, ours), strict=False)
        with torch.no_grad():
            logits = torch_model(torch.from_numpy(batch)).numpy()
    return Comparison(
        parity.difference(found, expected), parity.difference(logits, found), shape[0]
    )


def state_of_keras(network: Network, model: Any) -> dict[str, Any]:
    """The weights of our Keras model in PyTorch's names and order of axes."""
    import torch

    values = keras_model.values(network, model)
    return {name: torch.from_numpy(value) for name, value in values.items()}
