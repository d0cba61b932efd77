"""What a library's networks have in common is lowered once, and comes to the same as alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec.ir import Network
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import cache, lower
from resnet_spec.lower.network import _Lowering

NETWORKS = sorted(builtin_specs())[::7]


def content(network: Network) -> object:
    """All that a network says: its blocks by their digest, each operation with its numbers."""
    operations = [
        (name, op.primitive.name, dict(op.attributes), op.inputs, op.output, op.parameters)
        for name, op in network.operations()
    ]
    return network.digest, network.stages[-1].output, operations


def alone(spec: str, settings: tuple[str, ...] = ()) -> Network:
    return lower(load(spec, Library(), settings))


def test_networks_after_one_another_are_what_they_are_alone() -> None:
    library = Library()
    for spec in NETWORKS:
        assert content(lower(load(spec, library))) == content(alone(spec)), spec


def test_a_variant_shares_the_blocks_that_it_does_not_change() -> None:
    library = Library()
    first = lower(load("resnet50", library))
    second = lower(load("resnet50", library, ("stages.layer4.filters=24",)))
    same = [a.node is b.node for a, b in zip(first.root.steps, second.root.steps, strict=True)]
    named = dict(zip((step.name for step in first.root.steps), same, strict=True))
    assert named["layer1.0"] and named["layer3.5"]
    assert not named["layer4.0"]


@pytest.mark.parametrize(
    "settings",
    [
        ("defaults.batch_norm.eps=0.5",),
        ("defaults.act=silu",),
        ("defaults.bottleneck.groups=2",),
        ("defaults.bottleneck.attention=squeeze_excitation",),
        ("classes=7", "input.channels=1"),
    ],
)
def test_other_defaults_make_other_blocks(settings: tuple[str, ...]) -> None:
    library = Library()
    lower(load("resnet50", library))
    assert content(lower(load("resnet50", library, settings))) == content(
        alone("resnet50", settings)
    )


@pytest.fixture
def nested(tmp_path: Path) -> str:
    """A network of `outer`, which holds `middle`, whose slot is filled by `inner` by default."""
    blocks = {
        "outer": "layers: [{block: middle, name: middle}]",
        "middle": "slots: {gate: {inner: {width: classes}}}\nlayers: [{slot: gate, name: gate}]",
        "inner": "args: {width: {type: int}}\n"
        "layers: [{conv: conv, filters: width, kernel: 1}, {block: last, name: last}]",
        "last": "layers: [{batch_norm: norm}]",
        "plain": "layers: [{block: last, name: last}]",
        "slotted": "slots: {gate: last}\nlayers: [{slot: gate, name: gate}]",
        "wider": "layers: [{conv: conv, filters: in_channels + 1, kernel: 1}, "
        "{block: slotted, name: slotted}]",
    }
    (tmp_path / "blocks").mkdir()
    for name, text in blocks.items():
        path = tmp_path / "blocks" / f"{name}.yaml"
        path.write_text(f"block: {name}\ndescription: A block\n{text}\n")
    (tmp_path / "nested.yaml").write_text(
        "spec_version: 1\nname: nested\ndescription: Blocks in blocks\nclasses: 3\n"
        "input: {channels: 3, height: 8, width: 8}\n"
        "stem: []\nstages: [{name: a, block: outer}]\nhead: []\n"
    )
    return str(tmp_path / "nested.yaml")


def test_what_follows_from_the_classes_is_no_other_networks(nested: str) -> None:
    library = Library()
    for classes in (3, 5):
        settings = (f"classes={classes}",)
        network = lower(load(nested, library, settings))
        assert network.stages[0].output.channels == classes
        assert content(network) == content(alone(nested, settings))


def test_a_block_of_the_same_name_is_another_block(nested: str) -> None:
    own = Path(nested).with_name("own.yaml")
    own.write_text(
        "extends: nested.yaml\nname: own\ndescription: One\nblocks:\n  last:\n"
        "    description: Other\n    layers: [{group_norm: norm, groups: 1}]\n"
    )
    library, settings = Library(), ("stages.a.block=plain",)
    lower(load(nested, library, settings))
    network = lower(load(str(own), library, settings))
    assert [op.primitive.name for _, op in network.operations()] == ["group_norm"]
    assert content(network) == content(alone(str(own), settings))


def test_known_blocks_name_what_they_are_made_of(nested: str) -> None:
    """The digest of a network covers the blocks within its blocks."""
    library = Library()
    twice = ("stages.a.block=wider", "stages.a.repeat=2")
    for settings in (twice, (twice[0], "input.channels=4"), twice):
        lowering = _Lowering(load(nested, library, settings))
        assert content(lowering.network()) == content(alone(nested, settings))
        assert set(lowering.evaluator.used_blocks) == {"wider", "slotted", "last"}


def test_blocks_that_are_known_count_as_much_as_new_ones() -> None:
    """Else whether a network is too large would depend on those before it."""
    library = Library()
    lower(load("skresnet50", library))
    warm, cold = (
        _Lowering(load("skresnet50", each, ("stages.layer2.repeat=7",)))
        for each in (library, Library())
    )
    assert content(warm.network()) == content(cold.network())
    assert warm.evaluator.statements == cold.evaluator.statements
    assert warm.evaluator.used_blocks == cold.evaluator.used_blocks


def test_few_uses_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_KNOWN", 10)
    library = Library()
    lower(load("resnet50", library))
    assert len(cache.known(library)) == 0
