"""The corpus of what once broke a reader, and a few mutations of valid files for each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import fuzz_readers as fuzz
import pytest
from fuzz_targets import TARGETS, TOKENS, Target
from hypothesis import given, settings
from hypothesis import strategies as st

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


@st.composite
def broken(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid file with parts cut, doubled, moved, overwritten or replaced by tokens."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        end = min(end, start + draw(st.sampled_from((1, 1, 4, 16, 64, 10_000))))
        part = data[start:end]
        new = draw(
            st.sampled_from((b"", part * 2, part[::-1]))
            | st.sampled_from(TOKENS)
            | st.binary(min_size=1, max_size=8)
        )
        data = (data[:start] + new + data[end:])[: fuzz.MAX_BYTES]
    return data


@pytest.mark.parametrize("name", CHEAP)
def test_mutations(name: str) -> None:
    @settings(max_examples=12)
    @given(broken(TARGETS[name].seeds()))
    def reads(data: bytes) -> None:
        TARGETS[name].reads(data)

    reads()


PLANTED = """
import sys, fuzz_targets, fuzz_guided, atheris
@atheris.instrument_func
def reads(data):
    if data[:3] == b"net" and data[3:4] != b"w":
        raise IndexError
if sys.argv.pop(1) == "sound":
    reads = len
atheris.Setup(sys.argv, reads, custom_mutator=fuzz_guided.mutated)
atheris.Fuzz()
"""


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
def test_a_reader_that_breaks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the fuzzer, in a process that its finding ends; what is kept is as small as can be."""

    def reads(data: bytes) -> None:
        if data[:3] == b"net" and data[3:4] != b"w":
            raise IndexError

    monkeypatch.setattr(fuzz, "REACHED", tmp_path / "reached")
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path / "corpus")
    guided = tmp_path / "planted.py"
    guided.write_text(PLANTED)
    target = Target(reads, lambda: [b"network: 3"])
    _, (found,) = fuzz.run("planted", target, 30, guided)
    assert fuzz.kept("planted", target, found).read_bytes() == b"net"
    count, none = fuzz.run("sound", target, 1, guided)
    assert count > 1_000
    assert none == []
