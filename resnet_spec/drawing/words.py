"""Numbers, names and whole sentences as a picture and its description have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_spec.drawing.boxes import INPUT, OUTPUT
from resnet_spec.drawing.labels import Drawn, bracket

if TYPE_CHECKING:
    from resnet_spec.drawing.figure import Figure, Inset


def count(number: int) -> str:
    """A large number in three digits: `25.6 M`, `4.09 G`."""
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            value = number / unit
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {name}"
    return str(number)


def size(dimensions: Sequence[int]) -> str:
    """`64×56×56`."""
    return "×".join(map(str, dimensions))


def span(names: Sequence[str]) -> str:
    """`layer1–4` for names that are counted through, else all of them."""
    stem = names[0].rstrip("0123456789")
    numbers = [name.removeprefix(stem) for name in names]
    if len(names) > 2 and stem and all(map(str.isdecimal, numbers)):
        first = int(numbers[0])
        if [f"{stem}{first + k}" for k in range(len(names))] == list(names):
            return f"{names[0]}–{numbers[-1]}"
    return ", ".join(names)


def role(figure: Figure, inset: Inset) -> str:
    """Where a block stands."""
    if inset.hosts:
        return "inside " + ", ".join(host.label for host in inset.hosts)
    sections = sorted({use.section for use in inset.uses})
    names = [figure.sections[section].label for section in sections]
    if inset.nested:
        return f"in {span(names)}"
    stages = sum(bool(section.runs) for section in figure.sections)
    everywhere = len(names) == stages
    sizes = [sum(count for _, count in figure.sections[s].runs) for s in sections]
    if all(number == 1 for number in sizes):
        return span(names)
    if all(use.last == 0 for use in inset.uses):
        return "first of every stage" if everywhere and stages > 1 else f"first of {span(names)}"
    if all(use.first > 0 for use in inset.uses):
        return (
            "every block but a stage's first" if everywhere else f"not the first of {span(names)}"
        )
    return "in every stage" if everywhere else f"in {span(names)}"


def entry(text: str, inset: Inset | None, times: int) -> str:
    """One line of a section's layers."""
    named = f"{inset.label} {inset.title}" if inset is not None else text
    return f"{named} (×{times})" if times > 1 else named


def title(figure: Figure) -> str:
    """Name and description of a network, on one line."""
    return f"{figure.network.name}: {' '.join(figure.network.description.split())}"


def describe(figure: Figure, drawn: dict[Inset, list[Drawn]], sections: bool = True) -> str:
    """All that a picture shows, in sentences, for those who hear it."""
    network = figure.network
    found = []
    if sections:
        found.append(
            f"{title(figure)}. Input {size(network.input.dimensions)}, "
            f"{network.classes:,} classes, {network.root.parameters:,} parameters, "
            f"{network.root.macs:,} multiply-adds."
        )
        for number, section in enumerate(figure.sections):
            runs = [f"{times} times {i.label} ({i.title})" for i, times in section.runs]
            layers = [entry(*line) for line in bracket(figure, number)]
            found.append(
                f"{section.name}: {', '.join(runs or layers) or 'nothing'}; output "
                f"{size(section.output)}, {section.parameters:,} parameters, "
                f"{section.macs:,} multiply-adds."
            )
    for inset, items in drawn.items():
        steps = [_step(item, items) for item in items if item.box.kind not in (INPUT, OUTPUT)]
        found.append(
            f"Block {inset.label}, {inset.title}, {inset.count} times, {role(figure, inset)}: "
            f"{'; '.join(steps)}."
        )
    return " ".join(found)


def _step(item: Drawn, items: Sequence[Drawn]) -> str:
    said = " ".join(entry("", line.inset, 1) if line.inset else line.text for line in item.lines)
    sources = []
    for source, port in item.box.inputs:
        part = f"part {port + 1} of " if items[source].box.outputs > 1 else ""
        sources.append(part + ("input" if source == 0 else str(source)))
    return f"{item.box.index} {said} of {' and '.join(sources)}"
