"""The run of one block's statements: which values and names there are so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from resnet_spec.diagnostics import Span, expected, fail, quoted
from resnet_spec.ir import Bound, Choice, Reference, Statement, Step
from resnet_spec.lower.values import TooLarge, evaluate, spell
from resnet_spec.ops import Shape

MAX_OPERATIONS = 50_000


@dataclass
class Frame:
    """The run of one block's statements."""

    scope: dict[str, Bound]
    choices: Mapping[str, Choice]
    shapes: list[Shape | None]
    values: dict[str, int | list[int]]
    current: int = 0
    steps: list[Step] = field(default_factory=list)
    taken: dict[str, Span] = field(default_factory=dict)
    outer: dict[str, str] = field(default_factory=dict)  # `a` of a layer that is called `a.b`
    numbers: dict[str, int] = field(default_factory=dict)  # of layers without a name of their own
    counters: list[str] = field(default_factory=list)  # of the loops around the statement
    size: int = 0

    def new(self, shape: Shape | None) -> int:
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def one(self, reference: Reference) -> int:
        found = self.many(reference)
        if len(found) != 1 or (
            reference.index is None and isinstance(self.values.get(reference.name), list)
        ):
            fail(
                "RS306",
                f"{quoted(reference.name)} is a list of {len(found)} values; one is needed",
                reference.span,
                help=f'take one of them: "{reference.name}.{{0}}"',
            )
        return found[0]

    def many(self, reference: Reference) -> list[int]:
        if reference.name not in self.values:
            fail(
                "RS306",
                f"there is no value called {quoted(reference.name)}",
                reference.span,
                help=expected(reference.name, self.values),
            )
        value = self.values[reference.name]
        if reference.index is None:
            return value if isinstance(value, list) else [value]
        if not isinstance(value, list):
            fail("RS306", f"{quoted(reference.name)} is one value, not a list", reference.span)
        index = evaluate(reference.index, self.scope).value
        if not isinstance(index, int) or not 0 <= index < len(value):
            fail(
                "RS306",
                f"{quoted(reference.name)} has no element {index}",
                reference.span,
                help=f"it has {len(value)}, from 0 to {len(value) - 1}",
            )
        return [value[index]]

    def bind(self, reference: Reference | None, outputs: list[int], listed: bool) -> None:
        if reference is None:
            return
        if reference.index is None:
            self.values[reference.name] = outputs if listed else outputs[0]
            return
        target = self.values.setdefault(reference.name, [])
        index = evaluate(reference.index, self.scope).value
        if not isinstance(target, list) or listed or index not in (0, len(target)):
            fail(
                "RS306",
                f"{quoted(str(reference))} is not the next element of a list",
                reference.span,
                help="elements are added in order, from 0",
            )
        if index == 0:
            self.values[reference.name] = [outputs[0]]
        else:
            target.append(outputs[0])

    def add_step(self, step: Step, size: int) -> None:
        self.steps.append(step)
        self.size += size
        if self.size > MAX_OPERATIONS:
            raise TooLarge(step.statement.span, f"{MAX_OPERATIONS:,} operations")

    def finish(self, statement: Statement, outputs: list[int]) -> None:
        self.bind(statement.result, outputs, listed=False)
        self.current = outputs[0]

    # - names -

    def name(self, statement: Statement) -> str:
        """The name of a statement's layer, taken for it; RS106 where another has it."""
        if statement.name is not None:
            name, span = spell(statement.name, self.scope), statement.name.span
            self.claim_place(name, span)
        else:
            index = "".join(f".{self.scope[each].value}" for each in self.counters)
            stem, span = statement.target, statement.span
            name, number = f"{stem}{index}", self.numbers.get(f"{stem}{index}", 1)
            while name in self.taken:
                number += 1
                name = f"{stem}{number}{index}"
            self.numbers[f"{stem}{index}"] = number
        self.claim(name, span)
        return name

    def claim_place(self, name: str, span: Span) -> None:
        """RS106 for a layer within another: `a.b` where `a` is not a mere part of names."""
        ends = [index for index, character in enumerate(name) if character == "."]
        outer = [name[:end] for end in ends]
        for each in outer:
            if each in self.taken:
                fail("RS106", f"{quoted(name)} is within {quoted(each)}, a layer itself", span)
        if name in self.outer:
            message = f"{quoted(name)} is a part of the name of {quoted(self.outer[name])}"
            fail("RS106", f"{message}, so it can't be a layer itself", span)
        self.outer.update(dict.fromkeys(outer, name))

    def claim(self, name: str, span: Span) -> None:
        """Give a name to a layer; RS106 where another has it."""
        first = self.taken.get(name)
        if first is None:
            self.taken[name] = span
            return
        hint = f"the first is at {first}"
        if first == span and self.counters:
            hint = f'put the counter into the name: "{name}.{{{self.counters[-1]}}}"'
        elif first == span:
            hint = 'put the number of the block into it: names: "{i}"'
        fail("RS106", f"two layers are called {quoted(name)}", span, hint)
