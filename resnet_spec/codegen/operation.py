"""One operation as every backend writes it: its attributes and channels as Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resnet_spec.codegen.layout import Code, array
from resnet_spec.expressions import Expr, to_python
from resnet_spec.specialize import OperationLine


@dataclass
class OperationContext:
    """One operation with the spelling of the names around it; backends add what else they need."""

    line: OperationLine
    spelling: Mapping[str, str]

    def get(self, name: str) -> str:
        """An attribute as Python."""
        return to_python(self.expr(name), self.spelling)

    def expr(self, name: str) -> Expr:
        value = self.line.attributes[name]
        assert isinstance(value, Expr)
        return value

    @property
    def channels(self) -> str:
        """The channels of the first input, as Python."""
        assert self.line.channels[0] is not None
        return to_python(self.line.channels[0], self.spelling)


def listed(inputs: Sequence[str]) -> Code:
    """The inputs of an operation as one sequence."""
    if len(inputs) == 1 and inputs[0].startswith("*"):
        return inputs[0][1:]
    return array(inputs)
