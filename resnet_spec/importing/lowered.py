"""A lowered spec as a flat graph; its parameters are the shapes that it asks for."""

from __future__ import annotations

from resnet_spec.importing.graph import PASSING, Graph, Op, Value, as_map
from resnet_spec.importing.normal_form import normalized
from resnet_spec.ir import Instance, Network, Operation


def flattened(network: Network) -> Graph:
    """The operations of a network in normal form, what passes in evaluation left out."""
    graph = Graph([], 0, 0, {0: as_map(network.input)})
    graph.output = _walk(graph, network.root, "", 0)
    return normalized(graph)


def _walk(graph: Graph, instance: Instance, prefix: str, given: Value) -> Value:
    values = {0: given}
    for step in instance.steps:
        name, node = f"{prefix}{step.name}", step.node
        inputs = [values[each] for each in step.inputs]
        if isinstance(node, Instance):
            values[step.outputs[0]] = _walk(graph, node, f"{name}.", inputs[0])
        elif node.primitive.name in PASSING:
            values[step.outputs[0]] = inputs[0]
        else:
            for output in step.outputs:
                values[output] = graph.new_value(as_map(node.output))
            outputs = [values[each] for each in step.outputs]
            graph.ops.append(_operation(node, name, inputs, outputs))
    return values[instance.result]


def _operation(node: Operation, name: str, inputs: list[Value], outputs: list[Value]) -> Op:
    shapes = {each.name: each.shape for each in node.parameters}
    return Op(node.primitive.name, dict(node.attributes), inputs, outputs, shapes, name, name)
