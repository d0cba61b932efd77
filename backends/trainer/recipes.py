"""The recipe of a network: its file, the values that its keys accept, and its flags."""

from __future__ import annotations

import argparse
import math
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or not __package__:
    from sources import Problem, Recipe
else:
    from .sources import Problem, Recipe

HERE = Path(__file__).resolve().parent

# The values that keys of a recipe accept: a range of numbers, or one of some words.
SHARE = 0, 1, float
NUMBERS: dict[tuple[float, float, Callable[[str], Any]], str] = {
    (1, 10**9, int): "length",
    (1, 65_536, int): "batch_size scales resize repeats ema_steps",
    (0, 10**9, int): "milestones warmup patience",
    (0, 65_536, int): "train_size",
    (0, 1000, int): "padding",
    (0, 1000, float): "learning_rate clip_norm mixup cutmix",
    (0, 0.99999, float): "momentum beta1 beta2 label_smoothing ema",
    SHARE: "epsilon weight_decay factor final_rate warmup_start min_area erasing "
    "mean std",
}
WORDS = {
    "unit": ("epochs", "steps"),
    "optimizer": ("sgd", "adamw"),
    "no_decay": ("norm", "bias"),
    "schedule": ("constant", "step", "cosine", "one_cycle"),
    "warmup_shape": ("linear", "constant"),
    "class_weights": ("equal", "balanced"),
    "crop": ("none", "pad", "resized", "scaled"),
    "augment": ("none", "trivial"),
}


def within(
    least: float, most: float, kind: Callable[[str], Any]
) -> Callable[[str], Any]:
    """A parser for numbers in a range, for argparse."""

    def read(text: str) -> Any:
        value = kind(text)
        if not (least <= value <= most and math.isfinite(value)):
            span = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{text}: expected {span}")
        return value

    read.__name__ = kind.__name__  # in argparse's message: invalid int value
    return read


KINDS: dict[str, dict[str, Any]] = {
    key: {"type": within(*span)}
    for span, keys in NUMBERS.items()
    for key in keys.split()
} | {key: {"choices": words} for key, words in WORDS.items()}
SWITCHES = ("nesterov", "flip")
LISTS = ("no_decay", "milestones", "scales", "mean", "std")
EVALUATED = ("mean", "std", "crop", "padding", "resize")  # of a run, to evaluate it


def add_recipe(parser: argparse.ArgumentParser, name: str) -> Recipe:
    """Add flags for the recipe of a network; its values are the defaults."""
    path = HERE / f"{name}.toml"
    if not (HERE / f"{name}.py").is_file() or not path.is_file():
        known = ", ".join(sorted(path.stem for path in HERE.glob("*.toml")))
        wrong = f"there is no network {name!r} with a recipe in {HERE}"
        raise Problem(f"{wrong}; there are: {known}")
    try:
        text = path.read_text(encoding="utf-8")
        recipe = tomllib.loads(text)
        check_recipe(recipe)
    except ValueError as error:
        raise Problem(f"{path}: {error}") from None
    meanings = dict(re.findall(r"^(\w+) = .*  # (.*)$", text, re.MULTILINE))
    group = parser.add_argument_group("recipe")
    for key in (*KINDS, *SWITCHES):
        # Only what is given is set, so that it can be told from what the recipe says.
        options = {"default": argparse.SUPPRESS, **KINDS.get(key, {})}
        if key in SWITCHES:
            options["action"] = argparse.BooleanOptionalAction
        elif "choices" not in options:
            options["metavar"] = "VALUE"
        if key in LISTS:
            options["nargs"] = "*"
        told = f"{meanings.get(key, '')} (default: {recipe[key]})".strip()
        options["help"] = told.replace("%", "%%")
        group.add_argument(f"--{key.replace('_', '-')}", **options)
    return recipe


def check_recipe(recipe: Recipe) -> None:
    """Raise `ValueError` for what no flag would accept."""
    for key in sorted(recipe.keys() ^ {*KINDS, *SWITCHES, "input", "classes"}):
        raise ValueError(
            f"{'there is no' if key in recipe else 'it lacks the'} key {key}"
        )
    for key, value in recipe.items():
        listed, kind = isinstance(value, list), KINDS.get(key, {})
        fits = listed == (key in (*LISTS, "input"))
        for each in value if listed and kind else [value]:
            if "choices" in kind:
                fits = fits and each in kind["choices"]
            if "type" in kind:
                try:
                    kind["type"](str(each))
                except (ValueError, argparse.ArgumentTypeError):
                    fits = False
        if not fits or (key in SWITCHES and not isinstance(value, bool)):
            raise ValueError(f"{key} = {value!r} is no value of it; --help lists them")


def as_trained(
    args: argparse.Namespace, recipe: Recipe, trained: list[Recipe]
) -> Recipe:
    """The recipe to evaluate checkpoints with: theirs, but for flags given."""
    for key in EVALUATED:
        values = [each[key] for each in trained if key in each]
        if not values or key in args.given or values == [recipe[key]] * len(values):
            continue
        if any(value != values[0] for value in values):
            flag = f"--{key}"
            raise Problem(f"--weights were trained with different {key}s: give {flag}")
        print(f"{key} as in training: {values[0]}", file=sys.stderr)
        recipe = {**recipe, key: values[0]}
    return recipe
