"""Settings without effect are reported, at their place in the spec itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec.language import renames
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.lower.unused import without_effect

HEAD = "spec_version: 1\nname: net\ndescription: a net\n"
STAGES = "stages: [{name: layer1, block: basic, repeat: 2, filters: 8}]\n"


def told(text: str, *settings: str, path: str = "net.yaml") -> list[str]:
    loaded = load(path, Library(), settings, text=(HEAD + text).encode())
    found = without_effect(loaded, lower(loaded))
    assert all(each.code == "RS108" and each.span is not None for each in found)
    return [each.message for each in found]


@pytest.mark.parametrize(
    "defaults",
    [
        "{conv: {bias: true}, basic: {attention: squeeze_excitation, stride: 2}}",
        "{batch_norm: {eps: 0.1}, norm: {batch_norm: {momentum: 0.2}}}",
        "{norm: none, act: none}",
        "{act: {leaky_relu: {slope: 0.2}}}",
        "{basic: {shortcut: conv_shortcut, act: gelu}}",
        "{squeeze_excitation: {reduction: 4}, basic: {attention: squeeze_excitation}}",
    ],
)
def test_defaults_that_something_takes(defaults: str) -> None:
    assert told(f"defaults: {defaults}\n{STAGES}") == []


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        ("{bottleneck: {groups: 2}}", ["'bottleneck' has no effect: the network has no block"]),
        ("{group_norm: {eps: 1}}", ["'group_norm' has no effect: the network has no primitive"]),
        ("{conv: {kernel: 3}}", ["'kernel' has no effect: every 'conv' sets 'kernel' itself"]),
        (
            "{batch_norm: {eps: 0.1}, norm: {batch_norm: {eps: 0.2}}}",
            ["'eps' has no effect: every 'batch_norm' sets 'eps' itself"],
        ),
        ("{basic: {act: gelu}, act: silu}", ["'act' has no effect: no layer takes the network's"]),
        (
            "{basic: {filters: 2, stride: 1}}",
            ["'filters' has no effect: every 'basic' sets 'filters' itself"],
        ),
    ],
)
def test_defaults_that_nothing_takes(defaults: str, expected: list[str]) -> None:
    found = told(f"defaults: {defaults}\n{STAGES}")
    assert [message.partition(expected[0])[1] for message in found] == expected


def test_what_comes_from_a_base_may_be_for_others(tmp_path: Path) -> None:
    base = f"{HEAD}defaults: {{bottleneck: {{groups: 2}}, conv: {{kernel: 3}}}}\n{STAGES}"
    (tmp_path / "base.yaml").write_text(base)
    path = str(tmp_path / "net.yaml")
    assert told("extends: base.yaml\n", path=path) == []
    assert len(told("extends: base.yaml\n", "defaults.bottleneck.stride=2", path=path)) == 1
    changed = "extends: base.yaml\ndefaults: {bottleneck: {groups: 4}}\n"
    assert len(told(changed, path=path)) == 1


def test_constants_of_the_command_line() -> None:
    text = "let: {width: 8, spare: 3}\nstages: [{name: s, block: basic, filters: width}]\n"
    assert told(text) == []
    assert told(text, "let.width=16") == []
    (found,) = told(text, "let.widht=16")
    assert found == "the constant 'widht' has no effect: nothing reads it"


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("classes", []),
        ("4 * classes", []),
        ("logits", []),
        ("10", ["'classes' has no effect: no layer reads it"]),
        (
            "classes}, {linear: last, features: 5",
            ["'classes' has no effect: the output does not depend on it"],
        ),
        ("classes}, {rescale: last, factor: 2", []),
    ],
)
def test_classes(features: str, expected: list[str]) -> None:
    lets = "let: {logits: classes}\n" if features == "logits" else ""
    layers = f"[{{global_avg_pool: pool}}, {{linear: fc, features: {features}}}]"
    head = f"{lets}{STAGES}head: {layers}\n"
    assert told(f"classes: 10\n{head}") == expected
    assert told(head) == []
    assert told(head, "classes=12") == expected


PLAIN = """
blocks:
  inner: {description: An activation, layers: [act]}
  plain:
    description: A convolution that has an argument and a slot in vain
    args: {filters: int, groups: 1, width: 3}
    slots: {attention: none, gate: none}
    let: {kernel: width}
    layers: [{conv: conv, filters: filters, kernel: kernel}, {norm: bn}, {slot: gate, name: gate}]
stages: [{name: layer1, block: plain, filters: 8, %s}]
"""


@pytest.mark.parametrize(
    ("given", "vain"),
    [
        ("width: 5, gate: squeeze_excitation, norm: {group_norm: {groups: 4}}", []),
        ("groups: 4", ["groups"]),
        ("attention: squeeze_excitation, groups: 1", ["attention", "groups"]),
        ("act: silu", ["act"]),
        ("act: silu, gate: squeeze_excitation", ["act"]),
        ("act: silu, gate: inner", []),
        ("act: none", []),
    ],
)
def test_what_a_block_never_reads(given: str, vain: list[str]) -> None:
    wrong = "has no effect: the block 'plain' never reads it"
    assert told(PLAIN % given) == [f"'{key}' {wrong}" for key in vain]


def references(rules: str, library: str = "timm") -> str:
    return f"references: [{{library: {library}, model: a, rename: {{{rules}}}}}]\n{STAGES}"


@pytest.mark.parametrize(
    ("rules", "library"),
    [
        ('"stages.{s}": "layer{s + 1}"', "timm"),
        ('"a": layer1.0.conv1.weight', "timm"),
        ('"a.{b}": "layer1.{b}.conv1", "a.{b}.{c}": "layer1"', "timm"),
        ('"a_{b}": "layer1_{b}_conv1"', "keras.applications"),
        ('"a_{b}": "layer1.{b}.conv1"', "keras.applications"),
    ],
)
def test_rules_that_lead_to_weights(rules: str, library: str) -> None:
    if '"a.{b}.{c}"' in rules:
        (found,) = told(references(rules, library))
        assert found == "the rule 'a.{b}.{c}' never applies: 'a.{b}' comes first"
    else:
        assert told(references(rules, library)) == []


@pytest.mark.parametrize("ours", ["layer", "layer2.{s}", "layer1_0", "layer1.0.act1", "layer1.x"])
def test_rules_that_lead_nowhere(ours: str) -> None:
    (found,) = told(references(f'"a.{{s}}": "{ours}"'))
    assert found.startswith("the rule 'a.{s}' has no effect: no weights begin with")
    assert told(references(f'"a.{{s}}": "{ours}"'), "input.height=64") == []


def test_a_longer_rule_may_come_first() -> None:
    assert told(references('"a.{b}.{c}": "layer1.{b}", "a.0": layer1, "a.{b}": layer1')) == []


def test_a_rule_that_cannot_be_read() -> None:
    loaded = load("net.yaml", Library(), text=(HEAD + references('"a.{B}": layer1')).encode())
    (found,) = without_effect(loaded, lower(loaded))
    assert found.code == "RS103"
    assert found.message == (
        "the rule 'a.{B}' can't be read: 'B' can't name a counter: use a lower-case word"
    )


def test_the_first_rule_that_fits() -> None:
    rules = {"a.{n}.b": "x.{n}", "a.{n}": "y{n + 1}"}
    assert renames.rule_of("a.3.b.weight", rules) == "a.{n}.b"
    assert renames.rule_of("a.3.bc", rules) == "a.{n}"
    assert renames.rule_of("b", rules) is None
    assert renames.renamed("a.3.c", rules) == "y4.c"


@pytest.mark.parametrize("name", sorted(builtin_specs())[::9])
def test_networks_that_come_with_the_package_say_nothing_in_vain(name: str) -> None:
    loaded = load(name, Library())
    assert without_effect(loaded, lower(loaded)) == []
