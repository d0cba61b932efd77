"""A small network without norms, for the tests.

Input: 3x32x32, 10 classes.

stage   output    blocks                parameters  multiply-adds
stem    16x32x32                               433        442,368
layer1  16x32x32  fixup_basic x 2            9,226      9,437,184
layer2  32x16x16  fixup_bottleneck x 2       2,574        753,664
layer3  40x8x8    fixup_basic               25,925      1,658,880
head    10                                     411            400
total                                       38,569     12,292,496
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


conv = partial(
    nnx.Conv,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(0.4, "fan_out", "normal"),
)


class FixupBasicBlock(nnx.Module):
    """Two 3x3 convolutions with learned scalars in place of norms (Zhang et
    al. 2019).
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.shift1 = LearnedShift(rngs=rngs)

        self.conv1 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.shift2 = LearnedShift(rngs=rngs)
        self.act1 = nnx.relu
        self.shift3 = LearnedShift(rngs=rngs)

        self.conv2 = conv(
            16, 16, (3, 3), padding=1, kernel_init=nnx.initializers.zeros, rngs=rngs
        )
        self.scale = LearnedScale(rngs=rngs)
        self.shift4 = LearnedShift(rngs=rngs)
        self.act2 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        shifted = self.shift1(x)

        residual = self.conv1(shifted)
        residual = self.shift2(residual)
        residual = self.act1(residual)
        residual = self.shift3(residual)

        residual = self.conv2(residual)
        residual = self.scale(residual)
        residual = self.shift4(residual)
        x = residual + x
        return self.act2(x)


class FixupProjection(nnx.Module):
    """1x1 convolution of the shortcut, which Fixup does not rescale."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv = conv(
            16,
            32,
            (1, 1),
            strides=2,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class FixupBottleneck(nnx.Module):
    """A bottleneck with learned scalars in place of norms (Zhang et al. 2019)."""

    def __init__(self, in_channels: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.shift1 = LearnedShift(rngs=rngs)

        self.conv1 = conv(in_channels, 8, (1, 1), rngs=rngs)
        self.shift2 = LearnedShift(rngs=rngs)
        self.act1 = nnx.relu
        self.shift3 = LearnedShift(rngs=rngs)

        self.conv2 = conv(8, 8, (3, 3), strides=stride, padding=1, rngs=rngs)
        self.shift4 = LearnedShift(rngs=rngs)
        self.act2 = nnx.relu
        self.shift5 = LearnedShift(rngs=rngs)

        self.conv3 = conv(8, 32, (1, 1), kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.scale = LearnedScale(rngs=rngs)
        self.shift6 = LearnedShift(rngs=rngs)

        self.downsample = (
            FixupProjection(rngs=rngs) if stride != 1 or in_channels != 32 else None
        )
        self.act3 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        shifted = self.shift1(x)

        residual = self.conv1(shifted)
        residual = self.shift2(residual)
        residual = self.act1(residual)
        residual = self.shift3(residual)

        residual = self.conv2(residual)
        residual = self.shift4(residual)
        residual = self.act2(residual)
        residual = self.shift5(residual)

        residual = self.conv3(residual)
        residual = self.scale(residual)
        residual = self.shift6(residual)

        shortcut = x if self.downsample is None else self.downsample(shifted)
        x = residual + shortcut
        return self.act3(x)


class ZeroPadShortcut(nnx.Module):
    """Every n-th row and column, with channels of zeros (He et al. 2015, option A)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x[:, ::2, ::2]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (4, 4)))


class FixupBasicBlockZeroPadShortcut(nnx.Module):
    """Two 3x3 convolutions with learned scalars in place of norms (Zhang et
    al. 2019).
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.shift1 = LearnedShift(rngs=rngs)

        self.conv1 = conv(32, 40, (3, 3), strides=2, padding=1, rngs=rngs)
        self.shift2 = LearnedShift(rngs=rngs)
        self.act1 = nnx.relu
        self.shift3 = LearnedShift(rngs=rngs)

        self.conv2 = conv(
            40, 40, (3, 3), padding=1, kernel_init=nnx.initializers.zeros, rngs=rngs
        )
        self.scale = LearnedScale(rngs=rngs)
        self.shift4 = LearnedShift(rngs=rngs)

        self.downsample = ZeroPadShortcut()
        self.act2 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        shifted = self.shift1(x)

        residual = self.conv1(shifted)
        residual = self.shift2(residual)
        residual = self.act1(residual)
        residual = self.shift3(residual)

        residual = self.conv2(residual)
        residual = self.scale(residual)
        residual = self.shift4(residual)

        shortcut = self.downsample(shifted)
        x = residual + shortcut
        return self.act2(x)


class Fixup(nnx.Module):
    """A small network without norms, for the tests."""

    order = (
        "conv1",
        "shift1",
        "act1",
        "layer1",
        "layer2",
        "layer3",
        "avgpool",
        "shift2",
        "fc",
    )

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "layer1", "num_chs": 16, "reduction": 1},
        {"module": "layer2", "num_chs": 32, "reduction": 2},
        {"module": "layer3", "num_chs": 40, "reduction": 4},
    ]

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(
            in_channels,
            16,
            (3, 3),
            padding=1,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            rngs=rngs,
        )
        self.shift1 = LearnedShift(rngs=rngs)
        self.act1 = nnx.relu

        self.layer1 = Sequential(FixupBasicBlock(rngs=rngs) for _ in range(2))
        self.layer2 = Sequential(
            [
                FixupBottleneck(16, stride=2, rngs=rngs),
                FixupBottleneck(32, rngs=rngs),
            ]
        )
        self.layer3 = FixupBasicBlockZeroPadShortcut(rngs=rngs)

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.shift2 = LearnedShift(rngs=rngs)

        self.fc = nnx.Linear(
            40, num_classes, kernel_init=nnx.initializers.zeros, rngs=rngs
        )

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.conv1(x)
        x = self.shift1(x)
        x = self.act1(x)

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
        x = self.avgpool(x)
        x = self.shift2(x)

        return self.fc(x)

    def freeze_until(self, name: str) -> nnx.filterlib.Filter:
        """Freeze the layers before `name`; gives the filter of what is trained.

        It is the `wrt` of `nnx.Optimizer` and the filter of `nnx.DiffState`.
        """
        if name not in self.order:
            raise ValueError(f"there is no layer {name!r}")
        frozen = Below(self.order[: self.order.index(name)])
        return nnx.All(nnx.Param, nnx.Not(frozen))


def fixup(num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs) -> Fixup:
    """Build fixup with random weights."""
    return Fixup(num_classes, in_channels, rngs=rngs)
