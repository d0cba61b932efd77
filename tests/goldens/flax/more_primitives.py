"""Standardised convolution, response norms and ranges of channels.

Input: 3x24x20, 10 classes.

stage   output    blocks      parameters  multiply-adds
stem    8x24x20                      240        103,680
layer1  8x24x20   ranges x 2       1,528        683,520
layer2  12x12x10  ranges x 2       2,928        332,640
head    10                           166            120
total                              4,862      1,119,960
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

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


@dataclass(frozen=True)
class Below:
    """A filter for everything below any of these dotted names."""

    names: tuple[str, ...]

    def __call__(self, path: tuple[Any, ...], value: object) -> bool:
        dotted = "".join(f"{part}." for part in path)
        return dotted.startswith(tuple(f"{name}." for name in self.names))


def standardized_conv(
    x: jax.Array, kernel: jax.Array, *args: Any, epsilon: float = 1e-6, **kwargs: Any
) -> jax.Array:
    """Convolution with filters of mean 0 and variance 1 (Qiao et al. 2019)."""
    mean = kernel.mean(axis=(0, 1, 2))
    variance = kernel.var(axis=(0, 1, 2))
    kernel = (kernel - mean) * lax.rsqrt(variance + epsilon)
    return lax.conv_general_dilated(x, kernel, *args, **kwargs)


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


conv = partial(
    nnx.Conv,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
    conv_general_dilated=standardized_conv,
)


class Ranges(nnx.Module):
    """Two ranges of channels, one of them convolved again."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kept: int = 4,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.filters = filters
        self.kept = kept

        self.pad = partial(jnp.pad, pad_width=((0, 0), (1, 1), (1, 1), (0, 0)))

        self.conv1 = conv(
            in_channels, filters, (3, 3), strides=stride, padding=0, rngs=rngs
        )
        self.norm1 = FilterResponseNorm(filters, rngs=rngs)
        self.act1 = Threshold(filters)

        self.conv2 = conv(
            kept,
            kept,
            (3, 3),
            padding=1,
            feature_group_count=2,
            use_bias=True,
            conv_general_dilated=partial(standardized_conv, epsilon=0.001),
            rngs=rngs,
        )

        self.conv3 = conv(
            filters,
            filters,
            (1, 1),
            conv_general_dilated=lax.conv_general_dilated,
            rngs=rngs,
        )
        self.norm2 = EvoNorm(filters, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        both = self.pad(x)

        both = self.conv1(both)
        both = self.norm1(both)
        both = self.act1(both)
        low = both[..., : self.filters - self.kept]
        high = both[..., self.filters - self.kept :]

        high = self.conv2(high)

        x = jnp.concatenate([low, high], axis=-1)
        x = self.conv3(x)
        return self.norm2(x)


class MorePrimitives(nnx.Module):
    """Standardised convolution, response norms and ranges of channels."""

    order = (
        "conv1",
        "norm1",
        "act1",
        "layer1",
        "layer2",
        "norm",
        "act",
        "avgpool",
        "fc",
    )

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "layer1", "num_chs": 8, "reduction": 1},
        {"module": "layer2", "num_chs": 12, "reduction": 2},
    ]

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(in_channels, 8, (3, 3), padding=1, rngs=rngs)
        self.norm1 = FilterResponseNorm(8, rngs=rngs)
        self.act1 = Threshold(8)

        self.layer1 = Sequential(Ranges(8, 8, rngs=rngs) for _ in range(2))
        self.layer2 = Sequential(
            [
                Ranges(8, 12, kept=6, stride=2, rngs=rngs),
                Ranges(12, 12, kept=6, rngs=rngs),
            ]
        )

        self.norm = FilterResponseNorm(12, rngs=rngs)
        self.act = Threshold(12)

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.fc = nnx.Linear(
            12, num_classes, kernel_init=nnx.initializers.normal(0.01), rngs=rngs
        )

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.conv1(x)
        x = self.norm1(x)
        x = self.act1(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        return features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits (N, num_classes) of a batch of images (N, H, W, C)."""
        x = self.forward_features(x)["layer2"]
        x = self.norm(x)
        x = self.act(x)

        x = self.avgpool(x)
        return self.fc(x)

    def freeze_until(self, name: str) -> nnx.filterlib.Filter:
        """Freeze the layers before `name`; gives the filter of what is trained.

        It is the `wrt` of `nnx.Optimizer` and the filter of `nnx.DiffState`.
        """
        if name not in self.order:
            raise ValueError(f"there is no layer {name!r}")
        frozen = Below(self.order[: self.order.index(name)])
        return nnx.All(nnx.Param, nnx.Not(frozen))


def more_primitives(
    num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
) -> MorePrimitives:
    """Build more_primitives with random weights."""
    return MorePrimitives(num_classes, in_channels, rngs=rngs)
