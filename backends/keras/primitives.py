"""How each primitive is written in Keras 3: a layer with a name, or a call of `keras.ops`.

PyTorch's semantics are canonical: padding by a number is on every side, never `padding="same"`,
which pads one side more than the other where a stride is above one; that is `padding: same`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resnet_spec.codegen.layout import Applied, Code, call, flat, span
from resnet_spec.codegen.operation import OperationContext, listed
from resnet_spec.codegen.python import rescaled
from resnet_spec.expressions import Const, Expr, binary, to_python
from resnet_spec.primitives import SAME, Initializer
from resnet_spec.specialize import OperationLine

Spelling = Mapping[str, str]
Options = Mapping[str, str]


@dataclass
class Context(OperationContext):
    """One operation with its inputs and its name in Keras."""

    inputs: tuple[str, ...]
    name: str
    options: Mapping[str, Const | Initializer]  # what the helper function leaves to its callers
    exact: bool  # every number as PyTorch has it

    def helper(self, function: str, *arguments: str) -> Code:
        """A call of a helper function; options that have its default are left out."""
        options: dict[str, Code] = {}
        unbiased = self.line.attributes.get("bias") == Const(False)
        for name, default in self.options.items():
            value = self.line.attributes[name]
            assert not isinstance(value, str)
            if value != default and not (name == "bias_init" and unbiased):
                options[KEYWORDS.get(name, name)] = option(name, value, self.spelling)
        return call(function, self.inputs[0], *arguments, **options, name=self.name)

    def layer(self, function: str, *arguments: str, **options: Code) -> Code:
        """A layer applied to the first input."""
        made = call(f"layers.{function}", *arguments, **options, name=self.name)
        return Applied(made, self.inputs[0])

    def merge(self, function: str, **options: Code) -> Code:
        """A layer applied to all inputs."""
        made = call(f"layers.{function}", **options, name=self.name)
        return Applied(made, flat(listed(self.inputs)))


def initializer(given: Initializer) -> Code:
    """An initializer as Python; always a new one: one object would draw the same values twice."""
    match given.kind, given.value:
        case (("zeros" | "ones"), _):
            return f'"{given.kind}"'
        case "constant", value:
            return call("initializers.Constant", repr(value))
        case "normal", value:
            return call("initializers.RandomNormal", stddev=repr(value))
        case ("fan_in_normal" | "fan_out_normal") as kind, value:
            fan = kind.removesuffix("_normal")
            options = (repr(value), f'"{fan}"', '"untruncated_normal"')
            return call("initializers.VarianceScaling", *options)
        case "he_normal", fan:
            return call("initializers.VarianceScaling", "2.0", f'"{fan}"', '"untruncated_normal"')
        case "he_uniform", fan:
            return call("initializers.VarianceScaling", "2.0", f'"{fan}"', '"uniform"')
        case "lecun_uniform", fan:
            return call("initializers.VarianceScaling", "1 / 3", f'"{fan}"', '"uniform"')
    raise ValueError(given.kind)


# Attributes that Keras' layers call otherwise.
KEYWORDS = {"eps": "epsilon"}


def option(name: str, value: Expr | Initializer, spelling: Spelling) -> Code:
    """An attribute as the argument of a helper function."""
    if isinstance(value, Initializer):
        return initializer(value)
    if name == "momentum":
        # Keras' momentum is the weight of the old statistics, PyTorch's that of the new.
        if isinstance(value, Const):
            return repr(round(1 - value.value, 12))
        value = binary("-", Const(1), value)
    return to_python(value, spelling)


def _linear(op: Context) -> Code:
    options: dict[str, Code] = {}
    if op.expr("bias") == Const(False):
        options["use_bias"] = "False"
    for attribute, option, usual in (
        ("init", "kernel_initializer", None),
        ("bias_init", "bias_initializer", Initializer("zeros")),
    ):
        value = op.line.attributes[attribute]
        assert isinstance(value, Initializer)
        if value != usual and not (attribute == "bias_init" and "use_bias" in options):
            options[option] = initializer(value)
    return op.layer("Dense", op.get("features"), **options)


def _group_norm(op: Context) -> Code:
    return op.layer("GroupNormalization", op.get("groups"), **_norm_options(op))


def _norm_options(op: Context) -> dict[str, Code]:
    options: dict[str, Code] = {"epsilon": op.get("eps")}
    scale = op.line.attributes["init"]
    assert isinstance(scale, Initializer)
    if scale != Initializer("ones"):
        options["gamma_initializer"] = initializer(scale)
    return options


def _own_layer(function: str, op: Context, *arguments: str, **options: Code) -> Code:
    """A layer of a class that stands in the module itself."""
    return Applied(call(function, *arguments, **options, name=op.name), op.inputs[0])


def _learned_number(function: str, usual: str) -> Callable[[Context], Code]:
    def write(op: Context) -> Code:
        value = op.line.attributes["init"]
        assert isinstance(value, Initializer)
        given = [] if value.kind == usual else [initializer(value)]
        return Applied(call(function, *given, name=op.name), op.inputs[0])

    return write


def _channel_pool(function: str) -> Callable[[Context], Code]:
    return lambda op: call(f"ops.{function}", op.inputs[0], axis="-1", keepdims="True")


def _rescale(op: Context) -> Code:
    return rescaled(op.inputs[0], op.expr("factor"), op.expr("offset"), op.spelling)


def _take(op: Context) -> Code:
    return f"{op.inputs[0]}[..., {span(op.get('start'), op.get('stop'))}]"


def conv_helper(line: OperationLine) -> str:
    """The helper function of a convolution."""
    standardized = line.attributes["standardize"] == Const(True)
    usual = "standardized_conv2d" if standardized else "conv2d"
    return f"{usual}_same" if line.attributes["padding"] == SAME else usual


def needs_padding(line: OperationLine) -> bool:
    """Whether a layer needs another one before it that pads."""
    return line.attributes["padding"] not in (Const(0), SAME)


def pool_helper(line: OperationLine) -> str | None:
    """The helper function of a padded pooling, None where the layer does without."""
    largest = line.primitive.name == "max_pool"
    # A last window of max pooling that is cut off is completed by padding.
    if not needs_padding(line) and not (largest and line.attributes["ceil"] != Const(False)):
        return None
    if not largest:
        return "avg_pool"
    return "max_pool" if line.nonnegative else "max_pool_signed"


def needs_own_average(line: OperationLine) -> bool:
    """Whether Keras on PyTorch would put copies of the border into an average.

    It does so where one side is padded more than the other; a window of two holds nothing else.
    """
    kernel = line.attributes["kernel"]
    known = kernel.value if isinstance(kernel, Const) else 4
    alike = known <= 2 or (line.attributes["stride"] == Const(1) and known % 2 == 1)
    return line.primitive.name == "avg_pool" and not alike


def _pool(function: str) -> Callable[[Context], Code]:
    def write(op: Context) -> Code:
        helper = pool_helper(op.line)
        if helper is not None:
            return op.helper(helper, op.get("kernel"))
        options: dict[str, Code] = {}
        if op.expr("stride") != op.expr("kernel"):
            options["strides"] = op.get("stride")
        if op.line.attributes["padding"] == SAME:
            options["padding"] = '"same"'
            if needs_own_average(op.line):
                return _own_layer("AveragePooling", op, op.get("kernel"), **options)
        elif op.expr("ceil") == Const(True):
            # Cut-off windows are averaged over what they cover, as PyTorch does then.
            options["padding"] = '"same"'
        return op.layer(function, op.get("kernel"), **options)

    return write


def _global_pool(layer: str) -> Callable[[Context], Code]:
    def write(op: Context) -> Code:
        if op.expr("keep_map") == Const(True):
            return op.layer(layer, keepdims="True")
        return op.layer(layer)

    return write


def _gelu(op: Context) -> Code:
    return _own_layer("Gelu", op) if op.exact else op.layer("Activation", '"gelu"')


def _leaky_relu(op: Context) -> Code:
    if op.exact:
        return _own_layer("LeakyReLU", op, negative_slope=op.get("slope"))
    return op.layer("LeakyReLU", negative_slope=op.get("slope"))


def _activation(name: str) -> Callable[[Context], Code]:
    return lambda op: op.layer("Activation", f'"{name}"')


def _softmax(op: Context) -> Code:
    if op.expr("groups") == Const(0):
        return op.layer("Softmax")
    return call("softmax_over_groups", op.inputs[0], op.get("groups"))


def _pad_channels(op: Context) -> Code:
    amounts = f"((0, 0), (0, 0), (0, 0), ({op.get('before')}, {op.get('after')}))"
    return call("ops.pad", op.inputs[0], amounts)


RULES: dict[str, Callable[[Context], Code]] = {
    "conv": lambda op: op.helper(conv_helper(op.line), op.get("filters"), op.get("kernel")),
    "linear": _linear,
    "batch_norm": lambda op: op.helper("batch_norm"),
    "group_norm": _group_norm,
    "filter_response_norm": lambda op: _own_layer("FilterResponseNorm", op, **_norm_options(op)),
    "evo_norm": lambda op: _own_layer("EvoNorm", op, op.get("groups"), **_norm_options(op)),
    "threshold": lambda op: _own_layer("Threshold", op),
    "adaptive_avg_pool": lambda op: call("adaptive_avg_pool", op.inputs[0], op.get("size")),
    "flatten": lambda op: op.helper("flatten_channels_first"),
    "zero_pad": lambda op: op.layer("ZeroPadding2D", op.get("padding")),
    "take": _take,
    "relu": lambda op: op.layer("ReLU"),
    "leaky_relu": _leaky_relu,
    "silu": _activation("silu"),
    "gelu": _gelu,
    "sigmoid": _activation("sigmoid"),
    "hard_sigmoid": _activation("hard_sigmoid"),
    "tanh": _activation("tanh"),
    "softmax": _softmax,
    "max_pool": _pool("MaxPooling2D"),
    "avg_pool": _pool("AveragePooling2D"),
    "global_avg_pool": _global_pool("GlobalAveragePooling2D"),
    "global_max_pool": _global_pool("GlobalMaxPooling2D"),
    "channel_avg_pool": _channel_pool("mean"),
    "channel_max_pool": _channel_pool("max"),
    "rescale": _rescale,
    "learned_scale": _learned_number("LearnedScale", "ones"),
    "learned_shift": _learned_number("LearnedShift", "zeros"),
    "add": lambda op: op.merge("Add"),
    "multiply": lambda op: op.merge("Multiply"),
    "concat": lambda op: op.merge("Concatenate"),
    "stack_rows": lambda op: op.merge("Concatenate", axis="1"),
    "split": lambda op: call("ops.split", op.inputs[0], op.get("parts"), axis="-1"),
    "shuffle": lambda op: call("shuffle_channels", op.inputs[0], op.get("groups"), op.get("parts")),
    "pad_channels": _pad_channels,
    "blur_pool": lambda op: op.helper("blur_pool"),
    "channel_conv": lambda op: op.helper("channel_conv", op.get("kernel")),
    # A window of one with a stride takes every n-th row and column.
    "subsample": lambda op: op.layer("MaxPooling2D", "1", strides=op.get("stride")),
    "dropout": lambda op: op.layer("Dropout", op.get("rate")),
    "drop_path": lambda op: op.layer("Dropout", op.get("rate"), noise_shape="(None, 1, 1, 1)"),
    "identity": lambda op: op.inputs[0],
}
