"""Variable names for the values of a routine: by what they become, and how long they live."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from resnet_spec.specialize.drafts import (
    Draft,
    ListSymbol,
    Slot,
    Symbol,
    flat_drafts,
    read_by,
    root_of,
)
from resnet_spec.specialize.program import AssignLine, Line, LoopLine, OperationLine, Value

Bounds = tuple[int, int]  # of a loop: itself and its last line, which may end others, too
Span = tuple[float, float]  # from behind the line that makes a value up to the last that reads it


def drop_unused(drafts: Sequence[Draft], results: Iterable[Symbol]) -> list[Draft]:
    """The drafts without those whose value is never needed, including loops and lists."""
    every = list(flat_drafts(drafts))
    needed: set[int] = {id(each) for each in results}
    before = -1
    while len(needed) > before:
        before = len(needed)
        for draft in reversed(every):
            if _is_needed(draft, needed):
                needed.update(id(root_of(each)) for each in read_by(draft))
    return _kept(drafts, needed)


def _is_needed(draft: Draft, needed: Collection[int]) -> bool:
    if draft.kind == "loop":
        return False  # its body is looked at
    if draft.kind == "feature":
        return True
    output = root_of(draft.output)
    if draft.kind == "again":
        assert isinstance(output, Symbol)
        return id(output.follows) in needed
    return id(output) in needed


def _kept(drafts: Sequence[Draft], needed: Collection[int]) -> list[Draft]:
    result = []
    for draft in drafts:
        draft.body[:] = _kept(draft.body, needed)
        if draft.body or (draft.kind != "loop" and _is_needed(draft, needed)):
            result.append(draft)
    return result


class _Lives:
    """When each value is needed, in the order of the lines."""

    def __init__(self, drafts: Sequence[Draft], result: Symbol) -> None:
        self.order = list(flat_drafts(drafts))
        for index, draft in enumerate(self.order):
            draft.index = index
        self.first: dict[int, int] = {}
        self.last: dict[int, float] = {}
        self.carried: dict[int, Span] = {}  # of variables that loops change: body's first and last
        self.around: dict[int, tuple[Bounds, ...]] = {}  # the loops around the first line
        self.read_in_body: dict[int, float] = {}
        self.visit(drafts, ())
        self.last[id(result)] = len(self.order)

    def visit(self, body: Sequence[Draft], loops: tuple[Bounds, ...]) -> None:
        fresh: dict[int, Draft] = {}
        for draft in body:
            for slot in read_by(draft):
                self.read(root_of(slot), draft, loops)
            output = root_of(draft.output)
            if output is not None and draft.kind != "again":
                if id(output) in self.first:
                    self.read(output, draft, loops)  # a list that is added to
                else:
                    self.first[id(output)] = draft.index
                    self.around[id(output)] = loops
            if draft.group == "carried":
                fresh[id(output)] = draft
            if draft.kind == "loop":
                inner = list(flat_drafts(draft.body))
                end = inner[-1].index if inner else draft.index
                for each in inner:
                    follows = each.output.follows if isinstance(each.output, Symbol) else None
                    if each.kind == "again" and id(follows) in fresh:
                        self.carried[id(follows)] = (draft.index, each.index)
                self.visit(draft.body, (*loops, (draft.index, end)))

    def read(self, symbol: Slot | None, draft: Draft, loops: tuple[Bounds, ...]) -> None:
        if isinstance(symbol, Symbol):
            symbol.readers += 1
        own = self.around.get(id(symbol), ())
        outside = [end for loop in loops if loop not in own for end in loop[1:]]
        if id(symbol) in self.carried and outside:
            if len(outside) == 1:
                self.read_in_body[id(symbol)] = max(
                    self.read_in_body.get(id(symbol), 0), draft.index
                )
                return
            # Read within a loop in the loop that changes it: needed until that one's end.
            self.read_in_body[id(symbol)] = max(
                self.read_in_body.get(id(symbol), 0), outside[1] + 0.5
            )
            return
        # A value from outside of a loop is needed until the loop's last line.
        last = outside[0] + 0.5 if outside else draft.index
        self.last[id(symbol)] = max(self.last.get(id(symbol), 0), last)

    def spans(self, symbol: Symbol | ListSymbol) -> list[Span]:
        first: float = self.first.get(id(symbol), -1)
        last = max(self.last.get(id(symbol), first), first + 0.5)
        if id(symbol) not in self.carried:
            return [(first, last)]
        _, again = self.carried[id(symbol)]
        body = max(self.read_in_body.get(id(symbol), first), first + 0.5)
        return [(first, body), (again, max(last, again + 0.5))]


def assign_variables(
    drafts: Sequence[Draft], first: Symbol, result: Symbol, reserved: Collection[str]
) -> None:
    """Gives every value a variable as a person would: the name of what it becomes part of.

    `reserved` are names of numbers: arguments, local values and counters.
    """
    lives = _Lives(drafts, result)
    result.readers += 1  # it is given back, so nothing may change it in place
    reader = {id(s): d for d in lives.order for s in d.inputs[:1] if isinstance(s, Symbol)}
    held: dict[str, list[Span]] = {}
    first.variable = "x"
    held["x"] = [(-1.0, max(lives.last.get(id(first), -1), -0.5))]
    free = {"x": held["x"][0][1]}  # from where on a variable is not needed any more
    kinds = {"x": "value"}  # a variable holds values of one type
    for draft in lives.order:
        output = draft.output
        if draft.kind == "again" or not isinstance(output, Symbol | ListSymbol):
            continue
        if output.variable:
            continue
        wanted = output.wanted if isinstance(output, ListSymbol) else _wanted(output, reader)
        spans = lives.spans(output)
        kind = _kind(draft)
        for name in _candidates(wanted, reserved):
            unused = spans[0][0] >= free.get(name, -1.0)
            if kinds.get(name, kind) == kind and (unused or _fits(name, output, held, lives)):
                break
        output.variable = name
        kinds[name] = kind
        held.setdefault(name, []).extend(spans)
        free[name] = max(free.get(name, -1.0), *(end for _, end in spans))
    for draft in lives.order:
        if draft.kind == "again":
            assert isinstance(draft.output, Symbol) and draft.output.follows is not None
            draft.output.variable = draft.output.follows.variable


def _fits(
    name: str, output: Symbol | ListSymbol, held: Mapping[str, list[Span]], lives: _Lives
) -> bool:
    """Whether a variable can take a value, which in a loop may be the next of the one in it."""
    others: Iterable[Span] = held.get(name, ())
    if isinstance(output, Symbol) and output.follows and output.follows.variable == name:
        others = _without(others, lives.spans(output.follows))
    return not _clash(lives.spans(output), others)


def _kind(draft: Draft) -> str:
    """What the variable of a draft's output holds."""
    if isinstance(draft.output, Symbol):
        return "value"
    grows = isinstance(draft.output, ListSymbol) and draft.output.grows
    return "parts" if draft.kind == "operation" and not grows else "list"


def _without(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    left = list(spans)
    for each in others:
        if each in left:
            left.remove(each)
    return left


def _clash(spans: Iterable[Span], held: Iterable[Span]) -> bool:
    """Whether a variable would be overwritten while another value in it is still needed."""
    return any(a < d and c < b for a, b in spans for c, d in held)


def _wanted(symbol: Symbol, reader: Mapping[int, Draft]) -> str:
    """The name from `as`, else that of what the value becomes in the lines that read it first."""
    seen = 0
    while symbol.wanted is None and seen < 64:
        if symbol.follows is not None:
            # Without a variable yet, this is the value on its way into the loop.
            return symbol.follows.variable or "x"
        draft = reader.get(id(symbol))
        if symbol.readers != 1 or draft is None or not isinstance(draft.output, Symbol):
            break
        symbol, seen = draft.output, seen + 1
    return symbol.wanted or "x"


def _candidates(wanted: str, reserved: Collection[str]) -> Iterator[str]:
    while wanted in reserved:
        wanted += "_"
    yield wanted
    if wanted == "x":
        wanted = "out" if "out" not in reserved else "y"
        while wanted in reserved:
            wanted += "_"
        yield wanted
    for number in range(2, 100_000):
        if f"{wanted}_{number}" not in reserved:
            yield f"{wanted}_{number}"


# --- lines ---------------------------------------------------------------------------------------


def value_of(slot: Slot) -> Value:
    """The slot as what a line reads or gives, once its value has a variable."""
    if isinstance(slot, Symbol):
        return Value(slot.variable or slot.wanted or "x")
    if isinstance(slot, ListSymbol):
        return Value(slot.variable, whole=True)
    return Value(slot.list.variable, slot.index, whole=slot.index is None)


def finished_lines(drafts: Sequence[Draft]) -> tuple[Line, ...]:
    """The lines of drafts whose values have variables."""
    lines = []
    fresh = _changeable(drafts)
    for draft in drafts:
        output = value_of(draft.output) if draft.output is not None else Value("")
        line = draft.make(tuple(value_of(each) for each in draft.inputs), output)
        if isinstance(line, OperationLine) and id(draft) in fresh:
            line = line._replace(inplace=True)
        if not _says_nothing(line):
            lines.append(line)
    return tuple(lines)


def _says_nothing(line: Line) -> bool:
    """A value assigned to its own variable, or a loop of nothing else."""
    match line:
        case AssignLine(inputs, output):
            return inputs == (output,)
        case LoopLine():
            return not line.body
    return False


def _changeable(drafts: Sequence[Draft]) -> set[int]:
    """Activations whose input nothing else reads and whose producer does not keep its output.

    Where the producer does not run, its output is an older value, which others may read.
    """
    keeps_nothing = ("weights", "norm", "merge")
    made = {
        id(draft.output): draft.when
        for draft in drafts
        if draft.kind == "operation"
        and draft.group in keeps_nothing
        # The sum or product of a single value, or of a list of one, may be that value itself.
        and (draft.group != "merge" or len(draft.inputs) > 1)
    }
    return {
        id(draft)
        for draft in drafts
        if draft.group == "activation"
        and isinstance(draft.inputs[0], Symbol)
        and draft.inputs[0].readers == 1
        and made.get(id(draft.inputs[0]), False) in (None, draft.when)
    }
