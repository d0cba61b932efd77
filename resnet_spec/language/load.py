"""From a file to a checked spec: `extends` and `--set` merged, the skeleton validated."""

import hashlib
import json
from collections.abc import Sequence as SequenceOf
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from resnet_spec.diagnostics import Report, Span, SpecError, fail, quoted
from resnet_spec.language import check_names, identifiers, nodes, renames, validate
from resnet_spec.language.blocks import read_block, read_lets
from resnet_spec.language.layer_names import with_names
from resnet_spec.language.layers import read_layers, read_stage
from resnet_spec.language.library import Blocks, Library
from resnet_spec.language.memo import Memo
from resnet_spec.language.merge import MAX_CHAIN, merge, without
from resnet_spec.language.nodes import Mapping, Node, Scalar, Sequence, plain
from resnet_spec.language.overrides import with_settings
from resnet_spec.language.scalars import plain_text, read_text
from resnet_spec.language.syntax import Definition, Loop, Published, Recipe, Statement

# What a spec says of itself alone, not of those that extend it.
_OWN_KEYS = ("name", "class_name", "description", "extends", "expect", "references")


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
    inherited: tuple[Published, ...] = ()


def load(
    name: str,
    library: Library,
    settings: SequenceOf[str] = (),
    text: bytes | None = None,
) -> Loaded:
    """Read a spec by path or name; `text` stands for the file's content where it is given.

    Raises `SpecError` if the skeleton is wrong; other errors go to the report of the result.
    """
    if text is None:
        path = library.find_spec(name, None)
        shown, node = library.read(path)
        folder = path.parent
    else:
        shown, node, folder = name, library.add_text(text, name), Path(name).parent
        library.name_folder(folder)
    report = Report()

    def extended() -> tuple[Mapping, tuple[Published, ...]]:
        inherited: list[Published] = []
        merged = _extended(node, folder, library, (shown,), report, inherited)
        return merged, tuple(inherited)

    merged, inherited = library.memo.sound(("extended", id(node)), node, report, extended)
    if settings:
        merged = with_settings(merged, settings, library, report)
    loaded = _validated(merged, shown, folder, library, tuple(settings), report)
    return loaded._replace(inherited=inherited)


def _extended(
    node: Node,
    folder: Path,
    library: Library,
    chain: tuple[str, ...],
    report: Report,
    inherited: list[Published],
) -> Mapping:
    """The tree with `extends` resolved, however long the chain (RS107).

    `inherited` gets what the bases say of published networks: who extends one of them no longer
    equals it, and may still have its names.
    """
    if not isinstance(node, Mapping):
        found = validate.kind_of(node)
        message = f"a spec must be a mapping, not {found}"
        fail("RS103", message, node.span, help="start with: spec_version: 1")
    _check_version(node)
    base_node = node.get("extends")
    if base_node is None or (isinstance(base_node, Scalar) and base_node.value is None):
        return node
    name = read_text(base_node, "'extends'")
    path = library.find_spec(name, folder, base_node.span)
    shown, base = library.read(path)
    if shown in chain:
        loop = " extends ".join((*chain[chain.index(shown) :], shown))
        fail("RS107", f"these specs extend each other: {loop}", base_node.span)
    if len(chain) > MAX_CHAIN:
        fail("RS107", f"more than {MAX_CHAIN} specs extend one another", base_node.span)
    base = _extended(base, path.parent, library, (*chain, shown), report, inherited)
    inherited[:0] = _published(base.get("references"))
    kept = without(base, _OWN_KEYS)
    return merge(kept, node, report)


def _published(references: Node | None) -> list[Published]:
    """What a base says, where it says it rightly; whoever checks the base is told what is wrong."""
    found = []
    for node in references.items if isinstance(references, Sequence) else ():
        said = plain(node)
        rules = said.get("rename") if isinstance(said, dict) else None
        if not isinstance(rules, dict):
            continue
        rules = {str(theirs): str(ours) for theirs, ours in rules.items()}
        try:
            for theirs, ours in rules.items():
                renames.check(theirs, ours)
        except renames.RenameError:
            continue
        library = said.get("library")
        found.append(Published(str(library or ""), str(said.get("model")), rules))
    return found


def _validated(
    node: Mapping,
    path: str,
    folder: Path,
    library: Library,
    settings: tuple[str, ...],
    report: Report,
) -> Loaded:
    model = validate.validate("NetworkModel", node, "the spec", report)
    checks = [("name", _check_name), ("class_name", identifiers.check_class)]
    if plain_text(node.get("class_name")) is None:
        checks.append(("name", _check_own_class))
    for key, check in checks:
        text = plain_text(node.get(key))
        if text is not None:
            _collected(report, check, text, node.span_of(key))
    memo = library.memo
    blocks = Blocks(_read_blocks(node.get("blocks"), report, memo), library, folder)
    stem = _read_layers(node.get("stem"), "the stem", report, memo)
    head = _read_layers(node.get("head"), "the head", report, memo)
    stages = _read_stages(node.get("stages"), report, memo)
    body = with_names((*stem, *stages, *head))
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
    from resnet_spec.language import recipes  # few specs need it

    key = ("recipe", id(section), folder)
    made = partial(recipes.read, section, folder, library, report)
    return library.memo.sound(key, section, report, made)


def _read_layers(
    node: Node | None, what: str, report: Report, memo: Memo
) -> tuple[Statement | Loop, ...]:
    return memo.sound(("layers", id(node)), node, report, partial(read_layers, node, what, report))


def _check_scopes(
    node: Mapping, body: SequenceOf[Statement | Loop], blocks: Blocks, report: Report
) -> None:
    """Names and targets in every line of the network, of its own blocks and of those it uses."""
    lets = read_lets(node.get("let"), Report())
    names_ = {"classes", "in_channels"}
    for name, expression in lets.items():
        check_names.check_expression(expression, names_, report, lets)
        names_.add(name)
    defaults = _defaulted(node.get("defaults"))
    once = check_names.Once(blocks, defaults, report)
    check_names.check_layers(body, names_, blocks, report, defaults, once)
    checked: set[str] = set()
    while waiting := [name for name in blocks.used if name not in checked]:
        for name in waiting:
            block = blocks.used[name]
            look = partial(check_names.check_block, block, blocks, report, defaults)
            once.check(block, (), look)
            checked.add(name)


def _defaulted(node: Node | None) -> dict[str, list[str]]:
    """What `defaults` gives to each block and primitive, right or wrong."""
    entries = node.entries if isinstance(node, Mapping) else {}
    return {key: list(each.entries) for key, each in entries.items() if isinstance(each, Mapping)}


def _check_version(node: Mapping) -> None:
    """RS103 for a spec of a later version, whose other errors mean nothing."""
    version = node.get("spec_version")
    if not isinstance(version, Scalar):
        return
    if isinstance(version.value, bool):
        message = f"'spec_version' must be {validate.SPEC_VERSION}"
        fail("RS103", f"{message}, not {validate.kind_of(version)}", version.span)
    if isinstance(version.value, int) and version.value > validate.SPEC_VERSION:
        fail(
            "RS103",
            f"this spec has version {version.value}; this compiler supports "
            f"{validate.SPEC_VERSION}",
            version.span,
            help="install a newer resnet-spec",
        )


def _check_name(name: str, span: Span) -> str:
    return identifiers.check_network(name, span)


def _check_own_class(name: str, span: Span) -> str:
    return identifiers.check_own_class(name, span, "a network")


def _collected(report: Report, check, *arguments: object) -> None:  # type: ignore[no-untyped-def]
    try:
        check(*arguments)
    except SpecError as error:
        report.extend(error)


def _read_blocks(node: Node | None, report: Report, memo: Memo) -> dict[str, Definition | None]:
    if not isinstance(node, Mapping):
        if node is not None and not (isinstance(node, Scalar) and node.value is None):
            found = validate.contrast(node)
            hint = "write each as 'name: {description: …, layers: […]}'"
            report.add("RS103", f"'blocks' must be a mapping of names, {found}", node.span, hint)
        return {}
    return {
        name: memo.sound(
            ("block", id(child), name),
            child,
            report,
            partial(read_block, child, report, name, node.keys[name]),
        )
        for name, child in node.entries.items()
    }


def _read_stages(node: Node | None, report: Report, memo: Memo) -> tuple[Statement, ...]:
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
        report.add("RS103", "'stages' must have at least one stage", node.span)
    stages = [
        memo.sound(("stage", id(item)), item, report, partial(read_stage, item, report))
        for item in node.items
    ]
    seen: dict[str, Span] = {}
    for number, stage in enumerate(stages):
        if stage.name is None:
            continue
        first = seen.setdefault(stage.name.text, stage.name.span)
        if first is not stage.name.span:
            message = f"two stages are called {quoted(stage.name.text)}"
            report.add("RS106", message, stage.name.span, f"the first is on line {first.line}")
            if stage.kind != "broken":  # what both would be called is told once
                stages[number] = stage._replace(kind="broken", meant=stage.kind)
    return tuple(stages)


def resolved(loaded: Loaded) -> dict[str, object]:
    """The whole spec as plain values, `extends` and `--set` merged."""
    node = without(loaded.node, ("extends",))
    value = nodes.plain(node)
    assert isinstance(value, dict)
    return value


def digest(values: object) -> str:
    """SHA-256 of plain values, whatever the order in which a file holds its keys' spaces."""
    canonical = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
