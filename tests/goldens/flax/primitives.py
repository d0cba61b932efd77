"""Every operation that no other network of the tests has.

Input: 3x20x20, 10 classes.

stage   output  blocks    parameters  multiply-adds
stem    16x5x5                   224         19,200
layer1  16x5x5  wave x 2       8,032        198,400
layer2  24x5x5  wave           8,136        201,600
head    10                       250            240
total                         16,642        419,440
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx


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


def softmax_over_groups(x: jax.Array, groups: int) -> jax.Array:
    """Softmax across groups of channels, for each channel within a group."""
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return nnx.softmax(grouped, axis=-2).reshape(x.shape)


def shuffle_channels(x: jax.Array, groups: int, parts: int) -> jax.Array:
    """Channels ordered as (groups, parts, rest) become (parts, groups, rest)."""
    ordered = x.reshape(*x.shape[:-1], groups, parts, -1)
    return ordered.swapaxes(-3, -2).reshape(x.shape)


conv = partial(
    nnx.Conv,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
group_norm = partial(nnx.GroupNorm, epsilon=1e-5)


class Wave(nnx.Module):
    """A residual with an activation of each kind."""

    def __init__(self, filters: int, rate: float = 0.0, *, rngs: nnx.Rngs) -> None:
        self.filters = filters

        self.conv1 = conv(
            16,
            filters,
            (3, 3),
            padding=2,
            kernel_dilation=2,
            feature_group_count=2,
            rngs=rngs,
        )
        self.norm1 = group_norm(filters, 4, rngs=rngs)
        self.silu = nnx.silu

        self.conv2 = conv(filters, filters, (3, 3), padding=1, rngs=rngs)
        self.tanh = nnx.tanh
        self.gelu = partial(nnx.gelu, approximate=False)
        self.hard = nnx.hard_sigmoid
        self.channels = nnx.softmax

        self.smooth = partial(
            nnx.avg_pool, window_shape=(3, 3), padding=((1, 1), (1, 1))
        )
        self.largest = partial(
            nnx.max_pool, window_shape=(3, 3), padding=((1, 1), (1, 1))
        )

        self.conv3 = conv(
            filters * 2,
            filters,
            (1, 1),
            use_bias=True,
            bias_init=nnx.initializers.normal(0.1),
            rngs=rngs,
        )
        self.drop = nnx.Dropout(rate, broadcast_dims=(1, 2, 3), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = self.conv1(x)
        wide = self.norm1(wide)
        wide = self.silu(wide)

        wide = self.conv2(wide)
        one = self.tanh(wide)
        two = self.gelu(wide)
        three = self.hard(wide)

        scaled = one * three
        joined = scaled + two
        softened = shuffle_channels(joined, 4, 2)
        softened = softmax_over_groups(softened, 2)
        other = self.channels(joined)

        residual = jnp.concatenate([softened, other], axis=-1)
        residual = self.smooth(residual)
        residual = self.largest(residual)

        residual = self.conv3(residual)
        residual = self.drop(residual)
        shortcut = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.filters - 16)))
        x = residual + shortcut
        return nnx.leaky_relu(x, negative_slope=0.1)


class Primitives(nnx.Module):
    """Every operation that no other network of the tests has."""

    order = (
        "conv1",
        "pool",
        "norm1",
        "act",
        "layer1",
        "layer2",
        "split",
        "turned",
        "avgpool",
        "dropout",
        "fc",
    )

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "conv1", "num_chs": 16, "reduction": 2},
        {"module": "layer1", "num_chs": 16, "reduction": 4},
        {"module": "layer2", "num_chs": 24, "reduction": 4},
    ]

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(in_channels, 16, (2, 2), strides=2, padding=0, rngs=rngs)
        self.pool = partial(
            nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )
        self.norm1 = group_norm(16, 4, rngs=rngs)
        self.act = partial(nnx.leaky_relu, negative_slope=0.1)

        self.layer1 = Sequential(
            [
                Wave(16, rngs=rngs),
                Wave(16, rate=0.06666666666666667, rngs=rngs),
            ]
        )
        self.layer2 = Wave(24, rate=0.2, rngs=rngs)

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.fc = nnx.Linear(
            24,
            num_classes,
            kernel_init=nnx.initializers.normal(0.01),
            bias_init=nnx.initializers.constant(0.1),
            rngs=rngs,
        )

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.conv1(x)
        x = self.pool(x)
        x = self.norm1(x)
        x = self.act(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        return features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits (N, num_classes) of a batch of images (N, H, W, C)."""
        x = self.forward_features(x)["layer2"]
        part = jnp.split(x, 3, axis=-1)
        x = jnp.concatenate([part[2], part[0], part[1]], axis=-1)
        x = self.avgpool(x)
        x = self.dropout(x)
        return self.fc(x)

    def freeze_until(self, name: str) -> nnx.filterlib.Filter:
        """Freeze the layers before `name`; gives the filter of what is trained.

        It is the `wrt` of `nnx.Optimizer` and the filter of `nnx.DiffState`.
        """
        if name not in self.order:
            raise ValueError(f"there is no layer {name!r}")
        frozen = Below(self.order[: self.order.index(name)])
        return nnx.All(nnx.Param, nnx.Not(frozen))


def primitives(
    num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
) -> Primitives:
    """Build primitives with random weights."""
    return Primitives(num_classes, in_channels, rngs=rngs)
