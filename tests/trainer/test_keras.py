"""The Keras trainer: that nothing of a run is lost, and that devices change nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest
from trainers import (
    GROUP_NORM,
    NO_DROPOUT,
    called,
    command,
    compiled,
    environment,
    imported,
    problem,
    recipe_of,
    untraced,
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
PATH = """\
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
"""
START = """\
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("batch_norm"), "keras")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("data") / "idx")


def test_batches_begin_again_and_end_at_once(folder: Path) -> None:
    """TensorFlow's threads that tune a data set make whoever drops it wait for up to a minute."""

    def begin() -> Iterator[Any]:
        for number in range(3):
            yield np.full((2, 3), number, np.float32), np.array([number, number])

    given = imported(folder, "devices").TensorFlowDevice().dealt(begin)
    assert given.options().autotune.enabled is False
    for looked_at in (1, 3, 3):  # Keras looks at the first batch
        labels = [int(labels[0]) for _, labels in given.take(looked_at)]
        assert labels == [0, 1, 2][:looked_at]


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


@pytest.mark.slow  # as in PyTorch; in each run of the tests it is killed wherever it saves
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    folder: Path, data: Path, tmp_path: Path, backend: str
) -> None:
    flags = ("--data", data, "--save-every", 3, *RICH)
    last = tmp_path / "parts" / "last.npz"
    process = subprocess.Popen(
        command(folder, *flags, "--out", tmp_path / "parts"),
        env={**environment(), "KERAS_BACKEND": backend},
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (last.exists() and step_of(last)):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = step_of(last)
    assert 0 < killed < 300
    for name, more in (("parts", ("--resume",)), ("whole", ())):
        words = (*flags, "--max-steps", killed + 6, "--out", tmp_path / name, *more)
        if backend == os.environ["KERAS_BACKEND"]:
            called(folder, *words)
        else:
            trained(command(folder, *words), KERAS_BACKEND=backend)

    whole, parts = saved(tmp_path / "whole" / "last.npz"), saved(last)
    assert whole.keys() == parts.keys()
    assert [name for name in whole if (whole[name] != parts[name]).any()] == []


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_optimizers_of_keras_have_the_numbers_of_the_recipe(folder: Path, kind: str) -> None:
    """Two steps with another rate each, of a weight that decays and of one that does not."""
    import keras

    train = imported(folder, "train")
    changes = {"weight_decay": 0.1, "no_decay": ["bias"], "schedule": "cosine", "length": 160}
    recipe = recipe_of(folder, optimizer=kind, mean=[0.5], std=[0.5], **changes)
    raw = imported(folder, "small").small(10, (8, 8, 1))
    model = train.make_ready(raw, recipe, own=True)
    optimizer = model.optimizer
    assert type(optimizer) is {"sgd": keras.optimizers.SGD, "adamw": keras.optimizers.AdamW}[kind]
    before = [weight.numpy() for weight in model.trainable_variables]
    gradients = [np.full(value.shape, 0.5, np.float32) for value in before]
    found = []
    for _ in range(2):
        optimizer.apply(gradients, model.trainable_variables)
        found.append([weight.numpy() for weight in model.trainable_variables])
    rates = [train.common.rate_at(step, recipe) for step in range(2)]
    for index, weight in enumerate(model.trainable_variables):
        decay = 0.1 * (weight.name != "bias")
        for step, expected in enumerate(steps_of_keras(recipe, before[index], rates, decay)):
            assert found[step][index] == pytest.approx(expected, abs=1e-5), weight.path


def steps_of_keras(
    recipe: dict[str, Any], weight: np.ndarray, rates: list[float], decay: float
) -> Iterator[np.ndarray]:
    """What Keras' optimizers make of a weight whose gradient is a half, as their papers say."""
    first, second = 0.0, 0.0
    for step, rate in enumerate(rates, 1):
        weight = weight * (1 - rate * decay)
        if recipe["optimizer"] == "sgd":
            first = recipe["momentum"] * first - rate * 0.5
            weight = weight + first
        else:
            one, two = recipe["beta1"], recipe["beta2"]
            first, second = one * first + (1 - one) * 0.5, two * second + (1 - two) * 0.25
            change = first / (1 - one**step) / (math.sqrt(second / (1 - two**step)) + 1e-8)
            weight = weight - rate * change
        yield weight


def test_a_run_with_optimizers_of_keras_goes_on_with_them(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    flags = ("--data", data, "--nesterov", "--clip-norm", 1, "--accumulate", 2)
    own = "--keras-optimizer"
    with untraced():
        called(folder, *flags, own, "--out", tmp_path / "whole", "--max-steps", 3)
        called(folder, *flags, own, "--out", tmp_path / "parts", "--max-steps", 2)
        message = problem(folder, *flags, "--out", tmp_path / "parts", "--resume")
        assert "was trained with keras_optimizer True, not False" in message
        called(folder, *flags, own, "--out", tmp_path / "parts", "--max-steps", 3, "--resume")
    whole, parts = (saved(tmp_path / name / "last.npz") for name in ("whole", "parts"))
    # One was evaluated once more, at the step at which it stopped.
    assert json.loads(str(whole.pop("state")))["step"] == 3
    assert [name for name in whole if (whole[name] != parts[name]).any()] == []


# Tracing takes most of the time.
ONE_STAGE = ("  - {name: layer2, block: basic, filters: 8}\n", "")


class Runs:
    """A network without statistics of a batch, and runs of it that should all be the same one."""

    def __init__(self, root: Path, backend: str, steps: int) -> None:
        self.root, self.backend, self.steps = root, backend, steps
        self.folder = compiled(root, "keras", GROUP_NORM, NO_DROPOUT, ONE_STAGE)
        self.data = write_idx(root / "idx", test=27)  # an odd number
        xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
        names = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "XLA_FLAGS": xla}
        self.environment = {**environment(), **names}

    def flags(self, name: str) -> tuple[object, ...]:
        flags = ("--data", self.data, "--precision", "fp64", "--clip-norm", 0.5, "--ema", 0.9)
        return (*flags, "--max-steps", self.steps, "--out", self.root / name)

    def command(self, name: str, *more: object, first: str = "") -> list[str]:
        words = command(self.folder, *self.flags(name), *more)
        start = "" if self.backend == "tensorflow" else DOUBLE
        return [sys.executable, "-c", PATH + start + first + START, *words[1:]]

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


def runs_on(backend: str, root: Path, steps: int = 16) -> Runs:
    """Runs on a backend with the first one made, `one`: of one process on one device."""
    runs = Runs(root, backend, steps)
    if backend == os.environ["KERAS_BACKEND"]:
        with parity.float64():
            called(runs.folder, *runs.flags("one"))
    else:
        trained(runs.command("one"), **runs.environment)
    return runs


# What the two devices of TensorFlow get of a batch of eight, and make of it; in a process of its
# own, for a second strategy would meet the first one's collectives.
SHARES = """\
import os, keras, numpy as np
from devices import TensorFlowDevices

def shares():
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

process = os.fork()
if not process:
    shares()
    os._exit(0)
assert os.waitpid(process, 0)[1] == 0, "shares"
"""


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_devices_and_parts_of_a_step_change_nothing(tmp_path: Path, backend: str) -> None:
    """On TensorFlow it is also seen that each device gets its part of a batch."""
    runs = runs_on(backend, tmp_path)
    first = TWO_CPUS + SHARES if backend == "tensorflow" else ""
    words = runs.command("two", "--all-devices", "--accumulate", 2, first=first)
    trained(words, **runs.environment)
    runs.assert_same("one", "two")


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
def test_hosts_train_stop_and_go_on_together(tmp_path: Path, backend: str) -> None:
    """One of two processes is told to stop; two more take it to the end."""
    runs = runs_on(backend, tmp_path, 48)
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
        ("junk", "TF_CONFIG or KERAS_DISTRIBUTION_...: not understood: Expecting value"),
        ("[1]", "TF_CONFIG or KERAS_DISTRIBUTION_...: not understood: 'list' object"),
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
