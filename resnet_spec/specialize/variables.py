"""Names for the values of a routine, by what they become and by how long they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from resnet_spec.specialize.draft import Draft, List, Scope, Slot, Symbol, flat_drafts, root_of
from resnet_spec.specialize.program import AssignLine, Line, LoopLine, OperationLine, Value


def assign_variables(scope: Scope, first: Symbol, result: Symbol, reserved: set[str]) -> None:
    """Gives every value a variable, as a person would: the name of what it is on its way to."""
    drafts, rebound = scope.drafts, scope.rebound
    order = list(flat_drafts(drafts))
    for index, draft in enumerate(order):
        draft.index = index
    _count_readers(drafts, len(order))
    result.last = len(order)
    result.readers += 1  # it is given back, so nothing may change it in place
    first.variable = "x"
    reader = {id(s): d for d in order for s in d.inputs[:1] if isinstance(s, Symbol)}
    holder: dict[str, Symbol] = {"x": first}
    for draft in order:
        output = draft.output
        if not isinstance(output, Symbol):
            continue
        wanted = _wanted_variable(output, reader, first)
        for name in _candidates(wanted, reserved):
            held = holder.get(name)
            if held is None or held.last <= draft.index or output.follows is held:
                break
            if output.wanted is not None and output.wanted in rebound:
                break  # one variable through all turns of a loop
        output.variable = name
        holder[name] = output


def _count_readers(drafts: list[Draft], length: int) -> None:
    def visit(body: list[Draft], loop_end: int | None, outside: set[int]) -> None:
        for draft in body:
            for value in (*draft.inputs, draft.otherwise):
                if isinstance(value, Symbol):
                    value.readers += 1
                    # A value from outside a loop is needed until the loop's last line.
                    is_outer = loop_end is not None and id(value) in outside
                    value.last = max(value.last, loop_end or 0 if is_outer else draft.index)
            if draft.body:
                end = max(inner.index for inner in flat_drafts(draft.body))
                made = {id(inner.output) for inner in flat_drafts(draft.body)}
                everything = {
                    id(v) for d in flat_drafts(draft.body) for v in (*d.inputs, d.otherwise)
                }
                visit(draft.body, end, everything - made)

    visit(drafts, None, set())


def _wanted_variable(symbol: Symbol, reader: Mapping[int, Draft], first: Symbol) -> str:
    """`as`, else the name of what the value becomes through the lines that read it first."""
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


def _candidates(wanted: str, reserved: set[str]) -> Iterator[str]:
    if wanted in reserved:
        wanted += "_"
    yield wanted
    if wanted == "x":
        wanted = "out" if "out" not in reserved else "y"
        yield wanted
    for number in range(2, 1000):
        yield f"{wanted}_{number}"


def value_of(slot: Slot) -> Value:
    if isinstance(slot, Symbol):
        return Value(slot.variable or slot.wanted or "x")
    if isinstance(slot, List):
        return Value(slot.name, whole=True)
    return Value(slot.list.name, slot.index, whole=slot.index is None)


def finished_lines(drafts: list[Draft]) -> tuple[Line, ...]:
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


def drop_unused(scope: Scope, results: list[Symbol]) -> None:
    """Drops lines whose value no other line needs, which a branch that is never taken leaves."""
    while True:
        drafts = list(flat_drafts(scope.drafts))
        needed = {id(each) for each in results}
        for draft in drafts:
            needed |= {id(root_of(each)) for each in (*draft.inputs, draft.otherwise)}
        kept = [draft for draft in scope.drafts if not _is_unused(draft, needed, scope)]
        if len(kept) == len(scope.drafts):
            return
        scope.drafts = kept


def _is_unused(draft: Draft, needed: set[int], scope: Scope) -> bool:
    output = draft.output
    if draft.kind not in ("operation", "assign") or not isinstance(output, Symbol | List):
        return False
    if isinstance(output, Symbol) and output.wanted in scope.rebound:
        return False  # a loop may need it under its name
    return id(output) not in needed


def _changeable(drafts: list[Draft]) -> set[int]:
    """Activations whose input nobody else reads and whose producer does not keep its output."""
    keeps_nothing = ("weights", "norm", "merge")
    made = {
        id(draft.output)
        for draft in drafts
        if draft.kind == "operation" and draft.group in keeps_nothing and draft.when is None
    }
    return {
        id(draft)
        for draft in drafts
        if draft.group == "activation"
        and isinstance(draft.inputs[0], Symbol)
        and draft.inputs[0].readers == 1
        and id(draft.inputs[0]) in made
    }
