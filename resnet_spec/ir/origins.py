"""Finds the values from which a wrong number in a block follows, in the lines that use the block.

A block works with what it is given. Where that is the cause of a mistake, the person who gave it
can mend it, so it is told at that place, with the block's own line in the chain of uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from resnet_spec.diagnostics import Diagnostic, Span, SpecError, Use, quoted
from resnet_spec.expressions import Const, Number
from resnet_spec.ir.graph import Instance, Network, Operation, Step
from resnet_spec.language.nodes import EMPTY, Node, Scalar, plain
from resnet_spec.language.nodes import Mapping as MappingNode
from resnet_spec.language.scalars import plain_text, read_expression
from resnet_spec.language.syntax import Bound, Definition, Expression, Loop, Source, Statement
from resnet_spec.primitives import ROLES

# Of a kind of value, an expression of the block is the cause unless it is given none or less.
_OF_EXPRESSIONS = ("RS203", "RS204")
_MOVED = (*_OF_EXPRESSIONS, "RS104", "RS205", "RS401", "RS402", "RS403", "RS405", "RS502")


class Call(NamedTuple):
    """A line that uses a block, and what each argument of the block comes from."""

    statement: Statement
    block: Definition
    sources: Mapping[str, Source]


class Given(NamedTuple):
    """A value that a line gives to a block; `depth` counts the blocks around the line."""

    name: str
    text: str
    span: Span
    depth: int
    number: Number | None = None  # of a constant

    @property
    def is_suspicious(self) -> bool:
        return self.number is not None and self.number <= 0

    def __str__(self) -> str:
        return quoted(f"{self.name}: {self.text}")


class Trail:
    """The calls that led to the present block, from the network inwards.

    `defaults` is the network's entry of that name.
    """

    def __init__(self, defaults: Node | None) -> None:
        self.defaults = defaults if isinstance(defaults, MappingNode) else EMPTY
        self.uses: list[Use] = []
        self.calls: list[Call] = []

    @contextmanager
    def within(self, use: Use, call: Call | None = None) -> Iterator[None]:
        """Add a link, for as long as what is within it is looked at."""
        self.uses.append(use)
        self.calls += [call] if call is not None else []
        try:
            yield
        finally:
            self.uses.pop()
            if call is not None:
                self.calls.pop()

    @contextmanager
    def behind(self, source: Source, what: str) -> Iterator[None]:
        """Move the errors of reading a number."""
        try:
            yield
        except SpecError as error:
            raise self.moved(error, [source], what) from None

    def moved(self, error: SpecError, sources: Iterable[Source | Given], what: str) -> SpecError:
        """The same error, where the values were given that the wrong number follows from.

        `sources` are those of what is wrong, `what` is the part of the block where it shows.
        """
        given = self.given(sources)
        return SpecError(self._told(each, given, what) for each in error.diagnostics)

    def _told(self, found: Diagnostic, given: list[Given], what: str) -> Diagnostic:
        is_fault_of_block = found.code in _OF_EXPRESSIONS and not any(
            each.is_suspicious for each in given
        )
        if not given or found.code not in _MOVED or found.span is None or is_fault_of_block:
            return found
        message, help = found.message, found.help
        first, *others = given
        says = message.startswith(quoted(first.name)) and message.endswith(first.text)
        if others or not (says or message.endswith(_empty(first.name))):
            message += f", given {', '.join(map(str, given))}"
        if found.code in _OF_EXPRESSIONS:
            help = f"change {quoted(first.name)}"
        uses = (*self.uses, Use(what, found.span))
        return Diagnostic(found.code, message, given[-1].span, help, uses)

    def sources(
        self, statement: Statement, target: str, sources: Mapping[str, Source], names: Iterable[str]
    ) -> Iterator[Source | Given]:
        """Those of some attributes of an operation, with the places of constants from outside."""
        for name in names:
            source = sources.get(name)
            yield source
            if isinstance(source, Bound):
                yield from self._constant(name, statement, target, len(self.calls))

    def unfit(self, error: SpecError, statement: Statement | Loop) -> SpecError:
        """The same error of a slot's line, where it was filled with what does not fit the line."""
        if isinstance(statement, Loop) or statement.kind != "slot":
            return error
        node = self.filling(statement.target)
        if node is None:
            return error
        filler = plain_text(node) or next(iter(_entries(node)), "")
        return SpecError(self._misfit(each, node, filler, statement) for each in error.diagnostics)

    def _misfit(
        self, found: Diagnostic, node: Node, filler: str, statement: Statement
    ) -> Diagnostic:
        given = statement.arguments
        if found.span not in (given.span, statement.span, *given.keys.values()):
            return found
        if found.code not in ("RS101", "RS102", "RS304"):
            return found
        message, help = found.message, found.help
        if found.code != "RS304":
            message = (
                f"{quoted(filler)} does not fit the slot {quoted(statement.target)}: {message}"
            )
        if found.code == "RS101":
            help = "fill it with 'none', or with a block that takes what the line gives"
        if found.code == "RS102" and help is not None:
            help = f"write {{{filler}: {{{help.removeprefix('add it to the line: ')}}}}}"
        uses = (*self.uses, Use(statement.target, found.span))
        return Diagnostic("RS304", message, node.span, help, uses)

    def filling(self, slot: str) -> Node | None:
        """What a line around the innermost block, or the defaults, fill one of its slots with."""
        return self._filling(slot, len(self.calls))[0]

    def empty(self, slots: Iterable[str], cause: str) -> Iterator[Given]:
        """The line that leaves a slot empty, where that is the cause of a mistake."""
        for slot in slots:
            node = self.filling(slot)
            if node is not None and cause == _empty(slot):
                yield Given(slot, str(plain(node)), node.span, 0)

    def given(self, sources: Iterable[Source | Given]) -> list[Given]:
        """The outermost values that the sources in the innermost block follow from."""
        depth = len(self.calls)
        found = [each for source in sources for each in self._behind(source, depth)]
        found = [each for each in found if each.is_suspicious] or found
        outermost = min((each.depth for each in found), default=0)
        unique = {each.span: each for each in found if each.depth == outermost}
        return [unique[span] for span in sorted(unique)]

    def _behind(self, source: Source | Given, depth: int) -> Iterator[Given]:
        """What an expression within so many blocks follows from, in the lines around them."""
        if isinstance(source, Given):
            yield source
        if depth == 0 or not isinstance(source, Expression):
            return
        block = self.calls[depth - 1].block
        for name in source.names:
            if name in block.lets:
                yield from self._behind(block.lets[name], depth)
            elif name in block.arguments:
                yield from self._argument(name, depth)

    def _argument(self, name: str, depth: int) -> Iterator[Given]:
        call = self.calls[depth - 1]
        source = call.sources.get(name)
        if isinstance(source, Bound):
            yield from self._constant(name, call.statement, call.block.name, depth - 1)
        elif isinstance(source, Expression) and source is not call.block.arguments[name].default:
            number = source.expr.value if isinstance(source.expr, Const) else None
            own = Given(name, source.text, source.span, depth - 1, number)
            yield from [*self._behind(source, depth - 1)] or [own]

    def _constant(
        self, name: str, statement: Statement, target: str, depth: int
    ) -> Iterator[Given]:
        """A number that what fills the slot gives, or that the network's defaults give."""
        node, place = _entry(self.defaults.get(target), name), 0
        if statement.kind == "slot":
            filling, around = self._filling(statement.target, depth)
            inner = _filled(filling, name)
            node, place = (node, place) if inner is None else (inner, around)
        if not isinstance(node, Scalar) or node.value is None:
            return
        number = None if isinstance(node.value, str) else node.value
        own = Given(name, str(node.value), node.span, place, number)
        yield from [*self._behind(read_expression(node), place)] or [own]

    def _filling(self, slot: str, depth: int) -> tuple[Node | None, int]:
        """What a line around so many blocks, or the network's defaults, fill a slot with.

        It comes with the number of blocks around the line in which it stands.
        """
        if depth == 0:
            return self.defaults.get(slot), 0
        statement, block, _ = self.calls[depth - 1]
        node, place = statement.arguments.get(slot), depth - 1
        if node is None and statement.kind == "slot":
            filling, place = self._filling(statement.target, depth - 1)
            node = _filled(filling, slot)
        if node is None and slot in ROLES:
            return self._filling(slot, depth - 1)
        if node is None:
            return _entry(self.defaults.get(block.name), slot), 0
        around = self.calls[depth - 2].block.slots if depth > 1 else {}
        name = plain_text(node) or ""
        return self._filling(name, depth - 1) if name in around else (node, place)


def _empty(slot: str) -> str:
    return f"the slot {quoted(slot)} is empty"


def _entries(node: Node) -> Mapping[str, Node]:
    return node.entries if isinstance(node, MappingNode) else {}


def _entry(node: Node | None, key: str) -> Node | None:
    return _entries(node).get(key) if node is not None else None


def _filled(node: Node | None, key: str) -> Node | None:
    """An entry of what fills a slot: of `{name: {key: value}}`."""
    return _entry(next(iter(_entries(node).values()), None), key) if node is not None else None


def error_at_origin(
    network: Network, name: str, found: Diagnostic, attributes: Sequence[str]
) -> SpecError:
    """What was found of an operation, by its dotted name, where these attributes are given."""
    trail, step, operation = _trail_to(network, name)
    key = operation.primitive.name
    sources = trail.sources(step.statement, key, step.sources, attributes)
    return trail.moved(SpecError([found]), sources, step.name)


def _trail_to(network: Network, name: str) -> tuple[Trail, Step, Operation]:
    """The calls that lead to an operation of a network, by its dotted name, and its step."""
    trail, instance = Trail(network.root.definition.node.get("defaults")), network.root
    while True:
        step = next(s for s in instance.steps if f"{name}.".startswith(f"{s.name}."))
        if not isinstance(step.node, Instance):
            return trail, step, step.node
        block = step.node.definition
        trail.uses += [Use(step.name, step.statement.span), Use(f"block {block.name}", block.span)]
        trail.calls.append(Call(step.statement, block, step.sources))
        instance, name = step.node, name[len(step.name) + 1 :]
