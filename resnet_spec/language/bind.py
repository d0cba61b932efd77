"""Binds a statement to its target: attributes of a primitive, arguments and slots of a block.

Lowering (with numbers) and specialisation (with expressions) both use this module, so the order of
precedence is defined once: the statement's own value, then what fills the slot, then the network's
`defaults`, then the default of the attribute or argument.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from resnet_spec import expressions
from resnet_spec.diagnostics import Report, Span, SpecError, fail, quoted
from resnet_spec.language import other_libraries, validate
from resnet_spec.language.nodes import Mapping as MappingNode
from resnet_spec.language.nodes import Node, Scalar, Sequence
from resnet_spec.language.scalars import POSITION, read_binding, read_expression, read_initializer
from resnet_spec.language.syntax import (
    OF_EVERY_LAYER,
    Argument,
    Binding,
    Bound,
    Definition,
    Expression,
)
from resnet_spec.primitives import ROLES, Attribute, Initializer, Primitive

Fixed = Mapping[str, "Bound | Initializer | str"]
Given = Expression | Bound | Initializer | str  # a text: one of the words of an attribute


class Listed(NamedTuple):
    """The values that a list gives to an argument, one for each repetition."""

    items: tuple[Expression, ...]


OF_WINDOWS = ("kernel", "stride", "padding", "dilation")
_PAIR = r"\(?\s*([0-9]+)\s*[x×,]\s*([0-9]+)\s*\)?"  # noqa: RUF001 - a text of users


@functools.cache
def default_expression(text: str) -> Expression:
    """An attribute's default over other attributes."""
    tree, offsets = expressions.parse(text)
    return Expression(tree, text, Span(""), offsets)


def attributes(
    primitive: Primitive,
    arguments: MappingNode,
    binding: Fixed,
    defaults: Fixed,
    report: Report | None = None,
) -> dict[str, Given | None]:
    """Where each attribute comes from; None: the attribute's own default.

    Errors go to the report, or are raised if there is none. A wrong attribute is left out.
    """
    found = Report() if report is None else report
    meant = _unknown_attributes(primitive, arguments, found)
    given: dict[str, Given | None] = {}
    for attribute in primitive.attributes:
        node = arguments.get(attribute.name)
        try:
            if node is not None and getattr(node, "value", node) is not None:
                value: Given | None = read_attribute(attribute, node)
            else:
                value = binding.get(attribute.name, defaults.get(attribute.name))
            if value is not None or not attribute.required:
                given[attribute.name] = value
            elif attribute.name not in meant:
                tell_missing_attribute(primitive, attribute, arguments.span, found)
        except SpecError as error:
            found.extend(error)
    if report is None:
        found.raise_if_any()
    return given


def _unknown_attributes(
    primitive: Primitive, arguments: MappingNode, report: Report
) -> set[str | None]:
    """Reports keys that are not attributes (RS101), and returns those that were probably meant."""
    found = set()
    for key in divided(primitive, arguments)[1]:
        meant = meant_attribute(primitive, key)
        known = [attribute.name for attribute in primitive.attributes]
        report.add(
            "RS101",
            f"'{primitive.name}' has no attribute {quoted(key)}",
            arguments.keys[key],
            help=_key_help(key, meant, known),
        )
        found.add(meant)
    return found


def divided(primitive: Primitive, arguments: MappingNode) -> tuple[MappingNode, list[str]]:
    """The keys of a layer that are attributes, and those that are not."""
    unknown = [key for key in arguments.entries if primitive.attribute(key) is None]
    known = {key: node for key, node in arguments.entries.items() if key not in unknown}
    return MappingNode(known, arguments.keys, arguments.span), unknown


def meant_attribute(primitive: Primitive, key: str) -> str | None:
    """The key of a layer that an unknown one was probably meant to be."""
    known = [attribute.name for attribute in primitive.attributes]
    return other_libraries.meant_key(key, [*known, *OF_EVERY_LAYER])


def tell_missing_attribute(
    primitive: Primitive, attribute: Attribute, span: Span, report: Report
) -> None:
    """RS102 for a required attribute without a value."""
    message = f"'{primitive.name}' needs {quoted(attribute.name)}: {attribute.description}"
    report.add("RS102", message, span, help=f"add it to the line: {attribute.name}: …")


def read_attribute(attribute: Attribute, node: Node) -> Expression | Initializer | str:
    word = getattr(node, "value", None)
    if isinstance(word, str) and word in attribute.words:
        return word
    _check_square(attribute, node)
    if attribute.type == "init":
        given = read_initializer(node)
        if given.needs_fan and not attribute.has_fans:
            fail(
                "RS103",
                f"{quoted(given.kind)} needs a fan, which {quoted(attribute.name)} does not have: "
                "the tensor has one axis",
                node.span,
                help="use zeros, ones, constant or normal",
            )
        return given
    return read_expression(node, quoted(attribute.name))


def _check_square(attribute: Attribute, node: Node) -> None:
    """RS103 for separate numbers for rows and columns, which other libraries accept."""
    name, sizes = attribute.name, _sizes(node)
    if sizes is None or attribute.type == "init":
        return
    hint = f"write {name}: {sizes[0]}" if sizes else None
    if name not in OF_WINDOWS:
        found = validate.kind_of(node)
        fail(
            "RS103",
            f"{quoted(name)} must be a number or an expression, not {found}",
            node.span,
            hint if len(sizes) == 1 else None,
        )
    if len(set(sizes)) > 1:
        hint = f"write one number, such as {name}: {max(sizes, key=lambda size: (len(size), size))}"
    fail(
        "RS103",
        f"windows are square: {quoted(name)} is one number for rows and columns",
        node.span,
        hint,
    )


def _sizes(node: Node) -> list[str] | None:
    """The numbers of `[1, 7]`, `1x7` or `(1, 7)` as texts; None for anything else."""
    if isinstance(node, Sequence):
        return [str(each.value) for each in node.items if isinstance(each, Scalar)]
    text = node.value if isinstance(node, Scalar) else None
    match = re.fullmatch(_PAIR, text) if isinstance(text, str) else None
    return list(match.groups()) if match is not None else None


class Arguments(NamedTuple):
    """What a call gives to a block: expressions and slots."""

    values: Mapping[str, Expression | Listed]
    slots: Mapping[str, Binding]


def arguments(definition: Definition, node: MappingNode, report: Report | None = None) -> Arguments:
    """The keys of a call as arguments and slots of a block; RS101 for a key that is neither.

    Errors go to the report, or are raised if there is none.
    """
    found = Report() if report is None else report
    values: dict[str, Expression | Listed] = {}
    slots: dict[str, Binding] = {}
    for key, child in node.entries.items():
        try:
            if key in definition.arguments:
                values[key] = _read_argument(key, child)
            elif key in definition.slots or key in ROLES:
                slots[key] = read_binding(child)
            elif not _is_rest(key, child):
                meant = meant_argument(definition, key)
                found.add(
                    "RS101",
                    f"the block {quoted(definition.name)} has no argument {quoted(key)}",
                    node.keys[key],
                    help=_key_help(key, meant, _taken(definition), ("from", "repeat", "when")),
                )
        except SpecError as error:
            found.extend(error)
    if report is None:
        found.raise_if_any()
    return Arguments(values, slots)


def _is_rest(key: str, node: Node) -> bool:
    """Whether a key is what follows a comma in {…}, as in `stride: (2, 2)`, which is told there."""
    return key.count(")") > key.count("(") and isinstance(node, Scalar) and node.value is None


def _taken(definition: Definition) -> list[str]:
    return [*definition.arguments, *definition.slots, *ROLES]


def takes(definition: Definition, key: str) -> bool:
    """Whether a key of a call is an argument or a slot of the block."""
    return key in _taken(definition)


def _key_help(key: str, meant: str | None, known: Iterable[str], also: Iterable[str] = ()) -> str:
    hint = other_libraries.key_hint(key, known, also)
    is_near = meant is not None and hint.startswith("expected one of")
    return f"did you mean {quoted(meant)}?" if is_near else hint


def meant_argument(definition: Definition, key: str) -> str | None:
    """The key of a call that an unknown one was probably meant to be."""
    return other_libraries.meant_key(
        key, [*_taken(definition), *validate.keys_of("BlockCallModel")]
    )


def tell_missing_argument(
    definition: Definition, argument: Argument, span: Span, report: Report
) -> None:
    """RS102 for a required argument without a value."""
    report.add(
        "RS102",
        f"the block {quoted(definition.name)} needs {quoted(argument.name)}"
        + (f": {argument.description}" if argument.description else ""),
        span,
        help=f"add it to the line: {argument.name}: …",
    )


def at_position(argument: Argument, source: Given | Listed | None, index: int) -> Given | None:
    """The source of an argument at one position of a repetition; None if it must be given.

    A list has one value for each block, and so has an expression over the position. With
    `only: first`, any other value applies to the first block, and the others use the default.
    """
    if isinstance(source, Listed):
        return source.items[index]
    if source is None or (argument.first_only and index and not follows_position(source)):
        return argument.default
    return source


def follows_position(source: Given) -> bool:
    """Whether a source is an expression over the place of the repeated block."""
    return isinstance(source, Expression) and not source.names.keys().isdisjoint(POSITION)


def _read_argument(key: str, node: Node) -> Expression | Listed:
    if isinstance(node, Sequence):
        if not node.items:
            fail("RS103", f"{quoted(key)} is an empty list", node.span)
        what = f"each of {quoted(key)}"
        return Listed(tuple(read_expression(item, what) for item in node.items))
    return read_expression(node, quoted(key))
