"""The verb `draw`, and what holds of every text that it writes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import picture
import pytest
from parity import network_of

from resnet_spec import cli
from resnet_spec.cli.shared import Exit
from resnet_spec.codegen import header
from resnet_spec.diagnostics import escapes
from resnet_spec.drawing import THEMES, Drawing, png, render, theme
from resnet_spec.drawing.mermaid import as_mermaid
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

HOSTILE = '</title><script>alert(1)</script> & "quotes" \u202e`${x}`'
SPEC = """\
spec_version: 1
name: net
description: {description}
source: "https://example.org/?a=1&b=<2>"
input: {{channels: 3, height: 32, width: 32}}
stages:
  - {{name: layer1, block: basic, repeat: 2, filters: 16}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(*words: str) -> int:
    return cli.main(["draw", *words])


# --- files ---------------------------------------------------------------------------------------


def test_writes_a_file_that_is_known_as_ours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw("resnet18", "--out", "pictures/net.svg") == Exit.CLEAN
    assert draw("resnet18", "--out", "pictures/net.svg") == Exit.CLEAN
    assert capsys.readouterr().out == "wrote pictures/net.svg\nunchanged pictures/net.svg\n"
    path = folder / "pictures" / "net.svg"
    text = path.read_text()
    assert header.status(text) == "intact"
    assert picture.faults(text) == []
    assert str(folder) not in text
    assert draw("resnet34", "--out", "pictures/net.svg") == Exit.CLEAN  # out of date, so replaced
    path.write_text(path.read_text().replace("resnet34", "mine"))
    assert draw("resnet34", "--out", "pictures/net.svg") == Exit.FINDINGS
    assert "RS603" in capsys.readouterr().err
    path.write_text("<svg/>")
    assert draw("resnet34", "--out", "pictures/net.svg") == Exit.FINDINGS
    assert "RS602" in capsys.readouterr().err
    assert path.read_text() == "<svg/>"
    assert draw("resnet34", "--out", "pictures/net.svg", "--force", "--quiet") == Exit.CLEAN
    assert header.status(path.read_text()) == "intact"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "name"),
    [([], "resnet18.svg"), (["--format", "mermaid"], "resnet18.mmd"), (["--out", "a.md"], "a.md")],
)
def test_names_of_files(words: list[str], name: str, folder: Path) -> None:
    assert draw("resnet18", *words) == Exit.CLEAN
    assert [path.name for path in folder.iterdir()] == [name]
    text = (folder / name).read_text()
    assert header.status(text) == "intact"
    fenced = text.startswith("```mermaid\n") and text.endswith("\n```\n")
    assert fenced == (name == "a.md")


@pytest.mark.parametrize("words", [["--stdout"], ["--out", "-"]])
def test_prints(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert draw("resnet18", *words, "--set", "classes=10") == Exit.CLEAN
    text = capsys.readouterr().out
    assert text == render(Drawing(changed("resnet18", "classes=10")).page())
    assert list(folder.iterdir()) == []


def changed(name: str, *settings: str) -> Network:
    return lower(load(name, Library(), settings))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "net.gif"], "must end in one of .svg, .png, .mmd, .md"),
        (["--out", ""], "must end in"),
        (["--out", "net.svg", "--format", "mermaid"], "cannot be used with --out *.svg"),
        (["--compact", "--block", "basic"], "--compact cannot be used with --block"),
        (["--format", "mermaid", "--compact"], "cannot be used with"),
        (["--format", "png", "--stdout"], "cannot be used with"),
        (["--format", "mermaid", "--theme", "dark"], "cannot be used with"),
        (["--stdout", "--out", "a.svg"], "cannot be used with"),
        (["--block", "basics"], "has no block 'basics': did you mean 'basic'?"),
        (["--stdin-filename", "a.yaml"], "needs the SPEC -"),
    ],
)
def test_wrong_usage(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw("resnet18", *words) == Exit.FAILURE
    assert message in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_wrong_spec_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.yaml").write_text(SPEC.format(description="a").replace("basic", "basics"))
    assert draw("bad.yaml") == Exit.FINDINGS
    assert "bad.yaml:7:" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["bad.yaml"]


def test_a_folder_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("")
    assert draw("resnet18", "--out", "file/net.svg") == Exit.FAILURE
    assert "RS605" in capsys.readouterr().err


# --- PNG -----------------------------------------------------------------------------------------

CONVERTER = """\
#!/bin/sh
# Stands for rsvg-convert: the last words are --output TARGET SOURCE.
for word in "$@"; do before=$target; target=$source; source=$word; done
cp "$source" "$target"
"""


def converter(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = folder / "tools"
    tools.mkdir()
    (tools / "rsvg-convert").write_text(text)
    (tools / "rsvg-convert").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")


def test_png_by_a_converter(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    converter(folder, CONVERTER, monkeypatch)
    assert draw("resnet18", "--out", "net.png", "--compact") == Exit.CLEAN
    text = (folder / "net.png").read_text()
    assert text == render(Drawing(network_of("resnet18")).compact(), "light")
    assert draw("resnet18", "--out", "net.png") == Exit.FINDINGS + 1
    assert "RS602" in capsys.readouterr().err
    assert draw("resnet18", "--out", "net.png", "--force", "--theme", "dark") == Exit.CLEAN
    assert (folder / "net.png").read_text() != text
    assert sorted(path.name for path in folder.iterdir()) == ["net.png", "tools"]


def test_png_without_a_converter(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert draw("resnet18", "--out", "net.png") == Exit.FAILURE
    assert "PNG needs a converter, and none is installed: rsvg-convert" in capsys.readouterr().err


def test_png_by_a_converter_that_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    converter(folder, "#!/bin/sh\nprintf 'no \\033[31m memory' >&2\nexit 3\n", monkeypatch)
    assert draw("resnet18", "--out", "net.png") == Exit.FAILURE
    assert r"rsvg-convert failed: no \x1b[31m memory" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["tools"]


@pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="rsvg-convert is not installed")
def test_png_is_one(folder: Path) -> None:
    assert draw("resnet18", "--out", "net.png", "--compact") == Exit.CLEAN
    data = (folder / "net.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    height = Drawing(network_of("resnet18")).compact().height
    assert [int.from_bytes(data[k : k + 4]) for k in (16, 20)] == [2000, round(2 * height)]


def test_every_converter_is_told_source_and_target() -> None:
    for name, command in png.CONVERTERS.items():
        words = command(f"/bin/{name}", "in.svg", "out.png")
        assert words[0] == f"/bin/{name}"
        assert sum("in.svg" in word for word in words) == 1
        assert sum("out.png" in word for word in words) == 1


# --- texts of strangers --------------------------------------------------------------------------


def test_a_hostile_description(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "net.yaml"
    path.write_text(SPEC.format(description=json.dumps(HOSTILE)))
    for words in ([], ["--compact"], ["--block", "basic"]):
        assert draw("net.yaml", "--stdout", *words) == Exit.CLEAN
        text = capsys.readouterr().out
        assert "<script" not in text and "\u202e" not in text
        root = ET.fromstring(text)
        title = root.findtext(f"{picture.SVG}title", "")
        assert words[:1] == ["--block"] or HOSTILE.replace("\u202e", "\ufffd") in title
    assert draw("net.yaml", "--format", "mermaid", "--stdout") == Exit.CLEAN
    text = capsys.readouterr().out
    assert "<script" not in text and "\u202e" not in text and "`" not in text


def test_a_file_name_in_the_header_stays_there(folder: Path) -> None:
    (folder / "a--><b>.yaml").write_text(SPEC.format(description="a"))
    assert draw("a--><b>.yaml", "--out", "a.svg") == Exit.CLEAN
    text = (folder / "a.svg").read_text()
    assert header.status(text) == "intact"
    assert "a--><b>.yaml" in "".join(ET.fromstring(text).itertext())


def test_long_texts_are_cut_and_kept(folder: Path) -> None:
    (folder / "net.yaml").write_text(SPEC.format(description="long words " * 60))
    assert draw("net.yaml", "--out", "a.svg") == Exit.CLEAN
    text = (folder / "a.svg").read_text()
    assert picture.faults(text) == []
    (cut,) = [word for word in picture.read(text).words if word.whole]
    assert cut.text.endswith("…") and cut.whole == ("long words " * 60).strip()


# --- the same everywhere -------------------------------------------------------------------------

PRINT = """
from resnet_spec.drawing import Drawing, render
from resnet_spec.drawing.mermaid import as_mermaid
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
for name in ("skresnet50d", "dpn68", "res2net50_26w_8s"):
    drawing = Drawing(lower(load(name, Library())))
    print(render(drawing.page()), render(drawing.compact()), as_mermaid(drawing))
    print(*(render(drawing.block(block)) for block in drawing.blocks))
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
        texts.add(hashlib.sha256(run.stdout).hexdigest())
    assert len(texts) == 1


def test_pictures_can_stand_in_one_page() -> None:
    """Ids and classes begin so that no two pictures, and nothing around them, share one."""
    drawing = Drawing(network_of("resnet50"))
    pictures = [drawing.page(), drawing.compact(), drawing.block("bottleneck")]
    ids = [name for each in pictures for name in re.findall(r' id="([^"]+)"', render(each))]
    assert len(set(ids)) == len(ids) == 6
    for each in pictures:
        text = render(each)
        classes = re.findall(r'class="([^"]+)"', text)
        assert all(name.startswith("rs-") for name in (*ids, *classes))
        labelled = re.search(r'aria-labelledby="([^"]+)"', text)
        assert labelled is not None and set(labelled[1].split()) <= set(ids)
        # Every colour that the dark rule changes is one that occurs.
        ruled = set(re.findall(r"\.(rs-[a-z-]+)\{", text))
        assert ruled == set(classes)


def test_one_theme_alone_has_no_rule() -> None:
    found = {each: render(Drawing(network_of("resnet18")).page(), each) for each in THEMES}
    assert "prefers-color-scheme" in found["auto"]
    for name, paper in (("light", "#FFFFFF"), ("dark", "#0D1117")):
        assert "<style" not in found[name] and "class=" not in found[name]  # type: ignore[index]
        first = re.search(r'<rect [^>]*fill="([^"]+)"', found[name])  # type: ignore[index]
        assert first is not None and first[1] == paper


# --- colours -------------------------------------------------------------------------------------


def contrast(first: str, second: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_contrast(mode: str) -> None:
    paint = {name: getattr(colors, mode) for name, colors in theme.COLORS.items()}
    operations = picture.OPERATIONS
    for ink, grounds in (
        ("ink", ("page", "panel", "hollow", "join", *operations)),
        ("soft", ("page", "panel")),
        ("tile-text", ("tile",)),
    ):
        for ground in grounds:
            assert contrast(paint[ink].fill, paint[ground].fill) >= 6, (ink, ground)
    for outline in (*operations, "line", "join", "hollow", "tile"):
        for ground in ("page", "panel"):
            assert contrast(paint[outline].stroke, paint[ground].fill) >= 3, (outline, ground)
    assert contrast(paint["bar"].fill, paint["track"].fill) >= 3


def test_every_category_has_a_meaning() -> None:
    """Colour is never the only information: each is in the legend, and boxes have labels."""
    assert set(theme.CATEGORIES.values()) == set(theme.MEANINGS)
    assert set(theme.MEANINGS) < set(theme.COLORS)
    for name in ("resnest50d", "dpn68"):
        for panel in picture.read(render(Drawing(network_of(name)).page())).panels:
            for _, box in panel.operations:
                assert any(picture.inside(word.box, box, 0) for word in panel.words)


def test_escape_of_every_character() -> None:
    every = "".join(map(chr, range(0x3000)))
    root = ET.fromstring(f'<a b="{escapes.html(every)}">{escapes.html(every)}</a>')
    assert root.text is not None and len(root.text) == len(every)
    assert root.get("b") == re.sub("[\n\t]", " ", root.text)  # as XML says
    assert all(d in (c, "\ufffd") for c, d in zip(every, root.text, strict=True))


# --- Mermaid -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet50", "skresnet50d", "densenet121", "res2net50_26w_8s"])
def test_mermaid_has_every_box_and_line(name: str) -> None:
    drawing = Drawing(network_of(name))
    lines = as_mermaid(drawing).splitlines()
    assert lines[0] == "flowchart TB"
    boxes = {match[1] for line in lines if (match := re.match(r' +(\w+)[(\[]+"', line))}
    links = [
        match for line in lines if (match := re.match(r" +(\w+) -\.?->? ?(?:-> )?(\w+)$", line))
    ]
    drawn = [
        (f"b{number}_{source}", f"b{number}_{item.box.index}")
        for number, inset in enumerate(drawing.figure.insets)
        for item in drawing.items[inset]
        for source, _ in item.box.inputs
    ]
    found = [(link[1], link[2]) for link in links if link[1].startswith("b")]
    assert sorted(found) == sorted(drawn)
    assert {end for pair in found for end in pair} <= boxes
    opened = [line for line in lines if line.strip().startswith("subgraph")]
    assert len(opened) == sum(line.strip() == "end" for line in lines)
    assert len(opened) == 1 + len(drawing.figure.insets)


def test_mermaid_of_one_block() -> None:
    text = as_mermaid(Drawing(network_of("resnest50d")), block="split_attention")
    assert text.count("subgraph") == 1
    assert 'subgraph block0["B: split attention ×16, inside A, A′"]' in text
    assert 'symbols["w = 64, 128, 256, 512 in layer1–4"]' in text
