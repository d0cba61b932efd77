"""DPN-68, a residual and a dense path.

https://arxiv.org/abs/1707.01629

Input: 3x224x224, 1000 classes.

stage   output     blocks          parameters  multiply-adds
stem    10x56x56                          290      3,386,880
layer1  144x56x56  dual_path x 3       79,560    243,052,544
layer2  320x28x28  dual_path x 4      504,896    477,675,520
layer3  704x14x14  dual_path x 12   5,841,152  1,233,928,192
layer4  832x7x7    dual_path x 3    5,351,040    367,288,320
head    1000                          834,664        832,000
total                              12,611,602  2,326,163,456
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
batch_norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=0.001)


class NormActConv(nnx.Module):
    """A norm, an activation and a convolution."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.bn = batch_norm(in_channels, rngs=rngs)
        self.act = nnx.relu
        self.conv = conv(
            in_channels,
            filters,
            (kernel, kernel),
            strides=stride,
            padding=(kernel - 1) // 2,
            feature_group_count=groups,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.bn(x)
        x = self.act(x)
        return self.conv(x)


class DualPathBlock(nnx.Module):
    """A residual and a growing dense path in one feature map (Chen et al. 2017)."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        growth: int,
        width: int,
        project: bool,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.filters = filters

        self.project = (
            NormActConv(in_channels, filters + 2 * growth, stride=stride, rngs=rngs)
            if project
            else None
        )
        self.reduce = NormActConv(in_channels, width, rngs=rngs)
        self.grouped = NormActConv(
            width, width, kernel=3, stride=stride, groups=32, rngs=rngs
        )
        self.expand = NormActConv(width, filters + growth, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        carried = x if self.project is None else self.project(x)
        shortcut = carried[..., : self.filters]
        dense = carried[..., self.filters :]

        narrow = self.reduce(x)
        narrow = self.grouped(narrow)
        both = self.expand(narrow)
        residual = both[..., : self.filters]
        new = both[..., self.filters :]

        residual = shortcut + residual
        return jnp.concatenate([residual, dense, new], axis=-1)


class DPN68(nnx.Module):
    """DPN-68, a residual and a dense path."""

    order = (
        "conv1",
        "bn1",
        "act1",
        "maxpool",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "norm",
        "act",
        "avgpool",
        "fc",
    )

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "act1", "num_chs": 10, "reduction": 2},
        {"module": "layer1", "num_chs": 144, "reduction": 4},
        {"module": "layer2", "num_chs": 320, "reduction": 8},
        {"module": "layer3", "num_chs": 704, "reduction": 16},
        {"module": "layer4", "num_chs": 832, "reduction": 32},
    ]

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = conv(in_channels, 10, (3, 3), strides=2, padding=1, rngs=rngs)
        self.bn1 = batch_norm(10, rngs=rngs)
        self.act1 = nnx.relu
        self.maxpool = partial(
            nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )

        self.layer1 = Sequential(
            [
                DualPathBlock(10, 64, growth=16, width=128, project=True, rngs=rngs),
                DualPathBlock(112, 64, growth=16, width=128, project=False, rngs=rngs),
                DualPathBlock(128, 64, growth=16, width=128, project=False, rngs=rngs),
            ]
        )
        self.layer2 = Sequential(
            [
                DualPathBlock(
                    144, 128, growth=32, width=256, project=True, stride=2, rngs=rngs
                ),
                *(
                    DualPathBlock(
                        192 + 32 * i,
                        128,
                        growth=32,
                        width=256,
                        project=False,
                        rngs=rngs,
                    )
                    for i in range(1, 4)
                ),
            ]
        )
        self.layer3 = Sequential(
            [
                DualPathBlock(
                    320, 256, growth=32, width=512, project=True, stride=2, rngs=rngs
                ),
                *(
                    DualPathBlock(
                        320 + 32 * i,
                        256,
                        growth=32,
                        width=512,
                        project=False,
                        rngs=rngs,
                    )
                    for i in range(1, 12)
                ),
            ]
        )
        self.layer4 = Sequential(
            [
                DualPathBlock(
                    704, 512, growth=64, width=1024, project=True, stride=2, rngs=rngs
                ),
                DualPathBlock(
                    704, 512, growth=64, width=1024, project=False, rngs=rngs
                ),
                DualPathBlock(
                    768, 512, growth=64, width=1024, project=False, rngs=rngs
                ),
            ]
        )

        self.norm = batch_norm(832, rngs=rngs)
        self.act = nnx.relu

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.fc = nnx.Linear(
            832, num_classes, kernel_init=nnx.initializers.normal(0.01), rngs=rngs
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


def dpn68(num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs) -> DPN68:
    """Build dpn68 with random weights."""
    return DPN68(num_classes, in_channels, rngs=rngs)
