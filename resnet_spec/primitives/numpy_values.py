"""What each primitive computes in eval mode: a few lines of numpy, from its definition.

Feature maps are (N, C, H, W) and vectors (N, C), in double precision. Where the frameworks differ,
PyTorch's definition applies, as the record says. Nothing here was taken from a backend or from the
shape rules, so a bug that two backends share shows as a difference from this module.

Only `resnet_spec.ir.evaluate` imports this module: the compiler does not need numpy.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet_spec.primitives.record import SAME

Array = NDArray[np.float64]


class Call(NamedTuple):
    """One use of a primitive: its attributes as a namespace, its inputs, its parameters by name."""

    attributes: Any
    inputs: Sequence[Array]
    parameters: Mapping[str, Array]

    @property
    def x(self) -> Array:
        """The first input."""
        return self.inputs[0]

    def of_channels(self, name: str) -> Array:
        """A parameter (C,) as (C, 1, 1), which goes with a map."""
        return self.parameters[name][:, None, None]

    def scaled(self, x: Array) -> Array:
        """The last step of every norm: a learned scale and offset for each channel."""
        return x * self.of_channels("weight") + self.of_channels("bias")


# --- sliding windows -----------------------------------------------------------------------------


class Axis(NamedTuple):
    """Windows along the rows or the columns: how many, and what is padded before and after."""

    windows: int
    before: int
    after: int


def _axis(size: int, attributes: Any) -> Axis:
    """Of a map of so many rows. A convolution has no `ceil`, a pooling no `dilation`."""
    kernel, stride, padding = attributes.kernel, attributes.stride, attributes.padding
    extent = getattr(attributes, "dilation", 1) * (kernel - 1) + 1
    if padding == SAME:
        # TensorFlow: a window for every `stride` cells; an odd cell of padding stands at the end.
        windows = math.ceil(size / stride)
        missing = max((windows - 1) * stride + extent - size, 0)
        return Axis(windows, missing // 2, missing - missing // 2)
    round_off = math.ceil if getattr(attributes, "ceil", False) else math.floor
    windows = round_off((size + 2 * padding - extent) / stride) + 1
    cut_off = max((windows - 1) * stride + extent - (size + 2 * padding), 0)
    return Axis(windows, padding, padding + cut_off)


def _taps(x: Array, attributes: Any, fill: float) -> Iterator[tuple[int, int, Array]]:
    """For each cell of the window, its row, its column and what it sees from all windows.

    That is (N, C, windows along the rows, windows along the columns); beyond the map it is `fill`.
    The first two axes can be any.
    """
    rows, columns = (_axis(size, attributes) for size in x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), rows[1:], columns[1:]), constant_values=fill)
    stride, dilation = attributes.stride, getattr(attributes, "dilation", 1)
    for i in range(attributes.kernel):
        for j in range(attributes.kernel):
            seen = padded[:, :, i * dilation :: stride, j * dilation :: stride]
            yield i, j, seen[:, :, : rows.windows, : columns.windows]


def _conv(call: Call) -> Array:
    """Sum over i, j and the group's c of weight[o, c, i, j] * x[n, c, stride * y + i, ...]."""
    attributes, groups = call.attributes, call.attributes.groups
    weight = call.parameters["weight"]  # (O, C / groups, kernel, kernel)
    if attributes.standardize:
        mean, variance = (f(weight, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
        weight = (weight - mean) / np.sqrt(variance + attributes.eps)
    # (kernel, kernel, groups, O / groups, C / groups): a matrix for each tap and group.
    filters, channels, kernel, _ = weight.shape
    weight = weight.reshape(groups, filters // groups, channels, kernel, kernel)
    weight = np.ascontiguousarray(weight.transpose(3, 4, 0, 1, 2))
    sums: Array = np.zeros(1)
    for i, j, seen in _taps(call.x.swapaxes(0, 1), attributes, fill=0.0):
        places = seen.shape[1:]  # (N, rows, columns)
        sums = sums + weight[i, j] @ seen.reshape(groups, channels, math.prod(places))
    sums = sums.reshape(filters, *places).swapaxes(0, 1)
    return sums + call.of_channels("bias") if attributes.bias else sums


def _max_pool(call: Call) -> Array:
    """Padding is never the maximum."""
    return reduce(np.maximum, (seen for _, _, seen in _taps(call.x, call.attributes, -np.inf)))


def _avg_pool(call: Call) -> Array:
    """Numeric padding counts, as zeros; padding from `same` or for a partial window does not."""
    attributes, x = call.attributes, call.x
    if attributes.padding != SAME:
        x = _zero_padded(x, attributes.padding)
        attributes = SimpleNamespace(**{**vars(attributes), "padding": 0})
    counted = np.ones((1, 1, *x.shape[2:]))
    sums, counts = (
        reduce(np.add, (seen for _, _, seen in _taps(each, attributes, fill=0.0)))
        for each in (x, counted)
    )
    return np.asarray(sums / counts)


def _zero_padded(x: Array, padding: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _blur_pool(call: Call) -> Array:
    """(1, 2, 1) / 4 along the rows and along the columns, the border's neighbours mirrored."""
    x = np.pad(call.x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    x = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    x = (x[:, :, :, :-2] + 2 * x[:, :, :, 1:-1] + x[:, :, :, 2:]) / 4
    return _subsampled(x, call.attributes.stride)


def _subsampled(x: Array, stride: int) -> Array:
    return x[:, :, ::stride, ::stride]


def _adaptive_avg_pool(call: Call) -> Array:
    """Part k of n spans k/n to (k + 1)/n of the rows, and each row that it touches."""
    x, parts = call.x, call.attributes.size

    def spans(size: int) -> list[slice]:
        return [slice(size * k // parts, -(-size * (k + 1) // parts)) for k in range(parts)]

    means = [
        [x[:, :, rows, columns].mean(axis=(2, 3)) for columns in spans(x.shape[3])]
        for rows in spans(x.shape[2])
    ]
    return np.moveaxis(np.array(means), (0, 1), (2, 3))


def _channel_conv(call: Call) -> Array:
    """Each channel's sum over its neighbours, of which those beyond the ends are zero."""
    weight = call.parameters["weight"].reshape(-1)
    reach, channels = len(weight) // 2, call.x.shape[1]
    padded = np.pad(call.x, ((0, 0), (reach, reach), (0, 0), (0, 0)))
    return reduce(np.add, (w * padded[:, k : k + channels] for k, w in enumerate(weight)))


# --- norms ---------------------------------------------------------------------------------------


def _batch_norm(call: Call) -> Array:
    """Uses the running statistics, not those of the batch (Ioffe and Szegedy 2015)."""
    mean, variance = call.of_channels("running_mean"), call.of_channels("running_var")
    return call.scaled((call.x - mean) / np.sqrt(variance + call.attributes.eps))


def _grouped(x: Array, groups: int) -> Array:
    """(N, groups, everything in a group)."""
    return x.reshape(len(x), groups, -1)


def _group_norm(call: Call) -> Array:
    x = _grouped(call.x, call.attributes.groups)
    deviation = np.sqrt(x.var(axis=2, keepdims=True) + call.attributes.eps)
    return call.scaled(((x - x.mean(axis=2, keepdims=True)) / deviation).reshape(call.x.shape))


def _filter_response_norm(call: Call) -> Array:
    """Equations 1 to 3 of Singh and Krishnan (2019)."""
    power = np.mean(call.x**2, axis=(2, 3), keepdims=True)
    return call.scaled(call.x / np.sqrt(power + call.attributes.eps))


def _evo_norm(call: Call) -> Array:
    """EvoNorm-S0 in table 2 of Liu et al. (2020): x * sigmoid(v * x) / deviation of the group."""
    x = _grouped(call.x, call.attributes.groups)
    deviation = np.sqrt(x.var(axis=2, keepdims=True) + call.attributes.eps)
    gate = _sigmoid(call.of_channels("v") * call.x)
    return call.scaled((x / deviation).reshape(call.x.shape) * gate)


# --- activations ---------------------------------------------------------------------------------


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is the 0 that is meant
        found: Array = 1 / (1 + np.exp(-x))
    return found


_erfc = np.vectorize(math.erfc, otypes=[np.float64])  # numpy has none


def _gelu(call: Call) -> Array:
    """x * Phi(x): Phi is the normal distribution function (Hendrycks and Gimpel 2016)."""
    phi: Array = _erfc(-call.x / math.sqrt(2)) / 2
    return call.x * phi


def _softmax(call: Call) -> Array:
    """Across the channels, or for each place in a group of channels across the groups."""
    groups = call.attributes.groups or call.x.shape[1]
    x = _grouped(call.x, groups)
    powers: Array = np.exp(x - x.max(axis=1, keepdims=True))
    total: Array = powers.sum(axis=1, keepdims=True)
    return (powers / total).reshape(call.x.shape)


# --- channels ------------------------------------------------------------------------------------


def _linear(call: Call) -> Array:
    outputs = call.x @ call.parameters["weight"].T
    return outputs + call.parameters["bias"] if call.attributes.bias else outputs


def _shuffle(call: Call) -> Array:
    groups, parts = call.attributes.groups, call.attributes.parts
    ordered = call.x.reshape(len(call.x), groups, parts, -1).swapaxes(1, 2)
    return ordered.reshape(call.x.shape)


def _pad_channels(call: Call) -> Array:
    added = (call.attributes.before, call.attributes.after)
    return np.pad(call.x, ((0, 0), added, (0, 0), (0, 0)))


def _global(over: Callable[..., Array]) -> Callable[[Call], Array]:
    """Over all places: (N, C), or (N, C, 1, 1) with `keep_map`."""
    return lambda call: over(call.x, axis=(2, 3), keepdims=bool(call.attributes.keep_map))


# What the primitives compute, by their names. `split` gives several values.
VALUES: dict[str, Callable[[Call], Array | Sequence[Array]]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "filter_response_norm": _filter_response_norm,
    "evo_norm": _evo_norm,
    "relu": lambda call: np.maximum(call.x, 0),
    "threshold": lambda call: np.maximum(call.x, call.of_channels("tau")),
    "leaky_relu": lambda call: np.where(call.x > 0, call.x, call.attributes.slope * call.x),
    "silu": lambda call: call.x * _sigmoid(call.x),
    "gelu": _gelu,
    "sigmoid": lambda call: _sigmoid(call.x),
    "hard_sigmoid": lambda call: np.clip(call.x + 3, 0, 6) / 6,
    "tanh": lambda call: np.tanh(call.x),
    "softmax": _softmax,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global(np.mean),
    "global_max_pool": _global(np.max),
    "channel_avg_pool": lambda call: call.x.mean(axis=1, keepdims=True),
    "channel_max_pool": lambda call: call.x.max(axis=1, keepdims=True),
    "adaptive_avg_pool": _adaptive_avg_pool,
    "flatten": lambda call: call.x.reshape(len(call.x), -1),
    "zero_pad": lambda call: _zero_padded(call.x, call.attributes.padding),
    "add": lambda call: reduce(np.add, call.inputs),
    # A 1x1 map or a single channel goes with all of the first input.
    "multiply": lambda call: reduce(np.multiply, call.inputs),
    "concat": lambda call: np.concatenate(call.inputs, axis=1),
    "stack_rows": lambda call: np.concatenate(call.inputs, axis=2),
    "split": lambda call: np.split(call.x, call.attributes.parts, axis=1),
    "take": lambda call: call.x[:, call.attributes.start : call.attributes.stop or None],
    "shuffle": _shuffle,
    "pad_channels": _pad_channels,
    "subsample": lambda call: _subsampled(call.x, call.attributes.stride),
    "blur_pool": _blur_pool,
    "channel_conv": _channel_conv,
    "rescale": lambda call: call.attributes.factor * call.x + call.attributes.offset,
    "learned_scale": lambda call: call.x * call.parameters["weight"],
    "learned_shift": lambda call: call.x + call.parameters["bias"],
    # What they zero they zero in training alone.
    "dropout": lambda call: call.x,
    "drop_path": lambda call: call.x,
    "identity": lambda call: call.x,
}
