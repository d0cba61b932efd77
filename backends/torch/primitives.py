"""How each primitive is written in PyTorch: a module in the constructor, a call in `forward`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from resnet_spec import link
from resnet_spec.emit import rescaled
from resnet_spec.expr import Const, Expr, substitute, to_python
from resnet_spec.layout import Bracket, Code, call, span
from resnet_spec.ops import SAME, Initializer
from resnet_spec.specialize import OperationLine

Spelling = Mapping[str, str]


class Context(NamedTuple):
    """One operation with the spelling of the names around it."""

    line: OperationLine
    spelling: Spelling

    def get(self, name: str) -> str:
        """An attribute as Python."""
        return to_python(self.expr(name), self.spelling)

    def expr(self, name: str) -> Expr:
        value = self.line.attributes[name]
        if value == SAME:
            return layer_padding(self.line)
        assert isinstance(value, Expr)
        return value

    @property
    def channels(self) -> str:
        """The channels of the first input, as Python."""
        return to_python(self.line.channels[0], self.spelling)

    def unless(self, **defaults: object) -> dict[str, Code]:
        """The attributes that differ from PyTorch's own default, by PyTorch's names."""
        return {
            name: self.get(name)
            for name, default in defaults.items()
            if self.expr(name) != Const(default)  # type: ignore[arg-type]
        }


# --- padding: same -------------------------------------------------------------------------------


def is_padded_by_size(line: OperationLine) -> bool:
    """Whether the padding follows from the size of the input, which no layer of PyTorch can."""
    stride, kernel = line.attributes["stride"], line.attributes["kernel"]
    if line.attributes["padding"] != SAME or kernel == Const(1):
        return False
    odd = isinstance(kernel, Const) and kernel.value % 2 == 1
    return stride != Const(1) or not odd


def layer_padding(line: OperationLine) -> Expr:
    """What stands for `padding: same` in the layer itself: as much on each side, or nothing."""
    usual = line.primitive.attribute("padding")
    if is_padded_by_size(line) or usual is None:
        return Const(0)
    numbers = {key: v for key, v in line.attributes.items() if isinstance(v, Expr)}
    return substitute(link.default_expression(str(usual.default)), numbers)


# --- modules -------------------------------------------------------------------------------------


def _conv(op: Context) -> Code:
    options = op.unless(stride=1, padding=0, dilation=1, groups=1, bias=True)
    function = "nn.Conv2d"
    if op.expr("standardize") == Const(True):
        function = "StdConv2d"
        options |= op.unless(eps=1e-6)
    if is_padded_by_size(op.line):
        function = f"{function.removeprefix('nn.')}Same"
    return call(function, op.channels, op.get("filters"), op.get("kernel"), **options)


def _linear(op: Context) -> Code:
    return call("nn.Linear", op.channels, op.get("features"), **op.unless(bias=True))


def _batch_norm(op: Context) -> Code:
    return call("nn.BatchNorm2d", op.channels, **op.unless(eps=1e-5, momentum=0.1))


def _group_norm(op: Context) -> Code:
    return call("nn.GroupNorm", op.get("groups"), op.channels, **op.unless(eps=1e-5))


def _evo_norm(op: Context) -> Code:
    return call("EvoNorm", op.get("groups"), op.channels, **op.unless(eps=1e-5))


def _max_pool(op: Context) -> Code:
    if is_padded_by_size(op.line):
        return call("MaxPool2dSame", op.get("kernel"), op.get("stride"))
    options = op.unless(stride=None, padding=0)
    if op.expr("ceil") != Const(False):
        options["ceil_mode"] = op.get("ceil")
    return call("nn.MaxPool2d", op.get("kernel"), **options)


def _avg_pool(op: Context) -> Code:
    if is_padded_by_size(op.line):
        return call("AvgPool2dSame", op.get("kernel"), op.get("stride"))
    options = op.unless(stride=None, padding=0)
    if op.line.attributes["padding"] == SAME and "padding" in options:
        options["count_include_pad"] = "False"
    if op.expr("ceil") == Const(True):
        # Windows that stick out are averaged over what they cover.
        options |= {"ceil_mode": "True", "count_include_pad": "False"}
    return call("nn.AvgPool2d", op.get("kernel"), **options)


def _inplace(op: Context) -> dict[str, Code]:
    return {"inplace": "True"} if op.line.inplace else {}


def _leaky_relu(op: Context) -> dict[str, Code]:
    slope = op.unless(slope=0.01)
    return {"negative_slope": slope["slope"]} if slope else {}


# A primitive in this table becomes an attribute of the module; the others are calls in `forward`.
MODULES: dict[str, Callable[[Context], Code]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "channel_conv": lambda op: call("ChannelConv", op.get("kernel")),
    "filter_response_norm": lambda op: call(
        "FilterResponseNorm", op.channels, **op.unless(eps=1e-5)
    ),
    "evo_norm": _evo_norm,
    "threshold": lambda op: call("Threshold", op.channels),
    "learned_scale": lambda op: call("LearnedScale"),
    "learned_shift": lambda op: call("LearnedShift"),
    "adaptive_avg_pool": lambda op: call("nn.AdaptiveAvgPool2d", op.get("size")),
    "zero_pad": lambda op: call("nn.ZeroPad2d", op.get("padding")),
    "dropout": lambda op: call("nn.Dropout", op.get("rate")),
    "drop_path": lambda op: call("DropPath", op.get("rate")),
}

# As members of nn.Sequential, calls have to be modules, too.
SEQUENTIAL: dict[str, Callable[[Context], Code]] = {
    **MODULES,
    "relu": lambda op: call("nn.ReLU", **_inplace(op)),
    "leaky_relu": lambda op: call("nn.LeakyReLU", **_leaky_relu(op), **_inplace(op)),
    "silu": lambda op: call("nn.SiLU"),
    "gelu": lambda op: call("nn.GELU"),
    "sigmoid": lambda op: call("nn.Sigmoid"),
    "hard_sigmoid": lambda op: call("nn.Hardsigmoid"),
    "tanh": lambda op: call("nn.Tanh"),
    "flatten": lambda op: call("nn.Flatten"),
    "identity": lambda op: call("nn.Identity"),
}


# --- calls ---------------------------------------------------------------------------------------

Inputs = list[str]


def _joined(operator: str) -> Callable[[Context, Inputs], Code]:
    return lambda op, inputs: f" {operator} ".join(inputs)


def _global_pool(method: str) -> Callable[[Context, Inputs], Code]:
    def write(op: Context, inputs: Inputs) -> Code:
        keep = {"keepdim": "True"} if op.expr("keep_map") == Const(True) else {}
        return call(f"{inputs[0]}.{method}", dim="(2, 3)", **keep)

    return write


def _channel_pool(method: str) -> Callable[[Context, Inputs], Code]:
    return lambda op, inputs: call(f"{inputs[0]}.{method}", dim="1", keepdim="True")


def _rescale(op: Context, inputs: Inputs) -> Code:
    return rescaled(inputs[0], op.expr("factor"), op.expr("offset"), op.spelling)


def _add(op: Context, inputs: Inputs) -> Code:
    if len(inputs) == 1 and inputs[0].startswith("*"):
        return f"torch.stack(list({inputs[0][1:]})).sum(dim=0)"
    return " + ".join(inputs)


def _concat(axis: int) -> Callable[[Context, Inputs], Code]:
    def write(op: Context, inputs: Inputs) -> Code:
        whole = len(inputs) == 1 and inputs[0].startswith("*")
        joined = inputs[0][1:] if whole else f"[{', '.join(inputs)}]"
        return call("torch.cat", joined, dim=str(axis))

    return write


def _softmax(op: Context, inputs: Inputs) -> Code:
    if op.expr("groups") == Const(0):
        return call("F.softmax", inputs[0], dim="1")
    return call("softmax_over_groups", inputs[0], op.get("groups"))


def _shuffle(op: Context, inputs: Inputs) -> Code:
    return call("shuffle_channels", inputs[0], op.get("groups"), op.get("parts"))


def _pad_channels(op: Context, inputs: Inputs) -> Code:
    amounts = ("0", "0", "0", "0", op.get("before"), op.get("after"))
    return call("F.pad", inputs[0], Bracket("(", tuple(("", amount) for amount in amounts)))


def _subsample(op: Context, inputs: Inputs) -> Code:
    stride = op.get("stride")
    step = f"::{stride}" if stride.isalnum() else f":: {stride}"
    return f"{inputs[0]}[:, :, {step}, {step}]"


def _take(op: Context, inputs: Inputs) -> Code:
    return f"{inputs[0]}[:, {span(op.get('start'), op.get('stop'))}]"


CALLS: dict[str, Callable[[Context, Inputs], Code]] = {
    "relu": lambda op, inputs: call("F.relu", *inputs, **_inplace(op)),
    "leaky_relu": lambda op, inputs: call(
        "F.leaky_relu", *inputs, **_leaky_relu(op), **_inplace(op)
    ),
    "silu": lambda op, inputs: call("F.silu", *inputs),
    "gelu": lambda op, inputs: call("F.gelu", *inputs),
    "sigmoid": lambda op, inputs: call("torch.sigmoid", *inputs),
    "hard_sigmoid": lambda op, inputs: call("F.hardsigmoid", *inputs),
    "tanh": lambda op, inputs: call("torch.tanh", *inputs),
    "softmax": _softmax,
    "global_avg_pool": _global_pool("mean"),
    "global_max_pool": _global_pool("amax"),
    "channel_avg_pool": _channel_pool("mean"),
    "channel_max_pool": _channel_pool("amax"),
    "rescale": _rescale,
    "flatten": lambda op, inputs: call(f"{inputs[0]}.flatten", "1"),
    "add": _add,
    "multiply": _joined("*"),
    "concat": _concat(1),
    "stack_rows": _concat(2),
    "split": lambda op, inputs: call(f"{inputs[0]}.chunk", op.get("parts"), dim="1"),
    "take": _take,
    "shuffle": _shuffle,
    "pad_channels": _pad_channels,
    "subsample": _subsample,
    "blur_pool": lambda op, inputs: call("blur_pool", inputs[0], stride=op.get("stride")),
    "identity": lambda op, inputs: inputs[0],
}

_CONV_SAME = '''class {name}Same({base}):
    """Convolution, padded as by TensorFlow: by the size of its input."""

    def forward(self, x: Tensor) -> Tensor:
        size, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        return super().forward(pad_same(x, size, stride, dilation))'''

# Functions and classes that some calls need, written once above the blocks; what one of them
# stands on comes before it.
HELPERS = {
    "pad_same": '''def pad_same(
    x: Tensor, kernel_size: int, stride: int, dilation: int = 1, value: float = 0.0
) -> Tensor:
    """Pad as TensorFlow's `same` does: the odd row below, the odd column to the right."""
    amounts: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        last = (size - 1) // stride * stride  # where the last window begins
        total = max(last + dilation * (kernel_size - 1) + 1 - size, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts, value=value)''',
    "softmax_over_groups": '''def softmax_over_groups(x: Tensor, groups: int) -> Tensor:
    """Softmax across groups of channels, at each place within the groups."""
    return torch.unflatten(x, 1, (groups, -1)).softmax(dim=1).flatten(1, 2)''',
    "shuffle_channels": '''def shuffle_channels(x: Tensor, groups: int, parts: int) -> Tensor:
    """Channels ordered as (groups, parts, rest) become (parts, groups, rest)."""
    x = torch.unflatten(x, 1, (groups, parts, -1))
    return x.transpose(1, 2).flatten(1, 3)''',
    "blur_pool": '''def blur_pool(x: Tensor, stride: int) -> Tensor:
    """Blur by (1, 2, 1) / 4 in both directions, then take every n-th row and column."""
    x = F.pad(x, (1, 1, 1, 1), mode="reflect")
    # Averaging two neighbours twice is the filter (1, 2, 1) / 4.
    return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2, stride=stride)''',
    "StdConv2d": '''class StdConv2d(nn.Conv2d):
    """Convolution with filters of mean 0 and variance 1 (Qiao et al. 2019)."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(
            in_channels, filters, kernel_size, stride, padding, dilation, groups, bias
        )
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(
            self.weight, dim=(1, 2, 3), correction=0, keepdim=True
        )
        weight = (self.weight - mean) * torch.rsqrt(variance + self.eps)
        out: Tensor = self._conv_forward(x, weight, self.bias)
        return out''',
    "Conv2dSame": _CONV_SAME.format(name="Conv2d", base="nn.Conv2d"),
    "StdConv2dSame": _CONV_SAME.format(name="StdConv2d", base="StdConv2d"),
    "MaxPool2dSame": '''class MaxPool2dSame(nn.Module):
    """Max pooling, padded as by TensorFlow with what never wins."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel_size, self.stride, value=float("-inf"))
        return F.max_pool2d(x, self.kernel_size, self.stride)''',
    "AvgPool2dSame": '''class AvgPool2dSame(nn.Module):
    """Average pooling of what each window covers, placed as by TensorFlow."""

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
        return F.avg_pool2d(x, self.kernel_size, self.stride)''',
    "FilterResponseNorm": '''class FilterResponseNorm(nn.Module):
    """Divides each channel by its root mean square (Singh and Krishnan 2019)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        power = x.square().mean(dim=(2, 3), keepdim=True)
        x = x * torch.rsqrt(power + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]''',
    "EvoNorm": '''class EvoNorm(nn.Module):
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
        return x * self.weight[:, None, None] + self.bias[:, None, None]''',
    "Threshold": '''class Threshold(nn.Module):
    """The larger of a value and a learned threshold (Singh and Krishnan 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.tau[:, None, None])''',
    "LearnedScale": '''class LearnedScale(nn.Module):
    """Multiplies by one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight''',
    "LearnedShift": '''class LearnedShift(nn.Module):
    """Adds one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias''',
    "ChannelConv": '''class ChannelConv(nn.Conv1d):
    """1-D convolution along the channels of a 1x1 map (Wang et al. 2019)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x.flatten(1).unsqueeze(1))
        return x.transpose(1, 2).unsqueeze(3)''',
    "DropPath": '''class DropPath(nn.Module):
    """Zeroes whole samples at random in training (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0 - self.rate)
        return x * keep / (1.0 - self.rate)''',
}


# --- initialisation ------------------------------------------------------------------------------


def initializer(given: Initializer, tensor: str) -> Code:
    """A statement that fills `tensor`."""
    match given.kind, given.value:
        case ("zeros" | "ones") as kind, _:
            return call(f"nn.init.{kind}_", tensor)
        case "constant", value:
            return call("nn.init.constant_", tensor, repr(value))
        case "normal", value:
            return call("nn.init.normal_", tensor, std=repr(value))
        case ("fan_in_normal" | "fan_out_normal") as kind, value:
            # Of the axes (out, in, height, width) a fan leaves one of the first two out.
            one = f"{tensor}[0]" if kind == "fan_in_normal" else f"{tensor}[:, 0]"
            return call("nn.init.normal_", tensor, std=f"({value!r} / {one}.numel()) ** 0.5")
        case ("he_normal" | "he_uniform") as kind, fan:
            function = f"nn.init.kaiming_{kind.removeprefix('he_')}_"
            return call(function, tensor, mode=f'"{fan}"', nonlinearity='"relu"')
        case "lecun_uniform", fan:
            # The gain of a leaky ReLU of slope sqrt(5) is sqrt(1/3).
            options = {} if fan == "fan_in" else {"mode": f'"{fan}"'}
            return call("nn.init.kaiming_uniform_", tensor, a="5**0.5", **options)
    raise ValueError(given.kind)


# module class of a primitive with parameters: what PyTorch's constructor leaves in them
INITIALIZED: dict[str, tuple[str, dict[str, str]]] = {
    "conv": ("nn.Conv2d", {"init": "weight", "bias_init": "bias"}),
    "linear": ("nn.Linear", {"init": "weight", "bias_init": "bias"}),
    "channel_conv": ("ChannelConv", {"init": "weight"}),
    "batch_norm": ("nn.BatchNorm2d", {"init": "weight"}),
    "group_norm": ("nn.GroupNorm", {"init": "weight"}),
    "filter_response_norm": ("FilterResponseNorm", {"init": "weight"}),
    "evo_norm": ("EvoNorm", {"init": "weight"}),
    "learned_scale": ("LearnedScale", {"init": "weight"}),
    "learned_shift": ("LearnedShift", {"init": "bias"}),
}
# Norms come out of their constructor with a scale of one.
NORMS = ("batch_norm", "group_norm", "filter_response_norm", "evo_norm")
ALREADY = {
    **{(norm, "init"): "ones" for norm in NORMS},
    ("learned_scale", "init"): "ones",
    ("learned_shift", "init"): "zeros",
}
