"""How each primitive is written in PyTorch: a module in the constructor, a call in `forward`."""

from collections.abc import Callable, Mapping
from typing import Any

from resnet_spec.codegen.layout import Applied, Bracket, Code, call, span
from resnet_spec.codegen.operation import OperationContext, listed
from resnet_spec.codegen.python import rescaled
from resnet_spec.expressions import Const, Expr, substitute
from resnet_spec.language import bind
from resnet_spec.primitives import SAME, Initializer
from resnet_spec.specialize import OperationLine

Spelling = Mapping[str, str]


class Context(OperationContext):
    """One operation; `padding: same` is what stands for it in the layer itself."""

    def expr(self, name: str) -> Expr:
        if self.line.attributes[name] == SAME:
            return layer_padding(self.line)
        return super().expr(name)

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
    return substitute(bind.default_expression(str(usual.default)).expr, numbers)


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


def _global_pool(kind: str) -> Callable[[Context], Code]:
    def write(op: Context) -> Code:
        pool = call(f"nn.Adaptive{kind}Pool2d", "1")
        if op.expr("keep_map") == Const(True):
            return pool
        return call("nn.Sequential", pool, call("nn.Flatten"))

    return write


# A primitive in this table is a module of its class.
LAYERS: dict[str, Callable[[Context], Code]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "blur_pool": lambda op: call("BlurPool", stride=op.get("stride")),
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

# One in this table is a module where the spec gives it a name, and a call in `forward` elsewhere.
LAYERS_BY_NAME: dict[str, Callable[[Context], Code]] = {
    "relu": lambda op: call("nn.ReLU", **_inplace(op)),
    "leaky_relu": lambda op: call("nn.LeakyReLU", **_leaky_relu(op), **_inplace(op)),
    "silu": lambda op: call("nn.SiLU"),
    "gelu": lambda op: call("nn.GELU"),
    "sigmoid": lambda op: call("nn.Sigmoid"),
    "hard_sigmoid": lambda op: call("nn.Hardsigmoid"),
    "tanh": lambda op: call("nn.Tanh"),
    "softmax": lambda op: call("nn.Softmax", dim="1"),
    "flatten": lambda op: call("nn.Flatten"),
    "global_avg_pool": _global_pool("Avg"),
    "global_max_pool": _global_pool("Max"),
}

# One in this table is a module as a child of the network, so that the children can be called in a
# row, and an expression elsewhere.
CHILDREN: dict[str, Callable[[Context], Code]] = {
    "rescale": lambda op: call("Rescale", op.get("factor"), **op.unless(offset=0)),
    # A window of one with a stride takes every n-th row and column.
    "subsample": lambda op: call("nn.MaxPool2d", "1", stride=op.get("stride")),
}

# As members of nn.Sequential, all have to be modules.
MODULES: dict[str, Callable[[Context], Code]] = {
    **LAYERS,
    **LAYERS_BY_NAME,
    **CHILDREN,
    "identity": lambda op: call("nn.Identity"),
}


def is_module(
    primitive: str, attributes: Mapping[str, Any], named: bool, child: bool = False
) -> bool:
    """Whether an operation is a module of its class.

    `named` tells that the spec gave its name, `child` that its class is the network.
    """
    if primitive == "softmax" and attributes["groups"] not in (0, Const(0)):
        return False  # PyTorch has no layer of it
    by_name = (named or child) and primitive in LAYERS_BY_NAME
    return primitive in LAYERS or by_name or (child and primitive in CHILDREN)


# --- calls ---------------------------------------------------------------------------------------

Inputs = list[str]


def _multiply(op: Context, inputs: Inputs) -> Code:
    if any(each.startswith("*") for each in inputs):
        return call("reduce", "torch.mul", listed(inputs))
    return " * ".join(inputs)


def _pool_map(method: str) -> Callable[[Context, Inputs], Code]:
    def write(op: Context, inputs: Inputs) -> Code:
        keep = {"keepdim": "True"} if op.expr("keep_map") == Const(True) else {}
        return call(f"{inputs[0]}.{method}", dim="(2, 3)", **keep)

    return write


def _channel_pool(method: str) -> Callable[[Context, Inputs], Code]:
    return lambda op, inputs: call(f"{inputs[0]}.{method}", dim="1", keepdim="True")


def _rescale(op: Context, inputs: Inputs) -> Code:
    return rescaled(inputs[0], op.expr("factor"), op.expr("offset"), op.spelling)


def _add(op: Context, inputs: Inputs) -> Code:
    if any(each.startswith("*") for each in inputs):
        return Applied(call("torch.stack", listed(inputs)), "dim=0", "sum")
    return " + ".join(inputs)


def _concat(axis: int) -> Callable[[Context, Inputs], Code]:
    def write(op: Context, inputs: Inputs) -> Code:
        return call("torch.cat", listed(inputs), dim=str(axis))

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


def _split(op: Context, inputs: Inputs) -> Code:
    parts = call(f"{inputs[0]}.chunk", op.get("parts"), dim="1")
    return call("list", parts) if op.line.grows else parts


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
    "global_avg_pool": _pool_map("mean"),
    "global_max_pool": _pool_map("amax"),
    "channel_avg_pool": _channel_pool("mean"),
    "channel_max_pool": _channel_pool("amax"),
    "rescale": _rescale,
    "flatten": lambda op, inputs: call(f"{inputs[0]}.flatten", "1"),
    "add": _add,
    "multiply": _multiply,
    "concat": _concat(1),
    "stack_rows": _concat(2),
    "split": _split,
    "take": _take,
    "shuffle": _shuffle,
    "pad_channels": _pad_channels,
    "subsample": _subsample,
    "identity": lambda op, inputs: inputs[0],
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
