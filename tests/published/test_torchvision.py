"""The networks of the paper are torchvision's: counts, names, logits."""

from __future__ import annotations

from typing import Any

import parity
import pytest
import reference

pytestmark = pytest.mark.torch

# (trainable parameters, multiply-adds at 224x224); torchvision publishes the latter as GFLOPS.
PAPER = {
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet101": (44_549_160, 7_801_405_440),
    "resnet152": (60_192_808, 11_513_626_624),
}
VARIANTS = {
    "resnext50_32x4d": (25_028_904, 4_230_479_872),
    "wide_resnet50_2": (68_883_240, 11_398_021_120),
}
KNOWN = {**PAPER, **VARIANTS}
WEIGHTS = {
    "resnet18": "ResNet18_Weights",
    "resnet34": "ResNet34_Weights",
    "resnet50": "ResNet50_Weights",
    "resnet101": "ResNet101_Weights",
    "resnet152": "ResNet152_Weights",
    "resnext50_32x4d": "ResNeXt50_32X4D_Weights",
    "wide_resnet50_2": "Wide_ResNet50_2_Weights",
}


def spec(name: str) -> str:
    return name if name in PAPER else str(parity.SPECS / f"{name}.yaml")


def published(name: str) -> Any:
    """torchvision's own model with fresh weights."""
    return getattr(reference.torchvision().models, name)(weights=None)


def counted_macs(model: Any, *shape: int) -> int:
    """Multiply-adds as the modules themselves see them when an image runs through."""
    import torch
    from torch import nn

    total = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal total
        positions = output[0].numel() // output.shape[1]
        total += module.weight.numel() * positions

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return total


@pytest.mark.parametrize("name", KNOWN)
def test_counts(name: str) -> None:
    import torch

    parameters, macs = KNOWN[name]
    network = parity.network_of(spec(name))
    with torch.device("meta"):  # nothing is drawn, nothing computed
        generated, theirs = parity.build(network, "torch"), published(name)
        assert counted_macs(generated, 3, 224, 224) == macs

    assert network.root.parameters == parameters
    assert parity.torch_counts(generated) == parity.ir_counts(network)
    assert parity.torch_counts(theirs) == parity.ir_counts(network)

    assert network.root.macs == macs
    enumeration = getattr(reference.torchvision().models, WEIGHTS[name])
    assert enumeration.DEFAULT.meta["num_params"] == parameters
    assert enumeration.DEFAULT.meta["_ops"] == round(macs / 1e9, 3)


@pytest.mark.parametrize("name", parity.costly(KNOWN, {"resnet18", "resnet50", "resnext50_32x4d"}))
def test_weights_load_by_name_and_logits_are_equal(name: str) -> None:
    generated = parity.build(parity.network_of(spec(name)), "torch").double()
    theirs = published(name).double()
    parity.randomize(theirs)
    assert list(generated.state_dict()) == list(theirs.state_dict())
    generated.load_state_dict(theirs.state_dict(), strict=True)

    sizes = ((64, 64), (97, 97), (75, 130)) if name in ("resnet18", "resnet50") else ((65, 50),)
    for height, width in sizes:
        images = parity.tensor(parity.images(1, 3, height, width))
        for model in (generated, theirs):
            model.eval()
        ours, expected = generated(images).detach().numpy(), theirs(images).detach().numpy()
        assert parity.difference(ours, expected) < 1e-6


def test_gradients_are_torchvisions() -> None:
    """Also in training, where batch statistics count and nothing may be changed in place."""
    generated = parity.build(parity.network_of("resnet18"), "torch").double()
    theirs = published("resnet18").double()
    parity.randomize(theirs)
    generated.load_state_dict(theirs.state_dict())
    images = parity.tensor(parity.images(2, 3, 64, 48))
    for model in (generated, theirs):
        model.train()
        model(images).square().sum().backward()
    for (name, ours), expected in zip(
        generated.named_parameters(), theirs.parameters(), strict=True
    ):
        assert ours.grad is not None and expected.grad is not None
        assert parity.difference(ours.grad.numpy(), expected.grad.numpy()) < 1e-9, name
    for (name, ours), expected in zip(generated.named_buffers(), theirs.buffers(), strict=True):
        assert parity.difference(ours.double().numpy(), expected.double().numpy()) < 1e-12, name
