"""Random networks of the whole language compile to what they say: by replay and by stand-ins."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest
from random_networks import random_network

SEEDS = range(2000)
LINTED = range(2000, 2100)


def test_a_number_always_gives_the_same_network() -> None:
    assert [random_network(seed) for seed in range(50)] == [
        random_network(seed) for seed in range(50)
    ]


def test_a_good_share_of_the_networks_is_valid() -> None:
    summary = fuzz.run(range(200))
    assert summary.kinds["invalid"] < 100, summary


@pytest.mark.xfail(reason="the compiler reads blocks twice, and differently", strict=False)
def test_random_networks_compile_to_what_they_say() -> None:
    assert all(fuzz.check(name) for name in fuzz.CHECKS), "there is no replay, or no stand-ins"
    summary = fuzz.run(SEEDS)
    assert not summary.groups, str(summary)


@pytest.mark.xfail(reason="the compiler reads blocks twice, and differently", strict=False)
def test_the_texts_of_random_networks_are_clean(tmp_path: Path) -> None:
    fuzz.run(LINTED, seen=fuzz.keep(tmp_path))
    assert fuzz.lint(tmp_path) == ""
