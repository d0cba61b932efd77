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

from collections import OrderedDict
from typing import Any, Self

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """Concatenates new channels to all previous ones (Huang et al. 2016)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, 128, 1, bias=False)

        self.norm2 = nn.BatchNorm2d(128)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new: Tensor = self.norm1(x)
        new = self.relu1(new)
        new = self.conv1(new)

        new = self.norm2(new)
        new = self.relu2(new)
        new = self.conv2(new)

        return torch.cat([x, new], dim=1)


class Transition(nn.Module):
    """Halves the channels, then height and width (Huang et al. 2016)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        x = self.relu(x)
        x = self.conv(x)
        return self.pool(x)


class DenseNet121(nn.Module):
    """DenseNet-121 with bottlenecks and compression."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.features: Any = nn.Sequential()
        self.features.conv0 = nn.Conv2d(
            in_channels, 64, 7, stride=2, padding=3, bias=False
        )
        self.features.norm0 = nn.BatchNorm2d(64)
        self.features.relu0 = nn.ReLU(inplace=True)
        self.features.pool0 = nn.MaxPool2d(3, stride=2, padding=1)

        self.features.denseblock1 = nn.Sequential(
            OrderedDict(
                (f"denselayer{i + 1}", DenseLayer(64 + 32 * i)) for i in range(6)
            )
        )
        self.features.transition1 = Transition(256)
        self.features.denseblock2 = nn.Sequential(
            OrderedDict(
                (f"denselayer{i + 1}", DenseLayer(128 + 32 * i)) for i in range(12)
            )
        )
        self.features.transition2 = Transition(512)
        self.features.denseblock3 = nn.Sequential(
            OrderedDict(
                (f"denselayer{i + 1}", DenseLayer(256 + 32 * i)) for i in range(24)
            )
        )
        self.features.transition3 = Transition(1024)
        self.features.denseblock4 = nn.Sequential(
            OrderedDict(
                (f"denselayer{i + 1}", DenseLayer(512 + 32 * i)) for i in range(16)
            )
        )

        self.features.norm5 = nn.BatchNorm2d(1024)
        self.features.relu5 = nn.ReLU(inplace=True)

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(1024, num_classes)

        self.feature_info = [
            {"module": "features.relu0", "num_chs": 64, "reduction": 2},
            {"module": "features.denseblock1", "num_chs": 256, "reduction": 4},
            {"module": "features.denseblock2", "num_chs": 512, "reduction": 8},
            {"module": "features.denseblock3", "num_chs": 1024, "reduction": 16},
            {"module": "features.denseblock4", "num_chs": 1024, "reduction": 32},
        ]

        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, by its name, for a batch of images (N, C, H, W)."""
        features: dict[str, Tensor] = {}
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

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, num_classes) of a batch of images (N, C, H, W)."""
        x = self.forward_features(x)["features.denseblock4"]
        x = self.features.norm5(x)
        x = self.features.relu5(x)

        x = self.avgpool(x)
        return self.classifier(x)

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
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight, a=5**0.5)
        nn.init.zeros_(module.bias)


def densenet121(num_classes: int = 1000, in_channels: int = 3) -> DenseNet121:
    """Build densenet121 with random weights."""
    return DenseNet121(num_classes, in_channels)
