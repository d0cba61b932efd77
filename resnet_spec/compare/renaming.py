"""Rules that carry the names of one network to those of another, as `weights --rename` takes them.

A rule is written for as much as possible at once: `stage{n}=layer{n}`. Whatever is found is tried
on every name with what reads rules, so a rule that is told does what it is told for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from resnet_spec.language.renames import RenameError, renamed

_NUMBER = re.compile(r"\d+")
_COUNTERS = "nmkpqrstuvw"
_MAX_TRIED = 4_000_000  # names times rules: what is beyond is not looked for


def rules(wanted: Mapping[str, str], others: Iterable[str] = ()) -> dict[str, str] | None:
    """Rules by which each name becomes the wanted one; None where there are none.

    `wanted` has the new dotted name of a layer by its old one, those that stay the same included;
    `others` are old names that nothing new stands for: none of them may become a wanted one.
    """
    changed = {old: new for old, new in wanted.items() if old != new}
    if not changed:
        return {}
    rest = [name for name in others if name not in wanted]
    shortened = list(dict.fromkeys(_shortened(old, new) for old, new in changed.items()))
    for found in (_general(shortened), dict(shortened), changed):
        if len(found) * len(wanted) > _MAX_TRIED:
            continue
        # The longest first, for of several rules that fit the first is taken.
        ordered = dict(sorted(found.items(), key=lambda each: (-each[0].count("."), each[0])))
        if _leads(ordered, wanted, rest):
            return _needed(ordered, wanted, rest)
    return None


def _leads(found: Mapping[str, str], wanted: Mapping[str, str], rest: Iterable[str]) -> bool:
    try:
        if any(renamed(old, found) != new for old, new in wanted.items()):
            return False
        targets = set(wanted.values())
        return all(renamed(name, found) not in targets for name in rest)
    except RenameError:
        return False


def _needed(found: dict[str, str], wanted: Mapping[str, str], rest: list[str]) -> dict[str, str]:
    """The rules without those that others make needless."""
    if len(found) > 20:
        return found
    for pattern in list(found):
        fewer = {key: value for key, value in found.items() if key != pattern}
        if fewer and _leads(fewer, wanted, rest):
            found = fewer
    return found


def _shortened(old: str, new: str) -> tuple[str, str]:
    """Two names without the parts at their ends that are the same; each keeps one."""
    ours, theirs = old.split("."), new.split(".")
    while len(ours) > 1 and len(theirs) > 1 and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    return ".".join(ours), ".".join(theirs)


def _general(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One rule with counters for all pairs that differ in numbers alone."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for old, new in pairs:
        groups.setdefault((_NUMBER.sub("#", old), _NUMBER.sub("#", new)), []).append((old, new))
    found: dict[str, str] = {}
    for members in groups.values():
        found.update(_of_alike(members))
    return found


def _of_alike(members: list[tuple[str, str]]) -> dict[str, str]:
    """Rules for names that differ in numbers alone: one, or one for each value of a number."""
    rule = _with_counters(members) if len(members) > 1 else None
    if rule is not None:
        return dict([rule])
    for place in reversed(range(len(_numbers(members[0][0])))):
        parts: dict[int, list[tuple[str, str]]] = {}
        for member in members:
            parts.setdefault(_numbers(member[0])[place], []).append(member)
        rules = [_with_counters(part) for part in parts.values()]
        told = [each for each in rules if each is not None]
        if 1 < len(rules) == len(told):
            return dict(told)
    return dict(members)


def _with_counters(members: list[tuple[str, str]]) -> tuple[str, str] | None:
    """`stage{n}`, `layer{n - 1}`: a counter for each number that is not always the same."""
    ours, theirs = zip(*(map(_numbers, pair) for pair in members), strict=True)
    columns = list(zip(*ours, strict=True))
    varying = [place for place, values in enumerate(columns) if len(set(values)) > 1]
    if len(varying) > len(_COUNTERS):
        return None
    counters = {place: _COUNTERS[n] for n, place in enumerate(varying)}
    spelled = []
    for values in zip(*theirs, strict=True):
        text = _spelled(values, columns, counters)
        if text is None:
            return None
        spelled.append(text)
    old, new = members[0]
    numbers = iter(range(len(columns)))

    def counter(match: re.Match[str]) -> str:
        place = next(numbers)
        return f"{{{counters[place]}}}" if place in counters else match[0]

    filled = iter(spelled)
    return _NUMBER.sub(counter, old), _NUMBER.sub(lambda match: next(filled), new)


def _spelled(
    values: tuple[int, ...], columns: list[tuple[int, ...]], counters: Mapping[int, str]
) -> str | None:
    """What stands for the number of a new name: itself, or a counter and what is added to it."""
    if len(set(values)) == 1:
        return str(values[0])
    return next(_offsets(values, columns, counters), None)


def _offsets(
    values: tuple[int, ...], columns: list[tuple[int, ...]], counters: Mapping[int, str]
) -> Iterator[str]:
    for place, name in counters.items():
        added = {value - own for value, own in zip(values, columns[place], strict=True)}
        if len(added) == 1:
            offset = added.pop()
            sign = "-" if offset < 0 else "+"
            yield f"{{{name} {sign} {abs(offset)}}}" if offset else f"{{{name}}}"


def _numbers(text: str) -> list[int]:
    return [int(each) for each in _NUMBER.findall(text)]
