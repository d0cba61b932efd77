"""Variants as specs of their own, which extend the network that they are variants of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from resnet_spec.codegen import header
from resnet_spec.diagnostics import Span, SpecError
from resnet_spec.language import nodes, overrides
from resnet_spec.language.identifiers import check_network
from resnet_spec.sweep.space import Axis

_MAX_NAME = 60


def names(
    base: str, axes: Sequence[Axis], variants: Iterable[tuple[int, Sequence[int]]]
) -> list[str]:
    """A name for each variant: what differs, or its number where that can be no name.

    `variants` are numbers with the places of their values, `base` is the network's name.
    """
    found: list[str] = []
    taken: set[str] = set()
    turning = [place for place, axis in enumerate(axes) if len(axis.values) > 1]
    for number, indices in variants:
        words = [f"{axes[place].name}_{axes[place].values[indices[place]]}" for place in turning]
        name = re.sub(r"\W+", "_", "_".join([base, *words]), flags=re.ASCII).strip("_")
        if name in taken or not _is_name(name):
            name = f"{base}_variant_{number}"
        taken.add(name)
        found.append(name)
    return found


def _is_name(name: str) -> bool:
    try:
        return len(name) <= _MAX_NAME and check_network(name, Span("")) == name
    except SpecError:
        return False


# What a spec says of itself alone, not of a variant.
_OWN_KEYS = ("class_name", "source", "references", "expect")


def _head(name: str, base: str, settings: Sequence[str]) -> dict[str, object]:
    described = f"{base} with {', '.join(settings)}"
    return {"spec_version": 1, "name": name, "description": described}


def whole(
    name: str, base: str, resolved: Mapping[str, object], settings: Sequence[str]
) -> dict[str, object]:
    """A variant as plain values that rest on no other spec."""
    kept = {key: value for key, value in resolved.items() if key not in _OWN_KEYS}
    return {**kept, **_head(name, base, settings)}


def extending(
    name: str, base: str, extends: str, settings: Sequence[str], node: nodes.Node
) -> dict[str, object]:
    """A variant as plain values: its name, what it extends, and the keys that it changes.

    `node` is the spec that it extends, whose stages and layers may have dots in their names.
    """
    found = {**_head(name, base, settings), "extends": extends}
    for setting in settings:
        path, _, text = setting.partition("=")
        *outer, last = overrides.path_of(path, node)
        place = found
        for part in outer:
            inner = place.setdefault(part, {})
            assert isinstance(inner, dict)
            place = inner
        place[last] = nodes.plain(nodes.parse(text, "--set")) if text.strip() else None
    return found


def sealed(body: str, path: str, digest: str, command: str) -> str:
    """The text of a spec with the mark that it is ours to write anew."""
    head = "\n".join(f"# {line}" for line in header.lines(path, digest, command))
    return header.seal(f"{head}\n{body}")
