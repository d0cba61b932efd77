"""The recorded runs of docs/training: of their commands, whole, and the same in both frameworks."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import training_page
import training_record
from trainers import compiled, imported
from training_record import Record

RECORDS = training_record.read()
PAIRS = [
    (runs["torch"], runs[engine])
    for runs in training_page.grouped(RECORDS)
    for engine in ("tensorflow", "jax")
    if {"torch", engine} <= runs.keys() and len(runs[engine]) > 1
]
EACH = pytest.mark.parametrize("record", RECORDS, ids=lambda each: each.name)


# --- what is recorded ----------------------------------------------------------------------------


@pytest.mark.torch  # for what the trainers import
@EACH
def test_a_record_is_of_its_command(record: Record, tmp_path: Path) -> None:
    """The trainer takes from the command what the record says."""
    words = shlex.split(record.command)
    place = words.index("python") + 2
    folder = compiled(tmp_path, "torch")
    recipe = training_record.recipe(record.network)
    (folder / f"{record.network}.toml").write_text(_toml(recipe))
    (folder / f"{record.network}.py").write_text("")
    args = imported(folder, "common").parse(words[place:], "", {})
    assert (args.network, args.data, args.seed) == (record.network, "fashion-mnist", record.seed)
    assert (args.recipe["length"], args.recipe["unit"]) == (record.steps, "steps")
    trainer = f"fashion/{training_record.TRAINERS[record.engine]}/train.py"
    assert words[place - 1] == trainer
    assert words[0] == ("python" if record.engine == "torch" else f"KERAS_BACKEND={record.engine}")


def _toml(recipe: dict[str, object]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.items())


@EACH
def test_a_run_is_recorded_to_its_end(record: Record) -> None:
    steps = [step for step, _ in record.curve]
    assert steps == sorted(set(steps)) and steps[-1] == record.steps
    assert 10 < len(steps) <= training_record.POINTS
    assert all(map(math.isfinite, [record.val_loss, *(loss for _, loss in record.curve)]))
    assert 0 < record.val_error < 0.9 and record.curve[-1][1] < record.curve[0][1]


@pytest.mark.parametrize("name", ["resnet8_mlperf_tiny", "resnet20"])
def test_three_seeds_were_run_in_both_frameworks(name: str) -> None:
    (runs,) = (r for r in training_page.grouped(RECORDS) if r["torch"][0].network == name)
    for engine in ("torch", "tensorflow"):
        assert {each.seed for each in runs[engine]} >= {0, 1, 2}


@pytest.mark.parametrize(("torch", "keras"), PAIRS, ids=lambda runs: runs[0].name)
def test_frameworks_come_to_the_same_accuracy(torch: list[Record], keras: list[Record]) -> None:
    """Within 4.6 standard errors: of two times three seeds, one in a hundred is further apart."""
    value, error = training_page.difference(keras, torch)
    assert abs(value) <= 4.6 * error


def test_networks_without_shortcuts_fall_behind_with_depth() -> None:
    behind = []
    for names in training_page.PANELS:
        plain, residual = training_page.pair_of(RECORDS, names)
        behind.append(plain.curve[-1][1] - residual.curve[-1][1])
    assert 0 < behind[0] < behind[1]


def test_the_figure_is_current(update_goldens: bool) -> None:
    made = training_page.figure(RECORDS)
    if update_goldens:
        training_page.FIGURE.write_text(made, encoding="utf-8")
    assert training_page.FIGURE.read_text(encoding="utf-8") == made
    for name in (name for names in training_page.PANELS for name in names):
        assert f"{name}: " in made


# --- how a record is made ------------------------------------------------------------------------


def run_folder(folder: Path, length: int = 30, last: int = 30) -> Path:
    """What a run of Keras leaves, as far as a record reads it."""
    np = pytest.importorskip("numpy")
    recipe = {**training_record.recipe("resnet20"), "length": length, "unit": "steps", "warmup": 5}
    state = {"network": "resnet20", "seed": 7, "step": last, "best": 0.1, "recipe": recipe}
    np.savez(folder / "last.npz", state=np.array(json.dumps(state)))
    lines = [{"step": step, "loss": 1.0, "error": 0.5} for step in (10, 20, last)]
    lines += [{"step": last, "val_loss": 0.4, "val_error": 0.25, "val_error_top5": 0.0}]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


@pytest.mark.keras
def test_a_run_becomes_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = training_record.record("tensorflow", run_folder(tmp_path))
    flags = "--data fashion-mnist --length 30 --unit steps --warmup 5 --seed 7"
    program = "KERAS_BACKEND=tensorflow python fashion/keras/train.py resnet20"
    assert found.command == f"{program} {flags}"
    assert (found.seed, found.steps, found.threads, found.val_error) == (7, 30, 3, 0.25)
    assert found.curve == [(10, 1.0), (20, 1.0), (30, 1.0)]
    assert found.versions.keys() == {"python", "tensorflow", "keras", "numpy"}
    training_record.write(found, tmp_path)
    assert training_record.read(tmp_path) == [found]


def test_a_run_that_did_not_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not come to its end"):
        training_record.record("tensorflow", run_folder(tmp_path, length=40))


def test_a_curve_is_thinned_by_means() -> None:
    points = [(10 * n, float(n)) for n in range(1, 101)] + [(1005, 200.0)]
    thinned = list(training_record.thinned(points))
    assert len(thinned) == 34
    assert thinned[:2] == [(30, 2.0), (60, 5.0)]
    assert thinned[-1] == (1005, round((100 * 10 + 200 * 5) / 15, 4))


# --- what the page says of it --------------------------------------------------------------------


def made(accuracy: float, engine: str = "torch", seed: int = 0, **changes: Any) -> Record:
    """A record with the least that the page needs."""
    command = f"python fashion/torch/train.py resnet20 --seed {seed}"
    curve, versions = [(5, 2.0), (10, 1.0)], {"python": "3"}
    error = 1 - accuracy / 100
    given = Record(
        command, "resnet20", engine, seed, 10, error, 1.0, curve, "any, 2 cores", 1, versions
    )
    return dataclasses.replace(given, **changes)


def test_spread_and_difference() -> None:
    ours = [made(accuracy, "tensorflow", seed) for seed, accuracy in enumerate((91, 92, 93))]
    others = [made(accuracy, seed=seed) for seed, accuracy in enumerate((90, 90.5, 91))]
    assert training_page.spread(ours) == pytest.approx((92, 1))
    assert training_page.difference(ours, others) == pytest.approx((1.5, math.sqrt(1.25 / 3)))
    torch, keras = training_page.rows([*ours, *others])
    assert torch[1:] == ["0, 1, 2", "1.000", "90.50 ± 0.50", ""]
    assert keras[1:] == ["0, 1, 2", "1.000", "92.00 ± 1.00", "1.50 ± 0.65"]
    assert "--seed N" in keras[0]


def test_one_seed_has_no_deviation() -> None:
    torch, keras = training_page.rows([made(90), made(91, "tensorflow")])
    assert (torch[3], keras[3], keras[4]) == ("90.00", "91.00", "1.00")


def test_figure_compares_equal_steps_alone() -> None:
    plain = made(80, network="plain20")
    drawn = training_page.figure([plain, made(90)])
    assert len(re.findall("<polyline", drawn)) == 2
    assert "plain20: 1.000" in drawn and "step 10" in drawn
    assert "<polyline" not in training_page.figure([plain, made(90, steps=20)])
