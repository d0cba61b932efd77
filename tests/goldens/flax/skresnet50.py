"""ResNet-50 with selective kernels.

https://arxiv.org/abs/1903.06586

Input: 3x224x224, 1000 classes.

stage   output      blocks             parameters  multiply-adds
stem    64x56x56                            9,536    118,013,952
layer1  256x56x56   sk_bottleneck x 3     220,848    667,947,520
layer2  512x28x28   sk_bottleneck x 4   1,232,960  1,027,616,768
layer3  1024x14x14  sk_bottleneck x 6   7,175,360  1,464,410,112
layer4  2048x7x7    sk_bottleneck x 3  15,115,456    809,385,984
head    1000                            2,049,000      2,048,000
total                                  25,803,160  4,089,422,336
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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


class ConvNormAct(nnx.Module):
    """A convolution, its norm and an activation."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        activate: bool = True,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = conv(
            in_channels,
            filters,
            (kernel, kernel),
            strides=stride,
            padding=(kernel - 1) // 2 * dilation,
            kernel_dilation=dilation,
            rngs=rngs,
        )
        self.bn = batch_norm(filters, rngs=rngs)
        self.act = nnx.relu if activate else None

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        x = self.bn(x)
        return x if self.act is None else self.act(x)


class SelectiveKernel(nnx.Module):
    """Two windows, 3x3 and 5x5, weighted by attention across them (Li et al. 2019)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        squeezed = make_divisible(filters / 16, 8)
        self.stride = stride

        self.paths = nnx.List(
            [
                ConvNormAct(
                    in_channels // 2, filters, kernel=3, stride=stride, rngs=rngs
                ),
                ConvNormAct(
                    in_channels // 2, filters, kernel=3, dilation=2 // stride, rngs=rngs
                ),
            ]
        )

        self.squeeze = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.attn: nnx.Dict[Any] = nnx.Dict()
        self.attn.fc_reduce = conv(filters, squeezed, (1, 1), rngs=rngs)
        self.attn.bn = batch_norm(squeezed, rngs=rngs)
        self.attn.act = nnx.relu

        self.attn.fc_select = conv(squeezed, filters * 2, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        halves = jnp.split(x, 2, axis=-1)
        narrow = halves[0]
        narrow = self.paths[0](narrow)
        wide = halves[1]
        if self.stride > 1:
            wide = wide[:, :: self.stride, :: self.stride]
        wide = self.paths[1](wide)
        x = narrow + wide
        x = self.squeeze(x)
        x = self.attn.fc_reduce(x)
        x = self.attn.bn(x)
        x = self.attn.act(x)

        x = self.attn.fc_select(x)
        x = softmax_over_groups(x, 2)

        weights = jnp.split(x, 2, axis=-1)
        narrow = narrow * weights[0]
        wide = wide * weights[1]
        return narrow + wide


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


class SelectiveKernelBottleneck(nnx.Module):
    """Bottleneck whose 3x3 convolution selects its window (Li et al. 2019)."""

    def __init__(
        self, in_channels: int, filters: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        out_channels = filters * 4

        self.conv1 = ConvNormAct(in_channels, filters, rngs=rngs)
        self.conv2 = SelectiveKernel(filters, filters, stride=stride, rngs=rngs)
        self.conv3 = ConvNormAct(filters, out_channels, activate=False, rngs=rngs)
        self.downsample = (
            Projection(in_channels, out_channels, stride=stride, rngs=rngs)
            if stride != 1 or in_channels != out_channels
            else None
        )
        self.act = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.conv2(residual)
        residual = self.conv3(residual)
        shortcut = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act(x)


class SKResNet50(nnx.Module):
    """ResNet-50 with selective kernels."""

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
                SelectiveKernelBottleneck(64, 64, rngs=rngs),
                *(SelectiveKernelBottleneck(256, 64, rngs=rngs) for _ in range(2)),
            ]
        )
        self.layer2 = Sequential(
            [
                SelectiveKernelBottleneck(256, 128, stride=2, rngs=rngs),
                *(SelectiveKernelBottleneck(512, 128, rngs=rngs) for _ in range(3)),
            ]
        )
        self.layer3 = Sequential(
            [
                SelectiveKernelBottleneck(512, 256, stride=2, rngs=rngs),
                *(SelectiveKernelBottleneck(1024, 256, rngs=rngs) for _ in range(5)),
            ]
        )
        self.layer4 = Sequential(
            [
                SelectiveKernelBottleneck(1024, 512, stride=2, rngs=rngs),
                *(SelectiveKernelBottleneck(2048, 512, rngs=rngs) for _ in range(2)),
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


def skresnet50(
    num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
) -> SKResNet50:
    """Build skresnet50 with random weights."""
    return SKResNet50(num_classes, in_channels, rngs=rngs)
