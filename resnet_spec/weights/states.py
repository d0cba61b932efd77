"""Which of the states that a file holds is taken: training keeps raw weights and their averages.

What was evaluated is the default: an average where there is one. The others are told.

Some training keeps two networks, of which one learns from the other. A teacher with the shapes of
its student is an average of it, and what is evaluated (DINO); one with others is a network that was
there before (distillation). Encoders of BYOL and MoCo are evaluated as they learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from resnet_spec.diagnostics import Diagnostic, Span, SpecError, expected, quoted
from resnet_spec.weights.checkpoint import Checkpoint, Tensor

# In their order: what programs call the averaged weights, then the raw ones.
_AVERAGED = ("ema", "average", "swa", "shadow", "polyak")
_PAIRS = {
    "student": "teacher",
    "online_network": "target_network",
    "online_encoder": "target_encoder",
    "encoder_q": "encoder_k",
    "base_encoder": "momentum_encoder",
}  # what learns, and what it learns from
_RAW = ("state_dict", "model", "model_state_dict", "net", "network", "module", "params", "weights")


def chosen(checkpoint: Checkpoint, asked: str | None) -> Checkpoint:
    """A checkpoint with the tensors of one state; raises `SpecError` (RS907) for an unknown one."""
    states = _states(checkpoint)
    if not states:
        if asked is not None:
            _unknown(checkpoint, asked, states)
        return checkpoint
    name, why = (_named(states, asked), "") if asked is not None else _default(states)
    if name is None:
        _unknown(checkpoint, asked or "", states)
    others = [each for each in states if each != name]
    note = f"taken from {quoted(name)} of the checkpoint{why}" if name else ""
    if others:
        listed = ", ".join(quoted(each) for each in others[:8])
        note += f"; it also holds {listed}" + ("" if len(others) <= 8 else ", …")
        note += f": --state {others[0]}" if asked is None else ""
    notes = (note, *checkpoint.notes) if note else checkpoint.notes
    return checkpoint._replace(tensors=states[name], notes=notes, states=states)


def _states(checkpoint: Checkpoint) -> Mapping[str, tuple[Tensor, ...]]:
    """The states of a file; those within its only one, where that holds several."""
    states = checkpoint.states
    if len(states) > 1:
        return states
    return _split(next(iter(states.values()), checkpoint.tensors)) or states


def _split(tensors: tuple[Tensor, ...]) -> Mapping[str, tuple[Tensor, ...]]:
    """The states of a flat file, told by the first part of every name: each has the same tensors.

    A network whose two halves are alike in all names is not one: a state has a name that says so.
    """
    parts: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        first, _, rest = tensor.name.partition("." if "." in tensor.name else "/")
        parts.setdefault(first, []).append(tensor._replace(name=rest))
    pair = _pair(parts)
    if pair is not None:  # a loss or a queue may stand beside them
        return {name: tuple(parts[name]) for name in pair}
    if not all(each.name for held in parts.values() for each in held):
        return {}
    if len(parts) == 1:
        return _split(tuple(*parts.values()))
    kinds = [_rank(name) for name in parts]
    if not parts or len(_AVERAGED) + len(_RAW) in kinds:
        return {}
    names = [{each.name for each in held} for held in parts.values()]
    if any(each != names[0] for each in names):
        return {}
    return {name: tuple(held) for name, held in parts.items()}


def _rank(name: str) -> int:
    """How much a state's name speaks for it; the smallest is taken."""
    words = name.lower()
    for rank, word in enumerate(_AVERAGED):
        if word in words:
            return rank
    last = words.rpartition(".")[2]
    known = next((each for each in (words, last) if each in _RAW), None)
    return len(_AVERAGED) + (_RAW.index(known) if known is not None else len(_RAW))


def _default(states: Mapping[str, tuple[Tensor, ...]]) -> tuple[str | None, str]:
    """The state that was evaluated, and why it is taken; None where no name tells."""
    best, pair = min(states, key=_rank), _pair(states)
    if pair is not None and _rank(best) >= len(_AVERAGED):
        learns, other = pair
        shapes = [sorted(tensor.shape for tensor in states[name]) for name in pair]
        if shapes[0] != shapes[1]:
            return learns, f", which learned from {quoted(other)}, another network"
        if other.endswith("teacher"):
            return other, f", the average of {quoted(learns)}, which is what is evaluated"
        return learns, f", of which {quoted(other)} is an average for training"
    is_known = len(states) == 1 or _rank(best) < len(_AVERAGED) + len(_RAW)
    return (best if is_known else None), ""


def _pair(states: Iterable[str]) -> tuple[str, str] | None:
    """The names of a state that learns and of the one that it learns from."""
    names = {name.rpartition(".")[2]: name for name in states}
    words = ((names.get(learns), names.get(other)) for learns, other in _PAIRS.items())
    return next(((one, other) for one, other in words if one and other), None)


def _named(states: Mapping[str, tuple[Tensor, ...]], asked: str) -> str | None:
    """The state that is meant, whole or by its last part."""
    if asked in states:
        return asked
    ends = [name for name in states if asked in (name.rpartition(".")[2], name.partition(".")[0])]
    return ends[0] if len(ends) == 1 else None


def _unknown(
    checkpoint: Checkpoint, asked: str, states: Mapping[str, tuple[Tensor, ...]]
) -> NoReturn:
    shown = quoted(checkpoint.shown)
    if not states:
        message, help = f"{shown} holds one state alone, not {quoted(asked)}", "leave out --state"
    elif asked:
        message, help = f"{shown} holds no state {quoted(asked)}", expected(asked, list(states))
    else:
        listed = ", ".join(quoted(name) for name in list(states)[:8])
        message, help = f"{shown} holds several states: {listed}", "choose one: --state NAME"
    raise SpecError([Diagnostic("RS907", message, Span(checkpoint.shown), help)])
