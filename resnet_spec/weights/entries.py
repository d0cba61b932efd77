"""The tensors of a network: their names and orders of axes in every framework."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from resnet_spec.backends.flax import variables as flax
from resnet_spec.backends.keras import variables as keras
from resnet_spec.backends.torch.variables import COUNTERS
from resnet_spec.ir import Network, Operation
from resnet_spec.primitives import Parameter
from resnet_spec.weights.checkpoint import Layout


class Kept(NamedTuple):
    """How a framework keeps tensors: the name of a layer, and by (primitive, parameter) its
    variable's, with PyTorch's axes in the framework's order."""

    layer_name: Callable[[str], str]
    variables: Mapping[tuple[str, str], tuple[str, tuple[int, ...]]]


# All that differs by framework; PyTorch's names and axes are the IR's own.
KEPT: dict[Layout, Kept] = {
    "keras": Kept(keras.layer_name, keras.VARIABLES),
    "flax": Kept(flax.layer_name, flax.VARIABLES),
}


class Place(NamedTuple):
    """Where a framework keeps one tensor."""

    layer: str
    variable: str  # the layer's attribute
    axes: tuple[int, ...]  # PyTorch's axes in the framework's order

    @property
    def path(self) -> str:
        """The dotted name of the tensor."""
        return f"{self.layer}.{self.variable}"


class Entry(NamedTuple):
    """One parameter or statistic of a network."""

    name: str  # in a `state_dict`: the operation's dotted name and the parameter's
    parameter: Parameter
    operation: Operation

    def place(self, layout: Layout) -> Place:
        """Where a framework keeps it."""
        layer = self.name.rpartition(".")[0]
        if layout == "torch":
            return Place(layer, self.parameter.name, tuple(range(len(self.parameter.shape))))
        kept = KEPT[layout]
        variable, axes = kept.variables[self.operation.primitive.name, self.parameter.name]
        return Place(kept.layer_name(layer), variable, axes)

    def shape(self, layout: Layout) -> tuple[int, ...]:
        """The shape in a framework's order of axes."""
        given = self.parameter.shape
        return tuple(given[axis] for axis in self.place(layout).axes)


def entries(network: Network) -> dict[str, Entry]:
    """Every tensor of a network by its name, in the order in which the operations run."""
    found = {}
    for name, operation in network.operations():
        for parameter in operation.parameters:
            entry = Entry(f"{name}.{parameter.name}", parameter, operation)
            found[entry.name] = entry
    return found


def counters(network: Network) -> list[str]:
    """What a `state_dict` holds beside: counters of batches, each a whole number."""
    return [
        f"{name}.{COUNTERS[operation.primitive.name]}"
        for name, operation in network.operations()
        if operation.primitive.name in COUNTERS
    ]
