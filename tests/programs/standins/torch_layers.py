"""The layers and functions of PyTorch that a text may call, with PyTorch's own signatures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

from standins.graph import Drawn, Pair, Window, even, rounded
from standins.run import Difference, namespace, pair
from standins.torch_modules import (
    Leaf,
    Module,
    ModuleDict,
    ModuleList,
    Sequential,
    SequentialDict,
)
from standins.torch_tensors import Parameter, Stacked, Tensor, chosen

Size = int | tuple[int, int]
ZEROS, ONES = rounded(0.0, 0.0), rounded(1.0, 0.0)


def _usual(fan_in: int) -> Drawn:
    """What PyTorch draws when nobody says otherwise: uniform, of variance 1 / (3 fan_in)."""
    return rounded(0.0, math.sqrt(1 / (3 * fan_in)), True)


# --- weights -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Conv2d(Leaf):
    in_channels: int
    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Size | str = 0
    dilation: Size = 1
    groups: int = 1
    bias: Any = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError("channels must be divisible by groups")
        within = self.in_channels // self.groups
        shape = (self.out_channels, within, *pair(self.kernel_size))
        begins = _usual(math.prod(shape[1:]))
        self.weight = Parameter(shape, begins)
        self.bias = Parameter(shape[:1], begins) if self.bias else None

    @property
    def window(self) -> Window:
        if isinstance(self.padding, str):
            raise Difference(f"padding={self.padding!r}")
        numbers = even(*pair(self.padding))
        return Window(pair(self.kernel_size), pair(self.stride), numbers, pair(self.dilation))

    standardized: float | None = field(default=None, init=False)

    def value(self, x: Tensor) -> Tensor:
        self.expects(x, self.in_channels)
        window = self.window
        number = x.run.graph.conv(
            x.seen(),
            self._path,
            window,
            channels=self.in_channels,
            filters=self.out_channels,
            groups=self.groups,
            eps=self.standardized,
        )
        return x.like(number, (self.out_channels, *_windowed(window, x)))


def _windowed(window: Window, x: Tensor, ceil: bool = False) -> Pair:
    _, rows, columns = x.dimensions
    return window.size(0, rows, ceil), window.size(1, columns, ceil)


@dataclass(eq=False)
class StdConv2d(Conv2d):
    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.standardized = self.eps


class _Same:
    """Padding by the size of the input; a number is not looked at."""

    @property
    def window(self) -> Window:
        layer: Any = self
        if layer.padding != 0:
            raise Difference("pads twice")
        return Window(pair(layer.kernel_size), pair(layer.stride), "same", pair(layer.dilation))


class Conv2dSame(_Same, Conv2d):
    pass


class StdConv2dSame(_Same, StdConv2d):
    pass


@dataclass(eq=False)
class Linear(Leaf):
    in_features: int
    out_features: int
    bias: Any = True

    def __post_init__(self) -> None:
        super().__post_init__()
        begins = _usual(self.in_features)
        self.weight = Parameter((self.out_features, self.in_features), begins)
        self.bias = Parameter((self.out_features,), begins) if self.bias else None

    def value(self, x: Tensor) -> Tensor:
        self.expects(x, self.in_features)
        if len(x.dimensions) != 1:
            raise Difference(f"takes a vector, but is given {x.dimensions}")
        seen = {"channels": self.in_features, "features": self.out_features}
        return x.made("linear", name=self._path, shape=(self.out_features,), **seen)


class Conv1d(Leaf):
    """For `isinstance` alone."""


@dataclass(eq=False)
class ChannelConv(Conv1d):
    kernel_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.weight = Parameter((1, 1, self.kernel_size), _usual(self.kernel_size))

    def value(self, x: Tensor) -> Tensor:
        return x.made("channel_conv", name=self._path, kernel=self.kernel_size)


@dataclass(eq=False)
class Rescale(Leaf):
    factor: float
    offset: float = 0

    def value(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


@dataclass(eq=False)
class LearnedScale(Leaf):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.weight = Parameter((1,), ONES)

    def value(self, x: Tensor) -> Tensor:
        return x.made("learned_scale", name=self._path)


@dataclass(eq=False)
class LearnedShift(Leaf):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.bias = Parameter((1,), ZEROS)

    def value(self, x: Tensor) -> Tensor:
        return x.made("learned_shift", name=self._path)


@dataclass(eq=False)
class Threshold(Leaf):
    channels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tau = Parameter((self.channels,), ZEROS)

    def value(self, x: Tensor) -> Tensor:
        self.expects(x, self.channels)
        return x.made("threshold", name=self._path, channels=self.channels)


# --- norms ---------------------------------------------------------------------------------------


class _Norm(Leaf):
    """A scale and a shift for each channel, and what else changes the result."""

    kind = ""
    reads: tuple[str, ...] = ("eps",)

    def start(self, channels: int) -> None:
        super().__post_init__()
        self.channels = channels
        self.weight = Parameter((channels,), ONES)
        self.bias = Parameter((channels,), ZEROS)

    def value(self, x: Tensor) -> Tensor:
        self.expects(x, self.channels)
        seen = {name: getattr(self, name) for name in self.reads}
        return x.made(self.kind, name=self._path, channels=self.channels, **seen)


class SyncBatchNorm(Module):
    """What a batch norm becomes where processes train together; no text makes one."""


@dataclass(eq=False)
class BatchNorm2d(_Norm):
    num_features: int
    eps: float = 1e-5
    momentum: float = 0.1

    kind = "batch_norm"
    reads = ("eps", "momentum")

    def __post_init__(self) -> None:
        self.start(self.num_features)
        self.running_mean = Parameter((self.num_features,), ZEROS, trainable=False)
        self.running_var = Parameter((self.num_features,), ONES, trainable=False)


@dataclass(eq=False)
class _Grouped(_Norm):
    num_groups: int
    num_channels: int
    eps: float = 1e-5

    reads = ("groups", "eps")

    def __post_init__(self) -> None:
        if self.num_channels % self.num_groups:
            raise ValueError("num_channels must be divisible by num_groups")
        self.start(self.num_channels)
        self.groups = self.num_groups


class GroupNorm(_Grouped):
    kind = "group_norm"


@dataclass(eq=False)
class EvoNorm(_Norm):
    groups: int
    channels: int
    eps: float = 1e-5

    kind = "evo_norm"
    reads = ("groups", "eps")

    def __post_init__(self) -> None:
        self.start(self.channels)
        self.v = Parameter((self.channels,), ONES)


@dataclass(eq=False)
class FilterResponseNorm(_Norm):
    channels: int
    eps: float = 1e-5

    kind = "filter_response_norm"

    def __post_init__(self) -> None:
        self.start(self.channels)


# --- pools and what has no parameters ------------------------------------------------------------


@dataclass(eq=False)
class MaxPool2d(Leaf):
    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    ceil_mode: bool = field(default=False, kw_only=True)

    def value(self, x: Tensor) -> Tensor:
        window = _pool_window(self.kernel_size, self.stride, self.padding)
        number = x.run.graph.max_pool(x.seen(), window, self.ceil_mode)
        return x.like(number, (x.channels, *_windowed(window, x, self.ceil_mode)))


def _pool_window(kernel: Size, stride: Size | None, padding: Size) -> Window:
    size, sides = pair(kernel), pair(padding)
    if any(2 * side > length for side, length in zip(sides, size, strict=True)):
        raise ValueError("pad should be at most half of effective kernel size")
    return Window(size, size if stride is None else pair(stride), even(*sides))


@dataclass(eq=False)
class AvgPool2d(Leaf):
    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    def value(self, x: Tensor) -> Tensor:
        window = _pool_window(self.kernel_size, self.stride, self.padding)
        ceil, counted = self.ceil_mode, self.count_include_pad
        size = _windowed(window, x, ceil)
        if not counted and window._replace(padding="same").fitted() == window:
            window = window._replace(padding="same")  # one that is not counted
        return x.like(x.run.graph.avg_pool(x.seen(), window, ceil, counted), (x.channels, *size))


@dataclass(eq=False)
class MaxPool2dSame(Leaf):
    kernel_size: int
    stride: int

    def value(self, x: Tensor) -> Tensor:
        window = Window(pair(self.kernel_size), pair(self.stride), "same")
        number = x.run.graph.max_pool(x.seen(), window, ceil=False)
        return x.like(number, (x.channels, *_windowed(window, x)))


class AvgPool2dSame(MaxPool2dSame):
    def value(self, x: Tensor) -> Tensor:
        window = Window(pair(self.kernel_size), pair(self.stride), "same")
        number = x.run.graph.avg_pool(x.seen(), window, ceil=False, counted=False)
        return x.like(number, (x.channels, *_windowed(window, x)))


@dataclass(eq=False)
class AdaptiveAvgPool2d(Leaf):
    output_size: Size

    def value(self, x: Tensor) -> Tensor:
        rows, columns = pair(self.output_size)
        size = rows if rows == columns else (rows, columns)
        return x.made("adaptive_avg_pool", shape=(x.channels, rows, columns), size=size)


@dataclass(eq=False)
class AdaptiveMaxPool2d(Leaf):
    output_size: Size

    def value(self, x: Tensor) -> Tensor:
        if pair(self.output_size) != (1, 1):
            raise Difference(f"the largest values of {self.output_size} parts")
        return x.amax(dim=(2, 3), keepdim=True)


@dataclass(eq=False)
class ZeroPad2d(Leaf):
    padding: int | tuple[int, int, int, int]

    def value(self, x: Tensor) -> Tensor:
        given = (self.padding,) * 4 if isinstance(self.padding, int) else self.padding
        left, right, above, below = given
        channels, rows, columns = x.dimensions
        shape = (channels, rows + above + below, columns + left + right)
        return x.made("zero_pad", shape=shape, sides=((above, below), (left, right)))


@dataclass(eq=False)
class Dropout(Leaf):
    p: float = 0.5

    def value(self, x: Tensor) -> Tensor:
        # In evaluation it is the input itself.
        return x.view(x.run.graph.add("dropout", [x.seen()], rate=self.p))


@dataclass(eq=False)
class DropPath(Leaf):
    rate: float

    def value(self, x: Tensor) -> Tensor:
        return x.view(x.run.graph.add("drop_path", [x.seen()], rate=self.rate))


@dataclass(eq=False)
class BlurPool(Leaf):
    stride: int

    def value(self, x: Tensor) -> Tensor:
        _, rows, columns = x.dimensions
        size = (-(-rows // self.stride), -(-columns // self.stride))
        return x.like(x.run.graph.blur(x.seen(), pair(self.stride)), (x.channels, *size))


@dataclass(eq=False)
class Flatten(Leaf):
    start_dim: int = 1
    end_dim: int = -1

    def value(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)


class Identity(Module):
    """Its input; it may stand where an operation is left out, so its name says nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


# --- activations ---------------------------------------------------------------------------------


class _Activation(Leaf):
    function: Callable[..., Tensor]

    def options(self) -> dict[str, Any]:
        return dict(self.given)

    def __init__(self, **options: Any) -> None:
        super().__post_init__()
        self.given = options

    def value(self, x: Tensor) -> Tensor:
        return type(self).function(x, **self.given)


def _inplace(kind: str) -> Callable[..., Tensor]:
    """An activation that may change its input."""

    def call(input: Tensor, inplace: bool = False) -> Tensor:
        return input.activated(kind, inplace)

    return call


def _plain(kind: str) -> Callable[[Tensor], Tensor]:
    def call(input: Tensor) -> Tensor:
        return input.activated(kind, False)

    return call


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return input.activated("leaky_relu", inplace, slope=negative_slope)


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    if approximate != "none":
        raise Difference(f"gelu is approximate: {approximate!r}")
    return input.activated("gelu", False)


def softmax(input: Tensor, dim: int) -> Tensor:
    if input._axes(dim) != (1,):
        raise Difference(f"softmax along dimension {dim}")
    return input.made("softmax", groups=0)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu": _inplace("relu"),
    "silu": _inplace("silu"),
    "hardsigmoid": _inplace("hard_sigmoid"),
    "sigmoid": _plain("sigmoid"),
    "tanh": _plain("tanh"),
    "leaky_relu": leaky_relu,
    "gelu": gelu,
    "softmax": softmax,
}


def _layer(function: str, *names: str) -> Any:
    """The layer of a function, with these arguments in this order."""

    def __init__(self: Any, *values: Any, **options: Any) -> None:
        given = dict(zip(names, values, strict=False)) | options
        if len(values) > len(names) or set(given) - set(names):
            raise TypeError(f"{function}: {values} {options}")
        _Activation.__init__(self, **given)

    body = {"__init__": __init__, "function": staticmethod(FUNCTIONS[function])}
    return type(function, (_Activation,), body)


# --- functions -----------------------------------------------------------------------------------


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    if mode != "constant" or value:
        raise Difference(f"pads {mode} with {value}")
    left, right, above, below, before, after = (*pad, *(0,) * (6 - len(pad)))
    if (left, right, above, below) != (0, 0, 0, 0):
        raise Difference(f"pads {tuple(pad)}, which is no operation of the IR")
    shape = (input.channels + before + after, *input.dimensions[1:])
    return input.made("pad_channels", shape=shape, before=before, after=after)


def softmax_over_groups(x: Tensor, groups: int) -> Tensor:
    return x.made("softmax", groups=groups)


def shuffle_channels(x: Tensor, groups: int, parts: int) -> Tensor:
    return x.made("shuffle", groups=groups, parts=parts)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return chosen("cat", tensors, dim)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Stacked:
    if dim != 0:
        raise Difference(f"stacks along dimension {dim}")
    return Stacked(tensors)


# --- initialisation ------------------------------------------------------------------------------


def _fill(parameter: Parameter, drawn: Drawn) -> None:
    if not isinstance(parameter, Parameter):
        raise TypeError(f"{parameter!r} is no parameter")
    parameter.drawn = drawn


def constant_(tensor: Parameter, val: float) -> None:
    _fill(tensor, rounded(val, 0.0))


def normal_(tensor: Parameter, mean: float = 0.0, std: float = 1.0) -> None:
    _fill(tensor, rounded(mean, std))


Mode = Literal["fan_in", "fan_out"]


def _gain(nonlinearity: str, slope: float) -> float:
    """torch.nn.init.calculate_gain"""
    gains = {
        "linear": 1.0,
        "conv2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "selu": 3 / 4,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1 + slope**2)),
    }
    return gains[nonlinearity]


def _kaiming(uniform: bool) -> Callable[..., None]:
    def fill(
        tensor: Parameter, a: float = 0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu"
    ) -> None:
        shape = tensor.shape
        fan = shape[{"fan_in": 1, "fan_out": 0}[mode]] * math.prod(shape[2:])
        _fill(tensor, rounded(0.0, _gain(nonlinearity, a) / math.sqrt(fan), uniform))

    return fill


INIT = namespace(
    zeros_=lambda tensor: _fill(tensor, ZEROS),
    ones_=lambda tensor: _fill(tensor, ONES),
    constant_=constant_,
    normal_=normal_,
    kaiming_normal_=_kaiming(uniform=False),
    kaiming_uniform_=_kaiming(uniform=True),
)


# --- what is imported ----------------------------------------------------------------------------

F = namespace(
    **{name: FUNCTIONS[name] for name in FUNCTIONS if name not in ("sigmoid", "tanh")}, pad=pad
)
NN = namespace(
    functional=F,
    init=INIT,
    Parameter=Parameter,
    ReLU=_layer("relu", "inplace"),
    SiLU=_layer("silu", "inplace"),
    GELU=_layer("gelu", "approximate"),
    Sigmoid=_layer("sigmoid"),
    Hardsigmoid=_layer("hardsigmoid", "inplace"),
    Tanh=_layer("tanh"),
    LeakyReLU=_layer("leaky_relu", "negative_slope", "inplace"),
    Softmax=_layer("softmax", "dim"),
    **{
        each.__name__: each
        for each in (
            *(Module, Sequential, ModuleList, ModuleDict, Identity, Flatten, Dropout, ZeroPad2d),
            *(Conv1d, Conv2d, Linear, BatchNorm2d, SyncBatchNorm, GroupNorm, MaxPool2d, AvgPool2d),
            *(AdaptiveAvgPool2d, AdaptiveMaxPool2d),
        )
    },
)
TORCH = namespace(
    Tensor=Tensor,
    nn=NN,
    sigmoid=FUNCTIONS["sigmoid"],
    tanh=FUNCTIONS["tanh"],
    relu=lambda input: input.activated("relu", False),
    cat=cat,
    stack=stack,
    mul=lambda input, other: input * other,
)
MODULES: dict[str, SimpleNamespace] = {
    "torch": TORCH,
    "torch.nn": NN,
    "torch.nn.functional": F,
}
HELPERS: dict[str, Any] = {
    each.__name__: each
    for each in (
        *(StdConv2d, Conv2dSame, StdConv2dSame, MaxPool2dSame, AvgPool2dSame, EvoNorm),
        *(
            FilterResponseNorm,
            Threshold,
            Rescale,
            LearnedScale,
            LearnedShift,
            ChannelConv,
            DropPath,
        ),
        *(softmax_over_groups, shuffle_channels, BlurPool, SequentialDict),
    )
}
