"""PyTorch models: archives of `torch.export` and functions, exported to ONNX by a worker.

PyTorch's own reader of an archive looks names up and evaluates expressions that stand in it. So
an archive is looked through before: it may hold a graph of operators of ATen with fixed sizes and
plain tensors, and nothing else.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import refused, unreadable

_MAX_JSON = 64 << 20  # bytes of one description; a thousand layers have some millions
_MAX_MEMBERS = 100_000
_MAX_BYTES = 1 << 33  # of all members together
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.getitem")


def check_archive(path: Path, shown: str) -> None:
    """Raise RS951 for what is no archive of `torch.export`, RS952 for what is more than data."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS or sum(each.file_size for each in members) > _MAX_BYTES:
                refused(shown, f"{quoted(shown)} would grow beyond all networks")
            names = [each.filename.partition("/")[2] for each in members]
            if not any(re.fullmatch(r"models/[^/]+\.json", name) for name in names):
                unreadable(
                    shown,
                    f"{quoted(shown)} is no archive of torch.export: it has no graph",
                    "save it with torch.export.save(torch.export.export(model, (images,)), path)",
                )
            for member, name in zip(members, names, strict=True):
                if name.endswith(".json"):
                    _check_description(archive, member, shown)
                elif "custom_obj" in name or name.endswith((".so", ".py", ".cpp")):
                    refused(shown, f"{quoted(shown)} holds more than a graph: {quoted(name)}")
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        unreadable(shown, f"{quoted(shown)} is no whole archive: {str(error).lower()[:120]}")


def _check_description(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str) -> None:
    if member.file_size > _MAX_JSON:
        refused(shown, f"{quoted(member.filename)} in {quoted(shown)} is too large")
    try:
        described = json.loads(archive.read(member))
    except (ValueError, RecursionError):
        unreadable(shown, f"{quoted(member.filename)} in {quoted(shown)} is no JSON")
    for each in _mappings(described):
        target = each.get("target")
        if "inputs" in each and isinstance(target, str) and not _OPERATOR.fullmatch(target):
            refused(shown, f"{quoted(shown)} calls {quoted(target)}, no operator of a network")
        if each.get("use_pickle") is True:
            refused(shown, f"{quoted(shown)} holds a pickle, which could run code")
        if "expr_str" in each or each.get("range_constraints"):
            refused(
                shown,
                f"{quoted(shown)} has open sizes, whose expressions PyTorch would evaluate",
                "export it with fixed sizes, or to ONNX",
            )


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within a value."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
