"""Substitutes expressions into one another, and simplifies them by rules that always hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from resnet_spec.expressions.evaluate import COMPARISONS, evaluate
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
    _children,
)

MAX_PARTS = 2_000  # of an expression with everything put into it that it names


def wrap(value: Expr | Number) -> Expr:
    return value if isinstance(value, Expr) else Const(value)


def substitute(expr: Expr, scope: Mapping[str, Expr]) -> Expr:
    """The expression with names replaced, simplified by rules that hold for all integers.

    Raises `ExpressionError` for a result of more than `MAX_PARTS` parts: repeated substitution
    grows exponentially.
    """
    result = _substitute(expr, scope)
    if result.size > MAX_PARTS:
        raise ExpressionError(f"written out, the expression has more than {MAX_PARTS} parts")
    return result


def given(expr: Expr, fact: Expr) -> Expr:
    """The expression where a condition holds: what only another case needs is left out."""
    return _substitute(expr, {}, fact)


def _substitute(expr: Expr, scope: Mapping[str, Expr], fact: Expr | None = None) -> Expr:
    if isinstance(expr, Name):
        return scope.get(expr.name, expr)
    if isinstance(expr, Const):
        return expr
    if isinstance(expr, Binary):
        left, right = _substitute(expr.left, scope, fact), _substitute(expr.right, scope, fact)
        return binary(expr.operator, left, right)
    if isinstance(expr, Conditional):
        test, then = _substitute(expr.test, scope, fact), _substitute(expr.then, scope, fact)
        if test == fact:
            return then
        return conditional(test, then, _substitute(expr.otherwise, scope, fact))
    if isinstance(expr, Call):
        arguments = tuple(_substitute(each, scope, fact) for each in expr.arguments)
        if expr.function in _ROUNDING and _integral(arguments[0]):
            return arguments[0]
        return _folded(Call(expr.function, arguments))
    if isinstance(expr, Logical):
        return logical(
            expr.operator, tuple(_substitute(each, scope, fact) for each in expr.operands)
        )
    if isinstance(expr, Unary):
        return unary(expr.operator, _substitute(expr.operand, scope, fact))
    raise TypeError(f"not an expression: {expr!r}")


_ROUNDING = ("ceil", "floor", "int", "round")  # which leave an integer as it is


def _folded(expr: Expr) -> Expr:
    """A constant where all operands are; the expression itself where it has no value."""
    if all(isinstance(child, Const) for child in _children(expr)):
        try:
            return Const(evaluate(expr, {}))
        except ExpressionError:
            return expr
    return expr


def unary(operator: str, operand: Expr) -> Expr:
    match operator, operand:
        case ("not", Unary("not", inner)) | ("-", Unary("-", inner)):
            return inner
        case "not", Binary("==", left, right):
            return Binary("!=", left, right)
        case "not", Binary("!=", left, right):
            return Binary("==", left, right)
    return _folded(Unary(operator, operand))


def logical(operator: str, operands: tuple[Expr, ...]) -> Expr:
    absorbing = operator == "or"
    kept: list[Expr] = []
    for operand in operands:
        if isinstance(operand, Const):
            if bool(operand.value) == absorbing:
                return Const(absorbing)
        elif operand not in kept:
            kept.append(operand)
    if not kept:
        return Const(not absorbing)
    return kept[0] if len(kept) == 1 else Logical(operator, tuple(kept))


def conditional(test: Expr, then: Expr, otherwise: Expr) -> Expr:
    if isinstance(test, Const):
        return then if test.value else otherwise
    if then == otherwise:
        return then
    if isinstance(test, Binary) and {then, otherwise} == {test.left, test.right}:
        larger = (test.operator in (">", ">=")) == (then == test.left)
        if test.operator in (">", ">=", "<", "<="):
            return Call("max" if larger else "min", (then, otherwise))
    if isinstance(then, Const) and isinstance(otherwise, Const):
        if then.value is True and otherwise.value is False:
            return test if _is_truth(test) else Binary("!=", test, Const(0))
        if then.value is False and otherwise.value is True:
            return unary("not", test) if _is_truth(test) else Binary("==", test, Const(0))
    return Conditional(test, then, otherwise)


def _is_truth(expr: Expr) -> bool:
    """Whether an expression is true or false, and never another number."""
    if isinstance(expr, Binary):
        return expr.operator in COMPARISONS
    return isinstance(expr, Unary) and expr.operator == "not"


def _may_be_truth(expr: Expr) -> bool:
    """Whether an expression can be true or false, which frameworks don't take for a number."""
    match expr:
        case Const(value):
            return isinstance(value, bool)
        case Name(_, integral):
            return not integral
        case Conditional(_, then, otherwise):
            return _may_be_truth(then) or _may_be_truth(otherwise)
        case Call("min" | "max", operands) | Logical(_, operands):
            return any(map(_may_be_truth, operands))
    return _is_truth(expr)


def _as_number(expr: Expr) -> Expr | None:
    """What a sum with 0, or a product with 1, is: a number; None where nothing shorter says so."""
    if _is_truth(expr):
        return Call("int", (expr,))
    return None if _may_be_truth(expr) else expr


def binary(operator: str, left: Expr, right: Expr) -> Expr:
    """`left operator right`, simplified; the rules assume integers where they rewrite division."""
    if isinstance(left, Const) and isinstance(right, Const):
        return _folded(Binary(operator, left, right))
    if left == right and operator in COMPARISONS:
        return Const(operator in ("==", "<=", ">="))
    if operator in ("+", "-") and (shorter := _collected(operator, left, right)) is not None:
        return shorter
    if isinstance(right, Const) and type(right.value) is int:
        return _with_constant(operator, left, right.value)
    if operator == "+":
        (base, times), (other, more) = _multiple(left), _multiple(right)
        if base == other:
            return binary("*", base, Const(times + more))
    if isinstance(left, Const) and type(left.value) is int:
        match operator, left.value:
            case ("+", 0) | ("*", 1):
                return _as_number(right) or Binary(operator, left, right)
    return Binary(operator, left, right)


def _collected(operator: str, left: Expr, right: Expr) -> Expr | None:
    """A sum of integers with like terms put together; None where that makes it no shorter."""
    if not (_integral(left) and _integral(right)):
        return None
    terms = [*_terms(left, 1), *_terms(right, 1 if operator == "+" else -1)]
    total = 0
    times: dict[Expr, int] = {}
    for base, factor in terms:
        if isinstance(base, Const):
            total += int(base.value) * factor
        else:
            times[base] = times.get(base, 0) + factor
    kept = {base: factor for base, factor in times.items() if factor}
    if len(kept) + (total != 0) >= len(terms):
        return None
    # A sum opens with a term that is added.
    result: Expr = Const(0)
    for base, factor in sorted(kept.items(), key=lambda item: item[1] < 0):
        term = base if abs(factor) == 1 else Binary("*", base, Const(abs(factor)))
        if result == Const(0):
            result = term if factor > 0 else Unary("-", term)
        else:
            result = Binary("+" if factor > 0 else "-", result, term)
    if result == Const(0) or total == 0:
        return Const(total) if result == Const(0) else result
    return Binary("+" if total > 0 else "-", result, Const(abs(total)))


def _terms(expr: Expr, factor: int) -> Iterator[tuple[Expr, int]]:
    """The terms of a sum with their integer factors."""
    match expr:
        case Binary("+", left, right):
            yield from _terms(left, factor)
            yield from _terms(right, factor)
        case Binary("-", left, right):
            yield from _terms(left, factor)
            yield from _terms(right, -factor)
        case Unary("-", operand):
            yield from _terms(operand, -factor)
        case _:
            base, times = _multiple(expr)
            yield base, factor * times


def _multiple(expr: Expr) -> tuple[Expr, int]:
    """An expression as a base and the integer that it is multiplied by."""
    match expr:
        case Binary("*", base, Const(value)) if type(value) is int:
            return base, value
    return expr, 1


def _with_constant(operator: str, left: Expr, value: int) -> Expr:
    """`left operator value`, for an integer value."""
    match operator, value, left:
        case ("+" | "-", 0, _) | ("*" | "**", 1, _):
            return _as_number(left) or Binary(operator, left, Const(value))
        case "+", _, Binary("+", inner, Const(other)) if type(other) is int:
            return binary("+", inner, Const(other + value))
        case "*", _, Binary("*", inner, Const(other)) if type(other) is int:
            return binary("*", inner, Const(other * value))
    if operator == "//":
        return _floor_divided(left, value)
    return _divided(left, value) if operator == "/" else Binary(operator, left, Const(value))


def _divided(left: Expr, value: int) -> Expr:
    """`left / value`, a factor that both share left out; a power of two changes no rounding."""
    match left:
        case Binary("*", inner, Const(other)) if type(other) is int and other > 0 < value:
            shared = math.gcd(other, value)
            if not _integral(inner):
                shared &= -shared
            if shared > 1:
                product = binary("*", inner, Const(other // shared))
                return product if shared == value else Binary("/", product, Const(value // shared))
    return Binary("/", left, Const(value))


def _floor_divided(left: Expr, value: int) -> Expr:
    """`left // value`; nothing is rewritten unless `left` is sure to be an integer."""
    if not _integral(left):
        return Binary("//", left, Const(value))
    match left:
        case _ if value == 1:
            return left
        case Binary("*", inner, Const(other)) if _divides(other, value):
            return binary("*", inner, Const(other // value))
        case Binary("*", inner, Const(other)) if _divides(value, other):
            return binary("//", inner, Const(value // other))
        case Binary("//", inner, Const(other)) if type(other) is int and other > 0 < value:
            return binary("//", inner, Const(other * value))
    return Binary("//", left, Const(value))


def _integral(expr: Expr) -> bool:
    match expr:
        case Const(value):
            return type(value) is int
        case Name(_, integral):
            return integral
        case Unary("-", operand):
            return _integral(operand)
        case Binary("+" | "-" | "*" | "//" | "%", left, right):
            return _integral(left) and _integral(right)
        case Conditional(_, then, otherwise):
            return _integral(then) and _integral(otherwise)
        case Call(function, _) if function in (*_ROUNDING, "make_divisible"):
            return True
        case Call("min" | "max" | "abs", arguments):
            return all(map(_integral, arguments))
    return False


def _divides(number: Number, divisor: Number) -> bool:
    return (
        type(number) is int
        and type(divisor) is int
        and number > 0
        and divisor > 0
        and number % divisor == 0
    )


def offset(expr: Expr) -> tuple[Expr, Number]:
    """The expression as a base and a constant that is added to it."""
    match expr:
        case Const(value):
            return Const(0), value
        case Binary("+", base, Const(value)):
            return base, value
    return expr, 0


def _combined(operator: str, left: Expr | Number, right: Expr | Number) -> Expr:
    """What an operator between two nodes makes."""
    return binary(operator, wrap(left), wrap(right))


Expr.combined = staticmethod(_combined)  # type: ignore[method-assign]
