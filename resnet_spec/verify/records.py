"""The tables of docs/equivalence.md, made from recorded runs of `verify NAME --format json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_spec.verify import compare
from resnet_spec.verify.measure import STEPS

PAPER = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
EXACT = "_exact"  # ends the name of a record that was made with --set numerics=exact

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
_KINDS = {
    "stages and logits, evaluation and training": "forward",
    "the same by ONNX Runtime, which has float32 alone": "single",
    "running statistics after one step": "statistics",
    "gradients of all parameters and of the images": "gradients",
    f"weights, statistics and evaluation after {STEPS} steps of SGD": "trajectory",
    f"the same after {STEPS} steps of AdamW": "adam",
}

Record = Mapping[str, Any]  # what the command printed


def parts(folder: Path) -> dict[str, str]:
    """The generated parts of the page, by name."""
    records = read(folder)
    others = sorted(name for name in records if name not in PAPER and not name.endswith(EXACT))
    exact = [name for name in records if name.endswith(EXACT)]
    return {
        "tolerances": _tolerances(),
        "paper": _table(records, PAPER),
        "exact": _table(records, sorted(exact)),
        "families": _table(records, others),
        "versions": _versions(records),
    }


def read(folder: Path) -> dict[str, Record]:
    """The records by their names."""
    files = sorted(folder.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def command(name: str) -> str:
    """The command that makes a record."""
    spec = name.removesuffix(EXACT)
    setting = " --set numerics=exact" if name.endswith(EXACT) else ""
    return f"resnet-spec verify {spec}{setting} --format json"


def _table(records: Mapping[str, Record], names: Sequence[str]) -> str:
    own = any(_own(records[name]) for name in names)
    headings = ["command", "images", *_COLUMNS.values(), *(["with Keras' variance"] if own else [])]
    rows = [headings, ["---"] * len(headings)]
    for name in names:
        (network,) = records[name]["networks"]
        found = {row["measurement"]: row for row in network["measurements"]}
        images = f"{network['batch']} of {'x'.join(map(str, network['input']))}"
        cells = [f"`{command(name)}`", images]
        cells += [f"{found[each]['difference']:.0e}" for each in _COLUMNS]
        rows.append([*cells, *([_own(records[name]) or "-"] if own else [])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _own(record: Record) -> str:
    """How far evaluation after SGD is apart where no variance is carried over."""
    (network,) = record["networks"]
    notes = {row["measurement"]: row["note"] for row in network["measurements"]}
    return f"{float(note.split()[0]):.0e}" if (note := notes["SGD evaluation"]) else ""


def _versions(records: Mapping[str, Record]) -> str:
    found = {json.dumps(record["versions"], sort_keys=True) for record in records.values()}
    shown = (", ".join(f"{k} {v}" for k, v in json.loads(text).items()) for text in sorted(found))
    return f"With {'; '.join(shown)}."


def _tolerances() -> str:
    rows = ["| measurement | float64 | float32 |", "| --- | --- | --- |"]
    for name, kind in _KINDS.items():
        bounds = (compare.DOUBLE[kind], compare.SINGLE.get(kind))
        cells = (name, *("not compared" if bound is None else f"{bound:.0e}" for bound in bounds))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
