"""All that is printed: as text, as findings, as data. Nothing else here writes to a stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from resnet_spec.diagnostics import escapes

if TYPE_CHECKING:
    from resnet_spec.diagnostics import Diagnostic


def say(text: str, stream: TextIO | None = None, end: str = "\n") -> None:
    """Text for people, with whatever a spec or a file's name put into it."""
    print(escapes.terminal(text), end=end, file=stream or sys.stdout, flush=True)


def note(text: str, quiet: bool = False) -> None:
    """Progress and summaries: to standard error, so that standard output stays parseable."""
    if not quiet:
        say(text, sys.stderr)


class Progress:
    """How much of a long run is done, in one line of standard error, where that is a terminal."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total = total
        self.is_shown = not quiet and sys.stderr is not None and sys.stderr.isatty()

    def show(self, done: int) -> None:
        if self.is_shown:
            filled = 24 * done // self.total
            bar = "#" * filled + "-" * (24 - filled)
            print(f"\r[{bar}] {done:,} of {self.total:,}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def findings(
    found: Sequence[Diagnostic],
    sources: Mapping[str, str],
    style: str = "text",
    color: str = "auto",
    stream: TextIO | None = None,
) -> None:
    """Findings in a format; JSON always goes to standard output."""
    from resnet_spec.diagnostics.render import render

    if style == "json":
        stream = sys.stdout
    stream = stream or sys.stderr
    # Escaped where it is put together: the colours are our own.
    print(render(found, sources, style, wants_color(color, stream)), end="", file=stream)


def wants_color(choice: str, stream: TextIO | None) -> bool:
    """Whether to colour what goes to a stream: on a terminal, unless NO_COLOR says otherwise."""
    if choice != "auto":
        return choice == "always"
    return not os.environ.get("NO_COLOR") and stream is not None and stream.isatty()


def as_json(value: object) -> None:
    """A value for programs."""
    import json

    print(escapes.json(json.dumps(value, indent=2, ensure_ascii=False)))


def source(text: str) -> None:
    """The text of a compiled file, byte by byte; the backend made it safe."""
    sys.stdout.write(text)
