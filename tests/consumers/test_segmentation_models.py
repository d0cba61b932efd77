"""A Unet of segmentation_models_pytorch trains on our encoder as on its own."""

from __future__ import annotations

from typing import Any

import consumers
import parity
import pytest
import reference

pytestmark = pytest.mark.torch


def on_ours(name: str, decoder: str = "Unet") -> Any:
    """As docs/backbones.md has it."""
    smp = reference.segmentation_models()
    from segmentation_models_pytorch.encoders import encoders
    from segmentation_models_pytorch.encoders._base import EncoderMixin
    from torchvision.models._utils import IntermediateLayerGetter

    class Encoder(IntermediateLayerGetter, EncoderMixin):  # type: ignore[misc]
        def __init__(self, depth: int = 5, output_stride: int = 32) -> None:
            network = parity.build(parity.network_of(name), "torch")
            maps = network.feature_info[:depth]
            super().__init__(network, {each["module"]: each["module"] for each in maps})
            self._depth, self._output_stride, self._in_channels = depth, output_stride, 3
            self._out_channels = [3, *(each["num_chs"] for each in maps)]

        def forward(self, x: Any) -> list[Any]:
            return [x, *super().forward(x).values()]

    encoders[f"our_{name}"] = {"encoder": Encoder, "params": {}, "pretrained_settings": {}}
    return getattr(smp, decoder)(f"our_{name}", encoder_weights=None, classes=3)


def loss_of(unet: Any) -> Any:
    import torch

    images = parity.tensor(parity.images(2, 3, 64, 96))
    labels = torch.arange(2 * 64 * 96).reshape(2, 64, 96) % 3
    return torch.nn.functional.cross_entropy(unet(images), labels)


def test_a_step_is_its_own() -> None:
    smp = reference.segmentation_models()
    ours = on_ours("resnet50").double()
    theirs = smp.Unet("resnet50", encoder_weights=None, classes=3).double()
    parity.randomize(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    found = consumers.training_step(ours, loss_of), consumers.training_step(theirs, loss_of)
    apart = consumers.differences(*found)
    assert max(apart.values()) < 1e-9, next(iter(apart))
    assert found[0]["gradient of encoder.conv1.weight"].abs().max() > 0


@pytest.mark.parametrize("name", ["resnetv2_18d", "resnet14t"])
def test_other_stems_fit(name: str) -> None:
    loss = loss_of(on_ours(name).double())
    assert loss.isfinite()


# As docs/backbones.md lists them.
DECODERS = ("FPN", "Linknet", "MAnet", "Segformer", "Unet", "UnetPlusPlus", "UPerNet")


@pytest.mark.parametrize("decoder", parity.costly(DECODERS, {"FPN"}))
def test_decoders_compute_what_they_do_on_their_own_encoder(decoder: str) -> None:
    import torch

    theirs = getattr(reference.segmentation_models(), decoder)(
        "resnet18", encoder_weights=None, classes=3
    )
    parity.randomize(theirs)
    ours = on_ours("resnet18", decoder)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_the_page_names_these_decoders() -> None:
    page = (parity.SPECS.parents[1] / "docs" / "backbones.md").read_text()
    assert all(f"`{decoder}`" in page for decoder in DECODERS)
