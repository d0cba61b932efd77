"""Where a parameter of the IR is kept in Flax, and in which order of axes."""

from __future__ import annotations

# (primitive, parameter): the layer's attribute, and PyTorch's axes in Flax's order
VARIABLES: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {
    ("conv", "weight"): ("kernel", (2, 3, 1, 0)),
    ("conv", "bias"): ("bias", (0,)),
    ("linear", "weight"): ("kernel", (1, 0)),
    ("linear", "bias"): ("bias", (0,)),
    ("channel_conv", "weight"): ("kernel", (2, 1, 0)),
    ("batch_norm", "weight"): ("scale", (0,)),
    ("batch_norm", "bias"): ("bias", (0,)),
    ("batch_norm", "running_mean"): ("mean", (0,)),
    ("batch_norm", "running_var"): ("var", (0,)),
    ("group_norm", "weight"): ("scale", (0,)),
    ("group_norm", "bias"): ("bias", (0,)),
    ("filter_response_norm", "weight"): ("scale", (0,)),
    ("filter_response_norm", "bias"): ("bias", (0,)),
    ("evo_norm", "weight"): ("scale", (0,)),
    ("evo_norm", "bias"): ("bias", (0,)),
    ("evo_norm", "v"): ("v", (0,)),
    ("learned_scale", "weight"): ("scale", (0,)),
    ("learned_shift", "bias"): ("bias", (0,)),
    ("threshold", "tau"): ("tau", (0,)),
}


def layer_name(canonical: str) -> str:
    """The path of a layer in the state of the network: the operation's own dotted name."""
    return canonical
