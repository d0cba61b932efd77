"""Which operation is to blame for a difference, and where the spec states it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from resnet_spec.diagnostics import Diagnostic, quoted
from resnet_spec.ir.evaluate import Mismatch
from resnet_spec.verify import compare
from resnet_spec.verify.measure import NUMPY, TORCH, Measurements, Row
from resnet_spec.verify.plan import Plan, PlannedOperation, Site

Arrays = Mapping[str, np.ndarray]
HELP = "run 'resnet-spec compile' and compare how the files write it"


def diagnostics(
    rows: Iterable[Row], measurements: Measurements, sites: Mapping[str, Site]
) -> list[Diagnostic]:
    """A finding for each measurement that fails."""
    return [_diagnostic(row, measurements, sites) for row in rows if not row.passes]


def _diagnostic(row: Row, measurements: Measurements, sites: Mapping[str, Site]) -> Diagnostic:
    name, what = _blamed(row, measurements)
    site = sites.get(name)
    size = f"{row.difference:.1e} apart, where rounding allows {row.tolerance:.0e}"
    if row.kind == "exact":
        size = f"{row.difference:.0f} of {row.compared}"
    elif row.kind == "chance":
        size = f"{row.difference:.2g} times what chance allows, not {row.note.split(';')[0]}"
    elif row.kind == "error":
        size = f"{row.difference:.0f} times as large in one framework as in the other"
    message = f"{quoted(name)}: {what} ({row.measurement}: {size})" if name else f"{what} ({size})"
    uses = tuple(reversed(site.uses)) if site is not None else ()
    span = site.span if site else None
    if row.kind == "definition":
        return Diagnostic("RS803", message, span, f"{HELP} with the operation's definition", uses)
    return Diagnostic("RS801", message, span, HELP, uses)


def misfit(error: Mismatch, sites: Mapping[str, Site]) -> Diagnostic:
    """A finding for an operation whose definition gives another shape than was inferred."""
    span, uses = sites[error.name]
    return Diagnostic("RS803", f"{quoted(error.name)}: {error}", span, None, tuple(reversed(uses)))


def _blamed(row: Row, measurements: Measurements) -> tuple[str, str]:
    """The operation, and what differs."""
    if row.kind == "exact":
        return _owner(row.worst), f"{quoted(row.worst)} is not what the spec says"
    if row.kind == "chance":
        what = f"{quoted(row.worst)} is not initialised as the spec says"
        return _owner(row.worst), what
    if row.kind == "single":
        return "", f"ONNX Runtime differs from PyTorch in {quoted(row.worst)}"
    if row.kind == "definition":
        return _first_beside_its_definition(row, measurements)
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
        return "", f"{recipe} updates the weights differently, from equal outputs and gradients"
    return "", f"after training by {recipe} the {part} differs in {quoted(row.worst)} alone"


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _others(measurements: Measurements, file: str) -> Iterable[tuple[str, Arrays, Arrays]]:
    """Each other runner with its arrays and PyTorch's."""
    reference = measurements.read(f"{TORCH}.{file}.npz")
    for runner in measurements.whole:
        if runner != TORCH:
            yield runner, measurements.read(f"{runner}.{file}.npz"), reference


def _first_output(row: Row, measurements: Measurements) -> tuple[str, str]:
    """The first operation whose outputs differ; its inputs agree, for they came before it."""
    training = row.kind == "training"
    measurements.trace(measurements.whole, training)
    for runner, one, other in _others(measurements, "trace"):
        for operation, output in _apart(one, other, measurements.plan, row.tolerance):
            how = f"from equal inputs, {_how(one[output], other[output])}"
            if not training:
                found = {TORCH: other[output], runner: one[output]}
                how += _sided(found, _defined(measurements)[output], row.tolerance)
            return operation.name, how
    return "", "the outputs differ, but no single operation's do"


def _apart(
    one: Arrays, other: Arrays, plan: Plan, tolerance: float
) -> Iterator[tuple[PlannedOperation, str]]:
    """The operations whose outputs differ, in order, with the output that does."""
    for operation in plan.operations:
        both = (each for each in _outputs(operation) if each in one and each in other)
        apart = (each for each in both if compare.relative(one[each], other[each]) > tolerance)
        if (output := next(apart, None)) is not None:
            yield operation, output


def _outputs(operation: PlannedOperation) -> list[str]:
    """The names of an operation's outputs in a trace."""
    return [f"{operation.name}:{k}" for k in range(len(operation.outputs))]


def _how(one: np.ndarray, other: np.ndarray) -> str:
    if one.shape != other.shape:
        shapes = " and ".join("x".join(map(str, each.shape[1:])) for each in (other, one))
        return f"the outputs have the shapes {shapes}"
    return f"the outputs are {compare.relative(one, other):.1e} apart"


# --- what the operations are defined to be -------------------------------------------------------


def _defined(measurements: Measurements) -> dict[str, np.ndarray]:
    """The outputs of every operation by its definition, as in a trace."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str, values: Sequence[np.ndarray]) -> None:
        found.update((f"{name}:{k}", value) for k, value in enumerate(values))

    measurements.define(keep)
    return found


def _sided(found: Arrays, defined: np.ndarray, tolerance: float) -> str:
    """Which of two runners that differ has an output as it is defined."""
    right = [each for each, value in found.items() if compare.relative(value, defined) <= tolerance]
    return f"; {NUMPY} agrees with {right[0] if right else 'neither'}" if len(right) < 2 else ""


def _first_beside_its_definition(row: Row, measurements: Measurements) -> tuple[str, str]:
    """The first operation where the backends agree with one another, not with its definition."""
    measurements.trace([TORCH], training=False)
    found, defined = measurements.read(f"{TORCH}.trace.npz"), _defined(measurements)
    agree = f"{' and '.join(measurements.whole)} agree, but not with {NUMPY}"
    for operation, output in _apart(found, defined, measurements.plan, row.tolerance):
        how = _how(found[output], defined[output])
        first = _first_unseen(operation, measurements.plan, found)
        if first is operation:
            return operation.name, f"{agree}: from equal inputs, {how}"
        what = f"neither seems to run it, and of {quoted(operation.name)} after it {how}"
        return first.name, f"{agree}: {what}"
    return "", f"{agree}: the outputs differ, but no single operation's do"


def _first_unseen(operation: PlannedOperation, plan: Plan, seen: Arrays) -> PlannedOperation:
    """The first that is not seen of those that lead to an operation, or itself.

    What is left out has no output, so it is what comes after it that differs.
    """
    made_by = {value: each for each in plan.operations for value in each.outputs}
    first, waiting = operation, [operation]
    while waiting:
        sources = (made_by.get(value) for value in waiting.pop().inputs)
        unseen = [each for each in sources if each and _outputs(each)[0] not in seen]
        waiting += unseen
        for each in unseen:
            # A second name of a value is nothing that runs.
            if each.primitive != "identity" and each.outputs[0] < first.outputs[0]:
                first = each
    return first


# --- what training makes -------------------------------------------------------------------------


def _first_statistic(row: Row, measurements: Measurements) -> tuple[str, str]:
    for runner, one, other in _others(measurements, "state"):
        found = measurements.carried(one, 1) if runner in measurements.biased else one
        for name in measurements.statistics:
            if compare.relative(found[name], other[name]) > row.tolerance:
                return _owner(
                    name
                ), f"training updates {quoted(name)} differently, from equal outputs"
    return "", "the statistics differ"


def _last_gradient(row: Row, measurements: Measurements) -> tuple[str, str]:
    """Gradients flow backwards: the last operation whose gradient differs is the first to err."""
    for _, one, other in _others(measurements, "gradients"):
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
