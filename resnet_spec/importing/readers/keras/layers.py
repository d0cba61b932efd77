"""A rule for each of Keras' layers that the language may have words for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.readers.keras.emitter import TO_FIRST, TO_LAST, Array, Call, Value
from resnet_spec.importing.readers.keras.topology import AUGMENTATIONS

Rule = Callable[[Call], Value]


# --- activations ---------------------------------------------------------------------------------

# Keras' names of functions, with what their nodes state.
_FUNCTIONS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "relu": ("Relu", {}),
    "relu6": ("Clip", {"min": 0.0, "max": 6.0}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "silu": ("Swish", {}),
    "swish": ("Swish", {}),
    "gelu": ("Gelu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "hard_silu": ("HardSwish", {}),
    "hard_swish": ("HardSwish", {}),
}


def activated(call: Call, value: Value, part: str | None = None) -> Value:
    """What a layer's `activation` makes of its value."""
    name = call.options.text("activation", "linear")
    if name == "linear":
        return value
    if name == "hard_sigmoid":  # Keras 3 has another one than its predecessors
        slope = 1 / 6 if call.written.version >= 3 else 0.2
        return call.node("HardSigmoid", [value.name], value.rank, part, alpha=slope, beta=0.5)
    found = _FUNCTIONS.get(name)
    if found is None:
        raise Unsupported(f"the language has no activation {quoted(name)}")
    return call.node(found[0], [value.name], value.rank, part, **found[1])


def activation(call: Call) -> Value:
    return activated(call, call.value, "")


def relu(call: Call) -> Value:
    """With bounds, slopes and thresholds, which is what Keras has of one layer."""
    options, value = call.options, call.value
    slope, threshold = options.number("negative_slope", 0), options.number("threshold", 0)
    bound = options.number("max_value") if options.has("max_value") else None
    if threshold:
        raise Unsupported(f"a threshold of {threshold:g}: the language has 0")
    if bound is not None and slope:
        raise Unsupported(f"a bound of {bound:g} and a slope of {slope:g}")
    if bound is not None:
        return call.node("Clip", [value.name], value.rank, "", min=0.0, max=bound)
    if slope:
        return call.node("LeakyRelu", [value.name], value.rank, "", alpha=slope)
    return call.node("Relu", [value.name], value.rank)


def leaky_relu(call: Call) -> Value:
    key = "alpha" if call.options.has("alpha") else "negative_slope"
    slope = call.options.number(key, 0.3)
    return call.node("LeakyRelu", [call.value.name], call.value.rank, "", alpha=slope)


def softmax(call: Call) -> Value:
    axis = call.options.axis("axis")
    return call.node("Softmax", [call.value.name], call.value.rank, "", axis=axis)


# --- convolutions --------------------------------------------------------------------------------


_AT_EACH_PLACE: dict[str, Any] = {
    "strides": [1, 1], "dilations": [1, 1], "group": 1, "pads": [0, 0, 0, 0]
}  # fmt: skip


def _window(call: Call, size: str) -> dict[str, Any]:
    """How a window moves."""
    options = call.options
    kernel = options.pair(size)
    strides = kernel if size == "pool_size" and not options.has("strides") else [1, 1]
    strides = (
        options.pair("strides", (strides[0], strides[1])) if options.has("strides") else strides
    )
    same = options.word("padding", "valid", "valid", "same") == "same"
    rule = {"auto_pad": "SAME_UPPER"} if same else {"pads": [0, 0, 0, 0]}
    return {"kernel_shape": kernel, "strides": strides, **rule}


def _convolved(
    call: Call, value: Value, kernel: Array, bias: Array | None, part: str = "", **attributes: Any
) -> Value:
    """A convolution of a map with its channels first by a kernel (out, in, rows, columns)."""
    prefix = f"{part}." if part else ""
    names = [value.name, call.constant(f"{prefix}weight", kernel, True)]
    if bias is not None:
        names.append(call.constant(f"{prefix}bias", bias, True))
    return call.node("Conv", names, 4, part, **attributes)


def _outwards(kernel: Array) -> Array:
    """Keras' (rows, columns, in, out) as (out, in, rows, columns)."""
    return np.transpose(kernel, (3, 2, 0, 1))


def _of_channels(kernel: Array) -> Array:
    """Keras' (rows, columns, channels, multiplier) as that of a convolution in groups."""
    rows, columns, channels, multiplier = kernel.shape
    return _outwards(kernel.reshape(rows, columns, 1, channels * multiplier))


def _taken(call: Call, *names: str) -> tuple[list[Array], Array | None]:
    """The kernels of a layer, and its bias if it has one."""
    has_bias = call.options.flag("use_bias", True)
    *kernels, last = call.variables(*names, *(["bias"] if has_bias else []))
    return (kernels, last) if has_bias else ([*kernels, last], None)


def conv(call: Call) -> Value:
    options, is_first = call.options, call.is_first()
    window, filters = _window(call, "kernel_size"), options.integer("filters")
    groups, dilations = options.integer("groups", 1), options.pair("dilation_rate", 1)
    (kernel,), bias = _taken(call, "kernel")
    kernel = call.shaped(kernel, (*window["kernel_shape"], None, filters), "kernel")
    bias = None if bias is None else call.shaped(bias, (filters,), "bias")
    given = call.first(call.map(), is_first)
    stated = {**window, "dilations": dilations, "group": groups}
    made = _convolved(call, given, _outwards(kernel), bias, **stated)
    return activated(call, call.back(made, is_first))


def depthwise_conv(call: Call) -> Value:
    options, is_first = call.options, call.is_first()
    window, multiplier = _window(call, "kernel_size"), options.integer("depth_multiplier", 1)
    dilations = options.pair("dilation_rate", 1)
    options.only("groups", 1)
    (kernel,), bias = _taken(call, "kernel")
    kernel = call.shaped(kernel, (*window["kernel_shape"], None, multiplier), "kernel")
    channels = kernel.shape[2]
    bias = None if bias is None else call.shaped(bias, (channels * multiplier,), "bias")
    stated = {**window, "dilations": dilations, "group": channels}
    made = _convolved(call, call.first(call.map(), is_first), _of_channels(kernel), bias, **stated)
    return activated(call, call.back(made, is_first))


def separable_conv(call: Call) -> Value:
    options, is_first = call.options, call.is_first()
    window, filters = _window(call, "kernel_size"), options.integer("filters")
    multiplier, dilations = options.integer("depth_multiplier", 1), options.pair("dilation_rate", 1)
    options.only("groups", 1)
    (depthwise, pointwise), bias = _taken(call, "depthwise_kernel", "pointwise_kernel")
    shape = (*window["kernel_shape"], None, multiplier)
    depthwise = call.shaped(depthwise, shape, "depthwise kernel")
    channels = depthwise.shape[2]
    pointwise = call.shaped(pointwise, (1, 1, channels * multiplier, filters), "pointwise kernel")
    bias = None if bias is None else call.shaped(bias, (filters,), "bias")
    stated = {**window, "dilations": dilations, "group": channels}
    value = call.first(call.map(), is_first)
    value = _convolved(call, value, _of_channels(depthwise), None, "depthwise", **stated)
    value = _convolved(call, value, _outwards(pointwise), bias, "pointwise", **_AT_EACH_PLACE)
    return activated(call, call.back(value, is_first))


def dense(call: Call) -> Value:
    """On the last axis; of a map that is a 1x1 convolution."""
    units, value = call.options.integer("units"), call.value
    (kernel,), bias = _taken(call, "kernel")
    kernel = call.shaped(kernel, (None, units), "kernel")
    bias = None if bias is None else call.shaped(bias, (units,), "bias")
    if value.rank == 4:
        turned = _outwards(kernel[None, None])
        made = _convolved(call, call.first(value, False), turned, bias, **_AT_EACH_PLACE)
        return activated(call, call.back(made, False))
    if value.rank != 2:
        raise Unsupported(f"it takes a value of {value.rank} axes, not a vector or a map")
    names = [value.name, call.constant("weight", kernel, True)]
    if bias is not None:
        names.append(call.constant("bias", bias, True))
    return activated(call, call.node("Gemm", names, 2))


# --- norms ---------------------------------------------------------------------------------------


def _on_channels(call: Call, value: Value, axis: int) -> bool:
    """Whether the axis of the channels stands first, not last."""
    place = axis % value.rank
    if place not in (1, value.rank - 1):
        raise Unsupported(f"it works along axis {axis}, not along channels")
    if place == 1 and value.rank == 4 and call.written.always_last:
        raise Unsupported(f"it works along axis {axis}, the rows of its map, not along channels")
    return place == 1


def batch_norm(call: Call) -> Value:
    options, value = call.options, call.value
    if value.rank not in (2, 4):
        raise Unsupported(f"it takes a value of {value.rank} axes, not a vector or a map")
    first = _on_channels(call, value, options.axis("axis")) or value.rank == 2
    options.only("renorm", False)
    options.only("virtual_batch_size")
    options.only("adjustment")
    has = {"gamma": options.flag("scale", True), "beta": options.flag("center", True)}
    eps = options.number("epsilon", 1e-3)
    kept = [name for name, is_there in has.items() if is_there]
    found = dict(zip((*kept, "mean", "variance"), call.variables(
        *kept, "moving_mean", "moving_variance"), strict=True))  # fmt: skip
    channels = len(found["mean"]) if found["mean"].ndim == 1 else 0
    plain = {"gamma": np.ones(channels, np.float32), "beta": np.zeros(channels, np.float32)}
    if len(kept) < 2:
        call.written.unscaled.append(call.layer.name)
    given = value if first else call.turned(value, TO_FIRST)
    names = [given.name]
    for theirs, ours in _NORM.items():
        array = call.shaped(found.get(theirs, plain.get(theirs)), (channels,), theirs)
        names.append(call.constant(ours, array, True))
    made = call.node("BatchNormalization", names, value.rank, "", epsilon=eps)
    return made if first else call.turned(made, TO_LAST)


_NORM = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


def group_norm(call: Call) -> Value:
    options, value = call.options, call.map()
    first = _on_channels(call, value, options.axis("axis"))
    eps, groups = options.number("epsilon", 1e-3), options.integer("groups", 32, least=-1)
    has = {"gamma": options.flag("scale", True), "beta": options.flag("center", True)}
    kept = [name for name, is_there in has.items() if is_there]
    found = dict(zip(kept, call.variables(*kept) if kept else [], strict=True))
    if len(kept) < 2:
        call.written.unscaled.append(call.layer.name)
    given = call.first(value, first)
    names = [given.name]
    if found:
        channels = next(iter(found.values())).size
        plain = {"gamma": np.ones(channels, np.float32), "beta": np.zeros(channels, np.float32)}
        for theirs, ours in (("gamma", "weight"), ("beta", "bias")):
            array = call.shaped(found.get(theirs, plain[theirs]), (channels,), theirs)
            names.append(call.constant(ours, array, True))
    stated = {"num_groups": groups, "epsilon": eps}
    return call.back(call.node("GroupNormalization", names, 4, "", **stated), first)


# --- poolings ------------------------------------------------------------------------------------


def pool(kind: str) -> Rule:
    def rule(call: Call) -> Value:
        is_first = call.is_first()
        given = call.first(call.map(), is_first)
        made = call.node(kind, [given.name], 4, "", **_window(call, "pool_size"))
        return call.back(made, is_first)

    return rule


def global_pool(kind: str) -> Rule:
    def rule(call: Call) -> Value:
        axes = [2, 3] if call.is_first() else [1, 2]
        keep = call.options.flag("keepdims", False)
        rank = 4 if keep else 2
        return call.node(kind, [call.map().name], rank, "", axes=axes, keepdims=int(keep))

    return rule


# --- shapes --------------------------------------------------------------------------------------


def padding(call: Call) -> Value:
    is_first, value = call.is_first(), call.map()
    rows, columns = call.options.sides("padding")
    before, after = ([each[side] for each in (rows, columns)] for side in (0, 1))
    sides = [0, 0, *before, 0, 0, *after] if is_first else [0, *before, 0, 0, *after, 0]
    return call.node("Pad", [value.name], 4, "", pads=sides)


def flatten(call: Call) -> Value:
    """Along rows, columns, channels, whatever the order in which they stand."""
    is_first, value = call.is_first(), call.value
    if is_first and value.rank == 4:
        value = call.turned(value, TO_LAST)
    return call.node("Flatten", [value.name], 2, "", axis=1)


def reshape(call: Call) -> Value:
    found = call.options.sizes("target_shape", least=-1)
    if found.count(-1) > 1 or 0 in found:
        raise Unsupported(f"a reshape to {found}")
    target = call.constant("shape", np.array([1, *found], np.int64))
    return call.node("Reshape", [call.value.name, target], 1 + len(found), "")


def permute(call: Call) -> Value:
    order, value = call.options.sizes("dims"), call.value
    if sorted(order) != list(range(1, value.rank)):
        raise Unsupported(f"it turns the axes to {order}")
    return call.node("Transpose", [value.name], value.rank, "", perm=[0, *order])


# --- several values ------------------------------------------------------------------------------


def _ranks(call: Call) -> int:
    ranks = {each.rank for each in call.inputs}
    if len(ranks) != 1 or len(call.inputs) < 2:
        raise Unsupported(f"it takes {len(call.inputs)} values of {sorted(ranks)} axes")
    return ranks.pop()


def total(call: Call) -> Value:
    return call.node("Sum", [each.name for each in call.inputs], _ranks(call))


def difference(call: Call) -> Value:
    rank = _ranks(call)
    return call.node("Sub", [each.name for each in call.inputs], rank)


def product(call: Call) -> Value:
    rank = _ranks(call)
    value = call.inputs[0]
    for each in call.inputs[1:]:
        value = call.node("Mul", [value.name, each.name], rank)
    return value


def mean(call: Call) -> Value:
    summed = call.node("Sum", [each.name for each in call.inputs], _ranks(call), None)
    share = call.constant("share", np.float32(1 / len(call.inputs)))
    return call.node("Mul", [summed.name, share], summed.rank)


def concatenation(call: Call) -> Value:
    rank, axis = _ranks(call), call.options.axis("axis")
    return call.node("Concat", [each.name for each in call.inputs], rank, "", axis=axis)


# --- before the network --------------------------------------------------------------------------


def rescaling(call: Call) -> Value:
    scale = np.asarray(call.options.numbers("scale", 1.0))
    offset = np.asarray(call.options.numbers("offset", 0.0))
    return _affine(call, scale, offset)


def normalization(call: Call) -> Value:
    """By a mean and a variance that are stated, or that were found in the data."""
    options = call.options
    one_for_all = not options.has("axis") or options.states("axis", [])
    axis = None
    if one_for_all:
        options.only("axis", [])
    else:
        axis = options.axis("axis")
    if axis is not None and not _is_last(call.value, axis):
        raise Unsupported(f"it works along axis {axis}, not along channels that stand last")
    inverted = options.flag("invert", False)
    if options.has("mean") or options.has("variance"):
        found = [options.numbers("mean", 0.0), options.numbers("variance", 1.0)]
    else:
        found = call.variables("mean", "variance", "count")[:2]
    center, variance = (np.asarray(each, np.float64).reshape(-1) for each in found)
    if center.size != variance.size or not (np.isfinite(center).all() and np.all(variance >= 0)):
        raise Unsupported("its mean and variance are no such numbers")
    spread = np.maximum(np.sqrt(variance), 1e-7)
    factor, offset = (spread, center) if inverted else (1 / spread, -center / spread)
    return _affine(call, factor, offset)


def _is_last(value: Value, axis: int) -> bool:
    return axis % value.rank == value.rank - 1


def _affine(call: Call, factor: Array, offset: Array) -> Value:
    """A product and a sum, each with one number or with one for each channel that stands last."""
    size = max(np.size(factor), np.size(offset))
    value = call.value
    for kind, name, numbers in (("Mul", "factor", factor), ("Add", "offset", offset)):
        each = np.broadcast_to(np.reshape(numbers, -1), (size,)).astype(np.float32)
        value = call.node(kind, [value.name, call.constant(name, each)], value.rank)
    return value


# --- training alone ------------------------------------------------------------------------------


def passing(call: Call) -> Value:
    """What does nothing in evaluation."""
    call.options.pass_over()
    return call.node("Identity", [call.value.name], call.value.rank)


def identity(call: Call) -> Value:
    return call.node("Identity", [call.value.name], call.value.rank)


def dropout(call: Call) -> Value:
    """Nothing in evaluation; its rate is told on."""
    rate = call.options.number("rate")
    call.options.pass_over()
    if not 0 <= rate < 1:
        raise Unsupported(f"a rate of {rate:g}")
    names = [call.value.name, call.constant("rate", np.float32(rate))]
    return call.node("Dropout", names, call.value.rank)


# Layers that training alone has.
PASSING = AUGMENTATIONS | {
    "Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout", "GaussianNoise",
    "ActivityRegularization",
}  # fmt: skip

RULES: dict[str, Rule] = {
    "Conv2D": conv,
    "DepthwiseConv2D": depthwise_conv,
    "SeparableConv2D": separable_conv,
    "Dense": dense,
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "Activation": activation,
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "Softmax": softmax,
    "MaxPooling2D": pool("MaxPool"),
    "AveragePooling2D": pool("AveragePool"),
    "GlobalAveragePooling2D": global_pool("ReduceMean"),
    "GlobalMaxPooling2D": global_pool("ReduceMax"),
    "ZeroPadding2D": padding,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "Add": total,
    "Subtract": difference,
    "Multiply": product,
    "Average": mean,
    "Concatenate": concatenation,
    "Rescaling": rescaling,
    "Normalization": normalization,
    **dict.fromkeys(PASSING, passing),
    "Dropout": dropout,
    "Identity": identity,
}


def written(call: Call) -> Value:
    """What a layer gives; raises `Unsupported` for what no rule says."""
    rule = RULES.get(call.layer.kind)
    if rule is None:
        what = "code of its own, which is not run" if call.layer.kind == "Lambda" else None
        raise Unsupported(what or "the language has no operation for it")
    made = rule(call)
    call.options.finish()
    return made
