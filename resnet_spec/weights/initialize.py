"""Fresh values for a parameter, drawn as the spec states."""

from __future__ import annotations

from typing import Any

from resnet_spec.primitives import Parameter, distribution


def fresh(parameter: Parameter, generator: Any) -> Any:
    """Values of float32 in PyTorch's order of axes; `generator` is numpy's."""
    import numpy

    stated = distribution(parameter.initializer, parameter.shape)
    if not stated.deviation:
        drawn = numpy.full(parameter.shape, stated.mean)
    elif stated.bound is not None:
        drawn = generator.uniform(-stated.bound, stated.bound, parameter.shape)
    else:
        drawn = generator.normal(stated.mean, stated.deviation, parameter.shape)
    return drawn.astype(numpy.float32)
