"""The input of the runners: weights, statistics, images and labels from a seed.

No value is zero or one, and no two are alike: a scale of zero would hide a whole branch, a variance
of one a wrong epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from resnet_spec.verify.plan import Plan, Tensor

Arrays = dict[str, np.ndarray]


def weights(plan: Plan, seed: int) -> Arrays:
    """A value in double precision for every parameter and statistic."""
    source = np.random.default_rng(seed)
    return {name: _value(tensor, source) for name, tensor in plan.tensors()}


def _value(tensor: Tensor, source: np.random.Generator) -> np.ndarray:
    if len(tensor.shape) > 1:
        # Variance 2 / fan_in keeps values in scale through layers of ReLU (He et al. 2015).
        bound = math.sqrt(3 * 2 / math.prod(tensor.shape[1:]))
        return source.uniform(-bound, bound, tensor.shape)
    if tensor.name in ("bias", "running_mean", "tau"):
        return source.uniform(-0.5, 0.5, tensor.shape)
    return source.uniform(0.5, 1.5, tensor.shape)


def near(plan: Plan, measured: Mapping[str, np.ndarray], seed: int) -> Arrays:
    """The measured values with each statistic moved by up to a third of its deviation.

    With statistics far from those of the data, values would grow without bound in a deep network;
    with exactly those of the data, running training mode for eval mode would go unnoticed.
    """
    source = np.random.default_rng(seed)
    moved = dict(measured)
    for operation in plan.operations:
        mean, variance = f"{operation.name}.running_mean", f"{operation.name}.running_var"
        if variance not in measured:
            continue
        shape = measured[variance].shape
        deviation = np.sqrt(measured[variance] + 1e-3)
        moved[mean] = measured[mean] + source.uniform(-1 / 3, 1 / 3, shape) * deviation
        moved[variance] = measured[variance] * source.uniform(0.6, 1.6, shape) + 1e-3
    return moved


def rounded_otherwise(values: Mapping[str, np.ndarray], seed: int) -> Arrays:
    """Each value moved by one rounding of double precision, up or down."""
    source = np.random.default_rng(seed)
    return {
        name: np.nextafter(each, source.choice([-np.inf, np.inf], each.shape))
        for name, each in values.items()
    }


def images(plan: Plan, seed: int) -> np.ndarray:
    """A batch (N, C, H, W)."""
    return np.random.default_rng(seed).standard_normal((plan.batch, *plan.input))


def targets(plan: Plan, seed: int) -> np.ndarray:
    """A class for each sample (and place, where the logits are a map), as ones among zeros."""
    classes, *places = plan.classes
    drawn = np.random.default_rng(seed).integers(classes, size=(plan.batch, *places))
    return np.moveaxis(np.eye(classes)[drawn], -1, 1)
