"""The frameworks that can run a network: one record each, with what differs outside of runners.

A runner is a module `runner_<name>` with a class `Runner` and a function `set_smooth`, which makes
its framework use softplus for ReLU. To add a framework, add a record here and such a module.
"""

from __future__ import annotations

from typing import NamedTuple


class Framework(NamedTuple):
    """One runner: whose text it runs, what it rests on, and how people call it."""

    name: str
    label: str
    backend: str  # whose text it runs
    packages: tuple[str, ...]  # that it imports
    extra: str  # what installs them
    biased: bool = False  # its own running variance is over N values, where PyTorch's is over N - 1
    whole: bool = True  # whether it trains, too


FRAMEWORKS: dict[str, Framework] = {
    each.name: each
    for each in (
        Framework("torch", "PyTorch", "torch", ("torch",), "torch"),
        Framework("keras", "Keras", "keras", ("keras",), "keras", biased=True),
        Framework("flax", "Flax", "flax", ("flax", "jax"), "flax", biased=True),
        Framework("onnx", "ONNX Runtime", "torch", ("onnx", "onnxruntime"), "onnx", whole=False),
    )
}
REFERENCE = "torch"
"""Whom the others are compared with."""
