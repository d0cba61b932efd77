"""The model's numbers, under a spec's names, by the way from one graph to the other.

Where a convolution and its norm stand as one on either side, values are what makes both sides
compute the same: a norm that was folded comes back as one that changes nothing but what its
convolution's bias was; a bias before a norm is a part of the norm's mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from resnet_spec.importing.graph import Graph, Op
from resnet_spec.importing.matching import isomorphism

Array = Any
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"


class Carried:
    """A state in PyTorch's names and order of axes; `sources` are the names in the model's own."""

    def __init__(self) -> None:
        self.state: dict[str, Array] = {}
        self.sources: dict[str, str] = {}
        self.used: set[str] = set()  # names of the model that the spec has in some way
        self.unfolded = 0  # norms that the model has no longer
        self.shifted = 0  # biases that went into a norm's mean
        self.layers: dict[str, Op] = {}  # by the spec's names what they are in the model

    def put(self, op: Op, values: Mapping[str, Array], sources: Mapping[str, str]) -> None:
        """The parameters of one operation of the spec, each in the shape that it asks for."""
        for name, shape in op.parameters.items():
            value = np.asarray(values[name])
            if value.size != int(np.prod(shape)):
                raise ValueError(f"{op.name}.{name} has {value.size} values, not {shape}")
            self.state[f"{op.name}.{name}"] = _contiguous(value.reshape(shape))
            if name in sources:
                self.sources[f"{op.name}.{name}"] = sources[name]


def carried(model: Graph, spec: Graph) -> Carried:
    """Every tensor of a spec from a model; both graphs folded, and alike."""
    result = Carried()
    for theirs, ours in layers_of(model, spec):
        result.layers[ours.parts[0].name] = theirs
        result.used.update(name for part in theirs.parts for name in part.sources.values())
        if ours.kind in ("conv", "linear"):
            _weights(result, theirs.parts, ours.parts)
        else:
            values = _values(theirs.parts[0], ours.parts[0])
            result.put(ours.parts[0], values, theirs.parts[0].sources)
    return result


def layers_of(model: Graph, spec: Graph) -> Iterator[tuple[Op, Op]]:
    """What has weights, as it is in a model and in its spec; both graphs folded, and alike."""
    for theirs, ours in isomorphism(model, spec):
        if ours.parts and ours.parts[0].parameters:
            yield theirs, ours


def _values(theirs: Op, ours: Op) -> dict[str, Array]:
    values = dict(theirs.parameters)
    if ours.kind == "batch_norm":
        # Their epsilon and ours are equal: it is part of what the graphs are compared by.
        values = {name: values[name] for name in _STATISTICS}
    return values


def _weights(result: Carried, theirs: Iterable[Op], ours: Iterable[Op]) -> None:
    """A convolution with or without its norm, on both sides."""
    layer, *norms = theirs
    wanted, *wanted_norms = ours
    weight, bias = layer.parameters["weight"], layer.parameters.get("bias")
    sources = layer.sources
    if wanted_norms:
        values, bias = _norm(result, layer, norms, wanted_norms[0], "bias" in wanted.parameters)
        named = dict(_norm_sources(layer, norms))
        if any(each.attributes["eps"] != wanted_norms[0].attributes["eps"] for each in norms):
            named.pop("running_var", None)  # no variance of a later checkpoint is that one
        result.put(wanted_norms[0], values, named)
    elif norms:
        weight, bias = _folded(layer, norms[0])
    if layer.norm or (norms and not wanted_norms):  # the model's own kernel has no norm in it
        sources = {"weight": sources["weight"]} if wanted_norms and "weight" in sources else {}
    values = {"weight": weight}
    if "bias" in wanted.parameters:
        values["bias"] = np.zeros(len(weight), weight.dtype) if bias is None else bias
    result.put(wanted, values, sources)


def _norm_sources(layer: Op, norms: Sequence[Op]) -> Mapping[str, str]:
    """What checkpoints call the numbers of a norm, also of one that an exporter has folded."""
    if norms:
        return norms[0].sources
    return {leaf: f"{layer.norm}.{leaf}" for leaf in _STATISTICS} if layer.norm else {}


def _norm(
    result: Carried, layer: Op, norms: Iterable[Op], wanted: Op, keeps_bias: bool
) -> tuple[dict[str, Array], Array]:
    """The values of a norm, and of the bias before it."""
    bias, eps = layer.parameters.get("bias"), wanted.attributes["eps"]
    for norm in norms:
        values = {name: norm.parameters[name] for name in _STATISTICS}
        if bias is not None and not keeps_bias:
            values["running_mean"] = values["running_mean"] - bias
            result.shifted += 1
        difference = norm.attributes["eps"] - eps
        if difference:
            values["running_var"] = _as(values["running_var"], values["running_var"] + difference)
        return values, bias
    result.unfolded += 1
    shift = np.zeros(len(layer.parameters["weight"]), np.float32) if bias is None else bias
    one = np.ones_like(shift)
    values = {
        "weight": one,
        "bias": shift,
        "running_mean": 0 * one,
        "running_var": _as(one, one - eps),
    }
    return values, None


def _folded(layer: Op, norm: Op) -> tuple[Array, Array]:
    """One convolution that is a convolution and its norm."""
    values, bias = norm.parameters, layer.parameters.get("bias")
    scale = values["weight"] / np.sqrt(values["running_var"] + norm.attributes["eps"])
    weight = layer.parameters["weight"]
    shape = (-1, *(1 for _ in weight.shape[1:]))
    mean = values["running_mean"] - (0 if bias is None else bias)
    folded = _as(weight, weight * scale.reshape(shape))
    return folded, _as(values["bias"], values["bias"] - mean * scale)


def _as(like: Array, value: Array) -> Array:
    return value.astype(like.dtype)


def _contiguous(value: Array) -> Array:
    return np.ascontiguousarray(value).reshape(value.shape)
