"""What the nodes of an ONNX graph state of the layers: strides, paddings, epsilon, activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnet_spec.weights.checkpoint import FlattenOrder, Stated

_ACTIVATIONS = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "Tanh": "tanh",
    "Gelu": "gelu",
    "Softmax": "softmax",
    "Elu": "elu",
    "PRelu": "prelu",
    "Clip": "clip",
}
# What may stand between a map and the matrix that it is multiplied by as a vector.
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Identity")
_LAST_CHANNELS = [0, 2, 3, 1]  # of a map whose channels go last


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node as Python's values."""
    from onnx import helper

    found = {}
    for each in node.attribute:
        try:
            found[each.name] = helper.get_attribute_value(each)
        except ValueError:  # a kind of a later version
            continue
    return found


def stated(graph: Any, owners: Mapping[int, str]) -> Stated:
    """What a graph says; `owners` has the layer of each node's number."""
    made = {name: node for node in graph.node for name in node.output}
    layers: dict[str, dict[str, Any]] = {}
    for number, owner in owners.items():
        node = graph.node[number]
        if node.op_type == "Conv":
            layers[owner] = _convolution(node, made)
        elif node.op_type == "Mul":
            layers[owner] = {"affine": True}
        elif node.op_type == "BatchNormalization":
            layers[owner] = {"eps": attributes(node).get("epsilon", 1e-5)}
    kinds = [_ACTIVATIONS[node.op_type] for node in graph.node if node.op_type in _ACTIVATIONS]
    last = made.get(graph.output[0].name) if graph.output else None
    softmax_last = last is not None and last.op_type == "Softmax"
    if softmax_last:
        kinds.remove("softmax")
    orders = {_order(graph.node[number], made) for number in owners} - {None}
    order = orders.pop() if len(orders) == 1 else None
    return Stated(layers, frozenset(kinds), softmax_last, order, runnable=True)


def _convolution(node: Any, made: Mapping[str, Any]) -> dict[str, Any]:
    given = attributes(node)
    said = {
        "stride": _one(given.get("strides", [1])),
        "dilation": _one(given.get("dilations", [1])),
        "groups": given.get("group", 1),
    }
    before = made.get(node.input[0])
    if before is not None and before.op_type == "Pad":
        return said
    automatic = given.get("auto_pad", b"NOTSET")
    pads = set(given.get("pads", [0]))
    if automatic in (b"SAME_UPPER",):
        return {**said, "padding": frozenset({"same"})}
    if automatic in (b"NOTSET", b"VALID") and len(pads) == 1:
        return {**said, "padding": frozenset(pads)}
    half = given.get("pads", [])
    if half[: len(half) // 2] == [0, 0] and automatic == b"NOTSET":
        return {**said, "padding": frozenset({"same"})}
    return said


def _one(values: Any) -> int | None:
    """A number that stands for height and width alike."""
    return values[0] if len(set(values)) == 1 else None


def _order(node: Any, made: Mapping[str, Any]) -> FlattenOrder | None:
    """In which order a multiplication by a matrix takes the values of a map; None for a vector."""
    if node.op_type not in ("Gemm", "MatMul"):
        return None
    before, views = made.get(node.input[0]), 0
    while before is not None and before.op_type in _VIEWS:
        views += 1
        before = made.get(before.input[0]) if before.input else None
    if not views or before is None:
        return None
    if before.op_type == "Transpose":
        return "hwc" if attributes(before).get("perm") == _LAST_CHANNELS else None
    return "chw"
