"""The layers and functions of Flax and JAX that a text may call, with their own signatures."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from standins import flax_modules
from standins.flax_modules import Array, BatchStat, Module, Param, Rngs, Variable
from standins.graph import Drawn, Meaning, Pair, Window, even, rounded
from standins.run import Difference, namespace, pair, refuse_truths

Size = int | tuple[int, int]
Initializer = Callable[[tuple[int, ...]], Drawn]


# --- initializers --------------------------------------------------------------------------------


def constant(value: float) -> Initializer:
    return lambda shape: rounded(value, 0.0)


def normal(stddev: float = 0.01) -> Initializer:
    return lambda shape: rounded(0.0, stddev)


def variance_scaling(scale: float, mode: str, distribution: str) -> Initializer:
    """As JAX counts fans: of a kernel (…, inputs of a group, outputs)."""
    if distribution not in ("normal", "uniform"):
        raise Difference(f"draws from {distribution!r}")

    def draw(shape: tuple[int, ...]) -> Drawn:
        fan = shape[{"fan_in": -2, "fan_out": -1}[mode]] * math.prod(shape[:-2])
        return rounded(0.0, math.sqrt(scale / fan), distribution == "uniform")

    return draw


zeros, ones = constant(0.0), constant(1.0)
_lecun = variance_scaling(1.0, "fan_in", "normal")  # truncated, in truth: no text leaves it so


# --- layers --------------------------------------------------------------------------------------


class Leaf(Module):
    """A layer; `torch` has what PyTorch calls its variables, and Flax's axes in PyTorch's order."""

    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {}

    # What a layer of the framework keeps is none of the text's.
    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name)

    def __post_init__(self) -> None:
        refuse_truths(self)
        if not isinstance(getattr(self, "rngs", Rngs()), Rngs):
            raise TypeError("rngs must be nnx.Rngs")
        self.__dict__.pop("rngs", None)

    def __call__(self, x: Array) -> Array:
        made = self.value(x)
        x.run.layers.append((self._path, made.number))
        return made

    def value(self, x: Array) -> Array:
        raise NotImplementedError

    def expects(self, x: Array, channels: int) -> None:
        if x.channels != channels:
            raise Difference(f"takes {channels} channels, but is given {x.channels}")


def conv_general_dilated(*arguments: Any) -> None:
    """For comparison alone: the convolution that is usual."""


def standardized_conv(x: Any, kernel: Any, *args: Any, epsilon: float = 1e-6) -> None:
    """For comparison alone: that of standardised filters."""


def _epsilon(function: Any) -> float | None:
    """What a convolution of standardised filters adds to their variance; None for any other."""
    if function is conv_general_dilated:
        return None
    whole = function if isinstance(function, functools.partial) else functools.partial(function)
    if whole.func is not standardized_conv or whole.args or set(whole.keywords) - {"epsilon"}:
        raise Difference(f"convolves by {function}")
    return float(whole.keywords.get("epsilon", 1e-6))


def _window(kernel: Any, strides: Any, padding: Any, dilation: Size = 1) -> Window:
    if isinstance(kernel, int) or len(kernel) != 2:
        raise Difference(f"a window of {kernel} is not one of rows and columns")
    sides: Any = padding
    if isinstance(padding, bool):
        raise Difference(f"padding is no number but {padding}")
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise Difference(f"padding={padding!r}")
        sides = "same" if padding == "SAME" else even(0, 0)
    elif isinstance(padding, int):
        sides = even(padding, padding)
    return Window(tuple(kernel), pair(strides), sides, pair(dilation))


def _sized(window: Window, x: Array) -> Pair:
    _, rows, columns = x.dimensions
    return window.size(0, rows), window.size(1, columns)


@dataclass(eq=False)
class Conv(Leaf):
    in_features: int
    out_features: int
    kernel_size: Any
    strides: Size = 1
    _: KW_ONLY
    padding: Any = "SAME"
    kernel_dilation: Size = 1
    feature_group_count: int = 1
    use_bias: Any = True
    kernel_init: Initializer = _lecun
    bias_init: Initializer = zeros
    conv_general_dilated: Any = conv_general_dilated
    rngs: Rngs

    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {
        "kernel": ("weight", (3, 2, 0, 1)),
        "bias": ("bias", (0,)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.window = _window(self.kernel_size, self.strides, self.padding, self.kernel_dilation)
        groups = self.feature_group_count
        if self.in_features % groups or self.out_features % groups:
            raise ValueError("channels must be divisible by groups")
        shape = (*self.window.kernel, self.in_features // groups, self.out_features)
        self.kernel = Param(shape, self.kernel_init(shape))
        own = shape[-1:]
        self.bias = Param(own, self.bias_init(own)) if self.use_bias else None
        self.eps = _epsilon(self.conv_general_dilated)

    def value(self, x: Array) -> Array:
        self.expects(x, self.in_features)
        number = x.run.graph.conv(
            x.seen(),
            self._path,
            self.window,
            channels=self.in_features,
            filters=self.out_features,
            groups=self.feature_group_count,
            eps=self.eps,
        )
        return x.like(number, (self.out_features, *_sized(self.window, x)))


@dataclass(eq=False)
class Linear(Leaf):
    in_features: int
    out_features: int
    _: KW_ONLY
    use_bias: Any = True
    kernel_init: Initializer = _lecun
    bias_init: Initializer = zeros
    rngs: Rngs

    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {
        "kernel": ("weight", (1, 0)),
        "bias": ("bias", (0,)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = (self.in_features, self.out_features)
        self.kernel = Param(shape, self.kernel_init(shape))
        own = shape[-1:]
        self.bias = Param(own, self.bias_init(own)) if self.use_bias else None

    def value(self, x: Array) -> Array:
        self.expects(x, self.in_features)
        if len(x.dimensions) != 1:
            raise Difference(f"takes a vector, but is given {x.dimensions}")
        seen = {"channels": self.in_features, "features": self.out_features}
        return x.made("linear", name=self._path, shape=(self.out_features,), **seen)


class _Norm(Leaf):
    """A scale and a shift for each channel, and what else changes the result."""

    kind: ClassVar[str] = ""
    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {
        "scale": ("weight", (0,)),
        "bias": ("bias", (0,)),
        "mean": ("running_mean", (0,)),
        "var": ("running_var", (0,)),
        "v": ("v", (0,)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        norm: Any = self
        shape = (norm.num_features,)
        self.scale = Param(shape, norm.scale_init(shape))
        self.bias = Param(shape, zeros(shape))

    def reads(self) -> dict[str, Any]:
        norm: Any = self
        return {"eps": norm.epsilon}

    def value(self, x: Array) -> Array:
        norm: Any = self
        self.expects(x, norm.num_features)
        return x.made(self.kind, name=self._path, channels=norm.num_features, **self.reads())


@dataclass(eq=False)
class BatchNorm(_Norm):
    num_features: int
    _: KW_ONLY
    use_running_average: bool = False
    momentum: float = 0.99
    epsilon: float = 1e-5
    scale_init: Initializer = ones
    use_fast_variance: bool = True
    rngs: Rngs

    kind = "batch_norm"

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = (self.num_features,)
        self.mean = BatchStat(shape, zeros(shape))
        self.var = BatchStat(shape, ones(shape))

    def reads(self) -> dict[str, Any]:
        # Flax's momentum is the weight of the old statistics.
        return {"eps": self.epsilon, "momentum": round(1 - self.momentum, 12)}


class ExactBatchNorm(BatchNorm):
    """The backend's own, of the unbiased variance."""


@dataclass(eq=False)
class _Grouped(_Norm):
    num_features: int
    num_groups: int = 32
    _: KW_ONLY
    epsilon: float = 1e-6
    scale_init: Initializer = ones
    rngs: Rngs

    def __post_init__(self) -> None:
        if self.num_features % self.num_groups:
            raise ValueError("num_features must be divisible by num_groups")
        super().__post_init__()

    def reads(self) -> dict[str, Any]:
        return {"groups": self.num_groups, "eps": self.epsilon}


class GroupNorm(_Grouped):
    kind = "group_norm"


@dataclass(eq=False)
class EvoNorm(_Grouped):
    _: KW_ONLY
    epsilon: float = 1e-5

    kind = "evo_norm"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.v = Param((self.num_features,), ones(()))


@dataclass(eq=False)
class FilterResponseNorm(_Norm):
    num_features: int
    _: KW_ONLY
    epsilon: float = 1e-5
    scale_init: Initializer = ones
    rngs: Rngs

    kind = "filter_response_norm"


@dataclass(eq=False)
class Threshold(Leaf):
    num_features: int

    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {"tau": ("tau", (0,))}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tau = Param((self.num_features,), zeros(()))

    def value(self, x: Array) -> Array:
        self.expects(x, self.num_features)
        return x.made("threshold", name=self._path, channels=self.num_features)


@dataclass(eq=False)
class ChannelConv(Leaf):
    kernel_size: int
    _: KW_ONLY
    kernel_init: Initializer
    rngs: Rngs

    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {"kernel": ("weight", (2, 1, 0))}

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = (self.kernel_size, 1, 1)
        self.kernel = Param(shape, self.kernel_init(shape))

    def value(self, x: Array) -> Array:
        return x.made("channel_conv", name=self._path, kernel=self.kernel_size)


@dataclass(eq=False)
class LearnedScale(Leaf):
    scale_init: Initializer = ones
    _: KW_ONLY
    rngs: Rngs

    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {"scale": ("weight", (0,))}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.scale = Param((1,), self.scale_init((1,)))

    def value(self, x: Array) -> Array:
        return x.made("learned_scale", name=self._path)


@dataclass(eq=False)
class LearnedShift(Leaf):
    bias_init: Initializer = zeros
    _: KW_ONLY
    rngs: Rngs

    torch: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {"bias": ("bias", (0,))}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bias = Param((1,), self.bias_init((1,)))

    def value(self, x: Array) -> Array:
        return x.made("learned_shift", name=self._path)


@dataclass(eq=False)
class Dropout(Leaf):
    rate: float
    _: KW_ONLY
    broadcast_dims: Sequence[int] = ()
    deterministic: bool = False
    rngs: Rngs

    def value(self, x: Array) -> Array:
        kinds = {(): "dropout", (1, 2, 3): "drop_path"}
        if tuple(self.broadcast_dims) not in kinds:
            raise Difference(f"a mask that is alike along {self.broadcast_dims}")
        return x.made(kinds[tuple(self.broadcast_dims)], rate=self.rate)


# --- functions -----------------------------------------------------------------------------------


def _plain(kind: str) -> Callable[[Array], Array]:
    return lambda x: x.made(kind)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    return x.made("leaky_relu", slope=negative_slope)


def gelu(x: Array, approximate: bool = True) -> Array:
    if approximate:
        raise Difference("gelu is approximate")
    return x.made("gelu")


def softmax(x: Array, axis: int = -1) -> Array:
    if x.axis(axis) != 0:
        raise Difference(f"softmax along axis {axis}")
    return x.made("softmax", groups=0)


def max_pool(
    inputs: Array, window_shape: Any, strides: Any = None, padding: Any = "VALID"
) -> Array:
    window = _pool_window(window_shape, strides, padding)
    number = inputs.run.graph.max_pool(inputs.seen(), window, ceil=False)
    return inputs.like(number, (inputs.channels, *_sized(window, inputs)))


def avg_pool(
    inputs: Array,
    window_shape: Any,
    strides: Any = None,
    padding: Any = "VALID",
    count_include_pad: bool = True,
) -> Array:
    window = _pool_window(window_shape, strides, padding)
    if window.padding == "same":
        fitted = window.fitted()
        if count_include_pad and fitted.padding == "same":
            raise Difference("counts padding that depends on the size")
        window = window if not count_include_pad else fitted
    counted = count_include_pad
    number = inputs.run.graph.avg_pool(inputs.seen(), window, ceil=False, counted=counted)
    return inputs.like(number, (inputs.channels, *_sized(window, inputs)))


def _pool_window(shape: Any, strides: Any, padding: Any) -> Window:
    if isinstance(strides, int) or isinstance(padding, int):
        raise TypeError("strides and padding of a pooling are no numbers")
    return _window(shape, strides or (1, 1), padding)


def softmax_over_groups(x: Array, groups: int) -> Array:
    return x.made("softmax", groups=groups)


def shuffle_channels(x: Array, groups: int, parts: int) -> Array:
    return x.made("shuffle", groups=groups, parts=parts)


def adaptive_avg_pool(x: Array, size: int) -> Array:
    return x.made("adaptive_avg_pool", shape=(x.channels, size, size), size=size)


def global_max_pool(x: Array, keepdims: bool = False) -> Array:
    shape = (x.channels, 1, 1) if keepdims else (x.channels,)
    return x.made("global_max_pool", shape=shape, keep_map=keepdims)


def channel_max_pool(x: Array) -> Array:
    return x.made("channel_max_pool", shape=(1, *x.dimensions[1:]))


def blur_pool(x: Array, stride: int) -> Array:
    _, rows, columns = x.dimensions
    size = (-(-rows // stride), -(-columns // stride))
    return x.like(x.run.graph.blur(x.seen(), pair(stride)), (x.channels, *size))


def flatten_channels_first(x: Array) -> Array:
    number = x.run.graph.add("flatten", [x.seen()])
    return x.like(number, (math.prod(x.dimensions),))


def concatenate(arrays: Sequence[Array], axis: int = 0) -> Array:
    names = {0: "concat", 1: "stack_rows"}
    number = arrays[0].axis(axis)
    if number not in names:
        raise Difference(f"concatenates along axis {axis}")
    return arrays[0].put_together(names[number], arrays, number)


def split(ary: Array, indices_or_sections: int, axis: int = 0) -> list[Array]:
    if ary.axis(axis) != 0 or ary.channels % indices_or_sections:
        raise Difference(f"splits axis {axis} into {indices_or_sections}")
    size = ary.channels // indices_or_sections
    return [ary.taken(n * size, (n + 1) * size) for n in range(indices_or_sections)]


def pad(array: Array, pad_width: Sequence[Pair]) -> Array:
    batch, rows, columns, channels = (tuple(each) for each in pad_width)
    sizes = array.dimensions
    beside = dict(zip(("before", "after"), channels, strict=True))
    if batch == rows == columns == (0, 0) and (any(channels) or _is_known(array, beside)):
        shape = (sizes[0] + sum(channels), *sizes[1:])
        before, after = channels
        return array.made("pad_channels", shape=shape, before=before, after=after)
    if batch == channels == (0, 0):
        shape = (sizes[0], sizes[1] + sum(rows), sizes[2] + sum(columns))
        return array.made("zero_pad", shape=shape, sides=(rows, columns))
    raise Difference(f"pads {pad_width}, which is no operation of the IR")


def _is_known(array: Array, beside: dict[str, int]) -> bool:
    """Whether the IR adds no channels here: where nothing is padded, a text does not tell."""
    meaning = Meaning("pad_channels", "", (array.number,), tuple(beside.items()))
    return meaning in array.run.graph.numbers


# --- filters -------------------------------------------------------------------------------------

Predicate = Callable[[tuple[str, ...], Any], bool]


def _predicate(given: Any) -> Predicate:
    if isinstance(given, type):
        return lambda path, value: isinstance(value, given)
    found: Predicate = given
    return found


def all_of(*given: Any) -> Predicate:
    return lambda path, value: all(_predicate(each)(path, value) for each in given)


def none_of(given: Any) -> Predicate:
    return lambda path, value: not _predicate(given)(path, value)


# --- what is imported ----------------------------------------------------------------------------

INITIALIZERS = namespace(
    constant=constant, normal=normal, variance_scaling=variance_scaling, zeros=zeros, ones=ones
)
NNX = namespace(
    initializers=INITIALIZERS,
    Initializer=Any,
    filterlib=namespace(Filter=Any),
    All=all_of,
    Not=none_of,
    iter_graph=lambda module: module._nodes(),
    identity=lambda x: x,
    relu=_plain("relu"),
    silu=_plain("silu"),
    sigmoid=_plain("sigmoid"),
    hard_sigmoid=_plain("hard_sigmoid"),
    tanh=_plain("tanh"),
    **{each.__name__: each for each in (leaky_relu, gelu, softmax, max_pool, avg_pool)},
    **{each.__name__: each for each in (Param, BatchStat, Variable, Rngs, Module)},
    **{each.__name__: each for each in (flax_modules.List, flax_modules.Dict)},
    **{each.__name__: each for each in (Conv, Linear, BatchNorm, GroupNorm, Dropout)},
)
LAX = namespace(conv_general_dilated=conv_general_dilated)
NUMPY = namespace(
    concatenate=concatenate,
    split=split,
    pad=pad,
    mean=lambda x, axis, keepdims=False: x.mean(axis, keepdims),
    add=lambda x, y: x + y,
    multiply=lambda x, y: x * y,
)
JAX = namespace(Array=Array, numpy=NUMPY, lax=LAX)


class Below:
    """The filter of what has one of some dotted names, or stands below it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = [name.split(".") for name in names]

    def __call__(self, path: tuple[Any, ...], value: object) -> bool:
        parts = [*map(str, path)]
        return any(parts[: len(each)] == each for each in self.names)


MODULES: dict[str, Any] = {
    "flax": namespace(nnx=NNX),
    "flax.nnx": NNX,
    "jax": JAX,
    "jax.numpy": NUMPY,
    "jax.lax": LAX,
}
HELPERS: dict[str, Any] = {
    "BatchNorm": ExactBatchNorm,
    **{
        each.__name__: each
        for each in (
            *(flax_modules.Sequential, flax_modules.SequentialDict, standardized_conv, ChannelConv),
            *(FilterResponseNorm, EvoNorm, Threshold, LearnedScale, LearnedShift, blur_pool),
            *(softmax_over_groups, shuffle_channels, adaptive_avg_pool, flatten_channels_first),
            *(global_max_pool, channel_max_pool, Below),
        )
    },
}
