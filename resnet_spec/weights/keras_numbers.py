"""Layers of Keras that a file does not name but number: which of ours they are, if one way fits.

Keras numbers the layers of a class from the images on. So those of one shape that run one after the
other are told apart by their numbers; of two that run side by side nobody knows which is first.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from resnet_spec.diagnostics import quoted
from resnet_spec.weights import keras_layers
from resnet_spec.weights.checkpoint import Checkpoint, Tensor
from resnet_spec.weights.entries import Entry
from resnet_spec.weights.wiring import Wiring, wiring

if TYPE_CHECKING:
    from resnet_spec.weights.match import Match

# By the names that Keras gives: the primitive, and the variable that tells its shape.
_CLASSES = {
    "conv2d": ("conv", 0),
    "depthwise_conv2d": ("conv", 0),
    "batch_normalization": ("batch_norm", -1),
    "dense": ("linear", 0),
}
_NUMBERED = re.compile(r"(?:.*/)?(?P<kind>[a-z0-9_]+?)(?:_(?P<number>\d+))?")
_AMBIGUOUS = "{} may be {} as well as {}, which run side by side: tell it by --rename"

Shape = tuple[int, ...]


def rules(found: Match) -> tuple[dict[str, str], list[str]]:
    """Rules for layers of the file that fit none of ours by name, and what remains open."""
    given: dict[str, str] = {}
    notes = []
    ours: dict[str, list[Entry]] = {}
    for entry in found.missing:
        ours.setdefault(entry.name.rpartition(".")[0], []).append(entry)
    graph: Wiring | None = None
    left = {each.tensor.name for each in found.extra}
    for kind, theirs in _numbered(found.checkpoint, left).items():
        wanted = {
            name: held[_CLASSES[kind][1]].shape("keras")
            for name, held in ours.items()
            if held[0].operation.primitive.name == _CLASSES[kind][0]
        }
        for shape in dict.fromkeys(theirs.values()):
            layers, names = (
                [n for n, s in each.items() if s == shape] for each in (theirs, wanted)
            )
            if len(layers) != len(names):
                continue
            graph = graph or wiring(found.network)
            rivals = next((pair for pair in pairwise(names) if not _leads(*pair, graph)), ())
            if rivals:
                layer = layers[names.index(rivals[0])]
                notes.append(_AMBIGUOUS.format(*map(quoted, (layer, *rivals))))
                continue
            given |= zip((each.replace("/", ".") for each in layers), names, strict=True)
    if given:
        first, name = next(iter(given.items()))
        notes.insert(0, f"{len(given):,} layers are told by their numbers: {first} is {name}")
    return given, notes


def _numbered(checkpoint: Checkpoint, extra: set[str]) -> dict[str, dict[str, Shape]]:
    """The layers of each class that have no name but their number, in its order, with shapes."""
    places = dict(zip((t.name for t in checkpoint.tensors), checkpoint.paths, strict=False))
    found: dict[str, dict[int, tuple[str, Shape]]] = {}
    for layer, held in keras_layers.by_layer(checkpoint.tensors).items():
        match = _NUMBERED.fullmatch(layer)
        if match is None or match["kind"] not in _CLASSES:
            continue
        if all(each.name in extra and places.get(each.name) == each.name for each in held):
            number = int(match["number"] or 0)
            found.setdefault(match["kind"], {})[number] = layer, _told(match["kind"], held)
    return {kind: dict(known[number] for number in sorted(known)) for kind, known in found.items()}


def _told(kind: str, held: list[Tensor]) -> Shape:
    """What shape a layer has by its kernel, or by its last statistic."""
    shape = held[_CLASSES[kind][1]].shape
    if kind == "depthwise_conv2d" and len(shape) == 4:
        return (*shape[:2], 1, shape[2] * shape[3])
    return shape


def _leads(first: str, second: str, graph: Wiring) -> bool:
    """Whether what one operation gives comes to another."""
    waiting, seen = [second], set[str]()
    while waiting:
        name = waiting.pop()
        if name == first:
            return True
        if name not in seen:
            seen.add(name)
            waiting += graph.sources.get(name, ())
    return False
