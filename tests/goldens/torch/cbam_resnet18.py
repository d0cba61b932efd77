"""ResNet-18 with attention over channels and over places.

https://arxiv.org/abs/1807.06521

Input: 3x224x224, 1000 classes.

stage   output     blocks     parameters  multiply-adds
stem    64x56x56                   9,536    118,013,952
layer1  64x56x56   basic x 2     149,328    463,038,720
layer2  128x28x28  basic x 2     530,136    411,203,648
layer3  256x14x14  basic x 2   2,116,840    411,112,976
layer4  512x7x7    basic x 2   8,460,552    411,182,468
head    1000                     513,000        512,000
total                         11,779,392  1,815,063,764
"""

from typing import Any, Self

import torch
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Scales each channel by a gate from its mean and maximum (Woo et al. 2018)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        squeezed = max(in_channels // 16, 1)

        self.average = nn.AdaptiveAvgPool2d(1)
        self.maximum = nn.AdaptiveMaxPool2d(1)
        self.fc1 = nn.Conv2d(in_channels, squeezed, 1)
        self.act = nn.ReLU(inplace=True)

        self.fc2 = nn.Conv2d(squeezed, in_channels, 1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.excite = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        average: Tensor = self.average(x)
        maximum: Tensor = self.maximum(x)
        gate: Tensor = torch.cat([average, maximum], dim=2)
        gate = self.fc1(gate)
        gate = self.act(gate)

        gate = self.fc2(gate)
        gate = self.mean(gate)
        gate = gate * 2.0
        gate = self.excite(gate)

        return x * gate


class SpatialAttention(nn.Module):
    """Scales each position by a gate from its surroundings (Woo et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1)
        self.excite = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        average: Tensor = x.mean(dim=1, keepdim=True)
        maximum: Tensor = x.amax(dim=1, keepdim=True)
        gate: Tensor = torch.cat([average, maximum], dim=1)
        gate = self.conv(gate)
        gate = self.bn(gate)
        gate = self.excite(gate)

        return x * gate


class Cbam(nn.Module):
    """Attention over channels, then over positions (Woo et al. 2018)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(in_channels)
        self.spatial = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel(x)
        return self.spatial(x)


class Projection(nn.Sequential):
    """1x1 convolution that fits the shortcut to the residual (option B)."""

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, filters, 1, stride=2, bias=False),
            nn.BatchNorm2d(filters),
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, filters, 3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(filters)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)

        self.se = Cbam(filters)
        self.downsample = None
        if stride != 1 or in_channels != filters:
            self.downsample = Projection(in_channels, filters)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)

        residual = self.se(residual)
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act2(x)


class CbamResNet18(nn.Module):
    """ResNet-18 with attention over channels and over places."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.layer1 = nn.Sequential(*(BasicBlock(64, 64) for _ in range(2)))
        self.layer2 = nn.Sequential(
            BasicBlock(64, 128, stride=2),
            BasicBlock(128, 128),
        )
        self.layer3 = nn.Sequential(
            BasicBlock(128, 256, stride=2),
            BasicBlock(256, 256),
        )
        self.layer4 = nn.Sequential(
            BasicBlock(256, 512, stride=2),
            BasicBlock(512, 512),
        )

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(512, num_classes)

        self.feature_info = [
            {"module": "act1", "num_chs": 64, "reduction": 2},
            {"module": "layer1", "num_chs": 64, "reduction": 4},
            {"module": "layer2", "num_chs": 128, "reduction": 8},
            {"module": "layer3", "num_chs": 256, "reduction": 16},
            {"module": "layer4", "num_chs": 512, "reduction": 32},
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
    """Initialise one module."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def cbam_resnet18(num_classes: int = 1000, in_channels: int = 3) -> CbamResNet18:
    """Build cbam_resnet18 with random weights."""
    return CbamResNet18(num_classes, in_channels)
