"""A network's recipe: its keys as TOML, as flags and in checkpoints; all are checked."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import itertools
import json
import math
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING or not __package__:
    from sources import Args, Images, Problem, Recipe, reading, say, write_whole
else:
    from .sources import Args, Images, Problem, Recipe, reading, say, write_whole

HERE = Path(__file__).resolve().parent
LISTS = ("no_decay", "milestones", "scales", "mean", "std")
Options = dict[str, dict[str, Any]]  # of each flag or key, for argparse


def within(least: float, most: float, kind: Callable[[str], Any] = float) -> Any:
    """A parser for numbers in a range, for argparse."""

    def read(text: str) -> Any:
        value = kind(text)
        if not (least <= value <= most and math.isfinite(value)):
            span = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{text}: expected {span}")
        return value

    read.__name__ = kind.__name__  # in argparse's message: invalid int value
    return read


# The values that keys of a recipe accept, as argparse has them.
SHARES = "epsilon weight_decay factor final_rate warmup_start min_area erasing mean std"
KEYS: Options = {}
for _keys, _options in (
    ("length", {"type": within(1, 10**9, int)}),
    ("batch_size scales repeats ema_steps", {"type": within(1, 65_536, int)}),
    ("milestones warmup patience", {"type": within(0, 10**9, int)}),
    ("train_size resize", {"type": within(0, 65_536, int)}),
    ("padding", {"type": within(0, 1000, int)}),
    ("learning_rate clip_norm mixup cutmix", {"type": within(0, 1000)}),
    ("momentum beta1 beta2 label_smoothing ema", {"type": within(0, 0.99999)}),
    (SHARES, {"type": within(0, 1)}),
    ("unit", {"choices": ("epochs", "steps")}),
    ("optimizer", {"choices": ("sgd", "adamw")}),
    ("no_decay", {"choices": ("norm", "bias")}),
    ("schedule", {"choices": ("constant", "step", "cosine", "one_cycle")}),
    ("warmup_shape", {"choices": ("linear", "constant")}),
    ("class_weights", {"choices": ("equal", "balanced")}),
    ("crop", {"choices": ("none", "pad", "resized", "scaled")}),
    ("augment", {"choices": ("none", "trivial")}),
    ("nesterov flip", {"action": argparse.BooleanOptionalAction}),
):
    for _key in _keys.split():
        KEYS[_key] = _options | ({"nargs": "*"} if _key in LISTS else {})
FACTS: Options = {  # of the network; no flags
    "input": {"type": within(1, 65_536, int), "nargs": 3},
    "classes": {"type": within(1, 10**9, int)},
}


class Flags(argparse.ArgumentParser):
    """Raises `Problem` for wrong flags."""

    def error(self, message: str) -> NoReturn:
        raise Problem(message)


def checked(key: str, value: Any) -> Any:
    """The value of a key from a file, as its flag gives it; raises `ValueError`."""
    options = {**KEYS, **FACTS}[key]
    read, count = options.get("type"), options.get("nargs")
    several = value if count and isinstance(value, list) else [value]
    if count not in (None, "*", len(several)):
        raise ValueError(f"{key} = {value}: expected {count} values")
    known: Any = options.get("choices", (True, False))
    if read is None:
        kinds = [type(known[0])]
        expected = f"one of {', '.join(str(each).lower() for each in known)}"
    else:
        kinds = [int] if read.__name__ == "int" else [int, float]
        expected = "a number" if float in kinds else "a whole number"
    for each in several:
        if type(each) not in kinds or (read is None and each not in known):
            raise ValueError(f"{key} = {each!r}: expected {expected}")
    try:
        found = [read(str(each)) if read else each for each in several]
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{key} = {error}") from None
    return found if count else found[0]


def recipe_of(name: str, parser: Flags) -> Recipe:
    """The recipe of a network, whose keys become flags; raises `Problem`."""
    path = HERE / f"{name}.toml"
    if not (path.is_file() and path.with_suffix(".py").is_file()):
        known = ", ".join(sorted(path.stem for path in HERE.glob("*.toml")))
        wrong = f"there is no network {name!r} with a recipe in {HERE}"
        raise Problem(f"{wrong}; there are: {known}")
    group = parser.add_argument_group("recipe", argument_default=argparse.SUPPRESS)
    with reading(path, "a recipe"):
        text = path.read_text(encoding="utf-8")
        recipe = tomllib.loads(text)
        meanings = dict(re.findall(r"^(\w+) = .*  # (.*)$", text, re.MULTILINE))
        for key in sorted(recipe.keys() ^ {*FACTS, *KEYS}):
            wrong = "there is no" if key in recipe else "it lacks the"
            raise ValueError(f"{wrong} key {key}")
        recipe = {key: checked(key, value) for key, value in recipe.items()}
        for key, options in KEYS.items():
            told = f"{meanings.get(key, '')} (default: {recipe[key]})"
            flag = f"--{key.replace('_', '-')}"
            group.add_argument(flag, help=told.replace("%", "%%"), **options)
    return recipe


def network_of(name: str) -> ModuleType:
    """Import a network from its file, since another module may have its name."""
    path = HERE / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"network_{name}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- of weights -----------------------------------------------------------------------

EVALUATED = ("mean", "std", "crop", "padding", "resize")  # of a run, to evaluate it


def packed(recipe: Recipe) -> str:
    """What an evaluation needs of a recipe, as JSON to keep with the weights."""
    return json.dumps({key: recipe[key] for key in ("class_names", *EVALUATED)})


def unpacked(text: str) -> Recipe:
    """The dict in JSON; `ValueError` for any other, such as one nested too deeply."""
    bare = re.sub(r'"(\\.|[^"\\])*"', "", text)
    if bare.count("[") + bare.count("{") > 100:
        raise ValueError("it is nested too deeply")
    found: Recipe = json.loads(text)
    return found


def as_trained(args: Args, kept: dict[Path, Any]) -> None:
    """Evaluate weights with the recipe that they have, but for flags given.

    `kept` has for each file its recipe, or the JSON of one, or None; raises `Problem`.
    """
    found = []
    for path, recipe in kept.items():
        if not isinstance(recipe, (dict, str)):
            own = f"mean, std, crop and resize are those of {args.network}.toml"
            say(f"{path} has no recipe: {own}, unless flags give others")
            continue
        with reading(path, "weights with a recipe"):
            recipe = unpacked(recipe) if isinstance(recipe, str) else recipe
            known = {
                key: checked(key, recipe[key]) for key in EVALUATED if key in recipe
            }
            if names := recipe.get("class_names"):
                known["class_names"] = [*map(str, names)]
            found.append(known)
    for key in sorted({"class_names", *EVALUATED} - args.given):
        for value in (values := [one[key] for one in found if key in one]):
            if value != values[0]:
                hint = "" if key == "class_names" else f": give --{key}"
                raise Problem(f"--weights have different {key}s{hint}")
            args.recipe[key] = value


def report(args: Args, errors: dict[str, float], counts: Any, images: Images) -> None:
    """Print the errors; write the confusion matrix as CSV, true classes as rows."""
    if not all(map(math.isfinite, errors.values())):
        raise Problem("--weights: the loss is not finite")
    print(json.dumps(errors))
    if args.confusion is None:
        return
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["class", "accuracy", *images.classes])
    for name, row, right in zip(images.classes, counts, counts.diagonal()):
        table.writerow([name, round(right / max(row.sum(), 1), 6), *row])
    write_whole(args.confusion, text.getvalue().encode(errors="surrogateescape"))


def same_classes(then: list[str], now: list[str]) -> None:
    """Raise `Problem` if the classes of the data are not those of the training."""
    for number, (old, new) in enumerate(itertools.zip_longest(then, now)):
        if old != new:
            was = f"class {number} was {old!r:.80} in training and is {new!r:.80}"
            raise Problem(f"--data: {was}; give data with the same classes")


def measured(images: Images, recipe: Recipe) -> Recipe:
    """The recipe with mean and deviation of each channel, measured if it has none."""
    mean, std = recipe["mean"], recipe["std"]
    if not mean and not std and images.size is not None:
        levels, planes = np.arange(256) / 255, np.moveaxis(images.source, 3, 0)
        shares = [np.bincount(p.ravel(), minlength=256) / p.size for p in planes]
        mean = [float(share @ levels) for share in shares]
        spread = [share @ (levels - m) ** 2 for share, m in zip(shares, mean)]
        std = [math.sqrt(each) for each in spread]
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != images.channels:
            count = f"--{key}: {len(values)} values for {images.channels} channels"
            hint = "give --mean and --std for each or, for arrays, neither"
            raise Problem(f"{count}; {hint}")
    return {**recipe, "mean": mean, "std": std}
