"""ResNet-50 with selective kernels.

https://arxiv.org/abs/1903.06586

Input: 3x224x224, 1000 classes.

stage   output      blocks             parameters  multiply-adds
stem    64x56x56                            9,536    118,013,952
layer1  256x56x56   sk_bottleneck x 3     220,848    667,947,520
layer2  512x28x28   sk_bottleneck x 4   1,232,960  1,027,616,768
layer3  1024x14x14  sk_bottleneck x 6   7,175,360  1,464,410,112
layer4  2048x7x7    sk_bottleneck x 3  15,115,456    809,385,984
head    1000                            2,049,000      2,048,000
total                                  25,803,160  4,089,422,336
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
    dilation: int = 1,
    name: str,
) -> KerasTensor:
    """Convolution without a bias, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == dilation * (kernel_size - 1)
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        dilation_rate=dilation,
        use_bias=False,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)


def batch_norm(x: KerasTensor, *, name: str) -> KerasTensor:
    """Batch normalisation over each channel."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def max_pool(x: KerasTensor, pool_size: int, *, name: str) -> KerasTensor:
    """Max pooling of non-negative values, which zero padding never exceeds."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(pool_size, strides=2, name=name)(x)


def conv_norm_act(
    x: KerasTensor,
    filters: int,
    kernel: int = 1,
    stride: int = 1,
    dilation: int = 1,
    activate: bool = True,
    *,
    name: str,
) -> KerasTensor:
    """A convolution, its norm and an activation."""
    x = conv2d(
        x,
        filters,
        kernel,
        stride=stride,
        padding=(kernel - 1) // 2 * dilation,
        dilation=dilation,
        name=f"{name}_conv",
    )
    x = batch_norm(x, name=f"{name}_bn")
    if activate:
        x = layers.ReLU(name=f"{name}_act")(x)
    return x


def selective_kernel(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """Two windows, 3x3 and 5x5, weighted by attention across them (Li et al. 2019)."""
    squeezed = make_divisible(filters / 16, 8)

    halves = ops.split(x, 2, axis=-1)
    narrow = halves[0]
    narrow = conv_norm_act(
        narrow, filters, kernel=3, stride=stride, name=f"{name}_paths_0"
    )
    wide = halves[1]
    if stride > 1:
        wide = layers.MaxPooling2D(1, strides=stride, name=f"{name}_seen")(wide)
    wide = conv_norm_act(
        wide, filters, kernel=3, dilation=2 // stride, name=f"{name}_paths_1"
    )
    x = layers.Add(name=f"{name}_both")([narrow, wide])
    x = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    x = conv2d(x, squeezed, 1, name=f"{name}_attn_fc_reduce")
    x = batch_norm(x, name=f"{name}_attn_bn")
    x = layers.ReLU(name=f"{name}_attn_act")(x)

    x = conv2d(x, filters * 2, 1, name=f"{name}_attn_fc_select")
    x = softmax_over_groups(x, 2)

    weights = ops.split(x, 2, axis=-1)
    narrow = layers.Multiply(name=f"{name}_weigh_narrow")([narrow, weights[0]])
    wide = layers.Multiply(name=f"{name}_weigh_wide")([wide, weights[1]])
    return layers.Add(name=f"{name}_add")([narrow, wide])


def projection(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """1x1 convolution that fits the shortcut to the residual (option B)."""
    x = conv2d(x, filters, 1, stride=stride, name=f"{name}_0")
    return batch_norm(x, name=f"{name}_1")


def sk_bottleneck(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """Bottleneck whose 3x3 convolution selects its window (Li et al. 2019)."""
    in_channels = x.shape[-1]
    out_channels = filters * 4

    residual = conv_norm_act(x, filters, name=f"{name}_conv1")
    residual = selective_kernel(residual, filters, stride=stride, name=f"{name}_conv2")
    residual = conv_norm_act(
        residual, out_channels, activate=False, name=f"{name}_conv3"
    )
    shortcut = x
    if stride != 1 or in_channels != out_channels:
        shortcut = projection(x, out_channels, stride=stride, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 64, 7, stride=2, padding=3, name="conv1")
    x = batch_norm(x, name="bn1")
    x = layers.ReLU(name="act1")(x)
    x = max_pool(x, 3, name="maxpool")

    x = sk_bottleneck(x, 64, name="layer1_0")
    for i in range(1, 3):
        x = sk_bottleneck(x, 64, name=f"layer1_{i}")
    features["layer1"] = x

    x = sk_bottleneck(x, 128, stride=2, name="layer2_0")
    for i in range(1, 4):
        x = sk_bottleneck(x, 128, name=f"layer2_{i}")
    features["layer2"] = x

    x = sk_bottleneck(x, 256, stride=2, name="layer3_0")
    for i in range(1, 6):
        x = sk_bottleneck(x, 256, name=f"layer3_{i}")
    features["layer3"] = x

    x = sk_bottleneck(x, 512, stride=2, name="layer4_0")
    for i in range(1, 3):
        x = sk_bottleneck(x, 512, name=f"layer4_{i}")
    features["layer4"] = x
    return features


def skresnet50(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build skresnet50 with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer4"]
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="skresnet50")


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


def skresnet50_features(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="skresnet50_features")
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
