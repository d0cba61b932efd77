"""Runs the compiler in a workflow: `python -I run.py`, told by MODE, SPECS, AGAINST and FAIL_ON.

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
MODES = {
    "check": ("compile", "--format", "github", "--check", "--diff"),
    "compile": ("compile", "--format", "github"),
    "diff": ("diff", "--format", "markdown"),
}
CLASSES = ("same-function", "checkpoints-load", "load-in-part", "break")
MARK = "<!-- resnet-spec diff -->"  # by which a workflow finds the comment that it wrote before
MAX_SUMMARY = 900_000  # bytes, of the 1 MiB that a step's summary may have
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
        return refuse("mode must be check, compile or diff", mode)
    specs = os.environ.get("SPECS", "").split()
    words = [*MODES[mode]]
    if mode == "diff":
        against, limit = os.environ.get("AGAINST", ""), os.environ.get("FAIL_ON", "")
        if not against:
            return refuse("against must name a revision", against)
        if limit and limit not in CLASSES:
            return refuse(f"fail-on must be one of {', '.join(CLASSES)}", limit)
        words += [f"--against={against}", *([f"--fail-on={limit}"] if limit else [])]
    command = [sys.executable, "-I", "-X", "utf8", "-c", _START, str(ROOT), *words, "--", *specs]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        check=False,
    )
    if mode == "diff":
        keep(done.stdout)
    tell(done.stdout, done.stderr)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def refuse(message: str, value: str) -> int:
    print(f"::error::{message}, not {ascii(value)[:80].replace('%', '%25')}")
    return 2


def keep(report: str) -> None:
    """Put a report into the job's summary, and into a file that a comment can be made of."""
    text = report.rstrip("\n") or "Nothing could be compared: the log says why."
    data = f"{MARK}\n{text}\n".encode()
    if len(data) > MAX_SUMMARY:
        data = data[:MAX_SUMMARY].rsplit(b"\n### ", 1)[0] + b"\n\nThe log has the rest.\n"
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "ab") as file:
            file.write(data)
    folder, outputs = os.environ.get("RUNNER_TEMP"), os.environ.get("GITHUB_OUTPUT")
    if folder and outputs:
        path = Path(folder, "resnet-spec-diff.md")
        path.write_bytes(data)
        with open(outputs, "a", encoding="utf-8") as file:
            file.write(f"report={path}\n")


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
