"""What successors of the paper change in it, each against an independent forward pass."""

from __future__ import annotations

from typing import Any

import parity
import pytest
import reference
import zoo
from forward import Forward, option_a


def network(name: str):  # type: ignore[no-untyped-def]
    return parity.network_of(name)


def parameters(name: str) -> int:
    return int(network(name).root.parameters)


# --- dilation instead of strides -----------------------------------------------------------------

DILATED = {
    "resnet50_os16": ("resnet50", [False, False, True]),
    "resnet50_os8": ("resnet50", [False, True, True]),
    "resnet101_os16": ("resnet101", [False, False, True]),
    "resnet101_os8": ("resnet101", [False, True, True]),
}


@pytest.mark.parametrize("name", DILATED)
def test_output_stride(name: str) -> None:
    stride = int(name.rpartition("os")[2])
    *_, last = network(name).stages
    assert last.output.dimensions == (2048, 224 // stride, 224 // stride)
    assert parameters(name) == parameters(DILATED[name][0])


@pytest.mark.torch
@pytest.mark.parametrize("name", parity.costly(DILATED, {"resnet50_os8"}))
def test_dilated_networks_are_torchvisions(name: str) -> None:
    import torch

    model, dilated = DILATED[name]
    build = getattr(reference.torchvision().models, model)
    theirs = build(weights=None, replace_stride_with_dilation=dilated).double().eval()
    parity.randomize(theirs)
    ours = parity.build(network(name), "torch").double().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for shape in ((1, 3, 64, 64), (1, 3, 97, 75)):
        images = torch.from_numpy(parity.images(*shape))
        with torch.no_grad():
            assert parity.difference(ours(images).numpy(), theirs(images).numpy()) < 1e-10


# The last two stages, as timm and torchvision dilate them.
OUTPUT_STRIDES = {
    16: ("stages.layer4.stride=1", "stages.layer4.dilation=2", "stages.layer4.first_dilation=1"),
    8: (
        *("stages.layer3.stride=1", "stages.layer3.dilation=2", "stages.layer3.first_dilation=1"),
        *("stages.layer4.stride=1", "stages.layer4.dilation=4", "stages.layer4.first_dilation=2"),
    ),
}
_SLOW = [
    pytest.param(name, stride, marks=pytest.mark.slow)
    for name in ("resnet18", "resnet34", "resnet50", "resnetv2_18", "resnetv2_50")
    for stride in OUTPUT_STRIDES
    if (name, stride) not in (("resnet18", 8), ("resnet50", 16))
]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("resnet50", 16), *_SLOW])
def test_any_network_is_dilated_by_settings(name: str, stride: int) -> None:
    import torch

    dilated = parity.network_of(name, *OUTPUT_STRIDES[stride])
    assert dilated.stages[-1].output.height == 224 // stride
    (published,) = (each for each in dilated.references if each.library == "timm")
    theirs = reference.timm().create_model(published.model, output_stride=stride).double().eval()
    parity.randomize(theirs)
    ours = parity.build(dilated, "torch").double().eval()
    zoo.load_strictly(ours, zoo.our_names(theirs.state_dict(), published))
    images = torch.from_numpy(parity.images(1, 3, 49, 75))
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


# --- stochastic depth ----------------------------------------------------------------------------


def drop_rates(name: str) -> list[float]:
    """The rate of each block, zero where there is nothing to drop."""
    rates = {
        operation_name.rpartition(".")[0]: operation.attributes["rate"]
        for operation_name, operation in network(name).operations()
        if operation.primitive.name == "drop_path"
    }
    blocks = dict.fromkeys(
        operation_name.rpartition(".")[0]
        for operation_name, operation in network(name).operations()
        if operation_name.endswith(".conv2")
    )
    return [float(rates.get(block, 0.0)) for block in blocks]


def test_drop_rates_grow_with_depth() -> None:
    """Huang et al.: the l-th of L blocks survives with probability 1 - l / L * (1 - p_L)."""
    rates = drop_rates("resnet110_stochastic_depth")
    assert rates == pytest.approx([1 - (1 - each / 54 * (1 - 0.5)) for each in range(1, 55)])
    # Wightman et al.: from nothing in the first block to a 20th in the last.
    assert drop_rates("resnet50_stochastic_depth") == pytest.approx(
        [0.05 * each / 15 for each in range(16)]
    )
    assert parameters("resnet110_stochastic_depth") == parameters("resnet110")
    assert parameters("resnet50_stochastic_depth") == parameters("resnet50")


@pytest.mark.torch
def test_a_dropped_block_is_its_shortcut() -> None:
    import torch

    model = parity.build(network("resnet110_stochastic_depth"), "torch").double().eval()
    parity.randomize(model)
    block = model.layer3[17]
    images = torch.from_numpy(parity.images(64, 64, 3, 3))
    with torch.no_grad():
        branch = block.bn2(block.conv2(block.bn1(block.conv1(images)).relu()))
        assert torch.allclose(block(images), (images + branch).relu())
        torch.manual_seed(0)
        block.drop_path.train()
        found = block(images)
    dropped = torch.isclose(found, images.relu()).flatten(1).all(1)
    kept = torch.isclose(found, (images + 2 * branch).relu()).flatten(1).all(1)
    assert (dropped ^ kept).all()
    assert 16 < int(dropped.sum()) < 48


# --- other numbers of channels -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "usual", "channels", "kernel", "filters"),
    [
        ("resnet20_grey", "resnet20", 1, 3, 16),
        ("resnet18_rgbn", "resnet18", 4, 7, 64),
        ("resnet18_pair", "resnet18", 6, 7, 64),
    ],
)
def test_channels_change_the_first_convolution_alone(
    name: str, usual: str, channels: int, kernel: int, filters: int
) -> None:
    assert network(name).input.channels == channels
    more = (channels - 3) * kernel**2 * filters
    assert parameters(name) - parameters(usual) == more


@pytest.mark.torch
@pytest.mark.parametrize(("name", "channels"), [("resnet20_grey", 1), ("resnet18_pair", 6)])
def test_generated_networks_take_their_channels(name: str, channels: int) -> None:
    model: Any = parity.build(network(name), "torch")
    assert model.conv1.in_channels == channels
    assert parity.torch_counts(model) == parity.ir_counts(network(name))


# --- gates, weights, numbers in place of norms: sizes --------------------------------------------

DEPTHS = {18: (2, 2, 2, 2), 20: (3, 3, 3), 32: (5, 5, 5), 50: (3, 4, 6, 3), 110: (18, 18, 18)}


def blocks(depth: int, expansion: int = 1) -> list[tuple[int, int]]:
    """The channels that go into each block and come out of it, by the paper's widths."""
    width = 16 if len(DEPTHS[depth]) == 3 else 64
    channels, found = width, []
    for stage, repeat in enumerate(DEPTHS[depth]):
        for _ in range(repeat):
            found.append((channels, width * 2**stage * expansion))
            channels = found[-1][1]
    return found


@pytest.mark.parametrize("depth", [18, 20, 32])
def test_a_gate_costs_a_biased_3x3_convolution(depth: int) -> None:
    gates = sum(9 * given * out + out for given, out in blocks(depth))
    assert parameters(f"highway{depth}") == parameters(f"resnet{depth}") + gates


@pytest.mark.parametrize("depth", [18, 20, 110])
def test_a_weight_costs_one_number(depth: int) -> None:
    weights = len(blocks(depth))
    assert parameters(f"weighted_resnet{depth}") == parameters(f"resnet{depth}") + weights


@pytest.mark.parametrize(("depth", "expansion", "millions"), [(18, 1, 11.78), (50, 4, 28.09)])
def test_attention_costs_what_the_paper_prints(depth: int, expansion: int, millions: float) -> None:
    """Table 4 of Woo et al.; two small layers for the channels, a 7x7 window for the places."""
    widths = [out for _, out in blocks(depth, expansion)]
    channel = sum(2 * out * (out // 16) + out // 16 + out for out in widths)
    spatial = (2 * 49 + 2) * len(widths)
    found = parameters(f"cbam_resnet{depth}")
    assert found == parameters(f"resnet{depth}") + channel + spatial
    assert round(found / 1e6, 2) == millions


@pytest.mark.parametrize(("depth", "convolutions"), [(20, 2), (110, 2), (50, 3)])
def test_fixup_has_numbers_where_norms_were(depth: int, convolutions: int) -> None:
    """A summand before each convolution and activation, a factor for each block."""
    usual = network(f"resnet{depth}")
    norms = sum(
        parameter.size
        for _, operation in usual.operations()
        if operation.primitive.name == "batch_norm"
        for parameter in operation.parameters
        if parameter.trainable
    )
    numbers = (2 * convolutions + 1) * sum(DEPTHS[depth]) + 2
    assert parameters(f"fixup_resnet{depth}") == usual.root.parameters - norms + numbers


def test_group_norms_and_biases_for_batch_norms() -> None:
    for name in ("resnet20", "resnet18"):
        kinds = {op.primitive.name for _, op in network(f"{name}_gn").operations()}
        assert "group_norm" in kinds and "batch_norm" not in kinds
        assert parameters(f"{name}_gn") == parameters(name)
        assert network(f"{name}_gn").root.statistics == 0
    # A bias is half of what a norm has.
    norms = 2 * (16 + 6 * (16 + 32 + 64))
    assert parameters("resnet20_no_norm") == parameters("resnet20") - norms // 2


# --- the same: forward passes, written from the papers -------------------------------------------


def highway(net: Forward, x: Any, at: str, stride: int) -> Any:
    """Srivastava et al., equation 3: y = H(x) T(x) + x (1 - T(x))."""
    out = net.norm(net.conv(x, f"{at}.conv1", stride), f"{at}.bn1").relu()
    out = net.norm(net.conv(out, f"{at}.conv2"), f"{at}.bn2").relu()
    gate = 1 / (1 + (-net.conv(x, f"{at}.gate", stride)).exp())
    return out * gate + option_a(x, out, stride) * (1 - gate)


def weighted(net: Forward, x: Any, at: str, stride: int) -> Any:
    """Shen et al., equation 3: the residual is activated, then weighted, then added."""
    out = net.norm(net.conv(x, f"{at}.conv1", stride), f"{at}.bn1").relu()
    out = net.norm(net.conv(out, f"{at}.conv2"), f"{at}.bn2").relu()
    return option_a(x, out, stride) + out * net.weight(f"{at}.weight.weight")


def fixup(net: Forward, x: Any, at: str, stride: int) -> Any:
    """Zhang et al., figure 1, right."""
    first, second, third, fourth = (net.weight(f"{at}.shift{each}.bias") for each in range(1, 5))
    out = (net.conv(x + first, f"{at}.conv1", stride) + second).relu()
    out = net.conv(out + third, f"{at}.conv2") * net.weight(f"{at}.scale.weight") + fourth
    changes = x.shape[1] != out.shape[1]
    return (out + option_a(x + first if changes else x, out, stride)).relu()


def cifar(net: Forward, x: Any, block: Any, numbers: bool = False) -> Any:
    """Three stages of three blocks."""
    x = net.conv(x, "conv1")
    x = (x + net.weight("shift1.bias") if numbers else net.norm(x, "bn1")).relu()
    for stage in range(3):
        for each in range(3):
            x = block(net, x, f"layer{stage + 1}.{each}", 2 if stage and not each else 1)
    x = x.mean((2, 3))
    return net.linear(x + net.weight("shift2.bias") if numbers else x, "fc")


CASES = {
    "highway20": lambda net, x: cifar(net, x, highway),
    "weighted_resnet20": lambda net, x: cifar(net, x, weighted),
    "fixup_resnet20": lambda net, x: cifar(net, x, fixup, numbers=True),
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
def test_fixup_of_a_bottleneck() -> None:
    """Each convolution and each activation has a summand before it."""
    import torch

    model = parity.build(network("fixup_resnet50"), "torch").layer2.double().eval()
    parity.randomize(model)
    net = Forward(model.state_dict())
    images = torch.from_numpy(parity.images(2, 256, 9, 9))
    x = images
    for each in range(4):
        stride = 1 if each else 2
        shifts = [net.weight(f"{each}.shift{number}.bias") for number in range(1, 7)]
        out = (net.conv(x + shifts[0], f"{each}.conv1") + shifts[1]).relu()
        out = (net.conv(out + shifts[2], f"{each}.conv2", stride) + shifts[3]).relu()
        out = net.conv(out + shifts[4], f"{each}.conv3") * net.weight(f"{each}.scale.weight")
        if not each:
            x = net.conv(x + shifts[0], f"{each}.downsample.conv", stride)
        x = (x + out + shifts[5]).relu()
    with torch.no_grad():
        assert parity.difference(model(images).numpy(), x.numpy()) < 1e-10
    assert not net.unused


# --- the same: how they begin --------------------------------------------------------------------


@pytest.mark.torch
def test_gates_begin_almost_closed() -> None:
    import torch

    model = parity.build(network("highway20"), "torch")
    for block in (*model.layer1, *model.layer2, *model.layer3):
        assert torch.equal(block.gate.bias, torch.full_like(block.gate.bias, -2.0))


@pytest.mark.torch
@pytest.mark.parametrize("name", ["weighted_resnet20", "fixup_resnet20"])
def test_blocks_begin_as_their_shortcuts(name: str) -> None:
    import torch

    model = parity.build(network(name), "torch").train()
    images = torch.rand(2, 16, 8, 8)
    assert torch.equal(model.layer1[1](images), images)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("fixup_resnet20", 9**-0.5),
        ("fixup_resnet110", 54**-0.5),
        ("fixup_resnet50", 16**-0.25),
    ],
)
def test_fixup_begins_smaller_in_deeper_networks(name: str, scale: float) -> None:
    """He's deviation times L ** (-1 / (2 m - 2)) within a branch of m convolutions, else He's."""
    import torch

    torch.manual_seed(0)
    model = parity.build(network(name), "torch")
    block = model.layer3[1]
    branch = [block.conv1, block.conv2] if hasattr(block, "conv3") else [block.conv1]
    last = block.conv3 if hasattr(block, "conv3") else block.conv2
    for conv in branch:
        fan_out = conv.weight[:, 0].numel()
        assert conv.weight.std().item() == pytest.approx(scale * (2 / fan_out) ** 0.5, rel=0.02)
    usual = [model.conv1]
    if name == "fixup_resnet50":
        usual.append(model.layer2[0].downsample.conv)
    for conv in usual:
        fan_out = conv.weight[:, 0].numel()
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert not last.weight.any() and not model.fc.weight.any() and not model.fc.bias.any()
    assert all(
        parameter.item() == (1.0 if key.endswith("scale.weight") else 0.0)
        for key, parameter in model.named_parameters()
        if parameter.numel() == 1
    )
