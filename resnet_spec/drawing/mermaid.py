"""The same figure as Mermaid text, which GitHub and many editors draw themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.drawing.boxes import BLOCK, CHAIN, INPUT, MORE, OUTPUT
from resnet_spec.drawing.figure import Figure, Inset
from resnet_spec.drawing.labels import Drawn, bracket
from resnet_spec.drawing.page import Drawing
from resnet_spec.drawing.words import count, entry, role, size, title

_SHAPES = {
    **dict.fromkeys((INPUT, OUTPUT, CHAIN, MORE), ('(["', '"])')),
    **dict.fromkeys(("add", "multiply"), ('(("', '"))')),
    BLOCK: ('[["', '"]]'),
}


def quoted(text: str) -> str:
    """A text of a spec within the quotes of a label: nothing in it has a meaning for Mermaid."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    # A plus at the start would begin a list.
    special = '"#&<>;`\\{}' + ("+-*" if printable[:1] in "+-*" else "")
    return "".join(f"#{ord(c)};" if c in special else c for c in printable)


def as_mermaid(drawing: Drawing, header: Sequence[str] = (), block: str | None = None) -> str:
    """A flow chart: the strip, then a subgraph for each block; or one block alone."""
    figure = drawing.figure
    insets = [each for each in figure.insets if block in (None, each.block)]
    lines = ["flowchart TB", *(f"%% {line}" for line in header)]
    lines.append(f"accTitle: {_plain(figure.network.name if block is None else block)}")
    lines.append(f"accDescr: {_plain(title(figure))}")
    groups = []
    if block is None:
        groups.append("network")
        lines += _strip(figure)
    for number, inset in enumerate(insets):
        groups.append(f"block{number}")
        lines += _block(figure, number, inset, drawing.items[inset])
    if symbols := list(map(quoted, drawing.symbol_lines(insets))):
        lines.append(f'symbols["{"<br/>".join(symbols)}"]')
        groups.append("symbols")
    # An invisible line keeps what belongs to nothing else in its order.
    lines += [f"{groups[0]} ~~~ {other}" for other in groups[1:]]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A text that ends with its line; there is no quoting, so what could end it sooner goes."""
    return "".join(c if c.isprintable() and c not in "{}#;<>`%\\" else " " for c in text)


def _strip(figure: Figure) -> Iterator[str]:
    network = figure.network
    sums = f"{count(network.root.parameters)} parameters · {count(network.root.macs)} multiply-adds"
    yield f'subgraph network["{quoted(f"{network.name} · {sums}")}"]'
    yield "  direction LR"
    yield f'  section0(["input<br/>{size(network.input.dimensions)}"])'
    for number, section in enumerate(figure.sections, 1):
        runs = " + ".join((f"{n}× " if n > 1 else "") + i.label for i, n in section.runs)
        layers = [quoted(entry(*line)) for line in bracket(figure, number - 1)]
        said = [
            f"<b>{quoted(section.label)}</b>",
            runs or "<br/>".join(layers),
            size(section.output),
            f"{count(section.parameters)} · {count(section.macs)}",
        ]
        yield f'  section{number}["{"<br/>".join(filter(None, said))}"]'
    yield "  " + " --> ".join(f"section{k}" for k in range(len(figure.sections) + 1))
    yield "end"


def _block(figure: Figure, number: int, inset: Inset, items: Sequence[Drawn]) -> Iterator[str]:
    named = f"{inset.label}: {inset.title} ×{inset.count}, {role(figure, inset)}"
    yield f'subgraph block{number}["{quoted(named)}"]'
    yield "  direction TB"
    for item in items:
        said = "<br/>".join(
            quoted(entry("", line.inset, 1) if line.inset else line.text) for line in item.lines
        )
        start, end = _SHAPES.get(item.box.kind, ('["', '"]'))
        yield f"  b{number}_{item.box.index}{start}{said}{end}"
    for item in items:
        for source, _ in item.box.inputs:
            aside = item.box.shortcut or items[source].box.shortcut
            arrow = "-.->" if aside else "-->"
            yield f"  b{number}_{source} {arrow} b{number}_{item.box.index}"
    yield "end"
