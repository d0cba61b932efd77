"""A process of `verify` that dies early is an ordinary finding, with its own last words."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import processes
import pytest

from resnet_spec import cli
from resnet_spec.cli import verify
from resnet_spec.verify import session
from resnet_spec.verify.session import Session

pytest.importorskip("numpy")

NET = """\
spec_version: 1
name: net
description: A net
input: {height: 32, width: 32}
stages: [{name: layer1, block: basic, filters: 8}]
"""
# What the message says, and what the process printed.
HOW = {
    "exit": ("torch failed to start: the process ended with code 3", "last words of torch"),
    "import": ("the process ended with code 1", "No module named 'a_module_that_is_not_there'"),
    "signal": ("the process was ended by signal 9", "last words of torch"),
    "silence": ("the process no longer answers", "last words of torch"),
    "garbage": ("it answered '::error::no answer'", ""),
    "later": ("net: torch failed to open: the process ended with code 4", "a last words"),
}


@pytest.fixture
def early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the workers end in a way; no framework is needed for that."""
    (tmp_path / "net.yaml").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(session, "WORKER", "early_worker")
    monkeypatch.setattr(session, "PATIENCE", 1)
    monkeypatch.setattr(verify, "_is_installed", lambda module: True)
    return lambda how: monkeypatch.setenv("EARLY", how)


@pytest.mark.parametrize("how", HOW)
def test_an_early_end_is_a_finding(
    how: str,
    early: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early(how)
    if how == "silence":  # one of five processes after another is waited for in vain
        monkeypatch.setattr(session, "PATIENCE", 0.1)
    code = cli.main(["verify", "net.yaml", "--format", "json"])
    captured = capsys.readouterr()
    assert (code, captured.err) == (1, "")
    (found,) = json.loads(captured.out)["diagnostics"]
    message, words = HOW[how]
    assert found["code"] == "RS802"
    assert message in found["message"]
    assert words in found["message"]
    assert len(found["message"]) < 5_000
    assert cli.main(["verify", "net.yaml"]) == 1
    told = capsys.readouterr().err
    assert "error RS802: " in told
    assert message in told
    assert "\x1b" not in told


def test_an_exception_ends_the_workers_at_once(
    early: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever sends SIGTERM waits for what a framework happens to compute."""
    early("sleep")
    monkeypatch.setattr(session, "PATIENCE", 600)
    with pytest.raises(KeyboardInterrupt), Session(["torch", "keras"], "jax") as asked:
        started = [asked[name].process for name in asked]
        for name in asked:
            asked[name].ask("versions")
        raise KeyboardInterrupt
    assert [process.poll() is None for process in started] == [False, False]


_VERIFY = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from resnet_spec.cli import program, verify
from resnet_spec.verify import session
session.WORKER = "early_worker"
verify._is_installed = lambda module: True
program()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_verify_that_is_told_to_end_leaves_no_folder_and_no_process(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = [sys.executable, "-c", _VERIFY, str(Path(__file__).parent), "verify", "net.yaml"]
    env = processes.environment(TMPDIR=str(scratch), EARLY="sleep")
    with subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as started:
        end = time.monotonic() + processes.PATIENCE
        while not list(scratch.iterdir()) or len(children(started.pid)) < 2:
            assert started.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        workers = children(started.pid)
        started.send_signal(signal.Signals[name])
        try:
            code = started.wait(processes.PATIENCE)
        finally:
            started.kill()  # else the block would wait for it, without an end
    assert code == 128 + signal.Signals[name]
    assert list(scratch.iterdir()) == []
    # One that was asked nothing yet ends by itself, at the end of its requests.
    while [worker for worker in workers if Path(f"/proc/{worker}").exists()]:
        assert time.monotonic() < end
        time.sleep(0.05)


def children(process: int) -> list[str]:
    file = Path(f"/proc/{process}/task/{process}/children")
    if not file.exists():
        pytest.skip("this system does not tell the children of a process")
    return file.read_text().split()
