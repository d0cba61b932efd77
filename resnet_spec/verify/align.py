"""Matches values that a framework computed with the outputs of the spec's operations.

A framework reports what it ran as nodes, in order. Layers have the names of operations. Plain
functions have no names, and one operation may consist of several. An operation without a layer is
the first node that depends on all of its inputs, through unnamed nodes, and that has the shape that
the compiler inferred.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resnet_spec.verify.plan import PlannedOperation

Value = tuple[int, int]  # number of a node, and which of its outputs
IMAGES: Value = (-1, 0)
REACH = 64  # nodes that are looked at for one operation


class Node(NamedTuple):
    """One call of a layer (`name`) or function (None); shapes of the outputs in PyTorch's order."""

    name: str | None
    inputs: tuple[Value, ...]
    shapes: tuple[tuple[int, ...], ...]


def align(
    operations: Sequence[PlannedOperation], nodes: Sequence[Node], batch: int
) -> dict[str, tuple[Value, ...]]:
    """The outputs of each operation by its name, without those that can't be identified."""
    named = {node.name: number for number, node in enumerate(nodes) if node.name is not None}
    places: dict[int, Value] = {0: IMAGES}
    claimed: set[int] = set()
    found: dict[str, tuple[Value, ...]] = {}
    for operation in operations:
        number = named.get(operation.name)
        if number is None and _is_second_name(operation):
            if operation.inputs[0] in places:
                places[operation.outputs[0]] = places[operation.inputs[0]]
            continue
        if number is None:
            number = _unnamed(operation, nodes, places, claimed, batch)
        if number is None:
            continue
        claimed.add(number)
        outputs = tuple((number, k) for k in range(len(nodes[number].shapes)))
        found[operation.name] = outputs
        places.update(zip(operation.outputs, outputs, strict=False))
    return found


def _is_second_name(operation: PlannedOperation) -> bool:
    """Whether the output is the input: JAX does not even run padding by nothing."""
    pads = operation.primitive in ("zero_pad", "pad_channels")
    return operation.primitive == "identity" or (pads and operation.given == operation.shape)


def _unnamed(
    operation: PlannedOperation,
    nodes: Sequence[Node],
    places: Mapping[int, Value],
    claimed: set[int],
    batch: int,
) -> int | None:
    """The node of an operation that is no layer; None where its inputs or itself are not seen."""
    if any(value not in places for value in operation.inputs):
        return None
    needed = {places[value] for value in operation.inputs}
    expected = ((batch, *operation.shape),) * len(operation.outputs)
    covered: dict[int, set[Value]] = {}
    fallback: int | None = None
    start = max(number for number, _ in needed) + 1
    for number in range(start, min(start + REACH, len(nodes))):
        node = nodes[number]
        if node.name is not None or number in claimed:
            continue
        rests = set().union(
            *({each} if each in needed else covered.get(each[0], set()) for each in node.inputs)
        )
        covered[number] = rests
        if rests == needed:
            if node.shapes == expected:
                return number
            fallback = number if fallback is None else fallback
    return fallback
