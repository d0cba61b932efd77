"""What the compiler says about a spec: positions, messages, and the three ways to print them.

A diagnostic says what is wrong with the value quoted, what was expected, and how to fix it. It
carries a position with an end, and the chain of uses that led there, innermost first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn


class Span(NamedTuple):
    """A region of a source text; lines and columns count from 1, the end column is exclusive."""

    path: str
    line: int = 1
    column: int = 1
    end_line: int = 1
    end_column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"

    def narrowed(self, offset: int, length: int) -> "Span":
        """The part of a one-line region that starts `offset` characters in."""
        if self.line != self.end_line:
            return self
        start = min(self.column + offset, max(self.column, self.end_column - 1))
        end = min(max(start + length, start + 1), max(self.end_column, start + 1))
        return Span(self.path, self.line, start, self.line, end)


class Use(NamedTuple):
    """One link of the chain that led to a diagnostic: `stage layer3`, at its position."""

    text: str
    span: Span

    def __str__(self) -> str:
        return f"{self.text} ({self.span.path}:{self.span.line})"


INTERNAL = "RS504"  # a mistake of ours


class Diagnostic(NamedTuple):
    """One finding; `code` is a key of `resnet_spec.codes.CODES`."""

    code: str
    message: str
    span: Span | None = None
    help: str | None = None
    uses: tuple[Use, ...] = ()

    @property
    def sort_key(self) -> tuple[Span, str, str]:
        return (self.span or Span(""), self.code, self.message)


class SpecError(Exception):
    """Raised with every diagnostic that a step of the compiler found."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = in_order(diagnostics)
        super().__init__("; ".join(d.message for d in self.diagnostics))


def fail(
    code: str,
    message: str,
    span: Span | None = None,
    help: str | None = None,
    uses: tuple[Use, ...] = (),
) -> NoReturn:
    """Raise a `SpecError` with a single diagnostic."""
    raise SpecError([Diagnostic(code, message, span, help, uses)])


MAX_FINDINGS = 200


class Report:
    """Collects diagnostics, so that one run tells all of them.

    `add` and `extend` raise what there is when that is more than anybody would read.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic] = ()) -> None:
        self.diagnostics = list(diagnostics)

    def add(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        help: str | None = None,
        uses: tuple[Use, ...] = (),
    ) -> None:
        self.diagnostics.append(Diagnostic(code, message, span, help, uses))
        self._stop_where_full()

    def extend(self, error: SpecError, uses: tuple[Use, ...] = ()) -> None:
        """Take over the findings of an error; `uses` is for those that carry no chain yet."""
        for found in error.diagnostics:
            chain = found.uses or uses
            self.diagnostics.append(
                Diagnostic(found.code, found.message, found.span, found.help, chain)
            )
        self._stop_where_full()

    def _stop_where_full(self) -> None:
        if len(self.diagnostics) >= MAX_FINDINGS:
            raise SpecError(self.diagnostics[:MAX_FINDINGS])

    def raise_if_any(self) -> None:
        if self.diagnostics:
            raise SpecError(self.diagnostics)


def in_order(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sorted by position, the same finding at the same place told once."""
    unique: dict[tuple[Span, str, str], Diagnostic] = {}
    for diagnostic in diagnostics:
        unique.setdefault(diagnostic.sort_key, diagnostic)
    return tuple(unique[key] for key in sorted(unique))


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was probably meant to be, or of which it is all initials."""
    import difflib  # not needed by a run that finds nothing wrong

    names = sorted(candidates)
    found = [each for each in names if "_" in each and _initials(each) == name]
    found = found or difflib.get_close_matches(name[:64], names, n=1, cutoff=0.6)
    return found[0] if found else None


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def expected(name: str, candidates: Iterable[str], limit: int = 40) -> str:
    """A help text for a name that is none of `candidates`: the nearest, or what was possible."""
    names = sorted(candidates)
    close = nearest(name, names)
    if close is not None:
        return f"did you mean {quoted(close)}?"
    if not names:
        return "nothing is expected here"
    shown = ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
    return f"expected one of: {shown}"


def quoted(value: object, limit: int = 60) -> str:
    """A value as a message shows it: on one line, in quotes, control characters escaped, cut."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit and text.isprintable():
        return f"'{text}'"
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return f"'{printable[:limit]}…'" if len(printable) > limit else f"'{printable}'"


# --- printing ------------------------------------------------------------------------------------

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

    return json.dumps(as_json(diagnostics), indent=2, ensure_ascii=False) + "\n"


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
    for raw, escaped in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        message = message.replace(raw, escaped)
    if diagnostic.span is None:
        return f"::error title={diagnostic.code}::{message}"
    span = diagnostic.span
    path = span.path
    for raw, escaped in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        path = path.replace(raw, escaped)
    where = f"file={path},line={span.line},col={span.column}"
    if span.end_line == span.line:
        where += f",endColumn={span.end_column}"
    return f"::error {where},title={diagnostic.code}::{message}"


def _text(diagnostic: Diagnostic, sources: Mapping[str, str], color: bool) -> str:
    red, cyan, bold, reset = (_RED, _CYAN, _BOLD, _RESET) if color else ("", "", "", "")
    where = f"{bold}{diagnostic.span}:{reset} " if diagnostic.span else ""
    lines = [f"{where}{red}error {diagnostic.code}{reset}: {diagnostic.message}"]
    gutter = "  "
    if diagnostic.span is not None and diagnostic.span.path in sources:
        snippet = list(_snippet(diagnostic.span, sources[diagnostic.span.path], red, reset))
        gutter = " " * len(str(diagnostic.span.line)) + " "
        lines += snippet
    if diagnostic.uses:
        links = [str(use) for use in diagnostic.uses]
        chain = ", ".join(links if len(links) <= 12 else [*links[:6], "…", *links[-6:]])
        lines.append(f"{gutter}{cyan}= in:{reset} {chain}")
    if diagnostic.help:
        lines.append(f"{gutter}{cyan}= help:{reset} {diagnostic.help}")
    return "\n".join(lines) + "\n"


def _snippet(span: Span, source: str, red: str, reset: str, width: int = 100) -> Iterator[str]:
    lines = source.splitlines()
    if not 1 <= span.line <= len(lines):
        return
    number = str(span.line)
    margin = " " * len(number)
    raw = lines[span.line - 1].replace("\t", " ")
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in raw)
    start = span.column - 1
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    # A long line is cut to a window around the position.
    left = max(0, start - width // 2) if len(line) > width else 0
    shown = line[left : left + width]
    length = max(1, min(end, left + width) - start)
    yield f"{margin} |"
    yield f"{number} | {shown}"
    yield f"{margin} | {' ' * (start - left)}{red}^{'~' * (length - 1)}{reset}"
