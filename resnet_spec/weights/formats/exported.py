"""Archives of `torch.export`: a graph as JSON, and its tensors, each plain values in a file.

As weights the tensors alone are read, without PyTorch. To run a graph is PyTorch's to do, whose
reader of an archive looks names up, evaluates expressions and loads pickles that stand in it: so
`check_archive` looks an archive through before.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from resnet_spec.diagnostics import quoted
from resnet_spec.weights.checkpoint import (
    BROKEN,
    CUT_OFF,
    Checkpoint,
    Stated,
    Tensor,
    bounded,
    refused,
    unreadable,
)
from resnet_spec.weights.formats import strided

_MAX_JSON = 64 << 20  # bytes of one description; a thousand layers have some millions
_MAX_MEMBERS = 100_000
_HELP = "save it with torch.export.save(torch.export.export(model, (images,)), path)"
# What else an export calls that was made of usual code, and what to do about it.
_INSTEAD = {
    "wrap_with_autocast": (
        "export the model without torch.autocast in its forward: its weights are single precision"
    ),
    "wrap_with_set_grad_enabled": "export the model without torch.no_grad() in its forward",
    "cond": "export the way that is taken in evaluation, without torch.cond",
}
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.getitem")
_WEIGHTS = re.compile(r"(?P<folder>.*data/weights/)(?P<model>[^/]+)_weights_config\.json")
_MODEL = re.compile(r".+/models/[^/]+\.json")
# PyTorch's numbers of types.
_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 12: "bool", 13: "bfloat16",
}  # fmt: skip


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The parameters and buffers of the programs in an archive, usually one."""
    with _archive(path, shown) as archive:
        found = [_WEIGHTS.fullmatch(each) for each in archive.namelist()]
        states = {each["model"]: _state(archive, each, shown) for each in found if each}
        if not any(states.values()):
            unreadable(
                shown,
                f"{quoted(shown)} is an archive of torch.export without parameters",
                _HELP,
            )
        one = next(iter(states.values())) if len(states) == 1 else ()
        others = {} if one else states
        stated = Stated(runnable=True)
        yield Checkpoint(shown, "torch.export", "torch", one, (), others, stated)


def _state(archive: zipfile.ZipFile, config: re.Match[str], shown: str) -> tuple[Tensor, ...]:
    """The tensors that a list describes, by the names of the model."""
    listed = _json(archive, archive.getinfo(config[0]), shown)
    try:
        stated = {
            n: _strided(config["folder"], each, shown) for n, each in listed["config"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = str(error).partition("\n")[0][:100]
        unreadable(shown, f"{quoted(config[0])} in {quoted(shown)} lists no tensors: {what}")
    return bounded((strided.tensor(archive, n, each, shown) for n, each in stated.items()), shown)


def _strided(folder: str, entry: Mapping[str, Any], shown: str) -> strided.Strided:
    """A tensor of the list; RS902 for a pickle in its stead."""
    if entry["use_pickle"]:
        refused(shown, f"{quoted(shown)} holds a pickle, which could run code")
    meta = entry["tensor_meta"]
    shape, strides = (tuple(each["as_int"] for each in meta[k]) for k in ("sizes", "strides"))
    offset = meta["storage_offset"]["as_int"]
    return strided.stated(
        f"{folder}{entry['path_name']}", _TYPES[meta["dtype"]], offset, shape, strides
    )


# --- before PyTorch reads one --------------------------------------------------------------------


def check_archive(path: Path, shown: str) -> None:
    """Raise RS901 for what is no archive of `torch.export`, RS902 for what is more than data."""
    with _archive(path, shown) as archive:
        members = archive.infolist()
        if not any(_MODEL.fullmatch(each.filename) for each in members):
            unreadable(
                shown,
                f"{quoted(shown)} is no archive of torch.export: it has no graph",
                _HELP,
            )
        for member in members:
            name = member.filename.partition("/")[2]
            if name.endswith(".json"):
                _check_description(_json(archive, member, shown), shown)
            elif "custom_obj" in name or name.endswith((".so", ".py", ".cpp")):
                refused(shown, f"{quoted(shown)} holds more than a graph: {quoted(name)}")


def _check_description(described: Any, shown: str) -> None:
    for each in _mappings(described):
        target = each.get("target")
        if "inputs" in each and isinstance(target, str) and not _OPERATOR.fullmatch(target):
            refused(
                shown,
                f"{quoted(shown)} calls {quoted(target)}, no operator of a network",
                _INSTEAD.get(target.rpartition(".")[2]),
            )
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


# --- the file ------------------------------------------------------------------------------------


def _archive(path: Path, shown: str) -> zipfile.ZipFile:
    """An archive that does not grow while it is read; RS901 for one that is broken."""
    try:
        archive = zipfile.ZipFile(path)
    except (*BROKEN, NotImplementedError) as error:
        _cut_off(shown, str(error))
    members = archive.infolist()
    if min((each.header_offset for each in members), default=0):
        _cut_off(shown, "what it ends with is another archive, within it")
    size = sum(each.file_size for each in members)
    if len(members) > _MAX_MEMBERS or size > 2 * path.stat().st_size + 1_000_000:
        archive.close()
        refused(shown, f"{quoted(shown)} would grow to {size:,} bytes while it is read")
    return archive


def _cut_off(shown: str, reason: str) -> NoReturn:
    unreadable(shown, f"{quoted(shown)} is no whole archive: {reason.lower()[:120]}", CUT_OFF)


def _json(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str) -> Any:
    """What a member says; RS902 for one that is too large."""
    if member.file_size > _MAX_JSON:
        refused(shown, f"{quoted(member.filename)} in {quoted(shown)} is too large")
    try:
        return json.loads(archive.read(member))
    except (*BROKEN, NotImplementedError) as error:
        _cut_off(shown, str(error))
    except (ValueError, RecursionError):
        unreadable(shown, f"{quoted(member.filename)} in {quoted(shown)} is no JSON")
