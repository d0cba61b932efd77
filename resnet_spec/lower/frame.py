"""The run of one block's statements: the values and names defined so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from resnet_spec.diagnostics import Span, expected, fail, quoted
from resnet_spec.ir import INPUT, Choice, Event, Key, LoopEvent, Read, Step
from resnet_spec.language.layers import given_by
from resnet_spec.language.name_resolution import TooLarge, Unknown, evaluate, spell
from resnet_spec.language.syntax import Bound, Loop, Reference, Statement
from resnet_spec.primitives import PRIMITIVES, ROLES, Primitive, Shape

MAX_OPERATIONS = 50_000


class Value(NamedTuple):
    """A value by its number, and what a statement reads when it reads it."""

    number: int
    read: Read


class Values(NamedTuple):
    """A list of values by their numbers; `key` is of the event that began it."""

    key: Key
    numbers: list[int]
    unknown: int | None = None  # an element that a mistake hides, which may be any


FIRST = Value(0, INPUT)


@dataclass
class Frame:
    """The run of one block's statements; `key` is where it is."""

    scope: dict[str, Bound]
    choices: Mapping[str, Choice]
    shapes: list[Shape | None]
    body: Sequence[Statement | Loop] = ()
    values: dict[str, Value | Values] = field(default_factory=lambda: {"x": FIRST})
    current: Value | None = FIRST  # None: the last statement gave a list
    key: Key = ()
    steps: list[Step] = field(default_factory=list)
    events: list[Event | LoopEvent] = field(default_factory=list)
    taken: dict[str, Span] = field(default_factory=dict)
    outer: dict[str, str] = field(default_factory=dict)  # `a` of a layer that is called `a.b`
    counters: list[str] = field(default_factory=list)  # of the loops around the statement
    size: int = 0

    def new(self, shape: Shape | None) -> int:
        self.shapes.append(shape)
        return len(self.shapes) - 1

    # - reading -

    def previous(self, span: Span) -> Value:
        """The output of the statement before."""
        if self.current is None:
            lists = [name for name, found in self.values.items() if isinstance(found, Values)]
            fail(
                "RS306",
                "the previous layer is a split, which gives several values",
                span,
                help=f'choose a part: from: "{lists[-1] if lists else "part"}.0"',
            )
        return self.current

    def one(self, reference: Reference) -> Value:
        numbers, read = self.many(reference)
        if read.kind == "list":
            if self.shapes[numbers[-1]] is None:
                raise Unknown
            fail(
                "RS306",
                f"{quoted(reference.name)} is a list of {len(numbers)} values; one is needed",
                reference.span,
                help=f'take one of them: "{reference.name}.{{0}}"',
            )
        return Value(numbers[0], read)

    def many(self, reference: Reference) -> tuple[list[int], Read]:
        if reference.name not in self.values:
            self.tell_missing(reference)
        value = self.values[reference.name]
        if isinstance(value, Value):
            if reference.index is not None:
                message = f"{quoted(reference.name)} is one value, not a list"
                fail("RS306", message, reference.span, f"write {reference.name}")
            return [value.number], value.read
        hidden = [value.unknown] if value.unknown is not None else []
        if reference.index is None:
            return [*value.numbers, *hidden], Read("list", value.key)
        index = evaluate(reference.index, self.scope).value
        if type(index) is not int or not 0 <= index < len(value.numbers):
            if hidden:
                return hidden, Read("element", value.key)
            fail(
                "RS306",
                f"{quoted(reference.name)} has no element {index}",
                reference.span,
                help=f"it has {len(value.numbers)}, from 0 to {len(value.numbers) - 1}",
            )
        return [value.numbers[index]], Read("element", value.key, index, reference.index)

    def tell_missing(self, reference: Reference) -> NoReturn:
        name = quoted(reference.name)
        message, hint = f"there is no value called {name}", expected(reference.name, self.values)
        # Reading told what comes too late, but for the loop around and for those before.
        loops = [each for each in self.body[: self.key[0] + 1] if isinstance(each, Loop)]
        if any(each.result and each.result.name == reference.name for each in given_by(loops)):
            what = "value" if reference.index is None else "elements"
            message = f"{name} has no {what} yet: no layer that defines it has run"
            hint = "use 'when' to say where this layer runs, and 'else' to say what passes instead"
        fail("RS306", message, reference.span, hint)

    # - what a statement gives -

    def ran(
        self,
        statement: Statement,
        reads: tuple[Read, ...],
        number: int,
        steps: tuple[Step, ...],
        passing: Read | None = None,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Record a statement that ran, and that `number` is its value.

        `passing` is given where another number of classes or of input channels may leave it out,
        `place` of the blocks of a stage.
        """
        if passing is not None:
            self.shapes[number] = self.shape(number)._replace(open=True)
        appends = self.bind(statement.result, number)
        self.record(
            Event(
                self.key,
                statement,
                True,
                reads,
                passing,
                self.shape(number),
                steps,
                appends,
                open=passing is not None,
                place=place,
            ),
            number,
        )

    def split(
        self, statement: Statement, reads: tuple[Read, ...], outputs: list[int], step: Step
    ) -> None:
        """Record a statement whose output is a list."""
        assert statement.result is not None
        if statement.result.index is not None:
            fail_next(statement.result)
        self.values[statement.result.name] = Values(self.key, outputs)
        event = Event(self.key, statement, True, reads, None, self.shape(outputs[0]), (step,))
        self.events.append(event._replace(gives_list=True))
        self.current = None

    def passed(self, statement: Statement, source: Value, open: bool = False) -> None:
        """Record a statement that does nothing: its output is an existing value.

        `open`: another number of classes or of input channels may need it.
        """
        appends = self.bind(statement.result, source.number)
        shape = self.shape(source.number)
        self.record(
            Event(self.key, statement, False, (), source.read, shape, appends=appends, open=open),
            source.number,
        )

    def record(self, event: Event, number: int) -> None:
        self.events.append(event)
        self.current = Value(number, Read("value", event.key))

    def shape(self, number: int) -> Shape:
        found = self.shapes[number]
        assert found is not None
        return found

    def bind(self, reference: Reference | None, number: int) -> Read | None:
        """Name the value of the current statement; returns the element that it becomes."""
        if reference is None:
            return None
        if reference.index is None:
            self.values[reference.name] = Value(number, Read("value", self.key))
            return None
        target = self.values.get(reference.name)
        if isinstance(target, Values) and target.unknown is not None:
            raise Unknown
        index = evaluate(reference.index, self.scope).value
        if type(index) is int and index == 0:
            self.values[reference.name] = Values(self.key, [number])
            return Read("element", self.key, 0, reference.index)
        if not isinstance(target, Values) or index != len(target.numbers):
            fail_next(reference)
        target.numbers.append(number)
        return Read("element", target.key, int(index), reference.index)

    def enter(self, loop: Loop, turns: int) -> None:
        """Record a loop before its turns."""
        previous = self.current.read if self.current is not None else None
        self.events.append(LoopEvent(self.key, loop, turns, previous))

    def add_step(self, step: Step, size: int) -> None:
        self.steps.append(step)
        self.size += size
        if self.size > MAX_OPERATIONS:
            raise TooLarge(step.statement.span, f"{MAX_OPERATIONS:,} operations")

    # - names -

    def name(self, statement: Statement) -> str:
        """The name of a statement's layer, with its braces filled."""
        assert statement.name is not None
        return spell(statement.name, self.scope)

    def claim(self, name: str, span: Span) -> None:
        """Reserve a name for a layer; RS106 if another layer has it, or is called by a part."""
        first = self.taken.get(name)
        if first is not None:
            hint = f"the first is at {first}"
            if first == span and self.counters:
                hint = f'put the counter into the name: "{name}.{{{self.counters[-1]}}}"'
            elif first == span:
                hint = 'put the index of the block into it: names: "{i}"'
            fail("RS106", f"two layers are called {quoted(name)}", span, hint)
        if name in self.outer:
            message = f"{quoted(name)} is a part of the name of {quoted(self.outer[name])}"
            hint = f"call it something else, such as {name}.0"
            fail("RS106", f"{message}, so it can't be a layer itself", span, hint)
        end = name.find(".")
        while end >= 0:
            if name[:end] in self.taken:
                message = f"{quoted(name)} is inside {quoted(name[:end])}, which is a layer"
                fail("RS106", message, span, f"rename one of them: {name[:end]}.0")
            self.outer[name[:end]] = name
            end = name.find(".", end + 1)
        self.taken[name] = span


def fail_next(reference: Reference) -> NoReturn:
    fail(
        "RS306",
        f"{quoted(str(reference))} is not the next element of a list",
        reference.span,
        help="elements are added in order, starting at 0",
    )


def check_role_name(statement: Statement, primitive: Primitive) -> None:
    """RS105 for a norm or an activation that is called by another, `{act: silu}` for a relu."""
    name, role = statement.name.text if statement.name else "", statement.target
    other = PRIMITIVES.get(name)
    if role not in ROLES or other is None or name in (primitive.name, ROLES[role]):
        return
    if other.group == primitive.group:
        fail(
            "RS105",
            f"{quoted(name)} is only the name of this layer, which is a {primitive.name}",
            statement.name.span if statement.name else statement.span,
            help=f"write {{{name}: {role}1}}, or for all layers 'defaults: {{{role}: {name}}}'",
        )
