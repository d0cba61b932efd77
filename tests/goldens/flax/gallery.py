"""Blocks that few networks use, one after the other.

Input: 3x64x64, 10 classes.

stage      output    blocks                      parameters  multiply-adds
stem       16x32x32  conv_stack                         464      1,769,472
plain      16x32x32  plain                            4,672      4,718,592
highway    16x32x32  highway                          6,992      7,077,888
weighted   16x32x32  weighted_basic                   4,673      4,718,592
preact     16x32x32  preact_basic                     4,672      4,718,592
late       32x16x16  late_stride_bottleneck x 2       2,720      1,982,464
first      32x8x8    bottleneck_v1                   10,464        659,456
selective  16x8x8    sk_basic                         8,632        476,160
gated      16x8x8    basic x 2                        9,350        589,920
attended   24x4x4    basic                            9,341        146,048
head       10                                           970            960
total                                                62,950     26,858,144
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


def softmax_over_groups(x: jax.Array, groups: int) -> jax.Array:
    """Softmax across groups of channels, for each channel within a group."""
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return nnx.softmax(grouped, axis=-2).reshape(x.shape)


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


def flatten_channels_first(x: jax.Array) -> jax.Array:
    """Flatten a map in the order channel, row, column, as PyTorch does."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


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
        dilation: int = 1,
        activate: bool = True,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = conv(
            in_channels,
            16,
            (3, 3),
            padding=dilation,
            kernel_dilation=dilation,
            rngs=rngs,
        )
        self.bn = batch_norm(16, rngs=rngs)
        self.act = nnx.relu if activate else None

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        x = self.bn(x)
        return x if self.act is None else self.act(x)


class ConvStack(nnx.Module):
    """3x3 convolutions and a max pooling (Simonyan and Zisserman 2014)."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs) -> None:
        self.convs = Sequential([ConvNormAct(in_channels, rngs=rngs)])
        self.pool = partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.convs(x)
        return self.pool(x)


class PlainBlock(nnx.Module):
    """Two 3x3 convolutions without a shortcut (He et al. 2015, figure 3, middle)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn1 = batch_norm(16, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn2 = batch_norm(16, rngs=rngs)
        self.act2 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.act1(x)

        x = self.conv2(x)
        x = self.bn2(x)
        return self.act2(x)


class HighwayBlock(nnx.Module):
    """Two 3x3 convolutions, and a gate between them and the input
    (Srivastava et al. 2015).
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn1 = batch_norm(16, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn2 = batch_norm(16, rngs=rngs)
        self.act2 = nnx.relu

        self.gate = conv(
            16,
            16,
            (3, 3),
            padding=1,
            use_bias=True,
            bias_init=nnx.initializers.constant(-2.0),
            rngs=rngs,
        )
        self.transform_gate = nnx.sigmoid

    def __call__(self, x: jax.Array) -> jax.Array:
        transformed = self.conv1(x)
        transformed = self.bn1(transformed)
        transformed = self.act1(transformed)

        transformed = self.conv2(transformed)
        transformed = self.bn2(transformed)
        transformed = self.act2(transformed)

        transform_gate = self.gate(x)
        transform_gate = self.transform_gate(transform_gate)
        carry_gate = 1.0 - transform_gate

        transformed = transformed * transform_gate
        carried = x * carry_gate
        return transformed + carried


class WeightedBlock(nnx.Module):
    """Two 3x3 convolutions, activated, weighted by one number, added (Shen
    et al. 2016).
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn1 = batch_norm(16, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn2 = batch_norm(16, rngs=rngs)
        self.act2 = nnx.relu
        self.weight = LearnedScale(scale_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)
        residual = self.act2(residual)
        residual = self.weight(residual)
        return residual + x


class PreActBasicBlock(nnx.Module):
    """Norm and activation before each of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.norm1 = batch_norm(16, rngs=rngs)
        self.act1 = nnx.relu
        self.conv1 = conv(16, 16, (3, 3), padding=1, rngs=rngs)

        self.norm2 = batch_norm(16, rngs=rngs)
        self.act2 = nnx.relu
        self.conv2 = conv(16, 16, (3, 3), padding=1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        preact = self.norm1(x)
        preact = self.act1(preact)
        residual = self.conv1(preact)

        residual = self.norm2(residual)
        residual = self.act2(residual)
        residual = self.conv2(residual)

        return residual + x


class ConvShortcut(nnx.Module):
    """1x1 convolution that fits the shortcut to the residual, without a norm."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv = conv(16, 32, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class LateStrideBottleneck(nnx.Module):
    """Pre-activation bottleneck that also shrinks the map where its
    shortcut is the identity.
    """

    def __init__(self, in_channels: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.stride = stride

        self.norm1 = batch_norm(in_channels, rngs=rngs)
        self.act1 = nnx.relu

        self.downsample = ConvShortcut(rngs=rngs) if in_channels != 32 else None
        self.conv1 = conv(in_channels, 8, (1, 1), rngs=rngs)

        self.norm2 = batch_norm(8, rngs=rngs)
        self.act2 = nnx.relu
        self.conv2 = conv(8, 8, (3, 3), strides=stride, padding=1, rngs=rngs)

        self.norm3 = batch_norm(8, rngs=rngs)
        self.act3 = nnx.relu
        self.conv3 = conv(8, 32, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        identity = x
        if self.stride > 1:
            identity = x[:, :: self.stride, :: self.stride]

        preact = self.norm1(x)
        preact = self.act1(preact)

        shortcut = identity if self.downsample is None else self.downsample(preact)
        residual = self.conv1(preact)

        residual = self.norm2(residual)
        residual = self.act2(residual)
        residual = self.conv2(residual)

        residual = self.norm3(residual)
        residual = self.act3(residual)
        residual = self.conv3(residual)

        return residual + shortcut


class Projection3x3(Sequential):
    """Convolution that fits the shortcut to the residual, 3x3 where it has a stride."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        super().__init__(
            [
                conv(32, 32, (3, 3), strides=2, padding=1, rngs=rngs),
                batch_norm(32, rngs=rngs),
            ]
        )


class Bottleneck(nnx.Module):
    """1x1 reduce with the stride, 3x3, 1x1 expand (He et al. 2015, figure 5, right)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = conv(32, 8, (1, 1), strides=2, rngs=rngs)
        self.bn1 = batch_norm(8, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(8, 8, (3, 3), padding=1, rngs=rngs)
        self.bn2 = batch_norm(8, rngs=rngs)
        self.act2 = nnx.relu

        self.conv3 = conv(8, 32, (1, 1), rngs=rngs)
        self.bn3 = batch_norm(32, rngs=rngs)

        self.downsample = Projection3x3(rngs=rngs)
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

        shortcut = self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class SelectiveKernel(nnx.Module):
    """Two windows, 3x3 and 5x5, weighted by attention across them (Li et al. 2019)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.paths = nnx.List(
            [ConvNormAct(16, rngs=rngs), ConvNormAct(16, dilation=2, rngs=rngs)]
        )

        self.squeeze = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.attn: nnx.Dict[Any] = nnx.Dict()
        self.attn.fc_reduce = conv(16, 16, (1, 1), rngs=rngs)
        self.attn.bn = batch_norm(16, rngs=rngs)
        self.attn.act = nnx.relu

        self.attn.fc_select = conv(16, 32, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        halves = jnp.split(x, 2, axis=-1)
        narrow = halves[0]
        narrow = self.paths[0](narrow)
        wide = halves[1]
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


class SqueezeExcitation(nnx.Module):
    """Scales each channel by a gate computed from all channels (Hu et al. 2017)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.squeeze = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.fc1 = conv(16, 8, (1, 1), use_bias=True, rngs=rngs)
        self.act = nnx.relu

        self.fc2 = conv(8, 16, (1, 1), use_bias=True, rngs=rngs)
        self.excite = nnx.sigmoid

    def __call__(self, x: jax.Array) -> jax.Array:
        gate = self.squeeze(x)
        gate = self.fc1(gate)
        gate = self.act(gate)

        gate = self.fc2(gate)
        gate = self.excite(gate)

        return x * gate


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


class SelectiveKernelBasicBlock(nnx.Module):
    """Basic block whose first convolution selects its window (Li et al. 2019)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = SelectiveKernel(rngs=rngs)
        self.conv2 = ConvNormAct(16, activate=False, rngs=rngs)
        self.se = SqueezeExcitation(rngs=rngs)
        self.downsample = Projection(32, 16, rngs=rngs)
        self.act = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.conv2(residual)
        residual = self.se(residual)
        shortcut = self.downsample(x)
        x = residual + shortcut
        return self.act(x)


class EfficientChannelAttention(nnx.Module):
    """Scales each channel by a gate computed from its neighbours (Wang et al. 2019)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.squeeze = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.conv = ChannelConv(
            3,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            rngs=rngs,
        )
        self.excite = nnx.sigmoid

    def __call__(self, x: jax.Array) -> jax.Array:
        gate = self.squeeze(x)
        gate = self.conv(gate)
        gate = self.excite(gate)

        return x * gate


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn1 = batch_norm(16, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(16, 16, (3, 3), padding=1, rngs=rngs)
        self.bn2 = batch_norm(16, rngs=rngs)

        self.se = EfficientChannelAttention(rngs=rngs)
        self.act2 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)

        residual = self.se(residual)
        x = residual + x
        return self.act2(x)


class ChannelAttention(nnx.Module):
    """Scales each channel by a gate from its mean and maximum (Woo et al. 2018)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.average = partial(jnp.mean, axis=(1, 2), keepdims=True)
        self.maximum = partial(global_max_pool, keepdims=True)
        self.fc1 = conv(24, 1, (1, 1), use_bias=True, rngs=rngs)
        self.act = nnx.relu

        self.fc2 = conv(1, 24, (1, 1), use_bias=True, rngs=rngs)
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

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.channel = ChannelAttention(rngs=rngs)
        self.spatial = SpatialAttention(rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.channel(x)
        return self.spatial(x)


class BasicBlockCbam(nnx.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = conv(16, 24, (3, 3), strides=2, padding=1, rngs=rngs)
        self.bn1 = batch_norm(24, rngs=rngs)
        self.act1 = nnx.relu

        self.conv2 = conv(24, 24, (3, 3), padding=1, rngs=rngs)
        self.bn2 = batch_norm(24, rngs=rngs)

        self.se = Cbam(rngs=rngs)
        self.downsample = Projection(16, 24, stride=2, rngs=rngs)
        self.act2 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)

        residual = self.se(residual)
        shortcut = self.downsample(x)
        x = residual + shortcut
        return self.act2(x)


class Gallery(nnx.Module):
    """Blocks that few networks use, one after the other."""

    order = (
        "stem",
        "plain",
        "highway",
        "weighted",
        "preact",
        "late",
        "first",
        "selective",
        "gated",
        "attended",
        "avgpool",
        "flat",
        "fc",
    )

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "plain", "num_chs": 16, "reduction": 2},
        {"module": "highway", "num_chs": 16, "reduction": 2},
        {"module": "weighted", "num_chs": 16, "reduction": 2},
        {"module": "preact", "num_chs": 16, "reduction": 2},
        {"module": "late", "num_chs": 32, "reduction": 4},
        {"module": "first", "num_chs": 32, "reduction": 8},
        {"module": "selective", "num_chs": 16, "reduction": 8},
        {"module": "gated", "num_chs": 16, "reduction": 8},
        {"module": "attended", "num_chs": 24, "reduction": 16},
    ]

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.stem = ConvStack(in_channels, rngs=rngs)
        self.plain = PlainBlock(rngs=rngs)
        self.highway = HighwayBlock(rngs=rngs)
        self.weighted = WeightedBlock(rngs=rngs)
        self.preact = PreActBasicBlock(rngs=rngs)
        self.late = Sequential(
            [
                LateStrideBottleneck(16, rngs=rngs),
                LateStrideBottleneck(32, stride=2, rngs=rngs),
            ]
        )
        self.first = Bottleneck(rngs=rngs)
        self.selective = SelectiveKernelBasicBlock(rngs=rngs)
        self.gated = Sequential(BasicBlock(rngs=rngs) for _ in range(2))
        self.attended = BasicBlockCbam(rngs=rngs)

        self.avgpool = partial(adaptive_avg_pool, size=2)
        self.flat = flatten_channels_first
        self.fc = nnx.Linear(
            96, num_classes, kernel_init=nnx.initializers.normal(0.01), rngs=rngs
        )

        self.frozen = Below(())
        self.use_running_average = False  # the mode: `train` and `eval` set it here too

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.stem(x)
        x = self.plain(x)
        features["plain"] = x
        x = self.highway(x)
        features["highway"] = x
        x = self.weighted(x)
        features["weighted"] = x
        x = self.preact(x)
        features["preact"] = x
        x = self.late(x)
        features["late"] = x
        x = self.first(x)
        features["first"] = x
        x = self.selective(x)
        features["selective"] = x
        x = self.gated(x)
        features["gated"] = x
        x = self.attended(x)
        features["attended"] = x
        return features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits (N, num_classes) of a batch of images (N, H, W, C)."""
        x = self.forward_features(x)["attended"]
        x = self.avgpool(x)
        x = self.flat(x)
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


def gallery(num_classes: int = 10, in_channels: int = 3, *, rngs: nnx.Rngs) -> Gallery:
    """Build gallery with random weights."""
    return Gallery(num_classes, in_channels, rngs=rngs)
