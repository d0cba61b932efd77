"""The network: its defaults, its stem, its stages and its head."""

from __future__ import annotations

from resnet_spec.diagnostics import Report, SpecError
from resnet_spec.ir import Instance, Network, Published, Stage
from resnet_spec.ir.origins import Trail
from resnet_spec.language import bind, identifiers
from resnet_spec.language.blocks import read_lets
from resnet_spec.language.load import Loaded, digest, resolved
from resnet_spec.language.name_resolution import TooLarge, Unknown, repetitions
from resnet_spec.language.nodes import plain
from resnet_spec.language.syntax import Bound, Definition, Expression, Statement
from resnet_spec.lower.arguments import Evaluator
from resnet_spec.lower.frame import Frame
from resnet_spec.lower.runs import Inputs
from resnet_spec.lower.walk import Walk
from resnet_spec.primitives import Shape


def lower(loaded: Loaded, with_digest: bool = True) -> Network:
    """The network of a spec; raises `SpecError` with all errors in it and in its blocks.

    A network that is not compiled needs no digest, a sixth of the time for a variant.
    """
    return _Lowering(loaded, with_digest).network()


class _Lowering:
    """Lowers one network."""

    def __init__(self, loaded: Loaded, with_digest: bool = True) -> None:
        self.loaded, self.with_digest = loaded, with_digest
        self.report = Report(loaded.report.diagnostics)
        self.scope = {
            "classes": Bound(loaded.model.classes, True),
            "in_channels": Bound(loaded.model.input.channels, True),
        }
        trail = Trail(loaded.node.get("defaults"))
        self.evaluator = Evaluator(loaded.blocks, self.scope, trail)
        self.walk = Walk(self.evaluator, self.report)

    def network(self) -> Network:
        """Run everything, then put the network together."""
        given = self.loaded.model.input
        source = Shape(given.channels, given.height, given.width, open=True)
        lets = read_lets(self.loaded.node.get("let"), self.report)
        self.walk.evaluate_lets(lets, self.scope)
        body = (*self.loaded.stem, *self.loaded.stages, *self.loaded.head)
        frame = Frame(dict(self.scope), self.evaluator.roles, [source], body)
        stages, head = self.run(frame)
        self.report.raise_if_any()
        return self.assembled(self.root(lets, frame), stages, head)

    def run(self, frame: Frame) -> tuple[list[Stage], int]:
        """The stages, and the number of the head's first step."""
        stages, head = [], 0
        try:
            self.evaluator.read_defaults(self.loaded.node.get("defaults"), self.report)
            before = len(self.loaded.stem)
            self.walk.run(self.loaded.stem, frame)
            stages = self.run_stages(frame, before)
            head = len(frame.steps)
            self.walk.run(self.loaded.head, frame, before + len(self.loaded.stages))
        except TooLarge as error:
            self.report.add(
                "RS305",
                f"the network is too large: more than {error.what}",
                error.span,
                "lower 'repeat' or 'count'",
            )
        return stages, head

    def root(self, lets: dict[str, Expression], frame: Frame) -> Instance:
        """The network as the only instance of its own block."""
        loaded, model = self.loaded, self.loaded.model
        block = Definition(
            name=model.name,
            class_name=model.class_name or identifiers.class_name(model.name),
            description=model.description,
            source=model.source,
            arguments={},
            slots={},
            lets=lets,
            body=tuple(frame.body),
            span=loaded.node.span,
            node=loaded.node,
        )
        last = self.walk.last(frame, block)
        return Instance(
            block,
            self.evaluator.roles,
            frame.scope,
            frame.shape(0),
            frame.shape(last.number),
            tuple(frame.steps),
            last.number,
            tuple(frame.events),
            last.read,
        )

    def assembled(self, root: Instance, stages: list[Stage], head: int) -> Network:
        loaded, model = self.loaded, self.loaded.model
        return Network(
            name=model.name,
            class_name=root.definition.class_name,
            description=model.description,
            source=model.source,
            family=model.family,
            input=root.input,
            classes=model.classes,
            root=root,
            stages=tuple(stages),
            head=head,
            defaults=self.evaluator.defaults,
            path=loaded.path,
            digest=self.digest() if self.with_digest else "",
            references=tuple(
                Published(each.library or "", each.model, each.rename or {})
                for each in model.references or ()
            ),
            inherited=loaded.inherited,
            numerics=model.numerics,
            overridden=loaded.overridden,
            recipe=loaded.recipe,
        )

    def digest(self) -> str:
        """Of the spec as it is resolved, and of the blocks that it uses."""
        used = sorted(self.evaluator.used_blocks.items())
        said = resolved(self.loaded)
        said.pop("training", None)  # it changes how the network is trained, not the network
        return digest([said, {name: plain(block.node) for name, block in used}])

    # - stages -

    def run_stages(self, frame: Frame, first: int) -> list[Stage]:
        """The stages, the first of which is at the position `first` of the network's body."""
        counts = [self.stage_count(stage, frame) for stage in self.loaded.stages]
        stages = []
        for number, statement in enumerate(self.loaded.stages):
            frame.key = (first + number,)
            before, source = len(frame.steps), frame.current
            try:
                self.run_stage(statement, frame, (sum(counts[:number]), sum(counts)))
            except SpecError as error:
                self.walk.take(error)
                self.walk.poison(statement, frame)
            except Unknown:
                self.walk.poison(statement, frame)
            assert frame.current is not None
            name = statement.name.text if statement.name else statement.target
            if statement.result is None:
                frame.values[name] = frame.current
            given = frame.shapes[source.number] if source is not None else None
            output = frame.shapes[frame.current.number]
            if given is not None and output is not None:
                steps = tuple(range(before, len(frame.steps)))
                result, feature = frame.current.number, statement.feature
                stages.append(Stage(name, steps, statement, given, output, result, feature))
        frame.key = ()
        return stages

    def stage_count(self, statement: Statement, frame: Frame) -> int:
        try:
            if statement.repeat is None:
                return 1
            return repetitions(statement.repeat, frame.scope, "repeat")
        except (SpecError, Unknown):
            return 1  # reported when the stage is run

    def run_stage(self, statement: Statement, frame: Frame, position: tuple[int, int]) -> None:
        if statement.kind == "broken":
            raise Unknown
        when = self.walk.condition(statement, frame)
        if not when.value:
            self.walk.pass_through(statement, frame, when.open)
            return
        passing = self.walk.passing(statement, frame).read if when.open else None
        numbers, reads = self.walk.inputs(statement, frame)
        block = self.evaluator.block(statement.target, statement.span)
        if frame.shapes[numbers[0]] is None:
            # An earlier mistake hides the shapes; the block itself is looked at all the same.
            bind.arguments(block, statement.arguments)
            raise Unknown
        inputs = Inputs(numbers, reads, passing)
        self.walk.run_call(statement, block, None, frame, inputs, position)
