"""Which operation is to blame for a difference, and where the spec states it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from resnet_spec.diagnostics import Diagnostic, quoted
from resnet_spec.verify import compare
from resnet_spec.verify.measure import Measurements, Row
from resnet_spec.verify.plan import Site

Arrays = Mapping[str, np.ndarray]


def diagnostics(
    rows: Iterable[Row], measurements: Measurements, sites: Mapping[str, Site]
) -> list[Diagnostic]:
    """A finding for each measurement that fails."""
    return [_diagnostic(row, measurements, sites) for row in rows if not row.passes]


def _diagnostic(row: Row, measurements: Measurements, sites: Mapping[str, Site]) -> Diagnostic:
    name, what = _blamed(row, measurements)
    site = sites.get(name)
    size = f"{row.difference:.1e} apart where rounding makes {row.tolerance:.0e}"
    if row.kind == "exact":
        size = f"{row.difference:.0f} of {row.compared}"
    elif row.kind == "chance":
        size = f"{row.difference:.2g} times what chance allows, not {row.note.split(';')[0]}"
    elif row.kind == "error":
        size = f"{row.difference:.0f} times as large in one framework as in the other"
    message = f"{quoted(name)}: {what} ({row.measurement}: {size})" if name else f"{what} ({size})"
    uses = tuple(reversed(site.uses)) if site is not None else ()
    help = "run 'resnet-spec compile' and compare how both files write it"
    return Diagnostic("RS801", message, site.span if site else None, help, uses)


def _blamed(row: Row, measurements: Measurements) -> tuple[str, str]:
    """The operation, and what differs."""
    if row.kind == "exact":
        return _owner(row.worst), f"{quoted(row.worst)} is not what the spec says"
    if row.kind == "chance":
        what = f"{quoted(row.worst)} does not begin as the spec says"
        return _owner(row.worst), what
    if row.kind == "single":
        return "", f"ONNX Runtime differs from PyTorch in {quoted(row.worst)}"
    if row.kind in ("forward", "training"):
        return _first_output(row, measurements)
    if row.measurement == "statistics":
        return _first_statistic(row, measurements)
    if row.kind == "gradients":
        return _last_gradient(row, measurements)
    if row.kind == "error":
        return _less_exact(row, measurements)
    recipe, _, part = row.measurement.partition(" ")
    if part == "weights":
        return "", f"{recipe} moves the weights otherwise, from equal outputs and gradients"
    return "", f"after training by {recipe} the {part} differs in {quoted(row.worst)} alone"


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _others(measurements: Measurements, file: str) -> Iterable[tuple[Arrays, Arrays]]:
    """The arrays of each other witness, with PyTorch's."""
    reference = measurements.read(f"torch.{file}.npz")
    for witness in measurements.whole:
        if witness != "torch":
            yield measurements.read(f"{witness}.{file}.npz"), reference


def _first_output(row: Row, measurements: Measurements) -> tuple[str, str]:
    """The first operation whose outputs differ; its inputs agree, for they came before it."""
    training = row.kind == "training"
    measurements.reset()
    measurements.session.ask(
        "trace", of=measurements.whole, images="images1.npy", training=training, out="trace"
    )
    for one, other in _others(measurements, "trace"):
        for operation in measurements.plan.operations:
            for k in range(len(operation.outputs)):
                name = f"{operation.name}:{k}"
                if name in one and name in other:
                    apart = compare.relative(one[name], other[name])
                    if apart > row.tolerance:
                        return operation.name, _how(apart, one[name], other[name])
    return "", "the outputs differ, but those of no single operation do"


def _how(apart: float, one: np.ndarray, other: np.ndarray) -> str:
    if one.shape != other.shape:
        shapes = " and ".join("x".join(map(str, each.shape[1:])) for each in (other, one))
        return f"from equal inputs, the outputs have the shapes {shapes}"
    return f"from equal inputs, the outputs are {apart:.1e} apart"


def _first_statistic(row: Row, measurements: Measurements) -> tuple[str, str]:
    for one, other in _others(measurements, "state"):
        found = one if measurements.plan.exact else measurements.carried(one, 1)
        for name in measurements.statistics:
            if compare.relative(found[name], other[name]) > row.tolerance:
                return _owner(name), f"training moves {quoted(name)} otherwise, from equal outputs"
    return "", "the statistics differ"


def _last_gradient(row: Row, measurements: Measurements) -> tuple[str, str]:
    """Gradients flow backwards: the last operation whose gradient differs is the first to err."""
    for one, other in _others(measurements, "gradients"):
        floor = compare.FLOOR * max(map(compare.most, other.values()))
        for name in reversed(measurements.parameters):
            if compare.relative(one[name], other[name], floor) > row.tolerance:
                return _owner(name), f"the gradients of {quoted(name)} differ, from equal outputs"
    return "", "the gradients differ"


def _less_exact(row: Row, measurements: Measurements) -> tuple[str, str]:
    """Errors flow onwards in what is computed of images, and backwards in gradients."""
    kind = row.measurement.removeprefix("error of ")
    ratios = measurements.ratios(kind)
    forwards = kind in ("training", "statistics")
    ordered = list(ratios) if forwards else [*reversed(measurements.parameters)]
    worst = next((name for name in ordered if ratios[name] > row.tolerance), row.worst)
    what = f"one framework computes the {kind} of {quoted(worst)} less exactly"
    return (_owner(worst) if worst in dict(measurements.plan.tensors()) else ""), what
