"""Runs what the Flax backend writes for single operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import parity

from resnet_spec.backends import flax as backend
from resnet_spec.backends.flax import primitives, shared
from resnet_spec.backends.flax.primitives import Context
from resnet_spec.backends.flax.variables import VARIABLES
from resnet_spec.codegen.layout import flat
from resnet_spec.expressions import Const
from resnet_spec.ir import Operation
from resnet_spec.specialize import OperationLine, Value

IMPORTS = """\
from functools import partial, reduce
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
"""


@contextmanager
def double_precision() -> Iterator[None]:
    """JAX computes in float64 where it is given float64, with programs that compile quickly."""
    import jax

    # A program that runs once on small arrays takes longer to optimise than to run.
    wanted = {"jax_enable_x64": True, "jax_disable_most_optimizations": True}
    before = {name: jax.config.read(name) for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@cache
def space() -> dict[str, Any]:
    """The names that a module may use: its imports, and all layers of the backend's own."""
    text = Path(backend.__file__).with_name("layers.py").read_text(encoding="utf-8")
    return vars(parity.run(f"{text}\n{IMPORTS}", "layers_of_flax"))


def line_of(operation: Operation) -> OperationLine:
    """The operation as a line of a class, all of its attributes being numbers."""
    attributes = {
        name: Const(value) if isinstance(value, int | float) else value
        for name, value in operation.attributes.items()
    }
    inputs = tuple(Value(f"x{number}") for number in range(len(operation.inputs)))
    channels = tuple(Const(each.channels) for each in operation.inputs)
    return OperationLine(operation.primitive, attributes, ("one",), inputs, channels, Value("y"))


def text_of(operation: Operation, exact: bool) -> str:
    """The text of an operation's layer."""
    line = line_of(operation)
    context = Context(line, {}, shared.collect([line], exact), exact)
    return flat(context.write(primitives.MODULES))


def made(operation: Operation, exact: bool = False) -> tuple[str, Any]:
    """The text of an operation's layer, and the layer."""
    from flax import nnx

    text = text_of(operation, exact)
    return text, eval(text, {**space(), "rngs": nnx.Rngs(0)})


def fill(layer: Any, operation: Operation, parameters: Mapping[str, np.ndarray]) -> None:
    """Gives a layer its parameters, in double precision."""
    import jax.numpy as jnp

    for parameter in operation.parameters:
        name, axes = VARIABLES[operation.primitive.name, parameter.name]
        variable = getattr(layer, name)
        value = parameters[parameter.name].transpose(axes)
        assert variable.shape == value.shape
        variable.set_value(jnp.asarray(value))


def last(value: np.ndarray) -> Any:
    """A value in Flax's order of axes."""
    import jax.numpy as jnp

    return jnp.asarray(np.moveaxis(value, 1, -1))


def first(value: Any) -> np.ndarray:
    """A value of Flax in PyTorch's order of axes."""
    return np.moveaxis(np.asarray(value), -1, 1)


def called(operation: Operation, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What a call of `__call__` makes of some inputs."""
    line = line_of(operation)
    names = [value.name for value in line.inputs]
    text = flat(Context(line, {}, inputs=names).write(primitives.CALLS))
    given = dict(zip(names, map(last, inputs), strict=True))
    return listed(eval(text, {**space(), **given}))


def applied(layer: Any, x: np.ndarray) -> list[np.ndarray]:
    """What a layer makes of an input in evaluation."""
    if hasattr(layer, "eval"):
        layer.eval()
    return listed(layer(last(x)))


def listed(outputs: Any) -> list[np.ndarray]:
    return [first(each) for each in (outputs if isinstance(outputs, list) else [outputs])]
