"""Generated Keras models under the tools that people put models through."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest

pytestmark = pytest.mark.keras

LARGE = {"keras_resnet50", "resnext50_32x4d", "wide_resnet50_2", "inits"}
SMALL = sorted(str(p) for p in parity.SPECS.glob("*.yaml") if p.stem not in LARGE)


def name_of(spec: str) -> str:
    return Path(spec).stem


def randomize(model: Any) -> None:
    """Random weights, so that a copy with fresh ones computes something else."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        value = generator.uniform(0.5, 1.5, weight.shape)
        weight.assign(value - 1.0 if len(weight.shape) > 1 else value)


def assert_close(one: Any, other: Any) -> None:
    one, other = map(parity.keras_to_torch, (one, other))
    assert parity.difference(one, other) < 1e-5


@pytest.mark.parametrize("spec", parity.costly(SMALL, parity.OPERATIONS))
def test_saved_and_loaded(spec: str, tmp_path: Path) -> None:
    import keras

    keras.backend.clear_session(free_memory=False)
    network = parity.network_of(spec)
    module = parity.module_of(network, "keras")
    model = getattr(module, network.name)()
    randomize(model)
    channels, height, width = network.input.dimensions
    images = parity.images(2, height, width, channels).astype("float32")
    expected = model(images, training=False)

    path = tmp_path / "model.keras"
    model.save(path)
    assert_close(keras.models.load_model(path)(images, training=False), expected)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = getattr(module, network.name)()
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert_close(fresh(images, training=False), expected)

    lines: list[str] = []
    model.summary(print_fn=lambda text, **_: lines.append(text))
    assert f"{network.root.parameters:,}" in "\n".join(lines)


# A flattened map makes the classifier one for a certain size, as adaptive pooling does in Keras.
ANY_SIZE = [spec for spec in SMALL if name_of(spec) not in ("flat", "gallery")]


@pytest.mark.parametrize("spec", parity.costly(ANY_SIZE, parity.OPERATIONS))
def test_images_of_any_size_and_other_numbers(spec: str) -> None:
    network = parity.network_of(spec)
    module = parity.module_of(network, "keras")
    model = getattr(module, network.name)(num_classes=7, input_shape=(None, None, 5))
    features = getattr(module, f"{network.name}_features")(input_shape=(None, None, 5))
    reached = {stage.name: stage.output.channels for stage in network.stages if stage.feature}
    for size in (33, 48):
        images = np.zeros((2, size, size, 5), "float32")
        assert tuple(model(images, training=False).shape) == (2, 7)
        found = features(images, training=False)
        assert {name: value.shape[-1] for name, value in found.items()} == reached


def test_a_training_step_moves_every_weight() -> None:
    network = parity.network_of(parity.SPECS / "se.yaml")
    model = parity.build(network, "keras", input_shape=(16, 16, 3))
    randomize(model)
    before = [weight.numpy().copy() for weight in model.weights]
    model.compile(optimizer="sgd", loss="mse")
    model.fit(parity.images(4, 16, 16, 3), np.ones((4, 10)), epochs=1, verbose=0)
    for weight, value in zip(model.weights, before, strict=True):
        assert (weight.numpy() != value).any(), weight.path


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("pydot")
    import keras

    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    model = parity.build(parity.network_of(parity.SPECS / "resnest.yaml"), "keras")
    keras.utils.plot_model(model, to_file=str(tmp_path / "model.png"), show_shapes=True)
    assert (tmp_path / "model.png").stat().st_size > 1000


def test_dot_graph_without_graphviz() -> None:
    """The graph that `plot_model` draws can be made of every kind of layer."""
    pytest.importorskip("pydot")
    from keras.src.utils.model_visualization import model_to_dot

    for name in ("primitives", "resnest"):
        model = parity.build(parity.network_of(parity.SPECS / f"{name}.yaml"), "keras")
        graph = model_to_dot(model, show_shapes=True, show_layer_names=True)
        assert "images" in graph.to_string()


def test_layers_are_called_as_in_the_ir() -> None:
    network = parity.network_of(parity.SPECS / "dense.yaml")
    model = parity.build(network, "keras")
    names = {layer.name for layer in model.layers}
    for canonical, operation in network.operations():
        if operation.parameters:
            assert canonical.replace(".", "_") in names


DEEP = """\
spec_version: 1
name: deep
description: More layers one behind the other than Python recurses by default
input: {channels: 3, height: 8, width: 8}
classes: 5
blocks:
  chain:
    description: Activations alone
    layers: [{for: k, count: 100, layers: [{act: "act.{k}"}]}]
stages: [{name: stage, block: chain, repeat: 11}]
head: [{global_avg_pool: avgpool}, {linear: fc, features: classes}]
"""


def test_a_deep_network_says_what_it_needs() -> None:
    module = parity.module_of(parity.network_of_text(DEEP), "keras")
    (needed,) = re.findall(r"after sys.setrecursionlimit\((\d+)\)", module.deep.__doc__)
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(1000)
        with pytest.raises(RecursionError):
            module.deep()
        sys.setrecursionlimit(int(needed))
        assert len(module.deep().layers) > 1000
    finally:
        sys.setrecursionlimit(before)
