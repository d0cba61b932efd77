"""Sweeps: the variants, what is reported of each, and the specs written for them."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_spec import cli, read_network
from resnet_spec.cli import output
from resnet_spec.drawing.scatter import Axis as PlotAxis
from resnet_spec.drawing.scatter import Point, front
from resnet_spec.ir.summary import summarize
from resnet_spec.language import memo
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.sweep import Space, SpaceError, Sweep
from resnet_spec.sweep.columns import Variant, columns
from resnet_spec.sweep.space import MAX_VARIANTS, axis, value
from resnet_spec.sweep.variants import lowering

NET = """\
spec_version: 1
name: net
description: A small network
input: {height: 32, width: 32}
classes: 10
stages:
  - {name: layer1, block: basic, filters: 8}
  - {name: layer2, block: basic, filters: 16, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""
SWEEP = ("net.yaml", "--set", "stages.layer1.repeat=1..3", "--set", "stages.layer2.filters=16,24")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["sweep", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# --- keys and values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, name, values",
    [
        ("stages.layer3.repeat=1..4", "layer3_repeat", ["1", "2", "3", "4"]),
        ("head.fc.features=8..20..4", "fc_features", ["8", "12", "16", "20"]),
        ("classes=-1..1", "classes", ["-1", "0", "1"]),
        ("input.height=32", "input_height", ["32"]),
        ("stages.a.filters=64, 32,1..2", "a_filters", ["64", "32", "1", "2"]),
        ("stages.a.filters=2,1..3", "a_filters", ["2", "1", "3"]),
        ("stages.a.filters=[1,2],[3,4]", "a_filters", ["[1,2]", "[3,4]"]),
        ("defaults.basic.attention=none,{a: b, c: d}", "defaults_basic_attention",
         ["none", "{a: b, c: d}"]),
        ("let.x='1,2',\"3,4\"", "let_x", ["'1,2'", '"3,4"']),
        ("stages.a.stride=2 if i == 0 else 1", "a_stride", ["2 if i == 0 else 1"]),
    ],
)  # fmt: skip
def test_axis(text: str, name: str, values: list[str]) -> None:
    found = axis(text)
    assert (found.name, list(found.values)) == (name, values)
    assert found.setting(0) == f"{text.partition('=')[0]}={values[0]}"


@pytest.mark.parametrize(
    "text, message",
    [
        ("classes", "is not of the form KEY=VALUES"),
        ("=1..2", "is not of the form KEY=VALUES"),
        ("classes=", "is not of the form KEY=VALUES"),
        ("classes=1,,2", "has an empty value among others"),
        ("classes=4..1", "is no range"),
        ("classes=1..4..0", "is no range"),
        ("classes=1..9999999", "has more than 100,000 values"),
    ],
)
def test_wrong_axes(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=re.escape(message)):
        axis(text)


def test_values() -> None:
    given = ["1", "1.5", "1e-3", "true", "false", "basic", "inf", "nan", "[1]"]
    assert [value(each) for each in given] == [
        1, 1.5, 0.001, True, False, "basic", "inf", "nan", "[1]",
    ]  # fmt: skip


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_last_axis_turns_fastest(lengths: list[int]) -> None:
    space = Space([axis(f"k{place}=1..{length}") for place, length in enumerate(lengths)])
    expected = itertools.product(*(range(1, length + 1) for length in lengths))
    found = [space.settings(number) for number in space.numbers()]
    assert found == [[f"k{place}={n}" for place, n in enumerate(each)] for each in expected]


def test_a_sample_follows_from_its_seed() -> None:
    space = Space([axis("a=1..1000"), axis("b=1..1000"), axis("c=1..1000")])
    first, again, other = (space.numbers(500, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 500
    assert list(first) == sorted(first)
    assert max(first) > 500_000_000
    few = Space([axis("a=1..3")])
    assert list(few.numbers(7, 0)) == [0, 1, 2]


def test_too_many_variants() -> None:
    space = Space([axis("a=1..2000"), axis("b=1..2000")])
    with pytest.raises(SpaceError, match=f"more than {MAX_VARIANTS:,}: choose some"):
        space.numbers()
    assert len(space.numbers(3)) == 3


def test_a_key_that_is_given_twice() -> None:
    with pytest.raises(SpaceError, match="gives 'a' twice"):
        Space([axis("a=1"), axis("a=2")])
    with pytest.raises(SpaceError, match="gives 'a_b' from two keys"):
        Space([axis("stages.a.b=1"), axis("head.a.b=2")])


# --- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "resnet50_os8", "resnest14d"])
def test_columns_are_what_show_tells(name: str) -> None:
    network = read_network(name)
    known, variant, summary = columns(network), Variant(network), summarize(network)
    for column in ("parameters", "statistics", "macs", "operations", "peak_activation"):
        assert known[column](variant) == getattr(summary, column)
    stages = [section for section in summary.sections if section.kind == "stage"]
    for stage in stages:
        own = stage.name.replace(".", "_")
        for column in ("parameters", "macs", "receptive_field", "stride"):
            assert known[f"{own}_{column}"](variant) == getattr(stage, column), column
        shape = (stage.output.channels, stage.output.height, stage.output.width)
        found = tuple(known[f"{own}_{each}"](variant) for each in ("channels", "height", "width"))
        assert (found, known[f"{own}_output"](variant)) == (shape, str(stage.output))
    assert known["receptive_field"](variant) == stages[-1].receptive_field
    assert known["output"](variant) == str(stages[-1].output)


def test_rows_are_the_networks(folder: Path, run: Any) -> None:
    code, out, err = run(*SWEEP, "--format", "csv")
    rows = rows_of(out)
    assert (code, len(rows)) == (0, 6)
    assert err == "6 variants, 6 listed\n"
    for row in rows:
        settings = [
            f"stages.layer1.repeat={row['layer1_repeat']}",
            f"stages.layer2.filters={row['layer2_filters']}",
        ]
        network = read_network("net.yaml", settings)
        assert int(row["parameters"]) == network.root.parameters
        assert int(row["macs"]) == network.root.macs


def test_only_what_is_asked_for_is_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(network: object) -> int:
        raise AssertionError

    monkeypatch.setattr("resnet_spec.sweep.columns.peak_activation", never)
    assert cli.main(["sweep", *SWEEP, "--where", "parameters > 0", "--quiet"]) == 0
    with pytest.raises(AssertionError):
        list(swept("peak_activation"))


def swept(
    *names: str, where: str | None = None, settings: str = "stages.layer1.repeat=1..3"
) -> Any:
    library = Library()
    space = Space([axis(settings)])
    sweep = Sweep(space, columns(lower(load("net.yaml", library))), names, where)
    return sweep.rows(space.numbers(), lowering("net.yaml", library))


def test_a_stage_that_a_variant_lacks(folder: Path, run: Any) -> None:
    words = ["net.yaml", "--set", "stages.layer2={repeat: 1},none"]
    out = run(*words, "--columns", "layer2_height,output", "--format", "csv")[1]
    assert out == "layer2_height,output\n16,16x16x16\n,8x32x32\n"
    out = run(*words, "--columns", "layer2_height,output")[1]
    assert out.splitlines()[-1].split() == ["-", "8x32x32"]
    out = run(*words, "--where", "layer2_height < 99", "--columns", "output")[1]
    assert out.splitlines()[1:] == ["16x16x16"]


# --- conditions and order ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where, fits",
    [
        ("layer1_repeat < 3", lambda row: row["layer1_repeat"] < 3),
        ("parameters < 8e3 or layer1_repeat == 1",
         lambda row: row["parameters"] < 8e3 or row["layer1_repeat"] == 1),
        ("macs / parameters > 200 and not layer2_filters > 16",
         lambda row: row["macs"] / row["parameters"] > 200 and row["layer2_filters"] <= 16),
        ("peak_activation >= 8192", lambda row: row["peak_activation"] >= 8192),
    ],
)  # fmt: skip
def test_where(where: str, fits: Any, folder: Path, run: Any) -> None:
    shown = "layer1_repeat,layer2_filters,parameters,macs,peak_activation"
    every = json.loads(run(*SWEEP, "--columns", shown, "--format", "json")[1])["rows"]
    found = json.loads(run(*SWEEP, "--columns", shown, "--format", "json", "--where", where)[1])
    assert found["rows"] == [row for row in every if fits(row)]
    assert found["variants"] == 6


def test_sort_and_limit(folder: Path, run: Any) -> None:
    words = [*SWEEP, "--columns", "layer1_repeat,layer2_filters", "--format", "csv", "--limit", "4"]
    out = run(*words, "--sort", "layer2_filters:desc,layer1_repeat")[1]
    assert out.split() == ["layer1_repeat,layer2_filters", "1,24", "2,24", "3,24", "1,16"]
    out = run(*words, "--sort", "macs:desc")[1]  # by a column that is not shown
    assert out.split()[1] == "3,24"


@pytest.mark.parametrize(
    "words, message",
    [
        (["net.yaml"], "say what is to vary"),
        (["-", "--set", "classes=1..2"], "sweep needs a file or the name of a built-in spec"),
        ([*SWEEP, "--where", "mac < 1"], "there is no column 'mac': did you mean 'macs'?"),
        ([*SWEEP, "--where", "macs <"], "--where 'macs <': "),
        ([*SWEEP, "--where", "macs.bit_length()"], "--where 'macs.bit_length()': "),
        ([*SWEEP, "--where", "output > 3"], "--where can't use 'output', which is no number"),
        ([*SWEEP, "--where", "1 / (layer1_repeat - 1)"], "--where has no value: "),
        ([*SWEEP, "--sort", "size"], "there is no column 'size'"),
        ([*SWEEP, "--sort", "macs:asc"], "--sort 'macs:asc': nothing but :desc can stand behind"),
        ([*SWEEP, "--columns", "a"], "there is no column 'a'"),
        ([*SWEEP, "--columns", ","], "--columns needs the name of a column"),
        ([*SWEEP, "--sample", "0"], "--sample must be at least 1"),
        ([*SWEEP, "--limit", "-1"], "--limit must be at least 1"),
        ([*SWEEP, "--plot", "a.png"], "--plot 'a.png' must end in .svg"),
        ([*SWEEP, "--axes", "macs,macs"], "--axes needs --plot"),
        ([*SWEEP, "--plot", "a.svg", "--axes", "macs"], "--axes takes two columns"),
        (
            [*SWEEP, "--plot", "a.svg", "--axes", "output,macs"],
            "--plot has no variant with numbers",
        ),
        ([*SWEEP, "--force"], "--force needs --plot or --write"),
        ([*SWEEP, "--set", "classes"], "--set 'classes' is not of the form KEY=VALUES"),
        ([*SWEEP, "--measured", "none.csv"], "cannot read 'none.csv': no such file or directory"),
    ],
)
def test_wrong_usage(words: list[str], message: str, folder: Path, run: Any) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert f"error: {message}" in err
    assert not (folder / "a.svg").exists()


# --- what fails ----------------------------------------------------------------------------------


def test_failures_are_counted_and_told(folder: Path, run: Any) -> None:
    words = ("net.yaml", "--set", "stages.layer1.filters=0..2", "--set", "classes=0,10,20")
    code, out, err = run(*words, "--format", "json")
    found = json.loads(out)
    assert (code, found["variants"], len(found["rows"]), found["failed"]) == (0, 9, 4, 5)
    codes = {each["code"]: each for each in found["failures"]}
    assert codes["RS103"]["count"] == 3  # classes=0, whatever the filters
    assert codes["RS205"]["count"] == 2
    assert codes["RS205"]["settings"] == ["stages.layer1.filters=0", "classes=10"]
    assert "9 variants, 4 listed, 5 failed\n" in err
    assert "2 failed, first with stages.layer1.filters=0, classes=10: RS205: 'filters' must" in err


def test_all_fail(folder: Path, run: Any) -> None:
    code, out, err = run("net.yaml", "--set", "stages.layer1.filters=0,-1")
    assert (code, out) == (1, "")
    assert "2 variants, 0 listed, 2 failed" in err


def test_a_default_without_effect_is_a_failure(folder: Path, run: Any) -> None:
    code, _, err = run("net.yaml", "--set", "defaults.group_norm.groups=2,4")
    assert code == 1
    assert "RS108: the default of 'group_norm' has no effect" in err


def test_a_spec_with_mistakes(folder: Path, run: Any) -> None:
    (folder / "net.yaml").write_text(NET.replace("basic", "nothing"))
    code, out, err = run(*SWEEP)
    assert (code, out) == (1, "")
    assert "net.yaml:7:" in err


# --- what was measured ---------------------------------------------------------------------------


def test_measured(folder: Path, run: Any) -> None:
    (folder / "latency.csv").write_text(
        "\ufeffstages.layer1.repeat,latency_ms,device\n1,2.5,here\n3,7,there\n"
    )
    words = [*SWEEP, "--measured", "latency.csv", "--format", "csv"]
    rows = rows_of(run(*words)[1])
    told = [(row["layer1_repeat"], row["latency_ms"], row["device"]) for row in rows]
    assert told == [("1", "2.5", "here")] * 2 + [("2", "", "")] * 2 + [("3", "7", "there")] * 2
    rows = rows_of(run(*words, "--where", "latency_ms < 5", "--sort", "latency_ms")[1])
    assert [row["layer1_repeat"] for row in rows] == ["1", "1"]
    rows = rows_of(run(*words, "--sort", "latency_ms:desc")[1])
    assert [row["latency_ms"] for row in rows] == ["7", "7", "2.5", "2.5", "", ""]


def test_a_table_of_other_variants_is_told(folder: Path, run: Any) -> None:
    (folder / "m.csv").write_text("layer1_repeat,latency_ms\n9,2.5\n")
    words = [*SWEEP, "--measured", "m.csv"]
    assert "no row of m.csv is of one of these variants" in run(*words)[2]
    assert "no row of" not in run(*words, "--columns", "macs")[2]
    (folder / "m.csv").write_text("layer1_repeat,latency_ms\n1,2.5\n")
    assert "no row of" not in run(*words)[2]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "has no first row with names of columns"),
        ("latency\n1\n", "has no key that --set gives among its columns"),
        ("layer1_repeat\n1\n", "has nothing but keys of --set among its columns"),
        ("layer1_repeat,a b\n", "'a b' in 'm.csv' can't name a column"),
        ("layer1_repeat,a,a\n", "two columns of 'm.csv' have one name"),
        ("layer1_repeat,a\n1\n", "row 2: it has more or fewer cells"),
        ("layer1_repeat,a\n1,2\n1,3\n", "row 3: there is a row with the same keys above"),
        (
            "layer1_repeat,macs\n1,2\n",
            "'macs' is computed, so no measured column can have its name",
        ),
        ("layer1_repeat,a\n1,2\n2,1e400\n", "row 3: '1e400' is no finite number"),
        ('layer1_repeat,a\n"1,2\n', "cannot read 'm.csv'"),
        (b"\xff\xfe", "'m.csv' is not UTF-8"),
    ],
)
def test_wrong_tables(text: str | bytes, message: str, folder: Path, run: Any) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "m.csv").write_bytes(data)
    code, out, err = run(*SWEEP, "--measured", "m.csv")
    assert (code, out) == (2, "")
    assert message in err


# --- the plot ------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_front(pairs: list[tuple[int, int]], more_x: bool, more_y: bool) -> None:
    """Of the definition: no other is better in one number and as good in the other."""
    points = [Point(f"{number:03}", x, y) for number, (x, y) in enumerate(pairs)]
    signs = (-1 if more_x else 1), (-1 if more_y else 1)
    costs = [(signs[0] * p.x, signs[1] * p.y) for p in points]

    def is_beaten(cost: tuple[float, float]) -> bool:
        return any(o[0] <= cost[0] and o[1] <= cost[1] and o != cost for o in costs)

    best = {cost for cost in costs if not is_beaten(cost)}
    found = front(points, PlotAxis("x", more_x), PlotAxis("y", more_y))
    assert {(signs[0] * p.x, signs[1] * p.y) for p in found} == best
    assert len(found) == len(best)
    assert found == sorted(found, key=lambda p: p.x)


def test_plot(folder: Path, run: Any) -> None:
    """The same bytes each time, in whatever order the rows stand; the front by its names."""
    assert run(*SWEEP, "--plot", "a.svg")[0] == 0
    assert run(*SWEEP, "--plot", "b.svg")[0] == 0
    text = (folder / "a.svg").read_text("utf-8")
    assert text == (folder / "b.svg").read_text("utf-8")
    assert "Generated by resnet-spec" in text
    titles = re.findall(r"<title>(layer1_repeat [^<]+)</title>", text)
    assert len(titles) == int(re.findall(r"6 variants, (\d+) on the front", text)[0])
    assert titles[0].startswith("layer1_repeat 1, layer2_filters 16: macs ")


def test_texts_of_a_plot_stand_within_it(folder: Path, run: Any) -> None:
    assert run(*SWEEP, "--plot", "a.svg", "--axes", "layer2_macs:max,peak_activation")[0] == 0
    text = (folder / "a.svg").read_text("utf-8")
    marks = [
        dict(re.findall(r'([\w-]+)="([^"]*)"', each)) for each in re.findall("<text [^>]*>", text)
    ]
    assert len(marks) > 8
    for mark in marks:
        width = float(mark["textLength"])
        share = {"end": 1.0, "middle": 0.5}.get(mark.get("text-anchor", ""), 0.0)
        left = float(mark["x"]) - share * width
        assert left >= 0
        assert left + width <= 760
        assert 0 < float(mark["y"]) < 480


def test_a_plot_replaces_nothing_of_others(folder: Path, run: Any) -> None:
    (folder / "a.svg").write_text("<svg/>")
    code, _, err = run(*SWEEP, "--plot", "a.svg")
    assert code == 1
    assert "a.svg" in err and (folder / "a.svg").read_text() == "<svg/>"
    assert run(*SWEEP, "--plot", "a.svg", "--force")[0] == 0


# --- specs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("base", ["net.yaml", "resnet18"])
def test_written_specs_are_the_variants(base: str, project: bool, folder: Path, run: Any) -> None:
    """They extend their base where it is within reach, and else say all of it themselves."""
    if project:
        (folder / "resnet-spec.toml").write_text("")
    words = [base, *SWEEP[1:], "--sort", "macs:desc", "--limit", "3", "--write", "out/deep"]
    code, out, _ = run(*words, "--format", "json")
    rows = json.loads(out)["rows"]
    written = sorted((folder / "out" / "deep").iterdir())
    assert (code, len(written)) == (0, 3)
    for row in rows:
        name = "{}_layer1_repeat_{layer1_repeat}_layer2_filters_{layer2_filters}"
        name = name.format(base.removesuffix(".yaml"), **row)
        text = (folder / "out" / "deep" / f"{name}.yaml").read_text()
        extends = {"resnet18": "resnet18", "net.yaml": "../../net.yaml"}[base]
        assert (extends in text) == (project or base == "resnet18")
        network = read_network(f"out/deep/{name}.yaml")
        assert network.name == name
        assert (network.root.parameters, network.root.macs) == (row["parameters"], row["macs"])
    assert cli.main(["check", "out"]) == 0
    before = [path.read_bytes() for path in written]
    assert "unchanged out/deep/" in run(*words)[2]
    assert [path.read_bytes() for path in written] == before


def test_stages_with_dots_in_their_names(run: Any, folder: Path) -> None:
    (folder / "resnet-spec.toml").write_text("")  # one project, so that variants extend the spec
    (folder / "net.yaml").write_text(NET.replace("layer2", "features.1"))
    words = ["net.yaml", "--set", "stages.features.1.repeat=1..2", "--write", "out"]
    assert run(*words)[0] == 0
    variants = sorted((folder / "out").iterdir())
    assert "stages:\n  features.1: {repeat: 2}\n" in variants[1].read_text()
    first, second = (len(list(read_network(str(each)).operations())) for each in variants)
    assert first < second


def test_stages_whose_names_are_numbers(run: Any, folder: Path) -> None:
    """Their columns keep the word before them, else no condition could name them."""
    (folder / "net.yaml").write_text(NET.replace("layer1", '"1"'))
    words = ["net.yaml", "--set", "stages.1.repeat=1..3", "--format", "csv"]
    where = "stages_1_repeat > 1 and stages_1_channels > 0"
    code, out, err = run(*words, "--where", where, "--columns", "stages_1_repeat,stages_1_macs")
    assert code == 0, err
    first, *rows = out.splitlines()
    assert first == "stages_1_repeat,stages_1_macs"
    assert [row.partition(",")[0] for row in rows] == ["2", "3"]


def test_stages_of_one_column_name_have_no_columns(run: Any, folder: Path) -> None:
    """Those of one would be told of the other."""
    text = NET.replace("layer2", "layer.1").replace("layer1", "layer_1")
    (folder / "net.yaml").write_text(text)
    words = ["net.yaml", "--set", "stages.layer_1.repeat=1,2", "--columns"]
    assert run(*words, "parameters")[0] == 0
    code, _, told = run(*words, "layer_1_channels")
    assert code == 2 and "'layer_1_channels'" in told


def test_nothing_that_a_person_wrote_is_replaced(folder: Path, run: Any) -> None:
    words = [*SWEEP, "--write", "out"]
    assert run(*words)[0] == 0
    first, second, *_ = sorted((folder / "out").iterdir())
    edited = first.read_text().replace("description: ", "description: My ")
    first.write_text(edited)
    second.unlink()
    code, _, err = run(*words)
    assert code == 1
    assert first.name in err
    assert first.read_text() == edited
    assert not second.exists()  # all or nothing
    first.write_text("mine")
    assert run(*words)[0] == 1
    assert first.read_text() == "mine"
    assert run(*words, "--force")[0] == 0
    assert first.read_text() != "mine"


def test_names_of_specs(folder: Path, run: Any) -> None:
    """What can be no name gives the variant's number."""
    long = "defaults.batch_norm.momentum=0.123456789,0.1234567890123456789012345"
    assert run("net.yaml", "--set", long, "--set", "classes=2,3", "--write", "out")[0] == 0
    names = sorted(path.stem for path in (folder / "out").iterdir())
    assert names == [
        "net_defaults_batch_norm_momentum_0_123456789_classes_2",
        "net_defaults_batch_norm_momentum_0_123456789_classes_3",
        "net_variant_2",
        "net_variant_3",
    ]
    assert cli.main(["check", "out"]) == 0


def test_blocks_that_stand_elsewhere(folder: Path, run: Any) -> None:
    """A block is found beside a spec: where it is not, no variant is written."""
    (folder / "blocks").mkdir()
    block = "block: own\ndescription: A block\nargs: {filters: 8}\nlayers:\n"
    layer = "  - {conv: conv, filters: filters, kernel: 3}\n"
    (folder / "blocks" / "own.yaml").write_text(block + layer)
    (folder / "net.yaml").write_text(NET.replace("basic", "own").replace(", stride: 2", ""))
    for settings in ("", None):
        if settings is not None:
            (folder / "resnet-spec.toml").write_text(settings)
        code, _, err = run(*SWEEP, "--write", "out")
        assert (code, (folder / "out").exists()) == (1, False)
        assert "there is no block 'own'" in err
        assert "write it beside its spec" in err
        (folder / "resnet-spec.toml").unlink(missing_ok=True)
    assert run(*SWEEP, "--write", ".")[0] == 0
    assert cli.main(["check", "."]) == 0


def test_too_many_specs(folder: Path, run: Any) -> None:
    code, _, err = run("net.yaml", "--set", "classes=1..1001", "--write", "out", "--quiet")
    assert code == 2
    assert "--write would write 1,001 specs: choose at most 1,000" in err
    assert not (folder / "out").exists()


# --- memory and progress -------------------------------------------------------------------------


def test_what_is_kept_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of variants; the rows of `where` are not kept by the sweep."""
    monkeypatch.setattr(memo, "MAX_KNOWN", 200)
    library = Library()
    space = Space([axis("stages.layer1.filters=1..40"), axis("stages.layer2.repeat=1..10")])
    known = columns(lower(load("net.yaml", library)))
    sweep = Sweep(space, known, ("parameters",), "parameters < 0")
    chance = random.Random(0)
    numbers = chance.sample(range(space.size), 300)
    assert list(sweep.rows(numbers, lowering("net.yaml", library))) == []
    assert sweep.seen == 300
    assert len(library.memo.known) <= 200


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        progress = output.Progress(200)
        progress.show(50)
        progress.clear()
        text = "\r[######------------------] 50 of 200\r\x1b[K" if shown else ""
        assert stream.getvalue() == text
    quiet = Terminal()
    monkeypatch.setattr("sys.stderr", quiet)
    output.Progress(200, quiet=True).show(50)
    assert quiet.getvalue() == ""


def test_json_and_csv_are_alike(folder: Path, run: Any) -> None:
    data = json.loads(run(*SWEEP, "--format", "json")[1])["rows"]
    table = rows_of(run(*SWEEP, "--format", "csv")[1])
    assert [{key: str(cell) for key, cell in row.items()} for row in data] == table
    lines = run(*SWEEP)[1].splitlines()
    assert lines[0].split() == list(table[0])
    assert [line.replace(",", "").split() for line in lines[1:]] == [
        list(row.values()) for row in table
    ]
