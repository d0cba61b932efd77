"""The number of an expression."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

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
)
from resnet_spec.expressions.rounding import make_divisible

MAX_MAGNITUDE = 2**53  # every integer up to here is exact as a float, too


# name: (implementation, least and most number of arguments, how Python calls it)
FUNCTIONS: dict[str, tuple[Callable[..., Number], int, int, str]] = {
    "min": (min, 2, 8, "min"),
    "max": (max, 2, 8, "max"),
    "round": (round, 1, 1, "round"),
    "abs": (abs, 1, 1, "abs"),
    "int": (int, 1, 1, "int"),
    "ceil": (math.ceil, 1, 1, "math.ceil"),
    "floor": (math.floor, 1, 1, "math.floor"),
    "log2": (math.log2, 1, 1, "math.log2"),
    "make_divisible": (make_divisible, 2, 4, "make_divisible"),
}

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    **{"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv},
    **{"//": operator.floordiv, "%": operator.mod, "**": operator.pow},
}

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    **{"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le},
    **{">": operator.gt, ">=": operator.ge},
}


def evaluate(expr: Expr, scope: Mapping[str, Number]) -> Number:
    """The value of an expression; every name must be in `scope`.

    Raises `ExpressionError` for a division by zero, a result beyond 2**53, or a result that is
    not a real number.
    """
    if isinstance(expr, Name):
        return scope[expr.name]
    if isinstance(expr, Const):
        return expr.value
    if isinstance(expr, Binary):
        return _apply(expr.operator, evaluate(expr.left, scope), evaluate(expr.right, scope))
    if isinstance(expr, Conditional):
        return evaluate(expr.then if evaluate(expr.test, scope) else expr.otherwise, scope)
    if isinstance(expr, Call):
        return _call_function(expr.function, [evaluate(each, scope) for each in expr.arguments])
    if isinstance(expr, Logical):
        over = all if expr.operator == "and" else any
        return over(evaluate(operand, scope) for operand in expr.operands)
    if isinstance(expr, Unary):
        value = evaluate(expr.operand, scope)
        return not value if expr.operator == "not" else -value
    raise TypeError(f"not an expression: {expr!r}")


def _apply(operator: str, left: Number, right: Number) -> Number:
    if operator in COMPARISONS:
        return COMPARISONS[operator](left, right)
    if operator == "**" and left and abs(right * math.log2(max(abs(left), 1e-300))) > 1000:
        raise ExpressionError(f"{left} ** {right} is too large")
    try:
        return _bounded(_ARITHMETIC[operator](left, right))
    except ZeroDivisionError:
        message = f"division by zero: {left} {operator} {right}"
        help = f"where the divisor may be zero, write 'a {operator} b if b != 0 else 0'"
        raise ExpressionError(message, help=help) from None
    except OverflowError:
        raise ExpressionError(f"{left} {operator} {right} is too large") from None


def _call_function(function: str, arguments: list[Number]) -> Number:
    try:
        return _bounded(FUNCTIONS[function][0](*arguments))
    except ZeroDivisionError:
        raise ExpressionError(f"division by zero in '{function}'") from None
    except (ValueError, OverflowError):
        shown = ", ".join(map(str, arguments))
        raise ExpressionError(f"'{function}({shown})' has no value") from None


def _bounded(value: Number) -> Number:
    if isinstance(value, complex):
        raise ExpressionError("the result is not a real number")
    if not -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE:
        raise ExpressionError(f"the result is beyond {MAX_MAGNITUDE}")
    return value
