"""Operators that work on each number alone, or on pairs of them: activations, sums, products."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_spec.importing.errors import Unable, Unsupported
from resnet_spec.importing.frontend.call import Call, Rule
from resnet_spec.importing.frontend.views import CHANNELS, Factor, View
from resnet_spec.importing.graph import Dropout

Array = Any


def activation(kind: str) -> Rule:
    return lambda call: call.along(kind, call.view())


def leaky_relu(call: Call) -> View:
    slope = float(f"{float(call.attributes.get('alpha', 0.01)):.6g}")
    return call.along("leaky_relu", call.view(), {"slope": slope})


def hard_sigmoid(call: Call) -> View:
    slope, offset = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    if abs(slope - 1 / 6) > 1e-4 or abs(offset - 0.5) > 1e-6:
        raise Unsupported(f"a hard sigmoid with the slope {slope:.4g}: the language has 1/6")
    return call.along("hard_sigmoid", call.view())


def hard_swish(call: Call) -> View:
    view = call.view()
    gate = call.along("hard_sigmoid", view)
    return view.of(call.add("multiply", [view.value, gate.value]))


def gelu(call: Call) -> View:
    if call.text("approximate", "none") != "none":
        raise Unsupported("the approximate form of gelu: the language has the exact one")
    return call.along("gelu", call.view())


def clip(call: Call) -> View:
    """Bounds that only some patterns have words for: see `patterns`."""
    low, high = (
        _number(call.optional(place, call.attributes.get(name)))
        for place, name in ((1, "min"), (2, "max"))
    )
    return _bounded(call, call.view(), low, high)


def maximum(call: Call) -> View:
    """With a number: a lower bound."""
    view, number = _with_number(call)
    return _bounded(call, view, number, None)


def minimum(call: Call) -> View:
    """With a number: an upper bound."""
    view, number = _with_number(call)
    return _bounded(call, view, None, number)


def _with_number(call: Call) -> tuple[View, float]:
    constants = [place for place in range(len(call)) if call.is_constant(place)]
    number = _number(call.constant(constants[0])) if len(constants) == 1 else None
    if number is None or len(call) != 2:
        raise Unsupported("the largest or smallest of several values: the language has bounds")
    return call.view(1 - constants[0]), number


def _bounded(call: Call, view: View, low: float | None, high: float | None) -> View:
    is_open = high is None or high >= np.finfo(np.float32).max
    if low == 0 and is_open:
        return call.along("relu", view)
    if is_open and (low is None or low <= np.finfo(np.float32).min):
        return view
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    shape = call.shape(view)
    return view.of(call.add("clip", [view.value], {"low": low, "high": high}, shape=shape))


def erf(call: Call) -> View:
    view = call.view()
    return view.of(call.add("erf", [view.value], shape=call.shape(view)))


def _number(value: Array) -> float | None:
    return None if value is None or np.size(value) != 1 else float(np.reshape(value, -1)[0])


def passing(call: Call) -> View:
    return call.view()


def cast(call: Call) -> View:
    """To another type of floating-point numbers; whole numbers would be rounded."""
    if call.attributes.get("to", 1) not in _FLOATING:
        raise Unsupported("a cast to whole numbers or truth values, which loses what is between")
    return call.view()


_FLOATING = (1, 10, 11, 16)  # ONNX's numbers of float, float16, double, bfloat16


def dropout(call: Call) -> View:
    """Nothing in evaluation, where it is remembered by its value alone.

    One that is told to zero values in evaluation, too, is refused.
    """
    rate = _number(call.optional(1, call.attributes.get("ratio", 0.5)))
    if rate != 0 and np.any(call.optional(2, False)):
        raise Unsupported(
            "it zeroes values at random in evaluation, too: the language has that in training",
            help="export the model in evaluation: F.dropout(x, training=self.training)",
        )
    if rate is None or not 0 <= rate < 1:
        raise Unsupported(f"a rate of {rate:g}" if rate is not None else "several rates")
    view = call.view()
    if rate:
        dropouts = call.builder.graph.dropouts
        if view.value in dropouts:  # two in a row drop as many as one of this rate
            rate = 1 - (1 - rate) * (1 - dropouts[view.value].rate)
        found = Dropout(float(f"{rate:.6g}"), call.node.name, call.node.place)
        dropouts[view.value] = found
    return view


# --- two values ----------------------------------------------------------------------------------


def add(call: Call) -> View:
    constants = [place for place in range(len(call)) if call.is_constant(place)]
    values = [place for place in range(len(call)) if place not in constants]
    view = _sum(call, [call.view(place) for place in values])
    for place in constants:
        view = _shifted(call, view, call.constant(place), call.learned(place))
    return view


def _sum(call: Call, given: list[View]) -> View:
    if len(given) == 1:
        return given[0]
    first = max(given, key=lambda each: call.shape(each).elements)
    given = [_spread(call, each, first) for each in given]
    if any(each.arrangement() != first.arrangement() for each in given):
        shapes = [str(call.shape(each)) for each in given]
        shown = " and ".join(shapes)
        if len(set(shapes)) > 1:
            sides = zip(*(call.shape(each).dimensions for each in given), strict=False)
            error = Unable if any(len({*side} - {1}) > 1 for side in sides) else Unsupported
            raise error(f"a sum of {shown}: the language adds values of one shape alone")
        raise Unsupported(f"a sum of values that are seen differently: {shown}")
    return first.of(call.add("add", [each.value for each in given]))


def _spread(call: Call, view: View, whole: View) -> View:
    """One number for each channel, or for each place, as often as another map has it.

    The language adds maps of one size alone, and scales one by a smaller one: here of ones.
    """
    if view.arrangement() == whole.arrangement() or not _scales(view, whole):
        return view
    ones = call.add("rescale", [whole.value], {"factor": 0.0, "offset": 1.0})
    return whole.of(call.add("multiply", [ones, view.value]))


def _scales(view: View, whole: View) -> bool:
    """Whether a view has each axis of another one, or one number in its stead."""
    pairs = zip(whole.arrangement()[1:], view.arrangement()[1:], strict=False)
    return len(whole.axes) == len(view.axes) and all(other in ((), axis) for axis, other in pairs)


def multiply(call: Call) -> View:
    for place in (0, 1):
        if call.is_constant(place):
            value, learned = call.constant(place), call.learned(place)
            return _scaled(call, call.view(1 - place), value, learned)
    first, second = (call.view(place) for place in (0, 1))
    sizes = [call.shape(each).elements for each in (first, second)]
    if sizes[0] < sizes[1]:
        first, second = second, first
    if len(first.axes) != len(second.axes):
        raise Unsupported("a product of values with different numbers of axes")
    if not _scales(second, first):
        raise Unsupported(f"a product of {call.shape(first)} and {call.shape(second)}")
    return first.of(call.add("multiply", [first.value, second.value]))


def mean(call: Call) -> View:
    share = 1 / len(call)
    return call.along("rescale", add(call), {"factor": float(f"{share:.7g}"), "offset": 0.0})


def negative(call: Call) -> View:
    return call.along("rescale", call.view(), {"factor": -1.0, "offset": 0.0})


def subtract(call: Call) -> View:
    if call.is_constant(1):
        return _shifted(call, call.view(0), -call.constant(1), call.surely_learned(1))
    if call.is_constant(0):
        factor = call.along("rescale", call.view(1), {"factor": -1.0, "offset": 0.0})
        return _shifted(call, factor, call.constant(0), call.surely_learned(0))
    first, second = call.view(0), call.view(1)
    negative = call.along("rescale", second, {"factor": -1.0, "offset": 0.0})
    return _sum(call, [first, negative])


def divide(call: Call) -> View:
    if not call.is_constant(1):
        raise Unsupported("a quotient by a value of the images")
    with np.errstate(all="ignore"):
        return _scaled(call, call.view(0), 1 / call.constant(1), call.surely_learned(1))


def power(call: Call) -> View:
    exponent = _number(call.constant(1))
    view = call.view()
    if exponent == 1:
        return view
    if exponent == 2:
        return view.of(call.add("multiply", [view.value, view.value]))
    said = "several exponents" if exponent is None else f"the exponent {exponent:g}"
    raise Unsupported(f"{said}: the language has products, so the exponent 2")


# --- a value and a constant ----------------------------------------------------------------------


def _scaled(call: Call, view: View, value: Array, learned: bool) -> View:
    return _applied(call, view, value, learned, ("learned_scale", "weight", "scale_channels"))


def _shifted(call: Call, view: View, value: Array, learned: bool) -> View:
    return _applied(call, view, value, learned, ("learned_shift", "bias", "shift_channels"))


def _applied(
    call: Call, view: View, value: Array, learned: bool, words: tuple[str, str, str]
) -> View:
    """One number for all, learned or stated, or one for each channel, which belongs to a layer."""
    kind, tensor, by_channel = words
    found = np.asarray(value)
    if found.size == 1:
        number = np.reshape(found, 1)
        if learned:
            return view.of(call.add(kind, [view.value], {}, {tensor: number}))
        stated = float(f"{float(number[0]):.7g}")
        scales = tensor == "weight"
        attributes = (
            {"factor": stated, "offset": 0.0} if scales else {"factor": 1.0, "offset": stated}
        )
        return call.along("rescale", view, attributes)
    shape = call.shape(view)
    if found.size != shape.channels or not _is_along_channels(view, found.shape):
        raise Unsupported(f"a constant of {'x'.join(map(str, found.shape))} on a {shape} value")
    numbers = np.reshape(found, -1)
    made = call.add(by_channel, [view.value], {}, {tensor: numbers}, shape)
    return view.of(made)


def _is_along_channels(view: View, shape: tuple[int, ...]) -> bool:
    """Whether a constant has one number for each channel of a view, and for nothing else."""
    if len(shape) > len(view.axes):
        return False
    axes = view.arrangement()[len(view.axes) - len(shape) :]
    factors: list[Factor] = []
    for axis, size in zip(axes, shape, strict=True):
        if size == 1:
            continue
        factors += axis
    names = [factor.name for factor in factors]
    return names == sorted(names) and all(f.axis == CHANNELS for f in factors)


RULES: dict[str, Rule] = {
    "Relu": activation("relu"),
    "LeakyRelu": leaky_relu,
    "Sigmoid": activation("sigmoid"),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Swish": activation("silu"),
    "Gelu": gelu,
    "Erf": erf,
    "Tanh": activation("tanh"),
    "Clip": clip,
    "Max": maximum,
    "Min": minimum,
    "Identity": passing,
    "Cast": cast,
    "CastLike": passing,
    "Dropout": dropout,
    "Add": add,
    "Sum": add,
    "Mean": mean,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Pow": power,
    "Neg": negative,
}
