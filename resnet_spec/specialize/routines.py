"""One routine from the recorded events of its instances: no statement is read again.

A number that all runs of a statement agree on becomes a literal. Otherwise it becomes the
expression that lowering evaluated, which must give the recorded number in every run. If the runs do
not fit one line, `Unfit` says which loop can be unrolled to separate them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from resnet_spec import expressions
from resnet_spec.expressions import Const, Expr, Name
from resnet_spec.ir import Instance, Operation
from resnet_spec.primitives import Primitive
from resnet_spec.specialize.calls import Calls
from resnet_spec.specialize.drafts import Draft, Element, ListSymbol, Slot, Symbol, channels_of
from resnet_spec.specialize.numbers import Numbers
from resnet_spec.specialize.program import (
    AssignLine,
    CallLine,
    LoopLine,
    OperationLine,
    Path,
    Routine,
    Value,
)
from resnet_spec.specialize.turns import (
    LoopNode,
    Node,
    Occurrence,
    Position,
    StatementNode,
    loops_around,
    merged,
)
from resnet_spec.specialize.variables import finished_lines, value_of
from resnet_spec.specialize.wiring import Carried, ListRead, Origin, Unfit, Wiring

READABLE = 40  # parts of an expression for channels that depend on conditions
KEEP_SIGN = ("max_pool", "avg_pool")  # of values that are not negative, they give such again


class Builder:
    """The drafts of one routine; `nodes` are its statements, in order."""

    def __init__(
        self,
        instances: Sequence[Instance],
        numbers: Numbers,
        unrolled: Collection[Position],
        routine_of: Callable[[Instance], Routine],
    ) -> None:
        self.numbers, self.unrolled, self.routine_of = numbers, unrolled, routine_of
        self.nodes = merged(instances, unrolled)
        self.wiring = Wiring(instances, self.nodes, unrolled)
        self.input = Symbol(numbers.names["in_channels"], "x")
        self.symbols: dict[Position, Symbol] = {(): self.input}
        self.carriers: dict[Carried, Symbol] = {}
        self.lists: dict[Position, ListSymbol] = {}
        self.drafts: list[Draft] = []
        self.loops: list[tuple[str, Expr]] = []  # counters and counts of the loops around
        self.counters: set[str] = set()
        self.left_out: dict[Expr, dict[str, None]] = {}  # layers, by the condition of theirs
        self.nodes_at = self.wiring.nodes
        self.lists_before: dict[Position, list[Position]] = {}
        for begin, place in self.wiring.begun.items():
            self.lists_before.setdefault(place, []).append(begin)
        self.value_names = {
            node.statement.result.name
            for node in self.nodes_at.values()
            if isinstance(node, StatementNode) and node.statement.result is not None
        }

    @property
    def result(self) -> Symbol:
        """The value that the routine gives."""
        return self.symbol(self.origin(self.wiring.result))

    # - values -

    def origin(self, found: Origin) -> Symbol:
        return self.carriers[found] if isinstance(found, Carried) else self.symbols[found]

    def slot(self, found: Origin | ListRead) -> Slot:
        if not isinstance(found, ListRead):
            return self.origin(found)
        listed = self.lists[found.begin]
        if found.whole:
            return Element(listed, None, listed.each)
        runs = [run for run, _ in found.reads]
        index = self.numbers.index([read for _, read in found.reads], runs)
        return Element(listed, index, listed.known.get(index, listed.each))

    def symbol(self, slot: Slot, name: str | None = None) -> Symbol:
        """A value that has a variable of its own."""
        if isinstance(slot, Symbol):
            return slot
        copy = Symbol(channels_of(slot), name)
        self.assign(slot, copy)
        return copy

    def assign(self, source: Slot, target: Slot, kind: str = "assign", group: str = "") -> None:
        def make(inputs: tuple[Value, ...], output: Value) -> AssignLine:
            return AssignLine(inputs, output)

        self.drafts.append(Draft(kind, (source,), target, make, group=group))

    # - statements -

    def build(self, nodes: Sequence[Node]) -> None:
        """Append the drafts of these statements."""
        for node in nodes:
            for begin in self.lists_before.get(node.position, ()):
                self.begin_list(begin)
            if isinstance(node, LoopNode):
                self.loop(node)
                continue
            try:
                self.statement(node)
            except Unfit as error:
                raise Unfit(
                    f"{node.statement.target!r} {error}",
                    error.loop or next(self.rolled_around(node.position), None),
                ) from None

    def some_loop(self) -> Position | None:
        """A loop that is not unrolled. After it, the values of its last turn have no expression."""
        loops = (each.position for each in self.nodes_at.values() if isinstance(each, LoopNode))
        return next((loop for loop in loops if loop not in self.unrolled), None)

    def rolled_around(self, position: Position) -> Iterator[Position]:
        """The loops around a statement that are not unrolled, the innermost first."""
        return (loop for loop in loops_around(position) if loop not in self.unrolled)

    def begin_list(self, begin: Position) -> None:
        """The empty list, before the first statement that adds to it."""
        node = self.nodes_at[begin]
        assert isinstance(node, StatementNode) and node.statement.result is not None
        listed = ListSymbol(node.statement.result.name, Const(0), Const(0))
        self.lists[begin] = listed
        self.drafts.append(Draft("assign", (), listed, lambda _, output: AssignLine((), output)))

    def loop(self, node: LoopNode) -> None:
        turns = [run.event.turns for run in node.runs]
        if not any(turns):
            return
        variable = node.statement.variable
        if node.position in self.unrolled:
            if len(set(turns)) > 1:
                raise Unfit("a loop has other numbers of turns in other uses")
            for inner_node in node.body:
                self.numbers.names[variable] = Const(inner_node.position[-2])
                self.build([inner_node])
            self.numbers.names.pop(variable, None)
            return
        count = self.count(node, turns)
        carried = self.wiring.carried.get(node.position, [])
        for each in carried:
            self.begin_carrying(each)
        outer, self.drafts = self.drafts, []
        counter = self.counter(variable)
        self.numbers.names[variable] = Name(counter, True)
        self.numbers.counters[counter] = len(list(loops_around(node.position)))
        self.loops.append((counter, count))
        self.build(node.body)
        for each in carried:
            symbol = self.carriers[each]
            self.check_carried(each, symbol)
            again = Symbol(None, symbol.wanted, follows=symbol)
            self.assign(self.symbols[each.following], again, "again")
        self.loops.pop()
        del self.numbers.names[variable], self.numbers.counters[counter]
        inner, self.drafts = self.drafts, outer

        def make(inputs: tuple[Value, ...], output: Value) -> LoopLine:
            return LoopLine(counter, count, finished_lines(inner))

        self.drafts.append(Draft("loop", (), None, make, body=inner))

    def count(self, node: LoopNode, turns: Sequence[int]) -> Expr:
        value = self.numbers.substituted(node.statement.count)
        names = expressions.names(value)
        counted = any(counter in names for counter, _ in self.loops)
        if not counted and len(set(turns)) == 1:
            return Const(turns[0])
        if not self.numbers.fits(value, node.runs, turns):
            raise Unfit(
                f"the loop over {node.statement.variable!r} has a count that no expression gives",
                next(self.rolled_around(node.position), None),
            )
        return value

    def counter(self, wanted: str) -> str:
        """A name for a counter that no value, argument or enclosing loop has."""
        taken = {"x", "out", *self.value_names, *self.numbers.names, *self.numbers.counters}
        while wanted in taken:
            wanted += "_"
        self.counters.add(wanted)
        return wanted

    def begin_carrying(self, carried: Carried) -> None:
        """The variable that a loop changes, with its value before the loop."""
        name = self.name_at(carried.following)
        start = self.origin(carried.start)
        self.carriers[carried] = symbol = Symbol(start.channels, name)
        self.assign(start, symbol, group="carried")

    def check_carried(self, carried: Carried, symbol: Symbol) -> None:
        """Each turn gives the channels that it takes, not with the spec's own numbers alone."""
        following = self.symbols[carried.following]
        if symbol.channels != following.channels and self.wiring.is_open(carried):
            raise Unfit("gives other channels than the turn before takes", carried.loop)

    def name_at(self, position: Position) -> str | None:
        """The name that the spec gives to the value of a statement."""
        node = self.nodes_at[position]
        reference = node.statement.result if isinstance(node, StatementNode) else None
        return reference.name if reference is not None and reference.index is None else None

    def statement(self, node: StatementNode) -> None:
        ran = [run for run in node.runs if run.event.ran]
        slots = [self.slot(each) for each in self.wiring.inputs[node.position]]
        if not ran:
            self.leave_out(node)
            self.alias(node, slots[0])
            return
        when = self.condition(node, ran)
        otherwise = None
        if when is not None and node.position in self.wiring.otherwise:
            otherwise = self.slot(self.wiring.otherwise[node.position])
        step = ran[0].event.steps[0]
        if isinstance(step.node, Instance):
            self.call(node, ran, tuple(slots), when, otherwise)
        elif step.node.primitive.name == "identity" and when is None:
            self.alias(node, slots[0])
        else:
            self.operation(node, ran, tuple(slots), when, otherwise)

    def leave_out(self, node: StatementNode) -> None:
        """Note a layer that no use has, and that other numbers of classes or channels need."""
        when = self.condition(node, ()) if any(run.event.open for run in node.runs) else None
        if when is None:
            return
        if not expressions.names(when).isdisjoint(self.numbers.counters):
            raise Unfit("is left out in every turn")
        name = node.statement.name
        self.left_out.setdefault(when, {})[name.text if name else node.statement.target] = None

    def condition(self, node: StatementNode, ran: Sequence[Occurrence]) -> Expr | None:
        """The condition of a statement; None for one that always runs."""
        always = len(ran) == len(node.runs)
        if always and not any(run.event.open for run in ran):
            return None
        if node.statement.when is None:
            raise Unfit("does something in some uses and nothing in others")
        value = self.numbers.substituted(node.statement.when)
        if not self.numbers.fits(value, node.runs, [run.event.ran for run in node.runs]):
            raise Unfit("runs when no expression says so")
        return None if isinstance(value, Const) else value

    def alias(self, node: StatementNode, source: Slot) -> None:
        """A statement that does nothing: at most, it gives its input another name."""
        appends = any(run.event.appends is not None for run in node.runs)
        if appends:
            self.assign(source, self.element(node, channels_of(source)))
            if node.position not in self.wiring.read_as_value:
                return
        name = None if appends else self.name_at(node.position)
        symbol = self.symbol(source, name)
        if any(symbol is each for each in self.carriers.values()):
            # The variable changes before the turn ends, the value that it has here does not.
            symbol = Symbol(symbol.channels, name)
            self.assign(source, symbol)
        if symbol.wanted is None and symbol is not self.input:
            symbol.wanted = name
        self.symbols[node.position] = symbol

    def element(self, node: StatementNode, channels: Expr | None) -> Element:
        """The index of a statement's output in its list."""
        runs = [run for run in node.runs if run.event.appends is not None]
        adds = [(run, run.event.appends) for run in runs if run.event.appends is not None]
        begin = self.wiring.list_of(node, adds)
        listed = self.lists[begin]
        index = self.numbers.index([read for _, read in adds], runs)
        times: Expr = Const(1)
        for _, count in self.loops:
            times = times * count
        known = listed.total is not None and channels is not None
        listed.total = listed.total + channels * times if known else None  # type: ignore[operator]
        listed.each = channels if not listed.known or channels == listed.each else None
        listed.known[index], listed.grows = channels, True
        return Element(listed, index, channels)

    def output(self, node: StatementNode, channels: Expr | None) -> Slot:
        """The output of a line: a value, or directly a list element if nothing else reads it.

        Repeated blocks read their own output, so they always have a variable.
        """
        appends = any(run.event.appends is not None for run in node.runs)
        own = node.position in self.wiring.read_as_value or node.statement.repeat is not None
        if appends and not own:
            return self.element(node, channels)
        symbol = Symbol(channels, None if appends else self.name_at(node.position))
        for each in self.wiring.carried.get(node.position[:-2], []):
            if each.following == node.position and not self.read_later(each):
                symbol.follows = self.carriers[each]
        self.symbols[node.position] = symbol
        return symbol

    def read_later(self, carried: Carried) -> bool:
        """Whether a carried value is still needed after the line that computes the next turn's."""
        inside = carried.loop
        return any(
            reader > carried.following and reader[: len(inside)] == inside
            for reader in self.wiring.readers[carried]
        )

    def given(
        self,
        node: StatementNode,
        slots: tuple[Slot, ...],
        when: Expr | None,
        otherwise: Slot | None,
        computed: Expr | None,
    ) -> Expr | None:
        """The channels of a statement's output, whether it runs or not."""
        shapes = [run.event.shape for run in node.runs]
        wanted, is_open = [shape.channels for shape in shapes], any(s.open for s in shapes)
        if when is not None:
            passing = channels_of(otherwise or slots[0])
            both = computed is not None and passing is not None
            computed = expressions.conditional(when, computed, passing) if both else None  # type: ignore[arg-type]
            if computed is not None and computed.size > READABLE and not is_open:
                computed = None  # one within the other they would double each time
        return self.numbers.best(computed, node.runs, wanted, is_open)

    # - operations -

    def operation(
        self,
        node: StatementNode,
        ran: Sequence[Occurrence],
        slots: tuple[Slot, ...],
        when: Expr | None,
        otherwise: Slot | None,
    ) -> None:
        operations = [run.event.steps[0].node for run in ran]
        first = operations[0]
        assert isinstance(first, Operation)
        primitive = first.primitive
        attributes = self.numbers.attributes(ran, primitive)
        channels = self.channels(slots, ran, primitive, when is not None)
        computed = None
        if all(each is not None for each in channels):
            computed = expressions.wrap(primitive.channels(SimpleNamespace(**attributes), channels))  # type: ignore[arg-type]
        computed = self.given(node, slots, when, otherwise, computed)
        path = self.path(node)
        output = self.given_by(node, ran, channels, computed, when)
        nonnegative = isinstance(slots[0], Symbol) and slots[0].nonnegative
        if isinstance(output, Symbol) and when is None:
            output.nonnegative = primitive.nonnegative or (
                nonnegative and primitive.name in KEEP_SIGN
            )
        statement = node.statement

        def make(values: tuple[Value, ...], result: Value) -> OperationLine:
            return OperationLine(
                primitive,
                attributes,
                path,
                values,
                channels,
                result,
                when,
                value_of(otherwise) if otherwise is not None else None,
                nonnegative=nonnegative,
                named=not statement.unnamed,
                grows=isinstance(output, ListSymbol) and output.grows,
                span=statement.span,
            )

        draft = Draft("operation", slots, output, make, when, otherwise, span=statement.span)
        draft.group = primitive.group
        self.drafts.append(draft)
        self.settle(node, output)

    def given_by(
        self,
        node: StatementNode,
        ran: Sequence[Occurrence],
        channels: tuple[Expr | None, ...],
        computed: Expr | None,
        when: Expr | None,
    ) -> Slot:
        """The output of an operation: a value, an element of a list, or a list of parts."""
        first = ran[0].event.steps[0].node
        assert isinstance(first, Operation)
        if first.primitive.gives != "many":
            return self.output(node, computed)
        if when is not None:
            raise Unfit("gives a list in some uses and one value in others")
        assert node.statement.result is not None
        listed = ListSymbol(node.statement.result.name, channels[0], computed)
        parts = max(len(run.event.steps[0].outputs) for run in ran)
        listed.known = {Const(number): computed for number in range(parts)}
        self.lists[node.position] = listed
        return listed

    def settle(self, node: StatementNode, output: Slot) -> None:
        """Add a value to its list that has a variable of its own."""
        if isinstance(output, Symbol) and any(run.event.appends for run in node.runs):
            self.assign(output, self.element(node, output.channels))

    def path(self, node: StatementNode) -> Path:
        assert node.statement.name is not None
        return self.numbers.filled(node.statement.name)

    def channels(
        self,
        slots: tuple[Slot, ...],
        ran: Sequence[Occurrence],
        primitive: Primitive,
        some: bool,
    ) -> tuple[Expr | None, ...]:
        """The channels of each input, as numbers or as what has these numbers in every run.

        A list gives all of its channels to a concat, those of one element to others.
        """
        found: list[Expr | None] = []
        behind_list = False  # the number of inputs before may vary from run to run
        for position, slot in enumerate(slots):
            if isinstance(slot, Element) and slot.index is None:
                behind_list = True
                found.append(slot.list.total if primitive.joins else self.shared(slot.list, ran))
                continue
            if behind_list:
                found.append(channels_of(slot))
                continue
            shapes = [run.event.steps[0].node.inputs[position] for run in ran]  # type: ignore[union-attr]
            wanted = [shape.channels for shape in shapes]
            opened = any(shape.open for shape in shapes)
            found.append(self.numbers.best(channels_of(slot), ran, wanted, opened, some))
        if primitive.is_sized_by_input and found[0] is None:
            raise Unfit("has input channels that no expression gives", self.some_loop())
        return tuple(found)

    def shared(self, listed: ListSymbol, ran: Sequence[Occurrence]) -> Expr | None:
        """The channels that all elements of a list have, as one of them says it best."""
        shapes = [run.event.steps[0].node.inputs[0] for run in ran]  # type: ignore[union-attr]
        wanted = [shape.channels for shape in shapes]
        said = sorted((each for each in listed.known.values() if each), key=lambda each: each.size)
        if listed.each is not None:
            return listed.each
        return next((each for each in said if self.numbers.fits(each, ran, wanted)), None)

    # - blocks -

    def call(
        self,
        node: StatementNode,
        ran: Sequence[Occurrence],
        slots: tuple[Slot, ...],
        when: Expr | None,
        otherwise: Slot | None,
    ) -> None:
        statement = node.statement
        calls = Calls(statement, ran, self.numbers, self.routine_of)
        runs, computed = calls.grouped(channels_of(slots[0]))
        computed = self.given(node, slots, when, otherwise, computed)
        path, names = self.path(node), self.names(statement, calls, ran)
        if names is not None:
            self.counters.add("i")
        output = self.output(node, computed)

        def make(values: tuple[Value, ...], result: Value) -> CallLine:
            passing = value_of(otherwise) if otherwise is not None else None
            return CallLine(runs, path, names, values, result, when, passing, statement.span)

        self.drafts.append(
            Draft("call", slots, output, make, when, otherwise, group="call", span=statement.span)
        )
        self.settle(node, output)

    def names(self, statement: Any, calls: Calls, ran: Sequence[Occurrence]) -> Path | None:
        """The names of repeated blocks, over `i`; None for a block that is not repeated."""
        if statement.repeat is None:
            return None
        if statement.names is None:
            return (Name("i", True),)
        counts = {len(run.event.steps) for run in ran}
        count = Const(counts.pop()) if len(counts) == 1 else None
        position = calls.position(
            Name("i", True), count or self.numbers.substituted(statement.repeat)
        )
        return self.numbers.filled(statement.names, position)
