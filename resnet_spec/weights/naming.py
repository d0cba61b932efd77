"""Which of a network's tensors a name in a file stands for.

A file has the spec's own names, or those of a published network, which the spec's `references` lead
to its own. In Keras' layout the rules are for layers.
"""

from collections.abc import Mapping
from typing import NamedTuple

from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.ir import Network
from resnet_spec.language.renames import renamed
from resnet_spec.weights import keras_layers
from resnet_spec.weights.checkpoint import Checkpoint, Tensor
from resnet_spec.weights.entries import Entry


class Naming(NamedTuple):
    """Whose names a file has: `label` tells it, `rules` lead to the spec's own."""

    label: str
    library: str | None
    rules: Mapping[str, str]


OWN = Naming("the spec's own names", None, {})
SPEC, MODEL = "spec", "model"  # in place of a library: our own names, those of the imported model


def namings(network: Network, library: str | None, rules: Mapping[str, str]) -> list[Naming]:
    """The namings that a file may have: our own first, then those of other networks.

    `library` leaves those of one library, `rules` come before any other.
    """
    own = Naming("the given names", None, rules) if rules else OWN
    found = [own] if library in (None, SPEC) else []
    for each in (*network.references, *network.inherited):
        whose = each.library or MODEL
        if library in (None, whose):
            owner = f"{each.library}'s" if each.library else "the model"
            theirs = {key: ours for key, ours in each.rename.items() if key not in rules}
            label = f"the names of {owner} {each.model}"
            found.append(Naming(label, whose, {**rules, **theirs}))
    return found


def names(checkpoint: Checkpoint) -> list[str]:
    """The dotted names that rules are for: of tensors, in Keras' layout of layers."""
    found = [tensor.name for tensor in checkpoint.tensors]
    if checkpoint.layout == "keras":
        found = [name.rpartition("/")[0].replace("/", ".") for name in found]
    return list(dict.fromkeys(found))


def known(checkpoint: Checkpoint, wanted: Mapping[str, Entry]) -> frozenset[str]:
    """What names become by the rules where they are the network's."""
    places = (entry.place(checkpoint.layout) for entry in wanted.values())
    if checkpoint.layout == "keras":
        return frozenset(place.layer for place in places)
    return frozenset(place.path for place in places)


def ours(name: str, checkpoint: Checkpoint, naming: Naming) -> str:
    """What a dotted name of the file becomes by the rules."""
    found = renamed(name, naming.rules)
    return layer_name(found) if checkpoint.layout == "keras" else found


def by_entry(
    checkpoint: Checkpoint, naming: Naming, wanted: Mapping[str, Entry]
) -> tuple[dict[str, Tensor], list[tuple[str, Tensor]]]:
    """The tensor of each entry by the entry's name, and what is left, each with our name for it."""
    if checkpoint.layout == "keras":
        pairs = _keras_names(checkpoint, naming, wanted)
    else:
        pairs = [(ours(each.name, checkpoint, naming), each) for each in checkpoint.tensors]
        if checkpoint.layout != "torch":
            paths = {each.place(checkpoint.layout).path: name for name, each in wanted.items()}
            pairs = [(paths.get(name, name), tensor) for name, tensor in pairs]
    found: dict[str, Tensor] = {}
    left = []
    for name, tensor in pairs:
        if name in wanted and name not in found:
            found[name] = tensor
        else:
            left.append((name, tensor))
    return found, left


def _keras_names(
    checkpoint: Checkpoint, naming: Naming, wanted: Mapping[str, Entry]
) -> list[tuple[str, Tensor]]:
    """Our names for the variables of layers; those without a name are taken in their order."""
    layers: dict[str, list[Entry]] = {}
    for entry in wanted.values():
        layers.setdefault(entry.place("keras").layer, []).append(entry)
    found = []
    for theirs, held in keras_layers.by_layer(checkpoint.tensors).items():
        layer = ours(theirs.replace("/", "."), checkpoint, naming)
        said = checkpoint.stated.layers.get(theirs, {})
        meant = keras_layers.variables(held, layers.get(layer, []), said)
        for tensor, (variable, which) in zip(held, meant, strict=True):
            if which is not None:
                found.append((which.name, keras_layers.depthwise(tensor, which)))
            else:
                found.append((f"{layer}/{variable}", tensor))
    return found
