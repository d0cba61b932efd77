"""Shortcuts and widths of a block of the spec's own follow from what a stage says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from odd_models import brought, changed

pytestmark = pytest.mark.torch


def widening(fits: str) -> Any:
    """Pairs of blocks, the first of which widens, from the second pair on with a stride.

    Their shortcuts are pooled where there is a stride; then `fits` gives the channels.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 5, stride, 2, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.stride, self.more = stride, outputs - inputs
            if fits == "conv" and self.more:
                self.fit = nn.Conv2d(inputs, outputs, 1, bias=False)

        def forward(self, x: Any) -> Any:
            y = self.conv2(torch.relu(self.conv1(x)))
            if self.stride > 1:
                x = functional.avg_pool2d(x, self.stride)
            if self.more and fits == "conv":
                x = self.fit(x)
            elif self.more:
                before = self.more // 2 if fits == "zeros around" else 0
                x = functional.pad(x, (0, 0, 0, 0, before, self.more - before))
            return torch.relu(y + x)

    torch.manual_seed(0)
    stages = [
        nn.Sequential(Block(inputs, outputs, stride), Block(outputs, outputs, 1))
        for inputs, outputs, stride in ((8, 16, 1), (16, 32, 2), (32, 48, 2))
    ]
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), *stages, *end)


@pytest.mark.parametrize(
    ("fits", "written"),
    [
        ("conv", "filters: filters, kernel: 1"),
        ("zeros behind", "after: filters - in_channels"),
        ("zeros around", "(filters - in_channels) // 2"),
    ],
)
def test_a_shortcut_is_pooled_where_there_is_a_stride_alone(
    fits: str, written: str, tmp_path: Path
) -> None:
    found = brought(widening(fits), tmp_path)
    assert len(found.network.stages) == 3 and "residual_block1" not in found.text
    assert written in found.text and "references" not in found.text
    first, second, third = (f"stages.{stage.name}." for stage in found.network.stages)
    more = changed(found, f"{first}filters=24", f"{second}repeat=3", f"{third}filters=64")
    assert more.root.output.dimensions == found.network.root.output.dimensions
    other = changed(found, f"{first}stride=2", f"{second}filters=16", f"{third}stride=1")
    pooled = [name.split(".")[0] for name, op in other.operations() if "pool1" in name]
    assert pooled == [stage.name for stage in found.network.stages[:2]]


def test_what_is_the_number_of_channels_is_not_written_as_a_number(tmp_path: Path) -> None:
    """A convolution of each channel by itself stays one when what comes before gets wider."""
    import torch
    from torch import nn

    class Down(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alone = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
            self.conv = nn.Conv2d(8, 16, 1)

        def forward(self, x: Any) -> Any:
            dealt = x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
            y = torch.relu(self.conv(self.alone(torch.relu(dealt))))
            return torch.cat([y, self.alone(x)], 1)

    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4)
    found = brought(nn.Sequential(nn.Conv2d(3, 8, 3), Down(), *head), tmp_path)
    assert "filters: in_channels, kernel: 3, stride: 2, groups: in_channels" in found.text
    assert "parts: in_channels // 2" in found.text and "groups: 8" not in found.text
