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
from resnet_spec.importing.graph import Graph, Op, Value
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
    for op in graph.ops:
        if op.kind == "pad":
            _whole_padding(op)
        if op.kind == "group_norm":
            _complete(op, graph.shapes[op.output].channels)
        if op.kind not in PRIMITIVES:
            what = _WORDS[op.kind].format(**op.attributes)
            raise Unsupported(f"the language has no operation for {what}", op.place)
    if not norms:
        return []
    more = f" and {len(norms) - 1} more" if len(norms) > 1 else ""
    return [f"{norms[0]}{more}: a product and a sum for each channel is a batch norm in the spec"]


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


def _hard_sigmoid(around: Around, op: Op, before: Op | None) -> bool:
    """`min(max(x + 3, 0), 6) / 6`, and the product with x that is divided only then."""
    if before is None or op.kind != "rescale" or op.attributes["offset"] != 0:
        return False
    if not math.isclose(op.attributes["factor"], 1 / 6, rel_tol=1e-5):
        return False
    clip = before
    if before.kind == "multiply":  # x * bounds / 6
        found = [
            m for v in before.inputs if (m := around.makers.get(v)) is not None and m.kind == "clip"
        ]
        if len(found) != 1 or around.users[found[0].output] != [before]:
            return False
        clip = found[0]
    if clip.kind != "clip" or (clip.attributes["low"], clip.attributes["high"]) != (0, 6):
        return False
    shift = around.makers.get(clip.inputs[0])
    if shift is None or shift.kind != "rescale":
        return False
    if (shift.attributes["factor"], shift.attributes["offset"]) != (1, 3):
        return False
    clip.kind, clip.attributes, clip.inputs = "hard_sigmoid", {}, list(shift.inputs)
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
        border = before
    elif op.kind == "avg_pool" and before.kind == "avg_pool":
        stride = op.attributes["stride"]
        windows = [(each.attributes["kernel"], each.attributes["padding"]) for each in (op, before)]
        first = around.makers.get(before.inputs[0])
        if windows != [(2, 0)] * 2 or before.attributes["stride"] != 1 or first is None:
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
    if attributes["padding"] == SAME or (op.kind == "avg_pool" and attributes["ceil"]):
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
    attributes["padding"] = padding
    op.inputs = list(before.inputs)
    return False


def _whole_padding(op: Op) -> None:
    """As much on every side, as the language has it for others than convolutions."""
    sides = set(op.attributes["sides"])
    if len(sides) == 1:
        op.kind, op.attributes = "zero_pad", {"padding": sides.pop()}
