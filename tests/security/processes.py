"""Runs the command as it is installed: as a script of another folder than the working one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import resnet_spec

ROOT = Path(resnet_spec.__file__).parent.parent
_SCRIPT = "import sys\nfrom resnet_spec.cli import program\nsys.exit(program())\n"
# Against hanging alone: each of these runs takes a second or two.
PATIENCE = 120


def environment(**changes: str) -> dict[str, str]:
    """What a process of the tests is given, whatever runs them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def installed(folder: Path) -> list[str]:
    """The words that start the command, whose script is put into a folder."""
    script = folder / "resnet-spec"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_SCRIPT)
    return [sys.executable, str(script)]


def run(
    words: list[str], folder: Path, env: Mapping[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A process that has ended."""
    return subprocess.run(
        words,
        cwd=folder,
        env=environment() if env is None else dict(env),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=PATIENCE,
        check=False,
    )
