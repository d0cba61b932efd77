"""Every file of the zoo: its style, and its digest, so that a change of it is seen and meant."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import parity
import zoo_record

from resnet_spec.codegen.generate import generate
from resnet_spec.language.library import builtin_specs

LOCK = Path(__file__).parent / "data" / "zoo.lock.json"


@functools.cache
def files() -> dict[str, str]:
    """Every file that the built-in specs compile to."""
    return {
        str(path): text
        for name in builtin_specs()
        for path, text in generate(
            parity.network_of(name), zoo_record.BACKENDS, with_training=False
        ).items()
    }


def test_ruff_has_nothing_to_say() -> None:
    texts = {path.removesuffix(".py").replace("/", "_"): text for path, text in files().items()}

    assert parity.complaints(texts) == ""


def digest(text: str) -> str:
    """Of a file, without the header that names its spec's hash."""
    return hashlib.sha256(text.split('"""', 1)[1].encode()).hexdigest()[:16]


def test_lock_is_current(update_goldens: bool) -> None:
    made = {path: digest(text) for path, text in sorted(files().items())}
    if update_goldens:
        LOCK.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(LOCK.read_text(encoding="utf-8"))
    changed = sorted(
        path for path in made.keys() | stored.keys() if made.get(path) != stored.get(path)
    )

    assert not changed, (
        "read the changed files, then run: pytest tests/published/test_zoo_lock.py --update-goldens"
    )
