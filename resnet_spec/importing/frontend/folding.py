"""What follows from constants alone: sizes that exporters compute, kernels that were standardised.

Each operator is a line of numpy. What would be larger than any network's tensor is refused before
it is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.readers.model import MAX_FOLDED, Node

Array = Any
Rule = Callable[[Sequence[Array], Mapping[str, Any]], Any]

# By ONNX's numbers of types.
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64",
}  # fmt: skip


def folded(node: Node, inputs: Sequence[Array]) -> list[Array] | None:
    """The outputs of an operator on constants; None for one that is not folded."""
    rule = _RULES.get(node.kind)
    if rule is None:
        return None
    try:
        with np.errstate(all="ignore"):
            made = rule(inputs, node.attributes)
    except (ValueError, IndexError, TypeError, KeyError, np.exceptions.AxisError) as error:
        raise Unsupported(f"its constants do not fit: {error}") from None
    return list(made) if isinstance(made, list) else [np.asarray(made)]


def _bounded(dims: Iterable[int]) -> tuple[int, ...]:
    sizes = tuple(int(each) for each in dims)
    if any(each < 0 for each in sizes) or math.prod(sizes) > MAX_FOLDED:
        raise Unsupported(f"a constant of {'x'.join(map(str, sizes))} is too large")
    return sizes


def axes_of(inputs: Sequence[Array], attributes: Mapping[str, Any], place: int = 1) -> list[int]:
    """Axes, which older versions of operators have as an attribute."""
    if "axes" in attributes:
        return [int(each) for each in attributes["axes"]]
    if len(inputs) > place and inputs[place] is not None:
        return [int(each) for each in np.reshape(inputs[place], -1)]
    return []


def _binary(function: Callable[[Array, Array], Array]) -> Rule:
    def rule(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
        _bounded(np.broadcast_shapes(np.shape(inputs[0]), np.shape(inputs[1])))
        return function(inputs[0], inputs[1])

    return rule


def _divide(left: Array, right: Array) -> Array:
    if np.issubdtype(np.asarray(left).dtype, np.integer):
        if not np.all(right):
            raise ValueError("division by zero")
        return np.trunc(left / right).astype(np.asarray(left).dtype)
    return left / right


def _cast(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    return inputs[0].astype(_TYPES[attributes["to"]], copy=False)


def _reshape(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    return np.reshape(inputs[0], target(inputs[1], np.shape(inputs[0]), attributes))


def target(asked: Array, given: Sequence[int], attributes: Mapping[str, Any]) -> list[int]:
    """The shape that a Reshape asks for: 0 is the input's, -1 what is left."""
    dims = [int(each) for each in np.reshape(asked, -1)]
    if not attributes.get("allowzero"):
        dims = [given[k] if each == 0 and k < len(given) else each for k, each in enumerate(dims)]
    if dims.count(-1) == 1:
        known = math.prod(each for each in dims if each != -1)
        if known == 0 or math.prod(given) % known:
            raise Unsupported(f"a reshape of {'x'.join(map(str, given))} to {dims}")
        dims[dims.index(-1)] = math.prod(given) // known
    if math.prod(dims) != math.prod(given):
        raise Unsupported(f"a reshape of {'x'.join(map(str, given))} to {dims}")
    return dims


def _squeeze(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    axes = axes_of(inputs, attributes)
    return np.squeeze(inputs[0], tuple(axes) if axes else None)


def _unsqueeze(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    return np.expand_dims(inputs[0], tuple(axes_of(inputs, attributes)))


def _gather(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    return np.take(inputs[0], np.asarray(inputs[1]), attributes.get("axis", 0))


def _slice(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    bounds = slices(inputs, attributes, np.ndim(inputs[0]))
    cut = [slice(None)] * np.ndim(inputs[0])
    for axis, (start, stop, step) in bounds.items():
        backwards = step < 0 and stop < -np.shape(inputs[0])[axis]
        cut[axis] = slice(start, None if backwards else stop, step)
    return inputs[0][tuple(cut)]


def slices(
    inputs: Sequence[Array], attributes: Mapping[str, Any], rank: int
) -> dict[int, tuple[int, int, int]]:
    """By axis, where a Slice starts, stops and how it steps."""
    if "starts" in attributes:
        starts, stops = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes"), None
    else:
        starts, stops = (np.reshape(each, -1) for each in inputs[1:3])
        axes, steps = (
            np.reshape(inputs[k], -1) if len(inputs) > k and inputs[k] is not None else None
            for k in (3, 4)
        )
    every = zip(
        range(len(starts)) if axes is None else axes,
        starts,
        stops,
        [1] * len(starts) if steps is None else steps,
        strict=True,
    )
    return {int(axis) % rank: (int(a), int(b), int(step)) for axis, a, b, step in every}


def _filled(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    value = attributes.get("value", np.zeros(1, np.float32))
    return np.full(_bounded(np.reshape(inputs[0], -1)), np.reshape(value, -1)[0])


def _expand(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    shape = np.broadcast_shapes(np.shape(inputs[0]), _bounded(np.reshape(inputs[1], -1)))
    return np.broadcast_to(inputs[0], _bounded(shape))


def _range(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    start, stop, step = (np.reshape(each, -1)[0] for each in inputs[:3])
    if not step:
        raise ValueError("a range with a step of 0")
    _bounded([max(0, math.ceil((float(stop) - float(start)) / float(step)))])
    return np.arange(start, stop, step)


def _reduced(function: Callable[..., Array]) -> Rule:
    def rule(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
        axes = axes_of(inputs, attributes)
        keep = bool(attributes.get("keepdims", 1))
        return function(inputs[0], axis=tuple(axes) if axes else None, keepdims=keep)

    return rule


def _concatenated(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    _bounded([sum(int(np.size(each)) for each in inputs)])
    return np.concatenate([np.atleast_1d(each) for each in inputs], attributes["axis"])


def _split(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> list[Array]:
    axis = attributes.get("axis", 0)
    sizes = attributes.get("split", inputs[1] if len(inputs) > 1 else None)
    if sizes is None:
        raise Unsupported("a split of a constant into parts whose number is not stated")
    return list(np.split(inputs[0], np.cumsum(sizes)[:-1], axis))


def _normalised(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """A batch norm, which some standardise kernels with: by their own statistics."""
    given = inputs[0]
    shape = (1, -1, *(1 for _ in range(np.ndim(given) - 2)))
    scale, shift, mean, variance = (np.reshape(each, shape) for each in inputs[1:5])
    if attributes.get("training_mode"):
        axes = (0, *range(2, np.ndim(given)))
        mean, variance = (f(given, axis=axes, keepdims=True) for f in (np.mean, np.var))
    eps = attributes.get("epsilon", 1e-5)
    return ((given - mean) / np.sqrt(variance + eps) * scale + shift).astype(given.dtype)


def _plain(function: Callable[[Array], Array]) -> Rule:
    return lambda inputs, attributes: function(inputs[0])


_RULES: dict[str, Rule] = {
    "Identity": _plain(lambda x: x),
    "Dropout": _plain(lambda x: x),
    "Cast": _cast,
    "CastLike": lambda inputs, _: inputs[0].astype(np.asarray(inputs[1]).dtype, copy=False),
    "Shape": lambda inputs, attributes: np.array(
        np.shape(inputs[0])[attributes.get("start", 0) : attributes.get("end")], np.int64
    ),
    "Size": _plain(lambda x: np.array(np.size(x), np.int64)),
    "Reshape": _reshape,
    "Flatten": lambda inputs, attributes: np.reshape(
        inputs[0], (math.prod(np.shape(inputs[0])[: attributes.get("axis", 1)]), -1)
    ),
    "Transpose": lambda inputs, attributes: np.transpose(inputs[0], attributes.get("perm")),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concatenated,
    "Split": _split,
    "Gather": _gather,
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Range": _range,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Pow": _binary(np.power),
    "Mod": _binary(np.mod),
    "Max": _binary(np.maximum),
    "Min": _binary(np.minimum),
    "Equal": _binary(np.equal),
    "Where": lambda inputs, attributes: np.where(*inputs[:3]),
    "Sqrt": _plain(np.sqrt),
    "Neg": _plain(np.negative),
    "Abs": _plain(np.abs),
    "Exp": _plain(np.exp),
    "Floor": _plain(np.floor),
    "Ceil": _plain(np.ceil),
    "Not": _plain(np.logical_not),
    "Reciprocal": _plain(lambda x: 1 / x),
    "BatchNormalization": _normalised,
    "ReduceMean": _reduced(np.mean),
    "ReduceSum": _reduced(np.sum),
    "ReduceProd": _reduced(np.prod),
    "ReduceMax": _reduced(np.max),
}
