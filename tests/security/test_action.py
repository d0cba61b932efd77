"""The GitHub Action: its scripts, run as the workflow runs them."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

import processes
import pytest
import yaml

from resnet_spec import cli

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
NET = """\
spec_version: 1
name: {name}
description: {description}
input: {{height: 32, width: 32}}
stages: [{{name: layer1, block: basic, filters: {filters}}}]
"""
SETTINGS = '[[compile]]\nspecs = ["*.yaml"]\nbackends = ["json"]\n'


POISON = ("venv", "pip", "yaml", "json", "re", "subprocess", "resnet_spec", "secrets")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two networks that are compiled, and modules that tell that they ran."""
    folder = tmp_path_factory.mktemp("prepared")
    change(folder, "a", "b", description="A net", filters=8)
    (folder / "resnet-spec.toml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["compile"]) == cli.main(["compile", "a.yaml", "b.yaml"]) == 0
    for name in POISON:
        text = f"with open('../imported', 'a') as file:\n    file.write('{name}')\n"
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "workspace")
    return tmp_path / "workspace"


def run_script(name: str, folder: Path, *words: str, **env: str) -> tuple[int, str]:
    script = str(ROOT / "action" / name)
    given = processes.environment(**env)
    del given["PYTHONPATH"]
    done = processes.run([sys.executable, "-I", script, *words], folder, given)
    assert not (folder.parent / "imported").exists()
    return done.returncode, done.stdout + done.stderr


def compiled(folder: Path, **env: str) -> tuple[int, list[str]]:
    """The exit code, and the annotations; nothing else of what is printed may be a command."""
    code, text = run_script("run.py", folder, **env)
    stopped, followed = None, []
    for line in text.splitlines():
        if stopped is not None:
            stopped = None if line == stopped else stopped
            continue
        assert line.startswith("::"), line
        if line.startswith("::stop-commands::"):
            stopped = f"::{line.removeprefix('::stop-commands::')}::"
            assert len(stopped) > 30
        else:
            followed.append(line)
    assert stopped is None
    return code, followed


def change(folder: Path, *names: str, description: str = "Changed", filters: int = 16) -> None:
    for name in names:
        text = NET.format(name=name, description=description, filters=filters)
        (folder / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize("changed", ["a", "b"])
@pytest.mark.parametrize("between", [" ", "\n", "\r\n\t"])
def test_every_spec_of_a_list_is_checked(changed: str, between: str, workspace: Path) -> None:
    change(workspace, changed)
    code, told = compiled(workspace, SPECS=f"a.yaml{between}b.yaml\n")
    assert code == 1
    for backend in ("keras", "torch"):
        assert any(f"file=generated/{backend}/{changed}.py," in line for line in told), told
    assert len(told) == 2


def test_a_list_of_specs_that_are_as_they_should_be(workspace: Path) -> None:
    assert compiled(workspace, SPECS="a.yaml\nb.yaml") == (0, [])
    change(workspace, "b")
    assert compiled(workspace, SPECS="a.yaml\nb.yaml", MODE="compile") == (0, [])
    assert compiled(workspace, SPECS="a.yaml\nb.yaml") == (0, [])


def test_without_specs_the_settings_say_what(workspace: Path) -> None:
    assert compiled(workspace) == (0, [])
    change(workspace, "a", "b")
    code, told = compiled(workspace, SPECS=" \n")
    assert (code, len(told)) == (1, 2)
    assert compiled(workspace, MODE="compile")[0] == 0
    assert compiled(workspace) == (0, [])


def test_a_spec_that_begins_like_a_flag_is_none(workspace: Path) -> None:
    code, told = compiled(workspace, SPECS="--force")
    assert (code, len(told)) == (1, 1)
    assert "there is no spec '--force'" in told[0]


@pytest.mark.parametrize("mode", ["", "Check", "check\n::error::a", "check --force", "%0A::a::"])
def test_another_mode_is_refused(mode: str, workspace: Path) -> None:
    code, text = run_script("run.py", workspace, MODE=mode)
    assert code == 2
    assert text.startswith("::error::mode must be check, compile or diff, not ")
    assert text.count("\n") == 1
    assert "%0A" not in text


def test_what_a_stranger_writes_is_no_command(workspace: Path) -> None:
    """A description, a file's name and what was edited by hand, in the difference and messages."""
    text = '"::error file=a,line=1,col=1,title=RS101::b ##[error]c\\n::set-output name=a::b"'
    change(workspace, "a", description=text)
    made = workspace / "generated" / "json" / "b.json"
    made.write_text(made.read_text() + "\n::stop-commands::a\n ::add-mask::b\n##[group]c\n")
    (workspace / "::error::c.yaml").write_text(NET.format(name="c", description="C", filters="d"))
    assert compiled(workspace)[0] == 1
    (workspace / "::error::c.yaml").unlink()
    code, told = compiled(workspace)
    assert (code, len(told)) == (1, 2)
    (workspace / "resnet-spec.toml").write_text("::error::a = [\n")
    assert compiled(workspace)[0] == 2


# --- what changed since a revision ---------------------------------------------------------------


def in_git(folder: Path) -> None:
    """Let a folder be a repository with one commit."""
    names = ["-c", "user.name=a", "-c", "user.email=a"]
    for words in (["init"], ["add", "--all"], ["commit", "--message", "a"]):
        assert processes.run(["git", *names, *words], folder).returncode == 0


def compared(folder: Path, **env: str) -> tuple[int, str, Path]:
    """The exit code, the summary that was written, and the file for a comment."""
    summary, outputs = folder.parent / "summary", folder.parent / "outputs"
    summary.write_text("before\n")
    outputs.write_text("")
    files = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(outputs)}
    given = {"MODE": "diff", "AGAINST": "HEAD", "RUNNER_TEMP": str(folder.parent), **files, **env}
    code, followed = compiled(folder, **given)
    assert followed == []
    text = summary.read_text("utf-8")
    assert text.startswith("before\n<!-- resnet-spec diff -->\n")
    report = Path(outputs.read_text().removeprefix("report=").strip())
    assert text == "before\n" + report.read_text("utf-8")
    return code, text, report


@pytest.mark.parametrize("limit, code", [("", 0), ("load-in-part", 0), ("checkpoints-load", 1)])
def test_a_difference_is_told_in_the_summary(limit: str, code: int, workspace: Path) -> None:
    in_git(workspace)
    for name in ("a", "b"):
        text = (workspace / f"{name}.yaml").read_text()
        more = "{name: layer1, act: silu," if name == "b" else "{name: layer1,"
        (workspace / f"{name}.yaml").write_text(text.replace("{name: layer1,", more))
    found = compared(workspace, FAIL_ON=limit)
    assert found[0] == code
    assert "### `HEAD:a.yaml` → `a.yaml`\n\n**same function: " in found[1]
    assert "### `HEAD:b.yaml` → `b.yaml`\n\n**checkpoints load: " in found[1]


def test_what_cannot_be_compared_is_told(workspace: Path) -> None:
    in_git(workspace)
    change(workspace, "b", filters="nothing")
    code, text, _ = compared(workspace)
    assert code == 1
    assert "**1 comparison failed: the log says why.**" in text
    assert "### `HEAD:a.yaml` → `a.yaml`\n\n**same function: " in text
    assert compared(workspace, AGAINST="none")[:2] == (
        2,
        "before\n<!-- resnet-spec diff -->\nNothing could be compared: the log says why.\n",
    )


@pytest.mark.parametrize(
    "name, value", [("AGAINST", ""), ("FAIL_ON", "never"), ("FAIL_ON", "break\n::error::a")]
)
def test_other_words_are_refused(name: str, value: str, workspace: Path) -> None:
    given = {"MODE": "diff", "AGAINST": "HEAD", name: value}
    code, text = run_script("run.py", workspace, **given)
    assert code == 2
    assert re.fullmatch(r"::error::(against|fail-on) must [^\n]*\n", text)


def test_installing_imports_nothing_of_the_workspace(workspace: Path, tmp_path: Path) -> None:
    """Without an index, so that pip starts and finds nothing; every version is pinned by hashes."""
    code, text = run_script("install.py", workspace, str(tmp_path / "made"), PIP_NO_INDEX="1")
    assert (code != 0, (tmp_path / "made" / "pyvenv.cfg").is_file()) == (True, True)
    assert "No matching distribution found for annotated-types==" in text


# --- what is written down ------------------------------------------------------------------------


def test_what_a_step_runs_is_a_file_and_no_input() -> None:
    scripts = [step["run"] for step in STEPS if "run" in step]
    assert len(scripts) == 2
    for script in scripts:
        assert "${{" not in script
        assert re.search(r' -I "\$GITHUB_ACTION_PATH/action/\w+\.py"', script)
        assert "pip" not in script.replace("pipefail", "")
        assert "-m" not in script.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the steps are written for bash")
def test_the_steps_run_the_scripts(workspace: Path, tmp_path: Path) -> None:
    """As they stand in action.yml, with an environment that is there already."""
    scripts = tmp_path / "temp" / "resnet-spec" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (scripts / "python").chmod(0o755)
    change(workspace, "b")
    (step,) = (
        step
        for step in STEPS
        if step["name" if "name" in step else "uses"].endswith("Run resnet-spec")
    )
    given = processes.environment(
        RUNNER_TEMP=str(tmp_path / "temp"), GITHUB_ACTION_PATH=str(ROOT), MODE="check", SPECS=""
    )
    assert set(step["env"]) == {"MODE", "SPECS", "AGAINST", "FAIL_ON"}
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = processes.run(words, workspace, given)
    assert done.returncode == 1
    assert "::error file=generated/json/b.json," in done.stdout
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("name", ["action.yml", ".github/workflows/ci.yml"])
def test_other_actions_are_pinned_by_their_commit(name: str) -> None:
    used = re.findall(r"uses: (\S+)", (ROOT / name).read_text())
    assert used
    for each in used:
        assert each == "./" or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each), each


def pinned(text: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_the_requirements_are_those_of_the_compiler() -> None:
    text = (ROOT / "action" / "requirements.txt").read_text()
    versions = pinned(text)
    constraints = pinned((ROOT / "constraints.txt").read_text())
    assert versions == {name: constraints[name] for name in versions}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[><=]", each)[0] for each in project["dependencies"]} <= set(versions)
    blocks = re.split(r"\n(?=\S)", text)
    for block in blocks:
        assert block.startswith("#") or "--hash=sha256:" in block, block
