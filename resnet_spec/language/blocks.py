"""From the nodes of a block to its definition: arguments, slots, lets and layers."""

from __future__ import annotations

from resnet_spec import expressions
from resnet_spec.diagnostics import Report, Span, SpecError, fail, quoted
from resnet_spec.language import identifiers, validate
from resnet_spec.language.layer_names import with_names
from resnet_spec.language.layers import read_layers
from resnet_spec.language.nodes import Mapping, Node, Scalar
from resnet_spec.language.scalars import (
    IMPLICIT,
    POSITION,
    check_readable,
    plain_text,
    read_binding,
    read_expression,
)
from resnet_spec.language.syntax import (
    Argument,
    Binding,
    Definition,
    Expression,
)
from resnet_spec.primitives import ROLES, SAME


def read_block(
    node: Node, report: Report, name: str | None = None, span: Span | None = None
) -> Definition | None:
    """The definition of a block's file, or of an inline block whose name, at `span`, is given.

    Errors go to the report. With an error in a layer there is still a definition, so that the rest
    is checked; with one in the name or arguments there is none, as every use would seem wrong.
    """
    model = "InlineBlockModel" if name is not None else "BlockModel"
    what = f"the block {quoted(name)}" if name is not None else "the block"
    before = len(report.diagnostics)
    checked = validate.validate(model, node, what, report)
    if not isinstance(node, Mapping) or checked is None:
        return None
    if name is None:
        name = str(plain_text(node.entries["block"]))
        what = f"the block {quoted(name)}"
    span = span or node.span_of("block")
    try:
        identifiers.check_identifier(name, span, "a block")
        shown_class = plain_text(node.get("class_name"))
        if shown_class is None:
            shown_class = identifiers.check_own_class(name, span, "a block")
        identifiers.check_class(shown_class, node.span_of("class_name"))
    except SpecError as error:
        report.extend(error)
        return None
    arguments = _read_arguments(node.get("args"), report)
    slots = _read_slots(node.get("slots"), report)
    lets = read_lets(node.get("let"), report)
    _check_distinct(node, report)
    sound = len(report.diagnostics) == before
    definition = Definition(
        name=name,
        class_name=shown_class,
        description=str(plain_text(node.entries["description"])),
        source=plain_text(node.get("source")),
        arguments=arguments,
        slots=slots,
        lets=lets,
        body=with_names(read_layers(node.get("layers"), what, report)),
        span=span,
        node=node,
    )
    return definition if sound else None


def _read_arguments(node: Node | None, report: Report) -> dict[str, Argument]:
    arguments: dict[str, Argument] = {}
    for name, child, span in _named(node, "'args'", report):
        try:
            _check_variable(name, span, "an argument")
            arguments[name] = _read_argument(name, child, report)
        except SpecError as error:
            report.extend(error)
    return arguments


def _check_variable(name: str, span: Span, what: str) -> None:
    """A name that a spec gives to a number; RS105 if the language itself defines it."""
    check_readable(name, span, what)
    identifiers.check_identifier(name, span, what)
    if name in (*POSITION, *IMPLICIT, "classes", "x", SAME):
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}: it has a special meaning",
            span,
            help="use another name",
        )


def _read_argument(name: str, node: Node, report: Report) -> Argument:
    """`int` (required), `1` (a default), or a mapping with type, default, only, description."""
    default_node: Node | None = node
    kind: str | None = None
    first_only = False
    description = None
    if isinstance(node, Mapping):
        model = validate.validate("ArgumentModel", node, f"the argument {quoted(name)}", report)
        if model is None:
            return Argument(name, "int", None, False, None, node.span)  # the block is refused
        default_node = node.get("default")
        kind, first_only = model.type, model.only == "first"
        description = model.description
    elif isinstance(node, Scalar) and node.value in ("int", "float", "bool"):
        kind, default_node = str(node.value), None
    default = read_expression(default_node, "a default") if default_node is not None else None
    if first_only and default is None:
        message = f"{quoted(name)} is for the first block only, so it needs a default"
        fail("RS102", message, node.span)
    if kind is None:
        if default is None:
            fail(
                "RS102",
                f"the argument {quoted(name)} has neither a type nor a default",
                node.span,
                help="write a type ('int', 'float', 'bool') or a default",
            )
        value = default.expr.value if isinstance(default.expr, expressions.Const) else 0
        kind = {bool: "bool", float: "float"}.get(type(value), "int")
    return Argument(name, kind, default, first_only, description, node.span)  # type: ignore[arg-type]


def _read_slots(node: Node | None, report: Report) -> dict[str, Binding]:
    slots: dict[str, Binding] = {}
    for name, child, span in _named(node, "'slots'", report):
        try:
            identifiers.check_identifier(name, span, "a slot")
            slots[name] = read_binding(child)
        except SpecError as error:
            report.extend(error)
    return slots


def read_lets(node: Node | None, report: Report) -> dict[str, Expression]:
    lets: dict[str, Expression] = {}
    for name, child, span in _named(node, "'let'", report):
        try:
            _check_variable(name, span, "a value")
            lets[name] = read_expression(child, quoted(name))
        except SpecError as error:
            report.extend(error)
    return lets


def _named(node: Node | None, what: str, report: Report) -> list[tuple[str, Node, Span]]:
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return []
    if not isinstance(node, Mapping):
        message = f"{what} must be a mapping, {validate.contrast(node)}"
        hint = {
            "'args'": "write each with its type or its default: {filters: int, stride: 1}",
            "'slots'": "write each with what fills it: {attention: none}",
        }.get(what, "write each with its value: {width: filters * 2}")
        report.add("RS103", message, node.span, hint)
        return []
    return [(name, child, node.keys[name]) for name, child in node.entries.items()]


def _check_distinct(node: Mapping, report: Report) -> None:
    """Arguments, slots and lets share one namespace, without the names of layer keys."""
    reserved = {*validate.keys_of("StageModel"), "slot"}
    seen: dict[str, str] = {}
    sections = (("args", "an argument"), ("slots", "a slot"), ("let", "a value of 'let'"))
    for key, what in sections:
        for name, _, span in _named(node.get(key), key, Report()):
            if name in reserved and key != "let":
                report.add("RS105", f"{quoted(name)} is a key that every layer has", span)
            elif name in seen:
                report.add("RS106", f"{quoted(name)} is {seen[name]} already", span)
            elif name in ROLES and key != "slots":
                report.add("RS106", f"{quoted(name)} is a slot that every block has", span)
            seen[name] = what
