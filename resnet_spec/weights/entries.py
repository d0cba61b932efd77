"""The tensors of a network: their names and orders of axes in both frameworks."""

from typing import NamedTuple

from resnet_spec.backends.keras.variables import VARIABLES, layer_name
from resnet_spec.backends.torch.variables import COUNTERS
from resnet_spec.ir import Network, Operation
from resnet_spec.primitives import Parameter
from resnet_spec.weights.checkpoint import Layout


class Entry(NamedTuple):
    """One parameter or statistic of a network."""

    name: str  # in a `state_dict`: the operation's dotted name and the parameter's
    parameter: Parameter
    operation: Operation
    layer: str  # Keras' name of the layer
    variable: str  # the layer's attribute
    axes: tuple[int, ...]  # PyTorch's axes in Keras' order

    def shape(self, layout: Layout) -> tuple[int, ...]:
        """The shape in a framework's order of axes."""
        given = self.parameter.shape
        return given if layout == "torch" else tuple(given[axis] for axis in self.axes)


def entries(network: Network) -> dict[str, Entry]:
    """Every tensor of a network by its name, in the order in which the operations run."""
    found = {}
    for name, operation in network.operations():
        for parameter in operation.parameters:
            variable, axes = VARIABLES[operation.primitive.name, parameter.name]
            entry = Entry(
                f"{name}.{parameter.name}", parameter, operation, layer_name(name), variable, axes
            )
            found[entry.name] = entry
    return found


def counters(network: Network) -> list[str]:
    """What a `state_dict` holds beside: counters of batches, each a whole number."""
    return [
        f"{name}.{COUNTERS[operation.primitive.name]}"
        for name, operation in network.operations()
        if operation.primitive.name in COUNTERS
    ]
