"""Random networks of the whole language compile to what they say.

By the replay within every compile, by stand-ins for the frameworks, and some in the frameworks
themselves, beside the value of the IR in numpy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fuzz
import numpy as np
import parity
import pytest
from random_networks import random_network

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

SEEDS = range(200)
MANY = range(100_000)
LINTED = range(2_000, 2_065)
NUMBERS = range(3_000, 3_009)
MORE_NUMBERS = range(4_000, 4_480)  # of which some 300 compile for all
IN_FLAX = range(3_000, 3_004)  # JAX compiles each operation: a second or more for a network


def test_a_number_always_gives_the_same_network() -> None:
    assert [random_network(seed) for seed in range(50)] == [
        random_network(seed) for seed in range(50)
    ]


def test_random_networks_compile_to_what_they_say() -> None:
    summary = fuzz.run(SEEDS)
    assert not summary.groups, str(summary)
    assert summary.kinds["ok"] > len(SEEDS) / 2, str(summary)


@pytest.mark.slow
def test_many_random_networks_compile_to_what_they_say() -> None:
    summary = fuzz.run(MANY, processes=os.cpu_count() or 1)
    assert not summary.groups, str(summary)


def test_the_texts_of_random_networks_are_clean(tmp_path: Path) -> None:
    fuzz.run(LINTED, seen=fuzz.keep(tmp_path))
    assert fuzz.lint(tmp_path) == ""


def networks(seeds: range, folder: Path) -> Iterator[tuple[int, Network]]:
    """The random networks that every backend has, exact: Keras' own layers round constants."""
    for seed in seeds:
        files = random_network(seed)
        for name, text in files.texts.items():
            path = folder / str(seed) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        main = str(folder / str(seed) / files.main)
        try:
            network = lower(load(main, Library(), ("numerics=exact",)))
            for backend in fuzz.BACKENDS:
                parity.source_of(network, backend)
        except SpecError:
            continue  # what is no network, or not one of every framework
        yield seed, network


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize(
    ("seeds", "least"),
    [(NUMBERS, 5), pytest.param(MORE_NUMBERS, 300, marks=pytest.mark.slow)],
    ids=["some", "many"],
)
def test_the_frameworks_compute_the_value_of_the_ir(
    double: None, seeds: range, least: int, tmp_path: Path
) -> None:
    compared = 0
    for seed, network in networks(seeds, tmp_path):
        pair = parity.pair(network)
        images = parity.images(2, *network.input.dimensions)
        if not all(np.isfinite(value).all() for value in pair.value(images).values()):
            continue  # values multiplied by one another, again and again
        apart = pair.beside_value(images)
        assert max(apart.values()) < 1e-10, (seed, apart)
        # Nothing that the backward pass needs is changed in place.
        pair.torch.train()(parity.tensor(images)).square().sum().backward()
        compared += 1
    assert compared >= least


@pytest.mark.flax
@pytest.mark.parametrize(
    ("seeds", "least"),
    [(IN_FLAX, 2), pytest.param(MORE_NUMBERS, 300, marks=pytest.mark.slow)],
    ids=["some", "many"],
)
def test_flax_computes_the_value_of_the_ir(seeds: range, least: int, tmp_path: Path) -> None:
    apart = {seed: parity.flax_beside_value(each) for seed, each in networks(seeds, tmp_path)}
    # Values that are multiplied by one another, again and again, are none.
    finite = {seed: each for seed, each in apart.items() if np.isfinite(each)}
    assert all(each < 1e-10 for each in finite.values()), finite
    assert len(finite) >= least
