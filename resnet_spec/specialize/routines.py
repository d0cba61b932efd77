"""Each block definition specialised to the instances that a network has of it."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from resnet_spec import expr, link
from resnet_spec.diagnostics import fail, quoted
from resnet_spec.expr import Const, Expr, Name
from resnet_spec.ir import (
    Choice,
    Definition,
    Instance,
    Loop,
    Network,
    Statement,
    Step,
)
from resnet_spec.ops import Initializer, Primitive
from resnet_spec.specialize.calls import Calls
from resnet_spec.specialize.draft import (
    Draft,
    Element,
    List,
    Scope,
    Slot,
    Symbol,
    assigned_names,
    channels_of,
    copied,
    flat_drafts,
    new_scope,
    otherwise_of,
    reads_current,
    resolve,
    wanted_name,
)
from resnet_spec.specialize.finish import (
    expanded_locals,
    inline_locals,
    is_chain,
    parameters_of,
    snake_case,
    used_names,
)
from resnet_spec.specialize.program import (
    AssignLine,
    CallLine,
    FeatureLine,
    LoopLine,
    OperationLine,
    Parameter,
    Path,
    Program,
    Routine,
    Value,
)
from resnet_spec.specialize.symbolic import (
    attribute_of,
    common_value,
    condition_of,
    constant_output,
    filled_pattern,
    input_channels,
    is_identity,
    path_of,
    read_locals,
    simplified,
)
from resnet_spec.specialize.variables import assign_variables, drop_unused, finished_lines, value_of


def specialize(network: Network) -> Program:
    """The program of a network; raises `SpecError` (RS305, RS502, RS503)."""
    try:
        return _Specialization(network).program()
    except expr.ExpressionError as error:
        fail(
            "RS305",
            f"{network.name}: {error.message}",
            network.root.definition.span,
            help="let a block compute less from values that are computed from one another",
        )


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
            names[name] = common_value(name, instances) or Name(name, integral)
        locals_ = read_locals(block.lets, names, instances)
        first = Symbol(names["in_channels"], "x")
        scope = new_scope(names, first, instances, instances[0].choices)
        self.statements(block.body, scope)
        result = scope.current
        drop_unused(scope, [result])
        assign_variables(scope, first, result, {*names, *(n for n, _ in locals_)})
        body = finished_lines(scope.drafts)
        kept, body, channels = inline_locals(locals_, body, result.channels)
        used = used_names(body, kept)
        class_name = self.unique(block, instances[0])
        return Routine(
            name=snake_case(class_name, block),
            class_name=class_name,
            description=block.description,
            source=block.source,
            parameters=parameters_of(block, names, used),
            locals=kept,
            body=body,
            result=Value(result.variable),
            channels=expr.substitute(channels, dict(expanded_locals(locals_))),
            is_chain=is_chain(body),
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

    def statements(self, body: Iterable[Statement | Loop], scope: Scope) -> None:
        for statement in body:
            if isinstance(statement, Loop):
                self.loop(statement, scope)
            else:
                self.statement(statement, scope)

    def loop(self, loop: Loop, scope: Scope) -> None:
        count = simplified(loop.count, scope)
        if count == Const(0):
            return
        entry = scope.current
        if reads_current(loop.body):
            # The running value changes in the loop, so it needs a variable of its own.
            entry = scope.current = copied(entry, None, scope)
        for name in assigned_names(loop.body):
            bound = scope.values.get(name)
            if isinstance(bound, Symbol) and bound.wanted != name:
                scope.values[name] = copied(bound, name, scope)
            elif isinstance(bound, Symbol):
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
        if scope.current is not entry and reads_current(loop.body):
            scope.current.follows = entry

        def make(inputs: Any, output: Any) -> LoopLine:
            return LoopLine(loop.variable, count, finished_lines(inner))

        scope.drafts.append(Draft("loop", (), None, make, body=inner))

    def statement(self, statement: Statement, scope: Scope) -> None:
        inputs = self.inputs(statement, scope)
        steps = scope.steps.get(id(statement), [])
        when = condition_of(statement, scope, any(steps))
        target, choice = self.target(statement, scope)
        if when is False and statement.otherwise is not None:
            self.alias(statement, resolve(statement.otherwise, scope), scope)
        elif when is False or target is None or (when is None and is_identity(target)):
            self.alias(statement, inputs[0], scope)
        elif isinstance(target, Primitive):
            self.operation(statement, target, choice, inputs, when, scope)
        else:
            self.call(statement, choice, inputs, when, scope)

    def inputs(self, statement: Statement, scope: Scope) -> tuple[Slot, ...]:
        if not statement.inputs:
            return (scope.current,)
        return tuple(resolve(reference, scope) for reference in statement.inputs)

    def target(
        self, statement: Statement, scope: Scope
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

    def alias(self, statement: Statement, source: Slot, scope: Scope) -> None:
        """A statement that does nothing gives its input another name at most."""
        reference = statement.result
        if reference is not None and (
            reference.index is not None or reference.name in scope.rebound or scope.loops
        ):
            self.bind_copy(statement, source, scope)
            return
        if not isinstance(source, Symbol):
            source = copied(source, wanted_name(statement), scope)
        if reference is not None:
            scope.values[reference.name] = source
            if source.wanted is None and source is not scope.values["x"]:
                source.wanted = reference.name
        scope.current = source

    def bind_copy(self, statement: Statement, source: Slot, scope: Scope) -> None:
        output = self.output(statement, channels_of(source), scope)
        scope.drafts.append(Draft("assign", (source,), output, AssignLine))
        if isinstance(output, Element) and isinstance(source, Symbol):
            scope.current = source

    def output(self, statement: Statement, channels: Expr, scope: Scope) -> Slot:
        """The value that a statement gives, bound to its name."""
        reference = statement.result
        if reference is None:
            scope.current = Symbol(channels)
            return scope.current
        if reference.index is None:
            symbol = Symbol(channels, reference.name)
            scope.values[reference.name] = scope.current = symbol
            if scope.loops:
                scope.rebound.add(reference.name)
            return symbol
        index = expr.substitute(reference.index.expr, scope.names)
        times: Expr = Const(1)
        for _, count in scope.loops:
            times = times * count
        found = scope.values.get(reference.name)
        if not isinstance(found, List):
            found = List(Const(0), channels, reference.name)
            # The empty list stands before the outermost loop.
            drafts = scope.outermost if scope.loops else scope.drafts
            drafts.append(Draft("assign", (), found, AssignLine))
            scope.values[reference.name] = found
        found.total, found.each = found.total + channels * times, channels
        scope.current = Symbol(channels)
        return Element(found, index, channels)

    def operation(
        self,
        statement: Statement,
        primitive: Primitive,
        choice: Choice | None,
        inputs: tuple[Slot, ...],
        when: Expr | None,
        scope: Scope,
    ) -> None:
        attributes = self.attributes(primitive, statement, choice, scope)
        _check_turns(statement, scope)
        steps = [step for each in scope.steps.get(id(statement), []) for step in each]
        numbers = SimpleNamespace(**attributes)
        # A list gives all of its channels to a concat, those of one element to others.
        channels = tuple(
            value.list.total
            if primitive.joins and isinstance(value, Element) and value.index is None
            else channels_of(value)
            for value in inputs
        )
        constant = None
        if when is None:
            # Numbers of the instances that run it say nothing of the others.
            channels, constant = input_channels(channels, steps), constant_output(steps)
        given = constant or expr.wrap(primitive.channels(numbers, channels))
        otherwise = otherwise_of(statement, when, scope)
        if when is not None:
            given = expr.conditional(when, given, channels_of(otherwise or inputs[0]))
        path = path_of(statement, scope)
        output: Slot
        if primitive.gives == "many":
            _check_always(statement, when)
            assert statement.result is not None
            output = List(channels[0], given, statement.result.name)
            scope.values[statement.result.name] = output
            scope.current = Symbol(given)
        else:
            output = self.output(statement, given, scope)

        source = inputs[0]
        nonnegative = isinstance(source, Symbol) and source.nonnegative
        if isinstance(output, Symbol) and when is None:
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
                value_of(otherwise) if otherwise is not None else None,
                nonnegative=nonnegative,
                named=statement.name is not None,
                span=statement.span,
            )

        scope.drafts.append(
            Draft(
                "operation",
                inputs,
                output,
                make,
                when,
                otherwise,
                group=primitive.group,
                span=statement.span,
            )
        )

    def attributes(
        self, primitive: Primitive, statement: Statement, choice: Choice | None, scope: Scope
    ) -> dict[str, Expr | Initializer | str]:
        binding = dict(choice.arguments) if choice is not None else {}
        defaults = self.network.defaults.get(primitive.name, {})
        given = link.attributes(primitive, statement.arguments, binding, defaults)
        values: dict[str, Any] = {}
        for attribute in sorted(primitive.attributes, key=lambda a: isinstance(a.default, str)):
            values[attribute.name] = attribute_of(attribute, given[attribute.name], values, scope)
        return {attribute.name: values[attribute.name] for attribute in primitive.attributes}

    # - calls -

    def call(
        self,
        statement: Statement,
        choice: Choice | None,
        inputs: tuple[Slot, ...],
        when: Expr | None,
        scope: Scope,
    ) -> None:
        found = [steps for steps in scope.steps.get(id(statement), []) if steps]
        child = found[0][0].node
        assert isinstance(child, Instance)
        _check_turns(statement, scope)
        routine = self.routine(child)
        block = child.definition
        binding = dict(choice.arguments) if choice is not None else {}
        sources = link.arguments(block, statement.arguments)
        defaults = self.network.defaults.get(block.name, {})
        path = path_of(statement, scope)
        names: Path | None = None
        if statement.repeat is not None:
            own = {**scope.names, "i": Name("i", True)}
            names = filled_pattern(statement.names, own) if statement.names else (Name("i", True),)
        source_of = {
            name: sources.values.get(name)
            or binding.get(name)
            or defaults.get(name)
            or argument.default
            for name, argument in block.arguments.items()
        }
        calls = Calls(routine, block, source_of, statement, scope, found)
        runs, channels = calls.runs(channels_of(inputs[0]))
        given = constant_output([steps[-1] for steps in found]) or channels
        otherwise = otherwise_of(statement, when, scope)
        if when is not None:
            given = expr.conditional(when, given, channels_of(otherwise or inputs[0]))
        output = self.output(statement, given, scope)

        def make(values: tuple[Value, ...], result: Value) -> CallLine:
            passing = value_of(otherwise) if otherwise is not None else None
            return CallLine(
                routine, runs, path, names, values, result, when, passing, statement.span
            )

        scope.drafts.append(
            Draft("call", inputs, output, make, when, otherwise, group="call", span=statement.span)
        )

    # - the network -

    def program(self) -> Program:
        network, root = self.network, self.network.root
        names: dict[str, Expr] = {
            "classes": Name("num_classes", True),
            "in_channels": Name("in_channels", True),
        }
        locals_ = read_locals(root.definition.lets, names, [root])
        first = Symbol(names["in_channels"], "x")
        scope = new_scope(names, first, [root], root.choices)
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
        drop_unused(scope, [result, boundary])
        split = sum(id(draft) in stem_and_stages for draft in scope.drafts)
        reserved = {*names, "num_classes", *(n for n, _ in locals_)}
        assign_variables(scope, first, result, reserved)
        first_lines = finished_lines(scope.drafts[:split])
        lines = (*first_lines, *finished_lines(scope.drafts[split:]))
        split = len(first_lines)
        kept, lines, _ = inline_locals(locals_, lines, result.channels)
        used = used_names(lines, kept)
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

    def feature(self, name: str, scope: Scope) -> None:
        current = scope.current
        current.readers += 1  # it is handed out, so nothing may change it in place

        def make(inputs: tuple[Value, ...], output: Any) -> FeatureLine:
            return FeatureLine(name, inputs[0])

        scope.drafts.append(Draft("feature", (current,), None, make))

    def check_head(self, drafts: list[Draft], boundary: Symbol, first: Symbol) -> None:
        made = {id(draft.output) for draft in flat_drafts(drafts)} | {id(boundary)}
        for draft in flat_drafts(drafts):
            for each in filter(None, (*draft.inputs, draft.otherwise)):
                root = each.list if isinstance(each, Element) else each
                if id(root) not in made and id(each) not in made:
                    fail(
                        "RS502",
                        "the head can only use the output of the last stage",
                        draft.span,
                        help="move the layer that joins earlier values into a stage's block",
                    )


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


def _check_turns(statement: Statement, scope: Scope) -> None:
    """RS502 for a layer that has another number of input channels in each turn of a loop."""
    if not scope.loops:
        return
    for steps in scope.steps.get(id(statement), []):
        if len({_sizing_channels(step) for step in steps}) > 1:
            fail(
                "RS502",
                f"{quoted(statement.target)} has other input channels in later turns of the loop",
                statement.span,
                help="put the first turn before the loop, or repeat a block instead",
            )


def _sizing_channels(step: Step) -> int | None:
    """The input channels that a layer's parameters are made for."""
    node = step.node
    if isinstance(node, Instance):
        return node.input.channels
    return node.inputs[0].channels if node.primitive.is_sized_by_input else None


def _check_always(statement: Statement, when: Expr | None) -> None:
    """RS502 for a list that only some uses of a block have."""
    if when is not None:
        fail(
            "RS502",
            f"{quoted(statement.target)} runs in some uses of this block and not in others, so its "
            "result would be a list in some and one value in others",
            statement.span,
            help="give all uses within a network alike what 'when' depends on",
        )


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
