"""The primitive operations: one record each, read by everything else.

A record holds the attributes that a spec may give, the rule for the output's shape, the parameters
with their shapes, and the multiply-adds. Validation, the language reference, the JSON Schema,
inference and the backends all read these records; how a primitive is written in a framework is
the backend's part alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

from resnet_spec.expr import Expr, Number


class ShapeError(Exception):
    """An operation that can't take what it is given."""

    def __init__(self, code: str, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.help = code, message, help


@dataclass(frozen=True, slots=True)
class Shape:
    """One value without the batch: a feature map (channels, height, width) or a vector.

    `open` tells that the number of channels follows from an argument of the generated model (the
    number of classes or of input channels), so that no generated code may rely on it.
    """

    channels: int
    height: int | None = None
    width: int | None = None
    open: bool = False

    @property
    def is_map(self) -> bool:
        return self.height is not None

    @property
    def elements(self) -> int:
        return self.channels * (self.height or 1) * (self.width or 1)

    def __str__(self) -> str:
        return "x".join(map(str, self.dimensions))

    @property
    def dimensions(self) -> tuple[int, ...]:
        if self.height is None or self.width is None:
            return (self.channels,)
        return (self.channels, self.height, self.width)


class Initializer(NamedTuple):
    """How a parameter begins: `he_normal` with a fan, `normal` with a standard deviation, …"""

    kind: str
    value: float | str | None = None

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}({self.value})"


# kind: (its value: None, a number or the fans, the default of the value, what it means)
INITIALIZERS: dict[str, tuple[Literal["none", "number", "fan"], float | str | None, str]] = {
    "zeros": ("none", None, "all zero"),
    "ones": ("none", None, "all one"),
    "constant": ("number", 0.0, "one value"),
    "normal": ("number", 0.01, "normal, mean 0, with this standard deviation"),
    "he_normal": ("fan", "fan_out", "normal, mean 0, variance 2 / fan (He et al. 2015, eq. 10)"),
    "he_uniform": ("fan", "fan_in", "uniform, mean 0, variance 2 / fan"),
    "lecun_uniform": ("fan", "fan_in", "uniform, mean 0, variance 1 / (3 fan): torch.nn's default"),
}
FANS = ("fan_in", "fan_out")

Attributes = Any  # a namespace: numbers while shapes are inferred, `Expr` while code is emitted
Channels = int | Expr


class Attribute(NamedTuple):
    """Something that a layer states; `default` is a number or an expression over attributes."""

    name: str
    type: Literal["int", "float", "bool", "init"]
    description: str
    default: Number | str | Initializer | None = None
    minimum: float | None = None
    maximum: float | None = None

    @property
    def required(self) -> bool:
        return self.default is None


class Parameter(NamedTuple):
    """A tensor that an operation owns; `shape` in PyTorch's order of axes."""

    name: str
    shape: tuple[int, ...]
    trainable: bool
    initializer: Initializer

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def _same_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]


def _first_channels(attributes: Attributes, channels: Sequence[Channels]) -> Channels:
    return channels[0]


def _no_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    return ()


def _no_work(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Primitive:
    """One operation that every backend knows how to write.

    `shape` raises `ShapeError`; `channels` is the rule for the channels alone and also works on
    expressions. `joins` tells that the output has the channels of all inputs. `window` names the attributes of a sliding window (kernel, stride, dilation) for
    the receptive field; `nonnegative` tells that no output is below zero. `group` tells the role
    in the rhythm of a block, for blank lines.
    """

    name: str
    description: str
    attributes: tuple[Attribute, ...] = ()
    takes: Literal["one", "many"] = "one"
    gives: Literal["one", "many"] = "one"
    needs: Literal["map", "vector", "any"] = "any"
    shape: Callable[[Attributes, Sequence[Shape]], Shape] = _same_shape
    channels: Callable[[Attributes, Sequence[Channels]], Channels] = _first_channels
    parameters: Callable[[Attributes, Sequence[Shape]], tuple[Parameter, ...]] = _no_parameters
    macs: Callable[[Attributes, Sequence[Shape], Shape], int] = _no_work
    joins: bool = False
    window: bool = False
    nonnegative: bool = False
    group: Literal["weights", "norm", "activation", "merge", "other"] = "other"

    def attribute(self, name: str) -> Attribute | None:
        return next((a for a in self.attributes if a.name == name), None)

    def infer(self, attributes: Mapping[str, Any], inputs: Sequence[Shape]) -> Shape:
        """The output's shape; raises `ShapeError` where the inputs don't fit."""
        for given in inputs:
            self._check_rank(given)
        output = self.shape(SimpleNamespace(**attributes), inputs)
        if min(output.dimensions) < 1:
            raise ShapeError("RS403", f"nothing would be left: the output is {output}")
        return output

    def _check_rank(self, given: Shape) -> None:
        if self.needs == "map" and not given.is_map:
            raise ShapeError(
                "RS404",
                f"'{self.name}' needs a feature map, but its input is a vector of {given.channels}",
                help="move it before the pooling or the flattening",
            )
        if self.needs == "vector" and given.is_map:
            raise ShapeError(
                "RS404",
                f"'{self.name}' needs a vector, but its input is a {given} map",
                help="put a global_avg_pool before it",
            )


# --- shapes --------------------------------------------------------------------------------------


def _window(attributes: Attributes, given: Shape, dilation: int = 1, ceil: bool = False) -> Shape:
    """Height and width after a sliding window, as PyTorch computes them."""
    extent = dilation * (attributes.kernel - 1) + 1
    sizes = []
    for size in (given.height or 0, given.width or 0):
        room = size + 2 * attributes.padding - extent
        if room < 0:
            raise ShapeError(
                "RS403",
                f"the {attributes.kernel}x{attributes.kernel} window"
                f"{f' with dilation {dilation}' if dilation > 1 else ''} does not fit into the "
                f"{given.height}x{given.width} map"
                f"{f' padded by {attributes.padding}' if attributes.padding else ''}",
                help="use fewer strides, a smaller kernel, more padding or a larger input",
            )
        sizes.append(-(-room // attributes.stride) + 1 if ceil else room // attributes.stride + 1)
    return replace(given, height=sizes[0], width=sizes[1])


def _conv_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    groups = attributes.groups
    for number, what in ((inputs[0].channels, "input channels"), (attributes.filters, "filters")):
        if number % groups:
            below = number // groups * groups
            near = f"{below} or {below + groups}" if below else f"{groups}"
            raise ShapeError(
                "RS104",
                f"{number} {what} are not divisible by {groups} groups",
                help=f"use a multiple of {groups}: {near}",
            )
    given = _window(attributes, inputs[0], attributes.dilation)
    return replace(given, channels=attributes.filters, open=False)


def _pool_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    if 2 * attributes.padding > attributes.kernel:
        raise ShapeError(
            "RS403",
            f"padding {attributes.padding} is more than half of the kernel {attributes.kernel}",
            help=f"use at most {attributes.kernel // 2}",
        )
    ceil = bool(getattr(attributes, "ceil", False))
    if ceil and (attributes.stride != attributes.kernel or attributes.padding):
        raise ShapeError(
            "RS502",
            "'ceil: true' is the same in every framework only when stride equals kernel and "
            "nothing is padded",
            help="set stride to the kernel and padding to 0, or leave 'ceil' out",
        )
    return _window(attributes, inputs[0], ceil=ceil)


def _global_pool_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    size = 1 if attributes.keep_map else None
    return replace(inputs[0], height=size, width=size)


def _linear_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return Shape(attributes.features)


def _equal_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    for other in inputs[1:]:
        if other.dimensions != inputs[0].dimensions:
            shapes = " and ".join(str(shape) for shape in inputs)
            raise ShapeError(
                "RS401",
                f"the inputs have different shapes: {shapes}",
                help="give the shortcut the same stride and filters as the residual",
            )
    return replace(inputs[0], open=any(shape.open for shape in inputs))


def _broadcast_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    largest = inputs[0]
    for other in inputs[1:]:
        fits = other.dimensions == largest.dimensions or (
            other.is_map
            and other.channels in (1, largest.channels)
            and (other.height, other.width) in ((1, 1), (largest.height, largest.width))
        )
        if not fits:
            raise ShapeError(
                "RS401",
                f"a {other} value can't scale a {largest} map",
                help=f"it must be {largest}, {largest.channels}x1x1 or 1x{largest.height}x"
                f"{largest.width}; 'keep_map: true' keeps a pooled value a map",
            )
    return largest


def _concat_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    for other in inputs[1:]:
        if (other.height, other.width) != (inputs[0].height, inputs[0].width):
            shapes = " and ".join(str(shape) for shape in inputs)
            raise ShapeError(
                "RS402",
                f"the inputs differ in height or width: {shapes}",
                help="give all branches the same stride",
            )
    channels = sum(shape.channels for shape in inputs)
    return replace(inputs[0], channels=channels, open=any(shape.open for shape in inputs))


def _sum_channels(attributes: Attributes, channels: Sequence[Channels]) -> Channels:
    total: Any = 0
    for each in channels:
        total = each + total if isinstance(total, int) and total == 0 else total + each
    return total


def _split_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return _divided(inputs[0], attributes.parts, "parts")


def _divided(given: Shape, number: int, what: str) -> Shape:
    if given.channels % number:
        raise ShapeError(
            "RS405",
            f"{given.channels} channels can't be divided into {number} equal {what}",
            help=f"use a number that divides {given.channels}",
        )
    return replace(given, channels=given.channels // number)


def _grouped_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    _divided(inputs[0], attributes.groups, "groups")
    return inputs[0]


def _shuffle_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    _divided(inputs[0], attributes.groups * attributes.parts, "groups x parts")
    return inputs[0]


def _padded_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return replace(
        inputs[0], channels=inputs[0].channels + attributes.before + attributes.after
    )


def _subsampled_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    height, width = inputs[0].height or 0, inputs[0].width or 0
    step = attributes.stride
    return replace(inputs[0], height=-(-height // step), width=-(-width // step))


# --- parameters and work -------------------------------------------------------------------------

_ZEROS = Initializer("zeros")


def _conv_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    kernel = attributes.kernel
    shape = (attributes.filters, inputs[0].channels // attributes.groups, kernel, kernel)
    weight = Parameter("weight", shape, True, attributes.init)
    if not attributes.bias:
        return (weight,)
    return (weight, Parameter("bias", shape[:1], True, attributes.bias_init))


def _conv_macs(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return output.elements * inputs[0].channels // attributes.groups * attributes.kernel**2


def _linear_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    shape = (attributes.features, inputs[0].channels)
    weight = Parameter("weight", shape, True, attributes.init)
    if not attributes.bias:
        return (weight,)
    return (weight, Parameter("bias", shape[:1], True, attributes.bias_init))


def _linear_macs(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return inputs[0].channels * output.channels


def _affine(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    shape = (inputs[0].channels,)
    return (
        Parameter("weight", shape, True, attributes.init),
        Parameter("bias", shape, True, _ZEROS),
    )


def _batch_norm_parameters(
    attributes: Attributes, inputs: Sequence[Shape]
) -> tuple[Parameter, ...]:
    shape = (inputs[0].channels,)
    return (
        *_affine(attributes, inputs),
        Parameter("running_mean", shape, False, _ZEROS),
        Parameter("running_var", shape, False, Initializer("ones")),
    )


# --- the table -----------------------------------------------------------------------------------

_STRIDE = Attribute("stride", "int", "step of the window", 1, minimum=1)
_KERNEL = Attribute("kernel", "int", "height and width of the window", minimum=1)
_POOL_STRIDE = Attribute("stride", "int", "step of the window", "kernel", minimum=1)
_BIAS_INIT = Attribute("bias_init", "init", "how the bias begins", _ZEROS)
_POOL_PADDING = Attribute(
    "padding", "int", "rows and columns added on every side", "(kernel - 1) // 2", minimum=0
)
_EPS = Attribute("eps", "float", "added to the variance", 1e-5, minimum=0)
_NORM_INIT = Attribute("init", "init", "how the scale (gamma) begins", Initializer("ones"))


def _activation(
    name: str, description: str, *attributes: Attribute, nonnegative: bool = False
) -> Primitive:
    return Primitive(
        name, description, attributes, group="activation", nonnegative=nonnegative
    )


_TABLE = (
    Primitive(
        "conv",
        "2-D convolution (cross-correlation), padded with zeros by a number of rows and columns",
        (
            Attribute("filters", "int", "number of output channels", minimum=1),
            _KERNEL,
            _STRIDE,
            Attribute(
                "padding",
                "int",
                "rows and columns of zeros added on every side",
                "(kernel - 1) // 2 * dilation",
                minimum=0,
            ),
            Attribute("dilation", "int", "distance between the window's taps", 1, minimum=1),
            Attribute("groups", "int", "groups that see only their own channels", 1, minimum=1),
            Attribute("bias", "bool", "add a learned bias", default=False),
            Attribute("init", "init", "how the kernel begins", Initializer("he_normal", "fan_out")),
            _BIAS_INIT,
        ),
        needs="map",
        shape=_conv_shape,
        channels=lambda attributes, channels: attributes.filters,
        parameters=_conv_parameters,
        macs=_conv_macs,
        window=True,
        group="weights",
    ),
    Primitive(
        "linear",
        "fully connected layer on a vector",
        (
            Attribute("features", "int", "number of outputs", minimum=1),
            Attribute("bias", "bool", "add a learned bias", default=True),
            Attribute("init", "init", "how the weight begins", Initializer("normal", 0.01)),
            _BIAS_INIT,
        ),
        needs="vector",
        shape=_linear_shape,
        channels=lambda attributes, channels: attributes.features,
        parameters=_linear_parameters,
        macs=_linear_macs,
        group="weights",
    ),
    Primitive(
        "batch_norm",
        "batch normalisation over each channel (Ioffe and Szegedy 2015)",
        (
            _EPS,
            Attribute(
                "momentum", "float", "weight of the new statistics, as in PyTorch", 0.1, 0, 1
            ),
            _NORM_INIT,
        ),
        parameters=_batch_norm_parameters,
        group="norm",
    ),
    Primitive(
        "group_norm",
        "group normalisation (Wu and He 2018)",
        (Attribute("groups", "int", "number of groups", 32, minimum=1), _EPS, _NORM_INIT),
        needs="map",
        shape=_grouped_shape,
        parameters=_affine,
        group="norm",
    ),
    _activation("relu", "max(x, 0)", nonnegative=True),
    _activation(
        "leaky_relu",
        "x where positive, else slope * x",
        Attribute("slope", "float", "factor of negative values", 0.01, minimum=0),
    ),
    _activation("silu", "x * sigmoid(x), also called swish"),
    _activation("gelu", "x * Phi(x), the exact form"),
    _activation("sigmoid", "1 / (1 + exp(-x))", nonnegative=True),
    _activation("hard_sigmoid", "min(max(x + 3, 0), 6) / 6", nonnegative=True),
    _activation("tanh", "hyperbolic tangent"),
    Primitive(
        "softmax",
        "softmax over the channels; with groups, across the groups at each place within them",
        (
            Attribute(
                "groups", "int", "0: over all channels; else across this many groups", 0, minimum=0
            ),
        ),
        shape=lambda attributes, inputs: (
            _grouped_shape(attributes, inputs) if attributes.groups else inputs[0]
        ),
        group="activation",
    ),
    Primitive(
        "max_pool",
        "largest value of a window; padding never wins",
        (_KERNEL, _POOL_STRIDE, _POOL_PADDING),
        needs="map",
        shape=_pool_shape,
        window=True,
    ),
    Primitive(
        "avg_pool",
        "mean of a window; padding counts as zeros",
        (
            _KERNEL,
            _POOL_STRIDE,
            _POOL_PADDING,
            Attribute("ceil", "bool", "keep a last window that is cut off", default=False),
        ),
        needs="map",
        shape=_pool_shape,
        window=True,
    ),
    Primitive(
        "global_avg_pool",
        "mean over height and width",
        (
            Attribute(
                "keep_map", "bool", "give a 1x1 map instead of a vector", default=False
            ),
        ),
        needs="map",
        shape=_global_pool_shape,
    ),
    Primitive(
        "add", "sum of values of equal shape", takes="many", shape=_equal_shape, group="merge"
    ),
    Primitive(
        "multiply",
        "the first input scaled by the others; a 1x1 map or a single channel scales all of it",
        takes="many",
        shape=_broadcast_shape,
        group="merge",
    ),
    Primitive(
        "concat",
        "all channels of the inputs, in their order",
        takes="many",
        shape=_concat_shape,
        channels=_sum_channels,
        joins=True,
        group="merge",
    ),
    Primitive(
        "split",
        "equal parts of the channels, in order; `as: part` names them part.{0}, part.{1}, …",
        (Attribute("parts", "int", "number of parts", minimum=1),),
        gives="many",
        shape=_split_shape,
        channels=lambda attributes, channels: channels[0] // attributes.parts,
    ),
    Primitive(
        "shuffle",
        "channels seen as groups x parts x rest become parts x groups x rest",
        (
            Attribute("groups", "int", "the outer number before", minimum=1),
            Attribute("parts", "int", "the outer number after", minimum=1),
        ),
        shape=_shuffle_shape,
    ),
    Primitive(
        "pad_channels",
        "channels of zeros before and after the input's own",
        (
            Attribute("before", "int", "channels of zeros in front", 0, minimum=0),
            Attribute("after", "int", "channels of zeros behind", 0, minimum=0),
        ),
        needs="map",
        shape=_padded_shape,
        channels=lambda attributes, channels: (
            channels[0] + (attributes.before + attributes.after)
        ),
    ),
    Primitive(
        "subsample",
        "every n-th row and column, from the first",
        (Attribute("stride", "int", "n", minimum=1),),
        needs="map",
        shape=_subsampled_shape,
    ),
    Primitive(
        "dropout",
        "zeroes values at random in training and scales the rest (Srivastava et al. 2014)",
        (Attribute("rate", "float", "probability of a zero", minimum=0, maximum=0.999),),
    ),
    Primitive(
        "drop_path",
        "zeroes whole samples at random in training and scales the rest (Huang et al. 2016)",
        (Attribute("rate", "float", "probability of a zero", minimum=0, maximum=0.999),),
        needs="map",
    ),
    Primitive("identity", "the input as it is; gives a value a second name"),
)

PRIMITIVES: dict[str, Primitive] = {primitive.name: primitive for primitive in _TABLE}

# Slots that every block has and hands down to the blocks within it.
ROLES = {"norm": "batch_norm", "act": "relu"}
