"""The statements of a block with their recorded events, over all instances at once."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from resnet_spec.ir import Event, Instance, Key, LoopEvent
from resnet_spec.language.syntax import Loop, Statement

# Where a statement stands: a key in which the turn of each loop that stays a loop is EVERY.
Position = tuple[int, ...]
EVERY = -1


class Occurrence(NamedTuple):
    """One run of a statement, by the instance of this number."""

    instance: int
    event: Event


class LoopOccurrence(NamedTuple):
    """One run of a loop, by the instance of this number."""

    instance: int
    event: LoopEvent


class StatementNode(NamedTuple):
    """A statement with its runs."""

    position: Position
    statement: Statement
    runs: list[Occurrence]


class LoopNode(NamedTuple):
    """A loop with its runs; if it is unrolled, its turns follow one another."""

    position: Position
    statement: Loop
    runs: list[LoopOccurrence]
    body: "list[Node]"


Node = StatementNode | LoopNode


def positioned(key: Key, unrolled: Collection[Position]) -> Position:
    """Where the statement of a key stands."""
    if len(key) < 2:
        return key
    found: Position = ()
    for depth in range(0, len(key) - 1, 2):
        found = (*found, key[depth])
        found = (*found, key[depth + 1] if found in unrolled else EVERY)
    return (*found, key[-1])


def loops_around(position: Position) -> Iterator[Position]:
    """The positions of the loops around a statement, the innermost first."""
    for end in range(len(position) - 2, 0, -2):
        yield position[:end]


def merged(instances: Sequence[Instance], unrolled: Collection[Position]) -> list[Node]:
    """A node for each statement that any instance reached, in the order of the block."""
    nodes: dict[Position, Node] = {}
    top: list[Node] = []
    for number, instance in enumerate(instances):
        for event in instance.events:
            position = positioned(event.key, unrolled)
            node = nodes.get(position)
            if node is None:
                node = nodes[position] = _node(position, event)
                parent = nodes[position[:-2]] if len(position) > 1 else None
                assert parent is None or isinstance(parent, LoopNode)
                (top if parent is None else parent.body).append(node)
            if isinstance(event, LoopEvent):
                assert isinstance(node, LoopNode)
                node.runs.append(LoopOccurrence(number, event))
            else:
                assert isinstance(node, StatementNode)
                node.runs.append(Occurrence(number, event))
    if len(instances) > 1 or len(nodes) > len(top):
        for body in (top, *(n.body for n in nodes.values() if isinstance(n, LoopNode))):
            body.sort(key=lambda each: each.position)
    return top


def _node(position: Position, event: Event | LoopEvent) -> Node:
    if isinstance(event, LoopEvent):
        return LoopNode(position, event.statement, [], [])
    return StatementNode(position, event.statement, [])


def flat(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes with those within loops."""
    for node in nodes:
        yield node
        if isinstance(node, LoopNode):
            yield from flat(node.body)
