"""Blocks that few networks use, one after the other.

Input: 3x64x64, 10 classes.

stage      output    blocks                      parameters  multiply-adds
stem       16x32x32  conv_stack                         464      1,769,472
plain      16x32x32  plain                            4,672      4,718,592
highway    16x32x32  highway                          6,992      7,077,888
weighted   16x32x32  weighted_basic                   4,673      4,718,592
preact     16x32x32  preact_basic                     4,672      4,718,592
late       32x16x16  late_stride_bottleneck x 2       2,720      1,982,464
first      32x8x8    bottleneck_v1                   10,464        659,456
selective  16x8x8    sk_basic                         8,632        476,160
gated      16x8x8    basic x 2                        9,350        589,920
attended   24x4x4    basic                            9,341        146,048
head       10                                           970            960
total                                                62,950     26,858,144
"""

import keras
from keras import KerasTensor, initializers, layers, ops


@keras.saving.register_keras_serializable(package="resnet_spec")
class LearnedScale(layers.Layer):
    """Multiplies by one learned scalar."""

    def __init__(self, initializer="ones", **kwargs) -> None:
        super().__init__(**kwargs)
        self.initializer = initializers.get(initializer)

    def build(self, input_shape) -> None:
        self.scale = self.add_weight((1,), self.initializer, name="scale")

    def call(self, inputs):
        return inputs * self.scale

    def get_config(self) -> dict:
        config = {"initializer": initializers.serialize(self.initializer)}
        return super().get_config() | config


def softmax_over_groups(x: KerasTensor, groups: int) -> KerasTensor:
    """Softmax across groups of channels, for each channel within a group."""
    x = ops.stack(ops.split(x, groups, axis=-1), axis=-2)
    x = ops.softmax(x, axis=-2)
    x = ops.concatenate(ops.split(x, groups, axis=-2), axis=-1)
    return ops.squeeze(x, axis=-2)


def adaptive_avg_pool(x: KerasTensor, size: int) -> KerasTensor:
    """Mean of each of size x size cells, which may overlap by a row or column."""
    for axis in (1, 2):
        length = x.shape[axis]
        ends = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        parts = [ops.take(x, list(range(*each)), axis=axis) for each in ends]
        means = [ops.mean(part, axis=axis, keepdims=True) for part in parts]
        x = ops.concatenate(means, axis=axis)
    return x


def flatten_channels_first(x: KerasTensor, *, name: str) -> KerasTensor:
    """Flatten a map in the order channel, row, column, as PyTorch does."""
    x = layers.Permute((3, 1, 2), name=f"{name}_order")(x)
    return layers.Flatten(name=name)(x)


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    bias: bool = False,
    bias_init: str | initializers.Initializer = "zeros",
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
        use_bias=bias,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        bias_initializer=bias_init,
        name=name,
    )(x)


def batch_norm(x: KerasTensor, *, name: str) -> KerasTensor:
    """Batch normalisation over each channel."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def channel_conv(x: KerasTensor, kernel_size: int, *, name: str) -> KerasTensor:
    """1-D convolution along the channels of a 1x1 map."""
    channels = x.shape[-1]
    x = layers.Reshape((channels, 1), name=f"{name}_in")(x)
    x = layers.Conv1D(
        1,
        kernel_size,
        padding="same",
        use_bias=False,
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)
    return layers.Reshape((1, 1, channels), name=f"{name}_out")(x)


def conv_norm_act(
    x: KerasTensor, dilation: int = 1, activate: bool = True, *, name: str
) -> KerasTensor:
    """A convolution, its norm and an activation."""
    x = conv2d(x, 16, 3, padding=dilation, dilation=dilation, name=f"{name}_conv")
    x = batch_norm(x, name=f"{name}_bn")
    if activate:
        x = layers.ReLU(name=f"{name}_act")(x)
    return x


def conv_stack(x: KerasTensor, *, name: str) -> KerasTensor:
    """3x3 convolutions and a max pooling (Simonyan and Zisserman 2014)."""
    x = conv_norm_act(x, name=f"{name}_convs_0")
    return layers.MaxPooling2D(2, name=f"{name}_pool")(x)


def plain(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions without a shortcut (He et al. 2015, figure 3, middle)."""
    x = conv2d(x, 16, 3, padding=1, name=f"{name}_conv1")
    x = batch_norm(x, name=f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_act1")(x)

    x = conv2d(x, 16, 3, padding=1, name=f"{name}_conv2")
    x = batch_norm(x, name=f"{name}_bn2")
    return layers.ReLU(name=f"{name}_act2")(x)


def highway(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions, and a gate between them and the input
    (Srivastava et al. 2015).
    """
    transformed = conv2d(x, 16, 3, padding=1, name=f"{name}_conv1")
    transformed = batch_norm(transformed, name=f"{name}_bn1")
    transformed = layers.ReLU(name=f"{name}_act1")(transformed)

    transformed = conv2d(transformed, 16, 3, padding=1, name=f"{name}_conv2")
    transformed = batch_norm(transformed, name=f"{name}_bn2")
    transformed = layers.ReLU(name=f"{name}_act2")(transformed)

    transform_gate = conv2d(
        x,
        16,
        3,
        padding=1,
        bias=True,
        bias_init=initializers.Constant(-2.0),
        name=f"{name}_gate",
    )
    transform_gate = layers.Activation("sigmoid", name=f"{name}_transform_gate")(
        transform_gate
    )
    carry_gate = 1.0 - transform_gate

    transformed = layers.Multiply(name=f"{name}_transform")(
        [transformed, transform_gate]
    )
    carried = layers.Multiply(name=f"{name}_carry")([x, carry_gate])
    return layers.Add(name=f"{name}_add")([transformed, carried])


def weighted_basic(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions, activated, weighted by one number, added (Shen
    et al. 2016).
    """
    residual = conv2d(x, 16, 3, padding=1, name=f"{name}_conv1")
    residual = batch_norm(residual, name=f"{name}_bn1")
    residual = layers.ReLU(name=f"{name}_act1")(residual)

    residual = conv2d(residual, 16, 3, padding=1, name=f"{name}_conv2")
    residual = batch_norm(residual, name=f"{name}_bn2")
    residual = layers.ReLU(name=f"{name}_act2")(residual)
    residual = LearnedScale("zeros", name=f"{name}_weight")(residual)
    return layers.Add(name=f"{name}_add")([residual, x])


def preact_basic(x: KerasTensor, *, name: str) -> KerasTensor:
    """Norm and activation before each of two 3x3 convolutions (He et al. 2016)."""
    preact = batch_norm(x, name=f"{name}_norm1")
    preact = layers.ReLU(name=f"{name}_act1")(preact)
    residual = conv2d(preact, 16, 3, padding=1, name=f"{name}_conv1")

    residual = batch_norm(residual, name=f"{name}_norm2")
    residual = layers.ReLU(name=f"{name}_act2")(residual)
    residual = conv2d(residual, 16, 3, padding=1, name=f"{name}_conv2")

    return layers.Add(name=f"{name}_add")([residual, x])


def conv_shortcut(x: KerasTensor, *, name: str) -> KerasTensor:
    """1x1 convolution that fits the shortcut to the residual, without a norm."""
    return conv2d(x, 32, 1, name=f"{name}_conv")


def late_stride_bottleneck(
    x: KerasTensor, stride: int = 1, *, name: str
) -> KerasTensor:
    """Pre-activation bottleneck that also shrinks the map where its
    shortcut is the identity.
    """
    in_channels = x.shape[-1]

    identity = x
    if stride > 1:
        identity = layers.MaxPooling2D(1, strides=stride, name=f"{name}_pool")(x)

    preact = batch_norm(x, name=f"{name}_norm1")
    preact = layers.ReLU(name=f"{name}_act1")(preact)

    shortcut = identity
    if in_channels != 32:
        shortcut = conv_shortcut(preact, name=f"{name}_downsample")
    residual = conv2d(preact, 8, 1, name=f"{name}_conv1")

    residual = batch_norm(residual, name=f"{name}_norm2")
    residual = layers.ReLU(name=f"{name}_act2")(residual)
    residual = conv2d(residual, 8, 3, stride=stride, padding=1, name=f"{name}_conv2")

    residual = batch_norm(residual, name=f"{name}_norm3")
    residual = layers.ReLU(name=f"{name}_act3")(residual)
    residual = conv2d(residual, 32, 1, name=f"{name}_conv3")

    return layers.Add(name=f"{name}_add")([residual, shortcut])


def projection_3x3(x: KerasTensor, *, name: str) -> KerasTensor:
    """Convolution that fits the shortcut to the residual, 3x3 where it has a stride."""
    x = conv2d(x, 32, 3, stride=2, padding=1, name=f"{name}_0")
    return batch_norm(x, name=f"{name}_1")


def bottleneck_v1(x: KerasTensor, *, name: str) -> KerasTensor:
    """1x1 reduce with the stride, 3x3, 1x1 expand (He et al. 2015, figure 5, right)."""
    residual = conv2d(x, 8, 1, stride=2, name=f"{name}_conv1")
    residual = batch_norm(residual, name=f"{name}_bn1")
    residual = layers.ReLU(name=f"{name}_act1")(residual)

    residual = conv2d(residual, 8, 3, padding=1, name=f"{name}_conv2")
    residual = batch_norm(residual, name=f"{name}_bn2")
    residual = layers.ReLU(name=f"{name}_act2")(residual)

    residual = conv2d(residual, 32, 1, name=f"{name}_conv3")
    residual = batch_norm(residual, name=f"{name}_bn3")

    shortcut = projection_3x3(x, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act3")(x)


def selective_kernel(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two windows, 3x3 and 5x5, weighted by attention across them (Li et al. 2019)."""
    halves = ops.split(x, 2, axis=-1)
    narrow = halves[0]
    narrow = conv_norm_act(narrow, name=f"{name}_paths_0")
    wide = halves[1]
    wide = conv_norm_act(wide, dilation=2, name=f"{name}_paths_1")
    x = layers.Add(name=f"{name}_both")([narrow, wide])
    x = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    x = conv2d(x, 16, 1, name=f"{name}_attn_fc_reduce")
    x = batch_norm(x, name=f"{name}_attn_bn")
    x = layers.ReLU(name=f"{name}_attn_act")(x)

    x = conv2d(x, 32, 1, name=f"{name}_attn_fc_select")
    x = softmax_over_groups(x, 2)

    weights = ops.split(x, 2, axis=-1)
    narrow = layers.Multiply(name=f"{name}_weigh_narrow")([narrow, weights[0]])
    wide = layers.Multiply(name=f"{name}_weigh_wide")([wide, weights[1]])
    return layers.Add(name=f"{name}_add")([narrow, wide])


def squeeze_excitation(x: KerasTensor, *, name: str) -> KerasTensor:
    """Scales each channel by a gate computed from all channels (Hu et al. 2017)."""
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    gate = conv2d(gate, 8, 1, bias=True, name=f"{name}_fc1")
    gate = layers.ReLU(name=f"{name}_act")(gate)

    gate = conv2d(gate, 16, 1, bias=True, name=f"{name}_fc2")
    gate = layers.Activation("sigmoid", name=f"{name}_excite")(gate)

    return layers.Multiply(name=f"{name}_scale")([x, gate])


def projection(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """1x1 convolution that fits the shortcut to the residual (option B)."""
    x = conv2d(x, filters, 1, stride=stride, name=f"{name}_0")
    return batch_norm(x, name=f"{name}_1")


def sk_basic(x: KerasTensor, *, name: str) -> KerasTensor:
    """Basic block whose first convolution selects its window (Li et al. 2019)."""
    residual = selective_kernel(x, name=f"{name}_conv1")
    residual = conv_norm_act(residual, activate=False, name=f"{name}_conv2")
    residual = squeeze_excitation(residual, name=f"{name}_se")
    shortcut = projection(x, 16, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act")(x)


def efficient_channel_attention(x: KerasTensor, *, name: str) -> KerasTensor:
    """Scales each channel by a gate computed from its neighbours (Wang et al. 2019)."""
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    gate = channel_conv(gate, 3, name=f"{name}_conv")
    gate = layers.Activation("sigmoid", name=f"{name}_excite")(gate)

    return layers.Multiply(name=f"{name}_scale")([x, gate])


def basic(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""
    residual = conv2d(x, 16, 3, padding=1, name=f"{name}_conv1")
    residual = batch_norm(residual, name=f"{name}_bn1")
    residual = layers.ReLU(name=f"{name}_act1")(residual)

    residual = conv2d(residual, 16, 3, padding=1, name=f"{name}_conv2")
    residual = batch_norm(residual, name=f"{name}_bn2")

    residual = efficient_channel_attention(residual, name=f"{name}_se")
    x = layers.Add(name=f"{name}_add")([residual, x])
    return layers.ReLU(name=f"{name}_act2")(x)


def channel_attention(x: KerasTensor, *, name: str) -> KerasTensor:
    """Scales each channel by a gate from its mean and maximum (Woo et al. 2018)."""
    average = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_average")(x)
    maximum = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_maximum")(x)
    gate = layers.Concatenate(axis=1, name=f"{name}_both")([average, maximum])
    gate = conv2d(gate, 1, 1, bias=True, name=f"{name}_fc1")
    gate = layers.ReLU(name=f"{name}_act")(gate)

    gate = conv2d(gate, 24, 1, bias=True, name=f"{name}_fc2")
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(gate)
    gate = gate * 2.0
    gate = layers.Activation("sigmoid", name=f"{name}_excite")(gate)

    return layers.Multiply(name=f"{name}_scale")([x, gate])


def spatial_attention(x: KerasTensor, *, name: str) -> KerasTensor:
    """Scales each position by a gate from its surroundings (Woo et al. 2018)."""
    average = ops.mean(x, axis=-1, keepdims=True)
    maximum = ops.max(x, axis=-1, keepdims=True)
    gate = layers.Concatenate(name=f"{name}_both")([average, maximum])
    gate = conv2d(gate, 1, 7, padding=3, name=f"{name}_conv")
    gate = batch_norm(gate, name=f"{name}_bn")
    gate = layers.Activation("sigmoid", name=f"{name}_excite")(gate)

    return layers.Multiply(name=f"{name}_scale")([x, gate])


def cbam(x: KerasTensor, *, name: str) -> KerasTensor:
    """Attention over channels, then over positions (Woo et al. 2018)."""
    x = channel_attention(x, name=f"{name}_channel")
    return spatial_attention(x, name=f"{name}_spatial")


def basic_cbam(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""
    residual = conv2d(x, 24, 3, stride=2, padding=1, name=f"{name}_conv1")
    residual = batch_norm(residual, name=f"{name}_bn1")
    residual = layers.ReLU(name=f"{name}_act1")(residual)

    residual = conv2d(residual, 24, 3, padding=1, name=f"{name}_conv2")
    residual = batch_norm(residual, name=f"{name}_bn2")

    residual = cbam(residual, name=f"{name}_se")
    shortcut = projection(x, 24, stride=2, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act2")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv_stack(x, name="stem")
    x = plain(x, name="plain")
    features["plain"] = x

    x = highway(x, name="highway")
    features["highway"] = x

    x = weighted_basic(x, name="weighted")
    features["weighted"] = x

    x = preact_basic(x, name="preact")
    features["preact"] = x

    x = late_stride_bottleneck(x, name="late_0")
    x = late_stride_bottleneck(x, stride=2, name="late_1")
    features["late"] = x

    x = bottleneck_v1(x, name="first")
    features["first"] = x

    x = sk_basic(x, name="selective")
    features["selective"] = x

    for i in range(2):
        x = basic(x, name=f"gated_{i}")
    features["gated"] = x

    x = basic_cbam(x, name="attended")
    features["attended"] = x
    return features


def gallery(
    num_classes: int = 10, input_shape: tuple[int | None, int | None, int] = (64, 64, 3)
) -> keras.Model:
    """Build gallery with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["attended"]
    x = adaptive_avg_pool(x, 2)
    x = flatten_channels_first(x, name="flat")
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="gallery")


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


def gallery_features(
    input_shape: tuple[int | None, int | None, int] = (64, 64, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="gallery_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "plain", "num_chs": 16, "reduction": 2},
        {"module": "highway", "num_chs": 16, "reduction": 2},
        {"module": "weighted", "num_chs": 16, "reduction": 2},
        {"module": "preact", "num_chs": 16, "reduction": 2},
        {"module": "late", "num_chs": 32, "reduction": 4},
        {"module": "first", "num_chs": 32, "reduction": 8},
        {"module": "selective", "num_chs": 16, "reduction": 8},
        {"module": "gated", "num_chs": 16, "reduction": 8},
        {"module": "attended", "num_chs": 24, "reduction": 16},
    ]
    model.pyramid_outputs = {
        "P1": features["preact"],
        "P2": features["late"],
        "P3": features["gated"],
        "P4": features["attended"],
    }
    return model
