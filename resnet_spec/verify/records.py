"""The tables of docs/equivalence.md, made from recorded runs of `verify NAME --format json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_spec.verify import compare
from resnet_spec.verify.measure import IN_ITSELF, STEPS

DEEP = ("resnet200",)  # whose training magnifies rounding beyond what is usual
PAPER = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# How the name of a record ends that was made with a flag.
EXACT = "_exact"
SINGLE = "_float32"
FLAGS = {EXACT: "--set numerics=exact", SINGLE: "--precision float32"}

# Measurements, and the headings of their columns.
_COLUMNS = {
    "evaluation": "evaluation",
    "training": "training",
    "gradients": "gradients",
    "SGD weights": f"weights after {STEPS} SGD",
    "SGD evaluation": "then evaluation",
    "AdamW weights": f"after {STEPS} AdamW",
    "AdamW evaluation": "then evaluation",
}
_SINGLE_COLUMNS = {
    "evaluation": "evaluation",
    "error of training": "error of training",
    "error of statistics": "of statistics",
    "error of gradients": "of gradients",
    "error of SGD weights": f"of weights after {STEPS} SGD",
    "error of AdamW weights": f"after {STEPS} AdamW",
}
_KINDS = {
    "stages and logits, evaluation": "forward",
    "the same of PyTorch and of the definitions in numpy": "definition",
    "the same by ONNX Runtime, which has float32 alone": "single",
    "stages and logits, training": "training",
    "running statistics after one step": "statistics",
    "gradients of all parameters and of the images": "gradients",
    f"weights, statistics and evaluation after {STEPS} steps of SGD": "trajectory",
    f"the same after {STEPS} steps of AdamW": "adam",
}

Record = Mapping[str, Any]  # what the command printed


def parts(folder: Path) -> dict[str, str]:
    """The generated parts of the page, by name."""
    records = read(folder)
    shown = {*PAPER, *DEEP}
    others = [name for name in records if name not in shown and not name.endswith((*FLAGS,))]
    return {
        "tolerances": _tolerances(),
        "paper": _table(records, PAPER),
        "exact": _table(records, [name for name in records if name.endswith(EXACT)]),
        "families": _table(records, others),
        "deep": _deep(records),
        "single": _single(records, [name for name in records if name.endswith(SINGLE)]),
        "versions": _versions(records),
    }


def read(folder: Path) -> dict[str, Record]:
    """The records by their names."""
    files = sorted(folder.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def command(name: str) -> str:
    """The command that makes a record."""
    for ending, flag in FLAGS.items():
        if name.endswith(ending):
            return f"resnet-spec verify {name.removesuffix(ending)} {flag} --format json"
    return f"resnet-spec verify {name} --format json"


def _table(records: Mapping[str, Record], names: Sequence[str]) -> str:
    own = any(_own(records[name]) for name in names)
    headings = ["command", "images", *_COLUMNS.values(), *(["with Keras' variance"] if own else [])]
    rows = [headings, ["---"] * len(headings)]
    for name in names:
        first, found = _measured(records[name], name)
        cells = [f"{found[each]:.0e}" for each in _COLUMNS]
        rows.append([*first, *cells, *([_own(records[name]) or "-"] if own else [])])
    return _lines(rows)


def _deep(records: Mapping[str, Record]) -> str:
    """Below each network, how far PyTorch is from itself where rounding is magnified."""
    headings = ["command", "images", *_COLUMNS.values()]
    rows = [headings, ["---"] * len(headings)]
    for name in DEEP:
        first, found = _measured(records[name], name)
        rows.append([*first, *(f"{found[each]:.0e}" for each in _COLUMNS)])
        (network,) = records[name]["networks"]
        notes = {row["measurement"]: row["note"] or "" for row in network["measurements"]}
        own = (re.search(rf"(\S+) {re.escape(IN_ITSELF)}", notes[each]) for each in _COLUMNS)
        cells = (f"{float(each[1]):.0e}" if each else "" for each in own)
        rows.append(["in PyTorch itself", "", *cells])
    return _lines(rows)


def _single(records: Mapping[str, Record], names: Sequence[str]) -> str:
    headings = ["command", "images", *_SINGLE_COLUMNS.values()]
    rows = [headings, ["---"] * len(headings)]
    for name in names:
        first, found = _measured(records[name], name)
        cells = (f"{found[each]:{'.1f' if 'error' in each else '.0e'}}" for each in _SINGLE_COLUMNS)
        rows.append([*first, *cells])
    return _lines(rows)


def _measured(record: Record, name: str) -> tuple[list[str], dict[str, float]]:
    """The first cells of a row, and each difference by its measurement."""
    (network,) = record["networks"]
    images = f"{network['batch']} of {'x'.join(map(str, network['input']))}"
    found = {row["measurement"]: row["difference"] for row in network["measurements"]}
    return [f"`{command(name)}`", images], found


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _own(record: Record) -> str:
    """How far evaluation after SGD is apart where no variance is carried over."""
    (network,) = record["networks"]
    notes = {row["measurement"]: row["note"] for row in network["measurements"]}
    found = re.match(r"(\S+) with .+ own", notes["SGD evaluation"] or "")
    return f"{float(found[1]):.0e}" if found else ""


def _versions(records: Mapping[str, Record]) -> str:
    found = {json.dumps(record["versions"], sort_keys=True) for record in records.values()}
    shown = (", ".join(f"{k} {v}" for k, v in json.loads(text).items()) for text in sorted(found))
    return f"With {'; '.join(shown)}."


def _tolerances() -> str:
    rows = [["measurement", "float64", "float32"], ["---"] * 3]
    errors = f"errors of one size, up to {compare.SINGLE['error']:.0f} times"
    for name, kind in _KINDS.items():
        bound = compare.SINGLE.get(kind)
        single = errors if bound is None else f"{bound:.0e}"
        rows.append([name, f"{compare.DOUBLE[kind]:.0e}", single])
    return _lines(rows)
