"""What feeds what in a network, for weights that depend on the layers before or behind theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from resnet_spec.ir import Network, Operation
from resnet_spec.verify.plan import plan_of


class Wiring(NamedTuple):
    """The operations of a network by name, and for each the names of those that feed and take it.

    The image is called "".
    """

    operations: dict[str, Operation]
    sources: dict[str, tuple[str, ...]]
    takers: dict[str, tuple[str, ...]]

    def before(self, name: str) -> str | None:
        """The one operation that feeds another."""
        sources = self.sources[name]
        return sources[0] if len(sources) == 1 else None

    def behind(self, name: str) -> str | None:
        """The one operation that takes what another gives."""
        takers = self.takers.get(name, ())
        return takers[0] if len(takers) == 1 else None

    def kind(self, name: str | None) -> str:
        """The primitive of an operation; nothing for none, and for the image."""
        return self.operations[name].primitive.name if name else ""

    def normed(self, convolution: str) -> str | None:
        """The batch norm that alone takes what a convolution gives."""
        behind = self.behind(convolution)
        return behind if self.kind(behind) == "batch_norm" else None


class Flattened(NamedTuple):
    """A map that a linear layer takes as a vector."""

    channels: int
    height: int
    width: int


def wiring(network: Network) -> Wiring:
    """The wiring of a network."""
    plan, _ = plan_of(network, "float32")
    made = {0: ""} | {value: each.name for each in plan.operations for value in each.outputs}
    sources = {each.name: tuple(made[v] for v in each.inputs) for each in plan.operations}
    takers: dict[str, tuple[str, ...]] = {}
    for name, given in sources.items():
        for source in given:
            takers[source] = (*takers.get(source, ()), name)
    return Wiring(dict(network.operations()), sources, takers)


def flattened(network: Network) -> dict[str, Flattened]:
    """The linear layers that take every value of a map, with that map."""
    graph = wiring(network)
    return {
        name: found
        for name, operation in graph.operations.items()
        if operation.primitive.name == "linear"
        for found in _maps(name, graph)
    }


def _maps(linear: str, graph: Wiring) -> Iterator[Flattened]:
    before = graph.before(linear)
    while before and graph.kind(before) != "flatten":
        operation = graph.operations[before]
        if operation.primitive.group != "activation" and graph.kind(before) not in _PASSING:
            return
        before = graph.before(before)
    if before:
        shape = graph.operations[before].inputs[0]
        assert shape.height is not None and shape.width is not None
        if shape.height * shape.width > 1:
            yield Flattened(shape.channels, shape.height, shape.width)


_PASSING = ("dropout", "identity", "rescale", "learned_scale", "learned_shift")


def stem(network: Network) -> list[str]:
    """The convolutions without groups that see the image itself."""
    return [
        name
        for name, operation in network.operations()
        if operation.primitive.name == "conv"
        and operation.inputs[0].open
        and operation.inputs[0] == network.input
        and operation.attributes["groups"] == 1
    ]
