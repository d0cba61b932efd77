"""The flags of the trainers: the keys of a recipe, within the bounds of the language."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from trainers import compiled, imported

from resnet_spec.language.keys import TrainingKeys

pytestmark = pytest.mark.torch  # pillow and tqdm come with the frameworks

FIELDS = TrainingKeys.model_fields
CHOICES = (
    "unit",
    "optimizer",
    "schedule",
    "warmup_shape",
    "crop",
    "no_decay",
    "class_weights",
    "augment",
)
SWITCHES = ("nesterov", "flip")
SEVERAL = {"milestones": 1, "scales": 2, "mean": 1, "std": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("compiled"), "torch")


@pytest.fixture
def flags(folder: Path) -> ModuleType:
    return imported(folder, "common")


def parsed(flags: ModuleType, *words: str) -> dict[str, Any]:
    recipe: dict[str, Any] = flags.parse(["small", *words], "", {}).recipe
    return recipe


def test_every_key_is_a_flag(flags: ModuleType) -> None:
    assert sys.modules["recipes"].KEYS.keys() == FIELDS.keys()
    changes = ("--momentum", "0.5", "--scales", "8", "9", "--no-decay", "bias", "--nesterov")
    unchanged, recipe = parsed(flags), parsed(flags, *changes)
    changed = {key: recipe[key] for key in recipe if recipe[key] != unchanged[key]}
    assert changed == {"momentum": 0.5, "scales": [8, 9], "no_decay": ["bias"], "nesterov": True}
    assert parsed(flags, "--milestones")["milestones"] == []


@pytest.mark.parametrize("key", [key for key in FIELDS if key not in (*CHOICES, *SWITCHES)])
def test_bounds_are_those_of_the_language(flags: ModuleType, key: str) -> None:
    read = sys.modules["recipes"].KEYS[key]["type"]
    whole = read.__name__ == "int"
    large = (1_001, 65_537, 10**9 + 1) if whole else (1_000.5, 1e308)
    for value in (*((-1, 0, 1, 2) if whole else (-0.1, 0.0, 0.5, 0.999, 1.0, 1.5)), *large):
        given = [value] * SEVERAL[key] if key in SEVERAL else value
        assert accepts(read, str(value)) == accepts(lambda v: TrainingKeys(**{key: v}), given)
    assert not accepts(read, "nan")


def accepts(read: Any, value: object) -> bool:
    try:
        read(value)
    except (argparse.ArgumentTypeError, ValueError, ValidationError):
        return False
    return True


@pytest.mark.parametrize("key", CHOICES)
def test_choices_are_those_of_the_language(flags: ModuleType, key: str) -> None:
    kind = FIELDS[key].annotation
    options = get_args(kind)
    assert sys.modules["recipes"].KEYS[key]["choices"] == (get_args(options[0]) or options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--momentum 1", "argument --momentum: 1: expected 0 to 0.99999"),
        ("--learning-rate -1", "argument --learning-rate: -1: expected 0 to 1000"),
        ("--learning-rate nan", "argument --learning-rate: nan: expected 0 to 1000"),
        ("--batch-size 0", "argument --batch-size: 0: expected 1 to 65536"),
        ("--batch-size many", "argument --batch-size: invalid int value: 'many'"),
        ("--optimizer lamb", "argument --optimizer: invalid choice: 'lamb'"),
        ("--no-decay weight", "argument --no-decay: invalid choice: 'weight'"),
        ("--max-steps 0", "argument --max-steps: 0: expected 1 or more"),
        ("--seed -1", "argument --seed"),
        ("--out=", "argument --out: it is empty"),
        ("--weights=", "argument --weights: it is empty"),
        ("--workers -1", "argument --workers: -1: expected 0 or more"),
        ("--learning 0.1", "there is no flag --learning; did you mean --learning-rate?"),
        ("--input 3 8 8", "there is no flag --input; "),
    ],
)
def test_a_wrong_flag_is_told(flags: ModuleType, words: str, message: str) -> None:
    with pytest.raises(flags.Problem) as told:
        parsed(flags, *words.split())
    assert str(told.value).startswith(message)


@pytest.mark.parametrize("words", [["--momentum", "0.5", "small"], [], ["small2"], ["../small"]])
def test_the_network_comes_first(flags: ModuleType, words: list[str]) -> None:
    with pytest.raises(flags.Problem, match=r"name comes first|there are: small$"):
        flags.parse(words, "", {})


def test_help_tells_what_a_key_means(flags: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(flags, "--help")
    told = "".join(capsys.readouterr().out.split())  # argparse breaks lines behind hyphens, too
    assert "--milestones[MILESTONES...]" in told
    for key, field in FIELDS.items():
        meaning = f"{field.description} (default: {parsed(flags)[key]})"
        assert "".join(meaning.split()) in told


def test_a_value_alone_is_a_list_of_one(tmp_path: Path) -> None:
    folder = compiled(tmp_path, "torch")
    path = folder / "small.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("milestones = [20, 30]", "milestones = 20"), encoding="utf-8")
    assert parsed(imported(folder, "common"))["milestones"] == [20]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'optimizer = "sgd"',
            'optimizer = "adam"',
            "optimizer = 'adam': expected one of sgd, adamw",
        ),
        ("learning_rate = 0.1", "learning_rate = -1", "learning_rate = -1: expected 0 to 1000"),
        ("learning_rate = 0.1", "learning_rate = nan", "learning_rate = nan: expected 0 to 1000"),
        ("learning_rate = 0.1", "learning_rate = true", "learning_rate = True: expected a number"),
        ("learning_rate = 0.1", 'learning_rate = "0.1"', "learning_rate = '0.1': expected a num"),
        ("batch_size = 8", "batch_size = [8]", "batch_size = [8]: expected a whole number"),
        ("batch_size = 8", "batch_size = true", "batch_size = True: expected a whole number"),
        ("batch_size = 8", "batch_size = 8.5", "batch_size = 8.5: expected a whole number"),
        ("flip = true", 'flip = "no"', "flip = 'no': expected one of true, false"),
        ("flip = true", "flip = 1", "flip = 1: expected one of true, false"),
        ("mean = []", 'mean = ["--std", 1]', "mean = '--std': expected a number"),
        ("input = [1, 8, 8]", 'input = "x"', "input = x: expected 3 values"),
        ("input = [1, 8, 8]", "input = [3, 32]", "input = [3, 32]: expected 3 values"),
        ("input = [1, 8, 8]", "input = [0, 8, 8]", "input = 0: expected 1 to 65536"),
        ("classes = 10", 'classes = "ten"', "classes = 'ten': expected a whole number"),
        ("ema_steps", "ema_step", "it lacks the key ema_steps|there is no key ema_step"),
        ("length = 40", "length = 40\nseed = 3", "there is no key seed"),
        ("length = 40", "length 40", "Expected '='"),
    ],
)
def test_a_wrong_recipe_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    """With the file, the key and what is expected."""
    folder = compiled(tmp_path, "torch")
    path = folder / "small.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    common = imported(folder, "common")
    with pytest.raises(common.Problem, match="|".join(map(re.escape, message.split("|")))) as told:
        common.parse(["small"], "", {})
    assert str(told.value).startswith(f"{path}: ")
