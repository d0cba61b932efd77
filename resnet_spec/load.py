"""From a file to a checked spec: `extends` and `--set` merged, the skeleton validated."""

import hashlib
import json
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from resnet_spec import definition, names, scopes, source, validate
from resnet_spec.diagnostics import Report, Span, SpecError, expected, fail, quoted
from resnet_spec.ir import Definition, Loop, Recipe, Statement
from resnet_spec.library import Blocks, Library
from resnet_spec.ops import ROLES
from resnet_spec.source import Mapping, Node, Scalar, Sequence

# What a spec says of itself alone, not of those that extend it.
_OWN_KEYS = ("name", "class_name", "description", "extends", "expect", "references")
MAX_CHAIN = 16
MAX_KEYS = 16
SET_PATH = "--set"


class Loaded(NamedTuple):
    """A spec after merging and validation; `node` is the whole of it, `extends` resolved."""

    path: str
    folder: Path
    node: Mapping
    model: SimpleNamespace  # the values of spec.NetworkModel
    blocks: Blocks
    stem: tuple[Statement | Loop, ...]
    stages: tuple[Statement, ...]
    head: tuple[Statement | Loop, ...]
    library: Library
    recipe: Recipe | None  # of training
    report: Report  # what is wrong so far; lowering goes on and tells it with what it finds
    overridden: tuple[str, ...] = ()


def load(
    name: str,
    library: Library,
    settings: SequenceOf[str] = (),
    text: bytes | None = None,
) -> Loaded:
    """Read a spec by path or name; `text` stands for the file's content where it is given.

    Raises `SpecError` where the skeleton is wrong; other mistakes go to the report of the result.
    """
    if text is None:
        path = library.find_spec(name, None)
        shown, node = library.read(path)
        folder = path.parent
    else:
        shown, node, folder = name, library.add_text(text, name), Path(name).parent
    report = Report()
    merged = _extended(node, folder, library, (shown,), report)
    if settings:
        merged = _with_settings(merged, settings, library, report)
    return _validated(merged, shown, folder, library, tuple(settings), report)


# --- merging -------------------------------------------------------------------------------------


def _extended(
    node: Node, folder: Path, library: Library, chain: tuple[str, ...], report: Report
) -> Mapping:
    """The tree with `extends` resolved, however long the chain (RS107)."""
    if not isinstance(node, Mapping):
        found = validate.kind_of(node)
        message = f"a spec must be a mapping, not {found}"
        fail("RS103", message, node.span, help="start with: spec_version: 1")
    _check_version(node)
    base_node = node.get("extends")
    if base_node is None or (isinstance(base_node, Scalar) and base_node.value is None):
        return node
    name = definition.read_text(base_node, "'extends'")
    path = library.find_spec(name, folder, base_node.span)
    shown, base = library.read(path)
    if shown in chain:
        loop = " extends ".join((*chain[chain.index(shown) :], shown))
        fail("RS107", f"these specs extend each other: {loop}", base_node.span)
    if len(chain) > MAX_CHAIN:
        fail("RS107", f"more than {MAX_CHAIN} specs extend one another", base_node.span)
    base = _extended(base, path.parent, library, (*chain, shown), report)
    kept = without(base, _OWN_KEYS)
    return merge(kept, node, report)


def without(node: Mapping, keys: SequenceOf[str]) -> Mapping:
    entries = {key: value for key, value in node.entries.items() if key not in keys}
    return Mapping(entries, {key: node.keys[key] for key in entries}, node.span)


def merge(base: Mapping, change: Mapping, report: Report, path: tuple[str, ...] = ()) -> Mapping:
    """`base` with everything that `change` says; a list of named things is changed by name.

    What there is not to change goes to the report (RS108).
    """
    entries, keys = dict(base.entries), dict(base.keys)
    for key, new in change.entries.items():
        old = entries.get(key)
        keys[key] = change.keys[key]
        if isinstance(new, Mapping) and not path and key == "training":
            old = old and written_out(old)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            within = (*path, key)
            entries[key] = new if _replaces(old, new, within) else merge(old, new, report, within)
        elif isinstance(old, Sequence) and isinstance(new, Mapping) and len(path) < 3:
            entries[key] = _patched(old, new, key, report)
        else:
            entries[key] = new
    return Mapping(entries, keys, change.span)


def written_out(node: Node) -> Node:
    """What stands under `training`, with `cifar_paper` as `{recipe: cifar_paper}`."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and node.value != "none":
        return Mapping({"recipe": node}, {"recipe": node.span}, node.span)
    return node


def _replaces(old: Mapping, new: Mapping, path: tuple[str, ...]) -> bool:
    """Whether a mapping is one choice, `{batch_norm: …}`, that another takes the place of."""
    if path == ("training",):
        return "recipe" in new.entries  # what was said of another recipe means nothing for it
    is_choice = path[0] == "defaults" and (len(path) > 2 or path[-1] in ROLES)
    return is_choice and list(old.entries) != list(new.entries)


def _patched(items: Sequence, change: Mapping, what: str, report: Report) -> Sequence:
    """A list of named mappings with some of them changed; an empty value removes one."""
    found = {_item_name(item): index for index, item in enumerate(items.items)}
    result: list[Node | None] = list(items.items)
    for name, new in change.entries.items():
        if name not in found:
            report.add(
                "RS108",
                f"there is nothing called {quoted(name)} in {quoted(what)} to change",
                change.keys[name],
                help=expected(name, filter(None, found)),
            )
            continue
        old = result[found[name]]
        if isinstance(new, Scalar) and new.value in (None, "none"):
            result[found[name]] = None
        elif isinstance(new, Mapping) and isinstance(old, Mapping):
            entries, keys = {**old.entries, **new.entries}, {**old.keys, **new.keys}
            result[found[name]] = Mapping(entries, keys, old.span)
        else:
            message = f"{quoted(name)} is changed by a mapping of its keys"
            report.add("RS108", message, new.span)
    return Sequence(tuple(item for item in result if item is not None), items.span)


def _item_name(item: Node) -> str:
    """What a list's item is called: its `name`, or the value of its leading key."""
    if not isinstance(item, Mapping) or not item.entries:
        return ""
    named = item.get("name") or next(iter(item.entries.values()))
    return str(named.value) if isinstance(named, Scalar) and named.value is not None else ""


def _with_settings(
    node: Mapping, settings: SequenceOf[str], library: Library, report: Report
) -> Mapping:
    """The tree with every `--set key.key=value`; numbers that it changes are not expected."""
    library.sources[SET_PATH] = "\n".join(" ".join(each.splitlines()) for each in settings)
    node = without(node, ("expect",))
    for line, setting in enumerate(settings, 1):
        key, separator, value = setting.partition("=")
        parts = key.split(".")
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
        node = merge(node, tree, report)
    return node


def _value(text: str, path: str, line: int, column: int) -> Node:
    """The tree of one value given on the command line."""
    whole = Span(path, line, column, line, column + len(text))
    if not text:
        return Scalar(None, whole)
    try:
        return _moved(source.parse(text, path), line - 1, column - 1, whole)
    except SpecError as error:
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


# --- validation ----------------------------------------------------------------------------------


def _validated(
    node: Mapping,
    path: str,
    folder: Path,
    library: Library,
    settings: tuple[str, ...],
    report: Report,
) -> Loaded:
    model = validate.validate("NetworkModel", node, "the spec", report)
    checks = [("name", _check_name), ("class_name", names.check_class)]
    if definition.plain_text(node.get("class_name")) is None:
        checks.append(("name", _check_own_class))
    for key, check in checks:
        text = definition.plain_text(node.get(key))
        if text is not None:
            _collected(report, check, text, node.span_of(key))
    blocks = Blocks(_read_blocks(node.get("blocks"), report), library, folder)
    stem = definition.read_layers(node.get("stem"), "the stem", report)
    head = definition.read_layers(node.get("head"), "the head", report)
    stages = _read_stages(node.get("stages"), report)
    body = definition.with_names((*stem, *stages, *head))
    stem, head = body[: len(stem)], body[len(stem) + len(stages) :]
    _check_scopes(node, body, blocks, report)
    recipe = _read_training(node, folder, library, report)
    if model is None:
        report.raise_if_any()
    assert model is not None
    return Loaded(
        path, folder, node, model, blocks, stem, stages, head, library, recipe, report, settings
    )


def _read_training(node: Mapping, folder: Path, library: Library, report: Report) -> Recipe | None:
    section = node.get("training")
    if section is None or (isinstance(section, Scalar) and section.value in (None, "none")):
        return None
    from resnet_spec import training  # few specs need it

    name = definition.plain_text(node.get("name")) or ""
    return training.read(section, name, folder, library, report)


def _check_scopes(
    node: Mapping, body: SequenceOf[Statement | Loop], blocks: Blocks, report: Report
) -> None:
    """Names and targets in every line of the network, of its own blocks and of those it uses."""
    lets = definition.read_lets(node.get("let"), Report())
    names_ = {"classes", "in_channels"}
    for name, expression in lets.items():
        scopes.check_expression(expression, names_, report, lets)
        names_.add(name)
    defaults = _defaulted(node.get("defaults"))
    scopes.check_layers(body, names_, blocks, report, defaults)
    checked: set[str] = set()
    while waiting := [name for name in blocks.used if name not in checked]:
        for name in waiting:
            scopes.check_block(blocks.used[name], blocks, report, defaults)
            checked.add(name)


def _defaulted(node: Node | None) -> dict[str, list[str]]:
    """What `defaults` gives to each block and primitive, right or wrong."""
    entries = node.entries if isinstance(node, Mapping) else {}
    return {key: list(each.entries) for key, each in entries.items() if isinstance(each, Mapping)}


def _check_version(node: Mapping) -> None:
    """RS103 for a spec of a later version, whose other mistakes are none."""
    version = node.get("spec_version")
    if not isinstance(version, Scalar):
        return
    if isinstance(version.value, bool):
        message = f"'spec_version' must be {validate.SPEC_VERSION}"
        fail("RS103", f"{message}, not {validate.kind_of(version)}", version.span)
    if isinstance(version.value, int) and version.value > validate.SPEC_VERSION:
        fail(
            "RS103",
            f"this spec is of version {version.value}; this compiler knows {validate.SPEC_VERSION}",
            version.span,
            help="install a newer resnet-spec",
        )


def _check_name(name: str, span: Span) -> str:
    return names.check_identifier(name, span, "a network")


def _check_own_class(name: str, span: Span) -> str:
    return names.check_own_class(name, span, "a network")


def _collected(report: Report, check, *arguments: object) -> None:  # type: ignore[no-untyped-def]
    try:
        check(*arguments)
    except SpecError as error:
        report.extend(error)


def _read_blocks(node: Node | None, report: Report) -> dict[str, Definition | None]:
    if not isinstance(node, Mapping):
        if node is not None and not (isinstance(node, Scalar) and node.value is None):
            found = validate.contrast(node)
            report.add("RS103", f"'blocks' must be a mapping of names, {found}", node.span)
        return {}
    return {
        name: definition.read_block(child, report, name, node.keys[name])
        for name, child in node.entries.items()
    }


def _read_stages(node: Node | None, report: Report) -> tuple[Statement, ...]:
    if node is None:
        return ()
    if not isinstance(node, Sequence):
        report.add(
            "RS103",
            f"'stages' must be a list, {validate.contrast(node)}",
            node.span,
            help="write each as '- {name: layer1, block: bottleneck, repeat: 3, filters: 64}'",
        )
        return ()
    if not node.items:
        report.add("RS103", "'stages' must hold at least one stage", node.span)
    stages = [definition.read_stage(item, report) for item in node.items]
    seen: dict[str, Span] = {}
    for stage in stages:
        if stage.name is not None:
            if stage.name.text in seen:
                report.add(
                    "RS106",
                    f"two stages are called {quoted(stage.name.text)}",
                    stage.name.span,
                    help=f"the first is in line {seen[stage.name.text].line}",
                )
            seen.setdefault(stage.name.text, stage.name.span)
    return tuple(stages)


def resolved(loaded: Loaded) -> dict[str, object]:
    """The whole spec as plain values, `extends` and `--set` merged."""
    node = without(loaded.node, ("extends",))
    value = source.plain(node)
    assert isinstance(value, dict)
    return value


def digest(values: object) -> str:
    """SHA-256 of plain values, whatever the order in which a file holds its keys' spaces."""
    canonical = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
