"""The numbers of a picture, worked back to those of the network.

Everything here is read from the words on the page: the table of sections, which symbol is what
where, and the labels of the boxes. What they say of each stage, times the number of its blocks,
must be the operations that the graph has there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from picture import Page, Picture, Word

from resnet_spec.ir import Instance, Network, Operation, walk

HEADINGS = 24  # where the headings of rows begin
WORDS = {
    "batch_norm": "BN",
    "group_norm": "GN",
    "evo_norm": "EvoNorm",
    "filter_response_norm": "FRN",
    "relu": "ReLU",
    "silu": "SiLU",
    "leaky_relu": "LeakyReLU",
    "threshold": "TLU",
    "gelu": "GELU",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "h-sigmoid",
    "tanh": "tanh",
}
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

Range = tuple[Fraction, Fraction]  # the least and the most that a label can mean
Drawn = tuple[str, tuple[Range, ...]]  # what it is, and its numbers


ONE = (Fraction(1), Fraction(1))
DEPTHWISE = (Fraction(-1), Fraction(-1))
# What labels with one number look like, and what the graph calls all that have numbers.
NUMBERED = {
    "linear": r"linear, (\S+)",
    "1-D conv": r"1-D conv, (\S+) channels",
    "split in": r"split in (\S+)",
    "first": r"first (\S+) channels",
    "last": r"last (\S+) channels",
    "softmax over": r"softmax over (\S+)",
    "drop path": r"drop path, (\S+)",
    "dropout": r"dropout, (\S+)",
}
ATTRIBUTES = {
    "conv": ("conv", ("kernel", "filters", "stride", "groups", "dilation")),
    "max_pool": ("max pool", ("kernel", "stride")),
    "avg_pool": ("avg pool", ("kernel", "stride")),
    "linear": ("linear", ("features",)),
    "channel_conv": ("1-D conv", ("kernel",)),
    "split": ("split in", ("parts",)),
    "drop_path": ("drop path", ("rate",)),
    "dropout": ("dropout", ("rate",)),
}


@dataclass
class Column:
    """A section as the table shows it."""

    name: str
    output: str
    cells: dict[str, list[str]] = field(default_factory=dict)

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Letters with how often each comes."""
        found: list[tuple[str, int]] = []
        for text in self.cells.get("blocks", []):
            if text.startswith("×"):
                found[-1] = (found[-1][0], int(text[1:]))
            else:
                found.append((text, 1))
        return found


def columns(page: Page) -> list[Column]:
    """The sections, in their order; a page may have several rows of them."""
    inside = {word for panel in page.panels for word in panel.words}
    words = [word for word in page.words if word not in inside]
    heads = sorted(
        (
            w
            for w in words
            if abs(w.box[0] - HEADINGS) < 0.1 and w.style == "soft" and w.size == 11.5
        ),
        key=lambda w: w.box[3],
    )
    found: list[Column] = []
    for number, head in enumerate(heads):
        end = heads[number + 1].box[1] if number + 1 < len(heads) else page.height
        if head.text in ("parameters", "multiply-adds"):  # a single line, whatever follows
            end = head.box[3] + 8
        if head.text == "output":
            top = sorted(_between(words, head.box[1] - 18, head.box[1] - 1), key=_left)
            row = [(word, Column(word.whole or word.text, "")) for word in top]
            found += [column for word, column in row if word.text != "input"]
            for word in _between(words, head.box[1], head.box[3] + 1):
                if word is not head:
                    _nearest(word, row).output = word.text
            continue
        cells = [w for w in _between(words, head.box[1] - 2, end - 2) if w is not head]
        for word in sorted(cells, key=lambda w: (round(w.box[3] / 6), w.box[0])):
            _nearest(word, row).cells.setdefault(head.text, []).append(word.text)
    return found


def _between(words: list[Word], top: float, bottom: float) -> list[Word]:
    return [word for word in words if top <= word.center[1] <= bottom]


def _left(word: Word) -> float:
    return word.box[0]


def _nearest(word: Word, row: list[tuple[Word, Column]]) -> Column:
    return min(row, key=lambda each: abs(each[0].center[0] - word.center[0]))[1]


# --- what the panels say -------------------------------------------------------------------------


class Recount:
    """A page with its table and its panels by their letters."""

    def __init__(self, page: Page) -> None:
        self.columns = columns(page)
        self.panels = {panel.words[0].text: panel for panel in page.panels}
        self.abridged = {
            letter
            for letter, panel in self.panels.items()
            if any(re.fullmatch("… [0-9]+ more", word.text) for word in panel.words)
        }

    def stage(self, number: int) -> Counter[Drawn]:
        """Every operation of a stage, as it is drawn, and how often it is there."""
        found: Counter[Drawn] = Counter()
        for letter, times in self.columns[number].runs:
            for each in self.block(letter, number):
                found[each] += times
        return found

    def block(self, letter: str, stage: int) -> Iterator[Drawn]:
        panel = self.panels[letter]
        yield from [("join", ())] * len(panel.circles)
        for _, box in panel.operations:
            words = [
                word.text
                for word in panel.words
                if box[0] <= word.center[0] <= box[2] and box[1] <= word.center[1] <= box[3]
            ]
            if words[0] in self.panels:
                yield from self.block(words[0], stage)
            else:
                yield from self.box(words, stage)

    def box(self, words: list[str], stage: int) -> Iterator[Drawn]:
        """What the words of one box say."""
        notes = [part for word in words for part in word.split(" · ")]
        yield from ((note, ()) for note in notes if note in WORDS.values())
        said = "\n".join(notes)
        if match := re.search(r"^(\d+)×\d+ (conv|max pool|avg pool)( /\w+)?(, \S+)?$", said, re.M):
            kernel, stride = self.value(match[1], stage), (match[3] or " /1").removeprefix(" /")
            step = self.value(stride, stage)
            if match[2] == "conv":
                filters = self.value(match[4].removeprefix(", "), stage)
                yield "conv", (kernel, filters, step, *self.notes(said, stage))
            elif "\nwhere " not in said or step != ONE:
                yield match[2], (kernel, step)
        for kind, pattern in NUMBERED.items():
            if match := re.search(rf"^{pattern}$", said, re.M):
                yield kind, (self.value(match[1], stage),)

    def notes(self, said: str, stage: int) -> tuple[Range, Range]:
        """The groups and the dilation of a convolution."""
        groups = re.search(r"^(\S+) groups$", said, re.M)
        dilation = re.search(r"^dilation (\S+)$", said, re.M)
        kept = DEPTHWISE if "\ndepthwise" in said else ONE
        return (
            self.value(groups[1], stage) if groups else kept,
            self.value(dilation[1], stage) if dilation else ONE,
        )

    def value(self, text: str, stage: int) -> Range:
        """What `4w`, `w/2`, `64`, `s` or `16–32` stands for in a stage."""
        if text == "…":
            return Fraction(-(10**12)), Fraction(10**12)
        match = re.fullmatch(r"(\d*)([a-z])(?:/(\d+))?", text)
        if match is None:
            low, _, high = text.partition("–")
            return _number(low), _number(high or low)
        (said,) = next(
            cells
            for head, cells in self.columns[stage].cells.items()
            if head.endswith(f" {match[2]}")
        )
        low, _, high = said.partition("–")
        factor = Fraction(int(match[1] or 1), int(match[3] or 1))
        return _number(low) * factor, _number(high or low) * factor


def _number(text: str) -> Fraction:
    return Fraction(text)


# --- what the graph has --------------------------------------------------------------------------


def graph(node: Operation | Instance) -> Iterator[Drawn]:
    """The same of a part of the graph itself."""
    operations = walk(node) if isinstance(node, Instance) else [("", node)]
    for _, op in operations:
        kind = op.primitive.name
        if kind in WORDS:
            yield WORDS[kind], ()
        elif kind in ("add", "multiply"):
            yield "join", ()
        elif kind in ATTRIBUTES:
            shown, names = ATTRIBUTES[kind]
            numbers = [exact(op.attributes[name]) for name in names]
            if kind == "conv" and op.attributes["groups"] == op.inputs[0].channels != 1:
                numbers[3] = DEPTHWISE
            yield shown, tuple(numbers)
        elif kind == "take" and 0 in (op.attributes["start"], op.attributes["stop"]):
            which = "last" if op.attributes["start"] else "first"
            yield which, (exact(op.output.channels),)
        elif kind == "softmax" and op.attributes["groups"]:
            yield "softmax over", (exact(op.attributes["groups"]),)


def exact(value: object) -> Range:
    assert isinstance(value, int | float)
    return Fraction(value), Fraction(value)


# --- comparing -----------------------------------------------------------------------------------


def wrong_numbers(network: Network, page: Page) -> list[str]:
    """What a page says of a network that is not so."""
    recount = Recount(page)
    found = list(_totals(network, page, recount.columns))
    root = network.root
    stages = {stage.name: stage for stage in network.stages}
    in_stages = {index for stage in network.stages for index in stage.steps}
    before = [root.steps[k].node for k in range(network.head) if k not in in_stages]
    behind = [step.node for step in root.steps[network.head :]]
    for number, column in enumerate(recount.columns):
        stage = next((s for name, s in stages.items() if name.endswith(column.name)), None)
        if stage is None:
            found += _layers(column, before if column.name == "stem" else behind)
            continue
        if "…" in column.cells.get("blocks", []):
            continue  # not all of its blocks fit
        steps = [root.steps[index].node for index in stage.steps]
        blocks = [node for node in steps if isinstance(node, Instance)]
        if sum(times for _, times in column.runs) != len(blocks):
            found.append(f"{column.name}: {column.runs} are not {len(blocks)} blocks")
        if recount.abridged & {letter for letter, _ in column.runs}:
            continue
        there: Counter[Drawn] = Counter()
        equal = Counter(map(id, blocks))
        for node in {id(node): node for node in blocks}.values():
            for each in graph(node):
                there[each] += equal[id(node)]
        found += [f"{column.name}: {each}" for each in _differences(recount.stage(number), there)]
    return found


def _layers(column: Column, nodes: list[Operation | Instance]) -> Iterator[str]:
    """Of a stem or head, whose layers stand in the table alone."""
    cells = column.cells.get("layers", [])
    if any(cell == "…" or cell.startswith("block ") or cell[:1].isupper() for cell in cells):
        return  # there are more, or some that have a panel
    said: Counter[tuple[object, ...]] = Counter()
    for cell in cells:
        pattern = r"(?:(\d+)×\d+|(linear)), (\d+)(?: /(\d+))?(?: \(×(\d+)\))?"
        if match := re.fullmatch(pattern, cell):
            what = int(match[1]) if match[1] else match[2]
            said[what, int(match[3]), int(match[4] or 1)] += int(match[5] or 1)
    there: Counter[tuple[object, ...]] = Counter()
    for node in nodes:
        for _, op in walk(node) if isinstance(node, Instance) else [("", node)]:
            given = op.attributes
            if op.primitive.name == "conv":
                there[given["kernel"], given["filters"], given["stride"]] += 1
            elif op.primitive.name == "linear":
                there["linear", given["features"], 1] += 1
    if said != there:
        yield f"{column.name}: {said} is drawn, {there} is there"


def _differences(said: Counter[Drawn], left: Counter[Drawn]) -> Iterator[str]:
    both = said & left
    said, left = said - both, left - both
    # Ranges that end first take the least that they can: then all are served that can be.
    rest = sorted(left.elements())
    for kind, ranges in sorted(said.elements(), key=_ends):
        fits = [i for i, each in enumerate(rest) if each[0] == kind and _within(each[1], ranges)]
        if fits:
            rest.pop(fits[0])
        else:
            yield f"{kind} {_shown(ranges)} is drawn, but not there"
    for kind, ranges in rest:
        yield f"{kind} {_shown(ranges)} is there, but not drawn"


def _ends(drawn: Drawn) -> list[Fraction]:
    return [high for _, high in drawn[1]]


def _within(numbers: tuple[Range, ...], ranges: tuple[Range, ...]) -> bool:
    return len(numbers) == len(ranges) and all(
        low - _rounding(value) <= value <= high + _rounding(value)
        for (value, _), (low, high) in zip(numbers, ranges, strict=True)
    )


def _rounding(value: Fraction) -> Fraction:
    """Rates are printed with two digits."""
    return value / 20 if value.denominator > 1 else Fraction(0)


def _shown(ranges: tuple[Range, ...]) -> str:
    return " ".join(str(low) if low == high else f"{low}–{high}" for low, high in ranges)


def _totals(network: Network, page: Page, table: list[Column]) -> Iterator[str]:
    """Parameters and multiply-adds: each in its three digits, and in the description exactly."""
    root = network.root
    exact = re.findall(r"([\d,]+) parameters, ([\d,]+) multiply-adds", page.description)
    whole, *parts = [(int(p.replace(",", "")), int(m.replace(",", ""))) for p, m in exact]
    if whole != (root.parameters, root.macs):
        yield f"the network has {root.parameters} and {root.macs}, not {whole}"
    if tuple(map(sum, zip(*parts, strict=True))) != whole:
        yield f"{parts} do not add up to {whole}"
    if len(parts) != len(table):
        yield f"{len(table)} columns, {len(parts)} sections"
    for column, numbers in zip(table, parts, strict=False):
        for head, number in zip(("parameters", "multiply-adds"), numbers, strict=True):
            (said,) = column.cells[head]
            if not _rounds(number, said):
                yield f"{column.name}: {number} {head} are drawn as {said}"


def _rounds(number: int, said: str) -> bool:
    if said == "–":
        return number == 0
    digits, _, unit = said.partition(" ")
    _, _, decimals = digits.partition(".")
    return abs(Fraction(digits) * UNITS[unit] - number) <= Fraction(
        UNITS[unit], 2 * 10 ** len(decimals)
    )


def panel_of(page: Page, letter: str) -> Picture:
    return next(panel for panel in page.panels if panel.words[0].text == letter)
