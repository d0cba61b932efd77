"""The walk through the statements of blocks, with numbers: every shape is inferred on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from resnet_spec import link
from resnet_spec.diagnostics import Report, Span, SpecError, Use, expected, fail, quoted
from resnet_spec.ir import (
    Bound,
    Choice,
    Definition,
    Expression,
    Instance,
    Loop,
    Operation,
    Statement,
    Step,
)
from resnet_spec.lower.frame import Frame
from resnet_spec.lower.targets import MAX_NESTING, Targets
from resnet_spec.lower.values import (
    BROKEN,
    MAX_REPEAT,
    Scope,
    Unknown,
    evaluate,
    repetitions,
    spell,
)
from resnet_spec.ops import PRIMITIVES, Primitive, Shape, ShapeError


class Walk:
    """Runs the statements of one network's blocks."""

    def __init__(self, targets: Targets, report: Report) -> None:
        self.targets, self.report = targets, report
        self.uses: list[Use] = []
        self.active: list[Definition] = []
        self.instances: dict[Any, Instance | None] = {}

    @contextmanager
    def use(self, text: str, span: Span) -> Iterator[None]:
        self.uses.append(Use(text, span))
        try:
            yield
        finally:
            self.uses.pop()

    def take(self, error: SpecError) -> None:
        self.report.extend(error, tuple(self.uses))

    def instance(
        self, block: Definition, choices: Mapping[str, Choice], given: Scope, source: Shape
    ) -> Instance | None:
        """One use of a block; None where it has a mistake."""
        key = (
            id(block),
            tuple((name, choice.key) for name, choice in choices.items()),
            tuple(given.items()),
            source,
        )
        if key not in self.instances:
            self.instances[key] = None
            scope = dict(given)
            scope["in_channels"] = Bound(source.channels, source.open)
            with self.use(f"block {block.name}", block.span):
                self.active.append(block)
                try:
                    self.instances[key] = self.run_block(block, choices, scope, source)
                finally:
                    self.active.pop()
        return self.instances[key]

    def run_block(
        self,
        block: Definition,
        choices: Mapping[str, Choice],
        scope: dict[str, Bound],
        source: Shape,
    ) -> Instance | None:
        before = len(self.report.diagnostics)
        self.evaluate_lets(block.lets, scope)
        frame = Frame(scope, choices, [source], {"x": 0})
        self.run(block.body, frame)
        output = frame.shapes[frame.current]
        if output is None or len(self.report.diagnostics) > before:
            return None
        return Instance(block, choices, scope, source, output, tuple(frame.steps), frame.current)

    def evaluate_lets(self, lets: Mapping[str, Expression], scope: dict[str, Bound]) -> None:
        for name, expression in lets.items():
            scope[name] = BROKEN
            try:
                scope[name] = evaluate(expression, scope)
            except SpecError as error:
                self.take(error)
            except Unknown:
                pass

    def run(self, body: Iterable[Statement | Loop], frame: Frame) -> None:
        for statement in body:
            self.targets.spend(statement.span)
            try:
                if isinstance(statement, Loop):
                    self.run_loop(statement, frame)
                else:
                    self.run_statement(statement, frame)
            except SpecError as error:
                self.take(error)
                self.poison(statement, frame)
            except Unknown:
                self.poison(statement, frame)

    def poison(self, statement: Statement | Loop, frame: Frame) -> None:
        """The output of a statement that has a mistake is unknown, and quiet from here on."""
        if isinstance(statement, Loop):
            return
        unknown = frame.new(None)
        frame.current = unknown
        if statement.result is not None:
            several = statement.target == "split" and statement.result.index is None
            frame.values[statement.result.name] = [unknown] * 64 if several else unknown

    def run_loop(self, loop: Loop, frame: Frame) -> None:
        count = repetitions(loop.count, frame.scope, "'count'", least=0)
        outer = frame.scope.get(loop.variable)
        if outer is not None:
            fail("RS106", f"{quoted(loop.variable)} has a value already", loop.span)
        frame.counters.append(loop.variable)
        for index in range(count):
            self.targets.spend(loop.span)  # a turn without layers takes time as well
            frame.scope[loop.variable] = Bound(index)
            before = len(self.report.diagnostics)
            self.run(loop.body, frame)
            if len(self.report.diagnostics) > before:
                break
        frame.counters.pop()
        frame.scope.pop(loop.variable, None)

    def run_statement(self, statement: Statement, frame: Frame) -> None:
        if statement.kind == "broken":
            self.poison(statement, frame)
            return
        if statement.when is not None and not evaluate(statement.when, frame.scope).value:
            self.pass_through(statement, frame)
            return
        inputs = self.inputs(statement, frame)
        target, choice = self.target(statement, frame)
        if any(frame.shapes[number] is None for number in inputs):
            # An earlier mistake hides the shapes; the rest can be judged all the same.
            if isinstance(target, Primitive):
                frame.name(statement)
                # A number that is computed may be wrong for the reason that has been told.
                self.targets.attributes(target, statement, choice, frame.scope, constants=True)
            self.poison(statement, frame)
        elif target is None:
            frame.finish(statement, [inputs[0]])
        elif isinstance(target, Primitive):
            self.run_operation(statement, target, choice, frame, inputs)
        else:
            self.run_call(statement, target, choice, frame, inputs)

    def pass_through(self, statement: Statement, frame: Frame) -> None:
        passing = statement.otherwise or next(iter(statement.inputs), None)
        source = frame.one(passing) if passing is not None else frame.current
        frame.finish(statement, [source])

    def inputs(self, statement: Statement, frame: Frame) -> list[int]:
        if not statement.inputs:
            return [frame.current]
        primitive = PRIMITIVES.get(statement.target)
        if statement.kind == "primitive" and primitive and primitive.takes == "many":
            return [number for each in statement.inputs for number in frame.many(each)]
        if len(statement.inputs) > 1:
            fail("RS306", "'from' names one value", statement.inputs[1].span)
        return [frame.one(statement.inputs[0])]

    def target(
        self, statement: Statement, frame: Frame
    ) -> tuple[Primitive | Definition | None, Choice | None]:
        if statement.kind == "primitive":
            return PRIMITIVES[statement.target], None
        if statement.kind == "block":
            return self.targets.block(statement.target, statement.span), None
        choice = frame.choices.get(statement.target)
        if choice is None:
            hint = expected(statement.target, frame.choices)
            fail("RS304", f"there is no slot {quoted(statement.target)}", statement.span, hint)
        return choice.target, choice

    def run_operation(
        self,
        statement: Statement,
        primitive: Primitive,
        choice: Choice | None,
        frame: Frame,
        inputs: list[int],
    ) -> None:
        shapes = tuple(shape for n in inputs if (shape := frame.shapes[n]) is not None)
        values = self.targets.attributes(primitive, statement, choice, frame.scope)
        name = frame.name(statement)
        numbers = {k: v.value if isinstance(v, Bound) else v for k, v in values.items()}
        try:
            output = primitive.infer(numbers, shapes)
        except ShapeError as error:
            fail(error.code, f"{name}: {error.message}", statement.span, error.help)
        if any(isinstance(v, Bound) and v.open for v in values.values()):
            output = replace(output, open=True)
        attributes = Namespace(numbers)
        operation = Operation(
            primitive,
            numbers,
            shapes,
            output,
            primitive.parameters(attributes, shapes),
            primitive.macs(attributes, shapes, output),
        )
        if operation.parameters and statement.name is None:
            fail(
                "RS102",
                f"{quoted(primitive.name)} has parameters, so this layer needs a name",
                statement.span,
                help=f"for example {{{statement.target}: {statement.target}1}}",
            )
        several, parts = primitive.gives == "many", numbers.get("parts", 1)
        assert isinstance(parts, int)
        if several and parts > MAX_REPEAT:
            message = f"'parts' must be at most {MAX_REPEAT}, but is {parts}"
            fail("RS205", message, statement.arguments.span_of("parts"))
        outputs = [frame.new(output) for _ in range(parts if several else 1)]
        frame.add_step(Step(name, operation, tuple(inputs), tuple(outputs), statement), 1)
        if several and statement.result is None:
            fail("RS102", "the parts need a name: as: part", statement.span)
        frame.bind(statement.result, outputs, listed=several)
        frame.current = outputs[-1]

    def run_call(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        frame: Frame,
        inputs: list[int],
        stages: tuple[int, int] = (0, 1),
    ) -> None:
        """A block, or a run of them: `stages` is the index of the first and the number of all."""
        if statement.kind == "block" and block in self.active:
            chain = [each.name for each in self.active[self.active.index(block) :]]
            loop = " uses ".join((*chain, block.name))
            fail("RS302", f"a block can't contain itself: {loop}", statement.span)
        if len(self.active) > MAX_NESTING:
            fail("RS302", f"blocks are nested more than {MAX_NESTING} deep", statement.span)
        arguments = link.arguments(block, statement.arguments)
        count = 1
        if statement.repeat is not None:
            count = repetitions(statement.repeat, frame.scope, "'repeat'")
        name = frame.name(statement)
        choices = self.targets.slots(statement, block, choice, arguments, frame)
        value = inputs[0]
        for index in range(count):
            position = {
                "i": Bound(index),
                "n": Bound(count),
                "block_index": Bound(stages[0] + index),
                "block_count": Bound(stages[1]),
            }
            scope = {**frame.scope, **position}
            given = self.targets.arguments(statement, block, choice, arguments, scope)
            step_name = name
            if statement.repeat is not None:
                own = spell(statement.names, scope) if statement.names else str(index)
                step_name = f"{name}.{own}"
                where = statement.names.span if statement.names else statement.span
                frame.claim(step_name, where)
            shape = frame.shapes[value]
            assert shape is not None
            with self.use(f"{name}", statement.span):
                made = self.instance(block, choices, given, shape)
            if made is None:
                raise Unknown
            output = frame.new(made.output)
            step = Step(step_name, made, (value,), (output,), statement)
            frame.add_step(step, made.size)
            value = output
        frame.finish(statement, [value])


class Namespace:
    """Attributes of an operation, for the rules of the primitives."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)
