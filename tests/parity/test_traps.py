"""The comparisons see each known way in which Keras and PyTorch differ.

Each test takes one piece of handling out of the generated Keras source and sees the comparison
fail: a test of equality that can't fail proves nothing.
"""

from __future__ import annotations

import re

import parity
import pytest

from resnet_spec.ir import Network

pytestmark = [pytest.mark.torch, pytest.mark.keras]

SPEC = """\
spec_version: 1
name: small
description: A small network for one comparison
input: {{channels: 3, height: {size}, width: {size}}}
classes: 5
blocks:
  one:
    description: The block that is looked at
    layers:
{layers}
stages:
  - {{name: stage, block: {block}, filters: 8, stride: 2}}
head:
  - {{global_avg_pool: avgpool}}
  - {{linear: fc, features: classes}}
"""


def network_of(block: str, layers: str = "      - {relu: relu}", size: int = 16) -> Network:
    text = SPEC.format(block=block, layers=layers, size=size)
    if block == "one":
        text = text.replace(", filters: 8, stride: 2", "")
    return parity.network_of_text(text)


def distance(network: Network, *changes: tuple[str, str]) -> float:
    """How far Keras is from PyTorch after changes to its source, each of which must apply."""
    source = parity.source_of(network, "keras")
    for pattern, replacement in changes:
        source, count = re.subn(pattern, replacement, source)
        assert count, f"nothing to change: {pattern}"
    with parity.float64():
        pair = parity.pair(network, keras_source=source)
        return max(pair.differences(parity.images(2, *network.input.dimensions)).values())


def assert_seen(network: Network, *changes: tuple[str, str]) -> None:
    assert distance(network) < 1e-10
    assert distance(network, *changes) > 1e-4


def test_padding_on_the_far_side_only() -> None:
    assert_seen(network_of("bottleneck"), (r"same = .*", "same = True"))


def test_padding_beside_that_of_same() -> None:
    """Kernels, paddings and dilations with which "same" is another padding, and one it fits."""
    layers = """\
      - {conv: even, filters: 8, kernel: 4, padding: 1}
      - {conv: wide, filters: 8, kernel: 3, padding: 2}
      - {conv: narrow, filters: 8, kernel: 5, padding: 1, dilation: 2}
      - {conv: fitting, filters: 8, kernel: 5, padding: 4, dilation: 2}
      - {conv: strided, filters: 8, kernel: 3, stride: 2}"""
    network = network_of("one", layers)
    assert distance(network) < 1e-10
    with pytest.raises(AssertionError, match="8, 6, 6"):
        distance(network, (r"same = .*", "same = padding > 0"))


def test_epsilon_of_keras() -> None:
    assert_seen(network_of("bottleneck"), (r"epsilon=1e-5", "epsilon=1e-3"))


def test_stride_on_another_convolution() -> None:
    assert_seen(
        network_of("bottleneck"),
        (r"conv2d\(x, 8, 1, ", "conv2d(x, 8, 1, stride=2, "),
        (r"residual, 8, 3, stride=2, ", "residual, 8, 3, "),
    )


def test_zeros_for_minus_infinity() -> None:
    layers = """\
      - {conv: conv, filters: 8, kernel: 3, bias: true, bias_init: {normal: 2}}
      - {max_pool: pool, kernel: 3, stride: 2}"""
    assert_seen(network_of("one", layers), (r'float\("-inf"\)', "0.0"))


def test_padding_that_is_not_counted() -> None:
    layers = """\
      - {conv: conv, filters: 8, kernel: 3}
      - {avg_pool: pool, kernel: 3, stride: 1}"""
    assert_seen(
        network_of("one", layers),
        (r"    x = layers.ZeroPadding2D.*\n    return layers.Av", "    return layers.Av"),
        (r"AveragePooling2D\(pool_size,", 'AveragePooling2D(pool_size, padding="same",'),
    )


def test_a_pooling_that_leaves_the_last_row_out() -> None:
    layers = """\
      - {conv: conv, filters: 8, kernel: 3}
      - {avg_pool: pool, kernel: 2, ceil: true}"""
    network = network_of("one", layers, size=17)
    assert distance(network) < 1e-10
    with pytest.raises(AssertionError, match="8, 8"):
        distance(network, (r'(Pooling.*)padding="same"', r'\1padding="valid"'))


def test_channels_in_another_order() -> None:
    layers = """\
      - {conv: conv, filters: 8, kernel: 3}
      - {shuffle: shuffle, groups: 2, parts: 4}
      - {conv: last, filters: 8, kernel: 1}"""
    assert_seen(network_of("one", layers), (r"shuffle_channels\(x, 2, 4\)", "x"))


def test_softmax_over_the_wrong_axis() -> None:
    layers = """\
      - {conv: conv, filters: 8, kernel: 3}
      - {softmax: softmax, groups: 2}"""
    assert_seen(network_of("one", layers), (r"x = ops.softmax\(x, axis=-2\)", "x = ops.softmax(x)"))


def test_dilation_left_out() -> None:
    layers = """\
      - {conv: conv, filters: 8, kernel: 3, dilation: 2}"""
    assert_seen(network_of("one", layers), (r"dilation_rate=2,", ""))


def test_an_activation_in_its_rough_form() -> None:
    network = network_of("one", "      - {conv: conv, filters: 8, kernel: 3}\n      - {gelu: gelu}")
    rough = (r'layers.Activation\("gelu"', "layers.Activation(lambda x: keras.ops.gelu(x, True)")
    assert distance(network) < 1e-7
    assert distance(network, rough) > 1e-5


def test_a_slope_of_keras() -> None:
    layers = """\
      - {conv: conv, filters: 8, kernel: 3}
      - {leaky_relu: act}"""
    network = network_of("one", layers)
    assert distance(network) < 1e-7
    assert distance(network, (r"negative_slope=0.01", "negative_slope=0.3")) > 1e-4


def test_a_pool_in_a_loop_over_values_that_turn_negative() -> None:
    """The first value of the loop is never negative, the later ones are."""
    layers = """\
      - {conv: first, filters: 8, kernel: 3}
      - {relu: relu, as: piece}
      - for: turn
        count: 2
        layers:
          - {max_pool: "pools.{turn}", from: piece, kernel: 3, stride: 1}
          - {conv: "convs.{turn}", filters: 8, kernel: 3, bias: true}
          - {norm: "norms.{turn}", as: piece}"""
    assert_seen(network_of("one", layers), (r'float\("-inf"\)', "0.0"))
