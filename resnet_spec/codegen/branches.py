"""Lines in a row under one condition, which are written as one `if`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from resnet_spec.expressions import Expr
from resnet_spec.specialize import (
    AssignLine,
    CallLine,
    FeatureLine,
    Line,
    OperationLine,
    Value,
    flat,
)

Layer = OperationLine | CallLine


class Branch(NamedTuple):
    """Lines that run where a condition holds, and what their variables are elsewhere.

    `before` tells that these can be assigned first, as nothing in the branch reads what they hide.
    """

    when: Expr
    lines: tuple[Layer, ...]
    passing: Mapping[str, Value]
    before: bool


def joined(lines: Sequence[Line], kept: str) -> Iterator[Line | Branch]:
    """The lines of a function, those of a branch together; `kept` is read after them all."""
    read = Counter(_read(lines))
    for _, each in groupby(enumerate(lines), lambda pair: _condition(*pair)):
        together = [line for _, line in each]
        yield from together if len(together) == 1 else (_branch(together, read, kept),)


def within(lines: Sequence[Line], kept: str) -> set[int]:
    """The `id` of each line that is in a branch."""
    branches = (unit for unit in joined(lines, kept) if isinstance(unit, Branch))
    return {id(line) for branch in branches for line in branch.lines}


def _condition(number: int, line: Line) -> tuple[Expr | None, int]:
    """What lines of one branch have in common: nobody else has the number of a line."""
    if not isinstance(line, OperationLine | CallLine) or line.when is None:
        return None, number
    many = isinstance(line, OperationLine) and (line.primitive.gives == "many" or line.grows)
    of_list = any(each.index is not None or each.whole for each in (line.output, passing(line)))
    return line.when, number if many or of_list else -1


def _branch(together: Sequence[Line], read: Counter[str], kept: str) -> Branch:
    # A value that passes is one of before the branch: none is hidden by what is assigned earlier.
    lines = tuple(line for line in together if isinstance(line, OperationLine | CallLine))
    own = Counter(_read(lines))
    values: dict[str, Value] = {}
    outer: set[str] = set()  # what the branch reads of before it
    for line in lines:
        outer |= {each.name for each in line.inputs} - values.keys()
        source = passing(line)
        values[line.output.name] = values.get(source.name, source)
    needed = {
        name: value
        for name, value in values.items()
        if value.name != name and (name in (kept, "return") or read[name] > own[name])
    }
    assert lines[0].when is not None
    return Branch(lines[0].when, lines, needed, outer.isdisjoint(needed))


def passing(line: Layer) -> Value:
    """What passes through where the condition of a line does not hold."""
    return line.otherwise or line.inputs[0]


def _read(lines: Iterable[Line]) -> Iterator[str]:
    """The name of each value that lines read, as often as they do."""
    for line in flat(lines):
        match line:
            case OperationLine() | CallLine():
                yield from (value.name for value in (*line.inputs, passing(line)))
            case AssignLine():
                yield from (value.name for value in line.inputs)
            case FeatureLine():
                yield line.value.name
