"""What the trainers of all frameworks share: the schedule, the log, and files."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from matplotlib.figure import Figure
from tqdm import tqdm  # type: ignore[import-untyped]

Recipe = dict[str, Any]
DIVERGED = "; the last checkpoint stays: lower --learning-rate, or lengthen --warmup"


class Problem(Exception):
    """Something that the user can mend; the text says what and how."""


# --- recipe ---------------------------------------------------------------------------


def lr_at(step: int, recipe: Recipe, unit: int) -> float:
    """The learning rate of a step, counted from 0; `unit` is the number of steps in a unit."""
    rate, start = recipe["learning_rate"], recipe["warmup_start"]
    warmup, total = recipe["warmup"] * unit, recipe["length"] * unit
    if step < warmup:
        rise = step / warmup
        if recipe["schedule"] == "one_cycle":
            rise = (1 - math.cos(math.pi * rise)) / 2
        elif recipe["warmup_shape"] == "constant":
            rise = 0.0
        return float(rate * (start + (1 - start) * rise))
    if recipe["schedule"] == "step":
        passed = sum(step >= milestone * unit for milestone in recipe["milestones"])
        return float(rate * recipe["factor"] ** passed)
    if recipe["schedule"] in ("cosine", "one_cycle"):
        left = (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2
        return float(rate * (recipe["final_rate"] + (1 - recipe["final_rate"]) * left))
    return float(rate)


def network_of(name: str) -> ModuleType:
    """The module of a network, by its file: another may be known by its name."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"network_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def freeze(name: str, freeze_until: Any) -> None:
    """Freeze what runs before a stage or layer; raises `Problem` for a wrong name."""
    if freeze_until is None:
        raise Problem(
            "--freeze-until: the layers of this network do not stand as they run"
        )
    try:
        freeze_until(name)
    except ValueError as error:
        raise Problem(f"--freeze-until: {error}") from None


def identity(args: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    own = {
        "network": args.network,
        "seed": args.seed,
        "freeze_until": args.freeze_until,
    }
    return {**own, "recipe": recipe}


def check_same(saved: Recipe, args: argparse.Namespace, recipe: Recipe) -> None:
    """`Problem` where a checkpoint is of another network, recipe or seed."""
    now, then = identity(args, recipe), saved
    for key, value in {**now, **recipe}.items():
        was = {**then, **then.get("recipe", {})}.get(key)
        if key != "recipe" and value != was:
            raise Problem(
                f"{args.out}: the checkpoint was trained with {key} {was}, not {value}; "
                "give the same, or another --out"
            )


def stop_signals() -> list[int]:
    """The signals to stop that come from now on, SIGTERM or ctrl-C; a second ends at once."""
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return came


# --- what a run leaves ----------------------------------------------------------------


class Log:
    """What is told of a run: a progress bar, metrics.jsonl, and TensorBoard's files.

    Only one of the processes of a run is to write.
    """

    def __init__(
        self, args: argparse.Namespace, step: int, steps: int, batch: int, writes: bool
    ) -> None:
        folder: Path = args.out
        self.path, self.writes = folder / "metrics.jsonl", writes
        self.step, self.batch = step, batch
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=not writes)
        self.since = step, time.perf_counter()
        self.lines: list[dict[str, Any]] = []
        self.board: Any = None
        if not writes:
            return
        make_folder(folder)
        if step:  # what was told after the checkpoint comes again
            self.lines = [line for line in told(self.path) if line["step"] <= step]
        text = "".join(f"{json.dumps(line)}\n" for line in self.lines)
        write_whole(self.path, text.encode())
        if args.tensorboard:  # its file is written anew: no gap, and nothing twice
            for path in folder.glob("events.out.tfevents.*"):
                path.unlink()
            self.board = board_of(folder)
            for line in self.lines:
                self.show(line)

    def advance(self) -> None:
        """A step is done."""
        self.step += 1
        self.bar.update()

    def tell(self, **values: float) -> None:
        """Tell what was measured; raises `Problem` where it is not finite."""
        wrong = [f"{k} is {v}" for k, v in values.items() if not math.isfinite(v)]
        if wrong:
            what = f"{' and '.join(wrong)} after step {self.step}"
            raise Problem(f"{what}{DIVERGED}")
        if "loss" in values:
            step, then = self.since
            self.since = self.step, time.perf_counter()
            seconds = self.since[1] - then
            values["images_per_second"] = (self.step - step) * self.batch / seconds
            self.bar.set_postfix({key: f"{value:.4g}" for key, value in values.items()})
        else:
            found = ", ".join(f"{key} {value:.4f}" for key, value in values.items())
            if self.writes:
                self.bar.write(f"step {self.step}: {found}")
            self.since = self.step, time.perf_counter()
        self.lines.append({"step": self.step, **values})
        if self.writes:
            with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(self.lines[-1])}\n")
        if self.board:
            self.show(self.lines[-1])

    def show(self, line: dict[str, Any]) -> None:
        """Tell TensorBoard a line."""
        for key, value in line.items():
            if key != "step":
                self.board.add_scalar(key, value, line["step"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Draw the curves, curve.png, unless something went wrong."""
        self.bar.close()
        if self.board:
            self.board.close()
        if self.writes and kind is None:
            draw(self.lines, self.path.with_name("curve.png"))


def board_of(folder: Path) -> Any:
    """What writes TensorBoard's files; raises `Problem` where it is not installed."""
    try:
        return importlib.import_module("tensorboard.summary").Writer(str(folder))
    except ImportError:
        raise Problem("--tensorboard needs it: pip install tensorboard") from None


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """The curves as a picture: the loss on the left axis, the errors on the right one."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    for axis, key, colour in (
        (left, "loss", "royalblue"),
        (right, "error", "lightcoral"),
        (right, "val_error", "crimson"),
    ):
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            told = f"{key}: {points[-1][1]:.4f} at step {points[-1][0]}"
            axis.plot(*zip(*points), color=colour, marker=".", label=told)
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    right.set(ylabel="error", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=3)
    with writing(path):
        figure.savefig(path)


def told(path: Path) -> list[dict[str, Any]]:
    """The lines of an earlier metrics.jsonl; one that was cut off ends them."""
    lines: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError):
        lines.extend(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    return lines


def make_folder(folder: Path) -> None:
    """Make the folder of a run; raises `Problem`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"cannot make the folder {folder}: {error.strerror}") from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """`Problem` for what keeps a file from being written."""
    try:
        yield
    except OSError as error:
        what = f"cannot write {path}: {error.strerror or error}"
        raise Problem(f"{what}; the last checkpoint is as before") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; raises `Problem`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
