"""The check of every compile: the program is run with numbers and compared with the network.

The routines of a program are executed without a framework. Each use gives a trace: its operations
with their attributes, inputs and names. It must equal what lowering found, operation by operation.
From the modules that build routines, only the types of lines are imported, so that a bug of
specialisation can't repeat itself here. A routine runs once for each set of numbers that it is
called with, so the cost grows with the number of distinct blocks, not with depth.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

from resnet_spec import expressions
from resnet_spec.diagnostics import Span
from resnet_spec.expressions import Const, Expr
from resnet_spec.ir import Instance, Network, Operation
from resnet_spec.primitives import PRIMITIVES
from resnet_spec.specialize.program import (
    AssignLine,
    CallLine,
    FeatureLine,
    LeftOutLine,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Program,
    Routine,
    Run,
    Value,
)

MOST = 20  # differences that are told

# What does not need its output for its gradient, so that an activation may change it in place.
KEEP_NOTHING = ("weights", "norm", "merge")


class Difference(NamedTuple):
    """A place where a program differs from the network, and the statement that it comes from."""

    text: str
    span: Span | None

    def __str__(self) -> str:
        return self.text


class Tensor:
    """A value by its number, and its channels."""

    __slots__ = ("channels", "nonnegative", "number")

    def __init__(self, number: int, channels: int, nonnegative: bool = False) -> None:
        self.number, self.channels, self.nonnegative = number, channels, nonnegative


class Item(NamedTuple):
    """One operation (`node` is the name of its primitive), or one use of a routine or block."""

    name: str
    node: "str | Trace | Instance"
    attributes: Mapping[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]
    span: Span | None


class Trace(NamedTuple):
    """What one use of a routine does, in order; `ends` are its results, by name."""

    items: tuple[Item, ...]
    ends: tuple[tuple[str, int], ...]
    channels: int


class _Stop(Exception):
    """A program that can't be run to its end."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.text)
        self.difference = difference


def differences(
    program: Program,
    network: Network,
    classes: int | None = None,
    channels: int | None = None,
) -> list[Difference]:
    """Where a program differs from its network; empty where they are the same.

    `classes` and `channels` default to those of the network.
    """
    given = {
        "num_classes": network.classes if classes is None else classes,
        "in_channels": network.input.channels if channels is None else channels,
    }
    try:
        trace = _Replay(program).network(given)
    except _Stop as stop:
        return [stop.difference]
    root = network.root
    ends = {"": root.result, **{s.name: s.result for s in network.stages if s.feature}}
    return list(islice(_compared(trace, root, ends, set()), MOST))


class _Replay:
    """Runs the routines of a program, each once for each set of numbers."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.traces: dict[Any, Trace] = {}

    def network(self, given: Mapping[str, int]) -> Trace:
        program = self.program
        run = _Run(self, program.network.class_name, given["in_channels"])
        for parameter in program.parameters:
            run.names[parameter.name] = given[parameter.name]
        run.add_locals(program.locals)
        run.lines(program.body)
        # The head is a function of its own in every backend: it sees the last feature map alone.
        boundary = run.one(program.features)
        run.names = {n: v for n, v in run.names.items() if not isinstance(v, Tensor | list)}
        run.names[program.features.name] = boundary
        run.lines(program.head)
        return run.finished({"": run.one(program.result), **run.features})

    def routine(self, routine: Routine, arguments: tuple[Any, ...], channels: int) -> Trace:
        # 1, 1.0 and True are equal, but not the same argument.
        key = (id(routine), arguments, tuple(map(type, arguments)), channels)
        if key not in self.traces:
            run = _Run(self, routine.class_name, channels)
            for parameter, value in zip(routine.parameters, arguments, strict=True):
                run.names[parameter.name] = value
            run.add_locals(routine.locals)
            run.lines(routine.body)
            self.traces[key] = run.finished({"": run.one(routine.result)})
        return self.traces[key]


class _Run:
    """One run of a routine. Arguments, locals, counters and values share one namespace."""

    def __init__(self, replay: _Replay, where: str, channels: int) -> None:
        self.replay, self.where = replay, where
        self.names: dict[str, Any] = {"x": Tensor(0, channels)}
        self.number_of_values = 1
        self.items: list[Item] = []
        self.features: dict[str, Tensor] = {}
        self.changed: list[tuple[str, Tensor]] = []  # in place, by the operation of this name
        self.span: Span | None = None  # of the present line's statement

    def fail(self, text: str) -> NoReturn:
        raise _Stop(Difference(f"{self.where}: {text}", self.span))

    def add_locals(self, values: Iterable[tuple[str, Expr]]) -> None:
        for name, value in values:
            self.names[name] = self.number(value)

    def number(self, value: Expr) -> Any:
        if isinstance(value, Const):
            return value.value
        try:
            found: Any = expressions.evaluate(value, self.names)
        except KeyError as error:
            self.fail(f"{error.args[0]!r} has no value in {expressions.to_python(value)}")
        except (TypeError, expressions.ExpressionError) as error:
            self.fail(f"{expressions.to_python(value)}: {error}")
        if isinstance(found, Tensor | list):
            self.fail(f"{expressions.to_python(value)} is no number")
        return found

    # - values -

    def many(self, value: Value) -> list[Tensor]:
        found = self.names.get(value.name)
        if found is None:
            self.fail(f"{value.name!r} has no value")
        if value.whole:
            if not isinstance(found, list):
                self.fail(f"{value.name!r} is no list")
            return found
        if value.index is not None:
            index = self.number(value.index)
            if not isinstance(found, list) or not 0 <= index < len(found):
                self.fail(f"{value.name!r} has no element {index}")
            return [found[index]]
        if not isinstance(found, Tensor):
            self.fail(f"{value.name!r} is {'a list' if isinstance(found, list) else 'a number'}")
        return [found]

    def one(self, value: Value) -> Tensor:
        found = self.many(value)
        if len(found) != 1:
            self.fail(f"{value.name!r} is {len(found)} values")
        return found[0]

    def new(self, channels: int, nonnegative: bool = False) -> Tensor:
        self.number_of_values += 1
        return Tensor(self.number_of_values - 1, channels, nonnegative)

    def store(self, output: Value, value: Tensor | list[Tensor]) -> None:
        held = self.names.get(output.name)
        if output.index is not None:
            if not isinstance(held, list) or self.number(output.index) != len(held):
                self.fail(f"{output.name!r}: this is not the next element of a list")
            held.append(value)
            return
        if held is not None and not isinstance(held, Tensor | list):
            self.fail(f"{output.name!r} is a number and becomes a value")
        self.names[output.name] = value

    # - lines -

    def lines(self, lines: Iterable[Line]) -> None:
        for line in lines:
            match line:
                case OperationLine():
                    self.span = line.span
                    self.operation(line)
                case CallLine():
                    self.span = line.span
                    self.call(line)
                case AssignLine():
                    self.store(line.output, self.one(line.inputs[0]) if line.inputs else [])
                case LoopLine():
                    self.loop(line.variable, self.number(line.count), line.body)
                case FeatureLine():
                    self.features[line.stage] = self.one(line.value)
                case LeftOutLine():
                    if self.number(line.when):
                        self.fail(f"{', '.join(line.layers)} left out, and needed")

    def loop(self, variable: str, count: int, body: Sequence[Line]) -> None:
        if variable in self.names:
            self.fail(f"the counter {variable!r} hides a value")
        for index in range(count):
            self.names[variable] = index
            self.lines(body)
        self.names.pop(variable, None)

    def skipped(self, line: OperationLine | CallLine) -> bool:
        if line.when is None or self.number(line.when):
            return False
        self.store(line.output, self.one(line.otherwise or line.inputs[0]))
        return True

    def path(self, parts: Iterable[str | Expr]) -> str:
        return "".join(p if isinstance(p, str) else str(self.number(p)) for p in parts)

    def operation(self, line: OperationLine) -> None:
        if self.skipped(line):
            return
        primitive = line.primitive
        inputs = [each for value in line.inputs for each in self.many(value)]
        if primitive.takes == "one" and len(inputs) != 1:
            self.fail(f"{primitive.name} takes one value, not {len(inputs)}")
        attributes = {
            key: self.number(value) if isinstance(value, Expr) else value
            for key, value in line.attributes.items()
        }
        name = self.path(line.path)
        self.check_sizes(line, name, inputs)
        if line.inplace:
            self.changed.append((name, inputs[0]))
        given = primitive.channels(SimpleNamespace(**attributes), [t.channels for t in inputs])
        assert isinstance(given, int)
        nonnegative = primitive.nonnegative or (
            inputs[0].nonnegative and primitive.name in ("max_pool", "avg_pool", "identity")
        )
        many = primitive.gives == "many"
        parts = attributes["parts"] if many else 1
        assert isinstance(parts, int)
        made = [self.new(given, nonnegative) for _ in range(parts)]
        numbers = tuple(t.number for t in inputs), tuple(t.number for t in made)
        self.items.append(Item(name, primitive.name, attributes, *numbers, line.span))
        self.store(line.output, made if many else made[0])

    def check_sizes(self, line: OperationLine, name: str, inputs: Sequence[Tensor]) -> None:
        """Check what a line assumes about its input: its channels, and that it is not negative."""
        if line.primitive.is_sized_by_input:
            said = self.number(line.channels[0]) if line.channels[0] is not None else None
            if said != inputs[0].channels:
                self.fail(f"{name} is made for {said} channels, and gets {inputs[0].channels}")
        if line.nonnegative and not inputs[0].nonnegative:
            self.fail(f"{name}: its input may be below zero")

    def call(self, line: CallLine) -> None:
        if self.skipped(line):
            return
        value, base = self.one(line.inputs[0]), self.path(line.path)
        if line.names is None:
            if len(line.runs) != 1 or not line.runs[0].is_single:
                self.fail(f"{base}: repeated, but without names")
            value = self.use(line.runs[0], base, value)
        else:
            for run in line.runs:
                value = self.repeat(run, line.names, base, value)
        self.store(line.output, value)

    def repeat(self, run: Run, names: Sequence[str | Expr], base: str, value: Tensor) -> Tensor:
        if "i" in self.names:
            self.fail("the counter 'i' hides a value")
        start, count = self.number(run.start), self.number(run.count)
        for index in range(start, start + count):
            self.names["i"] = index
            value = self.use(run, f"{base}.{self.path(names)}", value)
        self.names.pop("i", None)
        return value

    def use(self, run: Run, name: str, value: Tensor) -> Tensor:
        arguments = tuple(self.argument(*each) for each in run.arguments)
        for parameter, number in zip(run.routine.parameters, arguments, strict=True):
            if parameter.name == "in_channels" and number != value.channels:
                self.fail(f"{name}: in_channels is {number}, its input has {value.channels}")
        trace = self.replay.routine(run.routine, arguments, value.channels)
        made = self.new(trace.channels)
        self.items.append(Item(name, trace, {}, (value.number,), (made.number,), self.span))
        return made

    def argument(self, parameter: Parameter, value: Expr) -> Any:
        number = self.number(value)
        if isinstance(number, bool) != (parameter.type == "bool"):
            self.fail(f"{parameter.name} is {number}, and no {parameter.type}")
        return float(number) if parameter.type == "float" else number

    def finished(self, ends: Mapping[str, Tensor]) -> Trace:
        """What was done; nothing may have been changed in place that is needed as it was."""
        maker = {number: item for item in self.items for number in item.outputs}
        for name, tensor in self.changed:
            item = maker.get(tensor.number)
            if item is None or not _is_fresh(item):
                self.fail(f"{name} changes in place what its producer may keep")
            readers = sum(item.inputs.count(tensor.number) for item in self.items)
            if readers != 1 or any(end.number == tensor.number for end in ends.values()):
                self.fail(f"{name} changes a value in place that is needed again")
        numbers = tuple((name, tensor.number) for name, tensor in ends.items())
        return Trace(tuple(self.items), numbers, ends[""].channels)


def _is_fresh(item: Item) -> bool:
    """Whether the output of an operation is a new value, and not needed for its own gradient."""
    if not isinstance(item.node, str) or PRIMITIVES[item.node].group not in KEEP_NOTHING:
        return False
    # The sum or product of a single value may be that value itself.
    return PRIMITIVES[item.node].group != "merge" or len(item.inputs) > 1


# --- both sides in one form ----------------------------------------------------------------------


_Output = tuple[int, int]  # a value by its producer, and which of the outputs it is


class _Form(NamedTuple):
    """What is needed of a trace or an instance, and what each item reads.

    Identities are left out: they give a value a second name.
    """

    items: list[Item]
    inputs: list[list[_Output]]
    ends: dict[str, _Output]


def _form(items: Iterable[Item], ends: Iterable[tuple[str, int]]) -> _Form:
    same: dict[int, int] = {}  # output of an identity: its input
    kept: list[Item] = []
    for item in items:
        if item.node == "identity":
            same[item.outputs[0]] = same.get(item.inputs[0], item.inputs[0])
        else:
            kept.append(item)
    last = {name: same.get(number, number) for name, number in ends}
    needed = set(last.values())
    needs: list[Item] = []
    for item in reversed(kept):
        if not needed.isdisjoint(item.outputs):
            needs.append(item)
            needed.update(same.get(number, number) for number in item.inputs)
    needs.reverse()
    producer: dict[int, _Output] = {0: (-1, 0)}
    inputs = []
    for position, item in enumerate(needs):
        inputs.append([producer[same.get(number, number)] for number in item.inputs])
        for place, number in enumerate(item.outputs):
            producer[number] = (position, place)
    return _Form(needs, inputs, {name: producer[number] for name, number in last.items()})


def _steps(instance: Instance) -> Iterator[Item]:
    for step in instance.steps:
        node, span = step.node, step.statement.span
        if isinstance(node, Operation):
            name, values = node.primitive.name, node.attributes
            yield Item(step.name, name, values, step.inputs, step.outputs, span)
        else:
            yield Item(step.name, node, {}, step.inputs, step.outputs, span)


def _compared(
    trace: Trace, instance: Instance, ends: Mapping[str, int], seen: set[tuple[int, int]]
) -> Iterator[Difference]:
    where = instance.definition.name
    mine = _form(trace.items, trace.ends)
    its = _form(_steps(instance), ends.items())
    if len(mine.items) != len(its.items):
        names = [each.name for each in mine.items], [each.name for each in its.items]
        yield Difference(f"{where}: does {names[0]}, not {names[1]}", instance.definition.span)
        return
    pairs = zip(mine.items, its.items, mine.inputs, its.inputs, strict=True)
    for one, two, reads, should in pairs:
        what = f"{where}: {two.name}"
        if one.name != two.name:
            yield Difference(f"{what} is called {one.name}", two.span)
        if reads != should:
            yield Difference(f"{what} reads {reads}, not {should}", two.span)
        if isinstance(one.node, Trace) and isinstance(two.node, Instance):
            pair = (id(one.node), id(two.node))
            if pair not in seen:
                seen.add(pair)
                yield from _compared(one.node, two.node, {"": two.node.result}, seen)
        elif one.node != two.node:
            yield Difference(f"{what} is {_called(one)}, not {_called(two)}", two.span)
        elif other := {
            key: value
            for key, value in one.attributes.items()
            if not _same(value, two.attributes[key])
        }:
            right = {key: two.attributes[key] for key in other}
            yield Difference(f"{what} has {other}, not {right}", two.span)
    if mine.ends != its.ends:
        yield Difference(f"{where} gives {mine.ends}, not {its.ends}", instance.definition.span)


def _same(one: Any, two: Any) -> bool:
    """Whether two attributes are the same; True equals 1, but no framework takes it for a size."""
    return one == two and isinstance(one, bool) == isinstance(two, bool)


def _called(item: Item) -> str:
    return item.node if isinstance(item.node, str) else "a block"
