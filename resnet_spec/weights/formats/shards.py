"""A file in parts: `model.safetensors.index.json` says which of them holds which tensor.

The parts stand beside it; one in another folder is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import expected, quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.weights import formats
from resnet_spec.weights.checkpoint import MAX_TENSORS, Checkpoint, refused, unreadable

_MAX_BYTES = 400 * MAX_TENSORS
_MAX_PARTS = 1_000


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The tensors of all parts, in the order of the index."""
    owners = _owners(path, shown)
    with ExitStack() as stack:
        parts = {}
        for part in dict.fromkeys(owners.values()):
            name = f"{shown.rpartition('/')[0]}/{part}" if "/" in shown else part
            parts[part] = stack.enter_context(formats.opened(path.with_name(part), name))
        held = {part: {t.name: t for t in each.tensors} for part, each in parts.items()}
        for name, part in owners.items():
            if name not in held[part]:
                message = f"{quoted(part)} lacks {quoted(name)}, which {quoted(shown)} says it has"
                unreadable(shown, message, expected(name, list(held[part]), limit=8))
        tensors = tuple(held[part][name] for name, part in owners.items())
        first = next(iter(parts.values()))
        kind = f"{first.format} in {len(parts):,} parts"
        yield Checkpoint(shown, kind, first.layout, tensors, first.notes)


def _owners(path: Path, shown: str) -> dict[str, str]:
    """The part of each tensor."""
    with open_regular(path) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        refused(shown, f"{quoted(shown)} has more than {_MAX_BYTES:,} bytes, for names alone")
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        unreadable(shown, f"{quoted(shown)} is broken JSON: {str(error).lower()[:200]}")
    owners = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(owners, dict) or not owners:
        unreadable(
            shown,
            f"{quoted(shown)} is JSON, no file of weights: it has no 'weight_map'",
            "an index names the parts of a file; name the file itself where it is whole",
        )
    if len(owners) > MAX_TENSORS:
        refused(shown, f"{quoted(shown)} holds more than {MAX_TENSORS:,} tensors")
    parts = set(map(str, owners.values()))
    for part in sorted(parts):
        if part in ("", ".", "..") or set("/\\\0") & set(part) or part.endswith(".json"):
            refused(shown, f"{quoted(shown)} leads to another place: {quoted(part)}")
    if len(parts) > _MAX_PARTS:
        refused(shown, f"{quoted(shown)} is in more than {_MAX_PARTS:,} parts")
    return {str(name): str(part) for name, part in owners.items()}
