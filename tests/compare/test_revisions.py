"""`diff --against`: specs as git has them, with all that they rest on, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import cli
from resnet_spec.disk.revisions import Revision, RevisionError
from resnet_spec.language.library import builtin_folder

NET = """\
spec_version: 1
name: net
description: A small network
input: {height: 32, width: 32}
classes: 10
stages:
  - {name: layer1, block: own, filters: 8}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""
OWN = """\
block: own
description: A block of the project's own
args: {filters: 8}
layers:
  - {conv: conv1, filters: filters, kernel: 3}
  - {norm: bn1}
  - {act: act1}
"""
CHILD = "name: child\ndescription: Extends net\nextends: ../net.yaml\nclasses: 5\n"


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a"]
    isolated = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(
        ["git", *identity, *words],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, **isolated},
    )


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--message", "a")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two specs and a block, once committed; the working folder."""
    folder = tmp_path / "repository"
    (folder / "blocks").mkdir(parents=True)
    (folder / "more").mkdir()
    (folder / "net.yaml").write_text(NET)
    (folder / "blocks" / "own.yaml").write_text(OWN)
    (folder / "more" / "child.yaml").write_text(CHILD)
    (folder / "more" / "blocks").mkdir()
    (folder / "more" / "blocks" / "own.yaml").write_text(OWN)
    (folder / "resnet-spec.toml").write_text('[[compile]]\nspecs = ["*.yaml", "more/*.yaml"]\n')
    git(folder, "init")
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def diff(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the verb; gives its exit code and what it printed as JSON, or else its messages."""

    def run(*words: str) -> tuple[int, Any]:
        code = cli.main(["diff", *words, "--format", "json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else printed.err

    return run


def test_nothing_changed(repository: Path, diff: Any) -> None:
    code, found = diff("net.yaml", "--against", "HEAD", "--fail-on", "checkpoints-load")
    assert (code, found["class"], found["added"]) == (0, "same-function", [])
    assert found["comparisons"][0]["old"]["path"] == "HEAD:net.yaml"


@pytest.mark.parametrize("where", [".", "more", "blocks"])
def test_from_any_folder(
    where: str, repository: Path, diff: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "net.yaml").write_text(NET.replace("filters: 8", "filters: 16"))
    monkeypatch.chdir(repository / where)
    name = os.path.relpath(repository / "net.yaml")
    assert diff(name, "--against", "HEAD")[1]["class"] == "break"


def test_a_block_that_changed(repository: Path, diff: Any) -> None:
    """The spec is as it was; what it is made of is not."""
    (repository / "blocks" / "own.yaml").write_text(OWN.replace("{act:", "{silu:"))
    code, found = diff("net.yaml", "--against", "HEAD", "--fail-on", "checkpoints-load")
    assert (code, found["class"]) == (1, "checkpoints-load")
    assert [each["rule"] for each in found["comparisons"][0]["changes"]] == ["activation"]


def test_a_block_that_is_gone(repository: Path, diff: Any) -> None:
    (repository / "blocks" / "own.yaml").unlink()
    (repository / "net.yaml").write_text(NET.replace("block: own", "block: basic"))
    assert diff("net.yaml", "--against", "HEAD")[1]["class"] == "load-in-part"


def test_what_a_spec_extends(repository: Path, diff: Any) -> None:
    (repository / "net.yaml").write_text(NET.replace("head:", "head:\n  - {act: last}"))
    found = diff("more/child.yaml", "--against", "HEAD")[1]
    assert found["class"] == "checkpoints-load"
    assert [each["rule"] for each in found["comparisons"][0]["changes"]] == ["layer-added"]


def test_without_specs_those_of_the_settings(repository: Path, diff: Any) -> None:
    found = diff("--against", "HEAD")[1]
    names = [each["new"]["name"] for each in found["comparisons"]]
    assert (names, found["class"]) == (["net", "child"], "same-function")


def test_a_new_spec(repository: Path, diff: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "other.yaml").write_text(NET.replace("name: net", "name: other"))
    code, found = diff("other.yaml", "--against", "HEAD", "--fail-on", "checkpoints-load")
    assert (code, found["class"], found["added"]) == (0, None, ["other.yaml"])
    assert cli.main(["diff", "other.yaml", "--against", "HEAD"]) == 0
    assert capsys.readouterr().out == "other.yaml is not in HEAD: new, with 322 parameters\n"


# --- what fails is told --------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["text", "json", "github", "markdown"])
@pytest.mark.parametrize("broken", ["old", "new", "both"])
def test_a_spec_that_cannot_be_read(
    broken: str, style: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never the words of a change without an effect, and never the exit code."""
    (repository / "net.yaml").write_text(NET.replace("own", "nothing"))
    if broken != "new":
        commit(repository)
    if broken == "old":
        (repository / "net.yaml").write_text(NET)
    code = cli.main(["diff", "net.yaml", "--against", "HEAD", "--format", style])
    printed = capsys.readouterr()
    assert code == 1
    text = printed.out + printed.err
    assert "nothing" in text
    assert ("HEAD:net.yaml" in text or "HEAD%3Anet.yaml" in text) == (broken != "new")
    assert "same" not in printed.out
    if style == "json":
        assert json.loads(printed.out)["class"] is None
    if style == "markdown":
        assert "1 comparison failed" in printed.out


@pytest.mark.parametrize(
    "revision",
    [
        "nothing",
        "",
        " ",
        "--help",
        "-n1",
        "HEAD\n",
        "HEAD:net.yaml",
        "$(touch a)",
        "HEAD;touch a",
        "\x1b",
    ],
)
def test_no_revision(revision: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(os.listdir(repository))
    assert cli.main(["diff", "net.yaml", f"--against={revision}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: there is no revision ")
    assert sorted(os.listdir(repository)) == before


def test_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "net.yaml").write_text(NET.replace("own", "basic"))
    assert cli.main(["diff", "net.yaml", "--against", "HEAD"]) == 2
    assert "is in no git repository" in capsys.readouterr().err


def test_no_git(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert cli.main(["diff", "net.yaml", "--against", "HEAD"]) == 2
    assert capsys.readouterr().err == "error: git is not installed\n"


@pytest.mark.parametrize("part", ["blob", "tree"])
def test_objects_that_are_missing(part: str, repository: Path, capsys: Any) -> None:
    """As in a partial clone: a file that git lacks is not one that was not there."""
    name = "HEAD:net.yaml" if part == "blob" else "HEAD:blocks"
    words = ["git", "rev-parse", name]
    number = subprocess.run(
        words, cwd=repository, check=True, capture_output=True, text=True
    ).stdout
    (repository / ".git" / "objects" / number[:2] / number[2:].strip()).unlink()
    code = cli.main(["diff", "net.yaml", "--against", "HEAD"])
    printed = capsys.readouterr()
    assert code in (1, 2)
    assert printed.out == ""
    assert "may be a partial one" in printed.err


# --- what is not read ----------------------------------------------------------------------------


def test_a_link_is_not_followed(repository: Path, capsys: Any) -> None:
    (repository.parent / "secret.yaml").write_text(NET)
    (repository / "link.yaml").symlink_to("../secret.yaml")
    commit(repository)
    (repository / "link.yaml").unlink()
    (repository / "link.yaml").write_text(NET.replace("own", "basic"))
    assert cli.main(["diff", "link.yaml", "--against", "HEAD"]) == 1
    assert "it is a link, which is not followed at a revision" in capsys.readouterr().err


def test_nothing_outside_of_the_repository(repository: Path, capsys: Any) -> None:
    """Of the past neither, whose files could have named what lies on the disk."""
    (repository.parent / "secret.yaml").write_text(NET)
    child = repository / "more" / "child.yaml"
    child.write_text(CHILD.replace("../net.yaml", "../../secret.yaml"))
    commit(repository)
    child.write_text(CHILD)
    assert cli.main(["diff", "more/child.yaml", "--against", "HEAD"]) == 1
    assert "'../../secret.yaml' is outside the project" in capsys.readouterr().err


def test_nothing_outside_of_the_project(repository: Path, capsys: Any) -> None:
    """The reach of a spec is its project then as it is now."""
    (repository / "resnet-spec.toml").unlink()
    (repository / "more" / "resnet-spec.toml").write_text("")
    commit(repository)
    (repository / "more" / "child.yaml").write_text(NET.replace("own", "basic"))
    assert cli.main(["diff", "more/child.yaml", "--against", "HEAD"]) == 1
    assert "'../net.yaml' is outside the project" in capsys.readouterr().err


def test_what_the_repository_configures_does_not_run(repository: Path, diff: Any) -> None:
    """Its configuration and attributes name programs that other commands of git would start."""
    program = repository / "program"
    program.write_text("#!/bin/sh\ntouch ../ran\ncat\n")
    program.chmod(0o755)
    for key in (
        "core.pager",
        "core.fsmonitor",
        "diff.a.textconv",
        "filter.a.smudge",
        "core.editor",
    ):
        git(repository, "config", key, str(program))
    for key in ("rev-parse", "ls-tree", "cat-file"):
        git(repository, "config", f"alias.{key}", f"!{program}")
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        hook = repository / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(program.read_text())
        hook.chmod(0o755)
    (repository / ".git" / "info" / "attributes").write_text("* diff=a filter=a\n")
    assert diff("net.yaml", "--against", "HEAD")[1]["class"] == "same-function"
    assert not (repository.parent / "ran").exists()


def test_what_a_hook_sets_leads_nowhere_else(
    repository: Path, diff: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert diff("net.yaml", "--against", "HEAD")[1]["class"] == "same-function"


def test_replaced_objects_are_not_taken(repository: Path, diff: Any) -> None:
    """A repository can say that one object stands for another; the commit does not."""
    (repository / "net.yaml").write_text(NET.replace("classes: 10", "classes: 7"))
    words = ["git", "hash-object", "-w", "net.yaml"]
    made = subprocess.run(words, cwd=repository, check=True, capture_output=True, text=True).stdout
    git(repository, "replace", "HEAD:net.yaml", made.strip())
    assert diff("net.yaml", "--against", "HEAD")[1]["class"] == "load-in-part"


def test_a_large_file(repository: Path, capsys: Any) -> None:
    (repository / "net.yaml").write_text(NET + "#" * 1_100_000)
    commit(repository)
    (repository / "net.yaml").write_text(NET)
    assert cli.main(["diff", "net.yaml", "--against", "HEAD"]) == 1
    assert "file too large" in capsys.readouterr().err


# --- the files of a revision ---------------------------------------------------------------------


def test_files(repository: Path) -> None:
    (repository / "net.yaml").unlink()
    (repository / "new.yaml").write_text(NET)
    files = Revision(repository / "more", "HEAD", builtin_folder())
    root = Path(os.path.realpath(repository))
    assert files.read(root / "net.yaml", 10_000) == NET.encode()
    assert files.names(root / "blocks") == ["own.yaml"]
    assert files.names(root / "nothing") == []
    assert files.is_file(root / "more" / ".." / "net.yaml")
    assert not files.exists(root / "new.yaml")
    assert not files.exists(root / "net.yaml" / "below")
    assert files.is_folder(root) and files.is_folder(root / "more")
    assert not files.exists(root.parent / "repository2") and not files.exists(root.parent)
    with pytest.raises(FileNotFoundError):
        files.read(root.parent / "secret.yaml", 10)
    block = builtin_folder() / "blocks" / "basic.yaml"
    assert files.is_file(block) and files.read(block, 10_000) == block.read_bytes()


def test_git_that_cannot_be_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = repository / "bin" / "git"
    program.parent.mkdir()
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(RevisionError, match="git can't be run"):
        Revision(repository, "HEAD", builtin_folder())
