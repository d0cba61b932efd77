"""DPN-68, a residual and a dense path.

https://arxiv.org/abs/1707.01629

Input: 3x224x224, 1000 classes.

stage   output     blocks          parameters  multiply-adds
stem    10x56x56                          290      3,386,880
layer1  144x56x56  dual_path x 3       79,560    243,052,544
layer2  320x28x28  dual_path x 4      504,896    477,675,520
layer3  704x14x14  dual_path x 12   5,841,152  1,233,928,192
layer4  832x7x7    dual_path x 3    5,351,040    367,288,320
head    1000                          834,664        832,000
total                              12,611,602  2,326,163,456
"""

import keras
from keras import KerasTensor, initializers, layers


def batch_norm(x: KerasTensor, *, name: str) -> KerasTensor:
    """Batch normalisation over each channel."""
    return layers.BatchNormalization(momentum=0.9, epsilon=0.001, name=name)(x)


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    name: str,
) -> KerasTensor:
    """Convolution without a bias, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == kernel_size - 1
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        groups=groups,
        use_bias=False,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)


def max_pool(x: KerasTensor, pool_size: int, *, name: str) -> KerasTensor:
    """Max pooling of non-negative values, which zero padding never exceeds."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(pool_size, strides=2, name=name)(x)


def norm_act_conv(
    x: KerasTensor,
    filters: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    name: str,
) -> KerasTensor:
    """A norm, an activation and a convolution."""
    x = batch_norm(x, name=f"{name}_bn")
    x = layers.ReLU(name=f"{name}_act")(x)
    return conv2d(
        x,
        filters,
        kernel,
        stride=stride,
        padding=(kernel - 1) // 2,
        groups=groups,
        name=f"{name}_conv",
    )


def dual_path(
    x: KerasTensor,
    filters: int,
    growth: int,
    width: int,
    project: bool,
    stride: int = 1,
    *,
    name: str,
) -> KerasTensor:
    """A residual and a growing dense path in one feature map (Chen et al. 2017)."""
    carried = x
    if project:
        carried = norm_act_conv(
            x, filters + 2 * growth, stride=stride, name=f"{name}_project"
        )
    shortcut = carried[..., :filters]
    dense = carried[..., filters:]

    narrow = norm_act_conv(x, width, name=f"{name}_reduce")
    narrow = norm_act_conv(
        narrow, width, kernel=3, stride=stride, groups=32, name=f"{name}_grouped"
    )
    both = norm_act_conv(narrow, filters + growth, name=f"{name}_expand")
    residual = both[..., :filters]
    new = both[..., filters:]

    residual = layers.Add(name=f"{name}_add")([shortcut, residual])
    return layers.Concatenate(name=f"{name}_concat")([residual, dense, new])


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 10, 3, stride=2, padding=1, name="conv1")
    x = batch_norm(x, name="bn1")
    x = layers.ReLU(name="act1")(x)
    x = max_pool(x, 3, name="maxpool")

    x = dual_path(x, 64, growth=16, width=128, project=True, name="layer1_0")
    x = dual_path(x, 64, growth=16, width=128, project=False, name="layer1_1")
    x = dual_path(x, 64, growth=16, width=128, project=False, name="layer1_2")
    features["layer1"] = x

    x = dual_path(x, 128, growth=32, width=256, project=True, stride=2, name="layer2_0")
    for i in range(1, 4):
        x = dual_path(x, 128, growth=32, width=256, project=False, name=f"layer2_{i}")
    features["layer2"] = x

    x = dual_path(x, 256, growth=32, width=512, project=True, stride=2, name="layer3_0")
    for i in range(1, 12):
        x = dual_path(x, 256, growth=32, width=512, project=False, name=f"layer3_{i}")
    features["layer3"] = x

    x = dual_path(
        x, 512, growth=64, width=1024, project=True, stride=2, name="layer4_0"
    )
    x = dual_path(x, 512, growth=64, width=1024, project=False, name="layer4_1")
    x = dual_path(x, 512, growth=64, width=1024, project=False, name="layer4_2")
    features["layer4"] = x
    return features


def dpn68(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build dpn68 with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer4"]
    x = batch_norm(x, name="norm")
    x = layers.ReLU(name="act")(x)

    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="dpn68")


def freeze_until(model: keras.Model, name: str) -> None:
    """Freeze every layer before the stage or layer `name`, and train the rest.

    Frozen batch norms run in inference mode, so their moving statistics do not change.
    Compile the model afterwards.
    """
    prefix = f"{name}_"
    if not any(f"{layer.name}_".startswith(prefix) for layer in model.layers):
        raise ValueError(f"there is no stage or layer {name!r}")
    trained = False
    for layer in model.layers:
        trained = trained or f"{layer.name}_".startswith(prefix)
        layer.trainable = trained


def dpn68_features(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="dpn68_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "act1", "num_chs": 10, "reduction": 2},
        {"module": "layer1", "num_chs": 144, "reduction": 4},
        {"module": "layer2", "num_chs": 320, "reduction": 8},
        {"module": "layer3", "num_chs": 704, "reduction": 16},
        {"module": "layer4", "num_chs": 832, "reduction": 32},
    ]
    model.pyramid_outputs = {
        "P1": model.get_layer("act1").output,
        "P2": features["layer1"],
        "P3": features["layer2"],
        "P4": features["layer3"],
        "P5": features["layer4"],
    }
    return model
