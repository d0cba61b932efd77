"""A run of blocks that one statement makes, and what a statement reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from resnet_spec.ir import Choice, Read
from resnet_spec.language import bind
from resnet_spec.language.syntax import Definition, Source, Statement
from resnet_spec.lower.arguments import Arguments
from resnet_spec.lower.cache import Made
from resnet_spec.lower.frame import Frame


def follows_place(arguments: bind.Arguments, given: Arguments) -> bool:
    """Whether what a block is given may differ from one place of a repetition to the next."""
    if any(isinstance(value, bind.Listed) for value in arguments.values.values()):
        return True
    return any(bind.follows_position(each) for each in given.sources.values() if each is not None)


class Blocks(NamedTuple):
    """A run of blocks that one statement makes: how many, and which of how many is the first."""

    statement: Statement
    block: Definition
    choice: Choice | None
    arguments: bind.Arguments
    choices: Mapping[str, Choice]
    count: int  # type: ignore[assignment] # hides that of tuples
    place: tuple[int, int]

    def key(self, frame: Frame) -> tuple[Any, ...]:
        """Equal for runs that come to the same with the same input and defaults."""
        # 1, 1.0 and True are equal, but not the same number.
        scope = tuple((name, each, type(each.value)) for name, each in frame.scope.items())
        filled = tuple((name, choice.key) for name, choice in self.choices.items())
        own = self.choice.key if self.choice is not None else None
        return ("blocks", id(self.statement), id(self.block), own, filled, self.place, scope)

    def claim(self, name: str, frame: Frame) -> None:
        """Take the name of one of them."""
        if self.statement.repeat is not None:
            where = self.statement.names or self.statement.name
            frame.claim(name, where.span if where else self.statement.span)


Run = list[tuple[str, Made, Mapping[str, Source]]]


class Inputs(NamedTuple):
    """What a statement reads; `passing` is what its value may be elsewhere instead."""

    numbers: list[int]
    reads: tuple[Read, ...]
    passing: Read | None
