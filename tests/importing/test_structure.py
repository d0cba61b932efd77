"""The blocks of networks, found again in their own graphs, as exporters fold them. No framework."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resnet_spec.importing.graph import Graph
from resnet_spec.importing.lowered import flattened
from resnet_spec.importing.matching import folded
from resnet_spec.importing.structure.agreement import agreed
from resnet_spec.importing.structure.arguments import Solution
from resnet_spec.importing.structure.library_index import index
from resnet_spec.importing.structure.parse import chosen, parse
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.importing.structure.roles import roles
from resnet_spec.importing.structure.vocabulary import vocabulary
from resnet_spec.ir import Instance, Network
from resnet_spec.language.library import Library, builtin_blocks, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.language.nodes import plain
from resnet_spec.lower import lower

LIBRARY = Library()
# What is hard in each: a flag with its filler, groups with an order, channels that are taken,
# parts that stand alone at first, groups with kernels of two sizes.
QUICK = ["resnetaa34d", "resnest50d_4s2x40d", "dpn68", "res2next50", "skresnext50_32x4d"]


def as_exported(network: Network) -> Graph:
    """A network's graph with each norm in the convolution before it."""
    graph = flattened(network)
    users, gone = graph.users(), set()
    for op in graph.ops:
        following = users.get(op.output, [])
        if op.kind == "conv" and [each.kind for each in following] == ["batch_norm"]:
            gone.add(id(following[0]))
            op.outputs, op.attributes["bias"] = list(following[0].outputs), True
    graph.ops = [op for op in graph.ops if id(op) not in gone]
    return graph


# A quarter of 16, 32 and 64 channels: the fewest arguments would say it in three ways.
QUARTERS = """\
spec_version: 1
name: quarters
description: Gates of a quarter of the channels
input: {channels: 3, height: 32, width: 32}
classes: 7

defaults:
  basic: {attention: {squeeze_excitation: {divisor: 1, reduction: 4}}}

stem:
  - {conv: conv1, filters: 16, kernel: 3}
  - {norm: bn1}
  - act

stages:
  - {name: layer1, block: basic, repeat: 2, filters: 16}
  - {name: layer2, block: basic, repeat: 2, filters: 32, stride: 2}
  - {name: layer3, block: basic, filters: 64, stride: 2}

head:
  - global_avg_pool
  - {linear: fc, features: classes}
"""


def blocks_found(network: Network) -> int:
    graph = folded(as_exported(network))
    found = roles(graph, folds=True)
    prober = Prober(found)
    words = vocabulary()
    parts = parse(graph, prober, index(prober, graph, words), words, found.eps)
    return sum(each is not None for each in chosen(parts, words))


def blocks_of(name: str, network: Network) -> int:
    """The blocks that stand in the stages of a network."""
    stages = {each["name"] for each in plain(load(name, LIBRARY).node)["stages"]}
    return sum(
        isinstance(step.node, Instance) and bool({step.name, step.name.rpartition(".")[0]} & stages)
        for step in network.root.steps
    )


def check(name: str) -> None:
    network = lower(load(name, LIBRARY))
    count = blocks_of(name, network)
    assert count > 0
    assert blocks_found(network) == count


@pytest.mark.parametrize("name", QUICK)
def test_blocks_are_found_again(name: str) -> None:
    check(name)


def test_uses_of_a_block_say_one_thing_in_one_way() -> None:
    graph = folded(as_exported(lower(load("quarters.yaml", LIBRARY, text=QUARTERS.encode()))))
    prober, words = Prober(roles(graph, folds=True)), vocabulary()
    parts = parse(graph, prober, index(prober, graph, words), words, prober.roles.eps)
    shortest = chosen(parts, words)
    found = agreed(graph, parts, shortest, prober, words)

    def said(solutions: Sequence[Solution | None]) -> list[str]:
        return [str(each.arguments["attention"]) for each in solutions if each is not None]

    assert len(set(said(shortest))) == 3
    assert said(found) == [str({"squeeze_excitation": {"divisor": 1, "reduction": 4}})] * 5


def of_the_library(name: str) -> bool:
    stages = plain(load(name, LIBRARY).node)["stages"]
    return all(stage["block"] in builtin_blocks() for stage in stages)


@pytest.mark.slow
@pytest.mark.parametrize("name", builtin_specs())
def test_blocks_of_every_network(name: str) -> None:
    if not of_the_library(name):
        pytest.skip("its blocks are its own")
    check(name)
