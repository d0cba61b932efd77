"""A digest of every file of the zoo, so that a change of any output is seen and meant."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import parity
import pytest

from resnet_spec.generate import generate
from resnet_spec.library import builtin_specs

LOCK = Path(__file__).parent / "data" / "zoo.lock.json"


def digests() -> dict[str, str]:
    """For each file that the built-in specs compile to, the digest of what follows its header."""
    found = {}
    for name in builtin_specs():
        for path, text in generate(parity.network_of(name), ["torch", "keras"]).items():
            body = text.split('"""', 1)[1]
            found[str(path)] = hashlib.sha256(body.encode()).hexdigest()[:16]
    return dict(sorted(found.items()))


def test_lock_is_current(request: pytest.FixtureRequest) -> None:
    made = digests()
    if request.config.getoption("--update-goldens"):
        LOCK.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(LOCK.read_text(encoding="utf-8"))
    changed = sorted(
        path for path in made.keys() | stored.keys() if made.get(path) != stored.get(path)
    )

    assert not changed, (
        "read the changed files, then run: pytest tests/test_zoo_lock.py --update-goldens"
    )
