"""The stand-ins for Flax: a correct text passes, and each mistake in it is found.

The text is that of a person who follows the layout of the backend, not the backend's own.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
from standins import differences

from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

TEXT = Path(__file__).with_name("small_flax.txt").read_text(encoding="utf-8")

SPEC = Path(__file__).with_name("small_flax.yaml").read_text(encoding="utf-8")


@functools.cache
def network() -> Network:
    return lower(load("small.yaml", Library(), text=SPEC.encode()))


def test_the_text_is_the_network() -> None:
    assert differences(TEXT, network(), "flax") == []


def test_no_framework_is_imported() -> None:
    program = (
        "import sys; sys.path[:0] = ['tests/support', 'tests/programs']\n"
        "import standins.flax_run\n"
        "assert not {'flax', 'jax', 'numpy'} & set(sys.modules)\n"
    )
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=60)


# What is replaced, by what, and a part of what is told.
MISTAKES = {
    "one axis of a window": ("(7, 7)", "7", "is not one of rows and columns"),
    "padding by the size": ("strides=2, padding=3", "strides=2", "padding same"),
    "another stride": ("strides=stride, padding=1", "padding=1", "do not fit"),
    "a bias": ("use_bias=False,", "", "is none of the network's"),
    "fan_in": ('"fan_out"', '"fan_in"', "deviation"),
    "truncated": ('"normal"', '"truncated_normal"', "draws from"),
    "PyTorch's momentum": ("momentum=0.9", "momentum=0.1", "momentum"),
    "Flax's momentum": (", momentum=0.9", "", "momentum 0.01"),
    "another epsilon": ("momentum=0.9", "momentum=0.9, epsilon=1e-3", "eps 0.001"),
    "a layer that is left out": ("        x = self.act1(x)\n", "", "act1"),
    "a module after None": (
        "        self.downsample = (",
        "        self.downsample = None\n        self.downsample = (",
        "Cannot assign data value to static",
    ),
    "a list of Python's": (
        "Sequential(BasicBlock(8, 8, rngs=rngs) for _ in range(2))",
        "[BasicBlock(8, 8, rngs=rngs) for _ in range(2)]",
        "Found data on value",
    ),
    "no source of random numbers": ("BasicBlock(16, 16, rngs=rngs)", "BasicBlock(16, 16)", "rngs"),
    "a name of the module's": ("self.fc", "self.train", "hides an attribute"),
    "another name": ("self.fc", "self.dense", "no parameter fc.weight"),
    "uncounted padding": ("((1, 1), (1, 1))", '"SAME"', "padding same"),
    "no shortcut": ("x = residual + shortcut", "x = residual", "add"),
    "the mean of the channels": ("axis=(1, 2)", "axis=(1, 3)", "no operation of the IR"),
    "another order": ('"layer1", "layer2", "av', '"layer2", "layer1", "av', "freeze_until"),
    "a name of nothing": ('"avgpool", "fc")', '"pool", "fc")', "the order has [] for avgpool"),
    "no norm to freeze": ("        self.frozen = Below(())\n", "", "no attribute 'frozen'"),
    "another mode": ("        if not self.use_running_average:\n    ", "", "for good"),
    "training is left out": ("        super().train(**attributes)\n", "", "in the wrong mode"),
    "another filter": ("in self.names", "in self.names[1:]", "the text of this helper"),
    "no filter of parameters": ("nnx.All(nnx.Param, nnx.Not(self.frozen))",
        "nnx.Not(self.frozen)", "bn1.mean is trained"),
    "the frozen": ("nnx.Not(self.frozen))", "self.frozen)", "freeze_until"),
    "norms that are not frozen": ("module.use_running_average = True", "pass", "in the wrong mode"),
    "a helper of its own": ("x = layer(x)", "x = layer(layer(x))", "is not the backend's"),
    "another feature": ('features["layer1"]', 'features["first"]', "the features are"),
    "another number of classes": ("num_classes: int = 7", "num_classes: int = 8", "defaults"),
    "an import": ("import jax\n", "import jax\nimport os\n", "imports os"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name: str) -> None:
    right, wrong, told = MISTAKES[name]
    assert right in TEXT
    found = differences(TEXT.replace(right, wrong), network(), "flax")
    assert any(told in each for each in found), found
