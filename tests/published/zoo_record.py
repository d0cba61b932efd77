"""What was measured of each network of the zoo, kept in tests/published/data/zoo.json.

A row holds digests of what was measured: the graph of the network, and the published networks with
their rules for names. Where one of them has changed since, the row is stale.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from resnet_spec.ir import Instance, Network, Step
from resnet_spec.primitives import Initializer

PATH = Path(__file__).parent / "data" / "zoo.json"
BACKENDS = ("torch", "keras")

# What PyTorch is compared with, by our weights, and what people call it.
OTHERS = {"keras": "Keras", "flax": "Flax", "numpy": "numpy"}

# How far logits may be from the reference's, and those of the others from PyTorch's. Double
# precision leaves room for the order of sums alone; a wrong operation is wrong in the first digits.
BOUNDS = {
    "float64": {"reference": 1e-8, "backends": 1e-10},
    "float32": {"reference": 1e-4, "backends": 1e-4},
}

Count = tuple[int, int]  # trainable parameters, statistics
# How a checkpoint of the reference loads: as it is, through the spec's rules for names, or through
# these with a 1x1 convolution as the linear layer that it is.
Names = Literal["direct", "renamed", "reshaped"]


@dataclass(frozen=True)
class Difference:
    """The largest relative difference of the logits of one batch of images."""

    height: int
    width: int
    precision: str
    value: float
    # Where the reference computes in single precision inside: the same without these casts.
    without_casts: float | None = None

    @property
    def own(self) -> float:
        """What is left of it once the reference computes in the stated precision throughout."""
        return self.value if self.without_casts is None else self.without_casts


@dataclass
class Against:
    """One published network: its count, how its names fit, and how far its logits are."""

    library: str
    model: str
    count: Count | None = None
    names: Names | None = None
    differences: list[Difference] = field(default_factory=list)


@dataclass
class Row:
    """Everything measured of one network; `failures` says what could not be."""

    digests: dict[str, str]
    counts: dict[str, Count] = field(default_factory=dict)  # ir, torch, keras, flax
    references: list[Against] = field(default_factory=list)
    backends: dict[str, list[Difference]] = field(default_factory=dict)  # of each of OTHERS
    failures: list[str] = field(default_factory=list)
    deep: bool = False  # too deep for Keras at Python's usual limit of recursion
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The row that `asdict` made the value from."""
        return cls(
            digests=value["digests"],
            counts={key: _count(each) for key, each in value["counts"].items()},
            references=[
                Against(
                    each["library"],
                    each["model"],
                    each["count"] and _count(each["count"]),
                    each["names"],
                    [Difference(**found) for found in each["differences"]],
                )
                for each in value["references"]
            ],
            backends={
                other: [Difference(**each) for each in found]
                for other, found in value["backends"].items()
            },
            failures=value["failures"],
            deep=value["deep"],
            environment=value["environment"],
        )

    @property
    def all_counts(self) -> dict[str, Count]:
        """By where they were counted: in the IR, in each output, in each reference."""
        theirs = {f"{r.library}: {r.model}": r.count for r in self.references}
        return self.counts | {name: count for name, count in theirs.items() if count is not None}

    def findings(self) -> list[str]:
        """Everything that is not as it must be; nothing of a network that was measured and fits."""
        found = list(self.failures)
        if len(set(self.all_counts.values())) > 1:
            found.append(f"the counts differ: {self.all_counts}")
        for reference in self.references:
            what = f"{reference.library}: {reference.model}"
            found += _beyond(reference.differences, "reference", what)
        for other, differences in self.backends.items():
            found += _beyond(differences, "backends", OTHERS[other])
        return found

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to measure, be it because something failed."""
        return bool(self.failures) or self.backends.keys() == OTHERS.keys()

    def stale(self, network: Network) -> bool:
        """Whether the network has changed since."""
        return self.digests != digests_of(network)


def _beyond(differences: list[Difference], kind: str, what: str) -> list[str]:
    return [
        f"{what} is {each.own:.0e} away at {each.height}x{each.width}"
        for each in differences
        if not each.own <= BOUNDS[each.precision][kind]
    ]


def _count(value: list[int]) -> Count:
    trainable, statistics = value
    return trainable, statistics


def digests_of(network: Network) -> dict[str, str]:
    """Of all that a row depends on; that the texts are this graph, other tests tell."""
    references = [[r.library, r.model, dict(r.rename)] for r in network.references]
    return {
        "graph": _short(json.dumps([network.numerics, _graph(network.root)])),
        "references": _short(json.dumps(references)),
    }


def _graph(instance: Instance) -> list[object]:
    """Every operation with what feeds it; how its parameters begin is left out."""
    return [instance.result, *(_step(step) for step in instance.steps)]


def _step(step: Step) -> list[object]:
    wired = [step.name, step.inputs, step.outputs]
    if isinstance(step.node, Instance):
        return [*wired, _graph(step.node)]
    given = sorted(step.node.attributes.items())
    values = {key: value for key, value in given if not isinstance(value, Initializer)}
    return [*wired, step.node.primitive.name, values]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path = PATH) -> dict[str, Row]:
    """The rows by the name of the network; none where nothing has been measured."""
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    environments = data["environments"]
    return {
        name: Row.from_json({**value, "environment": environments[value["environment"]]})
        for name, value in data["networks"].items()
    }


def write(rows: dict[str, Row], path: Path = PATH) -> None:
    """Replaces the record; each environment stands once, each row on one line."""
    environments: list[dict[str, str]] = []
    lines = []
    for name, row in sorted(rows.items()):
        if row.environment not in environments:
            environments.append(row.environment)
        value = {**asdict(row), "environment": environments.index(row.environment)}
        lines.append(f"{json.dumps(name)}: {json.dumps(value)}")
    text = (
        f'{{\n"environments": {json.dumps(environments, indent=1)},\n"networks": {{\n'
        + ",\n".join(lines)
        + "\n}\n}\n"
    )
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
