"""Pre-activation ResNet-164 for CIFAR-10.

https://arxiv.org/abs/1603.05027

Input: 3x32x32, 10 classes.

stage   output     blocks                  parameters  multiply-adds
stem    16x32x32                                  432        442,368
layer1  64x32x32   preact_bottleneck x 18      81,952     80,478,208
layer2  128x16x16  preact_bottleneck x 18     326,272     83,361,792
layer3  256x8x8    preact_bottleneck x 18   1,291,520     83,361,792
head    10                                      3,082          2,560
total                                       1,703,258    247,646,720
"""

from typing import Any, Self

from torch import Tensor, nn


class ConvShortcut(nn.Module):
    """1x1 convolution that fits the shortcut to the residual, without a norm."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, filters, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PreActBottleneck(nn.Module):
    """Norm and activation before each convolution (He et al. 2016, figure 4e)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = filters * 4

        self.norm1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)

        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = ConvShortcut(in_channels, out_channels, stride=stride)
        self.conv1 = nn.Conv2d(in_channels, filters, 1, bias=False)

        self.norm2 = nn.BatchNorm2d(filters)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(
            filters, filters, 3, stride=stride, padding=1, bias=False
        )

        self.norm3 = nn.BatchNorm2d(filters)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(filters, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        preact: Tensor = self.norm1(x)
        preact = self.act1(preact)

        shortcut: Tensor = x if self.downsample is None else self.downsample(preact)
        residual: Tensor = self.conv1(preact)

        residual = self.norm2(residual)
        residual = self.act2(residual)
        residual = self.conv2(residual)

        residual = self.norm3(residual)
        residual = self.act3(residual)
        residual = self.conv3(residual)

        return residual + shortcut


class PreActResNet164(nn.Module):
    """Pre-activation ResNet-164 for CIFAR-10."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)

        self.layer1 = nn.Sequential(
            PreActBottleneck(16, 16),
            *(PreActBottleneck(64, 16) for _ in range(17)),
        )
        self.layer2 = nn.Sequential(
            PreActBottleneck(64, 32, stride=2),
            *(PreActBottleneck(128, 32) for _ in range(17)),
        )
        self.layer3 = nn.Sequential(
            PreActBottleneck(128, 64, stride=2),
            *(PreActBottleneck(256, 64) for _ in range(17)),
        )

        self.norm = nn.BatchNorm2d(256)
        self.act = nn.ReLU(inplace=True)

        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(256, num_classes)

        self.feature_info = [
            {"module": "layer1", "num_chs": 64, "reduction": 1},
            {"module": "layer2", "num_chs": 128, "reduction": 2},
            {"module": "layer3", "num_chs": 256, "reduction": 4},
        ]

        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, by its name, for a batch of images (N, C, H, W)."""
        features: dict[str, Tensor] = {}
        x = self.conv1(x)

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


def preact_resnet164(num_classes: int = 10, in_channels: int = 3) -> PreActResNet164:
    """Build preact_resnet164 with random weights."""
    return PreActResNet164(num_classes, in_channels)
