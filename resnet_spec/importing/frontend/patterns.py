"""Several operators that together are one of the language: found when all of a graph is there.

What only makes sense together (a bias that is added apart, bounds, erf, borders that are reflected)
is in the graph by names that are no primitives until here; what is left then can't be said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.frontend.layers import padding_of
from resnet_spec.importing.graph import Graph, Op, Value, completed, is_point
from resnet_spec.importing.normal_form import cuts_off
from resnet_spec.importing.readers.model import told_of
from resnet_spec.primitives import PRIMITIVES, SAME

_WORDS = {
    "scale_channels": "a product with one number for each channel",
    "shift_channels": "a sum with one number for each channel",
    "clip": "bounds from {low} to {high}",
    "erf": "the error function by itself",
    "pad": "rows and columns of zeros on some sides: {sides}",
    "reflect_pad": "borders that are reflected",
    "repeat": "a value that is repeated over all places",
    "every_nth": "every n-th row or column alone",
}


class Around(NamedTuple):
    """A graph, and what gives and what takes each value."""

    graph: Graph
    makers: dict[Value, Op]
    users: dict[Value, list[Op]]


Rule = Callable[[Around, Op, Op | None], bool]


def resolve(graph: Graph) -> list[str]:
    """Bring a graph to primitives, and give what is to be told of it.

    Raises `Unsupported` with the place of what is left.
    """
    rules: tuple[Rule, ...] = (
        _affine,
        _bounds,
        _rescalings,
        _hard_sigmoid,
        _gelu,
        _blur,
        _padding,
    )
    _unrepeat(graph)
    scales = [op for op in graph.ops if op.kind == "scale_channels"]
    for rule in rules:
        _apply(graph, rule)
    norms = [op.place for op in scales if op.kind == "batch_norm"]
    factors = [op.place for op in graph.ops if _as_convolution(graph, op)]
    for op in graph.ops:
        if op.kind == "pad":
            _whole_padding(op)
        if op.kind == "group_norm":
            _complete(op, graph.shapes[op.output].channels)
        if op.kind not in PRIMITIVES:
            what = _WORDS[op.kind].format(**op.attributes)
            raise Unsupported(f"the language has no operation for {what}", op.place)
    found = ((norms, _AFFINE), (factors, _SCALE))
    return [told_of(places, what) for places, what in found if places]


_AFFINE = "a product and a sum for each channel is a batch norm in the spec"
_SCALE = "a factor for each channel is a convolution of 1x1 of each channel by itself in the spec"


def _as_convolution(graph: Graph, op: Op) -> bool:
    """A factor for each channel of a map, such as a layer scale: weights that training moves."""
    if op.kind != "scale_channels" or is_point(graph.shapes[op.output]):
        return False
    weight = op.parameters["weight"]
    stated = {"filters": weight.size, "kernel": 1, "stride": 1, "padding": 0, "bias": False}
    op.attributes = completed("conv", {**stated, "dilation": 1, "groups": weight.size})
    op.kind, op.parameters = "conv", {"weight": np.reshape(weight, (-1, 1, 1, 1))}
    return True


def _unrepeat(graph: Graph) -> None:
    """A product scales every place of a map by a map of one place: nothing needs to repeat it."""
    users = graph.users()
    passing = {
        op.output: op.inputs[0]
        for op in graph.ops
        if op.kind == "repeat" and all(each.kind == "multiply" for each in users[op.output])
    }
    for op in graph.ops:
        if op.kind == "multiply" and not all(value in passing for value in op.inputs):
            op.inputs.sort(key=lambda value: value in passing)
            op.inputs = [passing.get(value, value) for value in op.inputs]


def _apply(graph: Graph, rule: Rule) -> None:
    """A rule for each operation with the one that it alone takes; joined, the first one goes."""
    around = Around(graph, graph.producers(), graph.users())
    makers, users = around.makers, around.users
    passing: dict[Value, Value] = {}
    for op in graph.ops:
        op.inputs = [_last(passing, value) for value in op.inputs]
        before = makers.get(op.inputs[0])
        alone = before is not None and users.get(before.output) in ([op], None)
        if rule(around, op, before if alone else None):
            assert before is not None
            passing[op.output] = before.output
            users[before.output] = users.get(op.output, [])
    graph.replaced(passing)
    graph.sort()


def _last(passing: dict[Value, Value], value: Value) -> Value:
    while value in passing:
        value = passing[value]
    return value


# --- scales and shifts ---------------------------------------------------------------------------


def _affine(around: Around, op: Op, before: Op | None) -> bool:
    """A bias or a scale that is applied after its layer."""
    if before is None:
        return False
    if op.kind == "shift_channels":
        return _shift(before, op)
    if op.kind == "scale_channels" and before.kind in ("batch_norm", "group_norm"):
        scale = op.parameters["weight"]
        affine = {k: scale * v for k, v in before.parameters.items() if k in ("weight", "bias")}
        before.parameters = {**before.parameters, "weight": scale, **affine}
        return True
    return False


def _shift(before: Op, op: Op) -> bool:
    bias, kind = op.parameters["bias"], before.kind
    if kind in ("conv", "linear"):
        before.attributes["bias"] = True
    elif kind == "scale_channels":
        eps, ones = 1e-5, np.ones_like(bias)
        before.kind, before.attributes = "batch_norm", {"eps": eps}
        before.parameters = {
            "weight": before.parameters["weight"],
            "bias": bias,
            "running_mean": 0 * ones,
            "running_var": (1 - eps) * ones,
        }
        return True
    elif kind not in ("batch_norm", "group_norm"):
        return False
    present = before.parameters.get("bias")
    before.parameters = {**before.parameters, "bias": bias if present is None else present + bias}
    return True


def _complete(op: Op, channels: int) -> None:
    """A norm whose scale is one and whose shift is none."""
    op.parameters.setdefault("weight", np.ones(channels, np.float32))
    op.parameters.setdefault("bias", np.zeros(channels, np.float32))


# --- activations ---------------------------------------------------------------------------------


def _bounds(around: Around, op: Op, before: Op | None) -> bool:
    """A lower and an upper bound that are applied one after the other."""
    if before is None or "clip" not in (op.kind, before.kind):
        return False
    first, second = _bounds_of(before), _bounds_of(op)
    if first is None or second is None:
        return False
    low, high = max(first[0], second[0]), min(first[1], second[1])
    if low > high:
        return False
    before.kind, before.attributes = "clip", {"low": low, "high": high}
    return True


def _bounds_of(op: Op) -> tuple[float, float] | None:
    if op.kind == "relu":
        return 0.0, math.inf
    return (op.attributes["low"], op.attributes["high"]) if op.kind == "clip" else None


def _rescalings(around: Around, op: Op, before: Op | None) -> bool:
    """A factor and an offset that are applied one after the other."""
    if before is None or op.kind != "rescale" or before.kind != "rescale":
        return False
    factor, offset = op.attributes["factor"], op.attributes["offset"]
    before.attributes = {
        "factor": before.attributes["factor"] * factor,
        "offset": before.attributes["offset"] * factor + offset,
    }
    return True


def _hard_sigmoid(around: Around, op: Op, before: Op | None) -> bool:
    """`min(max(x + 3, 0), 6) / 6` with its factors where one likes, and what it is a factor of."""
    if op.kind == "clip":
        _is_hard_sigmoid(around, op, 1.0, 0.0)
        return False
    if op.kind == "multiply" and len(op.inputs) == 2:  # (x / 6) * bounds
        for value, other in (op.inputs, op.inputs[::-1]):
            clip, scale = around.makers.get(value), around.makers.get(other)
            if clip is None or scale is None or not _is_factor(scale):
                continue
            alone = around.users[value] == [op]
            if alone and _is_hard_sigmoid(around, clip, scale.attributes["factor"], 0.0):
                op.inputs = [scale.inputs[0], value]
                break
        return False
    if before is None or op.kind != "rescale":
        return False
    factor, offset = op.attributes["factor"], op.attributes["offset"]
    if before.kind != "multiply":
        return _is_hard_sigmoid(around, before, factor, offset)
    givers = [around.makers.get(value) for value in before.inputs]  # x * bounds / 6
    found = [each for each in givers if each is not None and each.kind == "clip"]
    if offset or len(found) != 1 or around.users[found[0].output] != [before]:
        return False
    return _is_hard_sigmoid(around, found[0], factor, 0.0)


def _is_factor(op: Op) -> bool:
    return op.kind == "rescale" and op.attributes["offset"] == 0


def _is_hard_sigmoid(around: Around, clip: Op, factor: float, offset: float) -> bool:
    """Make bounds that are scaled and shifted afterwards a hard sigmoid, if they are one."""
    if clip.kind != "clip":
        return False
    scale, shift, value = 1.0, 0.0, clip.inputs[0]
    while (op := around.makers.get(value)) is not None and op.kind == "rescale":
        shift += scale * op.attributes["offset"]
        scale *= op.attributes["factor"]
        value = op.inputs[0]
    low, high = clip.attributes["low"], clip.attributes["high"]
    found = (factor * low + offset, factor * high + offset, factor * scale, factor * shift + offset)
    if not np.allclose(found, (0, 1, 1 / 6, 1 / 2), rtol=1e-5, atol=1e-6):
        return False
    clip.kind, clip.attributes, clip.inputs = "hard_sigmoid", {}, [value]
    return True


def _gelu(around: Around, op: Op, before: Op | None) -> bool:
    """`x * (1 + erf(x / sqrt(2))) / 2`, in the orders in which exporters write it."""
    if op.kind == "rescale" and before is not None and before.kind == "multiply":
        scale, product = op.attributes["factor"], before
        last = before
    elif op.kind == "multiply":
        scale, product, last = 1.0, op, None
    else:
        return False
    if len(product.inputs) != 2:
        return False
    for x, y in (product.inputs, product.inputs[::-1]):
        found = _erf_of(around.makers, x, y, scale)
        if found is not None:
            product.kind, product.inputs = "gelu", [found]
            return last is not None
    return False


def _erf_of(makers: dict[Value, Op], x: Value, y: Value, scale: float) -> Value | None:
    """The value of which this is gelu; `scale` is applied to the product afterwards."""
    first = makers.get(x)
    scaled = first is not None and first.kind == "rescale" and first.attributes["offset"] == 0
    if scaled and math.isclose(scale * first.attributes["factor"], 0.5, rel_tol=1e-5):  # type: ignore[union-attr]
        scale, x = 0.5, first.inputs[0]  # type: ignore[union-attr]
    factor, offset, value = scale, 0.0, y
    while (op := makers.get(value)) is not None and op.kind == "rescale":
        offset += factor * op.attributes["offset"]
        factor *= op.attributes["factor"]
        value = op.inputs[0]
    if op is None or op.kind != "erf":
        return None
    inner = makers.get(op.inputs[0])
    if (
        inner is None
        or inner.kind != "rescale"
        or inner.inputs != [x]
        or inner.attributes["offset"]
    ):
        return None
    right = math.isclose(inner.attributes["factor"], math.sqrt(0.5), rel_tol=1e-5)
    halves = math.isclose(factor, 0.5, rel_tol=1e-5) and math.isclose(offset, 0.5, rel_tol=1e-5)
    return x if right and halves else None


# --- places --------------------------------------------------------------------------------------


def _blur(around: Around, op: Op, before: Op | None) -> bool:
    """Reflected borders, then (1, 2, 1) / 4 both ways: as a convolution, or as two means."""
    if before is None:
        return False
    if op.kind == "conv" and before.kind == "reflect_pad":
        stride, kernel = op.attributes["stride"], op.parameters["weight"]
        wanted = np.outer([1, 2, 1], [1, 2, 1]) / 16
        if kernel.shape[1:] != (1, 3, 3) or not np.allclose(kernel, wanted, atol=1e-6):
            return False
        blur = {"padding": 0, "dilation": 1, "groups": len(kernel), "bias": False}
        if not blur.items() <= op.attributes.items():
            return False
        border = before
    elif op.kind == "avg_pool" and before.kind == "avg_pool":
        stride = op.attributes["stride"]
        mean = {"kernel": 2, "padding": 0}
        means = all(
            mean.items() <= each.attributes.items()
            and not cuts_off(each.attributes, around.graph.shapes[each.inputs[0]])
            for each in (op, before)
        )
        first = around.makers.get(before.inputs[0])
        if not means or before.attributes["stride"] != 1 or first is None:
            return False
        border = first
    else:
        return False
    if border.kind != "reflect_pad" or border.attributes["sides"] != (1, 1, 1, 1):
        return False
    op.kind, op.attributes, op.parameters = "blur_pool", {"stride": stride}, {}
    op.inputs = list(border.inputs)
    return False


def _padding(around: Around, op: Op, before: Op | None) -> bool:
    """Zeros around a map are the padding of the convolution or the mean that sees them."""
    if before is None or before.kind != "pad" or op.kind not in ("conv", "avg_pool"):
        return False
    attributes = op.attributes
    if attributes["padding"] == SAME:
        return False
    if op.kind == "avg_pool" and cuts_off(attributes, around.graph.shapes[op.inputs[0]]):
        return False
    kernel, stride = attributes["kernel"], attributes["stride"]
    sides = [each + attributes["padding"] for each in before.attributes["sides"]]
    given = around.graph.shapes[before.inputs[0]]
    try:
        padding = padding_of(given, sides, kernel, stride, attributes.get("dilation", 1))
    except Unsupported:
        return False
    if op.kind == "avg_pool" and (padding == SAME or 2 * int(padding) > kernel):
        return False
    if padding == SAME:
        around.graph.one_sided.append(op.place)
    if op.kind == "avg_pool":
        attributes["ceil"] = False  # no window is cut off, and the language has none for padding
    attributes["padding"] = padding
    op.inputs = list(before.inputs)
    return False


def _whole_padding(op: Op) -> None:
    """As much on every side, as the language has it for others than convolutions."""
    sides = set(op.attributes["sides"])
    if len(sides) == 1:
        op.kind, op.attributes = "zero_pad", {"padding": sides.pop()}
