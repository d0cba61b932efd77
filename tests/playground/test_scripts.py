"""The playground's own scripts: where a cursor stands, what can be written there, and addresses."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import zlib
from typing import Any

import pytest
import scripts

# A text with its cursor as `|`, and what is written there: kind, path, word, and keys beside it.
PLACES = [
    ("|", "key", [], "", []),
    ("na|", "key", [], "na", []),
    ("name: a\ncl|", "key", [], "cl", ["name"]),
    ("name: a\ninput: {height: 3}\ncla|sses: 3\nlet: 1", "key", [], "cla",
     ["name", "input", "let"]),
    ("stages:\n  - {name: layer1, blo|}\n", "key", ["stages", None], "blo", ["name"]),
    ("stages:\n  - {name: a, block: bott|, repeat: 3}\n", "value", ["stages", None, "block"],
     "bott", ["name", "block", "repeat"]),
    # Brackets that are not closed yet take nothing of the next line.
    ("stages:\n  - {name: a, blo|\n  - {block: basic}\n", "key", ["stages", None], "blo", ["name"]),
    ("stages:\n  - {name: a,\n     blo|}\n", "key", ["stages", None], "blo", ["name"]),
    ("stages:\n  - name: a\n    blo|\n    repeat: 2\n  - x: 1", "key", ["stages", None], "blo",
     ["name", "repeat"]),
    ("stages:\n- name: a\n  blo|\n- x: 1", "key", ["stages", None], "blo", ["name"]),
    ("stages:\n  - na|", "key", ["stages", None], "na", []),
    ("stem:\n  - {conv: a, filters: 3}\n  - {|", "key", ["stem", None], "", []),
    ("input:\n  he|", "key", ["input"], "he", []),
    ("head:\n- {linear: fc, features: cl|}", "value", ["head", None, "features"], "cl",
     ["linear", "features"]),
    ("extends: res|", "value", ["extends"], "res", ["extends"]),
    ("source: https://a.b/#c\nextends: |\n", "value", ["extends"], "", ["source", "extends"]),
    ("blocks:\n  mine:\n    args: {a: {type: i|}}", "value",
     ["blocks", "mine", "args", "a", "type"], "i", ["type"]),
    ("a: {b: [c, d|]}", "value", ["a", "b", None], "d", []),
    ("'a b': {\"c\": |}", "value", ["a b", "c"], "", ["c"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "path", "word", "keys"), PLACES)
def test_places(text: str, kind: str, path: list[str | None], word: str, keys: list[str]) -> None:
    position = text.index("|")
    value = [text.replace("|", "", 1), position]
    found = scripts.evaluated("place", "module.placeOf(...value)", value)
    told = [found["kind"], found["path"], found["word"], [each["key"] for each in found["entries"]]]
    assert told == [kind, path, word, keys]
    assert found["from"] == position - len(word)


def test_a_comment_is_no_place() -> None:
    assert scripts.evaluated("place", "module.placeOf(...value)", ["name: a # b", 11]) is None


@pytest.fixture(scope="module")
def data() -> Any:
    spec = importlib.util.spec_from_file_location("build", scripts.ROOT / "playground" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return json.loads(module.data())


# What must be offered there, and what must not.
OFFERS = [
    ("|", {"name", "extends", "stages", "training"}, {"conv", "repeat"}),
    ("name: a\n|", {"extends"}, {"name"}),
    ("extends: |", {"resnet50", "densenet121"}, {"bottleneck", "growing"}),
    ("numerics: |", {"idiomatic", "exact"}, {"true"}),
    ("stages:\n  - {|}", {"name", "block", "repeat"}, {"extends"}),
    ("stages:\n  - {name: a, block: |}", {"bottleneck", "basic"}, {"resnet50"}),
    ("stages:\n  - {name: a, block: bottleneck, |}", {"filters", "stride", "attention", "repeat"},
     {"name", "block", "kernel"}),
    ("stages:\n  - {block: bottleneck, attention: |}", {"squeeze_excitation", "none"},
     {"resnet50"}),
    ("stem:\n  - {conv: c, |}", {"filters", "kernel", "stride"}, {"conv", "features", "keep_map"}),
    ("head:\n  - {linear: fc, |}", {"features", "bias"}, {"kernel"}),
    ("stem:\n  - {conv: c, bias: |}", {"true", "false"}, {"relu"}),
    ("input: {|}", {"channels", "height", "width"}, {"name"}),
    ("defaults: {bottleneck: {|}}", {"filters", "attention"}, {"name"}),
    ("references:\n  - {library: |}", {"torchvision", "timm"}, {"true"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "offered", "others"), OFFERS)
def test_completion(text: str, offered: set[str], others: set[str], data: Any) -> None:
    value = [text.replace("|", "", 1), text.index("|"), data]
    place = f"(await import({json.dumps((scripts.SOURCE / 'place.js').as_uri())})).placeOf"
    options = scripts.evaluated(
        "completion", f"module.optionsAt({place}(...value), value[2])", value
    )
    labels = [each["label"] for each in options]
    assert len(labels) == len(set(labels))
    assert offered <= set(labels) and others.isdisjoint(labels), labels
    assert all(each.get("info") for each in options if each["label"] in offered - {
        "idiomatic", "exact", "true", "false", "torchvision", "timm"})  # fmt: skip


def test_what_is_there_to_begin_with(data: Any) -> None:
    starts = {each["name"]: each for each in data["starts"]}
    assert len(starts) == len(data["starts"]) > 200
    assert {"resnet50", "growing", "resnest50d", "vgg16"} <= set(starts)
    assert all(re.search("^name: ", each["text"], re.M) for each in starts.values())


@pytest.mark.parametrize("text", ["", "a", "spec_version: 1\nname: é 残差 😀\n" * 30, "\x00\u2028"])
def test_an_address_holds_a_text(text: str) -> None:
    word = scripts.evaluated("share", "module.encoded(value)", text)
    assert set(word) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    packed = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    assert zlib.decompress(packed, -15).decode() == text
    assert scripts.evaluated("share", "module.decoded(value)", word) == text


@pytest.mark.parametrize("name", ["not base64!", "AAAA", "bomb"])
def test_what_is_no_address_is_refused(name: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = base64.urlsafe_b64encode(packer.compress(b"a" * 40_000_000) + packer.flush()).decode()
    expression = "module.decoded(value).then(() => 'read', (error) => 'refused')"
    value = bomb.rstrip("=") if name == "bomb" else name
    assert scripts.evaluated("share", expression, value) == "refused"
