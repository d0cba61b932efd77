"""A runner in a process of its own, which `isolated` starts with the kind of the runner.

Reads one request a line as JSON, answers each with one line of JSON; arrays go through files.
Whatever else a framework prints goes to standard error.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from resnet_spec.verify import initialization
from resnet_spec.verify.frameworks import FRAMEWORKS
from resnet_spec.verify.optimizers import Recipe
from resnet_spec.verify.plan import Plan


class Worker:
    """Answers requests about one network at a time."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.runner: Any = None
        self.folder = Path()
        self.plan: Plan | None = None

    # - requests -

    def versions(self) -> dict[str, str]:
        """Of what the runner rests on."""
        return {name: importlib.import_module(name).__version__ for name in self.rests_on()}

    def rests_on(self) -> list[str]:
        engine = [os.environ["KERAS_BACKEND"]] if self.kind == "keras" else []
        return list(dict.fromkeys([*FRAMEWORKS[self.kind].packages, *engine]))

    def open(self, folder: str, precision: str | None = None, smooth: bool = False) -> None:
        """Builds the model whose source and plan stand in a folder.

        In another precision than the plan's, if one is given, and with softplus for ReLU.
        """
        self.folder = Path(folder)
        tempfile.tempdir = folder  # what a framework leaves goes with it
        plan = Plan.read(self.folder)
        self.plan = dataclasses.replace(plan, precision=precision or plan.precision)
        self.runner = None  # frees the last one
        source = FRAMEWORKS[self.kind].backend
        module = load_module(self.folder / f"{source}.py", f"generated_{self.plan.name}")
        framework = importlib.import_module(f"resnet_spec.verify.runner_{self.kind}")
        framework.set_smooth(smooth)
        self.runner = framework.Runner(self.plan, module)

    def describe(self) -> dict[str, Any]:
        """Name, shape and trainability of every parameter and statistic."""
        described: dict[str, Any] = self.runner.describe()
        return described

    def load(self, weights: str) -> None:
        with np.load(self.folder / weights) as found:
            self.runner.load(found)  # which reads a tensor when it is asked for

    def state(self, out: str) -> None:
        self.save(out, self.runner.state())

    def calibrate(self, images: str, out: str) -> None:
        self.save(out, self.runner.calibrate(self.array(images)))

    def forward(self, images: str, training: bool, out: str) -> None:
        self.save(out, self.runner.forward(self.array(images), training))

    def gradients(self, images: str, targets: str, out: str) -> None:
        self.save(out, self.runner.gradients(self.array(images), self.array(targets)))

    def train(self, images: str, targets: str, recipe: list[Any], out: str) -> None:
        given = Recipe(recipe[0], tuple(recipe[1]), *recipe[2:])
        self.save(out, self.runner.train(self.array(images), self.array(targets), given))

    def trace(self, images: str, training: bool, out: str) -> None:
        self.save(out, self.runner.trace(self.array(images), training))

    def initial(self, seeds: list[int]) -> dict[str, Any]:
        assert self.plan is not None
        draws = [self.runner.initial(seed) for seed in seeds]
        return {
            name: initialization.summarize(
                [draw[name] for draw in draws], initialization.stated(tensor)
            )
            for name, tensor in self.plan.tensors()
            if name in draws[0]
        }

    # - arrays -

    def array(self, name: str) -> np.ndarray:
        found: np.ndarray = np.load(self.folder / name)
        return found

    def save(self, name: str, values: dict[str, np.ndarray]) -> None:
        np.savez(self.folder / name, **dict[str, Any](values))


def load_module(path: Path, name: str) -> types.ModuleType:
    """A generated module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # saving looks a class up there
    spec.loader.exec_module(module)
    return module


def serve(worker: object, requests: IO[str], answers: IO[str]) -> None:
    """Answers until there are no more requests."""
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"value": getattr(worker, request.pop("do"))(**request)}
        except Exception as error:
            import traceback

            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(answer), file=answers, flush=True)


def run(worker_of: Callable[[str], Any], free: Callable[[Any], None] | None = None) -> NoReturn:
    """Serves standard input, as a process that was told its kind, and ends the process.

    `free` lets go of what a worker holds of the user's, when all exit handlers are done.
    """
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What frameworks and models read and print is not of the conversation.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    worker = worker_of(sys.argv[1])
    serve(worker, requests, answers)
    # As Python ends, which besides would take up to a second to free the modules of a framework.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if free:
        free(worker)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or none
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    run(Worker)
