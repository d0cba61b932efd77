"""Sources with their words told apart, by the scanners that Python and PyYAML have themselves.

A library such as Pygments would know more languages. These two are all that a page needs, its text
stays the same whatever is installed, and the playground has less to load.
"""

from __future__ import annotations

import io
import keyword
import token
import tokenize
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from resnet_spec.report.elements import Html, element, html, joined

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Python 3.12 and later read the parts of an f-string; to the eye it is one text in each version.
_TEXT_STARTS = {getattr(token, name, None) for name in ("FSTRING_START", "TSTRING_START")} - {None}
_TEXT_ENDS = {getattr(token, name, None) for name in ("FSTRING_END", "TSTRING_END")} - {None}


class _Mark(NamedTuple):
    """A stretch of a text by its first character and the one behind it, and what it is."""

    start: int
    end: int
    kind: str


def source(path: str, text: str) -> Html:
    """A file's text with its words told apart, where its ending tells a language that is known."""
    if path.endswith(".py"):
        return _marked(text, _python(text))
    if path.endswith((".yaml", ".yml")):
        return _marked(text, _yaml(text))
    return html(text)


def _marked(text: str, marks: Iterator[_Mark]) -> Html:
    parts: list[str] = []
    place = 0
    for mark in marks:
        parts.append(text[place : mark.start])
        parts.append(element("span", text[mark.start : mark.end], class_=mark.kind))
        place = mark.end
    return joined([*parts, text[place:]])


def _python(text: str) -> Iterator[_Mark]:
    starts = [0, 0]  # of each line; lines count from 1
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    depth, opened, before = 0, 0, ""
    for each in tokenize.generate_tokens(io.StringIO(text).readline):
        start, end = starts[each.start[0]] + each.start[1], starts[each.end[0]] + each.end[1]
        if each.type in _TEXT_STARTS:
            opened = opened if depth else start
            depth += 1
        elif each.type in _TEXT_ENDS:
            depth -= 1
            if not depth:
                yield _Mark(opened, end, "text")
        elif not depth:
            kind = _kind(each, before)
            if kind:
                yield _Mark(start, end, kind)
            before = each.string
    # A text that ends within an f-string is no Python: its rest has no marks.


def _kind(each: tokenize.TokenInfo, before: str) -> str:
    match each.type:
        case token.STRING:
            return "text"
        case token.NUMBER:
            return "number"
        case token.COMMENT:
            return "comment"
        case token.NAME if before in ("def", "class"):
            return "name"
        case token.NAME if keyword.iskeyword(each.string):
            return "word"
    return ""


def _yaml(text: str) -> Iterator[_Mark]:
    is_key = False
    for each in yaml.scan(text, Loader=_Loader):
        if isinstance(each, yaml.KeyToken):
            is_key = True
        elif isinstance(each, yaml.ScalarToken):
            start, end = each.start_mark.index, each.end_mark.index
            kind = "name" if is_key else _plain(each.value) if each.plain else "text"
            is_key = False
            if kind:
                yield _Mark(start, end, kind)


def _plain(value: str) -> str:
    if value in ("true", "false", "null", "~"):
        return "word"
    return "number" if value[:1] in "+-.0123456789" and value[-1:].isdigit() else ""
