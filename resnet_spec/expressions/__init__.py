"""Expressions over numbers: parsed to a closed set of nodes, never run as Python."""

from resnet_spec.expressions.evaluate import FUNCTIONS, MAX_MAGNITUDE, evaluate
from resnet_spec.expressions.nodes import (
    Binary,
    Call,
    Conditional,
    Const,
    Expr,
    ExpressionError,
    Logical,
    Name,
    Number,
    Unary,
    names,
    walk,
)
from resnet_spec.expressions.parse import CONSTANTS, MAX_LENGTH, SYNTAX_HELP, parse
from resnet_spec.expressions.printing import to_python
from resnet_spec.expressions.rounding import make_divisible
from resnet_spec.expressions.simplify import (
    MAX_PARTS,
    binary,
    conditional,
    given,
    logical,
    offset,
    substitute,
    unary,
    wrap,
)

__all__ = [
    "CONSTANTS",
    "FUNCTIONS",
    "MAX_LENGTH",
    "MAX_MAGNITUDE",
    "MAX_PARTS",
    "SYNTAX_HELP",
    "Binary",
    "Call",
    "Conditional",
    "Const",
    "Expr",
    "ExpressionError",
    "Logical",
    "Name",
    "Number",
    "Unary",
    "binary",
    "conditional",
    "evaluate",
    "given",
    "logical",
    "make_divisible",
    "names",
    "offset",
    "parse",
    "substitute",
    "to_python",
    "unary",
    "walk",
    "wrap",
]
