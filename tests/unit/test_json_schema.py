"""The JSON Schemas: what they accept, what they refuse, and that the committed ones are current."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from resnet_spec import cli
from resnet_spec.language import nodes
from resnet_spec.language.json_schema import json_schema
from resnet_spec.primitives import PRIMITIVES, ROLES

ROOT = Path(__file__).parents[2]
KINDS = ("network", "block", "recipe")
COMMITTED = {kind: ROOT / "docs" / "schema" / f"{kind}.json" for kind in KINDS}
LINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")

BLOCKS = sorted((ROOT / "specs").rglob("blocks/*.yaml"))
NETWORKS = sorted({*(ROOT / "specs").rglob("*.yaml"), *(ROOT / "tests/specs").glob("*.yaml")})
NETWORKS = [path for path in NETWORKS if path.parent.name not in ("blocks", "recipes")]
RECIPES = sorted((ROOT / "specs/recipes").glob("*.yaml"))
COMMITTED_SPECS = [*NETWORKS, *BLOCKS, *RECIPES]
COMMITTED_SPECS = [path for path in COMMITTED_SPECS if path.is_relative_to(ROOT / "specs")]

NETWORK = """\
spec_version: 1
name: small
description: A small network
stages:
  - {name: layer1, block: basic, filters: 16}
"""
BLOCK = """\
block: mine
description: One of my own
layers:
  - {conv: conv1, filters: 16, kernel: 3}
"""


def values(text: str) -> Any:
    return nodes.plain(nodes.parse(text, "test.yaml"))


def errors(kind: str, text: str) -> list[str]:
    """What the schema says of a text, the most telling error first."""
    validator = jsonschema.Draft202012Validator(json_schema(kind))  # type: ignore[arg-type]
    found = list(validator.iter_errors(values(text)))
    if not found:
        return []
    return [str(jsonschema.exceptions.best_match(found).message)]


@pytest.mark.parametrize("kind", COMMITTED)
def test_committed_schema_is_current(
    kind: str, update_goldens: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["schema", kind]) == 0
    printed = capsys.readouterr().out
    if update_goldens:
        COMMITTED[kind].parent.mkdir(parents=True, exist_ok=True)
        COMMITTED[kind].write_text(printed, encoding="utf-8")
    assert COMMITTED[kind].read_text(encoding="utf-8") == printed, (
        "docs/schema is out of date: run pytest tests/unit/test_json_schema.py --update-goldens"
    )


@pytest.mark.parametrize("kind", COMMITTED)
def test_is_a_schema(kind: str) -> None:
    schema = json_schema(kind)  # type: ignore[arg-type]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    json.dumps(schema)


@pytest.mark.parametrize("kind", COMMITTED)
def test_every_key_is_described(kind: str) -> None:
    """What an editor shows beside a key."""
    waiting: list[tuple[str, Any]] = [("", json_schema(kind))]  # type: ignore[arg-type]
    while waiting:
        where, schema = waiting.pop()
        if isinstance(schema, list):
            waiting += [(where, each) for each in schema]
        elif isinstance(schema, dict):
            for key, child in schema.get("properties", {}).items():
                if where != "else":
                    assert child.get("description"), f"{where}.{key} has no description"
            waiting += [(key, child) for key, child in schema.items()]


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_networks_are_valid(path: Path) -> None:
    assert errors("network", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
def test_blocks_are_valid(path: Path) -> None:
    assert errors("block", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    assert errors("recipe", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", COMMITTED_SPECS, ids=lambda path: path.stem)
def test_editors_find_the_schema(path: Path) -> None:
    """The first line names the right schema, by a relative path that exists."""
    match = LINE.fullmatch(path.read_text(encoding="utf-8").split("\n", 1)[0])
    assert match, "the first line must be: # yaml-language-server: $schema=…"
    kind = {"blocks": "block", "recipes": "recipe"}.get(path.parent.name, "network")
    assert (path.parent / match[1]).resolve() == COMMITTED[kind]


@pytest.mark.parametrize("key", [*PRIMITIVES, *ROLES])
def test_each_operation_has_its_layer(key: str) -> None:
    """A layer with all that its primitive takes is accepted, with an unknown key it is not."""
    primitive = PRIMITIVES.get(key)
    lead = "[a, b]" if primitive and primitive.takes == "many" else "name"
    keys = {key: lead, "when": "n > 1", "as": "out"}
    for attribute in primitive.attributes if primitive else ():
        keys[attribute.name] = {"bool": "true", "init": "zeros"}.get(attribute.type, "n + 1")
    layer = ", ".join(f"{name}: {value}" for name, value in keys.items())
    good = f"block: b\ndescription: d\nlayers:\n  - {{{layer}}}\n"
    assert errors("block", good) == []
    if key not in ROLES:  # a role takes the attributes of whatever fills it
        assert errors("block", good.replace("when", "whem"))


GOOD = [
    ("network", NETWORK),
    ("network", NETWORK + "head: [global_avg_pool, {linear: fc, features: classes}]\n"),
    ("network", NETWORK + "defaults: {norm: {group_norm: {groups: 8}}, act: silu}\n"),
    ("network", NETWORK + "defaults: {basic: {shortcut: none}, conv: {bias: true}}\n"),
    ("network", NETWORK.replace("filters: 16", "repeat: 2, filters: [16, 32]")),
    ("network", NETWORK.replace("filters: 16", "filters: 16, attention: {gate: {ratio: 4}}")),
    ("network", "name: a\ndescription: d\nextends: resnet50\nstages: {layer4: {repeat: 2}}\n"),
    ("network", "name: a\ndescription: d\nextends: resnet50\nhead: {fc: none}\n"),
    ("block", BLOCK),
    ("block", BLOCK + "  - act\n  - relu\n  - {relu: }\n  - {conv: 0, filters: 1, kernel: 1}\n"),
    ("block", BLOCK + "args: {a: int, b: 2, c: {type: float, default: 1 / 2, only: first}}\n"),
    ("block", BLOCK.replace("kernel: 3", "kernel: 3, init: {normal: 0.02}")),
    ("block", BLOCK.replace("kernel: 3", "kernel: 3, init: {he_normal: fan_in}")),
    ("block", BLOCK + "  - {for: i, count: 3, layers: [{relu: 'act.{i}'}]}\n"),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_accepted(kind: str, text: str) -> None:
    assert errors(kind, text) == []


BAD = {
    "a key of the network": ("network", NETWORK + "clases: 10\n"),
    "a key of the input": ("network", NETWORK + "input: {depth: 3}\n"),
    "a key of expect": ("network", NETWORK + "expect: {params: 3}\n"),
    "a key of a layer": ("block", BLOCK.replace("kernel", "kernal")),
    "a key of a loop": ("block", BLOCK + "  - {for: i, times: 3, layers: []}\n"),
    "a key of an argument": ("block", BLOCK + "args: {a: {typ: int}}\n"),
    "a key of an inline block": ("network", NETWORK + "blocks: {a: {block: a}}\n"),
    "an operation": ("block", BLOCK.replace("conv: conv1", "konv: conv1")),
    "a bare operation": ("block", BLOCK + "  - reluu\n"),
    "a bare operation that needs more": ("block", BLOCK + "  - conv\n"),
    "two operations": ("block", BLOCK.replace("conv: conv1", "conv: conv1, relu: act")),
    "no version": ("network", NETWORK.replace("spec_version: 1\n", "")),
    "another version": ("network", NETWORK.replace("version: 1", "version: 2")),
    "no stages": ("network", NETWORK.split("stages", maxsplit=1)[0]),
    "a patch without extends": ("network", NETWORK + "head: {fc: {features: 3}}\n"),
    "stages by name without extends": (
        "network",
        NETWORK.split("stages", maxsplit=1)[0] + "stages: {layer1: {}}\n",
    ),
    "a stage without a name": ("network", NETWORK.replace("name: layer1, ", "")),
    "a stage without a block": ("network", NETWORK.replace("block: basic, ", "")),
    "a default's attribute": ("network", NETWORK + "defaults: {conv: {bais: true}}\n"),
    "text for a number": ("network", NETWORK + "classes: many\n"),
    "a number out of range": ("network", NETWORK + "classes: 0\n"),
    "an attribute out of range": ("block", BLOCK.replace("kernel: 3", "kernel: 0")),
    "a rate out of range": ("block", BLOCK + "  - {dropout: drop, rate: 1.5}\n"),
    "a boolean for a number": ("block", BLOCK.replace("kernel: 3", "kernel: true")),
    "a number for a boolean": ("block", BLOCK.replace("kernel: 3", "kernel: 3, bias: 2")),
    "a fraction for a whole number": ("block", BLOCK.replace("kernel: 3", "kernel: 1.5")),
    "an initializer": ("block", BLOCK.replace("kernel: 3", "kernel: 3, init: he_norml")),
    "an initializer's value": ("block", BLOCK.replace("kernel: 3", "kernel: 3, init: {zeros: 1}")),
    "a type of an argument": ("block", BLOCK + "args: {a: {type: integer}}\n"),
    "a slot with two fillings": ("block", BLOCK + "slots: {a: {b: {}, c: {}}}\n"),
    "layers that are no list": ("block", "block: a\ndescription: d\nlayers: {conv: c}\n"),
}


@pytest.mark.parametrize(("kind", "text"), BAD.values(), ids=list(BAD))
def test_refused(kind: str, text: str) -> None:
    assert errors(kind, text)
