"""Specs at the corners of the language, each of which once gave code that was wrong."""

from __future__ import annotations

import textwrap

import parity
import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network

HEAD = """\
spec_version: 1
name: corner
description: A corner of the language
input: {channels: 3, height: 16, width: 16}
classes: 5
"""
CLASSIFIER = "head: [{global_avg_pool: avgpool}, {linear: fc, features: classes}]\n"


def network_of(body: str, head: str = CLASSIFIER) -> Network:
    return parity.network_of_text(HEAD + textwrap.dedent(body) + head)


CORNERS = {
    "the last stage has a name for its value": """
        stages:
          - {name: stage, block: basic, filters: 4, as: final}
        """,
    "an unnamed layer runs in some blocks alone": """
        blocks:
          one:
            description: One of two activations
            args: {first: {type: bool, default: i > 0}}
            layers:
              - {conv: conv1, filters: 4, kernel: 3}
              - {act: , when: first}
              - {conv: conv2, filters: 4, kernel: 3}
              - act
        stages:
          - {name: stage, block: one, repeat: 2}
        """,
    "numbers that are stated or learned vary": """
        blocks:
          one:
            description: Numbers that differ from block to block
            args: {filters: int, factor: 1.0, offset: 0.0, learned: {type: bool, default: i > 0}}
            layers:
              - {rescale: rescale, factor: factor, offset: offset}
              - {split: split, parts: 2, as: part}
              - {rescale: half, from: part.1, factor: factor - 1, as: half}
              - {concat: [part.0, half]}
              - {learned_scale: scale, init: {constant: 0.5}, when: learned}
              - {learned_shift: shift, init: {normal: 0.5}}
              - {conv: conv, filters: filters, kernel: 3}
        stem: [{conv: conv1, filters: 4, kernel: 3}]
        stages:
          - {name: stage, block: one, repeat: 3, filters: 4, factor: 0.5 - i, offset: i / 4}
        """,
    "layers have the names of arguments": """
        blocks:
          one:
            description: Layers called as an argument and as an attribute of a module
            args: {filters: int, training: 1}
            layers:
              - {conv: conv, filters: filters * training, kernel: 3}
              - {split: split, parts: filters, as: part}
              - {concat: part}
              - {conv: filters, filters: filters, kernel: 3}
              - {split: split2, parts: filters, as: part}
              - {concat: part, name: filters_2}
              - {softmax: softmax, groups: training}
        stages:
          - {name: stage, block: one, repeat: 2, filters: 2 * (i + 1), training: i + 1}
        """,
    "channels and classes are used everywhere": """
        let: {wide: in_channels * 4, twice: classes * 2, more: wide + 4}
        blocks:
          one:
            description: More channels in each block
            args: {growth: 2}
            layers:
              - {conv: conv, filters: in_channels + growth, kernel: 3}
              - {pad_channels: pad, before: growth, after: in_channels - growth}
              - {norm: norm}
        stem:
          - {conv: conv1, filters: 8, kernel: 3}
          - {conv: conv2, filters: in_channels * 2, kernel: 3}
          - {conv: conv3, filters: more, kernel: 3}
          - {conv: conv4, filters: wide, kernel: 3}
        stages:
          - {name: stage1, block: basic, filters: classes}
          - {name: stage2, block: one, repeat: 2, growth: 2 * (i + 1)}
          - {name: stage3, block: basic, filters: twice}
        """,
    "a value is kept beside a loop that changes another": """
        blocks:
          one:
            description: The input is needed after a loop over a value without a name
            layers:
              - {tanh: tanh}
              - {for: k, count: 2, layers: [{conv: "chain.{k}", filters: 3, kernel: 3}]}
              - {identity: residual, as: residual}
              - {conv: shortcut, from: x, filters: 3, kernel: 1, as: shortcut}
              - {add: [residual, shortcut]}
        stages:
          - {name: stage, block: one}
        """,
    "a branch that is never taken leaves layers without use": """
        blocks:
          one:
            description: The second activation is used by a layer that never runs
            args: {flag: false}
            layers:
              - {conv: conv, filters: 4, kernel: 3, as: before}
              - {relu: relu, from: before, as: after}
              - {tanh: tanh, from: after, when: flag, else: before}
        stages:
          - {name: stage, block: one}
        """,
    "strides of a list and over the place, for an argument with only: first": """
        stages:
          - {name: stage1, block: basic, repeat: 3, filters: 4, stride: [1, 2, 1]}
          - {name: stage2, block: basic, repeat: 4, filters: 4, stride: 1 + i % 2}
          - {name: stage3, block: basic, repeat: 2, filters: 4, stride: 1 + block_index // 8}
        """,
    "a block in a block counts its strides by itself, as often as the outer one says": """
        blocks:
          outer:
            description: Some blocks of which the last one shrinks the map
            args: {depth: int}
            layers:
              - {block: basic, name: blocks, repeat: depth, filters: 4, stride: 1 + (i + 1) // n}
        stages:
          - {name: stage1, block: outer, depth: 2}
          - {name: stage2, block: outer, depth: 3}
        """,
    "norms differ in epsilon and momentum": """
        stem:
          - {conv: conv1, filters: 4, kernel: 3}
          - {batch_norm: norm1, eps: 1e-3, momentum: 0.3}
          - {batch_norm: norm2}
        stages:
          - {name: stage, block: basic, filters: 4}
        """,
}
VECTORS = """\
head:
  - {global_avg_pool: avgpool}
  - {shuffle: shuffle, groups: 2, parts: 2}
  - {softmax: softmax, groups: 4}
  - {split: split, parts: 2, as: part}
  - {concat: [part.1, part.0]}
  - {dropout: dropout, rate: 0.5}
  - {rescale: rescale, factor: 3, offset: -1}
  - {learned_scale: scale}
  - {learned_shift: shift}
  - {linear: fc, features: classes}
"""


def assert_same(network: Network) -> None:
    texts = {backend: parity.source_of(network, backend) for backend in ("torch", "keras")}
    assert parity.complaints(texts) == ""
    with parity.float64():
        pair = parity.pair(network)
        assert parity.torch_counts(pair.torch) == parity.ir_counts(network)
        assert parity.keras_counts(pair.keras) == parity.ir_counts(network)
        images = parity.images(2, *network.input.dimensions)
        assert max(pair.differences(images).values()) < 1e-10


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("corner", CORNERS)
def test_a_corner(corner: str) -> None:
    assert_same(network_of(CORNERS[corner]))


@pytest.mark.torch
@pytest.mark.keras
def test_operations_on_vectors() -> None:
    assert_same(network_of("stages: [{name: stage, block: basic, filters: 8}]\n", VECTORS))


@pytest.mark.torch
@pytest.mark.keras
def test_the_number_of_classes_reaches_the_stages() -> None:
    network = network_of(CORNERS["channels and classes are used everywhere"])
    torch_model = parity.build(network, "torch", num_classes=7, in_channels=4)
    keras_model = parity.build(network, "keras", num_classes=7, input_shape=(16, 16, 4))
    assert parity.torch_counts(torch_model) == parity.keras_counts(keras_model)
    assert keras_model.output_shape == (None, 7)


REFUSED = {
    "the last stage gives no feature map": (
        "stages: [{name: stage, block: basic, filters: 4, feature: false}]\n",
        "torch",
        "RS502",
    ),
    "nothing uses a layer with parameters": (
        """
        blocks:
          one:
            description: The first convolution is for nothing
            layers:
              - {conv: conv1, filters: 4, kernel: 3}
              - {conv: conv2, from: x, filters: 4, kernel: 3}
        stages:
          - {name: stage, block: one}
        """,
        "torch",
        "RS502",
    ),
    "a value would be written out in thousands of parts": (
        """
        blocks:
          one:
            description: Each value uses the one before it three times
            args: {a: int}
            let:
              b: a % 7 + a // 3 % (a + 5)
              c: b % 7 + b // 3 % (b + 5)
              d: c % 7 + c // 3 % (c + 5)
              e: d % 7 + d // 3 % (d + 5)
              f: e % 7 + e // 3 % (e + 5)
              g: f % 7 + f // 3 % (f + 5)
              h: g % 7 + g // 3 % (g + 5)
            layers:
              - {conv: conv, filters: 8 + h % 2, kernel: 3}
        stages:
          - {name: stage, block: one, repeat: 2, a: 5 + 13 * i}
        """,
        "torch",
        "RS305",
    ),
    "a convolution has a stride and a dilation": (
        "stem: [{conv: conv, filters: 4, kernel: 3, stride: 2, dilation: 2}]\n"
        "stages: [{name: stage, block: basic, filters: 4}]\n",
        "keras",
        "RS502",
    ),
    "two names are one in Keras": (
        "stem: [{conv: a.b, filters: 4, kernel: 3}, {conv: a_b, filters: 4, kernel: 3}]\n"
        "stages: [{name: stage, block: basic, filters: 4}]\n",
        "keras",
        "RS503",
    ),
    "a name is that of a function of Keras": (
        "stem: [{conv: pad, filters: 4, kernel: 3}, {max_pool: pool, kernel: 3, stride: 1}]\n"
        "stages: [{name: stage, block: basic, filters: 4}]\n",
        "keras",
        "RS503",
    ),
    "a name is that of an operator of Keras": (
        "stem: [{conv: subtract, filters: 4, kernel: 3}, {rescale: r, factor: -1, offset: 1}]\n"
        "stages: [{name: stage, block: basic, filters: 4}]\n",
        "keras",
        "RS503",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_backend_cannot_say_is_refused(case: str) -> None:
    body, backend, code = REFUSED[case]
    with pytest.raises(SpecError) as raised:
        parity.source_of(network_of(body), backend)
    assert [diagnostic.code for diagnostic in raised.value.diagnostics] == [code]
