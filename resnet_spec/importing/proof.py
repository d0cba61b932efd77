"""The proof of an import: one graph, and the same numbers out for the same images.

The compiled PyTorch network and the source's own runtime each run in a process of their own. What
is not installed is told, and not proven.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.codegen.generate import generate
from resnet_spec.importing.readers.model import Model
from resnet_spec.ir import Network
from resnet_spec.verify.session import ENVIRONMENT, Process, RunnerError

WORKER = "resnet_spec.importing.worker"
TOLERANCE = 1e-4  # of the largest output


class Compared(NamedTuple):
    """How far two outputs are apart, relative to the largest; or why they were not compared."""

    difference: float | None
    reason: str = ""

    @property
    def holds(self) -> bool:
        return self.difference is not None and self.difference <= TOLERANCE


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def images_for(model: Model) -> Any:
    """Images as the model takes them, drawn by a fixed seed."""
    return np.random.default_rng(0).standard_normal(model.shape, dtype=np.float32)


def compared(
    network: Network, weights: Path, model: Model, source: Mapping[str, Any], folder: Path
) -> Compared:
    """The compiled network's logits against the model's output.

    `weights` is a safetensors file in PyTorch's names; `source` is what the worker is asked for,
    with the packages that it needs. Raises `RunnerError`.
    """
    for package in ("torch", "safetensors", *source["packages"]):
        if not installed(package):
            return Compared(None, f"{package} is not installed")
    images = images_for(model)
    np.save(folder / "theirs.npy", images)
    ours = images.transpose(0, 3, 1, 2) if model.is_channels_last else images
    np.save(folder / "ours.npy", np.ascontiguousarray(ours))
    path = folder / f"{network.name}.py"
    path.write_text(next(iter(generate(network, ("torch",)).values())), encoding="utf-8")
    asked = {
        "do": "compiled",
        "source": str(path),
        "name": network.name,
        "weights": str(weights),
        "images": str(folder / "ours.npy"),
    }
    found = _answer("torch", asked, folder / "found.npy")
    theirs = {k: v for k, v in source.items() if k not in ("packages", "kind")}
    theirs["images"] = str(folder / "theirs.npy")
    wanted = _answer(source["kind"], theirs, folder / "wanted.npy")
    return _difference(found, wanted, model.ends_in_softmax)


def _answer(kind: str, asked: Mapping[str, Any], out: Path) -> Any:
    """What a worker computed; the process ends with its answer, and its memory with it."""
    process = Process(kind, ENVIRONMENT, WORKER)
    try:
        process.ask(out=str(out), **asked)
        process.answer()
    except RunnerError:
        process.kill()
        raise
    finally:
        process.close()
    return np.load(out)


def _difference(found: Any, wanted: Any, softmax: bool) -> Compared:
    """Relative to the largest number of the source."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    if softmax:
        found = np.exp(found - found.max(axis=1, keepdims=True))
        found /= found.sum(axis=1, keepdims=True)
    if found.size != wanted.size:
        return Compared(float("inf"))
    if not np.isfinite(wanted).all():
        return Compared(None, "the model's own output is not finite")
    largest = float(np.abs(wanted).max())
    apart = float(np.abs(found.reshape(wanted.shape) - wanted).max())
    if not np.isfinite(apart):
        return Compared(float("inf"))
    return Compared(apart / largest if largest else apart)
