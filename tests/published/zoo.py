"""Compares a spec with the published network that it says it equals.

The published network is built with random weights and random statistics; they are carried over by
name, through the rules in the spec, with every name and shape matched, and the logits compared.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import parity
import reference

from resnet_spec.ir import Network, Published
from resnet_spec.language.library import builtin_specs
from resnet_spec.language.renames import renamed
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


def published_model(published: Published) -> Any:
    """A published PyTorch network as its library builds it."""
    if published.library == "timm":
        return reference.timm().create_model(published.model, pretrained=False)
    return getattr(reference.torchvision().models, published.model)(weights=None)


def published_state(published: Published, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """A published PyTorch network with random weights, and its tensors under our names."""
    with parity.undrawn():
        model = published_model(published).to(dtype).eval()
    parity.randomize(model)
    return model, our_names(model.state_dict(), published)


def published_shapes(published: Published) -> dict[str, Any]:
    """A published PyTorch network's checkpoint, with shapes and no numbers."""
    import torch

    with torch.device("meta"):
        state: dict[str, Any] = published_model(published).state_dict()
    return state


def our_names(state: Mapping[str, Any], published: Published) -> dict[str, Any]:
    """A published network's checkpoint under our names."""
    return {renamed(name, published.rename): value for name, value in state.items()}


def load_strictly(ours: Any, state: dict[str, Any]) -> None:
    """Every name must be there; a 1x1 convolution and a linear layer hold the same numbers.

    The model takes the tensors themselves, so it may have been built without memory for them.
    """
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    fitted = {
        name: value.reshape(shapes[name])
        if name in shapes and value.numel() == shapes[name].numel()
        else value
        for name, value in state.items()
    }
    ours.load_state_dict(fitted, strict=True, assign=True)


def keras_difference(network: Network, ours: Any, batch: np.ndarray, found: np.ndarray) -> float:
    """Our Keras model's logits against our PyTorch model's, with its weights."""
    with parity.float64():
        _, _, height, width = batch.shape
        shape = (height, width, network.input.channels)
        with parity.undrawn():
            model = parity.build(network, "keras", input_shape=shape)
        parity.carry_over(network, ours, model)
        logits = model(batch.transpose(0, 2, 3, 1), training=False)
        return parity.difference(parity.keras_to_torch(logits), found)


def keras_application(published: Published, input_shape: tuple[int, ...]) -> Any:
    """A network of keras.applications with logits as its output, its weights yet to be given."""
    build = getattr(reference.keras_applications(), published.model)
    with parity.undrawn():
        return build(weights=None, input_shape=input_shape, classifier_activation=None)


def state_of_keras(network: Network, model: Any) -> dict[str, Any]:
    """The weights of our Keras model in PyTorch's names and order of axes."""
    import torch

    values = keras_model.values(network, model)
    return {name: torch.from_numpy(value) for name, value in values.items()}
