"""Norms of models that were not trained, which leave nothing behind when they are folded.

Their convolutions get a bias of zeros, which exporters leave out, or which is as good as left out.
So where no convolution has a bias, and nothing is a norm, each may have had one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resnet_spec.importing.graph import Graph, Op

TOLD = (
    "no convolution has a bias, and nothing is a norm: before a training that is what is left of "
    "folded norms, "
)


def are_left_out(graph: Graph) -> bool:
    """Whether a graph has neither biases nor norms."""
    convs = [op for op in graph.ops if op.kind == "conv"]
    return bool(convs) and not graph.norms() and not any(op.attributes["bias"] for op in convs)


def given(graph: Graph) -> Graph:
    """The same graph with a bias of zeros in each convolution."""
    return replace(graph, ops=[_biased(op) if op.kind == "conv" else op for op in graph.ops])


def _biased(op: Op) -> Op:
    weight = op.parameters["weight"]
    parameters = {**op.parameters, "bias": np.zeros(len(weight), weight.dtype)}
    return op.copy(attributes={**op.attributes, "bias": True}, parameters=parameters)
