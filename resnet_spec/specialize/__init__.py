"""Each block definition, generalised over its instances in a network.

Lowering has interpreted every statement and recorded the results; no statement is read again here.
An argument with the same value in all instances becomes a literal, and branches that are never
taken disappear; an argument that varies becomes a parameter. The result is a *routine*: parameters,
local values and lines over named variables, which a backend writes as a class or as a function.
Loops stay loops, and a run of equal or evenly growing blocks is one line, so output does not grow
with depth.
"""

from resnet_spec.specialize.network import specialize
from resnet_spec.specialize.program import (
    AssignLine,
    CallLine,
    FeatureInfo,
    FeatureLine,
    LeftOutLine,
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
from resnet_spec.specialize.reserved_names import assigned_names, function_names, renamed

__all__ = [
    "AssignLine",
    "CallLine",
    "FeatureInfo",
    "FeatureLine",
    "LeftOutLine",
    "Line",
    "LoopLine",
    "OperationLine",
    "Parameter",
    "Path",
    "Program",
    "Routine",
    "Run",
    "Value",
    "assigned_names",
    "flat",
    "function_names",
    "line_expressions",
    "renamed",
    "specialize",
]
