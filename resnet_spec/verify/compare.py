"""How differences are measured, and how large rounding can make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from resnet_spec.verify.plan import Plan

FLOOR = 1e-3
"""Fraction of the largest value of a measurement that is the smallest scale of a tensor.

A sum whose terms cancel, such as the gradient of a bias before a norm, is only as exact as its
terms: what is left is rounding error.
"""


# In double precision, where one operation is rounded by 1e-16. Each is some ten times what 150
# layers add up to (docs/equivalence.md has what was measured), and far below what mistakes make.
DOUBLE = {
    "exact": 0.0,
    "chance": 1.0,
    # Sums of up to 5,000 products, 150 times one after the other, roundings of any sign.
    "forward": 1e-10,
    # One of the two is numpy, by the definitions of the operations.
    "definition": 1e-10,
    # The same; norms divide by what few values make of their deviation.
    "training": 1e-10,
    # ONNX Runtime convolves in single precision alone, in which one operation is rounded by 6e-8.
    "single": 1e-4,
    # Means and squares of those of "forward".
    "statistics": 1e-11,
    # Through all layers a second time; norms over a dozen values divide by small deviations.
    "gradients": 1e-10,
    # Ten updates, each of which starts from the roundings of the one before.
    "trajectory": 1e-9,
    # Adam divides each gradient by its own size: the rounding of small ones counts as of large.
    "adam": 1e-9,
}
# A network that trains may magnify rounding more: deep ones do, whose norms see few values, by the
# billions. How much, PyTorch tells by what it makes of weights that are rounded otherwise.
MAGNIFIED = frozenset({"training", "statistics", "gradients", "trajectory", "adam"})
ALIKE = 10.0
"""The largest allowed ratio of the frameworks' difference to that of two runs of PyTorch.

Measured: 0.5 to 4.2 in networks of 20 to 200 layers, for differences from 1e-15 to 4e-7.
"""
LIMIT = 1e-3
"""A difference above this proves nothing: rounding has driven the values too far apart."""
# In single precision one operation is rounded by 6e-8. Training has no bound there: norms of few
# values magnify rounding, each network in its own measure; but the errors of two frameworks are of
# one size.
SINGLE = {
    "exact": 0.0,
    "chance": 1.0,
    "forward": 1e-4,
    "definition": 1e-4,
    "single": 1e-4,
    # Half way, in bits, to what one operation makes in float16 or TF32, which have 13 bits less;
    # bfloat16 has 16 less.
    "error": 100.0,
}

# Some operations have constants that are rounded to single precision, whatever their input is:
# these on TensorFlow, if not `numerics: exact`, and PyTorch's 1/6 in the slope of a hard sigmoid.
ROUNDED_BY_TENSORFLOW = frozenset({"gelu", "leaky_relu"})
ROUNDED_BY_TORCH = frozenset({"hard_sigmoid"})
CONSTANTS = 1e-6


def tolerance(kind: str, plan: Plan, keras_backend: str) -> float:
    """How far two runners of a network may be apart."""
    usual = (DOUBLE if plan.precision == "float64" else SINGLE)[kind]
    rounded: frozenset[str] = frozenset()
    if keras_backend == "tensorflow" and not plan.exact and kind != "definition":
        rounded |= ROUNDED_BY_TENSORFLOW
    if kind in ("gradients", "trajectory", "adam"):
        rounded |= ROUNDED_BY_TORCH
    uses = any(operation.primitive in rounded for operation in plan.operations)
    return max(usual, CONSTANTS) if uses and kind not in ("exact", "chance", "error") else usual


class Difference(NamedTuple):
    """The largest difference of a measurement, and the tensor in which it was found."""

    value: float
    name: str
    compared: int


def most(values: np.ndarray) -> float:
    """The largest absolute value."""
    return float(np.abs(values).max())


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values.astype("float64"))))) if values.size else 0.0


def relative(
    one: np.ndarray,
    other: np.ndarray,
    floor: float = 0.0,
    size: Callable[[np.ndarray], float] = most,
) -> float:
    """The size of the difference over the largest absolute value of `other`."""
    if one.shape != other.shape:
        return float("inf")
    if not one.size:
        return 0.0
    distance = size(one - other)
    if not np.isfinite(distance):
        return float("inf")
    scale = max(most(other), floor)
    return distance / scale if scale else distance


def largest(
    one: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    names: Iterable[str],
    size: Callable[[np.ndarray], float] = most,
) -> Difference:
    """Over some tensors; the difference of a missing one is infinite."""
    found, worst, count = 0.0, "", 0
    wanted = list(names)
    scale = max((most(other[n]) for n in wanted if n in other and other[n].size), default=0.0)
    for name in wanted:
        count += 1
        missing = name not in one or name not in other
        value = float("inf") if missing else relative(one[name], other[name], FLOOR * scale, size)
        if value > found or not worst:
            found, worst = max(value, found), name
    return Difference(found, worst, count)


class Spread(NamedTuple):
    """How far the tensors of two runs are apart: at most, and in root mean square."""

    largest: float
    usual: float

    @staticmethod
    def of(
        one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], names: list[str]
    ) -> Spread:
        return Spread(
            largest(one, other, names).value,
            largest(one, other, names, root_mean_square).value,
        )

    def like(self, own: Spread) -> bool:
        """Whether the spread of another pair of runs, caused by rounding alone, explains this.

        If one framework computed with fewer bits, few values would be rounded differently, but
        those by much: the largest difference would be as large as that of the other pair, but the
        mean square would not.
        """
        return self.largest <= ALIKE * own.largest and self.usual <= ALIKE * own.usual
