"""What the tests of the trainers share: a small network, small images, and a trainer on them."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from resnet_spec.codegen.generate import generate
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

MODULES = ("train", "devices", "fitting", "common", "recipes", "data", "sources")
SPEC = """\
spec_version: 1
name: small
description: A small network
input: {channels: 1, height: 8, width: 8}
classes: 10
defaults: {norm: batch_norm}
stem:
  - {conv: conv1, filters: 8, kernel: 3}
  - {norm: bn1}
  - act
stages:
  - {name: layer1, block: basic, filters: 8}
  - {name: layer2, block: basic, filters: 8}
head:
  - {global_avg_pool: avgpool}
  - {dropout: drop, rate: 0.1}
  - {linear: fc, features: classes}
training:
  recipe: cifar_paper
  length: 40
  unit: epochs
  milestones: [20, 30]
  batch_size: 8
  padding: 1
"""
GROUP_NORM = ("norm: batch_norm", "norm: {group_norm: {groups: 2}}")
NO_DROPOUT = ("rate: 0.1", "rate: 0")


def compiled(folder: Path, backend: str, *changes: tuple[str, str]) -> Path:
    """The folder with the network `small`, its recipe and the trainer of a backend."""
    text = SPEC
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    network = lower(load("small.yaml", Library(), text=text.encode()))
    for path, made in generate(network, [backend], trainer=True).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(made, encoding="utf-8")
    return folder / backend


def write_idx(folder: Path, train: int = 64, test: int = 24, size: int = 8) -> Path:
    """Images in the format of Fashion-MNIST, whose brightness tells the class."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, number in (("train", train), ("t10k", test)):
        labels = np.arange(number, dtype=np.uint8) % 10
        noise = rng.integers(0, 20, (number, size, size))
        images = (labels[:, None, None] * 24 + noise).astype(np.uint8)
        for name, array in (("images", images), ("labels", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            file = folder / f"{part}-{name}-idx{array.ndim}-ubyte"
            file.write_bytes(head + array.tobytes())
    return folder


def imported(folder: Path, name: str) -> ModuleType:
    """A module of a compiled folder, not one of the same name of another folder."""
    for each in (*MODULES, "small"):
        sys.modules.pop(each, None)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def command(folder: Path, *flags: object, processes: int = 1) -> list[str]:
    """The command line that trains `small`, by torchrun where it takes more processes."""
    program = [str(folder / "train.py"), "small", "--workers", "0", *map(str, flags)]
    if processes == 1:
        return [sys.executable, *program]
    run = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, "-m", *run, *program]


# Starts processes as torchrun does, but imports what they need once, and has no process of its own
# beside them. The first that fails ends the others; those that a signal stopped end by themselves.
FORKS = """\
import atexit, os, runpy, signal, socket, sys
atexit.register(lambda: ended and os._exit(code))  # last, and spares to free what they imported
ended = False
import grain, matplotlib.figure, safetensors.torch, torch.distributed.nn, torch.optim.swa_utils

world, program = int(sys.argv[1]), sys.argv[2]
sys.argv, sys.path[0] = sys.argv[2:], os.path.dirname(program)
with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port), WORLD_SIZE=str(world))
left, code = set(), 0
for rank in range(world):
    process = os.fork()
    if not process:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(world))
        runpy.run_path(program, run_name="__main__")
        ended = True
        sys.exit()
    left.add(process)
while left:
    process, status = os.wait()
    left.remove(process)
    code = code or os.waitstatus_to_exitcode(status)
    for other in left if status and code != 128 + signal.SIGTERM else ():
        os.kill(other, signal.SIGKILL)
ended = True
"""


def forked(program: Path, *flags: object, processes: int = 2) -> list[str]:
    """The command line of several processes of a program that trains `small` with PyTorch."""
    words = (processes, program, "small", "--workers", 0, *flags)
    return [sys.executable, "-c", FORKS, *map(str, words)]


def environment() -> dict[str, str]:
    """One thread, so that small tensors are not dealt out among busy cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """A process of a trainer, to its end."""
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment())


def trained(words: list[str]) -> None:
    """Run a trainer that must succeed."""
    done = run(words)
    assert done.returncode == 0, done.stderr


def called(
    folder: Path,
    *flags: object,
    change: Callable[[ModuleType], None] | None = None,
    draws: bool = False,
) -> None:
    """The trainer of a folder, within this process; raises `SystemExit` where it stops.

    `change` is given its module first. Its picture, half the cost of a short run, is blank unless
    the run `draws`.
    """
    words = sys.argv
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    sys.argv = ["train.py", "small", "--workers", "0", *map(str, flags)]
    train = imported(folder, "train")
    if folder.name == "torch":
        train.torch.set_num_threads(1)  # small tensors are not worth dealing out
    if not draws:
        train.common.Log.draw = blank
    if change is not None:
        change(train)
    sys.path.insert(0, str(folder))
    try:
        train.main()
    finally:
        sys.path.remove(str(folder))
        sys.argv = words
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Keras runs its steps as they are written: to trace them costs more than a few steps do."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def blank(log: Any) -> None:
    """Saves an empty picture of a run."""
    sys.modules["common"].write_whole(log.path.with_name("curve.png"), b"")


def signals(number: signal.Signals, *steps: int) -> Callable[[ModuleType], None]:
    """A trainer that gets a signal in these steps."""

    def change(train: ModuleType) -> None:
        advance = train.common.Log.advance

        def advanced(log: Any) -> Any:
            due = advance(log)
            if log.step in steps:
                os.kill(os.getpid(), number)
            return due

        train.common.Log.advance = advanced

    return change


def problem(folder: Path, *flags: object) -> str:
    """What a trainer says that stops with a message."""
    with pytest.raises(SystemExit) as stopped:
        called(folder, *flags)
    return str(stopped.value.code).removeprefix("train.py: ")


def recipe_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """The recipe of `small` with some of its values changed."""
    recipe: dict[str, Any] = imported(folder, "common").parse(["small"], "", {}).recipe
    recipe["loss_weights"] = []  # as prepare adds them
    assert changes.keys() <= recipe.keys()
    return {**recipe, **changes}


def told(out: Path) -> list[dict[str, Any]]:
    """What a run told of itself."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def contents(out: Path) -> dict[str, Any]:
    """All that a run leaves but its speed and what a kill left unfinished."""
    found: dict[str, Any] = {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.suffix != ".jsonl" and not path.name.startswith(".")
    }
    lines = told(out)
    for line in lines:
        line.pop("images_per_second", None)
    return {**found, "told": lines}


def arrays(folder: Path, out: Path) -> dict[str, np.ndarray]:
    """Every number of a run's last checkpoint, by its group and name, such as `model|fc/bias`."""
    module, suffix = {"torch": ("train", "pt"), "keras": ("fitting", "npz")}[folder.name]
    saved = imported(folder, module).read(out / f"last.{suffix}")
    return {key: np.asarray(value) for key, value in _flat(saved) if not key.startswith("recipe")}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    items: Any = {}
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield key, value
    for name, each in items:
        yield from _flat(each, f"{key}|{name}".lstrip("|"))
