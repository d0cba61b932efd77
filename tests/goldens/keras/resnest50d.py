"""ResNeSt-50, two branches.

https://arxiv.org/abs/2004.08955

Input: 3x224x224, 1000 classes.

stage   output      blocks       parameters  multiply-adds
stem    64x56x56    deep_stem        28,768    357,654,528
layer1  256x56x56   resnest x 3     235,296    667,961,344
layer2  512x28x28   resnest x 4   1,320,704  1,374,519,296
layer3  1024x14x14  resnest x 6   7,696,640  1,811,742,720
layer4  2048x7x7    resnest x 3  16,152,832  1,157,234,688
head    1000                      2,049,000      2,048,000
total                            27,483,240  5,371,160,576
"""

import keras
from keras import KerasTensor, initializers, layers, ops


def make_divisible(
    value: float, divisor: int, minimum: int | None = None, round_limit: float = 0.9
) -> int:
    """The multiple of `divisor` nearest to `value`, at least `minimum` or else `divisor`.

    If rounding would lose more than `1 - round_limit` of the value, it is one step more, as
    in the reference implementation of MobileNet and in timm (layers/helpers.py).
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


def softmax_over_groups(x: KerasTensor, groups: int) -> KerasTensor:
    """Softmax across groups of channels, for each channel within a group."""
    x = ops.stack(ops.split(x, groups, axis=-1), axis=-2)
    x = ops.softmax(x, axis=-2)
    x = ops.concatenate(ops.split(x, groups, axis=-2), axis=-1)
    return ops.squeeze(x, axis=-2)


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = False,
    name: str,
) -> KerasTensor:
    """Convolution, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == kernel_size - 1
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        groups=groups,
        use_bias=bias,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)


def batch_norm(
    x: KerasTensor, *, init: str | initializers.Initializer = "ones", name: str
) -> KerasTensor:
    """Batch normalisation over each channel."""
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=init, name=name
    )(x)


def avg_pool(
    x: KerasTensor, pool_size: int, *, stride: int = 1, name: str
) -> KerasTensor:
    """Average pooling that counts padding as zeros."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.AveragePooling2D(pool_size, strides=stride, name=name)(x)


def max_pool(x: KerasTensor, pool_size: int, *, name: str) -> KerasTensor:
    """Max pooling of non-negative values, which zero padding never exceeds."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(pool_size, strides=2, name=name)(x)


def deep_stem(x: KerasTensor, *, name: str) -> KerasTensor:
    """Three 3x3 convolutions for the 7x7 one of a stem (He et al. 2018, ResNet-C)."""
    x = conv2d(x, 32, 3, stride=2, padding=1, name=f"{name}_0")
    x = batch_norm(x, name=f"{name}_1")
    x = layers.ReLU(name=f"{name}_2")(x)

    x = conv2d(x, 32, 3, padding=1, name=f"{name}_3")
    x = batch_norm(x, name=f"{name}_4")
    x = layers.ReLU(name=f"{name}_5")(x)

    return conv2d(x, 64, 3, padding=1, name=f"{name}_6")


def split_attention(x: KerasTensor, filters: int, *, name: str) -> KerasTensor:
    """3x3 convolution into branches, weighted by attention (Zhang et al. 2020)."""
    in_channels = x.shape[-1]
    squeezed = make_divisible(in_channels / 2, 8, minimum=32)

    stacked = conv2d(x, filters * 2, 3, padding=1, groups=2, name=f"{name}_conv")
    stacked = batch_norm(stacked, name=f"{name}_bn0")
    stacked = layers.ReLU(name=f"{name}_act0")(stacked)

    branches = ops.split(stacked, 2, axis=-1)
    weights = layers.Add(name=f"{name}_sum")(branches)
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(
        weights
    )
    weights = conv2d(weights, squeezed, 1, bias=True, name=f"{name}_fc1")
    weights = batch_norm(weights, name=f"{name}_bn1")
    weights = layers.ReLU(name=f"{name}_act1")(weights)

    weights = conv2d(weights, filters * 2, 1, bias=True, name=f"{name}_fc2")
    weights = softmax_over_groups(weights, 2)

    x = layers.Multiply(name=f"{name}_weigh")([stacked, weights])
    weighted = ops.split(x, 2, axis=-1)
    return layers.Add(name=f"{name}_out")(weighted)


def avg_pool_shortcut(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """Average pooling, then a 1x1 convolution (He et al. 2018, ResNet-D)."""
    if stride > 1:
        x = layers.AveragePooling2D(
            2, strides=stride, padding="same", name=f"{name}_0"
        )(x)

    x = conv2d(x, filters, 1, name=f"{name}_1")
    return batch_norm(x, name=f"{name}_2")


def resnest(x: KerasTensor, filters: int, stride: int = 1, *, name: str) -> KerasTensor:
    """Bottleneck with split attention for its 3x3 (Zhang et al. 2020, figure 2)."""
    in_channels = x.shape[-1]
    out_channels = filters * 4

    residual = conv2d(x, filters, 1, name=f"{name}_conv1")
    residual = batch_norm(residual, name=f"{name}_bn1")
    residual = layers.ReLU(name=f"{name}_act1")(residual)

    residual = split_attention(residual, filters, name=f"{name}_conv2")
    if stride > 1:
        residual = avg_pool(residual, 3, stride=stride, name=f"{name}_avd_last")

    residual = conv2d(residual, out_channels, 1, name=f"{name}_conv3")
    residual = batch_norm(residual, init="zeros", name=f"{name}_bn3")

    shortcut = x
    if stride != 1 or in_channels != out_channels:
        shortcut = avg_pool_shortcut(
            x, out_channels, stride=stride, name=f"{name}_downsample"
        )
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act3")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = deep_stem(x, name="conv1")
    x = batch_norm(x, name="bn1")
    x = layers.ReLU(name="act1")(x)
    x = max_pool(x, 3, name="maxpool")

    x = resnest(x, 64, name="layer1_0")
    for i in range(1, 3):
        x = resnest(x, 64, name=f"layer1_{i}")
    features["layer1"] = x

    x = resnest(x, 128, stride=2, name="layer2_0")
    for i in range(1, 4):
        x = resnest(x, 128, name=f"layer2_{i}")
    features["layer2"] = x

    x = resnest(x, 256, stride=2, name="layer3_0")
    for i in range(1, 6):
        x = resnest(x, 256, name=f"layer3_{i}")
    features["layer3"] = x

    x = resnest(x, 512, stride=2, name="layer4_0")
    for i in range(1, 3):
        x = resnest(x, 512, name=f"layer4_{i}")
    features["layer4"] = x
    return features


def resnest50d(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build resnest50d with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer4"]
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="resnest50d")


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


def resnest50d_features(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="resnest50d_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "act1", "num_chs": 64, "reduction": 2},
        {"module": "layer1", "num_chs": 256, "reduction": 4},
        {"module": "layer2", "num_chs": 512, "reduction": 8},
        {"module": "layer3", "num_chs": 1024, "reduction": 16},
        {"module": "layer4", "num_chs": 2048, "reduction": 32},
    ]
    model.pyramid_outputs = {
        "P1": model.get_layer("act1").output,
        "P2": features["layer1"],
        "P3": features["layer2"],
        "P4": features["layer3"],
        "P5": features["layer4"],
    }
    return model
