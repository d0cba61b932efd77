"""How the model's later checkpoints come to the spec: rules from their names, and what has no rule.

Who goes on training a model in code of their own saves it under its own names. Which of these each
tensor of the spec has is known from the proof that both are one graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.carry import COUNTER, Carried
from resnet_spec.importing.readers.model import Model
from resnet_spec.importing.writing import renames
from resnet_spec.language.renames import renamed

Array = Any
_MANY = 20  # rules: more than a person reads
_NAMELESS = (
    "checkpoints that the model gets later can't be converted: its file has no names for {} of the "
    "spec, for what exporters fold loses its name; export it without folding "
    "(do_constant_folding=False, with dynamo optimize=False), or import module:function"
)
_FOLDED = (
    "checkpoints that the model gets later can't be converted: they have norms, which its file has "
    "folded into convolutions; with --unfold-norms yes the spec has them, with their names"
)
_LACKING = (
    "checkpoints that the model gets later can't be converted: {} of the spec are computed from "
    "theirs, or not in them"
)
_SHARED = (
    "checkpoints that the model gets later can't be converted: {} of the spec are another layer's "
    "in theirs, which has its weights at several places"
)
_ELSEWHERE = "elsewhere."  # begins what becomes of names that must be none of the spec's
_ORDER = (
    "the model has the spec's names for other layers, so it must be told that a checkpoint has the "
    "model's: weights convert --from model"
)
_UNUSED = "the spec lacks {} of the model: weights convert --partial drops them"
_LONG = "no short list of rules leads from the model's names to the spec's: it has {} of them"


class Names(NamedTuple):
    """The rules from a model's names to the spec's, if it has others, and what is to be told."""

    rules: Mapping[str, str]
    notes: Sequence[str]


def names(model: Model, carried: Carried) -> Names:
    """What leads from the names of a model's checkpoints to those of the spec."""
    given: dict[str, str] = {}
    for ours in reversed(carried.state):  # which begins at the output
        given.setdefault(carried.sources.get(ours, ""), ours)
    given.pop("", None)
    had = set(given.values())
    lacking = [ours for ours in carried.state if ours not in had and not _is_plain(ours, carried)]
    if model.format == "ONNX" and lacking:
        folded = any(node.norm for node in model.nodes) and not carried.unfolded
        return Names({}, [_FOLDED if folded else _NAMELESS.format(_shown(lacking))])
    # What is lacking would be drawn afresh: rules for the rest would lead to another network.
    rules = {} if lacking else _rules(given, _others(model, given))
    return Names(rules, [*_told(model, rules, given, lacking, carried)])


def _told(
    model: Model,
    rules: Mapping[str, str],
    given: Mapping[str, str],
    lacking: Sequence[str],
    carried: Carried,
) -> Iterator[str]:
    unused = [name for name in _others(model, given) if name not in carried.used]
    if lacking:
        shared = [ours for ours in lacking if carried.sources.get(ours)]
        yield _SHARED.format(_shown(shared)) if shared else _LACKING.format(_shown(lacking))
    elif unused:
        yield _UNUSED.format(_shown(unused))
    if len(rules) > _MANY:
        yield _LONG.format(len(rules))
    shapes = {theirs: carried.state[ours].shape for theirs, ours in given.items()}
    alike = all(
        ours in shapes and shapes[ours] == carried.state[ours].shape for ours in given.values()
    )
    if rules and alike and model.format != "Keras":
        yield _ORDER


def _is_plain(name: str, carried: Carried) -> bool:
    """Whether it is what a norm without scale and centre has, which checkpoints have not either."""
    layer, _, leaf = name.rpartition(".")
    value = {"weight": 1, "bias": 0}.get(leaf)
    return (
        value is not None
        and f"{layer}.running_mean" in carried.sources
        and bool(np.all(carried.state[name] == value))
    )


def _others(model: Model, given: Collection[str]) -> list[str]:
    """What the model's checkpoints hold beside; a file of ONNX does not tell it."""
    known = model.parameters.values() if model.format == "PyTorch" else ()
    return [name for name in known if name not in given and not name.endswith(f".{COUNTER}")]


def _rules(given: dict[str, str], others: Sequence[str]) -> dict[str, str]:
    """Rules for layers where these say all of it, else for tensors, else also for the others."""
    ours = set(given.values())
    for pairs in (_layers(given), given, given | {each: _ELSEWHERE + each for each in others}):
        found = renames.rules(pairs)
        if found is None or any(renamed(name, found) != wanted for name, wanted in given.items()):
            continue
        if not any(renamed(name, found) in ours for name in others):
            return found
    return {theirs: wanted for theirs, wanted in given.items() if theirs != wanted}


def _layers(given: Mapping[str, str]) -> dict[str, str]:
    """The names of layers, all of whose tensors are one of ours; of the others those of tensors."""
    meant: dict[str, set[str]] = {}
    for theirs, ours in given.items():
        same = theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        meant.setdefault(_layer(theirs), set()).add(_layer(ours) if same else "")
    return {
        (_layer(theirs) if whole else theirs): (_layer(ours) if whole else ours)
        for theirs, ours in given.items()
        for whole in [_layer(theirs) != "" and meant[_layer(theirs)] == {_layer(ours)}]
    }


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _shown(names: Sequence[str]) -> str:
    count = f"{len(names):,} tensor{'' if len(names) == 1 else 's'}"
    return f"{count} ({quoted(names[0])}{' …' if len(names) > 1 else ''})"
