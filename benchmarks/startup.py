"""Whole processes of `resnet-spec` beside the import of the libraries that it stands on.

    python benchmarks/startup.py [repetitions]

Runs the `resnet-spec` that is installed for this Python, each time into an empty folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

from measure import Comparison, Task, interleaved, report

SPECS = Path(__file__).resolve().parent.parent / "specs"
PROGRAM = Path(sys.executable).with_name("resnet-spec")
IMPORTS = "import pydantic, jinja2, yaml"
# Without byte code our modules would be parsed in every process; those that pip installs are not.
ENVIRONMENT = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}

# The networks for CIFAR-10 of the paper's section 4.2: 6n + 2 layers.
CIFAR = """\
spec_version: 1
name: resnet{layers}
class_name: ResNet{layers}
description: ResNet-{layers} for images of 32 by 32
input: {{channels: 3, height: 32, width: 32}}
classes: 10
stem:
  - {{conv: conv1, filters: 16, kernel: 3}}
  - {{norm: bn1}}
  - {{act: act1}}
stages:
  - {{name: layer1, block: basic, repeat: {blocks}, filters: 16, stride: 1}}
  - {{name: layer2, block: basic, repeat: {blocks}, filters: 32, stride: 2}}
  - {{name: layer3, block: basic, repeat: {blocks}, filters: 64, stride: 2}}
head:
  - {{global_avg_pool: avgpool}}
  - {{linear: fc, features: classes}}
"""

COMPARISONS = [
    Comparison("compile resnet101", IMPORTS, 1.3),
    Comparison("compile resnet1202", "compile resnet20", 1.3),
    Comparison("--help", IMPORTS, 1),
    Comparison("--version", IMPORTS, 1),
]


def main(repetitions: int) -> None:
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM.name} is not installed beside {sys.executable}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for blocks in (3, 200):
            layers = 6 * blocks + 2
            text = CIFAR.format(layers=layers, blocks=blocks)
            (folder / f"resnet{layers}.yaml").write_text(text, encoding="utf-8")
        tasks: dict[str, Task] = {
            "python": process(sys.executable, "-c", "pass"),
            IMPORTS: process(sys.executable, "-c", IMPORTS),
            "--help": process(PROGRAM, "--help"),
            "--version": process(PROGRAM, "--version"),
            "compile resnet101": compilation(SPECS / "resnet101.yaml", folder),
            "compile resnet20": compilation(folder / "resnet20.yaml", folder),
            "compile resnet1202": compilation(folder / "resnet1202.yaml", folder),
        }
        medians = interleaved(tasks, repetitions)
        print(report(medians, COMPARISONS))
        print(same_length(folder))


def process(*command: str | Path) -> Task:
    """A task that runs a command, and ends this program when the command fails."""

    def run() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stderr}")

    return run


def compilation(spec: Path, folder: Path) -> Task:
    """A task that compiles a spec to PyTorch into a folder that is empty every time."""
    numbers = count()

    def run() -> None:
        out = folder / f"{spec.stem}-{next(numbers)}"
        process(PROGRAM, "compile", spec, "--backend", "torch", "--out", out)()
        written = out / "torch" / f"{spec.stem}.py"
        shutil.copy(written, folder / written.name)  # fails where nothing was written
        shutil.rmtree(out)

    return run


def same_length(folder: Path) -> str:
    lines = {
        name: len((folder / f"{name}.py").read_text(encoding="utf-8").splitlines())
        for name in ("resnet20", "resnet1202")
    }
    return ", ".join(f"{name}.py: {number} lines" for name, number in lines.items())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
