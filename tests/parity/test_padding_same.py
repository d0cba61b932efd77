"""`padding: same`: TensorFlow's rule, against TensorFlow's own operations and in both backends."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import parity
import pytest

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network

SIZES = ((12, 12), (13, 17), (14, 11), (7, 8))

SPEC = """\
spec_version: 1
name: small
description: A small network for one comparison
input: {{channels: 4, height: {height}, width: {width}}}
classes: 5
blocks:
  one:
    description: The block that is looked at
    layers:
      - {layer}
stages:
  - {{name: stage, block: one}}
head:
  - {{global_avg_pool: avgpool}}
  - {{linear: fc, features: classes}}
"""

CONVOLUTIONS = [
    (kernel, stride, dilation)
    for kernel in (1, 2, 3, 4, 5)
    for stride, dilation in ((1, 1), (2, 1), (3, 1), (1, 2))
]
POOLINGS = [(kernel, stride) for kernel in (1, 2, 3, 4, 5) for stride in (1, 2, 3)]


def network_of(layer: str, height: int = 12, width: int = 12) -> Network:
    return parity.network_of_text(SPEC.format(layer=layer, height=height, width=width))


def stage_of(layer: str, batch: np.ndarray) -> tuple[np.ndarray, Any]:
    """The output (N, H, W, C) of one layer of the generated PyTorch, and the model."""
    model = parity.build(network_of(layer), "torch").double()
    parity.randomize(model)
    found = parity.torch_outputs(model, batch)["stage"]
    return found.transpose(0, 2, 3, 1), model


def assert_equal_to(layer: str, expected: Callable[[Any, Any], Any], mean: float = 0.0) -> None:
    """One layer at all sizes, and the shapes that the compiler infers."""
    import tensorflow as tf

    for height, width in SIZES:
        batch = parity.images(2, 4, height, width) + mean
        found, model = stage_of(layer, batch)
        wanted = expected(tf.constant(batch.transpose(0, 2, 3, 1)), model).numpy()
        assert parity.difference(found, wanted) < 1e-12
        inferred = network_of(layer, height, width).stages[0].output.dimensions
        assert inferred == (wanted.shape[3], *wanted.shape[1:3])


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize(("kernel", "stride", "dilation"), CONVOLUTIONS)
def test_a_convolution_is_that_of_tensorflow(kernel: int, stride: int, dilation: int) -> None:
    import tensorflow as tf

    def expected(batch: Any, model: Any) -> Any:
        weight = model.stage.conv.weight.detach().numpy().transpose(2, 3, 1, 0)
        return tf.nn.conv2d(batch, weight, stride, "SAME", dilations=dilation)

    layer = f"{{conv: conv, filters: 6, kernel: {kernel}, stride: {stride}, padding: same"
    assert_equal_to(f"{layer}, dilation: {dilation}}}", expected)


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize(("kernel", "stride"), POOLINGS)
def test_pooling_is_that_of_tensorflow(kernel: int, stride: int) -> None:
    import tensorflow as tf

    for name, operation in (("max_pool", tf.nn.max_pool2d), ("avg_pool", tf.nn.avg_pool2d)):
        layer = f"{{{name}: pool, kernel: {kernel}, stride: {stride}, padding: same}}"
        pool = functools.partial(operation, ksize=kernel, strides=stride, padding="SAME")
        # Most values are negative, so a padding of zeros would win.
        assert_equal_to(layer, lambda batch, _, pool=pool: pool(batch), mean=-5.0)


@pytest.mark.torch
@pytest.mark.keras
def test_both_backends_agree_at_any_size() -> None:
    network = parity.network_of(parity.SPECS / "same_padding.yaml")
    with parity.float64():
        pair = parity.pair(network, input_shape=(None, None, 3))
        for height, width in ((32, 32), (33, 47), (40, 29), (37, 34)):
            batch = parity.images(2, 3, height, width)
            assert max(pair.differences(batch).values()) < 1e-12


@pytest.mark.torch
def test_a_window_that_never_needs_more_on_one_side_is_the_layers_own() -> None:
    layers = {
        "kernel: 3": "nn.Conv2d(in_channels, 6, 3, padding=1, bias=False)",
        "kernel: 5, dilation: 2": "padding=4, dilation=2",
        "kernel: 1, stride: 2": "nn.Conv2d(in_channels, 6, 1, stride=2, bias=False)",
        "kernel: 3, stride: 2": "Conv2dSame(in_channels, 6, 3, stride=2, bias=False)",
        "kernel: 2": "Conv2dSame(in_channels, 6, 2, bias=False)",
    }
    for keys, code in layers.items():
        network = network_of(f"{{conv: conv, filters: 6, {keys}, padding: same}}")
        assert code in " ".join(parity.source_of(network, "torch").split()).replace("( ", "(")


def test_the_word_may_stand_among_the_defaults() -> None:
    text = SPEC.format(layer="{conv: conv, filters: 6, kernel: 3, stride: 2}", height=9, width=9)
    default = text.replace("blocks:", "defaults: {conv: {padding: same}}\nblocks:", 1)
    for given in (default, text.replace("stride: 2}", "stride: 2, padding: same}")):
        network = parity.network_of_text(given)
        ((_, operation), *_) = network.operations()
        assert operation.attributes["padding"] == "same"


@pytest.mark.parametrize(
    ("layer", "code", "text"),
    [
        ("{max_pool: p, kernel: 2, padding: same, ceil: true}", "RS502", "has no effect"),
        ("{avg_pool: p, kernel: 2, padding: same, ceil: true}", "RS502", "has no effect"),
        ("{avg_pool: p, kernel: 3, padding: 0, ceil: true}", "RS502", "are both 2"),
        ("{conv: c, filters: 6, kernel: same}", "RS202", "'same' is not defined"),
        ("{conv: c, filters: 6, kernel: 3, padding: same + 1}", "RS202", "'same' is not defined"),
        ("{zero_pad: p, padding: same}", "RS202", "'same' is not defined"),
    ],
)
def test_what_it_can_not_stand_beside(layer: str, code: str, text: str) -> None:
    with pytest.raises(SpecError) as raised:
        network_of(layer)
    (found,) = raised.value.diagnostics
    assert found.code == code
    assert text in found.message


@pytest.mark.parametrize(("word", "help"), [("valid", "write padding: 0"), ("SAME", "write same")])
def test_words_of_other_frameworks(word: str, help: str) -> None:
    with pytest.raises(SpecError) as raised:
        network_of(f"{{conv: c, filters: 6, kernel: 3, padding: {word}}}")
    (found,) = raised.value.diagnostics
    assert (found.code, found.help) == ("RS202", help)


def test_no_value_is_called_so() -> None:
    text = SPEC.format(layer="{relu: relu}", height=9, width=9)
    with pytest.raises(SpecError, match="'same' can't name a value"):
        parity.network_of_text(text.replace("blocks:", "let: {same: 1}\nblocks:", 1))
