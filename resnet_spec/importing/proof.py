"""The proof of an import: one graph, and the same numbers out for the same images.

The compiled PyTorch network and the source's own runtime each run in a process of their own. What
is not installed is told, and not proven.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.codegen.generate import generate
from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import Unsupported, unreadable, unsaid
from resnet_spec.importing.readers.model import Model
from resnet_spec.ir import Network
from resnet_spec.verify.session import ENVIRONMENT, Process
from resnet_spec.weights import keras_model

_WORKER = "resnet_spec.importing.worker"
# Several processes work at a time: threads that wait leave the processors to the others.
_ENVIRONMENT = {**ENVIRONMENT, "OMP_WAIT_POLICY": "PASSIVE"}
TOLERANCE = 1e-4  # of the largest output


DECIDES = (
    "the language has no conditions on values, and a graph has the way that was taken for one image"
)
_BY_VALUES = "its code decides by values of the images: for pixels from 0 to 255 it does otherwise"
MAX_ELEMENTS = 1 << 28  # of the largest map of a batch: 1 GiB


class NotRun(Exception):
    """A model that its own runtime can't run here; the text says why."""


class Runtime(NamedTuple):
    """What gives the output of a model for `images_for` it, and the packages that it needs.

    It may raise `NotRun`. `of_pixels` gives that for `pixels_for` it, of code that may decide by
    values.
    """

    packages: tuple[str, ...]
    output: Callable[[], Any]
    of_pixels: Callable[[], Any] | None = None


class Compared(NamedTuple):
    """How far two outputs are apart, relative to the largest; or why they were not compared."""

    difference: float | None
    reason: str = ""
    is_constant: bool = False  # the output is the same for other images: equal logits tell little

    @property
    def holds(self) -> bool:
        return self.difference is not None and self.difference <= TOLERANCE


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def images_for(model: Model, seed: int = 0) -> Any:
    """Images as the model takes them, drawn by a fixed seed."""
    return np.random.default_rng(seed).standard_normal(model.shape, dtype=np.float32)


def pixels_for(model: Model) -> Any:
    """Images of bytes that nothing has normalised, for which code may decide otherwise."""
    return np.random.default_rng(2).integers(0, 256, model.shape).astype(np.float32)


def process_of(kind: str) -> Process:
    """A process that runs models of a kind."""
    chosen = keras_model.comparing() if kind == "keras" else {}
    return Process(kind, {**_ENVIRONMENT, **chosen}, _WORKER)


def runner(within: ExitStack) -> Process | None:
    """A process for the compiled network, which imports PyTorch meanwhile; None without it."""
    if not installed("torch"):
        return None
    process = within.enter_context(process_of("torch"))
    process.ask("prepare")
    return process


def compared(
    network: Network,
    weights: Path,
    model: Model,
    runtime: Runtime,
    folder: Path,
    process: Process | None,
) -> Compared:
    """The compiled network's logits against the model's output.

    Those of other images tell whether they depend on the images at all: else nothing is proven.
    `weights` is a safetensors file in PyTorch's names, `process` a `runner`. Raises `RunnerError`,
    and `SpecError` (RS953) for code that decides by values of the images.
    """
    for package in ("torch", "safetensors", *runtime.packages):
        if not installed(package):
            return Compared(None, f"{package} is not installed")
    largest = model.shape[0] * _largest_map(network)
    if largest > MAX_ELEMENTS:
        size = "x".join(map(str, model.shape))
        return Compared(
            None, f"for images of {size} a map would take {largest * 4 / 1e9:,.1f} GB of memory"
        )
    ours, found = folder / "ours.npy", folder / "found.npy"
    batches = np.stack([images_for(model), images_for(model, seed=1), pixels_for(model)])
    turned = batches.transpose(0, 1, 4, 2, 3) if model.is_channels_last else batches
    np.save(ours, np.ascontiguousarray(turned))
    assert process is not None  # PyTorch is installed
    _compiled(process, network, weights, ours, found, folder)
    try:
        wanted = runtime.output()
    except NotRun as error:
        return Compared(None, str(error))
    if not np.isfinite(wanted).all():
        unreadable(
            model.shown,
            f"the output of {quoted(model.shown)} is not finite, so nothing can be proven of it",
            "are its weights numbers, and the variances of its norms not negative?",
        )
    logits, others, of_pixels = np.load(found)
    made = _difference(logits, wanted, model.ends_in_softmax)
    if not made.holds:
        return made
    if runtime.of_pixels is not None:
        meant = runtime.of_pixels()
        alike = _difference(of_pixels, meant, model.ends_in_softmax).holds
        if np.isfinite(meant).all() and not alike:
            unsaid(model.shown, Unsupported(_BY_VALUES, "the model", DECIDES))
    varies = _difference(others, logits, softmax=False).difference
    return made._replace(is_constant=varies is not None and varies <= TOLERANCE)


def _largest_map(network: Network) -> int:
    """The numbers of the largest value for one image."""
    values = [network.input, *(operation.output for _, operation in network.operations())]
    return max(each.elements for each in values)


def _compiled(
    process: Process, network: Network, weights: Path, images: Path, out: Path, folder: Path
) -> None:
    """The logits of the network's PyTorch source, by a process that ends with them."""
    path = folder / f"{network.name}.py"
    path.write_text(next(iter(generate(network, ("torch",)).values())), encoding="utf-8")
    files = {"source": path, "weights": weights, "images": images, "out": out}
    named = {key: str(value.resolve()) for key, value in files.items()}
    process.answer()  # that it is prepared
    process.ask("run_compiled", name=network.name, **named)
    process.answer()
    process.close()


def _difference(found: Any, wanted: Any, softmax: bool) -> Compared:
    """Relative to the largest number of the source."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    if softmax:
        found = np.exp(found - found.max(axis=1, keepdims=True))
        found /= found.sum(axis=1, keepdims=True)
    if found.size != wanted.size:
        return Compared(float("inf"))
    largest = float(np.abs(wanted).max())
    apart = float(np.abs(found.reshape(wanted.shape) - wanted).max())
    if not np.isfinite(apart):
        return Compared(float("inf"))
    return Compared(apart / largest if largest else apart)
