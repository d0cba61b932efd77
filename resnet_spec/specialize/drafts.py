"""The values and lines of a routine under construction, before its variables have names."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from resnet_spec.diagnostics import Span
from resnet_spec.expressions import Expr
from resnet_spec.specialize.program import Line, Value


@dataclass(eq=False)
class Symbol:
    """One value. `channels` is None where no expression gives them in every use."""

    channels: Expr | None
    wanted: str | None = None  # the name that `as` gives
    follows: "Symbol | None" = None  # shares this one's variable, if that is free
    variable: str = ""
    readers: int = 0
    nonnegative: bool = False


@dataclass(eq=False)
class ListSymbol:
    """A list of values; `total` are the channels of all of them, `each` of one.

    `known` has the channels of elements with a constant index; `grows`: elements are added to it.
    """

    wanted: str
    total: Expr | None
    each: Expr | None
    variable: str = ""
    grows: bool = False
    known: dict[Expr, Expr | None] = field(default_factory=dict)


class Element(NamedTuple):
    """One element of a list, or all of them (`index` is None)."""

    list: ListSymbol
    index: Expr | None  # type: ignore[assignment] # hides that of tuples
    channels: Expr | None


Slot = Symbol | ListSymbol | Element


@dataclass(eq=False)
class Draft:
    """A line before its variables have names.

    An assignment of the group `carried` initialises a variable that a loop changes; one of the kind
    `again` sets its value for the next turn.
    """

    kind: str  # operation, call, assign, again, loop, feature
    inputs: tuple[Slot, ...]
    output: Slot | None
    make: Callable[[tuple[Value, ...], Value], Line]
    when: Expr | None = None
    otherwise: Slot | None = None
    body: "list[Draft]" = field(default_factory=list)
    group: str = ""
    index: int = 0
    span: Span | None = None


def root_of(slot: Slot | None) -> Slot | None:
    """The value, or the list, that has a variable."""
    return slot.list if isinstance(slot, Element) else slot


def channels_of(slot: Slot) -> Expr | None:
    return slot.total if isinstance(slot, ListSymbol) else slot.channels


def flat_drafts(drafts: Iterable[Draft]) -> Iterator[Draft]:
    """The drafts with those within loops, each loop before its body."""
    for draft in drafts:
        yield draft
        yield from flat_drafts(draft.body)


def read_by(draft: Draft) -> Iterator[Slot]:
    """What a draft reads."""
    yield from draft.inputs
    if draft.otherwise is not None:
        yield draft.otherwise
