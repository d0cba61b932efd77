"""Compiled templates are kept beside them, and never the reason for a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resnet_spec.codegen import templates

PACKAGE, NAME = "resnet_spec.backends.torch", "model.py.jinja"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Python would keep its compiled modules, empty."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path


def load() -> None:
    templates._environment.__wrapped__(PACKAGE).get_template(NAME)


def kept(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{NAME}*"))


def test_a_template_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    (path,) = kept(folder)
    assert path.name == f"{NAME}.{sys.implementation.cache_tag}.pyc"
    monkeypatch.setattr(templates.Environment, "_parse", None)  # what compiling begins with
    load()


@pytest.mark.parametrize("kept_bytes", [0, 2, 12, 16, 20, 24, 40, 60, 1000])
@pytest.mark.parametrize("then", [b"", b"\x00" * 100, b"noise"])
def test_a_broken_file_is_made_anew(kept_bytes: int, then: bytes, folder: Path) -> None:
    load()
    (path,) = kept(folder)
    good = path.read_bytes()
    path.write_bytes(good[:kept_bytes] + then)
    load()
    assert path.read_bytes() == good


def test_another_template_or_other_options_are_compiled_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    (path,) = kept(folder)
    before = path.read_bytes()
    monkeypatch.setattr(templates, "OPTIONS", {**templates.OPTIONS, "trim_blocks": False})
    load()
    assert path.read_bytes() != before


def test_nothing_is_written_where_python_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    load()
    assert kept(folder) == []


def test_a_folder_that_cannot_be_written_is_no_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("no folder")
    monkeypatch.setattr(sys, "pycache_prefix", str(folder / "file"))
    load()
    assert kept(folder) == []
