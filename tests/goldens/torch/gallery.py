"""Blocks that few networks use, one after the other.

Input: 3x64x64, 10 classes.

stage      output    blocks                      parameters  multiply-adds
stem       16x32x32  conv_stack                         464      1,769,472
plain      16x32x32  plain                            4,672      4,718,592
highway    16x32x32  highway                          6,992      7,077,888
weighted   16x32x32  weighted_basic                   4,673      4,718,592
preact     16x32x32  preact_basic                     4,672      4,718,592
late       32x16x16  late_stride_bottleneck x 2       2,720      1,982,464
first      32x8x8    bottleneck_v1                   10,464        659,456
selective  16x8x8    sk_basic                         8,632        476,160
gated      16x8x8    basic x 2                        9,350        589,920
attended   24x4x4    basic                            9,341        146,048
head       10                                           970            960
total                                                62,950     26,858,144
"""

from typing import Any, Self

import torch
from torch import Tensor, nn


def softmax_over_groups(x: Tensor, groups: int) -> Tensor:
    """Softmax across groups of channels, for each channel within a group."""
    return torch.unflatten(x, 1, (groups, -1)).softmax(dim=1).flatten(1, 2)


class LearnedScale(nn.Module):
    """Multiplies by one learned scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class ChannelConv(nn.Conv1d):
    """1-D convolution along the channels of a 1x1 map (Wang et al. 2019)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x.flatten(1).unsqueeze(1))
        return x.transpose(1, 2).unsqueeze(3)


class ConvNormAct(nn.Module):
    """A convolution, its norm and an activation."""

    def __init__(
        self, in_channels: int, dilation: int = 1, activate: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, 16, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(16)
        self.act = None
        if activate:
            self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.bn(x)
        return x if self.act is None else self.act(x)


class ConvStack(nn.Module):
    """3x3 convolutions and a max pooling (Simonyan and Zisserman 2014)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvNormAct(in_channels))
        self.pool = nn.MaxPool2d(2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs(x)
        return self.pool(x)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions without a shortcut (He et al. 2015, figure 3, middle)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.act1(x)

        x = self.conv2(x)
        x = self.bn2(x)
        return self.act2(x)


class HighwayBlock(nn.Module):
    """Two 3x3 convolutions, and a gate between them and the input
    (Srivastava et al. 2015).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.act2 = nn.ReLU(inplace=True)

        self.gate = nn.Conv2d(16, 16, 3, padding=1)
        self.transform_gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        transformed: Tensor = self.conv1(x)
        transformed = self.bn1(transformed)
        transformed = self.act1(transformed)

        transformed = self.conv2(transformed)
        transformed = self.bn2(transformed)
        transformed = self.act2(transformed)

        transform_gate: Tensor = self.gate(x)
        transform_gate = self.transform_gate(transform_gate)
        carry_gate: Tensor = 1.0 - transform_gate

        transformed = transformed * transform_gate
        carried: Tensor = x * carry_gate
        return transformed + carried


class WeightedBlock(nn.Module):
    """Two 3x3 convolutions, activated, weighted by one number, added (Shen
    et al. 2016).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.act2 = nn.ReLU(inplace=True)
        self.weight = LearnedScale()

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)
        residual = self.act2(residual)
        residual = self.weight(residual)
        return residual + x


class PreActBasicBlock(nn.Module):
    """Norm and activation before each of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(16)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)

        self.norm2 = nn.BatchNorm2d(16)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        preact: Tensor = self.norm1(x)
        preact = self.act1(preact)
        residual: Tensor = self.conv1(preact)

        residual = self.norm2(residual)
        residual = self.act2(residual)
        residual = self.conv2(residual)

        return residual + x


class ConvShortcut(nn.Module):
    """1x1 convolution that fits the shortcut to the residual, without a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 32, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class LateStrideBottleneck(nn.Module):
    """Pre-activation bottleneck that also shrinks the map where its
    shortcut is the identity.
    """

    def __init__(self, in_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

        self.norm1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)

        self.downsample = None
        if in_channels != 32:
            self.downsample = ConvShortcut()
        self.conv1 = nn.Conv2d(in_channels, 8, 1, bias=False)

        self.norm2 = nn.BatchNorm2d(8)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=stride, padding=1, bias=False)

        self.norm3 = nn.BatchNorm2d(8)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(8, 32, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        identity: Tensor = x
        if self.stride > 1:
            identity = x[:, :, :: self.stride, :: self.stride]

        preact: Tensor = self.norm1(x)
        preact = self.act1(preact)

        shortcut: Tensor = (
            identity if self.downsample is None else self.downsample(preact)
        )
        residual: Tensor = self.conv1(preact)

        residual = self.norm2(residual)
        residual = self.act2(residual)
        residual = self.conv2(residual)

        residual = self.norm3(residual)
        residual = self.act3(residual)
        residual = self.conv3(residual)

        return residual + shortcut


class Projection3x3(nn.Sequential):
    """Convolution that fits the shortcut to the residual, 3x3 where it has a stride."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32)
        )


class Bottleneck(nn.Module):
    """1x1 reduce with the stride, 3x3, 1x1 expand (He et al. 2015, figure 5, right)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(32, 8, 1, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.act2 = nn.ReLU(inplace=True)

        self.conv3 = nn.Conv2d(8, 32, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)

        self.downsample = Projection3x3()
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

        shortcut: Tensor = self.downsample(x)
        x = residual + shortcut
        return self.act3(x)


class SelectiveKernel(nn.Module):
    """Two windows, 3x3 and 5x5, weighted by attention across them (Li et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList([ConvNormAct(16), ConvNormAct(16, dilation=2)])

        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.attn = nn.ModuleDict()
        self.attn["fc_reduce"] = nn.Conv2d(16, 16, 1, bias=False)
        self.attn["bn"] = nn.BatchNorm2d(16)
        self.attn["act"] = nn.ReLU(inplace=True)

        self.attn["fc_select"] = nn.Conv2d(16, 32, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        halves = x.chunk(2, dim=1)
        narrow: Tensor = halves[0]
        narrow = self.paths[0](narrow)
        wide: Tensor = halves[1]
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


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from all channels (Hu et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(16, 8, 1)
        self.act = nn.ReLU(inplace=True)

        self.fc2 = nn.Conv2d(8, 16, 1)
        self.excite = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.squeeze(x)
        gate = self.fc1(gate)
        gate = self.act(gate)

        gate = self.fc2(gate)
        gate = self.excite(gate)

        return x * gate


class Projection(nn.Sequential):
    """1x1 convolution that fits the shortcut to the residual (option B)."""

    def __init__(self, in_channels: int, filters: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, filters, 1, stride=stride, bias=False),
            nn.BatchNorm2d(filters),
        )


class SelectiveKernelBasicBlock(nn.Module):
    """Basic block whose first convolution selects its window (Li et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SelectiveKernel()
        self.conv2 = ConvNormAct(16, activate=False)
        self.se = SqueezeExcitation()
        self.downsample = Projection(32, 16)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.conv2(residual)
        residual = self.se(residual)
        shortcut: Tensor = self.downsample(x)
        x = residual + shortcut
        return self.act(x)


class EfficientChannelAttention(nn.Module):
    """Scales each channel by a gate computed from its neighbours (Wang et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.conv = ChannelConv(3)
        self.excite = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.squeeze(x)
        gate = self.conv(gate)
        gate = self.excite(gate)

        return x * gate


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)

        self.se = EfficientChannelAttention()
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)

        residual = self.se(residual)
        x = residual + x
        return self.act2(x)


class ChannelAttention(nn.Module):
    """Scales each channel by a gate from its mean and maximum (Woo et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.maximum = nn.AdaptiveMaxPool2d(1)
        self.fc1 = nn.Conv2d(24, 1, 1)
        self.act = nn.ReLU(inplace=True)

        self.fc2 = nn.Conv2d(1, 24, 1)
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

    def __init__(self) -> None:
        super().__init__()
        self.channel = ChannelAttention()
        self.spatial = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel(x)
        return self.spatial(x)


class BasicBlockCbam(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.act1 = nn.ReLU(inplace=True)

        self.conv2 = nn.Conv2d(24, 24, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)

        self.se = Cbam()
        self.downsample = Projection(16, 24, stride=2)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.act1(residual)

        residual = self.conv2(residual)
        residual = self.bn2(residual)

        residual = self.se(residual)
        shortcut: Tensor = self.downsample(x)
        x = residual + shortcut
        return self.act2(x)


class Gallery(nn.Module):
    """Blocks that few networks use, one after the other."""

    # The maps that others build upon, finest first, in timm's words.
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = ConvStack(in_channels)
        self.plain = PlainBlock()
        self.highway = HighwayBlock()
        self.weighted = WeightedBlock()
        self.preact = PreActBasicBlock()
        self.late = nn.Sequential(
            LateStrideBottleneck(16),
            LateStrideBottleneck(32, stride=2),
        )
        self.first = Bottleneck()
        self.selective = SelectiveKernelBasicBlock()
        self.gated = nn.Sequential(*(BasicBlock() for _ in range(2)))
        self.attended = BasicBlockCbam()

        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(96, num_classes)

        self.feature_info = [
            {"module": "plain", "num_chs": 16, "reduction": 2},
            {"module": "highway", "num_chs": 16, "reduction": 2},
            {"module": "weighted", "num_chs": 16, "reduction": 2},
            {"module": "preact", "num_chs": 16, "reduction": 2},
            {"module": "late", "num_chs": 32, "reduction": 4},
            {"module": "first", "num_chs": 32, "reduction": 8},
            {"module": "selective", "num_chs": 16, "reduction": 8},
            {"module": "gated", "num_chs": 16, "reduction": 8},
            {"module": "attended", "num_chs": 24, "reduction": 16},
        ]

        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, by its name, for a batch of images (N, C, H, W)."""
        features: dict[str, Tensor] = {}
        x = self.stem(x)
        x = self.plain(x)
        features["plain"] = x
        x = self.highway(x)
        features["highway"] = x
        x = self.weighted(x)
        features["weighted"] = x
        x = self.preact(x)
        features["preact"] = x
        x = self.late(x)
        features["late"] = x
        x = self.first(x)
        features["first"] = x
        x = self.selective(x)
        features["selective"] = x
        x = self.gated(x)
        features["gated"] = x
        x = self.attended(x)
        features["attended"] = x
        return features

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, num_classes) of a batch of images (N, C, H, W)."""
        x = self.forward_features(x)["attended"]
        x = self.avgpool(x)
        x = self.flat(x)
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
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
    elif isinstance(module, ChannelConv):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, LearnedScale):
        nn.init.zeros_(module.weight)
    elif isinstance(module, HighwayBlock):
        nn.init.constant_(module.gate.get_parameter("bias"), -2.0)


def gallery(num_classes: int = 10, in_channels: int = 3) -> Gallery:
    """Build gallery with random weights."""
    return Gallery(num_classes, in_channels)
