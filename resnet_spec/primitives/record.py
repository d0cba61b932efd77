"""What the record of a primitive operation is made of.

A record holds the attributes that a spec may give, the rule for the output's shape, the parameters
with their shapes, and the multiply-adds. Validation, the language reference, the JSON Schema,
inference and the backends all read these records; how a primitive is written in a framework is
the backend's part alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from resnet_spec.expressions import Expr, Number


class ShapeError(Exception):
    """The inputs or attributes do not fit the operation; `about` names these attributes."""

    def __init__(
        self, code: str, message: str, help: str | None = None, about: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.help, self.about = code, message, help, about


class Shape(NamedTuple):
    """One value without the batch: a feature map (channels, height, width) or a vector.

    `open`: the number of channels depends on an argument of the generated model (the number of
    classes or of input channels), so generated code must not rely on it.
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
    """How to initialise a parameter: `he_normal` with a fan, `normal` with a deviation, …"""

    kind: str
    value: float | str | None = None

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}({self.value})"

    @property
    def needs_fan(self) -> bool:
        return self.value in FANS or self.kind in ("fan_in_normal", "fan_out_normal")


# kind: (its value: None, a number or the fans, the default of the value, what it means)
INITIALIZERS: dict[str, tuple[Literal["none", "number", "fan"], float | str | None, str]] = {
    "zeros": ("none", None, "all zero"),
    "ones": ("none", None, "all one"),
    "constant": ("number", 0.0, "one value"),
    "normal": ("number", 0.01, "normal, mean 0, with this standard deviation"),
    "he_normal": ("fan", "fan_out", "normal, mean 0, variance 2 / fan (He et al. 2015, eq. 10)"),
    "fan_in_normal": ("number", 2.0, "normal, mean 0, variance this number / fan_in"),
    "fan_out_normal": ("number", 2.0, "normal, mean 0, variance this number / fan_out"),
    "he_uniform": ("fan", "fan_in", "uniform, mean 0, variance 2 / fan"),
    "lecun_uniform": ("fan", "fan_in", "uniform, mean 0, variance 1 / (3 fan): torch.nn's default"),
}
FANS = ("fan_in", "fan_out")


class Distribution(NamedTuple):
    """What fresh values are drawn from: normal or uniform, or all of them the mean."""

    mean: float
    deviation: float
    uniform: bool = False

    @property
    def bound(self) -> float | None:
        """The largest distance of a value from the mean; None where there is none."""
        return math.sqrt(3) * self.deviation if self.uniform else None


def distribution(given: Initializer, shape: Sequence[int]) -> Distribution:
    """What an initializer states for a tensor of this shape, in PyTorch's order of axes.

    Fans are computed as in PyTorch, which ignores the groups in the fan-out of a convolution.
    """
    match given:
        case ("zeros", _):
            return Distribution(0.0, 0.0)
        case ("ones", _):
            return Distribution(1.0, 0.0)
        case ("constant", value):
            return Distribution(float(value or 0), 0.0)
        case ("normal", value):
            return Distribution(0.0, float(value or 0))
        case ("fan_in_normal" | "fan_out_normal") as kind, value:
            fan, gain = kind.removesuffix("_normal"), float(value or 0)
        case kind, value:
            fan, gain = str(value), {"lecun_uniform": 1 / 3}.get(kind, 2.0)
    connections = shape[0 if fan == "fan_out" else 1] * math.prod(shape[2:])
    return Distribution(0.0, math.sqrt(gain / connections), given.kind.endswith("uniform"))


SAME = "same"  # padding as TensorFlow has it: what the input's size asks for, so no number

Attributes = Any  # a namespace: numbers while shapes are inferred, `Expr` while code is emitted
Channels = int | Expr


class Attribute(NamedTuple):
    """Something that a layer states; `default` is a number or an expression over attributes.

    `words` are values that stand for no number, so no expression holds them. What `selects` is, by
    being zero or not, decides which layer or function a framework has for the operation. So it is
    the same in all uses of one routine.
    """

    name: str
    type: Literal["int", "float", "bool", "init"]
    description: str
    default: Number | str | Initializer | None = None
    minimum: float | None = None
    maximum: float | None = None
    has_fans: bool = False  # of an initializer: the tensor has as many axes as a fan needs
    words: tuple[str, ...] = ()
    selects: bool = False

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


def same_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]


def first_channels(attributes: Attributes, channels: Sequence[Channels]) -> Channels:
    return channels[0]


def no_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    return ()


def no_work(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return 0


class Primitive(NamedTuple):
    """One operation that every backend knows how to write.

    `shape` raises `ShapeError`. `channels` computes only the channels, and also works on
    expressions. `fits_input`: the shapes of the parameters depend on the input's channels.
    `joins`: the output has the channels of all inputs. `nonnegative`: no output is below zero.
    `window` gives the size and stride of a sliding window, for the receptive field. `group` is the
    role in a block (weights, norm, activation, …), which decides the blank lines.
    """

    name: str
    description: str
    attributes: tuple[Attribute, ...] = ()
    takes: Literal["one", "many"] = "one"
    gives: Literal["one", "many"] = "one"
    needs: Literal["map", "vector", "any"] = "any"
    shape: Callable[[Attributes, Sequence[Shape]], Shape] = same_shape
    channels: Callable[[Attributes, Sequence[Channels]], Channels] = first_channels
    parameters: Callable[[Attributes, Sequence[Shape]], tuple[Parameter, ...]] = no_parameters
    macs: Callable[[Attributes, Sequence[Shape], Shape], int] = no_work
    joins: bool = False
    fits_input: bool = True
    window: Callable[[Attributes], tuple[int, int]] | None = None
    nonnegative: bool = False
    group: Literal["weights", "norm", "activation", "merge", "other"] = "other"

    @property
    def is_sized_by_input(self) -> bool:
        """Whether the operation can only be made for a known number of input channels."""
        return self.fits_input and self.parameters is not no_parameters

    @property
    def in_order(self) -> tuple[Attribute, ...]:
        """The attributes, those with a default over others last."""
        return tuple(sorted(self.attributes, key=lambda each: isinstance(each.default, str)))

    def attribute(self, name: str) -> Attribute | None:
        return next((a for a in self.attributes if a.name == name), None)

    def infer(self, attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
        """The output's shape; raises `ShapeError` where the inputs don't fit."""
        if self.needs != "any":
            for given in inputs:
                self._check_rank(given)
        output = self.shape(attributes, inputs)
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
            flatten = f"{{flatten: flat, height: {given.height}, width: {given.width}}}"
            raise ShapeError(
                "RS404",
                f"'{self.name}' needs a vector, but its input is a {given} map",
                help=f"put a global_avg_pool or {flatten} before it",
            )
