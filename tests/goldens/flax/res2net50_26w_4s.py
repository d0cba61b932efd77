"""Res2Net-50, 4 parts of 26 channels.

https://arxiv.org/abs/1904.01169

Input: 3x224x224, 1000 classes.

stage   output      blocks       parameters  multiply-adds
stem    64x56x56                      9,536    118,013,952
layer1  256x56x56   res2net x 3     214,056    661,432,576
layer2  512x28x28   res2net x 4   1,229,856  1,083,149,312
layer3  1024x14x14  res2net x 6   7,198,368  1,531,597,312
layer4  2048x7x7    res2net x 3  14,998,304    858,925,312
head    1000                      2,049,000      2,048,000
total                            25,699,120  4,255,166,464
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


class Res2NetBottleneck(nnx.Module):
    """Bottleneck whose 3x3 is a chain over parts of the channels (Gao et al. 2019)."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        first: bool,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        width = filters * 26 // 64
        out_channels = filters * 4
        self.first = first

        self.conv1 = conv(in_channels, width * 4, (1, 1), rngs=rngs)
        self.bn1 = batch_norm(width * 4, rngs=rngs)
        self.act1 = nnx.relu

        self.convs = nnx.List(
            conv(width, width, (3, 3), strides=stride, padding=1, rngs=rngs)
            for _ in range(3)
        )
        self.bns = nnx.List(batch_norm(width, rngs=rngs) for _ in range(3))
        self.acts = nnx.List(nnx.relu for _ in range(3))

        self.pool = (
            partial(
                nnx.avg_pool,
                window_shape=(3, 3),
                strides=(stride, stride),
                padding=((1, 1), (1, 1)),
            )
            if first
            else None
        )

        self.conv3 = conv(width * 4, out_channels, (1, 1), rngs=rngs)
        self.bn3 = batch_norm(
            out_channels, scale_init=nnx.initializers.zeros, rngs=rngs
        )

        self.downsample = (
            Projection(in_channels, out_channels, stride=stride, rngs=rngs)
            if stride != 1 or in_channels != out_channels
            else None
        )
        self.act3 = nnx.relu

    def __call__(self, x: jax.Array) -> jax.Array:
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.act1(out)

        parts = jnp.split(out, 4, axis=-1)
        piece = parts[0]
        pieces: list[jax.Array] = []

        for part in range(3):
            if part > 0 and not self.first:
                piece = parts[part] + piece
            else:
                piece = parts[part]
            piece = self.convs[part](piece)
            piece = self.bns[part](piece)
            piece = self.acts[part](piece)
            pieces.append(piece)

        last = parts[3] if self.pool is None else self.pool(parts[3])
        residual = jnp.concatenate([*pieces, last], axis=-1)
        residual = self.conv3(residual)
        residual = self.bn3(residual)

        shortcut = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class Res2Net50(nnx.Module):
    """Res2Net-50, 4 parts of 26 channels."""

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
                Res2NetBottleneck(64, 64, first=True, rngs=rngs),
                *(Res2NetBottleneck(256, 64, first=False, rngs=rngs) for _ in range(2)),
            ]
        )
        self.layer2 = Sequential(
            [
                Res2NetBottleneck(256, 128, first=True, stride=2, rngs=rngs),
                *(
                    Res2NetBottleneck(512, 128, first=False, rngs=rngs)
                    for _ in range(3)
                ),
            ]
        )
        self.layer3 = Sequential(
            [
                Res2NetBottleneck(512, 256, first=True, stride=2, rngs=rngs),
                *(
                    Res2NetBottleneck(1024, 256, first=False, rngs=rngs)
                    for _ in range(5)
                ),
            ]
        )
        self.layer4 = Sequential(
            [
                Res2NetBottleneck(1024, 512, first=True, stride=2, rngs=rngs),
                *(
                    Res2NetBottleneck(2048, 512, first=False, rngs=rngs)
                    for _ in range(2)
                ),
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


def res2net50_26w_4s(
    num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
) -> Res2Net50:
    """Build res2net50_26w_4s with random weights."""
    return Res2Net50(num_classes, in_channels, rngs=rngs)
