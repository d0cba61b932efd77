"""Batch norms that stand in the weights of convolutions, or are to, and biases that norms take up.

In evaluation a norm is one factor and one summand for each channel, so a convolution can do it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_spec.diagnostics import counted, quoted
from resnet_spec.weights.checkpoint import Tensor
from resnet_spec.weights.fill import constant
from resnet_spec.weights.wiring import wiring

if TYPE_CHECKING:
    from resnet_spec.weights.transforms import Work

_EPS = 1e-5  # of a norm whose file does not say; PyTorch's
_SCALES = ("weight", "gamma", "scale")
_CENTRES = ("bias", "beta")
_MEANS = ("running_mean", "moving_mean", "mean")
_VARIANCES = ("running_var", "moving_variance", "var")


# - norms that the file has no more -


def unfold_norms(work: Work, asked: bool) -> None:
    """Gives a norm that the file has folded into its convolution what changes nothing.

    Its scale is one, its centre the bias that the file has, its mean 0, its variance 1 - epsilon.
    """
    graph, count = wiring(work.network), 0
    for layer in list(graph.operations):
        norm = graph.normed(layer) if graph.kind(layer) == "conv" else None
        bias = work.leftover(f"{layer}.bias")
        if norm is None or bias is None or _held(work, norm):
            continue
        count += 1
        if asked:
            _unfold(work, norm, work.left.pop(bias))
    if count and asked:
        said = counted(count, "norm was", "norms were")
        work.notes.append(f"{said} folded into convolutions, to do nothing but add")
    elif count:
        work.problem(
            f"{counted(count, 'norm')} of {quoted(work.network.name)} folded into the convolutions",
            "--unfold-norms gives norms that add the biases and change nothing else",
            "RS908",
        )
    elif asked:
        work.problem("--unfold-norms: no norm is missing that a bias stands for")


def _held(work: Work, norm: str) -> bool:
    return any(name.rpartition(".")[0] == norm for name in work.given)


def _unfold(work: Work, norm: str, bias: Tensor) -> None:
    layout = work.checkpoint.layout
    eps = float(wiring_eps(work, norm))
    for name, value in (("weight", 1.0), ("running_mean", 0.0), ("running_var", 1 - eps)):
        entry = work.entries[f"{norm}.{name}"]
        work.given[entry.name] = constant(entry, layout, value, bias.dtype)
    work.given[f"{norm}.bias"] = bias


def wiring_eps(work: Work, norm: str) -> Any:
    """The epsilon that the spec states for a norm."""
    return work.entries[f"{norm}.weight"].operation.attributes["eps"]


# - biases that the network has not -


def fold_biases(work: Work, asked: bool) -> None:
    """Takes the bias of a convolution off the mean of the norm behind it, which does the same."""
    graph, count = wiring(work.network), 0
    for layer in list(graph.operations):
        norm = graph.normed(layer) if graph.kind(layer) == "conv" else None
        bias = work.leftover(f"{layer}.bias")
        if norm is None or bias is None or f"{norm}.running_mean" not in work.given:
            continue
        count += 1
        if asked:
            held = work.left.pop(bias)
            work.turn(f"{norm}.running_mean", partial(_less, held))
    if count and asked:
        said = counted(count, "bias went into the mean", "biases went into the means")
        work.notes.append(f"{said} of the norms behind")
    elif count:
        work.problem(
            f"{counted(count, 'convolution')} of the file with a bias before a norm, where "
            f"{quoted(work.network.name)} has none",
            "--fold-biases takes them off the means of the norms, which does the same",
            "RS908",
        )
    elif asked:
        work.problem("--fold-biases: no bias stands before a norm that has none in the network")


def _less(bias: Tensor, mean: Any) -> Any:
    return mean.astype("float64") - bias.read().reshape(-1).astype("float64")


# - norms that the network has not -


class _Norm(NamedTuple):
    """A norm of the file: its name, its tensors, and their keys among what is left over."""

    name: str
    scale: Tensor | None
    centre: Tensor | None
    mean: Tensor
    variance: Tensor
    keys: tuple[str, ...]


def fold_norms(work: Work, asked: bool) -> None:
    """Has a convolution with a bias do what the file's norm behind it did."""
    norms = _norms(work)
    pairs = [
        (name.removesuffix(".bias"), norm)
        for name, entry in work.entries.items()
        if entry.operation.primitive.name == "conv" and name.endswith(".bias")
        if name not in work.given and f"{name.removesuffix('.bias')}.weight" in work.given
        if (norm := _behind(name.removesuffix(".bias"), entry.parameter.shape, norms)) is not None
    ]
    if not asked:
        if pairs:
            work.problem(
                f"{counted(len(pairs), 'convolution')} of {quoted(work.network.name)} with a bias, "
                "where the file has norms",
                "--fold-norms has the convolutions do what the norms did",
                "RS908",
            )
        return
    if not pairs:
        work.problem("--fold-norms: no norm of the file stands behind a convolution that lacks one")
    for layer, norm in pairs:
        _fold(work, layer, norm)
    if pairs:
        said = counted(len(pairs), "norm was", "norms were")
        work.notes.append(f"{said} folded into the convolutions before")


def _norms(work: Work) -> dict[str, _Norm]:
    """The norms among what the file has more, by their dotted names."""
    members: dict[str, dict[str, str]] = {}
    for key in work.left:
        owner, _, leaf = key.replace("/", ".").rpartition(".")
        members.setdefault(owner, {})[leaf] = key
    found = {}
    for name, held in members.items():

        def one(names: tuple[str, ...], held: dict[str, str] = held) -> Tensor | None:
            return next((work.left[held[each]] for each in names if each in held), None)

        mean, variance = one(_MEANS), one(_VARIANCES)
        if mean is not None and variance is not None:
            keys = tuple(held.values())
            found[name] = _Norm(name, one(_SCALES), one(_CENTRES), mean, variance, keys)
    return found


def _behind(layer: str, shape: tuple[int, ...], norms: dict[str, _Norm]) -> _Norm | None:
    """The norm of the file that is named as the one behind a convolution is."""
    for name in _names(layer):
        for spelled in (name, name.replace(".", "_")):
            norm = norms.get(spelled)
            if norm is not None and norm.mean.shape == shape:
                return norm
    return None


def _names(convolution: str) -> list[str]:
    """What a norm behind a convolution is called: behind `conv1` `bn1`, behind `0` `1`."""
    above, mark, own = convolution.rpartition(".")
    names = [re.sub("conv(2d)?", word, own) for word in ("bn", "norm", "batch_norm", "batchnorm")]
    names += [f"{own}_bn", f"{own}.bn", "bn", "norm"]
    if own.isdigit():
        names.insert(0, str(int(own) + 1))
    return [f"{above}{mark}{name}" for name in names if name != own]


def _fold(work: Work, layer: str, norm: _Norm) -> None:
    name = work.left[norm.keys[0]].name
    for key in norm.keys:
        work.left.pop(key)
    said = work.checkpoint.stated.layers.get(name.replace("/", ".").rpartition(".")[0], {})
    eps = said.get("eps")
    if eps is None:
        eps = _EPS
        work.notes.append(f"the file does not state the epsilon of {norm.name}: {eps:g} is taken")
    entry = work.entries[f"{layer}.bias"]
    dtype = norm.mean.dtype
    work.given[entry.name] = Tensor(
        f"{norm.name} folded", entry.shape(work.checkpoint.layout), dtype, _bias(norm, eps, dtype)
    )
    work.turn(f"{layer}.weight", lambda kernel: kernel * _factor(norm, eps)[:, None, None, None])


def _factor(norm: _Norm, eps: float) -> Any:
    import numpy

    variance = norm.variance.read().astype(numpy.float64)
    scale = 1.0 if norm.scale is None else norm.scale.read().astype(numpy.float64)
    return scale / numpy.sqrt(variance + eps)


def _bias(norm: _Norm, eps: float, dtype: str) -> Callable[[], Any]:
    def read() -> Any:
        import numpy

        centre = 0.0 if norm.centre is None else norm.centre.read().astype(numpy.float64)
        mean = norm.mean.read().astype(numpy.float64)
        return (centre - mean * _factor(norm, eps)).astype(dtype)

    return read
