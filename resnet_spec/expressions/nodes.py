"""The nodes of expressions over numbers: a closed set, never run as Python.

The same tree is evaluated while lowering, simplified while a block is specialised to a network,
and printed as Python in the generated code, so that `filters * 4` stays as written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

Number = int | float | bool


class ExpressionError(Exception):
    """What is wrong with an expression, and where: offset and length in its text."""

    def __init__(
        self, message: str, offset: int = 0, length: int = 0, help: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.offset, self.length, self.help = message, offset, length, help


class Expr:
    """A node, compared by what it holds; arithmetic on nodes builds simplified nodes.

    Written out for speed: frozen dataclasses take twice as long to create.
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

    @staticmethod
    def combined(operator: str, left: Expr | Number, right: Expr | Number) -> Expr:
        """What an operator makes of two of them; simplify.py, which has the rules, sets it."""
        raise NotImplementedError

    def __add__(self, other: Expr | Number) -> Expr:
        return self.combined("+", self, other)

    def __radd__(self, other: Number) -> Expr:
        return self.combined("+", other, self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return self.combined("-", self, other)

    def __mul__(self, other: Expr | Number) -> Expr:
        return self.combined("*", self, other)

    def __rmul__(self, other: Number) -> Expr:
        return self.combined("*", other, self)

    def __floordiv__(self, other: Expr | Number) -> Expr:
        return self.combined("//", self, other)


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
