"""Comparing with the disk and writing: atomic, only what changed, never outside or over others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from resnet_spec.codegen import header
from resnet_spec.project import files
from resnet_spec.project.files import Entry, OutputError

NET = PurePosixPath("torch/net.py")
OTHER = PurePosixPath("keras/net.py")


def ours(body: str) -> str:
    """A text as a backend makes it."""
    lines = [
        f"# {line}" for line in header.lines("specs/net.yaml", "0" * 64, "resnet-spec compile")
    ]
    return header.seal("\n".join([*lines, body, ""]))


def one(folder: Path, text: str) -> Entry:
    (entry,) = files.plan(folder, {NET: text}, "out")
    return entry


def codes(error: OutputError) -> list[str]:
    return [found.code for found in error.diagnostics]


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_each_status(tmp_path: Path) -> None:
    text, path = ours("x = 1"), tmp_path / NET
    assert one(tmp_path, text).status == "missing"
    path.parent.mkdir()
    for content, status in (
        (text, "identical"),
        (text.replace("\n", "\r\n"), "identical"),
        (ours("x = 2"), "stale"),
        (ours("x = 2").replace("x = 2", "x = 3"), "edited"),
        ("x = 1\n", "foreign"),
        ("", "foreign"),
    ):
        path.write_bytes(content.encode())
        assert one(tmp_path, text).status == status, content
    path.write_bytes(b"\xff\xfe")
    assert one(tmp_path, text).status == "foreign"


def test_writes_only_what_changed(tmp_path: Path) -> None:
    wanted = {NET: ours("x = 1"), OTHER: ours("y = 1")}
    assert files.write(files.plan(tmp_path / "out", wanted, "out")) == 2
    before = {path: (tmp_path / "out" / path).stat() for path in wanted}
    wanted[OTHER] = ours("y = 2")
    assert files.write(files.plan(tmp_path / "out", wanted, "out")) == 1
    after = {path: (tmp_path / "out" / path).stat() for path in wanted}
    assert after[NET].st_mtime_ns == before[NET].st_mtime_ns
    assert after[NET].st_ino == before[NET].st_ino
    assert (tmp_path / "out" / OTHER).read_bytes() == wanted[OTHER].encode()
    assert everything(tmp_path / "out") == ["keras", "keras/net.py", "torch", "torch/net.py"]


def test_keeps_the_mode_of_a_file(tmp_path: Path) -> None:
    files.write([one(tmp_path, ours("x = 1"))])
    (tmp_path / NET).chmod(0o640)
    files.write([one(tmp_path, ours("x = 2"))])
    assert stat.S_IMODE((tmp_path / NET).stat().st_mode) == 0o640


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    files.write([one(tmp_path, ours("x = 1"))])
    assert (tmp_path / NET).stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_refuses_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / NET).write_text("x = 1\n")
    entry = one(tmp_path, ours("x = 1"))
    assert [found.code for found in files.refusals([entry])] == ["RS602"]
    (tmp_path / NET).write_text(ours("x = 2") + "# mine\n")
    entry = one(tmp_path, ours("x = 1"))
    (found,) = files.refusals([entry])
    assert (found.code, found.message) == ("RS603", "'out/torch/net.py' was edited by hand")
    (tmp_path / NET).write_text(ours("x = 2"))
    assert files.refusals([one(tmp_path, ours("x = 1"))]) == []


@pytest.mark.parametrize(
    "name", ["../net.py", "/net.py", "torch/../../net.py", "a\\..\\net.py", "."]
)
def test_a_path_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError) as caught:
        files.plan(tmp_path / "out", {PurePosixPath(name): "x"}, "out")
    assert codes(caught.value) == ["RS604"]
    assert everything(tmp_path) == []


def test_a_symbolic_link_to_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "torch").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError) as caught:
        one(tmp_path / "out", ours("x = 1"))
    assert codes(caught.value) == ["RS604"]
    assert everything(tmp_path / "elsewhere") == []


def test_the_output_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    files.write([one(tmp_path / "out", ours("x = 1"))])
    assert everything(tmp_path / "elsewhere") == ["torch", "torch/net.py"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_linked_file_is_never_written_through(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "mine.py"
    if exists:
        target.write_text(ours("x = 2"))
    (tmp_path / "torch").mkdir()
    (tmp_path / NET).symlink_to(target)
    entry = one(tmp_path, ours("x = 1"))
    assert entry.status == "foreign"
    files.write([entry])  # as --force does
    assert not (tmp_path / NET).is_symlink()
    assert (tmp_path / NET).read_text() == ours("x = 1")
    assert target.exists() == exists
    assert not exists or target.read_text() == ours("x = 2")


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / NET).mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        one(tmp_path, "x")
    assert codes(caught.value) == ["RS605"]


@pytest.mark.parametrize("place", ["out", "out/torch"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    with pytest.raises(OutputError) as caught:
        one(tmp_path / "out", "x")
    assert codes(caught.value) == ["RS605"]


def test_all_obstacles_are_told(tmp_path: Path) -> None:
    (tmp_path / NET).mkdir(parents=True)
    (tmp_path / OTHER).mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        files.plan(tmp_path, {NET: "x", OTHER: "x"}, "out")
    assert codes(caught.value) == ["RS605", "RS605"]


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """The second file is larger than the process may write: the first stays as it was too."""
    first, second = PurePosixPath("a.py"), PurePosixPath("new/b.py")
    (tmp_path / first).write_text(ours("old"))
    script = f"""
import resource, sys
from pathlib import Path, PurePosixPath
from resnet_spec.project import files
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
wanted = {{PurePosixPath("a.py"): "small", PurePosixPath("new/b.py"): "x" * 10000}}
try:
    files.write(files.plan(Path({str(tmp_path)!r}), wanted, "out"))
except files.OutputError as error:
    print(error.diagnostics[0].code, error.diagnostics[0].message)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == f"RS601 cannot write 'out/{second}': file too large\n"
    assert everything(tmp_path) == ["a.py"]
    assert (tmp_path / first).read_text() == ours("old")


@pytest.mark.parametrize("interrupt", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_between_two_moves_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: BaseException
) -> None:
    files.write(files.plan(tmp_path, {OTHER: ours("1"), NET: ours("1")}, "out"))
    replace, calls = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise interrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        files.write(files.plan(tmp_path, {OTHER: ours("2"), NET: ours("2")}, "out"))
    assert (tmp_path / OTHER).read_text() == ours("2")
    assert (tmp_path / NET).read_text() == ours("1")
    assert everything(tmp_path) == ["keras", "keras/net.py", "torch", "torch/net.py"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    entry = one(tmp_path / "out", ours("x"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError) as caught:
        files.write([entry])
    (found,) = caught.value.diagnostics
    assert found.code == "RS601"
    assert found.message == "cannot write 'out/torch/net.py': read-only file system"
    assert everything(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError) as caught:
            files.write([one(tmp_path, ours("x"))])
    finally:
        tmp_path.chmod(0o700)
    assert codes(caught.value) == ["RS601"]


def test_orphans_are_ours_alone(tmp_path: Path) -> None:
    files.write(
        files.plan(tmp_path, {NET: ours("1"), PurePosixPath("torch/old.py"): ours("2")}, "o")
    )
    (tmp_path / "torch" / "mine.py").write_text("x = 1\n")
    (tmp_path / "torch" / "edited.py").write_text(ours("3") + "more\n")
    (tmp_path / "torch" / "link.py").symlink_to(tmp_path / "torch" / "old.py")
    (tmp_path / "torch" / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old.py").write_text(ours("4"))
    found = files.orphans(tmp_path, ["torch", "keras"], [NET], "o")
    assert [(entry.shown, entry.status) for entry in found] == [
        ("o/torch/edited.py", "orphaned"),
        ("o/torch/old.py", "orphaned"),
    ]
    assert files.write(found) == 0
    assert (tmp_path / "torch" / "old.py").exists()


def test_difference(tmp_path: Path) -> None:
    assert files.difference(one(tmp_path, "new\n")) == (
        "--- /dev/null\n+++ b/out/torch/net.py\n@@ -0,0 +1 @@\n+new\n"
    )
    (tmp_path / "torch").mkdir()
    (tmp_path / NET).write_text("same\nold")
    assert files.difference(one(tmp_path, "same\nnew\n")) == (
        "--- a/out/torch/net.py\n+++ b/out/torch/net.py\n@@ -1,2 +1,2 @@\n same\n-old\n"
        "\\ No newline at end of file\n+new\n"
    )
    assert files.difference(one(tmp_path, "same\nold")) == ""


def test_create_never_replaces(tmp_path: Path) -> None:
    files.create(tmp_path / "a.yaml", "one\n", "a.yaml")
    with pytest.raises(OutputError) as caught:
        files.create(tmp_path / "a.yaml", "two\n", "a.yaml")
    assert codes(caught.value) == ["RS602"]
    assert (tmp_path / "a.yaml").read_text() == "one\n"
    with pytest.raises(OutputError) as caught:
        files.create(tmp_path / "none" / "a.yaml", "two\n", "a.yaml")
    assert codes(caught.value) == ["RS601"]
