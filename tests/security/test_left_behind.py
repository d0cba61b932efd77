"""A run that is ended leaves whole files and nothing else, or the next run removes what it left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import processes
import pytest

from resnet_spec import cli
from resnet_spec.disk import temporaries
from resnet_spec.verify.session import scratch

NET = """\
spec_version: 1
name: net
description: A net
input: {{height: 32, width: 32}}
stages: [{{name: layer1, block: basic, filters: {filters}}}]
"""
SETTINGS = '[[compile]]\nspecs = ["net.yaml"]\nbackends = ["json", "torch"]\n'
COMMANDS = {
    "compile": ["compile"],
    "init": ["init", "new.yaml"],
    "weights": ["weights", "convert", "in.safetensors", "net.yaml", "--out", "out.safetensors",
                "--force"],
    "import": ["import", "model.keras", "--out", "model.yaml", "--weights", "out.safetensors",
               "--force", "--no-library"],
}  # fmt: skip
MODEL = Path(__file__).parents[1] / "importing" / "data" / "keras2.keras"
ENDS = {"SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP, "SIGKILL": signal.SIGKILL}


def listing(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_weights(folder: Path) -> None:
    import numpy

    from resnet_spec import read_network
    from resnet_spec.weights import formats
    from resnet_spec.weights.entries import entries

    network = read_network(str(folder / "net.yaml"))
    state = {
        name: numpy.zeros(entry.parameter.shape, "float32")
        for name, entry in entries(network).items()
    }
    formats.write(folder / "in.safetensors", "in.safetensors", network, state)
    (folder / "out.safetensors").write_bytes(b"what was there before")


@pytest.fixture(params=COMMANDS)
def command(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A command, and what is there before it: files of an older spec."""
    folder = tmp_path / "before"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "resnet-spec.toml").write_text(SETTINGS)
    (folder / "net.yaml").write_text(NET.format(filters=8))
    assert cli.main(["compile"]) == 0
    if request.param == "weights":
        pytest.importorskip("safetensors")
        write_weights(folder)
    elif request.param == "import":
        for package in ("safetensors", "h5py"):
            pytest.importorskip(package)
        shutil.copy(MODEL, folder / "model.keras")
        (folder / "out.safetensors").write_bytes(b"what was there before")
        # As where no framework is installed: what is tried is how files are written.
        monkeypatch.setattr("resnet_spec.importing.proof.installed", lambda package: False)
    else:
        (folder / "net.yaml").write_text(NET.format(filters=16))
    return COMMANDS[request.param]


def ended_everywhere(folder: Path, number: str, words: list[str]) -> list[int]:
    script = str(Path(__file__).parent / "killed.py")
    done = processes.run([sys.executable, script, str(folder), number, *words], folder)
    codes = [int(line) for line in done.stdout.split()]
    assert codes[-1] == 0, done.stderr
    assert len(codes) > 4  # it was ended somewhere
    return codes


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.slow)])
def test_a_run_that_is_told_to_end_leaves_nothing(
    name: str, command: list[str], tmp_path: Path
) -> None:
    *codes, _ = ended_everywhere(tmp_path, name, command)
    assert set(codes) == {128 + ENDS[name]}
    before, after = listing(tmp_path / "before"), listing(tmp_path / str(len(codes)))
    for number in range(len(codes)):
        assert_whole(listing(tmp_path / str(number)), before, after)


def assert_whole(
    found: dict[str, bytes], before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    """Each file as it was or as it should be."""
    assert set(before) <= set(found) <= set(after)
    for name, data in found.items():
        assert data in (before.get(name), after[name]), name


def test_the_next_run_mends_what_a_killed_one_left(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    *codes, _ = ended_everywhere(tmp_path, "SIGKILL", command)
    assert set(codes) == {-signal.SIGKILL}
    before, after = listing(tmp_path / "before"), listing(tmp_path / str(len(codes)))
    lefts = 0
    for number in range(len(codes)):
        folder = tmp_path / str(number)
        found = listing(folder)
        left = {name for name in found if temporaries.is_temporary(Path(name).name)}
        lefts += len(left)
        assert_whole({name: found[name] for name in found.keys() - left}, before, after)
        monkeypatch.chdir(folder)
        capsys.readouterr()
        if command[0] == "compile":
            assert_check_knows(left, found, after, capsys)
        assert cli.main(command) in (0, 2 if "new.yaml" in found else 0)
        told = "".join(capsys.readouterr())
        assert told.count("removed what a run left that was killed: .") == len(left)
        assert listing(folder) == after
    assert lefts > 0  # else nothing of this was tried


def assert_check_knows(
    left: set[str], found: dict[str, bytes], after: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole = {name: data for name, data in found.items() if name not in left}
    assert cli.main(["compile", "--check"]) == int(whole != after)
    told = capsys.readouterr().err
    assert "orphaned" not in told
    for name in left:
        assert f"left by a killed run: {Path(name).name}; the next compile" in told


# --- whose temporaries they are ------------------------------------------------------------------


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_only_what_is_left_is_stale(tmp_path: Path) -> None:
    dead, alive = ended_process(), os.getppid()
    ours = temporaries.beside(tmp_path / "a.py")
    files = {
        f".net.py.{dead}-0123abcd.tmp": True,
        f".net.{dead}-0123abcd.tmp.weights.h5": True,
        f".net.py.{os.getpid()}-0123abcd.tmp": True,  # of another container
        f".net.py.{alive}-0123abcd.tmp": False,
        ours.name: False,
        f".net.py.{dead}-0123abc.tmp": False,
        f"net.py.{dead}-0123abcd.tmp": False,
        ".net.py.tmp": False,
    }
    for name in files:
        (tmp_path / name).touch()
    link = tmp_path / f".link.{dead}-0123abcd.tmp"
    link.symlink_to(ours)
    (tmp_path / f".folder.{dead}-0123abcd.tmp").mkdir()
    found = {path.name for path in temporaries.stale([tmp_path, tmp_path, tmp_path / "none"])}
    assert found == {name for name, is_stale in files.items() if is_stale}


def test_a_long_name(tmp_path: Path) -> None:
    path = temporaries.beside(tmp_path / f"{'n' * 250}.yaml", ".weights.h5")
    path.touch()
    assert temporaries.is_temporary(path.name)


def test_folders_of_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive = ended_process(), os.getppid()
    kept = [f"resnet-spec-verify-{alive}-abc", f"other-{dead}-abc", "resnet-spec-verify-abc"]
    for name in (*kept, f"resnet-spec-verify-{dead}-abc"):
        (tmp_path / name / "0").mkdir(parents=True)
    elsewhere = tmp_path / f"resnet-spec-verify-{dead}-link"
    elsewhere.symlink_to(tmp_path / kept[0])
    with scratch() as folder:
        present = {path.name for path in tmp_path.iterdir()}
        assert present == {*kept, elsewhere.name, folder.name}
    assert not folder.exists()
    assert (tmp_path / kept[0] / "0").is_dir()
