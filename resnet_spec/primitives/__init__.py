"""The primitive operations: one record each, read by everything else.

Validation, the language reference, the JSON Schema, inference and the backends all read these
records; how a primitive is written in a framework is the backend's part alone.
"""

from resnet_spec.primitives.record import (
    FANS,
    INITIALIZERS,
    SAME,
    Attribute,
    Distribution,
    Initializer,
    Parameter,
    Primitive,
    Shape,
    ShapeError,
    distribution,
)
from resnet_spec.primitives.table import PRIMITIVES, ROLES

__all__ = [
    "FANS",
    "INITIALIZERS",
    "PRIMITIVES",
    "ROLES",
    "SAME",
    "Attribute",
    "Distribution",
    "Initializer",
    "Parameter",
    "Primitive",
    "Shape",
    "ShapeError",
    "distribution",
]
