"""Keras' layers that keep their variables otherwise than ours: their kernels and norms as ours.

A separable convolution is two layers of ours, `name.depthwise` and `name.pointwise`. Variables that
have no name in a file are told apart by their number, and norms may lack a scale or a centre.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from resnet_spec.weights.checkpoint import Checkpoint, Tensor
from resnet_spec.weights.entries import Entry

# What TensorFlow's older programs call variables.
_OTHER_NAMES = {
    "weights": "kernel",
    "biases": "bias",
    "depthwise_weights": "depthwise_kernel",
    "pointwise_weights": "pointwise_kernel",
}
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_KERNEL = ("kernel", "bias")
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def by_layer(tensors: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """The variables of each layer, in their order."""
    members: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        members.setdefault(tensor.name.rpartition("/")[0], []).append(tensor)
    return members


def expanded(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of Keras with every separable convolution as two layers."""
    places = iter(checkpoint.paths or [tensor.name for tensor in checkpoint.tensors])
    above = {id(tensor): next(places).rpartition("/")[0] for tensor in checkpoint.tensors}
    found, paths = [], []
    for layer, held in by_layer(checkpoint.tensors).items():
        names = [_called(tensor) for tensor in held]
        ends = [_end(part) for part in _separable(names, held)] or names
        found += [t._replace(name=f"{layer}/{end}") for t, end in zip(held, ends, strict=True)]
        paths += [f"{above[id(t)]}/{end}" for t, end in zip(held, ends, strict=True)]
    return checkpoint._replace(tensors=tuple(found), paths=tuple(paths) if checkpoint.paths else ())


def _end(variable: str) -> str:
    """Where a variable of a separable convolution is in the two layers that we make of it."""
    part = "depthwise" if variable == "depthwise_kernel" else "pointwise"
    return f"{part}/bias" if variable == "bias" else f"{part}/kernel"


def _called(tensor: Tensor) -> str:
    variable = tensor.name.rpartition("/")[2]
    return _OTHER_NAMES.get(variable, variable)


def _separable(names: Sequence[str], held: Sequence[Tensor]) -> Sequence[str]:
    """What each variable of a separable convolution is; nothing for another layer."""
    if "pointwise_kernel" in names and set(names) <= set(_SEPARABLE):
        return names
    if not all(name.isdigit() for name in names) or len(held) not in (2, 3):
        return ()
    first, second = held[0].shape, held[1].shape
    fits = len(first) == len(second) == 4 and second[:3] == (1, 1, first[2] * first[3])
    return _SEPARABLE[: len(held)] if fits else ()


# - of which entry a variable is -


def variables(
    held: Sequence[Tensor], known: Sequence[Entry], said: Mapping[str, Any]
) -> list[tuple[str, Entry | None]]:
    """For each variable of a layer of the file its name, and the entry of ours that it is."""
    names = [tensor.name.rpartition("/")[2] for tensor in held]
    if all(name.isdigit() for name in names):
        names = _numbered(len(held), known, said)
    ours = {entry.place("keras").variable: entry for entry in known}
    if "depthwise_kernel" in names:
        names = ["kernel" if name == "depthwise_kernel" else name for name in names]
    given = [tensor.name.rpartition("/")[2] for tensor in held]
    return [(name or own, ours.get(name)) for name, own in zip(names, given, strict=True)]


def _numbered(count: int, known: Sequence[Entry], said: Mapping[str, Any]) -> list[str]:
    """The names of variables that the file only numbers.

    With one more or less than ours they could be any of them, and a wrong one may have the same
    shape; but a norm always has its statistics, which come last, and a file may state the others.
    """
    ours = [entry.place("keras").variable for entry in known]
    if count == len(ours):
        return ours
    if ours[:1] == ["kernel"] and count <= len(_KERNEL):
        return list(_KERNEL[:count])
    if tuple(ours) == _NORM:
        flags = {"gamma": said.get("scale"), "beta": said.get("center")}
        kept = [name for name in ours if flags.get(name) is not False]
        if count == len(kept) == 3:
            return kept
        if count == 2:
            return ours[2:]
    return [""] * count


def depthwise(tensor: Tensor, entry: Entry) -> Tensor:
    """A kernel of height x width x channels x multiplier as that of a grouped convolution."""
    wanted, given = entry.shape("keras"), tensor.shape
    if given == wanted or len(given) != 4 or entry.operation.primitive.name != "conv":
        return tensor
    groups = entry.operation.attributes["groups"]
    grouped = (*given[:2], 1, given[2] * given[3])
    if given[2] != groups or grouped != wanted:
        return tensor
    return tensor._replace(shape=wanted, read=partial(_reshaped, tensor, wanted))


def _reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Any:
    return tensor.read().reshape(shape)
