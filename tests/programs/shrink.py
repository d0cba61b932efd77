"""The smallest network that fails as a given one does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import fuzz
import yaml_text
from random_networks import Files, random_network

from resnet_spec.language import nodes

Documents = dict[str, Any]
MAX_TRIES = 4000


def documents(files: Files) -> Documents:
    """The texts as plain data."""
    return {
        path: nodes.plain(nodes.parse(text, path)) for path, text in sorted(files.texts.items())
    }


def written(main: str, data: Documents) -> Files:
    return Files(main, {path: yaml_text.text(each) for path, each in data.items()})


def groups(files: Files) -> set[str]:
    findings, _ = fuzz.judge(files, fuzz.folder())
    return {each.group for each in findings}


def shrunk(files: Files, group: str) -> Files:
    """Statements, keys and blocks taken out while the failure stays."""
    data, tries = joined(files, group), 0
    changed = True
    while changed and tries < MAX_TRIES:
        changed = False
        for smaller in candidates(data):
            tries += 1
            if tries >= MAX_TRIES:
                break
            if group in groups(written(files.main, smaller)):
                data, changed = smaller, True
                break
    return written(files.main, data)


def joined(files: Files, group: str) -> Documents:
    """All in one file, where it still fails so."""
    data = documents(files)
    whole = copy.deepcopy(data)
    main = whole[files.main]
    for path in [path for path in whole if path.startswith("blocks/")]:
        block = whole.pop(path)
        main.setdefault("blocks", {})[block.pop("block")] = block
    return whole if group in groups(written(files.main, whole)) else data


def candidates(data: Documents) -> Iterator[Documents]:
    """Everything that is a little smaller, what takes most away first."""
    for path in list(data):
        if len(data) > 1:
            yield {key: value for key, value in data.items() if key != path}
    places = sorted(_places(data), key=lambda place: (-_size(_at(data, place)), len(place)))
    for place in places:
        value = _at(data, place)
        yield _without(data, place)
        if isinstance(value, dict) and "for" in value and isinstance(value.get("layers"), list):
            yield _spliced(data, place, value["layers"])
        for simple in _simpler(value, place[-1]):
            yield _with(data, place, simple)


def _simpler(value: Any, key: Any) -> Iterator[Any]:
    """What could stand in place of a value: a number for an expression."""
    if key in ("description", "name", "class_name", "block"):
        return
    if isinstance(value, str) and any(c in value for c in "+-*/%(=<>! ") and "{" not in value:
        yield from (1, 2, 8, True)
    elif isinstance(value, dict) and len(value) == 1 and key not in ("blocks", "args", "let"):
        yield next(iter(value))
    elif isinstance(value, int) and not isinstance(value, bool) and value > 2:
        yield from (1, 2)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict):
        items = value.items()  # type: ignore[assignment]
    for key, child in items:
        place = (*path, key)
        if len(place) > 1:
            yield place
        yield from _places(child, place)


def _size(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value
    return 1 + sum(map(_size, children)) if isinstance(value, dict | list) else 1


def _at(data: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        data = data[key]
    return data


def _edited(data: Documents, place: tuple[Any, ...]) -> tuple[Documents, Any, Any]:
    """A copy, the container of a place in it, and the place's key there."""
    made = copy.deepcopy(data)
    return made, _at(made, place[:-1]), place[-1]


def _without(data: Documents, place: tuple[Any, ...]) -> Documents:
    made, container, key = _edited(data, place)
    del container[key]
    return made


def _with(data: Documents, place: tuple[Any, ...], value: Any) -> Documents:
    made, container, key = _edited(data, place)
    container[key] = value
    return made


def _spliced(data: Documents, place: tuple[Any, ...], layers: list[Any]) -> Documents:
    made, container, key = _edited(data, place)
    container[key : key + 1] = copy.deepcopy(layers)
    return made


def main(seed: int, kind: str) -> int:
    """Print the smallest network that fails as this one does."""
    files = random_network(seed)
    found, _ = fuzz.judge(files, fuzz.folder())
    faults = [each for each in found if kind in each.group and each.kind != "ok"]
    if not faults:
        print(f"{seed} shows nothing of this kind: {sorted(each.group for each in found)}")
        return 1
    small = shrunk(files, faults[0].group)
    print(f"# {faults[0].group}")
    for path, text in small.texts.items():
        print(f"# {path}\n{text}")
    last, _ = fuzz.judge(small, fuzz.folder())
    for each in last:
        print(f"# {each.kind}, {each.where}: {each.message}")
    return 0
