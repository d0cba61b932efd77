"""How each primitive is written in Flax NNX: a layer in the constructor, a call in `__call__`.

PyTorch's semantics are canonical: padding by a number is on every side, where Flax's own default is
TensorFlow's `"SAME"`. Maps are (N, H, W, C), so an axis of channels is the last one.

A kernel's size is always a tuple: for a number, `nnx.Conv` convolves along the columns alone, and
the output may have the right shape all the same.

No maximum is taken by `jnp.max` or `jnp.maximum`: their gradients go to what equals the result, and
compiled, XLA may round a value once more that it computes twice, and nothing is equal.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from resnet_spec.backends.flax.shared import Shared, option
from resnet_spec.codegen.layout import Bracket, Code, call, span
from resnet_spec.codegen.operation import OperationContext, listed
from resnet_spec.codegen.python import rescaled
from resnet_spec.expressions import Const, binary, to_python
from resnet_spec.primitives import SAME

Spelling = Mapping[str, str]
Inputs = list[str]


@dataclass
class Context(OperationContext):
    """One operation; `shared` are constructors that the module has with arguments of its own."""

    shared: Mapping[str, Shared] = field(default_factory=dict)
    exact: bool = False  # every number as PyTorch has it

    def square(self, name: str) -> Code:
        """An attribute as height and width."""
        return _tuple(self.get(name), self.get(name))

    def made(self, *arguments: Code, **others: Code) -> Code:
        """The layer of a primitive that has parameters, with what Flax would not do by itself."""
        shared = self.shared[self.line.primitive.name]
        options = {
            name: option(value, self.spelling)
            for name, value in shared.of(self.line, self.exact).items()
        }
        return call(shared.function, *arguments, **others, **options, rngs="rngs")


def _tuple(*items: Code) -> Code:
    return Bracket("(", tuple(("", item) for item in items), display=True)


# --- windows -------------------------------------------------------------------------------------


def _conv_options(op: Context) -> dict[str, Code]:
    options: dict[str, Code] = {}
    if op.expr("stride") != Const(1):
        options["strides"] = op.get("stride")
    # Flax pads by the size, as TensorFlow does, unless it is told otherwise.
    if op.line.attributes["padding"] != SAME and not _needs_no_padding(op):
        options["padding"] = op.get("padding")
    for name, keyword in (("dilation", "kernel_dilation"), ("groups", "feature_group_count")):
        if op.expr(name) != Const(1):
            options[keyword] = op.get(name)
    return options


def _needs_no_padding(op: Context) -> bool:
    """Whether a window of one cell stands in every cell, however it is padded."""
    return op.expr("kernel") == Const(1) and op.expr("padding") == Const(0)


def _conv(op: Context) -> Code:
    return op.made(op.channels, op.get("filters"), op.square("kernel"), **_conv_options(op))


def _pool_options(op: Context) -> dict[str, Code]:
    """The arguments of a pooling beside its window."""
    options: dict[str, Code] = {}
    if op.expr("stride") != Const(1):  # Flax's own default is one, not the window
        options["strides"] = op.square("stride")
    average = op.line.primitive.name == "avg_pool"
    if op.line.attributes["padding"] == SAME:
        options["padding"] = '"SAME"'
    elif average and op.expr("ceil") == Const(True):
        # A window of two, the only one that may be cut off: as by the size, then.
        options["padding"] = '"SAME"'
    else:
        sides = _sides(op)
        return options if sides is None else {**options, "padding": sides}
    return {**options, "count_include_pad": "False"} if average else options


def _sides(op: Context) -> Code | None:
    """What is padded before and after the rows and the columns; None where nothing is."""
    near, far = op.expr("padding"), op.expr("padding")
    if op.expr("ceil") == Const(True):
        # The last window may stick out by up to stride - 1.
        far = binary("+", far, binary("-", op.expr("stride"), Const(1)))
    if near == far == Const(0):
        return None
    printed = to_python(far, op.spelling)
    if op.expr("ceil") not in (Const(True), Const(False)):
        reach = to_python(binary("-", op.expr("stride"), Const(1)), op.spelling)
        printed = f"{printed} + ({reach} if {op.get('ceil')} else 0)"
    pair = _tuple(op.get("padding"), printed)
    return _tuple(pair, pair)


def _pool(function: str) -> tuple[Callable[[Context], Code], Callable[[Context, Inputs], Code]]:
    def layer(op: Context) -> Code:
        window = op.square("kernel")
        return call("partial", function, window_shape=window, **_pool_options(op))

    def write(op: Context, inputs: Inputs) -> Code:
        return call(function, inputs[0], op.square("kernel"), **_pool_options(op))

    return layer, write


_MAX_POOL, _AVG_POOL = _pool("nnx.max_pool"), _pool("nnx.avg_pool")


# --- layers --------------------------------------------------------------------------------------


def _drop_path(op: Context) -> Code:
    # One number for each sample: nothing else of the mask is drawn.
    return call("nnx.Dropout", op.get("rate"), broadcast_dims="(1, 2, 3)", rngs="rngs")


# A primitive in this table is a module of its class.
LAYERS: dict[str, Callable[[Context], Code]] = {
    "conv": _conv,
    "linear": lambda op: op.made(op.channels, op.get("features")),
    "batch_norm": lambda op: op.made(op.channels),
    "group_norm": lambda op: op.made(op.channels, op.get("groups")),
    "filter_response_norm": lambda op: op.made(op.channels),
    "evo_norm": lambda op: op.made(op.channels, op.get("groups")),
    "channel_conv": lambda op: op.made(op.get("kernel")),
    "threshold": lambda op: call("Threshold", op.channels),
    "learned_scale": lambda op: op.made(),
    "learned_shift": lambda op: op.made(),
    "dropout": lambda op: call("nnx.Dropout", op.get("rate"), rngs="rngs"),
    "drop_path": _drop_path,
}


def _leaky_relu(op: Context) -> dict[str, Code]:
    slope = op.get("slope")
    return {} if op.expr("slope") == Const(0.01) else {"negative_slope": slope}


def _function(name: str, **options: Code) -> Code:
    """A function with some arguments, as an attribute of a module."""
    return call("partial", name, **options) if options else name


def _kept(op: Context) -> dict[str, Code]:
    return {"keepdims": "True"} if op.expr("keep_map") == Const(True) else {}


def _over_places(op: Context) -> dict[str, Code]:
    return {"axis": "(1, 2)", **_kept(op)}


def _zeros_around(op: Context) -> Code:
    pair = _tuple(op.get("padding"), op.get("padding"))
    return _tuple("(0, 0)", pair, pair, "(0, 0)")


def _blur_options(op: Context) -> dict[str, Code]:
    return {"stride": op.get("stride")}


# One in this table is an attribute where the spec gives it a name, and a call elsewhere. Flax has
# no classes of them; its own examples keep `nnx.relu` and a `partial` of a pooling.
LAYERS_BY_NAME: dict[str, Callable[[Context], Code]] = {
    "relu": lambda op: "nnx.relu",
    "leaky_relu": lambda op: _function("nnx.leaky_relu", **_leaky_relu(op)),
    "silu": lambda op: "nnx.silu",
    "gelu": lambda op: _function("nnx.gelu", approximate="False"),
    "sigmoid": lambda op: "nnx.sigmoid",
    "hard_sigmoid": lambda op: "nnx.hard_sigmoid",
    "tanh": lambda op: "nnx.tanh",
    "softmax": lambda op: "nnx.softmax",
    "max_pool": _MAX_POOL[0],
    "avg_pool": _AVG_POOL[0],
    "blur_pool": lambda op: _function("blur_pool", **_blur_options(op)),
    "adaptive_avg_pool": lambda op: _function("adaptive_avg_pool", size=op.get("size")),
    "zero_pad": lambda op: _function("jnp.pad", pad_width=_zeros_around(op)),
    "flatten": lambda op: "flatten_channels_first",
    "global_avg_pool": lambda op: _function("jnp.mean", **_over_places(op)),
    "global_max_pool": lambda op: _function("global_max_pool", **_kept(op)),
}

_PASSING: dict[str, Callable[[Context], Code]] = {"identity": lambda op: "nnx.identity"}

# As members of a sequence, all have to be layers.
MODULES = ChainMap(LAYERS, LAYERS_BY_NAME, _PASSING)


def is_module(
    primitive: str, attributes: Mapping[str, Any], named: bool, child: bool = False
) -> bool:
    """Whether an operation is an attribute of its class.

    `named` tells that the spec gave its name, `child` that its class is the network.
    """
    if primitive == "softmax" and attributes["groups"] not in (0, Const(0)):
        return False  # as in PyTorch, so that what has a name has one in both
    return primitive in LAYERS or ((named or child) and primitive in LAYERS_BY_NAME)


# --- calls ---------------------------------------------------------------------------------------


def _folded(operator: str, function: str) -> Callable[[Context, Inputs], Code]:
    def write(op: Context, inputs: Inputs) -> Code:
        if any(each.startswith("*") for each in inputs):
            return call("reduce", function, listed(inputs))
        return f" {operator} ".join(inputs)

    return write


def _rescale(op: Context, inputs: Inputs) -> Code:
    return rescaled(inputs[0], op.expr("factor"), op.expr("offset"), op.spelling)


def _concat(axis: int) -> Callable[[Context, Inputs], Code]:
    def write(op: Context, inputs: Inputs) -> Code:
        return call("jnp.concatenate", listed(inputs), axis=str(axis))

    return write


def _softmax(op: Context, inputs: Inputs) -> Code:
    if op.expr("groups") == Const(0):
        return call("nnx.softmax", inputs[0])
    return call("softmax_over_groups", inputs[0], op.get("groups"))


def _shuffle(op: Context, inputs: Inputs) -> Code:
    return call("shuffle_channels", inputs[0], op.get("groups"), op.get("parts"))


def _pad_channels(op: Context, inputs: Inputs) -> Code:
    added = _tuple(op.get("before"), op.get("after"))
    return call("jnp.pad", inputs[0], _tuple("(0, 0)", "(0, 0)", "(0, 0)", added))


def _subsample(op: Context, inputs: Inputs) -> Code:
    stride = op.get("stride")
    step = f"::{stride}" if stride.isalnum() else f":: {stride}"
    return f"{inputs[0]}[:, {step}, {step}]"


def _take(op: Context, inputs: Inputs) -> Code:
    return f"{inputs[0]}[..., {span(op.get('start'), op.get('stop'))}]"


def _split(op: Context, inputs: Inputs) -> Code:
    return call("jnp.split", inputs[0], op.get("parts"), axis="-1")


CALLS: dict[str, Callable[[Context, Inputs], Code]] = {
    "relu": lambda op, inputs: call("nnx.relu", *inputs),
    "leaky_relu": lambda op, inputs: call("nnx.leaky_relu", *inputs, **_leaky_relu(op)),
    "silu": lambda op, inputs: call("nnx.silu", *inputs),
    "gelu": lambda op, inputs: call("nnx.gelu", *inputs, approximate="False"),
    "sigmoid": lambda op, inputs: call("nnx.sigmoid", *inputs),
    "hard_sigmoid": lambda op, inputs: call("nnx.hard_sigmoid", *inputs),
    "tanh": lambda op, inputs: call("nnx.tanh", *inputs),
    "softmax": _softmax,
    "max_pool": _MAX_POOL[1],
    "avg_pool": _AVG_POOL[1],
    "blur_pool": lambda op, inputs: call("blur_pool", *inputs, **_blur_options(op)),
    "adaptive_avg_pool": lambda op, inputs: call("adaptive_avg_pool", *inputs, op.get("size")),
    "zero_pad": lambda op, inputs: call("jnp.pad", *inputs, _zeros_around(op)),
    "flatten": lambda op, inputs: call("flatten_channels_first", *inputs),
    "global_avg_pool": lambda op, inputs: call(f"{inputs[0]}.mean", **_over_places(op)),
    "global_max_pool": lambda op, inputs: call("global_max_pool", *inputs, **_kept(op)),
    "channel_avg_pool": lambda op, inputs: call(f"{inputs[0]}.mean", axis="-1", keepdims="True"),
    "channel_max_pool": lambda op, inputs: call("channel_max_pool", *inputs),
    "rescale": _rescale,
    "add": _folded("+", "jnp.add"),
    "multiply": _folded("*", "jnp.multiply"),
    "concat": _concat(-1),
    "stack_rows": _concat(1),
    "split": _split,
    "take": _take,
    "shuffle": _shuffle,
    "pad_channels": _pad_channels,
    "subsample": _subsample,
    "identity": lambda op, inputs: inputs[0],
}
