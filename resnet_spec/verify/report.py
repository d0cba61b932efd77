"""The measurements as a table that grows, and as JSON."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from resnet_spec.verify.measure import Row
from resnet_spec.verify.plan import RANDOM, Plan
from resnet_spec.verify.run import Verification
from resnet_spec.verify.session import Session

_HEADINGS = ("measurement", "compared", "difference", "tolerance")
_WIDTHS = (22, 10, 12, 11)


def heading(plan: Plan, session: Session) -> str:
    """What is compared, and with what left out."""
    shown = [f"keras on {session.keras_backend}" if e == "keras" else e for e in session]
    size = "x".join(map(str, plan.input))
    lines = [f"{plan.name}: {', '.join(shown)} in {plan.precision}, {plan.batch} images of {size}"]
    random = sum(operation.primitive in RANDOM for operation in plan.operations)
    if random:
        lines.append(f"  at rate 0: {random} layer{'s' * (random > 1)} that zero at random")
    lines.append(_line(_HEADINGS, ""))
    return "\n".join(lines)


def line(row: Row) -> str:
    """One measurement, its note below it."""
    difference, tolerance = f"{row.difference:.1e}", f"{row.tolerance:.0e}"
    verdict = "equal" if row.passes else f"DIFFERS: {row.worst}"
    if row.kind == "exact":
        difference, tolerance = f"{row.difference:.0f}", "0"
    elif row.kind == "chance":
        tolerance = "1"
    elif row.kind == "error":
        difference, tolerance = f"{row.difference:.1f}", f"{row.tolerance:.0f}"
    elif row.kind == "skipped":
        difference, tolerance, verdict = "-", "-", "skipped"
    text = _line((row.measurement, f"{row.compared:,}", difference, tolerance), verdict)
    return f"{text}\n{_note(row.note)}" if row.note else text


def _line(cells: Sequence[str], verdict: str) -> str:
    first, *others = cells
    right = "".join(cell.rjust(width) for cell, width in zip(others, _WIDTHS[1:], strict=True))
    return f"  {first.ljust(_WIDTHS[0])}{right}  {verdict}".rstrip()


def _note(text: str) -> str:
    width = max(40, min(shutil.get_terminal_size().columns, 100))
    return textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    ")


def as_json(verification: Verification, path: str) -> dict[str, Any]:
    """One network for programs; a difference without bound is null."""
    plan, session, rows = verification.plan, verification.session, verification.rows
    return {
        "name": plan.name,
        "path": path,
        "backends": list(session),
        "keras_backend": session.keras_backend if "keras" in session else None,
        "precision": plan.precision,
        "batch": plan.batch,
        "input": list(plan.input),
        "equal": not verification.found,
        "measurements": [_json_row(row) for row in rows],
    }


def _json_row(row: Row) -> dict[str, Any]:
    return {
        "measurement": row.measurement,
        "compared": row.compared,
        "difference": row.difference if math.isfinite(row.difference) else None,
        "tolerance": row.tolerance,
        "equal": None if row.kind == "skipped" else row.passes,
        "worst": row.worst,
        "note": row.note or None,
    }
