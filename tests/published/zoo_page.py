"""The parts of docs/zoo.md that are made from what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import zoo_record
from generated_parts import filled
from zoo_record import Against, Difference, Row

from resnet_spec.ir import Network
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
BETWEEN = [f"{title} to PyTorch" for title in zoo_record.OTHERS.values()]
HEAD = ("network", "parameters", "reference", "names", "to reference", *BETWEEN, "images")
TITLES = {"machine": "machine", "instructions": "vector instructions", "python": "Python"}


class Mark(NamedTuple):
    """A sign behind a name or a number, explained below the tables that have it."""

    sign: str
    meaning: str


SINGLE = Mark("¹", "Measured in single precision, for which the memory sufficed.")
CASTS = Mark(
    "²",
    "The reference computes a part of itself in single precision, whatever its input is. In "
    "brackets the difference with these conversions (`Tensor.float()`) left out.",
)
DEEP = Mark(
    "³",
    "Keras goes through the layers by recursion, and so many need more than Python's usual limit: "
    "call `sys.setrecursionlimit` before the model is built.",
)
STALE = Mark("†", "Its graph or its rules for names have changed since it was measured.")
WRONG = Mark("✗", "Not as it must be.")
MARKS = (SINGLE, CASTS, DEEP, STALE, WRONG)


class Entry(NamedTuple):
    """A network that comes with the package, and what was measured of it."""

    network: Network
    row: Row | None
    stale: bool


def entries(rows: Mapping[str, Row]) -> list[Entry]:
    """Every network that comes with the package, by family and name."""
    networks = sorted((lower(load(name, Library())) for name in builtin_specs()), key=_order)
    found = ((network, rows.get(network.name)) for network in networks)
    return [Entry(net, row, row is not None and row.stale(net)) for net, row in found]


def _order(network: Network) -> tuple[str, list[int | str]]:
    """Numbers as numbers: resnet18 stands before resnet101."""
    parts = re.split(r"(\d+)", network.name)
    return network.family or "", [int(part) if part.isdigit() else part for part in parts]


def parts() -> dict[str, str]:
    """The generated parts by name."""
    found = entries(zoo_record.read())
    networks = tables(found)
    return {
        "summary": summary(found),
        "environment": surroundings(found),
        "networks": networks,
        "marks": "\n".join(f"- {m.sign} {m.meaning}" for m in MARKS if m.sign in networks),
    }


def renew() -> None:
    """Writes the page's generated parts anew."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(text, parts()), encoding="utf-8")


# --- the parts -----------------------------------------------------------------------------------


def summary(found: list[Entry]) -> str:
    """How many networks there are, how many fit, and by name those that do not."""
    measured = [each for each in found if each.row is not None]
    wrong = [each for each in measured if each.row is not None and each.row.findings()]
    fit = len(measured) - len(wrong)
    lines = [f"{len(found)} networks, {len(measured)} measured, {fit} of them pass."]
    against = [r for each in measured if each.row is not None for r in each.row.references]
    for names, text in (
        ("direct", "published checkpoints load as they are"),
        ("renamed", "through the spec's rules for names"),
        ("reshaped", "so, once their 1x1 convolutions are linear layers"),
    ):
        lines.append(f"- {sum(r.names == names for r in against)} {text}")
    if stale := sum(each.stale for each in found):
        lines.append(f"- {stale} networks have changed since they were measured ({STALE.sign})")
    partly = [each.row for each in measured if each.row is not None and not each.row.ended]
    if partly:
        lacking = {other for row in partly for other in zoo_record.OTHERS.keys() - row.backends}
        titles = " and ".join(zoo_record.OTHERS[other] for other in sorted(lacking))
        lines.append(f"- {len(partly)} still to be compared with {titles}")
    for each in wrong:
        assert each.row is not None
        lines.append(f"- {_code(each.network.name)}: {'; '.join(map(_line, each.row.findings()))}")
    return "\n".join([lines[0], "", *lines[1:]])


def surroundings(found: list[Entry]) -> str:
    """Versions and the kind of machine; where there are several, which networks the lesser had."""
    networks: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for each in found:
        if each.row is not None:
            networks.setdefault(tuple(each.row.environment.items()), []).append(each.network.name)
    lines: list[str] = []
    for environment, names in sorted(networks.items(), key=lambda item: -len(item[1])):
        text = ", ".join(f"{TITLES.get(key, key)} {value}" for key, value in environment)
        which = f" ({', '.join(map(_code, names))})" if lines else ""
        lines.append(f"- {text or 'unknown'}: {len(names)} networks{which}")
    return "\n".join(lines)


def tables(found: list[Entry]) -> str:
    """A heading and a table for each family."""
    families: dict[str, list[Entry]] = {}
    for each in found:
        families.setdefault(each.network.family or "others", []).append(each)
    return "\n\n".join(
        "\n".join([f"### {name}", "", _table_row(HEAD), _table_row(["---"] * len(HEAD)), *lines])
        for name, group in families.items()
        for lines in [[_table_row(cells) for each in group for cells in _rows(each)]]
    )


def _rows(entry: Entry) -> Iterator[list[str]]:
    """A line for each reference, one at least; the network's own cells stand in the first."""
    network, row, stale = entry
    name = _code(network.name)
    if row is None:
        yield [name, f"{network.root.parameters:,}", *[""] * 2, "not measured", *[""] * 4]
        return
    marks = (DEEP.sign if row.deep else "") + (STALE.sign if stale else "")
    first = [name + marks, _parameters(row)]
    last = [*(_between(row, other) for other in zoo_record.OTHERS), _images(row)]
    for reference in row.references or (None,):
        yield [*first, *_against(network, reference), *last]
        first, last = [""] * len(first), [""] * len(last)


def _between(row: Row, other: str) -> str:
    """How far one of the others is from PyTorch."""
    found = row.backends.get(other, [])
    return "not measured" if not (found or row.failures) else _differences(found, "backends")


def _against(network: Network, reference: Against | None) -> list[str]:
    if reference is None:
        return ["", "", ""]
    title = reference.library
    if reference.model != network.name:
        title += f": {_code(reference.model)}"
    return [title, reference.names or "✗", _differences(reference.differences, "reference")]


def _parameters(row: Row) -> str:
    """One number where everybody counts the same, statistics included; else every count."""
    counts = row.all_counts
    if len(set(counts.values())) == 1:
        return f"{row.counts['ir'][0]:,}"
    told = (f"{name} {trainable:,} + {rest:,}" for name, (trainable, rest) in counts.items())
    return f"✗ {', '.join(told)}"


def _differences(differences: list[Difference], kind: str) -> str:
    """The largest of them, with what is to be known of it."""
    if not differences:
        return "✗"
    worst = max(differences, key=lambda each: each.value)
    text = number(worst.value)
    if worst.without_casts is not None:
        text += f" ({number(max(each.own for each in differences))}){CASTS.sign}"
    if worst.precision == "float32":
        text += SINGLE.sign
    fits = all(each.own <= zoo_record.BOUNDS[each.precision][kind] for each in differences)
    return text if fits else f"{WRONG.sign} {text}"


def _images(row: Row) -> str:
    """The sizes at which the network was compared with anything."""
    compared = [*row.backends.get("keras", ()), *(d for r in row.references for d in r.differences)]
    return ", ".join(dict.fromkeys(f"{each.height}x{each.width}" for each in compared))


def number(value: float) -> str:
    """`3e-16`, and `0` where not a bit differs."""
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "") if value else "0"


def _table_row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _line(text: str) -> str:
    """A message on one line, of bounded length."""
    short = " ".join(text.split())
    return short if len(short) <= 200 else f"{short[:199]}…"


def _code(text: str) -> str:
    return f"`{text}`"
