"""Layers that stand at several places with the same weights, which the language has apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.graph import Graph, Op
from resnet_spec.importing.readers.model import Model, listed

Array = Any
_TOLD = (
    "used at several places with the same weights, which in the spec are apart and are trained "
    "apart: {}"
)
_LOOKED_AT = 64  # numbers of a kernel; those that agree in them are compared as a whole


def told(graph: Graph, model: Model) -> list[str]:
    """A note of the layers of a graph that share their weights, if there are any."""
    is_keras = model.format == "Keras"
    first = [*_first_of_equal(graph.ops, is_keras)]
    if not first:
        return []
    # Names of Keras are told as the file has them.
    names = [each.place if is_keras or not each.name else quoted(each.name) for each in first]
    return [_TOLD.format(listed(names))]


def _first_of_equal(ops: Iterable[Op], is_keras: bool) -> Iterator[Op]:
    """Of layers with equal weights the first.

    Exporters copy tensors when they fold norms, so values are compared. They also keep tensors
    once that are equal by chance, as those are with which norms begin: of such nothing is said.
    In a file of Keras one and the same tensor is one that is shared.
    """
    found: dict[object, list[list[Op]]] = {}
    for op in ops:
        weights = _weights(op)
        if not weights:
            continue
        if all(map(_is_constant, weights)):
            if not is_keras:
                continue
            key: object = id(op.parameters["weight"])
        else:
            heads = (_head(each).tobytes() for each in weights)
            key = (tuple(each.shape for each in weights), *heads)
        groups = found.setdefault(key, [])
        group = next((each for each in groups if _are_equal(_weights(each[0]), weights)), None)
        if group is None:
            groups.append([op])
        else:
            group.append(op)
    return (group[0] for groups in found.values() for group in groups if len(group) > 1)


def _weights(op: Op) -> list[Array]:
    """What tells a layer from others: of convolutions the kernel, of norms everything."""
    is_norm = op.kind.endswith("_norm")
    if not is_norm and op.kind not in ("conv", "linear"):
        return []
    names = op.parameters if is_norm else ("weight",)
    found = [np.asarray(op.parameters[name]) for name in names]
    return found if sum(each.size for each in found) > 1 else []


def _head(weights: Array) -> Array:
    """The first numbers: the others stay where they are, which may be a file."""
    return weights.reshape(-1)[:_LOOKED_AT]


def _is_constant(weights: Array) -> bool:
    return all(np.all(each == weights.flat[0]) for each in (_head(weights), weights))


def _are_equal(one: Iterable[Array], other: Iterable[Array]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
