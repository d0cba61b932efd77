"""Names of other libraries: what the help says of them is true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_spec.ir import Operation
from resnet_spec.language import nodes, other_libraries
from resnet_spec.language.library import Library, builtin_blocks
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.primitives import PRIMITIVES, ROLES

TABLES = (other_libraries.SAME, other_libraries.LAYERS, other_libraries.OTHERWISE)


def clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def test_no_name_is_one_of_ours() -> None:
    names = [name for table in TABLES for name in table]
    assert len(set(names)) == len(names)
    assert not set(names) & {*PRIMITIVES, *ROLES, *builtin_blocks()}


@pytest.mark.parametrize("name", other_libraries.SAME)
def test_what_it_is_called_here_exists(name: str) -> None:
    assert other_libraries.SAME[name] in PRIMITIVES


KEYS = {
    "conv": ["filters", "kernel", "bias", "from", "when"],
    "block": ["filters", "act", "norm", "repeat"],
    "loop": ["for", "count", "layers"],
    "spec": ["stages", "classes", "input", "training", "defaults"],
    "input": ["channels", "height", "width"],
}


@pytest.mark.parametrize(
    ("mapping", "key", "expected", "meant"),
    [
        ("conv", "out_channels", "it is called 'filters' here", "filters"),
        ("conv", "filters=16", "write it with a ':': filters: 16", "filters"),
        ("conv", "activation", "it is a layer of its own, below this one: '- act'", None),
        ("conv", "in_channels", "leave it out: it follows from the layer's input", None),
        ("block", "activation", "it is called 'act' here", "act"),
        ("block", "num_blocks", "it is called 'repeat' here", "repeat"),
        ("loop", "repeat", "it is called 'count' here", "count"),
        ("spec", "input_shape", "write input: {channels: 3, height: 224, width: 224}", None),
        ("spec", "num_classes", "it is called 'classes' here", "classes"),
        ("spec", "activation", "write it under 'defaults': {act: …}", None),
        ("input", "size", "write height: … and width: …", None),
        ("input", "heigth", "did you mean 'height'?", "height"),
    ],
)
def test_keys(mapping: str, key: str, expected: str, meant: str | None) -> None:
    assert other_libraries.key_hint(key, KEYS[mapping]) == expected
    assert other_libraries.meant_key(key, KEYS[mapping]) == meant


def test_blocks_that_are_named_exist() -> None:
    for text in other_libraries.OTHERWISE.values():
        if text.startswith("it is the block "):
            block = Library().find_block(text.split()[4], Path())
            assert block is not None
            for word in ("attention", "groups", "base_width"):
                assert word not in text or word in {*block.arguments, *block.slots}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("LayerNorm", "there is no layer_norm here; "),
        ("relu6", "write these layers, "),
        ("nn.Conv2d", "did you mean 'conv'?"),
        ("BatchNorm2d", "did you mean 'batch_norm'?"),
        ("LeakyReLU", "did you mean 'leaky_relu'?"),
        ("Conv3D", "there is no conv3d here; "),
        ("depthwise_conv2d", "it is a conv "),
        ("swish", "it is called 'silu' here"),
        ("con", "did you mean 'conv'?"),
        ("quux", "expected one of: "),
    ],
)
def test_help(written: str, expected: str) -> None:
    assert other_libraries.hint(written, PRIMITIVES).startswith(expected)


FORMULAS: dict[str, Callable[[float], float]] = {
    "relu6": lambda x: clip(x, 0, 6),
    "hard_swish": lambda x: x * clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * clip(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: clip(x, -1, 1),
}


@pytest.mark.parametrize("name", other_libraries.LAYERS)
def test_layers_compute_what_they_stand_for(name: str) -> None:
    lines = "".join(f"      - {each}\n" for each in other_libraries.LAYERS[name])
    text = (
        "spec_version: 1\nname: net\ndescription: a net\n"
        f"blocks:\n  {name}:\n    description: A block\n    layers:\n{lines}"
        f"stages:\n  - {{name: layer1, block: basic, filters: 8, act: {name}}}\n"
    )
    network = lower(load("net.yaml", Library(), text=text.encode()))
    whole = next(
        step.node
        for step in network.root.steps[0].node.steps  # type: ignore[union-attr]
        if not isinstance(step.node, Operation)
    )
    for x in (-7.0, -3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 3.0, 6.0, 9.0):
        values = {0: x}
        for step in whole.steps:
            assert isinstance(step.node, Operation)
            inputs = [values[number] for number in step.inputs]
            values[step.outputs[0]] = computed(step.node, inputs)
        assert values[whole.result] == pytest.approx(FORMULAS[name](x), abs=1e-12)


def computed(operation: Operation, inputs: list[float]) -> float:
    match operation.primitive.name:
        case "rescale":
            factor, offset = operation.attributes["factor"], operation.attributes["offset"]
            assert isinstance(factor, float | int) and isinstance(offset, float | int)
            return factor * inputs[0] + offset
        case "hard_sigmoid":
            return clip(inputs[0] + 3, 0, 6) / 6
        case "multiply":
            return inputs[0] * inputs[1]
    raise AssertionError(operation.primitive.name)


def test_the_layers_are_yaml() -> None:
    for layers in other_libraries.LAYERS.values():
        assert all(nodes.parse(each, "line") for each in layers)
