"""What the playground asks of the package, within Pyodide: a text in, all that is shown out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet_spec.cli.shared import Reader
from resnet_spec.diagnostics import INTERNAL, Diagnostic, Span, in_order
from resnet_spec.report import Contents, Findings, contents, document

BACKENDS = ("torch", "keras", "flax")
SPEC = Path("spec.yaml")

_last: list[Contents] = []  # the network as it last was without mistakes


def answer(text: str) -> str:
    """A spec's page, files and findings as JSON."""
    os.makedirs("/spec", exist_ok=True)
    os.chdir("/spec")
    SPEC.write_text(text, encoding="utf-8")
    found, files = _read(text)
    shown = in_order(found.diagnostics)
    page = document(_last[0] if _last else None, found)
    if files:
        files[f"{_last[0].network.name}.html"] = page
    return json.dumps(
        {
            "page": page,
            "files": files,
            "findings": [_placed(each, text) for each in shown],
            "count": len(shown),
        }
    )


def _read(text: str) -> tuple[Findings, dict[str, str]]:
    reader = Reader()
    try:
        read = reader.network(str(SPEC))
        if read is None:
            return Findings(reader.findings, reader.sources), {}
        loaded, network = read
        named = network._replace(path=f"{network.name}.yaml")
        page = contents(loaded, named, BACKENDS)
    except Exception as error:  # a mistake of ours ends nothing
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return Findings([Diagnostic(INTERNAL, f"internal error: {words}")]), {}
    _last[:] = [page]
    return Findings(page.findings, reader.sources), {named.path: text, **page.sources}


def _placed(found: Diagnostic, text: str) -> dict[str, Any]:
    """A finding at its place in the text: of one in a block's file, where that block is used."""
    spans = [found.span, *(use.span for use in found.uses)]
    span = _of_text(spans) or _base(text)
    where = span._asdict()
    where.pop("path")
    message = found.message if span == found.span else f"{found.span}: {found.message}"
    return {"code": found.code, "message": message, "help": found.help, **where}


def _of_text(spans: Sequence[Span | None]) -> Span | None:
    return next((span for span in spans if span is not None and span.path == str(SPEC)), None)


def _base(text: str) -> Span:
    """The line that names what a spec extends, for what stands there alone; else the first."""
    lines = text.split("\n")
    number = next((n for n, line in enumerate(lines) if line.startswith("extends:")), 0)
    return Span(str(SPEC), number + 1, 1, number + 1, len(lines[number]) + 1)
