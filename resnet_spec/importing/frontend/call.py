"""One node of a model with what it takes, as the rules of operators see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.frontend.builder import Builder
from resnet_spec.importing.frontend.views import View
from resnet_spec.importing.graph import Graph, Value
from resnet_spec.importing.readers.model import Node
from resnet_spec.primitives import Shape

Array = Any


@dataclass
class Known:
    """What is known of a model's names: values of the images, lists of these, and constants."""

    builder: Builder
    values: dict[str, View]
    lists: dict[str, list[View]]
    constants: dict[str, Array]
    parameters: dict[str, str]
    learned: set[str]  # the constants that training moves, or that follow from such
    tells_learned: bool = True  # else these are all that have names
    turned: list[tuple[Array, Array]] = field(default_factory=list)

    def same(self, given: Array, turned: Array) -> Array:
        """A parameter whose numbers stand in another order; gives it back."""
        if turned is not given:
            self.turned.append((given, turned))
        return turned

    def sources(self) -> dict[int, str]:
        """The names of parameters by the place of their numbers in memory.

        Views of one have its place, and so its name; what is computed of it has another.
        """
        found = {
            place(self.constants[name]): dotted
            for name, dotted in self.parameters.items()
            if name in self.constants
        }
        for given, turned in self.turned:
            if place(given) in found:
                found[place(turned)] = found[place(given)]
        return found

    def fixed(self) -> set[int]:
        """The places of numbers that training does not move, where the source tells it."""
        names = self.constants.keys() - self.learned if self.tells_learned else ()
        return {place(self.constants[name]) for name in names}

    def name_parameters(self, graph: Graph) -> None:
        """Let operations know what the model's checkpoints call their parameters."""
        names = self.sources()
        for op in graph.ops:
            found = {leaf: place(value) for leaf, value in op.parameters.items()}
            op.sources = {leaf: names[each] for leaf, each in found.items() if each in names}


def place(value: Array) -> int:
    """Where the numbers of an array stand in memory."""
    return int(np.asarray(value).__array_interface__["data"][0])


class Call:
    """One node with what it takes: views of values, or constants."""

    def __init__(self, known: Known, node: Node) -> None:
        self.known, self.node = known, node
        self.builder, self.attributes = known.builder, node.attributes

    def __len__(self) -> int:
        return len(self.node.inputs)

    def has(self, place: int) -> bool:
        return place < len(self.node.inputs) and self.node.inputs[place] != ""

    def is_constant(self, place: int) -> bool:
        return self.has(place) and self.node.inputs[place] in self.known.constants

    def view(self, place: int = 0) -> View:
        """An input that depends on the images."""
        name = self.node.inputs[place]
        found = self.known.values.get(name)
        if found is None and name in self.known.constants:
            raise Unsupported("it takes a constant where only a value of the images is understood")
        if found is None:
            raise Unsupported(f"it takes {quoted(name)}, which no node before it gives")
        return found

    def constant(self, place: int) -> Array:
        """An input that does not."""
        if not self.is_constant(place):
            raise Unsupported(f"input {place + 1} follows from the images, not from constants")
        return self.known.constants[self.node.inputs[place]]

    def optional(self, place: int, default: Array = None) -> Array:
        return self.constant(place) if self.has(place) else default

    def parameter(self, place: int) -> str | None:
        """The dotted name of a constant that is a parameter."""
        name = self.node.inputs[place] if self.has(place) else ""
        return self.known.parameters.get(name)

    def learned(self, place: int) -> bool:
        """Whether training moves a constant; where the source does not tell, if it has a name."""
        return self.has(place) and self.node.inputs[place] in self.known.learned

    def surely_learned(self, place: int) -> bool:
        """The same, where the source tells it."""
        return self.known.tells_learned and self.learned(place)

    def map(self, place: int = 0) -> Value:
        """An input as a map, channels first."""
        return self.builder.map(self.node, self.view(place))

    def shape(self, view: View) -> Shape:
        return self.builder.shape(view.value)

    def add(
        self,
        kind: str,
        inputs: Sequence[Value],
        attributes: dict[str, Any] | None = None,
        parameters: dict[str, Any] | None = None,
        shape: Shape | None = None,
    ) -> Value:
        return self.builder.add(self.node, kind, inputs, attributes, parameters, shape)

    def new(
        self,
        kind: str,
        inputs: Sequence[Value],
        attributes: dict[str, Any] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> View:
        """The same, as a map."""
        return self.builder.plain(self.add(kind, inputs, attributes, parameters))

    def along(self, kind: str, view: View, attributes: dict[str, Any] | None = None) -> View:
        """An operation that works on each number alone, whatever axes they stand in."""
        return view.of(self.add(kind, [view.value], attributes))

    def text(self, name: str, default: str) -> str:
        """An attribute that is a text, which ONNX keeps as bytes."""
        found = self.attributes.get(name, default)
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


Rule = Callable[[Call], View]
