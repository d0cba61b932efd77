"""Standardised convolution, response norms and ranges of channels.

Input: 3x24x20, 10 classes.

stage   output    blocks      parameters  multiply-adds
stem    8x24x20                      240        103,680
layer1  8x24x20   ranges x 2       1,528        683,520
layer2  12x12x10  ranges x 2       2,928        332,640
head    10                           166            120
total                              4,862      1,119,960
"""

import keras
from keras import KerasTensor, initializers, layers, ops


@keras.saving.register_keras_serializable(package="resnet_spec")
class StandardizedConv2D(layers.Conv2D):
    """Convolution with filters of mean 0 and variance 1 (Qiao et al. 2019)."""

    def __init__(self, *args, epsilon: float, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon

    def convolution_op(self, inputs, kernel):
        mean = ops.mean(kernel, axis=(0, 1, 2))
        variance = ops.var(kernel, axis=(0, 1, 2))
        kernel = (kernel - mean) * ops.rsqrt(variance + self.epsilon)
        return super().convolution_op(inputs, kernel)

    def get_config(self) -> dict:
        return super().get_config() | {"epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="resnet_spec")
class FilterResponseNorm(layers.Layer):
    """Divides each channel by its root mean square (Singh and Krishnan 2019)."""

    def __init__(self, epsilon: float, gamma_initializer="ones", **kwargs) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.gamma_initializer = initializers.get(gamma_initializer)

    def build(self, input_shape) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape, self.gamma_initializer, name="gamma")
        self.beta = self.add_weight(shape, "zeros", name="beta")

    def call(self, inputs):
        power = ops.mean(ops.square(inputs), axis=(1, 2), keepdims=True)
        return inputs * ops.rsqrt(power + self.epsilon) * self.gamma + self.beta

    def get_config(self) -> dict:
        return super().get_config() | {
            "epsilon": self.epsilon,
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
        }


@keras.saving.register_keras_serializable(package="resnet_spec")
class EvoNorm(layers.Layer):
    """EvoNorm-S0, norm and activation in one (Liu et al. 2020)."""

    def __init__(
        self, groups: int, epsilon: float, gamma_initializer="ones", **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon
        self.gamma_initializer = initializers.get(gamma_initializer)

    def build(self, input_shape) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape, self.gamma_initializer, name="gamma")
        self.beta = self.add_weight(shape, "zeros", name="beta")
        self.v = self.add_weight(shape, "ones", name="v")

    def call(self, inputs):
        mean = self.group_mean(inputs)
        variance = self.group_mean(ops.square(inputs - mean))
        x = inputs * ops.sigmoid(inputs * self.v)
        return x * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta

    def group_mean(self, x):
        """The mean of each group, broadcast to all of its channels."""
        x = ops.mean(x, axis=(1, 2), keepdims=True)
        size = x.shape[-1] // self.groups
        means = ops.mean(ops.reshape(x, (-1, 1, 1, self.groups, size)), axis=-1)
        return ops.repeat(means, size, axis=-1)

    def get_config(self) -> dict:
        return super().get_config() | {
            "groups": self.groups,
            "epsilon": self.epsilon,
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
        }


@keras.saving.register_keras_serializable(package="resnet_spec")
class Threshold(layers.Layer):
    """max(x, tau) with a learned tau for each channel (Singh and Krishnan 2019)."""

    def build(self, input_shape) -> None:
        self.tau = self.add_weight((input_shape[-1],), "zeros", name="tau")

    def call(self, inputs):
        return ops.maximum(inputs, self.tau)


def standardized_conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = False,
    epsilon: float = 1e-6,
    name: str,
) -> KerasTensor:
    """Convolution, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == kernel_size - 1
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return StandardizedConv2D(
        filters,
        kernel_size,
        strides=stride,
        groups=groups,
        use_bias=bias,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        epsilon=epsilon,
        name=name,
    )(x)


def conv2d(x: KerasTensor, filters: int, kernel_size: int, *, name: str) -> KerasTensor:
    """Convolution without a bias."""
    return layers.Conv2D(
        filters,
        kernel_size,
        use_bias=False,
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)


def ranges(
    x: KerasTensor, filters: int, kept: int = 4, stride: int = 1, *, name: str
) -> KerasTensor:
    """Two ranges of channels, one of them convolved again."""
    both = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)

    both = standardized_conv2d(both, filters, 3, stride=stride, name=f"{name}_conv1")
    both = FilterResponseNorm(epsilon=1e-5, name=f"{name}_norm1")(both)
    both = Threshold(name=f"{name}_act1")(both)
    low = both[..., : filters - kept]
    high = both[..., filters - kept :]

    high = standardized_conv2d(
        high,
        kept,
        3,
        padding=1,
        groups=2,
        bias=True,
        epsilon=0.001,
        name=f"{name}_conv2",
    )

    x = layers.Concatenate(name=f"{name}_concat")([low, high])
    x = conv2d(x, filters, 1, name=f"{name}_conv3")
    return EvoNorm(4, epsilon=1e-5, name=f"{name}_norm2")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = standardized_conv2d(x, 8, 3, padding=1, name="conv1")
    x = FilterResponseNorm(epsilon=1e-5, name="norm1")(x)
    x = Threshold(name="act1")(x)

    for i in range(2):
        x = ranges(x, 8, name=f"layer1_{i}")
    features["layer1"] = x

    x = ranges(x, 12, kept=6, stride=2, name="layer2_0")
    x = ranges(x, 12, kept=6, name="layer2_1")
    features["layer2"] = x
    return features


def more_primitives(
    num_classes: int = 10, input_shape: tuple[int | None, int | None, int] = (24, 20, 3)
) -> keras.Model:
    """Build more_primitives with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer2"]
    x = FilterResponseNorm(epsilon=1e-5, name="norm")(x)
    x = Threshold(name="act")(x)

    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="more_primitives")


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


def more_primitives_features(
    input_shape: tuple[int | None, int | None, int] = (24, 20, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="more_primitives_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "layer1", "num_chs": 8, "reduction": 1},
        {"module": "layer2", "num_chs": 12, "reduction": 2},
    ]
    model.pyramid_outputs = {"P0": features["layer1"], "P1": features["layer2"]}
    return model
