"""The blocks of specs/blocks are those of timm and torchvision: names, counts, outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import parity
import pytest
import reference

pytestmark = pytest.mark.torch

SPEC = """\
spec_version: 1
name: one_block
description: A network of one block
input: {{channels: 3, height: 19, width: 22}}
classes: 5
stem:
  - {{conv: conv1, filters: {channels}, kernel: 3}}
stages:
  - {{name: stage, block: {block}{arguments}}}
head:
  - {{global_avg_pool: avgpool}}
  - {{linear: fc, features: classes}}
"""


def block(name: str, channels: int, arguments: str = "") -> Any:
    """The generated module of a block on `channels` channels."""
    given = f", {arguments}" if arguments else ""
    text = SPEC.format(block=name, channels=channels, arguments=given)
    return parity.build(parity.network_of_text(text), "torch").stage


def assert_same(
    ours: Any, theirs: Any, channels: int, wrap: Callable[..., Any] | None = None
) -> None:
    """Their weights load by name, nothing is left over, and the outputs are equal."""
    ours, theirs = ours.double(), theirs.double()
    parity.randomize(theirs)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for training in (False, True):
        images = parity.tensor(parity.images(2, channels, 19, 22))
        found = ours.train(training)(images.clone()).detach().numpy()
        expected = theirs.train(training)(images.clone())
        expected = wrap(images, expected) if wrap is not None else expected
        assert parity.difference(found, expected.detach().numpy()) < 1e-12


def projection(channels: int, out: int, stride: int) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
    )


@pytest.mark.parametrize("channels", [32, 48, 200])
def test_squeeze_and_excitation(channels: int) -> None:
    layers = reference.timm().layers
    assert_same(block("squeeze_excitation", channels), layers.SEModule(channels), channels)


@pytest.mark.parametrize(("channels", "bias"), [(32, True), (64, False)])
def test_attention_over_channels_and_places(channels: int, bias: bool) -> None:
    theirs = reference.timm().layers.cbam.CbamModule(channels, mlp_bias=bias)
    parity.randomize(theirs)
    # timm has the convolution and the norm in a module of their own.
    state = {
        name.replace("spatial.conv.", "spatial."): value
        for name, value in theirs.state_dict().items()
    }
    ours = block("cbam", channels, f"bias: {str(bias).lower()}").double()
    ours.load_state_dict(state, strict=True)
    for training in (False, True):
        images = parity.tensor(parity.images(2, channels, 19, 22))
        found = ours.train(training)(images).detach().numpy()
        expected = theirs.double().train(training)(images).detach().numpy()
        assert parity.difference(found, expected) < 1e-12


@pytest.mark.parametrize("stride", [1, 2])
def test_bottleneck_with_squeeze_and_excitation(stride: int) -> None:
    timm = reference.timm()
    theirs = timm.models.resnet.Bottleneck(
        32, 16, stride, projection(32, 64, stride), attn_layer=timm.layers.SEModule
    )
    ours = block("bottleneck", 32, f"filters: 16, stride: {stride}, attention: squeeze_excitation")
    assert_same(ours, theirs, 32)


def test_basic_with_an_average_pool_in_its_shortcut() -> None:
    resnet = reference.timm().models.resnet
    theirs = resnet.BasicBlock(16, 32, 2, resnet.downsample_avg(16, 32, 1, stride=2))
    ours = block("basic", 16, "filters: 32, stride: 2, shortcut: avg_pool_shortcut")
    assert_same(ours, theirs, 16)


@pytest.mark.parametrize(("channels", "stride"), [(32, 1), (32, 2), (64, 1)])
def test_pre_activation(channels: int, stride: int) -> None:
    timm = reference.timm()
    resnetv2 = timm.models.resnetv2
    theirs = resnetv2.PreActBottleneck(
        channels,
        64,
        stride=stride,
        conv_layer=timm.layers.create_conv2d,
        norm_layer=timm.layers.BatchNormAct2d,
        proj_layer=resnetv2.DownsampleConv if (channels, stride) != (64, 1) else None,
    )
    ours = block("preact_bottleneck", channels, f"filters: 16, stride: {stride}")
    assert_same(ours, theirs, channels)


@pytest.mark.parametrize(("channels", "stride"), [(32, 2), (32, 1), (256, 1)])
def test_res2net(channels: int, stride: int) -> None:
    from torch import nn

    down = None if (channels, stride) == (256, 1) else projection(channels, 256, stride)
    theirs = reference.timm().models.res2net.Bottle2neck(
        channels, 64, stride, down, act_layer=nn.ReLU, norm_layer=nn.BatchNorm2d
    )
    first = "true" if down is not None else "false"
    ours = block("res2net", channels, f"filters: 64, stride: {stride}, first: {first}")
    assert_same(ours, theirs, channels)


@pytest.mark.parametrize(
    ("radix", "groups", "stride"), [(2, 1, 2), (2, 2, 1), (1, 1, 2), (4, 2, 2)]
)
def test_resnest(radix: int, groups: int, stride: int) -> None:
    timm = reference.timm()
    down = timm.models.resnet.downsample_avg(32, 256, 1, stride=stride)
    theirs = timm.models.resnest.ResNestBottleneck(
        32, 64, stride, down, radix=radix, cardinality=groups, base_width=40, avd=True
    )
    arguments = f"filters: 64, stride: {stride}, radix: {radix}, groups: {groups}, base_width: 40"
    assert_same(block("resnest", 32, arguments), theirs, 32)


@pytest.mark.parametrize(("radix", "groups"), [(2, 1), (2, 2), (1, 1), (3, 2)])
def test_split_attention(radix: int, groups: int) -> None:
    from torch import nn

    layers = reference.timm().layers
    theirs = layers.SplitAttn(48, 24, groups=groups, radix=radix, norm_layer=nn.BatchNorm2d)
    ours = block("split_attention", 48, f"filters: 24, radix: {radix}, groups: {groups}")
    assert_same(ours, theirs, 48)


def test_dense_layer() -> None:
    import torch

    densenet = reference.torchvision().models.densenet
    theirs = densenet._DenseLayer(40, 16, bn_size=4, drop_rate=0.0)
    # torchvision joins what came before in the stage, ours in the layer.
    assert_same(
        block("dense_layer", 40, "growth: 16"),
        theirs,
        40,
        wrap=lambda x, new: torch.cat([x, new], dim=1),
    )


def test_transition() -> None:
    densenet = reference.torchvision().models.densenet
    assert_same(block("transition", 40), densenet._Transition(40, 20), 40)


def test_option_a() -> None:
    """Against the definition: every second row and column, zeros around the channels."""
    import torch
    from torch.nn import functional

    ours = block("zero_pad_shortcut", 8, "filters: 18, stride: 2")
    images = parity.tensor(parity.images(2, 8, 19, 22))
    expected = torch.zeros(2, 18, 10, 11, dtype=torch.float64)
    expected[:, 5:13] = images[:, :, ::2, ::2]
    assert torch.equal(ours(images), expected)
    assert torch.equal(ours(images), functional.pad(images[..., ::2, ::2], (0, 0, 0, 0, 5, 5)))
