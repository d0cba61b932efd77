"""A network as one list of operations that read numbered values, its blocks left out."""

from __future__ import annotations

from typing import NamedTuple

from resnet_spec.ir import Instance, Network, Operation


class Placed(NamedTuple):
    """An operation by its dotted name; values are numbered, 0 is the image."""

    name: str
    operation: Operation
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Graph(NamedTuple):
    """The operations in the order in which they run; `features` has each map by its stage."""

    channels: int  # of an image
    operations: tuple[Placed, ...]
    result: int
    features: tuple[tuple[str, int], ...]

    @property
    def sources(self) -> dict[int, Placed]:
        """The operation that gives a value."""
        return {number: each for each in self.operations for number in each.outputs}


def flat(network: Network) -> Graph:
    """The graph of a network."""
    found: list[Placed] = []
    values = _add(network.root, "", 0, found, [1])
    features = tuple((each.name, values[each.result]) for each in network.stages if each.feature)
    return Graph(network.input.channels, tuple(found), values[network.root.result], features)


def _add(
    instance: Instance, prefix: str, source: int, found: list[Placed], free: list[int]
) -> dict[int, int]:
    """The operations of an instance; gives the numbers of its values in the graph."""
    values = {0: source}
    for step in instance.steps:
        name = f"{prefix}{step.name}"
        if isinstance(step.node, Operation):
            outputs = tuple(range(free[0], free[0] + len(step.outputs)))
            free[0] += len(outputs)
            found.append(Placed(name, step.node, tuple(values[n] for n in step.inputs), outputs))
            values.update(zip(step.outputs, outputs, strict=True))
        else:
            inner = _add(step.node, f"{name}.", values[step.inputs[0]], found, free)
            values[step.outputs[0]] = inner[step.node.result]
    return values
