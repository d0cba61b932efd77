"""Functions and layers that a module defines itself where it uses them.

They are in separate Python files, so that they are linted and type-checked; a module gets their
source.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from resnet_spec.codegen.python import names_in
from resnet_spec.expressions import rounding


@functools.cache
def definitions(backend: str) -> dict[str, str]:
    """The source of each class and function in `layers.py` beside a backend's file, by name.

    What another one stands on comes before it. The functions of the language come first.
    """
    return sources(Path(rounding.__file__)) | sources(Path(backend).with_name("layers.py"))


def sources(path: Path) -> dict[str, str]:
    """The source of each class and function of a Python file, by name."""
    parts = path.read_text(encoding="utf-8").rstrip().split("\n\n\n")
    return {_name(part): part for part in parts if part.startswith(("@", "class ", "def "))}


def _name(source: str) -> str:
    line = next(each for each in source.split("\n") if each.startswith(("class ", "def ")))
    return line.split()[1].partition("(")[0].rstrip(":")


def needed(available: Mapping[str, str], used: set[str]) -> list[str]:
    """The source of each definition that is used, or that one of them uses.

    `used` grows by the names that they read.
    """
    found: list[str] = []
    for name, source in reversed([*available.items()]):
        if name in used:
            found.insert(0, source)
            used |= names_in(source)
    return found
