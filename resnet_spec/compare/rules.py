"""What a difference does to checkpoints: four classes, and a rule for each kind of difference."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Effect(Enum):
    """What a difference means for checkpoints of the old network, the least severe first."""

    SAME = "same-function"
    """Every tensor loads, and the new network provably computes the same in eval mode."""
    LOADS = "checkpoints-load"
    """Every tensor loads, but the result differs, or is not proven to be the same."""
    PART = "load-in-part"
    """Tensors were added, removed, reshaped or renamed."""
    BREAK = "break"
    """Less than half of either network's weights are found in the other."""

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(Effect).index(self)


class Rule(NamedTuple):
    """A kind of difference: its effect at most, and what it means."""

    id: str
    effect: Effect
    meaning: str


_TABLE = (
    # Only in training.
    Rule("initialization", Effect.SAME, "weights are initialised differently"),
    Rule("momentum", Effect.SAME, "running statistics are updated at another rate in training"),
    Rule("dropout", Effect.SAME, "dropout in training differs"),
    Rule("numerics", Effect.SAME, "Keras computes its running statistics differently in training"),
    Rule("recipe", Effect.SAME, "the training recipe differs"),
    # What is computed.
    Rule("stride", Effect.LOADS, "the stride of a window differs"),
    Rule("stride-moved", Effect.LOADS, "another layer of the block has the stride"),
    Rule("padding", Effect.LOADS, "the padding differs"),
    Rule("dilation", Effect.LOADS, "the dilation of a window differs"),
    Rule("kernel", Effect.LOADS, "the size of a window differs"),
    Rule("groups", Effect.LOADS, "the number of groups differs"),
    Rule("width", Effect.LOADS, "the number of channels of a layer differs"),
    Rule("bias", Effect.LOADS, "a layer gained or lost its bias"),
    Rule("epsilon", Effect.LOADS, "the epsilon of a norm differs"),
    Rule("attribute", Effect.LOADS, "another attribute of a layer differs"),
    Rule("activation", Effect.LOADS, "the activation differs"),
    Rule("normalization", Effect.LOADS, "the norm differs"),
    Rule("operation", Effect.LOADS, "another operation has the same name"),
    Rule("layer-added", Effect.LOADS, "an operation was added"),
    Rule("layer-removed", Effect.LOADS, "an operation was removed"),
    Rule("block-added", Effect.LOADS, "a block was added"),
    Rule("block-removed", Effect.LOADS, "a block was removed"),
    Rule("block", Effect.LOADS, "another block is in the same place"),
    Rule("order", Effect.LOADS, "layers run in another order"),
    Rule("wiring", Effect.LOADS, "the input of a layer differs"),
    Rule("feature-maps", Effect.LOADS, "the feature maps for detectors differ"),
    Rule("classes", Effect.LOADS, "the number of classes differs"),
    Rule("input-channels", Effect.LOADS, "the number of input channels differs"),
    Rule("input-size", Effect.LOADS, "the input size differs"),
    Rule("not-proven", Effect.LOADS, "the graphs differ in a way that no rule covers"),
    Rule("tensors-exchanged", Effect.LOADS, "tensors load into other layers than their own"),
    # What is kept in a checkpoint.
    Rule("tensors-new", Effect.PART, "tensors exist only in the new network"),
    Rule("tensors-lost", Effect.PART, "tensors exist only in the old network"),
    Rule("tensors-reshaped", Effect.PART, "the shapes of tensors differ"),
    Rule("tensors-renamed", Effect.PART, "tensors were renamed: renaming them back is sufficient"),
    Rule("weights-few", Effect.BREAK, "less than half of either network's weights match"),
)

RULES: dict[str, Rule] = {rule.id: rule for rule in _TABLE}

# Of an attribute that differs; any other is an `attribute`.
OF_ATTRIBUTES = {
    "stride": "stride",
    "padding": "padding",
    "dilation": "dilation",
    "kernel": "kernel",
    "groups": "groups",
    "filters": "width",
    "features": "width",
    "bias": "bias",
    "eps": "epsilon",
    "slope": "activation",
    "momentum": "momentum",
    "rate": "dropout",
    "init": "initialization",
    "bias_init": "initialization",
}
