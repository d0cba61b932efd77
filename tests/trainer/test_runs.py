"""A run of either trainer: what it leaves, how it ends, and what it says of what is wrong."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import trainers
from trainer_checks import averages, goes_on
from trainers import (
    NO_DROPOUT,
    arrays,
    called,
    command,
    compiled,
    contents,
    imported,
    problem,
    signals,
    trained,
    untraced,
    write_idx,
)

BACKENDS = [
    pytest.param("torch", marks=pytest.mark.torch),
    pytest.param("keras", marks=pytest.mark.keras),
]


# What starts processes or goes through several whole runs takes much longer in Keras and shows what
# others show there: resumption to the bit is that of runs that were killed.
PYTORCH_USUALLY = pytest.mark.parametrize(
    "trainer",
    [BACKENDS[0], pytest.param("keras", marks=[pytest.mark.keras, pytest.mark.slow])],
    indirect=True,
)


class Trainer:
    """The trainer of a framework, with the network `small` and one of other widths."""

    def __init__(self, root: Path, backend: str) -> None:
        self.root, self.backend = root, backend
        self.suffix = {"torch": "pt", "keras": "npz"}[backend]
        self.junk = {"torch": "pt", "keras": "weights.h5"}[backend]
        self.folder = compiled(root, backend)
        self.other = compiled(root / "other", backend, ("filters: 8", "filters: 16"))
        self.data = write_idx(root / "idx")
        self.run = root / "run"  # of three steps
        called(self.folder, *self.flags(self.run), "--max-steps", 3)

    def flags(self, out: Path) -> tuple[object, ...]:
        return ("--data", self.data, "--out", out)

    def last(self, out: Path) -> Path:
        return out / f"last.{self.suffix}"

    def weights(self, out: Path) -> Path:
        """Weights that a trainer starts from, or evaluates."""
        return out / {"torch": "last.pt", "keras": "last.weights.h5"}[self.backend]

    def state(self, out: Path) -> dict[str, Any]:
        module = {"torch": "train", "keras": "fitting"}[self.backend]
        read: dict[str, Any] = imported(self.folder, module).read(self.last(out))
        return read


@pytest.fixture(scope="module", params=BACKENDS)
def trainer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(autouse=True)
def quick(trainer: Trainer, request: pytest.FixtureRequest) -> Iterator[None]:
    """Keras traces no steps, except of tests that ask for it as its users have it."""
    traced = request.node.get_closest_marker("traced") or trainer.backend == "torch"
    with contextlib.nullcontext() if traced else untraced():
        yield


def told(out: Path, key: str) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    return [line[key] for line in lines if key in line]


# --- what a run leaves ---------------------------------------------------------------------------


@pytest.mark.traced
def test_a_run_leaves_checkpoints_metrics_and_a_curve(trainer: Trainer, tmp_path: Path) -> None:
    from PIL import Image

    run = tmp_path / "run"
    called(trainer.folder, *trainer.flags(run), "--length", 3, "--schedule", "cosine", draws=True)
    names = {
        "torch": {"best.pt", "last.pt", "best_weights.safetensors"},
        "keras": {"best.weights.h5", "last.weights.h5", "last.npz"},
    }[trainer.backend]
    assert {path.name for path in run.iterdir()} == names | {"metrics.jsonl", "curve.png"}
    assert told(run, "step") == [8, 8, 10, 16, 16, 20, 24, 24]
    assert all(0 <= error <= 1 for error in told(run, "error") + told(run, "val_error_top5"))
    assert told(run, "loss")[-1] < told(run, "loss")[0]

    pixels = np.asarray(Image.open(run / "curve.png").convert("RGB"))
    for colour in ((65, 105, 225), (220, 20, 60)):  # royalblue: the loss; crimson: the error
        rows, columns = np.nonzero((pixels == colour).all(axis=2))
        assert np.ptp(columns) > 300
        assert np.ptp(rows) > 10


@pytest.mark.slow  # TensorBoard imports TensorFlow
def test_tensorboard_is_told_the_same(trainer: Trainer, tmp_path: Path) -> None:
    """Once, by a run in two parts, too."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    for steps, more in ((2, ()), (4, ("--resume",))):
        flags = ("--tensorboard", "--save-every", 1, "--log-every", 1, *more)
        called(trainer.folder, *trainer.flags(run), "--max-steps", steps, *flags)
    events = EventAccumulator(str(run))
    events.Reload()
    for key in ("loss", "error", "val_error"):
        found = [float(np.ravel(e.tensor_proto.float_val)[0]) for e in events.Tensors(key)]
        assert found == pytest.approx(told(run, key))
    assert [event.step for event in events.Tensors("loss")] == [1, 2, 3, 4]


class Killed(BaseException):
    """Ends a run as SIGKILL would: nothing of the trainers catches it."""


SAVES = ("--max-steps", 2, "--save-every", 1, "--ema", 0.5, "--length", 1, "--schedule", "cosine")


@contextlib.contextmanager
def dying(at: Callable[[str], bool]) -> Iterator[None]:
    """A run dies where `at` says so of a place, such as `replace last.pt`: before that is done."""
    true = {name: getattr(os, name) for name in ("replace", "fsync")}

    def wrapped(name: str) -> Callable[..., object]:
        def call(*given: Any) -> object:
            path = given[1] if name == "replace" else os.readlink(f"/proc/self/fd/{given[0]}")
            if at(f"{name} {Path(path).name}".removesuffix(f".{os.getpid()}")):
                raise Killed
            return true[name](*given)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in true:
            patch.setattr(os, name, wrapped(name))
        yield


def ends(trainer: Trainer, run: Path, at: Callable[[str], bool], *more: str) -> bool:
    """Whether a run ends that dies where `at` says so."""
    with contextlib.suppress(Killed), dying(at):
        called(trainer.folder, *trainer.flags(run), *SAVES, *more)
        return True
    return False


@pytest.fixture
def whole(trainer: Trainer, tmp_path: Path) -> dict[str, Any]:
    """What a run leaves that saves and is never killed."""
    assert ends(trainer, tmp_path / "whole", lambda _: False)
    return contents(tmp_path / "whole")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are read from /proc")
def test_killed_wherever_it_saves_a_run_goes_on(
    trainer: Trainer, whole: dict[str, Any], tmp_path: Path
) -> None:
    """One after the other, each process dies at the first place where none has died before."""
    died: dict[str, None] = {}
    run = tmp_path / "run"

    def at(place: str) -> bool:
        place += " again" * trainer.last(run).exists()
        new = place not in died
        died[place] = None
        return new

    while not ends(trainer, run, at, "--resume"):
        assert len(died) < 30
    assert contents(run) == whole
    files = {path.name for path in run.iterdir() if path.name[0] != "."}
    first = {"metrics.jsonl", trainer.last(run).name}  # written before there is a checkpoint
    places = {f"{does}{name}" for name in first for does in ("fsync .", "replace ")}
    places |= {f"{does}{name} again" for name in files for does in ("fsync .", "replace ")}
    assert set(died) == {*places, "fsync metrics.jsonl again"}


def nth(number: int) -> Callable[[str], bool]:
    """True of the place of this number, counted from 1."""
    places = itertools.count(1)
    return lambda _: next(places) == number


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names of files are read from /proc")
def test_killed_at_each_place_alone_a_run_goes_on(
    trainer: Trainer, whole: dict[str, Any], tmp_path: Path
) -> None:
    """Before each file takes its place, and before each is written out."""
    for number in range(1, 40):
        run = tmp_path / str(number)
        if ends(trainer, run, nth(number)):
            break
        assert ends(trainer, run, lambda _: False, "--resume")
        assert contents(run) == whole, number
    assert 8 < number < 39


@pytest.mark.torch
def test_weights_load_as_libraries_load_them(trainer: Trainer, tmp_path: Path) -> None:
    """In PyTorch the trained and the evaluated ones, in Keras the evaluated ones."""
    called(trainer.folder, *trainer.flags(tmp_path), "--max-steps", 3, "--ema", 0.5)
    means = trainer.state(tmp_path)["ema"]
    network = imported(trainer.folder, "small")
    if trainer.backend == "keras":
        model = network.small(10, (8, 8, 1))
        for name in ("best", "last"):
            model.load_weights(tmp_path / f"{name}.weights.h5")
            assert all(np.array_equal(w, means[w.path]) for w in model.weights)
        return
    import torch
    from safetensors.torch import load_file

    model = network.small()
    model.load_state_dict(torch.load(tmp_path / "last.pt")["model"])
    best = load_file(tmp_path / "best_weights.safetensors")
    model.load_state_dict(best)
    assert all(torch.equal(value, means[name]) for name, value in best.items())


@PYTORCH_USUALLY
@pytest.mark.traced
def test_a_run_goes_on_where_it_stopped(trainer: Trainer, tmp_path: Path) -> None:
    goes_on(trainer.folder, trainer.data, tmp_path)


@pytest.mark.traced
def test_weights_and_statistics_are_averaged(trainer: Trainer, tmp_path: Path) -> None:
    averages(trainer.folder, trainer.data, tmp_path)


def test_a_run_that_has_ended_goes_no_further(trainer: Trainer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trainer.run, run)
    before = trainer.last(run).read_bytes()
    called(trainer.folder, *trainer.flags(run), "--max-steps", 3, "--resume")
    called(trainer.folder, *trainer.flags(run), "--max-steps", 2, "--resume")
    assert trainer.last(run).read_bytes() == before
    assert told(run, "step") == [3, 3]


@pytest.mark.traced
def test_one_batch_is_learned_by_heart(trainer: Trainer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ("--overfit-one-batch", "--max-steps", 60, "--schedule", "constant")
    called(trainer.folder, *trainer.flags(run), *flags)
    losses = told(run, "loss")
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.traced
def test_bf16_is_of_what_is_computed_not_of_what_is_kept(trainer: Trainer, tmp_path: Path) -> None:
    """Weights stay whole; three steps part them by what 8 bits lose, and by no more."""
    folder = compiled(tmp_path, trainer.backend, NO_DROPOUT)  # draws others for other types
    found = {}
    for precision in ("fp32", "bf16"):
        flags = (*trainer.flags(tmp_path / precision), "--precision", precision)
        try:
            called(folder, *flags, "--max-steps", 3)
        finally:
            if trainer.backend == "keras":
                import keras

                keras.mixed_precision.set_global_policy("float32")
        found[precision] = arrays(folder, tmp_path / precision)
    assert found["fp32"].keys() == found["bf16"].keys()
    apart = {}
    for key, whole in found["fp32"].items():
        assert found["bf16"][key].dtype == whole.dtype
        if key.startswith("model|") and whole.ndim > 1:  # not what began at zero
            assert whole.dtype == np.float32
            apart[key] = float(np.abs(found["bf16"][key] - whole).max() / np.abs(whole).max())
    assert len(apart) == 6
    assert 1e-4 < max(apart.values()) < 0.05, apart


def test_a_checkpoint_is_evaluated_as_it_was_in_its_run(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--evaluate", "--weights", trainer.weights(trainer.run), "--batch-size", 65)
    found = []  # also with more in a batch than there are images
    for more in ((), ("--ten-crop",)):
        capsys.readouterr()
        called(trainer.folder, *trainer.flags(tmp_path / "none"), *flags, *more)
        found.append(json.loads(capsys.readouterr().out.replace("'", '"')))
    expected = {key: told(trainer.run, key)[0] for key in found[0]}
    assert found[0] == pytest.approx(expected, abs=1e-6)
    assert found[1]["val_loss"] != pytest.approx(found[0]["val_loss"], abs=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_weights_carry_what_their_evaluation_needs(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also far from their run; where they do not, that is said."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    more = ("--mean", 0.9, "--std", 0.1, "--resize", 12)
    called(trainer.folder, *trainer.flags(run), "--max-steps", 3, *more)
    best = {"torch": "best_weights.safetensors", "keras": "best.weights.h5"}[trainer.backend]
    moved.mkdir()
    shutil.copy(run / best, moved)
    flags = (*trainer.flags(tmp_path / "none"), "--evaluate", "--weights", moved / best)
    capsys.readouterr()
    called(trainer.folder, *flags)
    found = capsys.readouterr()
    expected = trainers.told(run)[-1]["val_loss"]
    assert json.loads(found.out)["val_loss"] == pytest.approx(expected, rel=1e-6)
    assert "has no recipe" not in found.err
    if trainer.backend == "torch":
        from safetensors.torch import load_file, save_file

        save_file(load_file(moved / best), moved / best)
    else:
        import h5py

        with h5py.File(moved / best, "r+") as file:
            assert json.loads(file["recipe"].asstr()[()])["resize"] == 12
            del file["recipe"]
    called(trainer.folder, *flags)
    found = capsys.readouterr()
    assert json.loads(found.out)["val_loss"] != pytest.approx(expected, rel=1e-3)
    assert f"{moved / best} has no recipe: mean, std, crop and resize are those of" in found.err


@pytest.mark.parametrize("recipe", ["no JSON", "[" * 100_000, '{"mean": "x"}', '{"crop": 3}'])
def test_a_wrong_recipe_of_weights_is_told(trainer: Trainer, tmp_path: Path, recipe: str) -> None:
    best = {"torch": "best_weights.safetensors", "keras": "best.weights.h5"}[trainer.backend]
    path = shutil.copy(trainer.run / best, tmp_path / best)
    if trainer.backend == "torch":
        from safetensors.torch import load_file, save_file

        save_file(load_file(path), path, {"recipe": recipe})
    else:
        import h5py

        with h5py.File(path, "r+") as file:
            del file["recipe"]
            file["recipe"] = recipe
    message = problem(trainer.folder, *trainer.flags(tmp_path), "--evaluate", "--weights", path)
    assert message.startswith(f"{path}: not weights with a recipe: ")


def test_classes_keep_their_names(trainer: Trainer, tmp_path: Path) -> None:
    """A run does not go on with others, nor are its weights evaluated with them."""
    small = ("--mean", 0.5, "--std", 0.25, "--batch-size", 4, "--out", tmp_path / "run")
    data = write_folder(tmp_path / "data", ("cat", "dog"))
    called(trainer.folder, "--data", data, *small, "--max-steps", 1)
    other = write_folder(tmp_path / "other", ("cat", "ape"))
    told = "--data: class 0 was 'cat' in training and is 'ape'; give data with the same classes"
    go_on = ("--data", other, *small)
    assert problem(trainer.folder, *go_on, "--resume", "--max-steps", 2) == told
    for path in (tmp_path / "run").glob("best*"):
        assert problem(trainer.folder, *go_on, "--evaluate", "--weights", path) == told


def test_fine_tuning_leaves_frozen_parts_alone(trainer: Trainer, tmp_path: Path) -> None:
    """Statistics, too: every array of the network is compared."""
    data = write_folder(tmp_path / "data", ("cat", "dog"))
    weights = (
        "--weights",
        trainer.weights(trainer.run),
        "--reset-head",
        "--freeze-until",
        "layer2",
    )
    small = ("--mean", 0.5, "--std", 0.25, "--batch-size", 4, "--max-steps", 4)
    called(trainer.folder, "--data", data, "--out", tmp_path / "run", *weights, *small)
    first, second = (trainer.state(out)["model"] for out in (trainer.run, tmp_path / "run"))
    assert first.keys() == second.keys()
    changed = {
        name.replace("_", ".").replace("/", ".").partition(".")[0]
        for name in first
        if first[name].shape != second[name].shape or (first[name] != second[name]).any()
    }
    assert changed == {"layer2", "fc"}


def write_folder(root: Path, classes: tuple[str, ...], size: int = 8) -> Path:
    """Image folders of four images in each class."""
    from PIL import Image

    for part in ("train", "val"):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for index in range(4):
                pixels = np.full((size, size), 100 * label + index, np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


@PYTORCH_USUALLY
def test_a_network_may_be_called_as_a_module_is(trainer: Trainer, tmp_path: Path) -> None:
    """It hides none from the trainer, which finds it all the same; a spec may not be called so."""
    folder = compiled(tmp_path, trainer.backend)
    for name in ("py", "toml"):
        text = (folder / f"small.{name}").read_text()
        (folder / f"json.{name}").write_text(text.replace("small", "json"))
        (folder / f"small.{name}").unlink()
    words = command(folder, *trainer.flags(tmp_path / "run"), "--max-steps", 1)
    words[words.index("small")] = "json"
    trained(words)
    assert told(tmp_path / "run", "step") == [1, 1]


@PYTORCH_USUALLY
def test_it_runs_from_a_package(trainer: Trainer, tmp_path: Path) -> None:
    """Where others are called as its files are."""
    shutil.copytree(compiled(tmp_path, trainer.backend), tmp_path / "models")
    (tmp_path / "models" / "__init__.py").write_text("")
    for name in trainers.MODULES:
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    words = [sys.executable, "-m", "models.train", "small", "--workers", "1", "--max-steps", "1"]
    data = write_folder(tmp_path / "images", ("cat", "dog"))
    flags = ("--data", data, "--out", tmp_path / "run", "--mean", 0.5, "--std", 0.5)
    environment = {**trainers.environment(), "PYTHONPATH": ""}
    done = subprocess.run(
        [*words, *map(str, flags), "--batch-size", "4"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert told(tmp_path / "run", "step") == [1, 1]


def test_the_mean_of_several_is_evaluated(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one with itself it is that one; of others it is between; classes are counted."""
    called(trainer.folder, *trainer.flags(tmp_path / "other"), "--max-steps", 5, "--seed", 1)
    one, other = trainer.weights(trainer.run), trainer.weights(tmp_path / "other")
    found, table = [], tmp_path / "classes.csv"
    for weights in ((one,), (one, one), (one, other), (other,)):
        capsys.readouterr()
        flags = ("--evaluate", "--confusion", table, "--weights", *weights)
        called(trainer.folder, *trainer.flags(tmp_path / "none"), *flags)
        found.append(json.loads(capsys.readouterr().out))
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    losses = [each["val_loss"] for each in found]
    assert losses[2] < (losses[0] + losses[3]) / 2  # as the logarithm of a mean is
    assert losses[2] not in (losses[0], losses[3])
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[0] == ["class", "accuracy", *map(str, range(10))]
    counts = np.array([row[2:] for row in rows[1:]], int)
    assert list(counts.sum(axis=1)) == [3, 3, 3, 3, 2, 2, 2, 2, 2, 2]
    assert 1 - counts.trace() / 24 == pytest.approx(found[3]["val_error"])
    right = counts.diagonal() / counts.sum(axis=1)
    assert [float(row[1]) for row in rows[1:]] == pytest.approx(right, abs=1e-6)


@pytest.mark.traced
def test_it_ends_where_it_gets_no_better(trainer: Trainer, tmp_path: Path) -> None:
    """After so many evaluations, and when it goes on, at once."""
    flags = (*trainer.flags(tmp_path), "--learning-rate", 0, "--patience", 2)
    called(trainer.folder, *flags)
    assert sorted(set(told(tmp_path, "step"))) == [8, 10, 16, 20, 24]
    assert trainer.state(tmp_path)["worse"] == 2
    called(trainer.folder, *flags, "--resume")
    assert max(told(tmp_path, "step")) == 24


@pytest.mark.traced
def test_a_batch_may_be_one_image(trainer: Trainer, tmp_path: Path) -> None:
    """Mirrored or not; in PyTorch, batch norm needs more than one pixel then."""
    one = ("--batch-size", 1, "--max-steps", 6)
    called(trainer.folder, *trainer.flags(tmp_path / "run"), *one)
    assert told(tmp_path / "run", "step") == [6, 6]
    if trainer.backend == "torch":
        data = write_idx(tmp_path / "pixels", size=1)
        message = problem(trainer.folder, "--data", data, "--out", tmp_path / "one", *one)
        assert message.startswith("--batch-size is too small: Expected more than 1 value")


def test_averages_follow_now_and_then_and_from_the_warm_up_on(
    trainer: Trainer, tmp_path: Path
) -> None:
    flags = (*trainer.flags(tmp_path), "--ema", 0.5, "--ema-steps", 2, "--unit", "steps")
    more = ("--length", 9, "--warmup", 2, "--warmup-start", 0.5, "--schedule", "cosine")
    states = []
    for step in range(1, 5):
        called(trainer.folder, *flags, *more, "--max-steps", step, "--resume")
        state = trainer.state(tmp_path)
        name = {"torch": "fc.weight", "keras": "fc/kernel"}[trainer.backend]
        states.append([np.asarray(state[group][name]) for group in ("model", "ema")])
    begun, copied, stays, follows = states[0][1], states[1], states[2], states[3]
    assert not np.array_equal(begun, states[0][0])
    assert copied[1] == pytest.approx(copied[0], abs=1e-7)
    assert np.array_equal(stays[1], copied[1])
    assert follows[1] == pytest.approx((copied[1] + follows[0]) / 2, abs=1e-6)


def is_bias(group: Any) -> bool:
    """Whether it is the bias of the head."""
    return getattr(group, "shape", None) == (10,)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1j, 1e300, 3])
def test_weights_that_are_no_numbers_are_refused(
    trainer: Trainer, tmp_path: Path, wrong: complex
) -> None:
    """In PyTorch and in HDF5, which Keras reads; also where Python shows no warnings.

    Nor are integers, such as those of quantised weights.
    """
    path = tmp_path / trainer.weights(trainer.run).name
    shutil.copy(trainer.weights(trainer.run), path)
    if trainer.backend == "torch":
        import torch

        saved = torch.load(path)
        kind = {1j: torch.complex64, 1e300: torch.float64, 3: torch.int8}.get(wrong, torch.float32)
        bias = saved["model"]["fc.bias"].to(kind)
        bias[0] = wrong
        torch.save({"model": {**saved["model"], "fc.bias": bias}}, path)
    else:
        import h5py

        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visititems(lambda name, each: names.append(name) if is_bias(each) else None)
            kind = {1j: np.complex64, 1e300: np.float64, 3: np.int8}.get(wrong, np.float32)
            bias = file[names[0]][:].astype(kind)
            bias[0] = wrong
            del file[names[0]]
            file[names[0]] = bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        message = problem(trainer.folder, *trainer.flags(tmp_path / "run"), "--weights", path)
    assert path.name in message
    expected = {1j: r"imaginary|complex", 3: "int8, not (torch.)?float"}
    assert re.search(expected.get(wrong, "no finite number"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("form", ["nothing", "numbers", "no recipe", "other shapes", "nested"])
def test_a_checkpoint_of_another_form_is_told(trainer: Trainer, tmp_path: Path, form: str) -> None:
    last = trainer.last(tmp_path / "run")
    shutil.copytree(trainer.run, tmp_path / "run")
    state: Any = {"nothing": {}, "numbers": 5, "no recipe": {"step": 1, "recipe": 3}}.get(form)
    if trainer.backend == "torch":
        import torch

        if form == "other shapes":
            state = torch.load(last)
            state["model"]["fc.bias"] = torch.zeros(3)
        torch.save(state, last)
    elif form == "other shapes":
        with np.load(last) as file:
            np.savez(last, **{**file, "model|fc/bias": np.zeros(3)})
    else:
        text = "[" * 100_000 if form == "nested" else json.dumps(state)
        np.savez(last, state=np.array(text))
    before = last.read_bytes()
    message = problem(trainer.folder, *trainer.flags(tmp_path / "run"), "--resume")
    assert str(last) in message
    assert "checkpoint" in message or "cannot be read" in message or "holds no" in message
    assert last.read_bytes() == before


# --- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_step_and_saves(
    trainer: Trainer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    """Resumed, the run leaves what one does that never stopped: no line of the metrics more."""
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        called(trainer.folder, *trainer.flags(run), change=signals(number, 5))
    assert stopped.value.code == 128 + number
    assert "stopped after step 5; go on with --resume" in capsys.readouterr().err
    assert trainer.state(run)["step"] == 5
    called(trainer.folder, *trainer.flags(run), "--resume", "--max-steps", 6)
    called(trainer.folder, *trainer.flags(tmp_path / "whole"), "--max-steps", 6)
    assert contents(run) == contents(tmp_path / "whole")


def test_a_second_signal_ends_at_once(trainer: Trainer, tmp_path: Path) -> None:
    def twice(train: ModuleType) -> None:
        signals(signal.SIGINT, 5)(train)
        signals(signal.SIGINT, 5)(train)

    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        called(trainer.folder, *trainer.flags(run), change=twice)
    assert stopped.value.code == 128 + signal.SIGINT
    assert trainer.state(run)["step"] == 0


def test_diverged_training_stops_and_keeps_its_checkpoint(trainer: Trainer, tmp_path: Path) -> None:
    flags = (*trainer.flags(tmp_path / "run"), "--learning-rate", 1000, "--weight-decay", 1)
    called(trainer.folder, *flags, "--max-steps", 1)
    before = trainer.last(tmp_path / "run").read_bytes()
    assert "the last checkpoint stays" in problem(trainer.folder, *flags, "--resume")
    assert trainer.last(tmp_path / "run").read_bytes() == before


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may become larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("trainer", "size", "file"),
    [
        pytest.param("torch", 10, "metrics.jsonl", marks=pytest.mark.torch),
        pytest.param("torch", 5_000, "best", marks=pytest.mark.torch),
        pytest.param("keras", 5_000, "best", marks=pytest.mark.keras),
        # The log is the same text in both.
        pytest.param("keras", 10, "metrics.jsonl", marks=[pytest.mark.keras, pytest.mark.slow]),
    ],
    indirect=["trainer"],
)
def test_a_full_disk_loses_nothing(
    trainer: Trainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    file: str,
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # pytest's is a file
    run = tmp_path / "run"
    shutil.copytree(trainer.run, run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.stem != "metrics"}
    with file_size_limit(size):
        message = problem(trainer.folder, *trainer.flags(run), "--resume", "--max-steps", 5)
    assert message.startswith(f"cannot write {run / file}")
    assert "File too large" in message
    assert message.endswith("; what was there before stays")
    after = {path.name: path.read_bytes() for path in run.iterdir() if path.stem != "metrics"}
    assert after == before
    called(trainer.folder, *trainer.flags(run), "--resume", "--max-steps", 5)
    assert trainer.state(run)["step"] == 5


def test_a_run_that_lost_its_checkpoint_is_left_alone(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And one that has not begun says that it does."""
    flags = (*trainer.flags(tmp_path / "run"), "--max-steps", 3, "--resume")
    called(trainer.folder, *flags)
    assert f"{tmp_path / 'run'}: no step to go on from; starts at 0\n" in capsys.readouterr().err
    trainer.last(tmp_path / "run").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    lacks = f"holds a run: it lacks {trainer.last(tmp_path).name}; give another --out"
    assert problem(trainer.folder, *flags) == f"{tmp_path / 'run'} {lacks}"
    for path in before:
        if path.name != "metrics.jsonl":
            path.unlink()
    assert problem(trainer.folder, *flags) == f"{tmp_path / 'run'} {lacks}"
    assert all(path.read_bytes() == before[path] for path in (tmp_path / "run").iterdir())


def test_two_runs_do_not_share_a_folder(trainer: Trainer, tmp_path: Path) -> None:
    """Whether the second is new or goes on; another process holds the folder."""
    run = tmp_path / "run"
    shutil.copytree(trainer.run, run)
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; print(flush=True); input()", str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    before = {path: path.read_bytes() for path in run.iterdir()}
    message = problem(trainer.folder, *trainer.flags(run), "--resume", "--max-steps", 5)
    assert message == f"{run}: another process trains there; give another --out"
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    holder.kill()
    holder.communicate()
    called(trainer.folder, *trainer.flags(run), "--resume", "--max-steps", 5)


def test_a_run_says_why_it_ends(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ("--learning-rate", 0, "--patience", 1)
    for flags, why in (
        (("--max-steps", 3), "stopped after step 3; the last is 3"),
        (still, "stopped after step 16: 1 evaluations without improvement (--patience)"),
    ):
        for _ in range(2):  # also when there is nothing to go on with
            called(trainer.folder, *trainer.flags(tmp_path / why[19:21]), "--resume", *flags)
            assert capsys.readouterr().err.endswith(f"\n{why}\n")


@pytest.mark.parametrize(("key", "value"), [("step", 3.7), ("best", "x"), ("worse", -1)])
def test_a_checkpoint_of_other_values_is_told(
    trainer: Trainer, tmp_path: Path, key: str, value: object
) -> None:
    last = trainer.last(tmp_path / "run")
    shutil.copytree(trainer.run, tmp_path / "run")
    state = trainer.state(trainer.run)
    if trainer.backend == "torch":
        import torch

        torch.save({**state, key: value}, last)
    else:
        with np.load(last) as file:
            changed = {**json.loads(str(file["state"])), key: value}
            np.savez(last, **{**file, "state": np.array(json.dumps(changed))})
    message = problem(trainer.folder, *trainer.flags(tmp_path / "run"), "--resume")
    assert message == f"{last}: not a checkpoint of this trainer: {key} is {value!r}"


def test_what_cannot_be_written_is_told(trainer: Trainer, tmp_path: Path) -> None:
    """Where nothing can be removed either: the folder is none."""
    sources = imported(trainer.folder, "sources")
    (tmp_path / "file").touch()
    with pytest.raises(sources.Problem, match="file/x: Not a directory; what was there before"):
        sources.write_whole(tmp_path / "file" / "x", b"")


@pytest.mark.parametrize(
    ("trainer", "name", "value", "message"),
    [
        pytest.param("torch", "WORLD_SIZE", "abc", "WORLD_SIZE, RANK, LOCAL_RANK: not numbers, as",
                     marks=[pytest.mark.torch, pytest.mark.slow]),
        pytest.param("torch", "WORLD_SIZE", "2", "WORLD_SIZE: not as torchrun sets it: ",
                     marks=[pytest.mark.torch, pytest.mark.slow]),
        pytest.param("torch", "LOCAL_WORLD_SIZE", "a", "LOCAL_WORLD_SIZE: not a number of ",
                     marks=[pytest.mark.torch, pytest.mark.slow]),
        pytest.param("keras", "KERAS_BACKEND", "foo", "cannot import Keras: Unable to import ",
                     marks=[pytest.mark.keras, pytest.mark.slow]),
    ],
    indirect=["trainer"],
)  # fmt: skip
def test_an_environment_that_is_wrong_is_told(
    trainer: Trainer, tmp_path: Path, name: str, value: str, message: str
) -> None:
    done = subprocess.run(
        command(trainer.folder, *trainer.flags(tmp_path / "run")),
        env={**trainers.environment(), name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"train.py: {message}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("trainer", "name", "message"),
    [
        pytest.param("torch", "WORLD_SIZE", "WORLD_SIZE, RANK, LOCAL_RANK: not numbers, as torch",
                     marks=pytest.mark.torch),
        pytest.param("torch", "LOCAL_WORLD_SIZE", "LOCAL_WORLD_SIZE: not a number of processes: ",
                     marks=pytest.mark.torch),
    ],
    indirect=["trainer"],
)  # fmt: skip
def test_numbers_of_processes_that_are_none_are_told(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    """As above, within this process."""
    monkeypatch.setenv(name, "abc")
    assert problem(trainer.folder, *trainer.flags(tmp_path / "run")).startswith(message)


def test_metrics_that_were_cut_off_are_mended(trainer: Trainer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trainer.run, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    called(trainer.folder, *trainer.flags(run), "--resume", "--max-steps", 5)
    assert told(run, "step") == [3, 3, 5, 5]


# --- what it says --------------------------------------------------------------------------------


def test_what_does_not_fit_is_told(trainer: Trainer, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trainer.run.iterdir()}
    new, junk = trainer.flags(tmp_path / "new"), tmp_path / f"junk.{trainer.junk}"
    junk.write_bytes(b"junk")
    weights = trainer.weights(trainer.run)
    for flags, message in (
        (trainer.flags(trainer.run), "holds a run: go on with --resume"),
        ((*new, "--weights", junk), f"{junk}: not "),
        ((*new, "--weights", tmp_path / "none.x"), "none.x: not "),
        ((*new, "--evaluate"), "--evaluate needs --weights"),
        ((*new, "--confusion", tmp_path / "x.csv"), "--confusion needs --evaluate"),
        ((*new, "--reset-head"), "--reset-head needs --weights"),
        ((*new, "--freeze-until", "layer9"), "--freeze-until: not possible: there is no "),
        ((*new, "--accumulate", 3), "a batch of 8 cannot be dealt out evenly in 3 parts"),
        ((*new, "--warmup", 40), "leaves nothing of --length"),
        ((*new, "--schedule", "step", "--milestones"), "step needs --milestones"),
        ((*new, "--momentum", 0, "--nesterov"), "--nesterov needs --momentum"),
        ((*new, "--scales", 9, 8), "two rising sizes, not [9, 8]"),
        ((*new, "--mean", 0.5, "--std", 0), "--std: no channel can have a deviation of 0"),
        ((*new, "--mean", 0, 0, 0, "--std", 1, 1, 1), "--mean: 3 values for 1 channels"),
        ((*new, "--batch-size", 65), "64 training images do not fill a batch of 65"),
        (trainer.flags(junk / "run"), "not a folder to write to"),
        (("--data", tmp_path / "none"), "there is no folder"),
        (("--data", ""), "--data is empty"),
    ):
        assert message in problem(trainer.folder, *flags)
    for more in ((), ("--reset-head",)):
        message = problem(trainer.other, *new, "--weights", weights, *more)
        assert ": not weights of this network: " in message
        assert "try --reset-head" not in message  # which would not help
    two = ("--data", write_folder(tmp_path / "two", ("a", "b")), "--batch-size", 4)
    more = ("--mean", 0.5, "--std", 0.5, "--out", tmp_path / "new", "--weights", weights)
    message = problem(trainer.folder, *two, *more)
    assert message.endswith(
        ": not weights of this network: fc is for other classes; try --reset-head"
    )
    assert {path: path.read_bytes() for path in trainer.run.iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_nothing_of_another_run_is_lost(trainer: Trainer, tmp_path: Path) -> None:
    """Of the other framework, of other programs, and of a run that has no checkpoint yet."""
    foreign = {"torch": "last.npz", "keras": "last.pt"}[trainer.backend]
    for name, more in (
        ("metrics.jsonl", ()),
        ("best.pt", ()),
        ("events.out.tfevents.1.host", ()),
        (foreign, ("--resume",)),
    ):
        run = tmp_path / name
        run.mkdir()
        (run / name).write_text("mine")
        message = problem(trainer.folder, *trainer.flags(run), "--max-steps", 1, *more)
        assert message.startswith(f"{run} holds a run: ") and "give another --out" in message
        assert [path.read_text() for path in run.iterdir()] == ["mine"]
    (tmp_path / "file").touch()
    wrong = problem(trainer.folder, *trainer.flags(tmp_path / "file"))
    assert "file: not a folder to write to: " in wrong
    run = tmp_path / "events"
    shutil.copytree(trainer.run, run)
    (run / "events.out.tfevents.1.host").write_text("mine")
    called(trainer.folder, *trainer.flags(run), "--max-steps", 3, "--resume")
    assert (run / "events.out.tfevents.1.host").read_text() == "mine"


def test_a_log_that_is_none_is_told(trainer: Trainer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trainer.run, run)
    (run / "metrics.jsonl").write_text("no log\n")
    message = problem(trainer.folder, *trainer.flags(run), "--resume", "--max-steps", 5)
    wrong = f"{run / 'metrics.jsonl'}: not a log of this trainer; --resume works without it: "
    assert message.startswith(wrong)


def test_flags_of_an_evaluation_come_first(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before what the run was trained with; runs that differ are not mixed up."""
    flags = (*trainer.flags(tmp_path / "none"), "--evaluate", "--weights")
    found = []
    for more in ((), ("--mean", 0.9, "--std", 0.1)):
        capsys.readouterr()
        called(trainer.folder, *flags, trainer.weights(trainer.run), *more)
        found.append(json.loads(capsys.readouterr().out)["val_loss"])
    assert found[0] != pytest.approx(found[1], rel=1e-3)
    other = tmp_path / "other"
    called(trainer.folder, *trainer.flags(other), "--max-steps", 1, "--mean", 0.9, "--std", 0.1)
    both = (trainer.weights(trainer.run), trainer.weights(other))
    assert "different means: give --mean" in problem(trainer.folder, *flags, *both)
    table = tmp_path / "last.pt"
    wrong = problem(trainer.folder, *flags, both[0], "--confusion", table)
    assert "is no .csv file in a folder that exists" in wrong


def test_an_epoch_of_one_batch_is_as_long_as_one_of_all(trainer: Trainer, tmp_path: Path) -> None:
    called(trainer.folder, *trainer.flags(tmp_path), "--overfit-one-batch", "--max-steps", 12)
    assert told(tmp_path, "rate") == [0.1, 0.1]  # ten of 40 epochs are not over
    assert max(told(tmp_path, "step")) == 12


def test_a_module_of_the_same_name_is_told(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("")
    done = subprocess.run(
        command(trainer.folder, *trainer.flags(tmp_path / "run")),
        env={**trainers.environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    hidden = f"{tmp_path / 'data.py'} hides {trainer.folder / 'data.py'}; run with -m"
    assert (done.returncode, done.stderr) == (1, f"train.py: {hidden}\n")


def test_another_run_is_not_gone_on_with(trainer: Trainer, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trainer.run.iterdir()}
    go_on = (*trainer.flags(trainer.run), "--resume")
    folder = write_folder(tmp_path / "data", ("cat", "dog"))
    for flags, message in (
        ((*go_on, "--momentum", 0.5), "was trained with momentum 0.9, not 0.5"),
        ((*go_on, "--seed", 1), "was trained with seed 0, not 1"),
        ((*go_on, "--freeze-until", "fc"), "was trained with freeze_until None, not fc"),
        (
            (*go_on, "--data", folder, "--mean", 0.5, "--std", 0.5),
            "was trained with classes 10, not 2",
        ),
    ):
        assert message in problem(trainer.folder, *flags)
    twin = f"twin_{trainer.backend}"
    for name in ("py", "toml"):
        text = (trainer.folder / f"small.{name}").read_text()
        (trainer.folder / f"{twin}.{name}").write_text(text.replace("small", twin))
    with pytest.raises(SystemExit, match=f"was trained with network small, not {twin}"):
        called(trainer.folder, *go_on, change=lambda _: sys.argv.__setitem__(1, twin))
    assert {path: path.read_bytes() for path in trainer.run.iterdir()} == before


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_broken_image_is_told_when_its_turn_comes(
    trainer: Trainer, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_folder(tmp_path / "data", ("cat", "dog"))

    def spoiled(train: ModuleType) -> None:
        prepare = train.data.prepare

        def prepared(*arguments: Any) -> Any:
            found = prepare(*arguments)
            (data / "train/cat/2.png").write_bytes(b"no image")
            return found

        monkeypatch.setattr(train.data, "prepare", prepared)

    flags = ("--data", data, "--out", tmp_path / "run", "--workers", workers)
    more = ("--mean", 0.5, "--std", 0.25, "--batch-size", 4)
    with pytest.raises(SystemExit) as stopped:
        called(trainer.folder, *flags, *more, change=spoiled)
    message = str(stopped.value.code)
    assert message.startswith(f"train.py: {data}/train/cat/2.png: not an image that can be read")
    assert "\n" not in message
