"""The small functions at the top of a Keras module, specialised to what the network uses.

An option with the same value everywhere is written into the function; one that varies is a keyword.
Its default is the usual default of PyTorch and Keras, or else the most frequent value.
"""

from __future__ import annotations

from ast import literal_eval
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

from resnet_spec.backends.keras.primitives import KEYWORDS, helper_of, initializer, option
from resnet_spec.codegen import layout, patterns, python
from resnet_spec.expressions import Const
from resnet_spec.primitives import Initializer
from resnet_spec.specialize import OperationLine

Constant = Const | Initializer

# Each function: its parameters, with the attributes that may vary behind the `*`, and its lines in
# the patterns of resnet_spec/codegen/patterns.py. A line of one word is a part, written below.
_CONV = """\
x: KerasTensor, filters: int, kernel_size: int, *, stride: int, padding: int, dilation: int, \
groups: int, bias: bool, init: Initializer, bias_init: Initializer
\"\"\"Convolution{biased}{padded}.\"\"\"
{same}
{pad}
{unset}
return layers.Conv2D(filters, kernel_size, strides={stride?1}, dilation_rate={dilation?1}, \
groups={groups?1}, use_bias={bias?True}, padding={mode?valid}, kernel_initializer={init}, \
bias_initializer={bias_init?zeros}, name=name)(x)"""
_STANDARDIZED = (
    _CONV.replace("layers.Conv2D", "StandardizedConv2D")
    .replace("bias_init: Initializer", "bias_init: Initializer, eps: float")
    .replace(", name=name", ", epsilon={eps}, name=name")
)

TEXTS = {
    "conv2d": _CONV,
    "conv2d_same": _CONV.replace(" padding: int,", ""),
    "standardized_conv2d": _STANDARDIZED,
    "standardized_conv2d_same": _STANDARDIZED.replace(" padding: int,", ""),
    "batch_norm": """\
x: KerasTensor, *, eps: float, momentum: float, init: Initializer
\"\"\"Batch normalisation over each channel.\"\"\"
{unset}
return layers.BatchNormalization(momentum={momentum}, epsilon={eps}, \
gamma_initializer={init?ones}, name=name)(x)""",
    "max_pool": """\
x: KerasTensor, pool_size: int, *, stride: int, padding: int, ceil: bool
\"\"\"Max pooling of non-negative values.\"\"\"
# Zero padding never exceeds a non-negative value, just as -inf would not.
{pad}
return layers.MaxPooling2D(pool_size, strides={stride}, name=name)(x)""",
    "max_pool_signed": """\
x: KerasTensor, pool_size: int, *, stride: int, padding: int, ceil: bool
\"\"\"Max pooling with -inf padding.\"\"\"
{pad}
return layers.MaxPooling2D(pool_size, strides={stride}, name=name)(x)""",
    "avg_pool": """\
x: KerasTensor, pool_size: int, *, stride: int, padding: int
\"\"\"Average pooling that counts padding as zeros.\"\"\"
{pad}
return layers.AveragePooling2D(pool_size, strides={stride}, name=name)(x)""",
    "blur_pool": """\
x: KerasTensor, *, stride: int
\"\"\"Blur by (1, 2, 1) / 4, then subsample by the stride.\"\"\"
x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
# Averaging two neighbours twice is the filter (1, 2, 1) / 4.
x = layers.AveragePooling2D(2, strides=1, name=f"{name}_blur")(x)
return layers.AveragePooling2D(2, strides={stride}, name=name)(x)""",
    "channel_conv": """\
x: KerasTensor, kernel_size: int, *, init: Initializer
\"\"\"1-D convolution along the channels of a 1x1 map.\"\"\"
{unset}
channels = x.shape[-1]
x = layers.Reshape((channels, 1), name=f"{name}_in")(x)
x = layers.Conv1D(1, kernel_size, padding="same", use_bias=False, \
kernel_initializer={init}, name=name)(x)
return layers.Reshape((1, 1, channels), name=f"{name}_out")(x)""",
}

# What says nothing, so a call without it reads as it does in both frameworks.
_NEUTRAL = {
    "stride": Const(1),
    "padding": Const(0),
    "dilation": Const(1),
    "groups": Const(1),
    "ceil": Const(False),
}


def collect(lines: Iterable[OperationLine]) -> dict[str, Usage]:
    """The helper functions that the lines call."""
    found: dict[str, list[OperationLine]] = {}
    for line in lines:
        if name := helper_of(line):
            found.setdefault(name, []).append(line)
    return {name: Usage(name, each) for name, each in found.items()}


class Usage:
    """How one helper function is used: the options that never vary, and defaults of the others."""

    def __init__(self, name: str, lines: Sequence[OperationLine]) -> None:
        parameters, *self.lines = TEXTS[name].split("\n")
        positional, options = parameters.split(", *, " if ", *, " in parameters else "*, ")
        self.name = name
        self.positional = positional.split(", ")
        self.types = dict(each.split(": ") for each in options.split(", "))
        self.values: dict[str, Constant] = {}
        self.varying: dict[str, Constant] = {}
        self.kernels = {line.attributes.get("kernel") for line in lines}
        biased = [line for line in lines if line.attributes.get("bias") != Const(False)]
        for each in self.types:
            used = biased or lines if each == "bias_init" else lines
            given = [line.attributes[each] for line in used]
            counts = Counter(v for v in given if isinstance(v, Const | Initializer))
            usual = counts.most_common(1)[0][0] if counts else Const(1)
            if len(set(given)) == 1 and counts:
                self.values[each] = usual
            else:
                self.varying[each] = _NEUTRAL.get(each, usual)

    def write(self, exact: bool) -> list[str]:
        """The source of the function; `exact`: with every number as PyTorch has it."""
        parts = {"{same}": self.same, "{pad}": self.pad, "{unset}": self.unset}
        parameters = [*self.positional, "*", *self.options(), "name: str"]
        text = python.signature(f"def {self.name}", parameters, " -> KerasTensor:")
        for line in self.lines:
            own = line.replace("layers.Batch", "Batch") if exact else line
            part = parts.get(line)
            written = part() if part else [patterns.filled(own, self.get, self.is_default)]
            text += [each for one in written for each in patterns.statement(one, 4)]
        return text

    def constant(self, name: str) -> object:
        """An option's value where it never varies, else None."""
        value = self.values.get(name)
        return value.value if isinstance(value, Const) else value

    def text(self, name: str) -> str:
        """An option within the function: a literal, or the name of the parameter."""
        value = self.values.get(name)
        return KEYWORDS.get(name, name) if value is None else layout.flat(option(name, value, {}))

    # - what the patterns name -

    def get(self, name: str) -> str:
        """An option, or what else a pattern may name."""
        match name:
            case "name":
                return "{name}"  # of an f-string
            case "biased":
                kept = {True: " with a bias", False: " without a bias"}
                return kept.get(self.constant("bias"), "")  # type: ignore[call-overload, no-any-return]
            case "padded":
                if self.by_size:
                    return ", with padding that depends on the input size"
                return ", symmetrically padded" if self.pads else ""
            case "mode":
                return '"same" if same else "valid"' if self.fitting else '"same"'
        return self.text(name)

    def is_default(self, name: str, default: str) -> bool:
        """Whether an option has the default value of its layer."""
        if name == "mode":
            return not self.by_size and self.fitting is None
        if name == "bias_init" and self.constant("bias") is False:
            return True
        value = self.values.get(name)
        if isinstance(value, Initializer):
            return value == Initializer(default)
        return value is not None and value.value == literal_eval(default)

    @property
    def by_size(self) -> bool:
        """Whether padding depends on the size of the input."""
        return self.name.endswith("_same")

    @property
    def pads(self) -> bool:
        """Whether there is an amount of padding."""
        return not self.by_size and self.constant("padding") != 0

    @cached_property
    def fitting(self) -> list[str] | None:
        """Conditions for "same" to be this padding, so that no layer pads; None: it never is."""
        stride, padding, dilation = (self.constant(n) for n in ("stride", "padding", "dilation"))
        if not (self.pads and "dilation" in self.types and stride in (None, 1)):
            return None
        conditions = [] if stride == 1 else ["stride == 1"]
        if isinstance(padding, int) and isinstance(dilation, int):
            kernel, rest = divmod(2 * padding, dilation)
            always = self.kernels == {Const(kernel + 1)}
            unsure = [] if always else [f"kernel_size == {kernel + 1}"]
            return None if rest else conditions + unsure
        span = "kernel_size - 1"
        if dilation != 1:
            span = f"{self.text('dilation')} * ({span})"
        return [*conditions, f"2 * {self.text('padding')} == {span}"]

    # - parts of a function -

    def options(self) -> list[str]:
        """Its parameters for what varies."""
        return [self.option(name, default) for name, default in self.varying.items()]

    def option(self, name: str, default: Constant) -> str:
        if not isinstance(default, Initializer):
            usual = layout.flat(option(name, default, {}))
            return f"{KEYWORDS.get(name, name)}: {self.types[name]} = {usual}"
        if default.kind in ("zeros", "ones"):
            return f'{name}: str | initializers.Initializer = "{default.kind}"'
        return f"{name}: initializers.Initializer | None = None"

    def unset(self) -> list[str]:
        """The lines that give initializers their defaults, which no signature may share."""
        lines = []
        for name, default in self.varying.items():
            if isinstance(default, Initializer) and default.kind not in ("zeros", "ones"):
                lines += [
                    f"if {name} is None:",
                    f"    {name} = {layout.flat(initializer(default))}",
                ]
        return lines

    def same(self) -> list[str]:
        """The lines that tell whether "same" is the padding of a convolution."""
        lines = []
        if self.pads and self.constant("stride") != 1:
            lines.append('# With a stride, padding="same" would be asymmetric.')
        return lines + ([f"same = {' and '.join(self.fitting)}"] if self.fitting else [])

    def pad(self) -> list[str]:
        """The lines that pad, under a condition where the amount varies or "same" may do."""
        near = self.text("padding")
        lines, far = self.far_padding(near)
        if not lines and (not self.pads or self.fitting == []):
            return []
        sides = near if far == near else f"(({near}, {far}), ({near}, {far}))"
        pad = f'x = layers.ZeroPadding2D({sides}, name=f"{{name}}_pad")(x)'
        if self.name == "max_pool_signed":
            sides = f"({near}, {far}), ({near}, {far})"
            pad = f'x = ops.pad(x, ((0, 0), {sides}, (0, 0)), constant_values=float("-inf"))'
        conditions = ["padding > 0"] if self.constant("padding") is None and not lines else []
        conditions += ["not same"] if self.fitting else []
        if conditions:
            return [*lines, f"if {' and '.join(conditions)}:", f"    {pad}"]
        return [*lines, pad]

    def far_padding(self, near: str) -> tuple[list[str], str]:
        """Lines before, and the padding below and to the right.

        It holds what a last window that is cut off lacks, and is too short for a window of its own.
        """
        stride, padding, ceil = (self.constant(name) for name in ("stride", "padding", "ceil"))
        if ceil is False or "ceil" not in self.types:
            return [], near
        lines = ["# The last window may stick out by up to stride - 1, so pad as much."]
        if isinstance(stride, int) and isinstance(padding, int) and ceil is True:
            return lines, str(padding + stride - 1)
        far = f"{near} + {self.text('stride')} - 1"
        return [*lines, f"far = {far}{f' if ceil else {near}' if ceil is None else ''}"], "far"
