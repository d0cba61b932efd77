"""From the nodes of layers and stages to statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from resnet_spec.diagnostics import Report, SpecError, fail, quoted
from resnet_spec.language import identifiers, other_libraries, validate
from resnet_spec.language.nodes import Mapping, Node, Scalar, Sequence, plain
from resnet_spec.language.scalars import (
    POSITION,
    REFERENCE,
    check_readable,
    plain_text,
    read_expression,
    read_pattern,
    read_reference,
    read_result,
    read_text,
)
from resnet_spec.language.syntax import (
    OF_EVERY_LAYER,
    Loop,
    Pattern,
    Reference,
    Statement,
)
from resnet_spec.primitives import PRIMITIVES, ROLES

T = TypeVar("T")


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
            hint = f"write two layers: '- {{{found[0]}: …}}' and '- {{{found[1]}: …}}'"
            fail("RS101", f"a layer is one operation, not {both}", node.keys[found[1]], hint)
        first = next(iter(node.entries), "")
        hint = other_libraries.hint(first, validate.LAYER_KEYS)
        word, *rest = re.findall(r"[\w.{}]+", first) or [""]
        if first in OF_EVERY_LAYER:
            hint = f"write it in each layer that it is for: '- {{act: act1, {first}: ...}}'"
        elif first in ("type", "op", "operation", "layer", "kind"):
            what, name = (plain_text(node.get(each)) or "…" for each in (first, "name"))
            hint = f"the first key says what a layer is: {{{what}: {name}}}"
        elif first == "name":
            hint = f"the first key says what a layer is: {{conv: {plain_text(node.get(first))}}}"
        elif isinstance(node.get(first), Mapping):
            hint = f"the first key says what a layer is: {{conv: {first}, filters: …, kernel: …}}"
        elif rest and word in validate.LAYER_KEYS:
            hint = f"write it as '- {{{word}: …}}'"
            if _joins(word):
                hint = f"write it as '- {{{word}: [{', '.join(rest)}]}}'"
        fail(
            "RS101",
            f"{quoted(first)} is not an operation, and this layer has no other",
            node.keys.get(first, node.span),
            help=hint,
        )

    def optional(self, node: Node | None, read: Callable[[Node], T]) -> T | None:
        """A part of a layer; None if it is missing or wrong; errors go to the report."""
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return None
        try:
            return read(node)
        except SpecError as error:
            self.report.extend(error)
            return None

    def operation(self, node: Mapping, key: str) -> Statement:
        before = len(self.report.diagnostics)
        many = _joins(key)
        if many:
            check_lists_its_values(node, key)
        validate.validate(f"layer {key}", node, f"the layer {quoted(key)}", self.report)
        lead = node.entries[key]
        if not many:
            check_lead(lead, key)
        name_node = node.get("name") if many else lead
        own = {key, *OF_EVERY_LAYER} | ({"name"} if many else set())
        statement = Statement(
            kind="slot" if key in ROLES else "primitive",
            target=key,
            span=node.keys[key],
            name=self.optional(name_node, lambda n: read_pattern(n, "the name of a layer")),
            inputs=self.optional(lead, read_joined) or () if many else self.source(node),
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
            inputs=self.source(node),
            result=self.optional(node.get("as"), read_result),
            when=self.optional(node.get("when"), lambda n: read_expression(n, "'when'")),
            otherwise=self.otherwise(node),
            arguments=_without(node, validate.keys_of(model)),
            repeat=self.optional(node.get("repeat"), lambda n: read_expression(n, "'repeat'")),
            names=self.optional(node.get("names"), lambda n: read_pattern(n, "'names'")),
            feature=getattr(node.get("feature"), "value", True) is not False,
        )
        if statement.names is not None and "repeat" not in node.entries:
            hint = "'names' is for repeated blocks; use 'name' for the layer"
            self.report.add("RS102", "'names' needs a 'repeat'", node.keys["names"], hint)
        return self.sound(statement, before)

    def sound(self, statement: Statement, before: int) -> Statement:
        """The statement, as a broken one where something was told of it."""
        if len(self.report.diagnostics) == before or statement.kind == "broken":
            return statement
        return statement._replace(kind="broken", meant=statement.kind)

    def source(self, node: Mapping) -> tuple[Reference, ...]:
        return self.optional(node.get("from"), read_inputs) or ()

    def otherwise(self, node: Mapping) -> Reference | None:
        found = self.optional(node.get("else"), lambda n: read_reference(n, "'else'"))
        if found is not None and "when" not in node.entries:
            hint = "add the condition: when: stride != 1; what a layer takes is chosen by 'from'"
            self.report.add("RS102", "'else' needs a 'when'", node.keys["else"], hint)
        return found

    def loop(self, node: Mapping) -> tuple[Statement | Loop, ...]:
        before, as_if_a_layer = len(self.report.diagnostics), broken(node)
        for key in OF_EVERY_LAYER:
            if key in node.entries:
                hint = _instead_in_a_loop(key, node)
                self.report.add("RS101", f"a loop takes no {quoted(key)}", node.keys[key], hint)
        node = _without(node, OF_EVERY_LAYER)
        validate.validate("LoopModel", node, "the loop", self.report)
        named = node.get("for") if plain_text(node.get("for")) is not None else None
        variable = self.optional(named, read_counter)
        count = self.optional(node.get("count"), lambda n: read_expression(n, "'count'"))
        if "count" in node.entries and plain(node.entries["count"]) is None:
            hint = "write the number of iterations: count: 2"
            self.report.add("RS103", "'count' is empty", node.keys["count"], hint)
        wrong = len(self.report.diagnostics) > before
        lists = (each for each in node.entries.values() if isinstance(each, Sequence))
        body = self.layers(node.get("layers") or next(lists, None))
        if variable is None or count is None or wrong:
            return (as_if_a_layer, *(stand_in(each) for each in given_by(body)))
        return (Loop(variable, count, body, node.keys["for"]),)


def _instead_in_a_loop(key: str, node: Mapping) -> str:
    """How to say what a key would mean for all layers of a loop."""
    if key != "when":
        return f"write {quoted(key)} in a layer of the loop"
    condition, count = plain_text(node.get(key)), getattr(node.get("count"), "value", None)
    if condition is None or count is None or " if " in str(count):
        condition, count = "deep", 2
    return f"give it no iterations elsewhere: 'count: {count} if {condition} else 0'"


def read_inputs(node: Node) -> tuple[Reference, ...]:
    """The values of `from`, which may turn out to be too many for the layer."""
    items = node.items if isinstance(node, Sequence) else (node,)
    if not items:
        fail("RS103", "an operation needs at least one input", node.span)
    return tuple(read_reference(item, "an input") for item in items)


def check_lists_its_values(node: Mapping, key: str) -> None:
    """RS101 or RS102 for an operation that joins values but takes them as other layers do."""
    hint = f"list all that it joins: {{{key}: [residual, x]}}"
    if "from" in node.entries:
        fail("RS101", f"{quoted(key)} takes no 'from'", node.keys["from"], hint)
    lead = node.entries[key]
    if isinstance(lead, Scalar) and lead.value is None:
        fail("RS102", f"{quoted(key)} needs the values that it joins", node.keys[key], hint)


def check_lead(node: Node, key: str) -> None:
    """RS103 where something else stands for the name of a layer, which comes first."""
    if isinstance(node, Mapping):
        within = ", ".join(f"{each}: …" for each in node.entries if each != "name")
        name = plain_text(node.get("name")) or f"{key}1"
        hint = f"write it without a mapping inside: {{{key}: {name}, {within}}}"
        fail("RS103", "the name of a layer must be text, not a mapping", node.span, hint)
    attributes = PRIMITIVES[key].attributes if key in PRIMITIVES else ()
    value = getattr(node, "value", None)
    if isinstance(value, float) and attributes:
        hint = f"write {{{key}: {key}1, {attributes[0].name}: {value}}}"
        found = validate.kind_of(node)
        fail("RS103", f"the name of a layer must be text, not {found}", node.span, hint)


def read_joined(node: Node) -> tuple[Reference, ...]:
    """The values that an operation joins: a list of names, or the name of a list."""
    if isinstance(node, Sequence):
        return read_inputs(node)
    text = plain_text(node) or ""
    parts = [part for part in re.split(r"[\s,+*]+", text) if part]
    if len(parts) > 1 and all(REFERENCE.fullmatch(part) for part in parts):
        hint = f"list the values: [{', '.join(parts)}]"
        fail("RS105", f"{quoted(text)} is not the name of a value", node.span, hint)
    return (read_reference(node, "an input")._replace(whole=True),)


def _joins(key: str) -> bool:
    """Whether a layer lists what it takes under its own key."""
    return key in PRIMITIVES and PRIMITIVES[key].takes == "many"


def read_counter(node: Node) -> str:
    name = read_text(node, "'for'")
    variable, word, _ = name.partition(" in ")
    if word:
        hint = f"write 'for: {variable}' and 'count: 3'; counters start at 0"
        fail("RS105", f"{quoted(name)} is not the name of a counter", node.span, hint)
    check_readable(name, node.span, "a counter")
    identifiers.check_identifier(name, node.span, "a counter")
    if name in POSITION:
        # Arguments of a block within the loop would mean the block's own place by it.
        hint = "call the counter something else: k"
        fail("RS105", f"{quoted(name)} is the position of a repeated block", node.span, hint)
    return name


def _without(node: Mapping, keys: Iterable[str]) -> Mapping:
    kept = {key: value for key, value in node.entries.items() if key not in keys}
    return Mapping(kept, {key: node.keys[key] for key in kept}, node.span)


def read_layers(node: Node | None, what: str, report: Report) -> tuple[Statement | Loop, ...]:
    """The statements of a list of layers; what is wrong goes to the report."""
    return _Reader(report, what).layers(node)


def read_stage(node: Node, report: Report) -> Statement:
    """One stage of a network; what is wrong goes to the report."""
    if not isinstance(node, Mapping):
        found = validate.kind_of(node)
        hint = "write it as '- {name: layer1, block: bottleneck, repeat: 3, filters: 64}'"
        report.add("RS103", f"a stage must be a mapping, not {found}", node.span, hint)
        return broken(node)
    operation = next((key for key in node.entries if key in PRIMITIVES), "layers")
    if "block" not in node.entries and operation in node.entries:
        hint = "a stage is made of blocks: put it under 'stem' or 'head', or into a block"
        message = f"{quoted(operation)} can't stand in a stage"
        report.add("RS101", message, node.keys[operation], hint)
        return broken(node)
    reader, before = _Reader(report, "the stages"), len(report.diagnostics)
    statement = reader.call(node, "block", stage=True)
    given = node.get("name")
    if isinstance(given, Scalar) and given.value is None:
        hint = "for example name: layer1"
        report.add("RS103", "'name' must be a name, but is empty", node.keys["name"], hint)
    if statement.name is not None and not statement.name.is_fixed:
        report.add("RS105", "the name of a stage can't hold an expression", statement.name.span)
        statement = statement._replace(name=None)
    taken = {
        "x": "it is the input",
        **dict.fromkeys(("stem", "head"), "it is another part of the network"),
    }
    if statement.name is not None and statement.name.text in taken:
        what = f"{quoted(statement.name.text)} can't name a stage: {taken[statement.name.text]}"
        report.add("RS105", what, statement.name.span)
    return reader.sound(statement, before)


def broken(node: Node) -> Statement:
    """Stands for a line that can't be read; the name that it defines is still known."""
    name = plain_text(node.get("as")) if isinstance(node, Mapping) else None
    match = REFERENCE.fullmatch(name) if name is not None else None
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


def stand_in(statement: Statement) -> Statement:
    """Stands for a layer in a loop that can't be read: its value may be one or a list."""
    assert statement.result is not None
    result = Reference(statement.result.name, None, statement.result.span)
    return Statement("broken", "split", statement.span, result=result)
