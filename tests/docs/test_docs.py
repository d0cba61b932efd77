"""The documentation is true: every command and snippet is run, every table is current."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gallery
import generated_parts
import language_tables
import pytest
import reference
import training_page
import training_record
import zoo_page
from pages import ROOT, Page, PageError, clear_backends, fences, matches

from resnet_spec import expressions
from resnet_spec.cli import parser
from resnet_spec.expressions import FUNCTIONS
from resnet_spec.language import name_resolution, nodes
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.language.scalars import POSITION
from resnet_spec.lower import frame
from resnet_spec.primitives import INITIALIZERS, PRIMITIVES
from resnet_spec.verify import records

PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/language.md",
        "docs/architecture.md",
        "docs/walkthrough.md",
        "docs/weights.md",
        "docs/import.md",
        "docs/zoo.md",
        "docs/training.md",
        "docs/backbones.md",
        "docs/flax.md",
        "docs/gallery.md",
        "docs/compare.md",
        "docs/report.md",
        "SECURITY.md",
        "docs/equivalence.md",
    )
]
LANGUAGE, ARCHITECTURE, EQUIVALENCE = PAGES[2], PAGES[3], PAGES[-1]
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
FIX = "run pytest tests/docs/test_docs.py --update-goldens, and read the difference"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; what a page installs or imports from it goes with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is not None and Path(origin).is_relative_to(tmp_path):
            del sys.modules[name]
    clear_backends()


# Bears no marks: of a page's blocks, those run whose framework is installed.
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page(path: Path, folder: Path, update_goldens: bool) -> None:
    text = path.read_text("utf-8")
    needed = {fence.options.get("needs", "") for fence in fences(text)}
    installed = {name for name in needed if not name or importlib.util.find_spec(name)}
    if "torchvision" in text and "torch" in installed:
        reference.torchvision_detection()
    page = Page(path, folder, {""} if update_goldens else {"", *installed}, update_goldens)
    wrong = page.run()
    if update_goldens:
        path.write_text(page.updated(), encoding="utf-8")
    assert not wrong, "\n\n".join([*wrong, FIX])


PARTS: dict[Path, Callable[[], dict[str, str]]] = {
    LANGUAGE: language_tables.parts,
    ARCHITECTURE: lambda: {"modules": language_tables.modules(ROOT)},
    zoo_page.PAGE: zoo_page.parts,
    ROOT / "docs" / "compare.md": lambda: {"rules": language_tables.rules()},
    EQUIVALENCE: lambda: records.parts(ROOT / "docs" / "equivalence"),
    gallery.PAGE: gallery.parts,
    training_page.PAGE: lambda: training_page.parts(training_record.read()),
}


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_tables_are_current(path: Path, update_goldens: bool) -> None:
    text, parts = path.read_text(encoding="utf-8"), PARTS[path]()
    filled = generated_parts.filled(text, parts)
    if update_goldens:
        path.write_text(filled, encoding="utf-8")
        text = filled
    assert text == filled, FIX
    assert sorted(generated_parts.names_in(text)) == sorted(parts), "each part stands once"


def test_pictures_are_current(update_goldens: bool) -> None:
    wanted = gallery.pictures()
    if update_goldens:
        gallery.FOLDER.mkdir(exist_ok=True)
        for path in gallery.FOLDER.iterdir():
            path.unlink()
        for name, text in wanted.items():
            (gallery.FOLDER / name).write_text(text, encoding="utf-8")
    found = {path.name: path.read_text(encoding="utf-8") for path in gallery.FOLDER.iterdir()}
    assert sorted(found) == sorted(wanted)
    stale = [name for name in wanted if found[name] != wanted[name]]
    assert not stale, FIX


def test_gallery_shows_every_family_and_no_picture_is_left_over() -> None:
    families = {load(name, Library()).model.family for name in builtin_specs()}
    assert families == set(gallery.FAMILIES)
    texts = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    shown = set(re.findall(r"!\[[^]]+\]\((?:docs/)?pictures/([^)]+)\)", texts))
    assert shown == {path.name for path in gallery.FOLDER.iterdir()}


def test_tables_name_everything() -> None:
    parts = language_tables.parts()
    for part, names in (
        ("primitives", PRIMITIVES),
        ("functions", FUNCTIONS),
        ("initializers", INITIALIZERS),
        ("variables", POSITION),
    ):
        for name in names:
            assert f"| `{name}` |" in parts[part]
    for primitive in PRIMITIVES.values():
        for attribute in primitive.attributes:
            assert f"| `{primitive.name}` | `{attribute.name}` |" in parts["attributes"]


def test_every_module_is_named() -> None:
    """docs/architecture.md has a line for each module, and each module says what it does."""
    rows = dict(re.findall(r"^\| `([^`]+\.py)` \| (.*) \|$", ARCHITECTURE.read_text("utf-8"), re.M))
    found = {
        path.relative_to(ROOT).as_posix()
        for top in ("resnet_spec", "backends")
        for path in (ROOT / top).rglob("*.py")
    }
    assert set(rows) == found
    assert all(rows.values())


def test_stages_of_the_pipeline_are_modules() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    section = text[text.index("## The pipeline") : text.index("## Modules")]
    named = re.findall(r"\*\*(\w+)\*\*", section)
    assert len(named) > 10
    package = ROOT / "resnet_spec"
    found = {path.stem for path in package.rglob("*")}
    assert [name for name in named if name not in found] == []


def test_limits_are_the_real_ones() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    limits = text[text.index("## Limits") :]
    assert f"{nodes.MAX_BYTES // 10**6} MB of text" in limits
    assert f"{frame.MAX_OPERATIONS:,} operations" in limits
    assert f"`repeat` up to\n  {name_resolution.MAX_REPEAT:,}" in limits
    assert expressions.MAX_MAGNITUDE == 2**53


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_in_the_text_are_commands(path: Path) -> None:
    """Those between backticks, which are not run, have verbs and flags that there are."""
    for command in re.findall(r"`resnet-spec ([^`]+)`", path.read_text(encoding="utf-8")):
        parser.parser().parse_args(shlex.split(command))


def test_readme_names_every_verb() -> None:
    named = re.findall(r"^\| `resnet-spec (\w+)", PAGES[0].read_text(encoding="utf-8"), re.M)
    assert sorted(named) == sorted(parser.VERBS)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if target.startswith(("https://", "http://")):
            continue
        name, _, heading = target.partition("#")
        page = (path.parent / name) if name else path
        assert page.exists(), f"{path.name} links to {target}"
        if heading:
            assert heading in headings(page.read_text(encoding="utf-8")), target


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


# --- the runner of pages can fail ----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ resnet-spec --version\nresnet-spec 9.9.9\n```",
        "```console\n$ resnet-spec check nothing.yaml\n…\n```",
        "```console\n$ rm -r /\n```",
        "```console\nno command\n```",
        "```yaml keys\nstages: [{name: a, block: nothing}]\n```",
        "```yaml layers bad=RS101\n- {conv: conv1, filters: 3, kernel: 3}\n```",
        "```yaml\na: 1\n```",
        "```yaml job\n- {uses: a/resnet-spec@v1, with: {nothing: 1}}\n```",
        "```yaml hook\nrepos: [{hooks: [{id: nothing}]}]\n```",
        "```python\n>>> 1 + 1\n3\n```",
        "```shell\nmake nothing\n```",
        "```python of=specs/resnet50.yaml at=nothing\n```",
        "```python of=specs/resnet50.yaml at=head\nhead\n```",
        "```brainfuck\n+\n```",
    ],
)
def test_runner_finds_what_is_wrong(text: str, folder: Path) -> None:
    path = folder / "page.md"
    path.write_text(text + "\n", encoding="utf-8")
    assert len(Page(path, folder, {""}).run()) == 1


def test_unclosed_block() -> None:
    with pytest.raises(PageError, match="line 2"):
        list(fences("text\n```yaml\n"))


def test_matches() -> None:
    assert matches(["a", "…", "c"], ["a", "b", "b", "c"])
    assert matches(["…"], [])
    assert not matches(["a", "…"], ["b"])
    assert not matches(["a"], ["a", "b"])
