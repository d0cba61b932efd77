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

from typing import Any, Self

import torch
from torch import Tensor, nn


class NormActConv(nn.Module):
    """A norm, an activation and a convolution."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels, eps=0.001)
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(
            in_channels,
            filters,
            kernel,
            stride=stride,
            padding=(kernel - 1) // 2,
            groups=groups,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        x = self.act(x)
        return self.conv(x)


class DualPathBlock(nn.Module):
    """A residual and a growing dense path in one feature map (Chen et al. 2017)."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        growth: int,
        width: int,
        project: bool,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.filters = filters

        self.project = None
        if project:
            self.project = NormActConv(in_channels, filters + 2 * growth, stride=stride)
        self.reduce = NormActConv(in_channels, width)
        self.grouped = NormActConv(width, width, kernel=3, stride=stride, groups=32)
        self.expand = NormActConv(width, filters + growth)

    def forward(self, x: Tensor) -> Tensor:
        carried: Tensor = x if self.project is None else self.project(x)
        shortcut: Tensor = carried[:, : self.filters]
        dense: Tensor = carried[:, self.filters :]

        narrow: Tensor = self.reduce(x)
        narrow = self.grouped(narrow)
        both: Tensor = self.expand(narrow)
        residual: Tensor = both[:, : self.filters]
        new: Tensor = both[:, self.filters :]

        residual = shortcut + residual
        return torch.cat([residual, dense, new], dim=1)


class DPN68(nn.Module):
    """DPN-68, a residual and a dense path."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 10, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(10, eps=0.001)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.layer1 = nn.Sequential(
            DualPathBlock(10, 64, growth=16, width=128, project=True),
            DualPathBlock(112, 64, growth=16, width=128, project=False),
            DualPathBlock(128, 64, growth=16, width=128, project=False),
        )
        self.layer2 = nn.Sequential(
            DualPathBlock(144, 128, growth=32, width=256, project=True, stride=2),
            *(
                DualPathBlock(192 + 32 * i, 128, growth=32, width=256, project=False)
                for i in range(1, 4)
            ),
        )
        self.layer3 = nn.Sequential(
            DualPathBlock(320, 256, growth=32, width=512, project=True, stride=2),
            *(
                DualPathBlock(320 + 32 * i, 256, growth=32, width=512, project=False)
                for i in range(1, 12)
            ),
        )
        self.layer4 = nn.Sequential(
            DualPathBlock(704, 512, growth=64, width=1024, project=True, stride=2),
            DualPathBlock(704, 512, growth=64, width=1024, project=False),
            DualPathBlock(768, 512, growth=64, width=1024, project=False),
        )

        self.norm = nn.BatchNorm2d(832, eps=0.001)
        self.act = nn.ReLU(inplace=True)

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(832, num_classes)

        self.feature_info = [
            {"module": "act1", "num_chs": 10, "reduction": 2},
            {"module": "layer1", "num_chs": 144, "reduction": 4},
            {"module": "layer2", "num_chs": 320, "reduction": 8},
            {"module": "layer3", "num_chs": 704, "reduction": 16},
            {"module": "layer4", "num_chs": 832, "reduction": 32},
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
        x = self.norm(x)
        x = self.act(x)

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
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def dpn68(num_classes: int = 1000, in_channels: int = 3) -> DPN68:
    """Build dpn68 with random weights."""
    return DPN68(num_classes, in_channels)
