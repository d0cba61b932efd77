"""Shared by the trainers of all frameworks: flags, checks, schedule and log."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import io
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, cast

from matplotlib.figure import Figure
from tqdm import tqdm  # type: ignore[import-untyped]

if TYPE_CHECKING or not __package__:
    from recipes import HERE, add_recipe, within
    from sources import Problem, Recipe, write_whole
else:
    from .recipes import HERE, add_recipe, within
    from .sources import Problem, Recipe, write_whole

CORES = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
DIVERGED = "; the last checkpoint stays: lower --learning-rate, or lengthen --warmup"


# --- flags ----------------------------------------------------------------------------


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
    given = {key: getattr(args, key) for key in recipe if hasattr(args, key)}
    args.given = [*given]
    return args, {**recipe, **given}


def check(args: argparse.Namespace, recipe: Recipe, devices: int) -> None:
    """Raise `Problem` for flags that contradict each other or the number of devices."""
    get, weights, parts = recipe.get, args.weights or [], devices * args.accumulate
    batch, sizes = recipe["batch_size"], recipe["scales"]
    late = recipe["warmup"] >= recipe["length"] and get("schedule") != "constant"
    still = get("optimizer") == "sgd" and get("nesterov") and not get("momentum")
    table = args.confusion or Path("table.csv")
    no_table = table.suffix != ".csv" or not table.parent.is_dir()
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
        (no_table, f"--confusion: {table} is no .csv file in a folder that exists"),
    ):
        if wrong:
            raise Problem(message)


def check_folder(args: argparse.Namespace, last: str, foreign: list[str]) -> None:
    """Raise `Problem` if --out holds a run; `foreign` are another framework's files."""
    if args.evaluate or (args.resume and (args.out / last).is_file()):
        return
    if args.out.exists() and not args.out.is_dir():
        raise Problem(f"--out: {args.out} is no folder")
    own = ["last.*", "best*", "metrics.jsonl", "events.out.tfevents.*"]
    kinds = foreign if args.resume else own
    if any(list(args.out.glob(kind)) for kind in kinds):
        hint = "" if args.resume else "go on with --resume, or "
        raise Problem(f"{args.out} holds a run: {hint}give another --out")


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
    if int(saved["step"]) < 0:
        raise ValueError(f"step {saved['step']}")
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
            for path in args.out.glob(".*.*.[0-9]*"):
                path.unlink()  # left unfinished by a run that was killed
            if args.tensorboard:
                for path in args.out.glob("events.out.tfevents.*"):
                    path.unlink()  # rewritten below, without gaps or duplicates
                board = importlib.import_module("tensorboard.summary")
                self.board = board.Writer(str(args.out))
        except OSError as error:
            what = f"cannot make the folder {args.out}"
            raise Problem(f"{what}: {error.strerror}") from None
        except ImportError:
            raise Problem("--tensorboard: pip install tensorboard") from None
        except (ValueError, KeyError, TypeError):
            wrong = f"{self.path}: no log of this trainer"
            raise Problem(f"{wrong}; --resume works without it") from None
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
