"""What becomes of the tensors of an old network's checkpoints in a new network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from resnet_spec.compare.align import Pair
from resnet_spec.compare.renaming import rules
from resnet_spec.ir import Network, Operation

Shape = tuple[int, ...]

ENOUGH = 0.5  # the share of either network's weights that must fit, so that it is worth to load


class Reshaped(NamedTuple):
    """A tensor of another shape than before; names differ where it was renamed as well."""

    old_name: str
    new_name: str
    old: Shape
    new: Shape


class Tensors(NamedTuple):
    """Parameters and statistics by name, each in one of five lists.

    `renames` are the rules by which the `renamed` ones, old name to new name, load; where there
    are none, nothing is renamed. `shares` are the parts of the old and of the new network's numbers
    that load, renamed ones included.
    """

    fitting: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    reshaped: tuple[Reshaped, ...]
    new: tuple[str, ...]
    lost: tuple[str, ...]
    renames: Mapping[str, str]
    shares: tuple[float, float]

    @property
    def load(self) -> bool:
        """Whether every tensor loads as it is, and no other is there."""
        return not (self.renamed or self.reshaped or self.new or self.lost)


def shapes(network: Network) -> dict[str, Shape]:
    """Every parameter and statistic of a network by its name."""
    return {
        f"{name}.{parameter.name}": parameter.shape
        for name, operation in network.operations()
        for parameter in operation.parameters
    }


def layers_of(pairs: list[Pair]) -> dict[str, str]:
    """The new name of each old operation that has tensors and a partner."""
    return {
        pair.old_name: pair.new_name
        for pair in pairs
        if pair.old is not None
        and pair.new is not None
        and isinstance(pair.old.node, Operation)
        and isinstance(pair.new.node, Operation)
        and pair.old.node.parameters
        and pair.new.node.parameters
    }


def carried(old: Network, new: Network, layers: Mapping[str, str]) -> Tensors:
    """What loads, under the names that `layers` brings together and a rule leads to."""
    ours, theirs = shapes(old), shapes(new)
    wanted = {
        name: layers[name]
        for name in dict.fromkeys(each.rpartition(".")[0] for each in ours)
        if name in layers
    }
    others = {each.rpartition(".")[0] for each in ours} - wanted.keys()
    found = rules(wanted, sorted(others))
    if found is None:  # no rule leads there: then each name stands for itself
        found, layers = {}, {}
    fitting, renamed, reshaped, lost = [], [], [], []
    used = set()
    for name, shape in ours.items():
        layer, _, own = name.rpartition(".")
        target = f"{layers.get(layer, layer)}.{own}"
        if target not in theirs or target in used:
            lost.append(name)
            continue
        used.add(target)
        if theirs[target] != shape:
            reshaped.append(Reshaped(name, target, shape, theirs[target]))
        elif target != name:
            renamed.append((name, target))
        else:
            fitting.append(name)
    loading = sum(math.prod(ours[name]) for name in (*fitting, *(old for old, _ in renamed)))
    totals = [sum(map(math.prod, each.values())) for each in (ours, theirs)]
    return Tensors(
        tuple(fitting),
        tuple(renamed),
        tuple(reshaped),
        tuple(name for name in theirs if name not in used),
        tuple(lost),
        found,
        (loading / totals[0] if totals[0] else 1.0, loading / totals[1] if totals[1] else 1.0),
    )
