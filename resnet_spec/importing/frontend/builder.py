"""Operations put into a graph, with the shapes that follow; values are seen through views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.frontend import views
from resnet_spec.importing.frontend.views import CHANNELS, View
from resnet_spec.importing.graph import Attributes, Graph, Op, Value, completed, inferred
from resnet_spec.importing.readers.model import Node
from resnet_spec.primitives import PRIMITIVES, Shape, ShapeError


class Builder:
    """A graph that grows node by node."""

    def __init__(self, given: Shape, batch: int) -> None:
        self.graph = Graph([], 0, 0, {0: given})
        self.batch = batch
        self.makers: dict[Value, Op] = {}

    def shape(self, value: Value) -> Shape:
        return self.graph.shapes[value]

    def plain(self, value: Value) -> View:
        return views.plain(value, self.shape(value), self.batch)

    # --- operations ------------------------------------------------------------------------------

    def add(
        self,
        node: Node,
        kind: str,
        inputs: Sequence[Value],
        attributes: Attributes | None = None,
        parameters: dict[str, Any] | None = None,
        shape: Shape | None = None,
    ) -> Value:
        """An operation with one output; its shape is inferred for a primitive."""
        stated = attributes or {}
        if kind in PRIMITIVES:
            stated = completed(kind, stated)
        if shape is None:
            shape = self.inferred(kind, stated, inputs)
        output = self.graph.new_value(shape)
        self._append(node, kind, stated, list(inputs), [output], parameters or {})
        return output

    def inferred(self, kind: str, attributes: Attributes, inputs: Sequence[Value]) -> Shape:
        try:
            return inferred(kind, attributes, [self.shape(each) for each in inputs])
        except ShapeError as error:
            raise Unsupported(error.message, help=error.help) from None

    def split(self, node: Node, value: Value, parts: int) -> list[Value]:
        """Equal parts of the channels; the same ones however often they are asked for."""
        shape = self.shape(value)
        if shape.channels % parts:
            raise Unsupported(f"{shape.channels} channels in {parts} parts")
        part = shape._replace(channels=shape.channels // parts)
        outputs = []
        for _ in range(parts):
            outputs.append(self.graph.new_value(part))
        self._append(node, "split", {"parts": parts}, [value], outputs, {})
        return outputs

    def _append(
        self,
        node: Node,
        kind: str,
        attributes: Attributes,
        inputs: list[Value],
        outputs: list[Value],
        parameters: dict[str, Any],
    ) -> None:
        op = Op(kind, attributes, inputs, outputs, parameters, node.name, node.place)
        op.norm = node.norm if kind == "conv" else ""
        self.graph.ops.append(op)
        self.makers.update(dict.fromkeys(outputs, op))

    # --- views -----------------------------------------------------------------------------------

    def layout(self, view: View) -> str | None:
        return views.layout(view, self.shape(view.value))

    def settled(self, node: Node, view: View) -> View:
        """The same view of a value whose channels stand in the order in which they are seen."""
        axes = [axis for axis in view.axes if any(f.axis == CHANNELS for f in axis)]
        if len(axes) != 1:
            return view
        factors = axes[0]
        names = [factor.name for factor in factors]
        if names == sorted(names) or any(f.axis != CHANNELS for f in factors):
            return view
        groups, parts = _shuffle(names, [factor.size for factor in factors])
        value = self.add(node, "shuffle", [view.value], {"groups": groups, "parts": parts})
        whole = (views.Factor(CHANNELS, self.shape(value).channels),)
        changed = tuple(whole if axis is factors else axis for axis in view.axes)
        return View(value, changed)

    def map(self, node: Node, view: View) -> Value:
        """The value of a view that is a map, channels before rows and columns, or a vector."""
        view = self.settled(node, view)
        if self.layout(view) not in ("NCHW", "NC"):
            raise Unsupported(f"an input whose axes are {described(view)}, not a map")
        return view.value

    def like(self, view: View, value: Value) -> View:
        """A value whose axes stand as those of a view with this layout."""
        shape = self.shape(value)
        match self.layout(view):
            case "NHWC":
                return views.channels_last(value, shape, self.batch)
            case "NC":
                return views.plain(value, shape, self.batch, rank=2)
            case _:
                return views.plain(value, shape, self.batch)


def _shuffle(names: list[str], sizes: list[int]) -> tuple[int, int]:
    """Which shuffle brings channels into this order: of two neighbours the outer goes inside."""
    order = sorted(range(len(names)), key=names.__getitem__)
    if order[:2] == [1, 0] and order[2:] == list(range(2, len(names))):
        return sizes[1], sizes[0]
    raise Unsupported(f"channels in the order {', '.join(names)}")


def described(view: View) -> str:
    """The axes of a view as messages name them."""
    return " x ".join("".join(factor.name for factor in axis) or "1" for axis in view.axes)
