"""The words in the boxes: what an operation is, and what belongs to it, in small lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from resnet_spec.drawing.boxes import BLOCK, CHAIN, INPUT, JOINS, MORE, OUTPUT, Box
from resnet_spec.drawing.symbols import Symbols, shown
from resnet_spec.drawing.variants import part_of

if TYPE_CHECKING:
    from resnet_spec.drawing.figure import Figure, Inset

_TEXTS = {
    "global_avg_pool": "global avg pool",
    "global_max_pool": "global max pool",
    "channel_avg_pool": "mean over channels",
    "channel_max_pool": "max over channels",
    "pad_channels": "zero channels",
    "shuffle": "reorder channels",
    "stack_rows": "stack rows",
    "zero_pad": "zero pad",
}


class Line(NamedTuple):
    """One line of a box; `title` is what it is, the others are small."""

    kind: Literal["before", "title", "block", "after"]
    text: str
    inset: Inset | None = None


@dataclass(eq=False)
class Drawn:
    """A box of an inset with its lines, as it is laid out."""

    box: Box
    lines: tuple[Line, ...]


def drawn(figure: Figure, inset: Inset, symbols: Symbols) -> list[Drawn]:
    """The boxes of an inset with their labels."""
    found = []
    for box in inset.boxes:
        # The number that a label states must be that of every use, so the symbols look at all.
        def text(attribute: str, box: Box = box) -> str:
            return symbols.text(inset, box, attribute)

        found.append(Drawn(box, _lines(figure, box, text)))
    return found


def _lines(figure: Figure, box: Box, text: Callable[[str], str]) -> tuple[Line, ...]:
    if box.kind in (INPUT, OUTPUT):
        return (Line("title", box.name),)
    if box.kind in (CHAIN, MORE):
        return (Line("title", " · ".join(box.after)),)
    if box.kind in JOINS:
        return (Line("title", JOINS[box.kind]),)
    if box.kind == BLOCK:
        named = figure.inset_of(box)
        main = Line("block", named.title, named)
    else:
        main = Line("title", _title(box, text))
    notes = [*_notes(box, text), *box.after]
    lines = [main]
    if box.before:
        lines.insert(0, Line("before", " · ".join(box.before)))
    if notes:
        lines.append(Line("after", " · ".join(notes)))
    return tuple(lines)


def _title(box: Box, text: Callable[[str], str]) -> str:
    """`3×3 conv /s, 4w`: the operation, its stride, its channels."""
    step = ""
    if "stride" in box.attributes and (stride := text("stride")) != "1":
        step = f" /{stride}"
    if box.kind in _TITLES:
        return _TITLES[box.kind](box, text, step)
    return _TEXTS.get(box.kind, box.kind.replace("_", " ")) + step


def _pool(box: Box, text: Callable[[str], str], step: str) -> str:
    return f"{_window(box)} {box.kind[:3]} pool{step}"


def _noise(box: Box, text: Callable[[str], str], step: str) -> str:
    return f"{box.kind.replace('_', ' ')}, {text('rate')}"


def _adaptive(box: Box, text: Callable[[str], str], step: str) -> str:
    size = box.attributes["size"]
    return f"avg pool to {size}×{size}"


def _softmax(box: Box, text: Callable[[str], str], step: str) -> str:
    return f"softmax over {text('groups')}" if box.attributes["groups"] else "softmax"


# How a title is made where more than a name is to be said: from the box, a function that gives a
# number as it is printed, and the stride.
_TITLES: dict[str, Callable[[Box, Callable[[str], str], str], str]] = {
    "conv": lambda box, text, step: f"{_window(box)} conv{step}, {text('filters')}",
    "linear": lambda box, text, step: f"linear, {text('features')}",
    "channel_conv": lambda box, text, step: f"1-D conv, {text('kernel')} channels",
    "max_pool": _pool,
    "avg_pool": _pool,
    "blur_pool": lambda box, text, step: f"blur{step}",
    "adaptive_avg_pool": _adaptive,
    "split": lambda box, text, step: f"split in {box.outputs}",
    "take": lambda box, text, step: _taken(box, text),
    "softmax": _softmax,
    "rescale": lambda box, text, step: _rescaled(
        float(box.attributes["factor"]), float(box.attributes["offset"])
    ),
    "drop_path": _noise,
    "dropout": _noise,
}


def _taken(box: Box, text: Callable[[str], str]) -> str:
    part = part_of(box)
    if part in ("first", "last"):
        return f"{part} {text('channels')} channels"
    return f"channels {part}"


def _rescaled(factor: float, offset: float) -> str:
    if (factor, offset) == (-1, 1):
        return "1 − x"
    said = f"× {factor:g}" if factor != 1 or not offset else ""
    if offset:
        said += f" {'+' if offset > 0 else '−'} {abs(offset):g}"
    return said.strip()


def _window(box: Box) -> str:
    kernel = box.attributes["kernel"]
    return f"{kernel}×{kernel}"


def _notes(box: Box, text: Callable[[str], str]) -> list[str]:
    """What else is to be said of an operation."""
    found = []
    if box.kind == "conv":
        if box.depthwise:
            found.append("depthwise")
        elif (groups := text("groups")) != "1":
            found.append(f"{groups} groups")
        if (dilation := text("dilation")) != "1":
            found.append(f"dilation {dilation}")
        if box.attributes.get("standardize"):
            found.append("standardized")
    if box.optional:
        found.append(f"where {text('stride')} > 1")
    return found


# --- the layers of a section ---------------------------------------------------------------------


def bracket(figure: Figure, section: int) -> list[tuple[str, Inset | None, int]]:
    """What a section computes, as in the paper's table 1: text, block that it names, how often.

    Of a stage these are the layers of its most frequent block, without shortcuts and joins.
    """
    part = figure.sections[section]
    found: list[tuple[str, Inset | None, int]] = []

    def add(line: tuple[str, Inset | None]) -> None:
        if found and found[-1][:2] == line:
            found[-1] = (*line, found[-1][2] + 1)
        else:
            found.append((*line, 1))

    if part.runs:
        most = max(count for _, count in part.runs)
        inset = next(inset for inset, count in reversed(part.runs) if count == most)
        alike = [use.boxes for use in inset.uses if use.section == section]
        for box in inset.boxes:
            if line := _entry(figure, [boxes[box.index] for boxes in alike], False):
                add(line)
    for box in part.layers:
        if line := _entry(figure, [box], True):
            add(line)
    return found


def _entry(figure: Figure, alike: Sequence[Box], plain: bool) -> tuple[str, Inset | None] | None:
    box = alike[-1]
    given = box.attributes
    if box.shortcut:
        return None
    step = f" /{given['stride']}" if given.get("stride", 1) != 1 else ""
    match box.kind:
        case "conv":
            values = [each.attributes["filters"] for each in alike]
            low, high = min(values), max(values)
            return f"{_window(box)}, {shown(low if low == high else (low, high))}{step}", None
        case "linear":
            return f"linear, {given['features']}", None
        case "max_pool" | "avg_pool":
            return f"{_window(box)} {box.kind[:3]} pool{step}", None
        case "block":
            return "", figure.inset_of(box)
        case "global_avg_pool" | "global_max_pool" | "adaptive_avg_pool" | "blur_pool" if plain:
            return _title(box, lambda name: str(given[name])), None
    return None


# --- many equal branches -------------------------------------------------------------------------

_MANY = 6  # outputs of a split, from which on its equal branches are not all drawn
_ALIKE = 4
_MOST = 500  # boxes among which branches are looked for


def abridged(items: list[Drawn]) -> list[Drawn]:
    """Of many equal branches between a split and its concat, the first and the last stay."""
    split = next((d.box for d in items if d.box.kind == "split" and d.box.outputs >= _MANY), None)
    if split is None or len(items) > _MOST:
        return items
    later = items[split.index + 1 :]
    end = next((d.box.index for d in later if d.box.kind == "concat"), None)
    if end is None:
        return items
    branches = _branches(items, split, end)
    looks = [tuple((items[i].box.kind, items[i].lines) for i in branch) for branch in branches]
    first = next((k for k, look in enumerate(looks) if look and looks.count(look) >= _ALIKE), None)
    if first is None:
        return items
    alike = [k for k, look in enumerate(looks) if look == looks[first]]
    middle = alike[1:-1]
    linked = [_linked(items, branches[k], branches[n]) for k, n in pairwise(alike)]
    if len(set(linked)) != 1 or middle != list(range(middle[0], middle[-1] + 1)):
        return items
    return _shortened(items, split, branches, middle)


def _branches(items: list[Drawn], split: Box, end: int) -> list[list[int]]:
    """The boxes on the way from each output of the split to the concat."""
    taken: set[int] = set()
    found = []
    for port in range(split.outputs):
        branch = [
            d.box.index
            for d in items
            if (split.index, port) in d.box.inputs and d.box.index not in (end, *taken)
        ][:1]
        taken.update(branch)
        while branch:
            more = [
                d.box.index
                for d in items
                if d.box.index not in (end, *taken)
                and any(source == branch[-1] for source, _ in d.box.inputs)
                and all(source != split.index for source, _ in d.box.inputs)
            ]
            if not more:
                break
            branch.append(more[0])
            taken.add(more[0])
        found.append(branch)
    return found


def _linked(items: list[Drawn], before: list[int], after: list[int]) -> bool:
    """Whether a branch reads what the one before it gives."""
    return any(source in before for i in after for source, _ in items[i].box.inputs)


def _shortened(
    items: list[Drawn], split: Box, branches: list[list[int]], middle: list[int]
) -> list[Drawn]:
    gone = {i for k in middle for i in branches[k]}
    stand = branches[middle[0]][0]  # where the box for those left out stands
    text = f"… {len(middle)} more"
    kept = [d for d in items if d.box.index not in gone or d.box.index == stand]
    number = {d.box.index: place for place, d in enumerate(kept)}
    number.update(dict.fromkeys(gone, number[stand]))
    ports = [port for port in range(split.outputs) if port not in middle[1:]]
    found = []
    for place, item in enumerate(kept):
        inputs: dict[tuple[int, int], None] = {}
        for source, port in item.box.inputs:
            if source != split.index:
                inputs[number[source], 0 if source in gone else port] = None
            elif port in ports:
                inputs[number[source], ports.index(port)] = None
        box = replace(item.box, index=place, inputs=tuple(inputs))
        lines = item.lines
        if item.box.index == stand:
            box = replace(box, kind=MORE, after=(text,), outputs=1)
            lines = (Line("title", text),)
        elif item.box.index == split.index:
            box = replace(box, outputs=len(ports))
        found.append(Drawn(box, lines))
    return found
