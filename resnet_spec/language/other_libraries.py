"""Names of operations and blocks in other libraries, and what to use here instead.

The closest name often means something else: `evo_norm` for `layer_norm`, `relu` for `relu6`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from resnet_spec.diagnostics import expected, nearest, quoted
from resnet_spec.primitives import PRIMITIVES

# The same under another name.
SAME = {
    **dict.fromkeys(("dense", "fc", "fully_connected", "inner_product"), "linear"),
    "swish": "silu",
    **dict.fromkeys(("cat", "concatenate", "join"), "concat"),
    **dict.fromkeys(("mul", "times"), "multiply"),
    **dict.fromkeys(("sum", "plus"), "add"),
    "chunk": "split",
    "stochastic_depth": "drop_path",
    "channel_shuffle": "shuffle",
    "sync_batch_norm": "batch_norm",
    **dict.fromkeys(("global_average_pooling", "global_pool", "gap"), "global_avg_pool"),
    **dict.fromkeys(("global_max_pooling", "gmp"), "global_max_pool"),
    **dict.fromkeys(("average_pooling", "average_pool"), "avg_pool"),
    "max_pooling": "max_pool",
}

# Layers that compute the same together, for the value x.
LAYERS = {
    "relu6": ("{rescale: , offset: -3}", "hard_sigmoid", "{rescale: , factor: 6}"),
    "hard_swish": ("{hard_sigmoid: , from: x, as: gate}", "{multiply: [x, gate]}"),
    "hard_tanh": (
        "{rescale: , factor: 3}",
        "hard_sigmoid",
        "{rescale: , factor: 2, offset: -1}",
    ),
}
LAYERS["hard_silu"] = LAYERS["hard_swish"]


def _of(group: str) -> str:
    return ", ".join(name for name, each in PRIMITIVES.items() if each.group == group)


_NORMS = f"the norms are {_of('norm')}"
_ACTIVATIONS = f"the activations are {_of('activation')}"
_SIZES = "no operation enlarges a map"
_GROUPS = "a conv with as many 'groups' as it has channels"
_CONV = "a conv has two dimensions, a square window and fixed places"
_ATTENTION = "squeeze_excitation, cbam and other blocks can fill a slot called attention"

OTHERWISE = {
    "layer_norm": f"group_norm with groups: 1 normalises over all channels and positions; {_NORMS}",
    "instance_norm": f"it is group_norm with as many groups as channels; {_NORMS}",
    **dict.fromkeys(
        ("rms_norm", "local_response_norm", "lrn", "weight_norm", "spectral_norm", "batch_renorm"),
        _NORMS,
    ),
    **dict.fromkeys(
        ("prelu", "rrelu", "elu", "selu", "celu", "mish", "glu", "softplus", "softsign",
         "log_softmax", "log_sigmoid", "squared_relu", "quick_gelu"),
        _ACTIVATIONS,
    ),
    **dict.fromkeys(
        ("upsample", "upsampling", "up_sampling", "interpolate", "resize", "conv_transpose",
         "transposed_conv", "transpose_conv", "deconv", "pixel_shuffle", "depth_to_space",
         "max_unpool", "unpool"),
        _SIZES,
    ),
    **dict.fromkeys(("depthwise_conv", "dw_conv", "depthwise"), f"it is {_GROUPS}"),
    **dict.fromkeys(
        ("separable_conv", "depthwise_separable_conv"),
        f"it is {_GROUPS}, followed by a conv with kernel: 1",
    ),
    **dict.fromkeys(("pointwise_conv", "pw_conv"), "it is a conv with kernel: 1"),
    **dict.fromkeys(("deform_conv", "deformable_conv", "conv1d", "conv3d"), _CONV),
    **dict.fromkeys(
        ("reflection_pad", "replication_pad", "circular_pad"), "zero_pad is the only padding"
    ),
    "adaptive_max_pool": "adaptive_avg_pool averages; for size 1 there is global_max_pool",
    **dict.fromkeys(
        ("attention", "self_attention", "multi_head_attention", "multihead_attention",
         "transformer"),
        _ATTENTION,
    ),
    "basic_block": "it is the block basic",
    **dict.fromkeys(
        ("residual_block", "res_block", "residual"),
        "the usual ones are the blocks basic, bottleneck and preact_basic",
    ),
    "se": "it is the block squeeze_excitation",
    "se_basic": "it is the block basic with attention: squeeze_excitation",
    "se_bottleneck": "it is the block bottleneck with attention: squeeze_excitation",
    "resnext": "it is the block bottleneck with 'groups' and 'base_width'",
    "drop_block": "dropout zeroes single values, drop_path whole samples",
}  # fmt: skip

# torch.nn's module and dimensions: what is here has two.
_AROUND = r"(?i)^.*\.|(?<=[a-z_])_?2d$"


def _squeezed(name: str) -> str:
    """`BatchNorm2d` and `batch_norm` as the same text."""
    return name.replace("_", "").replace("-", "").lower()


def _by_squeezed(names: Iterable[str]) -> dict[str, str]:
    return {_squeezed(name): name for name in names}


_KNOWN = _by_squeezed((*SAME, *LAYERS, *OTHERWISE))


def hint(name: str, candidates: Iterable[str]) -> str:
    """The help for a name that is none of the candidates, as another library may have it."""
    candidates = list(candidates)
    alike = _by_squeezed(candidates)
    spellings = [_squeezed(name), _squeezed(re.sub(_AROUND, "", name))]
    for spelling in spellings:
        if spelling in alike:
            return f"did you mean {quoted(alike[spelling])}?"
    for spelling in spellings:
        if spelling in _KNOWN:
            return _told(_KNOWN[spelling])
    return expected(name, candidates)


# Keys of layers, blocks and recipes by those of other libraries, in the order of preference.
_KEYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("outchannels", "channels", "planes", "outplanes", "width"), ("filters", "features")
    ),
    **dict.fromkeys(("outfeatures", "units", "numclasses"), ("features", "classes")),
    **dict.fromkeys(("kernelsize", "poolsize", "windowsize", "size", "k"), ("kernel",)),
    **dict.fromkeys(("kernelinitializer", "weightinit", "gammainitializer"), ("init",)),
    **dict.fromkeys(("p", "probability", "droprate"), ("rate",)),
    **dict.fromkeys(("input", "inputs"), ("from",)),
    **dict.fromkeys(("output", "outputs"), ("as",)),
    **dict.fromkeys(("if", "condition"), ("when",)),
    **dict.fromkeys(
        ("depth", "times", "numblocks", "blocks", "n", "count", "repeat"), ("repeat", "count")
    ),
    **dict.fromkeys(("ratio", "reductionratio", "squeezeratio"), ("reduction",)),
    **dict.fromkeys(("activation", "actlayer"), ("act",)),
    **dict.fromkeys(("normalization", "normlayer"), ("norm",)),
    "cardinality": ("groups",),
    **dict.fromkeys(("widthpergroup", "bottleneckwidth"), ("base_width",)),
    **dict.fromkeys(("downsample", "skip"), ("shortcut",)),
    **dict.fromkeys(("droppath", "stochasticdepth"), ("drop_path_rate", "rate")),
    **dict.fromkeys(("epochs", "numepochs", "maxepochs"), ("length",)),
}
_FOLLOWING = ("inchannels", "infeatures", "inputshape", "numfeatures", "numchannels")

_OF_IMAGES = "write input: {channels: 3, height: 224, width: 224}"
_OF_TRAINING = "it is part of 'training'"
_OF_LAYERS = "layers stand under 'stem' and 'head', and under 'layers' in a block"
_OF_WEIGHTS = "a spec says nothing of weights: 'resnet-spec weights' converts them"
_AFTER = "it is a layer of its own, below this one"

# What to write in place of a key, by one that the mapping can have.
_ELSEWHERE = {
    "stages": {
        **dict.fromkeys(
            ("inputshape", "inputsize", "imagesize", "imgsize", "inchannels", "channels", "size",
             "resolution", "height", "width", "numchannels"),
            _OF_IMAGES,
        ),
        **dict.fromkeys(("norm", "normlayer"), "write it under 'defaults': {norm: …}"),
        **dict.fromkeys(("act", "activation"), "write it under 'defaults': {act: …}"),
        **dict.fromkeys(
            ("optimizer", "lr", "learningrate", "epochs", "batchsize", "weightdecay", "scheduler",
             "momentum"),
            _OF_TRAINING,
        ),
        **dict.fromkeys(("layers", "layer", "body", "backbone"), _OF_LAYERS),
        **dict.fromkeys(("pretrained", "weights", "checkpoint"), _OF_WEIGHTS),
    },
    "height": dict.fromkeys(("size", "shape", "resolution"), "write height: … and width: …"),
    "attention": dict.fromkeys(
        ("se", "usese", "attn", "attnlayer", "selayer", "squeezeexcitation"),
        "write attention: squeeze_excitation",
    ),
    "bias": {
        **dict.fromkeys(("activation", "act", "relu"), f"{_AFTER}: '- act'"),
        **dict.fromkeys(
            ("norm", "bn", "batchnorm", "normalization"), f"{_AFTER}: '- {{norm: bn1}}'"
        ),
    },
}  # fmt: skip


def _elsewhere(key: str, candidates: Iterable[str]) -> str | None:
    texts = (_ELSEWHERE[each].get(_squeezed(key)) for each in candidates if each in _ELSEWHERE)
    return next(filter(None, texts), None)


def _called(key: str, candidates: Iterable[str]) -> str | None:
    candidates = list(candidates)
    names = _KEYS.get(_squeezed(key), ())
    return next((name for name in names if name in candidates), None)


def meant_key(key: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a key was probably meant to be, which may be the name of another one."""
    candidates = list(candidates)
    if _elsewhere(key, candidates) is not None:
        return None
    return _called(key, candidates) or nearest(key, candidates)


def key_hint(key: str, candidates: Iterable[str], also: Iterable[str] = ()) -> str:
    """The help for a key that is none of the candidates, as another library may have it.

    `also` are keys that every such mapping has.
    """
    candidates = list(candidates)
    name, sign, value = key.partition("=")
    if sign and name in candidates:  # filters=16 within {…}
        return f"write it with a ':': {name}: {value}"
    elsewhere = _elsewhere(key, candidates)
    if elsewhere is not None:
        return elsewhere
    called = _called(key, (*candidates, *also))
    if called is not None:
        return f"it is called {quoted(called)} here"
    if _squeezed(key) in _FOLLOWING:
        return "leave it out: it follows from the layer's input"
    return expected(key, candidates)


def _told(name: str) -> str:
    if name in SAME:
        return f"it is called {quoted(SAME[name])} here"
    if name in LAYERS:
        layers = ", ".join(f"- {each}" for each in LAYERS[name])
        return f"write these layers, in a block of your own: {layers}"
    text = OTHERWISE[name]
    return text if text.startswith("it is ") else f"there is no {name} here; {text}"
