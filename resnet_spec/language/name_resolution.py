"""Evaluates expressions and names to numbers and texts, within the limits of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping

from resnet_spec import expressions
from resnet_spec.diagnostics import Span, expected, fail, quoted
from resnet_spec.language import identifiers
from resnet_spec.language.syntax import Bound, Expression, Pattern
from resnet_spec.primitives import Attribute

MAX_DIMENSION = 1_000_000
MAX_SIZE = 65_536  # rows, columns and channels of images, and classes
MAX_REPEAT = 2_048

Scope = Mapping[str, Bound]


class Unknown(Exception):
    """A value that has no number because of an error that was already reported."""


class TooLarge(Exception):
    """Ends the walk: the network is too large."""

    def __init__(self, span: Span, what: str) -> None:
        self.span, self.what = span, what


BROKEN = Bound(math.nan)  # stands for such a number; equal to no other


def evaluate(expression: Expression, scope: Scope) -> Bound:
    """The number of an expression; raises `SpecError` (RS202, RS203)."""
    tree = expression.expr
    if isinstance(tree, expressions.Const):
        return Bound(tree.value)
    numbers: dict[str, expressions.Number] = {}
    is_open = False
    for name, offset in expression.names.items():
        bound = scope.get(name)
        if bound is None:
            where = expression.span_at(offset, len(name))
            fail("RS202", f"{quoted(name)} is not defined here", where, expected(name, scope))
        if bound is BROKEN:
            raise Unknown
        numbers[name] = bound.value
        is_open = is_open or bound.open
    if isinstance(tree, expressions.Name):
        return scope[tree.name]
    try:
        value = expressions.evaluate(tree, numbers)
    except expressions.ExpressionError as error:
        message = error.message
        if expression.text not in message:
            message = f"{quoted(expression.text)}: {message}"
        fail("RS203", message, expression.span, error.help)
    return Bound(value, is_open)


def typed(value: Bound, kind: str, span: Span, name: str) -> Bound:
    """The number as the type that the argument or attribute of this name has (RS204)."""
    number = value.value
    if type(number).__name__ == kind:
        return value
    what = quoted(name)
    if kind == "bool":
        fail("RS204", f"{what} must be true or false, but is {number}", span)
    if isinstance(number, bool):
        hint = "write a number, '2 if wide else 1'; an argument can have 'type: bool'"
        fail("RS204", f"{what} must be a number, but is {str(number).lower()}", span, hint)
    if kind == "int":
        hint = "use // for a division, or round(…), int(…) or make_divisible(…)"
        if number == round(number):
            hint = f"write {number:.0f} without a point, or {hint}"
        fail("RS204", f"{what} must be a whole number, but is {number}", span, hint)
    return Bound(float(number), value.open)


def ranged(value: Bound, attribute: Attribute, span: Span) -> Bound:
    """The number, within the range of its attribute (RS205)."""
    number, least, most = value.value, attribute.minimum, attribute.maximum
    if attribute.type == "int":
        most = MAX_DIMENSION if most is None else min(most, MAX_DIMENSION)
    if least is not None and number < least:
        fail("RS205", f"'{attribute.name}' must be at least {least}, but is {number}", span)
    if most is not None and number > most:
        hint = None
        if most < 1:
            hint = f"it is the {attribute.description}: write a number from {least} to {most}"
        if 5 <= number < 100 and most <= 1:
            hint = f"write a share: {number / 100}"
        fail("RS205", f"'{attribute.name}' must be at most {most}, but is {number}", span, hint)
    return value


def repetitions(expression: Expression, scope: Scope, key: str, least: int = 1) -> int:
    """How often something is repeated, as `key` says (RS204, RS205)."""
    bound, what = typed(evaluate(expression, scope), "int", expression.span, key), quoted(key)
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
    """A name with its braces filled; one without was checked when it was read."""
    if pattern.is_fixed:
        return pattern.text
    text = ""
    for part in pattern.parts:
        bound = None if isinstance(part, str) else evaluate(part, scope)
        if bound is not None and bound.open:
            fail(
                "RS204",
                "a name can't depend on the number of classes or of input channels",
                pattern.span,
            )
        text += str(part if bound is None else bound.value)
    return identifiers.check_path(text, pattern.span)
