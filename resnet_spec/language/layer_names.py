"""Names for layers that the spec does not name."""

from __future__ import annotations

from collections.abc import Iterable

from resnet_spec.language import identifiers
from resnet_spec.language.scalars import parse_expression
from resnet_spec.language.syntax import (
    Expression,
    Loop,
    Pattern,
    Statement,
)


def with_names(body: Iterable[Statement | Loop]) -> tuple[Statement | Loop, ...]:
    """The body with a name for each statement that has none of its own.

    It is named after its target; the second one in a body gets a 2, and names in loops get the
    counters: `act`, `act2`, `max_pool.{k}`. The name depends only on the position, not on which
    layers run, so a layer has the same name in every use of a block.
    """
    body = tuple(body)
    given = [each.name.parts for each in _statements(body) if each.name is not None]
    return _Namer(identifiers.FirstParts(given)).named(body, ())


class _Namer:
    """Generates names that can't clash with a layer that the spec names.

    `given` are the first parts of the names that the spec gives itself.
    """

    def __init__(self, given: identifiers.FirstParts) -> None:
        self.given = given
        self.last: dict[str, int] = {}  # number of the last name that each target has got

    def named(
        self, body: Iterable[Statement | Loop], counters: tuple[str, ...]
    ) -> tuple[Statement | Loop, ...]:
        found: list[Statement | Loop] = []
        for each in body:
            if isinstance(each, Loop):
                inner = self.named(each.body, (*counters, each.variable))
                found.append(each._replace(body=inner))
            elif each.name is None and each.kind != "broken":
                name = self.pattern(each, counters)
                found.append(each._replace(name=name, unnamed=True))
            else:
                found.append(each)
        return tuple(found)

    def pattern(self, statement: Statement, counters: tuple[str, ...]) -> Pattern:
        text = self.next(statement.target)
        parts: list[str | Expression] = [f"{text}." if counters else text]
        for depth, counter in enumerate(counters):
            parts += [*(["."] if depth else []), parse_expression(counter, statement.span, False)]
        shown = "".join([text, *(f".{{{counter}}}" for counter in counters)])
        return Pattern(tuple(parts), shown, statement.span)

    def next(self, target: str) -> str:
        """`act`, `act2`, …; behind a `_` where names with counters may be all of these."""
        stem = target
        while f"{stem}{10**9}" in self.given:
            stem += "_"
        number = self.last.get(target, 0) + 1
        while _numbered(stem, number) in self.given:
            number += 1
        self.last[target] = number
        return _numbered(stem, number)


def _numbered(stem: str, number: int) -> str:
    return f"{stem}{number}" if number > 1 else stem


def _statements(body: Iterable[Statement | Loop]) -> Iterable[Statement]:
    for each in body:
        if isinstance(each, Loop):
            yield from _statements(each.body)
        else:
            yield each
