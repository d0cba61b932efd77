"""The primitive operations, one record each."""

from __future__ import annotations

from resnet_spec.primitives import shape_rules
from resnet_spec.primitives.record import SAME, Attribute, Initializer, Primitive
from resnet_spec.primitives.shape_rules import ZEROS

_STRIDE = Attribute("stride", "int", "step of the window", 1, minimum=1)
_KERNEL = Attribute("kernel", "int", "height and width of the window", minimum=1)
_POOL_STRIDE = Attribute("stride", "int", "step of the window", "kernel", minimum=1)
_BIAS_INIT = Attribute("bias_init", "init", "how the bias is initialised", ZEROS)
_POOL_PADDING = Attribute(
    "padding",
    "int",
    "rows and columns added on every side; same: by TensorFlow's rule",
    "(kernel - 1) // 2",
    minimum=0,
    words=(SAME,),
)
_CEIL = Attribute(
    "ceil",
    "bool",
    "round the output size up, keeping a last partial window",
    default=False,
    selects=True,
)
_KEEP_MAP = Attribute(
    "keep_map", "bool", "give a 1x1 map instead of a vector", default=False, selects=True
)
_EPS = Attribute("eps", "float", "added to the variance", 1e-5, minimum=0)
_NORM_INIT = Attribute("init", "init", "how the scale (gamma) is initialised", Initializer("ones"))


def activation(
    name: str, description: str, *attributes: Attribute, nonnegative: bool = False
) -> Primitive:
    return Primitive(name, description, attributes, group="activation", nonnegative=nonnegative)


_TABLE = (
    Primitive(
        "conv",
        "2-D convolution (cross-correlation), padded with zeros",
        (
            Attribute("filters", "int", "number of output channels", minimum=1),
            _KERNEL,
            _STRIDE,
            Attribute(
                "padding",
                "int",
                "rows and columns of zeros added on every side; same: by TensorFlow's rule",
                "(kernel - 1) // 2 * dilation",
                minimum=0,
                words=(SAME,),
            ),
            Attribute("dilation", "int", "distance between the window's taps", 1, minimum=1),
            Attribute(
                "groups",
                "int",
                "number of groups, each of which sees only its own channels",
                1,
                minimum=1,
            ),
            Attribute("bias", "bool", "add a learned bias", default=False),
            Attribute(
                "init",
                "init",
                "how the kernel is initialised",
                Initializer("he_normal", "fan_out"),
                has_fans=True,
            ),
            _BIAS_INIT,
            Attribute(
                "standardize",
                "bool",
                "standardise each filter to mean 0 and variance 1 (Qiao et al. 2019)",
                default=False,
                selects=True,
            ),
            Attribute(
                "eps", "float", "added to the variance of a standardised filter", 1e-6, minimum=0
            ),
        ),
        needs="map",
        shape=shape_rules.conv_shape,
        channels=lambda attributes, channels: attributes.filters,
        parameters=shape_rules.conv_parameters,
        macs=shape_rules.conv_macs,
        window=shape_rules.conv_window,
        group="weights",
    ),
    Primitive(
        "linear",
        "fully connected layer on a vector",
        (
            Attribute("features", "int", "number of outputs", minimum=1),
            Attribute("bias", "bool", "add a learned bias", default=True),
            Attribute(
                "init",
                "init",
                "how the weight is initialised",
                Initializer("normal", 0.01),
                has_fans=True,
            ),
            _BIAS_INIT,
        ),
        needs="vector",
        shape=shape_rules.linear_shape,
        channels=lambda attributes, channels: attributes.features,
        parameters=shape_rules.linear_parameters,
        macs=shape_rules.linear_macs,
        group="weights",
    ),
    Primitive(
        "batch_norm",
        "batch normalisation over each channel (Ioffe and Szegedy 2015)",
        (
            _EPS,
            Attribute(
                "momentum", "float", "weight of the new statistics, as in PyTorch", 0.1, 0, 1
            ),
            _NORM_INIT,
        ),
        needs="map",
        parameters=shape_rules.batch_norm_parameters,
        group="norm",
    ),
    Primitive(
        "group_norm",
        "group normalisation (Wu and He 2018)",
        (Attribute("groups", "int", "number of groups", 32, minimum=1), _EPS, _NORM_INIT),
        needs="map",
        shape=shape_rules.grouped_shape,
        parameters=shape_rules.affine,
        group="norm",
    ),
    Primitive(
        "filter_response_norm",
        "divides each channel by its root mean square (Singh and Krishnan 2019)",
        (_EPS, _NORM_INIT),
        needs="map",
        parameters=shape_rules.affine,
        group="norm",
    ),
    Primitive(
        "evo_norm",
        "EvoNorm-S0, norm and activation in one (Liu et al. 2020)",
        (Attribute("groups", "int", "number of groups", 32, minimum=1), _EPS, _NORM_INIT),
        needs="map",
        shape=shape_rules.grouped_shape,
        parameters=shape_rules.evo_norm_parameters,
        group="norm",
    ),
    activation("relu", "max(x, 0)", nonnegative=True),
    Primitive(
        "threshold",
        "max(x, tau) with a learned tau for each channel (Singh and Krishnan 2019)",
        needs="map",
        parameters=shape_rules.threshold_parameters,
        group="activation",
    ),
    activation(
        "leaky_relu",
        "x where positive, else slope * x",
        Attribute("slope", "float", "factor of negative values", 0.01, minimum=0),
    ),
    activation("silu", "x * sigmoid(x), also called swish"),
    activation("gelu", "x * Phi(x), the exact form"),
    activation("sigmoid", "1 / (1 + exp(-x))", nonnegative=True),
    activation("hard_sigmoid", "min(max(x + 3, 0), 6) / 6", nonnegative=True),
    activation("tanh", "hyperbolic tangent"),
    Primitive(
        "softmax",
        "softmax over the channels; with groups, across the groups at each index within a group",
        (
            Attribute(
                "groups",
                "int",
                "0: over all channels; else across this many groups",
                0,
                minimum=0,
                selects=True,
            ),
        ),
        shape=lambda attributes, inputs: (
            shape_rules.grouped_shape(attributes, inputs) if attributes.groups else inputs[0]
        ),
        group="activation",
    ),
    Primitive(
        "max_pool",
        "maximum over a window; padding is never selected",
        (_KERNEL, _POOL_STRIDE, _POOL_PADDING, _CEIL),
        needs="map",
        shape=shape_rules.max_pool_shape,
        window=shape_rules.pool_window,
    ),
    Primitive(
        "avg_pool",
        "mean over a window, counting padded zeros, except with padding: same",
        (
            _KERNEL,
            _POOL_STRIDE,
            _POOL_PADDING,
            _CEIL,
        ),
        needs="map",
        shape=shape_rules.avg_pool_shape,
        window=shape_rules.pool_window,
    ),
    Primitive(
        "global_avg_pool",
        "mean over height and width",
        (_KEEP_MAP,),
        needs="map",
        shape=shape_rules.global_pool_shape,
    ),
    Primitive(
        "global_max_pool",
        "maximum over height and width",
        (_KEEP_MAP,),
        needs="map",
        shape=shape_rules.global_pool_shape,
    ),
    Primitive(
        "channel_avg_pool",
        "mean over the channels, a map of one channel",
        needs="map",
        shape=shape_rules.one_channel_shape,
        channels=lambda attributes, channels: 1,
    ),
    Primitive(
        "channel_max_pool",
        "maximum over the channels, a map of one channel",
        needs="map",
        shape=shape_rules.one_channel_shape,
        channels=lambda attributes, channels: 1,
    ),
    Primitive(
        "adaptive_avg_pool",
        "means over size x size parts of the map, which may overlap by a row or column",
        (Attribute("size", "int", "rows and columns of the output", minimum=1),),
        needs="map",
        shape=shape_rules.adaptive_pool_shape,
    ),
    Primitive(
        "flatten",
        "all values of a map as a vector, in the order channel, row, column",
        (
            Attribute("height", "int", "rows of the map", minimum=1),
            Attribute("width", "int", "columns of the map", "height", minimum=1),
        ),
        needs="map",
        shape=shape_rules.flattened_shape,
        channels=lambda attributes, channels: channels[0] * attributes.height * attributes.width,
    ),
    Primitive(
        "zero_pad",
        "rows and columns of zeros on every side",
        (Attribute("padding", "int", "number of rows and columns", minimum=0),),
        needs="map",
        shape=shape_rules.zero_padded_shape,
    ),
    Primitive(
        "add",
        "sum of values of equal shape",
        takes="many",
        shape=shape_rules.equal_shape,
        group="merge",
    ),
    Primitive(
        "multiply",
        "the first input scaled by the others; a 1x1 map or a single channel scales all of it",
        takes="many",
        shape=shape_rules.broadcast_shape,
        group="merge",
    ),
    Primitive(
        "concat",
        "all channels of the inputs, in their order",
        takes="many",
        shape=shape_rules.concat_shape,
        channels=shape_rules.sum_channels,
        joins=True,
        group="merge",
    ),
    Primitive(
        "stack_rows",
        "maps stacked vertically: all rows of the inputs, in their order",
        takes="many",
        needs="map",
        shape=shape_rules.stacked_shape,
        group="merge",
    ),
    Primitive(
        "split",
        "equal parts of the channels, in order; `as: part` names them part.{0}, part.{1}, …",
        (Attribute("parts", "int", "number of parts", minimum=1),),
        gives="many",
        shape=shape_rules.split_shape,
        channels=lambda attributes, channels: channels[0] // attributes.parts,
    ),
    Primitive(
        "take",
        "the channels from start up to, but not including, stop",
        (
            Attribute("start", "int", "first channel, counted from 0", 0, minimum=0),
            Attribute("stop", "int", "the channel after the last one; 0: up to the end", 0, 0),
        ),
        shape=shape_rules.taken_shape,
        channels=shape_rules.taken_channels,
    ),
    Primitive(
        "shuffle",
        "channels seen as groups x parts x rest become parts x groups x rest",
        (
            Attribute("groups", "int", "outer dimension before the shuffle", minimum=1),
            Attribute("parts", "int", "outer dimension after the shuffle", minimum=1),
        ),
        shape=shape_rules.shuffle_shape,
    ),
    Primitive(
        "pad_channels",
        "channels of zeros before and after the input's own",
        (
            Attribute("before", "int", "channels of zeros before", 0, minimum=0),
            Attribute("after", "int", "channels of zeros after", 0, minimum=0),
        ),
        needs="map",
        shape=shape_rules.padded_shape,
        channels=lambda attributes, channels: channels[0] + (attributes.before + attributes.after),
    ),
    Primitive(
        "subsample",
        "every n-th row and column, from the first",
        (Attribute("stride", "int", "n", minimum=1),),
        needs="map",
        shape=shape_rules.subsampled_shape,
        window=lambda attributes: (1, attributes.stride),
    ),
    Primitive(
        "blur_pool",
        "blurs by (1, 2, 1) / 4 with reflected borders, then every n-th row and column",
        (Attribute("stride", "int", "n", 2, minimum=1),),
        needs="map",
        shape=shape_rules.blur_shape,
        window=lambda attributes: (3, attributes.stride),
    ),
    Primitive(
        "channel_conv",
        "1-D convolution along the channels of a 1x1 map, padded with zeros (Wang et al. 2019)",
        (
            Attribute("kernel", "int", "number of channels that it sees, odd", minimum=1),
            Attribute(
                "init",
                "init",
                "how the kernel is initialised",
                Initializer("he_normal", "fan_out"),
                has_fans=True,
            ),
        ),
        needs="map",
        shape=shape_rules.channel_conv_shape,
        parameters=shape_rules.channel_conv_parameters,
        fits_input=False,
        macs=shape_rules.channel_conv_macs,
        group="weights",
    ),
    Primitive(
        "rescale",
        "factor * x + offset, with fixed numbers",
        (
            Attribute("factor", "float", "factor of every value", 1),
            Attribute("offset", "float", "added to every value", 0),
        ),
    ),
    Primitive(
        "learned_scale",
        "x times one learned number",
        (Attribute("init", "init", "how the number is initialised", Initializer("ones")),),
        parameters=shape_rules.learned_number("weight"),
        fits_input=False,
    ),
    Primitive(
        "learned_shift",
        "x plus one learned number",
        (Attribute("init", "init", "how the number is initialised", ZEROS),),
        parameters=shape_rules.learned_number("bias"),
        fits_input=False,
    ),
    Primitive(
        "dropout",
        "zeroes values at random in training and scales the rest (Srivastava et al. 2014)",
        (Attribute("rate", "float", "probability of a zero", minimum=0, maximum=0.999),),
    ),
    Primitive(
        "drop_path",
        "zeroes whole samples at random in training and scales the rest (Huang et al. 2016)",
        (Attribute("rate", "float", "probability of a zero", minimum=0, maximum=0.999),),
        needs="map",
    ),
    Primitive("identity", "the input unchanged; gives a value a second name"),
)

PRIMITIVES: dict[str, Primitive] = {primitive.name: primitive for primitive in _TABLE}

# Slots that every block has and hands down to the blocks within it.
ROLES = {"norm": "batch_norm", "act": "relu"}
