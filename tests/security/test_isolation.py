"""No Python of the working folder runs, whatever is imported from whatever process."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import yaml

from resnet_spec.verify import isolated

SPEC = """\
spec_version: 1
name: net
description: A small net
input: {height: 32, width: 32}
stages: [{name: layer1, block: basic, filters: 8}]
"""
# A file of weights without a tensor that fits: it is opened, and told to be short.
EMPTY = (2).to_bytes(8, "little") + b"{}" + b" " * 8
VERBS = {
    "compile": (["compile", "net.yaml"], 0),
    "compile --check --diff": (["compile", "net.yaml", "--out", "none", "--check", "--diff"], 1),
    "check": (["check", "."], 0),
    "show": (["show", "net.yaml", "--resolved"], 0),
    "draw": (["draw", "net.yaml", "--stdout"], 0),
    "report": (["report", "net.yaml", "--stdout"], 0),
    "list": (["list", "resnet1*"], 0),
    "weights": (["weights", "inspect", "net.safetensors", "net.yaml"], 1),
    "explain": (["explain", "RS101"], 0),
    "schema": (["schema", "block"], 0),
    "init": (["init", "other.yaml"], 0),
}
MARKER = "imported"


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec beside a module of every name that may be imported: each tells that it ran."""
    folder = tmp_path_factory.mktemp("poisoned")
    installed = importlib.metadata.packages_distributions()
    names = {*sys.stdlib_module_names, *installed, "sitecustomize", "usercustomize"}
    names |= {"torch", "keras", "tensorflow", "jax", "numpy", "resnet_spec", "tomli", "colorama"}
    for name in names:
        if name.isidentifier():
            text = f"with open({str(folder / MARKER)!r}, 'a') as file:\n    file.write('{name} ')\n"
            (folder / f"{name}.py").write_text(text)
    (folder / "net.yaml").write_text(SPEC)
    (folder / "net.safetensors").write_bytes(EMPTY)
    (folder / "resnet-spec.toml").write_text('[[compile]]\nspecs = ["net.yaml"]\n')
    return folder


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    return processes.installed(tmp_path / "bin")


def told(folder: Path) -> str:
    """Which modules of the folder ran; forgotten afterwards."""
    marker = folder / MARKER
    found = marker.read_text() if marker.exists() else ""
    marker.unlink(missing_ok=True)
    return found


def assert_runs_alone(words: list[str], code: int, folder: Path) -> None:
    done = processes.run(words, folder)
    (folder / "other.yaml").unlink(missing_ok=True)
    assert (told(folder), done.returncode) == ("", code), done.stdout + done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_imports_nothing_of_the_working_folder(
    verb: str, poisoned: Path, program: list[str]
) -> None:
    arguments, code = VERBS[verb]
    assert_runs_alone([*program, *arguments], code, poisoned)


def test_the_package_as_a_module(poisoned: Path) -> None:
    """`-m` itself puts the working folder first; a package of that name there is the user's."""
    (poisoned / "resnet_spec.py").rename(poisoned / "resnet_spec.txt")
    try:
        words = [sys.executable, "-m", "resnet_spec", "compile", "net.yaml"]
        assert_runs_alone(words, 0, poisoned)
    finally:
        (poisoned / "resnet_spec.txt").rename(poisoned / "resnet_spec.py")


def test_the_folder_is_poisoned(poisoned: Path) -> None:
    """What Python does by itself there: without this, the tests above could not fail."""
    done = processes.run([sys.executable, "-m", "json.tool"], poisoned, text="{}")
    assert done.returncode != 0
    assert told(poisoned).startswith("json")


def hooks() -> list[str]:
    file = processes.ROOT / ".pre-commit-hooks.yaml"
    return [hook["entry"] for hook in yaml.safe_load(file.read_text())]


@pytest.mark.parametrize("entry", hooks())
def test_a_hook_imports_nothing_of_the_working_folder(
    entry: str, poisoned: Path, program: list[str]
) -> None:
    name, *arguments = shlex.split(entry)
    assert name == "resnet-spec"  # the installed script, whose folder is not the repository
    processes.run([*program, "compile"], poisoned)
    told(poisoned)
    assert_runs_alone([*program, *arguments], 0, poisoned)


PROBE = """
import json, sys
import numpy, yaml
from resnet_spec.verify import plan, worker
print(json.dumps([sys.argv[1:], plan.__file__, worker.__file__]))
"""


def test_a_worker_of_verify_imports_nothing_of_the_working_folder(
    poisoned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started from within the folder, which stands on the path of the one who starts it, too."""
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.chdir(poisoned)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(poisoned)
    words = isolated.command("probe", ["torch"])
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=processes.PATIENCE, check=False
    )
    assert told(poisoned) == ""
    assert done.returncode == 0, done.stderr
    files = [str(isolated.PACKAGE / "verify" / name) for name in ("plan.py", "worker.py")]
    assert json.loads(done.stdout) == [["torch"], *files]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.keras
def test_verify_imports_nothing_of_the_working_folder(poisoned: Path, program: list[str]) -> None:
    assert_runs_alone([*program, "verify", "net.yaml"], 0, poisoned)
