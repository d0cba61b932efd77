"""Networks of the papers that no library ships: sizes, work, and an independent forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import parity
import pytest
import zoo
from forward import Forward, option_a

DEPTHS = (20, 32, 44, 56, 110, 1202)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def network(name: str):  # type: ignore[no-untyped-def]
    return parity.network_of(name)


def primitives(name: str) -> list[str]:
    return [operation.primitive.name for _, operation in network(name).operations()]


# --- sizes ---------------------------------------------------------------------------------------


def test_counts_of_the_papers() -> None:
    rows = [row for row in zoo.table() if "CIFAR-10" in row.source]
    found = {row.name: network(row.name.replace("-", "_")).root.parameters for row in rows}

    assert found == {row.name: row.parameters for row in rows}
    assert len(rows) == 9


def test_millions_that_the_papers_print() -> None:
    printed = dict(zip(DEPTHS, (0.27, 0.46, 0.66, 0.85, 1.7, 19.4), strict=True))
    for depth, millions in printed.items():
        digits = 2 if millions < 1 else 1
        assert round(network(f"resnet{depth}").root.parameters / 1e6, digits) == millions
    assert round(network("preact_resnet164").root.parameters / 1e6, 1) == 1.7
    # The paper prints 10.2 for ResNet-1001, a tenth below what its widths come to.
    assert round(network("preact_resnet1001").root.parameters / 1e6, 1) == 10.3
    for name, millions in (("wrn_16_8", 11.0), ("wrn_28_10", 36.5), ("wrn_40_4", 8.9)):
        assert round(network(name).root.parameters / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("resnet18_a", 1.8),
        ("resnet34_a", 3.6),
        ("resnet50_v1", 3.8),
        ("resnet101_v1", 7.6),
        ("resnet152_v1", 11.3),
    ],
)
def test_multiply_adds_of_the_paper(name: str, billions: float) -> None:
    """Table 1 of the paper; it cuts digits off in some places and rounds in others."""
    assert abs(network(name).root.macs / 1e9 - billions) < 0.06


def test_the_stride_of_the_3x3_convolution_costs_more() -> None:
    for depth in (50, 101, 152):
        first, later = network(f"resnet{depth}_v1").root, network(f"resnet{depth}").root
        assert first.parameters == later.parameters
        assert 0.22e9 < later.macs - first.macs < 0.24e9


def projections(depth: int, all_of_them: bool) -> int:
    """Parameters of the learned shortcuts, by the paper's widths."""
    expansion = 4 if depth >= 50 else 1
    total, channels = 0, 64
    for stage, blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage * expansion
        for block in range(blocks):
            changes = channels != width or (stage > 0 and block == 0)
            if changes or all_of_them:
                total += channels * width + 2 * width
            channels = width
    return total


def test_options_of_the_shortcut_differ_by_their_projections() -> None:
    for depth in (18, 34):
        option_b = network(f"resnet{depth}").root.parameters
        option_a = network(f"resnet{depth}_a").root.parameters
        assert option_b - option_a == projections(depth, all_of_them=False)
    for depth in (18, 34, 50):
        extra = projections(depth, all_of_them=True) - projections(depth, all_of_them=False)
        option_c = network(f"resnet{depth}_c").root.parameters
        assert option_c - network(f"resnet{depth}").root.parameters == extra


PLAIN = {
    "plain18": "resnet18_a",
    "plain34": "resnet34_a",
    **{f"plain{depth}": f"resnet{depth}" for depth in (20, 32, 44, 56)},
}


@pytest.mark.parametrize(("plain", "residual"), PLAIN.items())
def test_a_plain_network_lacks_the_shortcuts_alone(plain: str, residual: str) -> None:
    left_out = {"add", "subsample", "pad_channels"}
    assert left_out <= set(primitives(residual))
    assert primitives(plain) == [each for each in primitives(residual) if each not in left_out]
    assert network(plain).root.parameters == network(residual).root.parameters
    assert network(plain).root.macs == network(residual).root.macs


# --- forward passes, written from the papers -----------------------------------------------------


def post_activation(net: Forward, x: Any, depths: Sequence[int], residual: bool) -> Any:
    """The CIFAR-10 networks of He et al. 2015, section 4.2, with option A or without shortcuts."""
    x = net.norm(net.conv(x, "conv1"), "bn1").relu()
    for stage, depth in enumerate(depths):
        for block in range(depth):
            at, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            out = net.norm(net.conv(x, f"{at}.conv1", stride), f"{at}.bn1").relu()
            out = net.norm(net.conv(out, f"{at}.conv2"), f"{at}.bn2")
            if residual:
                out = out + option_a(x, out, stride)
            x = out.relu()
    return net.linear(x.mean((2, 3)), "fc")


def pre_activation(net: Forward, x: Any, depths: Sequence[int], convolutions: int) -> Any:
    """He et al. 2016 with three convolutions in a block, Zagoruyko and Komodakis with two."""
    x = net.conv(x, "conv1")
    for stage, depth in enumerate(depths):
        for block in range(depth):
            at, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            out = active = net.norm(x, f"{at}.norm1").relu()
            for each in range(1, convolutions + 1):
                if each > 1:
                    out = net.norm(out, f"{at}.norm{each}").relu()
                takes_stride = each == convolutions - 1
                out = net.conv(out, f"{at}.conv{each}", stride if takes_stride else 1)
            if net.has(f"{at}.downsample.conv"):
                x = net.conv(active, f"{at}.downsample.conv", stride)
            x = out + x
    return net.linear(net.norm(x, "norm").relu().mean((2, 3)), "fc")


CASES = {
    "resnet20": lambda net, x: post_activation(net, x, (3, 3, 3), residual=True),
    "plain20": lambda net, x: post_activation(net, x, (3, 3, 3), residual=False),
    "wrn_16_8": lambda net, x: pre_activation(net, x, (2, 2, 2), convolutions=2),
    "preact_resnet164": lambda net, x: pre_activation(net, x, (18, 18, 18), convolutions=3),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_paper(name: str) -> None:
    import torch

    model = parity.build(network(name), "torch").double().eval()
    parity.randomize(model)
    for size in (32, 27):
        images = torch.from_numpy(parity.images(2, 3, size, size))
        net = Forward(model.state_dict())
        with torch.no_grad():
            expected, found = CASES[name](net, images).numpy(), model(images).numpy()

        assert parity.difference(found, expected) < 1e-10
        assert not net.unused


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain20", "wrn_16_8", "preact_resnet164"])
def test_both_backends_give_the_same(name: str) -> None:
    made = network(name)
    model = parity.build(made, "torch").double().eval()
    parity.randomize(model)
    batch = parity.images(2, 3, 27, 32)
    found = parity.torch_outputs(model, batch)["logits"]

    assert zoo.keras_difference(made, model, batch, found) < 1e-10
