"""Diagnostics as text, JSON and workflow commands."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from resnet_spec.diagnostics import escapes
from resnet_spec.diagnostics.diagnostic import MAX_FINDINGS, Diagnostic, Span, in_order

FORMATS = ("text", "json", "github")

_RED, _CYAN, _BOLD, _RESET = "\x1b[31m", "\x1b[36m", "\x1b[1m", "\x1b[0m"


def render(
    diagnostics: Sequence[Diagnostic],
    sources: Mapping[str, str],
    style: str = "text",
    color: bool = False,
) -> str:
    """All diagnostics as one text in the given format; `sources` maps paths to their texts."""
    diagnostics = in_order(diagnostics)
    if style == "json":
        return render_json(diagnostics)
    if style == "github":
        return "".join(f"{_github(d)}\n" for d in diagnostics)
    return "".join(_text(d, sources, color) for d in diagnostics) + summary(diagnostics)


def summary(diagnostics: Sequence[Diagnostic]) -> str:
    """`5 errors in 2 files`, with a line end; empty when nothing was found."""
    if not diagnostics:
        return ""
    files = {d.span.path for d in diagnostics if d.span is not None}
    errors = f"{len(diagnostics)} error{'s' if len(diagnostics) != 1 else ''}"
    if len(diagnostics) >= MAX_FINDINGS:
        errors = f"{errors} or more"
    if not files:
        return f"{errors}\n"
    return f"{errors} in {len(files)} file{'s' if len(files) != 1 else ''}\n"


def render_json(diagnostics: Sequence[Diagnostic]) -> str:
    """A JSON object; `diagnostics` is always an array, positions count from 1."""
    import json

    return escapes.json(json.dumps(as_json(diagnostics), indent=2, ensure_ascii=False)) + "\n"


def as_json(diagnostics: Sequence[Diagnostic]) -> dict[str, object]:
    return {
        "format_version": 1,
        "valid": not diagnostics,
        "error_count": len(diagnostics),
        "diagnostics": [_json_object(d) for d in diagnostics],
    }


def _json_object(diagnostic: Diagnostic) -> dict[str, object]:
    return {
        "code": diagnostic.code,
        "message": diagnostic.message,
        **_json_span(diagnostic.span),
        "help": diagnostic.help,
        "uses": [{"text": use.text, **_json_span(use.span)} for use in diagnostic.uses],
    }


def _json_span(span: Span | None) -> dict[str, object]:
    if span is None:
        return dict.fromkeys(("path", "line", "column", "end_line", "end_column"))
    return {
        "path": span.path,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _github(diagnostic: Diagnostic) -> str:
    """A workflow command, https://docs.github.com/actions/reference/workflow-commands."""
    message = diagnostic.message
    if diagnostic.help:
        message += f"\nhelp: {diagnostic.help}"
    message = escapes.github(message)
    if diagnostic.span is None:
        return f"::error title={diagnostic.code}::{message}"
    span = diagnostic.span
    where = f"file={escapes.github_property(span.path)},line={span.line},col={span.column}"
    if span.end_line == span.line:
        where += f",endColumn={span.end_column}"
    return f"::error {where},title={diagnostic.code}::{message}"


def _text(diagnostic: Diagnostic, sources: Mapping[str, str], color: bool) -> str:
    red, cyan, bold, reset = (_RED, _CYAN, _BOLD, _RESET) if color else ("", "", "", "")
    safe = escapes.terminal
    where = f"{bold}{safe(str(diagnostic.span))}:{reset} " if diagnostic.span else ""
    lines = [f"{where}{red}error {diagnostic.code}{reset}: {safe(diagnostic.message)}"]
    gutter = "  "
    if diagnostic.span is not None and diagnostic.span.path in sources:
        snippet = list(_snippet(diagnostic.span, sources[diagnostic.span.path], red, reset))
        gutter = " " * len(str(diagnostic.span.line)) + " "
        lines += snippet
    if diagnostic.uses:
        chain = uses(diagnostic)
        lines.append(f"{gutter}{cyan}= in:{reset} {safe(chain)}")
    if diagnostic.help:
        lines.append(f"{gutter}{cyan}= help:{reset} {safe(diagnostic.help)}")
    return "\n".join(lines) + "\n"


def uses(diagnostic: Diagnostic) -> str:
    """The chain of uses that led to a diagnostic, on one line."""
    links = [str(use) for use in diagnostic.uses]
    return ", ".join(links if len(links) <= 12 else [*links[:6], "…", *links[-6:]])


class Excerpt(NamedTuple):
    """A line of a source around a position: its number, the part that is shown, the marked part."""

    number: int
    text: str
    start: int
    length: int


def excerpt(span: Span, source: str, width: int = 100) -> Excerpt | None:
    """What is shown of a source beside a diagnostic; each character has its own place."""
    lines = source.splitlines()
    if not 1 <= span.line <= len(lines):
        return None
    line = escapes.one_line(lines[span.line - 1].replace("\t", " "))
    start = span.column - 1
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    # A long line is cut to a window around the position.
    left = max(0, start - width // 2) if len(line) > width else 0
    length = max(1, min(end, left + width) - start)
    return Excerpt(span.line, line[left : left + width], start - left, length)


def _snippet(span: Span, source: str, red: str, reset: str) -> Iterator[str]:
    found = excerpt(span, source)
    if found is not None:
        margin = " " * len(str(found.number))
        yield f"{margin} |"
        yield f"{found.number} | {escapes.snippet(found.text)}"
        yield f"{margin} | {' ' * found.start}{red}^{'~' * (found.length - 1)}{reset}"
