"""ResNet v1.5 in Flax NNX, written by hand after examples/imagenet of Flax: the yardstick.

https://github.com/google/flax/blob/main/examples/imagenet/models.py has it in Linen, with a
`partial` for each kind of layer. Padding is PyTorch's: it is the network that is compiled.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class BottleneckBlock(nnx.Module):
    """1x1 reduce, 3x3 with the stride, 1x1 expand."""

    def __init__(
        self,
        features: int,
        filters: int,
        strides: int,
        *,
        conv: Callable[..., Any],
        norm: Callable[..., Any],
        rngs: nnx.Rngs,
    ) -> None:
        self.conv1 = conv(features, filters, (1, 1), rngs=rngs)
        self.norm1 = norm(filters, rngs=rngs)
        self.conv2 = conv(filters, filters, (3, 3), strides, padding=1, rngs=rngs)
        self.norm2 = norm(filters, rngs=rngs)
        self.conv3 = conv(filters, filters * 4, (1, 1), rngs=rngs)
        self.norm3 = norm(filters * 4, rngs=rngs)
        self.projects = features != filters * 4 or strides != 1
        if self.projects:
            self.conv_proj = conv(features, filters * 4, (1, 1), strides, rngs=rngs)
            self.norm_proj = norm(filters * 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        residual = self.norm_proj(self.conv_proj(x)) if self.projects else x
        return nnx.relu(residual + y)


class ResNet(nnx.Module):
    """ResNet v1.5."""

    def __init__(self, stage_sizes: Sequence[int], num_classes: int, *, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
        conv = partial(nnx.Conv, use_bias=False, kernel_init=init)
        norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)
        self.conv_init = conv(3, 64, (7, 7), 2, padding=3, rngs=rngs)
        self.bn_init = norm(64, rngs=rngs)
        blocks, features = [], 64
        for i, size in enumerate(stage_sizes):
            for j in range(size):
                strides = 2 if i > 0 and j == 0 else 1
                filters = 64 * 2**i
                blocks.append(
                    BottleneckBlock(features, filters, strides, conv=conv, norm=norm, rngs=rngs)
                )
                features = filters * 4
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn_init(self.conv_init(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


ResNet50 = partial(ResNet, (3, 4, 6, 3))
