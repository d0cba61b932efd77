"""A network as a program: a routine for each variant of each block, and its own lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from resnet_spec import expressions
from resnet_spec.diagnostics import INTERNAL, Diagnostic, Report, Span, SpecError, Use, fail, quoted
from resnet_spec.expressions import Const, Expr, Name
from resnet_spec.ir import Event, Instance, Network, Step, feature_maps
from resnet_spec.language.syntax import Definition
from resnet_spec.specialize.cleanup import (
    expanded_locals,
    inline_locals,
    is_chain,
    parameters_of,
    snake_case,
    used_names,
)
from resnet_spec.specialize.drafts import (
    Draft,
    Symbol,
    channels_of,
    flat_drafts,
    read_by,
    root_of,
)
from resnet_spec.specialize.numbers import Numbers, common_value, read_locals
from resnet_spec.specialize.program import (
    FeatureInfo,
    FeatureLine,
    LeftOutLine,
    Line,
    OperationLine,
    Parameter,
    Program,
    Routine,
    Value,
    where_it_runs,
)
from resnet_spec.specialize.replay import differences
from resnet_spec.specialize.routines import Builder
from resnet_spec.specialize.turns import Position, loops_around
from resnet_spec.specialize.variables import assign_variables, drop_unused, finished_lines
from resnet_spec.specialize.wiring import Unfit


def specialize(network: Network) -> Program:
    """The program of a network, checked against it; raises `SpecError` (RS305, RS502, RS504)."""
    try:
        program = _Specialization(network).program()
    except expressions.ExpressionError as error:
        fail(
            "RS305",
            f"{network.name}: {error.message}",
            network.root.definition.span,
            help="use fewer values that are computed from one another",
        )
    prove(program)
    return program


def prove(program: Program) -> None:
    """Run a program with its network's numbers; RS504 if it does anything else."""
    found = differences(program, program.network)
    if found:
        raise SpecError(
            Diagnostic(INTERNAL, f"{_INTERNAL} {each.text}", each.span, _REPORT) for each in found
        )


_INTERNAL = "internal error: the code would not match this network, so none was written:"
_REPORT = "this is a bug in resnet-spec, not in your spec: please report it with the spec"


class _Specialization:
    """Builds the routines of one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.variants: dict[Any, list[Instance]] = {}
        self.routines: dict[int, Routine] = {}  # of each instance
        self.order: list[Routine] = []
        self.taken: set[str] = set()
        report = Report()
        report.extend(SpecError(_unused(network.root, [network.root.result])))
        self.collect(network.root, set(), (), report)
        report.raise_if_any()

    def collect(
        self, instance: Instance, seen: set[int], uses: tuple[Use, ...], report: Report
    ) -> None:
        for step in instance.steps:
            node = step.node
            if isinstance(node, Instance) and id(node) not in seen:
                seen.add(id(node))
                self.variants.setdefault(_variant(node), []).append(node)
                block = Use(f"block {node.definition.name}", node.definition.span)
                inner = (*uses, Use(step.name, step.statement.span), block)
                report.extend(SpecError(_unused(node, [node.result])), inner)
                self.collect(node, seen, inner, report)

    # - routines -

    def routine(self, instance: Instance) -> Routine:
        """The routine of which an instance is a use."""
        if id(instance) not in self.routines:
            self.build(self.variants[_variant(instance)])
        return self.routines[id(instance)]

    def build(self, instances: list[Instance]) -> None:
        """One routine for all instances, or one for each kind of wiring among them."""
        try:
            self.add(instances)
        except Unfit:
            alike: dict[Any, list[Instance]] = {}
            for instance in instances:
                alike.setdefault(self.wiring_of(instance), []).append(instance)
            if len(alike) == 1:
                self.add_written_out(instances)
                return
            for each in alike.values():
                self.build(each)

    def add_written_out(self, instances: list[Instance]) -> None:
        """Add the routine of instances of one wiring with no loop left, or one for each of them."""
        try:
            self.add(instances, EVERY_LOOP)
        except Unfit as error:
            if len(instances) == 1:
                _refuse(instances[0].definition, error)
            for each in instances:
                self.build([each])

    def wiring_of(self, instance: Instance) -> Any:
        """A key, equal for instances with the same steps in the same order; numbers don't count."""
        return tuple(
            (
                each.key,
                each.ran,
                tuple((read.kind, read.source, read.place) for read in each.reads),
                each.passing and each.passing[:3],
                tuple(id(self.routine(s.node)) for s in each.steps if isinstance(s.node, Instance)),
                tuple(map(_selected, each.steps)),
            )
            if isinstance(each, Event)
            else (each.key, each.turns)
            for each in instance.events
        )

    def add(self, instances: list[Instance], unrolled: Collection[Position] = ()) -> None:
        """Add the one routine of these instances; raises `Unfit`."""
        routine = self.attempt(instances, unrolled)
        self.order.append(routine)
        self.routines.update((id(instance), routine) for instance in instances)

    def attempt(self, instances: list[Instance], unrolled: Collection[Position]) -> Routine:
        """Their routine, with the fewest loops written out that lets all runs be lines of one."""
        block = instances[0].definition
        while True:
            names: dict[str, Expr] = {}
            for name in ("in_channels", *block.arguments):
                argument = block.arguments.get(name)
                integral = argument is None or argument.type == "int"
                names[name] = common_value(name, instances) or Name(name, integral)
            locals_ = read_locals(block.lets, names, instances)
            try:
                builder = Builder(instances, Numbers(names, instances), unrolled, self.routine)
                builder.build(builder.nodes)
                loop = builder.some_loop()
                if loop is not None and not _tells_channels(builder, instances):
                    raise Unfit("gives channels that no expression gives", loop)
                return self.finished(block, instances, names, locals_, builder)
            except Unfit as error:
                unrolled = _more_unrolled(error, unrolled)

    def finished(
        self,
        block: Definition,
        instances: list[Instance],
        names: dict[str, Expr],
        locals_: list[tuple[str, Expr]],
        builder: Builder,
    ) -> Routine:
        result = builder.result
        drafts = drop_unused(builder.drafts, [result])
        reserved = {*names, *(name for name, _ in locals_), *builder.counters}
        assign_variables(drafts, builder.input, result, reserved)
        body = (*_left_out(builder), *finished_lines(drafts))
        kept, body, channels = inline_locals(locals_, body, result.channels)
        body = tuple(map(where_it_runs, body))
        used = used_names(body, kept)
        if channels is not None:
            channels = expressions.substitute(channels, dict(expanded_locals(locals_)))
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
            channels=channels,
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

    # - the network -

    def program(self) -> Program:
        """The program, with as few loops of stem and head written out as will do."""
        _check_last_stage(self.network)
        unrolled: Collection[Position] = ()
        while True:
            try:
                return self.attempt_program(unrolled)
            except Unfit as error:
                if unrolled is EVERY_LOOP:
                    _refuse(self.network.root.definition, error)
                try:
                    unrolled = _more_unrolled(error, unrolled)
                except Unfit:
                    unrolled = EVERY_LOOP

    def attempt_program(self, unrolled: Collection[Position]) -> Program:
        network, root = self.network, self.network.root
        names: dict[str, Expr] = {
            "classes": Name("num_classes", True),
            "in_channels": Name("in_channels", True),
        }
        locals_ = read_locals(root.definition.lets, names, [root])
        builder = Builder([root], Numbers(names, [root]), unrolled, self.routine)
        before = sum(node.position < self.first_of_head() for node in builder.nodes)
        boundary = self.stages(builder, before)
        first_drafts, builder.drafts = builder.drafts, []
        required = _left_out(builder)
        builder.build(builder.nodes[before:])
        result = builder.result
        self.check_head(builder.drafts, boundary)
        split = {id(draft) for draft in first_drafts}
        boundary.readers += 1
        drafts = drop_unused([*first_drafts, *builder.drafts], [result, boundary])
        reserved = {*names, "num_classes", *(n for n, _ in locals_), *builder.counters}
        assign_variables(drafts, builder.input, result, reserved)
        first_lines = (*required, *finished_lines([d for d in drafts if id(d) in split]))
        head_lines = finished_lines([d for d in drafts if id(d) not in split])
        lines = (*first_lines, *_left_out(builder), *head_lines)
        if network.is_flat:
            lines = tuple(map(_as_child, lines))
        info = _feature_info(network, builder, dict(expanded_locals(locals_)))
        kept, lines, _ = inline_locals(locals_, lines, None)
        used = used_names(lines, kept)
        used = used.union(*(expressions.names(each.channels) for each in info))
        return Program(
            network=network,
            routines=tuple(self.order),
            parameters=tuple(
                Parameter(name, "int", value)
                for name, value in (
                    ("num_classes", network.classes),
                    ("in_channels", network.input.channels),
                )
                if name in used
            ),
            locals=kept,
            body=lines[: len(first_lines)],
            features=Value(boundary.variable),
            head=lines[len(first_lines) :],
            result=Value(result.variable),
            feature_info=info,
        )

    def first_of_head(self) -> Position:
        """The position behind the last stage."""
        last = self.network.stages[-1].statement
        body = self.network.root.definition.body
        return (next(n for n, each in enumerate(body) if each is last) + 1,)

    def stages(self, builder: Builder, before: int) -> Symbol:
        """Build stem and stages; the value that the head begins at."""
        stages = {id(stage.statement): stage for stage in self.network.stages}
        boundary = builder.input
        for node in builder.nodes[:before]:
            builder.build([node])
            stage = stages.get(id(node.statement))
            if stage is not None:
                boundary = builder.symbols[node.position]
                if stage.feature:
                    builder.drafts.append(_feature(stage.name, boundary))
        return boundary

    def check_head(self, drafts: Sequence[Draft], boundary: Symbol) -> None:
        """RS502 for a head that reads anything but the last feature map."""
        made = {id(root_of(draft.output)) for draft in flat_drafts(drafts)} | {id(boundary)}
        for draft in flat_drafts(drafts):
            for each in read_by(draft):
                if id(root_of(each)) not in made:
                    fail(
                        "RS502",
                        "the head can only use the output of the last stage",
                        draft.span,
                        help="move the layer that joins earlier values into a stage's block",
                    )


def _feature_info(
    network: Network, builder: Builder, locals_: Mapping[str, Expr]
) -> tuple[FeatureInfo, ...]:
    """The network's feature maps, except those whose channels vary and that no expression gives."""
    told = {
        id(node.statement): channels_of(builder.symbols[node.position])
        for node in builder.nodes
        if node.position in builder.symbols
    }
    found = []
    for each in feature_maps(network):
        channels: Expr | None = Const(each.shape.channels)
        if each.shape.open:
            channels = told.get(id(each.statement))
        if channels is not None:
            channels = expressions.substitute(channels, locals_)
            found.append(FeatureInfo(*each[:3], channels, each.stride))
    return tuple(found)


def _feature(name: str, value: Symbol) -> Draft:
    return Draft("feature", (value,), None, lambda inputs, _: FeatureLine(name, inputs[0]))


def _left_out(builder: Builder) -> list[LeftOutLine]:
    """What was left out since this was last asked, the layers of one condition together."""
    noted, builder.left_out = builder.left_out, {}
    return [LeftOutLine(tuple(layers), when) for when, layers in noted.items()]


class _Everything(Collection[Position]):
    """Holds every position: all loops are written out."""

    def __contains__(self, position: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Position]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _tells_channels(builder: Builder, instances: Sequence[Instance]) -> bool:
    """Whether an expression gives the channels of the result, where these may vary."""
    outputs = [instance.output for instance in instances]
    if not any(each.open for each in outputs):
        return True
    told, scopes = builder.result.channels, builder.numbers.scopes
    try:
        return told is not None and all(
            expressions.evaluate(told, scope) == each.channels
            for scope, each in zip(scopes, outputs, strict=True)
        )
    except (KeyError, expressions.ExpressionError):
        return False


EVERY_LOOP = _Everything()
MANY_LOOPS = 8  # written out one by one; each of them is an attempt of its own


def _selected(step: Step) -> tuple[bool, ...]:
    """What decides which layer or function an operation is."""
    if isinstance(step.node, Instance):
        return ()
    values, attributes = step.node.attributes, step.node.primitive.attributes
    return tuple(bool(values[each.name]) for each in attributes if each.selects)


def _more_unrolled(error: Unfit, unrolled: Collection[Position]) -> Collection[Position]:
    """With the next loop that can be unrolled, or all of them; raises the error if none is left."""
    if error.loop is not None and unrolled is not EVERY_LOOP:
        for loop in (error.loop, *loops_around(error.loop)):
            if loop not in unrolled:
                return EVERY_LOOP if len(unrolled) >= MANY_LOOPS else {*unrolled, loop}
    raise error


def _refuse(block: Definition, error: Unfit) -> NoReturn:
    """RS504 for a block that can't be written as a routine, even with all loops unrolled."""
    fail(INTERNAL, f"{_INTERNAL} {block.name}: {error}", block.span, _REPORT)


def _check_last_stage(network: Network) -> None:
    """The head begins at the feature map of the last stage."""
    if not network.stages[-1].feature:
        fail(
            "RS502",
            f"the last stage, {quoted(network.stages[-1].name)}, must give a feature map",
            network.stages[-1].statement.span,
            help="leave 'feature: false' out",
        )


def _as_child(line: Line) -> Line:
    """A line of the network itself, whose children can be called in a row."""
    return line._replace(child=True) if isinstance(line, OperationLine) else line


def _variant(instance: Instance) -> Any:
    choices = tuple((name, choice.key) for name, choice in sorted(instance.choices.items()))
    return id(instance.definition), choices


def _unused(instance: Instance, results: Iterable[int]) -> list[Diagnostic]:
    """RS502 for layers with parameters whose output nothing uses; Keras would leave them out."""
    needed = set(results)
    found: dict[Span, list[str]] = {}
    for step in reversed(instance.steps):
        if not needed.isdisjoint(step.outputs):
            needed.update(step.inputs)
        elif step.node.parameters:
            found.setdefault(step.statement.span, []).insert(0, step.name)
    return [
        Diagnostic(
            "RS502",
            f"{quoted(instance.definition.name)}: nothing uses the output of "
            f"{', '.join(map(quoted, names))}, which {'has' if len(names) == 1 else 'have'} "
            "parameters",
            span,
            "use it, or leave the layer out with 'when'",
        )
        for span, names in found.items()
    ]
