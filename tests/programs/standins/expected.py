"""What the IR says that a network computes: the operations of its instances, with numbers.

Nothing is read here but the IR itself: not the statements of blocks, and no routine. Heights and
widths differ wherever the network allows it, so that neither can stand for the other.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from resnet_spec.ir import Instance, Network, Operation
from resnet_spec.primitives import Shape, ShapeError
from standins.graph import Drawn, Graph, Window, drawn, even

# What a window loses or gains at a border depends on the size, so this much keeps every remainder.
WIDER = 128


class Tensor(NamedTuple):
    """A parameter or a statistic: its shape in PyTorch's order of axes, and how it begins."""

    shape: tuple[int, ...]
    drawn: Drawn

    def __str__(self) -> str:
        mean, deviation, uniform = self.drawn
        kind = "uniform" if uniform else "normal"
        begins = f"{kind}, mean {mean:g}, deviation {deviation:g}" if deviation else f"{mean:g}"
        return f"{'x'.join(map(str, self.shape))} ({begins})"


class Layer(NamedTuple):
    """One operation of the IR: its dotted name, what it computes, which primitive it is.

    `named` tells that the spec gave the name; `block` is the name of the block around it.
    """

    name: str
    numbers: tuple[int, ...]
    operation: Operation
    named: bool
    block: str


@dataclass
class Expected:
    """All that a program has to do to be the network."""

    network: Network
    graph: Graph
    input: Shape
    layers: list[Layer] = field(default_factory=list)
    names: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    tensors: dict[str, Tensor] = field(default_factory=dict)  # by dotted name
    features: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    result: tuple[int, tuple[int, ...]] = (0, ())
    operations: frozenset[str] = frozenset()  # the names of all of them

    def live(self) -> set[str]:
        """Every layer that a result comes from; what nobody reads need not be computed."""
        root = self.network.root
        ends = {stage.result for stage in self.network.stages if stage.feature}
        return {*_live(root, {root.result, *ends}, "")}


def _live(instance: Instance, needed: set[int], prefix: str) -> Iterator[str]:
    for step in reversed(instance.steps):
        if needed.isdisjoint(step.outputs):
            continue
        needed.update(step.inputs)
        name = f"{prefix}{step.name}"
        if isinstance(step.node, Instance):
            yield from _live(step.node, {step.node.result}, f"{name}.")
        else:
            yield name


Values = list[int]
Meaning = Callable[[Graph, str, Any, Values, Shape], Values]


@functools.lru_cache(maxsize=2)  # one network is asked for with several texts, one by one
def expected(network: Network) -> Expected:
    """The network on an input that is wider than high, or on its own where sizes are fixed."""
    given = network.input
    fixed = any(operation.primitive.name == "flatten" for _, operation in network.operations())
    if not fixed and given.height == given.width and given.width is not None:
        try:
            return _read(network, given._replace(width=given.width + WIDER))
        except ShapeError:
            pass
    return _read(network, given)


def _read(network: Network, given: Shape) -> Expected:
    found = Expected(network, Graph(), given)
    values = _Reader(found).instance(network.root, "", 0, given)
    number, shape = values[network.root.result]
    found.result = (number, shape.dimensions)
    for stage in network.stages:
        if stage.feature:
            number, shape = values[stage.result]
            found.features[stage.name] = (number, shape.dimensions)
    found.operations = frozenset(name for name, _ in network.operations())
    return found


class _Reader:
    """Follows the steps of an instance and of those within it."""

    def __init__(self, found: Expected) -> None:
        self.found = found

    def instance(
        self, node: Instance, prefix: str, source: int, given: Shape
    ) -> dict[int, tuple[int, Shape]]:
        values = {0: (source, given)}
        for step in node.steps:
            inputs = [values[number] for number in step.inputs]
            name = f"{prefix}{step.name}"
            if isinstance(step.node, Operation):
                made, numbers = self.operation(step.node, name, inputs)
                # Children that can be called in a row always have one.
                child = not prefix and self.found.network.is_flat
                named = child or not step.statement.unnamed
                self.found.layers.append(Layer(name, numbers, step.node, named, prefix[:-1]))
            else:
                inner = self.instance(step.node, f"{name}.", *inputs[0])
                made = [inner[step.node.result]]
            values.update(zip(step.outputs, made, strict=True))
        return values

    def operation(
        self, op: Operation, name: str, inputs: list[tuple[int, Shape]]
    ) -> tuple[list[tuple[int, Shape]], tuple[int, ...]]:
        shapes = [shape for _, shape in inputs]
        attributes = SimpleNamespace(**op.attributes)
        output = op.primitive.infer(attributes, shapes)
        write = MEANINGS.get(op.primitive.name) or _plain(op.primitive.name, op.attributes)
        numbers = write(self.found.graph, name, attributes, [n for n, _ in inputs], shapes[0])
        for number in numbers:
            self.found.names[number].add(name)
        for each in op.parameters:
            begins = drawn(each.initializer, each.shape)
            self.found.tensors[f"{name}.{each.name}"] = Tensor(each.shape, begins)
        return [(number, output) for number in numbers], tuple(numbers)


# --- primitives ----------------------------------------------------------------------------------


def _plain(kind: str, attributes: Mapping[str, Any]) -> Meaning:
    """An operation without parameters that every framework spells alike."""

    def write(graph: Graph, name: str, a: Any, x: Values, given: Shape) -> Values:
        return [graph.add(kind, x, **attributes)]

    return write


def _window(a: Any, dilation: int = 1) -> Window:
    return _square(a.kernel, a.stride, a.padding, dilation)


@functools.cache
def _square(kernel: int, stride: int, padding: int | str, dilation: int) -> Window:
    sides: Any = padding if isinstance(padding, str) else even(padding, padding)
    return Window((kernel,) * 2, (stride,) * 2, sides, (dilation,) * 2)


def _conv(graph: Graph, name: str, a: Any, x: Values, given: Shape) -> Values:
    eps = a.eps if a.standardize else None
    number = graph.conv(
        x[0],
        name,
        _window(a, a.dilation),
        channels=given.channels,
        filters=a.filters,
        groups=a.groups,
        eps=eps,
    )
    return [number]


def _named(kind: str, *attributes: str, channels: bool = True) -> Meaning:
    """A layer with parameters: its name, its channels and what else changes the result."""

    def write(graph: Graph, name: str, a: Any, x: Values, given: Shape) -> Values:
        seen = {"channels": given.channels} if channels else {}
        return [graph.add(kind, x, name, **seen, **{each: getattr(a, each) for each in attributes})]

    return write


def _avg_pool(graph: Graph, name: str, a: Any, x: Values, given: Shape) -> Values:
    return [graph.avg_pool(x[0], _window(a), a.ceil, counted=True)]


def _rescale(graph: Graph, name: str, a: Any, x: Values, given: Shape) -> Values:
    return [graph.plus(graph.times(x[0], a.factor), a.offset)]


def _split(graph: Graph, name: str, a: Any, x: Values, given: Shape) -> Values:
    size = given.channels // a.parts
    return [graph.take(x[0], n * size, (n + 1) * size, given.channels) for n in range(a.parts)]


def _take(graph: Graph, name: str, a: Any, x: Values, given: Shape) -> Values:
    return [graph.take(x[0], a.start, a.stop or given.channels, given.channels)]


MEANINGS: dict[str, Meaning] = {
    "conv": _conv,
    "linear": _named("linear", "features"),
    "batch_norm": _named("batch_norm", "eps", "momentum"),
    "group_norm": _named("group_norm", "groups", "eps"),
    "evo_norm": _named("evo_norm", "groups", "eps"),
    "filter_response_norm": _named("filter_response_norm", "eps"),
    "threshold": _named("threshold"),
    "learned_scale": _named("learned_scale", channels=False),
    "learned_shift": _named("learned_shift", channels=False),
    "channel_conv": _named("channel_conv", "kernel", channels=False),
    "max_pool": lambda graph, name, a, x, given: [graph.max_pool(x[0], _window(a), a.ceil)],
    "avg_pool": _avg_pool,
    "subsample": lambda graph, name, a, x, given: [graph.subsample(x[0], (a.stride,) * 2)],
    "blur_pool": lambda graph, name, a, x, given: [graph.blur(x[0], (a.stride,) * 2)],
    "zero_pad": lambda graph, name, a, x, given: [
        graph.add("zero_pad", x, sides=even(a.padding, a.padding))
    ],
    "flatten": lambda graph, name, a, x, given: [graph.add("flatten", x)],
    "add": lambda graph, name, a, x, given: [graph.chained("add", x)],
    "multiply": lambda graph, name, a, x, given: [graph.chained("multiply", x)],
    "rescale": _rescale,
    "split": _split,
    "take": _take,
    "identity": lambda graph, name, a, x, given: x,
}
