"""Grad-CAM by hooks on a named activation, in PyTorch, and by a model's layers in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import parity
import pytest
import reference


def grad_cam(model: Any, layer: str, images: Any, label: int) -> np.ndarray:
    """Where a network looks for a class (Selvaraju et al. 2017), as its usual code has it."""
    kept: dict[str, Any] = {}
    module = model.get_submodule(layer)

    def keep(module: Any, inputs: Any, output: Any) -> None:
        kept["map"] = output
        output.register_hook(lambda gradient: kept.update(gradient=gradient))

    handle = module.register_forward_hook(keep)
    model(images)[:, label].sum().backward()
    handle.remove()
    weights = kept["gradient"].mean(dim=(2, 3), keepdim=True)
    heat: np.ndarray = (weights * kept["map"]).sum(dim=1).relu().detach().numpy()
    return heat


@pytest.mark.torch
def test_pytorch_looks_where_torchvisions_does() -> None:
    ours = parity.build(parity.network_of("resnet18"), "torch").double().eval()
    theirs = reference.torchvision().models.resnet18(weights=None).double().eval()
    parity.randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    images = parity.tensor(parity.images(2, 3, 64, 96))
    wanted = grad_cam(theirs, "layer4", images, 7)
    assert wanted.max() > 0
    for layer in ("layer4", "layer4.1", "layer4.1.act2"):
        assert np.array_equal(grad_cam(ours, layer, images, 7), wanted)


@pytest.mark.torch
@pytest.mark.keras
def test_keras_looks_where_pytorch_does(double: None) -> None:
    import keras
    import tensorflow as tf

    pair = parity.pair(parity.network_of(parity.SPECS / "se.yaml"))
    network = pair.network
    last = f"{network.stages[-1].name}.1.act2"
    images = parity.images(2, *network.input.dimensions)
    wanted = grad_cam(pair.torch.eval(), last, parity.tensor(images), 3)

    layer = pair.keras.get_layer(last.replace(".", "_"))
    model = keras.Model(pair.keras.inputs, [layer.output, pair.keras.output])
    with tf.GradientTape() as tape:
        maps, logits = model(images.transpose(0, 2, 3, 1))
        score = tf.reduce_sum(logits[:, 3])
    weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)).numpy()
    assert wanted.max() > 0
    assert parity.difference(heat, wanted) < 1e-9
