"""What the stand-ins know of PyTorch beside what is emitted today: names of any depth, containers.

One network, written by hand in each form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import texts
from standins import differences
from standins.torch_layers import NN, Conv2d, Identity
from standins.torch_modules import Module, ModuleDict, ModuleList

from resnet_spec.ir import Network
from resnet_spec.language.load import load
from resnet_spec.lower import lower

SPEC = """\
spec_version: 1
name: forms
description: Names of every depth
input: {channels: 3, height: 24, width: 24}
classes: 5
blocks:
  own:
    description: A chain beside its input
    args: {filters: int}
    layers:
      - {conv: "0", filters: filters, kernel: 3}
      - {silu: "1"}
      - {conv: c0, filters: filters, kernel: 3}
      - {sigmoid: a0}
      - {conv: c1, filters: filters, kernel: 1}
      - {sigmoid: a1, as: chain}
      - {add: [chain, x], as: sum}
      - {relu: act, as: act}
      - {add: [sum, act], name: last}
stem:
  - {conv: body.stem.0.conv, filters: 8, kernel: 3}
  - {batch_norm: body.stem.0.bn}
  - {relu: body.stem.1}
stages:
  - {name: layer1, block: own, repeat: 2, filters: 8}
head:
  - global_avg_pool
  - {linear: fc, features: classes}
"""

# How the stem is made and called.
STEMS = {
    "dicts": (
        """
        self.body = nn.ModuleDict({"stem": nn.ModuleDict({"0": nn.ModuleDict()})})
        self.body.stem["0"].add_module("conv", CONV)
        self.body.stem["0"].add_module("bn", nn.BatchNorm2d(8))
        self.body["stem"].add_module("1", nn.ReLU(inplace=True))""",
        """
        x = self.get_submodule("body.stem.0.conv")(x)
        x = self.body.stem["0"].bn(x)
        x = getattr(self.body.stem, "1")(x)""",
    ),
    "bare modules": (
        """
        self.body = nn.Module()
        self.body.stem = nn.Module()
        self.body.stem.add_module("0", nn.Module())
        self.get_submodule("body.stem.0").conv = CONV
        self.set_submodule("body.stem.0.bn", nn.BatchNorm2d(8))
        self.body.stem.add_module("1", nn.ReLU())""",
        """
        for name in ("conv", "bn"):
            x = self.get_submodule(f"body.stem.0.{name}")(x)
        x = self.get_submodule("body.stem.1")(x)""",
    ),
    "sequences": (
        """
        layers = OrderedDict([("conv", CONV), ("bn", nn.BatchNorm2d(8))])
        stem = nn.ModuleList([nn.Sequential(layers), nn.ReLU(True)])
        self.body = nn.ModuleDict({"stem": stem})""",
        """
        for layer in self.body["stem"]:
            x = layer(x)""",
    ),
    "lists of lists": (
        """
        self.body = nn.Module()
        self.body.stem = nn.ModuleList([nn.Module()])
        self.body.stem[0].conv = CONV
        self.body.stem[-1].bn = nn.BatchNorm2d(8)
        self.body.stem.extend([nn.ReLU()])""",
        """
        x = self.body.stem[0].conv(x)
        x = self.body.stem[0].bn(x)
        x = self.body.stem[1](x)""",
    ),
}
TEXT = """
from collections import OrderedDict
from torch import Tensor, nn
from torch.nn import functional as F

class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", nn.Conv2d(8, 8, 3, padding=1, bias=False))
        self.add_module("1", nn.SiLU(inplace=True))
        for k in range(2):
            module = nn.Conv2d(8, 8, 3 - 2 * k, padding=1 - k, bias=False)
            self.add_module(f"c{k}", module)
            self.add_module(f"a{k}", nn.Sigmoid())
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        chain = x
        for i in range(2):
            chain = self.get_submodule(f"{i}")(chain)
        for k in range(2):
            chain = getattr(self, f"c{k}")(chain)
            chain = getattr(self, f"a{k}")(chain)
        x = chain + x
        return x + self.act(x)

class Forms(nn.Module):
    feature_info = [{"module": "layer1", "num_chs": 8, "reduction": 1}]

    def __init__(self, num_classes: int = 5, in_channels: int = 3) -> None:
        super().__init__()
        STEM
        self.layer1 = nn.Sequential(Own(), Own())
        self.fc = nn.Linear(8, num_classes)
        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        CALL
        x = self.layer1(x)
        return {"layer1": x}

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.forward_features(x)["layer1"].mean(dim=(-2, -1)))

    def freeze_until(self, name: str) -> None:
        if name not in dict(self.named_modules()):
            raise ValueError(name)
        trained = False
        for path, module in self.named_modules():
            trained = trained or path == name
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(trained)
        self.train(self.training)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)

def forms(num_classes: int = 5, in_channels: int = 3) -> Forms:
    return Forms(num_classes, in_channels)
"""


def network() -> Network:
    return lower(load("forms.yaml", texts.LIBRARY, text=SPEC.encode()))


def text(form: str) -> str:
    made, called = (part.strip() for part in STEMS[form])
    made = made.replace("CONV", "nn.Conv2d(in_channels, 8, 3, padding=1, bias=False)")
    return TEXT.replace("STEM", made).replace("CALL", called)


@pytest.mark.parametrize("form", STEMS)
def test_a_form_is_understood(form: str) -> None:
    assert differences(text(form), network(), "torch") == []


@pytest.mark.parametrize(
    ("before", "after", "finds"),
    [
        ('f"c{k}", module', 'f"c{1 - k}", module', "the parameter layer1.0.c1.weight is"),
        ('"1", nn.SiLU', '"2", nn.SiLU', "layer1.0: AttributeError"),
        ("self.act = nn.ReLU()", "self.act1 = nn.ReLU()", "no attribute 'act'"),
        ("nn.SiLU(inplace=True)", "nn.SiLU()", ""),
        ("self.act = nn.ReLU()", "self.act = nn.ReLU(inplace=True)", "of layer1.0.act"),
        ("x + self.act(x)", "x + F.relu(x)", "there is no layer layer1.0.act"),
        ('f"a{k}", nn.Sigmoid()', 'f"a{k}", nn.Hardsigmoid()', "hard_sigmoid"),
        ('"a{k}")(chain)', '"a{0 * k}")(chain)', "the layer layer1.0.a0 runs twice"),
        ("dim=(-2, -1)", "dim=(-3, -2)", "the avg over (1, 2)"),
    ],
)  # fmt: skip
def test_so_is_what_differs(before: str, after: str, finds: str) -> None:
    assert before in text("dicts")
    found = differences(text("dicts").replace(before, after), network(), "torch")
    assert (finds in "\n".join(found)) if finds else found == []


def _module(**layers: Module) -> Module:
    made: Any = NN.Module()
    for name, layer in layers.items():
        setattr(made, name, layer)
    return made  # type: ignore[no-any-return]


REFUSED: dict[str, Callable[[], object]] = {
    "a method of a dict": lambda: ModuleDict({"keys": Identity()}),
    "an attribute of modules": lambda: ModuleDict({"type": Identity()}),
    "training": lambda: ModuleDict({"training": Identity()}),
    "nothing": lambda: ModuleDict({"": Identity()}),
    "a dot": lambda: ModuleDict({"stem.0": Identity()}),
    "a dot in add_module": lambda: _module().add_module("stem.0", Identity()),
    "an attribute in add_module": lambda: _module().add_module("forward", Identity()),
    "a layer that is missing": lambda: ModuleDict()["stem"],
    "a list by a name": lambda: ModuleList([Identity()])["0"],  # type: ignore[index]
    "a path that is missing": lambda: _module(stem=Identity()).get_submodule("stem.0"),
    "a container that is called": lambda: ModuleList([Identity()])(None),  # type: ignore[arg-type]
    "a module without its constructor": lambda: setattr(Module.__new__(Module), "a", Identity()),
    "groups that do not divide": lambda: Conv2d(3, 4, 1, groups=2),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_pytorch_refuses_is_refused(what: str) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError, NotImplementedError, ValueError)):
        REFUSED[what]()


@pytest.mark.torch
@pytest.mark.parametrize("form", STEMS)
def test_pytorch_understands_the_form_too(form: str) -> None:
    import torch

    space: dict[str, Any] = {}
    exec(text(form), space)
    model = space["forms"]()
    assert model(torch.zeros(2, 3, 24, 24)).shape == (2, 5)
