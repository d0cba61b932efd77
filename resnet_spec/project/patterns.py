"""Path patterns with a limited search: each folder is searched once for each part.

`pathlib` searches a folder again for every way in which `**/**/**` reaches it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path

MAX_ENTRIES = 200_000  # names that a pattern may be held against
MAX_PARTS = 64


class TooManyFiles(Exception):
    """A pattern for which more folders would be searched than any project has."""


def matches(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder that a pattern stands for, sorted.

    `*`, `?` and `[…]` stand for part of a name, `**` for any number of folders, of which links are
    none. Raises `ValueError` for what is no relative pattern, `TooManyFiles` beyond the budget.
    """
    parts = _parts(pattern)
    search = _Search(parts)
    return sorted(set(search.below(folder, 0)))


def _parts(pattern: str) -> list[str]:
    """The parts of a pattern, each `**` once in a row."""
    if "\0" in pattern or os.path.isabs(pattern) or os.path.splitdrive(pattern)[0]:
        raise ValueError("not a relative pattern")
    parts: list[str] = []
    for part in pattern.replace(os.sep, "/").split("/"):
        if part not in ("", ".") and not (part == "**" and parts[-1:] == ["**"]):
            parts.append(part)
    if not parts or len(parts) > MAX_PARTS or any("**" in p and p != "**" for p in parts):
        raise ValueError("not a pattern")
    return parts


class _Search:
    def __init__(self, parts: list[str]) -> None:
        self.parts = parts
        self.names = [re.compile(translate(part)) for part in parts]
        self.left = MAX_ENTRIES
        self.seen: set[tuple[str, int]] = set()

    def below(self, folder: Path, number: int) -> Iterator[Path]:
        """What the parts from `number` on stand for below a folder."""
        key = (str(folder), number)
        if key in self.seen:
            return
        self.seen.add(key)
        part, is_last = self.parts[number], number + 1 == len(self.parts)
        if part == "**":
            if not is_last:
                yield from self.below(folder, number + 1)
            for entry in self.entries(folder):
                if entry.is_dir(follow_symlinks=False):
                    yield from self.below(folder / entry.name, number)
        elif not _is_magic(part):
            yield from self.one(folder / part, number)
        else:
            for entry in self.entries(folder):
                if self.names[number].fullmatch(entry.name):
                    yield from self.one(folder / entry.name, number)

    def one(self, path: Path, number: int) -> Iterator[Path]:
        if number + 1 < len(self.parts):
            if os.path.isdir(path):
                yield from self.below(path, number + 1)
        elif os.path.isfile(path):
            yield path

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                entries = []
                for entry in found:
                    self.left -= 1
                    if self.left < 0:
                        raise TooManyFiles
                    entries.append(entry)
                return entries
        except OSError:  # as a shell does: a folder that can't be read matches nothing
            return []


def _is_magic(part: str) -> bool:
    return any(sign in part for sign in "*?[")
