"""Runs the IR itself: what a network computes in eval mode, without a framework.

Each operation runs as its definition in numpy (`primitives.numpy_values`), in double precision.
This is slow but exact: `verify` compares the frameworks with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from resnet_spec.ir.graph import Instance, Network, Operation
from resnet_spec.primitives.numpy_values import VALUES, Call

Arrays = Mapping[str, np.ndarray]
Watch = Callable[[str, Sequence[np.ndarray]], None]


class Mismatch(Exception):
    """The definition of an operation gives another shape than the compiler inferred."""

    def __init__(self, name: str, shape: tuple[int, ...], inferred: tuple[int, ...]) -> None:
        sizes = ("x".join(map(str, each)) for each in (shape, inferred))
        super().__init__("by its definition its output is {}, not {}".format(*sizes))
        self.name = name


class Outputs(NamedTuple):
    """The logits (N, classes), and the output of each stage (N, C, H, W) by its name; float64."""

    logits: np.ndarray
    stages: dict[str, np.ndarray]


def outputs(
    network: Network, weights: Arrays, images: np.ndarray, watch: Watch | None = None
) -> Outputs:
    """The outputs of a network for images (N, C, H, W) in eval mode, computed in float64.

    `weights` has each parameter and running statistic by its dotted name, in PyTorch's order of
    axes. `watch` is called with the name and the outputs of each operation. Values that are no
    longer needed are freed, so memory hardly grows with depth. The definitions of the primitives
    are those of primitives/numpy_values.py.

    Raises `Mismatch` if an output does not have the shape that was inferred.
    """
    root, given = network.root, images.astype(np.float64, copy=False)
    kept = frozenset({root.result, *(stage.result for stage in network.stages)})
    with np.errstate(all="ignore"):  # what is not finite is told where it is compared
        found = _Run(weights, watch).instance(root, "", given, kept)
    return Outputs(found[root.result], {each.name: found[each.result] for each in network.stages})


def apply(
    operation: Operation, inputs: Sequence[np.ndarray], parameters: Arrays
) -> tuple[np.ndarray, ...]:
    """The outputs of one operation in float64.

    `inputs` are maps (N, C, H, W) or vectors (N, C); `parameters` are arrays in PyTorch's order of
    axes, by their names within the operation, such as `weight`.
    """
    call = Call(SimpleNamespace(**operation.attributes), inputs, parameters)
    made = VALUES[operation.primitive.name](call)
    return (made,) if isinstance(made, np.ndarray) else tuple(made)


@dataclass(frozen=True)
class _Run:
    """One run of a network; only blocks within blocks recur, so no depth is too large."""

    weights: Arrays
    watch: Watch | None

    def instance(
        self, instance: Instance, prefix: str, x: np.ndarray, kept: frozenset[int]
    ) -> dict[int, np.ndarray]:
        """The values of an instance that are to be kept, by their numbers."""
        values, unneeded = {0: x}, _unneeded(instance, kept)
        for number, step in enumerate(instance.steps):
            name, given = f"{prefix}{step.name}", [values[each] for each in step.inputs]
            if isinstance(step.node, Operation):
                made = self.operation(name, step.node, given)
            else:
                result = step.node.result
                made = (
                    self.instance(step.node, f"{name}.", given[0], frozenset({result}))[result],
                )
            values.update(zip(step.outputs, made, strict=True))
            for each in unneeded[number]:
                del values[each]
        return values

    def operation(
        self, name: str, operation: Operation, inputs: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        parameters = {
            each.name: self.weights[f"{name}.{each.name}"].astype(np.float64, copy=False)
            for each in operation.parameters
        }
        made = apply(operation, inputs, parameters)
        for each in made:
            if each.shape[1:] != operation.output.dimensions:
                raise Mismatch(name, each.shape[1:], operation.output.dimensions)
        if self.watch is not None:
            self.watch(name, made)
        return made


def _unneeded(instance: Instance, kept: frozenset[int]) -> list[list[int]]:
    """For each step, the values that no later one takes."""
    last = {0: 0}
    for number, step in enumerate(instance.steps):
        last.update(dict.fromkeys((*step.inputs, *step.outputs), number))
    found: list[list[int]] = [[] for _ in instance.steps]
    for value, number in last.items():
        if value not in kept and found:
            found[number].append(value)
    return found
