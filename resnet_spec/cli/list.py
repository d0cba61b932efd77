"""`list`: the networks that come with the package."""

from __future__ import annotations

import argparse
import re
from fnmatch import fnmatchcase

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, Reader, UsageError
from resnet_spec.diagnostics import expected, quoted
from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_specs


def run(arguments: argparse.Namespace) -> Exit:
    """Print the built-in networks that pass the filters, with their sizes."""
    most = _number(arguments.max_parameters) if arguments.max_parameters else None
    reader = Reader()
    chosen = {
        name: path
        for name, path in builtin_specs().items()
        if not arguments.patterns or any(fnmatchcase(name, p) for p in arguments.patterns)
    }
    read = [reader.network(str(path)) for path in chosen.values()]
    if reader.findings:
        output.findings(reader.findings, reader.sources, arguments.format)
        return Exit.FINDINGS
    networks = sorted((each[1] for each in read if each is not None), key=_order)
    if arguments.family:
        _check_family(arguments.family, networks)
        networks = [each for each in networks if each.family == arguments.family]
    if most is not None:
        networks = [each for each in networks if each.root.parameters <= most]
    if arguments.format == "json":
        output.as_json({"format_version": 1, "specs": [_as_json(each) for each in networks]})
    else:
        output.say(shared.table([_HEADER, *map(_row, networks)], _ALIGNED_RIGHT))
    return Exit.CLEAN


_HEADER = ("name", "family", "input", "parameters", "multiply-adds", "source", "description")
_ALIGNED_RIGHT = (False, False, False, True, True, False, False)
_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def _number(text: str) -> int:
    """`30M`, `1.5K` or `25557032`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text.upper())
    if match is None:
        raise UsageError(
            f"{quoted(text)} is not a number of parameters: write 25557032, 30M or 1.5G"
        )
    return int(float(match.group(1)) * _SUFFIXES[match.group(2)])


def _check_family(name: str, networks: list[Network]) -> None:
    families = {each.family for each in networks if each.family}
    if name not in families:
        hint = expected(name, families)
        raise UsageError(f"there is no family {quoted(name)}: {hint}")


def _order(network: Network) -> tuple[str, list[int | str]]:
    """By family, then by name with numbers as numbers: resnet18 comes before resnet101."""
    parts = re.split(r"(\d+)", network.name)
    return (network.family or "", [int(p) if p.isdigit() else p for p in parts])


def _row(network: Network) -> tuple[str, ...]:
    root = network.root
    text = " ".join(network.description.split())
    return (
        network.name,
        network.family or "-",
        str(network.input),
        f"{root.parameters:,}",
        f"{root.macs:,}",
        (network.source or "-").removeprefix("https://"),
        text if len(text) <= 70 else f"{text[:69]}…",
    )


def _as_json(network: Network) -> dict[str, object]:
    return {
        "name": network.name,
        "family": network.family,
        "description": network.description,
        "source": network.source,
        "references": [
            f"{each.library}: {each.model}" if each.library else each.model
            for each in network.references
        ],
        "input": list(network.input.dimensions),
        "classes": network.classes,
        "parameters": network.root.parameters,
        "statistics": network.root.statistics,
        "macs": network.root.macs,
    }
