"""Channel gates, spatial gates and learned scalars.

Input: 3x21x26, 6 classes.

stage   output    blocks  parameters  multiply-adds
stem    8x21x26                  232        117,936
layer1  8x21x26   gated          743        324,604
layer2  12x11x13  gated        1,103        474,738
head    6                         78             72
total                          2,156        917,350
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx


@dataclass(frozen=True)
class Below:
    """A filter for everything below any of these dotted names."""

    names: tuple[str, ...]

    def __call__(self, path: tuple[Any, ...], value: object) -> bool:
        dotted = "".join(f"{part}." for part in path)
        return dotted.startswith(tuple(f"{name}." for name in self.names))


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


conv = partial(
    nnx.Conv,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
batch_norm = partial(nnx.BatchNorm, momentum=0.9)


class Gated(nnx.Module):
    """A residual weighed by learned numbers, by gates of channels and of places."""

    def __init__(self, filters: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.filters = filters
        self.stride = stride

        self.shift = LearnedShift(bias_init=nnx.initializers.constant(0.1), rngs=rngs)

        self.conv1 = conv(8, filters, (3, 3), padding=1, rngs=rngs)
        self.bn1 = batch_norm(filters, rngs=rngs)
        self.act1 = nnx.relu
        self.blur = partial(blur_pool, stride=stride)
        self.average = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.maximum = partial(global_max_pool, keepdims=True)
        self.squeeze = conv(filters, 8, (1, 1), rngs=rngs)
        self.act2 = nnx.relu

        self.expand = conv(8, filters, (1, 1), rngs=rngs)
        self.gates = nnx.sigmoid

        self.gate = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.nearby = ChannelConv(
            3,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            rngs=rngs,
        )

        self.look = conv(2, 1, (3, 3), padding=1, rngs=rngs)
        self.place_gate = nnx.sigmoid

        self.weight = LearnedScale(scale_init=nnx.initializers.constant(0.7), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = self.shift(x)

        wide = self.conv1(wide)
        wide = self.bn1(wide)
        wide = self.act1(wide)
        wide = self.blur(wide)
        average = self.average(wide)
        maximum = self.maximum(wide)
        gate = jnp.concatenate([average, maximum], axis=1)
        gate = self.squeeze(gate)
        gate = self.act2(gate)

        gate = self.expand(gate)
        gate = gate * 0.5 - 0.2
        gate = self.gates(gate)

        gate = self.gate(gate)
        scaled = wide * gate
        near = self.nearby(gate)

        mean = scaled.mean(axis=-1, keepdims=True)
        top = channel_max_pool(scaled)
        place = jnp.concatenate([mean, top], axis=-1)
        place = self.look(place)
        place = self.place_gate(place)

        residual = scaled * place * near
        residual = self.weight(residual)
        shortcut = x[:, :: self.stride, :: self.stride]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, self.filters - 8)))
        return residual + shortcut


class GatesAndPools(nnx.Module):
    """Channel gates, spatial gates and learned scalars."""

    order = ("conv1", "bn1", "act1", "layer1", "layer2", "peak", "fc")

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "layer1", "num_chs": 8, "reduction": 1},
        {"module": "layer2", "num_chs": 12, "reduction": 2},
    ]

    def __init__(
        self, num_classes: int = 6, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(in_channels, 8, (3, 3), padding=1, rngs=rngs)
        self.bn1 = batch_norm(8, rngs=rngs)
        self.act1 = nnx.relu

        self.layer1 = Gated(8, rngs=rngs)
        self.layer2 = Gated(12, stride=2, rngs=rngs)

        self.peak = global_max_pool
        self.fc = nnx.Linear(
            12, num_classes, kernel_init=nnx.initializers.normal(0.01), rngs=rngs
        )

        self.frozen = Below(())
        self.use_running_average = False  # the mode: `train` and `eval` set it here too

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.act1(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        return features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits (N, num_classes) of a batch of images (N, H, W, C)."""
        x = self.forward_features(x)["layer2"]
        x = self.peak(x)
        return self.fc(x)

    def freeze_until(self, name: str) -> nnx.filterlib.Filter:
        """Freeze the layers before `name`; gives the filter of what is trained.

        It is the `wrt` of `nnx.Optimizer` and the filter of `nnx.DiffState`. Frozen batch
        norms use their running statistics, which do not change.
        """
        if name not in self.order:
            raise ValueError(f"there is no layer {name!r}")
        self.frozen = Below(self.order[: self.order.index(name)])
        if not self.use_running_average:
            self.train()
        return nnx.All(nnx.Param, nnx.Not(self.frozen))

    def train(self, **attributes: Any) -> None:
        """Set all layers to training; frozen batch norms stay as in evaluation."""
        super().train(**attributes)
        for path, module in nnx.iter_graph(self):
            if isinstance(module, nnx.BatchNorm) and self.frozen(path, module):
                module.use_running_average = True


def gates_and_pools(
    num_classes: int = 6, in_channels: int = 3, *, rngs: nnx.Rngs
) -> GatesAndPools:
    """Build gates_and_pools with random weights."""
    return GatesAndPools(num_classes, in_channels, rngs=rngs)
