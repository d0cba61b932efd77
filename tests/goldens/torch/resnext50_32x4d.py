"""ResNeXt-50 of 32 groups of 4 channels.

https://arxiv.org/abs/1611.05431

Input: 3x224x224, 1000 classes.

stage   output      blocks          parameters  multiply-adds
stem    64x56x56                         9,536    118,013,952
layer1  256x56x56   bottleneck x 3     205,824    634,224,640
layer2  512x28x28   bottleneck x 4   1,197,056  1,085,407,232
layer3  1024x14x14  bottleneck x 6   7,022,592  1,525,350,400
layer4  2048x7x7    bottleneck x 3  14,544,896    865,435,648
head    1000                         2,049,000      2,048,000
total                               25,028,904  4,230,479,872
"""

from typing import Any, Self

from torch import Tensor, nn


class Projection(nn.Sequential):
    """1x1 convolution that fits the shortcut to the residual (option B)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, filters, 1, stride=stride, bias=False),
            nn.BatchNorm2d(filters),
        )


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3 with the stride, 1x1 expand (He et al. 2015, figure 5, right)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        width = filters // 16 * 32
        out_channels = filters * 4

        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(
            width, width, 3, stride=stride, padding=1, groups=32, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)

        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = Projection(in_channels, out_channels, stride=stride)
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)
        residual = self.act2(residual)

        residual = self.conv3(residual)
        residual = self.bn3(residual)

        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class ResNeXt50x32x4d(nn.Module):
    """ResNeXt-50 of 32 groups of 4 channels."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.layer1 = nn.Sequential(
            Bottleneck(64, 64),
            *(Bottleneck(256, 64) for _ in range(2)),
        )
        self.layer2 = nn.Sequential(
            Bottleneck(256, 128, stride=2),
            *(Bottleneck(512, 128) for _ in range(3)),
        )
        self.layer3 = nn.Sequential(
            Bottleneck(512, 256, stride=2),
            *(Bottleneck(1024, 256) for _ in range(5)),
        )
        self.layer4 = nn.Sequential(
            Bottleneck(1024, 512, stride=2),
            *(Bottleneck(2048, 512) for _ in range(2)),
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
    """Initialise one module."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def resnext50_32x4d(num_classes: int = 1000, in_channels: int = 3) -> ResNeXt50x32x4d:
    """Build resnext50_32x4d with random weights."""
    return ResNeXt50x32x4d(num_classes, in_channels)
