"""The small functions at the top of a Keras module, specialised to what the network uses.

An option with the same value everywhere is written into the function; one that varies is a keyword.
Its default is the usual default of PyTorch and Keras, or else the most frequent value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from resnet_spec.backends.keras.primitives import (
    KEYWORDS,
    conv_helper,
    initializer,
    option,
    pool_helper,
)
from resnet_spec.codegen import layout, python
from resnet_spec.expressions import Const
from resnet_spec.primitives import SAME, Initializer
from resnet_spec.specialize import OperationLine

Constant = Const | Initializer

CONV_OPTIONS = ("stride", "padding", "dilation", "groups", "bias", "init", "bias_init")
NORM_OPTIONS = ("eps", "momentum", "init")
POOL_OPTIONS = ("stride", "padding")
MAX_POOL_OPTIONS = (*POOL_OPTIONS, "ceil")

# Helper functions of other primitives, each with its options.
_OTHERS: dict[str, tuple[str, Sequence[str]]] = {
    "softmax": ("softmax_over_groups", ()),
    "shuffle": ("shuffle_channels", ()),
    "blur_pool": ("blur_pool", ("stride",)),
    "channel_conv": ("channel_conv", ("init",)),
    "adaptive_avg_pool": ("adaptive_avg_pool", ()),
    "flatten": ("flatten_channels_first", ()),
}

# What says nothing, so a call without it reads as it does in both frameworks.
_NEUTRAL = {
    "stride": Const(1),
    "padding": Const(0),
    "dilation": Const(1),
    "groups": Const(1),
    "ceil": Const(False),
}

_TYPES = {"bias": "bool", "ceil": "bool", "eps": "float", "momentum": "float"}

# Every function that a module may define.
NAMES = frozenset(
    {
        *("conv2d", "conv2d_same", "standardized_conv2d", "standardized_conv2d_same"),
        *("batch_norm", "max_pool", "max_pool_signed", "avg_pool", "blur_pool", "channel_conv"),
    }
)


def helper_of(line: OperationLine) -> tuple[str, Sequence[str]] | None:
    """The helper function that an operation calls, and the options of it."""
    match line.primitive.name:
        case "conv":
            return conv_helper(line), _conv_options(line)
        case "batch_norm":
            return "batch_norm", NORM_OPTIONS
        case "max_pool" | "avg_pool":
            name = pool_helper(line)
            options = POOL_OPTIONS if line.primitive.name == "avg_pool" else MAX_POOL_OPTIONS
            return (name, options) if name is not None else None
        case "softmax" if line.attributes["groups"] == Const(0):
            return None
        case other:
            return _OTHERS.get(other)


def _conv_options(line: OperationLine) -> Sequence[str]:
    options: Sequence[str] = CONV_OPTIONS
    if line.attributes["padding"] == SAME:
        options = tuple(name for name in options if name != "padding")
    return options if line.attributes["standardize"] == Const(False) else (*options, "eps")


class Usage:
    """How one helper function is used: the options that never vary, and defaults of the others."""

    def __init__(self, lines: Sequence[OperationLine], options: Sequence[str]) -> None:
        self.values: dict[str, Constant] = {}
        self.varying: dict[str, Constant] = {}
        self.kernels = {line.attributes.get("kernel") for line in lines}
        biased = [line for line in lines if line.attributes.get("bias") != Const(False)]
        for name in options:
            used = biased or lines if name == "bias_init" else lines
            given = [line.attributes[name] for line in used]
            counts = Counter(v for v in given if isinstance(v, Const | Initializer))
            usual = counts.most_common(1)[0][0] if counts else Const(1)
            if len(set(given)) == 1 and counts:
                self.values[name] = usual
            else:
                self.varying[name] = _NEUTRAL.get(name, usual)

    def constant(self, name: str) -> object:
        """An option's value where it never varies, else None."""
        value = self.values.get(name)
        return value.value if isinstance(value, Const) else value

    def python(self, name: str) -> layout.Code:
        """An option within the function: a literal, or the name of the parameter."""
        value = self.values.get(name)
        return KEYWORDS.get(name, name) if value is None else option(name, value, {})

    def unset(self, name: str) -> list[str]:
        """The lines that give an initializer its default, which no signature may share."""
        default = self.varying.get(name)
        if not isinstance(default, Initializer) or default.kind in ("zeros", "ones"):
            return []
        made = layout.statement(f"{name} = ", initializer(default), "", 8)
        return [f"    if {name} is None:", *made]


def collect(lines: Iterable[OperationLine]) -> dict[str, Usage]:
    """The helper functions that the lines call."""
    found: dict[str, tuple[list[OperationLine], Sequence[str]]] = {}
    for line in lines:
        helper = helper_of(line)
        if helper is not None:
            found.setdefault(helper[0], ([], helper[1]))[0].append(line)
    return {name: Usage(each, options) for name, (each, options) in found.items()}


def write(name: str, usage: Usage, exact: bool) -> list[str]:
    """The source of one helper function; `exact`: with every number as PyTorch has it."""
    if name.removesuffix("_same").endswith("conv2d"):
        return _conv2d(usage, name)
    if name == "batch_norm":
        return _batch_norm(usage, exact)
    return _WRITERS[name](usage)


def _signature(function: str, positional: Sequence[str], usage: Usage) -> list[str]:
    options: list[layout.Code] = ["x: KerasTensor", *positional, "*"]
    for name, default in usage.varying.items():
        if isinstance(default, Initializer):
            if default.kind in ("zeros", "ones"):
                options.append(f'{name}: str | initializers.Initializer = "{default.kind}"')
            else:
                options.append(f"{name}: initializers.Initializer | None = None")
        else:
            kind = _TYPES.get(name, "int")
            keyword = KEYWORDS.get(name, name)
            options.append(f"{keyword}: {kind} = {layout.flat(option(name, default, {}))}")
    options.append("name: str")
    return python.signature(f"def {function}", options, " -> KerasTensor:")


def _padding(usage: Usage, pad: Sequence[str], unless: str = "") -> list[str]:
    """The lines that pad, under a condition where the amount varies or something else may hold."""
    if usage.constant("padding") == 0:
        return []
    conditions = ["padding > 0"] if usage.constant("padding") is None else []
    conditions += [f"not {unless}"] if unless else []
    if not conditions:
        return [f"    {line}" for line in pad]
    return [f"    if {' and '.join(conditions)}:", *(f"        {line}" for line in pad)]


def _zero_padding(usage: Usage, unless: str = "") -> list[str]:
    amount = layout.flat(usage.python("padding"))
    pad = f'x = layers.ZeroPadding2D({amount}, name=f"{{name}}_pad")(x)'
    return _padding(usage, [pad], unless)


def _layer(
    function: str, arguments: Sequence[str], options: Mapping[str, layout.Code]
) -> list[str]:
    made = layout.call(f"layers.{function}", *arguments, **options)
    return layout.statement("return ", made, "(x)", 4)


def _conv2d(usage: Usage, function: str) -> list[str]:
    standardized, same = function.startswith("standardized"), function.endswith("same")
    biased = {True: "with a bias", False: "without a bias"}.get(usage.constant("bias"))  # type: ignore[call-overload]
    what = f"Convolution {biased}" if biased else "Convolution"
    padded = not same and usage.constant("padding") != 0
    summary = f"{what}, symmetrically padded" if padded else what
    if same:
        summary = f"{what}, with padding that depends on the input size"
    lines = _signature(function, ["filters: int", "kernel_size: int"], usage)
    lines += python.docstring(summary, indent=4)
    fitting = _fitting(usage) if padded else None
    if padded and usage.constant("stride") != 1:
        lines.append('    # With a stride, padding="same" would be asymmetric.')
    same = same or fitting == []
    lines += [f"    same = {' and '.join(fitting)}"] if fitting else []
    lines += [] if same else _zero_padding(usage, unless="same" if fitting else "")
    lines += [*usage.unset("init"), *usage.unset("bias_init")]
    options: dict[str, layout.Code] = {}
    for attribute, keyword, default in (
        ("stride", "strides", 1),
        ("dilation", "dilation_rate", 1),
        ("groups", "groups", 1),
        ("bias", "use_bias", True),
    ):
        if usage.constant(attribute) != default or attribute in usage.varying:
            options[keyword] = usage.python(attribute)
    if same or fitting:
        options["padding"] = '"same"' if same else '"same" if same else "valid"'
    options["kernel_initializer"] = usage.python("init")
    bias = usage.values.get("bias_init")
    if usage.constant("bias") is not False and bias != Initializer("zeros"):
        options["bias_initializer"] = usage.python("bias_init")
    if standardized:
        options["epsilon"] = usage.python("eps")
    options["name"] = "name"
    layer = "StandardizedConv2D" if standardized else "layers.Conv2D"
    made = layout.call(layer, "filters", "kernel_size", **options)
    return [*lines, *layout.statement("return ", made, "(x)", 4)]


def _fitting(usage: Usage) -> list[str] | None:
    """Conditions for "same" to be this padding, which takes no layer then; None: it never is."""
    stride, padding, dilation = (usage.constant(n) for n in ("stride", "padding", "dilation"))
    if stride not in (None, 1):
        return None
    conditions = [] if stride == 1 else ["stride == 1"]
    if isinstance(padding, int) and isinstance(dilation, int):
        kernel, rest = divmod(2 * padding, dilation)
        always = usage.kernels == {Const(kernel + 1)}
        return None if rest else conditions + ([] if always else [f"kernel_size == {kernel + 1}"])
    span = "kernel_size - 1"
    if dilation != 1:
        span = f"{layout.flat(usage.python('dilation'))} * ({span})"
    return [*conditions, f"2 * {layout.flat(usage.python('padding'))} == {span}"]


def _batch_norm(usage: Usage, exact: bool) -> list[str]:
    lines = _signature("batch_norm", [], usage)
    lines += python.docstring("Batch normalisation over each channel", indent=4)
    lines += usage.unset("init")
    options: dict[str, layout.Code] = {
        "momentum": usage.python("momentum"),
        "epsilon": usage.python("eps"),
    }
    if usage.values.get("init") != Initializer("ones"):
        options["gamma_initializer"] = usage.python("init")
    options["name"] = "name"
    layer = "BatchNormalization" if exact else "layers.BatchNormalization"
    return [*lines, *layout.statement("return ", layout.call(layer, **options), "(x)", 4)]


def _pool_options(usage: Usage) -> dict[str, layout.Code]:
    return {"strides": usage.python("stride"), "name": "name"}


def _max_pool(usage: Usage) -> list[str]:
    lines = _signature("max_pool", ["pool_size: int"], usage)
    lines += python.docstring("Max pooling of non-negative values", indent=4)
    lines.append("    # Zero padding never exceeds a non-negative value, just as -inf would not.")
    amount = layout.flat(usage.python("padding"))
    far = _far_padding(usage, amount)
    if far is None:
        lines += _zero_padding(usage)
    else:
        sides = f"(({amount}, {far[1]}), ({amount}, {far[1]}))"
        made = layout.call("layers.ZeroPadding2D", sides, name='f"{name}_pad"')
        lines += [*far[0], *layout.statement("x = ", made, "(x)", 4)]
    return [*lines, *_layer("MaxPooling2D", ["pool_size"], _pool_options(usage))]


def _far_padding(usage: Usage, near: str) -> tuple[list[str], str] | None:
    """Lines before, and the padding below and to the right; None where it is that of the others.

    It holds what a last window that is cut off lacks, and is too short for a window of its own.
    """
    if usage.constant("ceil") is False:
        return None
    stride, padding = usage.constant("stride"), usage.constant("padding")
    lines = ["    # The last window may stick out by up to stride - 1, so pad as much."]
    if isinstance(stride, int) and isinstance(padding, int) and usage.constant("ceil") is True:
        return lines, str(padding + stride - 1)
    far = f"{near} + {layout.flat(usage.python('stride'))} - 1"
    if usage.constant("ceil") is None:
        far += f" if ceil else {near}"
    return [*lines, f"    far = {far}"], "far"


def _spatial(near: str, far: str | None = None) -> str:
    sides = f"({near}, {near if far is None else far})"
    return f"((0, 0), {sides}, {sides}, (0, 0))"


def _max_pool_signed(usage: Usage) -> list[str]:
    amount = layout.flat(usage.python("padding"))
    lines = _signature("max_pool_signed", ["pool_size: int"], usage)
    lines += python.docstring("Max pooling with -inf padding", indent=4)
    far = _far_padding(usage, amount)
    sides = _spatial(amount, far[1] if far is not None else None)
    code = layout.call("ops.pad", "x", sides, constant_values='float("-inf")')
    if far is None:
        lines += _padding(usage, layout.statement("x = ", code))
    else:
        lines += [*far[0], *layout.statement("x = ", code, "", 4)]
    return [*lines, *_layer("MaxPooling2D", ["pool_size"], _pool_options(usage))]


def _avg_pool(usage: Usage) -> list[str]:
    lines = _signature("avg_pool", ["pool_size: int"], usage)
    lines += python.docstring("Average pooling that counts padding as zeros", indent=4)
    lines += _zero_padding(usage)
    return [*lines, *_layer("AveragePooling2D", ["pool_size"], _pool_options(usage))]


def _blur_pool(usage: Usage) -> list[str]:
    reflected = layout.call("ops.pad", "x", _spatial("1"), mode='"reflect"')
    first = layout.call("layers.AveragePooling2D", "2", strides="1", name='f"{name}_blur"')
    lines = _signature("blur_pool", [], usage)
    lines += python.docstring("Blur by (1, 2, 1) / 4, then subsample by the stride", indent=4)
    lines += layout.statement("x = ", reflected, "", 4)
    lines.append("    # Averaging two neighbours twice is the filter (1, 2, 1) / 4.")
    lines += layout.statement("x = ", first, "(x)", 4)
    return [*lines, *_layer("AveragePooling2D", ["2"], _pool_options(usage))]


def _channel_conv(usage: Usage) -> list[str]:
    lines = _signature("channel_conv", ["kernel_size: int"], usage)
    lines += python.docstring("1-D convolution along the channels of a 1x1 map", indent=4)
    lines += usage.unset("init")
    lines.append("    channels = x.shape[-1]")
    lines.append('    x = layers.Reshape((channels, 1), name=f"{name}_in")(x)')
    options: dict[str, layout.Code] = {
        "padding": '"same"',
        "use_bias": "False",
        "kernel_initializer": usage.python("init"),
        "name": "name",
    }
    made = layout.call("layers.Conv1D", "1", "kernel_size", **options)
    lines += layout.statement("x = ", made, "(x)", 4)
    return [*lines, '    return layers.Reshape((1, 1, channels), name=f"{name}_out")(x)']


_WRITERS = {
    "max_pool": _max_pool,
    "max_pool_signed": _max_pool_signed,
    "avg_pool": _avg_pool,
    "blur_pool": _blur_pool,
    "channel_conv": _channel_conv,
}
