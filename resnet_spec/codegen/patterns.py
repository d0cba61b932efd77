"""A line of generated code with placeholders for an operation's attributes, as in backends' tables.

    "nn.GroupNorm({groups}, {channels}, eps={eps?1e-5})"

`{name}` is a value as Python. An argument with `?` is left out if its value equals the default of
the framework, which follows the `?`; one that is empty is left out, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from resnet_spec.codegen import layout
from resnet_spec.codegen.layout import Applied, Bracket, Code, array, call


class _Place(NamedTuple):
    """`, keyword={name?default}`, and the text before it."""

    text: str
    lead: str
    name: str
    default: str | None


_PLACE = re.compile(r"((?:, )?(?:\w+=)?)\{(\w+)(?:\?([^}]+))?\}")


@lru_cache(None)
def _places(pattern: str) -> tuple[tuple[_Place, ...], str]:
    """The places of a pattern, and the text after the last of them."""
    places, done = [], 0
    for found in _PLACE.finditer(pattern):
        lead, name, default = found.groups()
        places.append(_Place(pattern[done : found.start()], lead, name, default))
        done = found.end()
    return tuple(places), pattern[done:]


def fill(
    pattern: str, get: Callable[[str], str], is_default: Callable[[str, str], bool] | None = None
) -> Code:
    """The pattern of an expression with its values, ready to be laid out."""
    return code(filled(pattern, get, is_default))


def filled(
    pattern: str, get: Callable[[str], str], is_default: Callable[[str, str], bool] | None = None
) -> str:
    """A pattern with its values."""
    places, text = _places(pattern)
    written = ""
    for place in places:
        written += place.text
        if place.default is not None and is_default and is_default(place.name, place.default):
            continue
        if value := get(place.name):
            lead = place.lead.removeprefix(", ") if written.endswith("(") else place.lead
            written += lead + value
    return written + text


@lru_cache(4096)
def code(text: str) -> Code:
    """An expression as what the layout breaks: calls and displays with their items."""
    return _code(text, ast.parse(text, mode="eval").body) if "(" in text or "[" in text else text


def _code(source: str, node: ast.expr) -> Code:
    text = source[node.col_offset : node.end_col_offset]
    match node:
        case (
            ast.Call(func=ast.Call() as made)
            | ast.Call(func=ast.Attribute(value=ast.Call() as made))
        ):
            applied = _code(source, made)
            assert isinstance(applied, Bracket)
            method, _, argument = source[made.end_col_offset : node.end_col_offset].partition("(")
            return Applied(applied, argument.removesuffix(")"), method.removeprefix("."))
        case ast.Call(func=function, args=arguments, keywords=keywords):
            return call(
                source[node.col_offset : function.end_col_offset],
                *(_code(source, each) for each in arguments),
                **{str(each.arg): _code(source, each.value) for each in keywords},
            )
        case ast.List(elts=items) if items:
            return array(_code(source, each) for each in items)
        case ast.Tuple(elts=items) if len(items) > 1:
            return Bracket("(", tuple(("", _code(source, each)) for each in items), display=True)
    return text


_STATEMENT = re.compile(r"( *)((?:return|if|\w+ =) )?(.*?)(:?)")


def statement(text: str, indent: int = 0) -> list[str]:
    """The lines of a statement that is given on one line; a comment or docstring is as it is."""
    if text.lstrip().startswith(("#", '"""')):
        return [f"{' ' * indent}{text}"]
    found = _STATEMENT.fullmatch(text)
    assert found is not None
    space, prefix, expression, suffix = found.groups()
    return layout.statement(prefix or "", code(expression), suffix, indent + len(space))
