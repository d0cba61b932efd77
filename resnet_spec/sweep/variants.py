"""Variants of a spec as networks, one after the other, in memory that does not grow."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.lower.unused import findings

_TURN = 256  # variants between two times that what they left behind is collected


def lowering(
    spec: str, library: Library, turn: Callable[[], None] = lambda: None
) -> Callable[[Sequence[str]], Network]:
    """What gives a variant by its settings, or raises `SpecError` with all that is wrong.

    What the variants have in common is read and lowered once for the library. `turn` is called now
    and then. A network has no digest: none of them is compiled.
    """
    left = [_TURN]

    def lowered(settings: Sequence[str]) -> Network:
        left[0] -= 1
        if left[0] == 0:
            left[0] = _TURN
            gc.collect(1)  # a run of the command line collects nothing by itself
            turn()
        loaded = load(spec, library, settings)
        network = lower(loaded, with_digest=False)
        found = findings(loaded, network)
        if found:
            raise SpecError(found)
        return network

    return lowered
