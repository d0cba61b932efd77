"""From a checked spec to the IR: blocks resolved, arguments evaluated, every shape inferred.

The statements of each block are run once with numbers. Uses of a block with equal arguments and an
equal input are one object, so the work grows with the number of different blocks, not with depth.
After a mistake the walk goes on with an unknown value, and one run tells all mistakes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from resnet_spec import definition as reading
from resnet_spec import expr, link, names
from resnet_spec.diagnostics import Report, Span, SpecError, Use, expected, fail, quoted
from resnet_spec.ir import (
    Argument,
    Binding,
    Bound,
    Choice,
    Definition,
    Expression,
    Instance,
    Loop,
    Network,
    Operation,
    Pattern,
    Published,
    Reference,
    Stage,
    Statement,
    Step,
)
from resnet_spec.load import Loaded, digest, resolved
from resnet_spec.ops import PRIMITIVES, ROLES, Attribute, Initializer, Primitive, Shape, ShapeError
from resnet_spec.source import Mapping as MappingNode
from resnet_spec.source import Node
from resnet_spec.source import plain as plain_value

MAX_REPEAT = 2_048
MAX_OPERATIONS = 50_000
MAX_STATEMENTS = 20_000  # run with numbers, equal blocks once
MAX_NESTING = 24

Scope = Mapping[str, Bound]
T = TypeVar("T")


class _Unknown(Exception):
    """A value that has no number because of a mistake that has been reported."""


_BROKEN = Bound(0)  # stands for such a number; known by its identity


class _TooLarge(Exception):
    """Ends the walk: there is more to do than any network needs."""

    def __init__(self, span: Span, what: str) -> None:
        self.span, self.what = span, what


def lower(loaded: Loaded) -> Network:
    """The network of a spec; raises `SpecError` with all mistakes in it and in its blocks."""
    return _Lowering(loaded).network()


# --- evaluation ----------------------------------------------------------------------------------


def evaluate(expression: Expression, scope: Scope) -> Bound:
    """The number of an expression; raises `SpecError` (RS202, RS203)."""
    for name, offset in expression.names.items():
        if name not in scope:
            where = expression.span_at(offset, len(name))
            fail("RS202", f"{quoted(name)} is not defined here", where, expected(name, scope))
        if scope[name] is _BROKEN:
            raise _Unknown
    try:
        value = expr.evaluate(expression.expr, {n: scope[n].value for n in expression.names})
    except expr.ExpressionError as error:
        message = error.message
        if expression.text not in message:
            message = f"{quoted(expression.text)}: {message}"
        fail("RS203", message, expression.span, error.help)
    return Bound(value, any(scope[name].open for name in expression.names))


def _typed(value: Bound, kind: str, span: Span, what: str) -> Bound:
    """The number as the type that an argument or attribute has (RS204)."""
    number = value.value
    if kind == "bool" and not isinstance(number, bool):
        fail("RS204", f"{what} must be true or false, but is {number}", span)
    if kind != "bool" and isinstance(number, bool):
        fail("RS204", f"{what} must be a number, but is {str(number).lower()}", span)
    if kind == "int" and not isinstance(number, int):
        fail(
            "RS204",
            f"{what} must be a whole number, but is {number}",
            span,
            help="use // for a division, or round(…), int(…) or make_divisible(…)",
        )
    return Bound(float(number), value.open) if kind == "float" else value


def _ranged(value: Bound, attribute: Attribute, span: Span, what: str) -> Bound:
    least, most = attribute.minimum, attribute.maximum
    if least is not None and value.value < least:
        fail("RS205", f"{what} must be at least {least}, but is {value.value}", span)
    if most is not None and value.value > most:
        fail("RS205", f"{what} must be at most {most}, but is {value.value}", span)
    if attribute.type == "int" and value.value > MAX_DIMENSION:
        fail("RS205", f"{what} must be at most {MAX_DIMENSION}, but is {value.value}", span)
    return value


MAX_DIMENSION = 1_000_000


def spell(pattern: Pattern, scope: Scope) -> str:
    """A name with its braces filled."""
    parts = (
        part if isinstance(part, str) else str(evaluate(part, scope).value)
        for part in pattern.parts
    )
    return names.check_path("".join(parts), pattern.span)


# --- one block -----------------------------------------------------------------------------------


@dataclass
class _Frame:
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


class _Lowering:
    """Lowers one network."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.report = Report(loaded.report.diagnostics)
        self.uses: list[Use] = []
        self.active: list[Definition] = []
        self.instances: dict[Any, Instance | None] = {}
        self.defaults: dict[str, dict[str, Bound | Initializer]] = {}
        self.default_slots: dict[str, dict[str, Binding]] = {}
        self.roles: dict[str, Choice] = {}
        self.statements = 0
        self.used_blocks: dict[str, Definition] = {}

    # - errors -

    @contextmanager
    def use(self, text: str, span: Span):  # type: ignore[no-untyped-def]
        self.uses.append(Use(text, span))
        try:
            yield
        finally:
            self.uses.pop()

    def take(self, error: SpecError) -> None:
        self.report.extend(error, tuple(self.uses))

    # - targets -

    def block(self, name: str, span: Span, slot: bool = False) -> Definition:
        """The definition of a block (RS301)."""
        found = self.loaded.blocks.find(name, span, slot)
        self.used_blocks[name] = found
        return found

    def choose(self, binding: Binding, scope: Scope, depth: int = 0) -> Choice:
        """A binding with its target found and its arguments evaluated."""
        if binding.target is None:
            return Choice(None, label="none")
        self.statements += 1
        if self.statements > MAX_STATEMENTS:
            raise _TooLarge(binding.span, f"{MAX_STATEMENTS:,} statements to run")
        if depth > MAX_NESTING:
            fail(
                "RS302",
                f"{quoted(binding.target)} fills a slot within itself, without end",
                binding.span,
                help="fill the inner slot with 'none' or with another block",
            )
        primitive = PRIMITIVES.get(binding.target)
        if primitive is not None:
            given = self.fixed_attributes(primitive, binding.arguments, scope)
            return Choice(primitive, tuple(given.items()), label=primitive.name)
        block = self.block(binding.target, binding.span, slot=True)
        arguments = link.arguments(block, binding.arguments)
        values: dict[str, Bound | Initializer] = {}
        for key, value in arguments.values.items():
            if isinstance(value, tuple):
                message = f"{quoted(key)} of a slot can't be a list"
                fail("RS304", message, value[0].span, "give one value for all blocks")
            values[key] = _typed(
                evaluate(value, scope), block.arguments[key].type, value.span, quoted(key)
            )
        slots = {**block.slots, **self.default_slots.get(block.name, {}), **arguments.slots}
        choices = {name: self.choose(each, scope, depth + 1) for name, each in slots.items()}
        return Choice(block, tuple(values.items()), tuple(choices.items()), block.name)

    def fixed_attributes(
        self, primitive: Primitive, node: MappingNode, scope: Scope
    ) -> dict[str, Bound | Initializer]:
        """Attributes of a primitive that are given as constants."""
        fixed: dict[str, Bound | Initializer] = {}
        found = Report()
        for key, child in node.entries.items():
            attribute = primitive.attribute(key)
            if attribute is None:
                known = [each.name for each in primitive.attributes]
                message = f"'{primitive.name}' has no attribute {quoted(key)}"
                found.add("RS101", message, node.keys[key], expected(key, known))
                continue
            try:
                given = link.read_attribute(attribute, child)
                if isinstance(given, Expression):
                    value = evaluate(given, scope)
                    typed = _typed(value, attribute.type, given.span, quoted(key))
                    fixed[key] = _ranged(typed, attribute, given.span, quoted(key))
                else:
                    fixed[key] = given
            except SpecError as error:
                found.extend(error)
        found.raise_if_any()
        return fixed

    # - instances -

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
        frame = _Frame(scope, choices, [source], {"x": 0})
        self.run(block.body, frame)
        output = frame.shapes[frame.current]
        if output is None or len(self.report.diagnostics) > before:
            return None
        return Instance(block, choices, scope, source, output, tuple(frame.steps), frame.current)

    def evaluate_lets(self, lets: Mapping[str, Expression], scope: dict[str, Bound]) -> None:
        for name, expression in lets.items():
            scope[name] = _BROKEN
            try:
                scope[name] = evaluate(expression, scope)
            except SpecError as error:
                self.take(error)
            except _Unknown:
                pass

    def run(self, body: Iterable[Statement | Loop], frame: _Frame) -> None:
        for statement in body:
            self.statements += 1
            if self.statements > MAX_STATEMENTS:
                raise _TooLarge(statement.span, f"{MAX_STATEMENTS:,} statements to run")
            try:
                if isinstance(statement, Loop):
                    self.run_loop(statement, frame)
                else:
                    self.run_statement(statement, frame)
            except SpecError as error:
                self.take(error)
                self.poison(statement, frame)
            except _Unknown:
                self.poison(statement, frame)

    def poison(self, statement: Statement | Loop, frame: _Frame) -> None:
        """The output of a statement that has a mistake is unknown, and quiet from here on."""
        if isinstance(statement, Loop):
            return
        unknown = frame.new(None)
        frame.current = unknown
        if statement.result is not None:
            several = statement.target == "split" and statement.result.index is None
            frame.values[statement.result.name] = [unknown] * 64 if several else unknown

    def run_loop(self, loop: Loop, frame: _Frame) -> None:
        count = self.count(loop.count, frame.scope, "'count'", least=0)
        outer = frame.scope.get(loop.variable)
        if outer is not None:
            fail("RS106", f"{quoted(loop.variable)} has a value already", loop.span)
        frame.counters.append(loop.variable)
        for index in range(count):
            self.statements += 1  # a turn without layers takes time as well
            frame.scope[loop.variable] = Bound(index)
            before = len(self.report.diagnostics)
            self.run(loop.body, frame)
            if len(self.report.diagnostics) > before:
                break
        frame.counters.pop()
        frame.scope.pop(loop.variable, None)

    def count(self, expression: Expression, scope: Scope, what: str, least: int = 1) -> int:
        bound = _typed(evaluate(expression, scope), "int", expression.span, what)
        if bound.open:
            fail(
                "RS204",
                f"{what} can't depend on the number of classes or of input channels",
                expression.span,
            )
        number = int(bound.value)
        if number < least:
            fail("RS205", f"{what} must be at least {least}, but is {number}", expression.span)
        if number > MAX_REPEAT:
            fail("RS205", f"{what} must be at most {MAX_REPEAT}, but is {number}", expression.span)
        return number

    # - statements -

    def run_statement(self, statement: Statement, frame: _Frame) -> None:
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
                self.name(statement, target, frame)
                # A number that is computed may be wrong for the reason that has been told.
                self.attributes(target, statement, choice, frame, constants=True)
            self.poison(statement, frame)
        elif target is None:
            self.finish(statement, frame, [inputs[0]])
        elif isinstance(target, Primitive):
            self.run_operation(statement, target, choice, frame, inputs)
        else:
            self.run_call(statement, target, choice, frame, inputs)

    def pass_through(self, statement: Statement, frame: _Frame) -> None:
        passing = statement.otherwise or next(iter(statement.inputs), None)
        source = frame.one(passing) if passing is not None else frame.current
        self.finish(statement, frame, [source])

    def finish(self, statement: Statement, frame: _Frame, outputs: list[int]) -> None:
        frame.bind(statement.result, outputs, listed=False)
        frame.current = outputs[0]

    def inputs(self, statement: Statement, frame: _Frame) -> list[int]:
        if not statement.inputs:
            return [frame.current]
        primitive = PRIMITIVES.get(statement.target)
        if statement.kind == "primitive" and primitive and primitive.takes == "many":
            return [number for each in statement.inputs for number in frame.many(each)]
        if len(statement.inputs) > 1:
            fail("RS306", "'from' names one value", statement.inputs[1].span)
        return [frame.one(statement.inputs[0])]

    def target(
        self, statement: Statement, frame: _Frame
    ) -> tuple[Primitive | Definition | None, Choice | None]:
        if statement.kind == "primitive":
            return PRIMITIVES[statement.target], None
        if statement.kind == "block":
            return self.block(statement.target, statement.span), None
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
        frame: _Frame,
        inputs: list[int],
    ) -> None:
        shapes = tuple(shape for n in inputs if (shape := frame.shapes[n]) is not None)
        values = self.attributes(primitive, statement, choice, frame)
        name = self.name(statement, primitive, frame)
        numbers = {k: v.value if isinstance(v, Bound) else v for k, v in values.items()}
        try:
            output = primitive.infer(numbers, shapes)
        except ShapeError as error:
            fail(error.code, f"{name}: {error.message}", statement.span, error.help)
        if any(isinstance(v, Bound) and v.open for v in values.values()):
            output = replace(output, open=True)
        attributes = _Namespace(numbers)
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
        self.add_step(frame, Step(name, operation, tuple(inputs), tuple(outputs), statement), 1)
        if several and statement.result is None:
            fail("RS102", "the parts need a name: as: part", statement.span)
        frame.bind(statement.result, outputs, listed=several)
        frame.current = outputs[-1]

    def add_step(self, frame: _Frame, step: Step, size: int) -> None:
        frame.steps.append(step)
        frame.size += size
        if frame.size > MAX_OPERATIONS:
            raise _TooLarge(step.statement.span, f"{MAX_OPERATIONS:,} operations")

    def attributes(
        self,
        primitive: Primitive,
        statement: Statement,
        choice: Choice | None,
        frame: _Frame,
        constants: bool = False,
    ) -> dict[str, Bound | Initializer]:
        """The attributes of an operation; with `constants`, those that depend on nothing."""
        binding = dict(choice.arguments) if choice is not None else {}
        defaults = self.defaults.get(primitive.name, {})
        given = link.attributes(primitive, statement.arguments, binding, defaults)
        values: dict[str, Bound | Initializer] = {}
        found, complete = Report(), True
        # Defaults that are expressions over other attributes come last.
        for attribute in sorted(primitive.attributes, key=lambda a: isinstance(a.default, str)):
            source = given[attribute.name]
            if source is None and isinstance(attribute.default, str) and not complete:
                continue
            if constants and isinstance(source, Expression) and source.names:
                complete = False
                continue
            try:
                value, span = self.attribute(attribute, source, values, frame.scope)
                if isinstance(value, Bound):
                    what, where = quoted(attribute.name), span or statement.span
                    typed = _typed(value, attribute.type, where, what)
                    value = _ranged(typed, attribute, where, what)
                values[attribute.name] = value
            except SpecError as error:
                found.extend(error)
                complete = False
            except _Unknown:
                complete = False
        found.raise_if_any()
        if not complete:
            raise _Unknown
        return values

    def attribute(
        self,
        attribute: Attribute,
        given: link.Given | None,
        values: Mapping[str, Bound | Initializer],
        scope: Scope,
    ) -> tuple[Bound | Initializer, Span | None]:
        if isinstance(given, Expression):
            return evaluate(given, scope), given.span
        if given is not None:
            return given, None
        if isinstance(attribute.default, str):
            numbers = {n: v.value for n, v in values.items() if isinstance(v, Bound)}
            return Bound(expr.evaluate(link.default_expression(attribute.default), numbers)), None
        if isinstance(attribute.default, Initializer):
            return attribute.default, None
        assert attribute.default is not None
        return Bound(attribute.default), None

    def name(self, statement: Statement, target: Primitive | Definition, frame: _Frame) -> str:
        if statement.name is not None:
            name, span = spell(statement.name, frame.scope), statement.name.span
            self.claim_place(name, span, frame)
        else:
            index = "".join(f".{frame.scope[each].value}" for each in frame.counters)
            stem, span = statement.target, statement.span
            name, number = f"{stem}{index}", frame.numbers.get(f"{stem}{index}", 1)
            while name in frame.taken:
                number += 1
                name = f"{stem}{number}{index}"
            frame.numbers[f"{stem}{index}"] = number
        self.claim(name, span, frame)
        return name

    def claim_place(self, name: str, span: Span, frame: _Frame) -> None:
        """RS106 for a layer within another: `a.b` where `a` is not a mere part of names."""
        ends = [index for index, character in enumerate(name) if character == "."]
        outer = [name[:end] for end in ends]
        for each in outer:
            if each in frame.taken:
                fail("RS106", f"{quoted(name)} is within {quoted(each)}, a layer itself", span)
        if name in frame.outer:
            message = f"{quoted(name)} is a part of the name of {quoted(frame.outer[name])}"
            fail("RS106", f"{message}, so it can't be a layer itself", span)
        frame.outer.update(dict.fromkeys(outer, name))

    def claim(self, name: str, span: Span, frame: _Frame) -> None:
        """Give a name to a layer; RS106 where another has it."""
        first = frame.taken.get(name)
        if first is None:
            frame.taken[name] = span
            return
        hint = f"the first is at {first}"
        if first == span and frame.counters:
            hint = f'put the counter into the name: "{name}.{{{frame.counters[-1]}}}"'
        elif first == span:
            hint = 'put the number of the block into it: names: "{i}"'
        fail("RS106", f"two layers are called {quoted(name)}", span, hint)

    # - calls -

    def run_call(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        frame: _Frame,
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
            count = self.count(statement.repeat, frame.scope, "'repeat'")
        name = self.name(statement, block, frame)
        choices = self.slots(statement, block, choice, arguments, frame)
        value = inputs[0]
        for index in range(count):
            position = {
                "i": Bound(index),
                "n": Bound(count),
                "block_index": Bound(stages[0] + index),
                "block_count": Bound(stages[1]),
            }
            scope = {**frame.scope, **position}
            given = self.arguments(statement, block, choice, arguments, scope)
            step_name = name
            if statement.repeat is not None:
                own = spell(statement.names, scope) if statement.names else str(index)
                step_name = f"{name}.{own}"
                where = statement.names.span if statement.names else statement.span
                self.claim(step_name, where, frame)
            shape = frame.shapes[value]
            assert shape is not None
            with self.use(f"{name}", statement.span):
                made = self.instance(block, choices, given, shape)
            if made is None:
                raise _Unknown
            output = frame.new(made.output)
            step = Step(step_name, made, (value,), (output,), statement)
            self.add_step(frame, step, made.size)
            value = output
        self.finish(statement, frame, [value])

    def slots(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        arguments: link.Arguments,
        frame: _Frame,
    ) -> dict[str, Choice]:
        """How the slots of a called block are filled; the roles are handed down."""
        choices = {role: frame.choices[role] for role in ROLES}
        bindings = {**block.slots, **self.default_slots.get(block.name, {})}
        for name, binding in bindings.items():
            choices[name] = self.choose(binding, self.network_scope)
        if choice is not None:
            choices.update(choice.choices)
        for name, binding in arguments.slots.items():
            forwarded = frame.choices.get(binding.target or "")
            if forwarded is not None and not binding.arguments.entries:
                choices[name] = forwarded  # a slot of the block around
            else:
                choices[name] = self.choose(binding, frame.scope)
        return choices

    def arguments(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        given: link.Arguments,
        scope: Scope,
    ) -> dict[str, Bound]:
        """The numbers of a block's arguments at one position of a repetition."""
        binding = dict(choice.arguments) if choice is not None else {}
        for key in binding:
            if key in given.values:
                fail(
                    "RS304",
                    f"the slot {quoted(statement.target)} gives {quoted(key)} itself",
                    statement.span,
                    help=f"leave {quoted(key)} out where {quoted(block.name)} fills the slot",
                )
        defaults = self.defaults.get(block.name, {})
        values: dict[str, Bound] = {}
        for name, argument in block.arguments.items():
            source = given.values.get(name) or binding.get(name) or defaults.get(name)
            if argument.first_only and scope["i"].value:
                source = argument.default
            source = source if source is not None else argument.default
            if source is None:
                fail(
                    "RS102",
                    f"the block {quoted(block.name)} needs {quoted(name)}"
                    + (f": {argument.description}" if argument.description else ""),
                    statement.span,
                    help=f"add it to the line: {name}: …",
                )
            values[name] = self.argument(argument, source, scope, statement.span)
        return values

    def argument(
        self,
        argument: Argument,
        source: Expression | tuple[Expression, ...] | Bound | Initializer,
        scope: Scope,
        span: Span,
    ) -> Bound:
        if isinstance(source, tuple) and not isinstance(source, Bound | Initializer):
            count = int(scope["n"].value)
            if len(source) != count:
                fail(
                    "RS103",
                    f"{quoted(argument.name)} lists {len(source)} values for {count} blocks",
                    source[0].span if source else span,
                    help=f"give {count} values, one for each block",
                )
            source = source[int(scope["i"].value)]
        if isinstance(source, Expression):
            span, value = source.span, evaluate(source, scope)
        else:
            assert isinstance(source, Bound)
            value = source
        return _typed(value, argument.type, span, quoted(argument.name))

    # - the network -

    def network(self) -> Network:
        loaded, model = self.loaded, self.loaded.model
        scope = {
            "classes": Bound(model.classes, True),
            "in_channels": Bound(model.input.channels, True),
        }
        lets = reading.read_lets(loaded.node.get("let"), self.report)
        self.evaluate_lets(lets, scope)
        self.network_scope: dict[str, Bound] = scope
        source = Shape(model.input.channels, model.input.height, model.input.width, open=True)
        frame = _Frame(dict(scope), self.roles, [source], {"x": 0})
        stages, head = [], 0
        try:
            self.read_defaults(loaded.node.get("defaults"))
            self.run(loaded.stem, frame)
            stages = self.run_stages(frame)
            head = len(frame.steps)
            self.run(loaded.head, frame)
        except _TooLarge as error:
            self.report.add(
                "RS305",
                f"the network is too large: more than {error.what}",
                error.span,
                "lower 'repeat' or 'count'",
            )
        self.report.raise_if_any()
        root_block = Definition(
            name=model.name,
            class_name=model.class_name or names.class_name(model.name),
            description=model.description,
            source=model.source,
            arguments={},
            slots={},
            lets=lets,
            body=(*loaded.stem, *loaded.stages, *loaded.head),
            span=loaded.node.span,
            node=loaded.node,
        )
        output = frame.shapes[frame.current]
        assert output is not None
        root = Instance(
            root_block, self.roles, frame.scope, source, output, tuple(frame.steps), frame.current
        )
        return Network(
            name=model.name,
            class_name=root_block.class_name,
            description=model.description,
            source=model.source,
            family=model.family,
            input=source,
            classes=model.classes,
            root=root,
            stages=tuple(stages),
            head=head,
            defaults=self.defaults,
            path=loaded.path,
            digest=self.digest(),
            references=tuple(
                Published(each.library, each.model, each.rename or {})
                for each in model.references or ()
            ),
            overridden=loaded.overridden,
        )

    def digest(self) -> str:
        blocks = {name: plain_value(b.node) for name, b in sorted(self.used_blocks.items())}
        return digest([resolved(self.loaded), blocks])

    def read_defaults(self, node: Node | None) -> None:
        entries = node.entries if isinstance(node, MappingNode) else {}
        if not isinstance(node, MappingNode) and getattr(node, "value", node) is not None:
            assert node is not None
            self.report.add("RS103", "'defaults' must be a mapping", node.span)
        # Primitives first: what fills a role may rely on them.
        for key in sorted(entries, key=lambda key: key in ROLES):
            assert isinstance(node, MappingNode)
            try:
                self.read_default(key, entries[key], node.keys[key])
            except SpecError as error:
                self.take(error)
            except _Unknown:
                pass
        for role, usual in ROLES.items():
            self.roles.setdefault(role, Choice(PRIMITIVES[usual], label=usual))

    def read_default(self, key: str, node: Node, span: Span) -> None:
        if key in ROLES:
            self.roles[key] = self.choose(reading.read_binding(node), self.network_scope)
            return
        known = self.loaded.blocks.names()
        if key not in known and key not in PRIMITIVES:
            hint = expected(key, {*known, *PRIMITIVES, *ROLES})
            fail("RS101", f"{quoted(key)} is no block, primitive or slot", span, hint)
        if not isinstance(node, MappingNode):
            fail("RS103", f"the defaults of {quoted(key)} must be a mapping", node.span)
        if key in PRIMITIVES:
            self.defaults[key] = self.fixed_attributes(PRIMITIVES[key], node, self.network_scope)
            return
        block = self.block(key, span)
        given = link.arguments(block, node)
        values: dict[str, Bound | Initializer] = {}
        for name, value in given.values.items():
            if isinstance(value, tuple):
                fail("RS103", f"the default of {quoted(name)} must be one value", span)
            number = evaluate(value, self.network_scope)
            values[name] = _typed(number, block.arguments[name].type, value.span, quoted(name))
        self.defaults[key] = values
        self.default_slots[key] = dict(given.slots)

    def run_stages(self, frame: _Frame) -> list[Stage]:
        counts = [self.stage_count(stage, frame) for stage in self.loaded.stages]
        stages = []
        for number, statement in enumerate(self.loaded.stages):
            before, source = len(frame.steps), frame.shapes[frame.current]
            try:
                self.run_stage(statement, frame, (sum(counts[:number]), sum(counts)))
            except SpecError as error:
                self.take(error)
                self.poison(statement, frame)
            except _Unknown:
                self.poison(statement, frame)
            output = frame.shapes[frame.current]
            name = statement.name.text if statement.name else statement.target
            frame.values[name] = frame.current
            if source is not None and output is not None:
                steps = tuple(range(before, len(frame.steps)))
                feature = statement.feature
                stages.append(Stage(name, steps, statement, source, output, feature))
        return stages

    def stage_count(self, statement: Statement, frame: _Frame) -> int:
        try:
            if statement.repeat is None:
                return 1
            return self.count(statement.repeat, frame.scope, "'repeat'")
        except (SpecError, _Unknown):
            return 1  # reported when the stage is run

    def run_stage(self, statement: Statement, frame: _Frame, position: tuple[int, int]) -> None:
        if statement.kind == "broken":
            raise _Unknown
        inputs = self.inputs(statement, frame)
        if any(frame.shapes[number] is None for number in inputs):
            # An earlier mistake hides the shapes; the block itself is looked at all the same.
            block = self.block(statement.target, statement.span)
            link.arguments(block, statement.arguments)
            raise _Unknown
        if statement.when is not None and not evaluate(statement.when, frame.scope).value:
            self.pass_through(statement, frame)
            return
        block = self.block(statement.target, statement.span)
        self.run_call(statement, block, None, frame, inputs, position)


class _Namespace:
    """Attributes of an operation, for the rules of the primitives."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)
