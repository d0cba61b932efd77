"""Functions and layers that Keras lacks; a module defines those that its network uses."""

import math

import keras
from keras import KerasTensor, initializers, layers, ops


@keras.saving.register_keras_serializable(package="resnet_spec")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation that keeps the unbiased variance, as PyTorch does."""

    def call(self, inputs, training=None, mask=None):
        kept = self.moving_variance * self.momentum
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            # Keras has added the mean over N values, which PyTorch takes over N - 1.
            moved = self.moving_variance
            count = ops.cast(ops.size(inputs) // inputs.shape[-1], moved.dtype)
            moved.assign(moved + (moved - kept) / ops.maximum(count - 1, 1))
        return outputs


@keras.saving.register_keras_serializable(package="resnet_spec")
class Gelu(layers.Layer):
    """GELU, x * Phi(x), with constants in the precision of the input."""

    def call(self, inputs):
        return inputs * (1 + ops.erf(inputs / math.sqrt(2))) / 2


@keras.saving.register_keras_serializable(package="resnet_spec")
class LeakyReLU(layers.LeakyReLU):
    """Leaky ReLU with a slope in the precision of the input."""

    def call(self, inputs):
        return ops.where(inputs > 0, inputs, self.negative_slope * inputs)


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
class AveragePooling(layers.AveragePooling2D):
    """Average pooling that does not count padding, on every backend of Keras."""

    def call(self, inputs):
        # On PyTorch, Keras' own layer averages copies of the border, too.
        covered = self.total(ops.ones_like(inputs[:1, :, :, :1]))
        return self.total(inputs) / covered

    def total(self, x):
        """The sum of each window, with zeros for the padding."""
        window = ops.ones((*self.pool_size, x.shape[-1], 1), dtype=x.dtype)
        return ops.depthwise_conv(x, window, self.strides, padding="same")


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
