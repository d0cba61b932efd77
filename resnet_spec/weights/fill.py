"""What a norm of a file has no variable for: a scale of ones, a centre of zeros."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from resnet_spec.ir import Network
from resnet_spec.weights.checkpoint import Checkpoint, Layout, Tensor
from resnet_spec.weights.entries import Entry, entries

_VALUES = {"weight": (1.0, "scale"), "bias": (0.0, "centre")}


def filled(found: dict[str, Tensor], network: Network, checkpoint: Checkpoint) -> list[str]:
    """Adds what norms lack to the tensors found, and gives notes that tell it.

    A norm whose statistics are there is whole. PyTorch's has scale and centre or neither, those of
    others may have one of both. A file may state that its norms are one factor and one summand.
    """
    layout, counts = checkpoint.layout, Counter[str]()
    affine = _affine(found, network, checkpoint)
    for entry in affine:
        mean = entry.parameter.name == "running_mean"
        value = 0.0 if mean else 1 - float(str(entry.operation.attributes["eps"]))
        found[entry.name] = constant(entry, layout, value)
    for missing in _missing(found, network):
        if layout == "torch" and len(missing) != len(_VALUES):
            continue
        for entry in missing:
            value, what = _VALUES[entry.parameter.name]
            found[entry.name] = constant(entry, layout, value)
            counts[what] += 1
    told = [f"{len(affine) // 2:,} norms are a factor and a summand in the file"] if affine else []
    return told + [
        f"the {what} of {count:,} norm{'' if count == 1 else 's'} is "
        f"{'ones' if what == 'scale' else 'zeros'}, for the file has none"
        for what, count in counts.items()
    ]


def _affine(found: dict[str, Tensor], network: Network, checkpoint: Checkpoint) -> list[Entry]:
    """The statistics of norms that the file states to be a factor and a summand."""
    result = []
    for name, entry in entries(network).items():
        layer, _, leaf = name.rpartition(".")
        scale = found.get(f"{layer}.weight")
        if leaf not in ("running_mean", "running_var") or name in found or scale is None:
            continue
        if checkpoint.stated.layers.get(scale.name.rpartition(".")[0], {}).get("affine"):
            result.append(entry)
    return result


def _missing(found: dict[str, Tensor], network: Network) -> list[list[Entry]]:
    """Of each norm with its statistics, what else it lacks."""
    norms: dict[str, list[Entry]] = {}
    for name, entry in entries(network).items():
        if entry.operation.primitive.name == "batch_norm":
            norms.setdefault(name.rpartition(".")[0], []).append(entry)
    result = []
    for held in norms.values():
        missing = [entry for entry in held if entry.name not in found]
        if missing and all(entry.parameter.name in _VALUES for entry in missing):
            result.append(missing)
    return result


def constant(entry: Entry, layout: Layout, value: float, dtype: str = "float32") -> Tensor:
    """A tensor that stands in no file, with one value everywhere."""
    shape = entry.shape(layout)
    return Tensor(f"({value:g})", shape, dtype, partial(_full, shape, value, dtype))


def _full(shape: tuple[int, ...], value: float, dtype: str) -> Any:
    import numpy

    return numpy.full(shape, value, dtype)
