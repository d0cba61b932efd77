"""What once came out wrong comes out right: in the IR, in the text, and in numbers."""

from __future__ import annotations

import parity
import pytest
import regression_cases
from regression_cases import CASES
from standins import differences

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network

each_case = pytest.mark.parametrize("name", CASES)


@each_case
def test_the_ir_is_what_is_right(name: str) -> None:
    assert regression_cases.uses_of(regression_cases.network_of(CASES[name])) == CASES[name].right


@each_case
@pytest.mark.parametrize("backend", ["torch", "keras", "flax"])
def test_the_text_does_what_the_ir_says(name: str, backend: str) -> None:
    network = regression_cases.network_of(CASES[name])
    text = parity.source_of(network, backend)
    assert differences(text, network, backend) == []


def test_the_texts_are_clean() -> None:
    networks = {n: regression_cases.network_of(CASES[name]) for n, name in enumerate(CASES)}
    texts = {
        f"{backend}_{number}": parity.source_of(network, backend)
        for number, network in networks.items()
        for backend in ("torch", "keras", "flax")
    }
    assert parity.complaints(texts) == ""


@pytest.mark.torch
@pytest.mark.keras
@each_case
def test_the_frameworks_compute_the_value_of_the_ir(double: None, name: str) -> None:
    network = regression_cases.network_of(CASES[name])
    pair = parity.pair(network)
    apart = pair.beside_value(parity.images(2, *network.input.dimensions))
    assert max(apart.values()) < 1e-10, apart
    state = {key for key in pair.torch.state_dict() if not key.endswith("_tracked")}
    named = {
        f"{name}.{parameter.name}"
        for name, operation in network.operations()
        for parameter in operation.parameters
    }
    assert state == named


# Wiring, loops and names are what the stand-ins see; these are more of numbers.
IN_FLAX = ("branches that are summed in a chain", "an element of a list is the next input",
           "a list and a value, added and multiplied", "names of any form")  # fmt: skip


@pytest.mark.flax
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in IN_FLAX else pytest.mark.slow) for n in CASES]
)
def test_flax_computes_the_value_of_the_ir(name: str) -> None:
    network = regression_cases.network_of(CASES[name])
    assert parity.flax_beside_value(network) < 1e-10


# --- what can't be meant -------------------------------------------------------------------------

STAGE = "{name: l1, block: basic, filters: 8}"
HEAD = "head: [{global_avg_pool: p}, {linear: fc, features: classes}]\n"
START = "spec_version: 1\nname: net\ndescription: D\ninput: {height: 8, width: 8}\nclasses: 4\n"


def told(text: str) -> list[tuple[str, str]]:
    """Each code that a spec is refused with, and its place."""
    network = None
    with pytest.raises(SpecError) as raised:
        network = parity.network_of_text(START + text + HEAD)
        for backend in ("torch", "keras", "flax"):
            parity.source_of(network, backend)
    return [(each.code, str(each.span)) for each in raised.value.diagnostics]


def test_what_follows_a_split_says_which_part_it_takes() -> None:
    found = told(
        "blocks:\n  b:\n    description: B\n    layers:\n"
        "      - {conv: c, filters: 8, kernel: 1}\n"
        "      - {split: s, parts: 2, as: p}\n"
        "      - {conv: last, filters: 8, kernel: 1}\n"
        "stages: [{name: l1, block: b}]\n"
    )
    assert found == [("RS306", "text.yaml:12:10")]


def test_a_block_does_not_end_with_a_split() -> None:
    found = told(
        "blocks:\n  b:\n    description: B\n    layers:\n"
        "      - {conv: c, filters: 8, kernel: 1}\n"
        "      - {split: s, parts: 2, as: p}\n"
        "stages: [{name: l1, block: b}]\n"
    )
    assert found == [("RS306", "text.yaml:7:3")]


def test_keras_has_no_stride_with_dilation() -> None:
    found = told(
        "stem: [{conv: conv1, filters: 8, kernel: 3, stride: 2, dilation: 2}]\n"
        "stages: [{name: l1, block: basic, filters: 8}]\n"
    )
    assert found == [("RS502", "text.yaml:6:9")]


@pytest.mark.parametrize(
    ("layer", "beside"),
    [
        ("{conv: c, filters: 8, kernel: 3, stride: 2}", "c_pad"),
        ("{max_pool: c, kernel: 2, ceil: true}", "c_pad"),
        ("{blur_pool: c}", "c_blur"),
    ],
)
def test_no_layer_is_called_like_what_goes_with_another_in_keras(layer: str, beside: str) -> None:
    stem = f"stem: [{layer}, {{conv: {beside}, filters: 8, kernel: 1}}]\n"
    [(code, _)] = told(f"{stem}stages: [{{name: l1, block: basic, filters: 8}}]\n")
    assert code == "RS503"


def test_no_layer_is_called_like_the_input_in_keras() -> None:
    stem = "stem: [{conv: images, filters: 8, kernel: 3}]\n"
    found = told(f"{stem}stages: [{{name: l1, block: basic, filters: 8}}]\n")
    assert found == [("RS503", "text.yaml:6:9")]


def test_a_flag_stands_for_no_number() -> None:
    """A layer on one channel is there where a flag is true, which Python takes for 1."""
    network = parity.network_of_text(
        START + "blocks:\n  b:\n    description: B\n    args: {flag: false}\n    layers:\n"
        "      - {channel_max_pool: m, when: flag}\n"
        "      - {conv: c, filters: 4, kernel: 3, when: flag}\n"
        "      - {conv: d, filters: 8, kernel: 1}\n"
        "stages: [{name: l1, block: b}, {name: l2, block: b, flag: true}]\n" + HEAD
    )
    for backend in ("torch", "flax"):
        assert "(flag, 4" not in parity.source_of(network, backend)


@pytest.mark.parametrize("name", ["stem", "head"])
def test_a_stage_is_not_called_like_another_part(name: str) -> None:
    assert told(f"stages: [{{name: {name}, block: basic, filters: 8}}]\n") == [
        ("RS105", "text.yaml:6:17")
    ]


def test_a_name_does_not_depend_on_the_number_of_classes() -> None:
    found = told(
        'stem: [{conv: "c{classes}", filters: 8, kernel: 3}]\n'
        "stages: [{name: l1, block: basic, filters: 8}]\n"
    )
    assert found == [("RS204", "text.yaml:6:15")]


# --- with another number of classes --------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "head"),
    [
        ("8", "{global_avg_pool: p}, {linear: fc0, features: 9, when: classes > 7}"),
        # Channels that are the number of classes for the spec's own numbers alone.
        (
            "8 if classes > 7 else 4",
            "{conv: c, filters: 'max(classes, 8)', kernel: 1, when: classes == 8 or classes == 9}, "
            "{global_avg_pool: p}",
        ),
    ],
    ids=["a layer for some numbers", "channels that coincide with the number"],
)
def test_what_depends_on_the_classes_is_right_for_others(filters: str, head: str) -> None:
    text = (
        START + f"stages: [{{name: l1, block: basic, filters: '{filters}'}}]\n"
        f"head: [{head}, {{linear: fc, features: classes}}]\n"
    )
    network, other = (
        parity.network_of_text(text.replace("classes: 4", f"classes: {number}"))
        for number in (8, 7)
    )
    for backend in ("torch", "keras", "flax"):
        source = parity.source_of(network, backend)
        assert differences(source, network, backend) == []
        assert differences(source, other, backend, given=True) == []


OWN = (
    "blocks:\n  b:\n    description: B\n    args: {f: {type: int}}\n    layers:\n"
    "      - {conv: c, filters: f, kernel: 1, as: y}\n"
    "      - {conv: d, from: x, filters: f, kernel: 1, when: in_channels != f, else: x, as: z}\n"
    "      - {add: [y, z]}\n"
)


PASSES = "head: [{act: e, when: false}"


@pytest.mark.parametrize(
    ("text", "changed", "layer"),
    [
        (f"stages: [{STAGE}]\nhead: [{{conv: e, filters: 9, kernel: 1, when: classes > 5}}",
         ("classes: 4", "classes: 9"), "e"),
        (f"{OWN}stages: [{{name: l1, block: b, f: 3}}]\n{PASSES}",
         ("{height", "{channels: 4, height"), "d"),
        (f"stages: [{STAGE}, {{name: l2, block: basic, filters: 8, when: classes > 5}}]\n{PASSES}",
         ("classes: 4", "classes: 9"), "l2"),
        ("stem: [{for: k, count: 2, layers: [{conv: 'e.{k}', filters: 3, kernel: 1, "
         f"when: classes > 5 + k}}]}}]\nstages: [{STAGE}]\n{PASSES}",
         ("classes: 4", "classes: 6"), "e.{k}"),
    ],
    ids=["a layer of the head", "a layer of a block", "a stage", "every turn of a loop"],
)  # fmt: skip
def test_numbers_that_need_a_layer_that_is_left_out_are_refused(
    text: str, changed: tuple[str, str], layer: str
) -> None:
    text = f"{START}{text}, {{global_avg_pool: p}}, {{linear: fc, features: classes}}]\n"
    network, other = map(parity.network_of_text, (text, text.replace(*changed)))
    for backend in ("torch", "keras", "flax"):
        source = parity.source_of(network, backend)
        assert differences(source, network, backend) == []
        [found] = differences(source, other, backend, given=True)
        assert f"compiled without {layer}, which" in found


def test_a_loop_gives_the_channels_that_it_takes_with_other_numbers() -> None:
    """With three channels of input the first turn takes as many as the second, and so no more."""
    text = (
        START + "stem: [{conv: a, filters: in_channels * 4, kernel: 3}, {for: j, count: 2, layers: "
        "[{conv: 'b.{j}', filters: 12, kernel: 3}]}]\n"
        "stages: [{name: l1, block: basic, filters: 8}]\n" + HEAD
    )
    network = parity.network_of_text(text)
    other = parity.network_of_text(text.replace("{height", "{channels: 4, height"))
    for backend in ("torch", "keras", "flax"):
        source = parity.source_of(network, backend)
        assert differences(source, network, backend) == []
        assert differences(source, other, backend, given=True) == []


def test_convolutions_with_one_padding_may_differ_in_their_windows() -> None:
    network = parity.network_of_text(
        START + "stem: [{conv: c, filters: 8, kernel: 3}, {conv: d, filters: 8, kernel: 5, "
        "padding: 1}]\nstages: [{name: l1, block: basic, filters: 8}]\n" + HEAD
    )
    for backend in ("torch", "keras", "flax"):
        assert differences(parity.source_of(network, backend), network, backend) == []
    assert "same = 2 == kernel_size - 1" in parity.source_of(network, "keras")


def test_channels_that_depend_on_many_conditions_do_not_double_each_time() -> None:
    """Of 24 conditions an expression for what comes out would have 2**24 parts."""
    joins = "".join(f"      - {{concat: [y, x], as: y, when: a{n}}}\n" for n in range(24))
    arguments = ", ".join(f"a{number}: false" for number in range(24))
    uses = ", ".join(
        f"{{name: l{n}, block: b, a{n}: true, a{(5 * n + 3) % 24}: true}}" for n in range(9)
    )
    network = parity.network_of_text(
        START + f"blocks:\n  b:\n    description: B\n    args: {{{arguments}}}\n    layers:\n"
        "      - {conv: c, filters: 8, kernel: 1, as: y}\n"
        + joins
        + f"      - {{conv: last, from: y, filters: 8, kernel: 1}}\nstages: [{uses}]\n"
        + HEAD
    )
    for backend in ("torch", "keras", "flax"):
        assert differences(parity.source_of(network, backend), network, backend) == []


# --- names of blocks and stages ------------------------------------------------------------------


def state_names(network: Network) -> list[str]:
    return [name for name, operation in network.operations() if operation.parameters]


def test_a_stage_is_called_like_the_layers_beside_it() -> None:
    network = parity.network_of_text(
        START + "stem: [{conv: features.0.conv, filters: 8, kernel: 3}]\n"
        "blocks: {b: {description: B, layers: [{conv: conv, filters: 8, kernel: 1}]}}\n"
        'stages: [{name: features, block: b, repeat: 2, names: "{i + 1}"}]\n'
        "head: [{conv: features.16, filters: 8, kernel: 1}, {global_avg_pool: p},"
        " {linear: fc, features: classes}]\n"
    )
    names = ["features.0.conv", "features.1.conv", "features.2.conv", "features.16", "fc"]
    assert state_names(network) == names
    for backend in ("torch", "keras", "flax"):
        text = parity.source_of(network, backend)
        assert differences(text, network, backend) == []
        assert "def freeze_until" not in text  # of which "features"?


def test_names_of_repeated_blocks_come_below_the_stage() -> None:
    network = parity.network_of_text(
        START + "blocks: {b: {description: B, layers: [{conv: conv, filters: 8, kernel: 1}]}}\n"
        'stages: [{name: stage1, block: b, repeat: 2, names: "blocks.{i}"}]\n' + HEAD
    )
    assert state_names(network) == ["stage1.blocks.0.conv", "stage1.blocks.1.conv", "fc"]
    for backend in ("torch", "keras", "flax"):
        text = parity.source_of(network, backend)
        assert differences(text, network, backend) == []


def test_names_of_modules_make_no_imports() -> None:
    network = parity.network_of_text(
        START + "stem: [{conv: torch.F, filters: 8, kernel: 3}]\n"
        "stages: [{name: math.layer1, block: basic, filters: 8}, "
        "{name: ops.layer2, block: basic, filters: 8}]\n" + HEAD
    )
    texts = {backend: parity.source_of(network, backend) for backend in ("torch", "keras", "flax")}
    assert parity.complaints(texts) == ""
    assert "import math" not in texts["torch"] + texts["keras"]
    assert "ops" not in texts["keras"][texts["keras"].index("from keras import") :].split("\n")[0]


def test_a_list_of_strides_is_followed() -> None:
    network = parity.network_of_text(
        START + "stem: [{conv: conv1, filters: 8, kernel: 3}]\n"
        "stages: [{name: l, block: basic, repeat: 3, filters: 8, stride: [1, 2, 1]}]\n" + HEAD
    )
    strides = {name: op.attributes.get("stride") for name, op in network.operations()}
    assert [strides[f"l.{block}.conv1"] for block in range(3)] == [1, 2, 1]


C = "filters: 8, kernel: 3"


@pytest.mark.parametrize(
    "stem",
    [
        f"{{conv: f.a, {C}}}, {{conv: g, {C}}}, {{conv: f.b, {C}}}",
        f"{{conv: f.a, {C}, as: y}}, {{conv: f.b, from: x, {C}, as: z}}, {{add: [y, z]}}",
        f"{{conv: f.a, {C}, as: y}}, {{conv: f.b, {C}, as: z}}, "
        f"{{conv: f.c, from: y, {C}, as: w}}, {{add: [z, w]}}",
        f"{{conv: f.a, {C}, as: y}}, {{conv: f.b, {C}, as: z}}, {{add: [y, z]}}",
    ],
    ids=["another between", "beside one another", "two of one", "the first is used again"],
)
def test_layers_below_one_name_run_as_they_are_wired(stem: str) -> None:
    """They are no chain, which a container calls as a whole, only because they stand together."""
    network = parity.network_of_text(
        START + f"stem: [{stem}]\nstages: [{{name: l1, block: basic, filters: 8}}]\n" + HEAD
    )
    for backend in ("torch", "keras", "flax"):
        assert differences(parity.source_of(network, backend), network, backend) == []
