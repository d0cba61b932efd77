"""YAML text to a tree of nodes that know their position.

YAML is read with the 1.2 core schema, which avoids four traps of PyYAML's own loaders: `1e-5` is
a number, `no` is text, `010` is ten, and a duplicate key is an error. The tree is built from the
parser's events with an explicit stack, so that depth, size and the expansion of aliases are
limited whatever the text says.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from resnet_spec.diagnostics import Report, Span, fail, quoted
from resnet_spec.disk.files import DISK, Files

Value = str | int | float | bool | None

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 64
MAX_DIGITS = 30

# A pure-Python fallback for builds of PyYAML without libyaml.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)(\.inf|\.Inf|\.INF)")
_CONSTANTS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


class Scalar(NamedTuple):
    """A leaf; `plain` tells text without quotes, whose columns map one to one to the value's."""

    value: Value
    span: Span
    plain: bool = True


class Sequence(NamedTuple):
    """A YAML list."""

    items: "tuple[Node, ...]"
    span: Span


class Mapping(NamedTuple):
    """A YAML mapping; the keys keep their order and their position."""

    entries: "dict[str, Node]"
    keys: dict[str, Span]
    span: Span

    def get(self, key: str) -> "Node | None":
        return self.entries.get(key)

    def span_of(self, key: str) -> Span:
        """The position of the value of `key`, or of the mapping where the key is missing."""
        node = self.entries.get(key)
        return node.span if node is not None else self.span


Node = Scalar | Sequence | Mapping
Explained = tuple[str, str | None]  # a message and its help
EMPTY = Mapping({}, {}, Span(""))


def read_text(path: Path, name: str, files: Files = DISK) -> str:
    """The text of a file; `name` is the path that messages tell. Raises `SpecError` (RS001)."""
    try:
        if files.is_folder(path):
            fail("RS001", f"{quoted(name)} is a folder, not a spec", Span(name))
        data = files.read(path, MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fail("RS001", f"cannot read {quoted(name)}: {reason.lower()}", Span(name))
    return decode(data, name)


def decode(data: bytes, name: str) -> str:
    """Like `read_text`, for bytes that are already in memory; every line ends with '\\n'."""
    if len(data) > MAX_BYTES:
        fail("RS001", f"{quoted(name)} is larger than {MAX_BYTES:,} bytes", Span(name))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start]
        column = len(before.decode("utf-8", "replace")) + 1
        fail(
            "RS001",
            f"{quoted(name)} is not UTF-8: byte 0x{data[error.start]:02x}",
            Span(name, line, column, line, column + 1),
            help="save the file as UTF-8",
        )
    return text.replace("\r\n", "\n")


def parse(text: str, name: str) -> Node:
    """The tree of a YAML text with exactly one document.

    Raises `SpecError` with all duplicate keys, or with the first other error (RS002 to RS005).
    """
    builder = _Builder(name)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.YAMLError as error:
        _fail_on_syntax(error, name, text)
    builder.report.raise_if_any()
    if builder.root is None or (
        isinstance(builder.root, Scalar) and builder.root.value is None and builder.root.plain
    ):
        fail("RS005", f"{quoted(name)} is empty", Span(name), help="start with: spec_version: 1")
    return builder.root


_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# What the parser's words mean to the author of a spec: the message and the help.
_SYNTAX = {
    "mapping values are not allowed in this context": (
        "a ':' is not expected here",
        "put quotes around a text that holds ': '; check the indentation and the line above",
    ),
    "did not find expected key": ("expected a key", "check the indentation and the quotes"),
    "did not find expected '-' indicator": (
        "expected a '-', as in the list above",
        "begin each item with '- ', all in one column, and its other keys below the first",
    ),
    "found unknown escape character": (
        "this escape is not known",
        "write a backslash as two, or use single quotes",
    ),
}
# Where a text opens what it does not close, the error is told at its beginning.
_UNCLOSED = {
    "could not find expected ':'": ("this key has no ':'", "write it as 'key: value'"),
    "found unexpected end of stream": (
        "the quotes that open here are never closed",
        "put the same quotes at the end of the text",
    ),
}


def _fail_on_syntax(error: yaml.YAMLError, name: str, text: str) -> NoReturn:
    problem, begin = getattr(error, "problem", None), getattr(error, "context_mark", None)
    mark = getattr(error, "problem_mark", None) or begin
    if mark is None:
        # A reader error has no line: there is a control character in the text.
        found = _FORBIDDEN.search(text)
        at = found.start() if found is not None else 0
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        shown = f": U+{ord(found.group()):04X}" if found is not None else ""
        message = f"YAML does not allow this character{shown}"
        hint: str | None = "remove it"
    else:
        if begin is not None and problem in _UNCLOSED:
            mark = begin
        line, column = mark.line + 1, mark.column + 1
        character = text[mark.index : mark.index + 1]
        message, hint = _syntax(problem, getattr(error, "context", None), character, begin)
        if text[: mark.index][-1:].isalnum() and character == "{":
            hint = 'put quotes around a name with braces: "conv{i}"'
        elif text[mark.index :].startswith("//"):
            hint = "a comment begins with '#'"
        elif problem == "did not find expected key" and character == "-":
            hint = "begin each item of a list with '- ', all in one column"
    fail("RS002", message, Span(name, line, column, line, column + 1), help=hint)


def _syntax(problem: str | None, context: str | None, character: str, begin: Any) -> Explained:
    """A message and a help for what the parser found at a character."""
    known = _SYNTAX.get(problem or "") or _UNCLOSED.get(problem or "")
    if known is not None:
        return known
    if character == "\t":
        return "tabs can't be used for indentation", "indent with spaces"
    match problem:
        case "found character that cannot start any token":
            return f"a value can't begin with {quoted(character)}", "put quotes around the value"
        case "did not find expected node content" if character.strip():
            return f"{quoted(character)} is not expected here", "put quotes around a text"
        case "did not find expected node content":
            return "expected a value", "close every '[' and '{'"
        case "did not find expected ',' or '}'" | "did not find expected ',' or ']'":
            opened, closed = ("{", "}") if "'}'" in problem else ("[", "]")
            return f"expected ',' or '{closed}'", f"line {begin.line + 1} opens the '{opened}'"
    return (f"{context}: {problem}" if context else problem or "not valid YAML"), None


class _Open:
    """A collection whose end has not been read."""

    __slots__ = ("anchor", "children", "is_mapping", "start")

    def __init__(self, is_mapping: bool, anchor: str | None, start: Any) -> None:
        self.is_mapping = is_mapping
        self.anchor = anchor
        self.start = start
        self.children: list[Node] = []


class _Builder:
    """Turns parser events into nodes, iteratively."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.report = Report()
        self.root: Node | None = None
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int, int]] = {}
        self.nodes = 0

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self.add(self.scalar(event), event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.check_tag(event)
            if len(self.stack) >= MAX_DEPTH:
                fail("RS004", f"nested more than {MAX_DEPTH} levels deep", self.span(event))
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            self.stack.append(_Open(is_mapping, event.anchor, event.start_mark))
        elif isinstance(event, yaml.CollectionEndEvent):
            self.close(event)
        elif isinstance(event, yaml.AliasEvent):
            self.alias(event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            fail(
                "RS004",
                "a second document starts here",
                self.span(event),
                help="keep one document in a file: remove the '---'",
            )

    def span(self, event: Any, start: Any = None) -> Span:
        start, end = start or event.start_mark, event.end_mark
        return Span(self.name, start.line + 1, start.column + 1, end.line + 1, end.column + 1)

    def check_tag(self, event: Any) -> None:
        if event.tag not in (None, "!"):
            fail(
                "RS004",
                f"the tag {quoted(event.tag)} is not supported",
                self.span(event),
                help="remove the tag: types follow from the value",
            )

    def scalar(self, event: Any) -> Scalar:
        self.check_tag(event)
        plain = event.implicit[0]
        span = self.span(event)
        value = _resolve(event.value, span) if plain else event.value
        return Scalar(value, span, plain)

    def add(self, node: Node, anchor: str | None, size: int = 1) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            fail(
                "RS004",
                f"more than {MAX_NODES:,} values, aliases expanded",
                node.span,
                help="use 'repeat' or an expression instead of aliases",
            )
        if anchor is not None:
            self.anchors[anchor] = (node, *_extent(node))
        if self.stack:
            self.stack[-1].children.append(node)
        else:
            self.root = node

    def alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            fail(
                "RS004", f"the anchor {quoted(event.anchor)} is not defined above", self.span(event)
            )
        node, size, depth = self.anchors[event.anchor]
        if len(self.stack) + depth > MAX_DEPTH:
            fail("RS004", f"nested more than {MAX_DEPTH} levels deep", self.span(event))
        self.add(node, None, size)

    def close(self, event: Any) -> None:
        opened = self.stack.pop()
        span = self.span(event, opened.start)
        node: Node
        if opened.is_mapping:
            node = self.mapping(opened.children, span)
        else:
            node = Sequence(tuple(opened.children), span)
        self.add(node, opened.anchor)

    def mapping(self, children: list[Node], span: Span) -> Mapping:
        entries: dict[str, Node] = {}
        keys: dict[str, Span] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                fail("RS004", "a key must be text, not a list or a mapping", key.span)
            name = _key(key.value)
            if name == "<<":
                fail(
                    "RS004",
                    "merge keys ('<<') are not supported",
                    key.span,
                    help="use 'extends', 'defaults' or an argument of the block",
                )
            if name in entries:
                self.report.add(
                    "RS003",
                    f"the key {quoted(name)} appears twice in this mapping",
                    key.span,
                    help=f"it is first on line {keys[name].line}; keep one of them",
                )
                continue
            entries[name] = value
            keys[name] = key.span
        return Mapping(entries, keys, span)


def _key(value: Value) -> str:
    """`on` and `1` are keys as they are written, so are `true` and `null`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _extent(node: Node) -> tuple[int, int]:
    """The number of nodes of a tree, and how many levels of collections it has."""
    size, depth, level = 0, -1, [node]
    while level:
        size, depth = size + len(level), depth + 1
        below: list[Node] = []
        for each in level:
            if isinstance(each, Sequence):
                below.extend(each.items)
            elif isinstance(each, Mapping):
                below.extend(each.entries.values())
        level = below
    return size, depth


def _resolve(text: str, span: Span) -> Value:
    """A plain scalar's value by the YAML 1.2 core schema."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            fail("RS004", f"the number has more than {MAX_DIGITS} digits", span)
        return int(text)
    if _OCTAL.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if infinite := _INFINITY.fullmatch(text):
        return -math.inf if infinite.group(1) == "-" else math.inf
    return text


def plain(node: Node) -> Any:
    """The tree as plain Python values."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.entries.items()}
