"""Every code that a diagnostic can have, with what it means and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means, with a bad and a good example."""

    title: str
    explanation: str
    bad: str
    good: str


CODES: dict[str, Code] = {}
