"""Hypothesis strategies that spoil specs: valid ones with pieces deleted, doubled or replaced.

Two levels: the text, where most of what comes out is no YAML or has odd places, and the tree, where
it is YAML with wrong keys and values. Both begin at whole specs that hold their blocks, so that
every part of the language is hit.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from resnet_spec.language.library import builtin_blocks, builtin_folder

Tree = Any

HOSTILE_TEXTS = (
    '"""',
    "'''",
    '\\"""',
    '"""\nimport os\n"""',
    "text \\",
    "\\N{BULLET}",
    "line\nbreak",
    "carriage\rreturn",
    "separators\u2028and\u2029and\x85",
    "\x00\x07\x1b[31m",
    "\ufeff\u202eright to left",
    "{{ 1 }} {% raw %} {# #}",
    "{name} {0} {x!r} %s %(a)s",
    "# comment",
    "__import__('os').system('true')",
    "x" * 300,
    "ﬁ 残差 🙂",
    "",
    " ",
)
HOSTILE_VALUES: tuple[Tree, ...] = (
    *HOSTILE_TEXTS,
    *("none", "x", "i", "in_channels", "classes", "self", "__class__", "import", "conv", "norm"),
    *("1 // 0", "9**9**9", "(" * 300, "-" * 300 + "1", "not " * 90 + "1", "a.b", "{i}", "part.{0}"),
    *("part.9", "../../etc/passwd", "=", "<<", "1e5", "0x10", "lambda: 1", "i if i else n"),
    *(0, 1, -1, 2, 3, 7, 64, 65, 1_000, 10**6, 10**9, 2**53, 2**53 + 1, 10**29, -(10**29)),
    *(0.0, -0.0, 0.5, 1e-5, 1e300, -1e300, float("inf"), float("-inf"), float("nan")),
    *(True, False, None, [], {}, [1], ["x", "x"], {"a": 1}, {"norm": None}, [[[[]]]]),
    {"batch_norm": {"eps": -1}},
    {"for": "k", "count": 10**9, "layers": [{"act": "act.{k}"}]},
    {"for": "k", "count": 3, "layers": [{"conv": "c.{k}", "filters": "k + 1", "kernel": 1}]},
    {"block": "bottleneck", "name": "b", "filters": 8, "repeat": 2_048},
    {"split": "s", "parts": 2, "as": "part"},
    {"add": ["x", "x"]},
    {"conv": "c", "filters": 8, "kernel": 3, "stride": 64},
)
_FRAGMENTS = (
    *HOSTILE_TEXTS,
    *("\t", ":", ": ", "- ", "{", "}", "[", "]", ",", "&a ", "*a", "!!python/object ", "<<: *a\n"),
    *("---\n", "...\n", "|\n", ">\n", "%", "@", "`", "'", '"', "#", "\x00", "\ufeff", "\\", "? "),
    *("9" * 40, "(((((", "))))", " if ", " // 0", "-", ".inf", ".nan", "true", "~"),
)


@functools.cache
def whole_specs() -> tuple[Tree, ...]:
    """Specs as trees, each with the blocks that it may use under its own `blocks`."""
    blocks = {}
    for name, path in builtin_blocks().items():
        block = yaml.safe_load(path.read_text(encoding="utf-8"))
        blocks[name] = {key: value for key, value in block.items() if key != "block"}
    files = [builtin_folder() / "resnet18.yaml", builtin_folder() / "resnet50.yaml"]
    files += sorted((Path(__file__).parents[1] / "specs").glob("*.yaml"))
    found = []
    for file in files:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        text = yaml.safe_dump(tree)
        used = [name for name in blocks if name in text]
        for name in used:  # what these use in turn; the list grows while it is read
            inner = yaml.safe_dump(blocks[name])
            used += [other for other in blocks if other in inner and other not in used]
        own = tree.get("blocks", {})
        found.append({**tree, "blocks": {name: blocks[name] for name in used} | own})
    return tuple(found)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around text that YAML 1.2 reads as something else, such as 0E0."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text.replace(" ", "").replace("_", "").isalpha()
    style = None if plain and text.isascii() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def dumped(tree: Tree) -> str:
    """A tree as YAML; everything beyond ASCII is escaped, so any text can stand in it."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=100)


@st.composite
def spoiled_texts(draw: st.DrawFn) -> bytes:
    """A spec's text with one to four changes, as bytes that need not be UTF-8."""
    text = dumped(draw(st.sampled_from(whole_specs())))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from((0, 1, 2, 5, 20, 100, 1_000)))
        piece = text[start : start + length]
        match draw(st.sampled_from(("delete", "double", "insert", "replace", "move", "cut"))):
            case "delete":
                text = text[:start] + text[start + length :]
            case "double":
                text = text[:start] + piece * draw(st.integers(2, 4)) + text[start + length :]
            case "insert":
                text = text[:start] + draw(st.sampled_from(_FRAGMENTS)) + text[start:]
            case "replace":
                fragment = draw(st.sampled_from(_FRAGMENTS) | st.text(max_size=10))
                text = text[:start] + fragment + text[start + length :]
            case "move":
                rest = text[:start] + text[start + length :]
                place = draw(st.integers(0, len(rest)))
                text = rest[:place] + piece + rest[place:]
            case "cut":
                text = text[: max(start, 40)]
    data = text.encode()
    if draw(st.integers(0, 19)) == 0:
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(min_size=1, max_size=4)) + data[place:]
    return data


@st.composite
def spoiled_trees(draw: st.DrawFn) -> bytes:
    """A spec's tree with one to three changes."""
    tree = copy.deepcopy(draw(st.sampled_from(whole_specs())))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(tree))
        if places:
            _change(draw, *draw(st.sampled_from(places)))
    return dumped(tree).encode()


def _places(tree: Tree) -> list[tuple[Tree, Any]]:
    """Every collection below a tree with each of its keys or indices."""
    found: list[tuple[Tree, Any]] = []
    stack = [tree]
    while stack:
        current = stack.pop()
        keys = list(current) if isinstance(current, dict) else range(len(current))
        found += [(current, key) for key in keys]
        stack += [current[key] for key in keys if isinstance(current[key], dict | list)]
    return found


def _change(draw: st.DrawFn, parent: Tree, key: Any) -> None:
    """One change at one place."""
    match draw(st.sampled_from(("delete", "value", "value", "other", "key", "double", "nudge"))):
        case "delete":
            del parent[key]
        case "value":
            parent[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE_VALUES)))
        case "other":  # a piece of any spec at a place where it does not belong
            donor, at = draw(st.sampled_from(_places(draw(st.sampled_from(whole_specs())))))
            parent[key] = copy.deepcopy(donor[at])
        case "key" if isinstance(parent, dict):
            names = [text for text in HOSTILE_VALUES if isinstance(text, str)]
            parent[draw(st.sampled_from(names))] = parent.pop(key)
        case "double" if isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        case "nudge" if type(parent[key]) is int:
            parent[key] += draw(st.integers(-3, 3))
        case _:
            parent[key] = draw(st.text(max_size=8) | st.integers() | st.floats())
