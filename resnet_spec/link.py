"""What a statement gives to its target: attributes of a primitive, arguments and slots of a block.

The lowering (with numbers) and the specialisation (with expressions) both ask here, so the order
of precedence stands in one place: the statement's own value, then what fills the slot, then the
network's `defaults`, then the default of the attribute or argument.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from resnet_spec import expr
from resnet_spec.definition import POSITION, read_binding, read_expression, read_initializer
from resnet_spec.diagnostics import expected, fail, nearest, quoted
from resnet_spec.ir import Argument, Binding, Bound, Definition, Expression
from resnet_spec.ops import ROLES, Attribute, Initializer, Primitive
from resnet_spec.source import Mapping as MappingNode
from resnet_spec.source import Node, Sequence
from resnet_spec.validate import keys_of

Fixed = Mapping[str, "Bound | Initializer | str"]
Given = Expression | Bound | Initializer | str  # a text: one of the words of an attribute
Listed = tuple[Expression, ...]  # one for each repetition


@functools.cache
def default_expression(text: str) -> expr.Expr:
    """The tree of an attribute's default."""
    return expr.parse(text)[0]


def attributes(
    primitive: Primitive, arguments: MappingNode, binding: Fixed, defaults: Fixed
) -> dict[str, Given | None]:
    """Where each attribute comes from; None: the attribute's own default."""
    for key in arguments.entries:
        if primitive.attribute(key) is None:
            known = [attribute.name for attribute in primitive.attributes]
            meant = nearest(key, [*known, "from", "as", "when", "else"])
            fail(
                "RS101",
                f"'{primitive.name}' has no attribute {quoted(key)}",
                arguments.keys[key],
                help=expected(meant or key, [meant] if meant else known),
            )
    given: dict[str, Given | None] = {}
    for attribute in primitive.attributes:
        node = arguments.get(attribute.name)
        if node is not None and getattr(node, "value", node) is not None:
            given[attribute.name] = read_attribute(attribute, node)
        else:
            given[attribute.name] = binding.get(attribute.name, defaults.get(attribute.name))
        if given[attribute.name] is None and attribute.required:
            fail(
                "RS102",
                f"'{primitive.name}' needs {quoted(attribute.name)}: {attribute.description}",
                arguments.span,
            )
    return given


def read_attribute(attribute: Attribute, node: Node) -> Expression | Initializer | str:
    word = getattr(node, "value", None)
    if isinstance(word, str) and word in attribute.words:
        return word
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


class Arguments(NamedTuple):
    """What a call gives to a block: expressions (a tuple: one for each repetition) and slots."""

    values: Mapping[str, Expression | Listed]
    slots: Mapping[str, Binding]


def arguments(definition: Definition, node: MappingNode) -> Arguments:
    """The keys of a call as arguments and slots of a block; RS101 for a key that is neither."""
    values: dict[str, Expression | Listed] = {}
    slots: dict[str, Binding] = {}
    for key, child in node.entries.items():
        if key in definition.arguments:
            values[key] = _read_argument(key, child)
        elif key in definition.slots or key in ROLES:
            slots[key] = read_binding(child)
        else:
            known = [*definition.arguments, *definition.slots, *ROLES]
            meant = nearest(key, [*known, *keys_of("BlockCallModel")])
            fail(
                "RS101",
                f"the block {quoted(definition.name)} has no argument {quoted(key)}",
                node.keys[key],
                help=expected(meant or key, [meant] if meant else known),
            )
    return Arguments(values, slots)


def at_position(argument: Argument, source: Given | Listed | None, index: int) -> Given | None:
    """What the block at one place of a repetition gets; None where it has to be given.

    A list holds one value for each block, and an expression over the position says itself what each
    gets. Of any other value `only: first` leaves the first block alone; the others take the
    default.
    """
    if isinstance(source, tuple) and not isinstance(source, Bound | Initializer):
        return source[index]
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
        return tuple(read_expression(item, f"each of {quoted(key)}") for item in node.items)
    return read_expression(node, quoted(key))
