"""A cache of lowered uses of blocks, shared by the networks of one library.

Variants of one network differ in few blocks. The result of lowering a use depends on the block, its
arguments, its slots, its input, the network's defaults and the blocks inside it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from resnet_spec.ir import Instance
from resnet_spec.language.library import Library
from resnet_spec.language.syntax import Definition

MAX_KNOWN = 4_096  # uses that are kept, of some 20 KiB each


class Made(NamedTuple):
    """A use of a block, and what it depends on.

    `key` is equal for equal uses within a network; `statements` counts its own statements, without
    those of its `parts`; `blocks` are those that it and its parts refer to.
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
