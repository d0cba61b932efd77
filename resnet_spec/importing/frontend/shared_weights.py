"""Layers that stand at several places with the same weights, which the language has apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.graph import Graph, Op
from resnet_spec.importing.readers.model import Model

Array = Any
_TOLD = (
    "used at several places with the same weights, which in the spec are apart and are trained "
    "apart: {}"
)
_SHOWN = 4
_LOOKED_AT = 64  # numbers of a kernel; those that agree in them are compared as a whole


def told(graph: Graph, model: Model) -> list[str]:
    """A note of the layers of a graph that share their weights, if there are any."""
    kernels = [op for op in graph.ops if op.kind in ("conv", "linear")]
    first = [*_first_of_equal(kernels)]
    if model.format != "ONNX":  # whose exporters keep tensors once that are equal by chance
        norms = (op for op in graph.ops if op.kind.endswith("_norm"))
        first += _first_of_one(norms)
    if not first:
        return []
    # Names of Keras are told as the file has them.
    by_place = model.format == "Keras"
    names = [each.place if by_place or not each.name else quoted(each.name) for each in first]
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return [_TOLD.format(f"{shown} and {more} more" if more > 0 else shown)]


def _first_of_equal(kernels: Iterable[Op]) -> Iterator[Op]:
    """Of layers with equal kernels the first; exporters that fold norms copy them."""
    found: dict[object, list[list[Op]]] = {}
    for op in kernels:
        kernel = np.asarray(op.parameters["weight"])
        head = kernel.reshape(-1)[:_LOOKED_AT]
        if head.size < 2 or np.all(head == head[0]):
            continue  # as layers begin, or a number that is equal by chance
        groups = found.setdefault((kernel.shape, head.tobytes()), [])
        group = next((each for each in groups if _is_equal(each[0], kernel)), None)
        if group is None:
            groups.append([op])
        else:
            group.append(op)
    return (group[0] for groups in found.values() for group in groups if len(group) > 1)


def _is_equal(op: Op, kernel: Array) -> bool:
    return np.array_equal(op.parameters["weight"], kernel)


def _first_of_one(norms: Iterable[Op]) -> Iterator[Op]:
    """Of norms with one and the same tensor the first."""
    found: dict[int, list[Op]] = {}
    for op in norms:
        tensor = op.parameters.get("weight")
        if tensor is not None:
            found.setdefault(id(tensor), []).append(op)
    return (group[0] for group in found.values() if len(group) > 1)
