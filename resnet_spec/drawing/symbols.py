"""One table of symbols for a picture: `w` is the width of each stage, `s` its stride.

What a number is in every use of a box is a vector over the sections. Where that is one number it is
printed; else a symbol stands for it, or a multiple of one, so that a block is drawn once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_spec.drawing.boxes import Box
    from resnet_spec.drawing.figure import Inset

Number = int | float
Range = tuple[Number, Number]  # where the blocks of a section differ: the least and the most
Value = Number | Range
Vector = dict[int, Value]  # by section

WIDTHS = ("filters", "features", "channels")
# What each symbol may be called, by what it stands for; and what the table calls that.
_NAMES = {
    "channels": "wvurqmabcfoxyz",
    "stride": "st",
    "groups": "gh",
    "dilation": "de",
    "kernel": "kl",
    "drop rate": "pj",
}
_MEANINGS = {
    "filters": "channels",
    "features": "channels",
    "rate": "drop rate",
}
UNKNOWN = "…"


class Symbols:
    """The table, which grows while labels are made."""

    def __init__(self, insets: Sequence[Inset]) -> None:
        self.table: dict[str, Vector] = {}
        self.meanings: dict[str, str] = {}
        self._vectors: dict[tuple[int, int, str], Vector] = {}
        self._choose_width(insets)

    def vector(self, inset: Inset, box: Box, attribute: str) -> Vector:
        """What a number of a box is, in every section that uses its block."""
        key = (id(inset), box.index, attribute)
        if key not in self._vectors:
            found: dict[int, set[Number]] = {}
            for use in inset.uses:
                value = number(use.boxes[box.index], attribute)
                found.setdefault(use.section, set()).add(value)
            self._vectors[key] = {
                section: min(values) if len(values) == 1 else (min(values), max(values))
                for section, values in sorted(found.items())
            }
        return self._vectors[key]

    def text(self, inset: Inset, box: Box, attribute: str) -> str:
        """A number as a label states it: `64`, `w`, `4w`, `w/2`."""
        vector = self.vector(inset, box, attribute)
        meaning = _MEANINGS.get(attribute, attribute)
        first = next(iter(vector.values()))
        single = len(vector) == 1
        by_symbol = meaning == "channels" and single and bool(self.table)
        if not isinstance(first, tuple) and len(set(vector.values())) == 1 and not by_symbol:
            return shown(first)
        names = [name for name in self.table if self.meanings[name] == meaning]
        return self._known(vector, meaning, names) or (
            shown(first) if single and not isinstance(first, tuple) else self._new(vector, meaning)
        )

    def _known(self, vector: Vector, meaning: str, names: Sequence[str]) -> str | None:
        """By the symbols that there are."""
        for name in names:
            known = self.table[name]
            if vector.items() <= known.items():
                return name
            ratio = _ratio(vector, known) if meaning == "channels" else None
            if ratio is not None:
                return _product(ratio, name)
        for name in names:  # a symbol serves sections where it means nothing yet
            if not vector.keys() & self.table[name].keys():
                self.table[name].update(vector)
                return name
        return None

    def _new(self, vector: Vector, meaning: str) -> str:
        free = (name for name in _NAMES.get(meaning, "") if name not in self.table)
        name = next(free, None)
        if name is None:
            return UNKNOWN
        self.table[name] = dict(vector)
        self.meanings[name] = meaning
        return name

    def _choose_width(self, insets: Sequence[Inset]) -> None:
        """`w`: of all widths that vary, the one that most others are multiples of."""
        varying: list[tuple[Vector, bool]] = []
        for inset in insets:
            for box in inset.boxes:
                for attribute in WIDTHS:
                    if attribute not in box.attributes and attribute != "channels":
                        continue
                    if attribute == "channels" and box.kind != "take":
                        continue
                    vector = self.vector(inset, box, attribute)
                    whole = all(isinstance(value, int) for value in vector.values())
                    if whole and len(set(vector.values())) > 1:
                        varying.append((vector, inset.nested))
        if not varying:
            return

        def rank(item: tuple[Vector, bool]) -> tuple[int, bool, int, float]:
            vector, nested = item
            fits = sum(_ratio(other, vector) is not None for other, _ in varying)
            total = sum(value for value in vector.values() if not isinstance(value, tuple))
            return (len(vector), not nested, fits, -total)

        self._new(max(varying, key=rank)[0], "channels")


def number(box: Box, attribute: str) -> Number:
    """A number of a box; `channels` are those of its output."""
    value = box.channels if attribute == "channels" else box.attributes[attribute]
    assert isinstance(value, int | float)
    return value


def shown(value: Value) -> str:
    """A value as it is printed: a range where the blocks of a section differ."""
    if isinstance(value, tuple):
        return "–".join(map(shown, value))
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _ratio(vector: Vector, base: Vector) -> Fraction | None:
    """By what the values of `base` are multiplied to give `vector`; None where no fraction does."""
    found = set()
    for section, value in vector.items():
        other = base.get(section)
        if not isinstance(value, int) or not isinstance(other, int) or not other:
            return None
        found.add(Fraction(value, other))
    if len(found) != 1:
        return None
    ratio = found.pop()
    plain = ratio.numerator == 1 or ratio.denominator <= 2
    small = 0 < ratio.numerator <= 16 and ratio.denominator <= 16
    return ratio if plain and small else None


def _product(ratio: Fraction, name: str) -> str:
    top = name if ratio.numerator == 1 else f"{ratio.numerator}{name}"
    return top if ratio.denominator == 1 else f"{top}/{ratio.denominator}"
