"""The benchmark of training runs at a small size; what it measures is asserted nowhere."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from functools import partial
from types import ModuleType

import pytest
from pages import ROOT
from trainers import MODULES

PROGRAM = ROOT / "benchmarks" / "training.py"
SMALL = ("--batch", "2", "--size", "32", "--repetitions", "1")


def lines_of(*words: str) -> list[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(PROGRAM), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module; those that it compiles are no other test's."""
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    for name in (*MODULES, "resnet18"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("training")


@pytest.mark.torch
@pytest.mark.slow
def test_training_in_pytorch(training: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    training.main(["torch", "--network", "resnet18", *SMALL])
    title, *_, torchvision, timm = capsys.readouterr().out.splitlines()
    assert title.startswith("resnet18, 2 images of 32x32, ")
    assert torchvision.startswith("compiled / torchvision: ")
    assert timm.startswith("compiled / timm: ")


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "jax"])
def test_training_in_keras(engine: str) -> None:
    *_, ratio = lines_of(engine, *SMALL)
    assert ratio.startswith("compiled / keras.applications: ")


@pytest.mark.torch
def test_other_networks_are_refused(training: ModuleType) -> None:
    same = {"compiled": partial(float, 7.0), "timm": partial(float, 7.001)}
    training.check_same(same, 1e-3)
    with pytest.raises(SystemExit, match="not the same network"):
        training.check_same({**same, "timm": partial(float, 7.1)}, 1e-3)
