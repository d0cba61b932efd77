"""Whether files have changed, told by what is in them.

Two saves within one tick of a disk's clock can leave a file with the same time and size. So what a
recent file holds is read each time; of an older one its times, size and number on the disk tell. Of
the two times that of the last change of whatever kind counts: a program can't set it back.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from resnet_spec.disk.regular import open_regular

_RECENT = 2.0  # seconds, the coarsest time of a disk that is in use: FAT's
_MAX_BYTES = 1_000_001  # no spec and no settings are larger; of those that are, no more is read


class _Known(NamedTuple):
    written: int  # when, in nanoseconds
    changed: int
    size: int
    number: int
    content: str


class Watch:
    """What some files hold, as a word for each; equal words for equal contents."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}

    def look(self, paths: Iterable[Path]) -> Mapping[Path, str]:
        """The files as they are now; one that is not there or can't be read has a word as well."""
        found = {path: self._content(path) for path in paths}
        self._known = {path: known for path, known in self._known.items() if path in found}
        return found

    def settled(self, paths: Iterable[Path], pause: float, tries: int) -> Mapping[Path, str]:
        """The files once two looks, `pause` seconds apart, see the same: no save is under way.

        What keeps changing is given as it is after so many tries.
        """
        paths = list(paths)
        found = self.look(paths)
        for _ in range(tries):
            time.sleep(pause)
            before, found = found, self.look(paths)
            if found == before:
                break
        return found

    def _content(self, path: Path) -> str:
        try:
            state = os.stat(path)
            known = self._known.get(path)
            same = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)
            if known is not None and known[:-1] == same and _is_old(state.st_ctime):
                return known.content
            with open_regular(path) as file:
                content = hashlib.sha256(file.read(_MAX_BYTES)).hexdigest()
        except (OSError, ValueError) as error:
            self._known.pop(path, None)
            return type(error).__name__
        self._known[path] = _Known(*same, content)
        return content


def _is_old(changed: float) -> bool:
    return time.time() - changed > _RECENT
