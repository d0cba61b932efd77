"""The benchmark of training runs at a small size; what it measures is asserted nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest
from pages import ROOT

PROGRAM = ROOT / "benchmarks" / "training.py"
SMALL = ("--batch", "2", "--size", "32", "--repetitions", "1")


def lines_of(*words: str) -> list[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(PROGRAM), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.torch
def test_training_in_pytorch() -> None:
    title, *_, torchvision, timm = lines_of("torch", "--network", "resnet18", *SMALL)
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
def test_other_networks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    import training  # type: ignore[import-not-found, unused-ignore]

    same = {"compiled": partial(float, 7.0), "timm": partial(float, 7.001)}
    training.check_same(same, 1e-3)
    with pytest.raises(SystemExit, match="not the same network"):
        training.check_same({**same, "timm": partial(float, 7.1)}, 1e-3)
