"""Pre-activation ResNet-164 for CIFAR-10.

https://arxiv.org/abs/1603.05027

Input: 3x32x32, 10 classes.

stage   output     blocks                  parameters  multiply-adds
stem    16x32x32                                  432        442,368
layer1  64x32x32   preact_bottleneck x 18      81,952     80,478,208
layer2  128x16x16  preact_bottleneck x 18     326,272     83,361,792
layer3  256x8x8    preact_bottleneck x 18   1,291,520     83,361,792
head    10                                      3,082          2,560
total                                       1,703,258    247,646,720
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


class ConvShortcut(nnx.Module):
    """1x1 convolution that fits the shortcut to the residual, without a norm."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        self.conv = conv(in_channels, filters, (1, 1), strides=stride, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class PreActBottleneck(nnx.Module):
    """Norm and activation before each convolution (He et al. 2016, figure 4e)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        out_channels = filters * 4

        self.norm1 = batch_norm(in_channels, rngs=rngs)
        self.act1 = nnx.relu

        self.downsample = (
            ConvShortcut(in_channels, out_channels, stride=stride, rngs=rngs)
            if stride != 1 or in_channels != out_channels
            else None
        )
        self.conv1 = conv(in_channels, filters, (1, 1), rngs=rngs)

        self.norm2 = batch_norm(filters, rngs=rngs)
        self.act2 = nnx.relu
        self.conv2 = conv(
            filters, filters, (3, 3), strides=stride, padding=1, rngs=rngs
        )

        self.norm3 = batch_norm(filters, rngs=rngs)
        self.act3 = nnx.relu
        self.conv3 = conv(filters, out_channels, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        preact = self.norm1(x)
        preact = self.act1(preact)

        shortcut = x if self.downsample is None else self.downsample(preact)
        residual = self.conv1(preact)

        residual = self.norm2(residual)
        residual = self.act2(residual)
        residual = self.conv2(residual)

        residual = self.norm3(residual)
        residual = self.act3(residual)
        residual = self.conv3(residual)

        return residual + shortcut


class PreActResNet164(nnx.Module):
    """Pre-activation ResNet-164 for CIFAR-10."""

    order = ("conv1", "layer1", "layer2", "layer3", "norm", "act", "avgpool", "fc")

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "layer1", "num_chs": 64, "reduction": 1},
        {"module": "layer2", "num_chs": 128, "reduction": 2},
        {"module": "layer3", "num_chs": 256, "reduction": 4},
    ]

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(in_channels, 16, (3, 3), padding=1, rngs=rngs)

        self.layer1 = Sequential(
            [
                PreActBottleneck(16, 16, rngs=rngs),
                *(PreActBottleneck(64, 16, rngs=rngs) for _ in range(17)),
            ]
        )
        self.layer2 = Sequential(
            [
                PreActBottleneck(64, 32, stride=2, rngs=rngs),
                *(PreActBottleneck(128, 32, rngs=rngs) for _ in range(17)),
            ]
        )
        self.layer3 = Sequential(
            [
                PreActBottleneck(128, 64, stride=2, rngs=rngs),
                *(PreActBottleneck(256, 64, rngs=rngs) for _ in range(17)),
            ]
        )

        self.norm = batch_norm(256, rngs=rngs)
        self.act = nnx.relu

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.fc = nnx.Linear(
            256, num_classes, kernel_init=nnx.initializers.normal(0.01), rngs=rngs
        )

        self.frozen = Below(())
        self.use_running_average = False  # the mode: `train` and `eval` set it here too

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.conv1(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        x = self.layer3(x)
        features["layer3"] = x
        return features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits (N, num_classes) of a batch of images (N, H, W, C)."""
        x = self.forward_features(x)["layer3"]
        x = self.norm(x)
        x = self.act(x)

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


def preact_resnet164(
    num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
) -> PreActResNet164:
    """Build preact_resnet164 with random weights."""
    return PreActResNet164(num_classes, in_channels, rngs=rngs)
