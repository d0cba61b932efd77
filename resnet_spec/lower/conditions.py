"""Tells the condition that a wrong shape comes from: which layer it keeps or leaves out."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping

from resnet_spec.diagnostics import SpecError, quoted
from resnet_spec.expressions import names
from resnet_spec.ir import Event, Instance, Read
from resnet_spec.language.name_resolution import spell
from resnet_spec.language.syntax import Binding, Bound, Loop, Pattern, Statement
from resnet_spec.lower.frame import Frame
from resnet_spec.primitives import PRIMITIVES, ROLES
from resnet_spec.primitives.record import same_shape


def behind(
    frame: Frame, numbers: Iterable[int], reads: Iterable[Read], slots: Mapping[str, Binding]
) -> str:
    """The nearest condition that decides the shapes of values, for a message; or nothing.

    `numbers` and `reads` are those of the values, `slots` those of the block, with what fills them
    by default. Where the shapes differ, only that in which they do is of interest.
    """
    shapes = [frame.shape(number) for number in numbers]
    axes = [axis for axis in range(3) if len({shape[axis] for shape in shapes}) > 1]
    events = _shaping(frame, reads, axes or range(3))
    return next(filter(None, (_told(event, frame, slots) for event in events)), "")


def _shaping(frame: Frame, reads: Iterable[Read], axes: Collection[int]) -> Iterator[Event]:
    """The events that values passed through, back to those that gave them their sizes."""
    given = {}
    for event in frame.events:
        if isinstance(event, Event):
            given[Read("value", event.key)] = event
            if event.appends is not None:
                given[event.appends._replace(expression=None)] = event
    waiting = deque(reads)
    while waiting:
        found = given.pop(waiting.popleft()._replace(expression=None), None)
        if found is None:
            continue
        if not found.ran:
            yield found
            waiting += [found.passing] if found.passing is not None else []
        elif _changes(found, axes):
            yield found
        else:
            waiting += found.reads


def _changes(event: Event, axes: Iterable[int]) -> bool:
    node = event.steps[0].node
    source = node.input if isinstance(node, Instance) else node.inputs[0]
    return any(source[axis] != event.shape[axis] for axis in axes)


def _told(event: Event, frame: Frame, slots: Mapping[str, Binding]) -> str | None:
    statement = event.statement
    if statement.kind == "slot" and not event.ran:
        choice, usual = frame.choices.get(statement.target), slots.get(statement.target)
        if choice is not None and choice.target is None:
            filled = usual is not None and usual.target is not None
            return f"the slot {quoted(statement.target)} is empty" if filled else None
    if statement.when is None or not (event.ran or _may_change(statement)):
        return None
    assert statement.name is not None
    scope = {**frame.scope, **dict(_counters(event, frame))}
    others = sorted(names(statement.when.expr) - {statement.when.text})
    numbers = [f"{name} {str(scope[name].value).lower()}" for name in others]
    layer = f"{quoted(_spelled(statement.name, scope))} (line {statement.span.line})"
    there, truth = ("is there", "true") if event.ran else ("is left out", "false")
    where = f" for {' and '.join(numbers)}" if numbers else ""
    return f"{layer} {there}, as {quoted(statement.when.text)} is {truth}{where}"


def _spelled(name: Pattern, scope: Mapping[str, Bound]) -> str:
    try:
        return spell(name, scope)
    except SpecError:  # of a layer that is left out, whose name nothing has asked for
        return name.text


def _may_change(statement: Statement) -> bool:
    """Whether a layer that does not run could have given another shape."""
    if statement.kind == "primitive":
        return PRIMITIVES[statement.target].shape is not same_shape
    return statement.target not in ROLES


def _counters(event: Event, frame: Frame) -> Iterator[tuple[str, Bound]]:
    """The counters of the loops around an event, as they were."""
    body = frame.body
    for position, turn in zip(event.key[::2], event.key[1::2], strict=False):
        loop = body[position]
        assert isinstance(loop, Loop)
        yield loop.variable, Bound(turn)
        body = loop.body
