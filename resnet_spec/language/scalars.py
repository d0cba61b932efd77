"""The parts of a layer that are scalars: expressions, names, references, initializers."""

from __future__ import annotations

import re
from math import isfinite

from resnet_spec import expressions
from resnet_spec.diagnostics import Span, expected, fail, quoted
from resnet_spec.language import identifiers, validate
from resnet_spec.language.nodes import EMPTY, Mapping, Node, Scalar
from resnet_spec.language.syntax import (
    Binding,
    Expression,
    Pattern,
    Reference,
)
from resnet_spec.primitives import FANS, INITIALIZERS, Initializer

# Variables that the arguments of a repeated block may use: its place among its like, their number,
# and the same for all blocks of the network's stages.
POSITION = ("i", "n", "block_index", "block_count")

IMPLICIT = ("in_channels",)

_UNREADABLE = {
    **dict.fromkeys(expressions.CONSTANTS, "in an expression it is the boolean"),
    "null": "in YAML it is an empty value",
}

_BRACES = re.compile(r"\{([^{}]*)\}")

REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\.\{([^{}]*)\}|\.([0-9]+))?")


def read_expression(node: Node, what: str = "a value") -> Expression:
    """An expression from a scalar; raises `SpecError` (RS103, RS201)."""
    if not isinstance(node, Scalar) or node.value is None:
        found = validate.kind_of(node)
        fail("RS103", f"{what} must be a number or an expression, not {found}", node.span)
    if not isinstance(node.value, str):
        if isinstance(node.value, float) and not isfinite(node.value):
            fail("RS203", f"{what} must be a finite number", node.span)
        if abs(node.value) > expressions.MAX_MAGNITUDE:
            fail("RS203", f"{quoted(node.value)} is beyond {expressions.MAX_MAGNITUDE}", node.span)
        return Expression(expressions.Const(node.value), str(node.value), node.span)
    span, exact = node.span, node.plain
    if not exact and span.end_column - span.column == len(node.value) + 2:
        # Between quotes, without escapes.
        span, exact = span.narrowed(1, len(node.value)), span.line == span.end_line
    return parse_expression(node.value, span, exact)


def parse_expression(text: str, span: Span, exact: bool = True) -> Expression:
    try:
        tree, offsets = expressions.parse(text)
    except expressions.ExpressionError as error:
        where = span.narrowed(error.offset, error.length) if exact and error.length else span
        hint = error.help
        if text.count("(") > text.count(")"):
            hint = "close every '('; within {…} or […] put quotes around an expression with a comma"
        fail("RS201", error.message, where, hint)
    return Expression(tree, text, span, offsets, exact)


def read_text(node: Node, what: str) -> str:
    if isinstance(node, Scalar) and type(node.value) is int:
        return str(node.value)  # a layer may be called 0
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        fail("RS103", f"{what} must be text, not {validate.kind_of(node)}", node.span)
    return node.value


def read_pattern(node: Node, what: str) -> Pattern:
    """A dotted name in which braces hold expressions."""
    text = read_text(node, what)
    parts: list[str | Expression] = []
    end = 0
    for match in _BRACES.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        parts.append(parse_expression(match.group(1), node.span, exact=False))
        end = match.end()
    if end < len(text) or not parts:
        parts.append(text[end:])
    # Braces stand for a number: checked with one in their place.
    identifiers.check_path(_BRACES.sub("0", text), node.span)
    return Pattern(tuple(parts), text, node.span)


def read_reference(node: Node, what: str) -> Reference:
    """`name`, `name.{expression}` or `name.3`."""
    if isinstance(node, Mapping):
        key = next((key for key in node.entries if key in validate.LAYER_KEYS), "add")
        hint = f"write the layer before, '- {{{key}: …, as: value}}', and its name here: value"
        fail("RS103", f"{what} must be the name of a value, not a mapping", node.span, hint)
    text = read_text(node, what)
    match = REFERENCE.fullmatch(text)
    if match is None:
        hint = "use a name like 'residual', or 'part.{i}' for an element of a list"
        outer, point, _ = text.partition(".")
        if point and REFERENCE.fullmatch(outer):
            hint = f"what runs inside {quoted(outer)} can't be read outside of it: write {outer}"
        fail("RS105", f"{quoted(text)} is not the name of a value", node.span, hint)
    name, braced, number = match.groups()
    index = braced if braced is not None else number
    if index is None:
        return Reference(name, None, node.span)
    return Reference(name, parse_expression(index, node.span, exact=False), node.span)


def read_result(node: Node) -> Reference:
    """The name that `as` gives, which becomes a variable."""
    reference = read_reference(node, "'as'")
    if reference.name != "x":
        identifiers.check_identifier(reference.name, node.span, "a value")
    return reference


def read_initializer(node: Node) -> Initializer:
    """`zeros`, `he_normal`, or a kind with its value: `{normal: 0.01}`, `{he_normal: fan_in}`."""
    kind_node: Node = node
    value: object = None
    kind: object
    if isinstance(node, Mapping) and len(node.entries) == 1:
        ((kind, value_node),) = node.entries.items()
        kind_node, value = value_node, getattr(value_node, "value", value_node)
    else:
        kind = node.value if isinstance(node, Scalar) else None
        if kind in (0, 1) and not isinstance(kind, bool):
            kind = "zeros" if kind == 0 else "ones"
    if not isinstance(kind, str) or kind not in INITIALIZERS:
        # PyTorch calls an initializer after its inventor's other name.
        hint = expected(str(kind).replace("kaiming", "he"), INITIALIZERS)
        fail("RS103", f"{quoted(kind)} is not an initializer", node.span, hint)
    takes, default, _ = INITIALIZERS[kind]
    if value is None:
        return Initializer(kind, default)
    if takes == "fan" and value in FANS:
        return Initializer(kind, str(value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if takes == "number" and is_number and abs(value) < 1e6:  # type: ignore[arg-type]
        return Initializer(kind, float(value))  # type: ignore[arg-type]
    wanted = {"fan": " or ".join(FANS), "number": "a number", "none": "no value"}[takes]
    fail("RS103", f"{quoted(kind)} takes {wanted}, not {quoted(value)}", kind_node.span)


def read_binding(node: Node) -> Binding:
    """`none`, the name of a block or a primitive, or `{name: {argument: value}}`."""
    match node:
        case Scalar(value=None | "none"):
            return Binding(None, EMPTY, node.span)
        case Scalar(value=str(target)):
            return Binding(target, EMPTY, node.span)
        case Mapping() if len(node.entries) == 1:
            ((target, arguments),) = node.entries.items()
            if isinstance(arguments, Scalar) and arguments.value is None:
                return Binding(target, EMPTY, node.keys[target])
            if isinstance(arguments, Mapping):
                return Binding(target, arguments, node.keys[target])
    hint = "write 'none', a name, or a name with its arguments: {leaky_relu: {slope: 0.2}}"
    entries = node.entries if isinstance(node, Mapping) else {}
    for key in (each for each in ("name", "block", "type") if each in entries):
        others = ", ".join(f"{each}: …" for each in entries if each != key)
        hint = f"write {{{plain_text(entries[key]) or '…'}: {{{others}}}}}"
    fail("RS304", "a slot is filled by the name of a block or a primitive", node.span, hint)


def plain_text(node: Node | None) -> str | None:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def check_readable(name: str, span: Span, what: str) -> None:
    """RS105 for a name that no expression could read."""
    if name in _UNREADABLE:
        message = f"{quoted(name)} can't name {what}: {_UNREADABLE[name]}"
        fail("RS105", message, span, help="use another name")
