"""Standardised convolution, response norms and ranges of channels.

Input: 3x24x20, 10 classes.

stage   output    blocks      parameters  multiply-adds
stem    8x24x20                      240        103,680
layer1  8x24x20   ranges x 2       1,528        683,520
layer2  12x12x10  ranges x 2       2,928        332,640
head    10                           166            120
total                              4,862      1,119,960
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StdConv2d(nn.Conv2d):
    """Convolution with filters of mean 0 and variance 1 (Qiao et al. 2019)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
        )
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(
            self.weight, dim=(1, 2, 3), correction=0, keepdim=True
        )
        weight = (self.weight - mean) * torch.rsqrt(variance + self.eps)
        return F.conv2d(
            x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class FilterResponseNorm(nn.Module):
    """Divides each channel by its root mean square (Singh and Krishnan 2019)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        power = x.square().mean(dim=(2, 3), keepdim=True)
        x = x * torch.rsqrt(power + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class EvoNorm(nn.Module):
    """EvoNorm-S0, norm and activation in one (Liu et al. 2020)."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        grouped = torch.unflatten(x, 1, (self.groups, -1))
        variance = grouped.var(dim=(2, 3, 4), correction=0, keepdim=True)
        grouped = grouped * torch.rsqrt(variance + self.eps)
        gate = torch.sigmoid(x * self.v[:, None, None])
        x = grouped.flatten(1, 2) * gate
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Threshold(nn.Module):
    """max(x, tau) with a learned tau for each channel (Singh and Krishnan 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.tau[:, None, None])


class Ranges(nn.Module):
    """Two ranges of channels, one of them convolved again."""

    def __init__(
        self, in_channels: int, filters: int, kept: int = 4, stride: int = 1
    ) -> None:
        super().__init__()
        self.filters = filters
        self.kept = kept

        self.pad = nn.ZeroPad2d(1)

        self.conv1 = StdConv2d(in_channels, filters, 3, stride=stride, bias=False)
        self.norm1 = FilterResponseNorm(filters)
        self.act1 = Threshold(filters)

        self.conv2 = StdConv2d(kept, kept, 3, padding=1, groups=2, eps=0.001)

        self.conv3 = nn.Conv2d(filters, filters, 1, bias=False)
        self.norm2 = EvoNorm(4, filters)

    def forward(self, x: Tensor) -> Tensor:
        both: Tensor = self.pad(x)

        both = self.conv1(both)
        both = self.norm1(both)
        both = self.act1(both)
        low: Tensor = both[:, : self.filters - self.kept]
        high: Tensor = both[:, self.filters - self.kept :]

        high = self.conv2(high)

        x = torch.cat([low, high], dim=1)
        x = self.conv3(x)
        return self.norm2(x)


class MorePrimitives(nn.Module):
    """Standardised convolution, response norms and ranges of channels."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = StdConv2d(in_channels, 8, 3, padding=1, bias=False)
        self.norm1 = FilterResponseNorm(8)
        self.act1 = Threshold(8)

        self.layer1 = nn.Sequential(*(Ranges(8, 8) for _ in range(2)))
        self.layer2 = nn.Sequential(
            Ranges(8, 12, kept=6, stride=2),
            Ranges(12, 12, kept=6),
        )

        self.norm = FilterResponseNorm(12)
        self.act = Threshold(12)

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(12, num_classes)

        self.feature_info = [
            {"module": "layer1", "num_chs": 8, "reduction": 1},
            {"module": "layer2", "num_chs": 12, "reduction": 2},
        ]

        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, by its name, for a batch of images (N, C, H, W)."""
        features: dict[str, Tensor] = {}
        x = self.conv1(x)
        x = self.norm1(x)
        x = self.act1(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        return features

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, num_classes) of a batch of images (N, C, H, W)."""
        x = self.forward_features(x)["layer2"]
        x = self.norm(x)
        x = self.act(x)

        x = self.avgpool(x)
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
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def more_primitives(num_classes: int = 10, in_channels: int = 3) -> MorePrimitives:
    """Build more_primitives with random weights."""
    return MorePrimitives(num_classes, in_channels)
