"""A training step of torchvision's Faster R-CNN on our ResNet-50 is that on torchvision's own."""

from __future__ import annotations

from typing import Any

import consumers
import parity
import pytest
import reference

pytestmark = pytest.mark.torch

# Few boxes of small images, which take all the ways that many of large ones take.
SMALL = {
    **{"min_size": 48, "max_size": 64, "box_batch_size_per_image": 8},
    **{"rpn_pre_nms_top_n_train": 40, "rpn_post_nms_top_n_train": 20},
}


def on_ours(name: str, **options: Any) -> Any:
    """As docs/backbones.md has it."""
    detection = reference.torchvision_detection()
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    network = parity.build(parity.network_of(name), "torch")
    stages = [each for each in network.feature_info if each["reduction"] >= 4]
    pyramid = BackboneWithFPN(
        network,
        return_layers={each["module"]: str(n) for n, each in enumerate(stages)},
        in_channels_list=[each["num_chs"] for each in stages],
        out_channels=256,
    )
    return detection.FasterRCNN(pyramid, num_classes=5, **options)


def on_theirs(**options: Any) -> Any:
    build = reference.torchvision_detection().fasterrcnn_resnet50_fpn
    plain = {"weights": None, "weights_backbone": None, "trainable_backbone_layers": 5}
    return build(num_classes=5, **plain, **options)


def loss_of(detector: Any) -> Any:
    import torch

    boxes = torch.tensor([[4.0, 8.0, 30.0, 40.0], [24.0, 10.0, 60.0, 46.0]]).double()
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 3])} for _ in range(2)]
    images = parity.tensor(parity.images(2, 3, 48, 64)).sigmoid()
    return sum(detector([*images], targets).values())


def test_a_step_is_torchvisions() -> None:
    import torch

    ours, theirs = on_ours("resnet50", **SMALL).double(), on_theirs(**SMALL).double()
    with torch.no_grad():  # an untrained predictor tells no box from another
        for predictor in (theirs.rpn.head, theirs.roi_heads.box_predictor):
            for parameter in predictor.parameters():
                parameter.normal_(std=0.05)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    found = consumers.training_step(ours, loss_of), consumers.training_step(theirs, loss_of)
    apart = consumers.differences(*found)
    assert max(apart.values()) < 1e-9, next(iter(apart))
    assert found[0]["loss"] > 0
    assert found[0]["gradient of backbone.body.conv1.weight"].abs().max() > 0


def test_it_detects() -> None:
    import torch

    detector = on_ours("resnet18", **SMALL, rpn_post_nms_top_n_test=20, box_score_thresh=0.0).eval()
    with torch.no_grad():
        (found,) = detector([torch.rand(3, 48, 64)])
    assert found["boxes"].shape == (len(found["scores"]), 4)
    assert len(found["scores"]) > 0
