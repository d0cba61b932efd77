"""Checks a node against a model of the language with pydantic's core, and says what is wrong."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic_core import SchemaValidator, ValidationError

from resnet_spec.diagnostics import Report, Span, quoted
from resnet_spec.language import other_libraries
from resnet_spec.language.nodes import Mapping, Node, Scalar, Sequence, plain
from resnet_spec.primitives import PRIMITIVES, ROLES

SPEC_VERSION = 1
# What pydantic made of the models in `spec`; a test keeps the file current.
MODELS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "spec_schema.json").read_text(encoding="utf-8")
)
LAYER_KEYS = (*PRIMITIVES, *ROLES, "block", "slot", "for")

Table = dict[str, Any]


def model_table(name: str) -> Table:
    """The keys and the schema of a model: one of `spec`, or `layer <key>` for an operation's."""
    return _layer_table(name.removeprefix("layer ")) if " " in name else MODELS[name]


@functools.cache
def _layer_table(key: str) -> Table:
    """The table of a layer that opens with `key`, made from the record of its primitive.

    Its values are all nodes, so the schema knows which keys there are and which must be.
    """
    keys: dict[str, str | None] = {key: "name of the layer"}
    required = []
    primitive = PRIMITIVES.get(key)
    if primitive is not None:
        if primitive.takes == "many":
            keys = {key: "the inputs, in order", "name": "name of the layer"}
            required.append(key)
        for attribute in primitive.attributes:
            # `defaults` may give one that is required, so its absence is found out later.
            keys[attribute.name] = attribute.description
    keys |= MODELS["LayerModel"]["keys"]
    if primitive is not None and primitive.takes == "many":
        del keys["from"]
    fields = {
        name: {
            "type": "typed-dict-field",
            "schema": {"type": "any"},
            "required": name in required,
        }
        for name in keys
    }
    extra = "forbid" if primitive is not None else "allow"
    schema = {"type": "typed-dict", "fields": fields, "extra_behavior": extra}
    return {"keys": keys, "raw": list(keys), "nested": {}, "schema": schema}


@functools.cache
def _validator(name: str) -> SchemaValidator:
    return SchemaValidator(model_table(name)["schema"])


def validate(model: str, node: Node, what: str, report: Report) -> SimpleNamespace | None:
    """The values of a node, or None with everything that is wrong in the report."""
    if not isinstance(node, Mapping):
        report.add(
            "RS103",
            f"{what} must be a mapping, {contrast(node)}",
            node.span,
            help="write it as 'key: value' lines",
        )
        return None
    try:
        table = model_table(model)
        return _record(_validator(model).validate_python(_input(table, node)), table)
    except ValidationError as error:
        table, details = model_table(model), error.errors(include_url=False, include_input=False)
        meant = {_meant(detail, table) for detail in details}
        for detail in details:
            if detail["type"] != "missing" or detail["loc"] not in meant:
                _report(detail, table, node, what, report)
        return None


def _meant(detail: Any, table: Table) -> tuple[Any, ...] | None:
    """The key that an unknown one was probably meant to be, which is then not missing."""
    *path, key = detail["loc"]
    owner = _table_at(table, path)
    if detail["type"] != "extra_forbidden" or owner is None:
        return None
    return (*path, other_libraries.meant_key(str(key), owner["keys"]))


def _record(values: dict[str, Any], table: Table) -> SimpleNamespace:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        inner = table["nested"].get(key)
        if isinstance(value, list) and inner:
            nested[key] = [_record(each, inner) for each in value]
        else:
            nested[key] = _record(value, inner) if isinstance(value, dict) and inner else value
    return SimpleNamespace(**nested)


def _input(table: Table, node: Mapping) -> dict[str, Any]:
    raw = table["raw"]
    return {
        key: child if key in raw and not _is_null(child) else plain(child)
        for key, child in node.entries.items()
    }


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def contrast(node: Node) -> str:
    """`not the number 3`: what stands where something else was expected."""
    return "but is empty" if _is_null(node) else f"not {kind_of(node)}"


def kind_of(node: Node) -> str:
    """`the number 3`: a value as a message names it."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "an empty value"
        case Scalar(value=bool(value)):
            return f"the boolean {str(value).lower()}"
        case Scalar(value=str(value)):
            return f"the text {quoted(value)}"
        case Scalar(value=value):
            return f"the number {value}"


def _report(detail: Any, table: Table, node: Mapping, what: str, report: Report) -> None:
    location, kind = list(detail["loc"]), detail["type"]
    parent, found = locate(node, location)
    # An item of a list is told by the list's name and its place.
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    if kind == "extra_forbidden":
        owner = _table_at(table, location[:-1]) or table
        span = parent.keys.get(key, parent.span) if isinstance(parent, Mapping) else found.span
        hint = other_libraries.key_hint(key, owner["keys"])
        if key.isdigit():  # 0,1 within {…}
            hint = f"write decimals with a point, 0.{key}: a comma begins another key"
        elif ":" in key:  # filters:16 within {…}
            hint = f"put a space after the ':': {key.replace(':', ': ', 1)}"
        elif key.count(")") > key.count("("):  # filters: max(a, 4) within {…}
            hint = "put quotes around an expression with a comma, which begins another key in {…}"
        report.add("RS101", f"unknown key {quoted(key)} in {_inside(what, location)}", span, hint)
    elif kind == "missing":
        report.add(
            "RS102",
            f"{_inside(what, location)} needs the key {quoted(key)}",
            _first_line(found.span),
            help=_missing_help(table, location),
        )
    else:
        message, fix = _wrong_value(detail, found)
        within = _table_at(table, location)
        if within is not None and not isinstance(found, Mapping):
            fix = f"write it as {{{', '.join(f'{each}: …' for each in within['keys'])}}}"
        report.add("RS103", f"{quoted(key)} {message}", found.span, fix)


def _inside(what: str, location: list[Any]) -> str:
    path = ".".join(str(part) for part in location[:-1])
    return f"{quoted(path)} of {what}" if path else what


def _missing_help(table: Table, location: list[Any]) -> str | None:
    if location == ["spec_version"]:
        return f"add the line: spec_version: {SPEC_VERSION}"
    owner = _table_at(table, location[:-1])
    description = owner["keys"].get(location[-1]) if owner else None
    return f"{location[-1]}: {description}" if description else None


# What a message says after the key, by pydantic's kind of error; other kinds have cases below.
_RULES = {
    "int_type": "must be a whole number, {got}",
    "int_from_float": "must be a whole number, {got}",
    "float_type": "must be a number, {got}",
    "finite_number": "must be finite, {got}",
    "bool_type": "must be true or false, {got}",
    "greater_than_equal": "must be at least {ge}, {got}",
    "less_than_equal": "must be at most {le}, {got}",
    "string_pattern_mismatch": "must not be empty",
    "string_too_long": "is longer than {max_length} characters",
    "too_short": "must list {min_length} values, not {actual_length}",
    "too_long": "must list no more than {max_length} values, not {actual_length}",
}


def _wrong_value(detail: Any, found: Node) -> tuple[str, str | None]:
    """What a message says after the key: the rule in our words, and the actual value."""
    context = detail.get("ctx", {})
    got = contrast(found)
    match detail["type"]:
        case rule if rule in _RULES:
            return _RULES[rule].format(got=got, **context), None
        case "string_type":
            is_scalar = isinstance(found, Scalar) and not _is_null(found)
            return f"must be text, {got}", "put quotes around it" if is_scalar else None
        case "list_type":
            return f"must be a list, {got}", "write it as '[first, second]'"
        case "literal_error":
            quotes = isinstance(found, Scalar) and found.value == context.get("expected")
            hint = "remove the quotes" if quotes else None
            return f"must be {context.get('expected')}, {got}", hint
        case "model_type" | "dict_type" | "typed_dict_type":
            return f"must be a mapping, {got}", "write it as 'key: value' lines"
    return f"is not valid: {detail['msg'].lower()}", None


def _first_line(span: Span) -> Span:
    return Span(span.path, span.line, span.column, span.line, span.column + 1)


def locate(node: Node, location: Iterable[Any]) -> tuple[Node, Node]:
    """The node at a path and its parent; parts that the tree does not have are passed over."""
    parent = current = node
    for part in location:
        child: Node | None = None
        if isinstance(current, Mapping):
            child = current.get(str(part))
        elif isinstance(current, Sequence) and isinstance(part, int):
            child = current.items[part]
        if child is not None:
            parent, current = current, child
    return (current, current) if parent is current else (parent, current)


def _table_at(table: Table, location: Iterable[Any]) -> Table | None:
    current: Table | None = table
    for part in location:
        if isinstance(part, str):
            current = current["nested"].get(part) if current else None
    return current


def keys_of(model: str) -> list[str]:
    """The keys that a mapping of this model may have."""
    return list(model_table(model)["keys"])
