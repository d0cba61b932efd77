"""timm reads our `feature_info`, and has the same of its own networks."""

from __future__ import annotations

import consumers
import parity
import pytest
import reference
import zoo

# timm lists other maps of these: VGG's before each pooling.
OTHERS = {"vgg11", "vgg13", "vgg16", "vgg16_bn", "vgg19"}
# One of each way to begin and to end a stage.
SOME = ("resnet18", "resnet50d", "densenet121", "resnetv2_18", "skresnet18", "resnet14t", "dpn68")
pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", SOME)
def test_channels_and_strides_are_timms(name: str) -> None:
    compare(name)


@pytest.mark.slow
def test_so_they_are_for_all() -> None:
    names = {n for n, _, each in zoo.references() if each.library == "timm"} - {*SOME, *OTHERS}
    assert len(names) > 100
    for name in sorted(names):
        compare(name)


def compare(name: str) -> None:
    import torch

    network = parity.network_of(name)
    published = next(each for each in network.references if each.library == "timm")
    with torch.device("meta"):
        ours, theirs = parity.build(network, "torch"), zoo.published_model(published)
    keys = ("num_chs", "reduction")
    wanted = [tuple(each[key] for key in keys) for each in theirs.feature_info]
    assert [tuple(each[key] for key in keys) for each in ours.feature_info] == wanted, name


def test_its_feature_networks_take_ours() -> None:
    import torch

    reference.timm()
    from timm.models import FeatureDictNet, FeatureHookNet, FeatureListNet

    model, images = consumers.backbone("resnet18")
    names = consumers.modules_of(model)
    hooked = consumers.hooked(model, names, lambda: model(images))
    for wrap in (FeatureListNet, FeatureDictNet, FeatureHookNet):
        features = wrap(model, out_indices=(0, 1, 2, 3, 4))
        assert features.feature_info.channels() == [64, 64, 128, 256, 512]
        assert features.feature_info.reduction() == [2, 4, 8, 16, 32]
        with torch.no_grad():
            found = features(images)
        maps = found.values() if isinstance(found, dict) else found
        for name, value in zip(names, maps, strict=True):
            assert torch.equal(value, hooked[name]), (wrap.__name__, name)
