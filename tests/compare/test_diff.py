"""`diff` on the command line: what it takes, what it prints, and what its words are good for."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from known_pairs import CASES, SMALL

from resnet_spec import cli, read_network
from resnet_spec.compare import RULES, Effect, compare, report
from resnet_spec.compare.renaming import rules
from resnet_spec.compare.rules import OF_ATTRIBUTES
from resnet_spec.language.renames import renamed
from resnet_spec.primitives import PRIMITIVES

Run = Any


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.yaml").write_text(SMALL)
    renamed_stage = SMALL.replace("name: layer2", "name: last").replace("name: small", "name: new")
    (tmp_path / "new.yaml").write_text(renamed_stage)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["diff", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "name two specs, or one with --against or --set"),
        (["resnet18"], "name two specs, or one with --against or --set"),
        (["resnet18", "resnet34", "resnet50"], "name two specs, or one with --against or --set"),
        (["-", "-"], "standard input can be one SPEC alone"),
        (["-", "--against", "HEAD"], "--against needs files, which have a past: - has none"),
        (["--against", "HEAD", "--set", "classes=3"], "--set needs a SPEC"),
        (["--against", "HEAD"], "name a spec: no settings name one"),
        (["resnet18", "resnet34", "--fail-on", "never"], "argument --fail-on: invalid choice"),
    ],
)
def test_wrong_usage(words: list[str], message: str, run: Run, folder: Path) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")


@pytest.mark.parametrize("limit, code", [(None, 0), ("break", 0), ("load-in-part", 1)])
@pytest.mark.parametrize("style", ["text", "json", "github", "markdown"])
def test_fail_on(limit: str | None, code: int, style: str, run: Run, folder: Path) -> None:
    words = ["--fail-on", limit] if limit else []
    assert run("old.yaml", "new.yaml", "--format", style, *words)[0] == code


def test_fail_on_any_comparison(run: Run) -> None:
    assert run("resnet18", "resnet18", "--fail-on", "same-function")[0] == 1
    assert run("resnet18", "resnet18", "--fail-on", "checkpoints-load")[0] == 0


def test_a_network_with_itself_changed(run: Run) -> None:
    code, out, _ = run("resnet18", "--set", "classes=10")
    assert code == 0
    assert out.startswith("resnet18 → resnet18 with classes=10\nload in part: ")
    assert "fc.weight  1000x512 → 10x512" in out


@pytest.mark.parametrize("style", ["text", "json", "github", "markdown"])
def test_a_failed_load_is_never_no_change(style: str, run: Run, folder: Path) -> None:
    (folder / "broken.yaml").write_text(SMALL.replace("block: pair", "block: nothing"))
    for names in (
        ("broken.yaml", "old.yaml"),
        ("old.yaml", "broken.yaml"),
        ("none.yaml", "old.yaml"),
    ):
        code, out, err = run(*names, "--format", style)
        assert code == 1
        assert "RS" in out + err
        assert "same" not in out
        if style == "json":
            found = json.loads(out)
            assert (found["class"], found["comparisons"], found["valid"]) == (None, [], False)


def test_json(run: Run, folder: Path) -> None:
    found = json.loads(run("old.yaml", "new.yaml", "--format", "json")[1])
    assert found["class"] == "load-in-part"
    (compared,) = found["comparisons"]
    assert compared["function"] == "same-after-renames"
    assert compared["renames"] == {"layer2": "last"}
    tensors = compared["tensors"]
    assert {"old": "layer2.0.conv1.weight", "new": "last.0.conv1.weight"} in tensors["renamed"]
    assert (tensors["new"], tensors["lost"], tensors["reshaped"]) == ([], [], [])
    assert (tensors["old_share"], tensors["new_share"]) == (1.0, 1.0)
    assert [each["old"]["name"] for each in compared["sections"]] == [
        "stem", "layer1", "layer2", "head",
    ]  # fmt: skip
    (change,) = (each for each in compared["changes"] if each["rule"] == "feature-maps")
    assert (change["before"], change["after"]) == ("layer1, layer2", "layer1, last")


def test_github_annotates_the_spec(run: Run, folder: Path) -> None:
    out = run("old.yaml", "new.yaml", "--format", "github")[1]
    assert re.fullmatch(r"::warning file=new\.yaml,line=1,title=resnet-spec diff::[^\n]+\n", out)
    out = run("old.yaml", "new.yaml", "--format", "github", "--fail-on", "load-in-part")[1]
    assert out.startswith("::error file=new.yaml,")


def test_all_names(run: Run) -> None:
    """What is cut says so, and `--all` tells it."""
    cut, whole = run("resnet50", "resnet101")[1], run("resnet50", "resnet101", "--all")[1]
    assert "… and 243 more" in cut
    assert "more" not in whole
    for name in compare(read_network("resnet50"), read_network("resnet101")).tensors.new:
        assert f"\n  {name}\n" in whole


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_format_tells_the_class(case: Any) -> None:
    """And each change, with its rule, once."""
    found = compare(*case.networks())
    word = report.headline(found).partition(":")[0]
    assert word == found.effect.value.replace("-", " ")
    text = report.as_markdown(found)
    assert f"**{word}: " in text
    rows = report.rows(found, None)
    assert [row[-1] for row in rows] == [each.rule for each in report.architecture(found)]
    data = report.as_json(found)
    assert data["class"] == max(
        (each["class"] for each in data["changes"]),
        key=lambda value: Effect(value).rank,
        default="same-function",
    )


# --- Markdown ------------------------------------------------------------------------------------


def test_a_path_is_no_markdown(folder: Path, run: Run) -> None:
    """A stranger's file is called like marks, tags and mentions: it stays the text of code."""
    name = "a`@b|<img src=x>\n[c](d) &lt; #1.yaml"
    (folder / name).write_text((folder / "new.yaml").read_text())
    out = run("old.yaml", name, "--format", "markdown")[1]
    told = "'@b¦<img src=x> [c](d) &lt; #1.yaml"
    assert "### `small` → `new`" in out
    (folder / name).write_text(SMALL)
    out = run("old.yaml", name, "--format", "markdown")[1]
    assert out.splitlines()[0] == f"### `old.yaml` → `a{told}`"


def test_cells_do_not_break_a_table() -> None:
    found = compare(read_network("resnet50"), read_network("resnet50d"))
    tables = [line for line in report.as_markdown(found).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {6, 5, 8}


# --- rules ---------------------------------------------------------------------------------------


def test_rules_are_data() -> None:
    assert all(rule.id == name and rule.meaning for name, rule in RULES.items())
    assert set(OF_ATTRIBUTES.values()) <= set(RULES)
    attributes = {each.name for one in PRIMITIVES.values() for each in one.attributes}
    assert set(OF_ATTRIBUTES) <= attributes


def test_every_rule_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text("utf-8")
    for rule in RULES.values():
        assert f"| `{rule.id}` | `{rule.effect.value}` | {rule.meaning} |" in page


# --- renames -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted, told",
    [
        ({"a": "a", "b.c": "b.c"}, {}),
        ({"a": "b"}, {"a": "b"}),
        ({"a.x": "b.x", "a.y": "b.y"}, {"a": "b"}),
        ({"s1.a": "l2.a", "s2.a": "l3.a"}, {"s{n}": "l{n + 1}"}),
        ({"s2.a": "l1.a", "s3.a": "l2.a"}, {"s{n}": "l{n - 1}"}),
        ({"s.1.3.a": "l.3.b", "s.1.4.a": "l.4.b"}, {"s.1.{n}.a": "l.{n}.b"}),
        ({"a.0.x": "a.1.x", "a.1.x": "a.2.x"}, {"a.{n}": "a.{n + 1}"}),
        ({"a": "b", "b": "a"}, {"a": "b", "b": "a"}),
        ({"a.x": "b.x", "a.y": "a.y"}, {"a.x": "b.x"}),
        ({"a01": "b1", "a02": "b2"}, {"a{n}": "b{n}"}),
        ({"a1": "b01", "a2": "b02"}, {"a1": "b01", "a2": "b02"}),
        ({"x": "p.x", "y": "p.y"}, {"x": "p.x", "y": "p.y"}),
    ],
)
def test_rules_of_renames(wanted: dict[str, str], told: dict[str, str]) -> None:
    assert rules(wanted) == told
    assert {name: renamed(name, told) for name in wanted} == wanted


def test_no_rule_gives_another_tensor_a_name_that_is_taken() -> None:
    assert rules({"a.x": "b.x"}, ["a.y"]) == {"a": "b"}
    assert rules({"a.x.z": "b.x.z", "c": "b.y"}, ["a.y"]) == {"a.x.z": "b.x.z", "c": "b.y"}


@pytest.mark.torch
def test_the_command_that_is_printed_works(run: Run, folder: Path, capsys: Any) -> None:
    """The checkpoint that it makes is what PyTorch loads, and the outputs are the old ones."""
    import parity
    import torch

    assert cli.main(["compile", "old.yaml", "new.yaml", "--backend", "torch", "--quiet"]) == 0
    old, new = (read_network(name) for name in ("old.yaml", "new.yaml"))
    ours, theirs = parity.build(old, "torch"), parity.build(new, "torch")
    parity.randomize(ours)
    torch.save(ours.state_dict(), "OLD.pt")
    out = run("old.yaml", "new.yaml")[1]
    (line,) = re.findall(r"^  (resnet-spec .*)$", out, re.MULTILINE)
    assert cli.main(shlex.split(line)[1:]) == 0
    theirs.load_state_dict(torch.load("NEW.pt", weights_only=True), strict=True)
    batch = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours.eval()(batch), theirs.eval()(batch))
