"""Which networks a file of weights may be of, by the names and shapes of its tensors.

Weights do not tell everything: two networks may differ in strides, paddings or an epsilon alone.
What the candidates differ in is told, and a stored image with what the source made of it decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.weights import adapt, convert
from resnet_spec.weights.checkpoint import Checkpoint
from resnet_spec.weights.entries import entries
from resnet_spec.weights.match import Match, match
from resnet_spec.weights.naming import namings
from resnet_spec.weights.transforms import Asked, transformed

_ALIKE = 0.5  # of a network's shapes that a file has to have, so that names are compared
_MAX_TOLD = 3  # layers in which candidates differ, of each kind
_UNTOLD = ("stride", "dilation", "padding", "eps", "kernel", "ceil", "rate", "slope", "size")


class Candidate(NamedTuple):
    """A network that a file may be of; `apart` is how far its outputs are from stored ones."""

    network: Network
    found: Match
    whole: bool
    apart: float | None = None

    @property
    def share(self) -> float:
        """How much of the file and of the network fits the other."""
        fitting = len(self.found.fitting)
        held, wanted = len(self.found.checkpoint.tensors), len(entries(self.network))
        counted = len(self.found.counters)
        return fitting / max(held - counted, wanted, 1)


def candidates(
    checkpoint: Checkpoint, specs: Iterable[str], progress: Callable[[str], None] | None = None
) -> list[Candidate]:
    """The networks of some specs that a file may be of, the likeliest first."""
    library, found = Library(), []
    shapes = Counter(_sorted(tensor.shape) for tensor in checkpoint.tensors)
    for name in specs:
        if progress is not None:
            progress(name)
        try:
            network = lower(load(name, library))
        except SpecError:  # of a spec with a mistake, which 'check' tells
            continue
        if _alike(shapes, network) < _ALIKE:
            continue
        made, problems = transformed(
            match(checkpoint, network, namings(network, None, {})), Asked()
        )
        if made.fitting:
            found.append(Candidate(network, made, made.fits and not problems))
    return sorted(found, key=lambda each: (not each.whole, -each.share, each.network.name))


def _sorted(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape whatever the order of axes is."""
    return tuple(sorted(size for size in shape if size != 1))


def _alike(shapes: Counter[tuple[int, ...]], network: Network) -> float:
    wanted = Counter(_sorted(entry.parameter.shape) for entry in entries(network).values())
    common = (shapes & wanted).total()
    return common / max(wanted.total(), 1)


def probed(found: Sequence[Candidate], probe: Path, shown: str) -> list[Candidate]:
    """Candidates that fit by how far their outputs are from stored ones, the nearest first."""
    from resnet_spec.weights.against.compare import compared

    result = []
    for each in found:
        plan = adapt.plan(each.found, adapt.Options())
        if plan.problems:
            continue
        state = convert.state(each.found, plan, None, None, 0)
        try:
            made = compared(each.network, state, probe, shown)
        except SpecError as error:
            if error.diagnostics[0].code != "RS911":  # another size of images
                raise
            continue
        result.append(each._replace(apart=made.output))
    return sorted(result, key=lambda each: each.apart or 0.0)


def undecided(networks: Sequence[Network]) -> Iterator[str]:
    """What networks of one file differ in: a line for each kind, with some of the layers."""
    operations = [dict(network.operations()) for network in networks]
    differing: dict[str, list[str]] = {}
    for name in operations[0] if operations else ():
        there = [each[name] for each in operations if name in each]
        for key in _UNTOLD:
            values = [str(each.attributes.get(key)) for each in there]
            if len(set(values)) > 1:
                differing.setdefault(key, []).append(f"{name} {' or '.join(dict.fromkeys(values))}")
    kinds = [{each.primitive.name for each in found.values()} for found in operations]
    some = {kind for found in kinds for kind in found if not all(kind in each for each in kinds)}
    if some:
        differing["layers"] = sorted(some)
    for key, layers in differing.items():
        more = f" and {len(layers) - _MAX_TOLD:,} more" if len(layers) > _MAX_TOLD else ""
        yield f"{key}: {', '.join(layers[:_MAX_TOLD])}{more}"
