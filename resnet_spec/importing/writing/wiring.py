"""Layers in a row, each of which takes the output before it, or names another value."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from resnet_spec.importing.graph import Op, Value
from resnet_spec.importing.structure.segments import Segment
from resnet_spec.importing.writing.layers import Layer, Scope, dropout_of, layers_of

_INPUT = "x"


class Wiring:
    """Writes the layers of one body; `start` is the value that the first one takes.

    `taken` gives the names that values may not have. With `follows` the layers come after what
    gives `start`; else the first one names it. In blocks and in the stem `start` is called `x`.
    """

    def __init__(
        self,
        scope: Scope,
        start: Value,
        taken: Callable[[], Collection[str]] = tuple,
        follows: bool = True,
        starts_with_x: bool = True,
    ) -> None:
        self.scope, self._other_names = scope, taken
        self.current: Value | None = start if follows else None
        self.labels: dict[Value, str] = {start: _INPUT} if starts_with_x else {}
        self.last_layers: dict[Value, Layer] = {}
        self.taken = {_INPUT, "residual", "shortcut"}
        self.layers: list[Layer] = []

    def name_start(self) -> None:
        """Begin with a layer that gives a name to what stands before the body."""
        assert self.current is not None
        layer: Layer = {"identity": self.scope.names.only("features")}
        self.layers.append(layer)
        self.last_layers[self.current] = layer

    def add(
        self, op: Op, stated: Mapping[str, object] | None = None, column: Sequence[Op] = ()
    ) -> None:
        """The layers of one operation; `stated` has expressions for its attributes.

        `column` has the operation of each use of a block that stands in its place.
        """
        if len(op.inputs) == 1 and op.inputs[0] == self.current:
            dropout = dropout_of([each.inputs[0] for each in column or (op,)], self.scope)
            self.layers += [] if dropout is None else [dropout]
        made = layers_of(op, self.scope, stated)
        first = made[0]
        if len(op.inputs) > 1:
            kind, name = next(iter(first.items()))
            rest = {k: v for k, v in first.items() if k != kind}
            made[0] = {kind: [self.label(value) for value in op.inputs], "name": name, **rest}
        elif op.inputs[0] != self.current:
            first["from"] = self.label(op.inputs[0])
        self.layers += made
        if len(op.outputs) > 1:
            label = self._free("part")
            made[-1]["as"] = label
            self.labels.update((v, f"{label}.{k}") for k, v in enumerate(op.outputs))
            self.current = None
        else:
            self.current = op.output
        self.last_layers.update((value, made[-1]) for value in op.outputs)
        self._add_dropout([each.outputs[0] for each in column or (op,)])

    def _add_dropout(self, values: Sequence[Value]) -> None:
        """The dropout of a value that goes into a sum: what takes it may not follow it."""
        users = self.scope.users.get(values[0], ())
        if len(users) == 1 and len(users[0].inputs) > 1:
            dropout = dropout_of(values, self.scope)
            if dropout is not None:
                self.layers.append(dropout)
                self.last_layers[values[0]] = dropout

    def add_block(self, layer: Layer, segment: Segment) -> None:
        """A use of another block for a segment."""
        if segment.first != self.current:
            layer["from"] = self.label(segment.first)
        self.layers.append(layer)
        self.current = segment.last
        self.last_layers[segment.last] = layer

    def label(self, value: Value) -> str:
        """The name of a value, which is given to it when it is first asked for."""
        if value not in self.labels:
            layer = self.last_layers[value]
            own = layer.get("name", next(iter(layer.values())))
            self.labels[value] = layer["as"] = self._free(re.sub(r"\W", "_", str(own)))
        return self.labels[value]

    def _free(self, wanted: str) -> str:
        if wanted[:1].isdigit():
            wanted = f"layer_{wanted}"
        name, number = wanted, 2
        while name in self.taken or name in self._other_names():
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name

    def finished(self) -> list[Layer]:
        """The layers, with the keys of wiring last."""
        for layer in self.layers:
            for name in ("from", "as"):
                if name in layer:
                    layer[name] = layer.pop(name)
        return self.layers
