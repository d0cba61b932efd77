"""What a stranger's files name is read where it belongs to their project, and nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_spec import cli

SECRET = "token-of-the-workflow"
NET = """\
spec_version: 1
name: net
description: A net
input: {{height: 32, width: 32}}
{more}
stages: [{{name: layer1, block: basic, filters: 8}}]
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project beside a file that is none of its own."""
    (tmp_path / "secrets.yaml").write_text(f"{SECRET}\n")
    (tmp_path / "secrets.txt").write_text(f"{SECRET}\n")
    (tmp_path / "project" / "nets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("SECRET", SECRET)
    return tmp_path / "project"


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str]:
        code = cli.main(arguments)
        return code, "".join(capsys.readouterr())

    return call


def write(folder: Path, more: str, name: str = "nets/net.yaml") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(NET.format(more=more))


OUTSIDE = {
    "the environment": "extends: /proc/self/environ",
    "a file above": "extends: ../../secrets.yaml",
    "a file above, no spec": "extends: ../../secrets.txt",
    "a file of the system": "extends: /etc/passwd",
    "a link": "extends: link.yaml",
    "a link to the environment": "extends: environ.yaml",
    "a link by its name alone": "extends: link",
    "a folder that is a link": "extends: linked/secrets.yaml",
    "a recipe": "training: ../../secrets.yaml",
    "a recipe's link": "training: mine",
    "a block's link": "stem: [{block: secret, name: s}]",
}


def links(project: Path) -> None:
    nets = project / "nets"
    (nets / "link.yaml").symlink_to(project.parent / "secrets.yaml")
    (nets / "environ.yaml").symlink_to("/proc/self/environ")
    (nets / "linked").symlink_to(project.parent)
    for folder, name in (("recipes", "mine"), ("blocks", "secret")):
        (nets / folder).mkdir()
        (nets / folder / f"{name}.yaml").symlink_to(project.parent / "secrets.yaml")


@pytest.mark.parametrize("settings", [True, False])
@pytest.mark.parametrize("what", OUTSIDE)
def test_a_spec_reads_nothing_outside(what: str, settings: bool, project: Path, run: Run) -> None:
    if settings:
        (project / "resnet-spec.toml").touch()
    links(project)
    write(project, OUTSIDE[what])
    code, told = run("check", "nets/net.yaml", "--format", "json")
    assert SECRET not in told
    found = json.loads(told)["diagnostics"]
    assert code == 1
    assert "RS006" in {each["code"] for each in found}, told
    if "block" not in what:  # whose file is told itself: many lines may use it
        (first,) = (each for each in found if each["code"] == "RS006")
        assert (first["path"], first["line"]) == ("nets/net.yaml", 5)


def test_whether_a_file_is_there_is_not_told(project: Path, run: Run) -> None:
    write(project, "extends: ../../secrets.yaml")
    there = run("check", "nets/net.yaml")
    write(project, "extends: ../../nothing.yaml")
    assert run("check", "nets/net.yaml") == (1, there[1].replace("secrets", "nothing"))


@pytest.mark.parametrize("verb", ["check nets/link.yaml", "check .", "show nets/environ.yaml"])
def test_a_link_is_named_but_leads_outside(verb: str, project: Path, run: Run) -> None:
    """A workflow names whatever a pull request changes."""
    links(project)
    code, told = run(*verb.split())
    assert (code, SECRET in told) == (1, False)
    assert "RS006" in told


def test_what_belongs_to_the_project_is_read(project: Path, run: Run) -> None:
    write(project, "numerics: exact", "base.yaml")
    write(project, "extends: ../base.yaml", "nets/net.yaml")
    assert run("check", "nets/net.yaml")[0] == 1  # no settings: its own folder alone
    assert run("check", ".")[0] == 0  # the folder of both was named
    (project / "resnet-spec.toml").touch()
    assert run("check", "nets/net.yaml")[0] == 0
    inside = project / "nets" / "inside.yaml"
    inside.symlink_to("net.yaml")
    assert run("check", "nets/inside.yaml")[0] == 0


# --- settings ------------------------------------------------------------------------------------

SETTINGS = {
    "specs above": 'specs = ["../*.yaml"]',
    "a link to a spec": 'specs = ["nets/link.yaml"]',
    "a folder that is a link": 'specs = ["nets/*/secrets.yaml"]',
    "an output above": 'specs = ["nets/net.yaml"]\nout = "../made"',
    "an output of the system": f'specs = ["nets/net.yaml"]\nout = "{os.sep}tmp{os.sep}made"',
    "an output behind a link": 'specs = ["nets/net.yaml"]\nout = "nets/linked/made"',
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_stay_in_their_folder(what: str, project: Path, run: Run) -> None:
    links(project)
    write(project, "numerics: exact")
    (project / "resnet-spec.toml").write_text(f"[[compile]]\n{SETTINGS[what]}\n")
    for verb in (["compile"], ["compile", "--config", "resnet-spec.toml"], ["check", "nets"]):
        code, told = run(*verb)
        assert (code, SECRET in told) == (2, False)
        assert "RS706" in told
    assert sorted(path.name for path in project.parent.iterdir()) == [
        "project", "secrets.txt", "secrets.yaml",
    ]  # fmt: skip


def test_a_flag_lets_settings_lead_elsewhere(project: Path, run: Run) -> None:
    write(project.parent, "numerics: exact", "net.yaml")
    text = '[[compile]]\nspecs = ["../net.yaml"]\nout = "../made"\nbackends = ["json"]\n'
    (project / "resnet-spec.toml").write_text(text)
    code, told = run("compile", "--check", "--allow-outside")
    assert (code, told.splitlines()[-1]) == (1, "run: resnet-spec compile --allow-outside")
    assert run("compile", "--allow-outside")[0] == 0
    assert (project.parent / "made" / "json" / "net.json").is_file()


@pytest.mark.parametrize("name", ["resnet-spec.toml", "pyproject.toml"])
def test_settings_are_no_link_to_elsewhere(name: str, project: Path, run: Run) -> None:
    (project.parent / "config").write_text(f"{SECRET} = # tool.resnet-spec\n")
    (project / name).symlink_to(project.parent / "config")
    code, told = run("compile")
    assert (code, SECRET in told, "RS706" in told) == (2, False, True)
