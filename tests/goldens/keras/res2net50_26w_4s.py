"""Res2Net-50, 4 parts of 26 channels.

https://arxiv.org/abs/1904.01169

Input: 3x224x224, 1000 classes.

stage   output      blocks       parameters  multiply-adds
stem    64x56x56                      9,536    118,013,952
layer1  256x56x56   res2net x 3     214,056    661,432,576
layer2  512x28x28   res2net x 4   1,229,856  1,083,149,312
layer3  1024x14x14  res2net x 6   7,198,368  1,531,597,312
layer4  2048x7x7    res2net x 3  14,998,304    858,925,312
head    1000                      2,049,000      2,048,000
total                            25,699,120  4,255,166,464
"""

import keras
from keras import KerasTensor, initializers, layers, ops


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
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
        use_bias=False,
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


def projection(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """1x1 convolution that fits the shortcut to the residual (option B)."""
    x = conv2d(x, filters, 1, stride=stride, name=f"{name}_0")
    return batch_norm(x, name=f"{name}_1")


def res2net(
    x: KerasTensor, filters: int, first: bool, stride: int = 1, *, name: str
) -> KerasTensor:
    """Bottleneck whose 3x3 is a chain over parts of the channels (Gao et al. 2019)."""
    in_channels = x.shape[-1]
    width = filters * 26 // 64
    out_channels = filters * 4

    out = conv2d(x, width * 4, 1, name=f"{name}_conv1")
    out = batch_norm(out, name=f"{name}_bn1")
    out = layers.ReLU(name=f"{name}_act1")(out)

    parts = ops.split(out, 4, axis=-1)
    piece = parts[0]
    pieces = []

    for part in range(3):
        if part > 0 and not first:
            piece = layers.Add(name=f"{name}_add_{part}")([parts[part], piece])
        else:
            piece = parts[part]
        piece = conv2d(
            piece, width, 3, stride=stride, padding=1, name=f"{name}_convs_{part}"
        )
        piece = batch_norm(piece, name=f"{name}_bns_{part}")
        piece = layers.ReLU(name=f"{name}_acts_{part}")(piece)
        pieces.append(piece)

    if first:
        last = avg_pool(parts[3], 3, stride=stride, name=f"{name}_pool")
    else:
        last = parts[3]
    residual = layers.Concatenate(name=f"{name}_concat")([*pieces, last])
    residual = conv2d(residual, out_channels, 1, name=f"{name}_conv3")
    residual = batch_norm(residual, init="zeros", name=f"{name}_bn3")

    shortcut = x
    if stride != 1 or in_channels != out_channels:
        shortcut = projection(x, out_channels, stride=stride, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add2")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act3")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 64, 7, stride=2, padding=3, name="conv1")
    x = batch_norm(x, name="bn1")
    x = layers.ReLU(name="act1")(x)
    x = max_pool(x, 3, name="maxpool")

    x = res2net(x, 64, first=True, name="layer1_0")
    for i in range(1, 3):
        x = res2net(x, 64, first=False, name=f"layer1_{i}")
    features["layer1"] = x

    x = res2net(x, 128, first=True, stride=2, name="layer2_0")
    for i in range(1, 4):
        x = res2net(x, 128, first=False, name=f"layer2_{i}")
    features["layer2"] = x

    x = res2net(x, 256, first=True, stride=2, name="layer3_0")
    for i in range(1, 6):
        x = res2net(x, 256, first=False, name=f"layer3_{i}")
    features["layer3"] = x

    x = res2net(x, 512, first=True, stride=2, name="layer4_0")
    for i in range(1, 3):
        x = res2net(x, 512, first=False, name=f"layer4_{i}")
    features["layer4"] = x
    return features


def res2net50_26w_4s(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build res2net50_26w_4s with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer4"]
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="res2net50_26w_4s")


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


def res2net50_26w_4s_features(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="res2net50_26w_4s_features")
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
