"""What a file states of its layers against the spec: weights that fit may be of another network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from resnet_spec.diagnostics import Diagnostic, Span, quoted
from resnet_spec.ir import Network, Operation
from resnet_spec.weights.match import Match

_MAX_TOLD = 8  # layers of a kind; where one is wrong, all are
_ALIKE = 1e-3  # relative difference of an epsilon: files keep it in single precision


def differences(found: Match) -> list[Diagnostic]:
    """A finding (RS909) for each way in which the file's layers are not the spec's."""
    problems = []
    for what, layers in _by_kind(found).items():
        names = ", ".join(quoted(name) for name in layers[:_MAX_TOLD])
        more = f" and {len(layers) - _MAX_TOLD:,} more" if len(layers) > _MAX_TOLD else ""
        problems.append(_problem(found, f"{what}: {names}{more}"))
    problems += [_problem(found, text) for text in _activations(found)]
    return problems


def _problem(found: Match, message: str) -> Diagnostic:
    help = "change the spec; where the file is wrong, --trust-spec takes the weights all the same"
    return Diagnostic("RS909", message, Span(found.checkpoint.shown), help)


def _by_kind(found: Match) -> dict[str, list[str]]:
    """The layers that differ, by what differs in them."""
    result: dict[str, list[str]] = {}
    seen: set[str] = set()
    for pair in found.fitting:
        layer = pair.entry.name.rpartition(".")[0]
        name = pair.tensor.name
        theirs = name.rpartition("/" if found.checkpoint.layout == "keras" else ".")[0]
        said = found.checkpoint.stated.layers.get(theirs)
        if said is None or layer in seen:
            continue
        seen.add(layer)
        for text in _differing(said, pair.entry.operation):
            result.setdefault(text, []).append(layer)
    return result


def _differing(said: Mapping[str, Any], operation: Operation) -> Iterator[str]:
    """What a layer of the file has otherwise than the operation of the spec."""
    given = operation.attributes
    eps, ours = said.get("eps"), given.get("eps")
    norm = operation.primitive.name == "batch_norm"
    if norm and eps is not None and not math.isclose(eps, float(ours), rel_tol=_ALIKE):  # type: ignore[arg-type]
        yield f"the file states an epsilon of {eps:g}, the spec {ours:g}"
    if operation.primitive.name != "conv":
        return
    for key in ("stride", "dilation", "groups"):
        theirs = said.get(key)
        if theirs is not None and theirs != given[key]:
            yield f"the file states a {key} of {theirs}, the spec {given[key]}"
    padding = said.get("padding")
    if padding is not None and not padding & _paddings(operation):
        theirs = " or ".join(sorted(map(str, padding)))
        yield f"the file states a padding of {theirs}, the spec {given['padding']}"


def _paddings(operation: Operation) -> set[int | str]:
    """The ways to say an operation's padding."""
    given = operation.attributes
    kernel, stride, dilation = (int(str(given[key])) for key in ("kernel", "stride", "dilation"))
    total, padding = (kernel - 1) * dilation, given["padding"]
    assert isinstance(padding, int | str)
    if padding == "same" and (total == 0 or (stride == 1 and total % 2 == 0)):
        return {"same", total // 2}
    return {padding}


def _activations(found: Match) -> Iterator[str]:
    """Kinds of activations that one of the two has and the other has not."""
    theirs = found.checkpoint.stated.activations
    if theirs is None or not found.fits:
        return
    ours = _kinds(found.network)
    for those, others, text in (
        (theirs, ours, "the file's layers apply {}, which the spec does not"),
        (ours, theirs, "the spec applies {}, which the file's layers do not"),
    ):
        if more := sorted(those - others):
            yield text.format(", ".join(quoted(name) for name in more))


def _kinds(network: Network) -> frozenset[str]:
    """The kinds of activations of a network, a softmax at its end left out."""
    kinds = {
        operation.primitive.name
        for _, operation in network.operations()
        if operation.primitive.group == "activation"
    }
    return frozenset(kinds - {"threshold"})


def softmax_note(found: Match) -> str | None:
    """What to know of a file whose model ends with a softmax."""
    if not found.checkpoint.stated.softmax_last or "softmax" in _kinds(found.network):
        return None
    return (
        f"the file's model gives probabilities, {found.network.name} what a softmax makes them of"
    )
