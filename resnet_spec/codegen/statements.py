"""The statements of one function, shared by all backends: a variable for each value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from resnet_spec.codegen import layout, python
from resnet_spec.codegen.branches import Branch, joined, passing
from resnet_spec.expressions import Expr, to_python, unary
from resnet_spec.specialize import (
    AssignLine,
    CallLine,
    FeatureLine,
    LeftOutLine,
    Line,
    LoopLine,
    OperationLine,
    Path,
    Run,
    Value,
)


class StatementWriter(ABC):
    """Writes lines as statements; a backend defines how to call an operation and a block."""

    spelling: Mapping[str, str]  # names that the function spells differently from the routine
    apart: tuple[type, ...] = ()  # what an empty line follows
    result: str | None = None  # what is read after all lines, if these are all that read values
    holds: Expr | None = None  # the condition of the branch that is being written

    @abstractmethod
    def operation(self, line: OperationLine) -> layout.Code:
        """The code that computes the output of an operation."""

    @abstractmethod
    def run_call(self, line: CallLine, indent: int) -> list[str]:
        """The statements that run a block, or several one after the other."""

    def target(self, output: Value, many: bool = False) -> str:
        """The left side of `=`, with an annotation if a type checker needs one."""
        return output.name

    def empty_list(self, output: Value) -> str:
        """The same for a list that is appended to."""
        return output.name

    def printed(self, expression: Expr) -> str:
        """An expression as Python."""
        return to_python(expression, self.spelling)

    def value(self, value: Value) -> str:
        """A value where it is read."""
        if value.whole:
            return f"*{value.name}"
        if value.index is not None:
            return f"{value.name}[{self.printed(value.index)}]"
        return value.name

    def statements(self, lines: Sequence[Line], indent: int) -> list[str]:
        """The statements of lines, in groups."""
        return python.spaced(
            self.units(lines), lambda unit: self.statement(unit, indent), self.apart
        )

    def units(self, lines: Sequence[Line]) -> Sequence[Line | Branch]:
        """The lines of a function, those of a branch together."""
        return lines if self.result is None else [*joined(lines, self.result)]

    def branch(self, branch: Branch, indent: int) -> list[str]:
        """The statements of a branch, with those that pass values on where it is not taken."""
        condition = self.printed(branch.when)
        inner = indent + layout.INDENT
        at = indent if branch.before else inner
        other = [
            text
            for name, value in branch.passing.items()
            for text in self.store(Value(name), self.value(value), at)
        ]
        self.holds = branch.when
        body = python.spaced(branch.lines, lambda line: self.statement(line, inner))
        self.holds = None
        if branch.before:
            return [*other, *layout.condition("if", condition, indent), *body]
        if not body:  # every value is the one that it is made of
            negated = self.printed(unary("not", branch.when))
            return [*layout.condition("if", negated, indent), *other] if other else []
        otherwise = [f"{' ' * indent}else:", *other] if other else []
        return [*layout.condition("if", condition, indent), *body, *otherwise]

    def condition(self, line: OperationLine | CallLine) -> Expr | None:
        """The condition that a line is under; None within a branch that says it for all."""
        return None if line.when == self.holds else line.when

    def statement(self, line: Line | Branch, indent: int) -> list[str]:
        """The statements of one line or branch."""
        match line:
            case Branch():
                return self.branch(line, indent)
            case OperationLine():
                return self.run_operation(line, indent)
            case CallLine():
                return self.run_call(line, indent)
            case AssignLine(inputs=()):
                return [f"{' ' * indent}{self.empty_list(line.output)} = []"]
            case AssignLine():
                return self.store(line.output, self.value(line.inputs[0]), indent)
            case LoopLine():
                count = self.printed(line.count)
                inner = indent + layout.INDENT
                body = python.spaced(line.body, lambda each: self.statement(each, inner))
                return [*python.loop(line.variable, count, indent), *body] if body else []
            case FeatureLine():
                return [f'{" " * indent}features["{line.stage}"] = {self.value(line.value)}']
            case LeftOutLine():
                return refused(line, self.printed(line.when), indent)

    def run_operation(self, line: OperationLine, indent: int) -> list[str]:
        code = self.operation(line)
        when, passed = self.condition(line), passing(line)
        if when is not None and code == line.output.name and line.output != passed:
            # Only where the condition does not hold is there something to do.
            negated = self.printed(unary("not", when))
            other = self.store(line.output, self.value(passed), indent + layout.INDENT)
            return [*layout.condition("if", negated, indent), *other]
        many = line.primitive.gives == "many"
        return self.guarded(line, lambda at: self.store(line.output, code, at, many), indent)

    def guarded(
        self, line: OperationLine | CallLine, write: Callable[[int], list[str]], indent: int
    ) -> list[str]:
        """The result of `write` at an indentation, under the line's condition if it has one."""
        when, passed = self.condition(line), passing(line)
        if when is None:
            return write(indent)
        condition = layout.condition("if", self.printed(when), indent)
        if line.output == passed:
            body = write(indent + layout.INDENT)
            return [*condition, *body] if body else []
        clobbers = any(line.output.name == each.name for each in line.inputs if each != passed)
        # An element need not be there where it is not read.
        if clobbers or line.output.index is not None or passed.index is not None:
            body = write(indent + layout.INDENT)
            other = self.store(line.output, self.value(passed), indent + layout.INDENT)
            return [*condition, *body, f"{' ' * indent}else:", *other]
        other = self.store(line.output, self.value(passed), indent)
        return [*other, *condition, *write(indent + layout.INDENT)]

    def store(self, output: Value, code: layout.Code, indent: int, many: bool = False) -> list[str]:
        """`output = code`, `return code`, or one more element of a list."""
        if output.index is not None:
            appended = layout.Bracket(f"{output.name}.append(", (("", code),))
            return layout.statement("", appended, indent=indent)
        if code == output.name:
            return []  # a value that is itself: scaled by one, the sum of one
        if output == python.RETURNED:
            return layout.statement("return ", code, indent=indent)
        return layout.statement(f"{self.target(output, many)} = ", code, indent=indent)

    def in_turn(
        self,
        line: CallLine,
        write: Callable[[Run, Value, Path, int], list[str]],
        indent: int,
    ) -> list[str]:
        """What `write` makes of a block, or of repeated ones: once, or in a loop, for each run.

        It is given the value that goes in, the name of the block, and an indentation.
        """
        source = line.inputs[0]
        if line.names is None:
            return write(line.runs[0], source, line.path, indent)
        text: list[str] = []
        for run in line.runs:
            if run.is_single:
                path = (*line.path, ".", *python.at_index(line.names, run.start))
                text += write(run, source, path, indent)
            else:
                if source != line.output:
                    text += self.store(line.output, self.value(source), indent)
                text.append(f"{' ' * indent}for i in {self.range_of(run)}:")
                path = (*line.path, ".", *line.names)
                text += write(run, line.output, path, indent + layout.INDENT)
            source = line.output
        return text

    def range_of(self, run: Run) -> str:
        """`range(…)` of a run's `i`."""
        for each in (run.start, run.count):
            self.printed(each)  # a backend notes what a function reads
        return python.run_range(run, self.spelling)


def refused(line: LeftOutLine, condition: str, indent: int) -> list[str]:
    """An error where a layer would be needed that the code does not have."""
    text = f"compiled without {', '.join(line.layers)}, which {condition} needs"
    error = layout.call("ValueError", python.string(text))
    inner = indent + layout.INDENT
    return [
        *layout.condition("if", condition, indent),
        *layout.statement("raise ", error, indent=inner),
    ]
