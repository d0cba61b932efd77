"""Expressions as Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from resnet_spec.expressions.evaluate import COMPARISONS, FUNCTIONS
from resnet_spec.expressions.nodes import (
    Binary,
    Call,
    Conditional,
    Const,
    Expr,
    Logical,
    Name,
    Number,
    Unary,
)

_PRECEDENCE = {
    **{"or": 1, "and": 2, "not": 3},
    **dict.fromkeys(COMPARISONS, 4),
    **{"+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "**": 8},
}

_NEGATION = 7

_ATOM = 9


def to_python(expr: Expr, spelling: Mapping[str, str] | None = None) -> str:
    """Python source of an expression as a formatter writes it; `spelling` renames names."""
    return _print(expr, spelling or {})[0]


def _print(expr: Expr, spelling: Mapping[str, str]) -> tuple[str, int]:
    match expr:
        case Const(value):
            negative = not isinstance(value, bool) and value < 0
            return _number(value), _NEGATION if negative else _ATOM
        case Name(name):
            return spelling.get(name, name), _ATOM
        case Unary("not", operand):
            return f"not {_operand(operand, 3, spelling)}", 3
        case Unary(_, operand):
            return f"-{_operand(operand, _NEGATION, spelling)}", _NEGATION
        case Logical(operator, operands):
            level = _PRECEDENCE[operator]
            parts = (_operand(operand, level + 1, spelling) for operand in operands)
            return f" {operator} ".join(parts), level
        case Conditional(test, then, otherwise):
            chosen, condition = _operand(then, 1, spelling), _operand(test, 1, spelling)
            return f"{chosen} if {condition} else {_print(otherwise, spelling)[0]}", 0
        case Call(function, arguments):
            shown = ", ".join(_arguments(function, arguments, spelling))
            return f"{FUNCTIONS[function][3]}({shown})", _ATOM
        case Binary(operator, left, right):
            return _print_binary(operator, left, right, spelling)
    raise TypeError(f"not an expression: {expr!r}")


# Arguments whose position says nothing.
_KEYWORDS = {("make_divisible", 2): "minimum=", ("make_divisible", 3): "round_limit="}


def _arguments(
    function: str, arguments: Sequence[Expr], spelling: Mapping[str, str]
) -> Iterator[str]:
    for position, argument in enumerate(arguments):
        keyword = _KEYWORDS.get((function, position), "")
        if keyword == "minimum=" and argument == arguments[1]:
            continue  # its default
        yield f"{keyword}{_print(argument, spelling)[0]}"


def _number(value: Number) -> str:
    """`1e-5`, not Python's `1e-05`."""
    return repr(value).replace("e-0", "e-").replace("e+0", "e")


def _operand(expr: Expr, least: int, spelling: Mapping[str, str]) -> str:
    text, level = _print(expr, spelling)
    return text if level >= least else f"({text})"


def _print_binary(
    operator: str, left: Expr, right: Expr, spelling: Mapping[str, str]
) -> tuple[str, int]:
    level = _PRECEDENCE[operator]
    if operator == "**":
        # Binds tighter than a minus on its left, weaker than one on its right.
        texts = _operand(left, 9, spelling), _operand(right, _NEGATION, spelling)
        simple = all(isinstance(side, Const | Name) for side in (left, right))
        return ("**" if simple else " ** ").join(texts), level
    # A comparison has no operand that is a comparison: Python would chain them.
    least = level + 1 if operator in COMPARISONS else level
    text = f"{_operand(left, least, spelling)} {operator} {_operand(right, level + 1, spelling)}"
    return text, level
