"""DenseNet-121 with bottlenecks and compression.

https://arxiv.org/abs/1608.06993

Input: 3x224x224, 1000 classes.

stage                 output      blocks            parameters  multiply-adds
stem                  64x56x56                           9,536    118,013,952
features.denseblock1  256x56x56   dense_layer x 6      335,040  1,040,449,536
features.transition1  128x28x28   transition            33,280    102,760,448
features.denseblock2  512x28x28   dense_layer x 12     919,680    712,900,608
features.transition2  256x14x14   transition           132,096    102,760,448
features.denseblock3  1024x14x14  dense_layer x 24   2,837,760    549,126,144
features.transition3  512x7x7     transition           526,336    102,760,448
features.denseblock4  1024x7x7    dense_layer x 16   2,158,080    104,366,080
head                  1000                           1,027,048      1,024,000
total                                                7,978,856  2,834,161,664
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx


class SequentialDict(nnx.Module):
    """Named layers that run one after the other."""

    def __init__(
        self, layers: Iterable[tuple[str, Callable[[jax.Array], jax.Array]]]
    ) -> None:
        named = dict(layers)
        self.names = tuple(named)  # in turn; a module sorts its attributes by name
        for name, layer in named.items():
            setattr(self, name, layer)

    def __call__(self, x: jax.Array) -> jax.Array:
        for name in self.names:
            x = getattr(self, name)(x)
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
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_in", "normal"),
)
batch_norm = partial(nnx.BatchNorm, momentum=0.9)


class DenseLayer(nnx.Module):
    """Concatenates new channels to all previous ones (Huang et al. 2016)."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs) -> None:
        self.norm1 = batch_norm(in_channels, rngs=rngs)
        self.relu1 = nnx.relu
        self.conv1 = conv(in_channels, 128, (1, 1), rngs=rngs)

        self.norm2 = batch_norm(128, rngs=rngs)
        self.relu2 = nnx.relu
        self.conv2 = conv(128, 32, (3, 3), padding=1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        new = self.norm1(x)
        new = self.relu1(new)
        new = self.conv1(new)

        new = self.norm2(new)
        new = self.relu2(new)
        new = self.conv2(new)

        return jnp.concatenate([x, new], axis=-1)


class Transition(nnx.Module):
    """Halves the channels, then height and width (Huang et al. 2016)."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs) -> None:
        self.norm = batch_norm(in_channels, rngs=rngs)
        self.relu = nnx.relu
        self.conv = conv(in_channels, in_channels // 2, (1, 1), rngs=rngs)
        self.pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(x)
        x = self.relu(x)
        x = self.conv(x)
        return self.pool(x)


class DenseNet121(nnx.Module):
    """DenseNet-121 with bottlenecks and compression."""

    order = (
        "features.conv0",
        "features.norm0",
        "features.relu0",
        "features.pool0",
        "features.denseblock1",
        "features.transition1",
        "features.denseblock2",
        "features.transition2",
        "features.denseblock3",
        "features.transition3",
        "features.denseblock4",
        "features.norm5",
        "features.relu5",
        "avgpool",
        "classifier",
    )

    # The maps that others build upon, finest first, in timm's words.
    feature_info: ClassVar[list[dict[str, Any]]] = [
        {"module": "features.relu0", "num_chs": 64, "reduction": 2},
        {"module": "features.denseblock1", "num_chs": 256, "reduction": 4},
        {"module": "features.denseblock2", "num_chs": 512, "reduction": 8},
        {"module": "features.denseblock3", "num_chs": 1024, "reduction": 16},
        {"module": "features.denseblock4", "num_chs": 1024, "reduction": 32},
    ]

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
    ) -> None:
        self.features: nnx.Dict[Any] = nnx.Dict()
        self.features.conv0 = conv(
            in_channels, 64, (7, 7), strides=2, padding=3, rngs=rngs
        )
        self.features.norm0 = batch_norm(64, rngs=rngs)
        self.features.relu0 = nnx.relu
        self.features.pool0 = partial(
            nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )

        self.features.denseblock1 = SequentialDict(
            (f"denselayer{i + 1}", DenseLayer(64 + 32 * i, rngs=rngs)) for i in range(6)
        )
        self.features.transition1 = Transition(256, rngs=rngs)
        self.features.denseblock2 = SequentialDict(
            (f"denselayer{i + 1}", DenseLayer(128 + 32 * i, rngs=rngs))
            for i in range(12)
        )
        self.features.transition2 = Transition(512, rngs=rngs)
        self.features.denseblock3 = SequentialDict(
            (f"denselayer{i + 1}", DenseLayer(256 + 32 * i, rngs=rngs))
            for i in range(24)
        )
        self.features.transition3 = Transition(1024, rngs=rngs)
        self.features.denseblock4 = SequentialDict(
            (f"denselayer{i + 1}", DenseLayer(512 + 32 * i, rngs=rngs))
            for i in range(16)
        )

        self.features.norm5 = batch_norm(1024, rngs=rngs)
        self.features.relu5 = nnx.relu

        self.avgpool = partial(jnp.mean, axis=(1, 2))
        self.classifier = nnx.Linear(
            1024,
            num_classes,
            kernel_init=nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            rngs=rngs,
        )

        self.frozen = Below(())
        self.use_running_average = False  # the mode: `train` and `eval` set it here too

    def forward_features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of each stage, by its name, for a batch of images (N, H, W, C)."""
        features: dict[str, jax.Array] = {}
        x = self.features.conv0(x)
        x = self.features.norm0(x)
        x = self.features.relu0(x)
        x = self.features.pool0(x)

        x = self.features.denseblock1(x)
        features["features.denseblock1"] = x
        x = self.features.transition1(x)
        x = self.features.denseblock2(x)
        features["features.denseblock2"] = x
        x = self.features.transition2(x)
        x = self.features.denseblock3(x)
        features["features.denseblock3"] = x
        x = self.features.transition3(x)
        x = self.features.denseblock4(x)
        features["features.denseblock4"] = x
        return features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits (N, num_classes) of a batch of images (N, H, W, C)."""
        x = self.forward_features(x)["features.denseblock4"]
        x = self.features.norm5(x)
        x = self.features.relu5(x)

        x = self.avgpool(x)
        return self.classifier(x)

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


def densenet121(
    num_classes: int = 1000, in_channels: int = 3, *, rngs: nnx.Rngs
) -> DenseNet121:
    """Build densenet121 with random weights."""
    return DenseNet121(num_classes, in_channels, rngs=rngs)
