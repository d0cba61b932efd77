"""Single precision: whether both frameworks are as exact as it allows.

In single precision, gradients can't be compared directly: each layer magnifies rounding, a deep
network by thousands. So each framework's error is measured against PyTorch in double precision, and
the errors are compared. For this, the models use softplus instead of ReLU: otherwise rounding could
move a value across zero in one framework only and change its whole gradient. Like ReLU's, softplus'
values are never negative, which the padding of a pooling may rely on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from resnet_spec.verify import compare

Arrays = Mapping[str, np.ndarray]

EPSILON = float(np.finfo(np.float32).eps)
FEW = 16  # values of a tensor whose error is small by chance, now and then


def rounded(values: Arrays) -> dict[str, np.ndarray]:
    """What single precision can hold of some values, in double precision."""
    return {name: value.astype("float32").astype("float64") for name, value in values.items()}


@dataclass(frozen=True)
class Errors:
    """A framework's error in each tensor, and the smallest error that rounding allows."""

    sizes: Mapping[str, float]  # root mean square
    least: Mapping[str, float]

    def over(self, other: Errors) -> dict[str, float]:
        """How many times as large these are as others."""
        return {
            name: size / max(other.sizes[name], other.least[name])
            for name, size in self.sizes.items()
        }


def errors(found: Arrays, truth: Arrays, names: Iterable[str]) -> Errors:
    """The errors of some tensors.

    None counts as smaller than rounding makes a tensor, or those beside it where its terms cancel,
    and none of a few values as smaller than is usual for the network.
    """
    scales = {name: compare.root_mean_square(truth[name]) for name in names}
    floor = compare.FLOOR * max(scales.values())
    scales = {name: max(scale, floor) for name, scale in scales.items()}
    sizes = {name: compare.root_mean_square(found[name] - truth[name]) for name in scales}
    usual = float(np.median([sizes[name] / scales[name] for name in scales]))
    least = {
        name: scale * (max(usual, EPSILON) if truth[name].size < FEW else EPSILON)
        for name, scale in scales.items()
    }
    return Errors(sizes, least)


def ratios(found: Mapping[str, Arrays], truth: Arrays, names: list[str]) -> dict[str, float]:
    """How many times one framework's error of each tensor is another's; `inf` where one is NaN."""
    measured = {runner: errors(values, truth, names) for runner, values in found.items()}
    over = [one.over(other) for one, other in permutations(measured.values(), 2)]
    worst = {name: float(np.max([each[name] for each in over])) for name in names}
    return {name: ratio if np.isfinite(ratio) else float("inf") for name, ratio in worst.items()}
