"""The arrays of a network by our names, from a plan: values read, adapted, drawn and converted."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from resnet_spec.diagnostics import Diagnostic, Span, SpecError, quoted
from resnet_spec.weights.adapt import InputRule, Plan, Step, adapted, taken
from resnet_spec.weights.checkpoint import Checkpoint, Layout, read
from resnet_spec.weights.entries import counters, entries
from resnet_spec.weights.initialize import fresh
from resnet_spec.weights.match import Match


def state(
    found: Match, plan: Plan, rule: InputRule | None, dtype: str | None, seed: int
) -> dict[str, Any]:
    """Every tensor of the network in PyTorch's order of axes.

    `dtype` converts all of them; without it each keeps the type that it has in the file, and what
    is drawn takes the most usual one. Raises `SpecError` (RS906) for values that a type can't hold.
    """
    usual = _usual(plan)
    result = {}
    for step in plan.steps:
        value = _value(step, found.checkpoint, rule, seed)
        kind = dtype or (usual if step.how in ("reset", "fresh") else value.dtype.name)
        result[step.entry.name] = _converted(value, kind, step, found.checkpoint)
    return result


def doubts(values: Iterable[tuple[str, Any]]) -> dict[str, list[str]]:
    """What no trained network has among its values, each with the names of the tensors."""
    import numpy

    found: dict[str, list[str]] = {
        what: [] for what in ("not finite", "negative variance", "zero variance")
    }
    for name, value in values:
        if not numpy.isfinite(value).all():
            found["not finite"].append(name)
        elif name.endswith(".running_var") and (value < 0).any():
            found["negative variance"].append(name)
        elif name.endswith(".running_var") and not value.any():
            found["zero variance"].append(name)
    return found


def with_counters(found: Match, values: dict[str, Any]) -> dict[str, Any]:
    """A state as PyTorch keeps it: each norm's tensors, then its counter, from the file or zero."""
    import numpy

    result: dict[str, Any] = {}
    pending = counters(found.network)
    owners = {name.rpartition(".")[0]: name for name in pending}
    names = list(values)
    for name, following in zip(names, [*names[1:], ""], strict=True):
        result[name] = values[name]
        owner = name.rpartition(".")[0]
        if owner in owners and following.rpartition(".")[0] != owner:
            tensor = found.counters.get(owners[owner])
            plain = tensor is not None and tensor.shape == () and tensor.dtype == "int64"
            count = read(tensor, found.checkpoint.shown) if tensor is not None and plain else 0
            result[owners[owner]] = numpy.array(count, dtype=numpy.int64)
    return result


def placed(found: Match, values: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """A state in the names and the order of axes of a framework whose names are dotted."""
    placed = {}
    for name, entry in entries(found.network).items():
        place = entry.place(layout)
        placed[place.path] = values[name].transpose(place.axes)
    return placed


def single_type(found: Match, values: dict[str, Any]) -> None:
    """Raises `SpecError` (RS906) where values have several types; a Keras model has one."""
    types = sorted({value.dtype.name for value in values.values()})
    if len(types) > 1:
        message = (
            f"{quoted(found.checkpoint.shown)} holds {' and '.join(types)}; Keras keeps one type"
        )
        _fail(found.checkpoint, message, f"choose one: --dtype {types[-1]}")


def _usual(plan: Plan) -> str:
    """The type that most of what the file gives has."""
    kinds = Counter(
        step.tensor.dtype for step in plan.steps if step.tensor and step.how in ("taken", "adapted")
    )
    return kinds.most_common(1)[0][0] if kinds else "float32"


def _value(step: Step, checkpoint: Checkpoint, rule: InputRule | None, seed: int) -> Any:
    match step.how:
        case "taken":
            return taken(step, checkpoint)
        case "adapted":
            assert rule is not None
            return adapted(step, checkpoint, rule)
        case "reset" | "fresh":
            import numpy

            # By the name, so that a tensor's values do not depend on which others are drawn.
            own = zlib.crc32(step.entry.name.encode())
            return fresh(step.entry.parameter, numpy.random.default_rng([seed, own]))


def _converted(value: Any, dtype: str, step: Step, checkpoint: Checkpoint) -> Any:
    import numpy

    if value.dtype.name == dtype:
        return value
    if dtype == "bfloat16":
        import ml_dtypes

        kind: Any = ml_dtypes.bfloat16
    else:
        kind = dtype
    with numpy.errstate(over="ignore"):
        result = value.astype(kind)
    if not numpy.array_equal(numpy.isfinite(result), numpy.isfinite(value)):
        largest = float(numpy.abs(value[numpy.isfinite(value)]).max())
        message = f"{quoted(step.entry.name)} has {largest:.4g}, which {dtype} can't hold"
        _fail(checkpoint, message, "choose a wider type with --dtype")
    return result


def _fail(checkpoint: Checkpoint, message: str, help: str) -> None:
    raise SpecError([Diagnostic("RS906", message, Span(checkpoint.shown), help)])
