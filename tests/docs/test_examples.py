"""The gallery under examples/: each is valid, compiles, is clean, and is one network twice."""

from __future__ import annotations

import json

import parity
import pytest
from pages import ROOT

from resnet_spec import cli
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

FOLDER = ROOT / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SCHEMA = "# yaml-language-server: $schema=../docs/schema/network.json"
# Those that show that nothing has to be written.
WITHOUT_BLOCKS = {"small_batches"}


def path(name: str) -> str:
    return str(FOLDER / f"{name}.yaml")


def test_check_has_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(FOLDER)]) == 0
    assert f"{len(EXAMPLES)} specs checked, no errors" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXAMPLES)
def test_three_lines_say_what_it_shows(name: str) -> None:
    first, *lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert first == SCHEMA
    comments = [line.startswith("# ") for line in lines]
    assert comments.index(False) == 3
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_editor_finds_nothing_wrong(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    schema = json.loads((ROOT / "docs/schema/network.json").read_text(encoding="utf-8"))
    spec = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(spec, schema)
    assert ("blocks" in spec) == (name not in WITHOUT_BLOCKS)


def test_ruff_has_nothing_to_say() -> None:
    texts = {
        f"{name}_{backend}": parity.source_of(parity.network_of(path(name)), backend)
        for name in EXAMPLES
        for backend in ("torch", "keras")
    }
    assert parity.complaints(texts) == ""


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("name", parity.costly(EXAMPLES, set(EXAMPLES) - {"pyramid"}))
def test_both_backends_agree(name: str) -> None:
    network = parity.network_of(path(name))
    if len(network.stages) == 4:
        # Two blocks of one stage show all that more of them would.
        fewer = [
            f"stages.{stage.name}.repeat={1 + (i == 1)}" for i, stage in enumerate(network.stages)
        ]
        network = lower(load(path(name), Library(), fewer))
    channels, height, width = network.input.dimensions
    with parity.float64():
        pair = parity.pair(network, input_shape=(None, None, channels))
        assert parity.torch_counts(pair.torch) == parity.ir_counts(network)
        assert parity.keras_counts(pair.keras) == parity.ir_counts(network)
        images = parity.images(1, channels, min(height, 64), min(width, 50))
        assert max(pair.differences(images).values()) < parity.tolerance(network)
