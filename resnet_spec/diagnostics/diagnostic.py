"""What the compiler says about a spec: positions, messages, reports.

A diagnostic says what is wrong with the value quoted, what was expected, and how to fix it. It
carries a position with an end, and the chain of uses that led there, innermost first.
"""

from collections.abc import Iterable
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
    """One finding; `code` is a key of `resnet_spec.diagnostics.codes.CODES`."""

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
    """Collects diagnostics, so that one run reports all of them.

    `add` and `extend` raise those collected so far once there are more than anybody would read.
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


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """`1 spec`, `2 specs`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def quoted(value: object, limit: int = 60) -> str:
    """A value as a message shows it: on one line, in quotes, control characters escaped, cut."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit and text.isprintable():
        return f"'{text}'"
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return f"'{printable[:limit]}…'" if len(printable) > limit else f"'{printable}'"
