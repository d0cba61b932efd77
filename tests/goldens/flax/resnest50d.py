"""ResNeSt-50, two branches.

https://arxiv.org/abs/2004.08955

Input: 3x224x224, 1000 classes.

stage   output      blocks       parameters  multiply-adds
stem    64x56x56    deep_stem        28,768    357,654,528
layer1  256x56x56   resnest x 3     235,296    667,961,344
layer2  512x28x28   resnest x 4   1,320,704  1,374,519,296
layer3  1024x14x14  resnest x 6   7,696,640  1,811,742,720
layer4  2048x7x7    resnest x 3  16,152,832  1,157,234,688
head    1000                      2,049,000      2,048,000
total                            27,483,240  5,371,160,576
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx


def make_divisible(
    value: float, divisor: int, minimum: int | None = None, round_limit: float = 0.9
) -> int:
    """The multiple of `divisor` nearest to `value`, at least `minimum` or else `divisor`.

    If rounding would lose more than `1 - round_limit` of the value, it is one step more, as
    in the reference implementation of MobileNet and in timm (layers/helpers.py).
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


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


conv = partial(
    nnx.Conv,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
batch_norm = partial(nnx.BatchNorm, momentum=0.9)


class DeepStem(Sequential):
    """Three 3x3 convolutions for the 7x7 one of a stem (He et al. 2018, ResNet-C)."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(
            [
                conv(in_channels, 32, (3, 3), strides=2, padding=1, rngs=rngs),
                batch_norm(32, rngs=rngs),
                nnx.relu,
                conv(32, 32, (3, 3), padding=1, rngs=rngs),
                batch_norm(32, rngs=rngs),
                nnx.relu,
                conv(32, 64, (3, 3), padding=1, rngs=rngs),
            ]
        )


class SplitAttention(nnx.Module):
    """3x3 convolution into branches, weighted by attention (Zhang et al. 2020)."""

    def __init__(self, in_channels: int, filters: int, *, rngs: nnx.Rngs) -> None:
        squeezed = make_divisible(in_channels / 2, 8, minimum=32)

        self.conv = conv(
            in_channels,
            filters * 2,
            (3, 3),
            padding=1,
            feature_group_count=2,
            rngs=rngs,
        )
        self.bn0 = batch_norm(filters * 2, rngs=rngs)
        self.act0 = nnx.relu

        self.squeeze = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.fc1 = conv(filters, squeezed, (1, 1), use_bias=True, rngs=rngs)
        self.bn1 = batch_norm(squeezed, rngs=rngs)
        self.act1 = nnx.relu

        self.fc2 = conv(squeezed, filters * 2, (1, 1), use_bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        stacked = self.conv(x)
        stacked = self.bn0(stacked)
        stacked = self.act0(stacked)

        branches = jnp.split(stacked, 2, axis=-1)
        weights = reduce(jnp.add, branches)
        weights = self.squeeze(weights)
        weights = self.fc1(weights)
        weights = self.bn1(weights)
        weights = self.act1(weights)

        weights = self.fc2(weights)
        weights = softmax_over_groups(weights, 2)

        x = stacked * weights
        weighted = jnp.split(x, 2, axis=-1)
        return reduce(jnp.add, weighted)


class AvgPoolShortcut(Sequential):
    """Average pooling, then a 1x1 convolution (He et al. 2018, ResNet-D)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        super().__init__(
            [
                partial(
                    nnx.avg_pool,
                    window_shape=(2, 2),
                    strides=(stride, stride),
                    padding="SAME",
                    count_include_pad=False,
                )
                if stride > 1
                else nnx.identity,
                conv(in_channels, filters, (1, 1), rngs=rngs),
                batch_norm(filters, rngs=rngs),
            ]
        )


class ResNeStBottleneck(nnx.Module):
    """Bottleneck with split attention for its 3x3 (Zhang et al. 2020, figure 2)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        out_channels = filters * 4

        self.conv1 = conv(in_channels, filters, (1, 1), rngs=rngs)
        self.bn1 = batch_norm(filters, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = SplitAttention(filters, filters, rngs=rngs)
        self.avd_last = (
            partial(
                nnx.avg_pool,
                window_shape=(3, 3),
                strides=(stride, stride),
                padding=((1, 1), (1, 1)),
            )
            if stride > 1
            else None
        )

        self.conv3 = conv(filters, out_channels, (1, 1), rngs=rngs)
        self.bn3 = batch_norm(
            out_channels, scale_init=nnx.initializers.zeros, rngs=rngs
        )

        self.downsample = (
            AvgPoolShortcut(in_channels, out_channels, stride=stride, rngs=rngs)
            if stride != 1 or in_channels != out_channels
            else None
        )
        self.act3 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        if self.avd_last is not None:
            residual = self.avd_last(residual)

        residual = self.conv3(residual)
        residual = self.bn3(residual)

        shortcut = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class ResNeSt50(nnx.Module):
    """ResNeSt-50, two branches."""

    order = (
        "conv1",
        "bn1",
        "act1",
        "maxpool",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "avgpool",
        "fc",
    )

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "act1", "num_chs": 64, "reduction": 2},
        {"module": "layer1", "num_chs": 256, "reduction": 4},
        {"module": "layer2", "num_chs": 512, "reduction": 8},
        {"module": "layer3", "num_chs": 1024, "reduction": 16},
        {"module": "layer4", "num_chs": 2048, "reduction": 32},
    ]

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = DeepStem(in_channels, rngs=rngs)
        self.bn1 = batch_norm(64, rngs=rngs)
        self.act1 = nnx.relu
        self.maxpool = partial(
            nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )

        self.layer1 = Sequential(
            [
                ResNeStBottleneck(64, 64, rngs=rngs),
                *(ResNeStBottleneck(256, 64, rngs=rngs) for _ in range(2)),
            ]
        )
        self.layer2 = Sequential(
            [
                ResNeStBottleneck(256, 128, stride=2, rngs=rngs),
                *(ResNeStBottleneck(512, 128, rngs=rngs) for _ in range(3)),
            ]
        )
        self.layer3 = Sequential(
            [
                ResNeStBottleneck(512, 256, stride=2, rngs=rngs),
                *(ResNeStBottleneck(1024, 256, rngs=rngs) for _ in range(5)),
            ]
        )
        self.layer4 = Sequential(
            [
                ResNeStBottleneck(1024, 512, stride=2, rngs=rngs),
                *(ResNeStBottleneck(2048, 512, rngs=rngs) for _ in range(2)),
            ]
        )

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.fc = nnx.Linear(
            2048, num_classes, kernel_init=nnx.initializers.normal(0.01), rngs=rngs
        )

        self.frozen = Below(())
        self.use_running_average = False  # the mode: `train` and `eval` set it here too

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.act1(x)
        x = self.maxpool(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        x = self.layer3(x)
        features["layer3"] = x
        x = self.layer4(x)
        features["layer4"] = x
        return features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits (N, num_classes) of a batch of images (N, H, W, C)."""
        x = self.forward_features(x)["layer4"]
        x = self.avgpool(x)
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


def resnest50d(
    num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
) -> ResNeSt50:
    """Build resnest50d with random weights."""
    return ResNeSt50(num_classes, in_channels, rngs=rngs)
