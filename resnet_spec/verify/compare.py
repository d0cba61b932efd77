"""The one measure of a difference, and how large a difference rounding can make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from resnet_spec.verify.plan import Plan

FLOOR = 1e-3
"""Part of the largest value of a measurement below which no tensor's own scale is taken.

A sum whose terms cancel, such as the gradient of a bias before a norm, is as exact as its terms,
not as itself: what is left of it is rounding alone.
"""


# In double precision, where one operation is rounded by 1e-16. Each is some ten times what 150
# layers add up to (docs/equivalence.md has what was measured), and far below what mistakes make.
DOUBLE = {
    "exact": 0.0,
    "chance": 1.0,
    # Sums of up to 5,000 products, 150 times one after the other, roundings of any sign.
    "forward": 1e-10,
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
# In single precision one operation is rounded by 6e-8. Training has no bound there: norms of few
# values magnify rounding, each network in its own measure; but the errors of two frameworks are of
# one size.
SINGLE = {
    "exact": 0.0,
    "chance": 1.0,
    "forward": 1e-4,
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
    """How far two witnesses of a network may be apart."""
    usual = (DOUBLE if plan.precision == "float64" else SINGLE)[kind]
    rounded: frozenset[str] = frozenset()
    if keras_backend == "tensorflow" and not plan.exact:
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


def relative(one: np.ndarray, other: np.ndarray, floor: float = 0.0) -> float:
    """The largest absolute difference over the largest absolute value of `other`."""
    if one.shape != other.shape:
        return float("inf")
    if not one.size:
        return 0.0
    distance = float(np.abs(one - other).max())
    if not np.isfinite(distance):
        return float("inf")
    scale = max(float(np.abs(other).max()), floor)
    return distance / scale if scale else distance


def largest(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], names: Iterable[str]
) -> Difference:
    """Over some tensors; one that is missing on one side differs without bound."""
    found, worst, count = 0.0, "", 0
    wanted = list(names)
    scale = max((float(np.abs(other[n]).max()) for n in wanted if n in other and other[n].size),
                default=0.0)  # fmt: skip
    for name in wanted:
        count += 1
        missing = name not in one or name not in other
        value = float("inf") if missing else relative(one[name], other[name], FLOOR * scale)
        if value > found or not worst:
            found, worst = max(value, found), name
    return Difference(found, worst, count)
