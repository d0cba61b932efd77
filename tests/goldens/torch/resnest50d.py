"""ResNeSt-50, two branches.

https://arxiv.org/abs/2004.08955

Input: 3x224x224, 1000 classes.

stage   output      blocks       parameters  multiply-adds
stem    64x56x56    deep_stem        28,768    357,654,528
layer1  256x56x56   resnest x 3     235,296    667,961,344
layer2  512x28x28   resnest x 4   1,320,704  1,374,519,296
layer3  1024x14x14  resnest x 6   7,696,640  1,811,742,720
layer4  2048x7x7    resnest x 3  16,152,832  1,157,234,688
head    1000                      2,049,000      2,048,000
total                            27,483,240  5,371,160,576
"""

from typing import Any, Self

import torch
from torch import Tensor, nn


def make_divisible(
    value: float, divisor: int, minimum: int | None = None, round_limit: float = 0.9
) -> int:
    """The multiple of `divisor` nearest to `value`, at least `minimum` or else `divisor`.

    If rounding would lose more than `1 - round_limit` of the value, it is one step more, as
    in the reference implementation of MobileNet and in timm (layers/helpers.py).
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


def softmax_over_groups(x: Tensor, groups: int) -> Tensor:
    """Softmax across groups of channels, for each channel within a group."""
    return torch.unflatten(x, 1, (groups, -1)).softmax(dim=1).flatten(1, 2)


class DeepStem(nn.Sequential):
    """Three 3x3 convolutions for the 7x7 one of a stem (He et al. 2018, ResNet-C)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
        )


class SplitAttention(nn.Module):
    """3x3 convolution into branches, weighted by attention (Zhang et al. 2020)."""

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__()
        squeezed = make_divisible(in_channels / 2, 8, minimum=32)

        self.conv = nn.Conv2d(
            in_channels, filters * 2, 3, padding=1, groups=2, bias=False
        )
        self.bn0 = nn.BatchNorm2d(filters * 2)
        self.act0 = nn.ReLU(inplace=True)

        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(filters, squeezed, 1)
        self.bn1 = nn.BatchNorm2d(squeezed)
        self.act1 = nn.ReLU(inplace=True)

        self.fc2 = nn.Conv2d(squeezed, filters * 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        stacked: Tensor = self.conv(x)
        stacked = self.bn0(stacked)
        stacked = self.act0(stacked)

        branches = stacked.chunk(2, dim=1)
        weights: Tensor = torch.stack(branches).sum(dim=0)
        weights = self.squeeze(weights)
        weights = self.fc1(weights)
        weights = self.bn1(weights)
        weights = self.act1(weights)

        weights = self.fc2(weights)
        weights = softmax_over_groups(weights, 2)

        x = stacked * weights
        weighted = x.chunk(2, dim=1)
        return torch.stack(weighted).sum(dim=0)


class AvgPoolShortcut(nn.Sequential):
    """Average pooling, then a 1x1 convolution (He et al. 2018, ResNet-D)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__(
            nn.AvgPool2d(2, stride=stride, ceil_mode=True, count_include_pad=False)
            if stride > 1
            else nn.Identity(),
            nn.Conv2d(in_channels, filters, 1, bias=False),
            nn.BatchNorm2d(filters),
        )


class ResNeStBottleneck(nn.Module):
    """Bottleneck with split attention for its 3x3 (Zhang et al. 2020, figure 2)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = filters * 4

        self.conv1 = nn.Conv2d(in_channels, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = SplitAttention(filters, filters)
        self.avd_last = None
        if stride > 1:
            self.avd_last = nn.AvgPool2d(3, stride=stride, padding=1)

        self.conv3 = nn.Conv2d(filters, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = AvgPoolShortcut(in_channels, out_channels, stride=stride)
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        if self.avd_last is not None:
            residual = self.avd_last(residual)

        residual = self.conv3(residual)
        residual = self.bn3(residual)

        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class ResNeSt50(nn.Module):
    """ResNeSt-50, two branches."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = DeepStem(in_channels)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.layer1 = nn.Sequential(
            ResNeStBottleneck(64, 64),
            *(ResNeStBottleneck(256, 64) for _ in range(2)),
        )
        self.layer2 = nn.Sequential(
            ResNeStBottleneck(256, 128, stride=2),
            *(ResNeStBottleneck(512, 128) for _ in range(3)),
        )
        self.layer3 = nn.Sequential(
            ResNeStBottleneck(512, 256, stride=2),
            *(ResNeStBottleneck(1024, 256) for _ in range(5)),
        )
        self.layer4 = nn.Sequential(
            ResNeStBottleneck(1024, 512, stride=2),
            *(ResNeStBottleneck(2048, 512) for _ in range(2)),
        )

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(2048, num_classes)

        self.feature_info = [
            {"module": "act1", "num_chs": 64, "reduction": 2},
            {"module": "layer1", "num_chs": 256, "reduction": 4},
            {"module": "layer2", "num_chs": 512, "reduction": 8},
            {"module": "layer3", "num_chs": 1024, "reduction": 16},
            {"module": "layer4", "num_chs": 2048, "reduction": 32},
        ]

        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, by its name, for a batch of images (N, C, H, W)."""
        features: dict[str, Tensor] = {}
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

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, num_classes) of a batch of images (N, C, H, W)."""
        x = self.forward_features(x)["layer4"]
        x = self.avgpool(x)
        return self.fc(x)

    def freeze_until(self, name: str) -> None:
        """Freeze every module before `name`, and train the rest.

        Frozen batch norms stay in eval mode, so their running statistics do not change.
        """
        if name not in dict(self.named_modules()):
            raise ValueError(f"there is no module {name!r}")
        trained = False
        for path, module in self.named_modules():
            trained = trained or path == name
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(trained)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules; frozen batch norms stay in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                module.train(mode and module.weight.requires_grad)
        return self


def init_weights(module: nn.Module) -> None:
    """Initialise one module; a block is visited after its own layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
    elif isinstance(module, ResNeStBottleneck):
        nn.init.zeros_(module.bn3.weight)


def resnest50d(num_classes: int = 1000, in_channels: int = 3) -> ResNeSt50:
    """Build resnest50d with random weights."""
    return ResNeSt50(num_classes, in_channels)
