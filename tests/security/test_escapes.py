"""Whatever a name, a description, a path or a value holds, no output controls who reads it."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import resnet_spec
from resnet_spec import cli
from resnet_spec.diagnostics import escapes
from resnet_spec.diagnostics.render import render
from resnet_spec.language.nodes import parse, plain

SIGNS = (
    "\x1b[2J", "\x1b]0;title\x07", "\n::error::", "\r\n::set-env name=A::b", "\n  ::add-mask::x",
    "::stop-commands::x", "##[error]", "##vso[task]", "\n##[set-output name=a]", "\u202e", "\u2066",
    "\x9b31m", "\x85", "\u2028", "\b", "\x7f", "\ufeff", "\U000e0001", "%0A::error::", "`|<b>",
    "\u3000::debug::", "\u00a0", "#", "[", ":", "\\", '"', "'", "{", " ", "a", "é", "\t",
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from(SIGNS), min_size=1, max_size=6).map("".join)
OURS = re.compile(r"::error (?:file=[^:,\n]*,line=\d+,col=\d+(?:,endColumn=\d+)?,)?title=RS\d+::")
COLORS = re.compile(r"\x1b\[(?:31|36|1|0)m")


def assert_controls_nothing(text: str, github: bool = False, color: bool = False) -> None:
    if color:
        text = COLORS.sub("", text)
    for line in text.split("\n"):
        wrong = [c for c in line if not (c.isprintable() or c.isspace()) or c in "\r\x85\u2028\x0b"]
        assert wrong == [], line
        assert "##[" not in line, line
        assert "##vso[" not in line, line
        if line.strip().startswith("::"):
            assert github, line
            assert OURS.match(line), line


# --- one function for each place -----------------------------------------------------------------


@given(HOSTILE)
def test_terminal(text: str) -> None:
    assert_controls_nothing(escapes.terminal(text))


@pytest.mark.parametrize("text", ["", "a: b\n  c\td", "é 残差\u00a0網", "a::b", "# [x] #", "x:"])
def test_what_is_harmless_stays(text: str) -> None:
    assert escapes.terminal(text) == text
    assert json.loads(escapes.json(json.dumps(text, ensure_ascii=False))) == text


@given(HOSTILE)
def test_github(text: str) -> None:
    line = f"::error file={escapes.github_property(text)},line=1,col=1,title=RS001::"
    assert_controls_nothing(line + escapes.github(text), github=True)


@given(HOSTILE)
def test_json(text: str) -> None:
    made = escapes.json(json.dumps({text: [text]}, indent=2, ensure_ascii=False))
    assert_controls_nothing(made)
    assert json.loads(made) == {text: [text]}


@given(HOSTILE)
@example("\U0001f600")  # which JSON writes as two halves, and TOML must not
@example("\ud7ff")
def test_toml(text: str) -> None:
    made = f"key = {escapes.toml(text)}  # a comment"
    assert "\n" not in made
    assert all(c.isprintable() or c.isspace() for c in made)
    assert tomllib.loads(made) == {"key": text}


@given(HOSTILE)
def test_python(text: str) -> None:
    module = ast.parse(f'"""{escapes.python(text)}."""\n# {escapes.python(text)}\n')
    assert len(module.body) == 1
    assert ast.get_docstring(module) is not None


@given(st.one_of(HOSTILE, st.text()))
@example("</script>&lt;\"'-->\ud800")
def test_html(text: str) -> None:
    """In an element and in an attribute the text is one text, whatever is in it."""
    found: list[tuple[str, object]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, attrs))

        def handle_data(self, data: str) -> None:
            found.append(("text", data))

    made = escapes.html(text)
    made.encode()
    reader = Reader()
    reader.feed(f'<p title="{made}">{made}</p>')
    reader.close()
    shown = "".join(c if c in "\n\t" or c.isprintable() or c.isspace() else "\ufffd" for c in text)
    shown = re.sub("[\r\x0b\x0c\x1c-\x1f\x85\u2028\u2029]", "\ufffd", shown)
    assert found == [("p", [("title", shown)])] + [("text", shown)] * bool(shown)


@given(HOSTILE)
def test_yaml(text: str) -> None:
    """`show --resolved` prints YAML that reads back the same."""
    from resnet_spec.language.dump import as_yaml

    value = {"description": text, "name": f"{text} {'long ' * 30}{text}"}
    made = escapes.terminal(as_yaml(value))
    assert_controls_nothing(made)
    assert yaml.safe_load(made) == value
    assert plain(parse(made, "spec.yaml")) == value


# --- the whole -----------------------------------------------------------------------------------

NET = """\
spec_version: 1
name: net
description: {text}
source: {short}
input: {{height: 32, width: 32}}
stages: [{{name: layer1, block: basic, filters: 8}}]
"""
WRONG = {
    "a key": "{short}: 3\n",
    "a value": "classes: {short}\n",
    "a base": "extends: {short}\n",
    "a block": "stages: [{{name: layer2, block: {short}}}]\n",
    "a name": "class_name: {short}\n",
    "an expression": "let: {{a: {short}}}\n",
    "no YAML": "  {raw}: [\n",
}
VERBS = {
    "show": (["show", "SPEC"], False),
    "show as JSON": (["show", "SPEC", "--format", "json"], False),
    "show --resolved": (["show", "SPEC", "--resolved"], False),
    "report": (["report", "SPEC", "--backend", "json", "--stdout"], False),
    "compile": (["compile", "SPEC", "--backend", "json"], False),
    "compile --check": (["compile", "SPEC", "--check", "--diff"], False),
    "compile for GitHub": (["compile", "SPEC", "--check", "--diff", "--format", "github"], True),
    "a setting": (["show", "net.yaml", "--set", "TEXT"], False),
    "no verb": (["TEXT"], False),
    "no flag": (["check", "TEXT", "--TEXT"], False),
    "weights": (["weights", "inspect", "SPEC", "net.yaml"], False),
    "weights with a rule": (["weights", "import", "SPEC", "net.yaml", "--out", "TEXT"], False),
    "no code": (["explain", "TEXT"], False),
    "a base that is none": (["init", "new.yaml", "--from", "TEXT"], False),
    "a file that is there": (["init", "SPEC"], False),
}


def dumped(text: str) -> str:
    return json.dumps(text)  # which is YAML, too


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("scene")
    patch.chdir(folder)
    yield folder
    patch.undo()


def named(text: str) -> str | None:
    """A file with a hostile name; None where no file can be called so."""
    name = f"{text.replace('/', '').replace(chr(0), '')}.yaml"
    try:
        Path(name).touch()
    except (OSError, ValueError):
        return None
    return name


QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("verb", VERBS)
@given(text=HOSTILE)
@example(text="::error::a")
@example(text="##[error]a")
@settings(QUICK, max_examples=6)
def test_no_output_controls_anything(
    verb: str, text: str, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, github = VERBS[verb]
    name = named(text)
    if name is None:
        return
    good = NET.format(text=dumped(f"{text} a"), short=dumped(f"a {text}"[:200]))
    Path("net.yaml").write_text(good)
    Path(name).write_text(good)
    Path("generated/json").mkdir(parents=True, exist_ok=True)
    Path("generated/json/net.json").write_text(f"{text}\n")
    cli.main([word.replace("SPEC", name).replace("TEXT", text) for word in words])
    captured = capsys.readouterr()
    assert captured.out + captured.err
    for stream in captured:
        assert_controls_nothing(stream, github)
    Path(name).unlink()


@pytest.mark.parametrize("what", WRONG)
@given(text=HOSTILE)
@settings(QUICK, max_examples=6)
def test_no_message_controls_anything(
    what: str, text: str, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = named(text)
    if name is None:
        return
    wrong = WRONG[what].format(short=dumped(text[:60]), raw=text)
    good = NET.format(text="A net", short="nowhere")
    Path(name).write_bytes((good + wrong).encode("utf-8", "surrogateescape"))
    for style in ("text", "github", "json"):
        color = "always" if style == "text" else "never"
        assert cli.main(["check", name, "--format", style, "--color", color]) == 1
        captured = capsys.readouterr()
        assert captured.out
        for stream in captured:
            assert_controls_nothing(stream, style == "github", color == "always")
    Path(name).unlink()


def test_orphans_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\x1b[2J\n::error::\u202e##[error]"
    Path("net.yaml").write_text(NET.format(text="A net", short="nowhere"))
    Path("resnet-spec.toml").write_text('[[compile]]\nspecs = ["*.yaml"]\nbackends = ["json"]\n')
    assert cli.main(["compile"]) == 0
    made = Path("generated/json/net.json").read_text()
    Path(f"generated/json/{text}.json").write_text(made)
    Path("net.yaml").unlink()
    Path(f"net{text}.yaml").write_text(NET.format(text="Another", short="nowhere"))
    for words in ([], ["--check"], ["--check", "--diff"], ["--check", "--format", "github"]):
        cli.main(["compile", *words])
        captured = capsys.readouterr()
        assert "error" in captured.out + captured.err
        for stream in captured:
            assert_controls_nothing(stream, "github" in words)
    Path("resnet-spec.toml").write_text(f"{text} = [\n")
    assert cli.main(["compile"]) == 2
    assert_controls_nothing(capsys.readouterr().err)


def test_a_command_that_gets_through_is_found() -> None:
    for text in ("a\n ::error::b", "a ##[error]b", "\x1b[2J", "a\u202eb", "a\x85b"):
        with pytest.raises(AssertionError):
            assert_controls_nothing(text)
    assert_controls_nothing(render([], {}))


# Who writes to a stream himself, and what.
WRITERS = {
    "cli/output.py": "all that is printed",
    "verify/session.py": "requests to a worker, as JSON",
    "verify/worker.py": "answers of a worker, as JSON",
}


def test_all_that_is_printed_goes_through_one_module() -> None:
    root = Path(resnet_spec.__file__).parent
    writers = set()
    for file in root.rglob("*.py"):
        if (root / "backends") in file.parents:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called == "print" or re.search(r"std(out|err)(\.buffer)?\.write", called):
                writers.add(file.relative_to(root).as_posix())
    assert writers == set(WRITERS)
