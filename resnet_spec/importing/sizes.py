"""Whether a spec is its model for images of other sizes, too.

What a model computes of the size of its images, such as a window or a padding, is a number in its
graph. So a model that can be asked is read for other sizes as well, and the spec must be the same
graph there, with the same weights; else the layers that differ are told. Of a file with a fixed
size only some are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from resnet_spec.diagnostics import SpecError
from resnet_spec.importing.carry import layers_of
from resnet_spec.importing.errors import Unable, Unsupported
from resnet_spec.importing.graph import Graph, Op, Value, significant
from resnet_spec.importing.matching import Ambiguous, Hash, graph_key, hashes
from resnet_spec.importing.readers.model import Model, told_of

NUMBER = 2  # of other sizes for which a model is read
_LARGE = 128  # rows; of larger images half of them do
_WINDOW = ("kernel", "size", "height", "width")  # what tells most of another operation
_ROUNDED = 1e-6  # of the largest number
_MOST = 3  # differences that are told
_OTHERWISE = (
    "for images of {} the spec is another network than the model, in which {}: they are one for "
    "images of {}"
)
_COVERING = (
    "its window is all of the map for images of this size: the spec has the {} of the whole map, "
    "whatever their size"
)
_ONE_SIDED = (
    "rows and columns are padded on one side, which is 'padding: same' for images of this size; "
    "for others it may pad otherwise"
)

Size = tuple[int, int]
Array = Any
Layers = Mapping[str, Op]
GraphOf = Callable[[Model], Graph]
SpecAt = Callable[[Size], Graph]
Read = tuple[Size, Graph | Unsupported]


def others(size: Size) -> list[list[Size]]:
    """Sizes to read a model for that has images of one, those that tell most first.

    They are odd where most sizes are even, also after they were halved, whether that rounds up
    (above a multiple) or down (below one), and not square, in the first of each two.
    """
    rows, columns = size
    far = (-rows // 2, -columns // 2) if min(rows, columns) >= _LARGE else (rows, columns)
    found = []
    # A map before a fully connected layer may only grow by less than a window.
    for down, right in (far, (32, 32), (8, 8), (4, 4), (2, 2)):
        above, below, right_below = rows + down + 1, rows + down - 1, columns + right - 1
        found.append([(above, right_below), (below, right_below)])
    return found


def multiples(size: Size) -> list[Size]:
    """Sizes to read a model for that takes no odd ones."""
    rows, columns = size
    return [(rows + 32, columns + 64), (2 * rows, columns + 32)]


def told(
    model: Model, graph: Graph, layers: Layers, graph_of: GraphOf, spec_at: SpecAt
) -> list[str]:
    """What is to be told of a spec for images of other sizes than those of its graph.

    `layers`: by the spec's names what has weights in that graph.
    """
    if model.takes_one_size:  # so there is nothing that the spec could do otherwise
        return []
    compared = [*_compared(model, graph, layers, graph_of, spec_at)]
    if not compared:
        return [*_fixed(graph)]
    same = [size for size, differences in compared if not differences]
    for size, differences in compared:
        if differences:
            given = graph.shapes[graph.input]
            held = " and ".join(map(_shown, [(given.height or 1, given.width or 1), *same]))
            return [_OTHERWISE.format(_shown(size), "; ".join(differences), held)]
    return []


def _fixed(graph: Graph) -> Iterator[str]:
    """What a graph of one size shows."""
    for kind, places in graph.covering.items():
        yield told_of(places, _COVERING.format({"avg_pool": "mean"}.get(kind, "maximum")))
    if graph.one_sided:
        yield told_of(graph.one_sided, _ONE_SIDED)


# --- other sizes ---------------------------------------------------------------------------------


def _compared(
    model: Model, graph: Graph, layers: Layers, graph_of: GraphOf, spec_at: SpecAt
) -> Iterator[tuple[Size, list[str]]]:
    """Of each other size that the model can be read for what differs there."""
    for size, found in _read(model, graph_of):
        if isinstance(found, Unsupported):
            yield size, [f"{found.place or 'an operation'} can't be said: {found.what}"]
            continue
        try:
            spec = spec_at(size)
        except SpecError:  # it is none for that size, since it has what the model has for its own
            yield size, _differences(found, graph)
            continue
        yield size, _differences(found, spec) or _other_weights(found, spec, layers)


def _read(model: Model, graph_of: GraphOf) -> Iterator[Read]:
    """The graphs of a model for other sizes; of a file with open sizes for those that it allows."""
    for other in model.elsewhere:
        try:
            yield other.shape[2:], graph_of(other)
        except Unsupported as error:
            yield other.shape[2:], error
    if any(model.open_sides):
        yield from _read_of_file(model, graph_of)


def _read_of_file(model: Model, graph_of: GraphOf) -> Iterator[Read]:
    """The graphs of a file with open sizes, for the first that it can be read for."""
    size = model.image_size
    yield from _first_read(model, others(size), graph_of) or _first_read(
        model, [multiples(size)], graph_of
    )


def _first_read(model: Model, candidates: Iterable[list[Size]], graph_of: GraphOf) -> list[Read]:
    """The graphs for the first sizes that can be said, or why not; none that the model can't do."""
    failed: list[Read] = []
    for sizes in candidates:
        read: list[Read] = []
        try:
            for other in map(model.for_images_of, sizes):
                read.append((other.image_size, graph_of(other)))
        except Unable:
            continue
        except Unsupported as error:
            failed.append((other.image_size, error))
            continue
        return read
    return failed[:1]


def _differences(theirs: Graph, ours: Graph) -> list[str]:
    """The operations in which a model differs from its spec, as text."""
    found: list[str] = []
    equal: tuple[dict[Value, Hash], dict[Value, Hash]] = {theirs.input: "x"}, {ours.input: "x"}
    if graph_key(theirs) == graph_key(ours):
        return found
    while len(found) < _MOST:
        marks = _marks(theirs, equal[0]), _marks(ours, equal[1])
        first = next(_new(theirs, marks[0], marks[1].values()), None)
        if first is None:
            break
        wanted = [marks[0][value] for value in first.inputs]
        instead = [
            op
            for op in _new(ours, marks[1], marks[0].values())
            if [marks[1][value] for value in op.inputs] == wanted
        ]
        found.append(_said(first, instead))
        if not instead or instead[0].kind != first.kind:
            break  # what comes after can't be told from it
        for op, known in zip((first, instead[0]), equal, strict=True):
            known.update({value: f"{len(found)}.{k}" for k, value in enumerate(op.outputs)})
    return found or ["its operations are connected otherwise"]


def _marks(graph: Graph, equal: dict[Value, Hash]) -> dict[Value, Hash]:
    """The hashes of all values, some of which are taken as what they are for another graph."""
    return hashes([op for op in graph.ops if op.output not in equal], equal)


def _new(graph: Graph, marks: dict[Value, Hash], known: Iterable[Hash]) -> Iterator[Op]:
    """The operations that another graph has not, of values that it has."""
    had = set(known)
    for op in graph.ops:
        if marks[op.output] not in had and all(marks[value] in had for value in op.inputs):
            yield op


def _other_weights(theirs: Graph, ours: Graph, layers: Layers) -> list[str]:
    """The layers whose numbers are others than for images of the first size, as text."""
    try:
        found = [*layers_of(theirs, ours)]
    except Ambiguous:
        return ["the weights can't be told apart by the graph"]
    pairs = ((op, layers[layer.parts[0].name]) for op, layer in found)
    places = [part.place or part.name for pair in pairs for part in _with_other_weights(*pair)]
    if len(places) > 1:
        return [f"{places[0]} and {len(places) - 1} more have other weights"]
    return [f"{place} has other weights" for place in places]


def _with_other_weights(found: Op, first: Op) -> Iterator[Op]:
    if len(found.parts) != len(first.parts):  # one of them has a norm that is folded
        yield found
        return
    for part, known in zip(found.parts, first.parts, strict=True):
        one, other = part.parameters, known.parameters
        # Numbers that are equal before a training are others after it.
        named_alike = (one.keys(), part.sources) == (other.keys(), known.sources)
        if not named_alike or not all(_are_equal(one[key], other[key]) for key in one):
            yield part


def _are_equal(one: Array, other: Array) -> bool:
    """Whether numbers are the same but for rounding; most lie at the same place in memory."""
    if one.__array_interface__ == other.__array_interface__:
        return True
    if one.shape != other.shape:
        return False
    return np.allclose(one, other, rtol=0, atol=_ROUNDED * np.abs(other).max())


def _said(op: Op, instead: Sequence[Op]) -> str:
    place = op.place or op.name
    if not instead:
        return f"{place} is {_described(op, _WINDOW)}, which the spec has not"
    other = instead[0]
    names = significant(op.kind) if op.kind == other.kind else _WINDOW
    differ = [name for name in names if op.attributes.get(name) != other.attributes.get(name)]
    return f"{place} is {_described(op, differ)}, in the spec {_described(other, differ)}"


def _described(op: Op, names: Iterable[str]) -> str:
    stated = [f"{name} {op.attributes[name]}" for name in names if name in op.attributes]
    return f"{op.kind} with {' and '.join(stated)}" if stated else op.kind


def _shown(size: Size) -> str:
    return "x".join(map(str, size))
