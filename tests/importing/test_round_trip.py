"""A network compiled, exported and imported is itself again: its graph, logits and blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import parity
import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.importing.lowered import flattened
from resnet_spec.importing.matching import folded, graph_key
from resnet_spec.importing.readers import onnx_file
from resnet_spec.importing.readers.model import Model
from resnet_spec.importing.run import Imported, Options, imported
from resnet_spec.ir import Network
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower

pytestmark = pytest.mark.torch

SPECS = Path(__file__).parents[1] / "specs"
# By blocks of the library alone: one of each of its families.
ALONE = [
    "avg_down", "bottleneck_v1", "dense", "dilated", "fixup", "option_a", "plain20", "preact",
    "res2net", "resnest", "resnet20", "resnet20_gn", "se", "selective", "weighted",
]  # fmt: skip
# With blocks of their own, or arguments that are not looked for.
OWN = ["blur", "cbam", "highway"]
# These have no primitive and no option that the others lack.
REPEATING = {"bottleneck_v1", "plain20", "resnet20"}
TOLERANCE = 1e-4
LIBRARY = Library()


def network(name: str) -> Network:
    found = SPECS / f"{name}.yaml"
    return lower(load(str(found) if found.exists() else name, LIBRARY))


def without_names(model: Model) -> Model:
    return model._replace(nodes=tuple(node._replace(name="") for node in model.nodes))


def brought_back(path: Path, out: Path, **options: object) -> Imported:
    model = onnx_file.read(path, path.name)
    return imported(model, Options("imported", "Imported", **options), str(out))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", parity.costly([*ALONE, *OWN], {*ALONE, *OWN} - REPEATING))
def test_folded(name: str, tmp_path: Path) -> None:
    source = network(name)
    shape = (1, *source.input.dimensions)
    model = networks.built(source)
    path = networks.exported(model, shape, tmp_path / "model.onnx")
    found = brought_back(path, tmp_path / "imported.yaml")
    assert networks.distance(found, model, shape) < TOLERANCE
    assert bool(found.written.own) == (name in OWN)
    assert len(found.text.splitlines()) <= (30 if name in ALONE else 80)


@pytest.mark.parametrize("name", ["se", "dense", "preact", "resnet20"])
def test_not_folded_has_the_same_counts(name: str, tmp_path: Path) -> None:
    source = network(name)
    shape = (1, *source.input.dimensions)
    model = networks.built(source)
    path = networks.exported(model, shape, tmp_path / "model.onnx", folds=False)
    found = brought_back(path, tmp_path / "imported.yaml")
    assert found.network.root.parameters == source.root.parameters
    assert found.network.root.statistics == source.root.statistics
    assert networks.distance(found, model, shape) < TOLERANCE


@pytest.mark.parametrize("name", ["se", "dense", "preact", "option_a"])
def test_without_names_and_library(name: str, tmp_path: Path) -> None:
    """The same graph by blocks of its own, which no name of the file tells."""
    source = network(name)
    shape = (1, *source.input.dimensions)
    model = networks.built(source)
    path = networks.exported(model, shape, tmp_path / "model.onnx")
    read = onnx_file.read(path, path.name)
    found = imported(
        without_names(read), Options("imported", "Imported", False), str(tmp_path / "n.yaml")
    )
    assert networks.distance(found, model, shape) < TOLERANCE
    assert found.written.from_library == 0 and found.written.own > 0


# --- every network of the package ----------------------------------------------------------------


class Tally:
    """What became of the networks of the package, by name."""

    def __init__(self) -> None:
        self.right: list[str] = []
        self.wrong: list[str] = []
        self.alone: list[str] = []  # by blocks of the library alone
        self.refused: dict[str, str] = {}

    def share(self, names: list[str]) -> float:
        return len(names) / len(builtin_specs())

    def add(self, name: str, right: bool, found: Imported) -> None:
        (self.right if right else self.wrong).append(name)
        if not found.written.own:
            self.alone.append(name)


Check = Callable[[Imported, Network, Any], bool]


def tallied(folder: Path, check: Check, folds: bool = True, named: bool = True) -> Tally:
    """Export and import every network, and check what came of it."""
    tally = Tally()
    for name in builtin_specs():
        source = network(name)
        model = networks.built(source)
        shape = (1, *source.input.dimensions)
        path = networks.exported(model, shape, folder / "model.onnx", folds)
        read = onnx_file.read(path, path.name)
        try:
            given = read if named else without_names(read)
            found = imported(given, Options("imported", "Imported"), str(folder / "imported.yaml"))
        except SpecError as error:
            tally.refused[name] = str(error)
            continue
        tally.add(name, check(found, source, model), found)
    return tally


def is_same_graph(found: Imported, source: Network) -> bool:
    """Up to a softmax at the end, which is told."""
    wanted = flattened(source)
    last = wanted.producers()[wanted.output]
    if last.kind == "softmax" and any("softmax" in note for note in found.notes):
        wanted.output = last.inputs[0]
        wanted.sort()
    return graph_key(folded(flattened(found.network))) == graph_key(folded(wanted))


@pytest.mark.slow
def test_every_network_of_the_package(tmp_path: Path) -> None:
    """Of 100, at least 97 by graph and logits, 90 by the library's blocks alone, none wrong."""

    def check(found: Imported, source: Network, model: Any) -> bool:
        shape = (1, *source.input.dimensions)
        return is_same_graph(found, source) and networks.distance(found, model, shape) < TOLERANCE

    tally = tallied(tmp_path, check)
    assert tally.wrong == []
    assert tally.share(tally.right) >= 0.97, tally.refused
    assert tally.share(tally.alone) >= 0.9


@pytest.mark.slow
def test_every_network_not_folded(tmp_path: Path) -> None:
    """Of 100, at least 95 with as many parameters and statistics."""

    def check(found: Imported, source: Network, model: Any) -> bool:
        ours, theirs = found.network.root, source.root
        return (ours.parameters, ours.statistics) == (theirs.parameters, theirs.statistics)

    tally = tallied(tmp_path, check, folds=False)
    assert tally.share(tally.right) >= 0.95, (tally.wrong, tally.refused)


@pytest.mark.slow
def test_every_network_without_names(tmp_path: Path) -> None:
    tally = tallied(
        tmp_path, lambda found, source, model: is_same_graph(found, source), named=False
    )
    assert tally.wrong == []
    assert tally.share(tally.right) >= 0.97, tally.refused
