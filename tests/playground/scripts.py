"""Runs the playground's scripts by Node, and knows where its built page lies."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "playground" / "source"
BUILT = ROOT / "build" / "playground"


def evaluated(module: str, expression: str, value: object) -> Any:
    """What an expression of a module's names gives for `value`, as JSON; it may be a promise."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    names = (SOURCE / f"{module}.js").as_uri()
    script = f"""
        import * as module from {json.dumps(names)};
        import {{ readFileSync }} from "node:fs";
        const value = JSON.parse(readFileSync(0, "utf8"));
        const found = await ({expression});
        process.stdout.write(JSON.stringify(found) ?? "null");
    """
    words = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(
        words, input=json.dumps(value), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def built() -> Path:
    """The page's folder; without it the test is skipped."""
    if not (BUILT / "index.html").is_file():
        pytest.skip("the playground is not built: make playground")
    return BUILT
