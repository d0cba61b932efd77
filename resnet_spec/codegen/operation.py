"""One operation as every backend writes it: its attributes and channels as Python."""

from __future__ import annotations

from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from resnet_spec.codegen.layout import Code, array, flat, span
from resnet_spec.codegen.patterns import fill
from resnet_spec.codegen.python import rescaled
from resnet_spec.expressions import Const, Expr, binary, to_python
from resnet_spec.primitives import SAME, Initializer
from resnet_spec.specialize import OperationLine

# How an operation is written: a pattern, or what writes it, given the backend's own context.
Rule = str | Callable[[Any], Code]

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class OperationContext:
    """One operation with the spelling of the names around it; backends add what else they need.

    `get` lists what the patterns of a backend's tables can use besides its attributes.
    """

    line: OperationLine
    spelling: Mapping[str, str]
    inputs: Sequence[str] = field(default=(), kw_only=True)

    initializers: ClassVar[Mapping[str, str]] = {}  # a pattern for each kind

    def write(self, table: Mapping[str, Rule]) -> Code:
        """The operation by its primitive's rule: a pattern, or a function that writes it."""
        rule = table[self.line.primitive.name]
        return self.fill(rule) if isinstance(rule, str) else rule(self)

    def fill(self, pattern: str) -> Code:
        """A pattern with this operation's values."""
        return fill(pattern, self.get, self.is_default)

    def joined(self, operator: str, of_a_list: str) -> Code:
        """The inputs with an operator between them; a pattern where they are a list's elements."""
        if any(each.startswith("*") for each in self.inputs):
            return self.fill(of_a_list)
        return f" {operator} ".join(self.inputs)

    def get(self, name: str) -> str:
        """An attribute, or what else a pattern may name, as Python."""
        match name:
            case "x":  # the first input
                return self.inputs[0]
            case "inputs":  # all of them, as a list
                return flat(listed(self.inputs))
            case "channels":  # of the first input
                return self.channels
            case "slice":  # of `take`
                return span(self.get("start"), self.get("stop"))
            case "step":  # every n-th row or column
                stride = self.get("stride")
                return f"::{stride}" if stride.isalnum() else f":: {stride}"
            case "rescaled":
                factor, offset = self.expr("factor"), self.expr("offset")
                return rescaled(self.inputs[0], factor, offset, self.spelling)
        value = self.line.attributes.get(name)
        if isinstance(value, Initializer):
            return flat(initializer_of(self.initializers, value))
        return to_python(self.expr(name), self.spelling)

    def is_default(self, name: str, default: str) -> bool:
        """Whether an attribute has the framework's default value; that of no bias has."""
        value = self.line.attributes.get(name)
        if name == "bias_init" and self.has("bias", False):
            return True
        if isinstance(value, Initializer):
            return value == Initializer(default)
        return self.expr(name) == Const(literal_eval(default))

    def expr(self, name: str) -> Expr:
        value = self.line.attributes[name]
        assert isinstance(value, Expr)
        return value

    def has(self, name: str, value: object) -> bool:
        """Whether an attribute is a number, a boolean or `same`."""
        given = self.line.attributes[name]
        return given == SAME if value == SAME else given == Const(value)  # type: ignore[arg-type]

    @property
    def is_padded_by_size(self) -> bool:
        """Whether the padding follows from the size of the input, and may be more on one side."""
        if not self.has("padding", SAME) or self.has("kernel", 1):
            return False
        kernel = self.line.attributes["kernel"]
        odd = isinstance(kernel, Const) and kernel.value % 2 == 1
        return not (odd and self.has("stride", 1))

    @property
    def channels(self) -> str:
        """The channels of the first input, as Python."""
        assert self.line.channels[0] is not None
        return to_python(self.line.channels[0], self.spelling)


def where(attribute: str, value: object, pattern: str, otherwise: str) -> Rule:
    """A rule of two patterns: one where an attribute has a value, one where it has another."""
    return lambda op: op.fill(pattern if op.has(attribute, value) else otherwise)


def listed(inputs: Sequence[str]) -> Code:
    """The inputs of an operation as one sequence."""
    if len(inputs) == 1 and inputs[0].startswith("*"):
        return inputs[0][1:]
    return array(inputs)


def initializer_of(patterns: Mapping[str, str], given: Initializer, **names: str) -> Code:
    """An initializer by its pattern, in which `value` is its number or its fan."""
    value = given.value if not isinstance(given.value, str) else f'"{given.value}"'
    texts = {"value": str(value), **names}
    return fill(
        patterns[given.kind], texts.__getitem__, lambda _, usual: given.value == literal_eval(usual)
    )


def grouped(
    lines: Iterable[OperationLine], key: Callable[[OperationLine], str | None]
) -> dict[str, list[OperationLine]]:
    """The lines by a key, without those that have none."""
    found: dict[str, list[OperationLine]] = {}
    for line in lines:
        if name := key(line):
            found.setdefault(name, []).append(line)
    return found


def counted(options: Iterable[tuple[K, V]]) -> dict[K, Counter[V]]:
    """How often each option has each value, in the order in which they come."""
    found: dict[K, Counter[V]] = {}
    for name, value in options:
        found.setdefault(name, Counter())[value] += 1
    return found


def kept(momentum: Expr) -> Expr:
    """The weight of a norm's old statistics; `momentum` is that of the new ones, as in PyTorch."""
    if isinstance(momentum, Const):
        return Const(round(1 - momentum.value, 12))
    return binary("-", Const(1), momentum)
