"""What a sweep can tell of a variant: each column by its name, computed where it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property

from resnet_spec.ir import Instance, Network, Stage
from resnet_spec.ir.reach import Reach, Reaches
from resnet_spec.ir.summary import peak_activation
from resnet_spec.sweep.space import Value, column_name

Cell = Value | None  # None: there is no such number, as of a stage that a variant lacks
Column = Callable[["Variant"], Cell]

DEFAULT = ("parameters", "macs")


class Variant:
    """A network of a sweep."""

    def __init__(self, network: Network) -> None:
        self.network = network

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """The stages by their names in columns."""
        return {column_name(f"stages.{each.name}"): each for each in self.network.stages}

    @cached_property
    def reaches(self) -> dict[int, Reach | None]:
        """How far each value of the network sees."""
        return Reaches().values(self.network.root)

    @property
    def last(self) -> Stage | None:
        """The last stage, whose map the head is made for."""
        return self.network.stages[-1] if self.network.stages else None


def columns(network: Network) -> dict[str, Column]:
    """Every column of a network and its variants."""
    found: dict[str, Column] = {
        "parameters": lambda each: each.network.root.parameters,
        "statistics": lambda each: each.network.root.statistics,
        "macs": lambda each: each.network.root.macs,
        "operations": lambda each: each.network.root.size,
        "peak_activation": lambda each: peak_activation(each.network),
        **{kind: _of_last(kind) for kind in ("receptive_field", "stride", "output")},
    }
    names = Counter(column_name(f"stages.{each.name}") for each in network.stages)
    for name in (name for name, count in names.items() if count == 1):
        for kind in OF_STAGES:
            found.setdefault(f"{name}_{kind}", _of_stage(name, kind))
    return found


def _of_last(kind: str) -> Column:
    rule = OF_STAGES[kind]
    return lambda each: rule(each, each.last) if each.last is not None else None


def _of_stage(name: str, kind: str) -> Column:
    rule = OF_STAGES[kind]

    def cell(variant: Variant) -> Cell:
        stage = variant.stages.get(name)
        return rule(variant, stage) if stage is not None else None

    return cell


def _alone(variant: Variant, stage: Stage) -> Instance:
    """The steps of a stage, as if they were all of the network."""
    root = variant.network.root
    steps = tuple(root.steps[index] for index in stage.steps)
    return Instance(root.definition, {}, {}, stage.input, stage.output, steps, 0)


def _reach(variant: Variant, stage: Stage) -> Reach | None:
    return variant.reaches[stage.result]


# What there is to tell of a stage: `layer4_output`.
OF_STAGES: dict[str, Callable[[Variant, Stage], Cell]] = {
    "output": lambda variant, stage: str(stage.output),
    "channels": lambda variant, stage: stage.output.channels,
    "height": lambda variant, stage: stage.output.height,
    "width": lambda variant, stage: stage.output.width,
    "receptive_field": lambda variant, stage: (
        reach.field if (reach := _reach(variant, stage)) else None
    ),
    "stride": lambda variant, stage: reach.stride if (reach := _reach(variant, stage)) else None,
    "parameters": lambda variant, stage: _alone(variant, stage).parameters,
    "macs": lambda variant, stage: _alone(variant, stage).macs,
}
