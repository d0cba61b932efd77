"""Every operation that no other network of the tests has.

Input: 3x20x20, 10 classes.

stage   output  blocks    parameters  multiply-adds
stem    16x5x5                   224         19,200
layer1  16x5x5  wave x 2       8,032        198,400
layer2  24x5x5  wave           8,136        201,600
head    10                       250            240
total                         16,642        419,440
"""

import keras
from keras import KerasTensor, initializers, layers, ops


def softmax_over_groups(x: KerasTensor, groups: int) -> KerasTensor:
    """Softmax across groups of channels, for each channel within a group."""
    x = ops.stack(ops.split(x, groups, axis=-1), axis=-2)
    x = ops.softmax(x, axis=-2)
    x = ops.concatenate(ops.split(x, groups, axis=-2), axis=-1)
    return ops.squeeze(x, axis=-2)


def shuffle_channels(x: KerasTensor, groups: int, parts: int) -> KerasTensor:
    """Channels ordered as (groups, parts, rest) become (parts, groups, rest)."""
    order = ops.reshape(ops.arange(x.shape[-1]), (groups, parts, -1))
    order = ops.reshape(ops.transpose(order, (1, 0, 2)), (-1,))
    return ops.take(x, order, axis=-1)


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    name: str,
) -> KerasTensor:
    """Convolution, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == dilation * (kernel_size - 1)
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        dilation_rate=dilation,
        groups=groups,
        use_bias=bias,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        bias_initializer=initializers.RandomNormal(stddev=0.1),
        name=name,
    )(x)


def avg_pool(x: KerasTensor, pool_size: int, *, name: str) -> KerasTensor:
    """Average pooling that counts padding as zeros."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.AveragePooling2D(pool_size, strides=1, name=name)(x)


def max_pool_signed(
    x: KerasTensor, pool_size: int, *, stride: int = 1, name: str
) -> KerasTensor:
    """Max pooling with -inf padding."""
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=float("-inf"))
    return layers.MaxPooling2D(pool_size, strides=stride, name=name)(x)


def wave(x: KerasTensor, filters: int, rate: float = 0.0, *, name: str) -> KerasTensor:
    """A residual with an activation of each kind."""
    wide = conv2d(x, filters, 3, padding=2, dilation=2, groups=2, name=f"{name}_conv1")
    wide = layers.GroupNormalization(4, epsilon=1e-5, name=f"{name}_norm1")(wide)
    wide = layers.Activation("silu", name=f"{name}_silu")(wide)

    wide = conv2d(wide, filters, 3, padding=1, name=f"{name}_conv2")
    one = layers.Activation("tanh", name=f"{name}_tanh")(wide)
    two = layers.Activation("gelu", name=f"{name}_gelu")(wide)
    three = layers.Activation("hard_sigmoid", name=f"{name}_hard")(wide)

    scaled = layers.Multiply(name=f"{name}_multiply")([one, three])
    joined = layers.Add(name=f"{name}_sum")([scaled, two])
    softened = shuffle_channels(joined, 4, 2)
    softened = softmax_over_groups(softened, 2)
    other = layers.Softmax(name=f"{name}_channels")(joined)

    residual = layers.Concatenate(name=f"{name}_both")([softened, other])
    residual = avg_pool(residual, 3, name=f"{name}_smooth")
    residual = max_pool_signed(residual, 3, name=f"{name}_largest")

    residual = conv2d(residual, filters, 1, bias=True, name=f"{name}_conv3")
    residual = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(
        residual
    )
    shortcut = ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, filters - 16)))
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.LeakyReLU(negative_slope=0.1, name=f"{name}_act")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 16, 2, stride=2, name="conv1")
    x = max_pool_signed(x, 3, stride=2, name="pool")
    x = layers.GroupNormalization(4, epsilon=1e-5, name="norm1")(x)
    x = layers.LeakyReLU(negative_slope=0.1, name="act")(x)

    x = wave(x, 16, name="layer1_0")
    x = wave(x, 16, rate=0.06666666666666667, name="layer1_1")
    features["layer1"] = x

    x = wave(x, 24, rate=0.2, name="layer2")
    features["layer2"] = x
    return features


def primitives(
    num_classes: int = 10, input_shape: tuple[int | None, int | None, int] = (20, 20, 3)
) -> keras.Model:
    """Build primitives with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer2"]
    part = ops.split(x, 3, axis=-1)
    x = layers.Concatenate(name="turned")([part[2], part[0], part[1]])
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        bias_initializer=initializers.Constant(0.1),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="primitives")


def primitives_features(
    input_shape: tuple[int | None, int | None, int] = (20, 20, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="primitives_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "conv1", "num_chs": 16, "reduction": 2},
        {"module": "layer1", "num_chs": 16, "reduction": 4},
        {"module": "layer2", "num_chs": 24, "reduction": 4},
    ]
    model.pyramid_outputs = {
        "P1": model.get_layer("conv1").output,
        "P2": features["layer2"],
    }
    return model
