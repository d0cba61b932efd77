"""The flat graph of operations that both sides come to: the model's, and that of a lowered spec.

Operations are primitives, values are numbers, and every value is a map: a vector stands as a map
of one row and one column, so that a fully connected layer and a 1x1 convolution on it can be told
to be one. Which of them are vectors the normal form says (`normal_form`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from resnet_spec.primitives import PRIMITIVES, Shape

Value = int
Attributes = dict[str, Any]

# What evaluation does not depend on: how parameters begin, how statistics move.
_TRAINING = ("momentum",)
# Begins the kind of a value times what an activation makes of it, such as a hard swish: no
# primitive, but one operation wherever blocks are told apart.
GATED = "gated by "
# What keeps its input as it is in evaluation.
PASSING = frozenset({"identity", "dropout", "drop_path"})


@dataclass(eq=False)
class Op:
    """One operation; `parameters` are the model's values, or the shapes that a spec asks for.

    `name` is the dotted name of its layer as far as the source tells it, `place` how messages name
    it. A convolution that its norm was joined to keeps both in `parts`. `sources` has what the
    model's checkpoints call its parameters, `norm` what they call the norm that was folded into it.
    `adaptive` is the size of the map that a pooling gives, where its window follows from that.
    """

    kind: str
    attributes: Attributes
    inputs: list[Value]
    outputs: list[Value]
    parameters: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    place: str = ""
    parts: tuple[Op, ...] = ()
    whole: Op | None = None  # of half a convolution and norm: both
    sources: dict[str, str] = field(default_factory=dict)
    norm: str = ""
    adaptive: int = 0

    @property
    def output(self) -> Value:
        """Its value; of a split the first part."""
        return self.outputs[0]

    def copy(self, **changes: Any) -> Op:
        """The same operation with its own lists, and changes."""
        made = Op(
            self.kind,
            dict(self.attributes),
            list(self.inputs),
            list(self.outputs),
            self.parameters,
            self.name,
            self.place,
            self.parts,
            self.whole,
            self.sources,
            self.norm,
            self.adaptive,
        )
        for key, value in changes.items():
            setattr(made, key, value)
        return made


class Dropout(NamedTuple):
    """What a model does to a value in training alone; `name` and `place` as those of operations."""

    rate: float
    name: str
    place: str


@dataclass(eq=False)
class Graph:
    """Operations in an order in which they run, from one value to another.

    `dropouts` has the values some of whose numbers training drops, which no operation stands for;
    `one_sided` the places where a padding of fixed rows is TensorFlow's rule for this size alone,
    `covering` by kind those of poolings whose window is all of the map for this size.
    """

    ops: list[Op]
    input: Value
    output: Value
    shapes: dict[Value, Shape]
    dropouts: dict[Value, Dropout] = field(default_factory=dict)
    one_sided: list[str] = field(default_factory=list)
    covering: dict[str, list[str]] = field(default_factory=dict)

    def producers(self) -> dict[Value, Op]:
        """By each value, the operation that gives it."""
        return {value: op for op in self.ops for value in op.outputs}

    def users(self) -> dict[Value, list[Op]]:
        """By each value, the operations that take it."""
        found: dict[Value, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.inputs):
                found.setdefault(value, []).append(op)
        return found

    def norms(self) -> list[Op]:
        """Its norms, also those joined to convolutions, but for one that images pass first.

        That one normalises images: it says nothing of the norms behind convolutions.
        """
        parts = (part for op in self.ops for part in op.parts or (op,))
        found = [part for part in parts if part.kind.endswith("_norm")]
        return [part for part in found if part.inputs != [self.input]]

    def new_value(self, shape: Shape) -> Value:
        """A value that no operation has yet."""
        value = max(self.shapes) + 1
        self.shapes[value] = shape
        return value

    def replaced(self, values: Mapping[Value, Value]) -> None:
        """Let everything that takes a value take another one instead."""

        def last(value: Value) -> Value:
            while value in values:
                value = values[value]
            return value

        for op in self.ops:
            op.inputs = [last(value) for value in op.inputs]
        self.output = last(self.output)
        self.dropouts = {last(value): each for value, each in self.dropouts.items()}

    def sort(self) -> None:
        """Order by what feeds what, and leave out what nothing takes."""
        makers = self.producers()
        order: list[Op] = []
        done: set[int] = set()
        waiting: list[tuple[Value, bool]] = [(self.output, False)]
        while waiting:
            value, fed = waiting.pop()
            op = makers.get(value)
            if op is None or id(op) in done:
                continue
            if fed:
                done.add(id(op))
                order.append(op)
                continue
            waiting.append((value, True))
            waiting.extend((each, False) for each in reversed(op.inputs))
        self.ops = order


def is_point(shape: Shape) -> bool:
    """Whether a value has one row and one column, so may stand for a vector."""
    return (shape.height, shape.width) == (1, 1)


def takes_any(kind: str) -> bool:
    """Whether an operation takes maps and vectors alike."""
    return kind.startswith(GATED) or PRIMITIVES[kind].needs == "any"


def as_map(shape: Shape) -> Shape:
    """A vector as a map of one row and one column; nothing is open."""
    return Shape(shape.channels, shape.height or 1, shape.width or 1)


@functools.cache
def significant(kind: str) -> tuple[str, ...]:
    """The attributes of a primitive that evaluation depends on."""
    attributes = PRIMITIVES[kind].attributes if kind in PRIMITIVES else ()
    return tuple(a.name for a in attributes if a.type != "init" and a.name not in _TRAINING)


def completed(kind: str, attributes: Mapping[str, Any]) -> Attributes:
    """Attributes with the plain defaults of their primitive."""
    found = {
        each.name: each.default
        for each in PRIMITIVES[kind].attributes
        if each.type != "init" and each.default is not None and not isinstance(each.default, str)
    }
    return {**found, **attributes}


def inferred(kind: str, attributes: Attributes, inputs: Iterable[Shape]) -> Shape:
    """The shape of an operation's output, as a map; raises `ShapeError`."""
    primitive, given = PRIMITIVES[kind], list(inputs)
    if primitive.needs == "vector":
        given = [Shape(each.channels) for each in given]
    return as_map(primitive.infer(SimpleNamespace(**attributes), given))
