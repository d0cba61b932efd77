"""The fewest rules that lead from the model's names to the spec's, as `references` have them.

Rules are found among those that names suggest: the beginning of a name, whose numbers are counters
or stay as they are, and what becomes of it. One is taken only if it leads no name elsewhere, so
what comes out is the map that went in.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from resnet_spec.language.renames import renamed, rule_of

_NUMBER = re.compile(r"(0|[1-9]\d*)")
_COUNTERS = "sbnmk"
_MAX_NUMBERS = len(_COUNTERS)  # in a name; more of them stay as they are


class Shift(NamedTuple):
    """A number of a new name: that of a counter and so much more."""

    counter: int
    more: int


Number = int | Shift
Row = tuple[tuple[int, ...], tuple[int, ...]]  # the numbers of a name, and those of what it becomes


class _Rule(NamedTuple):
    """A rule: the texts of both sides, between which their numbers stand; None is a counter."""

    theirs: tuple[str, ...]
    given: tuple[int | None, ...]
    ours: tuple[str, ...]
    made: tuple[Number, ...]

    def pattern(self) -> str:
        names = dict(zip(self._counters(), self._letters(), strict=True))
        held = (f"{{{names[k]}}}" if n is None else str(n) for k, n in enumerate(self.given))
        return _joined(self.theirs, held)

    def replacement(self) -> str:
        names = dict(zip(self._counters(), self._letters(), strict=True))
        return _joined(self.ours, (_written(each, names) for each in self.made))

    def fits(self, numbers: Sequence[int]) -> bool:
        """Whether it fits a beginning with its texts and these numbers."""
        return all(n in (None, each) for n, each in zip(self.given, numbers, strict=True))

    def made_of(self, numbers: Sequence[int]) -> str:
        """What becomes of a beginning with these numbers."""
        made = (n if isinstance(n, int) else numbers[n.counter] + n.more for n in self.made)
        return _joined(self.ours, map(str, made))

    def plainness(self) -> tuple[int, int]:
        """More for shorter beginnings, and for more counters."""
        return -self.pattern().count("."), self.given.count(None)

    def _counters(self) -> list[int]:
        return [k for k, number in enumerate(self.given) if number is None]

    def _letters(self) -> str:
        count = len(self._counters())
        return "n" if count == 1 else _COUNTERS[:count]


def _written(number: Number, names: Mapping[int, str]) -> str:
    if isinstance(number, int):
        return str(number)
    name, more = names[number.counter], number.more
    sign = f" {'+' if more > 0 else '-'} {abs(more)}" if more else ""
    return f"{{{name}{sign}}}"


def _joined(texts: Sequence[str], numbers: Iterable[str]) -> str:
    return "".join(itertools.chain(*itertools.zip_longest(texts, numbers, fillvalue="")))


def rules(names: Mapping[str, str]) -> dict[str, str] | None:
    """Rules that lead each name to the other, in their order; none where all are the same.

    The names are of layers or of tensors. None where no rules were found that say all of it.
    """
    found: dict[str, str] = {}
    if any(theirs != ours for theirs, ours in names.items()):
        found = {rule.pattern(): rule.replacement() for rule in _chosen(names)}
        found = _uncounted(found, names)
    holds = all(renamed(name, found) == wanted for name, wanted in names.items())
    return found if holds else None


def _uncounted(found: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The same rules, of which those for one beginning alone count by chance nothing.

    A number within a word, such as that of `conv2d`, or one that is another afterwards.
    """
    begun: dict[str, set[str]] = {pattern: set() for pattern in found}
    for name in names:
        pattern = rule_of(name, found)
        if pattern is not None:
            begun[pattern].add(".".join(name.split(".")[: pattern.count(".") + 1]))
    result: dict[str, str] = {}
    for pattern, beginnings in begun.items():
        rule = {pattern: found[pattern]}
        chance = re.search(r"\}[A-Za-z]", pattern) or re.search(r" [+-] ", found[pattern])
        if len(beginnings) > 1 or not chance:
            result |= rule
        else:
            result |= {each: renamed(each, rule) for each in beginnings}
    return result


def _chosen(names: Mapping[str, str]) -> list[_Rule]:
    """One rule after the other, each of those that are right the one for the most names."""
    effects = _effects(names)
    wrong = {
        rule: {name for name, each in made.items() if names[name] != each}
        for rule, made in effects.items()
    }
    left = {theirs for theirs, wanted in names.items() if theirs != wanted}
    done: set[str] = set()
    found: list[_Rule] = []
    while left:
        fitting = {
            rule: len((made.keys() - wrong[rule]) & left)
            for rule, made in effects.items()
            if wrong[rule] <= done
        }
        if not any(fitting.values()):
            break
        found.append(max(fitting, key=lambda rule: (fitting[rule], *rule.plainness())))
        left -= effects[found[-1]].keys()
        done |= effects[found[-1]].keys()
    return _fewer(found, effects, names)


def _fewer(
    found: list[_Rule], effects: Mapping[_Rule, Mapping[str, str]], names: Mapping[str, str]
) -> list[_Rule]:
    """Without rules that those behind them make needless."""
    for rule in list(found):
        less = [each for each in found if each != rule]
        made = {
            name: next((effects[each][name] for each in less if name in effects[each]), name)
            for name in effects[rule]
        }
        if all(names[name] == each for name, each in made.items()):
            found = less
    return found


def _effects(names: Mapping[str, str]) -> dict[_Rule, dict[str, str]]:
    """By each rule that the names suggest, what becomes of those that it fits."""
    forms: dict[tuple[str, ...], list[tuple[tuple[int, ...], str, str]]] = {}
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            form, numbers = _split(".".join(parts[:count]))
            rest = "".join(f".{part}" for part in parts[count:])
            forms.setdefault(form, []).append((numbers, rest, name))
    return {
        rule: {
            name: (rule.made_of(numbers) + rest).removeprefix(".")
            for numbers, rest, name in forms[rule.theirs]
            if rule.fits(numbers)
        }
        for rule in _suggested(names)
    }


# --- suggestions ---------------------------------------------------------------------------------


def _suggested(names: Mapping[str, str]) -> Iterator[_Rule]:
    """What some names have in common, each rule once."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], set[Row]] = {}
    for theirs, wanted in names.items():
        if theirs == wanted:
            continue
        for pair in _beginnings(theirs.split("."), wanted.split(".")):
            (theirs_text, given), (ours_text, made) = map(_split, pair)
            alike.setdefault((theirs_text, ours_text), set()).add((given, made))
    for (theirs_text, ours_text), rows in alike.items():
        yield from (
            _Rule(theirs_text, given, ours_text, made) for given, made in _generalised(sorted(rows))
        )


def _beginnings(theirs: list[str], ours: list[str]) -> Iterator[tuple[str, str]]:
    """Two names without what both end with, of which they may keep any part."""
    while True:
        yield ".".join(theirs), ".".join(ours)
        if len(theirs) < 2 or not ours or theirs[-1] != ours[-1]:
            return
        theirs, ours = theirs[:-1], ours[:-1]


def _split(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    parts = _NUMBER.split(name)
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))


def _generalised(
    rows: Sequence[Row],
) -> Iterator[tuple[tuple[int | None, ...], tuple[Number, ...]]]:
    """Which numbers of names of one form may be counters, and what those of the others are then."""
    width = len(rows[0][0])
    may_count = (False, True) if width <= _MAX_NUMBERS else (False,)
    for counts in itertools.product(may_count, repeat=width):
        groups: dict[tuple[int | None, ...], list[Row]] = {}
        for given, made in rows:
            key = tuple(None if c else n for c, n in zip(counts, given, strict=True))
            groups.setdefault(key, []).append((given, made))
        for key, group in groups.items():
            free = {k for k, number in enumerate(key) if number is None}
            numbers: list[Number] = []
            for place in range(len(group[0][1])):
                number = _number(key, free, group, place)
                if number is None:
                    break
                numbers.append(number)
                free.discard(number.counter if isinstance(number, Shift) else -1)
            else:
                if not free:
                    yield key, tuple(numbers)


def _number(
    key: Sequence[int | None], free: Collection[int], group: Sequence[Row], place: int
) -> Number | None:
    """A number of new names: one and the same, or that of a free counter and so much more."""
    first_given, first_made = group[0]
    number = first_made[place]
    same = all(made[place] == number for _, made in group)
    if same and key[place : place + 1] == (number,):
        return number
    shifts = [
        Shift(counter, number - first_given[counter])
        for counter in free
        if len({made[place] - given[counter] for given, made in group}) == 1
    ]
    if shifts:
        return min(shifts, key=lambda shift: abs(shift.more))
    return number if same else None
