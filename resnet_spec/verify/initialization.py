"""Whether fresh parameters have the distribution that the spec states.

Every bound below holds for any number of values, not only for many, so that the rate of false
alarms is as stated.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from resnet_spec.primitives import Distribution, Initializer, distribution
from resnet_spec.verify.plan import Tensor

FALSE_ALARMS = 1e-6  # of one network on one framework, all its tensors together
TESTS = 3  # of each tensor: mean, standard deviation, distribution
QUANTILES = 512  # places at which the distribution is looked at


class Summary(NamedTuple):
    """What was drawn: how many values, and how they lie about the stated mean.

    `distance` is the largest between the stated distribution and that of the values, `first`
    tells one draw from another.
    """

    size: int
    mean: float
    power: float  # mean square about the stated mean
    low: float
    high: float
    distance: float
    first: str


def stated(tensor: Tensor) -> Distribution:
    """The distribution of a tensor's initializer."""
    return distribution(Initializer(tensor.kind, tensor.value), tensor.shape)


def summarize(draws: Sequence[np.ndarray], distribution: Distribution) -> Summary:
    """A summary of the values of one tensor in several fresh models."""
    values = np.concatenate([draw.ravel().astype("float64") for draw in draws])
    about = values - distribution.mean
    return Summary(
        size=values.size,
        mean=float(about.mean() + distribution.mean),
        power=float(np.square(about).mean()),
        low=float(values.min()),
        high=float(values.max()),
        distance=_distance(values, distribution) if distribution.deviation else 0.0,
        first=np.sort(draws[0].ravel())[:8].astype("float32").tobytes().hex(),
    )


def _distance(values: np.ndarray, distribution: Distribution) -> float:
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    if distribution.bound is None:
        normal = NormalDist(distribution.mean, distribution.deviation)
        places = np.array([normal.inv_cdf(level) for level in levels])
    else:
        places = distribution.mean + distribution.bound * (2 * levels - 1)
    below = np.searchsorted(np.sort(values), places, side="right") / values.size
    return float(np.abs(below - levels).max())


def worst(tensors: Mapping[str, Tensor], found: Mapping[str, Summary]) -> tuple[float, str, str]:
    """What chance allows is used up most where, and by what; of several beyond it, the first."""
    seen: dict[str, str] = {}
    spent = []
    for name, summary in found.items():
        distribution = stated(tensors[name])
        ratio, test = excess(summary, distribution, len(tensors))
        twin = seen.setdefault(summary.first, name) if distribution.deviation else name
        if twin != name:  # one initializer for two layers draws the same for both
            ratio, test = math.inf, f"another draw than that of {twin}"
        spent.append((ratio, name, test))
    beyond = [each for each in spent if each[0] > 1.0]
    return (beyond or sorted(spent, reverse=True))[0]


def excess(found: Summary, distribution: Distribution, tensors: int) -> tuple[float, str]:
    """The largest deviation of a tensor relative to what chance allows, and the test that found it.

    Above one, it is not chance: fewer than `FALSE_ALARMS` of all fair draws get there.
    """
    if not distribution.deviation:
        scale = max(abs(distribution.mean), 1.0)
        off = max(abs(found.low - distribution.mean), abs(found.high - distribution.mean))
        return off / (scale * 1e-6), f"all {distribution.mean:g}"  # stored in single precision
    chance = FALSE_ALARMS / (TESTS * tensors)
    ratios = [
        (abs(found.mean - distribution.mean) / _mean_bound(distribution, found.size, chance),
         f"mean {distribution.mean:g}"),
        (_power_ratio(distribution, found, chance),
         f"standard deviation {distribution.deviation:.4g}"),
        (found.distance / math.sqrt(math.log(2 / chance) / (2 * found.size)),  # Massart 1990
         "uniform" if distribution.bound else "normal"),
    ]  # fmt: skip
    if distribution.bound:
        reach = max(-found.low, found.high) / (distribution.bound * (1 + 1e-6))
        ratios.append((reach if reach > 1 else 0.0, f"bound {distribution.bound:.4g}"))
    return max(ratios)


def _mean_bound(distribution: Distribution, count: int, chance: float) -> float:
    if distribution.bound is None:
        return NormalDist().inv_cdf(1 - chance / 2) * distribution.deviation / math.sqrt(count)
    return distribution.bound * math.sqrt(2 * math.log(2 / chance) / count)  # Hoeffding 1963


def _power_ratio(distribution: Distribution, found: Summary, chance: float) -> float:
    """The mean square's distance from the variance over what chance allows."""
    variance = distribution.deviation**2
    off = found.power - variance
    if distribution.bound is not None:  # squares lie between 0 and bound**2: Hoeffding 1963
        allowed = distribution.bound**2 * math.sqrt(math.log(2 / chance) / (2 * found.size))
        return abs(off) / allowed
    # Squares of normal values: Laurent and Massart 2000, lemma 1.
    x = math.log(2 / chance)
    spread = 2 * math.sqrt(x / found.size)
    return (
        off / (variance * (spread + 2 * x / found.size)) if off > 0 else -off / (variance * spread)
    )
