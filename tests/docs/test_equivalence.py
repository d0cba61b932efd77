"""The recorded measurements of docs/equivalence: whole, by their commands, within the bounds."""

from __future__ import annotations

import shlex
from pathlib import Path

import parity
import pytest

from resnet_spec.cli import parser
from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_specs
from resnet_spec.verify import compare, records
from resnet_spec.verify.measure import IN_ITSELF

FOLDER = Path(__file__).parents[2] / "docs" / "equivalence"
RECORDS = records.read(FOLDER)
BAR = {"forward": 1e-10, "training": 1e-10, "gradients": 1e-9, "trajectory": 1e-8, "adam": 1e-8}
KINDS = {
    "evaluation": "forward", "training": "training", "statistics": "statistics",
    "gradients": "gradients", "SGD": "trajectory", "AdamW": "adam", "error": "error",
}  # fmt: skip
ALL = {
    "parameters", "evaluation", "training", "gradients", "SGD weights", "SGD evaluation",
    "AdamW weights", "AdamW evaluation",
    "initial values, torch", "initial values, keras", "initial values, flax",
}  # fmt: skip
IN_SINGLE = {
    "parameters", "evaluation", "error of training", "error of statistics", "error of gradients",
    "error of SGD weights", "error of AdamW weights",
    "initial values, torch", "initial values, keras", "initial values, flax",
}  # fmt: skip


def test_tolerances_are_no_looser_than_the_bar() -> None:
    for kind, bound in BAR.items():
        assert compare.DOUBLE[kind] <= bound


def test_the_networks_of_the_paper_are_recorded() -> None:
    assert RECORDS.keys() >= {*records.PAPER, "resnet18_exact"}


def test_the_smallest_network_of_each_family_is_recorded() -> None:
    networks = [parity.network_of(name) for name in builtin_specs()]
    families: dict[str, Network] = {}
    for network in sorted(networks, key=lambda each: each.root.parameters):
        families.setdefault(network.family or network.name, network)
    missing = {network.name for network in families.values()} - RECORDS.keys()
    assert not missing


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_of_its_command(name: str) -> None:
    arguments = parser.parser().parse_args(shlex.split(records.command(name))[1:])
    record = RECORDS[name]
    assert [network["name"] for network in record["networks"]] == arguments.specs
    assert record["valid"] and record["diagnostics"] == []
    (network,) = record["networks"]
    assert network["backends"] == ["torch", "keras", "flax"]
    assert record["versions"].keys() == {"torch", "keras", "tensorflow", "flax", "jax"}


@pytest.mark.parametrize("name", RECORDS)
def test_every_measurement_was_made_and_passed(name: str) -> None:
    (network,) = RECORDS[name]["networks"]
    rows = {row["measurement"]: row for row in network["measurements"]}
    single = name.endswith(records.SINGLE)
    assert rows.keys() >= (IN_SINGLE if single else ALL)
    assert network["precision"] == ("float32" if single else "float64") and network["equal"]
    bounds = compare.SINGLE if single else compare.DOUBLE
    for row in rows.values():
        assert row["equal"] and row["difference"] <= row["tolerance"], row
        kind = KINDS.get(row["measurement"].partition(" ")[0])
        if not (name in records.DEEP and IN_ITSELF in (row["note"] or "")):
            assert kind is None or row["difference"] <= bounds[kind], row
        exact = name.endswith(records.EXACT)
        assert not (exact and "Keras" in (row["note"] or "")), "nothing is carried over"
