"""Variants of a network, read and lowered one after the other, are what each is alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network
from resnet_spec.ir.summary import summarize
from resnet_spec.language import memo
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.lower.runs import Blocks
from resnet_spec.lower.unused import findings

# Right and wrong, alone and beside one another; `{first}` and `{last}` are two stages.
SETTINGS = (
    "stages.{last}.repeat=1",
    "stages.{last}.repeat=3",
    "stages.{last}.repeat=3.0",
    "stages.{last}.repeat=true",
    "stages.{last}.repeat=0",
    "stages.{last}.filters=24",
    "stages.{last}.filters=24.0",
    "stages.{last}.filters=32",
    "stages.{last}.filters=i + 24",
    "stages.{last}.stride=2 if i == n - 1 else 1",
    "stages.{last}.nothing=1",
    "stages.{last}.block=basic",
    "stages.{last}.block=nothing",
    "stages.{last}=none",
    "stages.{first}.filters=48",
    "stages.{first}.stride=3",
    "stages.nothing.repeat=2",
    "defaults.batch_norm.eps=0.5",
    "defaults.batch_norm.eps=true",
    "defaults.act=silu",
    "defaults.basic.attention=squeeze_excitation",
    "defaults.group_norm.groups=2",
    "classes=7",
    "classes=0",
    "let.width=1",
    "let.width=1.0",
    "let.width=true",
    "input.channels=1",
    "input.height=65",
    "training=none",
    "training.epochs=3",
    "name=other",
)
SMALL = """\
spec_version: 1
name: small
description: A network with a constant and a block of its own
input: {channels: 3, height: 8, width: 8}
let: {width: 8}
blocks:
  own:
    description: One convolution
    args: {filters: 8}
    layers: [{conv: conv, filters: filters, kernel: 3}]
stages:
  - {name: a, block: own, repeat: 2, filters: width}
  - {name: b, block: own, filters: width * 2}
"""
CHANGES = (
    "let.width=8",
    "let.width=16",
    "let.width=8.0",
    "let.width=true",
    "let.width=0",
    "stages.a.filters=4",
    "stages.a.block=nothing",
    "blocks.own.layers=[{conv: conv, filters: filters, kernel: 1}]",
    "blocks.own.layers=[{conv: conv, filters: filters, kernel: none}]",
)
NETWORKS = {
    "resnet50": ("layer2", "layer4"),
    "resnet101": ("layer1", "layer3"),
    "preact_resnet164": ("layer1", "layer3"),
    "resnest14d": ("layer1", "layer4"),
    "densenet121": ("features.denseblock1", "features.denseblock4"),
    "resnet18_c": ("layer1", "layer4"),
}


def content(network: Network) -> object:
    """What a network says: its digest, its sizes, and each operation with its numbers."""
    operations = [
        (name, op.primitive.name, tuple(op.attributes.items()), op.inputs, op.output, op.parameters)
        for name, op in network.operations()
    ]
    return network.digest, summarize(network), operations, network.defaults, network.recipe


def outcome(spec: str, library: Library, settings: tuple[str, ...]) -> object:
    """All that a variant says, or all that is wrong with it."""
    try:
        loaded = load(spec, library, settings)
        network = lower(loaded)
    except SpecError as error:
        return error.diagnostics
    return content(network), findings(loaded, network)


def variants(name: str, count: int) -> list[tuple[str, ...]]:
    first, last = NETWORKS[name]
    chance = random.Random(name)
    pool = [each.format(first=first, last=last) for each in SETTINGS]
    return [tuple(chance.sample(pool, chance.choice((1, 1, 2, 3)))) for _ in range(count)]


def different(name: str, count: int) -> list[tuple[str, ...]]:
    """The variants that come to something else in a library that had the others before."""
    library = Library()
    outcome(name, library, ())
    return [
        each
        for each in variants(name, count)
        if outcome(name, library, each) != outcome(name, Library(), each)
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_variants_after_one_another(name: str) -> None:
    assert different(name, 40) == []


def test_variants_are_right_and_wrong() -> None:
    found = [outcome("resnet50", Library(), each) for each in variants("resnet50", 60)]
    sound = [each for each in found if not hasattr(each[0], "code")]  # type: ignore[index]
    assert 15 < len(sound) < 50


def test_a_full_memo_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "MAX_KNOWN", 7)
    assert different("resnet50", 30) == []
    library = Library()
    outcome("resnet50", library, ())
    assert len(library.memo.known) <= 7


def without(part: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Runs of blocks are taken for equal whatever a part of their key says."""
    real = Blocks.key

    def mistaken(self: Blocks, frame: object) -> tuple[object, ...]:
        key = real(self, frame)  # type: ignore[arg-type]
        return (*key[:part], *key[part + 1 :])

    return lambda patch: patch.setattr(Blocks, "key", mistaken)


def forgetful(patch: pytest.MonkeyPatch) -> None:
    """Blocks with errors are cached as well, and their errors are reported once."""

    def sound(self: memo.Memo, key, owners, report, make):  # type: ignore[no-untyped-def]
        return self.of(key, owners, make)

    patch.setattr(memo.Memo, "sound", sound)


MISTAKES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "which statement": without(1),
    "which block": without(2),
    "the constants of the network": without(6),
    "what is wrong": forgetful,
}


@pytest.mark.parametrize("name", MISTAKES)
def test_planted_mistakes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(SMALL)
    pairs = [(first, second) for first in CHANGES for second in CHANGES]

    def wrong() -> list[tuple[str, str]]:
        library = Library()
        alone = {each: outcome(str(spec), Library(), (each,)) for each in CHANGES}
        return [
            pair
            for pair in pairs
            for each in pair
            if outcome(str(spec), library, (each,)) != alone[each]
        ]

    assert wrong() == []
    MISTAKES[name](monkeypatch)
    assert wrong() != []
