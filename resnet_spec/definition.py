"""From the nodes of a block to its definition: statements, references, patterns, expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from resnet_spec import expr, foreign, names, validate
from resnet_spec.diagnostics import Report, Span, SpecError, expected, fail, quoted
from resnet_spec.ir import (
    Argument,
    Binding,
    Definition,
    Expression,
    Loop,
    Pattern,
    Reference,
    Statement,
)
from resnet_spec.ops import FANS, INITIALIZERS, PRIMITIVES, ROLES, SAME, Initializer
from resnet_spec.source import EMPTY, Mapping, Node, Scalar, Sequence

T = TypeVar("T")

# Variables that the arguments of a repeated block may use: its place among its like, their number,
# and the same for all blocks of the network's stages.
POSITION = ("i", "n", "block_index", "block_count")
IMPLICIT = ("in_channels",)

_UNREADABLE = {
    **dict.fromkeys(expr.CONSTANTS, "in an expression it is the boolean"),
    "null": "in YAML it is an empty value",
}

_BRACES = re.compile(r"\{([^{}]*)\}")
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\.\{([^{}]*)\}|\.([0-9]+))?")


# --- small parts ---------------------------------------------------------------------------------


def read_expression(node: Node, what: str = "a value") -> Expression:
    """An expression from a scalar; raises `SpecError` (RS103, RS201)."""
    if not isinstance(node, Scalar) or node.value is None:
        found = validate.kind_of(node)
        fail("RS103", f"{what} must be a number or an expression, not {found}", node.span)
    if not isinstance(node.value, str):
        if isinstance(node.value, float) and not abs(node.value) <= expr.MAX_MAGNITUDE:
            fail("RS203", f"{what} must be a finite number", node.span)
        if abs(node.value) > expr.MAX_MAGNITUDE:
            fail("RS203", f"{quoted(node.value)} is beyond {expr.MAX_MAGNITUDE}", node.span)
        return Expression(expr.Const(node.value), str(node.value), node.span)
    span, exact = node.span, node.plain
    if not exact and span.end_column - span.column == len(node.value) + 2:
        # Between quotes, without escapes.
        span, exact = span.narrowed(1, len(node.value)), span.line == span.end_line
    return parse_expression(node.value, span, exact)


def parse_expression(text: str, span: Span, exact: bool = True) -> Expression:
    try:
        tree, offsets = expr.parse(text)
    except expr.ExpressionError as error:
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
    names.check_path(_BRACES.sub("0", text), node.span)
    return Pattern(tuple(parts), text, node.span)


def read_reference(node: Node, what: str) -> Reference:
    """`name`, `name.{expression}` or `name.3`."""
    text = read_text(node, what)
    match = _REFERENCE.fullmatch(text)
    if match is None:
        fail(
            "RS105",
            f"{quoted(text)} is not the name of a value",
            node.span,
            help="use a name like 'residual', or 'part.{i}' for an element of a list",
        )
    name, braced, number = match.groups()
    index = braced if braced is not None else number
    if index is None:
        return Reference(name, None, node.span)
    return Reference(name, parse_expression(index, node.span, exact=False), node.span)


def read_result(node: Node) -> Reference:
    """The name that `as` gives, which becomes a variable."""
    reference = read_reference(node, "'as'")
    if reference.name != "x":
        names.check_identifier(reference.name, node.span, "a value")
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
        hint = expected(str(kind), INITIALIZERS)
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
    fail(
        "RS304",
        "a slot is filled by the name of a block or a primitive",
        node.span,
        help="write 'none', a name, or {name: {argument: value}}",
    )


# --- layers --------------------------------------------------------------------------------------


class _Reader:
    """Reads the layers of one block and collects what is wrong with them."""

    def __init__(self, report: Report, what: str) -> None:
        self.report = report
        self.what = what

    def layers(self, node: Node | None) -> tuple[Statement | Loop, ...]:
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            self.report.add(
                "RS103",
                f"the layers of {self.what} must be a list, {validate.contrast(node)}",
                node.span,
                help="write each layer as '- {conv: conv1, filters: 64, kernel: 3}'",
            )
            return ()
        found: list[Statement | Loop] = []
        for item in node.items:
            try:
                found += self.layer(item)
            except SpecError as error:
                self.report.extend(error)
                found.append(broken(item))
        return tuple(found)

    def layer(self, node: Node) -> tuple[Statement | Loop, ...]:
        """The statement of a layer; those within a loop whose counter can't be read."""
        if isinstance(node, Scalar) and isinstance(node.value, str):
            # `- act` is short for `- {act: }`.
            bare = Scalar(None, node.span)
            node = Mapping({node.value: bare}, {node.value: node.span}, node.span)
        if not isinstance(node, Mapping):
            found = validate.kind_of(node)
            hint = "write it as '- {conv: conv1, filters: 64, kernel: 3}'"
            fail("RS103", f"a layer must be a mapping, not {found}", node.span, hint)
        key = self.leading_key(node)
        if key == "for":
            return self.loop(node)
        if key in ("block", "slot"):
            return (self.call(node, key),)
        return (self.operation(node, key),)

    def leading_key(self, node: Mapping) -> str:
        """The key that says what a layer is."""
        for key in ("for", "block", "slot"):
            if key in node.entries:
                return key
        found = [key for key in node.entries if key in validate.LAYER_KEYS]
        if len(found) == 1:
            return found[0]
        if found:
            both = f"{quoted(found[0])} and {quoted(found[1])}"
            fail("RS101", f"a layer is one operation, not {both}", node.keys[found[1]])
        first = next(iter(node.entries), "")
        fail(
            "RS101",
            f"{quoted(first)} is no operation: this layer says nothing to do",
            node.keys.get(first, node.span),
            help=foreign.hint(first, validate.LAYER_KEYS),
        )

    def optional(self, node: Node | None, read: Callable[[Node], T]) -> T | None:
        """A part of a layer; None where it is not there, or wrong, which the report then tells."""
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return None
        try:
            return read(node)
        except SpecError as error:
            self.report.extend(error)
            return None

    def operation(self, node: Mapping, key: str) -> Statement:
        before = len(self.report.diagnostics)
        validate.validate(f"layer {key}", node, f"the layer {quoted(key)}", self.report)
        lead = node.entries[key]
        primitive = PRIMITIVES.get(key)
        many = primitive is not None and primitive.takes == "many"
        name_node = node.get("name") if many else lead
        own = {key, "from", "as", "when", "else"} | ({"name"} if many else set())
        statement = Statement(
            kind="slot" if key in ROLES else "primitive",
            target=key,
            span=node.keys[key],
            name=self.optional(name_node, lambda n: read_pattern(n, "the name of a layer")),
            inputs=self.optional(lead if many else node.get("from"), read_inputs) or (),
            result=self.optional(node.get("as"), read_result),
            when=self.optional(node.get("when"), lambda n: read_expression(n, "'when'")),
            otherwise=self.otherwise(node),
            arguments=_without(node, own),
        )
        return self.sound(statement, before)

    def call(self, node: Mapping, key: str, stage: bool = False) -> Statement:
        before = len(self.report.diagnostics)
        model = "BlockCallModel" if key == "block" else "SlotCallModel"
        if stage:
            model = "StageModel"
        validate.validate(model, node, "a stage" if stage else f"the {key}", self.report)
        target = node.get(key)
        statement = Statement(
            kind="block" if key == "block" else "slot",
            target=plain_text(target) or "",
            span=target.span if target is not None else node.span,
            name=self.optional(node.get("name"), lambda n: read_pattern(n, "the name of a layer")),
            inputs=self.optional(node.get("from"), read_inputs) or (),
            result=self.optional(node.get("as"), read_result),
            when=self.optional(node.get("when"), lambda n: read_expression(n, "'when'")),
            otherwise=self.otherwise(node),
            arguments=_without(node, validate.keys_of(model)),
            repeat=self.optional(node.get("repeat"), lambda n: read_expression(n, "'repeat'")),
            names=self.optional(node.get("names"), lambda n: read_pattern(n, "'names'")),
            feature=getattr(node.get("feature"), "value", True) is not False,
        )
        if statement.names is not None and "repeat" not in node.entries:
            hint = "'names' is for repeated blocks; 'name' is that of the layer"
            self.report.add("RS102", "'names' needs a 'repeat'", node.keys["names"], hint)
        return self.sound(statement, before)

    def sound(self, statement: Statement, before: int) -> Statement:
        """The statement, as a broken one where something was told of it."""
        if len(self.report.diagnostics) == before or statement.kind == "broken":
            return statement
        return statement._replace(kind="broken", meant=statement.kind)

    def otherwise(self, node: Mapping) -> Reference | None:
        found = self.optional(node.get("else"), lambda n: read_reference(n, "'else'"))
        if found is not None and "when" not in node.entries:
            self.report.add("RS102", "'else' needs a 'when'", node.keys["else"])
        return found

    def loop(self, node: Mapping) -> tuple[Statement | Loop, ...]:
        before = len(self.report.diagnostics)
        validate.validate("LoopModel", node, "the loop", self.report)
        named = node.get("for") if plain_text(node.get("for")) is not None else None
        variable = self.optional(named, read_counter)
        count = self.optional(node.get("count"), lambda n: read_expression(n, "'count'"))
        wrong = len(self.report.diagnostics) > before
        lists = (each for each in node.entries.values() if isinstance(each, Sequence))
        body = self.layers(node.get("layers") or next(lists, None))
        if variable is None or count is None or wrong:
            return tuple(unknown(each) for each in given_by(body))
        return (Loop(variable, count, body, node.keys["for"]),)


def read_inputs(node: Node) -> tuple[Reference, ...]:
    items = node.items if isinstance(node, Sequence) else (node,)
    if not items:
        fail("RS103", "an operation needs at least one input", node.span)
    return tuple(read_reference(item, "an input") for item in items)


def read_counter(node: Node) -> str:
    name = read_text(node, "'for'")
    _check_readable(name, node.span, "a counter")
    names.check_identifier(name, node.span, "a counter")
    if name in POSITION:
        # Arguments of a block within the loop would mean the block's own place by it.
        hint = "call the counter something else: k"
        fail("RS105", f"{quoted(name)} is the place of a repeated block", node.span, hint)
    return name


def _without(node: Mapping, keys: Iterable[str]) -> Mapping:
    kept = {key: value for key, value in node.entries.items() if key not in keys}
    return Mapping(kept, {key: node.keys[key] for key in kept}, node.span)


def read_layers(node: Node | None, what: str, report: Report) -> tuple[Statement | Loop, ...]:
    """The statements of a list of layers; what is wrong goes to the report."""
    return _Reader(report, what).layers(node)


# --- names of layers without one ------------------------------------------------------------------


def with_names(body: Iterable[Statement | Loop]) -> tuple[Statement | Loop, ...]:
    """The body with a name for each statement that has none of its own.

    It is called as its target, the second of a body with a 2 behind, and within loops with their
    counters: `act`, `act2`, `max_pool.{k}`. That depends on where it stands alone, not on which
    layers run, so a layer has one name in every use of a block.
    """
    body = tuple(body)
    given = [each.name.parts for each in _statements(body) if each.name is not None]
    return _Namer(names.FirstParts(given)).named(body, ())


class _Namer:
    """Gives out names that no layer of the spec's own can have, or be within.

    `given` are the first parts of the names that the spec gives itself.
    """

    def __init__(self, given: names.FirstParts) -> None:
        self.given = given
        self.last: dict[str, int] = {}  # number of the last name that each target has got

    def named(
        self, body: Iterable[Statement | Loop], counters: tuple[str, ...]
    ) -> tuple[Statement | Loop, ...]:
        found: list[Statement | Loop] = []
        for each in body:
            if isinstance(each, Loop):
                inner = self.named(each.body, (*counters, each.variable))
                found.append(each._replace(body=inner))
            elif each.name is None and each.kind != "broken":
                name = self.pattern(each, counters)
                found.append(each._replace(name=name, unnamed=True))
            else:
                found.append(each)
        return tuple(found)

    def pattern(self, statement: Statement, counters: tuple[str, ...]) -> Pattern:
        text = self.next(statement.target)
        parts: list[str | Expression] = [f"{text}." if counters else text]
        for depth, counter in enumerate(counters):
            parts += [*(["."] if depth else []), parse_expression(counter, statement.span, False)]
        shown = "".join([text, *(f".{{{counter}}}" for counter in counters)])
        return Pattern(tuple(parts), shown, statement.span)

    def next(self, target: str) -> str:
        """`act`, `act2`, …; behind a `_` where names with counters may be all of these."""
        stem = target
        while f"{stem}{10**9}" in self.given:
            stem += "_"
        number = self.last.get(target, 0) + 1
        while _numbered(stem, number) in self.given:
            number += 1
        self.last[target] = number
        return _numbered(stem, number)


def _numbered(stem: str, number: int) -> str:
    return f"{stem}{number}" if number > 1 else stem


def _statements(body: Iterable[Statement | Loop]) -> Iterable[Statement]:
    for each in body:
        if isinstance(each, Loop):
            yield from _statements(each.body)
        else:
            yield each


def read_stage(node: Node, report: Report) -> Statement:
    """One stage of a network; what is wrong goes to the report."""
    if not isinstance(node, Mapping):
        found = validate.kind_of(node)
        hint = "write it as '- {name: layer1, block: bottleneck, repeat: 3, filters: 64}'"
        report.add("RS103", f"a stage must be a mapping, not {found}", node.span, hint)
        return broken(node)
    reader, before = _Reader(report, "the stages"), len(report.diagnostics)
    statement = reader.call(node, "block", stage=True)
    if statement.name is not None and not statement.name.is_fixed:
        report.add("RS105", "the name of a stage can't hold an expression", statement.name.span)
        statement = statement._replace(name=None)
    taken = {"x": "it is the input", **dict.fromkeys(("stem", "head"), "it is a part of its own")}
    if statement.name is not None and statement.name.text in taken:
        what = f"{quoted(statement.name.text)} can't name a stage: {taken[statement.name.text]}"
        report.add("RS105", what, statement.name.span)
    return reader.sound(statement, before)


def broken(node: Node) -> Statement:
    """Stands for a line that can't be read; the name that it gives is known all the same."""
    name = plain_text(node.get("as")) if isinstance(node, Mapping) else None
    match = _REFERENCE.fullmatch(name) if name is not None else None
    result = Reference(match.group(1), None, node.span) if match is not None else None
    own = plain_text(node.get("name")) if isinstance(node, Mapping) else None
    pattern = Pattern((own,), own, node.span) if own is not None else None
    return Statement("broken", "", node.span, name=pattern, result=result)


def given_by(body: Iterable[Statement | Loop]) -> Iterator[Statement]:
    """The statements that give values a name, those within loops as well."""
    for statement in body:
        if isinstance(statement, Loop):
            yield from given_by(statement.body)
        elif statement.result is not None:
            yield statement


def unknown(statement: Statement) -> Statement:
    """Stands for a layer in a loop that can't be read: its value may be one or a list."""
    assert statement.result is not None
    result = Reference(statement.result.name, None, statement.result.span)
    return Statement("broken", "split", statement.span, result=result)


# --- blocks --------------------------------------------------------------------------------------


def read_block(
    node: Node, report: Report, name: str | None = None, span: Span | None = None
) -> Definition | None:
    """The definition of a block's file, or of an inline block whose name, at `span`, is given.

    Mistakes go to the report. One in a layer leaves a definition, so that the rest is looked at;
    one in what the block is called or takes gives None, as every use of it would seem wrong.
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
        names.check_identifier(name, span, "a block")
        shown_class = plain_text(node.get("class_name"))
        if shown_class is None:
            shown_class = names.check_own_class(name, span, "a block")
        names.check_class(shown_class, node.span_of("class_name"))
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


def plain_text(node: Node | None) -> str | None:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


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
    """A name that a spec gives to a number, and that the language does not give itself (RS105)."""
    _check_readable(name, span, what)
    names.check_identifier(name, span, what)
    if name in (*POSITION, *IMPLICIT, "classes", "x", SAME):
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}: it has a meaning of its own",
            span,
            help="use another name",
        )


def _check_readable(name: str, span: Span, what: str) -> None:
    """RS105 for a name that no expression could read."""
    if name in _UNREADABLE:
        message = f"{quoted(name)} can't name {what}: {_UNREADABLE[name]}"
        fail("RS105", message, span, help="use another name")


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
        value = default.expr.value if isinstance(default.expr, expr.Const) else 0
        kind = {bool: "bool", float: "float"}.get(type(value), "int")
    return Argument(name, kind, default, first_only, description, node.span)  # type: ignore[arg-type]


def _read_slots(node: Node | None, report: Report) -> dict[str, Binding]:
    slots: dict[str, Binding] = {}
    for name, child, span in _named(node, "'slots'", report):
        try:
            names.check_identifier(name, span, "a slot")
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
        report.add("RS103", f"{what} must be a mapping, {validate.contrast(node)}", node.span)
        return []
    return [(name, child, node.keys[name]) for name, child in node.entries.items()]


def _check_distinct(node: Mapping, report: Report) -> None:
    """Arguments, slots and lets share one name space, and none may look like a layer's own key."""
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
