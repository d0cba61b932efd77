"""Which blocks are drawn as one, and the letters that they go by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, count
from string import ascii_uppercase
from typing import TYPE_CHECKING

from resnet_spec.drawing.boxes import Box, Key, without

if TYPE_CHECKING:
    from resnet_spec.drawing.figure import Inset, Use

# What a block leaves out where its stride is 1.
_STEPS = ("avg_pool", "max_pool", "blur_pool", "subsample")
# Numbers that a label states as they are, so blocks that differ in one are not drawn as one.
_STATED = ("factor", "offset", "size", "standardize")


def take_form(boxes: Sequence[Box]) -> Key:
    """Equal for blocks that are the same but for channels, strides, groups, dilations, rates."""
    return tuple(_form(box) for box in boxes)


def _form(box: Box) -> Key:
    attributes = box.attributes
    kernel = None if box.kind == "channel_conv" else attributes.get("kernel")
    part = None
    if box.kind == "take":
        part = part_of(box)
    stated = tuple(attributes.get(name) for name in _STATED)
    around = (box.before, box.after, box.outputs, box.shortcut, box.depthwise)
    return (box.kind, kernel, box.inputs, around, part, stated)


def part_of(box: Box) -> str:
    """Which channels a `take` gives: the first, the last, or those between two numbers."""
    start, stop = box.attributes["start"], box.attributes["stop"]
    if start == 0:
        return "first"
    return f"{start} to {stop}" if stop else "last"


# --- variants that lack a step -------------------------------------------------------------------


def merged(insets: Sequence[Inset], nested: Mapping[int, Inset]) -> dict[Inset, Inset]:
    """A variant that lacks only the pooling of a stride of 1 joins the one that has it.

    The uses of `insets` change; what comes back leads from those without uses to whom they joined.
    `nested` has the insets of the blocks that boxes name, by the id of the instance.
    """
    joined: dict[Inset, Inset] = {}

    def same(first: Sequence[Box], second: Sequence[Box]) -> bool:
        named = [
            [joined.get(nested[id(b.nested)], nested[id(b.nested)]) for b in boxes if b.nested]
            for boxes in (first, second)
        ]
        return take_form(first) == take_form(second) and named[0] == named[1]

    while pair := next(_joinable(insets, same), None):
        big, small, extra = pair
        _join(big, small, extra)
        joined = {each: big if into is small else into for each, into in joined.items()}
        joined[small] = big
    return joined


def _joinable(
    insets: Sequence[Inset], same: Callable[[Sequence[Box], Sequence[Box]], bool]
) -> Iterator[tuple[Inset, Inset, tuple[Box, ...]]]:
    live = [inset for inset in insets if inset.uses]
    for big in live:
        steps = [
            box for box in big.boxes if box.kind in _STEPS and box.attributes.get("stride", 1) > 1
        ]
        for small in live if steps else ():
            if (big.block, big.nested) != (small.block, small.nested) or big is small:
                continue
            if {use.section for use in big.uses} & {use.section for use in small.uses}:
                continue
            lack = len(big.boxes) - len(small.boxes)
            for extra in combinations(steps, lack) if 0 < lack <= len(steps) else ():
                gone = {box.index: box.inputs[0] for box in extra}
                if same(without(big.boxes, gone), small.boxes):
                    yield big, small, extra
                    break


def _join(big: Inset, small: Inset, extra: Sequence[Box]) -> None:
    left_out = {box.index for box in extra}

    def marked(use: Use) -> Use:
        boxes = tuple(
            replace(box, optional=True) if box.index in left_out else box for box in use.boxes
        )
        return use._replace(boxes=boxes)

    def filled(use: Use) -> Use:
        theirs = iter(use.boxes)
        boxes = []
        for box in big.boxes:
            if box.index in left_out:
                boxes.append(replace(box, attributes={**box.attributes, "stride": 1}))
            else:
                other = next(theirs)
                boxes.append(
                    replace(
                        box,
                        attributes=other.attributes,
                        channels=other.channels,
                        nested=other.nested,
                    )
                )
        return use._replace(boxes=tuple(boxes))

    uses = [marked(use) for use in [*big.uses, *map(filled, small.uses)]]
    big.uses = sorted(uses, key=lambda use: use[:2])
    small.uses = []


# --- letters -------------------------------------------------------------------------------------


def lettered(insets: Sequence[Inset]) -> list[Inset]:
    """In the order of their letters: by first use, nested ones last; the usual variant is plain."""
    groups: dict[tuple[bool, str], list[Inset]] = {}
    for inset in insets:
        groups.setdefault((inset.nested, inset.block), []).append(inset)
    found = []
    named = sorted(groups.items(), key=lambda item: item[0][0])
    for letter, (_, variants) in zip(_letters(), named, strict=False):
        variants.sort(key=lambda inset: (-inset.count, inset.uses[0][:2]))
        for number, inset in enumerate(variants):
            inset.letter, inset.variant = letter, number
            found.append(inset)
    return found


def _letters() -> Iterator[str]:
    """A to Z, then AA to ZZ, and so on."""
    for turn in count(1):
        for letter in ascii_uppercase:
            yield letter if turn == 1 else letter * turn
