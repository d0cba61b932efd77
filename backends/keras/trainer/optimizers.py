"""SGD and AdamW in PyTorch's form, so that both trainers take the same steps.

Keras applies the rate before momentum remembers it, decays weights beside the gradient
rather than through it, and corrects no epsilon: equal only while the rate is constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from common import Recipe


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step, from a table."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = ops.convert_to_tensor(rates, keras.config.floatx())

    def __call__(self, step: Any) -> Any:
        return ops.take(self.rates, ops.minimum(step, len(self.rates) - 1))

    def get_config(self) -> dict[str, Any]:
        return {"rates": ops.convert_to_numpy(self.rates).tolist()}


class Optimizer(keras.optimizers.Optimizer):
    """What PyTorch's form of both optimizers shares: what decays, and clipping."""

    def __init__(
        self, recipe: Recipe, decayed: list[str], rates: Rates, **more: Any
    ) -> None:
        super().__init__(learning_rate=rates, **more)
        self.recipe, self.decayed = recipe, set(decayed)
        # Gradients of all devices, where each has those of its own images.
        self.total: Callable[[list[Any]], Any] = lambda gradients: gradients

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.decays = [
            self.recipe["weight_decay"] * (v.path in self.decayed) for v in variables
        ]
        self.first = [
            self.add_variable_from_reference(v, name="first") for v in variables
        ]
        if self.recipe["optimizer"] == "adamw":
            self.second = [
                self.add_variable_from_reference(v, name="second") for v in variables
            ]

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        most = self.recipe["clip_norm"]
        if not most:
            return grads
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in self.total(grads)))
        return [grad * ops.minimum(most / (norm + 1e-6), 1.0) for grad in grads]


class SGD(Optimizer):
    """Momentum over gradients, the rate applied last; weight decay joins the gradient."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index, momentum = self._get_variable_index(variable), self.recipe["momentum"]
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype) + self.decays[index] * variable
        velocity = momentum * self.first[index] + gradient
        self.assign(self.first[index], velocity)
        if self.recipe["nesterov"]:
            velocity = gradient + momentum * velocity
        self.assign_sub(variable, rate * velocity)


class AdamW(Optimizer):
    """Epsilon is added after the correction of the second moment's bias."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index, dtype = self._get_variable_index(variable), variable.dtype
        rate, gradient = ops.cast(learning_rate, dtype), ops.cast(gradient, dtype)
        beta1, beta2 = self.recipe["beta1"], self.recipe["beta2"]
        step = ops.cast(self.iterations + 1, dtype)
        first = self.first[index] * beta1 + gradient * (1 - beta1)
        second = self.second[index] * beta2 + ops.square(gradient) * (1 - beta2)
        self.assign(self.first[index], first)
        self.assign(self.second[index], second)
        one, two = (ops.convert_to_tensor(beta, dtype) for beta in (beta1, beta2))
        spread = (
            ops.sqrt(second) / ops.sqrt(1 - ops.power(two, step))
            + self.recipe["epsilon"]
        )
        change = first / (1 - ops.power(one, step)) / spread
        self.assign(
            variable, variable * (1 - rate * self.decays[index]) - rate * change
        )
