"""Channel gates, spatial gates and learned scalars.

Input: 3x21x26, 6 classes.

stage   output    blocks  parameters  multiply-adds
stem    8x21x26                  232        117,936
layer1  8x21x26   gated          743        324,604
layer2  12x11x13  gated        1,103        474,738
head    6                         78             72
total                          2,156        917,350
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
    x: KerasTensor, filters: int, kernel_size: int, *, padding: int = 0, name: str
) -> KerasTensor:
    """Convolution without a bias, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = 2 * padding == kernel_size - 1
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
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


def blur_pool(x: KerasTensor, *, stride: int = 1, name: str) -> KerasTensor:
    """Blur by (1, 2, 1) / 4, then subsample by the stride."""
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    # Averaging two neighbours twice is the filter (1, 2, 1) / 4.
    x = layers.AveragePooling2D(2, strides=1, name=f"{name}_blur")(x)
    return layers.AveragePooling2D(2, strides=stride, name=name)(x)


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


def gated(x: KerasTensor, filters: int, stride: int = 1, *, name: str) -> KerasTensor:
    """A residual weighed by learned numbers, by gates of channels and of places."""
    wide = LearnedShift(initializers.Constant(0.1), name=f"{name}_shift")(x)

    wide = conv2d(wide, filters, 3, padding=1, name=f"{name}_conv1")
    wide = batch_norm(wide, name=f"{name}_bn1")
    wide = layers.ReLU(name=f"{name}_act1")(wide)
    wide = blur_pool(wide, stride=stride, name=f"{name}_blur")
    average = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_average")(wide)
    maximum = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_maximum")(wide)
    gate = layers.Concatenate(axis=1, name=f"{name}_both")([average, maximum])
    gate = conv2d(gate, 8, 1, name=f"{name}_squeeze")
    gate = layers.ReLU(name=f"{name}_act2")(gate)

    gate = conv2d(gate, filters, 1, name=f"{name}_expand")
    gate = gate * 0.5 - 0.2
    gate = layers.Activation("sigmoid", name=f"{name}_gates")(gate)

    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_gate")(gate)
    scaled = layers.Multiply(name=f"{name}_by_channel")([wide, gate])
    near = channel_conv(gate, 3, name=f"{name}_nearby")

    mean = ops.mean(scaled, axis=-1, keepdims=True)
    top = ops.max(scaled, axis=-1, keepdims=True)
    place = layers.Concatenate(name=f"{name}_places")([mean, top])
    place = conv2d(place, 1, 3, padding=1, name=f"{name}_look")
    place = layers.Activation("sigmoid", name=f"{name}_place_gate")(place)

    residual = layers.Multiply(name=f"{name}_by_place")([scaled, place, near])
    residual = LearnedScale(initializers.Constant(0.7), name=f"{name}_weight")(residual)
    shortcut = layers.MaxPooling2D(1, strides=stride, name=f"{name}_thin")(x)
    shortcut = ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, filters - 8)))
    return layers.Add(name=f"{name}_add")([residual, shortcut])


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 8, 3, padding=1, name="conv1")
    x = batch_norm(x, name="bn1")
    x = layers.ReLU(name="act1")(x)

    x = gated(x, 8, name="layer1")
    features["layer1"] = x

    x = gated(x, 12, stride=2, name="layer2")
    features["layer2"] = x
    return features


def gates_and_pools(
    num_classes: int = 6, input_shape: tuple[int | None, int | None, int] = (21, 26, 3)
) -> keras.Model:
    """Build gates_and_pools with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer2"]
    x = layers.GlobalMaxPooling2D(name="peak")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="gates_and_pools")


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


def gates_and_pools_features(
    input_shape: tuple[int | None, int | None, int] = (21, 26, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="gates_and_pools_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "layer1", "num_chs": 8, "reduction": 1},
        {"module": "layer2", "num_chs": 12, "reduction": 2},
    ]
    model.pyramid_outputs = {"P0": features["layer1"], "P1": features["layer2"]}
    return model
