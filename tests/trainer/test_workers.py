"""Worker processes, which open image files for a trainer: how they and their trainer end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trainers import command, compiled, environment

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are read from /proc")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("torch", marks=pytest.mark.torch),
        pytest.param("keras", marks=[pytest.mark.keras, pytest.mark.slow]),
    ],
)
def words(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line that trains for long on image files, with two workers."""
    from PIL import Image

    root = tmp_path_factory.mktemp(request.param)
    for path in (f"{part}/{name}" for part in ("train", "val") for name in ("cat", "dog")):
        (root / "images" / path).mkdir(parents=True)
        for index in range(40):
            pixels = np.full((64, 64), index, np.uint8)
            Image.fromarray(pixels).save(root / "images" / path / f"{index}.png")
    flags = ("--data", root / "images", "--mean", 0.5, "--std", 0.25, "--workers", 2)
    return command(compiled(root, request.param), *flags)


def workers_of(process: int) -> list[int]:
    """The processes that a trainer has started to open images."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            text = (path / "cmdline").read_text()
        except OSError:
            continue
        if parent == process and "spawn_main" in text:
            found.append(int(path.name))
    return found


def until(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def started(words: list[str], out: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A trainer in a process group of its own, as from a terminal, and its two workers."""
    process = subprocess.Popen(
        [*words, "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    until(lambda: len(workers_of(process.pid)) == 2)
    return process, workers_of(process.pid)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_to_all_ends_a_step_and_saves(
    words: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    """Even while the workers start; and nothing is left in shared memory."""
    process, _ = started(words, tmp_path)
    os.killpg(process.pid, number)
    told = process.communicate(timeout=100)[1]
    assert process.returncode == 128 + number
    assert "stopped after step 1; go on with --resume" in told
    assert "Traceback" not in told
    assert "leaked" not in told
    assert [*tmp_path.glob("last.*")]


def test_a_worker_that_is_killed_is_told(words: list[str], tmp_path: Path) -> None:
    process, workers = started(words, tmp_path)
    os.kill(workers[0], signal.SIGKILL)
    told = process.communicate(timeout=100)[1]
    assert process.returncode == 1
    assert "train.py: --workers: Worker process was terminated unexpectedly" in told
    assert "Traceback" not in told


def test_workers_end_with_a_trainer_that_is_killed(words: list[str], tmp_path: Path) -> None:
    process, workers = started(words, tmp_path)
    until(lambda: b"step" in os.read(process.stderr.fileno(), 1000) or False)  # type: ignore[union-attr]
    process.kill()
    process.communicate(timeout=100)
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
