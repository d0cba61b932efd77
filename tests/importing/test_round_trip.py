"""A network compiled, exported and imported is itself again: its graph, logits and blocks."""

from __future__ import annotations

from pathlib import Path

import networks
import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.importing.readers import onnx_file
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
    "res2net", "resnet20", "resnet20_gn", "se", "selective", "weighted",
]  # fmt: skip
# With blocks of their own, or arguments that are not looked for.
OWN = ["blur", "cbam", "highway", "resnest"]
TOLERANCE = 1e-4
LIBRARY = Library()


def network(name: str) -> Network:
    found = SPECS / f"{name}.yaml"
    return lower(load(str(found) if found.exists() else name, LIBRARY))


def brought_back(path: Path, out: Path, **options: object) -> Imported:
    model = onnx_file.read(path, path.name)
    return imported(model, Options("imported", "Imported", **options), str(out))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*ALONE, *OWN])
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
    bare = read._replace(nodes=tuple(node._replace(name="") for node in read.nodes))
    found = imported(bare, Options("imported", "Imported", False), str(tmp_path / "n.yaml"))
    assert networks.distance(found, model, shape) < TOLERANCE
    assert found.written.from_library == 0 and found.written.own > 0


@pytest.mark.slow
def test_every_network_of_the_package(tmp_path: Path) -> None:
    """Of 100, at least 97 by graph and logits, 90 by the library's blocks alone, none wrong."""
    right: list[str] = []
    alone: list[str] = []
    wrong: list[str] = []
    refused: list[tuple[str, str]] = []
    sources = {name: network(name) for name in builtin_specs()}
    small = {n: s for n, s in sources.items() if s.root.parameters < 100e6}
    for name, source in small.items():
        shape = (1, *source.input.dimensions)
        model = networks.built(source)
        path = networks.exported(model, shape, tmp_path / "model.onnx")
        try:
            found = brought_back(path, tmp_path / "imported.yaml")
        except SpecError as error:
            refused.append((name, str(error)))
            continue
        (right if networks.distance(found, model, shape) < TOLERANCE else wrong).append(name)
        if not found.written.own:
            alone.append(name)
    assert wrong == []
    assert len(right) >= 0.97 * len(small), refused
    assert len(alone) >= 0.9 * len(small)
