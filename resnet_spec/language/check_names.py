"""Checks the names that a block uses, without running it, so that no branch can hide an error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Hashable, Iterable, Mapping
from contextlib import contextmanager
from functools import partial

from resnet_spec.diagnostics import Report, SpecError, expected, quoted
from resnet_spec.language import bind
from resnet_spec.language.library import Blocks
from resnet_spec.language.nodes import plain
from resnet_spec.language.scalars import IMPLICIT, POSITION
from resnet_spec.language.syntax import (
    Binding,
    Definition,
    Expression,
    Loop,
    Pattern,
    Reference,
    Statement,
)
from resnet_spec.primitives import PRIMITIVES, ROLES, Attribute, Primitive

Defaulted = Mapping[str, Collection[str]]  # by block or primitive, what a network's defaults give


class Once:
    """Checks of a network's parts that are not made again for another network of the library.

    What a check finds follows from the part, the names around it, the defaults and the blocks that
    there are; a part with which nothing was wrong has nothing wrong with it there either.
    """

    def __init__(self, blocks: Blocks, defaults: Defaulted, report: Report) -> None:
        self.blocks, self.report = blocks, report
        own = tuple((name, id(block)) for name, block in blocks.own.items())
        given = tuple((name, tuple(keys)) for name, keys in defaults.items())
        self.key = (blocks.folder, own, given)
        self.owners = tuple(blocks.own.values())

    def check(self, part: object, names: Hashable, check: Callable[[], None]) -> None:
        """Check a part, or take over which blocks it was found to use."""
        used = self.blocks.library.memo.sound(
            ("checked", id(part), names, self.key),
            (part, self.owners),
            self.report,
            lambda: self.blocks.used_by(check),
        )
        self.blocks.used.update(used)


def check_block(
    block: Definition, blocks: Blocks, report: Report, defaults: Defaulted | None = None
) -> None:
    """Undefined names, unknown targets and arguments anywhere in a block (RS101, RS202, RS30x).

    Without `defaults` they are unknown, as when a block is checked by itself.
    """
    for argument in block.arguments.values():
        check_expression(argument.default, POSITION, report)
    known = {*IMPLICIT, *block.arguments}
    for name, expression in block.lets.items():
        check_expression(expression, known, report, block.lets)
        known.add(name)
    for binding in block.slots.values():
        _check_binding(binding, blocks, report)
    checker = _Checker(blocks, {**block.slots, **_roles()}, known, defaults, report)
    checker.statements(block.body)


def check_layers(
    body: Iterable[Statement | Loop],
    names: Iterable[str],
    blocks: Blocks,
    report: Report,
    defaults: Defaulted,
    once: Once,
) -> None:
    """The same for the layers of a network, which may use the constants in `names`."""
    _Checker(blocks, _roles(), {*names}, defaults, report, once).statements(body)


def _roles() -> dict[str, Binding | None]:
    return dict.fromkeys(ROLES)


class _Checker:
    """Follows the statements of one block from top to bottom."""

    def __init__(
        self,
        blocks: Blocks,
        slots: Mapping[str, Binding | None],
        known: set[str],
        defaults: Defaulted | None,
        report: Report,
        once: Once | None = None,
    ) -> None:
        self.once = once
        self.blocks, self.slots, self.report = blocks, slots, report
        self.known, self.defaults = known, defaults
        self.values = {"x"}
        self.layers: dict[str, Statement] = {}  # those above, by name

    def statements(self, body: Iterable[Statement | Loop]) -> None:
        for statement in body:
            if isinstance(statement, Loop):
                self.loop(statement)
            else:
                self.statement(statement)

    def loop(self, loop: Loop) -> None:
        check_expression(loop.count, self.known, self.report)
        # A value may be read in the turn after the one that gives it.
        self.values |= {reference.name for reference in _results(loop.body)}
        with self.local({loop.variable}):
            self.statements(loop.body)

    @contextmanager
    def local(self, names: Iterable[str]):  # type: ignore[no-untyped-def]
        before = self.known
        self.known = before | set(names)
        try:
            yield
        finally:
            self.known = before

    def statement(self, statement: Statement) -> None:
        if self.once is None or statement.inputs or statement.otherwise:
            self.look_at(statement)
        else:  # it reads no value, so it does not matter what stands above it
            names = frozenset(self.known)
            self.once.check(statement, names, partial(self.look_at, statement))
        if statement.name is not None:
            self.layers[statement.name.text] = statement
        if statement.result is not None:
            self.values.add(statement.result.name)
        elif statement.kind in ("block", "broken") and statement.name is not None:
            self.values.add(statement.name.text)  # a stage's output goes by its name

    def look_at(self, statement: Statement) -> None:
        for reference in (*statement.inputs, statement.otherwise):
            self.reference(reference)
        check_expression(statement.when, self.known, self.report)
        check_expression(statement.repeat, self.known, self.report)
        self.pattern(statement.name)
        with self.local(POSITION):
            self.pattern(statement.names)
        try:
            self.target(statement)
        except SpecError as error:
            self.report.extend(error)
        if statement.result is not None:
            check_expression(statement.result.index, self.known, self.report)

    def reference(self, reference: Reference | None) -> None:
        if reference is None:
            return
        check_expression(reference.index, self.known, self.report)
        if reference.name not in self.values:
            self.report.add(
                "RS306",
                f"there is no value called {quoted(reference.name)}",
                reference.span,
                help=self.instead_of(reference.name),
            )

    def instead_of(self, name: str) -> str:
        """The help for a value that does not exist: the output of a layer has a name of its own."""
        layer = self.layers.get(name)
        if layer is None:
            return expected(name, self.values)
        if layer.result is not None:
            return f"the output of the layer {quoted(name)} is called {quoted(str(layer.result))}"
        line = layer.span.line
        return f"name the output of the layer {quoted(name)}: add 'as: {name}' to it (line {line})"

    def pattern(self, pattern: Pattern | None) -> None:
        for expression in pattern.expressions if pattern is not None else ():
            check_expression(expression, self.known, self.report)

    def target(self, statement: Statement) -> None:
        kind = statement.meant or statement.kind
        if kind == "primitive":
            self.attributes(PRIMITIVES[statement.target], statement)
        elif kind == "slot" and statement.target not in self.slots:
            # What fills a slot is known where the block is used, and looked at there.
            self.report.add(
                "RS304",
                f"there is no slot {quoted(statement.target)}",
                statement.span,
                help=expected(statement.target, self.slots),
            )
        elif kind == "block" and statement.target:
            block = self.blocks.find(statement.target, statement.span)
            self.call(block, statement)

    def call(self, block: Definition, statement: Statement) -> None:
        found = Report()
        given = bind.arguments(block, statement.arguments, found)
        self.missing_arguments(block, statement, found)
        self.report.extend(SpecError(found.diagnostics))
        if found.diagnostics or statement.kind == "broken":
            self.constant_arguments(block, given)
        with self.local(POSITION):
            for value in given.values.values():
                for each in value.items if isinstance(value, bind.Listed) else (value,):
                    beside = statement.arguments.entries
                    check_expression(each, self.known, self.report, beside=beside)
        for binding in given.slots.values():
            if binding.target not in self.slots:
                _check_binding(binding, self.blocks, self.report)

    def missing_arguments(self, block: Definition, statement: Statement, report: Report) -> None:
        if self.defaults is None:
            return
        given = statement.arguments.entries
        known: set[str | None] = {*given, *self.defaults.get(block.name, ())}
        known |= {bind.meant_argument(block, key) for key in given if not bind.takes(block, key)}
        for name, argument in block.arguments.items():
            if argument.default is None and name not in known:
                bind.tell_missing_argument(block, argument, statement.span, report)

    def constant_arguments(self, block: Definition, given: bind.Arguments) -> None:
        """Numbers of a line with other mistakes, which keep it from being run."""
        for name, value in given.values.items():
            for each in value.items if isinstance(value, bind.Listed) else (value,):
                _check_constant(each, block.arguments[name].type, name, self.report)

    def attributes(self, primitive: Primitive, statement: Statement) -> None:
        # Unknown keys were told when the layer was read.
        known, unknown = bind.divided(primitive, statement.arguments)
        given = bind.attributes(primitive, known, {}, _Anything(), self.report)
        words = {attribute.name: attribute.words for attribute in primitive.attributes}
        for name, value in given.items():
            if isinstance(value, Expression):
                check_expression(value, self.known, self.report, (), words[name], given)
                if statement.kind == "broken":
                    attribute = primitive.attribute(name)
                    assert attribute is not None
                    _check_constant(value, attribute.type, name, self.report, attribute)
        if self.defaults is not None:
            told: set[str | None] = {*self.defaults.get(primitive.name, ())}
            told |= {key for key, node in known.entries.items() if plain(node) is not None}
            told |= {bind.meant_attribute(primitive, key) for key in unknown}
            for attribute in primitive.attributes:
                if attribute.required and attribute.name not in told:
                    bind.tell_missing_attribute(primitive, attribute, known.span, self.report)


class _Anything(dict):  # type: ignore[type-arg]
    """Stands for defaults that may give every attribute."""

    def get(self, key: str, default: object = None) -> object:
        return True


def _check_constant(
    expression: Expression, kind: str, name: str, report: Report, attribute: Attribute | None = None
) -> None:
    """The errors of a number, as lowering reports them for a line that it can run."""
    from resnet_spec.language import name_resolution  # which comes after this module

    if expression.names:
        return
    try:
        number = name_resolution.typed(
            name_resolution.evaluate(expression, {}), kind, expression.span, name
        )
        if attribute is not None:
            name_resolution.ranged(number, attribute, expression.span)
    except SpecError as error:
        report.extend(error)


def _results(body: Iterable[Statement | Loop]) -> Iterable[Reference]:
    for statement in body:
        if isinstance(statement, Loop):
            yield from _results(statement.body)
        elif statement.result is not None:
            yield statement.result


def _check_binding(binding: Binding, blocks: Blocks, report: Report) -> None:
    """The block that fills a slot, and the slots that it is given itself."""
    if binding.target is None or binding.target in PRIMITIVES:
        return
    try:
        block = blocks.find(binding.target, binding.span, slot=True)
        for inner in bind.arguments(block, binding.arguments).slots.values():
            _check_binding(inner, blocks, report)
    except SpecError as error:
        report.extend(error)


def check_expression(
    expression: Expression | None,
    known: Iterable[str],
    report: Report,
    later: Container[str] = (),
    words: Iterable[str] = (),
    beside: Container[str] = (),
) -> None:
    """RS202 for every name of an expression that is not known.

    `later` holds those further down, `words` what could stand in place of an expression, `beside`
    the keys of the same line.
    """
    if expression is None or not expression.names:
        return
    known = set(known)
    for name, offset in expression.names.items():
        if name not in known:
            hint = _WORDS.get(name) or expected(name, {*known, *words})
            if name in beside:
                hint = "an expression sees no other key: write the number, or a constant of 'let'"
            if name in later:
                hint = f"values are defined from top to bottom: put {quoted(name)} above"
            where = expression.span_at(offset, len(name))
            report.add("RS202", f"{quoted(name)} is not defined here", where, hint)


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# Numbers in words, booleans of other versions of YAML, and words of other frameworks.
_WORDS = {
    **{word: f"write it in digits: {number}" for number, word in enumerate(_NUMBERS)},
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON"), "write true"),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF"), "write false"),
    **dict.fromkeys(
        ("integer", "number", "double", "boolean", "str", "string"),
        "the types are int, float and bool",
    ),
    "classes": "a block does not see the network's classes: add an argument",
    "SAME": "write same",
    **dict.fromkeys(("valid", "VALID"), "write padding: 0"),
}
