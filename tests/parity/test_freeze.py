"""`freeze_until`: the same weights stay as they are in both frameworks, statistics included."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import parity
import pytest

from resnet_spec.backends.keras.variables import VARIABLES, layer_name
from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network

SPEC = """\
spec_version: 1
name: small
description: A small network, each part of which learns
input: {channels: 3, height: 16, width: 16}
classes: 5
defaults: {norm: NORM}
stem:
  - {conv: features.conv0, filters: 8, kernel: 3}
  - {norm: features.norm0}
  - act
stages:
  - {name: features.block1, block: basic, repeat: 2, filters: 8}
  - {name: features.block10, block: basic, filters: 16, stride: 2, feature: false}
  - {name: features.layer2, block: basic, filters: 16}
head:
  - {norm: features.norm5}
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


# The first layer of a head that learns, where that is not fc.
HEADS = {"small": "features.norm5", "densenet121": "features.norm5", "resnetv2_50": "norm"}


def network_of(norm: str = "batch_norm") -> Network:
    return parity.network_of_text(SPEC.replace("NORM", norm))


def frozen_in_torch(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def frozen_in_keras(network: Network, model: Any) -> set[str]:
    """The same by the names of the IR."""
    trainable = {variable.path for variable in model.trainable_variables}
    return {
        f"{name}.{parameter.name}"
        for name, operation in network.operations()
        for parameter in operation.parameters
        if parameter.trainable and variable_of(model, name, operation, parameter) not in trainable
    }


def variable_of(model: Any, name: str, operation: Any, parameter: Any) -> str:
    attribute = VARIABLES[operation.primitive.name, parameter.name][0]
    path: str = getattr(model.get_layer(layer_name(name)), attribute).path
    return path


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("name", ["small", "resnet18", "densenet121", "resnetv2_50", "bottleneck"])
def test_both_frameworks_freeze_the_same(name: str) -> None:
    import torch

    spec = parity.SPECS / "bottleneck_v1.yaml" if name == "bottleneck" else name
    network = network_of() if name == "small" else parity.network_of(spec)
    torch_module = parity.module_of(network, "torch")
    keras_module = parity.module_of(network, "keras")
    with torch.device("meta"):
        torch_model = getattr(torch_module, network.name)()
    keras_model = getattr(keras_module, network.name)()
    everything = {name for name, _ in torch_model.named_parameters()}
    before: set[str] = set()
    for until in (*(stage.name for stage in network.stages), HEADS.get(name, "fc")):
        torch_model.freeze_until(until)
        keras_module.freeze_until(keras_model, until)
        frozen = frozen_in_torch(torch_model)
        assert frozen == frozen_in_keras(network, keras_model)
        assert before < frozen < everything
        assert not any(name.startswith(f"{until}.") for name in frozen)
        before = frozen


@pytest.mark.keras
def test_names_within_blocks_need_no_order_in_keras() -> None:
    """The layers of Res2Net's convolutions, norms and activations take turns."""
    network = parity.network_of(parity.SPECS / "res2net.yaml")
    module = parity.module_of(network, "keras")
    model = getattr(module, network.name)()
    names = [
        f"{name}.{parameter.name}"
        for name, operation in network.operations()
        for parameter in operation.parameters
        if parameter.trainable
    ]
    for stage in network.stages:
        module.freeze_until(model, stage.name)
        frozen = frozen_in_keras(network, model)
        first = next(n for n, name in enumerate(names) if name.startswith(f"{stage.name}."))
        assert frozen == {*names[:first]} != set()


def step_torch(model: Any, images: np.ndarray, wanted: np.ndarray) -> None:
    import torch

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    found = model.train()(parity.tensor(images, model))
    torch.nn.functional.mse_loss(found, parity.tensor(wanted, model)).backward()
    optimizer.step()


def step_keras(model: Any, images: np.ndarray, wanted: np.ndarray) -> None:
    import keras

    model.compile(keras.optimizers.SGD(0.05), keras.losses.MeanSquaredError())
    model.train_on_batch(images.transpose(0, 2, 3, 1), wanted)


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("part", ["features.conv0", "features.block10", "features.norm5"])
def test_a_step_moves_the_others_alone(part: str) -> None:
    network = parity.network_of_text(SPEC.replace("NORM", "batch_norm") + "numerics: exact\n")
    with parity.float64():
        pair = parity.pair(network)
        pair.torch.freeze_until(part)
        parity.module_of(network, "keras").freeze_until(pair.keras, part)
        before = {name: value.clone() for name, value in pair.torch.state_dict().items()}
        layers = {layer.name: layer.get_weights() for layer in pair.keras.layers}
        frozen = frozen_in_torch(pair.torch)
        images, wanted = parity.images(2, 3, 16, 16), parity.images(2, 5)
        step_torch(pair.torch, images, wanted)
        step_keras(pair.keras, images, wanted)
    state = pair.torch.state_dict()
    for name, operation in network.operations():
        stays = any(f"{name}.{parameter.name}" in frozen for parameter in operation.parameters)
        layer = pair.keras.get_layer(layer_name(name)) if operation.parameters else None
        for index, parameter in enumerate(operation.parameters):
            dotted = f"{name}.{parameter.name}"
            assert bool((state[dotted] == before[dotted]).all()) == stays, dotted
            now = layer.get_weights()[index]
            assert np.array_equal(now, layers[layer.name][index]) == stays, dotted
            axes = VARIABLES[operation.primitive.name, parameter.name][1]
            assert parity.difference(now, state[dotted].numpy().transpose(axes)) < 1e-11, dotted


@pytest.mark.torch
def test_it_lasts_through_train_copies_and_files() -> None:
    import torch

    network = network_of()
    model = parity.build(network, "torch")
    model.freeze_until("features.layer2")
    images = parity.tensor(parity.images(2, 3, 16, 16).astype("float32"))
    wrapped = torch.nn.Sequential(model)
    copies = [model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), wrapped[0]]
    wrapped.train()
    for each in copies:
        each.train()
        frozen, moving = each.features.norm0, each.features.layer2.bn1
        before = [norm.running_mean.clone() for norm in (frozen, moving)]
        assert each.training
        assert not frozen.training
        each(images)
        assert torch.equal(frozen.running_mean, before[0])
        assert not torch.equal(moving.running_mean, before[1])
        assert frozen_in_torch(each) == frozen_in_torch(model)
    fresh = parity.build(network, "torch")
    fresh.load_state_dict(model.state_dict())
    model.freeze_until("features.conv0")
    assert not frozen_in_torch(model)
    assert model.train().features.norm0.training
    assert not model.eval().training


@pytest.mark.torch
def test_it_holds_for_norms_of_several_processes() -> None:
    import torch

    model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(parity.build(network_of(), "torch"))
    model.freeze_until("features.layer2")
    model.train()
    assert not model.features["norm0"].training
    assert model.features["layer2"].bn1.training


@pytest.mark.torch
def test_it_lasts_in_a_compiled_model() -> None:
    import torch

    model = parity.build(network_of(), "torch")
    model.freeze_until("fc")
    compiled = torch.compile(model, backend="eager")
    before = model.features["layer2"].bn1.running_var.clone()
    compiled.train()
    compiled(parity.tensor(parity.images(2, 3, 16, 16).astype("float32")))
    assert torch.equal(model.features["layer2"].bn1.running_var, before)


@pytest.mark.torch
@pytest.mark.keras
def test_an_unknown_name_is_told() -> None:
    network = network_of()
    with pytest.raises(ValueError, match="there is no module 'layer9'"):
        parity.build(network, "torch").freeze_until("layer9")
    module = parity.module_of(network, "keras")
    with pytest.raises(ValueError, match="there is no stage or layer 'layer9'"):
        module.freeze_until(module.small(), "layer9")


def test_layers_that_do_not_stand_as_they_run() -> None:
    for stage, known in (("layer2", False), ("features.layer2", True)):
        text = SPEC.replace("NORM", "batch_norm").replace("features.layer2", stage)
        for backend in ("torch", "keras"):
            source = parity.source_of(parity.network_of_text(text), backend)
            assert ("freeze_until" in source) == known


def test_without_statistics_nothing_is_said_of_them() -> None:
    for backend in ("torch", "keras"):
        text = parity.source_of(network_of("{group_norm: {groups: 4}}"), backend)
        assert "freeze_until" in text
        assert "batch norm" not in text
        assert "def train" not in text


def test_names_that_keras_could_not_tell_apart() -> None:
    text = SPEC.replace("NORM", "batch_norm").replace(
        "name: features.layer2", "name: features.block10_conv1"
    )
    with pytest.raises(SpecError, match=r"looks like one of 'features\.block10_conv1'") as raised:
        parity.source_of(parity.network_of_text(text), "keras")
    (found,) = raised.value.diagnostics
    assert found.code == "RS503"
    assert found.span is not None and found.span.line > 1  # the layer's place
