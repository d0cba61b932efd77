"""A model is imported in little memory; how long it takes is benchmarks/imports.py's to tell."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pages import ROOT


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module, which runs the program that is tested."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    module = importlib.import_module("imports")
    monkeypatch.setattr(module, "PROGRAM", [sys.executable, "-m", "resnet_spec"])
    return module


@pytest.mark.torch
@pytest.mark.slow
def test_four_times_the_model(imports: ModuleType, tmp_path: Path) -> None:
    """ResNet-152, with all of its processes, PyTorch itself among them."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the memory of processes is read as Linux tells it")
    size = imports.prepare(tmp_path)
    assert size > 240e6
    for source in imports.SOURCES:
        assert imports.imported(source, tmp_path).memory < imports.TIMES_THE_MODEL * size, source
