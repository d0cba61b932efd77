"""Models of Keras with weights by which nothing is hidden."""

from __future__ import annotations

from typing import Any

import numpy as np


def randomized(model: Any) -> Any:
    """A model none of whose weights is as it began, so that each makes a difference."""
    draw = np.random.default_rng(0)
    for variable in model.weights:
        if "seed" in variable.path or variable.path.endswith("count"):
            continue
        fresh = variable.path.rpartition("/")[2] in ("gamma", "moving_variance", "variance")
        scale = 1 / np.sqrt(max(np.prod(variable.shape[:-1]), 1)) if not fresh else 0.1
        scale = 0.1 if len(variable.shape) < 2 else scale
        variable.assign(float(fresh) + scale * draw.standard_normal(variable.shape))
    return model


def residual(x: Any, filters: int, stride: int, name: str) -> Any:
    from keras import layers as kl

    y = kl.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    y = kl.BatchNormalization(name=f"{name}_bn1")(y)
    y = kl.Activation("relu", name=f"{name}_act1")(y)
    y = kl.Conv2D(filters, 3, padding="same", name=f"{name}_conv2")(y)
    y = kl.BatchNormalization(name=f"{name}_bn2")(y)
    if stride != 1 or x.shape[-1] != filters:
        x = kl.Conv2D(filters, 1, stride, name=f"{name}_fit")(x)
        x = kl.BatchNormalization(name=f"{name}_fitbn")(x)
    return kl.ReLU(name=f"{name}_act2")(kl.Add(name=f"{name}_add")([y, x]))
