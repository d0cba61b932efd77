"""Variants of a spec as networks, one after the other, in memory that does not grow."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from resnet_spec.diagnostics import SpecError
from resnet_spec.disk.files import Files
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.lower.unused import findings

_TURN = 256  # variants between two times that what they left behind is collected


def lowering(
    spec: str, library: Library, turn: Callable[[], None] = lambda: None
) -> Callable[[Sequence[str]], Network]:
    """What gives a variant by its settings, or raises `SpecError` with all that is wrong.

    What the variants have in common is read and lowered once for the library. `turn` is called now
    and then. A network has no digest: none of them is compiled.
    """
    left = [_TURN]

    def lowered(settings: Sequence[str]) -> Network:
        left[0] -= 1
        if left[0] == 0:
            left[0] = _TURN
            gc.collect(1)  # a run of the command line collects nothing by itself
            turn()
        loaded = load(spec, library, settings)
        network = lower(loaded, with_digest=False)
        found = findings(loaded, network)
        if found:
            raise SpecError(found)
        return network

    return lowered


class _Ahead(Files):
    """The disk as it will be: a folder that is not there yet leads to those above it."""

    def is_file(self, path: Path) -> bool:
        return super().is_file(_without_turns(path))

    def is_folder(self, path: Path) -> bool:
        return super().is_folder(_without_turns(path))

    def exists(self, path: Path) -> bool:
        return super().exists(_without_turns(path))

    def read(self, path: Path, limit: int) -> bytes:
        return super().read(_without_turns(path), limit)


def _without_turns(path: Path) -> Path:
    """A path whose folder is there as it is, any other without its `..`."""
    return path if os.path.isdir(path.parent) else Path(os.path.normpath(path))


def load_ahead(shown: str, text: str) -> None:
    """Raise `SpecError` for a text that is no network where it is to be written."""
    lower(load(shown, Library(_Ahead()), (), text.encode()), with_digest=False)
