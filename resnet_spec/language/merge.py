"""One mapping changed by another, as `extends` does."""

from collections.abc import Sequence as SequenceOf

from resnet_spec.diagnostics import Report, expected, quoted
from resnet_spec.language.memo import Memo
from resnet_spec.language.nodes import Mapping, Node, Scalar, Sequence
from resnet_spec.primitives import ROLES

MAX_CHAIN = 16  # of specs or recipes that extend one another


def without(node: Mapping, keys: SequenceOf[str]) -> Mapping:
    entries = {key: value for key, value in node.entries.items() if key not in keys}
    return Mapping(entries, {key: node.keys[key] for key in entries}, node.span)


def merge(
    base: Mapping,
    change: Mapping,
    report: Report,
    path: tuple[str, ...] = (),
    memo: Memo | None = None,
) -> Mapping:
    """`base` with the changes in `change`; a list of named items is changed by name.

    A change of something that does not exist goes to the report (RS108). With a memo, the same
    parts with the same changes are the same object.
    """
    entries, keys = dict(base.entries), dict(base.keys)
    for key, new in change.entries.items():
        old = entries.get(key)
        keys[key] = change.keys[key]
        if isinstance(new, Mapping) and not path and key == "training":
            old = old and written_out(old)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            within = (*path, key)
            entries[key] = (
                new if _replaces(old, new, within) else _merged(old, new, report, within, memo)
            )
        elif isinstance(old, Sequence) and isinstance(new, Mapping) and len(path) < 3:
            entries[key] = _patched(old, new, key, report, memo)
        else:
            entries[key] = new
    return Mapping(entries, keys, change.span)


def _merged(
    old: Mapping, new: Mapping, report: Report, path: tuple[str, ...], memo: Memo | None
) -> Mapping:
    if memo is None:
        return merge(old, new, report, path)
    key, owners = ("merged", id(old), id(new), path), (old, new)
    return memo.sound(key, owners, report, lambda: merge(old, new, report, path, memo))


def written_out(node: Node) -> Node:
    """What stands under `training`, with `cifar_paper` as `{recipe: cifar_paper}`."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and node.value != "none":
        return Mapping({"recipe": node}, {"recipe": node.span}, node.span)
    return node


def _replaces(old: Mapping, new: Mapping, path: tuple[str, ...]) -> bool:
    """Whether a mapping is one choice, such as `{batch_norm: …}`, that another one replaces."""
    if path == ("training",):
        return "recipe" in new.entries  # what was said of another recipe means nothing for it
    is_choice = path[0] == "defaults" and (len(path) > 2 or path[-1] in ROLES)
    return is_choice and list(old.entries) != list(new.entries)


def _patched(
    items: Sequence, change: Mapping, what: str, report: Report, memo: Memo | None
) -> Sequence:
    """A list of named mappings with some of them changed; an empty value removes one."""
    found = {item_name(item): index for index, item in enumerate(items.items)}
    result: list[Node | None] = list(items.items)
    for name, new in change.entries.items():
        if name not in found:
            report.add(
                "RS108",
                f"{quoted(what)} has nothing called {quoted(name)} to change",
                change.keys[name],
                help=expected(name, filter(None, found)),
            )
            continue
        old = result[found[name]]
        if isinstance(new, Scalar) and new.value in (None, "none"):
            result[found[name]] = None
        elif isinstance(new, Mapping) and isinstance(old, Mapping):
            result[found[name]] = _with_keys(old, new, memo)
        else:
            message = f"{quoted(name)} must be 'none' or a mapping of the keys to change"
            report.add("RS108", message, new.span)
    return Sequence(tuple(item for item in result if item is not None), items.span)


def _with_keys(old: Mapping, new: Mapping, memo: Memo | None) -> Mapping:
    """An item with the keys of another; the same one for the same two."""

    def made() -> Mapping:
        return Mapping({**old.entries, **new.entries}, {**old.keys, **new.keys}, old.span)

    return made() if memo is None else memo.of(("keys", id(old), id(new)), (old, new), made)


def item_name(item: Node) -> str:
    """What a list's item is called: its `name`, or the value of its leading key."""
    if not isinstance(item, Mapping) or not item.entries:
        return ""
    named = item.get("name") or next(iter(item.entries.values()))
    return str(named.value) if isinstance(named, Scalar) and named.value is not None else ""
