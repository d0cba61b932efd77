"""Uses of blocks, one after the other, as stages: what repeats is said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_spec.importing.graph import Op, Value
from resnet_spec.importing.matching import Key, key
from resnet_spec.importing.structure.segments import joined
from resnet_spec.importing.writing.names import Names, Path, block_path, stage_names
from resnet_spec.language.name_resolution import MAX_REPEAT
from resnet_spec.language.syntax import Argument

# The default of a flag that the first block of a stage alone has.
_AT_FIRST = "i == 0"
# In which order a stage says its arguments; the others follow.
_LEADING = ("name", "names", "block", "repeat", "filters", "growth", "width", "stride")


@dataclass(frozen=True)
class Use:
    """One use of a block, with the stretch of the graph that it stands for."""

    block: str
    arguments: Mapping[str, Any]
    ops: tuple[Op, ...]
    first: Value
    last: Value

    @property
    def path(self) -> Path:
        """The model's name for it."""
        return block_path(self.ops)


@dataclass(frozen=True)
class Signature:
    """The arguments of a block that a stage gives its first block alone, and their defaults."""

    first_only: Mapping[str, Any]
    by_place: frozenset[str] = frozenset()  # flags of the first block, unless a stage says them

    @classmethod
    def of(cls, arguments: Mapping[str, Argument]) -> Signature:
        stated = {name: each for name, each in arguments.items() if each.default is not None}
        by_place = {name for name, each in stated.items() if _text(each) == _AT_FIRST}
        first = {name: _literal(_text(each)) for name, each in stated.items() if each.first_only}
        return cls({**dict.fromkeys(by_place, False), **first}, frozenset(by_place))

    def continues(self, before: Use, after: Use) -> bool:
        """Whether a use can be of one stage with the one before it."""
        if before.block != after.block:
            return False
        for name in {**before.arguments, **after.arguments}:
            one, other = before.arguments.get(name), after.arguments.get(name)
            if name in self.first_only:
                if other not in (None, self.first_only[name]):
                    return False
            elif one != other and not (name == "filters" and _same_stage(before, after)):
                return False
        return True


def _same_stage(before: Use, after: Use) -> bool:
    """Whether the model's names put two blocks into one stage."""
    one, other = before.path, after.path
    return len(one) > 1 and len(one) == len(other) and one[:-1] == other[:-1]


def _text(argument: Argument) -> str:
    return "" if argument.default is None else argument.default.text


def _literal(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    return int(text) if text.lstrip("-").isdigit() else text


def runs(uses: Iterable[Use], signature: Callable[[str], Signature]) -> list[list[Use]]:
    """Uses in stages: a new one begins where an argument changes that a stage says once."""
    found: list[list[Use]] = []
    for use in uses:
        is_full = bool(found) and len(found[-1]) == MAX_REPEAT
        if found and not is_full and signature(use.block).continues(found[-1][-1], use):
            found[-1].append(use)
        else:
            found.append([use])
    return found


def arguments_of(run: Sequence[Use], signature: Signature) -> dict[str, Any]:
    """The arguments of a stage: one value for all, the first block's, or a list."""
    found: dict[str, Any] = {}
    for name in run[0].arguments:
        values = [use.arguments.get(name) for use in run]
        if name in signature.by_place and values == [True, *(False for _ in run[1:])]:
            continue
        if all(value == values[0] for value in values) or name in signature.first_only:
            found[name] = values[0]
        else:
            found[name] = grown(values)
    if len(run) > 1:
        found["repeat"] = len(run)
    return found


def grown(values: Sequence[Any]) -> Any:
    """A list, or the expression over the place by which it grows."""
    if len(values) > 2 and all(isinstance(each, int) for each in values):
        step = values[1] - values[0]
        if all(each == values[0] + step * place for place, each in enumerate(values)):
            return f"{values[0]} + {step} * i" if step > 0 else f"{values[0]} - {-step} * i"
    return list(values)


def shortened(
    arguments: Mapping[str, Any], same: Callable[[Mapping[str, Any]], bool]
) -> dict[str, Any] | None:
    """Arguments without those that change nothing; None where not even all of them are right."""
    found = dict(arguments)
    if not same(found):
        return None
    for name in arguments:
        if name == "repeat":
            continue
        less = {other: value for other, value in found.items() if other != name}
        if same(less):
            found = less
    return found


def key_of(run: Sequence[Use]) -> Key:
    """What the graph is from the first to the last use."""
    ops = joined(op for use in run for op in use.ops)
    return key(ops, run[0].first, run[-1].last)


def patterns_of(stages: Iterable[Sequence[Use]]) -> list[str]:
    """How stages of several blocks call them, where not by numbers alone."""
    found = (stage_names([use.path for use in run])[1] for run in stages if len(run) > 1)
    return list(dict.fromkeys(pattern for pattern in found if pattern is not None))


def named(
    run: Sequence[Use], arguments: Mapping[str, Any], names: Names, patterns: Iterable[str] | None
) -> dict[str, Any]:
    """A stage with its name, and with the names of its blocks where the model has others.

    `patterns` are those of all stages; None where the model's names are not taken.
    """
    name, pattern, numbered = "", None, False
    if patterns is not None:
        paths = [use.path for use in run]
        name, pattern, numbered = stage_names(paths, patterns)
        if not names.is_free(name):
            name, pattern, numbered = stage_names(paths)
    kind = "transition" if "transition" in run[0].block else "layer"
    stage: dict[str, Any] = {"name": names.take(name, kind), "block": run[0].block, **arguments}
    if pattern is not None and stage["name"] == name:
        stage["names"] = pattern
    if numbered and stage["name"] == name:
        stage.setdefault("repeat", 1)
    order = [*(each for each in _LEADING if each in stage), *stage]
    return {each: stage[each] for each in dict.fromkeys(order)}


# What a stage says for itself.
_OWN = ("name", "names", "block", "repeat", "filters", "growth", "width", "stride")


def hoist(
    stages: Sequence[dict[str, Any]], own: Iterable[str], holds: Callable[[int, str, Any], bool]
) -> dict[str, Any]:
    """What stages of a block of the library say alike, taken out of them for `defaults`.

    `holds` tells whether a stage that does not say something would be the same if it did: a
    pooling in the shortcut is no other network where nothing strides.
    """
    defaults: dict[str, Any] = {}
    numbered = [(k, stage) for k, stage in enumerate(stages) if stage["block"] not in own]
    for block in dict.fromkeys(stage["block"] for _, stage in numbered):
        mine = [(k, stage) for k, stage in numbered if stage["block"] == block]
        for name in dict.fromkeys(name for _, stage in mine for name in stage if name not in _OWN):
            said = [stage[name] for _, stage in mine if name in stage]
            if len(said) < 2 or isinstance(said[0], list) or any(v != said[0] for v in said):
                continue
            if all(name in stage or holds(k, name, said[0]) for k, stage in mine):
                defaults.setdefault(block, {})[name] = said[0]
                for _, stage in mine:
                    stage.pop(name, None)
    return defaults
