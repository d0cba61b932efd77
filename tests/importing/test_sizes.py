"""What a model decides by the size, the number or the values of its images is told, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from networks import Bring, bringing

from resnet_spec.diagnostics import SpecError
from resnet_spec.importing import proof, sizes, sources
from resnet_spec.importing.readers import onnx_file
from resnet_spec.importing.run import Options, imported
from resnet_spec.verify.session import Process
from resnet_spec.verify.worker import load_module

pytestmark = pytest.mark.torch

MODULE = """\
import math
import random

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, given):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        fit = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.fit = nn.Sequential(fit, nn.BatchNorm2d(outputs))
        self.given = given

    def forward(self, x):
        x = self.given(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.fit(x))


def same(x):
    return x


class Net(nn.Module):
    def __init__(self, head, size=1, images=same, given=same):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 8, 1, same), Block(8, 16, 2, given))
        self.fc = nn.Linear(16 * size, 5)
        self.head, self.images = head, images

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.conv(self.images(x)))))
        return self.fc(self.head(x))


def mean(x):
    return x.mean((2, 3))


def even(x):
    return F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))


def like_tensorflow(x):
    rows, columns = (max((math.ceil(n / 2) - 1) * 2 + 3 - n, 0) for n in x.shape[2:])
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def tensorflow():
    model = Net(mean)
    model.blocks[1].conv1.padding = (0, 0)
    model.blocks[1].conv1.register_forward_pre_hook(lambda _, given: like_tensorflow(*given))
    return model


def brighter(x):
    return x * 2 if x.mean() > 0 else x


def scaled(x):
    return x / x.std().item()


def checked(x):
    return x if x.abs().max() < 1000 else x / 255


def of_multiples(x):
    assert x.shape[2] % 16 == x.shape[3] % 16 == 0
    return mean(F.avg_pool2d(x, 16))


def plain(): return Net(mean)
def halved_twice(): return Net(mean, given=lambda x: F.max_pool2d(x, 2) + F.max_pool2d(x, 3, 2, 1))
def adaptive(): return Net(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1))
def parts(): return Net(lambda x: F.adaptive_avg_pool2d(x, 4).flatten(1), 16)
def odd_parts(): return Net(lambda x: F.adaptive_avg_pool2d(x, 3).flatten(1), 9)
def whole(): return Net(lambda x: F.avg_pool2d(x, 16).flatten(1))
def as_large_as_it(): return Net(lambda x: F.avg_pool2d(x, x.shape[2:]).flatten(1))
def half(): return Net(lambda x: F.avg_pool2d(x, x.shape[-1] // 2).flatten(1), 4)
def padded(): return Net(mean, given=even)
def one_by_one(): return Net(lambda x: mean(x).view(1, -1))
def mixed(): return Net(mean, images=lambda x: x if len(x) == 1 else x - x.mean(0))
def drawn(): return Net(mean, images=lambda x: x * random.random())
def in_place(): return Net(mean, images=lambda x: x.mul_(2))
def fixed(): return Net(lambda x: F.avg_pool2d(x.reshape(len(x), 16, 16, 16), 16).flatten(1))
def multiples(): return Net(of_multiples)
def decides(): return Net(mean, images=brighter)
def computes(): return Net(mean, images=scaled)
def checks(): return Net(mean, images=checked)
def largest(): return Net(lambda x: F.adaptive_max_pool2d(x, 3).flatten(1), 9)
def halves(): return Net(lambda x: F.adaptive_max_pool2d(x, 4).flatten(1), 16)
def flat(): return Net(lambda x: x.flatten(1), 256)
def rows_first(): return Net(lambda x: x.permute(0, 2, 3, 1).flatten(1), 256)


class Chosen(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.other_norm = nn.BatchNorm2d(8, affine=False)
        self.table = nn.Parameter(torch.randn(2, 8))
        self.chosen = forward

    def forward(self, x):
        return self.chosen(self, x)

    def convolved(self, x, kernel, bias=None):
        return F.conv2d(x, kernel, bias, padding=1)

    def standardised(self, x):
        return self.convolved(x, self.first.weight - self.first.weight.mean())


def by_size(forward): return Net(mean, given=Chosen(forward))
def layers(): return by_size(lambda m, x: m.second(x) if x.shape[2] % 2 else m.first(x))
def norms(): return by_size(lambda m, x: m.first(m.other_norm(x) if x.shape[3] % 2 else m.norm(x)))
def kernels(): return by_size(lambda m, x: m.convolved(x, m.first.weight * (x.shape[2] / 32)))
def rows(): return by_size(lambda m, x: m.convolved(x, m.first.weight, m.table[x.shape[3] % 2]))
def standardised(): return by_size(Chosen.standardised)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.over_places = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        places = x.flatten(2).transpose(1, 2)
        return self.over_places(places, places, places)[0].mean(1)


class Masked(Net):
    def forward(self, image, mask):
        return super().forward(image * mask)


class Twice(nn.Sequential):
    def __init__(self):
        second = nn.AvgPool2d(8, divisor_override=3)
        super().__init__(nn.AvgPool2d(2), second, nn.Flatten())


def masked(): return Masked(mean)
def divided(): return Net(lambda x: mean(F.avg_pool2d(x, 2, divisor_override=3)))
def second(): return Net(Twice())
def by_operator(): return Net(lambda x: mean(torch.ops.aten.avg_pool2d(x, [2], divisor_override=3)))
def own_divisor(): return Net(lambda x: mean(nn.AvgPool2d(2, divisor_override=4)(x)))
def as_map(): return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 5, 1))
def attention(): return Net(Attention())
"""

SIZES = {"masked": [(3, 32, 32), (1, 32, 32)]}  # of what is no single image


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bring:
    monkeypatch.chdir(tmp_path)
    return bringing(MODULE, 32)


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "adaptive",
        "parts",
        "odd_parts",
        "as_large_as_it",
        "tensorflow",
        "flat",
        "in_place",
        "own_divisor",
        "standardised",
    ],
)
def test_what_is_one_for_all_sizes_is_not_told(name: str, bring: Bring) -> None:
    notes = bring(name).notes
    assert not any("images" in note for note in notes), notes


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("whole", "'/AveragePool' is avg_pool with kernel 16, in the spec global_avg_pool"),
        ("multiples", "is avg_pool with kernel 16"),
        ("half", "'/AveragePool' is avg_pool with kernel 16 and stride 16, in the spec"),
        ("padded", "Pad '/blocks/blocks.1/Pad' can't be said: the language has no operation for"),
    ],
)
def test_what_holds_for_one_size_is_told(name: str, told: str, bring: Bring) -> None:
    notes = bring(name).notes
    assert len(notes) == 1 and told in notes[0], notes
    assert notes[0].endswith("they are one for images of 32x32")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("layers", "Conv '/blocks/blocks.1/given/second/Conv'"),
        ("norms", "BatchNormalization '/blocks/blocks.1/given/other_norm/BatchNormalization'"),
        ("kernels", "Conv '/blocks/blocks.1/given/Conv'"),
        ("rows", "Conv '/blocks/blocks.1/given/Conv'"),
    ],
)
def test_weights_that_depend_on_the_size_are_told(name: str, layer: str, bring: Bring) -> None:
    (told,) = [note for note in bring(name).notes if "images" in note]
    assert told == (
        "for images of 65x63 the spec is another network than the model, in which "
        f"{layer} has other weights: they are one for images of 32x32"
    )


def test_parts_of_a_map_stay_parts(bring: Bring) -> None:
    assert "adaptive_avg_pool: pool1, size: 4" in bring("parts").text


def test_a_model_of_one_image_is_told(bring: Bring) -> None:
    notes = bring("one_by_one").notes
    assert len(notes) == 1 and "it takes one image at a time" in notes[0], notes
    assert "(mynets.py:39: " in notes[0]


@pytest.mark.parametrize("name", ["decides", "computes"])
def test_what_varies_with_the_values_of_images_is_refused(name: str, bring: Bring) -> None:
    line = next(
        number
        for number, text in enumerate(MODULE.splitlines(), 1)
        if {"decides": "x.mean() > 0", "computes": "x.std()"}[name] in text
    )
    with pytest.raises(SpecError, match=f"at mynets.py:{line} by values of the images"):
        bring(name)


def test_a_check_of_values_is_told(bring: Bring) -> None:
    notes = bring("checks").notes
    assert len(notes) == 1 and "by a value of the images" in notes[0], notes


def test_an_operator_without_an_export_for_other_sizes_is_told(bring: Bring) -> None:
    notes = bring("halves").notes
    assert any("no form for adaptive_max_pool2d in Net" in note for note in notes), notes


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mixed", "depends on the other images of its batch"),
        ("drawn", "is another each time: it draws at random"),
    ],
)
def test_what_is_no_function_of_one_image_is_refused(name: str, told: str, bring: Bring) -> None:
    with pytest.raises(SpecError, match=told):
        bring(name)


def test_the_model_s_process_has_ended_before_the_proof(
    bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both together would need more memory than either."""
    started: list[Process] = []
    ended: list[int | None] = []
    original = proof.process_of

    def process(kind: str) -> Process:
        started.append(original(kind))
        return started[-1]

    def told(*given: Any) -> list[str]:
        ended.extend(each.process.returncode for each in started)
        return []

    monkeypatch.setattr(sources, "process_of", process)
    monkeypatch.setattr(sizes, "told", told)
    bring("plain")
    assert ended == [0]


def test_a_model_of_one_size_has_no_note_of_others(bring: Bring) -> None:
    assert bring("fixed").notes == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("attention", "MatMul '/head/over_places/MatMul'"),
        ("largest", "Net: adaptive_max_pool2d"),
        ("divided", "Net: avg_pool2d with a divisor of its own"),
        ("second", "AvgPool2d 'head.1': avg_pool2d with a divisor of its own"),
        ("by_operator", "Net: avg_pool2d with a divisor of its own"),
        ("masked", "the model: several inputs: 'image', 'mask'"),
    ],
)
def test_what_has_no_export_is_named(name: str, place: str, bring: Bring) -> None:
    with pytest.raises(SpecError) as error:
        bring(name)
    found = error.value.diagnostics[0]
    assert found.code == "RS953" and found.message.startswith(place), found.message
    assert "%" not in found.message and "github" not in found.message


def archived(name: str) -> str:
    """A model of the module, saved by PyTorch."""
    import torch

    model = getattr(load_module(Path("mynets.py"), "mynets"), name)().eval()
    images = tuple(torch.zeros(1, *size) for size in SIZES.get(name, [(3, 32, 32)]))
    torch.export.save(torch.export.export(model, images), "net.pt2")
    return "net.pt2"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("largest", "Net: adaptive_max_pool2d"),
        ("second", "AvgPool2d 'head.1': avg_pool2d with a divisor of its own"),
        ("by_operator", "Net: avg_pool2d with a divisor of its own"),
        ("masked", "the model: several inputs: 'image', 'mask'"),
    ],
)
def test_what_has_no_export_is_named_in_an_archive(name: str, place: str, bring: Bring) -> None:
    with pytest.raises(SpecError) as error:
        bring(archived(name))
    found = error.value.diagnostics[0]
    assert found.code == "RS953" and found.message.startswith(place), found.message


def test_a_divisor_that_is_the_window_is_read_from_an_archive(bring: Bring) -> None:
    assert bring(archived("own_divisor")).notes == []


def test_logits_that_are_a_map_of_one_place_are_told(bring: Bring) -> None:
    told = "its logits are 1x5x1x1, a map of one place; those of the spec are 1x5"
    assert bring("as_map").notes == [told]


# --- files ---------------------------------------------------------------------------------------


def of_file(name: str, is_open: bool) -> list[str]:
    import torch

    model = getattr(load_module(Path("mynets.py"), "mynets"), name)().eval()
    options: dict[str, Any] = {
        "input_names": ["x"],
        "dynamic_axes": {"x": {0: "n", 2: "h", 3: "w"}},
    }
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 32, 32),),
        "net.onnx",
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        **(options if is_open else {}),
    )
    read = onnx_file.read(Path("net.onnx"), "net.onnx", (32, 32))
    return imported(read, Options("net", "Net"), "net.yaml").notes


@pytest.mark.usefixtures("bring")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("plain", ""),
        ("whole", "for images of 41x39 the spec is another network than the model"),
        ("padded", "for images of 65x63 the spec is another network than the model"),
        ("kernels", "Conv '/blocks/blocks.1/given/Conv' has other weights: they are one"),
        ("halved_twice", ""),
        ("rows_first", "can't be said: a fully connected layer of 4096 on a vector of 16896"),
    ],
)
def test_a_file_with_open_sizes_is_read_for_others(name: str, told: str) -> None:
    taken = "it takes images of any size"
    notes = [note for note in of_file(name, True) if "images" in note and taken not in note]
    assert len(notes) == bool(told) and told in "".join(notes), notes


@pytest.mark.usefixtures("bring")
def test_of_a_file_with_one_size_a_window_that_is_the_map_is_told() -> None:
    notes = of_file("whole", False)
    assert len(notes) == 1 and "its window is all of the map" in notes[0], notes
    assert not of_file("plain", False)
