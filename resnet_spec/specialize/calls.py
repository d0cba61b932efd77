"""The repeated uses of a block as runs: equal or evenly growing arguments are one loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_spec import expr, link
from resnet_spec.diagnostics import fail, quoted
from resnet_spec.expr import Const, Expr, Name
from resnet_spec.ir import (
    Bound,
    Definition,
    Expression,
    Instance,
    Statement,
    Step,
)
from resnet_spec.specialize.draft import Scope
from resnet_spec.specialize.program import Parameter, Routine, Run
from resnet_spec.specialize.symbolic import simplified


@dataclass
class Calls:
    """The uses of a block by one statement, as runs."""

    routine: Routine
    block: Definition
    sources: Mapping[str, Any]
    statement: Statement
    scope: Scope
    found: list[list[Step]]  # for each instance that runs the statement, its steps

    def runs(self, channels: Expr) -> tuple[tuple[Run, ...], Expr]:
        """The runs and the channels of the last output."""
        repeat = self.statement.repeat
        count = simplified(repeat, self.scope) if repeat is not None else Const(1)
        if not isinstance(count, Const):
            return self.open_runs(channels, count)
        calls = []
        for index in range(int(count.value)):
            inputs = {(s[index].node.input.channels, s[index].node.input.open) for s in self.found}  # type: ignore[union-attr]
            if len(inputs) == 1 and not next(iter(inputs))[1]:
                channels = Const(next(iter(inputs))[0])
            arguments = self.arguments(index, channels, Const(index), count)
            calls.append(arguments)
            channels = self.after(arguments)
        return tuple(self.grouped(calls, count)), channels

    def open_runs(self, channels: Expr, count: Expr) -> tuple[tuple[Run, ...], Expr]:
        """A number of repetitions that varies: the first block, then the others in a loop."""
        first = self.arguments(0, channels, Const(0), count)
        later = self.after(first)
        rest = self.arguments(1, later, Name("i", True), count)
        if self.after(rest) != later:
            fail(
                "RS502",
                f"'repeat' of {quoted(self.block.name)} varies although its output grows",
                self.statement.span,
                help="give 'repeat' the same value wherever this block is used",
            )
        if first == rest:
            return (Run(Const(0), count, self.named(first)),), later
        runs = (
            Run(Const(0), Const(1), self.named(first)),
            Run(Const(1), expr.binary("-", count, Const(1)), self.named(rest)),
        )
        return runs, later

    def named(self, arguments: tuple[Expr, ...]) -> tuple[tuple[Parameter, Expr], ...]:
        return tuple(zip(self.routine.parameters, arguments, strict=True))

    def arguments(
        self, index: int, channels: Expr, position: Expr, count: Expr
    ) -> tuple[Expr, ...]:
        """An expression for each parameter of the routine."""
        names = {**self.scope.names, "i": position, "n": count}
        steps = self.found[0]
        if len(self.scope.instances) == 1 and isinstance(steps[index].node, Instance):
            names.update(self.block_position(index, position))
        values = []
        for parameter in self.routine.parameters:
            if parameter.name == "in_channels":
                values.append(channels)
                continue
            argument = self.block.arguments[parameter.name]
            source = link.at_position(argument, self.sources[parameter.name], index)
            values.append(_argument(source, names, argument.type))
        return tuple(values)

    def block_position(self, index: int, position: Expr) -> dict[str, Expr]:
        start, total = self.statement_position()
        return {
            "block_index": expr.binary("+", position, Const(start)),
            "block_count": Const(total),
        }

    def statement_position(self) -> tuple[int, int]:
        """How many stage blocks stand before this statement's, and in all."""
        root = self.scope.instances[0]
        counts: dict[int, int] = {}
        for step in root.steps:
            if isinstance(step.node, Instance):
                key = id(step.statement)
                counts[key] = counts.get(key, 0) + 1
        before = 0
        for key, number in counts.items():
            if key == id(self.statement):
                break
            before += number
        return before, sum(counts.values())

    def after(self, arguments: tuple[Expr, ...]) -> Expr:
        """The output's channels, given the arguments."""
        names = {p.name: value for p, value in self.named(arguments)}
        return expr.substitute(self.routine.channels, names)

    def grouped(self, calls: list[tuple[Expr, ...]], count: Expr) -> Iterator[Run]:
        start = 0
        while start < len(calls):
            end, arguments = self.longest(calls, start, count)
            yield Run(Const(start), Const(end - start), self.named(arguments))
            start = end

    def longest(
        self, calls: list[tuple[Expr, ...]], start: int, count: Expr
    ) -> tuple[int, tuple[Expr, ...]]:
        """The end of the longest run from `start`, and its arguments over `i`."""
        end = start + 1
        while end < len(calls) and calls[end] == calls[start]:
            end += 1
        if end > start + 1 or end == len(calls):
            return end, calls[start]
        symbolic = self.arguments(start, Name("in_channels", True), Name("i", True), count)
        if start == 0 and any(a.first_only for a in self.block.arguments.values()):
            symbolic = calls[0]
        forms = [
            _growing(calls[start][k], calls[start + 1][k], start, symbolic[k])
            for k in range(len(calls[start]))
        ]
        end = start
        while end < len(calls) and all(
            expr.substitute(form, {"i": Const(end)}) == calls[end][k]
            for k, form in enumerate(forms)
        ):
            end += 1
        # Two values are always in line; three are a rule.
        return (end, tuple(forms)) if end - start > 2 else (start + 1, calls[start])


def _growing(first: Expr, second: Expr, start: int, symbolic: Expr) -> Expr:
    """A form over `i` that gives `first` at `start` and `second` after it, where there is one."""
    if first == second:
        return first
    if "i" in expr.names(symbolic) and "in_channels" not in expr.names(symbolic):
        return symbolic
    (base, low), (other, high) = expr.offset(first), expr.offset(second)
    if base != other or type(low) is not int or type(high) is not int:
        return first
    step = high - low
    grown = expr.binary("*", Name("i", True), Const(step))
    if step != 1:
        grown = expr.Binary("*", Const(step), Name("i", True))
    offset = (
        expr.binary("+", base, Const(low - step * start))
        if base != Const(0)
        else Const(low - step * start)
    )
    return expr.binary("+", offset, grown)


def _argument(source: Any, names: Mapping[str, Expr], kind: str) -> Expr:
    if isinstance(source, Expression):
        value = expr.substitute(source.expr, names)
    else:
        assert isinstance(source, Bound)
        value = Const(source.value)
    if kind == "float" and isinstance(value, Const):
        return Const(float(value.value))
    return value
