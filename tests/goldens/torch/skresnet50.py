"""ResNet-50 with selective kernels.

https://arxiv.org/abs/1903.06586

Input: 3x224x224, 1000 classes.

stage   output      blocks             parameters  multiply-adds
stem    64x56x56                            9,536    118,013,952
layer1  256x56x56   sk_bottleneck x 3     220,848    667,947,520
layer2  512x28x28   sk_bottleneck x 4   1,232,960  1,027,616,768
layer3  1024x14x14  sk_bottleneck x 6   7,175,360  1,464,410,112
layer4  2048x7x7    sk_bottleneck x 3  15,115,456    809,385,984
head    1000                            2,049,000      2,048,000
total                                  25,803,160  4,089,422,336
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


class ConvNormAct(nn.Module):
    """A convolution, its norm and an activation."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            filters,
            kernel,
            stride=stride,
            padding=(kernel - 1) // 2 * dilation,
            dilation=dilation,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(filters)
        self.act = None
        if activate:
            self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.bn(x)
        return x if self.act is None else self.act(x)


class SelectiveKernel(nn.Module):
    """Two windows, 3x3 and 5x5, weighted by attention across them (Li et al. 2019)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        squeezed = make_divisible(filters / 16, 8)
        self.stride = stride

        self.paths = nn.ModuleList(
            [
                ConvNormAct(in_channels // 2, filters, kernel=3, stride=stride),
                ConvNormAct(in_channels // 2, filters, kernel=3, dilation=2 // stride),
            ]
        )

        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.attn = nn.ModuleDict()
        self.attn["fc_reduce"] = nn.Conv2d(filters, squeezed, 1, bias=False)
        self.attn["bn"] = nn.BatchNorm2d(squeezed)
        self.attn["act"] = nn.ReLU(inplace=True)

        self.attn["fc_select"] = nn.Conv2d(squeezed, filters * 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        halves = x.chunk(2, dim=1)
        narrow: Tensor = halves[0]
        narrow = self.paths[0](narrow)
        wide: Tensor = halves[1]
        if self.stride > 1:
            wide = wide[:, :, :: self.stride, :: self.stride]
        wide = self.paths[1](wide)
        x = narrow + wide
        x = self.squeeze(x)
        x = self.attn["fc_reduce"](x)
        x = self.attn["bn"](x)
        x = self.attn["act"](x)

        x = self.attn["fc_select"](x)
        x = softmax_over_groups(x, 2)

        weights = x.chunk(2, dim=1)
        narrow = narrow * weights[0]
        wide = wide * weights[1]
        return narrow + wide


class Projection(nn.Sequential):
    """1x1 convolution that fits the shortcut to the residual (option B)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, filters, 1, stride=stride, bias=False),
            nn.BatchNorm2d(filters),
        )


class SelectiveKernelBottleneck(nn.Module):
    """Bottleneck whose 3x3 convolution selects its window (Li et al. 2019)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = filters * 4

        self.conv1 = ConvNormAct(in_channels, filters)
        self.conv2 = SelectiveKernel(filters, filters, stride=stride)
        self.conv3 = ConvNormAct(filters, out_channels, activate=False)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = Projection(in_channels, out_channels, stride=stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.conv2(residual)
        residual = self.conv3(residual)
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act(x)


class SKResNet50(nn.Module):
    """ResNet-50 with selective kernels."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.layer1 = nn.Sequential(
            SelectiveKernelBottleneck(64, 64),
            *(SelectiveKernelBottleneck(256, 64) for _ in range(2)),
        )
        self.layer2 = nn.Sequential(
            SelectiveKernelBottleneck(256, 128, stride=2),
            *(SelectiveKernelBottleneck(512, 128) for _ in range(3)),
        )
        self.layer3 = nn.Sequential(
            SelectiveKernelBottleneck(512, 256, stride=2),
            *(SelectiveKernelBottleneck(1024, 256) for _ in range(5)),
        )
        self.layer4 = nn.Sequential(
            SelectiveKernelBottleneck(1024, 512, stride=2),
            *(SelectiveKernelBottleneck(2048, 512) for _ in range(2)),
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
    """Initialise one module."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def skresnet50(num_classes: int = 1000, in_channels: int = 3) -> SKResNet50:
    """Build skresnet50 with random weights."""
    return SKResNet50(num_classes, in_channels)
