"""torchvision takes maps from our networks: by children in a row, by names, and by tracing."""

from __future__ import annotations

import consumers
import pytest
import reference
import texts

pytestmark = pytest.mark.torch


# One of each way to begin and to join.
SOME = (
    *("resnet18", "resnetv2_18d", "densenet121", "dpn68", "skresnet18"),
    *("tests/specs/res2net", "tests/specs/resnest", "tests/specs/gallery", "tests/specs/dilated"),
    "tests/specs/children",
)
LARGE = 70_000_000  # parameters; what is larger is of blocks that smaller ones have, too


@pytest.mark.parametrize("name", SOME)
def test_all_ways_to_a_map_give_the_same(name: str) -> None:
    compare_ways(name)


@pytest.mark.slow
def test_so_they_do_in_all_networks() -> None:
    for name in sorted({*texts.NAMES} - {*SOME}):
        if texts.network_of(name).root.parameters < LARGE:
            compare_ways(name)


def compare_ways(name: str) -> None:
    """Hooks, `forward_features`, IntermediateLayerGetter and a Sequential of children."""
    import torch
    from torch import nn

    reference.torchvision()
    from torchvision.models._utils import IntermediateLayerGetter

    model, images = consumers.backbone(name)
    names = consumers.modules_of(model)
    with torch.no_grad():
        stages = model.forward_features(images)
    hooked = consumers.hooked(model, names, lambda: model(images))
    assert list(hooked) == names
    for each in model.feature_info:
        found = hooked[each["module"]]
        assert found.shape[1] == each["num_chs"] and found.isfinite().all()
        # Windows without padding lose a row here and there.
        assert abs(found.shape[2] - images.shape[2] / each["reduction"]) <= 2
    assert set(stages) <= set(names)
    assert all(torch.equal(hooked[each], stages[each]) for each in stages)

    # What is below a child is reached by hooks alone, so the children are run with these.
    children = [child for child, _ in model.named_children()]
    last = names[-1].split(".")[0]
    row = nn.Sequential(*list(model.children())[: children.index(last) + 1])
    in_a_row = consumers.hooked(model, names, lambda: row(images))
    assert all(torch.equal(in_a_row[each], hooked[each]) for each in names)

    direct = [each for each in names if "." not in each]
    if direct:
        getter = IntermediateLayerGetter(model, {each: each for each in direct})
        with torch.no_grad():
            got = getter(images)
        assert list(got) == direct
        assert all(torch.equal(got[each], hooked[each]) for each in direct)


TRACED = ("resnet18", "tests/specs/dense", "tests/specs/cbam")
SAME_PADDING = ("resnet8_mlperf_tiny", "tests/specs/same_padding")


@pytest.mark.parametrize("name", [*TRACED, *SAME_PADDING])
def test_a_feature_extractor_is_traced(name: str) -> None:
    """Also where the stages are no chain, and for layers within blocks."""
    import torch

    reference.torchvision()
    from torchvision.models.feature_extraction import create_feature_extractor

    model, images = consumers.backbone(name)
    names = consumers.modules_of(model)
    if name == "resnet18":
        names += ["layer2.1.conv2", "layer4.0.act1"]
    extractor = create_feature_extractor(model, names)
    with torch.no_grad():
        traced = extractor(images)
    hooked = consumers.hooked(model, names, lambda: model(images))
    assert traced.keys() == hooked.keys()
    assert all(torch.equal(traced[each], hooked[each]) for each in names)
