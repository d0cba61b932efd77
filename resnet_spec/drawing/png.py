"""PNG, by a converter where one is installed: none is needed for anything else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

_SECONDS = 120
_SCALE = 2  # pixels for each unit of the picture


def _rsvg(program: str, source: str, target: str) -> list[str]:
    return [program, "--zoom", str(_SCALE), "--output", target, source]


def _inkscape(program: str, source: str, target: str) -> list[str]:
    return [program, source, f"--export-dpi={96 * _SCALE}", f"--export-filename={target}"]


def _magick(program: str, source: str, target: str) -> list[str]:
    return [program, "-density", str(96 * _SCALE), source, target]


def _cairosvg(program: str, source: str, target: str) -> list[str]:
    return [program, source, "--scale", str(_SCALE), "--output", target]


# In the order in which they are looked for.
CONVERTERS: dict[str, Callable[[str, str, str], list[str]]] = {
    "rsvg-convert": _rsvg,
    "cairosvg": _cairosvg,
    "inkscape": _inkscape,
    "magick": _magick,
}


class ConversionError(Exception):
    """No converter is installed, or it failed; the text says which."""


def find_converter() -> tuple[str, str]:
    """The name of the first converter that is installed, and its path."""
    for name in CONVERTERS:
        if program := shutil.which(name):
            return name, program
    known = ", ".join(CONVERTERS)
    raise ConversionError(f"PNG needs a converter, and none is installed: {known}")


def convert(source: str, target: str) -> None:
    """An SVG file to a PNG file that must not be there yet."""
    name, program = find_converter()
    command = CONVERTERS[name](program, source, target)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConversionError(f"{name} took more than {_SECONDS} seconds") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise ConversionError(f"{name} failed: {ascii(said)[1:-1][:200]}")
