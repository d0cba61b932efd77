"""The layers and functions of Keras that a text may call, with Keras' own signatures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from standins.channels_last import ChannelsLast
from standins.expected import Expected, Tensor
from standins.graph import Drawn, Pair, Window, even, rounded
from standins.run import (
    Difference,
    Run,
    namespace,
    pair,
    refuse_truths,
)

Size = int | tuple[int, int]
Sides = tuple[Pair, Pair]
ZEROS, ONES = rounded(0.0, 0.0), rounded(1.0, 0.0)
UNNAMED = {"identity", "pad_channels", "rescale", "shuffle", "split", "take"}


# --- values --------------------------------------------------------------------------------------


class KerasRun(Run):
    """A run that knows which layer of Keras is which of the IR, and remembers all."""

    def __init__(self, expected: Expected) -> None:
        super().__init__(expected)
        # A layer has its name before what a function of keras.ops does, and that has none.
        named = sorted(
            (each.operation.primitive.name not in UNNAMED, each.name) for each in expected.layers
        )
        self.dotted = {name.replace(".", "_"): name for _, name in named}
        self.all: list[Layer] = []

    def is_auxiliary(self, name: str) -> bool:
        """Whether a layer helps another, so that its name begins with that of the other."""
        parts = name.split("_")
        begins = ("_".join(parts[:length]) for length in range(1, len(parts)))
        return name not in self.expected.operations and any(
            begin in self.dotted for begin in begins
        )


class Padded(NamedTuple):
    """What stands before a padding, which the layer after it may take for its own."""

    source: KerasTensor
    sides: Sides
    filling: float
    layer: str  # the name of the layer that pads, "" where a function does


class KerasTensor(ChannelsLast):
    """A value of the functional API: (batch, rows, columns, channels)."""

    run: KerasRun

    def __init__(self, run: KerasRun, number: int, dimensions: tuple[int, ...]) -> None:
        super().__init__(run, number, dimensions)
        self.padded: Padded | None = None


# --- initializers --------------------------------------------------------------------------------


class Constant(NamedTuple):
    value: float = 0.0

    def drawn(self, shape: tuple[int, ...]) -> Drawn:
        return rounded(self.value, 0.0)


class RandomNormal(NamedTuple):
    mean: float = 0.0
    stddev: float = 0.05

    def drawn(self, shape: tuple[int, ...]) -> Drawn:
        return rounded(self.mean, self.stddev)


class VarianceScaling(NamedTuple):
    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def drawn(self, shape: tuple[int, ...]) -> Drawn:
        """`shape` in PyTorch's order; Keras counts fans as PyTorch does."""
        if self.distribution not in ("untruncated_normal", "uniform"):
            raise Difference(f"draws from {self.distribution}")
        fan = shape[{"fan_in": 1, "fan_out": 0}[self.mode]] * math.prod(shape[2:])
        return rounded(0.0, math.sqrt(self.scale / fan), self.distribution == "uniform")


NAMED = {"zeros": ZEROS, "ones": ONES}
Begins = str | Constant | RandomNormal | VarianceScaling


def begins(given: Begins, shape: tuple[int, ...]) -> Tensor:
    """A parameter of this shape that begins as the initializer says."""
    if isinstance(given, str):
        if given not in NAMED:
            raise Difference(f"draws by {given!r}")
        return Tensor(shape, NAMED[given])
    return Tensor(shape, given.drawn(shape))


# --- layers --------------------------------------------------------------------------------------


@dataclass(eq=False)
class Layer:
    """A layer with a name; its parameters are named as those of the IR."""

    _: KW_ONLY
    name: str | None = None

    trainable = True
    calls = 0

    def __call__(self, inputs: Any) -> KerasTensor:
        x = inputs if isinstance(inputs, KerasTensor) else inputs[0]
        if not isinstance(self.name, str | None):
            raise ValueError(f"the name of a layer is {self.name!r}")
        try:
            refuse_truths(self)
            made = self.value(inputs)
        except Exception as error:
            if not hasattr(error, "__notes__"):
                error.add_note(self.name or type(self).__name__)
            raise
        self.calls += 1
        self.output = made
        x.run.layers.append((self.dotted(x), made.number))
        x.run.all.append(self)
        if self.name is None:
            x.run.note(f"a {type(self).__name__} has no name")
        return made

    def value(self, x: Any) -> KerasTensor:
        raise NotImplementedError

    def dotted(self, x: KerasTensor) -> str:
        """The layer's name in the IR."""
        name = self.name or ""
        return x.run.dotted.get(name, name)

    def own(self, x: KerasTensor, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            x.run.tensors[f"{self.dotted(x)}.{name}"] = tensor


def _unpadded(x: KerasTensor, name: str | None) -> tuple[KerasTensor, Sides, float]:
    """What stands before a padding that belongs to the layer of this name alone."""
    padded = x.padded
    own = ("", f"{name}_pad")
    if padded is not None and padded.layer in own and padded.layer not in x.run.dotted:
        return padded.source, padded.sides, padded.filling
    return x, even(0, 0), 0.0


@dataclass(eq=False)
class _Window(Layer):
    """A layer with a sliding window: padded by a layer or function before it, or by itself."""

    def window(self, sides: Sides, kernel: Size, strides: Size, padding: str) -> Window:
        if padding not in ("same", "valid"):
            raise ValueError(f"padding={padding!r}")
        if padding == "same" and sides != even(0, 0):
            raise Difference("pads twice")
        return Window(pair(kernel), pair(strides), "same" if padding == "same" else sides)


def _size(window: Window, x: KerasTensor) -> Pair:
    _, rows, columns = x.dimensions
    return window.size(0, rows), window.size(1, columns)


@dataclass(eq=False)
class Conv2D(_Window):
    filters: int
    kernel_size: Size
    strides: Size = 1
    padding: str = "valid"
    _: KW_ONLY
    dilation_rate: Size = 1
    groups: int = 1
    use_bias: bool = True
    kernel_initializer: Begins = "glorot_uniform"
    bias_initializer: Begins = "zeros"

    standardized: float | None = field(default=None, init=False)

    def value(self, x: KerasTensor) -> KerasTensor:
        source, sides, filling = _unpadded(x, self.name)
        if filling:
            raise Difference(f"pads with {filling}")
        if self.strides not in (1, (1, 1)) and self.dilation_rate not in (1, (1, 1)):
            raise Difference("has a stride and a dilation, which Keras does not know")
        window = self.window(sides, self.kernel_size, self.strides, self.padding)
        window = window._replace(dilation=pair(self.dilation_rate))
        if x.channels % self.groups or self.filters % self.groups:
            raise ValueError("channels must be divisible by groups")
        shape = (self.filters, x.channels // self.groups, *window.kernel)
        self.own(x, weight=begins(self.kernel_initializer, shape))
        if self.use_bias:
            self.own(x, bias=begins(self.bias_initializer, shape[:1]))
        number = x.run.graph.conv(
            source.seen(),
            self.dotted(x),
            window,
            channels=x.channels,
            filters=self.filters,
            groups=self.groups,
            eps=self.standardized,
        )
        return x.like(number, (self.filters, *_size(window, source)))


@dataclass(eq=False)
class StandardizedConv2D(Conv2D):
    _: KW_ONLY
    epsilon: float

    def __post_init__(self) -> None:
        self.standardized = self.epsilon


@dataclass(eq=False)
class Conv1D(Layer):
    """The convolution along channels: of (channels, 1), as `Reshape` makes them."""

    filters: int
    kernel_size: int
    strides: int = 1
    padding: str = "valid"
    _: KW_ONLY
    use_bias: bool = True
    kernel_initializer: Begins = "glorot_uniform"

    def value(self, x: KerasTensor) -> KerasTensor:
        row = x.run.graph.rows[x.number]
        usual = (self.filters, self.strides, self.padding, self.use_bias) == (1, 1, "same", False)
        if row.kind != "as_sequence" or not usual:
            raise Difference("a Conv1D that is no convolution along the channels")
        self.own(x, weight=begins(self.kernel_initializer, (1, 1, self.kernel_size)))
        graph = x.run.graph
        return x.like(
            graph.add("channel_conv", row.inputs, self.dotted(x), kernel=self.kernel_size)
        )


@dataclass(eq=False)
class Reshape(Layer):
    """A 1x1 map as a sequence of its channels, and back."""

    target_shape: tuple[int, ...]

    def value(self, x: KerasTensor) -> KerasTensor:
        row = x.run.graph.rows[x.number]
        if x.dimensions[1:] == (1, 1) and self.target_shape == (x.channels, 1):
            return x.like(x.run.graph.add("as_sequence", [x.number]), (1, x.channels))
        if row.kind == "channel_conv" and self.target_shape == (1, 1, x.dimensions[-1]):
            return x.like(x.number, (x.dimensions[-1], 1, 1))
        raise Difference(f"reshapes {x.shape} to {self.target_shape}")


@dataclass(eq=False)
class Dense(Layer):
    units: int
    _: KW_ONLY
    use_bias: bool = True
    kernel_initializer: Begins = "glorot_uniform"
    bias_initializer: Begins = "zeros"

    def value(self, x: KerasTensor) -> KerasTensor:
        if len(x.dimensions) != 1:
            raise Difference(f"takes a vector, but is given {x.dimensions}")
        shape = (self.units, x.channels)
        self.own(x, weight=begins(self.kernel_initializer, shape))
        if self.use_bias:
            self.own(x, bias=begins(self.bias_initializer, shape[:1]))
        seen = {"channels": x.channels, "features": self.units}
        return x.made("linear", name=self.dotted(x), shape=(self.units,), **seen)


# --- norms ---------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Norm(Layer):
    """A scale and a shift for each channel, and what else changes the result."""

    kind = ""

    def norm(self, x: KerasTensor, gamma: Begins, **seen: Any) -> KerasTensor:
        shape = (x.channels,)
        self.own(x, weight=begins(gamma, shape), bias=Tensor(shape, ZEROS))
        return x.made(self.kind, name=self.dotted(x), channels=x.channels, **seen)


@dataclass(eq=False)
class BatchNormalization(_Norm):
    _: KW_ONLY
    momentum: float = 0.99
    epsilon: float = 1e-3
    gamma_initializer: Begins = "ones"

    kind = "batch_norm"

    def value(self, x: KerasTensor) -> KerasTensor:
        shape = (x.channels,)
        self.own(x, running_mean=Tensor(shape, ZEROS), running_var=Tensor(shape, ONES))
        # Keras' momentum is the weight of the old statistics, PyTorch's that of the new.
        seen = {"eps": self.epsilon, "momentum": round(1 - self.momentum, 12)}
        return self.norm(x, self.gamma_initializer, **seen)


@dataclass(eq=False)
class GroupNormalization(_Norm):
    groups: int = 32
    _: KW_ONLY
    epsilon: float = 1e-3
    gamma_initializer: Begins = "ones"

    kind = "group_norm"

    def value(self, x: KerasTensor) -> KerasTensor:
        if x.channels % self.groups:
            raise ValueError("channels must be divisible by groups")
        seen = {"groups": self.groups, "eps": self.epsilon}
        return self.norm(x, self.gamma_initializer, **seen)


@dataclass(eq=False)
class EvoNorm(_Norm):
    groups: int
    epsilon: float
    gamma_initializer: Begins = "ones"

    kind = "evo_norm"

    def value(self, x: KerasTensor) -> KerasTensor:
        self.own(x, v=Tensor((x.channels,), ONES))
        seen = {"groups": self.groups, "eps": self.epsilon}
        return self.norm(x, self.gamma_initializer, **seen)


@dataclass(eq=False)
class FilterResponseNorm(_Norm):
    epsilon: float
    gamma_initializer: Begins = "ones"

    kind = "filter_response_norm"

    def value(self, x: KerasTensor) -> KerasTensor:
        return self.norm(x, self.gamma_initializer, eps=self.epsilon)


@dataclass(eq=False)
class Threshold(Layer):
    def value(self, x: KerasTensor) -> KerasTensor:
        self.own(x, tau=Tensor((x.channels,), ZEROS))
        return x.made("threshold", name=self.dotted(x), channels=x.channels)


@dataclass(eq=False)
class LearnedScale(Layer):
    initializer: Begins = "ones"

    def value(self, x: KerasTensor) -> KerasTensor:
        self.own(x, weight=begins(self.initializer, (1,)))
        return x.made("learned_scale", name=self.dotted(x))


@dataclass(eq=False)
class LearnedShift(Layer):
    initializer: Begins = "zeros"

    def value(self, x: KerasTensor) -> KerasTensor:
        self.own(x, bias=begins(self.initializer, (1,)))
        return x.made("learned_shift", name=self.dotted(x))


# --- pools and padding ---------------------------------------------------------------------------


@dataclass(eq=False)
class ZeroPadding2D(Layer):
    padding: int | tuple[Any, Any] = 1

    def value(self, x: KerasTensor) -> KerasTensor:
        sides: Any = even(*pair(self.padding)) if isinstance(self.padding, int) else self.padding
        rows, columns = (pair(side) for side in sides)
        if (rows, columns) == even(0, 0) and self.name not in x.run.dotted:
            raise Difference("pads nothing")
        made = _padded(x, (rows, columns), "zero_pad")
        made.padded = Padded(x, (rows, columns), 0.0, self.name or "-")
        return made


def _padded(x: KerasTensor, sides: Sides, kind: str, **seen: Any) -> KerasTensor:
    channels, rows, columns = x.dimensions
    size = (rows + sum(sides[0]), columns + sum(sides[1]))
    return x.made(kind, shape=(channels, *size), sides=sides, **seen)


@dataclass(eq=False)
class MaxPooling2D(_Window):
    pool_size: Size = 2
    strides: Size | None = None
    padding: str = "valid"

    def value(self, x: KerasTensor) -> KerasTensor:
        source, sides, filling = _unpadded(x, self.name)
        # Zeros stand for minus infinity where nothing is below them.
        safe = filling == 0 and x.run.graph.is_nonnegative(source.number)
        if sides != even(0, 0) and filling != -math.inf and not safe:
            raise Difference(f"{filling} may be the largest value")
        strides = self.pool_size if self.strides is None else self.strides
        window = self.window(sides, self.pool_size, strides, self.padding)
        number = x.run.graph.max_pool(source.seen(), window, ceil=False)
        return x.like(number, (x.channels, *_size(window, source)))


@dataclass(eq=False)
class AveragePooling2D(_Window):
    pool_size: Size
    strides: Size | None = None
    padding: str = "valid"

    exact = False

    def value(self, x: KerasTensor) -> KerasTensor:
        source, sides, filling = _unpadded(x, self.name)
        if filling:
            raise Difference(f"averages {filling}")
        strides = self.pool_size if self.strides is None else self.strides
        window = self.window(sides, self.pool_size, strides, self.padding)
        if window.fitted().padding == "same" and max(window.kernel) > 2 and not self.exact:
            raise Difference("averages copies of the border, when Keras runs on PyTorch")
        number = x.run.graph.avg_pool(source.seen(), window, ceil=False, counted=True)
        if self.padding == "same" and window.fitted().padding != "same":
            number = x.run.graph.avg_pool(source.seen(), window, ceil=False, counted=False)
        return x.like(number, (x.channels, *_size(window, source)))


class AveragePooling(AveragePooling2D):
    exact = True


@dataclass(eq=False)
class GlobalAveragePooling2D(Layer):
    _: KW_ONLY
    keepdims: bool = False

    kind = "global_avg_pool"

    def value(self, x: KerasTensor) -> KerasTensor:
        if len(x.dimensions) != 3:
            raise Difference(f"takes a map, but is given {x.dimensions}")
        shape = (x.channels, 1, 1) if self.keepdims else (x.channels,)
        return x.made(self.kind, shape=shape, keep_map=self.keepdims)


class GlobalMaxPooling2D(GlobalAveragePooling2D):
    kind = "global_max_pool"


@dataclass(eq=False)
class Dropout(Layer):
    rate: float
    noise_shape: tuple[int | None, ...] | None = None

    def value(self, x: KerasTensor) -> KerasTensor:
        if self.noise_shape not in (None, (None, 1, 1, 1)):
            raise Difference(f"drops by {self.noise_shape}")
        return x.made("drop_path" if self.noise_shape else "dropout", rate=self.rate)


# --- activations and merges ----------------------------------------------------------------------

ACTIVATIONS = ("relu", "silu", "gelu", "sigmoid", "hard_sigmoid", "tanh")


@dataclass(eq=False)
class Activation(Layer):
    activation: str

    def value(self, x: KerasTensor) -> KerasTensor:
        if self.activation not in ACTIVATIONS:
            raise Difference(f"the activation {self.activation!r}")
        return x.made(self.activation)


@dataclass(eq=False)
class ReLU(Layer):
    def value(self, x: KerasTensor) -> KerasTensor:
        return x.made("relu")


@dataclass(eq=False)
class LeakyReLU(Layer):
    negative_slope: float = 0.3

    def value(self, x: KerasTensor) -> KerasTensor:
        return x.made("leaky_relu", slope=self.negative_slope)


@dataclass(eq=False)
class Gelu(Layer):
    def value(self, x: KerasTensor) -> KerasTensor:
        return x.made("gelu")


@dataclass(eq=False)
class Softmax(Layer):
    axis: int = -1

    def value(self, x: KerasTensor) -> KerasTensor:
        if x.axis(self.axis) != 0:
            raise Difference(f"softmax along axis {self.axis}")
        return x.made("softmax", groups=0)


@dataclass(eq=False)
class Add(Layer):
    kind = "add"

    def value(self, x: Sequence[KerasTensor]) -> KerasTensor:
        if isinstance(x, KerasTensor) or not x:
            raise Difference("merges no list of values")
        return x[0].joined(self.kind, x)


class Multiply(Add):
    kind = "multiply"


@dataclass(eq=False)
class Concatenate(Layer):
    axis: int = -1

    def value(self, x: Sequence[KerasTensor]) -> KerasTensor:
        return _concatenated(x, self.axis)


def _concatenated(x: Sequence[KerasTensor], axis: int) -> KerasTensor:
    along = x[0].axis(axis)
    kinds = {0: "concat", 1: "stack_rows"}
    if along not in kinds:
        raise Difference(f"concatenates along axis {axis}")
    return x[0].put_together(kinds[along], x, along)


# --- functions -----------------------------------------------------------------------------------


def pad(
    x: KerasTensor,
    pad_width: tuple[Pair, ...],
    mode: str = "constant",
    constant_values: float | None = None,
) -> KerasTensor:
    batch, rows, columns, channels = pad_width
    filling = constant_values or 0.0
    if batch != (0, 0):
        raise Difference("pads the batch")
    if mode == "reflect":
        if channels != (0, 0):
            raise Difference("reflects channels")
        return _padded(x, (rows, columns), "reflect")
    if mode != "constant":
        raise Difference(f"pads {mode}")
    if (rows, columns) == even(0, 0):
        before, after = channels
        shape = (x.channels + before + after, *x.dimensions[1:])
        if filling:
            raise Difference(f"pads channels with {filling}")
        return x.made("pad_channels", shape=shape, before=before, after=after)
    if channels != (0, 0):
        raise Difference("pads channels, rows and columns at once")
    made = _padded(x, (rows, columns), "filled", filling=filling)
    made.padded = Padded(x, (rows, columns), filling, "")
    return made


def split(x: KerasTensor, indices_or_sections: int, axis: int = 0) -> list[KerasTensor]:
    if x.axis(axis) != 0:
        raise Difference(f"splits along axis {axis}")
    size, rest = divmod(x.channels, indices_or_sections)
    if rest:
        raise ValueError(f"{x.channels} channels do not split into {indices_or_sections}")
    return [x.taken(n * size, (n + 1) * size) for n in range(indices_or_sections)]


def _over_channels(kind: str) -> Callable[..., KerasTensor]:
    def call(x: KerasTensor, axis: Any = None, keepdims: bool = False) -> KerasTensor:
        if not isinstance(axis, int) or x.axis(axis) != 0 or not keepdims:
            raise Difference(f"{kind} over axis {axis}, keepdims={keepdims}")
        return x.made(kind, shape=(1, *x.dimensions[1:]))

    return call


def softmax_over_groups(x: KerasTensor, groups: int) -> KerasTensor:
    return x.made("softmax", groups=groups)


def shuffle_channels(x: KerasTensor, groups: int, parts: int) -> KerasTensor:
    return x.made("shuffle", groups=groups, parts=parts)


def adaptive_avg_pool(x: KerasTensor, size: int) -> KerasTensor:
    return x.made("adaptive_avg_pool", shape=(x.channels, size, size), size=size)


@dataclass(eq=False)
class _Flatten(Layer):
    def value(self, x: KerasTensor) -> KerasTensor:
        return x.made("flatten", shape=(math.prod(x.dimensions),))


def flatten_channels_first(x: KerasTensor, *, name: str) -> KerasTensor:
    return _Flatten(name=name)(x)


# --- what is imported ----------------------------------------------------------------------------

LAYERS = namespace(
    **{
        each.__name__: each
        for each in (
            *(Layer, Conv1D, Conv2D, Dense, BatchNormalization, GroupNormalization, Reshape),
            *(ZeroPadding2D, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, Dropout),
            *(GlobalMaxPooling2D, Activation, ReLU, LeakyReLU, Softmax, Add, Multiply),
            *(Concatenate,),
        )
    }
)
OPS = namespace(
    pad=pad,
    split=split,
    mean=_over_channels("channel_avg_pool"),
    max=_over_channels("channel_max_pool"),
)
INITIALIZERS = namespace(
    Initializer=object,
    Constant=Constant,
    RandomNormal=RandomNormal,
    VarianceScaling=VarianceScaling,
)
# The twins that have every number as PyTorch has it.
EXACT: dict[str, type[Layer]] = {
    name: type(name, (base,), {})
    for name, base in (("BatchNormalization", BatchNormalization), ("LeakyReLU", LeakyReLU))
} | {"Gelu": Gelu}
HELPERS: dict[str, Any] = EXACT | {
    each.__name__: each
    for each in (
        *(StandardizedConv2D, AveragePooling, FilterResponseNorm, EvoNorm, Threshold),
        *(LearnedScale, LearnedShift, softmax_over_groups, shuffle_channels, adaptive_avg_pool),
        *(flatten_channels_first,),
    )
}


def modules(
    inputs: Callable[..., KerasTensor], model: Callable[..., Any]
) -> dict[str, SimpleNamespace]:
    """The module `keras`, with what begins and ends a model."""
    register = namespace(register_keras_serializable=lambda package: lambda cls: cls)
    keras = namespace(
        KerasTensor=KerasTensor,
        Input=inputs,
        Model=model,
        layers=LAYERS,
        ops=OPS,
        initializers=INITIALIZERS,
        saving=register,
    )
    return {
        "keras": keras,
        "keras.layers": LAYERS,
        "keras.ops": OPS,
        "keras.initializers": INITIALIZERS,
    }
