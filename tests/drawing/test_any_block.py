"""Blocks that no person would draw: random ones, entangled ones, very long ones."""

from __future__ import annotations

from pathlib import Path

import fuzz
import picture
import pytest
import recount
from parity import network_of
from random_networks import random_network

from resnet_spec.diagnostics import SpecError
from resnet_spec.drawing import Drawing, render, tower
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

SEEDS = range(30)
LONG = """\
spec_version: 1
name: long
description: A block of thousands of layers
input: {channels: 3, height: 32, width: 32}
blocks:
  long:
    description: Every layer adds to the one before
    layers:
      - {conv: first, filters: 3, kernel: 1, as: d}
      - for: k
        count: 1000
        layers:
          - {relu: "a.{k}", from: d, as: b}
          - {add: [b, d], name: "s.{k}", as: d}
stages:
  - {name: a, block: long}
"""


def random(seed: int, folder: Path) -> Network | None:
    try:
        return fuzz.read(random_network(seed), folder)
    except SpecError:
        return None


def wrong(network: Network) -> list[str]:
    """What is wrong with the pictures of a network."""
    drawing = Drawing(network)
    text = render(drawing.page())
    read = picture.read(text)
    found = picture.faults(text, read) + recount.wrong_numbers(network, read)
    for block in drawing.blocks:
        found += picture.faults(render(drawing.block(block)))
    return found + picture.faults(render(drawing.compact()))


def check(seeds: range, folder: Path) -> None:
    networks = {seed: random(seed, folder) for seed in seeds}
    found = {seed: wrong(network) for seed, network in networks.items() if network}
    assert len(found) > len(seeds) / 2
    assert {seed: faults for seed, faults in found.items() if faults} == {}


def test_random_networks(tmp_path: Path) -> None:
    check(SEEDS, tmp_path)


@pytest.mark.slow
def test_many_random_networks(tmp_path: Path) -> None:
    check(range(1000, 3000), tmp_path)


def test_columns_alone_do_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tower some of the same networks are drawn badly, and that is found."""
    monkeypatch.setattr(tower, "is_clear", lambda graph: True)
    found = [each for seed in (1, 17, 23) for each in wrong_of(seed, tmp_path)]
    for fault in ("line through a box", "box on box"):
        assert any(each.startswith(fault) for each in found)


def wrong_of(seed: int, folder: Path) -> list[str]:
    network = random(seed, folder)
    assert network is not None
    return wrong(network)


@pytest.mark.parametrize("name", ["resnest50d", "skresnet50", "dpn68"])
def test_towers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any block can be drawn as one, and says the same."""
    network = network_of(name)
    in_columns = Drawing(network).page()
    monkeypatch.setattr(tower, "_MOST", 0)
    assert wrong(network) == []
    stacked = Drawing(network).page()
    assert stacked.marks != in_columns.marks
    assert stacked.description == in_columns.description


def test_a_long_block() -> None:
    network = lower(load("long.yaml", Library(), text=LONG.encode()))
    text = render(Drawing(network).page())
    (panel,) = picture.read(text).panels
    assert len(panel.operations) + len(panel.circles) == 2001
    assert len(panel.wires) == 1 + 1 + 3 * 1000
