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

_ALIKE = 0.5  # of a network's kernels that a file has to have, so that names are compared
# What is asked for with a flag, and so is not done here unless it makes a file fit.
_UNFOLD = "--unfold-norms"
_FLAGS = {
    _UNFOLD: Asked(unfold_norms=True),
    "--fold-norms": Asked(fold_norms=True),
    "--fold-biases": Asked(fold_biases=True),
}
_MAX_TOLD = 3  # layers in which candidates differ, of each kind
_UNTOLD = ("stride", "dilation", "padding", "eps", "kernel", "ceil", "rate", "slope", "size")


class Candidate(NamedTuple):
    """A network that a file may be of; `apart` is how far its outputs are from stored ones.

    `flag` is the one of `weights convert` with which it fits, if it needs one; `problem` is what
    the file does not tell.
    """

    network: Network
    found: Match
    whole: bool
    flag: str = ""
    problem: str = ""
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
    shapes = _kernels(tensor.shape for tensor in checkpoint.tensors)
    for name in specs:
        if progress is not None:
            progress(name)
        try:
            network = lower(load(name, library))
        except SpecError:  # of a spec with a mistake, which 'check' tells
            continue
        if _alike(shapes, network) < _ALIKE:
            continue
        made = _fitted(match(checkpoint, network, namings(network, None, {})))
        if made.found.fitting:
            found.append(made)
    if any(each.whole and not each.flag for each in found):
        # Norms that are there are no folded ones.
        found = [each for each in found if each.flag in ("", _UNFOLD)]
    return sorted(
        found, key=lambda each: (not each.whole, each.flag, -each.share, each.network.name)
    )


def _fitted(found: Match) -> Candidate:
    """A network with its file as it is, or as a flag turns it if it fits then."""
    made, problems = transformed(found, Asked())
    for flag, asked in _FLAGS.items() if problems else ():
        turned, others = transformed(found, asked)
        if turned.fits and not others:
            return Candidate(found.network, turned, True, flag, problems[0].message)
    told = made.fits and problems
    problem = f"{problems[0].message}: {problems[0].help}" if told else ""
    return Candidate(found.network, made, made.fits and not problems, problem=problem)


def _sorted(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape whatever the order of axes is."""
    return tuple(sorted(size for size in shape if size != 1))


def _kernels(shapes: Iterable[tuple[int, ...]]) -> Counter[tuple[int, ...]]:
    """The shapes that have more than one axis: numbers of norms may be folded into these."""
    found = Counter(map(_sorted, shapes))
    return Counter({shape: count for shape, count in found.items() if len(shape) > 1})


def _alike(shapes: Counter[tuple[int, ...]], network: Network) -> float:
    wanted = _kernels(entry.parameter.shape for entry in entries(network).values())
    common = (shapes & wanted).total()
    return common / max(wanted.total(), 1)


def probed(found: Sequence[Candidate], probe: Path, shown: str) -> list[Candidate]:
    """Candidates that fit by how far their outputs are from stored ones, the nearest first."""
    from resnet_spec.weights.against.compare import compared

    result, others = [], []
    for each in found:
        plan = adapt.plan(each.found, adapt.Options())
        if plan.problems:
            continue
        state = convert.state(each.found, plan, None, None, 0)
        try:
            made = compared(each.network, state, probe, shown)
        except SpecError as error:
            if error.diagnostics[0].code != "RS911":  # images of another size, or other outputs
                raise
            others.append(error.diagnostics[0])
            continue
        result.append(each._replace(apart=made.output))
    if others and not result:
        size = others[0].help or ""
        help = f"weights verify FILE {found[0].network.name} --against {shown} {size}".rstrip()
        raise SpecError([others[0]._replace(help=f"one network at a time tells more: {help}")])
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
