"""Shared by the trainers of all frameworks: flags, schedule, checks and log."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import io
import json
import math
import os
import re
import signal
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, cast

from matplotlib.figure import Figure
from tqdm import tqdm  # type: ignore[import-untyped]

if TYPE_CHECKING or not __package__:
    from sources import Problem, Recipe, write_whole
else:
    from .sources import Problem, Recipe, write_whole

HERE = Path(__file__).resolve().parent
CORES = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
DIVERGED = "; the last checkpoint stays: lower --learning-rate, or lengthen --warmup"


# --- flags ----------------------------------------------------------------------------

# The values that keys of a recipe accept: a range of numbers, or one of some words.
SHARE = 0, 1, float
NUMBERS: dict[tuple[float, float, Callable[[str], Any]], str] = {
    (1, math.inf, int): "length batch_size scales resize repeats ema_steps",
    (0, math.inf, int): "milestones warmup padding train_size patience",
    (0, math.inf, float): "learning_rate clip_norm mixup cutmix mean std",
    (0, 0.99999, float): "momentum beta1 beta2 label_smoothing ema",
    SHARE: "epsilon weight_decay factor final_rate warmup_start min_area erasing",
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


def parse(
    words: list[str], description: str, more: dict[str, dict[str, Any]]
) -> tuple[argparse.Namespace, Recipe]:
    """The flags (`more` are the framework's), and the recipe with their changes."""
    parser = argparse.ArgumentParser(
        usage="train.py NETWORK [--flag VALUE ...]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, number, on = parser.add_argument, within(1, math.inf, int), "store_true"
    add("network", metavar="NETWORK", help="its name; before --help, lists its recipe")
    add("--data", default="synthetic", help="a folder or file (default: random noise)")
    add("--out", type=Path, help="folder of the run (default: runs/NETWORK)")
    add("--seed", type=within(0, 2**32 - 1, int), default=0, help="random seed")
    add("--accumulate", type=number, default=1, help="parts to split a batch into")
    add("--max-steps", type=number, help="stop after this step")
    add("--save-every", type=number, help="steps between checkpoints")
    add("--log-every", type=number, default=10, help="steps between log lines")
    add("--tensorboard", action=on, help="also log to TensorBoard")
    add("--workers", type=within(0, math.inf, int), default=CORES, help="of the data")
    add("--resume", action=on, help="continue from the last checkpoint in --out")
    add("--weights", type=Path, nargs="+", help="a checkpoint to start from")
    add("--reset-head", action=on, help="with --weights: reset the last layer")
    add("--freeze-until", metavar="STAGE", help="freeze what runs before it")
    add("--evaluate", action=on, help="evaluate the mean of all --weights")
    add("--confusion", type=Path, help="with --evaluate: CSV file to write")
    add("--ten-crop", action=on, help="evaluate ten crops of each image")
    add("--test-sizes", type=number, nargs="+", help="evaluate at these resize sizes")
    add("--overfit-one-batch", action=on, help="train on one batch repeatedly")
    for flag, options in more.items():
        add(flag, **options)
    recipe: Recipe = {}
    if words and not words[0].startswith("-"):
        recipe = add_recipe(parser, words[0])
    elif not {"-h", "--help"} & set(words):
        raise Problem("the network's name comes first: train.py NETWORK --flag VALUE")
    args, unread = parser.parse_known_args(words)
    if unread:
        word, known = unread[0].partition("=")[0], parser._option_string_actions
        close = difflib.get_close_matches(word, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "--help lists all"
        parser.error(f"there is no flag {word}; {hint}")
    args.out = args.out or Path("runs") / args.network
    return args, {key: getattr(args, key, value) for key, value in recipe.items()}


def add_recipe(parser: argparse.ArgumentParser, name: str) -> Recipe:
    """Add flags for the recipe of a network; its values are the defaults."""
    if not (HERE / f"{name}.py").is_file() or not (HERE / f"{name}.toml").is_file():
        known = ", ".join(sorted(path.stem for path in HERE.glob("*.toml")))
        wrong = f"there is no network {name!r} with a recipe in {HERE}"
        raise Problem(f"{wrong}; there are: {known}")
    text = (HERE / f"{name}.toml").read_text(encoding="utf-8")
    meanings = dict(re.findall(r"^(\w+) = .*  # (.*)$", text, re.MULTILINE))
    recipe, group = tomllib.loads(text), parser.add_argument_group("recipe")
    for key, value in recipe.items():
        options = {"default": value, **KINDS.get(key, {})}
        if isinstance(value, bool):
            options["action"] = argparse.BooleanOptionalAction
        elif key not in KINDS:  # describes the network, not the training
            continue
        elif "choices" not in options:
            options["metavar"] = "VALUE"
        if isinstance(value, list):
            options["nargs"] = "*"
        told = f"{meanings.get(key, '')} (default: {value})".strip()
        options["help"] = told.replace("%", "%%")
        group.add_argument(f"--{key.replace('_', '-')}", **options)
    return recipe


def check(args: argparse.Namespace, recipe: Recipe, devices: int) -> None:
    """Raise `Problem` for flags that contradict each other or the number of devices."""
    get, weights, parts = recipe.get, args.weights or [], devices * args.accumulate
    batch, sizes = recipe["batch_size"], recipe["scales"]
    late = recipe["warmup"] >= recipe["length"] and get("schedule") != "constant"
    still = get("optimizer") == "sgd" and get("nesterov") and not get("momentum")
    begun = not (args.resume or args.evaluate) and list(args.out.glob("last.*"))
    several = len(weights) > 1 and not args.evaluate
    steps = get("schedule") == "step" and not get("milestones")
    rising, batch_of = len(sizes) == 2 and sizes == sorted(sizes), f"a batch of {batch}"
    for wrong, message in (
        (batch % parts, f"{batch_of} cannot be dealt out evenly in {parts} parts"),
        (late, f"--warmup leaves nothing of --length {get('length')}"),
        (steps, "--schedule step needs --milestones"),
        (still, "--nesterov needs --momentum"),
        (not rising, f"--scales: two rising sizes, not {sizes}"),
        (0 in recipe["std"], "--std: no channel can have a deviation of 0"),
        (args.evaluate and not weights, "--evaluate needs --weights"),
        (args.reset_head and not weights, "--reset-head needs --weights"),
        (several, "--weights: --evaluate alone takes several"),
        (begun, f"{args.out} holds a run: go on with --resume, or give another --out"),
    ):
        if wrong:
            raise Problem(message)


def network_of(name: str) -> ModuleType:
    """Import a network from its file, since another module may have its name."""
    path = HERE / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"network_{name}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def freeze(name: str, freeze_until: Callable[[str], None] | None) -> None:
    """Freeze everything before a stage or layer; `Problem` for an unknown name."""
    try:
        if freeze_until is None:
            raise ValueError("the layers of this network do not stand as they run")
        freeze_until(name)
    except ValueError as error:
        raise Problem(f"--freeze-until: {error}") from None


def rate_at(step: int, recipe: Recipe, unit: int) -> float:
    """The learning rate of a step, counted from 0; `unit` is in steps."""
    rate, schedule = recipe["learning_rate"], recipe["schedule"]
    start, final = recipe["warmup_start"], recipe["final_rate"]
    warmup, total = recipe["warmup"] * unit, recipe["length"] * unit
    if step < warmup:
        rise = step / warmup
        if schedule == "one_cycle":
            rise = (1 - math.cos(math.pi * rise)) / 2
        elif recipe["warmup_shape"] == "constant":
            rise = 0.0
        return float(rate * (start + (1 - start) * rise))
    if schedule == "step":
        passed = sum(step >= milestone * unit for milestone in recipe["milestones"])
        return float(rate * recipe["factor"] ** passed)
    if schedule in ("cosine", "one_cycle"):
        left = (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2
        return float(rate * (final + (1 - final) * left))
    return float(rate)


def identity(args: argparse.Namespace, recipe: Recipe) -> Recipe:
    """What must be unchanged to resume a run."""
    own = ("network", "seed", "freeze_until", "keras_optimizer")
    return {key: getattr(args, key, None) for key in own} | {"recipe": recipe}


def check_same(saved: Recipe, args: argparse.Namespace, recipe: Recipe) -> None:
    """Raise `Problem` if a checkpoint is of another network, recipe or seed."""
    then = {**saved, **saved["recipe"]}
    for key, value in {**identity(args, recipe), **recipe}.items():
        if key != "recipe" and value != then.get(key):
            was = f"{args.out}: the checkpoint was trained with {key} {then.get(key)}"
            raise Problem(f"{was}, not {value}; give the same, or another --out")


def stop_signals() -> list[int]:
    """Collect signals to stop from now on; a second one stops at once."""
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    return came


class Log:
    """Logs a run: progress bar, metrics.jsonl, TensorBoard and curve.png."""

    def __init__(
        self, args: argparse.Namespace, step: int, steps: int, writes: bool
    ) -> None:
        self.path, self.writes, self.step = args.out / "metrics.jsonl", writes, step
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=not writes)
        self.since, self.board = time.perf_counter(), cast(Any, None)
        self.lines: list[dict[str, Any]] = []
        if not writes:
            return
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            # Lines after the checkpoint will be logged again.
            if step and self.path.exists():
                whole = self.path.read_text(encoding="utf-8").rpartition("\n")[0]
                lines = [json.loads(line) for line in whole.splitlines()]
                self.lines = [line for line in lines if line["step"] <= step]
            for path in args.out.glob("events.out.tfevents.*"):
                path.unlink()  # rewritten below, without gaps or duplicates
            if args.tensorboard:
                board = importlib.import_module("tensorboard.summary")
                self.board = board.Writer(str(args.out))
        except OSError as error:
            what = f"cannot make the folder {args.out}"
            raise Problem(f"{what}: {error.strerror}") from None
        except ImportError:
            raise Problem("--tensorboard: pip install tensorboard") from None
        text = "".join(f"{json.dumps(line)}\n" for line in self.lines)
        write_whole(self.path, text.encode())
        for line in self.lines:
            self.show(line)

    def advance(self) -> None:
        """Count a step."""
        self.step += 1
        self.bar.update()

    def tell(self, images: int = 0, /, **values: float) -> None:
        """Log values measured over `images` images; `Problem` if one is not finite."""
        wrong = [f"{k} is {v}" for k, v in values.items() if not math.isfinite(v)]
        if wrong:
            raise Problem(f"{' and '.join(wrong)} after step {self.step}{DIVERGED}")
        then, self.since = self.since, time.perf_counter()
        if images:
            values["images_per_second"] = images / (self.since - then)
            self.bar.set_postfix({key: f"{value:.4g}" for key, value in values.items()})
        line = {"step": self.step, **values}
        self.lines.append(line)
        if self.writes:
            if not images:
                self.bar.write(", ".join(f"{k} {v:.4g}" for k, v in line.items()))
            write_whole(self.path, f"{json.dumps(line)}\n".encode(), append=True)
            self.show(line)

    def show(self, line: dict[str, Any]) -> None:
        """Write a line to TensorBoard."""
        for key in line if self.board else ():
            if key != "step":
                self.board.add_scalar(key, line[key], line["step"])

    def draw(self) -> None:
        """Plot the curves to curve.png: loss on the left axis, errors on the right."""
        figure = Figure(figsize=(8, 4), layout="constrained")
        left = figure.subplots()
        right = left.twinx()
        colours = {"loss": "royalblue", "error": "lightcoral", "val_error": "crimson"}
        for key, colour in colours.items():
            points = [(line["step"], line[key]) for line in self.lines if key in line]
            if points:
                told, axis = points[-1][1], left if key == "loss" else right
                axis.plot(*zip(*points), ".-", color=colour, label=f"{key}: {told:.4f}")
        left.set(xlabel="step", ylabel="loss", ylim=(0, None))
        right.set(ylabel="error", ylim=(0, 1))
        figure.legend(loc="outside upper center", ncols=3)
        picture = io.BytesIO()
        figure.savefig(picture)
        write_whole(self.path.with_name("curve.png"), picture.getvalue())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.close()
        if self.board:
            self.board.close()
        if kind is None and self.writes:
            self.draw()
