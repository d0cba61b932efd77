"""The Keras trainer: that nothing of a run is lost, and that devices change nothing."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainers import (
    GROUP_NORM,
    NO_DROPOUT,
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


@pytest.mark.parametrize(
    "backend", ["tensorflow", *(pytest.param(b, marks=pytest.mark.slow) for b in ("jax", "torch"))]
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    folder: Path, data: Path, tmp_path: Path, backend: str
) -> None:
    flags = ("--data", data, "--save-every", 3, "--max-steps", 60, *RICH)
    trained(command(folder, *flags, "--out", tmp_path / "whole"), KERAS_BACKEND=backend)
    words = command(folder, *flags, "--out", tmp_path / "parts", "--resume")
    last = tmp_path / "parts" / "last.npz"
    process = subprocess.Popen(
        words, env={**environment(), "KERAS_BACKEND": backend}, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not last.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < step_of(last) < 60
    trained(words, KERAS_BACKEND=backend)

    whole, parts = saved(tmp_path / "whole" / "last.npz"), saved(last)
    assert whole.keys() == parts.keys()
    assert [name for name in whole if (whole[name] != parts[name]).any()] == []
    assert (tmp_path / "parts" / "curve.png").is_file()


class Runs:
    """A network without statistics of a batch, and runs of it that should all be the same one."""

    def __init__(self, root: Path, backend: str) -> None:
        self.root, self.backend = root, backend
        self.folder = compiled(root, "keras", GROUP_NORM, NO_DROPOUT)
        self.data = write_idx(root / "idx", test=27)  # an odd number
        xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
        names = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "XLA_FLAGS": xla}
        self.environment = {**environment(), **names}

    def command(self, name: str, *more: object, first: str = "") -> list[str]:
        flags = ("--data", self.data, "--precision", "fp64", "--clip-norm", 0.5, "--ema", 0.9)
        words = command(self.folder, *flags, "--max-steps", 48, "--out", self.root / name, *more)
        start = START if self.backend == "tensorflow" else DOUBLE + START
        return [sys.executable, "-c", first + start, *words[1:]]

    def assert_same(self, one: str, other: str) -> None:
        """The same but for the order of sums: the weights, and what was evaluated."""
        apart = 1e-10
        first, second = (saved(self.root / name / "last.npz") for name in (one, other))
        names = [name for name in first if name.partition("|")[0] in ("model", "ema")]
        assert len(names) > 20
        for name in names:
            assert np.abs(first[name] - second[name]).max() < apart, (other, name)
        lines = [(self.root / name / "metrics.jsonl").open() for name in (one, other)]
        losses = [
            [each["val_loss"] for each in map(json.loads, file) if "val_loss" in each]
            for file in lines
        ]
        assert losses[1] == pytest.approx(losses[0], abs=apart)


@pytest.fixture(scope="module")
def runs_on(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Runs]:
    """For a backend, runs with the first one made, `one`: of one process on one device."""

    @functools.cache
    def made(backend: str) -> Runs:
        runs = Runs(tmp_path_factory.mktemp(backend), backend)
        trained(runs.command("one"), **runs.environment)
        return runs

    return made


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_devices_and_parts_of_a_step_change_nothing(
    runs_on: Callable[[str], Runs], backend: str
) -> None:
    runs = runs_on(backend)
    first = TWO_CPUS if runs.backend == "tensorflow" else ""
    words = runs.command("two", "--all-devices", "--accumulate", 2, first=first)
    trained(words, **runs.environment)
    runs.assert_same("one", "two")


# What the two devices of TensorFlow get of a batch of eight, and make of it.
SHARES = """\
import keras, numpy as np
from devices import TensorFlowDevices
place = TensorFlowDevices(1)
with place.scope():
    inputs = keras.Input((1,))
    norm = keras.layers.BatchNormalization(momentum=0.5)
    model = keras.Model(inputs, keras.layers.Dense(2)(norm(inputs)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.arange(8, dtype=np.float32)[:, None]

    def means():
        found = place.strategy.experimental_local_results(norm.moving_mean.value)
        return [float(each.numpy()[0]) for each in found]

    def batches():
        while True:
            yield images, np.arange(8) % 2

    model.fit(place.dealt(batches), steps_per_epoch=1, verbose=0)
    assert means() == [0.75, 2.75], means()  # half of 0 to 3, half of 4 to 7
    own = model.evaluate(place.dealt(batches), steps=1, verbose=0)
    place.agree(model)
    assert means() == [0.75, 0.75], means()
    assert abs(own - model.evaluate(place.dealt(batches), steps=1, verbose=0)) > 1e-6
"""


def test_each_device_gets_its_part_of_a_batch(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_CPUS + SHARES],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def hosts(backend: str) -> list[dict[str, str]]:
    """The environments of two processes that are to train together."""
    ports = free_port(), free_port()
    if backend == "jax":
        address, prefix = f"localhost:{ports[0]}", "KERAS_DISTRIBUTION"
        here = {f"{prefix}_JOB_ADDRESSES": address, f"{prefix}_NUM_PROCESSES": "2"}
        return [{**here, f"{prefix}_PROCESS_ID": str(rank)} for rank in (0, 1)]
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    tasks = [{"type": "worker", "index": rank} for rank in (0, 1)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def start_on_hosts(runs: Runs, *flags: object) -> list[subprocess.Popen[str]]:
    words = runs.command("hosts", "--resume", *flags)
    return [
        subprocess.Popen(words, env={**runs.environment, **here}, stderr=subprocess.PIPE, text=True)
        for here in hosts(runs.backend)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    told = [process.communicate()[1] for process in processes]
    return [process.returncode for process in processes], told


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_hosts_train_stop_and_go_on_together(runs_on: Callable[[str], Runs], backend: str) -> None:
    """One of two processes is told to stop; two more take it to the end."""
    runs = runs_on(backend)
    processes = start_on_hosts(runs)
    last = runs.root / "hosts" / "last.npz"
    while processes[1].poll() is None and not last.exists():
        time.sleep(0.005)
    processes[1].send_signal(signal.SIGTERM)
    codes, told = ended(processes)
    assert codes == [143, 143], told
    assert 0 < step_of(last) < 48
    codes, told = ended(start_on_hosts(runs))
    assert codes == [0, 0], told
    runs.assert_same("one", "hosts")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("junk", "TF_CONFIG or KERAS_DISTRIBUTION_...: Expecting value"),
        ("[1]", "TF_CONFIG or KERAS_DISTRIBUTION_...: 'list' object"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}', "a cluster of workers alone"),
    ],
)
def test_a_wrong_cluster_is_told(
    folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", given)
    assert message in problem(folder, "--data", data)
    monkeypatch.delenv("TF_CONFIG")
    several = problem(folder, "--data", data, "--all-devices", "--compile")
    assert several.startswith("--compile: XLA cannot add up gradients")
