"""One network compared with another: what differs, what is proven the same, what loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from resnet_spec.compare.align import Alignment, Pair
from resnet_spec.compare.canonical import correspondence, sameness
from resnet_spec.compare.changes import Change, changes
from resnet_spec.compare.graph import flat
from resnet_spec.compare.rules import RULES, Effect
from resnet_spec.compare.tensors import ENOUGH, Tensors, carried, layers_of, shapes
from resnet_spec.ir import Network
from resnet_spec.ir.summary import Section, Summary, summarize

# What these tell stays true of networks whose layers are proven to compute the same.
_STAYING = frozenset(
    {"feature-maps", "classes", "input-channels", "input-size", "tensors-exchanged"}
)

Function = Literal["same", "same-after-renames", "differs"]


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    `function` tells what is proven of the logits and feature maps in evaluation: with tensors
    loaded as they are, or by `tensors.renames`. What `differs` is not proven to be the same.
    """

    old: Network
    new: Network
    function: Function
    tensors: Tensors
    changes: tuple[Change, ...]
    sections: tuple[tuple[Section | None, Section | None], ...]
    summaries: tuple[Summary, Summary]

    def effect_of(self, change: Change) -> Effect:
        """What a change does here: no layer changes a function that is proven to be the same."""
        effect = RULES[change.rule].effect
        if effect is Effect.LOADS and self.function != "differs":
            return effect if change.rule in _STAYING else Effect.SAME
        return effect

    @cached_property
    def effect(self) -> Effect:
        """The class of the whole."""
        effects = [self.effect_of(change) for change in self.changes]
        return max((Effect.SAME, *effects), key=lambda each: each.rank)


def compare(old: Network, new: Network) -> Comparison:
    """Compare two networks; pure, without a framework."""
    alignment = Alignment()
    pairs = list(alignment.pairs(old.root, new.root))
    function, tensors = _function_and_tensors(old, new, pairs)
    found = [*changes(old, new, alignment, pairs), *_of_tensors(tensors)]
    harmless = all(RULES[each.rule].effect is Effect.SAME for each in found)
    if harmless and function == "differs":
        found.append(Change("not-proven", "graph"))
    summaries = summarize(old), summarize(new)
    sections = tuple(_sections(*summaries, pairs))
    return Comparison(old, new, function, tensors, tuple(found), sections, summaries)


def _function_and_tensors(
    old: Network, new: Network, pairs: list[Pair]
) -> tuple[Function, Tensors]:
    ours, theirs = flat(old), flat(new)
    layers = layers_of(pairs)
    alike = correspondence(ours, theirs)
    if alike is not None:
        free = set(layers.values()) - set(alike.values())
        layers = {name: new for name, new in layers.items() if new in free} | alike
    tensors = carried(old, new, layers)
    if shapes(old) == shapes(new):
        kept = carried(old, new, {})
        if sameness(ours, theirs, str).whole:
            return "same", kept
        tensors = kept._replace(renames=tensors.renames)  # names that are exchanged
    if alike is not None and tensors.renames:
        found = sameness(ours, theirs, lambda name: alike.get(name, name))
        return ("same-after-renames" if found.whole else "differs"), tensors
    return "differs", tensors


def _of_tensors(tensors: Tensors) -> Iterator[Change]:
    if tensors.load and tensors.renames:
        yield Change("tensors-exchanged", "tensors")
    for rule, names in (
        ("tensors-renamed", [new for _, new in tensors.renamed]),
        ("tensors-reshaped", [each.new_name for each in tensors.reshaped]),
        ("tensors-new", tensors.new),
        ("tensors-lost", tensors.lost),
    ):
        if names:
            yield Change(rule, "tensors", None, str(len(names)), tuple(names))
    if max(tensors.shares) < ENOUGH:
        before, after = (f"{100 * share:.0f} %" for share in tensors.shares)
        yield Change("weights-few", "weights that load", before, after)


def _sections(
    old: Summary, new: Summary, pairs: Sequence[Pair]
) -> Iterator[tuple[Section | None, Section | None]]:
    """The sections of both in pairs: by name, else by the first steps that stand in one place."""
    ours = {each.name: each for each in old.sections}
    partners = _partners(ours, {each.name for each in new.sections}, pairs)
    used = set()
    for section in new.sections:
        name = partners.get(section.name)
        used.add(name)
        yield (ours[name] if name is not None else None), section
    for name, section in ours.items():
        if name not in used:
            yield section, None


def _partners(
    ours: Mapping[str, Section], theirs: set[str], pairs: Sequence[Pair]
) -> dict[str, str]:
    """The old name of each new section."""
    found = {name: name for name in theirs if name in ours}
    for pair in pairs:
        if pair.old is None or pair.new is None:
            continue
        before, after = (name.partition(".")[0] for name in (pair.old_name, pair.new_name))
        if before in ours and after in theirs and before not in theirs:
            found.setdefault(after, before)
    return found
