"""From the text of an expression to its nodes."""

from __future__ import annotations

import ast
import functools
import math
import re
import warnings
from collections.abc import Mapping

from resnet_spec.expressions.evaluate import FUNCTIONS, MAX_MAGNITUDE
from resnet_spec.expressions.nodes import (
    Binary,
    Call,
    Conditional,
    Const,
    Expr,
    ExpressionError,
    Logical,
    Name,
)
from resnet_spec.expressions.simplify import unary

MAX_LENGTH = 400

CONSTANTS = {"true": True, "false": False}  # names that no value can have

_KEYWORDS = {"make_divisible": ("value", "divisor", "minimum", "round_limit")}

_AST_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.And: "and",
    ast.Or: "or",
    ast.Not: "not",
    ast.USub: "-",
}


@functools.cache
def parse(text: str) -> tuple[Expr, Mapping[str, int]]:
    """The tree of an expression, and for each name in it the offset where it stands first.

    Raises `ExpressionError` for anything beyond the language.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    lead = len(text) - len(text.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text.strip(), mode="eval").body
        names: dict[str, int] = {}
        return _convert(body, names, lead), names
    except SyntaxError as error:
        offset = max(0, (error.offset or 1) - 1) + lead
        message = f"'{_shown(text)}' is not an expression"
        raise ExpressionError(message, offset, 1, _syntax_help(text)) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"'{_shown(text)}' is not an expression", help=SYNTAX_HELP) from None
    except ExpressionError as error:
        if error.help == SYNTAX_HELP:
            error.help = _syntax_help(text)
        raise


SYNTAX_HELP = (
    "an expression is made of numbers, names, + - * / // % **, comparisons, and/or/not, "
    f"'a if b else c' and {', '.join(sorted(FUNCTIONS))}"
)
# What expressions of other languages have.
_FOREIGN = {
    r"&&": "write 'and' for '&&'",
    r"\|\|": "write 'or' for '||'",
    r"\?": "write 'a if b else c' for 'b ? a : c'",
    r"\^": "write '**' for '^'",
    r"!(?!=)": "write 'not' for '!'",
    r"(?<![=!<>])=(?!=)": "write '==' for '='",
    r"[0-9]\s*%$": "write 0.5 for 50%",
    r"\$|^\{+\s*\w+\s*\}+$": "write a name as it is, without '$' and braces",
    r"[A-Za-z_]\w*\.[A-Za-z_]": "a name has no '.': what several lines read is a constant of 'let'",
}


def _syntax_help(text: str) -> str:
    known = (told for sign, told in _FOREIGN.items() if re.search(sign, text.strip()))
    return next(known, SYNTAX_HELP)


def _shown(text: str) -> str:
    cut = text if len(text) <= 60 else text[:60] + "…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


def _convert(node: ast.expr, names: dict[str, int], lead: int) -> Expr:
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float):
            if isinstance(value, float) and not math.isfinite(value):
                raise _error(node, lead, "the number is too large")
            if abs(value) > MAX_MAGNITUDE:
                raise _error(node, lead, f"the number is larger than {MAX_MAGNITUDE}")
            return Const(value)
        case ast.Name(id=name):
            constant = CONSTANTS.get(name)
            if constant is not None:
                return Const(constant)
            names.setdefault(name, lead + node.col_offset)
            return Name(name)
        case ast.UnaryOp(op=ast.USub() | ast.Not() as operator, operand=operand):
            return unary(_AST_OPERATORS[type(operator)], _convert(operand, names, lead))
        case ast.BinOp(op=operator) if type(operator) in _AST_OPERATORS:
            left = _convert(node.left, names, lead)
            return Binary(_AST_OPERATORS[type(operator)], left, _convert(node.right, names, lead))
        case ast.Compare(ops=operators) if all(type(o) in _AST_OPERATORS for o in operators):
            return _comparison(node, names, lead)
        case ast.BoolOp(op=operator, values=values):
            operands = tuple(_convert(value, names, lead) for value in values)
            return Logical(_AST_OPERATORS[type(operator)], operands)
        case ast.IfExp(test=test, body=then, orelse=otherwise):
            return Conditional(
                _convert(test, names, lead),
                _convert(then, names, lead),
                _convert(otherwise, names, lead),
            )
        case ast.Call(func=ast.Name(id=function)):
            return _call(node, function, names, lead)
    raise _error(node, lead, "this is not part of the expression language", SYNTAX_HELP)


def _error(node: ast.expr, lead: int, message: str, help: str | None = None) -> ExpressionError:
    length = (node.end_col_offset or node.col_offset + 1) - node.col_offset
    return ExpressionError(message, lead + node.col_offset, length, help)


def _comparison(node: ast.Compare, names: dict[str, int], lead: int) -> Expr:
    operands = [_convert(operand, names, lead) for operand in (node.left, *node.comparators)]
    parts = tuple(
        Binary(_AST_OPERATORS[type(operator)], left, right)
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False)
    )
    return parts[0] if len(parts) == 1 else Logical("and", parts)


def _call(node: ast.Call, function: str, names: dict[str, int], lead: int) -> Expr:
    if function not in FUNCTIONS:
        known = ", ".join(sorted(FUNCTIONS))
        raise _error(node.func, lead, f"there is no function '{function}'", f"there are: {known}")
    arguments = [_convert(argument, names, lead) for argument in node.args]
    keywords = _KEYWORDS.get(function, ())
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    for at, name in enumerate(keywords):
        if at == len(arguments) and name in given:
            arguments.append(_convert(given.pop(name), names, lead))
        elif at == len(arguments) == 2 and given:  # the minimum, which is the divisor
            arguments.append(arguments[1])
    _, least, most, _ = FUNCTIONS[function]
    if given or not least <= len(arguments) <= most:
        takes = f"{least}" if least == most else f"{least} to {most}"
        signature = f": {function}({', '.join(keywords)})" if keywords else ""
        raise _error(node, lead, f"'{function}' takes {takes} arguments{signature}")
    return Call(function, tuple(arguments))
