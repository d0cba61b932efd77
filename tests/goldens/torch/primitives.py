"""Every operation that no other network of the tests has.

Input: 3x20x20, 10 classes.

stage   output  blocks    parameters  multiply-adds
stem    16x5x5                   224         19,200
layer1  16x5x5  wave x 2       8,032        198,400
layer2  24x5x5  wave           8,136        201,600
head    10                       250            240
total                         16,642        419,440
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def softmax_over_groups(x: Tensor, groups: int) -> Tensor:
    """Softmax across groups of channels, for each channel within a group."""
    return torch.unflatten(x, 1, (groups, -1)).softmax(dim=1).flatten(1, 2)


def shuffle_channels(x: Tensor, groups: int, parts: int) -> Tensor:
    """Channels ordered as (groups, parts, rest) become (parts, groups, rest)."""
    x = torch.unflatten(x, 1, (groups, parts, -1))
    return x.transpose(1, 2).flatten(1, 3)


class DropPath(nn.Module):
    """Drops whole samples at random in training (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0 - self.rate)
        return x * keep / (1.0 - self.rate)


class Wave(nn.Module):
    """A residual with an activation of each kind."""

    def __init__(self, filters: int, rate: float = 0.0) -> None:
        super().__init__()
        self.filters = filters

        self.conv1 = nn.Conv2d(
            16, filters, 3, padding=2, dilation=2, groups=2, bias=False
        )
        self.norm1 = nn.GroupNorm(4, filters)
        self.silu = nn.SiLU()

        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.tanh = nn.Tanh()
        self.gelu = nn.GELU()
        self.hard = nn.Hardsigmoid()
        self.channels = nn.Softmax(dim=1)

        self.smooth = nn.AvgPool2d(3, stride=1, padding=1)
        self.largest = nn.MaxPool2d(3, stride=1, padding=1)

        self.conv3 = nn.Conv2d(filters * 2, filters, 1)
        self.drop = DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = self.conv1(x)
        wide = self.norm1(wide)
        wide = self.silu(wide)

        wide = self.conv2(wide)
        one: Tensor = self.tanh(wide)
        two: Tensor = self.gelu(wide)
        three: Tensor = self.hard(wide)

        scaled: Tensor = one * three
        joined: Tensor = scaled + two
        softened: Tensor = shuffle_channels(joined, 4, 2)
        softened = softmax_over_groups(softened, 2)
        other: Tensor = self.channels(joined)

        residual: Tensor = torch.cat([softened, other], dim=1)
        residual = self.smooth(residual)
        residual = self.largest(residual)

        residual = self.conv3(residual)
        residual = self.drop(residual)
        shortcut: Tensor = F.pad(x, (0, 0, 0, 0, 0, self.filters - 16))
        x = residual + shortcut
        return F.leaky_relu(x, negative_slope=0.1, inplace=True)


class Primitives(nn.Module):
    """Every operation that no other network of the tests has."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 2, stride=2, bias=False)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(4, 16)
        self.act = nn.LeakyReLU(negative_slope=0.1, inplace=True)

        self.layer1 = nn.Sequential(
            Wave(16),
            Wave(16, rate=0.06666666666666667),
        )
        self.layer2 = Wave(24, rate=0.2)

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(24, num_classes)

        self.feature_info = [
            {"module": "conv1", "num_chs": 16, "reduction": 2},
            {"module": "layer1", "num_chs": 16, "reduction": 4},
            {"module": "layer2", "num_chs": 24, "reduction": 4},
        ]

        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, by its name, for a batch of images (N, C, H, W)."""
        features: dict[str, Tensor] = {}
        x = self.conv1(x)
        x = self.pool(x)
        x = self.norm1(x)
        x = self.act(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        return features

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, num_classes) of a batch of images (N, C, H, W)."""
        x = self.forward_features(x)["layer2"]
        part = x.chunk(3, dim=1)
        x = torch.cat([part[2], part[0], part[1]], dim=1)
        x = self.avgpool(x)
        x = self.dropout(x)
        return self.fc(x)

    def freeze_until(self, name: str) -> None:
        """Freeze every module before `name`, and train the rest."""
        if name not in dict(self.named_modules()):
            raise ValueError(f"there is no module {name!r}")
        trained = False
        for path, module in self.named_modules():
            trained = trained or path == name
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(trained)


def init_weights(module: nn.Module) -> None:
    """Initialise one module."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.constant_(module.bias, 0.1)


def primitives(num_classes: int = 10, in_channels: int = 3) -> Primitives:
    """Build primitives with random weights."""
    return Primitives(num_classes, in_channels)
