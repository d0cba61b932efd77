"""What a PyTorch model does in training alone, or does not train, is in its spec or is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from networks import Bring, bringing

from resnet_spec.verify.worker import load_module

pytestmark = pytest.mark.torch

MODULE = """\
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import dropout as by_another_name
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self, body, logits=lambda net, x: x, **layers):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.conv, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)
        self.body, self.logits = body, logits
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        return self.logits(self, self.fc(self.body(self, x).mean((2, 3))))


def plainly(net, x):
    return net.conv(x)


def in_place(net, x):
    x = net.conv(x)
    F.dropout(x, 0.25, net.training, inplace=True)
    return x


def module(): return Net(lambda net, x: net.drop(net.conv(x)), drop=nn.Dropout(0.25))
def aliased(): return Net(lambda net, x: by_another_name(net.conv(x), 0.25, net.training))
def of_torch(): return Net(lambda net, x: torch.dropout(net.conv(x), 0.25, train=net.training))
def operator(): return Net(lambda net, x: torch.ops.aten.dropout(net.conv(x), 0.25, net.training))
def module_in_place(): return Net(lambda net, x: net.drop(net.conv(x)), drop=nn.Dropout(0.25, True))
def dropped_in_place(): return Net(in_place)


def channels(): return Net(lambda net, x: torch.feature_dropout(net.conv(x), 0.1, net.training))
def alpha(): return Net(lambda net, x: net.drop(net.conv(x)), drop=nn.AlphaDropout(0.1))
def slopes(): return Net(lambda net, x: net.slope(net.conv(x)), slope=nn.RReLU())
def no_rate(): return Net(lambda net, x: net.drop(net.conv(x)), drop=nn.Dropout2d(0))


class Branch(nn.Module):
    def __init__(self, probability):
        super().__init__()
        self.conv, self.probability = nn.Conv2d(8, 8, 3, padding=1), probability

    def forward(self, x):
        if self.training and self.probability and self.drawn() < self.probability:
            return x
        return x + self.conv(x)


class OfPython(Branch):
    def drawn(self): return random.random()


class OfNumPy(Branch):
    def drawn(self): return np.random.rand()


class OfPyTorch(Branch):
    def drawn(self): return torch.rand(1).item()


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x) if self.training else x


class Targets(nn.Module):
    def forward(self, x):
        if self.training:
            raise ValueError("it needs targets")
        return x


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        if self.training:
            self.num_batches_tracked.add_(1)
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, self.training)


class OwnDropout(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, self.p, self.training)


class Fewer(Net):
    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self


def weights(net, x):
    other = net.other if net.training else net.conv
    return F.conv2d(x, other.weight, other.bias, padding=1)


def noise(): return Net(lambda net, x: net.noise(net.conv(x)), noise=Noise())
def in_a_function(): return Net(lambda net, x: net.conv(x) * (2 if net.training else 1))
def own_drop(): return Net(lambda net, x: F.dropout(net.conv(x)) if net.training else net.conv(x))
def other(): return Net(lambda net, x: (net.second if net.training else net.conv)(x), second=conv())
def other_weights(): return Net(weights, other=conv())
def of_python(): return Net(lambda net, x: net.branch(net.conv(x)), branch=OfPython(1e-9))
def of_numpy(): return Net(lambda net, x: net.branch(net.conv(x)), branch=OfNumPy(1e-9))
def of_pytorch(): return Net(lambda net, x: net.branch(net.conv(x)), branch=OfPyTorch(1e-9))
def targets(): return Net(lambda net, x: net.targets(net.conv(x)), targets=Targets())
def kept(): return Fewer(plainly)


def conv(): return nn.Conv2d(8, 8, 3, padding=1)
def plain(): return Net(plainly)
def never(): return Net(lambda net, x: net.branch(net.conv(x)), branch=OfPython(0))
def own_norm(): return Net(lambda net, x: net.own(net.conv(x)), own=OwnNorm(8))
def own_dropout(): return Net(lambda net, x: net.own(net.conv(x)), own=OwnDropout(0.25))
def twice_computed(): return Net(
    lambda net, x: checkpoint(net.conv, x, use_reentrant=False) if net.training else net.conv(x)
)


def with_number(logits, is_buffer):
    net = Net(plainly, logits)
    if is_buffer:
        net.register_buffer("number", torch.tensor(4.0))
    else:
        net.number = nn.Parameter(torch.tensor(4.0))
    return net


def times(is_buffer): return with_number(lambda net, x: x * net.number, is_buffer)
def over(is_buffer): return with_number(lambda net, x: x / net.number, is_buffer)
def plus(is_buffer): return with_number(lambda net, x: x + net.number, is_buffer)
def minus(is_buffer): return with_number(lambda net, x: x - net.number, is_buffer)
def power(is_buffer): return with_number(lambda net, x: x * net.number.exp(), is_buffer)
def times_frozen():
    net = times(False)
    net.number.requires_grad_(False)
    return net


class FrozenNorm(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("weight", "bias", "mean", "variance"):
            self.register_buffer(name, torch.rand(8, 1, 1) + 0.5)

    def forward(self, x):
        scale = self.weight * (self.variance + 1e-5).rsqrt()
        return x * scale + (self.bias - self.mean * scale)


def blurs():
    net = Net(lambda net, x: net.blur(F.relu(net.conv(x))), blur=nn.Conv2d(
        8, 8, 3, 2, 1, groups=8, bias=False, padding_mode="reflect"
    ))
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    net.blur.weight.data.copy_(kernel[:, None] * kernel)
    return net


def blurs_fixed():
    net = blurs()
    net.blur.requires_grad_(False)
    return net
def frozen_norm(): return Net(lambda net, x: net.own(F.relu(net.conv(x))), own=FrozenNorm())
def scaled():
    net = Net(lambda net, x: net.conv(x) * net.scale)
    net.register_buffer("scale", torch.rand(8, 1, 1))
    return net
def frozen():
    net = Net(plainly)
    net.conv.requires_grad_(False)
    net.stem.requires_grad_(False)
    return net
def all_frozen(): return Net(plainly).requires_grad_(False)
"""

LEFT_OUT = "what is done in training alone is left out: "
FIXED = "fixed in the model, and trained in the spec: "


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bring:
    monkeypatch.chdir(tmp_path)
    return bringing(MODULE, 16, library=False)


def archived(name: str, *given: Any) -> str:
    """A model of the module, saved by PyTorch."""
    import torch

    model = getattr(load_module(Path("mynets.py"), "mynets"), name)(*given).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 16, 16),)), "net.pt2")
    return "net.pt2"


# --- what is done in training alone --------------------------------------------------------------


DROPOUTS = ["module", "aliased", "of_torch", "operator", "module_in_place", "dropped_in_place"]


@pytest.mark.parametrize("name", [*DROPOUTS, "own_dropout"])
def test_dropout_comes_back_by_any_name(name: str, bring: Bring) -> None:
    found = bring(name)
    assert found.notes == [] and found.text.count("rate: 0.25}") == 1, found.text


@pytest.mark.parametrize("name", ["module", "of_torch"])
def test_dropout_of_an_archive_comes_back(name: str, bring: Bring) -> None:
    found = bring(archived(name))
    assert found.notes == [] and found.text.count("rate: 0.25}") == 1, found.text


@pytest.mark.parametrize(
    ("name", "told"), [("channels", "feature_dropout"), ("alpha", "alpha_dropout")]
)
def test_other_dropouts_are_told(name: str, told: str, bring: Bring) -> None:
    assert bring(name).notes == [LEFT_OUT + told]
    assert bring(archived(name)).notes == [LEFT_OUT + told]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("noise", "Noise"),
        ("slopes", "RReLU"),
        ("in_a_function", "Net"),
        ("own_drop", "Net"),
        ("of_python", "OfPython"),
        ("of_numpy", "OfNumPy"),
        ("of_pytorch", "OfPyTorch"),
    ],
)
def test_what_code_does_in_training_is_told(name: str, told: str, bring: Bring) -> None:
    assert bring(name).notes == [LEFT_OUT + told]


@pytest.mark.parametrize("name", ["other", "other_weights"])
def test_another_layer_in_training_is_told(name: str, bring: Bring) -> None:
    notes = bring(name).notes
    assert notes[0] == LEFT_OUT + "Net" and "the spec lacks 2 tensors" in notes[1]


@pytest.mark.parametrize("name", ["plain", "never", "no_rate", "own_norm", "twice_computed"])
def test_what_is_the_same_in_training_is_not_told(name: str, bring: Bring) -> None:
    assert bring(name).notes == []


def test_training_that_fails_is_told(bring: Bring) -> None:
    line = MODULE[: MODULE.index('ValueError("it needs')].count("\n") + 1
    told = f"its training can't be seen (mynets.py:{line}: it needs targets): "
    assert bring("targets").notes == [f"{told}what only that does in Targets is left out"]


def test_norms_that_keep_their_statistics_are_told(bring: Bring) -> None:
    told = "norms that use their running statistics in training, too, are others in the spec: "
    assert bring("kept").notes == [told + "'norm'"]


# --- what is trained -----------------------------------------------------------------------------


CALCULATIONS = ["times", "over", "plus", "minus", "power"]


@pytest.mark.parametrize(
    ("is_buffer", "written", "other"),
    [(True, "rescale: ", "learned"), (False, "learned_", "rescale")],
    ids=["a buffer is fixed", "a parameter is learned"],
)
@pytest.mark.parametrize("name", CALCULATIONS)
def test_whether_a_number_is_learned(
    name: str, is_buffer: bool, written: str, other: str, bring: Bring
) -> None:
    path = Path("mynets.py")
    path.write_text(f"{MODULE}\ndef net(): return {name}({is_buffer})\n")
    for found in (bring("net"), bring(archived(name, is_buffer))):
        assert written in found.text and other not in found.text, found.text


def test_a_number_that_is_frozen_is_fixed(bring: Bring) -> None:
    assert "{rescale: rescale, factor: 4.0}" in bring("times_frozen").text


def test_a_kernel_that_is_trained_is_no_blur_without_a_word(bring: Bring) -> None:
    found = bring("blurs")
    assert "blur_pool" in found.text
    assert "trained in the model, and fixed in the spec: 'blur'" in found.notes
    found = bring("blurs_fixed")
    assert "blur_pool" in found.text
    assert not any("fixed in the spec" in each for each in found.notes), found.notes


@pytest.mark.parametrize(
    ("name", "layers"),
    [("frozen", "'stem', 'conv'"), ("frozen_norm", "'own'"), ("scaled", "'scale'")],
)
def test_what_is_fixed_is_told(name: str, layers: str, bring: Bring) -> None:
    (note,) = (each for each in bring(name).notes if each.startswith(FIXED))
    assert note.startswith(f"{FIXED}{layers}; --freeze-until of the trainers "), note
    (note,) = (each for each in bring(archived(name)).notes if each.startswith(FIXED))
    of_operators = "Mul '/Mul_1'" if name == "frozen_norm" else layers  # without its layers' names
    assert note.startswith(f"{FIXED}{of_operators}; "), note


def test_a_model_that_is_frozen_as_a_whole_is_one_for_evaluation(bring: Bring) -> None:
    assert bring("all_frozen").notes == []
