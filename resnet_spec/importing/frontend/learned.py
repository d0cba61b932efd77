"""What training moves in the model and not in the spec, and the other way round.

Where the source tells which of its tensors training moves: neither buffers nor what is frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.frontend.call import Known, place
from resnet_spec.importing.graph import Graph, Op
from resnet_spec.importing.readers.model import FROZEN, Model, listed

_LOST = "trained in the model, and fixed in the spec: {}"
_STATISTICS = ("running_mean", "running_var")  # buffers in both
Named = list[tuple[Op, Mapping[str, str]]]


def named(graph: Graph) -> Named:
    """Operations with the names that their parameters have at this time."""
    return [(op, op.sources) for op in graph.ops]


def lost(before: Named, model: Model) -> list[str]:
    """A note of layers that have become fixed since then, if there are any."""
    learned = model.learned or frozenset()
    gone = (names for op, names in before if not op.parameters)
    return _told(_LOST, (_of(name) for names in gone for name in names.values() if name in learned))


def fixed(graph: Graph, known: Known) -> list[str]:
    """A note of layers whose parameters training does not move in the model, if there are any."""
    places = known.fixed()
    layers = (
        _of(op.sources.get(leaf, f"{op.name}.{leaf}" if op.name else "")) or op.place
        for op in graph.ops
        for leaf, value in op.parameters.items()
        if leaf not in _STATISTICS and place(value) in places
    )
    return _told(FROZEN, layers)


def _of(name: str) -> str:
    """The layer that has a tensor, in quotes; of one without a layer its own name."""
    return quoted(name.rpartition(".")[0] or name) if name else ""


def _told(note: str, layers: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(layers))
    return [note.format(listed(names))] if names else []
