"""Blocks of the spec's own, and activations: what a person would sign, and can change."""

from __future__ import annotations

import itertools
import operator
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from odd_models import SHAPE, Apply, brought, changed, network, of, of_blocks, read, refused

from resnet_spec.expressions import make_divisible
from resnet_spec.importing.readers import onnx_file
from resnet_spec.importing.run import Options, imported
from resnet_spec.importing.writing.names import shared_word, stage_names
from resnet_spec.language.library import builtin_blocks

pytestmark = pytest.mark.torch


def hard_swish(x: Any) -> Any:
    return x * (x + 3).clamp(0, 6) / 6


def relu6(x: Any) -> Any:
    return x.relu().clamp(max=6)


HARD_SWISHES: dict[str, Apply] = {
    "bounds of 6, divided at last": hard_swish,
    "bounds of 6, divided first": lambda x: x * ((x + 3).clamp(0, 6) / 6),
    "bounds of 6, multiplied": lambda x: (1 / 6) * (x + 3).clamp(0, 6) * x,
    "the other factor divided": lambda x: (x / 6) * (x + 3).clamp(0, 6),
    "bounds of 1": lambda x: x * (x / 6 + 0.5).clamp(0, 1),
    "bounds of 1, of a sum": lambda x: x * ((x + 3) / 6).clamp(0, 1),
    "bounds of 3": lambda x: x * (x.clamp(-3, 3) / 6 + 0.5),
    "two bounds": lambda x: x * relu6(x + 3) / 6,
}


@pytest.mark.parametrize("form", HARD_SWISHES)
def test_a_hard_swish_is_an_activation(form: str, tmp_path: Path) -> None:
    found = brought(of_blocks(HARD_SWISHES[form]), tmp_path, library=True)
    assert "defaults:\n  act: hard_swish\n" in found.text and "  hard_swish:\n" in found.text
    assert "stages:\n  - {name: layer1, block: basic, repeat: 2, filters: 8}\n" in found.text


@pytest.mark.parametrize(
    "act",
    [
        lambda x: (x / 6 + 0.5).clamp(0, 1),
        lambda x: relu6(x + 3) / 6,
        lambda x: x.clamp(-3, 3) / 6 + 0.5,
    ],
    ids=["bounds of 1", "bounds of 6", "bounds of 3"],
)
def test_a_hard_sigmoid_is_one(act: Apply, tmp_path: Path) -> None:
    assert "{hard_sigmoid: hard_sigmoid" in brought(network(stem=of(act)), tmp_path).text


@pytest.mark.parametrize(
    ("act", "bounds"),
    [
        (lambda x: x * (x / 5 + 0.5).clamp(0, 1), "0.0 to 1.0"),
        (lambda x: x * (x + 3).clamp(0, 5) / 6, "0.0 to 5.0"),
        (lambda x: (x + 2).clamp(0, 6) / 6, "0.0 to 6.0"),
        (relu6, "0.0 to 6.0"),
    ],
    ids=["slope", "bound", "shift", "relu6"],
)
def test_bounds_that_are_no_hard_sigmoid(act: Apply, bounds: str, tmp_path: Path) -> None:
    said = refused(network(stem=of(act)), tmp_path)
    assert "the language has no operation for bounds from " + bounds in said


@pytest.mark.parametrize("order", ["Max Min", "Min Max"])
def test_bounds_as_the_largest_and_the_smallest(order: str, tmp_path: Path) -> None:
    """As converters of TensorFlow write them."""
    import onnx
    from onnx import helper, numpy_helper

    model = networks.randomized(network(stem=of(hard_swish)))
    path = networks.exported(model, SHAPE, tmp_path / "odd.onnx", False)
    proto = onnx.load(str(path))
    place, clip = next((k, n) for k, n in enumerate(proto.graph.node) if n.op_type == "Clip")
    proto.graph.node.remove(clip)
    bounds = {"Max": 0.0, "Min": 6.0}
    names = [clip.input[0], "between", clip.output[0]]
    for number, kind in enumerate(order.split()):
        constant = numpy_helper.from_array(np.array(bounds[kind], np.float32), kind)
        proto.graph.initializer.append(constant)
        made = helper.make_node(kind, [names[number], kind], [names[number + 1]], name=kind)
        proto.graph.node.insert(place + number, made)
    path.write_bytes(proto.SerializeToString())
    options = Options("odd", "Odd", False)
    found = imported(onnx_file.read(path, "odd.onnx"), options, str(tmp_path / "odd.yaml"))
    assert "block: hard_swish" in found.text
    assert networks.distance(found, model, SHAPE) < 1e-6


def test_a_hard_swish_of_a_block_of_its_own(tmp_path: Path) -> None:
    own = brought(of_blocks(hard_swish), tmp_path)
    assert "stages:\n  - {name: layer1, block: residual_block, repeat: 2}\n" in own.text


@pytest.mark.parametrize(
    "act",
    [lambda x: x * (1.702 * x).sigmoid(), lambda x: x.relu().tanh() * x, lambda x: x * x.relu()],
    ids=["quick gelu", "two in a row", "one"],
)
def test_other_gates(act: Apply, tmp_path: Path) -> None:
    found = brought(of_blocks(act), tmp_path, library=True)
    assert "act: gate1" in found.text and "block: basic, repeat: 2" in found.text


def test_gates_that_are_not_the_activation(tmp_path: Path) -> None:
    import torch
    from torch import nn

    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), of(hard_swish), nn.Linear(8, 4)
    found = brought(of_blocks(torch.relu, *head), tmp_path, library=True)
    assert "block: hard_swish, name: act" in found.text
    assert "stages:\n  - {name: layer1, block: basic, repeat: 2, filters: 8}\n" in found.text


def test_two_means_side_by_side_are_a_head(tmp_path: Path) -> None:
    import torch
    from torch import nn

    both = of(lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
    found = brought(of_blocks(torch.relu, both, nn.Linear(16, 4)), tmp_path, library=True)
    assert "blocks:" not in found.text
    assert "  - {concat: [avgpool, global_max_pool], name: concat}\n" in found.text


def test_a_block_of_its_own_hides_none_of_the_library(tmp_path: Path) -> None:
    from torch import nn

    wider = nn.Sequential(nn.Conv2d(8, 8, 1), nn.MaxPool2d(2))
    model = nn.Sequential(*of_blocks(lambda x: x.relu())[:-3], wider, *of_blocks(hard_swish)[3:])
    found = brought(model, tmp_path, library=True)
    own = found.text.partition("blocks:")[2].partition("stem:")[0]
    names = {line[2:-1] for line in own.splitlines() if line[:2] == "  " and line[2:3].isalpha()}
    assert "transition_block" in names and not names & set(builtin_blocks())


def widening(*strides: int, width: int = 2) -> Any:
    """Residual blocks with a convolution of 5x5, of which none of the library has one."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 5, stride, 2)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
            self.fit = nn.Conv2d(inputs, outputs, 1, stride) if stride != 1 else nn.Identity()

        def forward(self, x: Any) -> Any:
            return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.fit(x))

    torch.manual_seed(0)
    factors = (width if stride != 1 else 1 for stride in strides)
    widths = [8, *(8 * factor for factor in itertools.accumulate(factors, operator.mul))]
    pairs = itertools.pairwise(widths)
    blocks = [Block(*pair, stride) for pair, stride in zip(pairs, strides, strict=True)]
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *blocks, *end)


def test_a_block_of_its_own_fits_other_widths(tmp_path: Path) -> None:
    """Where all that stride widen as well, both ask for a projection, as in the library."""
    found = brought(widening(1, 1, 2, 1), tmp_path, library=True)
    assert "when: stride != 1 or in_channels != filters" in found.text
    assert "{name: layer2, block: residual_block, repeat: 2, filters: 16, stride: 2}" in found.text
    more = changed(found, "stages.layer1.filters=24", "stages.layer2.repeat=3", "classes=10")
    assert any(name.startswith("layer1.0.fit") for name, _ in more.operations())
    assert not any(name.startswith("layer1.1.fit") for name, _ in more.operations())


def test_names_that_begin_as_some_exporters_begin_all_names(tmp_path: Path) -> None:
    from torch import nn

    stem, *between, head = widening(1, 1)
    layers = {"b_stem": stem, "body": nn.Sequential(*between), "p_head": head}
    found = brought(nn.Sequential(OrderedDict(layers)), tmp_path)
    assert "{conv: b_stem, " in found.text and "{linear: p_head, " in found.text


def test_a_pooled_shortcut_stands_where_the_size_changes(tmp_path: Path) -> None:
    """It does not make other channels of its input."""
    from torch import nn

    model = widening(1, 2, 1, width=1)
    for layer in model:
        if isinstance(getattr(layer, "fit", None), nn.Conv2d):
            layer.fit = nn.AvgPool2d(2)
    found = brought(model, tmp_path, library=True)
    assert re.search("avg_pool: pool1, .*when: stride != 1, as: shortcut", found.text)


def test_a_block_of_its_own_takes_attention(tmp_path: Path) -> None:
    found = brought(widening(1, 1, 2, 1), tmp_path, library=True)
    assert "    slots: {attention: none}\n" in found.text
    assert "- {slot: attention, name: attention, as: residual}\n" in found.text
    for attention in ("squeeze_excitation", "cbam"):
        setting = f"stages.layer1.attention={{{attention}: {{reduction: 4}}}}"
        more = changed(found, setting)
        weighed = {
            name.split(".")[0] for name, op in more.operations() if op.primitive.name == "multiply"
        }
        assert weighed == {"layer1"}


@pytest.mark.parametrize(("weighs", "has_slot"), [(False, True), (True, False)])
def test_a_gate_is_no_attention(weighs: bool, has_slot: bool, tmp_path: Path) -> None:
    """A gate of each number leaves room for attention; one of each channel is attention."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = nn.Conv2d(8, 8, 5, padding=2), nn.Conv2d(8, 8, 1)

        def forward(self, x: Any) -> Any:
            seen = x.mean((2, 3), keepdim=True) if weighs else x
            return x + self.conv(x) * self.gate(seen).sigmoid()

    stem, head = nn.Conv2d(3, 8, 3, padding=1), (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = brought(nn.Sequential(stem, Block(), Block(), *head, nn.Linear(8, 4)), tmp_path)
    assert ("    slots: {attention: none}\n" in found.text) == has_slot, found.text


def inverted(squeezed: Callable[[int], int]) -> Any:
    """Inverted bottlenecks of windows of 3x3 and 5x5 that weigh their channels."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(
            self, inputs: int, outputs: int, stride: int, expansion: int, window: int
        ) -> None:
            super().__init__()
            wide, few = inputs * expansion, squeezed(inputs)
            self.wide = nn.Conv2d(inputs, wide, 1)
            self.deep = nn.Conv2d(wide, wide, window, stride, window // 2, groups=wide)
            self.down, self.up = nn.Conv2d(wide, few, 1), nn.Conv2d(few, wide, 1)
            self.narrow = nn.Conv2d(wide, outputs, 1)
            self.adds = stride == 1 and inputs == outputs

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.deep(torch.relu(self.wide(x))))
            gate = self.up(torch.relu(self.down(y.mean((2, 3), keepdim=True))))
            y = self.narrow(y * gate.sigmoid())
            return x + y if self.adds else y

    class Unit(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Any) -> Any:
            return self.body(x)

    torch.manual_seed(0)
    stages = []
    for given in ((16, 24, 2, 3, 3), (24, 40, 2, 3, 5), (40, 72, 1, 6, 5)):
        inputs, outputs, stride, *numbers = given
        pairs = (inputs, outputs, stride), (outputs, outputs, 1), (outputs, outputs, 1)
        blocks = (Block(*pair, *numbers) for pair in pairs)
        stages.append(nn.Sequential(*(Unit(each) for each in blocks)))
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(72, 4)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *stages, *end)


@pytest.mark.parametrize(
    ("squeezed", "rule"),
    [
        (lambda width: make_divisible(width / 4, 8), '"make_divisible(in_channels / 4, 8)"'),
        (
            lambda width: make_divisible(width / 4, 8, round_limit=0),
            '"make_divisible(in_channels / 4, 8, round_limit=0)"',
        ),
        (lambda width: width // 16, "in_channels // 16"),
        (lambda width: round(width / 16), "round(in_channels / 16)"),
    ],
    ids=["MobileNet", "without a limit", "cut off", "rounded"],
)
def test_a_stage_says_how_many_times_wider_it_is(
    squeezed: Callable[[int], int], rule: str, tmp_path: Path
) -> None:
    """Widths by which its blocks differ are rules of the block, and no stages of their own."""
    found = brought(inverted(squeezed), tmp_path)
    assert "    let:\n      width: in_channels * expansion\n" in found.text
    assert f"{{conv: down, filters: {rule}, kernel: 1" in found.text
    said = re.findall(r"name: (\d), names: (.*?), block: residual_block, repeat: 3", found.text)
    assert said == [(str(k), '"{i}.body"') for k in (1, 2, 3)]
    assert re.findall(r"expansion: (\d), kernel: (\d)", found.text.replace("\n    ", "")) == [
        ("3", "3"),
        ("3", "5"),
        ("6", "5"),
    ]
    assert "Convolutions of 1x1, 3x3 or 5x5, 1x1, 1x1, 1x1 and a shortcut" in found.text
    wider = "stages.2.expansion=4", "stages.2.repeat=4", "stages.3.filters=48"
    more = changed(found, *wider, "stages.3.kernel=3", "classes=10")
    widths = {name: op.output.channels for name, op in more.operations() if name.endswith("wide")}
    assert widths["2.0.body.wide"] == 24 * 4 and widths["2.3.body.wide"] == 40 * 4
    assert widths["3.1.body.wide"] == 48 * 6


def weighing(squeezed: Callable[[int], int]) -> Any:
    """Basic blocks that weigh their channels, of which the library has some."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
            super().__init__()
            few = squeezed(inputs)
            self.c0 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.c1 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.n0, self.n1 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
            self.down, self.up = nn.Conv2d(outputs, few, 1), nn.Conv2d(few, outputs, 1)
            self.fit: Any = nn.Identity()
            if stride != 1:
                conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.fit = nn.Sequential(conv, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            y = self.n1(self.c1(torch.relu(self.n0(self.c0(x)))))
            gate = self.up(torch.relu(self.down(y.mean((2, 3), keepdim=True))))
            return torch.relu(y * gate.sigmoid() + self.fit(x))

    torch.manual_seed(0)
    stages = [nn.Sequential(Block(16, 16), Block(16, 16))]
    for pair in ((16, 24), (24, 40), (40, 72)):
        stages.append(nn.Sequential(Block(*pair, 2), Block(pair[1], pair[1])))
    stem = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(72, 4)
    return nn.Sequential(*stem, *stages, *end)


@pytest.mark.parametrize(
    ("squeezed", "rule"),
    [
        (lambda width: width // 4, "in_channels // 4"),
        (lambda width: make_divisible(width / 4, 8), '"make_divisible(in_channels / 4, 8)"'),
    ],
    ids=["part", "rounded"],
)
def test_a_stage_of_which_the_library_has_some_blocks(
    squeezed: Callable[[int], int], rule: str, tmp_path: Path
) -> None:
    """Squeezed by their inputs, the blocks at the beginnings of stages are none of the library."""
    options = Options("odd", "Odd", unfold="no")
    model = weighing(squeezed)
    found = imported(read(model, tmp_path), options, str(tmp_path / "odd.yaml"))
    assert networks.distance(found, model, SHAPE) < 1e-6
    said = re.findall(r"name: (\d), block: residual_block, repeat: 2, filters: (\d+)", found.text)
    assert said == [("3", "16"), ("4", "24"), ("5", "40"), ("6", "72")]
    assert f"{{conv: down, filters: {rule}, kernel: 1" in found.text
    more = changed(found, "stages.4.repeat=3", "stages.5.filters=48", "classes=10")
    assert {"4.2.down", "5.0.fit.0"} <= {name for name, _ in more.operations()}


@pytest.mark.parametrize(
    ("blocks", "stage"),
    [
        (["s1.0", "s1.1"], ("s1", None, False)),
        (["s1.u0", "s1.u1"], ("s1", "u{i}", False)),
        (["s1.u1", "s1.u2"], ("s1", "u{i + 1}", False)),
        (["s1.8.0.body", "s1.8.1.body"], ("s1.8", "{i}.body", False)),
        (["s1.u2.main.path", "s1.u3.main.path"], ("s1", "u{i + 2}.main.path", False)),
        (["s1.0.body", "s1.1.path"], ("s1", None, False)),
        (["s1.0.body", "s1.2.body"], ("s1", None, False)),
        (["s1.0.body"], ("s1.0.body", None, False)),
    ],
)
def test_names_of_a_stage(blocks: list[str], stage: tuple[str, str | None, bool]) -> None:
    assert stage_names([tuple(each.split(".")) for each in blocks]) == stage


@pytest.mark.parametrize(
    ("block", "stage"),
    [
        ("s2.u0", ("s2", "u{i}", True)),
        ("s2.1.body", ("s2", "{i + 1}.body", True)),
        ("s2.0", ("s2", None, True)),
        ("s2.u1", ("s2.u1", None, False)),
        ("s2.0.body", ("s2.0.body", None, False)),
        ("u0", ("u0", None, False)),
    ],
)
def test_names_of_a_stage_of_one_block(block: str, stage: tuple[str, str | None, bool]) -> None:
    """It can become longer where other stages tell what the next block is called."""
    assert stage_names([tuple(block.split("."))], ["u{i}", "{i + 1}.body"]) == stage


def preactivated(window: int, fit: int, late: bool, width: int = 8) -> Any:
    """Blocks that begin with a norm, whose projection takes what it gives, or the input.

    Those of the first stage have so many channels; they are called u0 and u1.
    """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
            self.conv1 = nn.Conv2d(inputs, outputs, window, stride, window // 2, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.fit: Any = None
            if stride != 1 or inputs != outputs:
                self.fit = nn.Conv2d(inputs, outputs, fit, stride, fit // 2, bias=False)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(x))
            kept = x if self.fit is None else self.fit(y if late else x)
            return self.conv2(torch.relu(self.bn2(self.conv1(y)))) + kept

    torch.manual_seed(0)
    stages = []
    for pair in ((8, width, 1), (width, 12, 2), (12, 16, 2)):
        blocks = {"u0": Block(*pair), "u1": Block(pair[1], pair[1])}
        stages.append(nn.Sequential(OrderedDict(blocks)))
    end = nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), *stages, *end)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize(("window", "fit", "late"), [(5, 1, True), (3, 3, True), (3, 1, False)])
def test_blocks_that_begin_with_a_norm_are_one(
    window: int, fit: int, late: bool, library: bool, tmp_path: Path
) -> None:
    """Wherever their projection stands, and though the library has those without one."""
    found = brought(preactivated(window, fit, late), tmp_path, library=library)
    said = re.findall(r"block: residual_block, repeat: 2, filters: (\d+)", found.text)
    assert said == ["8", "12", "16"] and len(found.network.stages) == 3
    assert ("from: act1" in found.text) == ("else: x, as: shortcut" in found.text) == late
    more = changed(found, f"stages.{found.network.stages[0].name}.filters=24", "classes=10")
    assert sum(name.endswith("fit") for name, _ in more.operations()) == 3


@pytest.mark.parametrize("library", [True, False])
def test_a_norm_behind_the_stem_is_the_first_block_s(library: bool, tmp_path: Path) -> None:
    """Where the first block widens, nothing but its norm takes what the stem gives."""
    found = brought(preactivated(5, 1, True, width=10), tmp_path, library=library)
    said = re.findall(r"name: (\d), names: (.*?), block: residual_block, repeat: 2", found.text)
    assert said == [(str(k), '"u{i}"') for k in (1, 2, 3)]
    assert "references" not in found.text
    assert "stem:\n  - {conv: 0, filters: 8, kernel: 3}\n\n" in found.text
    more = changed(found, "stages.1.filters=8", "stages.1.repeat=3", "classes=10")
    assert not any(name.startswith("1.0.fit") for name, _ in more.operations())


def plain() -> Any:
    """Convolutions and poolings in a row, more of them than one block of the library is."""
    from torch import nn

    def stage(inputs: int, outputs: int, kernel: int) -> list[Any]:
        layers = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs)
        return [*layers, nn.ReLU(), nn.MaxPool2d(2)]

    body = *stage(3, 8, 5), *stage(8, 16, 5), *stage(16, 16, 1)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def test_a_row_of_layers_has_stages(tmp_path: Path) -> None:
    found = brought(plain(), tmp_path, library=True)
    stages = found.text.partition("stages:\n")[2].partition("\nhead:")[0]
    assert re.findall("name: (.*?),", stages) == ["layer1", "layer2", "layer3"]
    own = found.text.partition("blocks:")[2].partition("stages:")[0]
    assert "conv: conv1, " in own and "norm: bn1}" in own and "transition" not in own


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["s1_b1_conv1", "s2_b1_conv1", "s2_b2_conv1"], "conv1"),
        (["block2_sepconv1_bn", "block3_sepconv1_bn"], "sepconv1_bn"),
        (["s1_c11", "s2_c11"], ""),
        (["conv2d", "conv2d_1"], ""),
        (["stem_1_conv", "stem_2_conv"], "conv"),
        (["a_1", "b_1"], ""),
    ],
)
def test_words_that_names_share(names: list[str], shared: str) -> None:
    assert shared_word(names) == shared
