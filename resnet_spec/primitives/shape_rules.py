"""The rules of the primitives: shapes as PyTorch computes them, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from resnet_spec.expressions import Const
from resnet_spec.primitives.record import (
    SAME,
    Attributes,
    Channels,
    Initializer,
    Parameter,
    Shape,
    ShapeError,
)

# --- shapes --------------------------------------------------------------------------------------


def window(attributes: Attributes, given: Shape, dilation: int = 1, ceil: bool = False) -> Shape:
    """Height and width after a sliding window, as PyTorch computes them."""
    if attributes.padding == SAME:
        return _strided(attributes, given)
    extent = dilation * (attributes.kernel - 1) + 1
    sizes = []
    for size in (given.height or 0, given.width or 0):
        room = size + 2 * attributes.padding - extent
        if room < 0:
            raise ShapeError(
                "RS403",
                f"the {attributes.kernel}x{attributes.kernel} window"
                f"{f' with dilation {dilation}' if dilation > 1 else ''} does not fit into the "
                f"{given.height}x{given.width} map"
                f"{f' padded by {attributes.padding}' if attributes.padding else ''}",
                help="use fewer strides, a smaller kernel, more padding or a larger input",
                about=("kernel", "dilation", "padding"),
            )
        sizes.append(-(-room // attributes.stride) + 1 if ceil else room // attributes.stride + 1)
    return given._replace(height=sizes[0], width=sizes[1])


def conv_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    groups = attributes.groups
    channels, filters = inputs[0].channels, attributes.filters
    if channels % groups:
        raise ShapeError(
            "RS104",
            f"{channels} input channels are not divisible by {groups} groups",
            help=f"use a number of groups that divides {channels}",
            about=("groups",),
        )
    if filters % groups:
        below = filters // groups * groups
        near = f"{below} or {below + groups}" if below else f"{groups}"
        raise ShapeError(
            "RS104",
            f"{filters} filters are not divisible by {groups} groups",
            help=f"use a multiple of {groups}: {near}",
            about=("filters", "groups"),
        )
    given = window(attributes, inputs[0], attributes.dilation)
    return given._replace(channels=attributes.filters, open=False)


def max_pool_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    check_pool_padding(attributes)
    # Then no window begins in the far padding, where PyTorch would leave it out.
    if attributes.ceil and attributes.padding + attributes.stride > attributes.kernel:
        raise ShapeError(
            "RS502",
            "'ceil: true' is the same in every framework only when padding and stride together "
            "are not above the kernel",
            help="use a smaller stride or padding, or leave 'ceil' out",
        )
    return window(attributes, inputs[0], ceil=attributes.ceil)


def avg_pool_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    check_pool_padding(attributes)
    # A larger window may lack two rows, of which Keras would put one before the first.
    whole = attributes.stride == attributes.kernel <= 2 and not attributes.padding
    if attributes.ceil and not whole:
        raise ShapeError(
            "RS502",
            "'ceil: true' is the same in every framework only when stride and kernel are both 2 "
            "and nothing is padded",
            help="set kernel and stride to 2 and padding to 0, or leave 'ceil' out",
        )
    return window(attributes, inputs[0], ceil=attributes.ceil)


def check_pool_padding(attributes: Attributes) -> None:
    """RS403 if a window could lie entirely in the padding, RS502 if `ceil` has no effect."""
    if attributes.padding == SAME:
        if attributes.ceil:
            raise ShapeError(
                "RS502",
                "'padding: same' completes every window, so 'ceil: true' has no effect",
                help="leave 'ceil' out, or give 'padding' as a number",
            )
        return
    if 2 * attributes.padding > attributes.kernel:
        raise ShapeError(
            "RS403",
            f"padding {attributes.padding} is more than half of the kernel {attributes.kernel}",
            help=f"use at most {attributes.kernel // 2}",
            about=("kernel", "padding"),
        )


def conv_window(attributes: Attributes) -> tuple[int, int]:
    return attributes.dilation * (attributes.kernel - 1) + 1, attributes.stride


def pool_window(attributes: Attributes) -> tuple[int, int]:
    return attributes.kernel, attributes.stride


def blur_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    height, width = inputs[0].height or 0, inputs[0].width or 0
    if min(height, width) < 2:
        raise ShapeError(
            "RS403",
            f"a {height}x{width} map has no row and column to reflect at its border",
            help="blur a map of at least 2x2",
        )
    return subsampled_shape(attributes, inputs)


def channel_conv_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    if (inputs[0].height, inputs[0].width) != (1, 1):
        raise ShapeError(
            "RS404",
            f"'channel_conv' needs a 1x1 map, but its input is {inputs[0]}",
            help="put {global_avg_pool: squeeze, keep_map: true} before it",
        )
    if attributes.kernel % 2 == 0:
        raise ShapeError(
            "RS205",
            f"'kernel' must be odd, but is {attributes.kernel}",
            help=f"use {attributes.kernel - 1} or {attributes.kernel + 1}",
            about=("kernel",),
        )
    return inputs[0]


def channel_conv_parameters(
    attributes: Attributes, inputs: Sequence[Shape]
) -> tuple[Parameter, ...]:
    return (Parameter("weight", (1, 1, attributes.kernel), True, attributes.init),)


def channel_conv_macs(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return int(output.channels * attributes.kernel)


def one_channel_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]._replace(channels=1, open=False)


def stacked_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    for other in inputs[1:]:
        if (other.channels, other.width) != (inputs[0].channels, inputs[0].width):
            shapes = " and ".join(str(shape) for shape in inputs)
            raise ShapeError(
                "RS402",
                f"the inputs differ in channels or width: {shapes}",
                help="give all of them the same channels and width",
            )
    height = sum(shape.height or 0 for shape in inputs)
    return inputs[0]._replace(height=height, open=any(shape.open for shape in inputs))


def global_pool_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    size = 1 if attributes.keep_map else None
    return inputs[0]._replace(height=size, width=size)


def adaptive_pool_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]._replace(height=attributes.size, width=attributes.size)


def flattened_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    given = inputs[0]
    if (given.height, given.width) != (attributes.height, attributes.width):
        raise ShapeError(
            "RS404",
            f"'flatten' expects a {attributes.height}x{attributes.width} map, but its "
            f"input is {given}",
            help=f"write height: {given.height}"
            + (f", width: {given.width}" if given.height != given.width else "")
            + ", or put an adaptive_avg_pool before it",
        )
    return Shape(given.elements, open=given.open)


def zero_padded_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    height, width = inputs[0].height or 0, inputs[0].width or 0
    added = 2 * attributes.padding
    return inputs[0]._replace(height=height + added, width=width + added)


def linear_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return Shape(attributes.features)


def equal_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    for other in inputs[1:]:
        if other.dimensions != inputs[0].dimensions:
            shapes = " and ".join(str(shape) for shape in inputs)
            raise ShapeError(
                "RS401",
                f"the inputs have different shapes: {shapes}",
                help=_unequal_help(inputs, other),
            )
    return inputs[0]._replace(open=any(shape.open for shape in inputs))


def _unequal_help(inputs: Sequence[Shape], other: Shape) -> str:
    if len(inputs) > 2:
        return "give all of them the same stride and filters"
    shape = inputs[0]
    apart = [abs(a - b) for a, b in zip(shape.dimensions, other.dimensions, strict=False)]
    if shape.is_map and other.is_map and apart[0] == 0 and max(apart) == 1:
        return (
            "for an odd size, pooling rounds down and a padded convolution rounds up: give the "
            "pooling 'ceil: true'"
        )
    return "give the shortcut the same stride and filters as the residual"


def broadcast_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    largest = inputs[0]
    for other in inputs[1:]:
        fits = other.dimensions == largest.dimensions or (
            other.is_map
            and other.channels in (1, largest.channels)
            and (other.height, other.width) in ((1, 1), (largest.height, largest.width))
        )
        if not fits:
            raise ShapeError(
                "RS401",
                f"a value of shape {other} can't scale a map of shape {largest}",
                help=f"it must be {largest}, {largest.channels}x1x1 or 1x{largest.height}x"
                f"{largest.width}; 'keep_map: true' keeps a pooled value a map",
            )
    return largest


def concat_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    for other in inputs[1:]:
        if (other.height, other.width) != (inputs[0].height, inputs[0].width):
            shapes = " and ".join(str(shape) for shape in inputs)
            raise ShapeError(
                "RS402",
                f"the inputs differ in height or width: {shapes}",
                help="give all branches the same stride",
            )
    channels = sum(shape.channels for shape in inputs)
    return inputs[0]._replace(channels=channels, open=any(shape.open for shape in inputs))


def sum_channels(attributes: Attributes, channels: Sequence[Channels]) -> Channels:
    total = channels[0]
    for each in channels[1:]:
        total = total + each
    return total


def split_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return divided(inputs[0], attributes.parts, "parts")


def taken_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    channels = inputs[0].channels
    start, stop = attributes.start, attributes.stop or channels
    if not start < stop <= channels:
        raise ShapeError(
            "RS405",
            f"channels {start} to {stop} can't be taken from {channels}",
            help=f"use a start below stop, and a stop of at most {channels}",
            about=("start", "stop"),
        )
    return inputs[0]._replace(channels=stop - start, open=not attributes.stop and inputs[0].open)


def taken_channels(attributes: Attributes, channels: Sequence[Channels]) -> Channels:
    to_the_end = attributes.stop in (0, Const(0))
    stop: Any = channels[0] if to_the_end else attributes.stop
    return stop - attributes.start  # type: ignore[no-any-return]


def divided(given: Shape, number: int, what: str) -> Shape:
    if given.channels % number:
        raise ShapeError(
            "RS405",
            f"{given.channels} channels can't be divided into {number} equal {what}",
            help=f"use a number that divides {given.channels}",
            about=("groups", "parts"),
        )
    return given._replace(channels=given.channels // number)


def grouped_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    divided(inputs[0], attributes.groups, "groups")
    return inputs[0]


def shuffle_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    divided(inputs[0], attributes.groups * attributes.parts, "groups x parts")
    return inputs[0]


def padded_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]._replace(channels=inputs[0].channels + attributes.before + attributes.after)


def subsampled_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return _strided(attributes, inputs[0])


def _strided(attributes: Attributes, given: Shape) -> Shape:
    """Every n-th row and column, from the first."""
    height, width, step = given.height or 0, given.width or 0, attributes.stride
    return given._replace(height=-(-height // step), width=-(-width // step))


# --- parameters and work -------------------------------------------------------------------------

ZEROS = Initializer("zeros")


def conv_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    kernel = attributes.kernel
    shape = (attributes.filters, inputs[0].channels // attributes.groups, kernel, kernel)
    weight = Parameter("weight", shape, True, attributes.init)
    if not attributes.bias:
        return (weight,)
    return (weight, Parameter("bias", shape[:1], True, attributes.bias_init))


def conv_macs(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    taps = inputs[0].channels // attributes.groups * attributes.kernel**2
    return int(output.elements * taps)


def linear_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    shape = (attributes.features, inputs[0].channels)
    weight = Parameter("weight", shape, True, attributes.init)
    if not attributes.bias:
        return (weight,)
    return (weight, Parameter("bias", shape[:1], True, attributes.bias_init))


def linear_macs(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return inputs[0].channels * output.channels


def affine(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    shape = (inputs[0].channels,)
    return (
        Parameter("weight", shape, True, attributes.init),
        Parameter("bias", shape, True, ZEROS),
    )


def batch_norm_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    shape = (inputs[0].channels,)
    return (
        *affine(attributes, inputs),
        Parameter("running_mean", shape, False, ZEROS),
        Parameter("running_var", shape, False, Initializer("ones")),
    )


def evo_norm_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    shape = (inputs[0].channels,)
    return (*affine(attributes, inputs), Parameter("v", shape, True, Initializer("ones")))


def learned_number(name: str) -> Callable[[Attributes, Sequence[Shape]], tuple[Parameter, ...]]:
    return lambda attributes, inputs: (Parameter(name, (1,), True, attributes.init),)


def threshold_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    return (Parameter("tau", (inputs[0].channels,), True, ZEROS),)
