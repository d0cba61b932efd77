"""Options that most layers of one kind share are written once, above all classes of a module:

    conv = partial(nnx.Conv, use_bias=False, kernel_init=…)
    batch_norm = partial(nnx.BatchNorm, momentum=0.9)

as in Flax's own ImageNet example. A layer that differs states its options where it is constructed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from resnet_spec.codegen import layout
from resnet_spec.codegen.layout import Code, call
from resnet_spec.codegen.operation import counted, grouped, initializer_of, kept
from resnet_spec.expressions import Const, Expr, to_python
from resnet_spec.primitives import Initializer
from resnet_spec.specialize import OperationLine


class Standardized(NamedTuple):
    """The convolution of filters of mean 0 and variance 1."""

    eps: Expr


Option = Expr | Initializer | Standardized | None

ZEROS, ONES = Initializer("zeros"), Initializer("ones")
PLAIN = None  # the convolution that `nnx.Conv` does by itself
SAID = Initializer("")  # no option's value, so it is always said: nobody means Flax's own draw

# primitive: the class of its layer, and for each of its options the attribute that it is and what
# it is if nothing is said. A constructor with some arguments is called as its primitive.
_WEIGHTS: Mapping[str, tuple[str, Option]] = {
    "use_bias": ("bias", Const(True)),
    "kernel_init": ("init", SAID),
    "bias_init": ("bias_init", ZEROS),
}
_NORM: Mapping[str, tuple[str, Option]] = {
    "epsilon": ("eps", Const(1e-5)),
    "scale_init": ("init", ONES),
}
CLASSES: dict[str, tuple[str, Mapping[str, tuple[str, Option]]]] = {
    "conv": ("nnx.Conv", {**_WEIGHTS, "conv_general_dilated": ("standardize", PLAIN)}),
    "linear": ("nnx.Linear", _WEIGHTS),
    "batch_norm": (
        "nnx.BatchNorm",
        {"momentum": ("momentum", Const(0.99)), **_NORM, "use_fast_variance": ("", Const(True))},
    ),
    "group_norm": ("nnx.GroupNorm", {**_NORM, "epsilon": ("eps", Const(1e-6))}),
    "filter_response_norm": ("FilterResponseNorm", _NORM),
    "evo_norm": ("EvoNorm", _NORM),
    "channel_conv": ("ChannelConv", {"kernel_init": ("init", SAID)}),
    "learned_scale": ("LearnedScale", {"scale_init": ("init", ONES)}),
    "learned_shift": ("LearnedShift", {"bias_init": ("init", ZEROS)}),
}


def options(line: OperationLine, exact: bool) -> dict[str, Option]:
    """All options of a layer, by Flax's names; those of a bias only where it has one."""
    unbiased = line.attributes.get("bias") == Const(False)
    return {
        name: _option(line, name, attribute, exact)
        for name, (attribute, _) in CLASSES[line.primitive.name][1].items()
        if not (name == "bias_init" and unbiased)
    }


def _option(line: OperationLine, name: str, attribute: str, exact: bool) -> Option:
    if name == "use_fast_variance":
        return Const(not exact)
    value = line.attributes[attribute]
    assert not isinstance(value, str)
    match name:
        case "momentum":
            assert isinstance(value, Expr)
            return kept(value)
        case "conv_general_dilated":
            eps = line.attributes["eps"]
            assert isinstance(eps, Expr)
            return Standardized(eps) if value == Const(True) else PLAIN
    return value


class Shared(NamedTuple):
    """What makes the layers of one primitive, and the options that it states itself."""

    function: str
    stated: Mapping[str, Option]
    usual: Mapping[str, Option]

    def of(self, line: OperationLine, exact: bool) -> dict[str, Option]:
        """The options that a layer has to state."""
        without = {**self.usual, **self.stated}
        return {
            name: value
            for name, value in options(line, exact).items()
            if name not in without or value != without[name]
        }

    def definition(self, base: str) -> list[str]:
        """The statement that makes it; none where nothing is shared."""
        if not self.stated:
            return []
        arguments = {name: option(value, {}) for name, value in self.stated.items()}
        return layout.statement(f"{self.function} = ", call("partial", base, **arguments))


def class_of(primitive: str, exact: bool) -> str:
    """The class of a primitive's layer."""
    own = exact and primitive == "batch_norm"
    return "BatchNorm" if own else CLASSES[primitive][0]


def collect(lines: Iterable[OperationLine], exact: bool) -> dict[str, Shared]:
    """For each primitive, what most of its layers have in common and Flax does not do by itself."""
    found = grouped(lines, lambda line: line.primitive.name)
    shared = {}
    for name in CLASSES:
        each = found.get(name, [])
        usual = {option: value for option, (_, value) in CLASSES[name][1].items()}
        common = _common(each, usual, exact) if len(each) > 1 else {}
        shared[name] = Shared(name if common else class_of(name, exact), common, usual)
    return shared


def _common(
    lines: list[OperationLine], usual: Mapping[str, Option], exact: bool
) -> dict[str, Option]:
    counts = counted(pair for line in lines for pair in options(line, exact).items())
    common: dict[str, Option] = {}
    for name, counter in counts.items():
        value, often = counter.most_common(1)[0]
        varies = isinstance(value, Expr) and not isinstance(value, Const)
        said = name not in usual or value != usual[name]
        if often > 1 and said and not varies and not _holds_names(value):
            common[name] = value
    return common


def _holds_names(value: Option) -> bool:
    return isinstance(value, Standardized) and not isinstance(value.eps, Const)


def definitions(shared: Mapping[str, Shared], exact: bool) -> list[str]:
    """The statements that make all of them."""
    return [
        line
        for primitive, each in shared.items()
        for line in each.definition(class_of(primitive, exact))
    ]


# --- text ----------------------------------------------------------------------------------------

_SCALING = "nnx.initializers.variance_scaling"
# Flax's own `he_normal` is a truncated one.
INITIALIZERS = {
    "zeros": "nnx.initializers.zeros",
    "ones": "nnx.initializers.ones",
    "constant": "nnx.initializers.constant({value})",
    "normal": "nnx.initializers.normal({value})",
    "fan_in_normal": f'{_SCALING}({{value}}, "fan_in", "normal")',
    "fan_out_normal": f'{_SCALING}({{value}}, "fan_out", "normal")',
    "he_normal": f'{_SCALING}(2.0, {{value}}, "normal")',
    "he_uniform": f'{_SCALING}(2.0, {{value}}, "uniform")',
    "lecun_uniform": f'{_SCALING}(1 / 3, {{value}}, "uniform")',
}


def option(value: Option, spelling: Mapping[str, str]) -> Code:
    """An option as Python."""
    match value:
        case Initializer():
            return initializer_of(INITIALIZERS, value)
        case Standardized(eps):
            if eps == Const(1e-6):
                return "standardized_conv"
            return call("partial", "standardized_conv", epsilon=to_python(eps, spelling))
        case None:
            return "lax.conv_general_dilated"
        case _:
            return to_python(value, spelling)
