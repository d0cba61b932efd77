"""The Keras trainer: that nothing of a run is lost, and that devices change nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainers import (
    GROUP_NORM,
    NO_DROPOUT,
    called,
    command,
    compiled,
    environment,
    problem,
    write_idx,
)

pytestmark = pytest.mark.keras

RICH = ("--ema", 0.9, "--mixup", 0.2, "--label-smoothing", 0.1, "--nesterov")
# Starts the trainer once the CPU has been dealt out as two devices.
TWO_CPUS = """\
import tensorflow as tf
half = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])
"""
# Starts it once Keras computes norms of float64 in float64 on JAX, too, not by way of float32.
DOUBLE = """\
from keras.src.backend.common import dtypes
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
"""
START = """\
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("batch_norm"), "keras")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("data") / "idx")


def saved(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def step_of(path: Path) -> int:
    return int(json.loads(str(saved(path)["state"]))["step"])


def trained(words: Sequence[str], **more: str) -> None:
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**environment(), **more}
    )
    assert done.returncode == 0, done.stderr


def test_a_killed_run_goes_on_as_if_nothing_had_been(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    flags = ("--data", data, "--save-every", 3, "--max-steps", 60, *RICH)
    trained(command(folder, *flags, "--out", tmp_path / "whole"))
    words = command(folder, *flags, "--out", tmp_path / "parts", "--resume")
    last = tmp_path / "parts" / "last.npz"
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.DEVNULL)
    while process.poll() is None and not last.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < step_of(last) < 60
    trained(words)

    whole, parts = saved(tmp_path / "whole" / "last.npz"), saved(last)
    assert whole.keys() == parts.keys()
    assert [name for name in whole if (whole[name] != parts[name]).any()] == []
    assert (tmp_path / "parts" / "curve.png").is_file()


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_devices_and_parts_of_a_step_change_nothing(
    data: Path, tmp_path: Path, backend: str
) -> None:
    """Without statistics of a batch, only the order of sums differs."""
    folder = compiled(tmp_path, "keras", GROUP_NORM, NO_DROPOUT)
    flags = ("--data", data, "--precision", "fp64", "--max-steps", 8)
    more = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"}
    start = START if backend == "tensorflow" else DOUBLE + START

    def prepared(name: str, *more: object, first: str = "") -> list[str]:
        words = command(folder, *flags, "--out", tmp_path / name, *more)
        return [sys.executable, "-c", first + start, *words[1:]]

    trained(prepared("one"), **more)
    trained(prepared("parts", "--accumulate", 2), **more)
    two = prepared("two", "--all-devices", first=TWO_CPUS if backend == "tensorflow" else "")
    devices = "--xla_force_host_platform_device_count=2"
    trained(two, **more, XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {devices}".strip())

    one = {k: v for k, v in saved(tmp_path / "one" / "last.npz").items() if k.startswith("model|")}
    assert len(one) > 10
    for name in ("parts", "two"):
        other = saved(tmp_path / name / "last.npz")
        for key, value in one.items():
            apart = np.abs(other[key] - value).max()
            assert apart < 1e-10, (name, key)


def test_fine_tuning_leaves_frozen_layers_alone(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called(folder, "--data", data, "--out", tmp_path / "a", "--max-steps", 8)
    weights = ("--weights", tmp_path / "a" / "last.npz")
    flags = ("--reset-head", "--freeze", "layer1", "--max-steps", 8)
    called(folder, "--data", data, "--out", tmp_path / "b", *weights, *flags)

    first, second = (saved(tmp_path / name / "last.npz") for name in "ab")
    names = [name for name in first if name.startswith("model|")]
    changed = {name for name in names if (first[name] != second[name]).any()}
    assert {name.split("|")[1].split("_")[0].split("/")[0] for name in changed} == {"layer2", "fc"}

    capsys.readouterr()
    called(folder, "--data", data, "--evaluate", "--ten-crop", *weights)
    assert "val_error_top5" in capsys.readouterr().out


def test_what_does_not_fit_is_told(folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    common = ("--data", data, "--out", out)
    called(folder, *common, "--max-steps", 1)
    before = {path: path.read_bytes() for path in out.iterdir()}

    assert "holds a run: go on with --resume" in problem(folder, *common)
    elsewhere = ("--data", data, "--out", tmp_path / "c")
    other = compiled(tmp_path / "other", "keras", ("filters: 8", "filters: 16"))
    assert "not of this network" in problem(other, *elsewhere, "--weights", out / "last.npz")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    assert "cannot be read" in problem(folder, *elsewhere, "--weights", tmp_path / "junk.npz")
    assert "'layer9' is no part" in problem(folder, *elsewhere, "--freeze", "layer9")
    diverged = (*elsewhere, "--learning-rate", 1e30, "--log-every", 1, "--max-steps", 5)
    assert "the last checkpoint stays" in problem(folder, *diverged)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
