"""The intermediate representation: the graph of operations, and what follows from it."""

from resnet_spec.ir.feature_maps import FeatureMap, feature_maps
from resnet_spec.ir.graph import (
    INPUT,
    Choice,
    Event,
    Instance,
    Key,
    LoopEvent,
    Network,
    Node,
    Operation,
    Read,
    Stage,
    Step,
    walk,
)
from resnet_spec.language.syntax import Published

__all__ = [
    "INPUT",
    "Choice",
    "Event",
    "FeatureMap",
    "Instance",
    "Key",
    "LoopEvent",
    "Network",
    "Node",
    "Operation",
    "Published",
    "Read",
    "Stage",
    "Step",
    "feature_maps",
    "walk",
]
