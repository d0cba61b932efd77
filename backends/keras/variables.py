"""Where a parameter of the IR is kept in Keras, and in which order of axes."""

from __future__ import annotations

# (primitive, parameter): the layer's attribute, and PyTorch's axes in Keras' order
VARIABLES: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {
    ("conv", "weight"): ("kernel", (2, 3, 1, 0)),
    ("conv", "bias"): ("bias", (0,)),
    ("linear", "weight"): ("kernel", (1, 0)),
    ("linear", "bias"): ("bias", (0,)),
    ("channel_conv", "weight"): ("kernel", (2, 1, 0)),
    ("batch_norm", "weight"): ("gamma", (0,)),
    ("batch_norm", "bias"): ("beta", (0,)),
    ("batch_norm", "running_mean"): ("moving_mean", (0,)),
    ("batch_norm", "running_var"): ("moving_variance", (0,)),
    ("group_norm", "weight"): ("gamma", (0,)),
    ("group_norm", "bias"): ("beta", (0,)),
    ("filter_response_norm", "weight"): ("gamma", (0,)),
    ("filter_response_norm", "bias"): ("beta", (0,)),
    ("evo_norm", "weight"): ("gamma", (0,)),
    ("evo_norm", "bias"): ("beta", (0,)),
    ("evo_norm", "v"): ("v", (0,)),
    ("learned_scale", "weight"): ("scale", (0,)),
    ("learned_shift", "bias"): ("shift", (0,)),
    ("threshold", "tau"): ("tau", (0,)),
}


def layer_name(canonical: str) -> str:
    """The name of a Keras layer: the operation's dotted name with `_`."""
    return canonical.replace(".", "_")
