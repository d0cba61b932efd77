"""Every code is explained, and its examples show what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import resnet_spec
from resnet_spec.codegen.generate import generate
from resnet_spec.diagnostics import SpecError
from resnet_spec.diagnostics.codes import CODES, Code
from resnet_spec.ir.summary import expectations
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

ROOT = Path(resnet_spec.__file__).parent
# Codes that no spec can show: files, backends, settings, weights.
WITHOUT_EXAMPLES = re.compile(r"RS(001|501|504|6..|7..|8..|9..)")
SHOWN = sorted(code for code, entry in CODES.items() if entry.bad)


def codes_of(text: str) -> set[str]:
    """The codes that compiling a spec for all backends gives."""
    try:
        loaded = load("example.yaml", Library(), text=text.encode())
        network = lower(loaded)
        if found := expectations(loaded, network):
            raise SpecError(found)
        generate(network, ("json", "keras", "torch"))
    except SpecError as error:
        return {found.code for found in error.diagnostics}
    return set()


def test_every_code_of_the_sources_is_explained() -> None:
    folders = (ROOT, ROOT.parent / "backends")
    files = [path for folder in folders for path in folder.rglob("*.py") if path.name != "codes.py"]
    raised = {code for path in files for code in re.findall(r'"(RS\d{3})"', path.read_text())}
    assert len(files) > 30
    assert raised == set(CODES)


@pytest.mark.parametrize("code", SHOWN)
def test_the_bad_example_gives_its_code_alone(code: str) -> None:
    assert codes_of(CODES[code].bad) == {code}


@pytest.mark.parametrize("code", SHOWN)
def test_the_good_example_gives_none(code: str) -> None:
    assert codes_of(CODES[code].good) == set()


@pytest.mark.parametrize("code", sorted(CODES))
def test_explanations(code: str) -> None:
    entry = CODES[code]
    assert bool(entry.bad) == bool(entry.good) == (WITHOUT_EXAMPLES.fullmatch(code) is None)
    assert entry.title[0].islower() or entry.title[0] == "'"
    assert not entry.title.endswith(".")
    assert len(entry.title) <= 72
    text = entry.explanation
    assert text.endswith(".") and "\n" not in text and "  " not in text
    assert 2 <= len(re.findall(r"[.;](?= |$)", text)) <= 6


def test_titles_differ() -> None:
    assert len({entry.title for entry in CODES.values()}) == len(CODES)


def test_the_table_is_light() -> None:
    """`explain` answers at once."""
    script = (
        "import sys, resnet_spec.diagnostics.codes;"
        "print(sorted({'yaml', 'pydantic', 'dataclasses', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True, capture_output=True, text=True, cwd=ROOT.parent,
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_an_example_is_what_explain_prints() -> None:
    from resnet_spec.cli.explain import as_text

    page = as_text("RS000", Code("a title", "Why. How.", bad="a: 1\n", good="a: 2\n"))
    assert page == "RS000: a title\n\nWhy. How.\n\nwrong:\n\n    a: 1\n\nright:\n\n    a: 2"
