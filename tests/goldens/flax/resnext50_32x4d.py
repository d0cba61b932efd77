"""ResNeXt-50 of 32 groups of 4 channels.

https://arxiv.org/abs/1611.05431

Input: 3x224x224, 1000 classes.

stage   output      blocks          parameters  multiply-adds
stem    64x56x56                         9,536    118,013,952
layer1  256x56x56   bottleneck x 3     205,824    634,224,640
layer2  512x28x28   bottleneck x 4   1,197,056  1,085,407,232
layer3  1024x14x14  bottleneck x 6   7,022,592  1,525,350,400
layer4  2048x7x7    bottleneck x 3  14,544,896    865,435,648
head    1000                         2,049,000      2,048,000
total                               25,028,904  4,230,479,872
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


conv = partial(
    nnx.Conv,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
batch_norm = partial(nnx.BatchNorm, momentum=0.9)


class Projection(Sequential):
    """1x1 convolution that fits the shortcut to the residual (option B)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        super().__init__(
            [
                conv(in_channels, filters, (1, 1), strides=stride, rngs=rngs),
                batch_norm(filters, rngs=rngs),
            ]
        )


class Bottleneck(nnx.Module):
    """1x1 reduce, 3x3 with the stride, 1x1 expand (He et al. 2015, figure 5, right)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        width = filters // 16 * 32
        out_channels = filters * 4

        self.conv1 = conv(in_channels, width, (1, 1), rngs=rngs)
        self.bn1 = batch_norm(width, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(
            width,
            width,
            (3, 3),
            strides=stride,
            padding=1,
            feature_group_count=32,
            rngs=rngs,
        )
        self.bn2 = batch_norm(width, rngs=rngs)
        self.act2 = nnx.relu

        self.conv3 = conv(width, out_channels, (1, 1), rngs=rngs)
        self.bn3 = batch_norm(out_channels, rngs=rngs)

        self.downsample = (
            Projection(in_channels, out_channels, stride=stride, rngs=rngs)
            if stride != 1 or in_channels != out_channels
            else None
        )
        self.act3 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)
        residual = self.act2(residual)

        residual = self.conv3(residual)
        residual = self.bn3(residual)

        shortcut = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class ResNeXt50x32x4d(nnx.Module):
    """ResNeXt-50 of 32 groups of 4 channels."""

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
        self.conv1 = conv(in_channels, 64, (7, 7), strides=2, padding=3, rngs=rngs)
        self.bn1 = batch_norm(64, rngs=rngs)
        self.act1 = nnx.relu
        self.maxpool = partial(
            nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )

        self.layer1 = Sequential(
            [
                Bottleneck(64, 64, rngs=rngs),
                *(Bottleneck(256, 64, rngs=rngs) for _ in range(2)),
            ]
        )
        self.layer2 = Sequential(
            [
                Bottleneck(256, 128, stride=2, rngs=rngs),
                *(Bottleneck(512, 128, rngs=rngs) for _ in range(3)),
            ]
        )
        self.layer3 = Sequential(
            [
                Bottleneck(512, 256, stride=2, rngs=rngs),
                *(Bottleneck(1024, 256, rngs=rngs) for _ in range(5)),
            ]
        )
        self.layer4 = Sequential(
            [
                Bottleneck(1024, 512, stride=2, rngs=rngs),
                *(Bottleneck(2048, 512, rngs=rngs) for _ in range(2)),
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


def resnext50_32x4d(
    num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
) -> ResNeXt50x32x4d:
    """Build resnext50_32x4d with random weights."""
    return ResNeXt50x32x4d(num_classes, in_channels, rngs=rngs)
