"""Runs the statements of blocks with numbers, and infers every shape on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NoReturn

from resnet_spec.diagnostics import Diagnostic, Report, SpecError, Use, expected, fail, quoted
from resnet_spec.ir import Choice, Instance, Operation, Read, Step
from resnet_spec.ir.origins import Call, Given
from resnet_spec.language import bind
from resnet_spec.language.layers import given_by, stand_in
from resnet_spec.language.name_resolution import (
    BROKEN,
    MAX_REPEAT,
    Unknown,
    evaluate,
    repetitions,
    spell,
)
from resnet_spec.language.syntax import (
    Bound,
    Definition,
    Expression,
    Loop,
    Reference,
    Source,
    Statement,
)
from resnet_spec.lower import conditions
from resnet_spec.lower.arguments import MAX_NESTING, Attributes, Evaluator, layer_of
from resnet_spec.lower.cache import Made, known
from resnet_spec.lower.frame import Frame, Value, Values, check_role_name
from resnet_spec.lower.runs import Blocks, Inputs, Run, follows_place
from resnet_spec.primitives import PRIMITIVES, Primitive, Shape, ShapeError


class Walk:
    """Runs the statements of one network's blocks."""

    def __init__(self, evaluator: Evaluator, report: Report) -> None:
        self.evaluator, self.report = evaluator, report
        self.trail = evaluator.trail
        self.made: dict[Any, Made | None] = {}  # None: has a mistake
        self.parts: list[Made] = []  # of the present block
        self.within = 0  # statements that were run for blocks within the present one
        self.known = known(evaluator.blocks.library)

    def take(self, error: SpecError) -> None:
        self.report.extend(error, tuple(self.trail.uses))

    def instance(
        self,
        block: Definition,
        choices: Mapping[str, Choice],
        filled: Any,
        given: Mapping[str, Bound],
        source: Shape,
    ) -> Instance | None:
        """One use of a block; None if it has an error.

        `filled` is equal for equal choices.
        """
        key = (id(block), filled, tuple(given.items()), source)
        if key not in self.made:
            earlier = self.known.get((self.evaluator.context, key))
            if earlier is not None and self.evaluator.finds(earlier.blocks, block.span):
                self.adopt(earlier)
            else:
                self.made[key] = None
                self.made[key] = self.make(key, block, choices, given, source)
        made = self.made[key]
        if made is None:
            return None
        self.parts.append(made)
        self.evaluator.used_blocks.update(made.blocks)
        return made.instance

    def adopt(self, made: Made) -> None:
        """Take over a use from another network, as if it had been run for this one."""
        for part in made.parts:
            if part.key not in self.made:
                self.adopt(part)
        self.made[made.key] = made
        self.evaluator.spend(made.instance.definition.span, made.statements)
        self.within += made.statements

    def make(
        self,
        key: Any,
        block: Definition,
        choices: Mapping[str, Choice],
        given: Mapping[str, Bound],
        source: Shape,
    ) -> Made | None:
        """Run a block that neither this network nor another has had."""
        scope = {**given, "in_channels": Bound(source.channels, source.open)}
        outer = self.parts, self.evaluator.used_blocks
        self.parts, self.evaluator.used_blocks = [], {}
        before, within = self.evaluator.statements, self.within
        with self.trail.within(Use(f"block {block.name}", block.span)):
            instance = self.run_block(block, choices, scope, source)
        spent = self.evaluator.statements - before
        own = spent - (self.within - within)
        self.within = within + spent
        parts, blocks = tuple(self.parts), self.evaluator.used_blocks
        self.parts, self.evaluator.used_blocks = outer
        if instance is None:
            return None
        made = Made(key, instance, own, parts, blocks)
        if self.evaluator.is_closed:
            self.known[self.evaluator.context, key] = made
        return made

    def run_block(
        self,
        block: Definition,
        choices: Mapping[str, Choice],
        scope: dict[str, Bound],
        source: Shape,
    ) -> Instance | None:
        before = len(self.report.diagnostics)
        self.evaluate_lets(block.lets, scope)
        frame = Frame(scope, choices, [source], block.body)
        self.run(block.body, frame)
        if len(self.report.diagnostics) > before:
            return None
        last = self.last(frame, block)
        output = frame.shapes[last.number]
        if output is None:
            return None
        return Instance(
            block,
            choices,
            scope,
            source,
            output,
            tuple(frame.steps),
            last.number,
            tuple(frame.events),
            last.read,
        )

    def last(self, frame: Frame, block: Definition) -> Value:
        """The output of a block: that of its last statement."""
        if frame.current is None:
            fail(
                "RS306",
                f"the block {quoted(block.name)} ends with a split, which gives several values",
                block.span,
                help="end it with a layer that takes one of them, or joins them",
            )
        return frame.current

    def evaluate_lets(self, lets: Mapping[str, Expression], scope: dict[str, Bound]) -> None:
        for name, expression in lets.items():
            scope[name] = BROKEN
            try:
                scope[name] = evaluate(expression, scope)
            except SpecError as error:
                self.take(self.trail.moved(error, [expression], name))
            except Unknown:
                pass

    def run(self, body: Iterable[Statement | Loop], frame: Frame, first: int = 0) -> None:
        """Run statements, the first of which is at the position `first` of its body."""
        outer = frame.key
        for position, statement in enumerate(body, first):
            frame.key = (*outer, position)
            self.evaluator.spend(statement.span)
            try:
                if isinstance(statement, Loop):
                    self.run_loop(statement, frame)
                else:
                    self.run_statement(statement, frame)
            except SpecError as error:
                self.take(self.trail.unfit(error, statement))
                self.poison(statement, frame)
            except Unknown:
                self.poison(statement, frame)
        frame.key = outer

    def poison(self, statement: Statement | Loop, frame: Frame) -> None:
        """The output of a statement with an error is unknown, and causes no further errors."""
        if isinstance(statement, Loop):
            for each in given_by(statement.body):
                self.poison(stand_in(each), frame)
            return
        unknown = Value(frame.new(None), Read("value", frame.key))
        frame.current = unknown
        if statement.result is None:
            return
        name, before = statement.result.name, frame.values.get(statement.result.name)
        if statement.result.index is not None and isinstance(before, Values):
            frame.values[name] = before._replace(unknown=unknown.number)
        elif statement.result.index is not None or statement.target == "split":
            frame.values[name] = Values(frame.key, [], unknown.number)
        else:
            frame.values[name] = unknown

    def run_loop(self, loop: Loop, frame: Frame) -> None:
        with self.trail.behind(loop.count, f"for {loop.variable}"):
            count = repetitions(loop.count, frame.scope, "count", least=0)
        outer = frame.scope.get(loop.variable)
        if outer is not None:
            fail("RS106", f"{quoted(loop.variable)} is already defined", loop.span)
        key = frame.key
        frame.enter(loop, count)
        frame.counters.append(loop.variable)
        for index in range(count):
            self.evaluator.spend(loop.span)  # a turn without layers takes time as well
            frame.scope[loop.variable] = Bound(index)
            frame.key = (*key, index)
            before = len(self.report.diagnostics)
            self.run(loop.body, frame)
            if len(self.report.diagnostics) > before:
                break
        frame.key = key
        frame.counters.pop()
        frame.scope.pop(loop.variable, None)

    def run_statement(self, statement: Statement, frame: Frame) -> None:
        if statement.kind == "broken":
            self.poison(statement, frame)
            return
        when = self.condition(statement, frame)
        if not when.value:
            self.pass_through(statement, frame, when.open)
            return
        passing = self.passing(statement, frame).read if when.open else None
        numbers, reads = self.inputs(statement, frame)
        target, choice = self.target(statement, frame)
        if isinstance(target, Primitive):
            check_role_name(statement, target)
        if None in [frame.shapes[number] for number in numbers]:
            # An earlier error hides the shapes; the rest can still be checked.
            if isinstance(target, Primitive):
                frame.claim(frame.name(statement), statement.span)
                # A computed number may be wrong because of an error that was already reported.
                self.evaluator.check_constants(target, statement, choice)
            self.poison(statement, frame)
        elif target is None:
            frame.passed(statement, Value(numbers[0], reads[0]))
        elif isinstance(target, Primitive):
            self.run_operation(statement, target, choice, frame, Inputs(numbers, reads, passing))
        else:
            self.run_call(statement, target, choice, frame, Inputs(numbers, reads, passing))

    def condition(self, statement: Statement, frame: Frame) -> Bound:
        if statement.when is None:
            return Bound(True)
        with self.trail.behind(statement.when, layer_of(statement)):
            return evaluate(statement.when, frame.scope)

    def passing(self, statement: Statement, frame: Frame) -> Value:
        """The value of a statement that does not run."""
        reference = statement.otherwise or next(iter(statement.inputs), None)
        return frame.one(reference) if reference is not None else frame.previous(statement.span)

    def pass_through(self, statement: Statement, frame: Frame, open: bool) -> None:
        source = self.passing(statement, frame)
        if frame.shapes[source.number] is None:
            raise Unknown
        frame.passed(statement, source, open)

    def inputs(self, statement: Statement, frame: Frame) -> tuple[list[int], tuple[Read, ...]]:
        """The numbers of the inputs, and what was read for them: one number for each value."""
        if not statement.inputs:
            previous = frame.previous(statement.span)
            return [previous.number], (previous.read,)
        primitive = PRIMITIVES.get(statement.target)
        if statement.kind == "primitive" and primitive and primitive.takes == "many":
            found = [frame.many(each) for each in statement.inputs]
            check_is_list(statement.inputs[0], found[0][1])
            numbers = [number for numbers, _ in found for number in numbers]
            return numbers, tuple(read for _, read in found)
        if len(statement.inputs) > 1:
            names = ", ".join(map(str, statement.inputs))
            hint = f"join them before: '- {{add: [{names}]}}', or 'concat'"
            fail("RS306", "'from' takes one value", statement.inputs[1].span, hint)
        value = frame.one(statement.inputs[0])
        return [value.number], (value.read,)

    def target(
        self, statement: Statement, frame: Frame
    ) -> tuple[Primitive | Definition | None, Choice | None]:
        if statement.kind == "primitive":
            return PRIMITIVES[statement.target], None
        if statement.kind == "block":
            return self.evaluator.block(statement.target, statement.span), None
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
        inputs: Inputs,
    ) -> None:
        shapes = tuple(shape for n in inputs.numbers if (shape := frame.shapes[n]) is not None)
        given = self.evaluator.attributes(primitive, statement, choice, frame.scope)
        name = frame.name(statement)
        frame.claim(name, statement.name.span if statement.name else statement.span)
        try:
            operation = self.operation(primitive, given, shapes)
        except ShapeError as error:
            sources = self.trail.sources(statement, primitive.name, given.sources, error.about)
            self.tell(error, sources, name, statement, frame, inputs)
        if operation.parameters and statement.unnamed:
            fail(
                "RS102",
                f"{quoted(primitive.name)} has parameters, so this layer needs a name",
                statement.span,
                help=f"for example {{{statement.target}: {statement.target}1}}",
            )
        if primitive.gives == "many":
            self.run_split(
                statement,
                Step(name, operation, tuple(inputs.numbers), (), statement, given.sources),
                frame,
                inputs,
            )
            return
        output = frame.new(operation.output)
        step = Step(name, operation, tuple(inputs.numbers), (output,), statement, given.sources)
        frame.add_step(step, 1)
        frame.ran(statement, inputs.reads, output, (step,), inputs.passing)

    def tell(
        self,
        error: ShapeError,
        sources: Iterable[Source | Given],
        name: str,
        statement: Statement,
        frame: Frame,
        inputs: Inputs,
    ) -> NoReturn:
        """Raise what is wrong with the shapes of an operation, and the conditions behind them."""
        message, hint = f"{name}: {error.message}", error.help
        slots = self.trail.calls[-1].block.slots if self.trail.calls else {}
        if cause := conditions.behind(frame, inputs.numbers, inputs.reads, slots):
            message, hint = f"{message}; {cause}", f"change that, or {hint}" if hint else None
            sources = (*sources, *self.trail.empty(slots, cause))
        found = SpecError([Diagnostic(error.code, message, statement.span, hint)])
        raise self.trail.moved(found, sources, name)

    def operation(
        self, primitive: Primitive, given: Attributes, shapes: tuple[Shape, ...]
    ) -> Operation:
        """An operation with its output and parameters, once for all; raises `ShapeError`."""

        def made() -> Operation:
            attributes = given.namespace
            output = primitive.infer(attributes, shapes)
            if given.open and not output.open:
                output = output._replace(open=True)
            parameters = primitive.parameters(attributes, shapes)
            macs = primitive.macs(attributes, shapes, output)
            return Operation(primitive, given.values, shapes, output, parameters, macs)

        return self.evaluator.memo.of(("operation", id(given), shapes), given, made)

    def run_split(self, statement: Statement, step: Step, frame: Frame, inputs: Inputs) -> None:
        assert isinstance(step.node, Operation)
        parts = step.node.attributes["parts"]
        assert isinstance(parts, int)
        if parts > MAX_REPEAT:
            message = f"'parts' must be at most {MAX_REPEAT}, but is {parts}"
            fail("RS205", message, statement.arguments.span_of("parts"))
        if statement.result is None:
            fail("RS102", "the parts need a name: as: part", statement.span)
        outputs = [frame.new(step.node.output) for _ in range(parts)]
        step = step._replace(outputs=tuple(outputs))
        frame.add_step(step, 1)
        frame.split(statement, inputs.reads, outputs, step)

    def run_call(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        frame: Frame,
        inputs: Inputs,
        place: tuple[int, int] | None = None,
    ) -> None:
        """A block, or a run of them.

        `place` is the index of the first and the number of all, of the blocks of stages; others
        are counted among their like.
        """
        self.check_nesting(statement, block)
        arguments = self.evaluator.memo.of(
            ("arguments", id(statement), id(block)),
            (statement, block),
            partial(bind.arguments, block, statement.arguments),
        )
        count = 1
        if statement.repeat is not None:
            with self.trail.behind(statement.repeat, layer_of(statement)):
                count = repetitions(statement.repeat, frame.scope, "repeat")
        name = frame.name(statement)
        if statement.repeat is None:
            frame.claim(name, statement.name.span if statement.name else statement.span)
        choices = self.evaluator.slots(statement, block, choice, arguments, frame)
        blocks = Blocks(statement, block, choice, arguments, choices, count, place or (0, count))
        value, steps = inputs.numbers[0], []
        for step_name, made, sources in self.repeated(blocks, name, frame, frame.shape(value)):
            output = frame.new(made.output)
            steps.append(Step(step_name, made, (value,), (output,), statement, sources))
            frame.add_step(steps[-1], made.size)
            value = output
        frame.ran(statement, inputs.reads, value, tuple(steps), inputs.passing, place)

    def repeated(
        self, blocks: Blocks, name: str, frame: Frame, source: Shape
    ) -> Iterator[tuple[str, Instance, Mapping[str, Source]]]:
        """The name of each block of a run, what it is, and where its arguments come from."""
        if self.trail.calls:  # within a block, which is made once as a whole
            for step_name, made, sources in self.run_of_blocks(blocks, name, frame, source):
                yield step_name, made.instance, sources
            return
        memo, key = self.evaluator.memo, (*blocks.key(frame), source, self.evaluator.context)
        known: tuple[Run, dict[str, Definition]] | None = memo.get(key)
        if known is None or not self.evaluator.finds(known[1], blocks.block.span):
            outer, self.evaluator.used_blocks = self.evaluator.used_blocks, {}
            try:
                run = list(self.run_of_blocks(blocks, name, frame, source))
                used = self.evaluator.used_blocks
            finally:
                self.evaluator.used_blocks = outer
            if self.evaluator.is_closed:
                memo.keep(key, blocks, (run, used))
        else:
            run, used = known
            for step_name, made, _ in run:
                blocks.claim(step_name, frame)
                if made.key not in self.made:
                    self.adopt(made)
        self.evaluator.used_blocks.update(used)
        for step_name, made, sources in run:
            yield step_name, made.instance, sources

    def run_of_blocks(
        self, blocks: Blocks, name: str, frame: Frame, source: Shape
    ) -> Iterator[tuple[str, Made, Mapping[str, Source]]]:
        """The same, each block with what it is made of; raises `SpecError` and `Unknown`."""
        statement, first = blocks.statement, blocks.place[0]
        filled = tuple((name, choice.key) for name, choice in blocks.choices.items())
        given = None
        for index in range(blocks.count):
            position = {
                "i": Bound(index),
                "n": Bound(blocks.count),
                "block_index": Bound(first + index),
                "block_count": Bound(blocks.place[1]),
            }
            scope = {**frame.scope, **position}
            # But for the first, all blocks are given the same where nothing follows their place.
            if given is None or index < 2 or follows_place(blocks.arguments, given):
                given = self.evaluator.arguments(
                    statement, blocks.block, blocks.choice, blocks.arguments, scope
                )
            step_name = name
            if statement.repeat is not None:
                own = spell(statement.names, scope) if statement.names else str(index)
                step_name = f"{name}.{own}"
                blocks.claim(step_name, frame)
            call = Call(statement, blocks.block, given.sources)
            with self.trail.within(Use(step_name, statement.span), call):
                made = self.instance(blocks.block, blocks.choices, filled, given.values, source)
            if made is None:
                raise Unknown
            source = made.output
            yield step_name, self.parts[-1], given.sources

    def check_nesting(self, statement: Statement, block: Definition) -> None:
        """RS302 for a block inside itself, or nested too deeply."""
        active = [call.block for call in self.trail.calls]
        if statement.kind == "block" and block in active:
            chain = [each.name for each in active[active.index(block) :]]
            loop = " uses ".join((*chain, block.name))
            fail("RS302", f"a block can't contain itself: {loop}", statement.span)
        if len(active) > MAX_NESTING:
            fail("RS302", f"blocks are nested more than {MAX_NESTING} deep", statement.span)


def check_is_list(reference: Reference, read: Read) -> None:
    """RS306 for one value, where an operation that joins several is given nothing else."""
    if reference.whole and read.kind != "list":
        message = f"{quoted(str(reference))} is one value, not a list"
        fail("RS306", message, reference.span, f"list all that is joined: [residual, {reference}]")
