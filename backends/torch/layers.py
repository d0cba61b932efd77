"""Functions and layers that PyTorch lacks; a module defines those that its network uses."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def add_layer(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Add a submodule under a dotted name."""
    *containers, last = name.split(".")
    for part in containers:
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    module.add_module(last, layer)


class SequentialDict(nn.ModuleDict):
    """Named layers that run one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = layer(x)
        return x


def pad_same(
    x: Tensor, kernel_size: int, stride: int, dilation: int = 1, value: float = 0.0
) -> Tensor:
    """TensorFlow's SAME padding: an odd row goes below, an odd column to the right."""
    reach = dilation * (kernel_size - 1) + 1
    if reach == 1:
        return x
    amounts: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        last = (size - 1) // stride * stride  # where the last window begins
        total = last + reach - size
        if reach < stride:  # else it is never below 0
            total = total * (total > 0)  # torch.fx cannot trace `max`
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts, value=value)


def softmax_over_groups(x: Tensor, groups: int) -> Tensor:
    """Softmax across groups of channels, for each channel within a group."""
    return torch.unflatten(x, 1, (groups, -1)).softmax(dim=1).flatten(1, 2)


def shuffle_channels(x: Tensor, groups: int, parts: int) -> Tensor:
    """Channels ordered as (groups, parts, rest) become (parts, groups, rest)."""
    x = torch.unflatten(x, 1, (groups, parts, -1))
    return x.transpose(1, 2).flatten(1, 3)


class Rescale(nn.Module):
    """Multiply by a factor, then add an offset."""

    def __init__(self, factor: float, offset: float = 0) -> None:
        super().__init__()
        self.factor = factor
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


class BlurPool(nn.Module):
    """Blur by (1, 2, 1) / 4 in both directions, then subsample by the stride."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        # Averaging two neighbours twice is the filter (1, 2, 1) / 4.
        return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2, stride=self.stride)


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


class Conv2dSame(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which depends on the input size."""

    def forward(self, x: Tensor) -> Tensor:
        size, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        return super().forward(pad_same(x, size, stride, dilation))


class StdConv2dSame(StdConv2d):
    """Convolution with TensorFlow's SAME padding, which depends on the input size."""

    def forward(self, x: Tensor) -> Tensor:
        size, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        return super().forward(pad_same(x, size, stride, dilation))


class MaxPool2dSame(nn.Module):
    """Max pooling with TensorFlow's SAME padding, filled with -inf."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel_size, self.stride, value=float("-inf"))
        return F.max_pool2d(x, self.kernel_size, self.stride)


class AvgPool2dSame(nn.Module):
    """Average pooling with TensorFlow's SAME padding, which is not counted."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        covered = self.mean(torch.ones_like(x[:1, :1]))
        return self.mean(x) / covered

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each window, with zeros for the padding."""
        x = pad_same(x, self.kernel_size, self.stride)
        return F.avg_pool2d(x, self.kernel_size, self.stride)


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


class DropPath(nn.Module):
    """Drops whole samples at random in training (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0 - self.rate)
        return x * keep / (1.0 - self.rate)
