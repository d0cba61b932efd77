"""What a difference does to checkpoints: four classes, and a rule for each kind of difference."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Effect(Enum):
    """What a difference means for checkpoints of the old network, from nothing to the worst."""

    SAME = "same-function"
    """All of it loads, and in evaluation the new network computes the same from it: proven."""
    LOADS = "checkpoints-load"
    """All of it loads, and what is computed from it is something else, or not proven the same."""
    PART = "load-in-part"
    """Tensors are missing, left over, of another shape or called otherwise."""
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
    # What training alone knows of.
    Rule("initialization", Effect.SAME, "fresh weights begin otherwise"),
    Rule("momentum", Effect.SAME, "running statistics follow otherwise in training"),
    Rule("dropout", Effect.SAME, "other values are zeroed in training"),
    Rule("numerics", Effect.SAME, "Keras keeps its statistics otherwise in training"),
    Rule("recipe", Effect.SAME, "it is trained otherwise"),
    # What is computed.
    Rule("stride", Effect.LOADS, "a window takes other steps"),
    Rule("stride-moved", Effect.LOADS, "another layer of the block takes the step"),
    Rule("padding", Effect.LOADS, "a border is padded otherwise"),
    Rule("dilation", Effect.LOADS, "the taps of a window stand closer or farther"),
    Rule("kernel", Effect.LOADS, "a window has another size"),
    Rule("groups", Effect.LOADS, "channels are grouped otherwise"),
    Rule("width", Effect.LOADS, "a layer has more or fewer channels"),
    Rule("bias", Effect.LOADS, "a layer has a bias, or no longer has one"),
    Rule("epsilon", Effect.LOADS, "another number is added to a variance"),
    Rule("attribute", Effect.LOADS, "a layer has another attribute"),
    Rule("activation", Effect.LOADS, "another activation"),
    Rule("normalization", Effect.LOADS, "another norm"),
    Rule("operation", Effect.LOADS, "another operation under the same name"),
    Rule("layer-added", Effect.LOADS, "an operation that was not there"),
    Rule("layer-removed", Effect.LOADS, "an operation that is no longer there"),
    Rule("block-added", Effect.LOADS, "a block that was not there"),
    Rule("block-removed", Effect.LOADS, "a block that is no longer there"),
    Rule("block", Effect.LOADS, "another block in the same place"),
    Rule("order", Effect.LOADS, "layers run in another order"),
    Rule("wiring", Effect.LOADS, "a layer takes another value"),
    Rule("feature-maps", Effect.LOADS, "other feature maps are given to detectors"),
    Rule("classes", Effect.LOADS, "another number of classes"),
    Rule("input-channels", Effect.LOADS, "images of another number of channels"),
    Rule("input-size", Effect.LOADS, "made for images of another size"),
    Rule("not-proven", Effect.LOADS, "the graphs differ, in no way that has a rule"),
    Rule("tensors-exchanged", Effect.LOADS, "tensors load, but for other layers than their own"),
    # What is kept in a checkpoint.
    Rule("tensors-new", Effect.PART, "the old network has no such tensors"),
    Rule("tensors-lost", Effect.PART, "the new network has no such tensors"),
    Rule("tensors-reshaped", Effect.PART, "tensors have other shapes"),
    Rule("tensors-renamed", Effect.PART, "tensors are called otherwise: a rename is enough"),
    Rule("weights-few", Effect.BREAK, "less than half of either network's weights fit"),
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
