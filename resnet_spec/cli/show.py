"""`show`: a network as a table like the paper's, or its complete spec."""

from __future__ import annotations

import argparse
import math
from typing import Any

import yaml

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, Reader
from resnet_spec.diagnostics import escapes
from resnet_spec.ir import Network
from resnet_spec.ir.summary import Section, Summary, summarize
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


class _Dumper(yaml.SafeDumper):
    """Writes YAML that reads back the same with our YAML 1.2 rules."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML takes `1e-5` and `0o17` for text that needs no quotes.
    style = "'" if text[:1] in "+-.0123456789" and text else None
    if escapes.terminal(text) != text or "::" in text:
        style = '"'  # in which the escapes of what is printed are those of YAML
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _float_node(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value) if math.isfinite(value) else ".nan" if math.isnan(value) else ".inf"
    # With a point PyYAML, which looks for one, writes no tag before it.
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", f"{'-' * (value == -math.inf)}{text}")


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(float, _float_node)


def _print_resolved(loaded: Loaded, style: str) -> None:
    values = resolved(loaded)
    if style == "json":
        output.as_json(values)
    else:
        output.say(as_yaml(values), end="")


def as_yaml(values: object) -> str:
    """Plain values as YAML, short mappings on one line."""
    return yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=100,
    )
