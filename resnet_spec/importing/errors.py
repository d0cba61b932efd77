"""What stops an import: what can't be read, what the language can't say, what is not proven."""

from __future__ import annotations

from typing import NoReturn

from resnet_spec.diagnostics import Diagnostic, Span, SpecError


class Unsupported(Exception):
    """Something that the language has no words for; `place` names the operation in its source."""

    def __init__(self, what: str, place: str = "", help: str | None = None) -> None:
        super().__init__(f"{place}: {what}" if place else what)
        self.what, self.place, self.help = what, place, help


class Unable(Unsupported):
    """Something that the model itself can't do for images of this size."""


def unreadable(shown: str, reason: str, help: str | None = None) -> NoReturn:
    """Raise RS951: a model that can't be read."""
    raise SpecError([Diagnostic("RS951", reason, Span(shown), help)])


def refused(shown: str, reason: str, help: str | None = None) -> NoReturn:
    """Raise RS952: a model that asks for more than its graph and its tensors."""
    raise SpecError([Diagnostic("RS952", reason, Span(shown), help)])


def unsaid(shown: str, error: Unsupported) -> NoReturn:
    """Raise RS953: an operation that the language can't say, with its name and place."""
    raise SpecError([Diagnostic("RS953", str(error), Span(shown), error.help)])


def unproven(shown: str, reason: str, help: str | None = None) -> NoReturn:
    """Raise RS954: a result that is not the model."""
    raise SpecError([Diagnostic("RS954", reason, Span(shown), help)])
