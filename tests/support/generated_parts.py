"""The parts of a page that are made anew, between `<!-- generated: name -->` and `<!-- end -->`."""

from __future__ import annotations

import re

_PART = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, with_parts: dict[str, str]) -> str:
    """A page with its generated parts made anew; raises `KeyError` for an unknown name."""
    return _PART.sub(lambda match: f"{match[1]}{with_parts[match[2]]}\n{match[3]}", text)


def names_in(text: str) -> list[str]:
    """The names of the generated parts of a page."""
    return [match[2] for match in _PART.finditer(text)]
