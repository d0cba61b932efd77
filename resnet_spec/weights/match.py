"""A file against a network: what fits, is missing, is left over or has another shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from resnet_spec.diagnostics import Diagnostic, Span, SpecError, nearest, quoted
from resnet_spec.ir import Network
from resnet_spec.weights import keras_numbers
from resnet_spec.weights.checkpoint import FLOATS, Checkpoint, Layout, Tensor, read
from resnet_spec.weights.entries import Entry, counters, entries
from resnet_spec.weights.fill import filled
from resnet_spec.weights.naming import MODEL, SPEC, Naming, by_entry
from resnet_spec.weights.prefixes import readings

_MAX_COMPARED = 20_000  # names that are compared in search of near ones


class Pair(NamedTuple):
    """A tensor of the network and what the file holds for it."""

    entry: Entry
    tensor: Tensor


class Left(NamedTuple):
    """A tensor of the file that the network does not have; `name` is our name for it."""

    name: str
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Match:
    """How a file and a network fit together, in the order of the network."""

    checkpoint: Checkpoint
    network: Network
    naming: Naming
    fitting: tuple[Pair, ...]
    wrong: tuple[Pair, ...]  # another shape, or no floating-point numbers
    missing: tuple[Entry, ...]
    extra: tuple[Left, ...]
    counters: Mapping[str, Tensor]  # of batches; not asked for, and kept where they are

    @property
    def fits(self) -> bool:
        """Whether every tensor is there, with its shape, and no other."""
        return not (self.wrong or self.missing or self.extra)


def match(checkpoint: Checkpoint, network: Network, namings: Sequence[Naming]) -> Match:
    """The file under the naming with which most of it fits, and without what precedes its names."""
    wanted, best = entries(network), None
    for naming in namings:
        for reading in readings(checkpoint, naming, wanted):
            found = _matched(reading, network, naming)
            if best is None or len(found.fitting) > len(best.fitting):
                best = found
            if best.fits:
                break
        if best is not None and best.fits:
            break
    assert best is not None
    _check_only(best, namings)
    return _by_number(best)


def _check_only(found: Match, namings: Sequence[Naming]) -> None:
    """Raises `SpecError` (RS908) where the names of a file are the spec's and the model's.

    A model may have the names of its spec in another order, and nothing in a file tells which.
    """
    taken = [pair.tensor.name for pair in found.fitting]
    for naming in namings if found.naming.library is None else ():
        if naming.library != MODEL:
            continue
        others = _matched(found.checkpoint, found.network, naming).fitting
        if len(others) == len(taken) and [pair.tensor.name for pair in others] != taken:
            message = (
                f"the names in {quoted(found.checkpoint.shown)} may be the spec's own as well as "
                "those of the model that it was imported from, where they mean other layers"
            )
            help = f"tell whose they are: --from {SPEC} or --from {MODEL}"
            raise SpecError([Diagnostic("RS908", message, Span(found.checkpoint.shown), help)])


def _by_number(found: Match) -> Match:
    """The same with the layers of Keras that are told by their numbers alone, if any are."""
    if found.checkpoint.layout != "keras" or found.fits:
        return found
    rules, notes = keras_numbers.rules(found)
    checkpoint = found.checkpoint
    checkpoint = checkpoint._replace(notes=(*checkpoint.notes, *notes))
    naming = found.naming._replace(rules={**rules, **found.naming.rules})
    return _matched(checkpoint, found.network, naming) if notes else found


def _matched(checkpoint: Checkpoint, network: Network, naming: Naming) -> Match:
    wanted = entries(network)
    found, left = by_entry(checkpoint, naming, wanted)
    notes = filled(found, network, checkpoint)
    checkpoint = checkpoint._replace(notes=(*checkpoint.notes, *notes))
    counts = set(counters(network))
    counted = {name: tensor for name, tensor in left if name in counts}
    left = [each for each in left if each[0] not in counts]
    return _built(checkpoint, network, naming, found, left, counted)


def rebuilt(
    before: Match, checkpoint: Checkpoint, found: Mapping[str, Tensor], left: Mapping[str, Tensor]
) -> Match:
    """A match with other tensors for our names, and with what is left over of the file."""
    rest = list(left.items())
    return _built(checkpoint, before.network, before.naming, found, rest, before.counters)


def _built(
    checkpoint: Checkpoint,
    network: Network,
    naming: Naming,
    found: Mapping[str, Tensor],
    left: Sequence[tuple[str, Tensor]],
    counted: Mapping[str, Tensor],
) -> Match:
    wanted = entries(network)
    pairs = [Pair(entry, found[name]) for name, entry in wanted.items() if name in found]
    return Match(
        checkpoint,
        network,
        naming,
        fitting=tuple(pair for pair in pairs if _fits(pair, checkpoint.layout, naming)),
        wrong=tuple(pair for pair in pairs if not _fits(pair, checkpoint.layout, naming)),
        missing=tuple(entry for name, entry in wanted.items() if name not in found),
        extra=tuple(Left(*each) for each in left),
        counters=counted,
    )


def _fits(pair: Pair, layout: Layout, naming: Naming) -> bool:
    expected, given = pair.entry.shape(layout), pair.tensor.shape
    if (naming.library is not None and layout == "torch") or _has_window(pair):
        # A 1x1 convolution and a linear layer hold the same numbers.
        expected, given = _squeezed(expected), _squeezed(given)
    return given == expected and pair.tensor.dtype in FLOATS


def _has_window(pair: Pair) -> bool:
    """Whether one of the two is a kernel of 1x1 and the other of a linear layer."""
    return {len(pair.entry.parameter.shape), len(pair.tensor.shape)} == {2, 4}


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def array(pair: Pair, checkpoint: Checkpoint) -> Any:
    """The values of a fitting tensor in PyTorch's order of axes."""
    import numpy

    value = read(pair.tensor, checkpoint.shown)
    if checkpoint.layout == "torch":
        return value.reshape(pair.entry.parameter.shape)
    axes = pair.entry.place(checkpoint.layout).axes
    value = value.reshape(pair.entry.shape(checkpoint.layout))
    return numpy.ascontiguousarray(value.transpose(numpy.argsort(axes)))


def near(found: Match) -> dict[str, str]:
    """For names on both sides that fit nothing, the name that was probably meant.

    A tensor that is called otherwise has its shape, so only such names are compared.
    """
    layout = found.checkpoint.layout
    ours = {entry.name: entry.shape(layout) for entry in found.missing}
    theirs = {each.name: each.tensor.shape for each in found.extra}
    shown = {each.name: each.tensor.name for each in found.extra}
    result: dict[str, str] = {}
    budget = _MAX_COMPARED
    for names, others in ((ours, theirs), (theirs, ours)):
        for name, shape in names.items():
            alike = [other for other, size in others.items() if size == shape]
            budget -= len(alike)
            if budget < 0:
                return result
            close = nearest(name, alike)
            if close is not None:
                result[shown.get(name, name)] = shown.get(close, close)
    return result
