"""Every network that comes with the package: its count, and the published one that it equals."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import pytest
import zoo
import zoo_measure
from zoo_record import OTHERS

from resnet_spec.ir import Instance, Network
from resnet_spec.language.library import builtin_blocks, builtin_specs
from resnet_spec.verify import records

# Networks that differ in kind from the smallest of their family. All are measured for docs/zoo.md,
# by a run of its own.
FURTHER = (
    "densenetblur121d",
    "dpn68",
    "keras_resnet50",
    "keras_resnet50v2",
    "legacy_seresnext26_32x4d",
    "preact_resnet164",
    "res2net50_48w_2s",
    "res2net50d",
    "resnest50d_1s4x24d",
    "resnest50d_4s2x40d",
    "resnet18",
    "resnet50_gn",
    "resnetaa34d",
    "resnetblur18",
    "resnetv2_18d",
    "resnetv2_50d_evos",
    "resnetv2_50d_frn",
    "resnetv2_50x1_bit",
    "skresnext50_32x4d",
    "vgg16_bn",
)
# Families that are written with the names of torchvision and timm.
SAME_NAMES = {"resnet", "resnext", "wide_resnet", "senet"}


# The one with the fewest parameters in each family.
SMALLEST = (
    "cbam_resnet18",
    "fixup_resnet20",
    "highway20",
    "legacy_seresnet18",
    "plain18",
    "resnet8_mlperf_tiny",
    "resnetv2_18",
    "seresnet18",
    "skresnet18",
    "test_resnet",
    "weighted_resnet20",
)
# The same, of families whose networks are all large, deep or of many operations.
SMALLEST_OF_LARGE = (
    "densenet121",
    "dpn48b",
    "ecaresnext26t_32x4d",
    "keras_densenet121",
    "res2next50",
    "resnest14d",
    "resnetrs50",
    "resnext50_32x4d",
    "vgg11",
    "wide_resnet50_2",
)
OF_EVERY_KIND = {*records.PAPER, *SMALLEST, *SMALLEST_OF_LARGE, *FURTHER}


@cache
def networks() -> dict[str, Network]:
    """All networks of the package, by their names."""
    return {name: zoo.parity.network_of(name) for name in builtin_specs()}


def blocks(instance: Instance) -> set[str]:
    """The names of the blocks that an instance is made of."""
    inner = [step.node for step in instance.steps if isinstance(step.node, Instance)]
    return {instance.definition.name}.union(*map(blocks, inner))


def test_every_block_is_run_in_both_backends() -> None:
    """By the parity tests of small networks, or by that of the smallest of a family."""
    small = [zoo.parity.network_of(path) for path in zoo.parity.SPECS.glob("*.yaml")]
    run = [*small, *(networks()[name] for name in (*SMALLEST, *SMALLEST_OF_LARGE))]

    assert set(builtin_blocks()) <= set().union(*(blocks(network.root) for network in run))


def test_the_smallest_are_those_of_their_families() -> None:
    families: dict[str, list[Network]] = {}
    for network in networks().values():
        families.setdefault(network.family or network.name, []).append(network)
    smallest = {min(each, key=lambda one: one.root.parameters).name for each in families.values()}

    assert smallest == {*SMALLEST, *SMALLEST_OF_LARGE}


def test_counts_of_the_published_table() -> None:
    """Each reference that a spec names has exactly as many parameters as the table says."""
    expected = {(row.source, row.name): row.parameters for row in zoo.table()}
    wrong = {
        f"{name}: {reference.model}": (network.root.parameters, count)
        for name, network, reference in zoo.references()
        if (count := expected.get((reference.library, reference.model))) is not None
        and count != network.root.parameters
    }

    assert not wrong


@pytest.mark.parametrize("name", builtin_specs())
def test_every_spec_states_its_count(name: str) -> None:
    loaded = zoo.parity.load(str(name), zoo.parity.Library())

    assert loaded.model.expect is not None
    assert loaded.model.expect.parameters == networks()[name].root.parameters


@pytest.mark.torch
@pytest.mark.parametrize("name", zoo.parity.costly(builtin_specs(), OF_EVERY_KIND))
def test_checkpoints_fit_by_name_and_shape(name: str) -> None:
    """Without memory for the weights; also the count of each generated PyTorch model."""
    network = networks()[name]
    ours = zoo_measure.skeleton(network)
    assert zoo_measure.torch_count(ours) == zoo.parity.ir_counts(network)
    for published in network.references:
        if published.library != "keras.applications":
            theirs = zoo.published_shapes(published)
            zoo.load_strictly(ours, zoo.our_names(theirs, published))
            if network.family in SAME_NAMES:
                assert zoo_measure.fit(ours, theirs, {}) == "direct"


def assert_measured_as_it_must_be(name: str, others: Collection[str] = OTHERS) -> None:
    # With little memory: networks with large layers are compared in single precision.
    row = zoo_measure.measure(name, gigabytes=4, others=others)

    assert row.findings() == []
    assert row.counts.keys() == {"ir", "torch", *others} - {"numpy"}
    assert row.backends.keys() == {*others}
    assert len(row.backends["keras"]) == 2
    for reference in row.references:
        assert len(reference.differences) == 2
        assert reference.names is not None
    assert len(row.references) == len(zoo.parity.network_of(name).references)


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("name", zoo.parity.costly((*SMALLEST, *SMALLEST_OF_LARGE), SMALLEST))
def test_smallest_of_each_family_equals_the_published(name: str) -> None:
    # JAX takes longer; the record has all networks, and a parity test these in Flax.
    assert_measured_as_it_must_be(name, others=["keras"])


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.flax
@pytest.mark.slow
@pytest.mark.parametrize("name", FURTHER)
def test_equals_the_published(name: str) -> None:
    assert_measured_as_it_must_be(name)
