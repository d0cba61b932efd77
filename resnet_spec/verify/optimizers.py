"""The updates that training is compared with: PyTorch's, written out for arrays, one at a time.

PyTorch's runner uses `torch.optim` itself. Keras' own optimizers differ: the learning rate is
inside the momentum, decay is decoupled from the gradient, Adam adds epsilon before the bias
correction. So Keras' runner uses these updates, which a test compares with
`torch.optim.SGD` and `torch.optim.AdamW` on the same gradients.
"""

import math
from typing import NamedTuple

import numpy as np


class Recipe(NamedTuple):
    """How a network is trained: one rate for each step; `momentum` is Adam's first beta, too."""

    optimizer: str  # sgd or adamw
    rates: tuple[float, ...]
    momentum: float
    weight_decay: float
    beta2: float = 0.999
    epsilon: float = 1e-8


def rates(peak: float, steps: int, warmup: int = 3) -> tuple[float, ...]:
    """A linear warm-up and half a cosine: another rate at every step."""
    found = []
    for step in range(steps):
        rising = (step + 1) / warmup
        falling = (1 + math.cos(math.pi * (step - warmup + 1) / (steps - warmup + 1))) / 2
        found.append(peak * (rising if step < warmup else falling))
    return tuple(found)


class SGD:
    """`torch.optim.SGD`: decay is part of the gradient, the rate is outside of the momentum."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.velocities: dict[int, np.ndarray] = {}

    def update(self, number: int, value: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        """The new value of one of the tensors; `step` counts from 0."""
        given = self.recipe
        velocity = gradient + given.weight_decay * value
        if step > 0:
            velocity += given.momentum * self.velocities[number]
        self.velocities[number] = velocity
        return value - given.rates[step] * velocity


class AdamW:
    """`torch.optim.AdamW`: decay is apart, epsilon is added after the correction of the bias."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.first: dict[int, np.ndarray] = {}
        self.second: dict[int, np.ndarray] = {}

    def update(self, number: int, value: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        """The new value of one of the tensors; `step` counts from 0."""
        given, rate = self.recipe, self.recipe.rates[step]
        one, two = given.momentum, given.beta2
        # In place: of a layer with 100 million weights each further array takes 0.8 GB.
        if step == 0:
            self.first[number], self.second[number] = np.zeros((2, *gradient.shape), value.dtype)
        first, second = self.first[number], self.second[number]
        first *= one
        first += (1 - one) * gradient
        second *= two
        second += (1 - two) * gradient**2
        scale = np.sqrt(second)
        scale /= math.sqrt(1 - two ** (step + 1))
        scale += given.epsilon
        update = np.divide(first, scale, out=scale)
        update *= rate / (1 - one ** (step + 1))
        changed: np.ndarray = value * (1 - rate * given.weight_decay) - update
        return changed


def optimizer(recipe: Recipe) -> SGD | AdamW:
    """The update that a recipe names."""
    return SGD(recipe) if recipe.optimizer == "sgd" else AdamW(recipe)
