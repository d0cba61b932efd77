"""Expressions over numbers: parsed to a closed set of nodes, never run as Python.

The same tree is evaluated while lowering, simplified while a block is specialised to a network,
and printed back as Python in the generated code, so that `filters * 4` stays what a person wrote.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final

Number = int | float | bool

MAX_LENGTH = 400
MAX_PARTS = 2_000  # of an expression with everything put into it that it names
CONSTANTS = {"true": True, "false": False}  # names that no value can have
MAX_MAGNITUDE = 2**53  # every integer up to here is exact as a float, too


class ExpressionError(Exception):
    """What is wrong with an expression, and where: offset and length in its text."""

    def __init__(
        self, message: str, offset: int = 0, length: int = 0, help: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.offset, self.length, self.help = message, offset, length, help


class Expr:
    """A node, compared by what it holds; arithmetic on nodes builds simplified nodes.

    Written out, for there are many: dataclasses that are frozen take twice the time to be made.
    """

    __slots__ = ("size",)
    size: int  # the number of nodes in it, itself included
    _held: ClassVar[Callable[[Expr], object]]

    def __init_subclass__(cls) -> None:
        cls._held = operator.attrgetter(*cls.__slots__)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            type(self) is type(other) and self._held(self) == self._held(other)  # type: ignore[call-arg]
        )

    def __hash__(self) -> int:
        return hash((type(self), self._held(self)))  # type: ignore[call-arg]

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._held(self)!r}"  # type: ignore[call-arg]

    def __add__(self, other: Expr | Number) -> Expr:
        return binary("+", self, wrap(other))

    def __radd__(self, other: Number) -> Expr:
        return binary("+", wrap(other), self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return binary("-", self, wrap(other))

    def __mul__(self, other: Expr | Number) -> Expr:
        return binary("*", self, wrap(other))

    def __rmul__(self, other: Number) -> Expr:
        return binary("*", wrap(other), self)

    def __floordiv__(self, other: Expr | Number) -> Expr:
        return binary("//", self, wrap(other))


class Const(Expr):
    """A number or a boolean."""

    __slots__ = __match_args__ = ("value",)

    def __init__(self, value: Number) -> None:
        self.value: Final = value
        self.size = 1


class Name(Expr):
    """An argument, a `let` or a variable that the compiler provides.

    `integral` tells that it holds an integer: rules that rewrite `//` need to know.
    """

    __slots__ = __match_args__ = ("name", "integral")

    def __init__(self, name: str, integral: bool = False) -> None:
        self.name: Final = name
        self.integral: Final = integral
        self.size = 1


class Unary(Expr):
    """`-x` or `not x`."""

    __slots__ = __match_args__ = ("operator", "operand")

    def __init__(self, operator: str, operand: Expr) -> None:
        self.operator: Final = operator
        self.operand: Final = operand
        self.size = 1 + operand.size


class Binary(Expr):
    """Arithmetic or a comparison of two operands."""

    __slots__ = __match_args__ = ("operator", "left", "right")

    def __init__(self, operator: str, left: Expr, right: Expr) -> None:
        self.operator: Final = operator
        self.left: Final = left
        self.right: Final = right
        self.size = 1 + left.size + right.size


class Logical(Expr):
    """`a and b and c` or `a or b or c`."""

    __slots__ = __match_args__ = ("operator", "operands")

    def __init__(self, operator: str, operands: tuple[Expr, ...]) -> None:
        self.operator: Final = operator
        self.operands: Final = operands
        self.size = 1 + sum(each.size for each in operands)


class Conditional(Expr):
    """`then if test else otherwise`."""

    __slots__ = __match_args__ = ("test", "then", "otherwise")

    def __init__(self, test: Expr, then: Expr, otherwise: Expr) -> None:
        self.test: Final = test
        self.then: Final = then
        self.otherwise: Final = otherwise
        self.size = 1 + test.size + then.size + otherwise.size


class Call(Expr):
    """One of the functions of the language."""

    __slots__ = __match_args__ = ("function", "arguments")

    def __init__(self, function: str, arguments: tuple[Expr, ...]) -> None:
        self.function: Final = function
        self.arguments: Final = arguments
        self.size = 1 + sum(each.size for each in arguments)


def make_divisible(
    value: float, divisor: int, minimum: int | None = None, round_limit: float = 0.9
) -> int:
    """The multiple of `divisor` nearest to `value`, at least `minimum` (default: `divisor`).

    One step more where rounding would lose over `1 - round_limit` of the value, as in the
    MobileNet reference implementation and in timm (layers/helpers.py).
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


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
_KEYWORDS = {"make_divisible": ("value", "divisor", "minimum", "round_limit")}

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    **{"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv},
    **{"//": operator.floordiv, "%": operator.mod, "**": operator.pow},
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    **{"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le},
    **{">": operator.gt, ">=": operator.ge},
}
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


# --- parsing -------------------------------------------------------------------------------------


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
        raise ExpressionError(message, offset, 1, SYNTAX_HELP) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"'{_shown(text)}' is not an expression", help=SYNTAX_HELP) from None


SYNTAX_HELP = (
    "an expression is made of numbers, names, + - * / // % **, comparisons, and/or/not, "
    f"'a if b else c' and {', '.join(sorted(FUNCTIONS))}"
)


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
    for name in keywords[len(arguments) :]:
        if name in given:
            arguments.append(_convert(given.pop(name), names, lead))
        elif given and name == "minimum":
            arguments.append(arguments[1])
    _, least, most, _ = FUNCTIONS[function]
    if given or not least <= len(arguments) <= most:
        takes = f"{least}" if least == most else f"{least} to {most}"
        signature = f": {function}({', '.join(keywords)})" if keywords else ""
        raise _error(node, lead, f"'{function}' takes {takes} arguments{signature}")
    return Call(function, tuple(arguments))


# --- evaluating ----------------------------------------------------------------------------------


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
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](left, right)
    if operator == "**" and left and abs(right * math.log2(max(abs(left), 1e-300))) > 1000:
        raise ExpressionError(f"{left} ** {right} is too large")
    try:
        return _bounded(_ARITHMETIC[operator](left, right))
    except ZeroDivisionError:
        raise ExpressionError(f"division by zero: {left} {operator} {right}") from None
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


def names(expr: Expr) -> set[str]:
    """The names that an expression mentions."""
    return {node.name for node in walk(expr) if isinstance(node, Name)}


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all below it."""
    yield expr
    for child in _children(expr):
        yield from walk(child)


def _children(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Logical(_, operands) | Call(_, operands):
            return operands
        case Conditional(test, then, otherwise):
            return (test, then, otherwise)
    return ()


# --- simplifying ---------------------------------------------------------------------------------


def wrap(value: Expr | Number) -> Expr:
    return value if isinstance(value, Expr) else Const(value)


def substitute(expr: Expr, scope: Mapping[str, Expr]) -> Expr:
    """The expression with names replaced, simplified by rules that hold for all integers.

    Raises `ExpressionError` for a result of more than `MAX_PARTS` parts: values that are put into
    one another several times grow without measure.
    """
    result = _substitute(expr, scope)
    if result.size > MAX_PARTS:
        raise ExpressionError(f"written out, the expression has more than {MAX_PARTS} parts")
    return result


def _substitute(expr: Expr, scope: Mapping[str, Expr]) -> Expr:
    if isinstance(expr, Name):
        return scope.get(expr.name, expr)
    if isinstance(expr, Const):
        return expr
    if isinstance(expr, Binary):
        left, right = _substitute(expr.left, scope), _substitute(expr.right, scope)
        return binary(expr.operator, left, right)
    if isinstance(expr, Conditional):
        test, then = _substitute(expr.test, scope), _substitute(expr.then, scope)
        return conditional(test, then, _substitute(expr.otherwise, scope))
    if isinstance(expr, Call):
        arguments = tuple(_substitute(each, scope) for each in expr.arguments)
        return _folded(Call(expr.function, arguments))
    if isinstance(expr, Logical):
        return logical(expr.operator, tuple(_substitute(each, scope) for each in expr.operands))
    if isinstance(expr, Unary):
        return unary(expr.operator, _substitute(expr.operand, scope))
    raise TypeError(f"not an expression: {expr!r}")


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
        case "not", Unary("not", inner):
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
        return expr.operator in _COMPARISONS
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
    if left == right and operator in _COMPARISONS:
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
    return _floor_divided(left, value) if operator == "//" else Binary(operator, left, Const(value))


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
        case Call("ceil" | "floor" | "int" | "round" | "make_divisible", _):
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


# --- printing ------------------------------------------------------------------------------------

_PRECEDENCE = {
    **{"or": 1, "and": 2, "not": 3},
    **dict.fromkeys(_COMPARISONS, 4),
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
            shown = ", ".join(_print(argument, spelling)[0] for argument in arguments)
            return f"{FUNCTIONS[function][3]}({shown})", _ATOM
        case Binary(operator, left, right):
            return _print_binary(operator, left, right, spelling)
    raise TypeError(f"not an expression: {expr!r}")


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
    least = level + 1 if operator in _COMPARISONS else level
    text = f"{_operand(left, least, spelling)} {operator} {_operand(right, level + 1, spelling)}"
    return text, level
