"""Layers of their own that a Keras module defines, each where it is called."""

from __future__ import annotations

_REGISTERED = '@keras.saving.register_keras_serializable(package="resnet_spec")'


def _learned_number(name: str, summary: str, weight: str, initial: str, operator: str) -> str:
    return f'''{_REGISTERED}
class {name}(layers.Layer):
    """{summary} one learned number."""

    def __init__(self, initializer="{initial}", **options) -> None:
        super().__init__(**options)
        self.initializer = initializers.get(initializer)

    def build(self, input_shape) -> None:
        self.{weight} = self.add_weight((1,), self.initializer, name="{weight}")

    def call(self, inputs):
        return inputs {operator} self.{weight}

    def get_config(self) -> dict:
        config = {{"initializer": initializers.serialize(self.initializer)}}
        return super().get_config() | config'''


LAYERS = {
    "BatchNormalization": f'''{_REGISTERED}
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
        return outputs''',
    "Gelu": f'''{_REGISTERED}
class Gelu(layers.Layer):
    """x * Phi(x), with constants as exact as the input."""

    def call(self, inputs):
        return inputs * (1 + ops.erf(inputs / math.sqrt(2))) / 2''',
    "LeakyReLU": f'''{_REGISTERED}
class LeakyReLU(layers.LeakyReLU):
    """Leaky ReLU, with a slope as exact as the input."""

    def call(self, inputs):
        return ops.where(inputs > 0, inputs, self.negative_slope * inputs)''',
    "StandardizedConv2D": f'''{_REGISTERED}
class StandardizedConv2D(layers.Conv2D):
    """Convolution with filters of mean 0 and variance 1 (Qiao et al. 2019)."""

    def __init__(self, *arguments, epsilon: float, **options) -> None:
        super().__init__(*arguments, **options)
        self.epsilon = epsilon

    def convolution_op(self, inputs, kernel):
        mean = ops.mean(kernel, axis=(0, 1, 2))
        variance = ops.var(kernel, axis=(0, 1, 2))
        kernel = (kernel - mean) * ops.rsqrt(variance + self.epsilon)
        return super().convolution_op(inputs, kernel)

    def get_config(self) -> dict:
        return super().get_config() | {{"epsilon": self.epsilon}}''',
    "AveragePooling": f'''{_REGISTERED}
class AveragePooling(layers.AveragePooling2D):
    """Average pooling of what each window covers, whatever Keras runs on."""

    def call(self, inputs):
        # On PyTorch, Keras' own layer averages copies of the border, too.
        covered = self.total(ops.ones_like(inputs[:1, :, :, :1]))
        return self.total(inputs) / covered

    def total(self, x):
        """The sum of each window, with zeros for the padding."""
        window = ops.ones((*self.pool_size, x.shape[-1], 1), dtype=x.dtype)
        return ops.depthwise_conv(x, window, self.strides, padding="same")''',
    "FilterResponseNorm": f'''{_REGISTERED}
class FilterResponseNorm(layers.Layer):
    """Divides each channel by its root mean square (Singh and Krishnan 2019)."""

    def __init__(self, epsilon: float, gamma_initializer="ones", **options) -> None:
        super().__init__(**options)
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
        return super().get_config() | {{
            "epsilon": self.epsilon,
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
        }}''',
    "EvoNorm": f'''{_REGISTERED}
class EvoNorm(layers.Layer):
    """EvoNorm-S0, norm and activation in one (Liu et al. 2020)."""

    def __init__(
        self, groups: int, epsilon: float, gamma_initializer="ones", **options
    ) -> None:
        super().__init__(**options)
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
        """The mean of each group, given to all of its channels."""
        x = ops.mean(x, axis=(1, 2), keepdims=True)
        size = x.shape[-1] // self.groups
        means = ops.mean(ops.reshape(x, (-1, 1, 1, self.groups, size)), axis=-1)
        return ops.repeat(means, size, axis=-1)

    def get_config(self) -> dict:
        return super().get_config() | {{
            "groups": self.groups,
            "epsilon": self.epsilon,
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
        }}''',
    "Threshold": f'''{_REGISTERED}
class Threshold(layers.Layer):
    """The larger of a value and a learned threshold (Singh and Krishnan 2019)."""

    def build(self, input_shape) -> None:
        self.tau = self.add_weight((input_shape[-1],), "zeros", name="tau")

    def call(self, inputs):
        return ops.maximum(inputs, self.tau)''',
    "LearnedScale": _learned_number("LearnedScale", "Multiplies by", "scale", "ones", "*"),
    "LearnedShift": _learned_number("LearnedShift", "Adds", "shift", "zeros", "+"),
}
