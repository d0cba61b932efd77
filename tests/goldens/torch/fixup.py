"""A small network without norms, for the tests.

Input: 3x32x32, 10 classes.

stage   output    blocks                parameters  multiply-adds
stem    16x32x32                               433        442,368
layer1  16x32x32  fixup_basic x 2            9,226      9,437,184
layer2  32x16x16  fixup_bottleneck x 2       2,574        753,664
layer3  40x8x8    fixup_basic               25,925      1,658,880
head    10                                     411            400
total                                       38,569     12,292,496
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LearnedScale(nn.Module):
    """Multiplies by one learned scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class LearnedShift(nn.Module):
    """Adds one learned scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class FixupBasicBlock(nn.Module):
    """Two 3x3 convolutions with learned scalars in place of norms (Zhang et
    al. 2019).
    """

    def __init__(self) -> None:
        super().__init__()
        self.shift1 = LearnedShift()

        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.shift2 = LearnedShift()
        self.act1 = nn.ReLU()
        self.shift3 = LearnedShift()

        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.scale = LearnedScale()
        self.shift4 = LearnedShift()
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = self.shift1(x)

        residual: Tensor = self.conv1(shifted)
        residual = self.shift2(residual)
        residual = self.act1(residual)
        residual = self.shift3(residual)

        residual = self.conv2(residual)
        residual = self.scale(residual)
        residual = self.shift4(residual)
        x = residual + x
        return self.act2(x)


class FixupProjection(nn.Module):
    """1x1 convolution of the shortcut, which Fixup does not rescale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 32, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class FixupBottleneck(nn.Module):
    """A bottleneck with learned scalars in place of norms (Zhang et al. 2019)."""

    def __init__(self, in_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.shift1 = LearnedShift()

        self.conv1 = nn.Conv2d(in_channels, 8, 1, bias=False)
        self.shift2 = LearnedShift()
        self.act1 = nn.ReLU()
        self.shift3 = LearnedShift()

        self.conv2 = nn.Conv2d(8, 8, 3, stride=stride, padding=1, bias=False)
        self.shift4 = LearnedShift()
        self.act2 = nn.ReLU()
        self.shift5 = LearnedShift()

        self.conv3 = nn.Conv2d(8, 32, 1, bias=False)
        self.scale = LearnedScale()
        self.shift6 = LearnedShift()

        self.downsample = None
        if stride != 1 or in_channels != 32:
            self.downsample = FixupProjection()
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = self.shift1(x)

        residual: Tensor = self.conv1(shifted)
        residual = self.shift2(residual)
        residual = self.act1(residual)
        residual = self.shift3(residual)

        residual = self.conv2(residual)
        residual = self.shift4(residual)
        residual = self.act2(residual)
        residual = self.shift5(residual)

        residual = self.conv3(residual)
        residual = self.scale(residual)
        residual = self.shift6(residual)

        shortcut: Tensor = x if self.downsample is None else self.downsample(shifted)
        x = residual + shortcut
        return self.act3(x)


class ZeroPadShortcut(nn.Module):
    """Every n-th row and column, with channels of zeros (He et al. 2015, option A)."""

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, ::2, ::2]
        return F.pad(x, (0, 0, 0, 0, 4, 4))


class FixupBasicBlockZeroPadShortcut(nn.Module):
    """Two 3x3 convolutions with learned scalars in place of norms (Zhang et
    al. 2019).
    """

    def __init__(self) -> None:
        super().__init__()
        self.shift1 = LearnedShift()

        self.conv1 = nn.Conv2d(32, 40, 3, stride=2, padding=1, bias=False)
        self.shift2 = LearnedShift()
        self.act1 = nn.ReLU()
        self.shift3 = LearnedShift()

        self.conv2 = nn.Conv2d(40, 40, 3, padding=1, bias=False)
        self.scale = LearnedScale()
        self.shift4 = LearnedShift()

        self.downsample = ZeroPadShortcut()
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = self.shift1(x)

        residual: Tensor = self.conv1(shifted)
        residual = self.shift2(residual)
        residual = self.act1(residual)
        residual = self.shift3(residual)

        residual = self.conv2(residual)
        residual = self.scale(residual)
        residual = self.shift4(residual)

        shortcut: Tensor = self.downsample(shifted)
        x = residual + shortcut
        return self.act2(x)


class Fixup(nn.Module):
    """A small network without norms, for the tests."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.shift1 = LearnedShift()
        self.act1 = nn.ReLU()

        self.layer1 = nn.Sequential(*(FixupBasicBlock() for _ in range(2)))
        self.layer2 = nn.Sequential(
            FixupBottleneck(16, stride=2),
            FixupBottleneck(32),
        )
        self.layer3 = FixupBasicBlockZeroPadShortcut()

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.shift2 = LearnedShift()

        self.fc = nn.Linear(40, num_classes)

        self.feature_info = [
            {"module": "layer1", "num_chs": 16, "reduction": 1},
            {"module": "layer2", "num_chs": 32, "reduction": 2},
            {"module": "layer3", "num_chs": 40, "reduction": 4},
        ]

        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, by its name, for a batch of images (N, C, H, W)."""
        features: dict[str, Tensor] = {}
        x = self.conv1(x)
        x = self.shift1(x)
        x = self.act1(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        x = self.layer3(x)
        features["layer3"] = x
        return features

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, num_classes) of a batch of images (N, C, H, W)."""
        x = self.forward_features(x)["layer3"]
        x = self.avgpool(x)
        x = self.shift2(x)

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
    """Initialise one module; a block is visited after its own layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=(0.4 / module.weight[:, 0].numel()) ** 0.5)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, FixupBasicBlock | FixupBasicBlockZeroPadShortcut):
        nn.init.zeros_(module.conv2.weight)
    elif isinstance(module, FixupProjection):
        nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, FixupBottleneck):
        nn.init.zeros_(module.conv3.weight)
    elif isinstance(module, Fixup):
        nn.init.kaiming_normal_(
            module.conv1.weight, mode="fan_out", nonlinearity="relu"
        )


def fixup(num_classes: int = 10, in_channels: int = 3) -> Fixup:
    """Build fixup with random weights."""
    return Fixup(num_classes, in_channels)
