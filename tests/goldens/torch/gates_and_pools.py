"""Channel gates, spatial gates and learned scalars.

Input: 3x21x26, 6 classes.

stage   output    blocks  parameters  multiply-adds
stem    8x21x26                  232        117,936
layer1  8x21x26   gated          743        324,604
layer2  12x11x13  gated        1,103        474,738
head    6                         78             72
total                          2,156        917,350
"""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BlurPool(nn.Module):
    """Blur by (1, 2, 1) / 4 in both directions, then subsample by the stride."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        # Averaging two neighbours twice is the filter (1, 2, 1) / 4.
        return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2, stride=self.stride)


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


class ChannelConv(nn.Conv1d):
    """1-D convolution along the channels of a 1x1 map (Wang et al. 2019)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x.flatten(1).unsqueeze(1))
        return x.transpose(1, 2).unsqueeze(3)


class Gated(nn.Module):
    """A residual weighed by learned numbers, by gates of channels and of places."""

    def __init__(self, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.filters = filters
        self.stride = stride

        self.shift = LearnedShift()

        self.conv1 = nn.Conv2d(8, filters, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.act1 = nn.ReLU(inplace=True)
        self.blur = BlurPool(stride=stride)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.maximum = nn.AdaptiveMaxPool2d(1)
        self.squeeze = nn.Conv2d(filters, 8, 1, bias=False)
        self.act2 = nn.ReLU(inplace=True)

        self.expand = nn.Conv2d(8, filters, 1, bias=False)
        self.gates = nn.Sigmoid()

        self.gate = nn.AdaptiveAvgPool2d(1)
        self.nearby = ChannelConv(3)

        self.look = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.place_gate = nn.Sigmoid()

        self.weight = LearnedScale()

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = self.shift(x)

        wide = self.conv1(wide)
        wide = self.bn1(wide)
        wide = self.act1(wide)
        wide = self.blur(wide)
        average: Tensor = self.average(wide)
        maximum: Tensor = self.maximum(wide)
        gate: Tensor = torch.cat([average, maximum], dim=2)
        gate = self.squeeze(gate)
        gate = self.act2(gate)

        gate = self.expand(gate)
        gate = gate * 0.5 - 0.2
        gate = self.gates(gate)

        gate = self.gate(gate)
        scaled: Tensor = wide * gate
        near: Tensor = self.nearby(gate)

        mean: Tensor = scaled.mean(dim=1, keepdim=True)
        top: Tensor = scaled.amax(dim=1, keepdim=True)
        place: Tensor = torch.cat([mean, top], dim=1)
        place = self.look(place)
        place = self.place_gate(place)

        residual: Tensor = scaled * place * near
        residual = self.weight(residual)
        shortcut: Tensor = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.filters - 8))
        return residual + shortcut


class GatesAndPools(nn.Module):
    """Channel gates, spatial gates and learned scalars."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 6, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act1 = nn.ReLU(inplace=True)

        self.layer1 = Gated(8)
        self.layer2 = Gated(12, stride=2)

        self.peak = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
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
        x = self.bn1(x)
        x = self.act1(x)

        x = self.layer1(x)
        features["layer1"] = x
        x = self.layer2(x)
        features["layer2"] = x
        return features

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, num_classes) of a batch of images (N, C, H, W)."""
        x = self.forward_features(x)["layer2"]
        x = self.peak(x)
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
    if isinstance(module, nn.Conv2d | ChannelConv):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
    elif isinstance(module, LearnedScale):
        nn.init.constant_(module.weight, 0.7)
    elif isinstance(module, LearnedShift):
        nn.init.constant_(module.bias, 0.1)


def gates_and_pools(num_classes: int = 6, in_channels: int = 3) -> GatesAndPools:
    """Build gates_and_pools with random weights."""
    return GatesAndPools(num_classes, in_channels)
