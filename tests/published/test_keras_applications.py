"""ResNet-50 of keras.applications, said in YAML, is the same network weight for weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import parity
import pytest
import reference

pytestmark = pytest.mark.keras

SPEC = parity.SPECS / "keras_resnet50.yaml"


def our_name(theirs: str) -> str:
    """The name of our layer: `conv2_block1_0_bn` is the first block's shortcut's norm."""
    if theirs == "predictions":
        return "fc"
    parts = theirs.split("_")
    if len(parts) == 2:  # conv1_conv, conv1_bn
        return {"conv": "conv1", "bn": "bn1"}[parts[1]]
    stage, block, position, kind = parts
    prefix = f"layer{int(stage[4:]) - 1}_{int(block[5:]) - 1}"
    if position == "0":
        return f"{prefix}_downsample_{0 if kind == 'conv' else 1}"
    return f"{prefix}_{kind}{position}"


def randomized(layer: Any, generator: np.random.Generator) -> list[np.ndarray]:
    """Weights of a layer, in Keras' order, none of them zero or one."""
    values = []
    for variable in layer.weights:
        value = generator.uniform(-0.5, 0.5, variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            value += 1.0
        elif value.ndim > 1:
            value *= (24 / np.prod(value.shape[:-1])) ** 0.5
        values.append(value)
    return values


def test_the_network_of_keras_applications() -> None:
    network = parity.network_of(SPEC)
    with parity.float64():
        shape = (97, 64, 3)
        theirs = reference.keras_applications().ResNet50(
            weights=None, include_top=False, input_shape=shape, pooling="avg"
        )
        module = parity.module_of(network, "keras")
        ours = module.keras_resnet50(input_shape=shape)
        carried = 0
        generator = np.random.default_rng(0)
        for layer in theirs.layers:
            if layer.weights:
                values = randomized(layer, generator)
                layer.set_weights(values)
                ours.get_layer(our_name(layer.name)).set_weights(values)
                carried += len(values)
        # All but the classifier, which the next test counts.
        assert carried == len(ours.weights) - 2

        pooled = parity.run(parity.source_of(network, "keras"), "keras_resnet50").keras
        features = pooled.Model(ours.input, ours.get_layer("avgpool").output)
        images = parity.images(2, *shape)
        found = parity.keras_to_torch(features(images, training=False))
        expected = parity.keras_to_torch(theirs(images, training=False))
        assert parity.difference(found, expected) < 1e-10


def test_its_counts() -> None:
    network = parity.network_of(SPEC)
    theirs = reference.keras_applications().ResNet50(weights=None)
    ours = parity.build(network, "keras")
    assert parity.ir_counts(network) == (25_583_592, 25_636_712 - 25_583_592)
    assert parity.keras_counts(ours) == parity.ir_counts(network)
    assert parity.keras_counts(theirs) == parity.ir_counts(network)
    assert ours.count_params() == theirs.count_params() == 25_636_712
    shapes = {
        our_name(layer.name): [tuple(weight.shape) for weight in layer.weights]
        for layer in theirs.layers
        if layer.weights
    }
    for name, expected in shapes.items():
        assert [tuple(weight.shape) for weight in ours.get_layer(name).weights] == expected
    epsilons = {layer.epsilon for layer in ours.layers if hasattr(layer, "epsilon")}
    assert epsilons == {1.001e-5}
