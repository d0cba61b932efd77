"""Plain values as the text of a spec, in the style of those that come with the package."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_WIDTH = 100
# What YAML 1.2 reads as text, and as nothing else, wherever it stands between braces.
_PLAIN = re.compile(r"[A-Za-z_<][\w .*/+%()<>=!-]*")
_WORDS = frozenset({"true", "false", "null", "none", "yes", "no", "on", "off", "nan", "inf"})
_SECTIONS = ("defaults", "blocks", "stem", "stages", "head", "references")


def spec_text(spec: Mapping[str, Any]) -> str:
    """A whole spec: a line for each layer and stage, an empty line before each section."""
    return "\n".join(_lines(spec)) + "\n"


def _lines(spec: Mapping[str, Any]) -> Iterator[str]:
    for key, value in spec.items():
        if key in _SECTIONS:
            yield ""
        if key == "blocks":
            yield "blocks:"
            yield from _blocks(value)
        elif key == "references":
            yield "references:"
            yield from _references(value)
        elif isinstance(value, list):
            yield f"{key}:" if value else f"{key}: []"
            yield from _items(value, "  ")
        elif key == "defaults":
            yield "defaults:"
            yield from (f"  {name}: {flow(each)}" for name, each in value.items())
        else:
            yield f"{key}: {flow(value, top=key == 'description')}"


def _references(references: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each with a line for each of its rules."""
    for each in references:
        yield f"  - model: {flow(each['model'], top=True)}"
        yield "    rename:"
        yield from (f"      {flow(name)}: {flow(ours)}" for name, ours in each["rename"].items())


def _blocks(blocks: Mapping[str, Any]) -> Iterator[str]:
    for number, (name, block) in enumerate(blocks.items()):
        if number:
            yield ""
        yield f"  {name}:"
        yield f"    description: {flow(block['description'], top=True)}"
        for key in ("args", "slots", "let"):
            if key == "slots" and block.get(key):
                yield f"    slots: {flow(block[key])}"
            elif block.get(key):
                yield f"    {key}:"
                yield from (f"      {each}: {flow(value)}" for each, value in block[key].items())
        yield "    layers:"
        yield from _items(block["layers"], "      ")


def _items(items: Sequence[Any], indent: str) -> Iterator[str]:
    """The lines of a list of mappings; what is wider than a page is broken at a comma."""
    for item in items:
        line = f"{indent}- {flow(item)}"
        while len(line) > _WIDTH:
            cut = line.rfind(", ", 0, _WIDTH) + 1
            if cut <= len(indent) + 4:
                break
            yield line[:cut]
            line = f"{indent}   {line[cut + 1 :]}"
        yield line


def flow(value: Any, top: bool = False) -> str:
    """A value on one line; `top`: it stands by itself, not between braces."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(each) for each in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if text == "none" or (text.isdigit() and str(int(text)) == text):
        return text
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS and text == text.strip()
    if plain and " #" not in text and not text.startswith("<"):
        return text
    if top and re.fullmatch(r"[A-Za-z][\w .,()/-]*", text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else "-.inf" if value < 0 else ".inf"
    return repr(value)
