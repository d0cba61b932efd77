"""`show`: a network as a table like the paper's, or its complete spec."""

from __future__ import annotations

import argparse
from typing import Any

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, Reader
from resnet_spec.ir import Network
from resnet_spec.ir.summary import Section, Summary, summarize
from resnet_spec.language import dump
from resnet_spec.language.load import Loaded, resolved

_HEADINGS = (
    "stage",
    "output",
    "block",
    "filters",
    "parameters",
    "multiply-adds",
    "receptive field",
    "stride",
)
_TO_RIGHT = (False, False, False, False, True, True, True, True)


def run(arguments: argparse.Namespace) -> Exit:
    """Print one network; findings go to standard error."""
    shared.check_text("--set", arguments.set)
    shared.check_stdin([arguments.spec], arguments.stdin_filename)
    reader = Reader(arguments.set, arguments.stdin_filename)
    read = reader.network(arguments.spec)
    if read is None:
        output.findings(reader.findings, reader.sources, arguments.format, arguments.color)
        return Exit.FINDINGS
    loaded, network = read
    if arguments.resolved:
        _print_resolved(loaded, arguments.format)
    elif arguments.format == "json":
        output.as_json(as_json(network, summarize(network)))
    else:
        output.say(as_text(network, summarize(network)))
    return Exit.CLEAN


# --- the table -----------------------------------------------------------------------------------


def as_text(network: Network, summary: Summary) -> str:
    """Title, table and totals."""
    rows = [_HEADINGS, *(_row(section) for section in summary.sections)]
    title = f"{network.name}: {' '.join(network.description.split())}"
    lines = [
        title,
        *([network.source] if network.source else []),
        f"input {network.input}, {network.classes:,} classes",
        "",
        shared.table(rows, _TO_RIGHT),
        "",
        f"parameters       {summary.parameters:>16,}",
        f"statistics       {summary.statistics:>16,}",
        f"multiply-adds    {summary.macs:>16,}",
        f"operations       {summary.operations:>16,}",
        f"peak activation  {summary.peak_activation:>16,} elements for one sample",
    ]
    return "\n".join(lines)


def _row(section: Section) -> tuple[str, ...]:
    return (
        section.name,
        str(section.output),
        section.blocks or "-",
        _filters(section.filters),
        f"{section.parameters:,}",
        f"{section.macs:,}",
        "all" if section.receptive_field is None else f"{section.receptive_field:,}",
        "-" if section.stride is None else str(section.stride),
    )


def _filters(values: tuple[int, ...], limit: int = 4) -> str:
    if len(values) > limit:
        return f"{values[0]} … {values[-1]}"
    return ", ".join(map(str, values)) or "-"


def as_json(network: Network, summary: Summary) -> dict[str, Any]:
    """The same for programs; a receptive field of null sees the whole input."""
    sections = []
    for section in summary.sections:
        values = section._asdict()
        values["output"] = list(section.output.dimensions)
        sections.append(values)
    return {
        "format_version": 1,
        "name": network.name,
        "class_name": network.class_name,
        "description": network.description,
        "source": network.source,
        "family": network.family,
        "path": network.path,
        "input": list(network.input.dimensions),
        "classes": network.classes,
        "sections": sections,
        "parameters": summary.parameters,
        "statistics": summary.statistics,
        "macs": summary.macs,
        "operations": summary.operations,
        "peak_activation": summary.peak_activation,
    }


# --- the spec ------------------------------------------------------------------------------------


def _print_resolved(loaded: Loaded, style: str) -> None:
    values = resolved(loaded)
    if style == "json":
        output.as_json(values)
    else:
        output.say(dump.as_yaml(values), end="")
