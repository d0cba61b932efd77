"""What runs of the compiled trainers came to, kept in docs/training, a file for each run.

    python tests/docs/training_record.py tensorflow runs/tensorflow/*

The folders are those of runs on Fashion-MNIST, with networks that were compiled with the recipe of
that name, on this machine; whatever else their command said is found in their checkpoints.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from resnet_spec.codegen.generate import generate
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

FOLDER = Path(__file__).parents[2] / "docs" / "training"
RECIPE = "fashion_mnist"
# What a run is made of, by its engine: the folder of the trainer, and distributions.
TRAINERS = {"torch": "torch", "tensorflow": "keras", "jax": "keras"}
LIBRARIES = {
    "torch": ("torch", "numpy"),
    "tensorflow": ("tensorflow", "keras", "numpy"),
    "jax": ("jax", "keras", "numpy"),
}
# What a recipe takes from its images, and no flag sets.
FROM_IMAGES = ("input", "classes", "loss_weights")
POINTS = 50  # of a curve, at most


@dataclass(frozen=True)
class Record:
    """A run: what made it, and what it came to at its last step."""

    command: str
    network: str
    engine: str
    seed: int
    steps: int
    val_error: float  # share of the test images, after the last step
    val_loss: float
    curve: list[tuple[int, float]]  # step, and mean loss in training since the point before
    machine: str
    threads: int
    versions: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.network}-{self.engine}-{self.steps}-{self.seed}"


def record(engine: str, folder: Path) -> Record:
    """The record of a run that went to its end; raises `ValueError` for one that did not."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    saved = checkpoint(engine, folder)
    last = lines[-1]
    if "val_error" not in last or last["step"] != saved["recipe"]["length"]:
        raise ValueError(f"{folder}: the run has not come to its end")
    return Record(
        command=command(engine, saved),
        network=saved["network"],
        engine=engine,
        seed=saved["seed"],
        steps=saved["step"],
        val_error=last["val_error"],
        val_loss=last["val_loss"],
        curve=list(thinned([(line["step"], line["loss"]) for line in lines if "loss" in line])),
        machine=machine(),
        threads=int(os.environ["OMP_NUM_THREADS"]),
        versions=versions(engine),
    )


def checkpoint(engine: str, folder: Path) -> dict[str, Any]:
    """Network, seed, step and recipe of a run's last checkpoint."""
    if engine == "torch":
        import torch

        saved: dict[str, Any] = torch.load(folder / "last.pt", weights_only=True)
        return saved
    import numpy as np

    with np.load(folder / "last.npz") as file:
        saved = json.loads(str(file["state"]))
        return saved


def command(engine: str, saved: dict[str, Any]) -> str:
    """The command line of a run: what its recipe has other than the compiled one is a flag."""
    own = recipe(saved["network"])
    changed = {k: v for k, v in saved["recipe"].items() if k not in FROM_IMAGES and v != own[k]}
    flags = [f"--{key.replace('_', '-')} {value}" for key, value in changed.items()]
    program = f"python fashion/{TRAINERS[engine]}/train.py {saved['network']}"
    words = [program, "--data fashion-mnist", *flags, f"--seed {saved['seed']}"]
    backend = [] if engine == "torch" else [f"KERAS_BACKEND={engine}"]
    return " ".join([*backend, *words])


def recipe(network: str) -> dict[str, Any]:
    """The recipe that is compiled beside a network."""
    files = generate(lower(load(network, Library(), [f"training={RECIPE}"])), ["torch"], True)
    return tomllib.loads(files[PurePosixPath("torch", f"{network}.toml")])


def thinned(points: list[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """At most `POINTS` of a curve, each the mean over the steps since the one before."""
    taken = -(-len(points) // POINTS)
    before = 0
    for first in range(0, len(points), taken):
        total, start = 0.0, before
        for step, loss in points[first : first + taken]:
            total, before = total + loss * (step - before), step
        yield before, round(total / (before - start), 4)


def machine() -> str:
    """The kind of processor, and the number of its cores that there are."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", text)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"


def versions(engine: str) -> dict[str, str]:
    """Of Python and of what the trainer computes with."""
    found = {"python": platform.python_version()}
    installed = {each.name for each in metadata.distributions()}
    for name in LIBRARIES[engine]:
        found[name] = metadata.version(name if name in installed else f"{name}-cpu")
    return found


def read(folder: Path = FOLDER) -> list[Record]:
    """All records, sorted by name."""
    values = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return [Record(**{**v, "curve": [tuple(point) for point in v["curve"]]}) for v in values]


def write(made: Record, folder: Path = FOLDER) -> None:
    """Keep a record."""
    text = json.dumps(asdict(made), indent=1)
    text = re.sub(r"\[\s+(\d+),\s+([\d.]+)\s+\]", r"[\1, \2]", text)  # a point on a line
    (folder / f"{made.name}.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    engine, *folders = sys.argv[1:]
    for folder in folders:
        write(record(engine, Path(folder)))


if __name__ == "__main__":
    main()
