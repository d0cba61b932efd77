"""What was made of parts of specs, kept so that variants of a network make it once.

A part is known by its identity: a variant shares every node with its network but those on the way
to what `--set` changes, and those it shares with other variants that change the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from resnet_spec.diagnostics import Report

T = TypeVar("T")

MAX_KNOWN = 20_000


class Memo:
    """Results by a kind and the identity of what they were made of."""

    def __init__(self) -> None:
        self.known: dict[Hashable, tuple[object, Any]] = {}

    def of(self, key: Hashable, owners: object, make: Callable[[], T]) -> T:
        """The result of a key. Owners are kept alive for as long as their ids are part of it."""
        if key not in self.known:
            self.keep(key, owners, make())
        found: T = self.known[key][1]
        return found

    def sound(self, key: Hashable, owners: object, report: Report, make: Callable[[], T]) -> T:
        """The same of what reports mistakes: only what has none is kept."""
        known = self.known.get(key)
        if known is not None:
            found: T = known[1]
            return found
        before = len(report.diagnostics)
        made = make()
        if len(report.diagnostics) == before:
            self.keep(key, owners, made)
        return made

    def get(self, key: Hashable) -> Any:
        """The result of a key; None where there is none."""
        known = self.known.get(key)
        return known[1] if known is not None else None

    def keep(self, key: Hashable, owners: object, result: object) -> None:
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
        self.known[key] = (owners, result)
