"""Uses of blocks that earlier networks of a library had: lowered once for all of them.

Variants of one network differ in few of their blocks. What a use of a block comes to follows from
the block, its arguments, its slots, its input, the network's defaults and the blocks it is made of.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from resnet_spec.ir import Instance
from resnet_spec.language.library import Library
from resnet_spec.language.syntax import Definition

MAX_KNOWN = 4_096  # uses that are kept, of some 20 KiB each


class Made(NamedTuple):
    """A use of a block, and what went into it.

    `key` is equal for equal uses within a network; `statements` were run for it alone, beside
    those of its `parts`; `blocks` are those that it and its parts name.
    """

    key: Any
    instance: Instance
    statements: int
    parts: "tuple[Made, ...]"
    blocks: Mapping[str, Definition]


_KNOWN: WeakKeyDictionary[Library, dict[Any, Made]] = WeakKeyDictionary()


def known(library: Library) -> dict[Any, Made]:
    """What the networks of a library had so far, by their defaults and the key of each use."""
    found = _KNOWN.setdefault(library, {})
    if len(found) > MAX_KNOWN:
        found.clear()
    return found
