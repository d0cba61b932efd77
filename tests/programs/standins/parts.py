"""What a text freezes, from each of some stages and layers on in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from resnet_spec.ir import Network
from standins.expected import Layer
from standins.run import Run


def frozen_in_turn(
    run: Run,
    turn: Callable[[set[str]], None],
    freeze_until: Callable[[str], None] | None,
    by_depth: bool = False,
    within_blocks: bool = True,
) -> Iterator[tuple[str, set[str]]]:
    """A stage or layer to freeze until, with the layers that are trained then.

    Whether something was trained before makes no difference, so `turn` turns it all round first.
    `by_depth`: the framework knows how deep a layer stands, so nothing may run beside another.
    `within_blocks`: layers of blocks can be named, too.
    """
    layers = [each.name for each in run.expected.layers]
    names = kept(run.expected.layers)
    names = names if within_blocks else _outermost(run, names)
    ordered = _stand_as_they_run(names) and not _is_shared(run)
    if by_depth:
        before = (0, *(step.outputs[-1] for step in run.expected.network.root.steps))
        steps = zip(run.expected.network.root.steps, before, strict=False)
        ordered = ordered and all(step.inputs == (value,) for step, value in steps)
    if freeze_until is None:
        if ordered:
            run.note("there is no freeze_until, though layers stand as they run")
        return
    if not ordered:
        run.note("there is a freeze_until, though layers do not stand as they run")
        return
    names = _boundaries(run)
    for name in dict.fromkeys((*names[:1], *names[len(names) // 2 :][:1], *names[-1:])):
        first = next(n for n, each in enumerate(layers) if f"{each}.".startswith(f"{name}."))
        trained = set(layers[first:])
        turn(trained)
        freeze_until(name)
        yield name, trained
    try:
        freeze_until("no such stage")
    except ValueError:
        return
    run.note("freeze_until takes the name of nothing")


def kept(layers: Iterable[Layer]) -> list[str]:
    """What has a place of its own, in order: layers, and blocks that have none."""
    own = [(each, each.named or bool(each.operation.parameters)) for each in layers]
    within = {p for each, is_kept in own if is_kept for p in _prefixes(each.name)}
    within |= {p for each, _ in own for p in _prefixes(each.block) if p != each.block}
    names = (each.name if is_kept else each.block for each, is_kept in own)
    kept_ = [n for (_, is_kept), n in zip(own, names, strict=True) if is_kept or n not in within]
    return [name for name in kept_ if name]


def _prefixes(name: str) -> Iterable[str]:
    return accumulate(name.split("."), "{}.{}".format)


def _stand_as_they_run(names: list[str]) -> bool:
    """Whether nothing runs in between of what is kept below one dotted name."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        for prefix in _prefixes(name):
            places.setdefault(prefix, []).append(place)
    return all(each[-1] - each[0] + 1 == len(each) for each in places.values())


def _outermost(run: Run, names: list[str]) -> list[str]:
    """For each layer the network's own layer or block that it is, or is in."""
    own = {step.name for step in run.expected.network.root.steps}
    return [[prefix for prefix in _prefixes(name) if prefix in own][-1] for name in names]


def _is_shared(run: Run) -> bool:
    """Whether a layer outside of a stage is called as if it stood in it."""
    network = run.expected.network
    for stage in network.stages:
        outside = [s.name for n, s in enumerate(network.root.steps) if n not in stage.steps]
        if any(name.startswith(f"{stage.name}.") for name in outside):
            return True
    return False


def _boundaries(run: Run) -> list[str]:
    """The stages that learn, and the layer that begins a head in which one follows the other."""
    network = run.expected.network
    owners = [f"{name}." for name in run.expected.tensors]
    stages = [stage.name for stage in network.stages]
    found = [each for each in stages if any(name.startswith(f"{each}.") for name in owners)]
    return [*found, *_head(network, owners)]


def _head(network: Network, owners: list[str]) -> list[str]:
    steps = network.root.steps[network.head :]
    results = [network.stages[-1].result, *(step.outputs[0] for step in steps)]
    if any(step.inputs != (before,) for step, before in zip(steps, results, strict=False)):
        return []
    learning = (s.name for s in steps if any(name.startswith(f"{s.name}.") for name in owners))
    return [*learning][:1]
