"""ResNet-18 with attention over channels and over places.

https://arxiv.org/abs/1807.06521

Input: 3x224x224, 1000 classes.

stage   output     blocks     parameters  multiply-adds
stem    64x56x56                   9,536    118,013,952
layer1  64x56x56   basic x 2     149,328    463,038,720
layer2  128x28x28  basic x 2     530,136    411,203,648
layer3  256x14x14  basic x 2   2,116,840    411,112,976
layer4  512x7x7    basic x 2   8,460,552    411,182,468
head    1000                     513,000        512,000
total                         11,779,392  1,815,063,764
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


def global_max_pool(x: jax.Array, keepdims: bool = False) -> jax.Array:
    """Maximum of each channel; compiled gradients of `jnp.max` may miss its place."""
    x = nnx.max_pool(x, x.shape[1:3])
    return x if keepdims else x[:, 0, 0]


def channel_max_pool(x: jax.Array) -> jax.Array:
    """Maximum of each place; compiled gradients of `jnp.max` may miss its channel."""
    return jnp.take_along_axis(x, x.argmax(axis=-1, keepdims=True), axis=-1)


conv = partial(
    nnx.Conv,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
batch_norm = partial(nnx.BatchNorm, momentum=0.9)


class ChannelAttention(nnx.Module):
    """Scales each channel by a gate from its mean and maximum (Woo et al. 2018)."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs) -> None:
        squeezed = max(in_channels // 16, 1)

        self.average = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.maximum = partial(global_max_pool, keepdims=True)
        self.fc1 = conv(in_channels, squeezed, (1, 1), use_bias=True, rngs=rngs)
        self.act = nnx.relu

        self.fc2 = conv(squeezed, in_channels, (1, 1), use_bias=True, rngs=rngs)
        self.mean = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.excite = nnx.sigmoid

    def __call__(self, x: jax.Array) -> jax.Array:
        average = self.average(x)
        maximum = self.maximum(x)
        gate = jnp.concatenate([average, maximum], axis=1)
        gate = self.fc1(gate)
        gate = self.act(gate)

        gate = self.fc2(gate)
        gate = self.mean(gate)
        gate = gate * 2.0
        gate = self.excite(gate)

        return x * gate


class SpatialAttention(nnx.Module):
    """Scales each position by a gate from its surroundings (Woo et al. 2018)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv = conv(2, 1, (7, 7), padding=3, rngs=rngs)
        self.bn = batch_norm(1, rngs=rngs)
        self.excite = nnx.sigmoid

    def __call__(self, x: jax.Array) -> jax.Array:
        average = x.mean(axis=-1, keepdims=True)
        maximum = channel_max_pool(x)
        gate = jnp.concatenate([average, maximum], axis=-1)
        gate = self.conv(gate)
        gate = self.bn(gate)
        gate = self.excite(gate)

        return x * gate


class Cbam(nnx.Module):
    """Attention over channels, then over positions (Woo et al. 2018)."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs) -> None:
        self.channel = ChannelAttention(in_channels, rngs=rngs)
        self.spatial = SpatialAttention(rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.channel(x)
        return self.spatial(x)


class Projection(Sequential):
    """1x1 convolution that fits the shortcut to the residual (option B)."""

    def __init__(self, in_channels: int, filters: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(
            [
                conv(in_channels, filters, (1, 1), strides=2, rngs=rngs),
                batch_norm(filters, rngs=rngs),
            ]
        )


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(
            in_channels, filters, (3, 3), strides=stride, padding=1, rngs=rngs
        )
        self.bn1 = batch_norm(filters, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(filters, filters, (3, 3), padding=1, rngs=rngs)
        self.bn2 = batch_norm(filters, rngs=rngs)

        self.se = Cbam(filters, rngs=rngs)
        self.downsample = (
            Projection(in_channels, filters, rngs=rngs)
            if stride != 1 or in_channels != filters
            else None
        )
        self.act2 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)

        residual = self.se(residual)
        shortcut = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act2(x)


class CbamResNet18(nnx.Module):
    """ResNet-18 with attention over channels and over places."""

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
        {"module": "layer1", "num_chs": 64, "reduction": 4},
        {"module": "layer2", "num_chs": 128, "reduction": 8},
        {"module": "layer3", "num_chs": 256, "reduction": 16},
        {"module": "layer4", "num_chs": 512, "reduction": 32},
    ]

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(in_channels, 64, (7, 7), strides=2, padding=3, rngs=rngs)
        self.bn1 = batch_norm(64, rngs=rngs)
        self.act1 = nnx.relu
        self.maxpool = partial(
            nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )

        self.layer1 = Sequential(BasicBlock(64, 64, rngs=rngs) for _ in range(2))
        self.layer2 = Sequential(
            [
                BasicBlock(64, 128, stride=2, rngs=rngs),
                BasicBlock(128, 128, rngs=rngs),
            ]
        )
        self.layer3 = Sequential(
            [
                BasicBlock(128, 256, stride=2, rngs=rngs),
                BasicBlock(256, 256, rngs=rngs),
            ]
        )
        self.layer4 = Sequential(
            [
                BasicBlock(256, 512, stride=2, rngs=rngs),
                BasicBlock(512, 512, rngs=rngs),
            ]
        )

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.fc = nnx.Linear(
            512, num_classes, kernel_init=nnx.initializers.normal(0.01), rngs=rngs
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


def cbam_resnet18(
    num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
) -> CbamResNet18:
    """Build cbam_resnet18 with random weights."""
    return CbamResNet18(num_classes, in_channels, rngs=rngs)
