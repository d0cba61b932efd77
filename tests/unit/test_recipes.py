"""The `training` section: what it comes to, and the files that it adds beside a network."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from resnet_spec import cli
from resnet_spec.codegen import header
from resnet_spec.codegen.generate import find_backend
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.language.syntax import Recipe

NET = """\
spec_version: 1
name: net
description: A net
input: {channels: 3, height: 32, width: 32}
stages:
  - {name: layer1, block: basic, filters: 8}
head: [global_avg_pool, {linear: fc, features: classes}]
training: {recipe: cifar_paper, length: 50000}
"""


def trainer_of(backend: str) -> tuple[str, ...]:
    """The files of a backend's trainer."""
    files: tuple[str, ...] = find_backend(backend).trainer
    return files


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a spec that says how it is trained, for the true backends."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    return tmp_path


def test_the_recipe_stands_beside_the_network(trained: Path) -> None:
    assert cli.main(["compile", "net.yaml", "--backend", "torch", "--trainer", "--quiet"]) == 0
    text = (trained / "generated/torch/net.toml").read_text()
    recipe = tomllib.loads(text)
    assert (recipe["length"], recipe["milestones"]) == (50_000, [32_000, 48_000])
    assert (recipe["mean"], recipe["flip"], recipe["input"]) == ([], True, [3, 32, 32])
    assert header.status(text) == "intact"


def test_the_recipe_is_checked_and_orphaned(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "resnet-spec.toml").write_text(
        '[[compile]]\nspecs = ["net.yaml"]\nbackends = ["torch"]\ntrainer = true\n'
    )
    assert cli.main(["compile", "--quiet"]) == 0
    model = (trained / "generated/torch/net.py").read_bytes()
    spec = trained / "net.yaml"

    spec.write_text(spec.read_text().replace("length: 50000", "length: 50001"))
    capsys.readouterr()
    assert cli.main(["compile", "--check"]) == 1
    assert capsys.readouterr().err.startswith("out of date: generated/torch/net.toml\n1 out of")

    assert cli.main(["compile", "--quiet"]) == 0
    with (trained / "generated/torch/train.py").open("a") as file:
        file.write("# mine\n")
    assert cli.main(["compile", "--check"]) == 1
    assert "edited by hand: generated/torch/train.py\n" in capsys.readouterr().err

    spec.write_text(spec.read_text().split("training:")[0])
    capsys.readouterr()
    assert cli.main(["compile", "--check"]) == 1
    assert "RS102: a trainer needs a recipe" in capsys.readouterr().err
    settings = trained / "resnet-spec.toml"
    settings.write_text(settings.read_text().replace("trainer = true", "trainer = false"))
    assert cli.main(["compile", "--check"]) == 1
    assert "orphaned: generated/torch/net.toml\n" in capsys.readouterr().err
    assert (trained / "generated/torch/net.py").read_bytes() == model


def test_one_file_where_one_is_asked_for(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compile", "net.yaml", "--backend", "torch"]) == 0
    assert capsys.readouterr().out == "wrote generated/torch/net.py\n"
    assert [path.name for path in (trained / "generated").rglob("*.*")] == ["net.py"]


def test_stdout_prints_the_network_alone(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compile", "net.yaml", "--backend", "torch", "--stdout"]) == 0
    assert capsys.readouterr().out.count("body-sha256") == 1


def test_training_is_inherited_changed_and_dropped(tmp_path: Path) -> None:
    def recipe(text: str, *settings: str) -> Recipe | None:
        spec = f"name: mine\ndescription: Mine\nextends: resnet110\n{text}\n"
        return load(str(tmp_path / "mine.yaml"), Library(), settings, spec.encode()).recipe

    whole = recipe("")
    assert whole and (whole.settings["warmup"], whole.settings["batch_size"]) == (400, 128)
    changed = recipe("training: {batch_size: 64}", "training.momentum=0.5")
    assert changed and changed.settings == {**whole.settings, "batch_size": 64, "momentum": 0.5}
    other = recipe("training: {recipe: imagenet_paper}")
    assert other and (other.name, other.settings["warmup"]) == ("imagenet_paper", 0)
    assert recipe("training: fashion_mnist", "training.ema=0.5") is not None
    assert recipe("training: none") is None


def test_texts_of_a_recipe_stay_in_their_comment(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "recipes").mkdir()
    (trained / "recipes" / "hostile.yaml").write_text(
        'name: hostile\ndescription: "one\\nlength = 7\\r[x]\\u2028\\"\\"\\" two"\n'
        'source: "https://x\\n[evil]"\nlength: 3\n'
    )
    spec = trained / "net.yaml"
    spec.write_text(spec.read_text().replace("{recipe: cifar_paper, length: 50000}", "hostile"))
    assert cli.main(["compile", "net.yaml", "--backend", "torch", "--trainer"]) == 0, (
        capsys.readouterr().err
    )
    recipe = tomllib.loads((trained / "generated/torch/net.toml").read_text(encoding="utf-8"))
    assert (recipe["length"], "x" in recipe, "evil" in recipe) == (3, False, False)


def test_floats_are_read_back_as_they_were(trained: Path) -> None:
    spec = trained / "net.yaml"
    text = spec.read_text().replace("length: 50000", "length: 50000, epsilon: 1e-20, ema: 0")
    spec.write_text(text)
    assert cli.main(["compile", "net.yaml", "--backend", "torch", "--trainer", "--quiet"]) == 0
    recipe = tomllib.loads((trained / "generated/torch/net.toml").read_text())
    assert (recipe["epsilon"], recipe["weight_decay"]) == (1e-20, 1e-4)
    assert isinstance(recipe["ema"], float)


@pytest.mark.parametrize(
    "name", sorted({Path(file).stem for each in ("torch", "keras") for file in trainer_of(each)})
)
def test_no_network_takes_the_place_of_the_trainer(
    trained: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "net.yaml").write_text(NET.replace("name: net\n", f"name: {name}\n"))
    assert cli.main(["check", "net.yaml"]) == 1
    assert f"error RS106: a network called '{name}'" in capsys.readouterr().out
