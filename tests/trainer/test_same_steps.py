"""Same recipe, same steps: both trainers take the same weights to the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trainer_checks import RECIPES, TEXT, same_run, same_steps, write_root
from trainers import called, imported, untraced

from resnet_spec import cli

pytestmark = [pytest.mark.torch, pytest.mark.keras]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("same"))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_both_trainers_take_the_same_steps(root: Path, name: str, parts: int) -> None:
    same_steps(root, name, parts)


def test_both_trainers_make_the_same_run(root: Path, tmp_path: Path) -> None:
    same_run(root, tmp_path / "out")


@pytest.mark.parametrize("first", ["keras", "torch"])
def test_trained_weights_travel_and_come_back(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    """By the verb `weights`: each image is named as before, in either framework."""
    (tmp_path / "small.yaml").write_text(TEXT)
    other = {"keras": "torch", "torch": "keras"}[first]
    suffixes = {"keras": "weights.h5", "torch": "safetensors"}
    own = {"keras": "best.weights.h5", "torch": "best_weights.safetensors"}[first]
    files = {first: tmp_path / "run" / own}
    with untraced():
        flags = ("--data", root / "idx", "--out", tmp_path / "run")
        called(root / first, *flags, "--max-steps", 16, "--ema", 0.5)
        expected = evaluated(root / first, files[first], capsys)
        for one, to, name in ((first, other, "there"), (other, first, "back")):
            files[to] = tmp_path / f"{name}.{suffixes[to]}"
            words = ("convert", files[one], tmp_path / "small.yaml", "--out", files[to])
            assert cli.main(["weights", *map(str, words)]) == 0
            assert evaluated(root / to, files[to], capsys) == expected


def evaluated(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> tuple[float, str]:
    """The error of weights on the images to evaluate, and how often what is named as what."""
    table = weights.with_suffix(".csv")
    capsys.readouterr()
    flags = ("--data", folder.parent / "idx", "--weights", weights, "--evaluate")
    called(folder, *flags, "--confusion", table)
    error = json.loads(capsys.readouterr().out)["val_error"]
    assert 0 < error < 1
    return error, table.read_text()


def test_the_shared_files_are_the_same(root: Path) -> None:
    """Recipe, schedule and images are one text in both folders."""
    for name in ("common.py", "data.py", "recipes.py", "sources.py"):
        bodies = [
            (root / backend / name).read_text().split('"""', 1)[1] for backend in ("torch", "keras")
        ]
        assert bodies[0] == bodies[1]


def test_no_file_is_longer_than_it_may_be(root: Path) -> None:
    for path in root.rglob("*.py"):
        assert len(path.read_text().splitlines()) < 350, path


def commands() -> list[list[str]]:
    """The command lines of docs/training.md that start a trainer: its folder and its words.

    Those of its table of runs are tested with their records.
    """
    page = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    found = [line for line in page.splitlines() if "/train.py " in line and line[0] != "|"]
    lines = [line.split() for line in found]
    return [line[next(i for i, w in enumerate(line) if "/train.py" in w) :] for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_of_the_page_are_understood(words: list[str]) -> None:
    folder = Path(__file__).parents[2] / "generated" / Path(words[0]).parent.name
    train = imported(folder, "train")
    name = "resnet50"  # the only recipes in the repository's output are the paper networks'
    args = sys.modules["common"].parse([name, *words[2:]], "", train.FLAGS)
    assert args.data
    assert args.recipe["batch_size"] == 256


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="dataset-fashion-mnist"
)
@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_the_newcomers_path(tmp_path: Path, backend: str) -> None:
    out = str(tmp_path / "generated")
    assert cli.main(["compile", "resnet20", "--backend", backend, "--trainer", "--out", out]) == 0
    flags = ("--data", "fashion-mnist", "--max-steps", "200", "--out", str(tmp_path / "run"))
    program = [sys.executable, f"{out}/{backend}/train.py", "resnet20", *flags]
    assert subprocess.run(program, check=False).returncode == 0
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    losses = [line["loss"] for line in told if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
