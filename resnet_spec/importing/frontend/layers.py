"""Operators that are layers: convolutions, norms, poolings, fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.frontend import folding, views
from resnet_spec.importing.frontend.builder import described
from resnet_spec.importing.frontend.call import Call, Rule
from resnet_spec.importing.frontend.views import CHANNELS, COLUMNS, ROWS, View
from resnet_spec.importing.graph import Value
from resnet_spec.importing.normal_form import at_one_place, cuts_off, same_padding
from resnet_spec.importing.readers.model import ADAPTIVE_POOL
from resnet_spec.primitives import SAME, Shape

Array = Any


def square(call: Call, name: str, default: int = 1) -> int:
    """An attribute that is the same along rows and columns."""
    found = [int(each) for each in call.attributes.get(name, [default] * 2)]
    if len(set(found)) != 1:
        raise Unsupported(f"{name} of {found}: windows are square")
    if not found or found[0] < 1:
        raise Unsupported(f"{name} of {found}: the language has at least 1")
    return found[0]


def padding(call: Call, value: Value, kernel: int, stride: int, dilation: int = 1) -> int | str:
    """The padding of a window: a number for all sides, or TensorFlow's rule."""
    rule = call.text("auto_pad", "NOTSET")
    if rule == "SAME_UPPER":
        return SAME
    if rule == "VALID":
        return 0
    if rule != "NOTSET":
        raise Unsupported(f"the padding {rule}")
    sides = [int(each) for each in call.attributes.get("pads", [0, 0, 0, 0])]
    found = padding_of(call.builder.shape(value), sides, kernel, stride, dilation)
    if found == SAME:
        call.builder.graph.one_sided.append(call.node.place)
    return found


def padding_of(
    shape: Shape, sides: Sequence[int], kernel: int, stride: int, dilation: int = 1
) -> int | str:
    """Rows above, columns to the left, rows below, columns to the right as the language says it."""
    if len(sides) == 4 and len(set(sides)) == 1:
        return sides[0]
    rows = same_padding(shape.height or 1, kernel, stride, dilation)
    columns = same_padding(shape.width or 1, kernel, stride, dilation)
    if list(sides) == [rows[0], columns[0], rows[1], columns[1]]:
        return SAME
    raise Unsupported(f"a padding of {list(sides)}: above, left, below, right")


def numbers(value: Array) -> Array:
    """A parameter as it is kept: whole numbers and single values are none."""
    found = np.asarray(value)
    if not np.issubdtype(found.dtype, np.floating):
        raise Unsupported(f"weights of the type {found.dtype}: quantised networks are not read")
    return found


# --- convolutions --------------------------------------------------------------------------------


def conv(call: Call) -> View:
    kernel = numbers(call.constant(1))
    bias = call.optional(2)
    if bias is not None and call.parameter(2) is None and not np.any(bias):
        bias = None  # exporters write the bias that is not there
    if kernel.ndim == 3:
        return _channel_conv(call, kernel, bias)
    if kernel.ndim != 4:
        raise Unsupported(f"a convolution over {kernel.ndim - 2} axes")
    value = call.map()
    given, groups = call.builder.shape(value).channels, int(call.attributes.get("group", 1))
    if groups < 1 or kernel.shape[1] * groups != given or kernel.shape[0] % groups:
        shape = "x".join(map(str, kernel.shape))
        raise Unsupported(f"a kernel of {shape} in {groups} groups on {given} channels")
    _check_window(call, kernel)
    if kernel.shape[2] != kernel.shape[3]:
        size = f"{kernel.shape[2]}x{kernel.shape[3]}"
        raise Unsupported(f"a window of {size}: windows are square")
    stride, dilation = square(call, "strides"), square(call, "dilations")
    attributes = {
        "filters": kernel.shape[0],
        "kernel": kernel.shape[2],
        "stride": stride,
        "padding": padding(call, value, kernel.shape[2], stride, dilation),
        "dilation": dilation,
        "groups": groups,
        "bias": bias is not None,
        "standardize": False,
    }
    parameters = {"weight": kernel, **({} if bias is None else {"bias": numbers(bias)})}
    return call.new("conv", [value], attributes, parameters)


def _check_window(call: Call, kernel: Array) -> None:
    """A file may state a window that its kernel has not."""
    stated = [int(each) for each in call.attributes.get("kernel_shape", kernel.shape[2:])]
    if stated != [*kernel.shape[2:]]:
        raise Unsupported(f"a kernel_shape of {stated} for a kernel of {[*kernel.shape[2:]]}")


def _channel_conv(call: Call, kernel: Array, bias: Array) -> View:
    """A 1-D convolution along the channels of a map of one place."""
    view, size = call.view(), kernel.shape[2]
    last = view.axes[-1]
    along = not last or (len(last) == 1 and last[0].name == CHANNELS)
    usual = kernel.shape[:2] == (1, 1) and bias is None and square(call, "strides") == 1
    pads = [int(each) for each in call.attributes.get("pads", [0, 0])]
    if not (along and usual and pads == [size // 2] * 2 and len(view.axes) == 3):
        raise Unsupported("a convolution over one axis")
    return view.of(call.add("channel_conv", [view.value], {"kernel": size}, {"weight": kernel}))


_AXES = {CHANNELS: "channels", ROWS: "rows", COLUMNS: "columns"}
_FLATTENED = [[CHANNELS, ROWS, COLUMNS], [ROWS, COLUMNS, CHANNELS]]  # as frameworks do it


def fully_connected(call: Call, weight: Array, bias: Array) -> View:
    """A layer (out, in) on the last axis of a vector or a flattened map."""
    view = call.view()
    value, order = view.value, [factor.name for factor in view.axes[-1]]
    shape = call.builder.shape(value)
    if call.builder.layout(view) == "NC" or (len(view.axes) == 4 and shape.elements == 1):
        pass
    elif len(view.axes) == 2 and sorted(order) == sorted((CHANNELS, ROWS, COLUMNS)):
        if order not in _FLATTENED:  # checkpoints that come later would not say so
            said = ", ".join(_AXES[each] for each in order)
            raise Unsupported(f"a map that is flattened along {said}")
        _check_taken(weight, shape.elements)
        weight = call.known.same(weight, _in_our_order(weight, order, shape))
        sizes = {"height": shape.height, "width": shape.width}
        value = call.add("flatten", [value], sizes)
    elif call.builder.layout(view) in ("NHWC",):
        return _at_each_place(call, view, weight, bias)
    else:
        raise Unsupported("a fully connected layer on something else than a vector")
    _check_taken(weight, call.builder.shape(value).channels)
    parameters = {"weight": weight, **({} if bias is None else {"bias": numbers(bias)})}
    attributes = {"features": weight.shape[0], "bias": bias is not None}
    made = call.add("linear", [value], attributes, parameters)
    return views.plain(made, call.builder.shape(made), call.builder.batch, rank=2)


def _check_taken(weight: Array, given: int) -> None:
    if weight.shape[1] != given:
        raise Unsupported(f"a fully connected layer of {weight.shape[1]} on a vector of {given}")


def _in_our_order(weight: Array, order: Sequence[str], shape: Shape) -> Array:
    """Columns of a weight for a map flattened as channel, row, column."""
    ours = (CHANNELS, ROWS, COLUMNS)
    if tuple(order) == ours:
        return weight
    sizes = dict(zip(ours, shape.dimensions, strict=True))
    split = weight.reshape(weight.shape[0], *(sizes[each] for each in order))
    turned = split.transpose(0, *(1 + list(order).index(each) for each in ours))
    return turned.reshape(weight.shape)


def _at_each_place(call: Call, view: View, weight: Array, bias: Array) -> View:
    """On a map whose channels stand last a fully connected layer is a 1x1 convolution."""
    attributes = at_one_place(weight.shape[0], bias is not None)
    kernel = weight[:, :, None, None]
    parameters = {"weight": kernel, **({} if bias is None else {"bias": numbers(bias)})}
    return call.builder.like(view, call.add("conv", [view.value], attributes, parameters))


def gemm(call: Call) -> View:
    if call.attributes.get("transA") or call.attributes.get("alpha", 1.0) != 1.0:
        raise Unsupported("a product of matrices with transA or alpha")
    weight, bias = numbers(call.constant(1)), call.optional(2)
    if not call.attributes.get("transB"):
        weight = weight.T
    if bias is not None:
        bias = np.broadcast_to(np.reshape(bias, -1), weight.shape[:1])
        beta = call.attributes.get("beta", 1.0)
        bias = bias if beta == 1.0 else bias * bias.dtype.type(beta)
    return fully_connected(call, weight, bias)


def matmul(call: Call) -> View:
    if not call.is_constant(1):
        raise Unsupported("a product of two values, as attention over places has it")
    weight = numbers(call.constant(1))
    if weight.ndim != 2:
        raise Unsupported(f"a product with a constant of {weight.ndim} axes")
    return fully_connected(call, weight.T, None)


# --- norms ---------------------------------------------------------------------------------------


def epsilon(call: Call) -> float:
    """The number that a node states in single precision, as a person would have written it."""
    return float(f"{float(call.attributes.get('epsilon', 1e-5)):.6g}")


def batch_norm(call: Call) -> View:
    if call.attributes.get("training_mode"):
        raise Unsupported("a norm by the statistics of the batch: export the model in eval mode")
    view = call.view()
    names = ("weight", "bias", "running_mean", "running_var")
    parameters = {name: numbers(call.constant(k + 1)) for k, name in enumerate(names)}
    layout = call.builder.layout(view)
    if layout not in ("NCHW", "NC", "NHWC"):
        raise Unsupported("a norm of something else than a map")
    if parameters["weight"].shape != (call.shape(view).channels,):
        raise Unsupported("a norm with another number of channels than its input")
    made = call.add("batch_norm", [view.value], {"eps": epsilon(call)}, parameters)
    return view.of(made)


def instance_norm(call: Call) -> View:
    """Over (N, groups, rest), as exporters write a group norm, or over each channel alone."""
    view = call.view()
    flat = [factor.name for axis in view.axes[1:] for factor in axis if factor.size > 1]
    if flat != sorted(flat) or any(f.axis != CHANNELS for f in view.axes[1]):
        raise Unsupported("a norm over other axes than groups of channels")
    groups, scale, shift = view.dims[1], numbers(call.constant(1)), numbers(call.constant(2))
    attributes = {"groups": groups, "eps": epsilon(call)}
    channels = call.shape(view).channels
    parameters = {}
    is_plain = call.parameter(1) is None and bool(np.all(scale == 1) and not np.any(shift))
    if groups == channels and not is_plain:  # else the model's own may be applied after it
        parameters = {"weight": scale, "bias": shift}
    elif not is_plain:
        raise Unsupported("a norm with one scale for a group of channels")
    return view.of(call.add("group_norm", [view.value], attributes, parameters))


def group_norm(call: Call) -> View:
    """Without a scale and a shift they are ones and zeros; -1 groups are as many as channels."""
    view = call.view()
    groups, channels = int(call.attributes["num_groups"]), call.shape(view).channels
    groups = channels if groups == -1 else groups
    if groups < 1 or channels % groups:
        raise Unsupported(f"{channels} channels in {groups} groups")
    parameters = {}
    if call.has(1):
        parameters = {"weight": numbers(call.constant(1)), "bias": numbers(call.constant(2))}
        if parameters["weight"].size == groups != channels:
            parameters = {k: np.repeat(v, channels // groups) for k, v in parameters.items()}
    attributes = {"groups": groups, "eps": epsilon(call)}
    return view.of(call.add("group_norm", [call.map()], attributes, parameters))


# --- poolings ------------------------------------------------------------------------------------


def pool(kind: str) -> Rule:
    def rule(call: Call) -> View:
        value = call.map()
        if _covers(call, value):
            call.builder.graph.covering.setdefault(kind, []).append(call.node.place)
            name = "global_avg_pool" if kind == "avg_pool" else "global_max_pool"
            return call.new(name, [value], {"keep_map": True})
        kernel, stride = square(call, "kernel_shape"), square(call, "strides")
        if square(call, "dilations") != 1:
            raise Unsupported("a pooling with dilation")
        rows = padding(call, value, kernel, stride)
        attributes = {
            "kernel": kernel,
            "stride": stride,
            "padding": rows,
            "ceil": bool(call.attributes.get("ceil_mode", 0)) and rows != SAME,
        }
        if kind == "avg_pool" and attributes["padding"] != 0:
            _check_counted(call, attributes["padding"])
        try:
            return call.new(kind, [value], attributes)
        except Unsupported:
            if cuts_off(attributes, call.builder.shape(value)):
                raise
            # The language has no `ceil` for such windows, and none of them is cut off.
            return call.new(kind, [value], {**attributes, "ceil": False})

    return rule


def _check_counted(call: Call, padding: int | str) -> None:
    """A mean counts its padding where that is a number, and leaves TensorFlow's out."""
    counted = bool(call.attributes.get("count_include_pad", 0))
    if counted and padding == SAME:
        raise Unsupported("a mean that counts padding on one side (count_include_pad=1)")
    if not counted and padding != SAME:
        raise Unsupported("a mean that leaves its padding out (count_include_pad=0)")


def _covers(call: Call, value: Value) -> bool:
    """Whether a window is all of a map that has more than one place."""
    sizes = call.builder.shape(value).dimensions[1:]
    alone = call.text("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    padded = any(call.attributes.get("pads", ())) or not alone
    return tuple(call.attributes.get("kernel_shape", ())) == sizes != (1, 1) and not padded


def global_pool(kind: str) -> Rule:
    return lambda call: call.new(kind, [call.map()], {"keep_map": True})


def adaptive_pool(call: Call) -> View:
    return call.new("adaptive_avg_pool", [call.map()], {"size": square(call, "sizes")})


# What a mean or maximum over some axes is, by which of the value's own these are.
_OVER = {
    ("mean", "HW"): "global_avg_pool",
    ("max", "HW"): "global_max_pool",
    ("mean", "C"): "channel_avg_pool",
    ("max", "C"): "channel_max_pool",
}


def reduced(how: str) -> Rule:
    def rule(call: Call) -> View:
        view = call.builder.settled(call.node, call.view())
        given = [None, call.optional(1)] if call.has(1) else [None]
        axes = folding.axes_of(given, call.attributes) or list(range(len(view.axes)))
        axes = sorted(each % len(view.axes) for each in axes)
        if how == "sum":
            return _summed(call, view, axes)
        layout = call.builder.layout(view)
        over = "".join(sorted(layout[each] for each in axes)) if layout else ""
        kind = _OVER.get((how, over))
        if kind is None:
            kind, view, axes = _over_one_place(call, view, axes, how)
        attributes = {"keep_map": True} if "global" in kind else {}
        made = view.of(call.add(kind, [view.value], attributes))
        return _without(made, axes, keep=bool(call.attributes.get("keepdims", 1)))

    return rule


_AT_ONCE = "take it over rows and columns at once, as x.mean((2, 3)) does"


def _over_one_place(
    call: Call, view: View, axes: list[int], how: str
) -> tuple[str, View, list[int]]:
    """Rows and columns that were joined to one axis before the mean over them."""
    over = [factor.name for each in axes for factor in view.axes[each]]
    if sorted(over) == sorted((ROWS, COLUMNS)) and (how, "HW") in _OVER:
        return _OVER[how, "HW"], view, axes
    help = _AT_ONCE if over in ([ROWS], [COLUMNS]) else None
    raise Unsupported(f"a {how} over the axes {axes} of {described(view)}", help=help)


def _without(view: View, axes: Sequence[int], keep: bool) -> View:
    """Without the factors of some axes, or without the axes."""
    if keep:
        changed = [() if k in axes else axis for k, axis in enumerate(view.axes)]
    else:
        changed = [axis for k, axis in enumerate(view.axes) if k not in axes]
    return View(view.value, tuple(changed))


def _summed(call: Call, view: View, axes: list[int]) -> View:
    """A sum over parts of the channels: a split, and the sum of its parts."""
    shape = call.shape(view)
    names = [f.name for axis in view.axes for f in axis if f.axis == CHANNELS]
    factors = view.axes[axes[0]]
    first = len(factors) == 1 and factors[0].name == min(names, default="")
    if len(axes) != 1 or not first or factors[0].size == shape.channels:
        raise Unsupported(f"a sum over the axes {axes}")
    parts = call.builder.split(call.node, view.value, factors[0].size)
    value = call.add("add", parts)
    channels = tuple(views.Factor(CHANNELS, call.builder.shape(value).channels) for _ in range(1))
    changed = [
        () if k == axes[0] else (channels if any(f.axis == CHANNELS for f in axis) else axis)
        for k, axis in enumerate(view.axes)
    ]
    if not call.attributes.get("keepdims", 1):
        del changed[axes[0]]
    return View(value, tuple(changed))


def softmax(call: Call) -> View:
    view = call.view()
    axis = int(call.attributes.get("axis", -1)) % len(view.axes)
    factors = view.axes[axis]
    behind = [factor for each in view.axes[axis + 1 :] for factor in each if factor.size > 1]
    if call.attributes.get("all_behind") and behind:
        raise Unsupported("a softmax over several axes at once")
    names = [f.name for each in view.axes for f in each if f.axis == CHANNELS]
    if not factors or any(f.axis != CHANNELS for f in factors):
        raise Unsupported("a softmax over something else than channels")
    if [f.name for f in factors] == names and names == sorted(names):
        return view.of(call.add("softmax", [view.value], {"groups": 0}))
    if len(factors) != 1:
        raise Unsupported("a softmax over several parts of the channels")
    view, factor = _outermost(call, view, factors[0])
    return view.of(call.add("softmax", [view.value], {"groups": factor.size}))


def _outermost(call: Call, view: View, factor: views.Factor) -> tuple[View, views.Factor]:
    """The same view of channels in which a part of them is the outer one."""
    parts = sorted(f for axis in view.axes for f in axis if f.axis == CHANNELS)
    if parts[0] == factor:
        return view, factor
    if len(parts) < 2 or parts[1] != factor:
        raise Unsupported("a softmax over an inner part of the channels")
    sizes = {"groups": parts[0].size, "parts": factor.size}
    value = call.add("shuffle", [view.value], sizes)
    names = {parts[0].name: factor.name, factor.name: parts[0].name}
    changed = tuple(
        tuple(views.Factor(names.get(f.name, f.name), f.size) for f in axis) for axis in view.axes
    )
    return View(value, changed), views.Factor(parts[0].name, factor.size)


def flat_size(call: Call, view: View) -> list[int]:
    """What Flatten makes of the axes: those before its own, and the rest."""
    axis = int(call.attributes.get("axis", 1))
    dims = view.dims
    return [math.prod(dims[:axis]), math.prod(dims[axis:])]


RULES: dict[str, Rule] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "MaxPool": pool("max_pool"),
    "AveragePool": pool("avg_pool"),
    ADAPTIVE_POOL.replace("::", "."): adaptive_pool,
    "GlobalAveragePool": global_pool("global_avg_pool"),
    "GlobalMaxPool": global_pool("global_max_pool"),
    "ReduceMean": reduced("mean"),
    "ReduceMax": reduced("max"),
    "ReduceSum": reduced("sum"),
    "Softmax": softmax,
}
