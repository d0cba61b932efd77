"""What models do to images first: fixed numbers for each channel, such as a mean and a deviation.

The language has fixed numbers for all channels alone. In evaluation a batch norm with these
statistics is the same; in training it uses those of each batch, as is told.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_spec.importing.graph import Graph, Op, completed

Array = Any
_EPS = completed("batch_norm", {})["eps"]
_TOLD = (
    "{} has fixed numbers for each channel of the images: in the spec it is a batch norm, which "
    "has them as its statistics in the file of weights alone, and in training uses those of each "
    "batch"
)


def resolve(graph: Graph) -> list[str]:
    """One operation for all that scales and shifts the images; gives what is to be told of it."""
    chain = _chain(graph)
    if not any(op.kind.endswith("_channels") for op in chain):
        return []
    factor, offset = _combined(chain, graph.shapes[graph.input].channels)
    kept = [each for op in chain for each in op.parameters.values()]
    last = chain[-1]
    last.inputs, last.parameters = [graph.input], {}
    if np.ptp(factor) == np.ptp(offset) == 0:
        last.kind = "rescale"
        last.attributes = {"factor": float(factor[0]), "offset": float(offset[0])}
        graph.sort()
        return []
    last.kind, last.attributes = "batch_norm", {"eps": _EPS}
    last.parameters = _statistics(factor, offset, np.result_type(np.float32, *kept))
    last.name = last.name or "normalization"
    graph.sort()
    return [_TOLD.format(last.place)]


def _chain(graph: Graph) -> list[Op]:
    """The operations on images that work on each number alone, one after the other."""
    users, value, found = graph.users(), graph.input, []
    while len(following := users.get(value, [])) == 1 and value != graph.output:
        op = following[0]
        if op.kind not in ("rescale", "scale_channels", "shift_channels"):
            break
        found.append(op)
        value = op.output
    return found


def _combined(chain: list[Op], channels: int) -> tuple[Array, Array]:
    """For each channel the factor and the offset of all together."""
    factor, offset = np.ones(channels), np.zeros(channels)
    for op in chain:
        if op.kind == "rescale":
            scale, shift = op.attributes["factor"], op.attributes["offset"]
        else:
            scale, shift = op.parameters.get("weight", 1), op.parameters.get("bias", 0)
        factor, offset = factor * scale, offset * scale + shift
    return factor, offset


def _statistics(factor: Array, offset: Array, kind: Any) -> dict[str, Array]:
    """The norm with these factors and offsets: of the images' own statistics where it can be."""
    ones = np.ones_like(factor)
    safe = np.where(factor == 0, 1, factor)
    variance = 1 / safe**2 - _EPS
    if np.all(factor != 0) and np.all(variance > 0):
        values = (np.sign(factor), 0 * ones, -offset / factor, variance)
    else:
        values = (factor, offset, 0 * ones, (1 - _EPS) * ones)
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: each.astype(kind) for name, each in zip(names, values, strict=True)}
