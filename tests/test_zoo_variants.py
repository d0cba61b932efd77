"""What successors of the paper change in it, each against an independent forward pass."""

from __future__ import annotations

from typing import Any

import parity
import pytest
import reference


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
@pytest.mark.parametrize("name", DILATED)
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
