"""The PyTorch trainer: what it does to weights, and that nothing of a run is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import trainers
from trainers import (
    GROUP_NORM,
    NO_DROPOUT,
    called,
    command,
    compiled,
    environment,
    imported,
    problem,
    trained,
    write_idx,
)

pytestmark = pytest.mark.torch

# Everything that has a state or a choice by chance.
RICH = ("--ema", 0.9, "--mixup", 0.2, "--cutmix", 1.0, "--label-smoothing", 0.1, "--nesterov")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are not worth dealing out."""
    import torch

    torch.set_num_threads(1)


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
    """A trainer that gets a signal once it has saved anew."""
    before = last.stat().st_mtime_ns if last.exists() else 0
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not last.exists() or last.stat().st_mtime_ns == before):
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate()
    return process


def test_a_killed_run_goes_on_as_if_nothing_had_been(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    flags = ("--data", data, "--save-every", 3, *RICH)
    trained(command(folder, *flags, "--out", tmp_path / "whole"))

    words = command(folder, *flags, "--out", tmp_path / "parts", "--resume")
    last = tmp_path / "parts" / "last.pt"
    assert interrupted(words, last, signal.SIGKILL).returncode == -signal.SIGKILL
    killed = saved(last)["step"]
    assert interrupted(words, last, signal.SIGTERM).returncode == 128 + signal.SIGTERM
    ended = saved(last)["step"]
    assert 0 < killed < ended < 320
    trained(words)

    assert_equal(saved(tmp_path / "whole" / "last.pt"), saved(last))
    told = [
        [json.loads(line)["step"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("whole", "parts")
    ]
    assert set(told[0]) <= set(told[1])
    assert told[1] == sorted(told[1])
    assert (tmp_path / "parts" / "curve.png").is_file()


def test_processes_and_parts_of_a_step_change_nothing(data: Path, tmp_path: Path) -> None:
    """Without statistics of a batch, only the order of sums differs."""
    import torch

    folder = compiled(tmp_path, "torch", GROUP_NORM, NO_DROPOUT)
    flags = ("--data", data, "--precision", "fp64", "--max-steps", 12, "--clip-norm", 1.0)
    trained(command(folder, *flags, "--out", tmp_path / "one"))
    trained(command(folder, *flags, "--out", tmp_path / "parts", "--accumulate", 2))
    trained(command(folder, *flags, "--out", tmp_path / "two", processes=2))

    expected = saved(tmp_path / "one" / "last.pt")
    for name in ("parts", "two"):
        found = saved(tmp_path / name / "last.pt")
        assert abs(found["best"] - expected["best"]) < 1e-9
        for key, value in expected["model"].items():
            torch.testing.assert_close(found["model"][key], value, rtol=1e-9, atol=1e-11)


def test_one_batch_is_learned_by_heart(folder: Path, data: Path, tmp_path: Path) -> None:
    flags = ("--overfit-one-batch", "--length", 100, "--schedule", "constant")
    called(folder, "--data", data, "--out", tmp_path / "run", *flags)
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    losses = [line["loss"] for line in told if "loss" in line]
    assert losses[-1] < 0.3 * losses[0]


def test_diverged_training_stops_and_keeps_its_checkpoint(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    flags = ("--data", data, "--out", tmp_path / "run", "--learning-rate", 1e30)
    called(folder, *flags, "--max-steps", 1, "--warmup", 1)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    assert "the last checkpoint stays" in problem(folder, *flags, "--warmup", 1, "--resume")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_fine_tuning_leaves_frozen_layers_alone(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called(folder, "--data", data, "--out", tmp_path / "a", "--max-steps", 8)
    weights = ("--weights", tmp_path / "a" / "last.pt")
    flags = ("--reset-head", "--freeze", "layer1", "--max-steps", 8)
    called(folder, "--data", data, "--out", tmp_path / "b", *weights, *flags)

    first, second = (saved(tmp_path / name / "last.pt")["model"] for name in "ab")
    changed = {key.partition(".")[0] for key in first if (first[key] != second[key]).any()}
    assert changed == {"layer2", "fc"}

    capsys.readouterr()
    called(folder, "--data", data, "--evaluate", "--ten-crop", *weights)
    assert "val_error_top5" in capsys.readouterr().out


def test_what_does_not_fit_is_told(folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    common = ("--data", data, "--out", out)
    called(folder, *common, "--max-steps", 1)
    before = {path: path.read_bytes() for path in out.iterdir()}

    assert "holds a run: go on with --resume" in problem(folder, *common)
    changed = problem(folder, *common, "--resume", "--momentum", 0.5)
    assert "was trained with momentum 0.9, not 0.5" in changed
    elsewhere = ("--data", data, "--out", tmp_path / "c")
    other = compiled(tmp_path / "other", "torch", ("filters: 8", "filters: 16"))
    assert "not of this network" in problem(other, *elsewhere, "--weights", out / "last.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    assert "cannot be read" in problem(folder, *elsewhere, "--weights", tmp_path / "junk.pt")
    assert "'layer9' is no part" in problem(folder, *elsewhere, "--freeze", "layer9")
    assert "dealt out evenly in 3 parts" in problem(folder, *elsewhere, "--accumulate", 3)
    assert "leaves nothing of --length" in problem(folder, *elsewhere, "--warmup", 40)
    assert "--mean: 3 values for images of 1" in problem(
        folder, *elsewhere, *("--mean", 0, 0, 0, "--std", 1, 1, 1)
    )
    assert "cannot make the folder" in problem(
        folder, "--data", data, "--out", tmp_path / "junk.pt" / "run"
    )
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_full_disk_loses_nothing(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = imported(folder, "common")
    file = tmp_path / "last.pt"
    file.write_bytes(b"whole")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(common.os, "fsync", full)
    with pytest.raises(common.Problem, match="No space left on device; the last checkpoint is as before"):
        common.write_whole(file, b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert file.read_bytes() == b"whole"


def test_kinds_of_parameters_that_do_not_decay(folder: Path) -> None:
    train = imported(folder, "train")
    model = imported(folder, "small").small()
    recipe = trainers.recipe_of(folder, no_decay=["norm", "bias"])
    names = train.decayed_names(model, recipe)
    assert [name for name in names if not name.endswith("weight")] == []
    assert {name.split(".")[-2] for name in names} == {"conv1", "conv2", "fc"}
    every = train.decayed_names(model, trainers.recipe_of(folder))
    assert every == [name for name, _ in model.named_parameters()]
