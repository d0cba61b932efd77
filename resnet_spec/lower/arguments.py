"""The attributes, arguments and slots of each use of a primitive or a block, as numbers."""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

from resnet_spec.diagnostics import Report, Span, SpecError, expected, fail, quoted
from resnet_spec.expressions import Number
from resnet_spec.ir import Choice
from resnet_spec.ir.origins import Trail
from resnet_spec.language import bind, other_libraries
from resnet_spec.language.library import Blocks
from resnet_spec.language.name_resolution import Scope, TooLarge, Unknown, evaluate, ranged, typed
from resnet_spec.language.nodes import Mapping as MappingNode
from resnet_spec.language.nodes import Node, plain
from resnet_spec.language.scalars import read_binding
from resnet_spec.language.syntax import (
    Argument,
    Binding,
    Bound,
    Definition,
    Expression,
    Source,
    Statement,
)
from resnet_spec.lower.frame import Frame
from resnet_spec.primitives import PRIMITIVES, ROLES, Attribute, Initializer, Primitive

MAX_STATEMENTS = 20_000  # run with numbers, equal blocks once
MAX_NESTING = 24


class Attributes(NamedTuple):
    """The attributes of an operation, also in the form that the rules of primitives take.

    `open`: some of them depend on an argument of the generated model.
    """

    values: Mapping[str, Number | Initializer | str]
    namespace: SimpleNamespace
    open: bool
    sources: Mapping[str, Source]  # where each number comes from


class Sources(NamedTuple):
    """The sources of a statement's attributes, and their values in the runs so far."""

    given: Mapping[str, Source]
    names: tuple[str, ...]  # that expressions among them read
    known: dict[Any, Attributes]  # by the numbers of these names
    owners: tuple[Statement, Choice | None]  # kept alive for as long as their ids are keys


class Arguments(NamedTuple):
    """The arguments of a block, and the source of each number."""

    values: Mapping[str, Bound]
    sources: Mapping[str, Source]


class Usual(NamedTuple):
    """The default filling of a slot, with the blocks that it refers to."""

    binding: Binding  # kept alive for as long as its id is a key
    choice: Choice
    blocks: Mapping[str, Definition]


class Evaluator:
    """The blocks of a network, its defaults, and how a statement is combined with both."""

    def __init__(self, blocks: Blocks, scope: Scope, trail: Trail) -> None:
        self.blocks, self.trail = blocks, trail
        self.memo = blocks.library.memo
        self.scope = scope  # the names that the network itself gives
        self.defaults: dict[str, dict[str, Bound | Initializer | str]] = {}
        self.default_slots: dict[str, dict[str, Binding]] = {}
        self.roles: dict[str, Choice] = {}
        self.used_blocks: dict[str, Definition] = {}
        self.statements = 0
        self._sources: dict[tuple[int, int], Sources] = {}
        self._usual: dict[int, Usual] = {}
        # Equal for networks whose blocks come to the same where they are used alike, as long as
        # these are closed: nothing within them follows from the network's classes or channels.
        self.context: Any = ()
        self.is_closed = True

    def spend(self, span: Span, statements: int = 1) -> None:
        """Count statements that are run; `TooLarge` when there have been too many."""
        self.statements += statements
        if self.statements > MAX_STATEMENTS:
            raise TooLarge(span, f"{MAX_STATEMENTS:,} statements to run")

    def block(self, name: str, span: Span, slot: bool = False) -> Definition:
        """The definition of a block (RS301)."""
        found = self.blocks.find(name, span, slot)
        self.used_blocks[name] = found
        return found

    def finds(self, blocks: Mapping[str, Definition], span: Span) -> bool:
        """Whether these names refer to these blocks here, too."""
        try:
            return all(self.blocks.find(name, span) is block for name, block in blocks.items())
        except SpecError:
            return False

    def choose(self, binding: Binding, scope: Scope, depth: int = 0) -> Choice:
        """A binding with its target found and its arguments evaluated."""
        if binding.target is None:
            return Choice(None, label="none")
        self.spend(binding.span)
        if depth > MAX_NESTING:
            fail(
                "RS302",
                f"{quoted(binding.target)} fills a slot of itself, without end",
                binding.span,
                help="fill the inner slot with 'none' or with another block",
            )
        primitive = PRIMITIVES.get(binding.target)
        if primitive is not None:
            given = self.fixed_attributes(primitive, binding.arguments, scope)
            return Choice(primitive, tuple(given.items()), label=primitive.name)
        block = self.block(binding.target, binding.span, slot=True)
        arguments = bind.arguments(block, binding.arguments)
        values = self.fixed_arguments(block, arguments, scope, "RS304", "a slot")
        slots = {**block.slots, **self.default_slots.get(block.name, {}), **arguments.slots}
        choices = {name: self.choose(each, scope, depth + 1) for name, each in slots.items()}
        return Choice(block, tuple(values.items()), tuple(choices.items()), block.name)

    def slots(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        arguments: bind.Arguments,
        frame: Frame,
    ) -> dict[str, Choice]:
        """How the slots of a called block are filled; the roles norm and act are passed on."""
        choices = {role: frame.choices[role] for role in ROLES}
        bindings = {**block.slots, **self.default_slots.get(block.name, {})}
        for name, binding in bindings.items():
            choices[name] = self.usual(binding)
        if choice is not None:
            choices.update(choice.choices)
        for name, binding in arguments.slots.items():
            forwarded = frame.choices.get(binding.target or "")
            if forwarded is not None and not binding.arguments.entries:
                choices[name] = forwarded  # a slot of the block around
            else:
                choices[name] = self.choose(binding, frame.scope)
        return choices

    def usual(self, binding: Binding) -> Choice:
        """The default filling of a slot: the same for every call."""
        if id(binding) not in self._usual:
            outer, self.used_blocks = self.used_blocks, {}
            choice = self.choose(binding, self.scope)
            self.is_closed = self.is_closed and not choice.is_open
            self._usual[id(binding)] = Usual(binding, choice, self.used_blocks)
            self.used_blocks = outer
        usual = self._usual[id(binding)]
        self.used_blocks.update(usual.blocks)
        return usual.choice

    def fixed_arguments(
        self, block: Definition, given: bind.Arguments, scope: Scope, code: str, place: str
    ) -> dict[str, Bound | Initializer | str]:
        """Arguments of a block that are given as constants."""
        fixed: dict[str, Bound | Initializer | str] = {}
        found = Report()
        for key, value in given.values.items():
            if isinstance(value, bind.Listed):
                message = f"{quoted(key)} of {place} can't be a list"
                found.add(code, message, value.items[0].span, "give one value for all blocks")
                continue
            try:
                number = evaluate(value, scope)
                fixed[key] = typed(number, block.arguments[key].type, value.span, key)
            except SpecError as error:
                found.extend(error)
        found.raise_if_any()
        return fixed

    def fixed_attributes(
        self, primitive: Primitive, node: MappingNode, scope: Scope
    ) -> dict[str, Bound | Initializer | str]:
        """Attributes of a primitive that are given as constants."""
        fixed: dict[str, Bound | Initializer | str] = {}
        found = Report()
        for key, child in node.entries.items():
            attribute = primitive.attribute(key)
            if attribute is None:
                known = [each.name for each in primitive.attributes]
                message = f"'{primitive.name}' has no attribute {quoted(key)}"
                found.add("RS101", message, node.keys[key], expected(key, known))
                continue
            try:
                given = bind.read_attribute(attribute, child)
                if isinstance(given, Expression):
                    value = typed(evaluate(given, scope), attribute.type, given.span, key)
                    fixed[key] = ranged(value, attribute, given.span)
                else:
                    fixed[key] = given
            except SpecError as error:
                found.extend(error)
        found.raise_if_any()
        return fixed

    def attributes(
        self, primitive: Primitive, statement: Statement, choice: Choice | None, scope: Scope
    ) -> Attributes:
        """The attributes of an operation, and the source of each."""
        found = Report()
        sources = self.sources(primitive, statement, choice, found)
        numbers = [scope.get(name) for name in sources.names]
        # 1, 1.0 and True are equal, but not the same number.
        key = tuple((number, type(number and number.value)) for number in numbers)
        if key in sources.known:
            return sources.known[key]
        values: dict[str, Bound | Initializer | str] = {}
        complete = True
        for attribute in primitive.in_order:
            if attribute.name not in sources.given:
                complete = False
                continue
            source = sources.given[attribute.name]
            if source is None and isinstance(attribute.default, str) and not complete:
                continue
            try:
                values[attribute.name] = self.attribute(
                    attribute, source, values, scope, statement.span
                )
            except SpecError as error:
                found.extend(self.trail.moved(error, [source], layer_of(statement)))
                complete = False
            except Unknown:
                complete = False
        found.raise_if_any()
        if not complete:
            raise Unknown
        plain = {k: v.value if isinstance(v, Bound) else v for k, v in values.items()}
        opened = any(v.open for v in values.values() if isinstance(v, Bound))
        made = Attributes(plain, SimpleNamespace(**plain), opened, sources.given)
        sources.known[key] = made
        return made

    def sources(
        self, primitive: Primitive, statement: Statement, choice: Choice | None, report: Report
    ) -> Sources:
        """The sources of a statement's attributes; errors go to the report."""
        key = (id(statement), id(choice))
        if key not in self._sources:
            filled = choice.key if choice is not None else None
            shared = ("sources", id(statement), primitive.name, filled, self.context)
            owners = statement, choice
            made = partial(self.read_sources, primitive, statement, choice, report)
            found = self.memo.sound(shared, owners, report, made)
            if report.diagnostics:
                return found
            self._sources[key] = found
        return self._sources[key]

    def read_sources(
        self, primitive: Primitive, statement: Statement, choice: Choice | None, report: Report
    ) -> Sources:
        binding = dict(choice.arguments) if choice is not None else {}
        defaults = self.defaults.get(primitive.name, {})
        own = Report()
        if statement.repeat is not None:
            message = f"'repeat' is for blocks, but {quoted(primitive.name)} fills the slot"
            hint = "fill it with a block, or repeat the layer in a loop"
            own.add("RS304", message, statement.repeat.span, hint)
        given = bind.attributes(primitive, statement.arguments, binding, defaults, own)
        read = [each.names for each in given.values() if isinstance(each, Expression)]
        names = tuple({name for each in read for name in each})
        report.extend(SpecError(own.diagnostics))
        return Sources(given, names, {}, (statement, choice))

    def check_constants(
        self, primitive: Primitive, statement: Statement, choice: Choice | None
    ) -> None:
        """Check the attributes that depend on nothing; raises `SpecError`."""
        found = Report()
        sources = self.sources(primitive, statement, choice, found)
        for attribute in primitive.attributes:
            source = sources.given.get(attribute.name)
            if source is None or (isinstance(source, Expression) and source.names):
                continue
            try:
                self.attribute(attribute, source, {}, {}, statement.span)
            except SpecError as error:
                found.extend(error)
        found.raise_if_any()

    def attribute(
        self,
        attribute: Attribute,
        source: Source,
        values: Mapping[str, Bound | Initializer | str],
        scope: Scope,
        span: Span,
    ) -> Bound | Initializer | str:
        """The value of one attribute; `values` are those that its default can use."""
        value: Bound | Initializer | str
        if isinstance(source, Expression):
            value, span = evaluate(source, scope), source.span
        elif source is not None:
            value = source
        elif isinstance(attribute.default, str):
            known = {name: each for name, each in values.items() if isinstance(each, Bound)}
            value = evaluate(bind.default_expression(attribute.default), known)
        elif isinstance(attribute.default, Initializer):
            return attribute.default
        else:
            assert attribute.default is not None
            value = Bound(attribute.default)
        if not isinstance(value, Bound):
            return value
        return ranged(typed(value, attribute.type, span, attribute.name), attribute, span)

    def arguments(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        given: bind.Arguments,
        scope: Scope,
    ) -> Arguments:
        """A block's arguments at one position of a repetition, and the source of each."""
        values: dict[str, Bound] = {}
        found = Report()
        sources = self.argument_sources(statement, block, choice, given, scope, found)
        for name, source in sources.items():
            try:
                values[name] = self.argument(block.arguments[name], source, scope, statement.span)
            except SpecError as error:
                found.extend(self.trail.moved(error, [source], layer_of(statement)))
            except Unknown:
                pass
        found.raise_if_any()
        if len(values) < len(sources):
            raise Unknown
        return Arguments(values, sources)

    def argument_sources(
        self,
        statement: Statement,
        block: Definition,
        choice: Choice | None,
        given: bind.Arguments,
        scope: Scope,
        report: Report,
    ) -> dict[str, bind.Given]:
        """Where each argument comes from at one position: an item of a list, an expression of the
        call, a number that a slot or `defaults` gives, or the argument's own default."""
        binding = dict(choice.arguments) if choice is not None else {}
        for key in binding:
            if key in given.values:
                report.add(
                    "RS304",
                    f"the block already gives {quoted(key)} to the slot {quoted(statement.target)}",
                    statement.span,
                    help=f"leave {quoted(key)} out where {quoted(block.name)} fills the slot",
                )
        defaults = self.defaults.get(block.name, {})
        found: dict[str, bind.Given] = {}
        for name, argument in block.arguments.items():
            source = given.values.get(name) or binding.get(name) or defaults.get(name)
            if not has_length(argument, source, int(scope["n"].value), report):
                continue
            at = bind.at_position(argument, source, int(scope["i"].value))
            if at is None:
                bind.tell_missing_argument(block, argument, statement.span, report)
            else:
                found[name] = at
        return found

    def argument(self, argument: Argument, source: bind.Given, scope: Scope, span: Span) -> Bound:
        if isinstance(source, Expression):
            span, value = source.span, evaluate(source, scope)
        else:
            assert isinstance(source, Bound)
            value = source
        return typed(value, argument.type, span, argument.name)

    def read_defaults(self, node: Node | None, report: Report) -> None:
        entries = node.entries if isinstance(node, MappingNode) else {}
        if not isinstance(node, MappingNode) and getattr(node, "value", node) is not None:
            assert node is not None
            hint = "write each with its values: {conv: {bias: true}}"
            report.add("RS103", "'defaults' must be a mapping", node.span, hint)
        # Primitives first: what fills a role may rely on them.
        for key in sorted(entries, key=lambda key: key in ROLES):
            assert isinstance(node, MappingNode)
            try:
                self.read_default(key, entries[key], node.keys[key])
            except SpecError as error:
                report.extend(error)
            except Unknown:
                pass
        for role, usual in ROLES.items():
            self.roles.setdefault(role, Choice(PRIMITIVES[usual], label=usual))
        given = ((name, tuple(values.items())) for name, values in self.defaults.items())
        self.context = (tuple(given), repr(node and plain(node)))

    def read_default(self, key: str, node: Node, span: Span) -> None:
        if key in ROLES:
            self.roles[key] = self.choose(read_binding(node), self.scope)
            return
        known = self.blocks.names()
        if key not in known and key not in PRIMITIVES:
            hint = other_libraries.hint(key, {*known, *PRIMITIVES, *ROLES})
            owners = [name for name, each in PRIMITIVES.items() if each.attribute(key)]
            if owners:
                example = f"{{{owners[0]}: {{{key}: …}}}}"
                hint = f"say for which of {', '.join(owners)} it is: {example}"
            fail("RS101", f"{quoted(key)} is not a block, primitive or slot", span, hint)
        if not isinstance(node, MappingNode):
            fail("RS103", f"the defaults of {quoted(key)} must be a mapping", node.span)
        if key in PRIMITIVES:
            self.defaults[key] = self.fixed_attributes(PRIMITIVES[key], node, self.scope)
            return
        block = self.block(key, span)
        given = bind.arguments(block, node)
        self.defaults[key] = self.fixed_arguments(block, given, self.scope, "RS103", "'defaults'")
        self.default_slots[key] = dict(given.slots)


def layer_of(statement: Statement) -> str:
    """A statement as a link of a chain of uses."""
    return statement.name.text if statement.name is not None else statement.target


def has_length(
    argument: Argument, source: bind.Given | bind.Listed | None, count: int, report: Report
) -> bool:
    """Check that a list has one value for each block (RS103); other values apply to all of them."""
    if not isinstance(source, bind.Listed):
        return True
    given = source.items
    if len(given) == count:
        return True
    blocks = f"{count} blocks" if count > 1 else "1 block"
    hint = f"give {count} values, one for each block" if count > 1 else "give one value"
    if count == 1 and argument.name in bind.OF_WINDOWS:
        hint = "give one value: windows are square, and a list is for repeated blocks"
    message = f"{quoted(argument.name)} lists {len(given)} values for {blocks}"
    report.add("RS103", message, given[0].span, hint)
    return False
