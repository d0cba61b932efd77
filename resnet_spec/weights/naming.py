"""Which of a network's tensors a name in a file stands for.

A file has the spec's own names, or those of a published network, which the spec's `references` lead
to its own. In Keras' layout the rules are for layers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.ir import Network
from resnet_spec.language.renames import renamed
from resnet_spec.weights.checkpoint import Checkpoint, Tensor
from resnet_spec.weights.entries import Entry


class Naming(NamedTuple):
    """Whose names a file has: `label` tells it, `rules` lead to the spec's own."""

    label: str
    library: str | None
    rules: Mapping[str, str]


OWN = Naming("the spec's own names", None, {})


def namings(network: Network, library: str | None, rules: Mapping[str, str]) -> list[Naming]:
    """The namings that a file may have: our own first, then those of published networks.

    `library` leaves those of one library, `rules` come before any other.
    """
    own = Naming("the given names", None, rules) if rules else OWN
    found = [own] if library is None else []
    for each in network.references:
        if library in (None, each.library):
            label = f"the names of {each.library}'s {each.model}"
            theirs = {key: ours for key, ours in each.rename.items() if key not in rules}
            found.append(Naming(label, each.library, {**rules, **theirs}))
    return found


def names(checkpoint: Checkpoint) -> list[str]:
    """The names that rules are for: of tensors, in Keras' layout of layers."""
    found = [tensor.name for tensor in checkpoint.tensors]
    if checkpoint.layout == "keras":
        found = [name.rpartition("/")[0] for name in found]
    return list(dict.fromkeys(found))


def by_entry(
    checkpoint: Checkpoint, naming: Naming, wanted: Mapping[str, Entry]
) -> tuple[dict[str, Tensor], list[tuple[str, Tensor]]]:
    """The tensor of each entry by the entry's name, and what is left, each with our name for it."""
    if checkpoint.layout == "keras":
        pairs = _keras_names(checkpoint.tensors, naming, wanted)
    else:
        pairs = _dotted_names(checkpoint.tensors, naming)
        if checkpoint.layout != "torch":
            ours = {each.place(checkpoint.layout).path: name for name, each in wanted.items()}
            pairs = [(ours.get(name, name), tensor) for name, tensor in pairs]
    found: dict[str, Tensor] = {}
    left = []
    for name, tensor in pairs:
        if name in wanted and name not in found:
            found[name] = tensor
        else:
            left.append((name, tensor))
    return found, left


def _dotted_names(tensors: Sequence[Tensor], naming: Naming) -> list[tuple[str, Tensor]]:
    return [(renamed(tensor.name, naming.rules), tensor) for tensor in tensors]


def _keras_names(
    tensors: Sequence[Tensor], naming: Naming, wanted: Mapping[str, Entry]
) -> list[tuple[str, Tensor]]:
    """Our names for the variables of layers; those without a name are taken in their order."""
    layers: dict[str, list[Entry]] = {}
    for entry in wanted.values():
        layers.setdefault(entry.place("keras").layer, []).append(entry)
    members: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        members.setdefault(tensor.name.rpartition("/")[0], []).append(tensor)
    found = []
    for theirs, held in members.items():
        ours = layer_name(renamed(theirs, naming.rules))
        known = layers.get(ours, [])
        for tensor in held:
            variable = tensor.name.rpartition("/")[2]
            meant = _variable(variable, known, len(held))
            found.append((f"{ours}/{variable}" if meant is None else meant.name, tensor))
    return found


def _variable(variable: str, known: Sequence[Entry], held: int) -> Entry | None:
    if variable.isdigit():
        # With one more or less it could be any of them, and a wrong one may have the same shape.
        return known[int(variable)] if held == len(known) and int(variable) < held else None
    return next((each for each in known if each.place("keras").variable == variable), None)
