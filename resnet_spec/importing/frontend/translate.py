"""A model's nodes, one after the other, as primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.frontend import (
    elementwise,
    folding,
    layers,
    learned,
    limits,
    normalization,
    patterns,
    rearranging,
    shared_weights,
    views,
)
from resnet_spec.importing.frontend.builder import Builder
from resnet_spec.importing.frontend.call import Call, Known
from resnet_spec.importing.frontend.views import View
from resnet_spec.importing.graph import Graph, Op
from resnet_spec.importing.normal_form import normalized
from resnet_spec.importing.readers.model import Model, Node
from resnet_spec.primitives import Shape

Array = Any
_UNSCALED = "{} norm{} without a scale and a centre: ones and zeros stand for them"
_ONE_PLACE = "its logits are {}, a map of one place; those of the spec are {}"
_TURNED = (
    "it flattens maps along rows, columns, channels, the spec along channels, rows, columns: later "
    "checkpoints are converted with --flatten-order hwc"
)
_SAME, _SIZES = ("Identity", "Cast"), ("Shape", "Size")
_WITHIN = {"If": "conditions", "Loop": "loops", "Scan": "loops"}  # graphs within a graph
_DECIDES = "the language has no {}: a network is one graph for all images"
_TRACED = "export it by tracing, for images of one size: its graph is then the way that they take"
RULES: dict[str, Callable[[Call], View | list[View]]] = {
    **layers.RULES,
    **elementwise.RULES,
    **rearranging.RULES,
}


class Translation:
    """The graph of a model, as far as its nodes were read."""

    def __init__(self, model: Model) -> None:
        batch, *sizes = model.shape
        last = model.is_channels_last
        channels, rows, columns = (sizes[2], sizes[0], sizes[1]) if last else sizes
        given = Shape(channels, rows, columns)
        start = views.channels_last if last else views.plain
        self.known = Known(
            Builder(given, batch),
            {model.input: start(0, given, batch)},
            {},
            dict(model.constants),
            dict(model.parameters),
            set(model.parameters if model.learned is None else model.learned),
            model.learned is not None,
        )
        self.rearranging: dict[str, str] = {}  # by a value, the node that rearranged it

    def take(self, node: Node) -> None:
        """Translate one node; raises `Unsupported` with its place."""
        try:
            if node.kind in _WITHIN:
                raise Unsupported(_DECIDES.format(_WITHIN[node.kind]), help=_TRACED)
            if not self._folded(node):
                self._translated(node)
        except Unsupported as error:
            help = error.help or self._rearranged(node)
            raise type(error)(error.what, error.place or _place(node), help) from None
        self._follow(node)

    def _follow(self, node: Node) -> None:
        """Remember which node gave a view that is no map and no vector any more."""
        for name in node.outputs:
            view = self.known.values.get(name)
            if view is not None and self.known.builder.layout(view) is None:
                before = (self.rearranging.get(each) for each in node.inputs)
                self.rearranging[name] = next((p for p in before if p), node.place)

    def _rearranged(self, node: Node) -> str | None:
        places = (self.rearranging.get(name) for name in node.inputs)
        place = next((each for each in places if each is not None), None)
        if place is None:
            return None
        return f"what it takes is no map of rows and columns: {place} rearranges it"

    def _folded(self, node: Node) -> bool:
        if node.kind == "Constant":
            (value,) = node.attributes.values()
            self.known.constants[node.outputs[0]] = np.asarray(value)
            return True
        inputs = [self._constant(node, each) for each in node.inputs if each]
        if not all(each is not None for each in inputs):
            return False
        made = folding.folded(node, inputs)
        if made is None:
            raise Unsupported("it computes with constants alone, in a way that is not known")
        if not self.known.parameters.keys().isdisjoint(node.outputs):
            made = [np.array(made[0])]  # the file has it once for several that are equal
        elif node.kind in _SAME and node.inputs[0] in self.known.parameters:
            self.known.parameters[node.outputs[0]] = self.known.parameters[node.inputs[0]]
        passes = node.kind not in _SIZES if self.known.tells_learned else node.kind in _SAME
        if passes and not self.known.learned.isdisjoint(node.inputs):
            self.known.learned.update(node.outputs)
        self.known.constants.update(zip(node.outputs, made, strict=False))
        return True

    def _constant(self, node: Node, name: str) -> Array:
        """A constant; of a value of the images its size, where only that is asked for."""
        if name in self.known.constants:
            return self.known.constants[name]
        if name in self.known.values and node.kind in _SIZES:
            return np.broadcast_to(np.float32(0), self.known.values[name].dims)
        if (
            name in self.known.values
            and node.kind == "CastLike"
            and node.inputs[0] in self.known.constants
        ):
            return np.zeros(0, np.float32)
        return None

    def _translated(self, node: Node) -> None:
        rule = RULES.get(node.kind)
        if rule is None:
            raise Unsupported("the language has no operation for it")
        found = rule(Call(self.known, node))
        if isinstance(found, list):
            if node.kind == "SplitToSequence":
                self.known.lists[node.outputs[0]] = found
            else:
                self.known.values.update(zip(node.outputs, found, strict=False))
        else:
            self.known.values[node.outputs[0]] = found


def _place(node: Node) -> str:
    """Where a node stands, with the layer whose parameters it takes."""
    told = not node.name or node.name.rpartition(".")[2] in node.place
    return node.place if told else f"{node.place} of {quoted(node.name)}"


def translated(model: Model) -> tuple[Graph, list[str]]:
    """The graph of a model in normal form, and what is to be told of it.

    Raises `Unsupported` for what can't be said.
    """
    translation = Translation(model)
    for node in model.nodes:
        translation.take(node)
    found = translation.known.values.get(model.output)
    if found is None:
        raise Unsupported(f"its output '{model.output}' does not follow from its input")
    builder = translation.known.builder
    if builder.layout(found) is None:
        raise Unsupported("its output is no map and no vector")
    graph = builder.graph
    graph.output = found.value
    graph.sort()
    told = [*shared_weights.told(graph, model), *normalization.resolve(graph)]
    translation.known.name_parameters(graph)
    named = learned.named(graph)
    told += patterns.resolve(graph)
    told += learned.lost(named, model)
    if len(found.dims) == 4:
        told.append(_ONE_PLACE.format(*("x".join(map(str, each)) for each in _logits(found.dims))))
    if translation.known.turned and model.format == "PyTorch":
        told.append(_TURNED)
    normalized(graph)
    limits.check(graph)
    translation.known.name_parameters(graph)
    told += learned.fixed(graph, translation.known)
    unscaled = sum(_is_unscaled(op) for op in graph.ops) if translation.known.parameters else 0
    if unscaled:
        told.append(_UNSCALED.format(unscaled, "" if unscaled == 1 else "s"))
    return graph, told


def _logits(dims: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """The shape of a map of one place, and that without its rows and columns."""
    return dims, [dims[0], max(dims[1:])]


def _is_unscaled(op: Op) -> bool:
    """Whether a norm has numbers for its scale and centre that are none of the model's."""
    return (
        op.kind in ("batch_norm", "group_norm")
        and not {"weight", "bias"} & op.sources.keys()
        and bool(np.all(op.parameters["weight"] == 1) and not np.any(op.parameters["bias"]))
    )
