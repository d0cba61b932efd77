"""Which of the states that a file holds is taken: training keeps raw weights and their averages.

What was evaluated is the default: an average where there is one. The others are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from resnet_spec.diagnostics import Diagnostic, Span, SpecError, expected, quoted
from resnet_spec.weights.checkpoint import Checkpoint, Tensor

# In their order: what programs call the averaged weights, then the raw ones.
_AVERAGED = ("ema", "average", "swa", "shadow", "polyak")
_RAW = ("state_dict", "model", "model_state_dict", "net", "network", "module", "params", "weights")


def chosen(checkpoint: Checkpoint, asked: str | None) -> Checkpoint:
    """A checkpoint with the tensors of one state; raises `SpecError` (RS907) for an unknown one."""
    states = checkpoint.states or _split(checkpoint.tensors)
    if not states:
        if asked is not None:
            _unknown(checkpoint, asked, states)
        return checkpoint
    name = _named(states, asked) if asked is not None else _default(states)
    if name is None:
        _unknown(checkpoint, asked or "", states)
    others = [each for each in states if each != name]
    note = f"taken from {quoted(name)} of the checkpoint" if name else ""
    if others:
        listed = ", ".join(quoted(each) for each in others[:8])
        note += f"; it also holds {listed}" + ("" if len(others) <= 8 else ", …")
        note += f": --state {others[0]}" if asked is None else ""
    notes = (note, *checkpoint.notes) if note else checkpoint.notes
    return checkpoint._replace(tensors=states[name], notes=notes, states=states)


def _split(tensors: tuple[Tensor, ...]) -> Mapping[str, tuple[Tensor, ...]]:
    """The states of a flat file, told by the first part of every name: each has the same tensors.

    A network whose two halves are alike in all names is not one: a state has a name that says so.
    """
    parts: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        first, mark, rest = tensor.name.partition("." if "." in tensor.name else "/")
        if not mark:
            return {}
        parts.setdefault(first, []).append(tensor._replace(name=rest))
    kinds = [_rank(name) for name in parts]
    if len(parts) < 2 or len(_AVERAGED) + len(_RAW) in kinds:
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


def _default(states: Mapping[str, tuple[Tensor, ...]]) -> str | None:
    """The state that was evaluated; None where no name tells."""
    best = min(states, key=_rank)
    return best if len(states) == 1 or _rank(best) < len(_AVERAGED) + len(_RAW) else None


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
