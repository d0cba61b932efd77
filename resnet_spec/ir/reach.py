"""The receptive field and stride of each value of a network.

Equal instances are one object, so each is analysed once.
"""

from collections.abc import Iterable
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

from resnet_spec.ir.graph import Instance, Operation
from resnet_spec.primitives import Shape


class Reach(NamedTuple):
    """How far one output value sees: rows (and columns) of the input, and the stride.

    Windows and `subsample` count; where paths meet, the longest counts. A value that sees the whole
    map, such as a global pooling, has no reach (None): a gate computed from it widens nothing.
    """

    field: int = 1
    stride: int = 1

    def then(self, other: "Reach") -> "Reach":
        """The reach of `other` on top of this one."""
        return Reach(self.field + (other.field - 1) * self.stride, self.stride * other.stride)


class Reaches:
    """Receptive fields of instances relative to their input; each instance is analysed once."""

    def __init__(self) -> None:
        self.known: dict[int, Reach | None] = {}

    def of(self, node: Operation | Instance) -> Reach | None:
        """How a node widens the reach of its input; None where it sees all of it."""
        if isinstance(node, Operation):
            return _own_reach(node)
        if id(node) not in self.known:
            self.known[id(node)] = self.values(node)[node.result]
        return self.known[id(node)]

    def values(self, instance: Instance) -> dict[int, Reach | None]:
        """The reach of every value of an instance, relative to the instance's input."""
        values: dict[int, Reach | None] = {0: Reach()}
        for step in instance.steps:
            reach = _joined(values[number] for number in step.inputs)
            own = self.of(step.node)
            after = reach.then(own) if reach is not None and own is not None else None
            for number in step.outputs:
                values[number] = after
        return values

    def along(self, instance: Instance) -> list[Reach | None]:
        """The reach after each step of an instance."""
        values = self.values(instance)
        return [values[step.outputs[-1]] for step in instance.steps]


def _own_reach(operation: Operation) -> Reach | None:
    if _sees_all(operation):
        return None
    values = operation.attributes
    if operation.primitive.window is not None:
        return Reach(*operation.primitive.window(SimpleNamespace(**values)))
    if operation.primitive.name == "adaptive_avg_pool":
        given, size = operation.inputs[0], values["size"]
        assert isinstance(size, int)
        parts = [_parts(length or 1, size) for length in (given.height, given.width)]
        return Reach(max(part.field for part in parts), max(part.stride for part in parts))
    return Reach()


def _sees_all(operation: Operation) -> bool:
    """Whether each output value depends on all rows and columns of the input.

    That is the case if nothing is left of the map's height and width, after pooling, flattening or
    a window of the map's size, and if the input had none.
    """
    primitive, given, output = operation.primitive, operation.inputs[0], operation.output
    if primitive.name in ("global_avg_pool", "global_max_pool"):
        return True
    if primitive.needs != "map" or _area(given) == 1 or _area(output) > 1:
        return False
    if primitive.window is None:
        return True
    extent, _ = primitive.window(SimpleNamespace(**operation.attributes))
    return extent == given.height == given.width and operation.attributes.get("padding") == 0


def _area(shape: Shape) -> int:
    return (shape.height or 1) * (shape.width or 1)


def _parts(length: int, size: int) -> Reach:
    """The largest of `size` parts that share `length` rows, and the longest step between two."""
    first = [index * length // size for index in range(size)]
    behind = [-(-(index + 1) * length // size) for index in range(size)]
    field = max(end - start for start, end in zip(first, behind, strict=True))
    return Reach(field, max((b - a for a, b in pairwise(first)), default=1))


def _joined(reaches: Iterable[Reach | None]) -> Reach | None:
    """The longest of the joining paths."""
    known = [reach for reach in reaches if reach is not None]
    if not known:
        return None
    return Reach(max(reach.field for reach in known), max(reach.stride for reach in known))
