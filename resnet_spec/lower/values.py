"""Expressions and names as numbers and texts, within the bounds of what a network needs."""

from __future__ import annotations

from collections.abc import Mapping

from resnet_spec import expr, names
from resnet_spec.diagnostics import Span, expected, fail, quoted
from resnet_spec.ir import Bound, Expression, Pattern
from resnet_spec.ops import Attribute

MAX_DIMENSION = 1_000_000
MAX_REPEAT = 2_048

Scope = Mapping[str, Bound]


class Unknown(Exception):
    """A value that has no number because of a mistake that has been reported."""


class TooLarge(Exception):
    """Ends the walk: there is more to do than any network needs."""

    def __init__(self, span: Span, what: str) -> None:
        self.span, self.what = span, what


BROKEN = Bound(0)  # stands for such a number; known by its identity


def evaluate(expression: Expression, scope: Scope) -> Bound:
    """The number of an expression; raises `SpecError` (RS202, RS203)."""
    for name, offset in expression.names.items():
        if name not in scope:
            where = expression.span_at(offset, len(name))
            fail("RS202", f"{quoted(name)} is not defined here", where, expected(name, scope))
        if scope[name] is BROKEN:
            raise Unknown
    try:
        value = expr.evaluate(expression.expr, {n: scope[n].value for n in expression.names})
    except expr.ExpressionError as error:
        message = error.message
        if expression.text not in message:
            message = f"{quoted(expression.text)}: {message}"
        fail("RS203", message, expression.span, error.help)
    return Bound(value, any(scope[name].open for name in expression.names))


def typed(value: Bound, kind: str, span: Span, what: str) -> Bound:
    """The number as the type that an argument or attribute has (RS204)."""
    number = value.value
    if kind == "bool" and not isinstance(number, bool):
        fail("RS204", f"{what} must be true or false, but is {number}", span)
    if kind != "bool" and isinstance(number, bool):
        fail("RS204", f"{what} must be a number, but is {str(number).lower()}", span)
    if kind == "int" and not isinstance(number, int):
        fail(
            "RS204",
            f"{what} must be a whole number, but is {number}",
            span,
            help="use // for a division, or round(…), int(…) or make_divisible(…)",
        )
    return Bound(float(number), value.open) if kind == "float" else value


def ranged(value: Bound, attribute: Attribute, span: Span, what: str) -> Bound:
    """The number, within the range of its attribute (RS205)."""
    least, most = attribute.minimum, attribute.maximum
    if least is not None and value.value < least:
        fail("RS205", f"{what} must be at least {least}, but is {value.value}", span)
    if most is not None and value.value > most:
        fail("RS205", f"{what} must be at most {most}, but is {value.value}", span)
    if attribute.type == "int" and value.value > MAX_DIMENSION:
        fail("RS205", f"{what} must be at most {MAX_DIMENSION}, but is {value.value}", span)
    return value


def repetitions(expression: Expression, scope: Scope, what: str, least: int = 1) -> int:
    """How often something is repeated (RS204, RS205)."""
    bound = typed(evaluate(expression, scope), "int", expression.span, what)
    if bound.open:
        fail(
            "RS204",
            f"{what} can't depend on the number of classes or of input channels",
            expression.span,
        )
    number = int(bound.value)
    if number < least:
        fail("RS205", f"{what} must be at least {least}, but is {number}", expression.span)
    if number > MAX_REPEAT:
        fail("RS205", f"{what} must be at most {MAX_REPEAT}, but is {number}", expression.span)
    return number


def spell(pattern: Pattern, scope: Scope) -> str:
    """A name with its braces filled."""
    parts = (
        part if isinstance(part, str) else str(evaluate(part, scope).value)
        for part in pattern.parts
    )
    return names.check_path("".join(parts), pattern.span)
