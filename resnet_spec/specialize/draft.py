"""The values and lines of a routine while it is built, before its variables have names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from resnet_spec import expr
from resnet_spec.diagnostics import Span
from resnet_spec.expr import Const, Expr
from resnet_spec.ir import (
    Choice,
    Instance,
    Loop,
    Reference,
    Statement,
    Step,
)
from resnet_spec.specialize.program import AssignLine


@dataclass(eq=False)
class Symbol:
    """A value before it has a variable."""

    channels: Expr
    wanted: str | None = None  # the name that `as` gives
    follows: Symbol | None = None  # shares this one's variable
    variable: str = ""
    readers: int = 0
    nonnegative: bool = False
    last: int = -1  # index of the last line that reads it


@dataclass(eq=False)
class List:
    """A list of values; `total` are the channels of all of them, `each` of one."""

    total: Expr
    each: Expr
    name: str


@dataclass(eq=False)
class Element:
    """One element of a list, or all of them."""

    list: List
    index: Expr | None
    channels: Expr


Slot = Symbol | List | Element


@dataclass(eq=False)
class Draft:
    """A line before its variables have names."""

    kind: str
    inputs: tuple[Slot, ...]
    output: Slot | None
    make: Any  # called with (inputs, output) as values
    when: Expr | None = None
    otherwise: Slot | None = None
    body: list[Draft] = field(default_factory=list)
    group: str = ""
    index: int = 0
    span: Span | None = None


@dataclass
class Scope:
    """What a routine's statements see."""

    names: dict[str, Expr]
    values: dict[str, Symbol | List]
    current: Symbol
    drafts: list[Draft]
    instances: list[Instance]
    steps: dict[int, list[list[Step]]]  # statement: for each instance, its steps
    automatic: Mapping[int, str]  # names of the statements to which the spec gives none
    choices: Mapping[str, Choice]
    loops: tuple[tuple[str, Expr], ...] = ()
    rebound: set[str] = field(default_factory=set)  # names assigned within a loop
    outermost: list[Draft] = field(default_factory=list)  # the lines before all loops


def new_scope(
    names: dict[str, Expr], first: Symbol, instances: list[Instance], choices: Any
) -> Scope:
    steps: dict[int, list[list[Step]]] = {}
    for number, instance in enumerate(instances):
        for step in instance.steps:
            lists = steps.setdefault(id(step.statement), [[] for _ in instances])
            lists[number].append(step)
    automatic = _automatic_names(instances[0].definition.body, steps)
    return Scope(names, {"x": first}, first, [], instances, steps, automatic, choices)


def _automatic_names(
    body: Iterable[Statement | Loop], steps: Mapping[int, list[list[Step]]]
) -> dict[int, str]:
    """A name of its own for each unnamed statement that runs in some instance."""
    statements = [each for each in _flat_statements(body) if id(each[0]) in steps]
    taken = {statement.name.text for statement, _ in statements if statement.name is not None}
    found: dict[int, str] = {}
    numbers: dict[str, int] = {}  # of the last name that each target and loop has got
    for statement, counters in statements:
        if statement.name is None:
            key = f"{statement.target} {counters}"
            name, number = statement.target, numbers.get(key, 1)
            if number > 1:
                name = f"{statement.target}{number}"
            while name + counters in taken:
                number += 1
                name = f"{statement.target}{number}"
            numbers[key] = number
            taken.add(name + counters)
            found[id(statement)] = name
    return found


def _flat_statements(
    body: Iterable[Statement | Loop], counters: str = ""
) -> Iterator[tuple[Statement, str]]:
    """Each statement with the counters of the loops around it, as they end its name."""
    for statement in body:
        if isinstance(statement, Loop):
            yield from _flat_statements(statement.body, f"{counters}.{{{statement.variable}}}")
        else:
            yield statement, counters


def resolve(reference: Reference, scope: Scope) -> Slot:
    value = scope.values.get(reference.name)
    if value is None:
        # Bound in a later line of the same loop; it has a value whenever this line runs.
        value = scope.values[reference.name] = Symbol(Const(0), reference.name)
        scope.rebound.add(reference.name)
    if isinstance(value, Symbol):
        return value
    if reference.index is None:
        return Element(value, None, value.each)
    return Element(value, expr.substitute(reference.index.expr, scope.names), value.each)


def otherwise_of(statement: Statement, when: Expr | None, scope: Scope) -> Slot | None:
    """What passes instead of the input where a condition does not hold."""
    if when is None or statement.otherwise is None:
        return None
    return resolve(statement.otherwise, scope)


def channels_of(value: Slot) -> Expr:
    return value.total if isinstance(value, List) else value.channels


def wanted_name(statement: Statement) -> str | None:
    reference = statement.result
    return reference.name if reference is not None and reference.index is None else None


def copied(source: Slot, name: str | None, scope: Scope) -> Symbol:
    """A new variable with the value of another."""
    copy = Symbol(channels_of(source), name)
    scope.drafts.append(Draft("assign", (source,), copy, AssignLine))
    return copy


def assigned_names(body: Iterable[Statement | Loop]) -> Iterator[str]:
    """The names that `as` gives within a loop, elements of lists aside."""
    for statement in body:
        if isinstance(statement, Loop):
            yield from assigned_names(statement.body)
        elif statement.result is not None and statement.result.index is None:
            yield statement.result.name


def reads_current(body: Iterable[Statement | Loop]) -> bool:
    for statement in body:
        if isinstance(statement, Loop):
            return reads_current(statement.body)
        return not statement.inputs
    return False


def flat_drafts(drafts: Iterable[Draft]) -> Iterator[Draft]:
    for draft in drafts:
        yield draft
        yield from flat_drafts(draft.body)


def root_of(value: Slot | None) -> Symbol | List | None:
    return value.list if isinstance(value, Element) else value
