"""A small network without norms, for the tests.

Input: 3x32x32, 10 classes.

stage   output    blocks                parameters  multiply-adds
stem    16x32x32                               433        442,368
layer1  16x32x32  fixup_basic x 2            9,226      9,437,184
layer2  32x16x16  fixup_bottleneck x 2       2,574        753,664
layer3  40x8x8    fixup_basic               25,925      1,658,880
head    10                                     411            400
total                                       38,569     12,292,496
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


@keras.saving.register_keras_serializable(package="resnet_spec")
class LearnedShift(layers.Layer):
    """Adds one learned scalar."""

    def __init__(self, initializer="zeros", **kwargs) -> None:
        super().__init__(**kwargs)
        self.initializer = initializers.get(initializer)

    def build(self, input_shape) -> None:
        self.shift = self.add_weight((1,), self.initializer, name="shift")

    def call(self, inputs):
        return inputs + self.shift

    def get_config(self) -> dict:
        config = {"initializer": initializers.serialize(self.initializer)}
        return super().get_config() | config


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    init: str | initializers.Initializer | None = None,
    name: str,
) -> KerasTensor:
    """Convolution without a bias, symmetrically padded."""
    if init is None:
        init = initializers.VarianceScaling(0.4, "fan_out", "untruncated_normal")
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
        kernel_initializer=init,
        name=name,
    )(x)


def fixup_basic(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions with learned scalars in place of norms (Zhang et
    al. 2019).
    """
    shifted = LearnedShift(name=f"{name}_shift1")(x)

    residual = conv2d(shifted, 16, 3, padding=1, name=f"{name}_conv1")
    residual = LearnedShift(name=f"{name}_shift2")(residual)
    residual = layers.ReLU(name=f"{name}_act1")(residual)
    residual = LearnedShift(name=f"{name}_shift3")(residual)

    residual = conv2d(residual, 16, 3, padding=1, init="zeros", name=f"{name}_conv2")
    residual = LearnedScale(name=f"{name}_scale")(residual)
    residual = LearnedShift(name=f"{name}_shift4")(residual)
    x = layers.Add(name=f"{name}_add")([residual, x])
    return layers.ReLU(name=f"{name}_act2")(x)


def fixup_projection(x: KerasTensor, *, name: str) -> KerasTensor:
    """1x1 convolution of the shortcut, which Fixup does not rescale."""
    return conv2d(
        x,
        32,
        1,
        stride=2,
        init=initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )


def fixup_bottleneck(x: KerasTensor, stride: int = 1, *, name: str) -> KerasTensor:
    """A bottleneck with learned scalars in place of norms (Zhang et al. 2019)."""
    in_channels = x.shape[-1]

    shifted = LearnedShift(name=f"{name}_shift1")(x)

    residual = conv2d(shifted, 8, 1, name=f"{name}_conv1")
    residual = LearnedShift(name=f"{name}_shift2")(residual)
    residual = layers.ReLU(name=f"{name}_act1")(residual)
    residual = LearnedShift(name=f"{name}_shift3")(residual)

    residual = conv2d(residual, 8, 3, stride=stride, padding=1, name=f"{name}_conv2")
    residual = LearnedShift(name=f"{name}_shift4")(residual)
    residual = layers.ReLU(name=f"{name}_act2")(residual)
    residual = LearnedShift(name=f"{name}_shift5")(residual)

    residual = conv2d(residual, 32, 1, init="zeros", name=f"{name}_conv3")
    residual = LearnedScale(name=f"{name}_scale")(residual)
    residual = LearnedShift(name=f"{name}_shift6")(residual)

    shortcut = x
    if stride != 1 or in_channels != 32:
        shortcut = fixup_projection(shifted, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act3")(x)


def zero_pad_shortcut(x: KerasTensor, *, name: str) -> KerasTensor:
    """Every n-th row and column, with channels of zeros (He et al. 2015, option A)."""
    x = layers.MaxPooling2D(1, strides=2, name=f"{name}_rows_and_columns")(x)
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (4, 4)))


def fixup_basic_zero_pad_shortcut(x: KerasTensor, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions with learned scalars in place of norms (Zhang et
    al. 2019).
    """
    shifted = LearnedShift(name=f"{name}_shift1")(x)

    residual = conv2d(shifted, 40, 3, stride=2, padding=1, name=f"{name}_conv1")
    residual = LearnedShift(name=f"{name}_shift2")(residual)
    residual = layers.ReLU(name=f"{name}_act1")(residual)
    residual = LearnedShift(name=f"{name}_shift3")(residual)

    residual = conv2d(residual, 40, 3, padding=1, init="zeros", name=f"{name}_conv2")
    residual = LearnedScale(name=f"{name}_scale")(residual)
    residual = LearnedShift(name=f"{name}_shift4")(residual)

    shortcut = zero_pad_shortcut(shifted, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act2")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(
        x,
        16,
        3,
        padding=1,
        init=initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name="conv1",
    )
    x = LearnedShift(name="shift1")(x)
    x = layers.ReLU(name="act1")(x)

    for i in range(2):
        x = fixup_basic(x, name=f"layer1_{i}")
    features["layer1"] = x

    x = fixup_bottleneck(x, stride=2, name="layer2_0")
    x = fixup_bottleneck(x, name="layer2_1")
    features["layer2"] = x

    x = fixup_basic_zero_pad_shortcut(x, name="layer3")
    features["layer3"] = x
    return features


def fixup(
    num_classes: int = 10, input_shape: tuple[int | None, int | None, int] = (32, 32, 3)
) -> keras.Model:
    """Build fixup with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer3"]
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = LearnedShift(name="shift2")(x)

    x = layers.Dense(num_classes, kernel_initializer="zeros", name="fc")(x)
    return keras.Model(inputs, x, name="fixup")


def freeze_until(model: keras.Model, name: str) -> None:
    """Freeze every layer before the stage or layer `name`, and train the rest.

    Compile the model afterwards.
    """
    prefix = f"{name}_"
    if not any(f"{layer.name}_".startswith(prefix) for layer in model.layers):
        raise ValueError(f"there is no stage or layer {name!r}")
    trained = False
    for layer in model.layers:
        trained = trained or f"{layer.name}_".startswith(prefix)
        layer.trainable = trained


def fixup_features(
    input_shape: tuple[int | None, int | None, int] = (32, 32, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="fixup_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "layer1", "num_chs": 16, "reduction": 1},
        {"module": "layer2", "num_chs": 32, "reduction": 2},
        {"module": "layer3", "num_chs": 40, "reduction": 4},
    ]
    model.pyramid_outputs = {
        "P0": features["layer1"],
        "P1": features["layer2"],
        "P2": features["layer3"],
    }
    return model
