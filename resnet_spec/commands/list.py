"""`list`: the networks that come with the package."""

from __future__ import annotations

import argparse
import re

from resnet_spec.commands import shared
from resnet_spec.commands.shared import Exit, Reader
from resnet_spec.ir import Network
from resnet_spec.library import builtin_specs


def run(arguments: argparse.Namespace) -> Exit:
    """Print every built-in network with its sizes."""
    reader = Reader()
    read = [reader.network(str(path)) for path in builtin_specs().values()]
    if reader.findings:
        shared.print_findings(reader.findings, reader.sources, arguments.format)
        return Exit.FINDINGS
    networks = sorted((each[1] for each in read if each is not None), key=_order)
    if arguments.format == "json":
        shared.print_json({"format_version": 1, "specs": [_as_json(each) for each in networks]})
    else:
        rows = [("name", "family", "parameters", "multiply-adds", "description")]
        rows += [_row(network) for network in networks]
        print(shared.table(rows, (False, False, True, True, False)))
    return Exit.CLEAN


def _order(network: Network) -> tuple[str, list[int | str]]:
    """By family, then by name with numbers as numbers: resnet18 stands before resnet101."""
    parts = re.split(r"(\d+)", network.name)
    return (network.family or "", [int(p) if p.isdigit() else p for p in parts])


def _row(network: Network) -> tuple[str, str, str, str, str]:
    root = network.root
    text = " ".join(network.description.split())
    return (
        network.name,
        network.family or "-",
        f"{root.parameters:,}",
        f"{root.macs:,}",
        text if len(text) <= 70 else f"{text[:69]}…",
    )


def _as_json(network: Network) -> dict[str, object]:
    return {
        "name": network.name,
        "family": network.family,
        "description": network.description,
        "source": network.source,
        "input": list(network.input.dimensions),
        "classes": network.classes,
        "parameters": network.root.parameters,
        "statistics": network.root.statistics,
        "macs": network.root.macs,
    }
