"""From the names of a published checkpoint to ours, by the rules that a spec states.

A rule is the beginning of a dotted name with counters in braces, `stages.{s}.blocks.{b}`, and what
it becomes, an expression over the counters in braces: `layer{s + 1}.{b}`. A counter may be a
letter: `res{s}{b:a}` takes `res2a` with b = 0. What becomes nothing is taken off the name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

from resnet_spec import expressions

_BRACES = re.compile(r"\{([^{}]*)\}")
_COUNTER = re.compile(r"([a-z]+)(:[aA])?")


class RenameError(ValueError):
    """A rule that can't be read."""


def renamed(name: str, rules: Mapping[str, str]) -> str:
    """The name with the beginning that the first fitting rule describes replaced."""
    pattern = rule_of(name, rules)
    match = _compiled(pattern).match(name) if pattern is not None else None
    if pattern is None or match is None:
        return name
    counters = {key: _number(value) for key, value in match.groupdict().items()}
    result = _filled(rules[pattern], counters) + name[match.end() :]
    return result if rules[pattern] else result.removeprefix(".")


def _number(counter: str) -> int:
    """What a counter counts: a number, or a letter from a or A, which are 0."""
    return int(counter) if counter.isdigit() else ord(counter.lower()) - ord("a")


def rule_of(name: str, rules: Iterable[str]) -> str | None:
    """The first rule that fits a name."""
    return next((pattern for pattern in rules if _compiled(pattern).match(name)), None)


def sample(pattern: str) -> str:
    """A name that a rule fits, with numbers that no other rule states."""
    return _BRACES.sub(lambda found: _SAMPLES.get(found[1].partition(":")[2], "987654321"), pattern)


_SAMPLES = {"a": "z", "A": "Z"}


def leads_to(replacement: str, names: Iterable[str], flat: bool = False) -> bool:
    """Whether any name begins as a rule's replacement does; `flat`: '_' stands for '.' as well."""
    dot = "_" if flat else "."
    text = ""
    for index, part in enumerate(_BRACES.split(replacement)):
        text += "[0-9]+" if index % 2 else re.escape(part.replace(".", dot))
    fits = re.compile(rf"{text}(?={re.escape(dot)}|$)")
    return any(fits.match(name.replace(".", dot)) for name in names)


def check(pattern: str, replacement: str) -> None:
    """Raise `RenameError` for a rule that can't be read, whether or not a name fits it."""
    _compiled(pattern)
    for text in (pattern, replacement):
        if set(_BRACES.sub("", text)) & set("{}"):
            raise RenameError(f"'{text}' has a brace without its other one")
    counters = {found.partition(":")[0] for found in _BRACES.findall(pattern)}
    for text in _BRACES.findall(replacement):
        try:
            used = expressions.names(expressions.parse(text)[0])
        except expressions.ExpressionError as error:
            raise RenameError(str(error)) from None
        for name in sorted(used - counters):
            raise RenameError(f"'{name}' is no counter of '{pattern}'")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A rule as a regular expression for whole parts of a dotted name."""
    parts = _BRACES.split(pattern)
    text = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            text += re.escape(part)
            continue
        found = _COUNTER.fullmatch(part)
        if found is None:
            raise RenameError(f"'{part}' can't name a counter: use a lower-case word")
        text += f"(?P<{found[1]}>{_KINDS[found[2] or '']})"
    return re.compile(rf"{text}(?=\.|$)")


_KINDS = {"": "[0-9]+", ":a": "[a-z]", ":A": "[A-Z]"}


def _filled(replacement: str, counters: Mapping[str, int]) -> str:
    def fill(match: re.Match[str]) -> str:
        try:
            return str(expressions.evaluate(expressions.parse(match.group(1))[0], counters))
        except (KeyError, expressions.ExpressionError) as error:
            raise RenameError(f"'{match.group(1)}' has no value: {error}") from None

    return _BRACES.sub(fill, replacement)
