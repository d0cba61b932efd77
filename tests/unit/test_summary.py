"""The table of a network: receptive fields, memory, totals, and the checked numbers."""

from __future__ import annotations

import textwrap

import pytest

from resnet_spec.ir import Instance, Network, Operation
from resnet_spec.ir.reach import Reaches
from resnet_spec.ir.summary import (
    Section,
    Summary,
    _Peaks,
    expectations,
    peak_activation,
    peak_activations,
    summarize,
)
from resnet_spec.language.library import Library
from resnet_spec.language.load import Loaded, load
from resnet_spec.lower import lower

PAPER = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def read(text: str) -> tuple[Loaded, Network]:
    head = "spec_version: 1\nname: net\ndescription: a net\n"
    loaded = load("net.yaml", Library(), text=(head + textwrap.dedent(text)).encode())
    return loaded, lower(loaded)


def small(body: str, height: int = 32) -> Network:
    """A network of one block without arguments, on one channel."""
    layers = textwrap.indent(textwrap.dedent(body).strip(), "      ")
    return read(
        f"input: {{channels: 1, height: {height}, width: {height}}}\n"
        f"blocks:\n  one:\n    description: a block\n    layers:\n{layers}\n"
        "stages:\n  - {name: stage, block: one}\n"
    )[1]


def summary(name: str) -> Summary:
    return summarize(lower(load(name, Library())))


def section(network: Network) -> Section:
    (only,) = summarize(network).sections
    return only


# --- the paper's networks ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPER)
def test_sections_add_up(name: str) -> None:
    table = summary(name)
    assert [each.name for each in table.sections] == [
        "stem", "layer1", "layer2", "layer3", "layer4", "head"
    ]  # fmt: skip
    for total in ("parameters", "statistics", "macs", "operations"):
        assert sum(getattr(each, total) for each in table.sections) == getattr(table, total)


def test_resnet50() -> None:
    """Sizes as in the paper's table 1; receptive fields by hand from kernels and strides."""
    table = summary("resnet50")
    assert (table.parameters, table.statistics, table.macs) == (25_557_032, 53_120, 4_089_184_256)
    rows = [
        (str(s.output), s.blocks, s.filters, s.receptive_field, s.stride) for s in table.sections
    ]
    # layer1: 11 + 3 * 2 * 4; layer2: the stride is on the 3x3, so 35 + 2 * 4 + 3 * 2 * 8; …
    assert rows == [
        ("64x56x56", "conv 7x7, max_pool 3x3", (64,), 11, 4),
        ("256x56x56", "3 x bottleneck", (64,), 35, 4),
        ("512x28x28", "4 x bottleneck", (128,), 91, 8),
        ("1024x14x14", "6 x bottleneck", (256,), 267, 16),
        ("2048x7x7", "3 x bottleneck", (512,), 427, 32),
        ("1000", "global_avg_pool, linear", (), None, None),
    ]
    # Three 256x56x56 maps: the residual, the shortcut before and after its normalisation.
    assert table.peak_activation == 3 * 256 * 56 * 56


# --- receptive field -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "stride"),
    [
        ("- {conv: a, filters: 2, kernel: 3}", 3, 1),
        ("- {conv: a, filters: 2, kernel: 3, dilation: 4}", 9, 1),
        ("- {conv: a, filters: 2, kernel: 3, stride: 2}\n- {conv: b, filters: 2, kernel: 3}", 7, 2),
        ("- {max_pool: a, kernel: 2}\n- {avg_pool: b, kernel: 3, stride: 2}", 6, 4),
        ("- {subsample: a, stride: 3}\n- {conv: b, filters: 2, kernel: 3}", 7, 3),
        ("- {batch_norm: a}\n- {relu: b}", 1, 1),
    ],
)
def test_windows(body: str, field: int, stride: int) -> None:
    only = section(small(body))
    assert (only.receptive_field, only.stride) == (field, stride)


def test_the_longest_path_counts() -> None:
    only = section(
        small("""
        - {conv: a, filters: 1, kernel: 3, from: x, as: left}
        - {conv: b, filters: 1, kernel: 5, from: x}
        - {conv: c, filters: 1, kernel: 3, as: right}
        - {concat: [left, right]}
        - {conv: d, filters: 1, kernel: 3}
        """)
    )
    assert only.receptive_field == 5 + 2 + 2


def test_a_pooled_gate_widens_nothing() -> None:
    only = section(
        small("""
        - {conv: a, filters: 4, kernel: 3, as: residual}
        - {global_avg_pool: b, keep_map: true}
        - {conv: c, filters: 4, kernel: 1}
        - {sigmoid: d, as: gate}
        - {multiply: [residual, gate]}
        """)
    )
    assert (only.receptive_field, only.stride) == (3, 1)
    pooled = section(small("- {conv: a, filters: 4, kernel: 3}\n- {global_avg_pool: b}"))
    assert (pooled.receptive_field, pooled.stride) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        "- {global_avg_pool: a}",
        "- {global_max_pool: a}",
        "- {global_max_pool: a, keep_map: true}\n- {conv: b, filters: 3, kernel: 1}",
        "- {adaptive_avg_pool: a, size: 1}",
        "- {flatten: a, height: 32}\n- {linear: b, features: 3}",
        "- {avg_pool: a, kernel: 32, padding: 0}",
        "- {conv: a, filters: 3, kernel: 32, padding: 0}",
        "- {conv: a, filters: 3, kernel: 3, dilation: 5, padding: 0}\n- {global_max_pool: b}",
        "- {max_pool: a, kernel: 16, padding: 0}\n- {conv: b, filters: 3, kernel: 2, padding: 0}",
    ],
)
def test_what_sees_the_whole_map(body: str) -> None:
    only = section(small(body))
    assert (only.receptive_field, only.stride) == (None, None)


@pytest.mark.parametrize(
    ("height", "size", "field", "stride"),
    [(32, 32, 1, 1), (32, 8, 4, 4), (32, 2, 16, 16), (7, 2, 4, 3), (7, 3, 3, 2), (8, 3, 4, 3),
     (7, 5, 3, 2), (5, 8, 2, 1), (1, 1, 1, 1)],
)  # fmt: skip
def test_parts_of_a_map(height: int, size: int, field: int, stride: int) -> None:
    only = section(small(f"- {{adaptive_avg_pool: a, size: {size}}}", height))
    assert (only.receptive_field, only.stride) == (field, stride)


@pytest.mark.parametrize(
    "body",
    [
        "- {conv: a, filters: 3, kernel: 3}\n- {conv: b, filters: 3, kernel: 3}",  # padded
        "- {max_pool: a, kernel: 3, stride: 2}",
        "- {flatten: a, height: 1}\n- {linear: b, features: 3}",
    ],
)
def test_a_map_of_one_place_is_not_the_whole_input(body: str) -> None:
    only = section(small(f"- {{subsample: s, stride: 32}}\n{body}"))
    assert only.receptive_field is not None


@pytest.mark.parametrize("pool", ["global_max_pool: pool", "adaptive_avg_pool: pool, size: 1"])
def test_a_head_sees_all(pool: str) -> None:
    flatten = "" if "global" in pool else "\n          - {flatten: flat, height: 1}"
    _, network = read(f"""
        extends: resnet18
        head:
          - {{{pool}}}{flatten}
          - {{linear: fc, features: classes}}
        """)
    *_, last, head = summarize(network).sections
    assert (last.receptive_field, head.receptive_field, head.stride) == (435, None, None)


def seen_rows(instance: Instance, number: int, rows: tuple[int, int]) -> tuple[int, int]:
    """Which rows of an instance's input a stretch of rows of a value rests on: the other way round
    than the code under test, from outputs to inputs."""
    if number == 0:
        return rows
    step = next(step for step in instance.steps if number in step.outputs)
    if isinstance(step.node, Instance):
        before = seen_rows(step.node, step.node.result, rows)
    else:
        before = rows_before(step.node, rows)
    paths = [seen_rows(instance, each, before) for each in step.inputs]
    return min(first for first, _ in paths), max(last for _, last in paths)


def rows_before(operation: Operation, rows: tuple[int, int]) -> tuple[int, int]:
    values = operation.attributes
    kernel, stride = int(values.get("kernel", 1)), int(values.get("stride", 1))  # type: ignore[arg-type]
    padding, dilation = int(values.get("padding", 0)), int(values.get("dilation", 1))  # type: ignore[arg-type]
    first = rows[0] * stride - padding
    return first, rows[1] * stride - padding + dilation * (kernel - 1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_receptive_field_agrees_with_a_walk_from_the_output(name: str) -> None:
    network = lower(load(name, Library()))
    for stage, row in zip(network.stages, summarize(network).sections[1:], strict=False):
        # Few steps: equal values are walked again on every path.
        root, value = network.root, network.root.steps[stage.steps[0]].outputs[0]
        first, last = seen_rows(root, value, (0, 0))
        following, _ = seen_rows(root, value, (1, 1))
        assert following - first == row.stride
        if len(stage.steps) == 1:
            assert last - first + 1 == row.receptive_field
    value = network.root.steps[network.head].inputs[0]
    first, last = seen_rows(network.root, value, (0, 0))
    assert last - first + 1 == summarize(network).sections[-2].receptive_field


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "peak"),
    [
        ("- {conv: a, filters: 3, kernel: 1}", 1 + 3),
        ("- {conv: a, filters: 3, kernel: 1}\n- {conv: b, filters: 4, kernel: 1}", 3 + 4),
        # x waits for the sum
        (
            "- {conv: a, filters: 5, kernel: 1}\n- {conv: b, filters: 1, kernel: 1, as: r}\n"
            "- {add: [r, x]}",
            1 + 5 + 1,
        ),
        # a value that nobody reads is alive while it is made
        ("- {conv: a, filters: 9, kernel: 1}\n- {conv: b, filters: 2, kernel: 1, from: x}", 1 + 9),
        # all four parts are made at once
        ("- {conv: a, filters: 4, kernel: 1}\n- {split: b, parts: 4, as: p}\n- {concat: p}", 4 + 4),
    ],
)
def test_peak(body: str, peak: int) -> None:
    assert peak_activation(small(body, height=1)) == peak


def brute_peak(network: Network) -> int:
    """Every block written out into one list of operations, liveness by looking at all of it."""
    rows: list[tuple[list[int], list[int]]] = []
    sizes: list[int] = [network.input.elements]

    def write_out(instance: Instance, source: int) -> int:
        place = {0: source}
        for step in instance.steps:
            inputs = [place[number] for number in step.inputs]
            if isinstance(step.node, Instance):
                place[step.outputs[0]] = write_out(step.node, inputs[0])
                continue
            for number in step.outputs:
                place[number] = len(sizes)
                sizes.append(step.node.output.elements)
            rows.append((inputs, [place[number] for number in step.outputs]))
        return place[instance.result]

    result = write_out(network.root, 0)
    peak = 0
    for index, (inputs, outputs) in enumerate(rows):
        made = {0, *(number for _, each in rows[:index] for number in each)}
        later = {result, *(number for each, _ in rows[index + 1 :] for number in each)}
        peak = max(peak, sum(sizes[number] for number in {*inputs, *outputs, *(made & later)}))
    return peak


@pytest.mark.parametrize("name", PAPER)
def test_peak_agrees_with_the_network_written_out(name: str) -> None:
    network = lower(load(name, Library()))
    assert peak_activation(network) == brute_peak(network)


# --- the rest ------------------------------------------------------------------------------------


def test_a_stage_that_is_left_out() -> None:
    _, network = read("""
        input: {channels: 3, height: 32, width: 32}
        stages:
          - {name: layer1, block: basic, filters: 8, stride: 2}
          - {name: layer2, block: basic, filters: 16, stride: 2, when: classes > 5000}
        """)
    first, second = summarize(network).sections
    assert (second.blocks, second.parameters, second.operations) == ("", 0, 0)
    assert (
        (second.receptive_field, second.stride) == (first.receptive_field, first.stride) == (7, 2)
    )


def test_filters_that_vary_and_repeated_stem_layers() -> None:
    _, network = read("""
        stem:
          - {conv: a, filters: 8, kernel: 3}
          - {conv: b, filters: 8, kernel: 3}
          - {conv: c, filters: 16, kernel: 3}
        stages:
          - {name: layer1, block: basic, repeat: 3, filters: 16 + 8 * i}
        """)
    stem, stage = summarize(network).sections
    assert (stem.blocks, stem.filters) == ("3 x conv 3x3", (8, 16))
    assert (stage.blocks, stage.filters) == ("3 x basic", (16, 24, 32))


def test_equal_blocks_are_looked_at_once() -> None:
    """600 blocks cost what a few do."""
    _, network = read("""
        input: {channels: 3, height: 32, width: 32}
        stages: [{name: layer1, block: basic, repeat: 600, filters: 16}]
        """)
    different = {id(step.node) for step in network.root.steps}
    reaches, peaks = Reaches(), _Peaks()
    reaches.along(network.root)
    peaks.of(network.root, keep_input=False)
    blocks_within = 1  # the projection of the first
    assert len(network.root.steps) == 600
    assert len(reaches.known) == len(different) + blocks_within
    assert len(peaks.known) == 1 + len(different) + blocks_within


def test_peaks_of_sections() -> None:
    """What is alive while a section runs, with what other sections still need then."""
    network = read("""
        input: {channels: 1, height: 4, width: 4}
        classes: 5
        stem:
          - {conv: conv1, filters: 2, kernel: 1, as: kept}
        stages:
          - {name: layer1, block: one}
        head: [{global_avg_pool: pool}, {linear: fc, features: classes}]
        blocks: {one: {description: a block, layers: [{conv: conv, filters: 8, kernel: 1}]}}
        """)[1]
    assert peak_activations(network) == [16 + 32, 32 + 128, 128 + 8]


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "dpn68", "resnest50d", "vgg11"])
def test_the_largest_peak_is_that_of_a_section(name: str) -> None:
    network = lower(load(name, Library()))
    assert max(peak_activations(network)) == peak_activation(network)


def test_expectations() -> None:
    text = """
        stages: [{name: layer1, block: basic, filters: 8}]
        expect:
          parameters: PARAMETERS
          statistics: STATISTICS
          macs: MACS
        """
    _, network = read(text.partition("expect")[0])
    root = network.root
    for wrong in (
        (),
        ("PARAMETERS",),
        ("STATISTICS", "MACS"),
        ("PARAMETERS", "STATISTICS", "MACS"),
    ):
        filled = text
        for key in ("PARAMETERS", "STATISTICS", "MACS"):
            value = getattr(root, key.lower()) + (key in wrong)
            filled = filled.replace(key, str(value))
        loaded, same = read(filled)
        found = expectations(loaded, same)
        assert [each.code for each in found] == ["RS406"] * len(wrong)
        assert [each.message.split("'")[1].upper() for each in found] == list(wrong)
        for each in found:
            assert each.span is not None
            line = loaded.library.sources["net.yaml"].splitlines()[each.span.line - 1]
            assert line[each.span.column - 1 : each.span.end_column - 1].isdigit()


def test_a_change_drops_the_expected_numbers() -> None:
    library = Library()
    loaded = load("resnet18", library, ["classes=10"])
    assert expectations(loaded, lower(loaded)) == []
