"""The flags of a trainer: its own, and one for each key of a network's recipe."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import Problem, Recipe

HERE = Path(__file__).resolve().parent


def within(
    least: float, most: float, kind: Callable[[str], Any]
) -> Callable[[str], Any]:
    """What reads a flag's number, which may be neither smaller nor larger."""

    def read(text: str) -> Any:
        value = kind(text)
        if not (least <= value <= most and math.isfinite(value)):
            span = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{text}: expected {span}")
        return value

    read.__name__ = kind.__name__  # argparse tells it: invalid int value
    return read


POSITIVE, COUNT = within(1, math.inf, int), within(0, math.inf, int)
AMOUNT, SHARE = within(0, math.inf, float), within(0, 1, float)
BELOW_ONE = within(0, 0.99999, float)

FLAGS: dict[str, Any] = {
    "--data": {
        "default": "synthetic",
        "help": "fashion-mnist, a folder, or synthetic: noise (the default)",
    },
    "--out": {"type": Path, "help": "folder of the run (default: runs/NETWORK)"},
    "--seed": {
        "type": within(0, 2**32 - 1, int),
        "default": 0,
        "help": "of weights, order and crops",
    },
    "--precision": {
        "choices": ("fp32", "bf16", "fp64"),
        "default": "fp32",
        "help": "bf16: of activations alone (default: fp32)",
    },
    "--accumulate": {
        "type": POSITIVE,
        "default": 1,
        "help": "take each batch in so many parts, to save memory",
    },
    "--max-steps": {"type": POSITIVE, "help": "end after so many steps of the recipe"},
    "--save-every": {
        "type": COUNT,
        "default": 0,
        "help": "save after so many steps, and after each epoch; 0: after each epoch",
    },
    "--log-every": {
        "type": POSITIVE,
        "default": 10,
        "help": "tell after so many steps (default: %(default)s)",
    },
    "--tensorboard": {
        "action": "store_true",
        "help": "write the metrics for TensorBoard, too",
    },
    "--workers": {
        "type": COUNT,
        "default": (os.cpu_count() or 1)
        // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        "help": "how many read images ahead (default: %(default)s, all cores)",
    },
    "--resume": {
        "action": "store_true",
        "help": "go on from the last checkpoint in --out, if there is one",
    },
    "--weights": {"type": Path, "help": "a checkpoint to start from, or to evaluate"},
    "--reset-head": {
        "action": "store_true",
        "help": "with --weights: start the last layer afresh, for other classes",
    },
    "--freeze-until": {
        "metavar": "STAGE",
        "help": "keep all before this stage or layer as it is",
    },
    "--evaluate": {"action": "store_true", "help": "evaluate --weights, and end"},
    "--ten-crop": {
        "action": "store_true",
        "help": "evaluate the mean of ten crops of each image",
    },
    "--overfit-one-batch": {
        "action": "store_true",
        "help": "train on one batch over and over, to see that the network can learn",
    },
}
# How the values of a recipe are read.
KINDS: dict[str, dict[str, Any]] = {
    key: {"type": kind}
    for kind, keys in (
        (POSITIVE, ("length", "batch_size", "scales", "resize")),
        (COUNT, ("milestones", "warmup", "padding")),
        (AMOUNT, ("learning_rate", "clip_norm", "mixup", "cutmix", "mean", "std")),
        (BELOW_ONE, ("momentum", "beta1", "beta2", "label_smoothing", "ema")),
        (SHARE, ("epsilon", "weight_decay", "factor", "final_rate")),
        (SHARE, ("warmup_start", "min_area", "erasing")),
    )
    for key in keys
} | {
    "unit": {"choices": ("epochs", "steps")},
    "optimizer": {"choices": ("sgd", "adamw")},
    "no_decay": {"choices": ("norm", "bias")},
    "schedule": {"choices": ("constant", "step", "cosine", "one_cycle")},
    "warmup_shape": {"choices": ("linear", "constant")},
    "crop": {"choices": ("none", "pad", "resized", "scaled")},
}


def read_recipe(name: str) -> tuple[Recipe, dict[str, str]]:
    """The recipe that stands beside a network, and what its keys mean."""
    if not (HERE / f"{name}.py").is_file() or not (HERE / f"{name}.toml").is_file():
        known = ", ".join(sorted(path.stem for path in HERE.glob("*.toml")))
        raise Problem(
            f"there is no network {name!r} with a recipe in {HERE}; there are: {known}"
        )
    text = (HERE / f"{name}.toml").read_text(encoding="utf-8")
    meanings = re.findall(r"^(\w+) = .*  # (.*)$", text, re.MULTILINE)
    return tomllib.loads(text), dict(meanings)


def parse(
    words: list[str], description: str, devices: dict[str, Any]
) -> tuple[argparse.Namespace, Recipe]:
    """The flags of a trainer, and the recipe with what they change.

    `devices` are the flags that only one framework has: `{flag: options}`.
    """
    parser = argparse.ArgumentParser(
        description=description,
        usage="train.py NETWORK [--flag VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "network",
        metavar="NETWORK",
        help="of this folder; before --help, tells its recipe",
    )
    for flag, options in {**FLAGS, **devices}.items():
        parser.add_argument(flag, **options)
    recipe: Recipe = {}
    own: list[str] = []
    if words and not words[0].startswith("-"):
        recipe, meanings = read_recipe(words[0])
        own = add_recipe(parser, recipe, meanings)
    elif not {"-h", "--help"} & set(words):
        raise Problem("the network's name comes first: train.py NETWORK --flag VALUE")
    args, unread = parser.parse_known_args(words)
    if unread:
        parser.error(unknown(unread[0].partition("=")[0], [*FLAGS, *devices, *own]))
    args.out = args.out or Path("runs") / args.network
    return args, {key: getattr(args, key, value) for key, value in recipe.items()}


def unknown(word: str, known: list[str]) -> str:
    """What to say of a word that is no flag."""
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "--help tells all"
    return f"there is no flag {word}; {hint}"


def add_recipe(
    parser: argparse.ArgumentParser, recipe: Recipe, meanings: dict[str, str]
) -> list[str]:
    """Flags for the keys of the recipe, whose values are the defaults; gives the flags."""
    group = parser.add_argument_group("recipe")
    flags = []
    for key, value in recipe.items():
        options = {"default": value, **KINDS.get(key, {})}
        if isinstance(value, bool):
            options["action"] = argparse.BooleanOptionalAction
        elif key not in KINDS:  # of the network, not of its training
            continue
        elif "choices" not in options:
            options["metavar"] = "VALUE"
        if isinstance(value, list):
            options["nargs"] = "*"
        told = f"{meanings.get(key, '')} (default: {value})".strip()
        options["help"] = told.replace("%", "%%")
        flags.append(f"--{key.replace('_', '-')}")
        group.add_argument(flags[-1], **options)
    return flags


def check(args: argparse.Namespace, recipe: Recipe, world: int) -> None:
    """`Problem` for flags that do not fit each other or the number of processes."""
    batch, parts = recipe["batch_size"], world * args.accumulate
    uneven = batch < parts or batch % parts
    sgd, step = recipe["optimizer"] == "sgd", recipe["schedule"] == "step"
    late = recipe["warmup"] >= recipe["length"] and recipe["schedule"] != "constant"
    sizes = recipe["scales"]
    unread = not (args.resume or args.evaluate) and list(args.out.glob("last.*"))
    for wrong, message in (
        (uneven, f"a batch of {batch} cannot be dealt out evenly in {parts} parts"),
        (late, f"--warmup leaves nothing of --length {recipe['length']}"),
        (step and not recipe["milestones"], "--schedule step needs --milestones"),
        (
            sgd and recipe["nesterov"] and not recipe["momentum"],
            "--nesterov needs --momentum",
        ),
        (
            len(sizes) != 2 or sizes[0] > sizes[1],
            f"--scales: two rising sizes, not {sizes}",
        ),
        (0 in recipe["std"], "--std: no channel can have a deviation of 0"),
        (args.evaluate and not args.weights, "--evaluate needs --weights"),
        (args.reset_head and not args.weights, "--reset-head needs --weights"),
        (
            unread,
            f"{args.out} holds a run: go on with --resume, or give another --out",
        ),
    ):
        if wrong:
            raise Problem(message)
