"""The verb `report`: a page says what the network is, and nothing on it runs or loads anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import html5lib
import html_page
import picture
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import network_of, source_of

from resnet_spec import cli
from resnet_spec.cli.shared import Exit
from resnet_spec.codegen import header
from resnet_spec.diagnostics import Diagnostic, Span, Use
from resnet_spec.drawing import render
from resnet_spec.ir import Network
from resnet_spec.ir.summary import peak_activations, summarize
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.language.nodes import parse, plain
from resnet_spec.lower import lower
from resnet_spec.report import Contents, Findings, contents, document, highlight, plots
from resnet_spec.report.contents import source_backends

NAMES = ("resnet50", "resnet20", "resnest50d", "densenet121", "dpn68", "vgg11", "highway20")
EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*.yaml"))
HOSTILE = (
    "</title><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "-->", "<!--", "]]>",
    '" onmouseover="alert(1)', "' x='", "</style>", "</pre></code>", "</svg>", "&lt;", "&#x3c;",
    "javascript:alert(1)", "https://", "\u202e", "\x1b[2J", "\x85", "\u2028", "\ufeff", "`${x}`",
    "{{7*7}}", "\n", "\t", "\\", "é", " ", "a",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=5).map("".join)
SPEC = """\
spec_version: 1
name: net
description: {text}
source: {text}
input: {{channels: 3, height: 32, width: 32}}
blocks:
  mine:
    description: {text}
    layers:
      - {{conv: conv1, filters: 8, kernel: 3}}
stages:
  - {{name: layer1, block: mine, repeat: 2}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page_of(spec: str | Path, *backends: str) -> tuple[Contents, str]:
    """What a page says of a spec, and its text."""
    loaded = load(str(spec), Library())
    page = contents(loaded, lower(loaded), backends or source_backends())
    return page, document(page)


# --- what it says --------------------------------------------------------------------------------


def assert_tells(network: Network, text: str) -> None:
    root = html_page.read(text)
    assert html_page.faults(root) == []
    summary = summarize(network)
    facts = html_page.facts(root)
    assert facts["parameters"] == f"{summary.parameters:,}"
    assert facts["multiply-adds"] == f"{summary.macs:,}"
    assert facts["peak activation"] == f"{summary.peak_activation:,} elements"
    heading, *rows = html_page.rows(root)
    assert len(rows) == len(summary.sections)
    for row, section, peak in zip(rows, summary.sections, peak_activations(network), strict=True):
        told = dict(zip(heading, row, strict=True))
        assert told["stage"] == section.name
        assert told["output"] == str(section.output)
        assert told["parameters"] == f"{section.parameters:,}"
        assert told["multiply-adds"] == f"{section.macs:,}"
        assert told["peak activation"] == f"{peak:,}"
        field = section.receptive_field
        assert told["receptive field"] == ("all" if field is None else f"{field:,}")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    labels = re.findall(r'aria-labelledby="([^"]+)"', text)
    assert labels and {name for each in labels for name in each.split()} <= set(ids)


@pytest.mark.parametrize("spec", [*NAMES, *EXAMPLES], ids=lambda spec: Path(spec).stem)
def test_numbers_are_those_of_the_network(spec: str | Path) -> None:
    page, text = page_of(spec, "torch")
    assert_tells(page.network, text)


@pytest.mark.slow
@pytest.mark.parametrize("name", builtin_specs())
def test_every_network_that_comes_with_the_package(name: str) -> None:
    page, text = page_of(name)
    assert page.findings == ()
    assert_tells(page.network, text)
    assert set(html_page.sources(html_page.read(text))) == {*page.sources, "The whole spec"}


def test_another_network_is_told_apart() -> None:
    _, text = page_of("resnet50", "torch")
    with pytest.raises(AssertionError):
        assert_tells(network_of("resnet101"), text)


def test_sources_are_what_compile_writes() -> None:
    page, text = page_of("resnet20")
    found = html_page.sources(html_page.read(text))
    for backend in ("torch", "keras", "flax"):
        assert found[f"{backend}/resnet20.py"] == source_of(page.network, backend)
    whole = found["The whole spec"]
    assert plain(parse(whole, "a.yaml")) == plain(parse(page.spec, "a.yaml"))
    assert "stages" in whole and "extends" not in whole


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "resnet1202", "vgg11"])
def test_plots_are_drawn_to_scale(name: str) -> None:
    network = network_of(name)
    summary = summarize(network)
    names = [section.name for section in summary.sections]
    for plot in plots.plots(network, summary):
        text = render(plots.picture(network, names, plot))
        assert picture.faults(text) == []
        drawn = picture.read(text)
        bars = {box[1]: box[2] - box[0] for style, box in drawn.boxes if style == "bar"}
        tracks = sorted((box[1], box[2] - box[0]) for style, box in drawn.boxes if style == "track")
        largest = max(v for v in (*plot.values, plot.limit and plot.limit[0]) if v is not None)
        for value, (top, room) in zip(plot.values, tracks, strict=True):
            share = 1.0 if value is None else value / largest
            assert bars.get(top, 0.0) == pytest.approx(room * share, abs=1.01)
        for section, value in zip(names, plot.values, strict=True):
            told = "the whole input" if value is None else f"{value:,}"
            assert f"{section} {told}" in drawn.description


# --- words told apart ----------------------------------------------------------------------------


def test_marks_leave_the_text_as_it_is() -> None:
    page, _ = page_of("skresnet18")
    for path, text in (*page.sources.items(), ("a.yaml", page.spec)):
        root = html_page.read(f"<!doctype html><title>a</title>{highlight.source(path, text)}")
        assert html_page.text_of(root.find("body")).strip() == text.strip()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "text", "marks"),
    [
        ("a.py", "def f(x):  # y\n    return 3\n", ["word:def", "name:f", "comment:# y",
                                                      "word:return", "number:3"]),
        ("a.py", 'a = f"{b!r:>{c}} é" + \'<\'\n', ['text:f"{b!r:>{c}} é"', "text:'<'"]),
        ("a.py", 'é = """a\nb"""\nclass A:\n    pass\n', ['text:"""a\nb"""', "word:class",
                                                             "name:A", "word:pass"]),
        ("a.yaml", "é: {b: 1e-5, c: [true, 'd', e1]}\n", ["name:é", "name:b", "number:1e-5",
                                                         "name:c", "word:true", "text:'d'"]),
        ("a.json", '{"a": 1}', []),
    ],
)  # fmt: skip
def test_words_are_told_apart(path: str, text: str, marks: list[str]) -> None:
    root = html_page.read(f"<!doctype html><title>a</title>{highlight.source(path, text)}")
    found = [f"{each.get('class')}:{html_page.text_of(each)}" for each in root.iter("span")]
    assert found == marks


# --- texts of strangers --------------------------------------------------------------------------


@given(TEXTS)
def test_texts_of_strangers_are_inert(text: str) -> None:
    spec = SPEC.format(text=json.dumps(f"a {text}"))
    loaded = load("net.yaml", Library(), text=spec.encode())
    page = contents(loaded, lower(loaded), ["torch", "keras"])
    use = Use(text, Span(text, 1, 1))
    found = Diagnostic("RS101", text, Span(text, 1, 3, 1, 9), text, (use,))
    made = document(page, Findings([found], {text: f"{text}\n{text}"}), [text, f"--> {text}"])
    root = html_page.read(made)
    assert html_page.faults(root) == []
    shown = html_page.text_of(root)
    assert " ".join(f"a {clean(text)}".split()) in " ".join(shown.split())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028\ufeff]", made)


def clean(text: str) -> str:
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)


@pytest.mark.parametrize(
    ("source", "linked"),
    [("https://arxiv.org/abs/1?a=1&b=<2>", True), ("javascript:alert(1)//https://a", False),
     ("JAVASCRIPT:alert(1)", False), (" https://a", False), ("He et al.", False)],
)  # fmt: skip
def test_only_addresses_are_links(source: str, linked: bool) -> None:
    spec = SPEC.format(text=json.dumps(source))
    loaded = load("net.yaml", Library(), text=spec.encode())
    root = html_page.read(document(contents(loaded, lower(loaded), [])))
    assert [link.get("href") for link in root.iter("a")] == [source] * linked


def test_what_runs_or_loads_is_found() -> None:
    """Without this, the tests above could not fail."""
    head = "<!doctype html><html><head><title>a</title></head><body>"
    for wrong in (
        "<script></script>", "<img alt=a>", '<p onclick="a">', '<a href="javascript:a">b</a>',
        '<p style="a">', "<svg><script></script></svg>", '<svg><rect fill="url(https://a)"/></svg>',
        "<style>@import 'a'</style>", "<iframe></iframe>", '<svg><image href="https://a"/></svg>',
    ):  # fmt: skip
        end = "</p>" if wrong.startswith("<p") else ""
        page = html_page.read(f"{head}{wrong}{end}</body></html>")
        assert html_page.faults(page), wrong
    with pytest.raises(html5lib.html5parser.ParseError):
        html_page.read(f"{head}<p><b>a</p></b></body></html>")


# --- the same everywhere -------------------------------------------------------------------------

PRINT = """
from resnet_spec.cli import main
for name in ("skresnet50d", "dpn68"):
    main(["report", name, "--stdout"])
"""


def test_same_bytes_under_any_hash_seed() -> None:
    texts = set()
    for seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        run = subprocess.run(
            [sys.executable, "-c", PRINT], env=environment, capture_output=True, check=True
        )
        assert len(run.stdout) > 100_000
        texts.add(run.stdout)
    assert len(texts) == 1


# --- files and usage -----------------------------------------------------------------------------


def report(*words: str) -> int:
    return cli.main(["report", *words])


def test_writes_a_file_that_is_known_as_ours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report("resnet18", "--out", "pages/net.html", "--set", "classes=10") == Exit.CLEAN
    assert report("resnet18", "--out", "pages/net.html", "--set", "classes=10") == Exit.CLEAN
    assert capsys.readouterr().out == "wrote pages/net.html\nunchanged pages/net.html\n"
    path = folder / "pages" / "net.html"
    text = path.read_text()
    assert header.status(text) == "intact"
    assert str(folder) not in text
    assert_tells(lower(load("resnet18", Library(), ["classes=10"])), text)
    path.write_text(text.replace("ResNet", "Mine"))
    assert report("resnet18", "--out", "pages/net.html") == Exit.FINDINGS
    assert "RS603" in capsys.readouterr().err
    assert report("resnet18", "--out", "pages/net.html", "--force", "--quiet") == Exit.CLEAN
    assert header.status(path.read_text()) == "intact"


def test_a_hostile_file_name_stays_in_the_header(folder: Path) -> None:
    (folder / "a--><b>.yaml").write_text(SPEC.format(text="a"))
    assert report("a--><b>.yaml", "--out", "a.html") == Exit.CLEAN
    text = (folder / "a.html").read_text()
    assert header.status(text) == "intact"
    assert html_page.faults(html_page.read(text)) == []


def test_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("resnet18", "--stdout", "--backend", "keras") == Exit.CLEAN
    text = capsys.readouterr().out
    assert set(html_page.sources(html_page.read(text))) == {"keras/resnet18.py", "The whole spec"}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "net.svg"], "must end in .html"),
        (["--stdout", "--out", "a.html"], "cannot be used with"),
        (["--backend", "tourch"], "there is no backend 'tourch'"),
        (["--stdin-filename", "a.yaml"], "needs the SPEC -"),
    ],
)
def test_wrong_usage(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report("resnet18", *words) == Exit.FAILURE
    assert message in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_wrong_spec_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.html").write_text("mine")
    (folder / "bad.yaml").write_text(SPEC.format(text="a").replace("mine, repeat", "nine, repeat"))
    assert report("bad.yaml", "--out", "net.html") == Exit.FINDINGS
    assert "bad.yaml:12:" in capsys.readouterr().err
    assert (folder / "net.html").read_text() == "mine"


def test_what_one_backend_cannot_say_stands_on_the_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.yaml").write_text(SPEC.format(text="a").replace("conv: conv1", "conv: train"))
    assert report("net.yaml") == Exit.FINDINGS
    assert "net.yaml:10:16: error RS503" in capsys.readouterr().err
    root = html_page.read((folder / "net.html").read_text())
    assert html_page.faults(root) == []
    (box,) = (each for each in root.iter("section") if each.get("id") == "mistakes")
    told = html_page.text_of(box)
    assert "net.yaml:10:16 RS503" in told and "2 errors in 1 file" in told
    assert f"10 |       - {{conv: train, filters: 8, kernel: 3}}\n   | {' ' * 15}^~~~~" in told
    assert set(html_page.sources(root)) == {"keras/net.py", "The whole spec"}
