"""`numerics: exact`: what Keras computes otherwise by default is gone, on all of its frameworks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

STEPS, BATCH = 5, 2
MOMENTUM = 0.9  # of Keras: the weight of the old statistics

SPEC = """\
spec_version: 1
name: small
description: A small network with small maps, where few values make a variance
input: {channels: 3, height: 16, width: 12}
classes: 5
defaults: {act: ACT}
stem:
  - {conv: conv1, filters: 8, kernel: 3, stride: 2}
  - {norm: bn1}
  - act
stages:
  - {name: layer1, block: basic, filters: 8}
  - {name: layer2, block: basic, filters: 16, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


def network_of(numerics: str, act: str = "silu") -> Network:
    text = SPEC.replace("ACT", act)
    return parity.network_of_text(f"{text}numerics: {numerics}\n")


def batches(network: Network) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and wanted outputs, one pair for each step."""
    shape = network.input.dimensions
    return [
        (parity.images(BATCH, *shape, seed=step), parity.images(BATCH, 5, seed=100 + step))
        for step in range(STEPS)
    ]


def train_torch(model: Any, given: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.train()
    for images, wanted in given:
        optimizer.zero_grad()
        found = model(parity.tensor(images, model))
        torch.nn.functional.mse_loss(found, parity.tensor(wanted, model)).backward()
        optimizer.step()


def train_keras(model: Any, given: Sequence[tuple[np.ndarray, np.ndarray]], jit: Any) -> None:
    import keras

    optimizer = keras.optimizers.SGD(0.05)
    model.compile(optimizer, keras.losses.MeanSquaredError(), jit_compile=jit)
    for images, wanted in given:
        model.train_on_batch(images.transpose(0, 2, 3, 1), wanted)


def variances(network: Network, pair: parity.Pair) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """The running variance of each norm in PyTorch and in Keras, and of how many values it is."""
    import keras

    found = {}
    for name, operation in network.operations():
        if operation.primitive.name == "batch_norm":
            layer = pair.keras.get_layer(name.replace(".", "_"))
            found[name] = (
                pair.torch.get_submodule(name).running_var.numpy(),
                keras.ops.convert_to_numpy(layer.moving_variance),
                BATCH * operation.inputs[0].elements // operation.inputs[0].channels,
            )
    return found


def trained(numerics: str, jit: Any = "auto") -> tuple[Network, parity.Pair, dict[str, np.ndarray]]:
    """Both models after the same steps, and the variances before them."""
    network = network_of(numerics)
    pair = parity.pair(network, input_shape=(None, None, 3))
    before = {name: one.copy() for name, (one, _, _) in variances(network, pair).items()}
    train_torch(pair.torch, batches(network))
    train_keras(pair.keras, batches(network), jit)
    return network, pair, before


def check_statistics(exact: float, idiomatic: float, jit: Any = "auto") -> None:
    """Equal under `exact`; else too small by one of N in what the steps have added."""
    network, pair, _ = trained("exact", jit)
    for name, (ours, theirs, _) in variances(network, pair).items():
        assert parity.difference(theirs, ours) < exact, name
    network, pair, before = trained("idiomatic", jit)
    for name, (ours, theirs, count) in variances(network, pair).items():
        kept = before[name] * MOMENTUM**STEPS
        assert parity.difference((theirs - kept) * count / (count - 1), ours - kept) < idiomatic
        assert parity.difference(theirs, ours) > 0.1 / count


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("jit", [True, False])
def test_running_statistics_after_training(jit: bool) -> None:
    with parity.float64():
        check_statistics(1e-12, 1e-12, jit)


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_running_statistics_on_other_frameworks(framework: str) -> None:
    pytest.importorskip(framework)
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "KERAS_BACKEND": framework,
        "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent / "support", here.parents[1]))),
    }
    # Keras has its norms in single precision on these two, whatever its inputs are.
    code = "import test_numerics as t; t.check_statistics(1e-5, 1e-4)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("act", ["gelu", "leaky_relu", "{leaky_relu: {slope: 0.3}}"])
def test_constants_are_rounded_as_the_input_is(act: str) -> None:
    def distance(numerics: str) -> float:
        pair = parity.pair(network_of(numerics, act))
        return max(pair.differences(parity.images(2, 3, 16, 12)).values())

    with parity.float64():
        assert distance("exact") < 1e-13
        assert distance("idiomatic") > 1e-11


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize(
    "act",
    [
        pytest.param("silu", marks=pytest.mark.slow),
        pytest.param("gelu", marks=pytest.mark.slow),
        "{leaky_relu: {slope: 0.3}}",
    ],
)
def test_a_saved_model_is_loaded_as_it_was(tmp_path: Path, act: str) -> None:
    import keras

    network = network_of("exact", act)
    pair = parity.pair(network)
    given = [(images.astype("float32"), wanted) for images, wanted in batches(network)]
    pair.keras.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for model in (pair.keras, loaded):
        train_keras(model, given, jit="auto")
    one, other = (model.get_weights() for model in (pair.keras, loaded))
    assert all(np.array_equal(*weights) for weights in zip(one, other, strict=True))
    kinds = {type(layer).__name__: type(layer).__module__ for layer in loaded.layers}
    assert not kinds["BatchNormalization"].startswith("keras")


@pytest.mark.keras
def test_mixed_precision_keeps_the_statistics_in_single_precision() -> None:
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = network_of("exact", "gelu")
        model = parity.build(network, "keras")
        train_keras(model, batches(network), jit="auto")
    finally:
        keras.config.set_dtype_policy("float32")
    layer = model.get_layer("bn1")
    assert (layer.compute_dtype, layer.moving_variance.dtype) == ("bfloat16", "float32")
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@pytest.mark.keras
def test_a_frozen_norm_keeps_its_statistics() -> None:
    network = network_of("exact")
    model = parity.build(network, "keras")
    layer = model.get_layer("layer1_bn1")
    layer.trainable = False
    before = layer.get_weights()
    train_keras(model, batches(network), jit="auto")
    assert all(np.array_equal(*each) for each in zip(before, layer.get_weights(), strict=True))


def test_pytorch_is_the_same_in_both() -> None:
    texts = [parity.source_of(network_of(each), "torch") for each in ("exact", "idiomatic")]
    bodies = ["\n".join(t for t in text.split("\n") if "sha256" not in t) for text in texts]
    assert bodies[0] == bodies[1]


def test_it_is_a_key_and_a_setting() -> None:
    assert parity.network_of("resnet18").numerics == "idiomatic"
    network = lower(load("resnet18", Library(), settings=("numerics=exact",)))
    assert network.numerics == "exact"
    assert "class BatchNormalization" in parity.source_of(network, "keras")
    with pytest.raises(SpecError, match="numerics"):
        network_of("precise")
