"""The plan for the runners of one network: its operations and how to run it.

It is written as JSON next to the sources, so that a runner, which is a separate process, does not
need the compiler.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from resnet_spec.diagnostics import Span, Use
from resnet_spec.ir import Instance, Network, Operation, Step

PLAN = "plan.json"
RANDOM = frozenset({"dropout", "drop_path"})  # what training draws is never the same twice
BATCH = 2
ENOUGH = 8
"""The least number of values per channel that a norm sees; the batch is larger if necessary.

A norm turns any two values into -1 and 1, which hides what came before. If they are as close as the
root of its epsilon, it magnifies their rounding errors by the hundreds, at every layer.
"""


class Tensor(NamedTuple):
    """A parameter or a statistic; `shape` and the initializer as in the IR."""

    name: str  # within its operation
    shape: tuple[int, ...]
    trainable: bool
    kind: str
    value: float | str | None


class PlannedOperation(NamedTuple):
    """An operation in the flat graph; values are numbered, 0 is the images.

    `shape` is that of each output for one sample, `given` that of the first input.
    """

    name: str
    primitive: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    given: tuple[int, ...]
    shape: tuple[int, ...]
    momentum: float
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True)
class Plan:
    """One network as its runners see it; `input` is (channels, height, width)."""

    name: str
    input: tuple[int, int, int]
    classes: tuple[int, ...]  # shape of the logits of one sample
    batch: int
    precision: str
    exact: bool  # Keras is to train and round as PyTorch does, `numerics: exact`
    stages: tuple[str, ...]
    operations: tuple[PlannedOperation, ...]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter and statistic by its canonical name."""
        for operation in self.operations:
            for tensor in operation.tensors:
                yield f"{operation.name}.{tensor.name}", tensor

    def write(self, folder: Path) -> None:
        text = json.dumps(dataclasses.asdict(self))
        (folder / PLAN).write_text(text, encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Plan:
        values = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        values["operations"] = tuple(_operation(each) for each in values["operations"])
        values["stages"] = tuple(values["stages"])
        values["input"] = tuple(values["input"])
        values["classes"] = tuple(values["classes"])
        return Plan(**values)


def _operation(values: Sequence[Any]) -> PlannedOperation:
    *plain, tensors = (tuple(value) if isinstance(value, list) else value for value in values)
    return PlannedOperation._make([*plain, tuple(_tensor(*each) for each in tensors)])


def _tensor(name: str, shape: list[int], *others: Any) -> Tensor:
    return Tensor(name, tuple(shape), *others)


class Site(NamedTuple):
    """Where the spec states an operation, and the uses that led there, outermost first."""

    span: Span
    uses: tuple[Use, ...]


def plan_of(network: Network, precision: str) -> tuple[Plan, Mapping[str, Site]]:
    """The plan of a network, and where its operations stand in the spec."""
    height, width = network.input.height, network.input.width
    assert height is not None and width is not None
    found = list(_flat(network))
    operations = tuple(operation for operation, _ in found)
    plan = Plan(
        name=network.name,
        input=(network.input.channels, height, width),
        classes=network.root.output.dimensions,
        batch=_batch(operations),
        precision=precision,
        exact=network.numerics == "exact",
        stages=tuple(stage.name for stage in network.stages if stage.feature),
        operations=operations,
    )
    return plan, {operation.name: site for operation, site in found}


def _flat(network: Network) -> Iterator[tuple[PlannedOperation, Site]]:
    numbers = iter(range(1, 2**53))

    def walk(
        instance: Instance, prefix: str, source: int, uses: tuple[Use, ...]
    ) -> Iterator[tuple[PlannedOperation, Site] | int]:
        """The operations of an instance, and at the end the number of its result."""
        values = {0: source}
        for step in instance.steps:
            name = f"{prefix}{step.name}"
            inputs = tuple(values[each] for each in step.inputs)
            if isinstance(step.node, Operation):
                outputs = tuple(next(numbers) for _ in step.outputs)
                values.update(zip(step.outputs, outputs, strict=True))
                yield _planned(name, step.node, inputs, outputs), Site(step.statement.span, uses)
                continue
            for each in walk(step.node, f"{name}.", inputs[0], (*uses, *_uses(name, step))):
                if isinstance(each, int):
                    values[step.outputs[0]] = each
                else:
                    yield each
        yield values[instance.result]

    for each in walk(network.root, "", 0, ()):
        if not isinstance(each, int):
            yield each


def _uses(name: str, step: Step) -> tuple[Use, Use]:
    assert isinstance(step.node, Instance)
    block = step.node.definition
    return Use(name, step.statement.span), Use(f"block {block.name}", block.span)


def _planned(
    name: str, operation: Operation, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> PlannedOperation:
    momentum = operation.attributes.get("momentum", 0.0)
    assert isinstance(momentum, int | float)
    return PlannedOperation(
        name,
        operation.primitive.name,
        inputs,
        outputs,
        operation.inputs[0].dimensions,
        operation.output.dimensions,
        float(momentum),
        tuple(
            Tensor(each.name, each.shape, each.trainable, *each.initializer)
            for each in operation.parameters
        ),
    )


def _batch(operations: Sequence[PlannedOperation]) -> int:
    """The smallest batch in which every norm sees enough values."""
    norms = (each for each in operations if not all(tensor.trainable for tensor in each.tensors))
    fewest = min((_places(norm) for norm in norms), default=ENOUGH)
    return max(BATCH, math.ceil(ENOUGH / fewest))


def memory(plan: Plan, frameworks: int = 2) -> int:
    """The least number of bytes that some frameworks need to train a network side by side.

    Each keeps the output of every operation for the backward pass and, besides the weights, their
    gradients and the two moments of Adam.
    """
    kept = sum(len(each.outputs) * math.prod(each.shape) for each in plan.operations)
    weights = sum(math.prod(tensor.shape) for _, tensor in plan.tensors())
    size = 8 if plan.precision == "float64" else 4
    return frameworks * size * (plan.batch * kept + 4 * weights)


def normalized(plan: Plan, operation: PlannedOperation) -> int:
    """How many values of a channel one batch gives to an operation."""
    return plan.batch * _places(operation)


def _places(operation: PlannedOperation) -> int:
    return math.prod(operation.given[1:])
