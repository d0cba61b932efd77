"""Functions and layers that Flax lacks; a module defines those that its network uses."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


class Sequential(nnx.List[Callable[[jax.Array], jax.Array]]):
    """`nnx.Sequential` whose layers have the paths `0`, `1`, …, without `layers`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self:
            x = layer(x)
        return x


class SequentialDict(nnx.Module):
    """Named layers that run one after the other."""

    def __init__(
        self, layers: Iterable[tuple[str, Callable[[jax.Array], jax.Array]]]
    ) -> None:
        named = dict(layers)
        self.names = tuple(named)  # in turn; a module sorts its attributes by name
        for name, layer in named.items():
            setattr(self, name, layer)

    def __call__(self, x: jax.Array) -> jax.Array:
        for name in self.names:
            x = getattr(self, name)(x)
        return x


def add_layer(
    module: nnx.Module, name: str, layer: Callable[[jax.Array], jax.Array]
) -> None:
    """Add a layer under a dotted name."""
    *containers, last = name.split(".")
    for part in containers:
        if not hasattr(module, part):
            setattr(module, part, nnx.Module())
        module = getattr(module, part)
    setattr(module, last, layer)


def get_layer(module: nnx.Module, name: str) -> Callable[[jax.Array], jax.Array]:
    """The layer that has a dotted name."""
    layer: Any = reduce(getattr, name.split("."), module)
    found: Callable[[jax.Array], jax.Array] = layer
    return found


@dataclass(frozen=True)
class Below:
    """A filter for everything below any of these dotted names."""

    names: tuple[str, ...]

    def __call__(self, path: tuple[Any, ...], value: object) -> bool:
        dotted = "".join(f"{part}." for part in path)
        return dotted.startswith(tuple(f"{name}." for name in self.names))


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation that keeps the unbiased variance, as PyTorch does."""

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        if mask is not None:
            raise NotImplementedError("N - 1 is that of all values, without a mask")
        kept = self.momentum * self.var[...]
        y: jax.Array = super().__call__(x, use_running_average)
        if use_running_average is None:
            use_running_average = self.use_running_average
        if not use_running_average:
            # Flax has added the mean over N values, which PyTorch takes over N - 1.
            count = x.size // x.shape[-1]
            self.var[...] += (self.var[...] - kept) / max(count - 1, 1)
        return y


def standardized_conv(
    x: jax.Array, kernel: jax.Array, *args: Any, epsilon: float = 1e-6, **kwargs: Any
) -> jax.Array:
    """Convolution with filters of mean 0 and variance 1 (Qiao et al. 2019)."""
    mean = kernel.mean(axis=(0, 1, 2))
    variance = kernel.var(axis=(0, 1, 2))
    kernel = (kernel - mean) * lax.rsqrt(variance + epsilon)
    return lax.conv_general_dilated(x, kernel, *args, **kwargs)


class ChannelConv(nnx.Conv):
    """1-D convolution along the channels of a 1x1 map (Wang et al. 2019)."""

    def __init__(
        self,
        kernel_size: int,
        *,
        kernel_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            1, 1, (kernel_size,), use_bias=False, kernel_init=kernel_init, rngs=rngs
        )

    def __call__(self, inputs: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        along = inputs.reshape(len(inputs), -1, 1)
        return super().__call__(along, *args, **kwargs).reshape(inputs.shape)


class FilterResponseNorm(nnx.Module):
    """Divides each channel by its root mean square (Singh and Krishnan 2019)."""

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-5,
        scale_init: nnx.Initializer = nnx.initializers.ones,
        rngs: nnx.Rngs,
    ) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(scale_init(rngs.params(), (num_features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(num_features, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        power = jnp.square(x).mean(axis=(1, 2), keepdims=True)
        return x * lax.rsqrt(power + self.epsilon) * self.scale[...] + self.bias[...]


class EvoNorm(nnx.Module):
    """EvoNorm-S0, norm and activation in one (Liu et al. 2020)."""

    def __init__(
        self,
        num_features: int,
        num_groups: int = 32,
        *,
        epsilon: float = 1e-5,
        scale_init: nnx.Initializer = nnx.initializers.ones,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_groups = num_groups
        self.epsilon = epsilon
        self.scale = nnx.Param(scale_init(rngs.params(), (num_features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(num_features, jnp.float32))
        self.v = nnx.Param(jnp.ones(num_features, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        grouped = x.reshape(*x.shape[:-1], self.num_groups, -1)
        variance = grouped.var(axis=(1, 2, 4), keepdims=True)
        grouped = grouped * lax.rsqrt(variance + self.epsilon)
        x = grouped.reshape(x.shape) * nnx.sigmoid(x * self.v[...])
        return x * self.scale[...] + self.bias[...]


class Threshold(nnx.Module):
    """max(x, tau) with a learned tau for each channel (Singh and Krishnan 2019)."""

    def __init__(self, num_features: int) -> None:
        self.tau = nnx.Param(jnp.zeros(num_features, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > self.tau[...], x, self.tau[...])


class LearnedScale(nnx.Module):
    """Multiplies by one learned scalar."""

    def __init__(
        self,
        scale_init: nnx.Initializer = nnx.initializers.ones,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.scale = nnx.Param(scale_init(rngs.params(), (1,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale[...]


class LearnedShift(nnx.Module):
    """Adds one learned scalar."""

    def __init__(
        self,
        bias_init: nnx.Initializer = nnx.initializers.zeros,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.bias = nnx.Param(bias_init(rngs.params(), (1,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.bias[...]


def softmax_over_groups(x: jax.Array, groups: int) -> jax.Array:
    """Softmax across groups of channels, for each channel within a group."""
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return nnx.softmax(grouped, axis=-2).reshape(x.shape)


def shuffle_channels(x: jax.Array, groups: int, parts: int) -> jax.Array:
    """Channels ordered as (groups, parts, rest) become (parts, groups, rest)."""
    ordered = x.reshape(*x.shape[:-1], groups, parts, -1)
    return ordered.swapaxes(-3, -2).reshape(x.shape)


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Mean of each of size x size cells, which may overlap by a row or column."""
    for axis in (1, 2):
        length = x.shape[axis]
        ends = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        parts = [lax.slice_in_dim(x, *each, axis=axis) for each in ends]
        means = [part.mean(axis=axis, keepdims=True) for part in parts]
        x = jnp.concatenate(means, axis=axis)
    return x


def global_max_pool(x: jax.Array, keepdims: bool = False) -> jax.Array:
    """Maximum of each channel; compiled gradients of `jnp.max` may miss its place."""
    x = nnx.max_pool(x, x.shape[1:3])
    return x if keepdims else x[:, 0, 0]


def channel_max_pool(x: jax.Array) -> jax.Array:
    """Maximum of each place; compiled gradients of `jnp.max` may miss its channel."""
    return jnp.take_along_axis(x, x.argmax(axis=-1, keepdims=True), axis=-1)


def blur_pool(x: jax.Array, stride: int) -> jax.Array:
    """Blur by (1, 2, 1) / 4 in both directions, then subsample by the stride."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    x = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
    x = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    return x[:, ::stride, ::stride]


def flatten_channels_first(x: jax.Array) -> jax.Array:
    """Flatten a map in the order channel, row, column, as PyTorch does."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
