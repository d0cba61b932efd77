"""Calls of Keras' layers written as nodes in ONNX's words, one layer at a time.

A value stands as Keras has it, so that axes mean what they mean there; what works on maps turns
them to channels first and back, which costs nothing: the frontend sees through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.readers.keras.options import Options
from resnet_spec.importing.readers.keras.topology import Layer, Step
from resnet_spec.importing.readers.keras.variables import Variables
from resnet_spec.importing.readers.model import Node

Array = Any
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class Written:
    """The nodes and constants of a model so far; `ranks` has the number of axes of each value."""

    def __init__(self, variables: Variables, version: int) -> None:
        self.variables, self.version = variables, version  # the first number of Keras'
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.parameters: dict[str, str] = {}
        self.ranks: dict[str, int] = {}
        self.unscaled: list[str] = []  # norms without a scale or a centre
        self.always_last = False  # no layer has channels first, or turns axes


class Value(NamedTuple):
    """A value of the images by its name, with the number of its axes."""

    name: str
    rank: int


class Call:
    """One call of a layer, as the rules of layers see it."""

    def __init__(self, written: Written, step: Step) -> None:
        self.written, self.step = written, step
        self.layer: Layer = step.layer
        self.options: Options = step.layer.options
        self.inputs = [Value(each, written.ranks[each]) for each in step.inputs]
        self._count = 0

    @property
    def value(self) -> Value:
        """The one value that it takes."""
        if len(self.inputs) != 1:
            raise Unsupported(f"it takes {len(self.inputs)} values, not one")
        return self.inputs[0]

    def map(self) -> Value:
        """The one map that it takes."""
        value = self.value
        if value.rank != 4:
            raise Unsupported(f"it takes a value of {value.rank} axes, not a map")
        return value

    # --- nodes -----------------------------------------------------------------------------------

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        rank: int,
        part: str | None = "",
        **attributes: Any,
    ) -> Value:
        """A node that stands for the layer, or for a `part` of it; None for none of its own."""
        output = f"{self.step.output}.{self._count}"
        self._count += 1
        dotted = self.layer.dotted
        name = "" if part is None else f"{dotted}.{part}" if part else dotted
        made = Node(kind, name, self.layer.shown, tuple(inputs), (output,), attributes)
        self.written.nodes.append(made)
        return Value(output, rank)

    def constant(self, name: str, value: Array, is_parameter: bool = False) -> str:
        """A constant of the layer under a name of its own."""
        full = f"{self.layer.name}:{name}"
        self.written.constants[full] = value
        if is_parameter:
            self.written.parameters[full] = f"{self.layer.name.replace('/', '.')}.{name}"
        return full

    def turned(self, value: Value, order: Sequence[int]) -> Value:
        return self.node("Transpose", [value.name], value.rank, None, perm=list(order))

    def is_first(self) -> bool:
        """Whether the layer takes maps whose channels stand first."""
        known = ("channels_last", "channels_first")
        return self.options.word("data_format", "channels_last", *known) == "channels_first"

    def first(self, value: Value, is_first: bool) -> Value:
        """A map with its channels first."""
        return value if is_first else self.turned(value, TO_FIRST)

    def back(self, value: Value, is_first: bool) -> Value:
        """A map with its channels first as the layer gives it."""
        return value if is_first else self.turned(value, TO_LAST)

    # --- variables -------------------------------------------------------------------------------

    def variables(self, *names: str) -> list[Array]:
        """The weights of the layer, in the order in which Keras makes them."""
        return self.written.variables.of(self.layer, names)

    def shaped(self, value: Array, shape: Sequence[int | None], name: str) -> Array:
        """A variable of the shape that the configuration asks for; None is any size."""
        fits = value.ndim == len(shape) and all(
            asked in (None, size) for asked, size in zip(shape, value.shape, strict=True)
        )
        if not fits:
            asked = "x".join("?" if each is None else str(each) for each in shape)
            given = "x".join(map(str, value.shape)) or "one number"
            raise Unsupported(f"its {name} has {given} values; its configuration asks for {asked}")
        if not np.issubdtype(value.dtype, np.floating):
            raise Unsupported(f"its {name} is of the type {value.dtype}: quantised models")
        return value
