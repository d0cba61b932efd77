"""What each of repeated blocks gets for an argument, and from where."""

from __future__ import annotations

import textwrap

import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Instance, Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

HEAD = """\
spec_version: 1
name: net
description: A net
input: {channels: 3, height: 64, width: 64}
blocks:
  own:
    description: Only the first shrinks the map, unless the caller says of each what it does
    args: {stride: {default: 1 + i // 3, only: first}, filters: 4}
    layers: [{conv: conv, filters: filters, kernel: 3, stride: stride}]
  pair:
    description: A slot that is repeated
    args: {stride: 1}
    slots: {part: own}
    layers: [{slot: part, name: part, repeat: 2, stride: "stride"}]
"""


def read(text: str) -> Network:
    return lower(load("net.yaml", Library(), text=(HEAD + textwrap.dedent(text)).encode()))


def given(network: Network, name: str = "stride") -> list[object]:
    """The number that each block gets, in order; of nested blocks the inner ones."""

    def walk(instance: Instance) -> list[object]:
        found: list[object] = []
        for step in instance.steps:
            if isinstance(step.node, Instance):
                inner = walk(step.node)
                found += inner or [step.node.scope[name].value]
        return found

    return walk(network.root)


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        ("2", [2, 1, 1, 2]),  # the default is an expression over the place itself
        ("[1, 2, 1, 2]", [1, 2, 1, 2]),
        ("[i + 1, 2, n // 2, 1]", [1, 2, 2, 1]),
        ("1 + i % 2", [1, 2, 1, 2]),
        ("1 + n // 4", [2, 2, 2, 2]),
        ("1 + block_index // 2", [1, 1, 2, 2]),
        ("block_count - 3", [1, 1, 1, 1]),
        ("classes // classes + 1", [2, 1, 1, 2]),
    ],
)
def test_an_argument_for_the_first_alone(stride: str, expected: list[int]) -> None:
    line = f"{{name: s, block: own, repeat: 4, stride: {stride!r}}}"
    if stride.startswith("["):
        line = line.replace("'", "")
    assert given(read(f"stages: [{line}]")) == expected


def test_defaults_of_the_network_are_for_the_first_alone() -> None:
    text = "defaults: {own: {stride: 2}}\nstages: [{name: s, block: own, repeat: 3}]"
    assert given(read(text)) == [2, 1, 1]


def test_what_a_block_hands_on_is_for_the_first_alone() -> None:
    assert given(read("stages: [{name: s, block: pair, repeat: 2, stride: 2}]")) == [2, 1, 2, 1]
    listed = "stages: [{name: s, block: pair, repeat: 2, stride: [1, 2]}]"
    assert given(read(listed)) == [1, 1, 2, 1]


def test_each_item_has_its_place() -> None:
    text = "stages:\n  - {name: s, block: own, repeat: 3, stride: [1, 2, 0.5]}"
    with pytest.raises(SpecError) as raised:
        read(text)
    (found,) = raised.value.diagnostics
    assert found.span is not None
    line = (HEAD + text).splitlines()[found.span.line - 1]
    assert line[found.span.column - 1 :] == "0.5]}"
