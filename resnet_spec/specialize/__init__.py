"""Each block definition, generalised over the instances that a network has of it.

The lowering has read every statement and recorded what came of it; nothing is read again here.
An argument with one value in every instance becomes a literal and its dead branches vanish; one
that varies becomes a parameter. What is left is a *routine*: parameters, local values and lines
over named variables, which a backend writes as a class or as a function. Loops stay loops, and a
run of equal or evenly growing blocks is one line, so output does not grow with depth.
"""

from resnet_spec.specialize.network import specialize
from resnet_spec.specialize.program import (
    AssignLine,
    CallLine,
    FeatureInfo,
    FeatureLine,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Path,
    Program,
    Routine,
    Run,
    Value,
    flat,
    line_expressions,
)
from resnet_spec.specialize.reserved_names import renamed

__all__ = [
    "AssignLine",
    "CallLine",
    "FeatureInfo",
    "FeatureLine",
    "Line",
    "LoopLine",
    "OperationLine",
    "Parameter",
    "Path",
    "Program",
    "Routine",
    "Run",
    "Value",
    "flat",
    "line_expressions",
    "renamed",
    "specialize",
]
