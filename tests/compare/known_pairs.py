"""Pairs of networks with their known class, and the differences that must be reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from parity import network_of, network_of_text

from resnet_spec.ir import Network

SMALL = """\
spec_version: 1
name: small
description: A small network whose parts are changed one at a time
input: {channels: 3, height: 32, width: 32}
classes: 10
blocks:
  pair:
    description: Two convolutions and a shortcut
    args: {filters: 8, stride: {default: 1, only: first}}
    layers:
      - {conv: conv1, filters: filters, kernel: 3, stride: stride}
      - {norm: bn1}
      - {act: act1}
      - {conv: conv2, filters: filters, kernel: 3}
      - {norm: bn2, as: residual}
      - {block: projection, name: downsample, from: x, filters: filters, stride: stride,
         when: stride != 1 or in_channels != filters, as: shortcut}
      - {add: [residual, shortcut]}
      - {act: act2}
stem:
  - {conv: conv1, filters: 16, kernel: 3}
  - {norm: bn1}
  - {act: act1}
stages:
  - {name: layer1, block: pair, repeat: 2, filters: 16}
  - {name: layer2, block: pair, repeat: 2, filters: 32, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


class Case(NamedTuple):
    """Two networks: built-in names with settings, or SMALL with texts replaced in the new one."""

    name: str
    effect: str
    function: str
    rules: tuple[str, ...]  # all that the changes have, tensors' and training's left out
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    edits: tuple[tuple[str, str], ...] = ()
    renames: Mapping[str, str] = {}
    old_edits: tuple[tuple[str, str], ...] = ()

    def networks(self, *settings: str) -> tuple[Network, Network]:
        """Both; `settings` are for built-in ones alone."""
        if self.old:
            return network_of(*self.old, *settings), network_of(*self.new, *settings)
        return network_of_small(*self.old_edits), network_of_small(*self.edits)


def network_of_small(*edits: tuple[str, str]) -> Network:
    """SMALL with texts replaced, each of which must be there."""
    text = SMALL
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return network_of_text(text)


def small(
    name: str,
    effect: str,
    function: str,
    rules: str,
    *edits: tuple[str, str],
    renames: Mapping[str, str] | None = None,
    old_edits: tuple[tuple[str, str], ...] = (),
) -> Case:
    told = tuple(rules.split())
    return Case(name, effect, function, told, (), (), edits, renames or {}, old_edits)


SAME, LOADS, PART, BREAK = "same-function", "checkpoints-load", "load-in-part", "break"

CASES = (
    # Published networks.
    Case(
        "v1 and v1.5", LOADS, "differs", ("block", "stride-moved"), ("resnet50_v1",), ("resnet50",)
    ),
    Case(
        "50 and 50-D",
        PART,
        "differs",
        ("block", "block-added", "initialization", "layer-added", "layer-removed", "stride"),
        ("resnet50",),
        ("resnet50d",),
        renames={"layer{n}.0.downsample.{m}": "layer{n}.0.downsample.{m + 1}"},
    ),
    Case(
        "1000 and 10 classes",
        PART,
        "differs",
        ("classes", "width"),
        ("resnet18",),
        ("resnet18", "classes=10"),
    ),
    Case(
        "added SE",
        PART,
        "differs",
        ("block-added", "initialization"),
        ("resnet18",),
        ("seresnet18",),
    ),
    Case(
        "dilated",
        LOADS,
        "differs",
        ("dilation", "padding", "stride"),
        ("resnet50",),
        ("resnet50_os16",),
    ),
    Case("50 and 101", PART, "differs", ("block-added",), ("resnet50",), ("resnet101",)),
    Case("50 and wide 50", BREAK, "differs", ("width",), ("resnet50",), ("wide_resnet50_2",)),
    Case(
        "equal to what it extends",
        SAME,
        "same",
        (),
        ("resnet18",),
        ("resnet18", "name=other", "description=Another"),
    ),
    # One change each.
    small("epsilon", LOADS, "differs", "epsilon", ("bn1}", "bn1, eps: 1.0e-3}")),
    small("momentum", SAME, "same", "momentum", ("{norm: bn2,", "{norm: bn2, momentum: 0.01,")),
    small("activation", LOADS, "differs", "activation", ("{act: act2}", "{silu: act2}")),
    small("stride", LOADS, "differs", "stride", ("filters: 32, stride: 2", "filters: 32")),
    small(
        "dropout in front of the classifier",
        SAME,
        "same",
        "layer-added",
        ("  - {linear: fc", "  - {dropout: drop, rate: 0.2}\n  - {linear: fc"),
    ),
    small(
        "softmax at the end",
        LOADS,
        "differs",
        "layer-added",
        ("features: classes}", "features: classes}\n  - {softmax: probabilities}"),
    ),
    small(
        "renamed stages",
        PART,
        "same-after-renames",
        "feature-maps",
        ("name: layer1", "name: stage2"),
        ("name: layer2", "name: stage3"),
        renames={"layer{n}": "stage{n + 1}"},
    ),
    small(
        "a renamed layer in every block",
        PART,
        "same-after-renames",
        "",
        ("{conv: conv2,", "{conv: convolution,"),
        renames={"layer{n}.{m}.conv2": "layer{n}.{m}.convolution"},
    ),
    small(
        "a prefix",
        PART,
        "same-after-renames",
        "feature-maps",
        ("name: layer", "name: body.layer"),
        ("{conv: conv1, filters: 16", "{conv: body.conv1, filters: 16"),
        renames={"conv1": "body.conv1", "layer{n}": "body.layer{n}"},
    ),
    small(
        "a renamed stage and another number of classes",
        PART,
        "differs",
        "classes feature-maps width",
        ("name: layer2", "name: last"),
        ("classes: 10", "classes: 7"),
        renames={"layer2": "last"},
    ),
    small(
        "names of two layers exchanged",
        PART,
        "same-after-renames",
        "order stride-moved",
        ("{conv: conv1, filters: filters", "{conv: conv_, filters: filters"),
        ("{conv: conv2", "{conv: conv1"),
        ("{conv: conv_", "{conv: conv2"),
        renames={
            "layer{n}.{m}.conv1": "layer{n}.{m}.conv2",
            "layer{n}.{m}.conv2": "layer{n}.{m}.conv1",
        },
    ),
    small(
        "names of two layers of one shape exchanged",
        LOADS,
        "same-after-renames",
        "order tensors-exchanged",
        ("filters: 32, stride: 2", "filters: 16"),
        ("{conv: conv1, filters: filters", "{conv: conv_, filters: filters"),
        ("{conv: conv2", "{conv: conv1"),
        ("{conv: conv_", "{conv: conv2"),
        old_edits=(("filters: 32, stride: 2", "filters: 16"),),
        renames={
            "layer{n}.{m}.conv1": "layer{n}.{m}.conv2",
            "layer{n}.{m}.conv2": "layer{n}.{m}.conv1",
        },
    ),
    small(
        "block order",
        LOADS,
        "differs",
        "order",
        ("{conv: conv2, filters: filters, kernel: 3}\n      - {norm: bn2, as: residual}", "MOVED"),
        ("MOVED", "{norm: bn2}\n      - {conv: conv2, filters: filters, kernel: 3, as: residual}"),
    ),
    small(
        "a sum that takes one value twice",
        LOADS,
        "differs",
        "wiring",
        ("add: [residual, shortcut]", "add: [residual, shortcut, residual, residual]"),
        old_edits=(("add: [residual, shortcut]", "add: [residual, shortcut, shortcut, residual]"),),
    ),
    small(
        "inputs of a sum exchanged",
        SAME,
        "same",
        "",
        ("[residual, shortcut]", "[shortcut, residual]"),
    ),
    small(
        "inputs of a concatenation exchanged",
        LOADS,
        "differs",
        "wiring",
        ("add: [residual, shortcut]", "concat: [shortcut, residual]"),
        old_edits=(("add: [residual, shortcut]", "concat: [residual, shortcut]"),),
    ),
    small(
        "padding by a number and by size",
        SAME,
        "same",
        "padding",
        ("conv2, ", "conv2, padding: same, "),
    ),
    small(
        "a larger window of a pooling",
        LOADS,
        "differs",
        "kernel padding",
        ("{act: act1}\nstages", "{act: act1}\n  - {max_pool: pool, kernel: 5, stride: 1}\nstages"),
        old_edits=(
            (
                "{act: act1}\nstages",
                "{act: act1}\n  - {max_pool: pool, kernel: 3, stride: 1}\nstages",
            ),
        ),
    ),
    small(
        "a norm without statistics",
        PART,
        "differs",
        "normalization",
        ("{norm: bn2,", "{group_norm: bn2, groups: 4,"),
    ),
    small("bias", PART, "differs", "bias", ("{conv: conv2,", "{conv: conv2, bias: true,")),
    small("groups", PART, "differs", "groups", ("{conv: conv2,", "{conv: conv2, groups: 2,")),
    small(
        "larger images",
        LOADS,
        "same",
        "input-size",
        ("height: 32, width: 32", "height: 48, width: 40"),
    ),
    small("grey images", PART, "differs", "input-channels", ("channels: 3", "channels: 1")),
    small(
        "no feature map",
        LOADS,
        "differs",
        "feature-maps",
        ("filters: 16}\n  - {name", "filters: 16, feature: false}\n  - {name"),
    ),
    small(
        "fewer blocks",
        PART,
        "differs",
        "block-removed",
        ("repeat: 2, filters: 32", "repeat: 1, filters: 32"),
    ),
    small(
        "fresh weights", SAME, "same", "initialization", ("{norm: bn2,", "{norm: bn2, init: zeros,")
    ),
    small(
        "an identity and a scale of one",
        SAME,
        "same",
        "layer-added",
        (
            "  - {global_avg_pool: avgpool}",
            "  - {identity: same}\n  - {rescale: by_one}\n  - {global_avg_pool: avgpool}",
        ),
    ),
)
