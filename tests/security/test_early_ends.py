"""A process of `verify` that dies early is an ordinary finding, with its own last words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
    "silence": ("the process answers no more", "last words of torch"),
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
    how: str, early: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    early(how)
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
        processes = [asked[name].process for name in asked]
        for name in asked:
            asked[name].ask("versions")
        raise KeyboardInterrupt
    assert [process.poll() is None for process in processes] == [False, False]
