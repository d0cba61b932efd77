"""Parts of a block of the spec's own that are blocks of the library, such as attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from resnet_spec.importing.structure.arguments import Piece, solutions
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.importing.structure.vocabulary import Vocabulary
from resnet_spec.language.library import builtin_blocks

_MOST_CHANGED = 1  # arguments that differ from their defaults


class Filler(NamedTuple):
    """A block of the library within another block, and the slot that it fills elsewhere."""

    block: str
    slot: str
    arguments: dict[str, Any]


class Fillers:
    """Looks for what fills slots in the networks of the package, and needs no argument."""

    def __init__(self, prober: Prober, words: Vocabulary) -> None:
        self.prober, self.words = prober, words
        self.slots = {
            value: slot
            for slot, values in words.values.items()
            for value in values
            if isinstance(value, str) and value in builtin_blocks() and self._may_stand(value)
        }

    def _may_stand(self, block: str) -> bool:
        arguments = self.prober.definition(block).arguments
        return all(each.default is not None for each in arguments.values())

    def found(self, pieces: Sequence[Piece]) -> Filler | None:
        """The one block, with the same arguments, that all pieces are."""
        first, *others = pieces
        for changed in range(_MOST_CHANGED + 1):
            for block, slot in self.slots.items():
                for each in solutions(self.prober, block, {}, first, changed, self.words):
                    keys = (self.prober.key(block, each.arguments, p.given) for p in others)
                    if all(key == p.key for key, p in zip(keys, others, strict=True)):
                        return Filler(block, slot, each.arguments)
        return None
