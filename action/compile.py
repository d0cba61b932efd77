"""Runs the compiler in a workflow: `python -I compile.py`, told by MODE and SPECS.

What it prints may hold what strangers wrote. So the runner is told to follow no commands in it; the
annotations, which the compiler makes, come after that, each of a form that is checked here.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODES = {"check": ("--check", "--diff"), "compile": ()}
# The package is found last, so that nothing in its folder stands for another module.
_START = """
import sys
sys.path.append(sys.argv.pop(1))
from resnet_spec.cli import program
program()
"""
_PROPERTIES = r"(?:file=[^:,\n]*,line=\d+,col=\d+(?:,endColumn=\d+)?,)?title=RS\d+"
ANNOTATION = re.compile(rf"::error {_PROPERTIES}::[^\n]*")


def main() -> int:
    mode = os.environ.get("MODE", "check")
    if mode not in MODES:
        print(f"::error::mode must be check or compile, not {ascii(mode)[:80].replace('%', '%25')}")
        return 2
    specs = os.environ.get("SPECS", "").split()
    words = ["compile", "--format", "github", *MODES[mode], "--", *specs]
    command = [sys.executable, "-I", "-X", "utf8", "-c", _START, str(ROOT), *words]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        check=False,
    )
    tell(done.stdout, done.stderr)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def tell(output: str, messages: str) -> None:
    """Print both, with nothing followed but the annotations among the messages."""
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    lines = messages.split("\n")
    annotations = [line for line in lines if ANNOTATION.fullmatch(line)]
    others = [line for line in lines if line and not ANNOTATION.fullmatch(line)]
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}")
    for text in (output.rstrip("\n"), *others):
        if text:
            print(text)
    print(f"::{token}::", *annotations, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
