"""Shared by the trainers of all frameworks: flags, schedule and log."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import io
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm  # type: ignore[import-untyped]

if TYPE_CHECKING or not __package__:
    from recipes import Flags, Options, recipe_of, same_classes, unpacked, within
    from sources import Args, Problem, Recipe, reading, write_whole
else:
    from .recipes import Flags, Options, recipe_of, same_classes, unpacked, within
    from .sources import Args, Problem, Recipe, reading, write_whole

if sys.platform != "win32":
    import fcntl

EVENTS = "events.out.tfevents.*"  # of TensorBoard


def path(text: str) -> Path:
    """A parser for argparse; an empty path, of an unset variable, is none."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text)


def parse(words: list[str], description: str, more: Options) -> Args:
    """The flags (`more` are the framework's), with the changed recipe as `recipe`."""
    recipe: Recipe = {}
    parser = Flags(
        usage="train.py NETWORK [--flag VALUE ...]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if words and not words[0].startswith("-"):
        recipe = recipe_of(words[0], parser)
    elif not {"-h", "--help"} & set(words):
        raise Problem("the network's name comes first: train.py NETWORK --flag VALUE")
    add, number, on = parser.add_argument, within(1, math.inf, int), "store_true"
    with reading("LOCAL_WORLD_SIZE", "a number of processes"):
        cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    add("network", metavar="NETWORK", help="its name; before --help, lists its recipe")
    add("--data", default="synthetic", help="a folder or file (default: random noise)")
    add("--out", type=path, default=f"runs/{words[0]}", help="default: runs/NETWORK")
    add("--seed", type=within(0, 2**32 - 1, int), default=0, help="random seed")
    add("--accumulate", type=number, default=1, help="parts to split a batch into")
    add("--max-steps", type=number, help="stop after this step")
    add("--save-every", type=number, help="steps between checkpoints")
    add("--log-every", type=number, default=10, help="steps between log lines")
    add("--tensorboard", action=on, help="also log to TensorBoard")
    add("--workers", type=within(0, math.inf, int), default=cores, help="of the data")
    add("--resume", action=on, help="continue from the last checkpoint in --out")
    add("--weights", type=path, nargs="+", default=[], help="checkpoints to start from")
    add("--reset-head", action=on, help="with --weights: reset the last layer")
    add("--freeze-until", metavar="STAGE", help="freeze what runs before it")
    add("--evaluate", action=on, help="evaluate the mean of all --weights")
    add("--confusion", type=path, help="with --evaluate: CSV file to write")
    add("--ten-crop", action=on, help="evaluate ten crops of each image")
    add("--test-sizes", type=number, nargs="+", default=[0], help="resize to evaluate")
    add("--overfit-one-batch", action=on, help="train on one batch repeatedly")
    for flag, options in more.items():
        add(flag, **options)
    args, unread = parser.parse_known_args(words)
    if unread:
        word, known = unread[0].partition("=")[0], parser.format_help()
        close = difflib.get_close_matches(word, re.findall(r"--[\w-]+", known), n=1)
        hint = f"did you mean {close[0]}?" if close else "--help lists all"
        parser.error(f"there is no flag {word}; {hint}")
    args.given = recipe.keys() & vars(args).keys()
    args.recipe = {**recipe, **{key: getattr(args, key) for key in args.given}}
    return args


def check(args: Args, devices: int, last: str) -> None:
    """Raise `Problem` for flags that contradict each other, or a run in --out.

    `last` is the name of its checkpoint. A run that was killed before it had one left
    only an empty log.
    """
    recipe, parts, many = args.recipe, devices * args.accumulate, len(args.weights) > 1
    batch, schedule, sizes = (recipe[k] for k in ("batch_size", "schedule", "scales"))
    uneven = batch % parts and not args.evaluate
    late = recipe["warmup"] >= recipe["length"] and schedule != "constant"
    bare = schedule == "step" and not recipe["milestones"]
    still = recipe["optimizer"] == "sgd" and recipe["nesterov"]
    rising, batch_of = len(sizes) == 2 and sizes == sorted(sizes), f"a batch of {batch}"
    table, out = args.confusion or Path("table.csv"), args.out
    no_table = table.suffix != ".csv" or not table.parent.is_dir()
    fresh = not args.evaluate and not (args.resume and (out / last).is_file())
    kinds = ["last.*", "best*", "metrics.jsonl"] + [EVENTS] * (not args.resume)
    found = [path for kind in kinds for path in out.glob(kind)]
    taken = any(path.stat().st_size or not args.resume for path in found)
    hint = f"it lacks {last}; " if args.resume else "go on with --resume, or "
    for wrong, message in (
        (uneven, f"{batch_of} cannot be dealt out evenly in {parts} parts"),
        (not args.data, "--data is empty"),
        (late, f"--warmup leaves nothing of --length {recipe['length']}"),
        (bare, "--schedule step needs --milestones"),
        (still and not recipe["momentum"], "--nesterov needs --momentum"),
        (not rising, f"--scales: two rising sizes, not {sizes}"),
        (0 in recipe["std"], "--std: no channel can have a deviation of 0"),
        (args.evaluate and not args.weights, "--evaluate needs --weights"),
        (args.reset_head and not args.weights, "--reset-head needs --weights"),
        (args.confusion and not args.evaluate, "--confusion needs --evaluate"),
        (many and not args.evaluate, "--weights: --evaluate alone takes several"),
        (no_table, f"--confusion: {table} is no .csv file in a folder that exists"),
        (fresh and taken, f"{out} holds a run: {hint}give another --out"),
    ):
        if wrong:
            raise Problem(message)


def rate_at(step: Any, recipe: Recipe, ops: Any = np) -> Any:
    """The learning rate of a step, from 0 on, computed by `ops`: numpy or keras.ops."""
    schedule, warmup, share = recipe["schedule"], recipe["warmup"], 1.0
    start, final = recipe["warmup_start"], recipe["final_rate"]
    if schedule == "step":
        for milestone in recipe["milestones"]:
            share = share * ops.where(step >= milestone, recipe["factor"], 1.0)
    elif schedule != "constant":  # cosine, one_cycle
        way = (step - warmup) / max(recipe["length"] - warmup, 1)
        share = final + (1 - final) * (1 + ops.cos(math.pi * way)) / 2
    way = step / max(warmup, 1)  # through the warm-up
    rise = {"linear": way, "constant": 0.0}[recipe["warmup_shape"]]
    if schedule == "one_cycle":
        rise = (1 - ops.cos(math.pi * way)) / 2
    share = ops.where(step < warmup, start + (1 - start) * rise, share)
    return recipe["learning_rate"] * share


def identity(args: Args) -> Recipe:
    """What must be unchanged to resume a run."""
    own = ("network", "seed", "freeze_until", "keras_optimizer", "recipe")
    return {key: getattr(args, key, None) for key in own}


def check_same(saved: Recipe, args: Args) -> None:
    """Raise `Problem` if a checkpoint is of another network, recipe or seed."""
    for key, kind in (("step", int), ("worse", int), ("best", (int, float))):
        if not (isinstance(saved[key], kind) and saved[key] >= 0):
            raise ValueError(f"{key} is {saved[key]!r}")
    then = {**saved, **saved["recipe"]}
    for key, value in {**args.recipe, **identity(args)}.items():
        if key == "class_names":  # which may be many
            same_classes(then.get(key, []), value)
        elif value != then.get(key):
            was = f"{args.out}: the checkpoint was trained with {key} {then.get(key)}"
            raise Problem(f"{was}, not {value}; give the same, or another --out")


@contextlib.contextmanager
def alone(folder: Path, writes: bool = True) -> Iterator[None]:
    """Make a folder and keep other runs out of it; raises `Problem`."""
    with reading(folder, "a folder to write to"):
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
    if not writes or sys.platform == "win32":  # which locks no folders
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the process ends
        except BlockingIOError:
            told = "another process trains there; give another --out"
            raise Problem(f"{folder}: {told}") from None
        except OSError:  # some network file systems cannot lock a folder
            pass
        yield
    finally:
        os.close(held)


class Log(contextlib.AbstractContextManager["Log"]):
    """Where a run is; its progress bar, metrics.jsonl, TensorBoard and curve.png."""

    def __init__(self, args: Args, saved: Recipe, quiet: bool) -> None:
        """Go on from what a checkpoint has saved, if there is one."""
        self.args, self.path, self.quiet = args, args.out / "metrics.jsonl", quiet
        self.step: int = saved.get("step", 0)
        self.best: float = saved.get("best", math.inf)
        self.worse: int = saved.get("worse", 0)  # evaluations since then
        if args.resume and not self.step and not quiet:
            print(f"{args.out}: no step to go on from; starts at 0", file=sys.stderr)
        self.logged, self.since = self.step, time.perf_counter()
        self.bar = tqdm(total=args.steps, initial=self.step, unit="step", disable=quiet)
        self.board = cast(Any, None)
        self.lines: list[dict[str, Any]] = []
        self.stopped: list[int] = []  # signals to stop after this step
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        if quiet:
            return
        if self.step and self.path.exists():
            with reading(self.path, "a log of this trainer; --resume works without it"):
                # Lines after the checkpoint will be logged again.
                whole = self.path.read_text(encoding="utf-8").rpartition("\n")[0]
                lines = [unpacked(line) for line in whole.splitlines()]
                self.lines = [line for line in lines if line["step"] <= self.step]
        with reading(args.out, "a folder to write to"):
            # Left by a run that was killed, or rewritten below, without gaps.
            for kind in [".*.*.[0-9]*"] + [EVENTS] * args.tensorboard:
                for path in [*args.out.glob(kind)]:
                    path.unlink()
        if args.tensorboard:
            with reading("--tensorboard", "possible; pip install tensorboard"):
                board = importlib.import_module("tensorboard.summary")
                self.board = board.Writer(str(args.out))
        text = "".join(f"{json.dumps(line)}\n" for line in self.lines)
        write_whole(self.path, text.encode())
        for line in self.lines:
            self.show(line)

    @property
    def state(self) -> Recipe:
        """What a checkpoint keeps of it, and what must be unchanged to resume."""
        own = {"step": self.step, "best": self.best, "worse": self.worse}
        return identity(self.args) | own

    @property
    def left(self) -> int:
        """How many steps there are to go; none when the patience is exhausted."""
        exhausted = 0 < self.args.recipe["patience"] <= self.worse
        return 0 if exhausted else max(self.args.steps - self.step, 0)

    def stop(self, number: int, _: Any) -> None:
        """Note a signal; a second one stops at once."""
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped.append(number)

    def end(self, halted: bool) -> int:
        """Say why a run ends; the exit status of its process."""
        halted = halted and self.left > 0
        why = f"; the last is {self.args.steps}"
        if halted:
            why = "; go on with --resume"
        elif 0 < self.args.recipe["patience"] <= self.worse:
            why = f": {self.worse} evaluations without improvement (--patience)"
        if not self.quiet:
            print(f"stopped after step {self.step}{why}", file=sys.stderr)
        signals = self.stopped or [signal.SIGTERM]  # another process had it
        return 128 + signals[0] if halted else 0

    def advance(self) -> tuple[bool, bool, bool]:
        """Count a step; whether to evaluate, to save and to log after it."""
        self.step += 1
        self.bar.update()
        args, step = self.args, self.step
        evaluates = step == args.steps or step % args.epoch == 0
        saves = evaluates or bool(args.save_every and step % args.save_every == 0)
        return evaluates, saves, saves or step % args.log_every == 0

    def improves(self, found: dict[str, float]) -> bool:
        """Log an evaluation; whether its error is the lowest of the run."""
        self.tell(**found)
        self.worse = 0 if found["val_error"] < self.best else self.worse + 1
        self.best = min(self.best, found["val_error"])
        return self.worse == 0

    def require(self, sound: bool, wrong: str) -> None:
        """Raise `Problem` if training has diverged."""
        if not sound:
            hint = "lower --learning-rate, or lengthen --warmup"
            where = f"{wrong} after step {self.step}"
            raise Problem(f"{where}; the last checkpoint stays: {hint}")

    def tell(self, **values: float) -> None:
        """Log what was measured since the last line; `Problem` if it is not finite."""
        for key, value in values.items():
            self.require(math.isfinite(value), f"{key} is {value}")
        steps, now = self.step - self.logged, time.perf_counter()
        if steps:  # none between the line of a step and that of its evaluation
            seen = steps * self.args.recipe["batch_size"]
            values["images_per_second"] = seen / (now - self.since)
        self.logged, self.since = self.step, now
        if self.quiet:
            return
        shown = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        if steps:
            self.bar.set_postfix_str(shown)
        else:
            self.bar.write(f"step {self.step}: {shown}")
        line = {"step": self.step, **values}
        self.lines.append(line)
        write_whole(self.path, f"{json.dumps(line)}\n".encode(), append=True)
        self.show(line)

    def show(self, line: dict[str, Any]) -> None:
        """Write a line to TensorBoard."""
        for key in line.keys() - {"step"} if self.board else ():
            self.board.add_scalar(key, line[key], line["step"])

    def draw(self) -> None:
        """Plot the curves to curve.png: loss on the left axis, errors on the right."""
        figure = Figure(figsize=(8, 4), layout="constrained")
        left = figure.subplots()
        right = left.twinx()
        for key, colour, axis in (
            ("loss", "royalblue", left),
            ("error", "lightcoral", right),
            ("val_error", "crimson", right),
        ):
            points = [(line["step"], line[key]) for line in self.lines if key in line]
            if points:
                label = f"{key}: {points[-1][1]:.4f}"
                axis.plot(*zip(*points), ".-", color=colour, label=label)
        left.set(xlabel="step", ylabel="loss", ylim=(0, None))
        right.set(ylabel="error", ylim=(0, 1))
        if self.lines:
            figure.legend(loc="outside upper center", ncols=3)
        picture = io.BytesIO()
        figure.savefig(picture)
        write_whole(self.path.with_name("curve.png"), picture.getvalue())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.close()
        if self.board:
            self.board.close()
        if kind is None and not self.quiet:
            self.draw()
