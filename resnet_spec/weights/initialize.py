"""Fresh values for a parameter, drawn as the spec states."""

from __future__ import annotations

import math
from typing import Any

from resnet_spec.ops import Initializer, Parameter


def fresh(parameter: Parameter, generator: Any) -> Any:
    """Values of float32 in PyTorch's order of axes; `generator` is numpy's."""
    import numpy

    shape, given = parameter.shape, parameter.initializer
    match given.kind:
        case "zeros":
            drawn = numpy.zeros(shape)
        case "ones":
            drawn = numpy.ones(shape)
        case "constant":
            drawn = numpy.full(shape, float(given.value or 0.0))
        case "normal" | "he_normal":
            drawn = generator.normal(0.0, _deviation(parameter), shape)
        case "he_uniform" | "lecun_uniform":
            bound = math.sqrt(3) * _deviation(parameter)
            drawn = generator.uniform(-bound, bound, shape)
        case kind:
            raise ValueError(kind)
    return drawn.astype(numpy.float32)


def _deviation(parameter: Parameter) -> float:
    given = parameter.initializer
    if given.kind == "normal":
        return float(given.value or 0.0)
    gain = 1 / 3 if given.kind == "lecun_uniform" else 2.0
    return math.sqrt(gain / _fan(parameter.shape, given))


def _fan(shape: tuple[int, ...], given: Initializer) -> int:
    """Inputs or outputs of one weight, as PyTorch counts them: without regard to groups."""
    outputs, inputs, *window = shape
    return (outputs if given.value == "fan_out" else inputs) * math.prod(window)
