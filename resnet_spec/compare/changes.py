"""What differs between two networks, told by stage and block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from resnet_spec.compare.align import Alignment, Indices, Pair
from resnet_spec.compare.canonical import COMMUTATIVE
from resnet_spec.compare.rules import OF_ATTRIBUTES
from resnet_spec.ir import Instance, Network, Operation
from resnet_spec.ir.summary import stretches
from resnet_spec.language.json_schema import shown
from resnet_spec.language.syntax import Recipe

_SHOWN = 8  # names of an order


@dataclass(frozen=True)
class Change:
    """One difference and where it is: `places` are names of layers and blocks, or empty.

    `sections` are those of the new network (of the old one, for what is gone) that hold them.
    """

    rule: str
    what: str
    before: str | None = None
    after: str | None = None
    places: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()


class _Found(NamedTuple):
    """A difference at one place."""

    rule: str
    place: str
    what: str
    before: str | None = None
    after: str | None = None
    of_old: bool = False  # where only the old network has it


def changes(
    old: Network, new: Network, alignment: Alignment, pairs: Sequence[Pair]
) -> list[Change]:
    """All differences, equal ones at several places put together, in the order of the network."""
    sections = _sections(old), _sections(new)
    groups: dict[tuple[str, str, str | None, str | None], list[_Found]] = {}
    for found in _with_moves(_differences(old, new, alignment, pairs)):
        groups.setdefault((found.rule, found.what, found.before, found.after), []).append(found)
    result = list(_of_network(old, new))
    for key, members in groups.items():
        places = tuple(dict.fromkeys(each.place for each in members))
        within = dict.fromkeys(
            _section(each.place, sections[0] if each.of_old else sections[1]) for each in members
        )
        result.append(Change(*key, places, tuple(name for name in within if name)))
    return result


def _of_network(old: Network, new: Network) -> Iterator[Change]:
    """What is no layer's: the image, the classes, the feature maps, and how it is trained."""
    if old.input.channels != new.input.channels:
        ours, theirs = old.input.channels, new.input.channels
        yield Change("input-channels", "channels of an image", str(ours), str(theirs))
    before, after = (f"{each.input.height}x{each.input.width}" for each in (old, new))
    if before != after:
        yield Change("input-size", "size of an image", before, after)
    if old.classes != new.classes:
        yield Change("classes", "classes", str(old.classes), str(new.classes))
    before, after = map(_feature_maps, (old, new))
    if before != after:
        yield Change("feature-maps", "feature maps", before, after)
    if old.numerics != new.numerics:
        yield Change("numerics", "numerics", old.numerics, new.numerics)
    yield from _of_recipes(old.recipe, new.recipe)


def _feature_maps(network: Network) -> str:
    return ", ".join(each.name for each in network.stages if each.feature) or "none"


def _of_recipes(old: Recipe | None, new: Recipe | None) -> Iterator[Change]:
    if old is None or new is None:
        if old is not new:
            before, after = ((each.name or "its own") if each else None for each in (old, new))
            yield Change("recipe", "training recipe", before, after)
        return
    for key in sorted({*old.settings, *new.settings}):
        ours, theirs = old.settings.get(key), new.settings.get(key)
        if ours != theirs:
            yield Change("recipe", f"training {key}", shown(ours), shown(theirs))


# --- places --------------------------------------------------------------------------------------


def _sections(network: Network) -> dict[str, str]:
    """The section of each step of the network itself."""
    return {
        network.root.steps[index].name: name
        for name, _, indices, _ in stretches(network)
        for index in indices
    }


def _section(place: str, sections: Mapping[str, str]) -> str | None:
    """The section that a layer or a block, however deep, is in."""
    while place and place not in sections:
        place = place.rpartition(".")[0]
    return sections.get(place)


# --- differences ---------------------------------------------------------------------------------


def _differences(
    old: Network, new: Network, alignment: Alignment, pairs: Sequence[Pair]
) -> Iterator[_Found]:
    yield from _of_block("", old.root, new.root, alignment)
    for pair in pairs:
        if pair.old is None or pair.new is None:
            yield _alone(pair)
        elif isinstance(pair.old.node, Operation) and isinstance(pair.new.node, Operation):
            yield from _of_operations(pair.new_name, pair.old.node, pair.new.node)
        elif isinstance(pair.old.node, Instance) and isinstance(pair.new.node, Instance):
            names = pair.old.node.definition.name, pair.new.node.definition.name
            if names[0] != names[1]:
                yield _Found("block", pair.new_name, "block", *names)
            yield from _of_block(pair.new_name, pair.old.node, pair.new.node, alignment)


def _alone(pair: Pair) -> _Found:
    """A step that only one network has."""
    step = pair.old if pair.new is None else pair.new
    assert step is not None
    if isinstance(step.node, Instance):
        kind, shown = "block", step.node.definition.name
    else:
        kind, shown = "layer", _shown(step.node)
    if pair.new is None:
        return _Found(f"{kind}-removed", pair.old_name, kind, shown, None, of_old=True)
    return _Found(f"{kind}-added", pair.new_name, kind, None, shown)


def _shown(operation: Operation) -> str:
    """An operation with the size of its window: `conv 3x3`."""
    kernel = operation.attributes.get("kernel")
    name = operation.primitive.name
    return name if kernel is None else f"{name} {kernel}x{kernel}"


def _of_operations(place: str, old: Operation, new: Operation) -> Iterator[_Found]:
    if old.primitive is not new.primitive:
        groups = {old.primitive.group, new.primitive.group}
        kind = groups.pop() if len(groups) == 1 else "other"
        rule = {"activation": "activation", "norm": "normalization"}.get(kind, "operation")
        yield _Found(rule, place, "layer", _shown(old), _shown(new))
        return
    for attribute in old.primitive.attributes:
        before, after = (each.attributes[attribute.name] for each in (old, new))
        if before != after:
            rule = OF_ATTRIBUTES.get(attribute.name, "attribute")
            what = f"{old.primitive.name} {attribute.name}"
            yield _Found(rule, place, what, shown(before), shown(after))


def _exchanged(one: _Found, other: _Found) -> bool:
    return (one.before, one.after) == (other.after, other.before)


def _with_moves(found: Iterable[_Found]) -> Iterator[_Found]:
    """The same, where two layers of a block exchange their strides as one difference."""
    blocks: dict[str, list[_Found]] = {}
    rest = []
    for each in found:
        if each.rule == "stride":
            blocks.setdefault(each.place.rpartition(".")[0], []).append(each)
        else:
            rest.append(each)
    for block, members in blocks.items():
        if len(members) == 2 and _exchanged(*members):
            first, last = members if int(members[0].before or 0) > 1 else reversed(members)
            names = [each.place.rpartition(".")[2] for each in (first, last)]
            yield _Found("stride-moved", block, f"stride {first.before}", names[0], names[1])
        else:
            rest += members
    yield from rest


# --- the wiring of one block ---------------------------------------------------------------------


def _of_block(place: str, old: Instance, new: Instance, alignment: Alignment) -> Iterator[_Found]:
    """What differs in how the steps of a block stand and feed one another."""
    if old is new:
        return
    partners = dict(sorted(_both(alignment.steps(old, new))))
    before = [new.steps[b].name for b in partners.values()]
    after = [new.steps[b].name for b in sorted(partners.values())]
    if before == after:
        yield from _of_wires(place, (old, new), partners)
        return
    first = next(n for n, name in enumerate(before) if name != after[n])
    yield _Found("order", place, "order", _listed(before[first:]), _listed(after[first:]))


def _both(indices: Iterable[Indices]) -> Iterator[tuple[int, int]]:
    for a, b in indices:
        if a is not None and b is not None:
            yield a, b


def _listed(names: list[str]) -> str:
    return ", ".join(names if len(names) <= _SHOWN else [*names[:_SHOWN], "…"])


def _of_wires(
    place: str, both: tuple[Instance, Instance], partners: Mapping[int, int]
) -> Iterator[_Found]:
    """Steps that take another value than before, where both values have partners."""
    old, new = both
    ours, theirs = _givers(old), _givers(new)
    known = {_INPUT: _INPUT, **partners}
    for a, b in partners.items():
        before = [ours[number] for number in old.steps[a].inputs]
        after = [theirs[number] for number in new.steps[b].inputs]
        if any(giver not in known for giver, _ in before):
            continue  # what was removed says so itself
        if any(giver not in known.values() for giver, _ in after):
            continue  # and so does what was added
        carried = [(known[giver], part) for giver, part in before]
        node = new.steps[b].node
        free = isinstance(node, Operation) and node.primitive.name in COMMUTATIVE
        if (sorted(carried) != sorted(after)) if free else (carried != after):
            name = f"{place}.{new.steps[b].name}" if place else new.steps[b].name
            yield _Found("wiring", name, "takes", _named(old, before), _named(new, after))


_INPUT = -1


def _givers(instance: Instance) -> dict[int, tuple[int, int]]:
    """For each value the step that gives it, and which of the step's outputs it is."""
    found = {0: (_INPUT, 0)}
    for index, step in enumerate(instance.steps):
        for part, number in enumerate(step.outputs):
            found[number] = (index, part)
    return found


def _named(instance: Instance, givers: Iterable[tuple[int, int]]) -> str:
    return ", ".join("x" if step == _INPUT else instance.steps[step].name for step, _ in givers)
