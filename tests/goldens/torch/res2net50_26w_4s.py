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

from typing import Any, Self

import torch
from torch import Tensor, nn


class Projection(nn.Sequential):
    """1x1 convolution that fits the shortcut to the residual (option B)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, filters, 1, stride=stride, bias=False),
            nn.BatchNorm2d(filters),
        )


class Res2NetBottleneck(nn.Module):
    """Bottleneck whose 3x3 is a chain over parts of the channels (Gao et al. 2019)."""

    def __init__(
        self, in_channels: int, filters: int, first: bool, stride: int = 1
    ) -> None:
        super().__init__()
        width = filters * 26 // 64
        out_channels = filters * 4
        self.first = first

        self.conv1 = nn.Conv2d(in_channels, width * 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width * 4)
        self.act1 = nn.ReLU(inplace=True)

        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
            for _ in range(3)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self.acts = nn.ModuleList(nn.ReLU(inplace=True) for _ in range(3))

        self.pool = None
        if first:
            self.pool = nn.AvgPool2d(3, stride=stride, padding=1)

        self.conv3 = nn.Conv2d(width * 4, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = Projection(in_channels, out_channels, stride=stride)
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(x)
        out = self.bn1(out)
        out = self.act1(out)

        parts = out.chunk(4, dim=1)
        piece: Tensor = parts[0]
        pieces: list[Tensor] = []

        for part in range(3):
            if part > 0 and not self.first:
                piece = parts[part] + piece
            else:
                piece = parts[part]
            piece = self.convs[part](piece)
            piece = self.bns[part](piece)
            piece = self.acts[part](piece)
            pieces.append(piece)

        last: Tensor = parts[3] if self.pool is None else self.pool(parts[3])
        residual: Tensor = torch.cat([*pieces, last], dim=1)
        residual = self.conv3(residual)
        residual = self.bn3(residual)

        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class Res2Net50(nn.Module):
    """Res2Net-50, 4 parts of 26 channels."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.layer1 = nn.Sequential(
            Res2NetBottleneck(64, 64, first=True),
            *(Res2NetBottleneck(256, 64, first=False) for _ in range(2)),
        )
        self.layer2 = nn.Sequential(
            Res2NetBottleneck(256, 128, first=True, stride=2),
            *(Res2NetBottleneck(512, 128, first=False) for _ in range(3)),
        )
        self.layer3 = nn.Sequential(
            Res2NetBottleneck(512, 256, first=True, stride=2),
            *(Res2NetBottleneck(1024, 256, first=False) for _ in range(5)),
        )
        self.layer4 = nn.Sequential(
            Res2NetBottleneck(1024, 512, first=True, stride=2),
            *(Res2NetBottleneck(2048, 512, first=False) for _ in range(2)),
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
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Res2NetBottleneck):
        nn.init.zeros_(module.bn3.weight)


def res2net50_26w_4s(num_classes: int = 1000, in_channels: int = 3) -> Res2Net50:
    """Build res2net50_26w_4s with random weights."""
    return Res2Net50(num_classes, in_channels)
