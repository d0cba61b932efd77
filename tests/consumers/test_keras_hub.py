"""KerasHub builds RetinaNet's pyramid and DeepLab upon `pyramid_outputs`."""

from __future__ import annotations

from typing import Any

import numpy as np
import parity
import pytest
import reference

pytestmark = pytest.mark.keras


def features_of(name: str, *settings: str) -> Any:
    """A backbone in Keras, for images of 64 x 64."""
    network = parity.network_of(name, *settings)
    module = parity.run(parity.source_of(network, "keras"), f"generated_keras_{network.name}")
    return getattr(module, f"{network.name}_features")(input_shape=(64, 64, 3))


@pytest.mark.torch
def test_the_pyramid_is_that_of_pytorch(double: None) -> None:
    """Level n is the last map at a stride of 2**n, the stem's among them."""
    import consumers
    import keras

    pair = parity.pair(parity.network_of("resnet18"), input_shape=(64, 96, 3))
    assert pair.features.feature_info == pair.torch.feature_info
    images = parity.images(2, 3, 64, 96)
    names = consumers.modules_of(pair.torch)
    wanted = consumers.hooked(pair.torch.eval(), names, lambda: pair.torch(parity.tensor(images)))
    pyramid = keras.Model(pair.features.inputs, pair.features.pyramid_outputs)
    found = pyramid(images.transpose(0, 2, 3, 1), training=False)
    assert list(found) == ["P1", "P2", "P3", "P4", "P5"]
    for name, value in zip(names, found.values(), strict=True):
        assert parity.difference(parity.keras_to_torch(value), wanted[name].numpy()) < 1e-9, name


def test_retinanet_builds_its_pyramid_upon_it() -> None:
    backbone = reference.keras_hub().models.RetinaNetBackbone(
        image_encoder=features_of("resnet18"),
        min_level=3,
        max_level=7,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    maps = backbone(parity.images(1, 64, 64, 3).astype("float32"))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        f"P{level}": (1, max(64 // 2**level, 1), max(64 // 2**level, 1), 256)
        for level in range(3, 8)
    }


def test_deeplab_trains_upon_a_dilated_one() -> None:
    """At an output stride of 16 there is no P5, and P4 is the last stage's map."""
    import keras

    keras.utils.set_random_seed(0)
    settings = ("stages.layer4.stride=1", "stages.layer4.dilation=2")
    features = features_of("resnet18", *settings)
    assert list(features.pyramid_outputs) == ["P1", "P2", "P3", "P4"]
    assert features.pyramid_outputs["P4"] is features.output["layer4"]
    models = reference.keras_hub().models
    backbone = models.DeepLabV3Backbone(
        image_encoder=features,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[1, 2],
        image_shape=(64, 64, 3),
    )
    model = models.DeepLabV3ImageSegmenter(backbone, num_classes=3, activation="softmax")
    model.compile(optimizer="sgd", loss="categorical_crossentropy", metrics=[], jit_compile=False)
    first = features.get_layer("conv1")
    before = np.copy(first.kernel)
    images = parity.images(2, 64, 64, 3).astype("float32")
    labels = np.eye(3)[np.arange(2 * 64 * 64).reshape(2, 64, 64) % 3]
    loss = model.train_on_batch(images, labels)
    assert np.isfinite(loss)
    assert np.abs(np.copy(first.kernel) - before).max() > 0
