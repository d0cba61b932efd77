"""Which names a spec may give, and how they become names of Python."""

from __future__ import annotations

import keyword
import re

from resnet_spec.diagnostics import Span, fail, quoted

MAX_NAME = 64
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")

# Names that generated code uses for itself; a spec's own would hide them.
RESERVED = frozenset(
    {
        *("torch", "nn", "keras", "layers", "ops", "initializers", "math", "module", "self"),
        *("inputs", "features", "name", "num_classes", "stages", "init_weights", "freeze_until"),
        *("conv2d", "batch_norm", "max_pool", "max_pool_signed", "avg_pool"),
        *("softmax_over_groups", "shuffle_channels", "make_divisible", "blur_pool", "channel_conv"),
        *("adaptive_avg_pool", "standardized_conv2d", "pad_same", "conv2d_same"),
        "standardized_conv2d_same",
        *("abs", "bool", "dict", "float", "int", "isinstance", "len", "list", "max", "min"),
        *("object", "print", "property", "range", "round", "str", "super", "tuple", "type"),
    }
)


RESERVED_CLASSES = frozenset(
    {
        *("F", "OrderedDict", "PARTS", "Self", "Tensor", "DropPath", "ChannelConv", "StdConv2d"),
        *("StandardizedConv2D", "FilterResponseNorm", "EvoNorm", "Threshold"),
        *("Conv2dSame", "StdConv2dSame", "MaxPool2dSame", "AvgPool2dSame"),
    }
)


def check_identifier(name: str, span: Span, what: str) -> str:
    """A name that becomes a variable or a function: lower case, not a keyword."""
    if not _IDENTIFIER.fullmatch(name) or len(name) > MAX_NAME:
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}",
            span,
            help="use lower-case letters, digits and '_', a letter first, "
            f"at most {MAX_NAME} characters",
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in RESERVED:
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}: generated code uses this word itself",
            span,
            help=f"use another name: {name}_",
        )
    return name


def check_class(name: str, span: Span) -> str:
    """A name that becomes a class: letters and digits, a capital first."""
    if name in RESERVED_CLASSES:
        fail(
            "RS105",
            f"{quoted(name)} can't name a class: generated code uses this word itself",
            span,
            help=f"use another name: {name}Net",
        )
    if not _CLASS.fullmatch(name) or len(name) > MAX_NAME or keyword.iskeyword(name):
        fail(
            "RS105",
            f"{quoted(name)} can't name a class",
            span,
            help="use letters and digits, a capital first: ResNet50",
        )
    return name


def check_path(name: str, span: Span) -> str:
    """A layer's dotted name: each part becomes an attribute, a list index or a key."""
    for part in name.split("."):
        if not _PART.fullmatch(part) or keyword.iskeyword(part) or len(name) > MAX_NAME:
            fail(
                "RS105",
                f"{quoted(name)} can't name a layer",
                span,
                help="use letters, digits and '_', with '.' between parts: conv1, downsample.0",
            )
    return name


def class_name(name: str) -> str:
    """`squeeze_excitation` to `SqueezeExcitation`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def check_own_class(name: str, span: Span, what: str) -> str:
    """The class of what has no `class_name`; RS105 for `none`, whose class would be `None`."""
    made = class_name(name)
    if keyword.iskeyword(made) or made in RESERVED_CLASSES:
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}: its class would be called {quoted(made)}",
            span,
            help="use another name, or give it a class_name",
        )
    return made
