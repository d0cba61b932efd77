"""The types of generated code are right, with those of the framework read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import parity
import pytest

SPECS = ("resnet50", *sorted(str(path) for path in parity.SPECS.glob("*.yaml")))
STRICT = ("--strict", "--no-warn-return-any", "--config-file=")


@pytest.mark.parametrize(
    ("backend", "flags"),
    [
        pytest.param("torch", (), marks=pytest.mark.torch),
        # Flax gives no types to `nnx.Module.train`.
        pytest.param("flax", ("--allow-untyped-calls",), marks=pytest.mark.flax),
    ],
    ids=["torch", "flax"],
)
def test_mypy_has_nothing_to_say(
    backend: str, flags: tuple[str, ...], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    for spec in SPECS:
        text = parity.source_of(parity.network_of(spec), backend)
        (tmp_path / f"{Path(spec).stem}_generated.py").write_text(text)
    cache = str(pytestconfig.rootpath / ".mypy_cache" / backend)  # that of make types
    command = [sys.executable, "-m", "mypy", *STRICT, *flags, "--cache-dir", cache, "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
