"""Random networks for Hypothesis, drawn from the whole language and small enough to be run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st

from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

Draw = Callable[[st.SearchStrategy[Any]], Any]
Layer = dict[str, Any]

ACTIVATIONS = (
    "relu",
    "silu",
    "gelu",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "leaky_relu",
    {"leaky_relu": {"slope": 0.2}},
    "identity",
    "none",
)
NORMS = (
    "batch_norm",
    {"batch_norm": {"eps": 1e-3, "momentum": 0.05}},
    {"group_norm": {"groups": 2}},
    {"evo_norm": {"groups": 2}},
    "filter_response_norm",
    "none",
)
INITIALIZERS = (
    "zeros",
    {"constant": 0.5},
    {"normal": 0.1},
    {"he_normal": "fan_in"},
    {"fan_out_normal": 0.5},
    {"he_uniform": "fan_out"},
    "lecun_uniform",
)
# Vectors have no fans.
SCALES = ("zeros", {"constant": 0.5}, {"normal": 0.1})
SHORTCUTS = ("projection", "avg_pool_shortcut", "conv_shortcut")
SQUEEZE = {"squeeze_excitation": {"reduction": 4, "divisor": 4}}


def read(spec: dict[str, Any]) -> Network:
    """The network of a drawn spec; raises `SpecError`."""
    text = yaml.safe_dump(spec, sort_keys=False, width=1000)
    return lower(load(f"{spec['name']}.yaml", Library(), text=text.encode()))


@st.composite
def networks(draw: Draw) -> dict[str, Any]:
    """A spec as plain data: stem, stages of built-in and own blocks, head."""
    own = [f"block_{letter}" for letter in "ab"[: draw(st.integers(0, 2))]]
    spec: dict[str, Any] = {
        "spec_version": 1,
        "name": "drawn",
        "description": "A network that was drawn at random",
        "input": {
            "channels": draw(st.integers(1, 4)),
            "height": draw(st.integers(12, 17)),
            "width": draw(st.integers(12, 17)),
        },
        "classes": draw(st.integers(2, 7)),
        "let": {"base": 8, "wide": draw(st.sampled_from(["base * 2", "in_channels * 8", 24]))},
        "defaults": _defaults(draw),
        "blocks": {name: own_block(draw) for name in own},
        "stem": _stem(draw),
        "stages": _stages(draw, own),
        "head": _head(draw),
    }
    return spec


def _defaults(draw: Draw) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["act"] = draw(st.sampled_from(ACTIVATIONS))
    if draw(st.booleans()):
        found["norm"] = draw(st.sampled_from(NORMS))
    if draw(st.booleans()):
        found["batch_norm"] = {"eps": 1e-4, "momentum": 0.2}
    if draw(st.booleans()):
        found["conv"] = {"bias": True, "init": draw(st.sampled_from(INITIALIZERS))}
    if draw(st.booleans()):
        found.setdefault("conv", {})["standardize"] = True
    if draw(st.booleans()):
        found["bottleneck"] = {"expansion": 2, "attention": SQUEEZE}
    if draw(st.booleans()):
        found["basic"] = {"shortcut": draw(st.sampled_from(SHORTCUTS))}
    return found


def _padding(draw: Draw) -> Layer:
    """Padding by the size of the input, or the default."""
    return {"padding": "same"} if draw(st.booleans()) else {}


def _stem(draw: Draw) -> list[Layer]:
    layers: list[Layer] = [
        {
            "conv": "conv1",
            "filters": draw(st.sampled_from([8, "base", "wide"])),
            "kernel": draw(st.sampled_from([1, 2, 3, 5])),
            "stride": draw(st.integers(1, 2)),
            **_padding(draw),
        }
    ]
    if draw(st.booleans()):
        layers.append({"norm": "norm1"})
    if draw(st.booleans()):
        layers.append({"act": "act1"})
    if draw(st.booleans()):
        pool: Layer = {draw(st.sampled_from(["max_pool", "avg_pool"])): "pool", "kernel": 3}
        pool |= {"stride": draw(st.integers(1, 2)), **_padding(draw)}
        layers.append(
            draw(
                st.sampled_from([pool, {"blur_pool": "pool"}, {"zero_pad": "border", "padding": 1}])
            )
        )
    return layers


# --- stages --------------------------------------------------------------------------------------


def _filters(draw: Draw, repeat: int) -> Any:
    """Filters of a stage: one number, one that grows, one for each block, or an expression."""
    return draw(
        st.one_of(
            st.sampled_from([8, 16, "base", "base * 2", "wide", "8 * (i + 1)"]),
            st.sampled_from(["16 if i < n // 2 else 24", "make_divisible(12 + 5 * i, 8)"]),
            st.lists(st.sampled_from([8, 16, 24]), min_size=repeat, max_size=repeat),
        )
    )


def _stages(draw: Draw, own: list[str]) -> list[Layer]:
    count = draw(st.integers(1, 3))
    return [_stage(draw, own, f"layer{number + 1}") for number in range(count)]


def _stage(draw: Draw, own: list[str], name: str) -> Layer:
    repeat = draw(st.integers(1, 4))
    stage: Layer = {"name": name, "block": draw(st.sampled_from([*BUILT_IN, *own, *own]))}
    stage["repeat"] = draw(st.sampled_from([repeat, f"{repeat + 1} - 1"]))
    if stage["block"] == "transition":
        del stage["repeat"]
        return stage
    if draw(st.booleans()):
        stage["names"] = draw(st.sampled_from(["unit{i + 1}", "b{2 * i}"]))
    if stage["block"] == "dense_layer":
        stage["growth"] = draw(st.sampled_from([8, 16]))
        stage["drop_rate"] = draw(st.sampled_from([0.0, 0.1]))
        return stage
    stage["filters"] = _filters(draw, repeat)
    stage["stride"] = draw(st.integers(1, 2))
    if draw(st.booleans()):
        stage["act"] = draw(st.sampled_from(ACTIVATIONS))
    BUILT_IN.get(stage["block"], _own_arguments)(draw, stage)
    return stage


def _nothing(draw: Draw, stage: Layer) -> None:
    """A block that is used with its defaults."""


def _residual_arguments(draw: Draw, stage: Layer) -> None:
    if draw(st.booleans()):
        stage["shortcut"] = draw(st.sampled_from(SHORTCUTS))
    if draw(st.booleans()):
        stage["attention"] = SQUEEZE
    if draw(st.booleans()):
        stage["always_project"] = draw(st.sampled_from([True, "i % 2 == 0", "block_index > 1"]))


def _bottleneck_arguments(draw: Draw, stage: Layer) -> None:
    _residual_arguments(draw, stage)
    stage["expansion"] = draw(st.sampled_from([1, 2]))
    if draw(st.booleans()):
        stage |= {"groups": 2, "base_width": 32}
    if draw(st.booleans()):
        stage["dilation"] = draw(st.sampled_from([2, "1 + i % 2"]))


def _res2net_arguments(draw: Draw, stage: Layer) -> None:
    stage |= {"expansion": 2, "base_width": 32, "scale": draw(st.integers(2, 4))}


def _resnest_arguments(draw: Draw, stage: Layer) -> None:
    stage |= {"expansion": 2, "radix": draw(st.integers(1, 3)), "groups": draw(st.integers(1, 2))}


def _own_arguments(draw: Draw, stage: Layer) -> None:
    if draw(st.booleans()):
        stage["flag"] = draw(st.sampled_from([True, "i > 0", "i == n - 1", "block_index % 2 == 1"]))
    if draw(st.booleans()):
        stage["rate"] = draw(st.sampled_from([0.2, "0.1 * block_index / block_count"]))
    if draw(st.booleans()):
        stage["attention"] = draw(st.sampled_from([SQUEEZE, "none"]))


BUILT_IN: dict[str, Callable[[Draw, Layer], None]] = {
    "basic": _residual_arguments,
    "bottleneck": _bottleneck_arguments,
    "bottleneck_v1": _bottleneck_arguments,
    "preact_bottleneck": lambda draw, stage: stage.update(expansion=2),
    "res2net": _res2net_arguments,
    "resnest": _resnest_arguments,
    "dense_layer": _nothing,
    "transition": _nothing,
}


# --- blocks of the network's own -----------------------------------------------------------------


def own_block(draw: Draw) -> dict[str, Any]:
    """Branches from the input, joined; then any of a loop, a split and a gate; then a shortcut."""
    layers: list[Layer] = []
    branches = draw(st.integers(1, 3))
    for number in range(branches):
        layers += _branch(draw, number)
    layers += _joined(draw, branches)
    for make in draw(st.permutations([_loop, _chain, _gate, _chosen, _noise, _numbers]))[:2]:
        layers += make(draw)
    layers += [
        {"slot": "attention", "name": "se", "as": "residual"},
        {
            "slot": "shortcut",
            "name": "downsample",
            "from": "x",
            "filters": "filters",
            "stride": "stride",
            "when": "stride != 1 or in_channels != filters",
            "as": "shortcut",
        },
        {"add": ["residual", "shortcut"]},
    ]
    if draw(st.booleans()):
        layers.append({"act": draw(st.sampled_from([None, "last"]))})
    return {
        "description": "A block that was drawn at random",
        "args": {
            "filters": "int",
            "stride": {"default": 1, "only": "first"},
            "flag": {"type": "bool", "default": draw(st.sampled_from(["i == 0", False]))},
            "rate": 0.0,
        },
        "slots": {"attention": "none", "shortcut": draw(st.sampled_from(SHORTCUTS))},
        "let": {"half": "filters // 2"},
        "layers": layers,
    }


def _branch(draw: Draw, number: int) -> list[Layer]:
    prefix = f"branch{number}"
    layers: list[Layer] = []
    if draw(st.booleans()):
        layers += [{"norm": f"{prefix}_norm0", "from": "x"}, {"act": None}]
    else:
        layers.append({"identity": None, "from": "x"})
    if draw(st.booleans()):
        layers += [
            {"conv": f"{prefix}.reduce", "filters": "half", "kernel": 1, "bias": True},
            {"act": f"{prefix}_act"},
        ]
    # Other windows than odd ones keep the size only where the padding follows from it.
    padding = _padding(draw)
    kernel = draw(st.sampled_from([1, 2, 3, 5] if padding else [1, 3, 5]))
    conv: Layer = {
        "conv": f"{prefix}_conv",
        "filters": "filters",
        "kernel": kernel,
        "stride": "stride",
        **padding,
    }
    if draw(st.booleans()):
        conv["dilation"] = 2
    if draw(st.booleans()):
        conv["groups"] = "2 if in_channels % 2 == 0 and flag else 1"
    layers += [conv, {"norm": f"{prefix}_norm", "as": f"branch{number}"}]
    if draw(st.booleans()):
        initial = draw(st.sampled_from(SCALES))
        layers[-2:] = [conv, {"batch_norm": f"{prefix}_norm", "init": initial, "as": prefix}]
    return layers


def _joined(draw: Draw, branches: int) -> list[Layer]:
    names = [f"branch{number}" for number in range(branches)]
    if branches == 1:
        return [{"act": "act0"}]
    join = draw(st.sampled_from(["add", "concat", "multiply"]))
    layers: list[Layer] = [{join: names}]
    if join == "concat":
        layers.append({"conv": "fuse", "filters": "filters", "kernel": 1})
    return layers


def _loop(draw: Draw) -> list[Layer]:
    """A chain over the parts of the channels, as in Res2Net."""
    parts = draw(st.sampled_from([2, 4]))
    inner: list[Layer] = [
        {"add": ["parts.{j}", "piece"], "as": "piece", "when": "j > 0 and not flag"},
        {"conv": "convs.{j}", "from": "piece", "filters": f"filters // {parts}", "kernel": 3},
    ]
    if draw(st.booleans()):
        inner.append({"norm": "norms.{j}"})
    inner.append({draw(st.sampled_from(["act", "relu", "silu"])): None, "as": "piece"})
    if draw(st.booleans()):
        inner.append({"max_pool": None, "from": "piece", "kernel": 3, "stride": 1, "as": "piece"})
    inner.append({"identity": None, "from": "piece", "as": "pieces.{j}"})
    return [
        {"split": None, "parts": parts, "as": "parts"},
        {"identity": None, "from": "parts.0", "as": "piece"},
        {"for": "j", "count": parts, "layers": inner},
        {"concat": "pieces"},
    ]


def _chain(draw: Draw) -> list[Layer]:
    """A running value through a loop."""
    count = draw(st.sampled_from([1, 2, "2 if flag else 2"]))
    inner: list[Layer] = [
        {"conv": "chain.{k}", "filters": "filters", "kernel": 3, "groups": 2},
        {"act": None, "when": draw(st.sampled_from(["k > 0", "flag or k == 0"]))},
    ]
    if draw(st.booleans()):
        inner.append({"max_pool": None, "kernel": 3, "stride": 1})
    return [{"for": "k", "count": count, "layers": inner}]


def _gate(draw: Draw) -> list[Layer]:
    """The value scaled by something smaller that is made of it."""
    gate = draw(st.sampled_from(["sigmoid", "hard_sigmoid", "softmax"]))
    pooled: list[Layer] = [
        {"identity": None, "as": "gated"},
        {draw(st.sampled_from(["global_avg_pool", "global_max_pool"])): None, "keep_map": True},
        {"conv": "gate", "filters": "filters", "kernel": 1, "bias": True},
    ]
    if draw(st.booleans()):
        pooled.append({"shuffle": None, "groups": 2, "parts": 4})
    last: Layer = {gate: None, "as": "scale"}
    if gate == "softmax":
        last["groups"] = draw(st.sampled_from([0, 2]))
    return [*pooled, last, {"multiply": ["gated", "scale"], "name": "scaled"}]


def _chosen(draw: Draw) -> list[Layer]:
    """One of two values, and layers that are left out in some blocks."""
    return [
        {"identity": None, "as": "before"},
        {"relu": None, "from": "before", "as": "after"},
        {"tanh": None, "from": "after", "when": "flag", "else": "before"},
        {"norm": "chosen_norm", "when": draw(st.sampled_from(["flag", "not flag"]))},
    ]


def _noise(draw: Draw) -> list[Layer]:
    """Layers that do nothing in evaluation."""
    layers: list[Layer] = [{"dropout": None, "rate": 0.3}] if draw(st.booleans()) else []
    return [*layers, {"drop_path": None, "rate": "rate", "when": "rate > 0"}]


def _numbers(draw: Draw) -> list[Layer]:
    """Numbers that the spec states or that are learned."""
    factor, offset = draw(st.sampled_from([(-1, 1), (2, 0), (1, -0.25), (0.3, 0.1)]))
    return [
        {"rescale": None, "factor": factor, "offset": offset},
        {"learned_scale": "scale", "init": draw(st.sampled_from(["ones", "zeros"]))},
        {"learned_shift": "shift", "when": draw(st.sampled_from(["flag", True]))},
    ]


# --- head ----------------------------------------------------------------------------------------


def _head(draw: Draw) -> list[Layer]:
    layers: list[Layer] = []
    if draw(st.booleans()):
        layers += [{"norm": "norm"}, {"act": "act"}]
    if draw(st.booleans()):
        layers += [
            {"conv": "classifier", "filters": "classes", "kernel": 1, "bias": True},
            {"global_avg_pool": "avgpool"},
        ]
        return layers
    layers.append({"global_avg_pool": "avgpool"})
    if draw(st.booleans()):
        layers.append({"dropout": "drop", "rate": 0.5})
    if draw(st.booleans()):
        hidden = draw(st.sampled_from([12, "classes * 2", "wide"]))
        layers += [{"linear": "fc1", "features": hidden, "bias": False}, {"gelu": None}]
    bias = draw(st.sampled_from(["zeros", {"normal": 0.1}]))
    layers.append({"linear": "fc", "features": "classes", "bias_init": bias})
    return layers
