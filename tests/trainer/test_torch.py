"""The PyTorch trainer: what it does to weights, and that nothing of a run is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trainers
from trainer_checks import place_of
from trainers import (
    GROUP_NORM,
    NO_DROPOUT,
    called,
    command,
    compiled,
    environment,
    forked,
    imported,
    problem,
    run,
    trained,
    write_idx,
)

pytestmark = pytest.mark.torch

# Everything that has a state or a choice by chance.
RICH = ("--ema", 0.9, "--mixup", 0.2, "--cutmix", 1.0, "--label-smoothing", 0.1, "--nesterov")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("batch_norm"), "torch")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("data") / "idx")


def saved(path: Path) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def assert_equal(first: Any, second: Any) -> None:
    """Equal to the last bit, whatever holds the tensors."""
    import torch

    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


def interrupted(words: list[str], last: Path, number: signal.Signals) -> subprocess.Popen[str]:
    """A trainer that gets a signal once it has saved anew, after a step: it begins with a save."""
    saves = {last.stat().st_mtime_ns} if last.exists() else set()
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(saves) < 2:
        saves |= {last.stat().st_mtime_ns} if last.exists() else set()
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate()
    return process


def test_a_killed_run_goes_on_as_if_nothing_had_been(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    flags = ("--data", data, "--save-every", 3, *RICH)
    last = tmp_path / "parts" / "last.pt"
    words = command(folder, *flags, "--out", tmp_path / "parts")
    assert interrupted(words, last, signal.SIGKILL).returncode == -signal.SIGKILL
    killed = saved(last)["step"]
    assert 0 < killed < 300
    flags = (*flags, "--max-steps", killed + 12)
    called(folder, *flags, "--out", tmp_path / "parts", "--resume", draws=True)
    called(folder, *flags, "--out", tmp_path / "whole")

    assert_equal(saved(tmp_path / "whole" / "last.pt"), saved(last))
    told = [trainers.told(tmp_path / name) for name in ("whole", "parts")]
    assert [line["step"] for line in told[0]] == [line["step"] for line in told[1]]
    assert (tmp_path / "parts" / "curve.png").stat().st_size


def test_processes_and_parts_of_a_step_change_nothing(data: Path, tmp_path: Path) -> None:
    """Without statistics of a batch, only the order of sums differs."""
    import torch

    folder = compiled(tmp_path, "torch", GROUP_NORM, NO_DROPOUT)
    flags = ("--data", data, "--precision", "fp64", "--max-steps", 12, "--clip-norm", 1.0)
    called(folder, *flags, "--out", tmp_path / "one")
    called(folder, *flags, "--out", tmp_path / "parts", "--accumulate", 2)
    trained(forked(folder / "train.py", *flags, "--out", tmp_path / "two"))

    expected = saved(tmp_path / "one" / "last.pt")
    for name in ("parts", "two"):
        found = saved(tmp_path / name / "last.pt")
        assert abs(found["best"] - expected["best"]) < 1e-9
        for key, value in expected["model"].items():
            torch.testing.assert_close(found["model"][key], value, rtol=1e-9, atol=1e-11)


# Runs the trainer beside it, of which only the second process is told to stop, in its fourth step.
STOPS = """\
import os, signal
from train import common, main

advance = common.Log.advance

def advanced(log):
    if log.step == 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return advance(log)

common.Log.advance = advanced
main()
"""


def test_processes_stop_together(folder: Path, data: Path, tmp_path: Path) -> None:
    """All, after the next step that is logged, if one is told to."""
    (folder / "stops.py").write_text(STOPS)
    flags = ("--data", data, "--out", tmp_path / "run", "--log-every", 5)
    done = run(forked(folder / "stops.py", *flags))
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "stopped after step 5; go on with --resume" in done.stderr
    assert saved(tmp_path / "run" / "last.pt")["step"] == 5


@pytest.mark.slow
def test_torchrun_stops_all_processes(folder: Path, data: Path, tmp_path: Path) -> None:
    words = command(folder, "--data", data, "--out", tmp_path / "run", processes=2)
    last = tmp_path / "run" / "last.pt"
    interrupted(words, last, signal.SIGTERM)
    assert 0 < saved(last)["step"] < 300


def test_weights_of_other_trainers_are_read(folder: Path, data: Path, tmp_path: Path) -> None:
    """In a dictionary of their own, and with the prefix of DistributedDataParallel."""
    import torch

    state = imported(folder, "small").small().state_dict()
    path, flags = tmp_path / "theirs.pth", ("--data", data, "--max-steps", 1, "--learning-rate", 0)
    wrapped = {f"module.{name}": value for name, value in state.items()}
    for number, theirs in enumerate((wrapped, {"state_dict": wrapped, "epoch": 3})):
        torch.save(theirs, path)
        out = tmp_path / str(number)
        called(folder, *flags, "--weights", path, "--out", out)
        assert torch.equal(saved(out / "last.pt")["model"]["fc.weight"], state["fc.weight"])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "not a file of weights: expected a dict of tensors, as torch.save writes it"),
        ("empty", "not a file of weights: expected a dict of tensors, as torch.save writes it"),
        ("list", "not a file of weights: expected a dict of tensors, as torch.save writes it"),
        ("code", "as torch.save writes it; it holds print"),
        ("other", "not weights of this network: epoch: int, not a tensor"),
    ],
)
def test_what_holds_no_weights_is_told(
    folder: Path, data: Path, tmp_path: Path, kind: str, message: str
) -> None:
    import torch

    path = tmp_path / "weights.pt"
    if kind in ("text", "empty"):
        path.write_text("hello, this is no file of weights\n" if kind == "text" else "")
    else:
        torch.save({"list": [1], "code": {"x": print}, "other": {"epoch": 3}}[kind], path)
    told = problem(folder, "--data", data, "--out", tmp_path / "run", "--weights", path)
    assert told.startswith(f"{path}: not ") and told.endswith(message)


def test_torchrun_repeats_what_is_wrong(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the report with which it ends, from a file that it names to each process."""
    report = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(report))
    for flags in (("--data", tmp_path / "none"), ("--learning", 0.1)):
        wrong = problem(folder, *flags)
        found = json.loads(report.read_text())["message"]["extraInfo"]["py_callstack"]
        assert found == f"sources.Problem: {wrong}\n"


# Runs the trainer beside it, and writes down the threads that outlive it in its process.
THREADS = """\
import gc, os, sys
from pathlib import Path
from train import main

gc.disable()  # no cycle is found by chance
try:
    main()
finally:
    names = (path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    Path(sys.argv[-1], "threads-" + os.environ["RANK"]).write_text(" ".join(names))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ((), 0),
        pytest.param(("--learning-rate", 1000, "--weight-decay", 1), 1, marks=pytest.mark.slow),
    ],
    ids=["done", "diverged"],
)
def test_processes_go_on_and_leave_no_thread(
    folder: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[object, ...],
    status: int,
) -> None:
    """One of gloo's that frees a tensor while Python ends would abort the process, at times.

    Each has statistics of its own; those of the first are saved, and evaluated by all.
    """
    (folder / "threads.py").write_text(THREADS)
    out = ("--data", data, "--resume", *flags, "--out", tmp_path)
    if not status:
        called(folder, *out, "--max-steps", 8)
    done = run(forked(folder / "threads.py", "--max-steps", 16, *out))
    assert done.returncode == status, done.stderr
    assert ("the last checkpoint stays" in done.stderr) == bool(status)
    left = [path.read_text() for path in tmp_path.glob("threads-*")]
    assert len(left) >= (1 if status else 2)  # the first that fails ends the other
    assert all("python" in names and "gloo" not in names for names in left), left
    if not status:
        losses = [line["val_loss"] for line in trainers.told(tmp_path) if "val_loss" in line]
        assert len(losses) == 2
        capsys.readouterr()
        called(folder, "--data", data, "--evaluate", "--weights", tmp_path / "last.pt")
        found = json.loads(capsys.readouterr().out)
        assert found["val_loss"] == pytest.approx(losses[-1], rel=1e-6)


def test_fp16_scales_its_loss_and_goes_on(folder: Path, data: Path, tmp_path: Path) -> None:
    import torch

    flags = ("--data", data, "--precision", "fp16", "--ema", 0.9)
    called(folder, *flags, "--out", tmp_path / "whole", "--max-steps", 16)
    for steps, more in ((8, ()), (16, ("--resume",))):
        called(folder, *flags, "--out", tmp_path / "parts", "--max-steps", steps, *more)
    whole, parts = (saved(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert_equal(whole, parts)
    assert whole["scaler"]["scale"] > 1
    assert whole["scaler"]["_growth_tracker"] > 0
    assert whole["model"]["conv1.weight"].dtype == torch.float32


@pytest.mark.slow
def test_a_compiled_network_trains_alike(data: Path, tmp_path: Path) -> None:
    """torch.compile under DistributedDataParallel, in another layout of memory."""
    import torch

    folder = compiled(tmp_path, "torch", NO_DROPOUT)
    flags = ("--data", data, "--max-steps", 6)
    for name, more in (("plain", ()), ("compiled", ("--compile", "--channels-last"))):
        trained(command(folder, *flags, *more, "--out", tmp_path / name, processes=2))
    expected, found = (saved(tmp_path / name / "last.pt") for name in ("plain", "compiled"))
    for key, value in expected["model"].items():
        torch.testing.assert_close(found["model"][key], value, rtol=1e-3, atol=1e-4)


def test_batch_norms_are_synchronised_unless_frozen(folder: Path, data: Path) -> None:
    import torch

    assert "--sync-batch-norm: PyTorch does it on cuda alone" in problem(
        folder, "--data", data, "--sync-batch-norm", "--device", "cpu"
    )
    model = imported(folder, "small").small()
    before = model.state_dict()
    model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.freeze_until("layer2")
    model.train()
    measuring = {
        path: each.training
        for path, each in model.named_modules()
        if isinstance(each, torch.nn.SyncBatchNorm)
    }
    every = {path.rpartition(".")[0] for path in before if path.endswith("running_mean")}
    assert measuring == {path: path.startswith("layer2.") for path in every}
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_is_erased_is_mixed(folder: Path) -> None:
    """In torchvision's recipe an image is erased by itself, before a batch is made of it."""
    import torch

    imported(folder, "train")
    devices = sys.modules["devices"]
    recipe = trainers.recipe_of(folder, mixup=0.2, erasing=1.0, mean=[0.0], std=[1.0])
    images = torch.full((2, 8, 8, 1), 255, dtype=torch.uint8)
    chances = torch.tensor([[0.75, 0, 0, 0, 0, 0, 0, 8, 8], [0.75, *[0.0] * 8]])
    labels = torch.tensor([0, 1])
    made, _ = devices.prepared(images, chances, labels, recipe, place_of(devices))
    assert made[0].unique().tolist() == [0.25]
    assert made[1].unique().tolist() == [0.75]


def test_kinds_of_parameters_that_do_not_decay(folder: Path) -> None:
    train = imported(folder, "train")
    model = imported(folder, "small").small()
    recipe = trainers.recipe_of(folder, no_decay=["norm", "bias"])
    names = train.decayed_names(model, recipe)
    assert [name for name in names if not name.endswith("weight")] == []
    assert {name.split(".")[-2] for name in names} == {"conv1", "conv2", "fc"}
    every = train.decayed_names(model, trainers.recipe_of(folder))
    assert every == [name for name, _ in model.named_parameters()]
