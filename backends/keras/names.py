"""Every operation of a Keras model has a name of its own; dots of ours become `_` there."""

from __future__ import annotations

from collections.abc import Iterator

from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.diagnostics import fail, quoted
from resnet_spec.ir import Network, Operation

# Written as functions of keras.ops, which name themselves.
UNNAMED = frozenset({"split", "shuffle", "pad_channels", "identity"})
INPUT = "images"


def check(network: Network) -> None:
    """RS503 where two layers would have one name in Keras."""
    taken = {INPUT: "the model's input"}
    for canonical, operation in network.operations():
        for name in _names(canonical, operation):
            if name in taken:
                fail(
                    "RS503",
                    f"{quoted(canonical)} and {taken[name]} would both be called {quoted(name)} "
                    "in Keras",
                    network.root.definition.span,
                    help="Keras has '_' where a name has '.', and calls the padding of a layer "
                    "'_pad'; rename one of them",
                )
            taken[name] = quoted(canonical)


def _names(canonical: str, operation: Operation) -> Iterator[str]:
    if operation.primitive.name not in UNNAMED:
        yield layer_name(canonical)
        if operation.attributes.get("padding"):
            yield f"{layer_name(canonical)}_pad"
