"""The variants of a sweep: keys of a spec with the values that each takes, and all combinations."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from resnet_spec.diagnostics import quoted

MAX_VALUES = 100_000  # of one key
MAX_VARIANTS = 1_000_000

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(\d+))?")
_SECTION = re.compile(r"^(stages|stem|head)\.(?=.)")
_OPENING, _CLOSING, _QUOTES = "[{(", "]})", "\"'"

Value = int | float | bool | str


class SpaceError(ValueError):
    """Keys and values that make no sweep; the text says why."""


class Axis(NamedTuple):
    """A key of the spec with its values as `--set` takes them.

    `name` is what expressions and tables call it: `stages.layer3.repeat` is `layer3_repeat`.
    """

    path: str
    name: str
    values: tuple[str, ...]

    def setting(self, index: int) -> str:
        """The value of an index as `--set` takes it."""
        return f"{self.path}={self.values[index]}"


def axis(text: str) -> Axis:
    """`KEY=VALUES` with ranges and lists: `1..8`, `64..512..64`, `256,384,512`."""
    path, mark, values = text.partition("=")
    if not (path and mark and values.strip()):
        raise SpaceError(f"--set {quoted(text)} is not of the form KEY=VALUES: 1..8, or 256,384")
    return Axis(path, column_name(path), tuple(_expanded(text, values)))


def column_name(path: str) -> str:
    """A path as a word of an expression: `layer3_repeat`, or `stages_3_repeat` of a stage `3`."""
    short = _SECTION.sub("", path)
    return re.sub(r"\W", "_", path if short[0].isdigit() else short, flags=re.ASCII)


def _expanded(text: str, values: str) -> list[str]:
    found: dict[str, None] = {}
    for part in _parts(values):
        if not part:
            raise SpaceError(f"--set {quoted(text)} has an empty value among others")
        match = _RANGE.fullmatch(part)
        if match is None:
            found[part] = None
            continue
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        if step < 1 or last < first:
            raise SpaceError(f"{quoted(part)} is no range: write FIRST..LAST or FIRST..LAST..STEP")
        if (last - first) // step >= MAX_VALUES:
            raise SpaceError(f"{quoted(part)} has more than {MAX_VALUES:,} values")
        found.update((str(number), None) for number in range(first, last + 1, step))
    return list(found)


def _parts(values: str) -> list[str]:
    """What commas divide that stand within no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in values:
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return [part.strip() for part in parts]


def value(text: str) -> Value:
    """What a value is in tables and expressions: a number where it is one, else its text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return text


class Space:
    """All combinations of the values of some axes, by numbers; the last axis turns fastest."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self.axes = tuple(axes)
        for kind in ("path", "name"):
            seen: set[str] = set()
            for each in axes:
                name = getattr(each, kind)
                if name in seen:
                    what = "twice: list its values in one" if kind == "path" else "from two keys"
                    raise SpaceError(f"--set gives {quoted(name)} {what}")
                seen.add(name)
        self.size = math.prod(len(each.values) for each in axes)

    def numbers(self, sample: int | None = None, seed: int = 0) -> Sequence[int]:
        """The numbers of all variants, or of some that a seed chooses, ascending."""
        count = self.size if sample is None else min(sample, self.size)
        if count > MAX_VARIANTS:
            hint = "choose some of them: --sample N"
            raise SpaceError(f"{self.size:,} variants are more than {MAX_VARIANTS:,}: {hint}")
        if sample is None or sample >= self.size:
            return range(self.size)
        return sorted(_chosen(self.size, count, random.Random(seed)))

    def settings(self, number: int) -> list[str]:
        """What `--set` takes for a variant."""
        return [
            axis.setting(index) for axis, index in zip(self.axes, self.indices(number), strict=True)
        ]

    def indices(self, number: int) -> list[int]:
        """The place of each axis' value in a variant."""
        found = []
        for axis in reversed(self.axes):
            number, index = divmod(number, len(axis.values))
            found.append(index)
        return found[::-1]


def _chosen(size: int, count: int, chance: random.Random) -> set[int]:
    """Different numbers below a size, however large that is."""
    found: set[int] = set()
    while len(found) < count:
        found.add(chance.randrange(size))
    return found
