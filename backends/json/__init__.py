"""The IR as JSON: for debugging, for other tools, and as the smallest backend there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from resnet_spec.ir import Instance, Network, Operation, Step, feature_maps
from resnet_spec.primitives import Initializer


class JsonBackend:
    """Writes `json/<name>.json`."""

    name = "json"
    suffix = ".json"

    def render(self, network: Network, header: Sequence[str]) -> str:
        """The whole network; layers carry their names relative to the block around them."""
        document = {
            "generated": list(header),
            "name": network.name,
            "description": network.description,
            "source": network.source,
            "input": network.input.dimensions,
            "classes": network.classes,
            "numerics": network.numerics,
            "parameters": network.root.parameters,
            "statistics": network.root.statistics,
            "macs": network.root.macs,
            "stages": [
                {"name": stage.name, "output": stage.output.dimensions} for stage in network.stages
            ],
            "feature_info": [
                {"module": each.name, "num_chs": each.shape.channels, "reduction": each.stride}
                for each in feature_maps(network)
            ],
            **_graph(network.root),
        }
        return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def _graph(instance: Instance) -> dict[str, Any]:
    """Values are numbered within an instance; 0 is its input."""
    return {"result": instance.result, "layers": [_layer(step) for step in instance.steps]}


def _layer(step: Step) -> dict[str, Any]:
    node = step.node
    layer: dict[str, Any] = {"name": step.name, "inputs": step.inputs, "outputs": step.outputs}
    layer["at"] = f"{step.statement.span.path}:{step.statement.span.line}"
    if isinstance(node, Operation):
        attributes = {
            key: str(value) if isinstance(value, Initializer) else value
            for key, value in node.attributes.items()
        }
        layer |= {"operation": node.primitive.name, "attributes": attributes}
        layer["output"] = node.output.dimensions
        layer["parameters"] = {p.name: p.shape for p in node.parameters}
        return layer
    arguments = {name: bound.value for name, bound in node.scope.items()}
    return {**layer, "block": node.definition.name, "arguments": arguments, **_graph(node)}


backend = JsonBackend()
