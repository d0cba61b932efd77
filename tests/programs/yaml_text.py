"""Plain data as YAML that reads like a spec, fast: one line for each layer."""

from __future__ import annotations

import json
import re
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*(?: (?:[-+*/<>=!%()A-Za-z0-9_.]|\*\*|//)+)*")
_NOT_TEXT = frozenset({"true", "false", "null", "True", "False", "Null", "none_", "~", "yes", "no"})


def scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value not in _NOT_TEXT:
            return value
        return json.dumps(value)
    return repr(value)


def flow(value: Any) -> str:
    """Within one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(each) for each in value) + "]"
    return scalar(value)


def key(name: Any) -> str:
    return scalar(str(name)) if not str(name).isdigit() else json.dumps(str(name))


def block(value: Any, indent: str = "") -> list[str]:
    """Mappings and lists of layers over several lines, all that is short in one."""
    lines: list[str] = []
    if isinstance(value, list):
        for each in value:
            if isinstance(each, dict) and {"for", "count", "layers"} <= each.keys():
                lines.append(f"{indent}- for: {scalar(each['for'])}")
                lines.append(f"{indent}  count: {scalar(each['count'])}")
                lines.append(f"{indent}  layers:")
                lines += block(each["layers"], f"{indent}    ")
            else:
                lines.append(f"{indent}- {flow(each)}")
        return lines
    for name, child in value.items():
        deep = isinstance(child, dict | list) and child and name not in ("input", "args", "let")
        # What changes a base by name has short values.
        if deep and (
            isinstance(child, list) or name in ("blocks", *_SECTIONS) or "layers" in child
        ):
            lines.append(f"{indent}{key(name)}:")
            lines += block(child, f"{indent}  ")
        else:
            lines.append(f"{indent}{key(name)}: {flow(child)}")
    return lines


_SECTIONS = ("stem", "stages", "head", "defaults")


def text(value: Any) -> str:
    return "\n".join(block(value)) + "\n"
