"""Partial evaluation: each block definition, specialised to the instances that a network has of it.

An argument with one value in every instance becomes a literal and its dead branches vanish; one
that varies becomes a parameter. What is left is a *routine*: parameters, local values and lines
over named variables, which a backend writes as a class or as a function. Loops stay loops, and a
run of equal or evenly growing blocks is one line, so output does not grow with depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from resnet_spec import expr, link
from resnet_spec.diagnostics import fail, quoted
from resnet_spec.expr import Const, Expr, Name
from resnet_spec.ir import (
    Bound,
    Choice,
    Definition,
    Expression,
    Instance,
    Loop,
    Network,
    Operation,
    Pattern,
    Reference,
    Statement,
    Step,
)
from resnet_spec.ops import Attribute, Initializer, Primitive

Path = tuple[str | Expr, ...]  # of a layer within its block, numbers of loops as expressions


# --- what comes out ------------------------------------------------------------------------------


class Parameter(NamedTuple):
    """A parameter of a routine; `default` where most callers may leave it out."""

    name: str
    type: str
    default: expr.Number | None = None


class Value(NamedTuple):
    """A variable, one element of a list (`index`), or all elements of a list (`whole`)."""

    name: str
    index: Expr | None = None
    whole: bool = False


class OperationLine(NamedTuple):
    """`output = primitive(inputs)`; where `when` does not hold, the first input passes through."""

    primitive: Primitive
    attributes: Mapping[str, Expr | Initializer]
    path: Path
    inputs: tuple[Value, ...]
    channels: tuple[Expr, ...]  # of the inputs
    output: Value
    when: Expr | None = None
    otherwise: Value | None = None  # passes where `when` does not hold; None: the first input
    inplace: bool = False  # the input is needed nowhere else
    nonnegative: bool = False  # no value of the input is below zero
    named: bool = True  # the spec gave the name


class Run(NamedTuple):
    """Uses of one routine, one after the other: for `i` from `start`, `count` of them."""

    start: Expr
    count: Expr
    arguments: tuple[tuple[Parameter, Expr], ...]

    @property
    def is_single(self) -> bool:
        return self.count == Const(1)

    @property
    def uses_index(self) -> bool:
        return any("i" in expr.names(value) for _, value in self.arguments)


class CallLine(NamedTuple):
    """`output = routine(input)`, or a chain of `runs` of it where `names` is given."""

    routine: Routine
    runs: tuple[Run, ...]
    path: Path
    names: Path | None  # of the repeated blocks, an expression over `i`
    inputs: tuple[Value, ...]
    output: Value
    when: Expr | None = None
    otherwise: Value | None = None


class AssignLine(NamedTuple):
    """`output = input`: a second name for a value that is about to change."""

    inputs: tuple[Value, ...]
    output: Value


class LoopLine(NamedTuple):
    """`for variable in range(count)`."""

    variable: str
    count: Expr
    body: tuple[Line, ...]


class FeatureLine(NamedTuple):
    """Marks the end of a stage whose output is one of the network's feature maps."""

    stage: str
    value: Value


Line = OperationLine | CallLine | AssignLine | LoopLine | FeatureLine


@dataclass(frozen=True, slots=True, eq=False)
class Routine:
    """One block as one network needs it. `channels` is the output's, over the parameters."""

    name: str
    class_name: str
    description: str
    source: str | None
    parameters: tuple[Parameter, ...]
    locals: tuple[tuple[str, Expr], ...]
    body: tuple[Line, ...]
    result: Value
    channels: Expr
    is_chain: bool  # a plain sequence whose layers are called 0, 1, …


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A network as routines in the order in which they can be defined, and its own lines."""

    network: Network
    routines: tuple[Routine, ...]
    parameters: tuple[Parameter, ...]
    locals: tuple[tuple[str, Expr], ...]
    body: tuple[Line, ...]
    features: Value  # the last value of the stages
    head: tuple[Line, ...]
    result: Value

    def lines(self) -> Iterator[tuple[Routine | None, Line]]:
        """Every line of every routine; None stands for the network itself."""
        for routine in self.routines:
            for line in flat(routine.body):
                yield routine, line
        for line in flat((*self.body, *self.head)):
            yield None, line


def flat(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines with those within loops."""
    for line in lines:
        yield line
        if isinstance(line, LoopLine):
            yield from flat(line.body)


def specialize(network: Network) -> Program:
    """The program of a network."""
    return _Specialization(network).program()


# --- values while a routine is built -------------------------------------------------------------


@dataclass(eq=False)
class _Symbol:
    """A value before it has a variable."""

    channels: Expr
    wanted: str | None = None  # the name that `as` gives
    follows: _Symbol | None = None  # shares this one's variable
    variable: str = ""
    readers: int = 0
    nonnegative: bool = False
    last: int = -1  # index of the last line that reads it


@dataclass(eq=False)
class _List:
    """A list of values; `total` are the channels of all of them, `each` of one."""

    total: Expr
    each: Expr
    name: str


@dataclass(eq=False)
class _Element:
    """One element of a list, or all of them."""

    list: _List
    index: Expr | None
    channels: Expr


_Slot = _Symbol | _List | _Element


@dataclass(eq=False)
class _Draft:
    """A line before its variables have names."""

    kind: str
    inputs: tuple[_Slot, ...]
    output: _Slot | None
    make: Any  # called with (inputs, output) as values
    when: Expr | None = None
    otherwise: _Slot | None = None
    body: list[_Draft] = field(default_factory=list)
    group: str = ""
    index: int = 0


@dataclass
class _Scope:
    """What a routine's statements see."""

    names: dict[str, Expr]
    values: dict[str, _Symbol | _List]
    current: _Symbol
    drafts: list[_Draft]
    instances: list[Instance]
    steps: dict[int, list[list[Step]]]  # statement: for each instance, its steps
    automatic: Mapping[int, str]  # names of the statements to which the spec gives none
    choices: Mapping[str, Choice]
    loops: tuple[tuple[str, Expr], ...] = ()
    rebound: set[str] = field(default_factory=set)  # names assigned within a loop
    outermost: list[_Draft] = field(default_factory=list)  # the lines before all loops


class _Specialization:
    """Builds the routines of one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.variants: dict[Any, list[Instance]] = {}
        self.routines: dict[Any, Routine] = {}
        self.taken: set[str] = set()
        self.collect(network.root, set())
        ends = [stage.steps[-1] for stage in network.stages if stage.steps and stage.feature]
        outputs = [output for index in ends for output in network.root.steps[index].outputs]
        _check_used(network.root, [network.root.result, *outputs])

    def collect(self, instance: Instance, seen: set[int]) -> None:
        for step in instance.steps:
            node = step.node
            if isinstance(node, Instance) and id(node) not in seen:
                seen.add(id(node))
                self.variants.setdefault(_variant(node), []).append(node)
                _check_used(node, [node.result])
                self.collect(node, seen)

    # - routines -

    def routine(self, instance: Instance) -> Routine:
        key = _variant(instance)
        if key not in self.routines:
            self.routines[key] = self.build(instance.definition, self.variants[key])
        return self.routines[key]

    def build(self, block: Definition, instances: list[Instance]) -> Routine:
        names: dict[str, Expr] = {}
        for name in ("in_channels", *block.arguments):
            argument = block.arguments.get(name)
            integral = argument is None or argument.type == "int"
            names[name] = _common(name, instances) or Name(name, integral)
        locals_ = _locals(block.lets, names, instances)
        first = _Symbol(names["in_channels"], "x")
        scope = _scope(names, first, instances, instances[0].choices)
        self.statements(block.body, scope)
        result = scope.current
        _drop_unused(scope, [result])
        _assign_variables(scope, first, result, {*names, *(n for n, _ in locals_)})
        body = _lines(scope.drafts)
        kept, body, channels = _inline(locals_, body, result.channels)
        used = _used(body, kept)
        class_name = self.unique(block, instances[0])
        return Routine(
            name=_snake(class_name, block),
            class_name=class_name,
            description=block.description,
            source=block.source,
            parameters=_parameters(block, names, used),
            locals=kept,
            body=body,
            result=Value(result.variable),
            channels=expr.substitute(channels, dict(_expanded(locals_))),
            is_chain=_is_chain(body),
        )

    def unique(self, block: Definition, instance: Instance) -> str:
        """A class name: the block's, with what fills its slots where there are several of it."""
        name = block.class_name
        if name in self.taken:
            for slot, usual in block.slots.items():
                label = instance.choices[slot].label
                if label not in (usual.target or "none", "none"):
                    name += "".join(part.capitalize() for part in label.split("_"))
        base, number = name, 1
        while name in self.taken or name == self.network.class_name:
            number += 1
            name = f"{base}{number}"
        self.taken.add(name)
        return name

    # - statements -

    def statements(self, body: Iterable[Statement | Loop], scope: _Scope) -> None:
        for statement in body:
            if isinstance(statement, Loop):
                self.loop(statement, scope)
            else:
                self.statement(statement, scope)

    def loop(self, loop: Loop, scope: _Scope) -> None:
        count = _simplified(loop.count, scope)
        if count == Const(0):
            return
        entry = scope.current
        if _reads_current(loop.body):
            # The running value changes in the loop, so it needs a variable of its own.
            entry = scope.current = _copied(entry, None, scope)
        for name in _assigned(loop.body):
            bound = scope.values.get(name)
            if isinstance(bound, _Symbol) and bound.wanted != name:
                scope.values[name] = _copied(bound, name, scope)
            elif isinstance(bound, _Symbol):
                bound.nonnegative = False  # later turns see what the loop makes of it
            scope.rebound.add(name)
        outer, scope.drafts = scope.drafts, []
        if not scope.loops:
            scope.outermost = outer
        loops = scope.loops
        scope.loops = (*loops, (loop.variable, count))
        scope.names[loop.variable] = Name(loop.variable, True)
        self.statements(loop.body, scope)
        del scope.names[loop.variable]
        scope.loops = loops
        inner, scope.drafts = scope.drafts, outer
        if scope.current is not entry and _reads_current(loop.body):
            scope.current.follows = entry

        def make(inputs: Any, output: Any) -> LoopLine:
            return LoopLine(loop.variable, count, _lines(inner))

        scope.drafts.append(_Draft("loop", (), None, make, body=inner))

    def statement(self, statement: Statement, scope: _Scope) -> None:
        inputs = self.inputs(statement, scope)
        steps = scope.steps.get(id(statement), [])
        when = _condition(statement, scope, any(steps))
        target, choice = self.target(statement, scope)
        if when is False and statement.otherwise is not None:
            self.alias(statement, _resolve(statement.otherwise, scope), scope)
        elif when is False or target is None or (when is None and _is_identity(target)):
            self.alias(statement, inputs[0], scope)
        elif isinstance(target, Primitive):
            self.operation(statement, target, choice, inputs, when, scope)
        else:
            self.call(statement, choice, inputs, when, scope)

    def inputs(self, statement: Statement, scope: _Scope) -> tuple[_Slot, ...]:
        if not statement.inputs:
            return (scope.current,)
        return tuple(_resolve(reference, scope) for reference in statement.inputs)

    def target(
        self, statement: Statement, scope: _Scope
    ) -> tuple[Primitive | Statement | None, Choice | None]:
        from resnet_spec.ops import PRIMITIVES

        if statement.kind == "primitive":
            return PRIMITIVES[statement.target], None
        if statement.kind == "block":
            return statement, None
        choice = scope.choices[statement.target]
        if choice.target is None or isinstance(choice.target, Primitive):
            return choice.target, choice
        return statement, choice

    def alias(self, statement: Statement, source: _Slot, scope: _Scope) -> None:
        """A statement that does nothing gives its input another name at most."""
        reference = statement.result
        if reference is not None and (
            reference.index is not None or reference.name in scope.rebound or scope.loops
        ):
            self.bind_copy(statement, source, scope)
            return
        if not isinstance(source, _Symbol):
            source = _copied(source, _wanted(statement), scope)
        if reference is not None:
            scope.values[reference.name] = source
            if source.wanted is None and source is not scope.values["x"]:
                source.wanted = reference.name
        scope.current = source

    def bind_copy(self, statement: Statement, source: _Slot, scope: _Scope) -> None:
        output = self.output(statement, _channels(source), scope)
        scope.drafts.append(_Draft("assign", (source,), output, AssignLine))
        if isinstance(output, _Element) and isinstance(source, _Symbol):
            scope.current = source

    def output(self, statement: Statement, channels: Expr, scope: _Scope) -> _Slot:
        """The value that a statement gives, bound to its name."""
        reference = statement.result
        if reference is None:
            scope.current = _Symbol(channels)
            return scope.current
        if reference.index is None:
            symbol = _Symbol(channels, reference.name)
            scope.values[reference.name] = scope.current = symbol
            if scope.loops:
                scope.rebound.add(reference.name)
            return symbol
        index = expr.substitute(reference.index.expr, scope.names)
        times: Expr = Const(1)
        for _, count in scope.loops:
            times = times * count
        found = scope.values.get(reference.name)
        if not isinstance(found, _List):
            found = _List(Const(0), channels, reference.name)
            # The empty list stands before the outermost loop.
            drafts = scope.outermost if scope.loops else scope.drafts
            drafts.append(_Draft("assign", (), found, AssignLine))
            scope.values[reference.name] = found
        found.total, found.each = found.total + channels * times, channels
        scope.current = _Symbol(channels)
        return _Element(found, index, channels)

    def operation(
        self,
        statement: Statement,
        primitive: Primitive,
        choice: Choice | None,
        inputs: tuple[_Slot, ...],
        when: Expr | None,
        scope: _Scope,
    ) -> None:
        attributes = self.attributes(primitive, statement, choice, scope)
        steps = [step for each in scope.steps.get(id(statement), []) for step in each]
        numbers = SimpleNamespace(**attributes)
        # A list gives all of its channels to a concat, those of one element to others.
        channels = tuple(
            value.list.total
            if primitive.joins and isinstance(value, _Element) and value.index is None
            else _channels(value)
            for value in inputs
        )
        constant = None
        if when is None:
            # Numbers of the instances that run it say nothing of the others.
            channels, constant = _input_channels(channels, steps), _constant_output(steps)
        given = constant or expr.wrap(primitive.channels(numbers, channels))
        otherwise = _otherwise(statement, when, scope)
        if when is not None:
            given = expr.conditional(when, given, _channels(otherwise or inputs[0]))
        path = _path(statement, scope)
        output: _Slot
        if primitive.gives == "many":
            assert statement.result is not None
            output = _List(channels[0], given, statement.result.name)
            scope.values[statement.result.name] = output
            scope.current = _Symbol(given)
        else:
            output = self.output(statement, given, scope)

        source = inputs[0]
        nonnegative = isinstance(source, _Symbol) and source.nonnegative
        if isinstance(output, _Symbol) and when is None:
            output.nonnegative = primitive.nonnegative or (
                nonnegative and primitive.name in ("max_pool", "avg_pool")
            )

        def make(values: tuple[Value, ...], result: Value) -> OperationLine:
            return OperationLine(
                primitive,
                attributes,
                path,
                values,
                channels,
                result,
                when,
                _value(otherwise) if otherwise is not None else None,
                nonnegative=nonnegative,
                named=statement.name is not None,
            )

        scope.drafts.append(
            _Draft("operation", inputs, output, make, when, otherwise, group=primitive.group)
        )

    def attributes(
        self, primitive: Primitive, statement: Statement, choice: Choice | None, scope: _Scope
    ) -> dict[str, Expr | Initializer]:
        binding = dict(choice.arguments) if choice is not None else {}
        defaults = self.network.defaults.get(primitive.name, {})
        given = link.attributes(primitive, statement.arguments, binding, defaults)
        values: dict[str, Any] = {}
        for attribute in sorted(primitive.attributes, key=lambda a: isinstance(a.default, str)):
            values[attribute.name] = _attribute(attribute, given[attribute.name], values, scope)
        return {attribute.name: values[attribute.name] for attribute in primitive.attributes}

    # - calls -

    def call(
        self,
        statement: Statement,
        choice: Choice | None,
        inputs: tuple[_Slot, ...],
        when: Expr | None,
        scope: _Scope,
    ) -> None:
        found = [steps for steps in scope.steps.get(id(statement), []) if steps]
        child = found[0][0].node
        assert isinstance(child, Instance)
        routine = self.routine(child)
        block = child.definition
        binding = dict(choice.arguments) if choice is not None else {}
        sources = link.arguments(block, statement.arguments)
        defaults = self.network.defaults.get(block.name, {})
        path = _path(statement, scope)
        names: Path | None = None
        if statement.repeat is not None:
            own = {**scope.names, "i": Name("i", True)}
            names = _pattern(statement.names, own) if statement.names else (Name("i", True),)
        source_of = {
            name: sources.values.get(name) or binding.get(name) or defaults.get(name)
            or argument.default
            for name, argument in block.arguments.items()
        }
        calls = _Calls(routine, block, source_of, statement, scope, found)
        runs, channels = calls.runs(_channels(inputs[0]))
        given = _constant_output([steps[-1] for steps in found]) or channels
        otherwise = _otherwise(statement, when, scope)
        if when is not None:
            given = expr.conditional(when, given, _channels(otherwise or inputs[0]))
        output = self.output(statement, given, scope)

        def make(values: tuple[Value, ...], result: Value) -> CallLine:
            passing = _value(otherwise) if otherwise is not None else None
            return CallLine(routine, runs, path, names, values, result, when, passing)

        scope.drafts.append(_Draft("call", inputs, output, make, when, otherwise, group="call"))

    # - the network -

    def program(self) -> Program:
        network, root = self.network, self.network.root
        names: dict[str, Expr] = {
            "classes": Name("num_classes", True),
            "in_channels": Name("in_channels", True),
        }
        locals_ = _locals(root.definition.lets, names, [root])
        first = _Symbol(names["in_channels"], "x")
        scope = _scope(names, first, [root], root.choices)
        stages = {id(stage.statement): stage for stage in network.stages}
        body = list(root.definition.body)
        ends = [n for n, s in enumerate(body) if id(s) in stages]
        last_stage = ends[-1] if ends else -1
        _check_last_stage(network)
        for statement in body[: last_stage + 1]:
            self.statements([statement], scope)
            stage = stages.get(id(statement))
            if stage is not None:
                scope.values[stage.name] = scope.current
                if stage.feature:
                    self.feature(stage.name, scope)
        split, boundary = len(scope.drafts), scope.current
        self.statements(body[last_stage + 1 :], scope)
        self.check_head(scope.drafts[split:], boundary, first)
        boundary.readers += 1
        result = scope.current
        stem_and_stages = {id(draft) for draft in scope.drafts[:split]}
        _drop_unused(scope, [result, boundary])
        split = sum(id(draft) in stem_and_stages for draft in scope.drafts)
        reserved = {*names, "num_classes", *(n for n, _ in locals_)}
        _assign_variables(scope, first, result, reserved)
        first_lines = _lines(scope.drafts[:split])
        lines = (*first_lines, *_lines(scope.drafts[split:]))
        split = len(first_lines)
        kept, lines, _ = _inline(locals_, lines, result.channels)
        used = _used(lines, kept)
        return Program(
            network=network,
            routines=tuple(self.routines.values()),
            parameters=tuple(
                Parameter(name, "int", value)
                for name, value in (
                    ("num_classes", network.classes),
                    ("in_channels", network.input.channels),
                )
                if name in used
            ),
            locals=kept,
            body=lines[:split],
            features=Value(boundary.variable),
            head=lines[split:],
            result=Value(result.variable),
        )

    def feature(self, name: str, scope: _Scope) -> None:
        current = scope.current
        current.readers += 1  # it is handed out, so nothing may change it in place

        def make(inputs: tuple[Value, ...], output: Any) -> FeatureLine:
            return FeatureLine(name, inputs[0])

        scope.drafts.append(_Draft("feature", (current,), None, make))

    def check_head(self, drafts: list[_Draft], boundary: _Symbol, first: _Symbol) -> None:
        made = {id(draft.output) for draft in _flat_drafts(drafts)} | {id(boundary)}
        for draft in _flat_drafts(drafts):
            for each in filter(None, (*draft.inputs, draft.otherwise)):
                root = each.list if isinstance(each, _Element) else each
                if id(root) not in made and id(each) not in made:
                    fail(
                        "RS502",
                        "the head can only use the output of the last stage",
                        self.network.root.definition.span,
                        help="move the layer that joins earlier values into a stage's block",
                    )


# --- small steps ---------------------------------------------------------------------------------


def _check_last_stage(network: Network) -> None:
    """The head begins at the feature map of the last stage."""
    if not network.stages[-1].feature:
        fail(
            "RS502",
            f"the last stage, {quoted(network.stages[-1].name)}, must give a feature map",
            network.stages[-1].statement.span,
            help="leave 'feature: false' out",
        )


def _variant(instance: Instance) -> Any:
    choices = tuple((name, choice.key) for name, choice in sorted(instance.choices.items()))
    return id(instance.definition), choices


def _scope(
    names: dict[str, Expr], first: _Symbol, instances: list[Instance], choices: Any
) -> _Scope:
    steps: dict[int, list[list[Step]]] = {}
    for number, instance in enumerate(instances):
        for step in instance.steps:
            lists = steps.setdefault(id(step.statement), [[] for _ in instances])
            lists[number].append(step)
    automatic = _automatic_names(instances[0].definition.body, steps)
    return _Scope(names, {"x": first}, first, [], instances, steps, automatic, choices)


def _automatic_names(
    body: Iterable[Statement | Loop], steps: Mapping[int, list[list[Step]]]
) -> dict[int, str]:
    """A name of its own for each unnamed statement that runs in some instance."""
    statements = [each for each in _flat_statements(body) if id(each[0]) in steps]
    taken = {statement.name.text for statement, _ in statements if statement.name is not None}
    found: dict[int, str] = {}
    for statement, counters in statements:
        if statement.name is None:
            name, number = statement.target, 1
            while name + counters in taken:
                number += 1
                name = f"{statement.target}{number}"
            taken.add(name + counters)
            found[id(statement)] = name
    return found


def _flat_statements(
    body: Iterable[Statement | Loop], counters: str = ""
) -> Iterator[tuple[Statement, str]]:
    """Each statement with the counters of the loops around it, as they end its name."""
    for statement in body:
        if isinstance(statement, Loop):
            yield from _flat_statements(statement.body, f"{counters}.{{{statement.variable}}}")
        else:
            yield statement, counters


def _common(name: str, instances: list[Instance]) -> Const | None:
    """The value that a name has in every instance, if it is one and surely stays one."""
    values = [instance.scope[name] for instance in instances]
    first = values[0]
    same = all(v.value == first.value and type(v.value) is type(first.value) for v in values)
    return Const(first.value) if same and not any(v.open for v in values) else None


def _locals(
    lets: Mapping[str, Expression], names: dict[str, Expr], instances: list[Instance]
) -> list[tuple[str, Expr]]:
    """Adds each `let` to the names: as a constant, as another name, or as a local value."""
    kept = []
    for name, expression in lets.items():
        value = expr.substitute(expression.expr, names)
        if not isinstance(value, Const | Name):
            value = _common(name, instances) or value
        if isinstance(value, Const | Name):
            names[name] = value
        else:
            kept.append((name, value))
            integral = all(type(instance.scope[name].value) is int for instance in instances)
            names[name] = Name(name, integral)
    return kept


def _simplified(expression: Expression, scope: _Scope) -> Expr:
    """An expression over the routine's names; a constant where it is one in every instance."""
    value = expr.substitute(expression.expr, scope.names)
    if isinstance(value, Const) or any(v in expression.names for v, _ in scope.loops):
        return value
    if any(name not in i.scope for i in scope.instances for name in expression.names):
        return value
    results = {
        expr.evaluate(expression.expr, {n: i.scope[n].value for n in expression.names})
        for i in scope.instances
    }
    is_open = any(i.scope[n].open for i in scope.instances for n in expression.names)
    return Const(results.pop()) if len(results) == 1 and not is_open else value


def _condition(statement: Statement, scope: _Scope, ran: bool) -> Expr | bool | None:
    """None: the statement always runs; False: never; else the condition."""
    if statement.when is None:
        return None if ran or not scope.loops else False
    value = _simplified(statement.when, scope)
    if isinstance(value, Const):
        return None if value.value else False
    return value if ran else False


def _resolve(reference: Reference, scope: _Scope) -> _Slot:
    value = scope.values[reference.name] if reference.name in scope.values else None
    if value is None:
        # Bound in a later line of the same loop; it has a value whenever this line runs.
        value = scope.values[reference.name] = _Symbol(Const(0), reference.name)
        scope.rebound.add(reference.name)
    if isinstance(value, _Symbol):
        return value
    if reference.index is None:
        return _Element(value, None, value.each)
    return _Element(value, expr.substitute(reference.index.expr, scope.names), value.each)


def _otherwise(statement: Statement, when: Expr | None, scope: _Scope) -> _Slot | None:
    """What passes instead of the input where a condition does not hold."""
    if when is None or statement.otherwise is None:
        return None
    return _resolve(statement.otherwise, scope)


def _channels(value: _Slot) -> Expr:
    return value.total if isinstance(value, _List) else value.channels


def _is_identity(target: Primitive | Statement) -> bool:
    return isinstance(target, Primitive) and target.name == "identity"


def _wanted(statement: Statement) -> str | None:
    reference = statement.result
    return reference.name if reference is not None and reference.index is None else None


def _input_channels(symbolic: tuple[Expr, ...], steps: list[Step]) -> tuple[Expr, ...]:
    """The channels of each input: constants where the instances agree."""
    operations = [step.node for step in steps if isinstance(step.node, Operation)]
    if any(len(operation.inputs) != len(symbolic) for operation in operations):
        return symbolic  # a list among the inputs
    result = []
    for number, value in enumerate(symbolic):
        shapes = {(o.inputs[number].channels, o.inputs[number].open) for o in operations}
        constant = len(shapes) == 1 and not next(iter(shapes))[1]
        result.append(Const(next(iter(shapes))[0]) if constant else value)
    return tuple(result)


def _constant_output(steps: list[Step]) -> Const | None:
    shapes = {(step.node.output.channels, step.node.output.open) for step in steps}
    if len(shapes) == 1:
        channels, is_open = next(iter(shapes))
        return None if is_open else Const(channels)
    return None


def _attribute(
    attribute: Attribute, given: link.Given | None, values: Mapping[str, Any], scope: _Scope
) -> Expr | Initializer:
    if isinstance(given, Expression):
        value: Expr | Initializer = expr.substitute(given.expr, scope.names)
    elif isinstance(given, Bound):
        value = Const(given.value)
    elif given is not None:
        value = given
    elif isinstance(attribute.default, str):
        value = expr.substitute(link.default_expression(attribute.default), values)
    elif isinstance(attribute.default, Initializer):
        value = attribute.default
    else:
        assert attribute.default is not None
        value = Const(attribute.default)
    if attribute.type == "float" and isinstance(value, Const):
        return Const(float(value.value))
    return value


def _pattern(pattern: Pattern, names: Mapping[str, Expr]) -> Path:
    parts: list[str | Expr] = []
    for part in pattern.parts:
        value: str | Expr = part if isinstance(part, str) else expr.substitute(part.expr, names)
        if isinstance(value, Const):
            value = str(value.value)
        if isinstance(value, str) and parts and isinstance(parts[-1], str):
            parts[-1] += value
        else:
            parts.append(value)
    return tuple(parts)


def _path(statement: Statement, scope: _Scope) -> Path:
    """The layer's name; without one of its own, the statement's with the counters around it."""
    if statement.name is not None:
        return _pattern(statement.name, scope.names)
    parts: list[str | Expr] = [scope.automatic[id(statement)]]
    for variable, _ in scope.loops:
        parts += [".", Name(variable, True)]
    if len(parts) > 1:
        parts[0:2] = [f"{parts[0]}."]
    return tuple(parts)


def _copied(source: _Slot, name: str | None, scope: _Scope) -> _Symbol:
    """A new variable with the value of another."""
    copy = _Symbol(_channels(source), name)
    scope.drafts.append(_Draft("assign", (source,), copy, AssignLine))
    return copy


def _assigned(body: Iterable[Statement | Loop]) -> Iterator[str]:
    """The names that `as` gives within a loop, elements of lists aside."""
    for statement in body:
        if isinstance(statement, Loop):
            yield from _assigned(statement.body)
        elif statement.result is not None and statement.result.index is None:
            yield statement.result.name


def _reads_current(body: Iterable[Statement | Loop]) -> bool:
    for statement in body:
        if isinstance(statement, Loop):
            return _reads_current(statement.body)
        return not statement.inputs
    return False


# --- repeated blocks -----------------------------------------------------------------------------


@dataclass
class _Calls:
    """The uses of a block by one statement, as runs."""

    routine: Routine
    block: Definition
    sources: Mapping[str, Any]
    statement: Statement
    scope: _Scope
    found: list[list[Step]]  # for each instance that runs the statement, its steps

    def runs(self, channels: Expr) -> tuple[tuple[Run, ...], Expr]:
        """The runs and the channels of the last output."""
        repeat = self.statement.repeat
        count = _simplified(repeat, self.scope) if repeat is not None else Const(1)
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
            source = self.sources[parameter.name]
            if argument.first_only and index:
                source = argument.default
            values.append(_argument(source, index, names, argument.type))
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
    offset = expr.binary("+", base, Const(low - step * start)) if base != Const(0) else Const(
        low - step * start
    )
    return expr.binary("+", offset, grown)


def _argument(source: Any, index: int, names: Mapping[str, Expr], kind: str) -> Expr:
    if isinstance(source, tuple) and not isinstance(source, Bound):
        source = source[index]
    if isinstance(source, Expression):
        value = expr.substitute(source.expr, names)
    else:
        assert isinstance(source, Bound)
        value = Const(source.value)
    if kind == "float" and isinstance(value, Const):
        return Const(float(value.value))
    return value


# --- variables -----------------------------------------------------------------------------------


def _flat_drafts(drafts: Iterable[_Draft]) -> Iterator[_Draft]:
    for draft in drafts:
        yield draft
        yield from _flat_drafts(draft.body)


def _root(value: _Slot | None) -> _Symbol | _List | None:
    return value.list if isinstance(value, _Element) else value


def _assign_variables(
    scope: _Scope, first: _Symbol, result: _Symbol, reserved: set[str]
) -> None:
    """Gives every value a variable, as a person would: the name of what it is on its way to."""
    drafts, rebound = scope.drafts, scope.rebound
    order = list(_flat_drafts(drafts))
    for index, draft in enumerate(order):
        draft.index = index
    _count_readers(drafts, len(order))
    result.last = len(order)
    result.readers += 1  # it is given back, so nothing may change it in place
    first.variable = "x"
    reader = {id(s): d for d in order for s in d.inputs[:1] if isinstance(s, _Symbol)}
    holder: dict[str, _Symbol] = {"x": first}
    for draft in order:
        output = draft.output
        if not isinstance(output, _Symbol):
            continue
        wanted = _wanted_variable(output, reader, first)
        for name in _candidates(wanted, reserved):
            held = holder.get(name)
            if held is None or held.last <= draft.index or output.follows is held:
                break
            if output.wanted is not None and output.wanted in rebound:
                break  # one variable through all turns of a loop
        output.variable = name
        holder[name] = output


def _count_readers(drafts: list[_Draft], length: int) -> None:
    def visit(body: list[_Draft], loop_end: int | None, outside: set[int]) -> None:
        for draft in body:
            for value in (*draft.inputs, draft.otherwise):
                if isinstance(value, _Symbol):
                    value.readers += 1
                    # A value from outside a loop is needed until the loop's last line.
                    is_outer = loop_end is not None and id(value) in outside
                    value.last = max(value.last, loop_end or 0 if is_outer else draft.index)
            if draft.body:
                end = max(inner.index for inner in _flat_drafts(draft.body))
                made = {id(inner.output) for inner in _flat_drafts(draft.body)}
                everything = {
                    id(v) for d in _flat_drafts(draft.body) for v in (*d.inputs, d.otherwise)
                }
                visit(draft.body, end, everything - made)

    visit(drafts, None, set())


def _wanted_variable(symbol: _Symbol, reader: Mapping[int, _Draft], first: _Symbol) -> str:
    """`as`, else the name of what the value becomes through the lines that read it first."""
    seen = 0
    while symbol.wanted is None and seen < 64:
        if symbol.follows is not None:
            # Without a variable yet, this is the value on its way into the loop.
            return symbol.follows.variable or "x"
        draft = reader.get(id(symbol))
        if symbol.readers != 1 or draft is None or not isinstance(draft.output, _Symbol):
            break
        symbol, seen = draft.output, seen + 1
    return symbol.wanted or "x"


def _candidates(wanted: str, reserved: set[str]) -> Iterator[str]:
    if wanted in reserved:
        wanted += "_"
    yield wanted
    if wanted == "x":
        wanted = "out" if "out" not in reserved else "y"
        yield wanted
    for number in range(2, 1000):
        yield f"{wanted}_{number}"


def _value(slot: _Slot) -> Value:
    if isinstance(slot, _Symbol):
        return Value(slot.variable or slot.wanted or "x")
    if isinstance(slot, _List):
        return Value(slot.name, whole=True)
    return Value(slot.list.name, slot.index, whole=slot.index is None)


def _lines(drafts: list[_Draft]) -> tuple[Line, ...]:
    lines = []
    fresh = _changeable(drafts)
    for draft in drafts:
        output = _value(draft.output) if draft.output is not None else Value("")
        line = draft.make(tuple(_value(each) for each in draft.inputs), output)
        if isinstance(line, OperationLine) and id(draft) in fresh:
            line = line._replace(inplace=True)
        if not _says_nothing(line):
            lines.append(line)
    return tuple(lines)


def _says_nothing(line: Line) -> bool:
    """A value assigned to its own variable, or a loop of nothing else."""
    match line:
        case AssignLine(inputs, output):
            return inputs == (output,)
        case LoopLine():
            return not line.body
    return False


def _drop_unused(scope: _Scope, results: list[_Symbol]) -> None:
    """Drops lines whose value no other line needs, which a branch that is never taken leaves."""
    while True:
        drafts = list(_flat_drafts(scope.drafts))
        needed = {id(each) for each in results}
        for draft in drafts:
            needed |= {id(_root(each)) for each in (*draft.inputs, draft.otherwise)}
        kept = [draft for draft in scope.drafts if not _is_unused(draft, needed, scope)]
        if len(kept) == len(scope.drafts):
            return
        scope.drafts = kept


def _is_unused(draft: _Draft, needed: set[int], scope: _Scope) -> bool:
    output = draft.output
    if draft.kind not in ("operation", "assign") or not isinstance(output, _Symbol | _List):
        return False
    if isinstance(output, _Symbol) and output.wanted in scope.rebound:
        return False  # a loop may need it under its name
    return id(output) not in needed


def _check_used(instance: Instance, results: Iterable[int]) -> None:
    """RS502 for a layer with parameters whose output nothing uses; Keras would leave it out."""
    needed = set(results)
    for step in reversed(instance.steps):
        if needed.isdisjoint(step.outputs):
            node = step.node
            owned = node.parameters if isinstance(node, Instance) else len(node.parameters)
            if owned:
                fail(
                    "RS502",
                    f"{quoted(instance.definition.name)}: nothing uses the output of "
                    f"{quoted(step.name)}, which has parameters",
                    step.statement.span,
                    help="use it, or leave the layer out with 'when'",
                )
        else:
            needed.update(step.inputs)


def _changeable(drafts: list[_Draft]) -> set[int]:
    """Activations whose input nobody else reads and whose producer does not keep its output."""
    keeps_nothing = ("weights", "norm", "merge")
    made = {
        id(draft.output)
        for draft in drafts
        if draft.kind == "operation" and draft.group in keeps_nothing and draft.when is None
    }
    return {
        id(draft)
        for draft in drafts
        if draft.group == "activation"
        and isinstance(draft.inputs[0], _Symbol)
        and draft.inputs[0].readers == 1
        and id(draft.inputs[0]) in made
    }


# --- finishing a routine -------------------------------------------------------------------------


def line_expressions(line: Line) -> Iterator[Expr]:
    """Every expression of a line, those within a loop included."""
    match line:
        case OperationLine():
            yield from (v for v in line.attributes.values() if isinstance(v, Expr))
            yield from line.channels
        case CallLine():
            for run in line.runs:
                yield from (run.start, run.count, *(value for _, value in run.arguments))
        case LoopLine():
            yield line.count
            for inner in line.body:
                yield from line_expressions(inner)
    if isinstance(line, OperationLine | CallLine):
        yield from (part for part in line.path if isinstance(part, Expr))
        if line.when is not None:
            yield line.when
    if isinstance(line, OperationLine | CallLine | AssignLine):
        passing = () if isinstance(line, AssignLine) else (line.otherwise,)
        for value in (*line.inputs, line.output, *passing):
            if value is not None and value.index is not None:
                yield value.index


def used_expressions(line: Line) -> Iterator[Expr]:
    """The expressions that some backend prints: an operation's input channels only with weights."""
    for inner in flat([line]):
        if isinstance(inner, OperationLine) and inner.primitive.group not in ("weights", "norm"):
            yield from line_expressions(inner._replace(channels=()))
        elif not isinstance(inner, LoopLine):
            yield from line_expressions(inner)
        else:
            yield inner.count


def _used(body: Iterable[Line], locals_: Iterable[tuple[str, Expr]]) -> set[str]:
    found: set[str] = set()
    for line in body:
        for each in used_expressions(line):
            found |= expr.names(each)
    for _, value in locals_:
        found |= expr.names(value)
    return found


def _parameters(
    block: Definition, names: Mapping[str, Expr], used: set[str]
) -> tuple[Parameter, ...]:
    """The arguments that vary and are used, those with a default last."""
    parameters = []
    for name in ("in_channels", *block.arguments):
        if (names[name] != Name(name) and not isinstance(names[name], Name)) or name not in used:
            continue
        argument = block.arguments.get(name)
        default = argument.default if argument is not None else None
        literal = None
        if default is not None and isinstance(default.expr, Const):
            literal = default.expr.value
            if argument is not None and argument.type == "float":
                literal = float(literal)
        parameters.append(Parameter(name, argument.type if argument else "int", literal))
    return tuple(sorted(parameters, key=lambda p: p.default is not None))


def _expanded(locals_: Iterable[tuple[str, Expr]]) -> Iterator[tuple[str, Expr]]:
    known: dict[str, Expr] = {}
    for name, value in locals_:
        known[name] = expr.substitute(value, known)
        yield name, known[name]


def _inline(
    locals_: list[tuple[str, Expr]], body: tuple[Line, ...], channels: Expr
) -> tuple[tuple[tuple[str, Expr], ...], tuple[Line, ...], Expr]:
    """Local values that are used once go where they are used; unused ones go away."""
    changed = True
    while changed:
        changed = False
        for number, (name, value) in enumerate(locals_):
            uses = sum(
                sum(isinstance(n, Name) and n.name == name for n in expr.walk(each))
                for line in body
                for each in used_expressions(line)
            ) + sum(
                sum(isinstance(n, Name) and n.name == name for n in expr.walk(other))
                for _, other in locals_
            )
            if uses <= 1:
                names = {name: value}
                rest = locals_[:number] + locals_[number + 1 :]
                locals_ = [(n, expr.substitute(v, names)) for n, v in rest]
                body = tuple(_substituted(line, names) for line in body)
                channels = expr.substitute(channels, names)
                changed = True
                break
    return tuple(locals_), body, channels


def _substituted(line: Line, names: Mapping[str, Expr]) -> Line:
    def new(value: Any) -> Any:
        match value:
            case Expr():
                return expr.substitute(value, names)
            case Value(_, index) if index is not None:
                return value._replace(index=expr.substitute(index, names))
            case Run():
                arguments = tuple((p, new(v)) for p, v in value.arguments)
                return Run(new(value.start), new(value.count), arguments)
            case Value():
                return value
            case tuple() if type(value) is tuple:
                return tuple(new(each) for each in value)
            case dict():
                return {key: new(each) for key, each in value.items()}
        return value

    if isinstance(line, LoopLine):
        body = tuple(_substituted(inner, names) for inner in line.body)
        return LoopLine(line.variable, new(line.count), body)
    if isinstance(line, FeatureLine):
        return line
    if isinstance(line, AssignLine):
        return AssignLine(new(line.inputs), new(line.output))
    changes: dict[str, Any] = {
        "path": new(line.path),
        "inputs": new(line.inputs),
        "output": new(line.output),
        "when": new(line.when),
        "otherwise": new(line.otherwise),
    }
    if isinstance(line, OperationLine):
        return line._replace(
            **changes, attributes=new(dict(line.attributes)), channels=new(line.channels)
        )
    return line._replace(**changes, runs=new(line.runs))


def _is_chain(body: tuple[Line, ...]) -> bool:
    """A sequence of operations, each on the output of the one before, with numbers for names."""
    named = [line for line in body if isinstance(line, OperationLine) and line.named]
    return bool(named) and all(
        isinstance(line, OperationLine)
        and line.primitive.takes == "one"
        and line.primitive.gives == "one"
        and line.output == Value("x") == line.inputs[0]
        and len(line.path) == 1
        and (not line.named or str(line.path[0]).isdigit())
        for line in body
    )


def _snake(class_name: str, block: Definition) -> str:
    """The function's name: the block's, with the suffix that its class got."""
    suffix = class_name.removeprefix(block.class_name)
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in suffix)
    return block.name + (words if not words or words.startswith("_") else f"_{words}")


