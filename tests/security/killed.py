"""Runs a command again and again, and ends it by a signal at each step of writing in turn.

`python killed.py FOLDER SIGNAL WORD...`: each run starts from a copy of FOLDER/before;
what is left of run N stands in FOLDER/N. Prints the exit code of each; the last is
that of a run that was left alone. The runs are forks, which need not import anything again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from resnet_spec.backends import json, torch
from resnet_spec.cli import compile as _compile
from resnet_spec.cli import run
from resnet_spec.codegen import generate

IMPORTED = (json, torch, _compile, generate)  # once for all runs


def main() -> None:
    folder, number, words = Path(sys.argv[1]), signal.Signals[sys.argv[2]], sys.argv[3:]
    if words[0] == "weights":
        with contextlib.suppress(ModuleNotFoundError):
            import safetensors.numpy  # noqa: F401
    if words[0] == "import":
        from resnet_spec.cli import importing  # noqa: F401
        from resnet_spec.importing import proof, run  # noqa: F401

        proof.installed = lambda package: False  # the proof writes nothing
    for point in itertools.count():
        place = folder / str(point)
        shutil.copytree(folder / "before", place)
        child = os.fork()
        if child == 0:
            end_at(point, number, place, words)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)
        if code == 0:
            return


def end_at(point: int, number: signal.Signals, place: Path, words: list[str]) -> NoReturn:
    os.chdir(place)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    steps = itertools.count()

    def step() -> None:
        if next(steps) == point:
            os.kill(os.getpid(), number)

    def watched(does: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            step()
            found = does(*arguments, **options)
            step()
            return found

        return call

    for name in ("replace", "fsync", "link", "chmod"):
        setattr(os, name, watched(getattr(os, name)))
    sys.argv[1:] = words
    run.program()


if __name__ == "__main__":
    main()
