"""Changes of a spec from the command line: `--set key.key=value`."""

from collections.abc import Sequence as SequenceOf
from functools import partial

from resnet_spec.diagnostics import Report, Span, SpecError, fail, quoted
from resnet_spec.language import nodes
from resnet_spec.language.library import Library
from resnet_spec.language.merge import item_name, merge, without
from resnet_spec.language.nodes import Mapping, Node, Scalar, Sequence

MAX_KEYS = 16

SET_PATH = "--set"


def with_settings(
    node: Mapping, settings: SequenceOf[str], library: Library, report: Report
) -> Mapping:
    """The tree with every `--set key.key=value`; `expect` no longer applies and is dropped."""
    library.sources[SET_PATH] = "\n".join(" ".join(each.splitlines()) for each in settings)
    node = library.memo.of(("unexpected", id(node)), node, lambda: without(node, ("expect",)))
    memo = library.memo
    for line, setting in enumerate(settings, 1):
        parts = path_of(setting.partition("=")[0], node)
        known = ("setting", setting, line, parts)
        tree = memo.of(known, None, partial(_tree, setting, line, parts))
        node = merge(node, tree, report, memo=memo)
    return node


def path_of(key: str, node: Node) -> tuple[str, ...]:
    """The keys of `stages.features.0.repeat`: a stage or layer may have dots in its name."""
    parts, found, at = key.split("."), [], node
    while parts:
        count = 1
        if isinstance(at, Sequence):
            items = {item_name(item): item for item in at.items}
            lengths = range(1, min(len(parts), MAX_KEYS) + 1)
            named = [n for n in lengths if ".".join(parts[:n]) in items]
            # `stages.a.norm=none` is a key of `a`, also where there is a stage `a.norm`.
            count = max([n for n in named if n < len(parts)] or named or [1])
            at = items.get(".".join(parts[:count]), at)
        elif isinstance(at, Mapping):
            at = at.entries.get(parts[0], Scalar(None, at.span))
        found.append(".".join(parts[:count]))
        del parts[:count]
    return tuple(found)


def _tree(setting: str, line: int, parts: SequenceOf[str]) -> Mapping:
    """What one setting says, as a spec would say it; `parts` are the keys of its path."""
    key, separator, value = setting.partition("=")
    span = Span(SET_PATH, line, 1, line, len(key) + 1)
    if not separator or not all(parts):
        hint = "for example classes=10, or stages.layer4.repeat=2"
        fail("RS108", f"{quoted(setting)} is not of the form key=value", span, hint)
    if len(parts) > MAX_KEYS:
        fail("RS108", f"{quoted(key)} has more than {MAX_KEYS} parts", span)
    tree = _value(value, SET_PATH, line, len(key) + 2)
    for part in reversed(parts):
        tree = Mapping({part: tree}, {part: span}, span)
    assert isinstance(tree, Mapping)
    return tree


def _value(text: str, path: str, line: int, column: int) -> Node:
    """The tree of one value given on the command line."""
    whole = Span(path, line, column, line, column + len(text))
    if not text:
        return Scalar(None, whole)
    try:
        return _moved(nodes.parse(text, path), line - 1, column - 1, whole)
    except SpecError as error:
        if [each.code for each in error.diagnostics] == ["RS005"]:
            return Scalar(None, whole)  # `null`, which is the value of a key but no whole file
        # The line ends at a place where the parser saw the end of a file.
        raise SpecError(
            [
                found._replace(span=_shifted(found.span, line - 1, column - 1, whole))
                for found in error.diagnostics
            ]
        ) from None


def _shifted(span: Span | None, lines: int, columns: int, whole: Span) -> Span:
    """A position in a value as a position in its line, or all of it where it has several lines."""
    if span is None or (span.line, span.end_line) != (1, 1):
        return whole
    moved = span._replace(
        line=span.line + lines,
        column=span.column + columns,
        end_line=span.end_line + lines,
        end_column=span.end_column + columns,
    )
    return moved if moved.column < whole.end_column else whole


def _moved(node: Node, lines: int, columns: int, whole: Span) -> Node:
    """A tree with every position moved."""

    def move(span: Span) -> Span:
        return _shifted(span, lines, columns, whole)

    match node:
        case Scalar(value, span, plain):
            return Scalar(value, move(span), plain)
        case Sequence(items, span):
            moved_items = tuple(_moved(item, lines, columns, whole) for item in items)
            return Sequence(moved_items, move(span))
        case Mapping(entries, keys, span):
            moved = {key: _moved(child, lines, columns, whole) for key, child in entries.items()}
            return Mapping(moved, {key: move(at) for key, at in keys.items()}, move(span))
