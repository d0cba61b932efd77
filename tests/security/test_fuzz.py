"""The corpus of what once broke a reader, and a few mutations of valid files for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fuzz_readers as fuzz
import pytest
from fuzz_targets import TARGETS, Target
from hypothesis import given, settings

CORPUS = sorted(path for path in fuzz.CORPUS.rglob("*") if path.is_file())
CHEAP = [name for name in TARGETS if name != "pytorch"]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_broke_a_reader(path: Path, clock: Callable[[], object]) -> None:
    name = path.parent.name
    if name not in TARGETS:
        pytest.skip("what it needs is not installed")
    clock()
    TARGETS[name].reads(path.read_bytes())


@pytest.mark.parametrize("name", CHEAP)
def test_valid_files_are_read(name: str) -> None:
    """Else every mutation would end at its first line."""
    for seed in TARGETS[name].seeds()[:3]:
        TARGETS[name].reads(seed)


@pytest.mark.parametrize("name", CHEAP)
def test_mutations(name: str) -> None:
    @settings(max_examples=12)
    @given(fuzz.broken(TARGETS[name].seeds()))
    def reads(data: bytes) -> None:
        TARGETS[name].reads(data)

    reads()


def test_a_reader_that_breaks_is_found() -> None:
    def reads(data: bytes) -> None:
        if b"e" not in data:
            raise IndexError

    target = Target(reads, lambda: [b"expression"])
    found = fuzz.one_batch("planted", target, 0)
    assert found is not None
    assert b"e" not in found
    assert fuzz.one_batch("sound", target._replace(reads=lambda data: None), 0) is None
