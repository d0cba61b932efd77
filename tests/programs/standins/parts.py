"""The parts that a text can freeze: what its table says, and what is frozen in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from standins.run import Run


def check_parts(space: Mapping[str, Any], separator: str, run: Run) -> None:
    """`PARTS` names every part in order, each with the whole first parts of names in it alone."""
    order = _order(run)
    table: Mapping[str, tuple[str, ...]] = space["PARTS"]
    owners = {name.rpartition(".")[0] for name in run.expected.tensors}
    names = {
        f"{layer}.".replace(".", separator): part
        for layer, part in run.expected.parts.items()
        if layer in owners
    }
    if list(table) != [part for part in order if part != "stem" or part in names.values()]:
        run.note(f"PARTS has {list(table)}, and should have {order}")
    for part, beginnings in table.items():
        for begin in beginnings:
            found = {own for name, own in names.items() if name.startswith(begin)}
            # Of several parts that a name may be of, the last one has it.
            first = min(found, key=order.index, default=None)
            if first != part or not begin.endswith(separator):
                return run.note(f"PARTS: {begin!r} of {part} begins names of {sorted(found)}")
        ranks = [min(r for r, name in enumerate(names) if name.startswith(b)) for b in beginnings]
        if ranks != sorted(ranks):
            run.note(f"PARTS: the names of {part} are not in the order in which they run")
    every = tuple(begin for beginnings in table.values() for begin in beginnings)
    for name, part in names.items():
        if not name.startswith(every):
            run.note(f"PARTS: nothing begins {name!r} of {part}")


def _order(run: Run) -> list[str]:
    """Every part in its order; a stage that does nothing is one, too."""
    stages = [stage.name for stage in run.expected.network.stages]
    return ["stem", *stages, "head"]


def frozen_in_turn(
    run: Run,
    learning: set[str],
    turn: Callable[[set[str]], None],
    freeze_until: Callable[[str], None],
) -> Iterator[tuple[str, set[str]]]:
    """The first part, one in the middle and the last, each with what is trained from it on.

    Whether something was trained before makes no difference, so `turn` turns it all round first.
    """
    order = [part for part in _order(run) if part != "stem" or part in learning]
    for index in sorted({0, len(order) // 2, len(order) - 1}):
        name, trained = order[index], set(order[index:])
        turn(trained)
        freeze_until(name)
        yield name, trained
    try:
        freeze_until("no such part")
    except ValueError:
        return
    run.note("freeze_until takes the name of no part")
