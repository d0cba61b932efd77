"""What each statement reads, over all instances and turns of loops at once."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from resnet_spec.ir import Instance, Key, LoopEvent, Read
from resnet_spec.specialize.turns import (
    EVERY,
    LoopNode,
    LoopOccurrence,
    Node,
    Occurrence,
    Position,
    StatementNode,
    flat,
    positioned,
)


class Unfit(Exception):
    """Runs that do not fit one line; `loop` is the loop that can be unrolled to separate them."""

    def __init__(self, message: str, loop: Position | None = None) -> None:
        super().__init__(message)
        self.loop = loop


class Carried(NamedTuple):
    """A value that one variable carries from turn to turn of a loop, and out of it.

    It has the value of `start` before the loop, and that of `following` at the end of each turn.
    """

    loop: Position
    following: Position
    start: "Position | Carried"


Origin = Position | Carried


class ListRead(NamedTuple):
    """One element of the list that begins at a position, or all of it (`index` is None)."""

    begin: Position
    reads: tuple[tuple[Occurrence, Read], ...]
    whole: bool


class Reading(NamedTuple):
    """One run of a reader: its instance, its position, and what it reads."""

    instance: int
    key: Key
    source: Key


class Wiring:
    """The sources of the values that the statements of a block read.

    `inputs` has the inputs of each statement, and `otherwise` the value that passes if it does not
    run, where that is not its first input. `carried` has the values that each loop carries.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        nodes: Sequence[Node],
        unrolled: Collection[Position],
    ) -> None:
        self.unrolled = unrolled
        self.takes_open = any(instance.input.open for instance in instances)
        self.turns = [
            {event.key: event.turns for event in each.events if isinstance(event, LoopEvent)}
            for each in instances
        ]
        self.inputs: dict[Position, list[Origin | ListRead]] = {}
        self.otherwise: dict[Position, Origin | ListRead] = {}
        self.carried: dict[Position, list[Carried]] = {}
        self.readers: dict[Carried, list[Position]] = {}
        self.read_as_value: set[Position] = set()
        self.begun: dict[Position, Position] = {}  # each list, and the node that it begins before
        self.nodes = {node.position: node for node in flat(nodes)}
        statements = [node for node in self.nodes.values() if isinstance(node, StatementNode)]
        for node in statements:
            self.begin_list(node)
        for node in statements:
            self.survey(node)
        last = [Reading(n, (10**9,), each.last.source) for n, each in enumerate(instances)]
        self.result = self.result_of(instances, last)

    def survey(self, node: StatementNode) -> None:
        ran = [run for run in node.runs if run.event.ran]
        passing = [(run, run.event.passing) for run in node.runs if run.event.passing is not None]
        slots: list[list[tuple[Occurrence, Read]]] = [
            [(run, run.event.reads[number]) for run in ran]
            for number in range(len(ran[0].event.reads) if ran else 0)
        ]
        if not slots:
            slots = [passing]
        elif passing and node.statement.otherwise is None:
            slots[0] = slots[0] + [each for each in passing if not each[0].event.ran]
        elif passing:
            found = self.slot(node, passing)
            # It is written before the condition is known, so it must be there in every run.
            if not isinstance(found, ListRead) and not all(self.exists(r, found) for r in ran):
                raise Unfit("passes what other uses do not have", node.position[:-2] or None)
            self.otherwise[node.position] = found
        self.inputs[node.position] = [self.slot(node, each) for each in slots]

    def result_of(self, instances: Sequence[Instance], last: Sequence[Reading]) -> Origin:
        """Where the output of the block comes from."""
        found = self.origin(last)
        self.note(found, last[0].key)
        return found

    def slot(
        self, node: StatementNode, reads: Sequence[tuple[Occurrence, Read]]
    ) -> Origin | ListRead:
        """What one input of a statement reads in all of its runs."""
        kinds = {read.kind for _, read in reads}
        innermost = node.position[:-2] or None
        if len(kinds) > 1:
            raise Unfit("reads one value in some uses and a list in others", innermost)
        if kinds == {"value"}:
            found = self.origin(
                [Reading(run.instance, run.event.key, read.source) for run, read in reads]
            )
            self.note(found, node.position)
            return found
        begin = self.list_of(node, reads)
        return ListRead(begin, tuple(reads), kinds == {"list"})

    def list_of(self, node: StatementNode, reads: Sequence[tuple[Occurrence, Read]]) -> Position:
        """The list that a statement reads or adds to in all of its runs."""
        begins = {positioned(read.source, self.unrolled) for _, read in reads}
        if len(begins) > 1:
            raise Unfit("uses several lists", node.position[:-2] or None)
        begin = begins.pop()
        made = len(self.begun.get(begin, begin))
        for run, read in reads:
            reading = Reading(run.instance, run.event.key, read.source[:made])
            depth, distance = self.relation(reading.key, reading.source)
            if distance:
                raise Unfit("uses the list of an earlier turn", node.position[: 2 * depth + 1])
            self.check_last(reading)
        return begin

    def note(self, found: Origin, reader: Position) -> None:
        """Record what a value needs from the loops that it comes through."""
        origin = found
        while isinstance(origin, Carried):
            known = self.carried.setdefault(origin.loop, [])
            if origin not in known:
                known.append(origin)
            self.readers.setdefault(origin, []).append(reader)
            self.read_as_value.add(origin.following)
            reader, origin = origin.loop, origin.start
        self.read_as_value.add(origin)

    def relation(self, reader: Key, source: Key) -> tuple[int, int]:
        """How many loops both share, and how many turns of the next loop are between them.

        The latter is 0 if both are in the same turn of all shared loops.
        """
        depth = 0
        position: Position = ()
        while 2 * depth + 1 < min(len(reader), len(source)):
            position = (*position, source[2 * depth])
            now, then = reader[2 * depth + 1], source[2 * depth + 1]
            if reader[2 * depth] != source[2 * depth] or (
                now != then and position in self.unrolled
            ):
                break
            if now != then:
                return depth, now - then
            position = (*position, now if position in self.unrolled else EVERY)
            depth += 1
        return depth, 0

    def check_last(self, reading: Reading) -> None:
        """A value that is made within a loop and read after it is that of the last turn."""
        depth, _ = self.relation(reading.key, reading.source)
        source = reading.source
        for end in range(2 * depth + 1, len(source), 2):
            loop = positioned(source[:end], self.unrolled)
            last = self.turns[reading.instance][source[:end]] - 1
            if loop not in self.unrolled and source[end] != last:
                raise Unfit("reads what an earlier turn gives", loop)

    def origin(self, readings: Sequence[Reading]) -> Origin:
        """What all runs of a reader have in common in where they read."""
        here: dict[Position, list[Reading]] = {}
        before: set[tuple[int, int, Position]] = set()
        for reading in readings:
            depth, distance = self.relation(reading.key, reading.source)
            source = positioned(reading.source, self.unrolled)
            if distance:
                before.add((depth, distance, source))
            else:
                here.setdefault(source, []).append(reading)
        if before:
            return self.from_turn_before(readings, before)
        for each in readings:
            self.check_last(each)
        if len(here) == 1:
            return next(iter(here))
        return self.from_loop_or_before(here)

    def from_loop_or_before(self, here: dict[Position, list[Reading]]) -> Carried:
        """A value of a loop without turns in some instances; these use the value before it."""
        innermost, outer = sorted(here, key=len, reverse=True)[:2]
        loop = innermost[:-2]
        reader = positioned(here[innermost][0].key, self.unrolled)
        fits = (
            len(here) == 2
            and len(innermost) > 2
            and innermost[-2] == EVERY
            and reader[: len(loop) - 1] == loop[:-1]
            and reader[len(loop) - 1 : len(loop)] > loop[-1:]
            and outer[: len(loop)] != loop
            and all(self.turns_of(each, loop) == 0 for each in here[outer])
        )
        if not fits:
            around = reader[:-2] or (loop if len(innermost) > 2 else None)
            raise Unfit("reads other values in other uses", around or None)
        self.check_start(loop, outer)
        return Carried(loop, innermost, outer)

    def is_open(self, found: Origin) -> bool:
        """Whether other numbers of classes or of input channels change the channels of a value."""
        if isinstance(found, Carried):
            return self.is_open(found.start) or self.is_open(found.following)
        node = self.nodes.get(found)
        if not isinstance(node, StatementNode):
            return self.takes_open
        return any(run.event.shape.open for run in node.runs)

    def check_start(self, loop: Position, start: Origin) -> None:
        """Check that a variable's initial value exists in every run of the loop, turns or none."""
        if not all(self.exists(run, start) for run in self.nodes[loop].runs):
            raise Unfit("a loop begins with what other uses do not have", loop[:-2] or None)

    def exists(self, run: Occurrence | LoopOccurrence, found: Origin) -> bool:
        """Whether the loops that produce a value, if any, had at least one turn before a run."""
        if isinstance(found, Carried):
            return True  # it has begun before its loop
        key, depth = run.event.key, 0
        loop: Key = ()
        for end in range(1, len(found), 2):
            shared = depth == end - 1 and key[depth : depth + 1] == found[depth : depth + 1]
            loop = (*loop, found[end - 1])
            turns = self.turns[run.instance].get(loop, 0)
            turn = found[end] if found[end] != EVERY else turns - 1
            if shared and end < len(key) and found[end] in (EVERY, key[end]):
                turn, depth = key[end], end + 1
            if not 0 <= turn < turns:
                return False
            loop = (*loop, turn)
        return True

    def turns_of(self, reading: Reading, loop: Position) -> int:
        """The number of turns of a loop next to a reader."""
        key = (*reading.key[: len(loop) - 1], loop[-1])
        return self.turns[reading.instance].get(key, 0)

    def from_turn_before(
        self, readings: Sequence[Reading], before: Iterable[tuple[int, int, Position]]
    ) -> Carried:
        """A value of the previous turn; in the first turn, the value before the loop."""
        depth = max(each[0] for each in before)
        deepest = {each[1:] for each in before if each[0] == depth}
        reader = positioned(readings[0].key, self.unrolled)
        loop = reader[: 2 * depth + 1]
        distance, following = next(iter(deepest))
        if len(deepest) > 1 or distance != 1 or following[:-2] != loop:
            raise Unfit("reads values of several turns", loop)
        first = []
        for reading in readings:
            found = self.relation(reading.key, reading.source)
            if found[1] and found[0] == depth:
                continue
            if reading.key[2 * depth + 1] != 0:
                raise Unfit("reads an earlier turn in some turns only", loop)
            first.append(reading._replace(key=reading.key[: 2 * depth + 1]))
        start = self.origin(first) if first else self.before(loop)
        where = start.loop if isinstance(start, Carried) else start
        if where[: len(loop)] == loop:
            raise Unfit("reads its own turn in some uses only", loop)
        self.check_start(loop, start)
        return Carried(loop, following, start)

    def before(self, loop: Position) -> Origin:
        """The value of a variable before a loop whose first turn does not read it.

        Any value that exists in every use will do: the one before the loop, or the input.
        """
        node = self.nodes[loop]
        assert isinstance(node, LoopNode)
        reads = [(run, run.event.previous) for run in node.runs]
        found = [Reading(r.instance, r.event.key, read.source) for r, read in reads if read]
        if len(found) < len(reads) or any(read and read.kind != "value" for _, read in reads):
            return ()
        try:
            return self.origin(found)
        except Unfit:
            return ()

    def begin_list(self, node: StatementNode) -> None:
        """Where a list begins whose first element is the output of a statement."""
        added = [run.event.appends for run in node.runs if run.event.appends is not None]
        keys = [each.source for each in added if each.place == 0]
        if not keys:
            return
        place = node.position
        # Before the outermost loop in whose first turn it begins, and in that alone.
        while len(place) > 2 and place[-2] == EVERY:
            if any(key[len(place) - 2] != 0 for key in keys):
                break
            place = place[:-2]
        self.begun[node.position] = place
