"""The immutable graph of a network, with a source span on every node.

A definition (`language.syntax`) is a block as written. An **instance** is one use of it with
numbers: operations with shapes and parameters. Equal instances are one object, so a network of a
thousand equal blocks stays small.

An instance also keeps one event for each run of a statement: its inputs, whether it ran, and the
expression that each number came from. Specialisation works from these events alone and never reads
a statement again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from resnet_spec.diagnostics import Span
from resnet_spec.expressions import Number
from resnet_spec.language.syntax import (
    Bound,
    Definition,
    Expression,
    Loop,
    Published,
    Recipe,
    Source,
    Statement,
)
from resnet_spec.primitives import Initializer, Parameter, Primitive, Shape


class Operation(NamedTuple):
    """A primitive with numbers."""

    primitive: Primitive
    attributes: Mapping[str, Number | Initializer | str]
    inputs: tuple[Shape, ...]
    output: Shape
    parameters: tuple[Parameter, ...]
    macs: int


class Step(NamedTuple):
    """One operation or block within an instance; values are numbered, 0 is the input."""

    name: str  # relative to the instance, dotted
    node: "Operation | Instance"
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    statement: Statement
    # Of each attribute or argument, what gave its number.
    sources: "Mapping[str, Source]" = {}  # noqa: RUF012 - a tuple, not a class attribute


# Where a statement ran: its position in the body, or position, turn, position, turn, …, position
# for one within loops.
Key = tuple[int, ...]


class Read(NamedTuple):
    """What a statement read: a value, one element of a list, or all of a list.

    `source` is the key of the event that produced the value or began the list; () is the input.
    """

    kind: Literal["value", "element", "list"]
    source: Key = ()
    place: int = 0  # of the element
    expression: Expression | None = None  # of its place


INPUT = Read("value")


class Event(NamedTuple):
    """One run of a statement by an instance.

    `reads` are its inputs if it `ran`; `passing` is its value if it does not run (given if it did
    not, or if that can depend on an argument of the generated model).
    """

    key: Key
    statement: Statement
    ran: bool
    reads: tuple[Read, ...]
    passing: Read | None
    shape: Shape  # of its value, whether it ran or not; of a split: of each part
    steps: tuple[Step, ...] = ()  # one, or as many as `repeat` says
    appends: Read | None = None  # the element that its value becomes
    gives_list: bool = False
    open: bool = False  # whether it runs may depend on an argument of the generated model
    place: tuple[int, int] | None = None  # of a stage's first block among all, and their number


class LoopEvent(NamedTuple):
    """One run of a loop by an instance, with the number of its turns; their events follow."""

    key: Key
    statement: Loop
    turns: int
    previous: Read | None  # the output of the statement before it; None: that is a list


@dataclass(eq=False)
class Instance:
    """One use of a definition: its arguments as numbers, and its operations and blocks.

    `scope` has every name with its value, `choices` how each slot was filled, `events` what its
    statements did, in order, and `last` its output.
    """

    definition: Definition
    choices: "Mapping[str, Choice]"
    scope: Mapping[str, Bound]
    input: Shape
    output: Shape
    steps: tuple[Step, ...]
    result: int
    events: tuple[Event | LoopEvent, ...] = ()
    last: Read = INPUT

    @cached_property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(_trainable(step.node) for step in self.steps)

    @cached_property
    def statistics(self) -> int:
        """Number of values that training updates without a gradient: running statistics."""
        return sum(_statistics(step.node) for step in self.steps)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers, for one sample of the input size."""
        return sum(step.node.macs for step in self.steps)

    @cached_property
    def size(self) -> int:
        """Number of operations, those of nested blocks included."""
        return sum(1 if isinstance(s.node, Operation) else s.node.size for s in self.steps)


Node = Operation | Instance


def _trainable(node: Node) -> int:
    if isinstance(node, Instance):
        return node.parameters
    return sum(parameter.size for parameter in node.parameters if parameter.trainable)


def _statistics(node: Node) -> int:
    if isinstance(node, Instance):
        return node.statistics
    return sum(parameter.size for parameter in node.parameters if not parameter.trainable)


class Choice(NamedTuple):
    """A filled slot: a primitive or a block (with its own slots filled), or nothing."""

    target: Primitive | Definition | None
    arguments: tuple[tuple[str, Bound | Initializer | str], ...] = ()
    choices: "tuple[tuple[str, Choice], ...]" = ()
    label: str = ""

    @property
    def is_open(self) -> bool:
        """Whether a number in it depends on an argument of the generated model."""
        numbers = (value for _, value in self.arguments if isinstance(value, Bound))
        return any(n.open for n in numbers) or any(c.is_open for _, c in self.choices)

    @property
    def key(self) -> Any:
        """Equal for choices that lower to the same thing."""
        target = self.target
        identity = target.name if isinstance(target, Primitive) else id(target)
        return (identity, self.arguments, tuple((name, c.key) for name, c in self.choices))


class Stage(NamedTuple):
    """A named section of the network; its output is one of the network's feature maps."""

    name: str
    steps: tuple[int, ...]  # indices of the root's steps
    statement: Statement
    input: Shape
    output: Shape
    result: int  # the root's value that is its output
    feature: bool = True


class Network(NamedTuple):
    """A whole network: metadata, the root instance, and which of its steps are stages.

    Compared by identity.
    """

    name: str
    class_name: str
    description: str
    source: str | None
    family: str | None
    input: Shape
    classes: int
    root: Instance
    stages: tuple[Stage, ...]
    head: int  # index of the root's first step that belongs to the head
    defaults: Mapping[str, Mapping[str, Bound | Initializer | str]]  # of primitives and of blocks
    path: str  # of the spec, as it is shown
    digest: str  # of everything that the spec says of the network, the blocks included
    references: tuple[Published, ...] = ()
    # Those of the specs that it extends, whose names its own may still have.
    inherited: tuple[Published, ...] = ()
    numerics: Literal["idiomatic", "exact"] = "idiomatic"
    overridden: tuple[str, ...] = ()  # every `--set key=value`
    recipe: Recipe | None = None  # of training

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def is_flat(self) -> bool:
        """Whether no layer of the network itself stands below a dotted name, or in a loop."""
        return not any(
            isinstance(each, Loop) or (each.name is not None and "." in each.name.text)
            for each in self.root.definition.body
        )

    def operations(self) -> Iterator[tuple[str, Operation]]:
        """Every operation with its dotted name as in PyTorch, in the order in which they run."""
        return walk(self.root)

    def places(self) -> Iterator[tuple[str, Operation, Span]]:
        """The same, with where the spec or a block says so."""
        return (
            (name, operation, step.statement.span) for name, step, operation in _walk(self.root)
        )


def walk(instance: Instance) -> Iterator[tuple[str, Operation]]:
    """Every operation of an instance, nested blocks included, in the order in which they run.

    Each comes with its dotted name relative to the instance, such as `layer1.0.conv1`.
    """
    return ((name, operation) for name, _, operation in _walk(instance))


def _walk(instance: Instance, prefix: str = "") -> Iterator[tuple[str, Step, Operation]]:
    for step in instance.steps:
        name = f"{prefix}{step.name}"
        if isinstance(step.node, Operation):
            yield name, step, step.node
        else:
            yield from _walk(step.node, f"{name}.")
