"""The feature maps of a network: where they are, how wide, how coarse."""

from __future__ import annotations

import re
import textwrap

import pytest
import texts
from standins import differences

from resnet_spec.ir import feature_maps
from resnet_spec.language.load import load
from resnet_spec.lower import lower

HEAD = """\
spec_version: 1
name: net
description: a net
input: {channels: 3, height: 64, width: 64}
classes: 10
"""
STAGES = """\
stages:
  - {name: layer1, block: basic, filters: 8}
  - {name: layer2, block: basic, filters: 16, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


def maps(stem: str, stages: str = STAGES) -> list[tuple[str, int, int]]:
    """Name, channels and stride of each map."""
    text = HEAD + "stem:\n" + textwrap.indent(textwrap.dedent(stem) + "\n", "  ") + stages
    network = lower(load("net.yaml", texts.LIBRARY, text=text.encode()))
    return [(each.name, each.shape.channels, each.stride) for each in feature_maps(network)]


def test_the_stem_is_told_before_its_pooling() -> None:
    stem = """\
        - {conv: conv1, filters: 8, kernel: 7, stride: 2}
        - {norm: bn1}
        - {act: act1}
        - {max_pool: maxpool, kernel: 3, stride: 2}
        """
    assert maps(stem) == [("act1", 8, 2), ("layer1", 8, 4), ("layer2", 16, 8)]


def test_what_a_stem_does_at_the_stride_of_the_stages_is_theirs() -> None:
    assert maps("- {conv: conv1, filters: 8, kernel: 3}") == [("layer1", 8, 1), ("layer2", 16, 2)]


def test_padding_and_pooling_are_told_where_nothing_else_has_the_stride() -> None:
    """A border of zeros belongs to the pooling behind it; a map is missing from no level."""
    stem = """\
        - {conv: conv1, filters: 8, kernel: 7, stride: 2}
        - {zero_pad: pad, padding: 1}
        - {max_pool: pool1, kernel: 3, stride: 2, padding: 0}
        - {max_pool: pool2, kernel: 3, stride: 2}
        """
    assert maps(stem)[:3] == [("conv1", 8, 2), ("pool1", 8, 4), ("layer1", 8, 8)]


def test_a_block_of_the_stem_has_a_map() -> None:
    stem = """\
        - {block: conv_norm_act, name: first, filters: 8, kernel: 3, stride: 2}
        - {max_pool: maxpool, kernel: 3, stride: 2}
        """
    assert maps(stem)[0] == ("first", 8, 2)


def test_a_map_without_a_name_is_told_by_the_one_that_it_gets() -> None:
    """The convolution before it is no map of its own: the activation overwrites it."""
    stem = """\
        - {conv: conv1, filters: 8, kernel: 3, stride: 2}
        - act
        - {max_pool: maxpool, kernel: 3, stride: 2}
        """
    assert maps(stem)[0] == ("act", 8, 2)


def test_one_that_nothing_uses_is_not_told() -> None:
    stem = """\
        - {conv: conv1, filters: 8, kernel: 3, stride: 2, as: kept}
        - {sigmoid: gate}
        - {max_pool: maxpool, from: kept, kernel: 3, stride: 2}
        """
    assert maps(stem)[0] == ("conv1", 8, 2)


def test_stages_are_told_but_those_without_a_map_of_their_own() -> None:
    stages = """\
stages:
  - {name: layer1, block: basic, filters: 8, stride: 2}
  - {name: layer2, block: basic, filters: 8, feature: false}
  - {name: layer3, block: basic, filters: 16, when: classes > 10}
  - {name: layer4, block: basic, filters: 24}
head: [{global_avg_pool: avgpool}, {linear: fc, features: classes}]
"""
    found = maps("- {conv: conv1, filters: 8, kernel: 3}", stages)
    assert found == [("conv1", 8, 1), ("layer1", 8, 2), ("layer4", 24, 2)]


DOTTED = """\
stem:
  - {conv: stem.conv, filters: 8, kernel: 3, stride: 2}
  - {block: conv_norm_act, name: stem.last, filters: 8}
stages:
  - {name: branch.stage1, block: basic, repeat: 2, filters: 8, stride: 2}
  - {name: branch.stage2, block: basic, filters: 16, stride: 2}
  - {name: deep.path.3, block: basic, repeat: 2, filters: 24, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


def test_names_with_dots_lead_to_their_maps_in_every_backend() -> None:
    """Keras has outputs for stages and layers for the rest, the others modules for all."""
    text = (HEAD + DOTTED).encode()
    network = lower(load("net.yaml", texts.LIBRARY, text=text))
    module = '"module": "(.*)", "num_chs": (.*), "reduction": (.*)}'
    found = {}
    for backend, code in texts.texts_of(network).items():
        assert differences(code, network, backend) == []
        found[backend] = re.findall(module, code)
    stages = [("branch.stage1", "8", "4"), ("branch.stage2", "16", "8")]
    last = ("deep.path.3.1", "24", "16")
    assert found["torch"] == found["flax"] == [("stem.last", "8", "2"), *stages, last]
    last = ("deep.path.3", "24", "16")
    assert found["keras"] == [("stem_last_act", "8", "2"), *stages, last]


# Windows without padding, and a last window that is not whole.
OTHER_SIZES = {"tests/specs/ceil_pool"}


@pytest.mark.parametrize("name", texts.NAMES)
def test_a_stride_is_the_ratio_of_sizes(name: str) -> None:
    network = texts.network_of(name)
    found = feature_maps(network)
    strides = [each.stride for each in found]
    assert found and strides == sorted(strides)
    if name not in OTHER_SIZES:
        for each in found:
            assert each.shape.height == -(-(network.input.height or 0) // each.stride)
