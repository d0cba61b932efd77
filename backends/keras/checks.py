"""What Keras can't have: names of layers that collide, and what its convolution can't do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.codegen.definitions import needed
from resnet_spec.diagnostics import Span, fail, quoted
from resnet_spec.ir import Network, Operation
from resnet_spec.primitives import SAME

Places = Sequence[tuple[str, Operation, Span]]  # every operation of a network

INPUT = "images"

# Written as functions of keras.ops, which name themselves.
UNNAMED = frozenset(
    {
        *("adaptive_avg_pool", "channel_avg_pool", "channel_max_pool", "identity"),
        *("pad_channels", "rescale", "shuffle", "split", "take"),
    }
)
# What Keras calls arithmetic on its tensors.
ARITHMETIC = frozenset({"add", "multiply", "subtract"})


def check(network: Network) -> None:
    """RS502 and RS503 for what follows from the graph alone."""
    places = [*network.places()]
    _check_layer_names(places)
    for canonical, operation, span in places:
        stride, dilation = (operation.attributes.get(key) for key in ("stride", "dilation"))
        if operation.primitive.name == "conv" and stride != 1 and dilation != 1:
            fail(
                "RS502",
                f"{quoted(canonical)}: a Keras convolution can't have both a stride and a dilation",
                span,
                help="give 'stride' to another layer, or leave out the backend keras",
            )
    _check_stages(network, places)


def _check_layer_names(places: Places) -> None:
    """RS503 for two layers whose dotted names are one name in Keras."""
    seen: dict[str, str] = {INPUT: INPUT}
    for canonical, operation, span in places:
        if not _has_layer(operation):
            continue
        names = [layer_name(canonical)]
        if operation.attributes.get("padding") not in (None, 0, SAME):
            names.append(f"{names[0]}_pad")
        for name in names:
            if seen.setdefault(name, canonical) != canonical:
                fail(
                    "RS503",
                    f"the layers {quoted(seen[name])} and {quoted(canonical)} are both "
                    f"{quoted(name)} in Keras",
                    span,
                    help="rename one of them; '.' becomes '_', and padding adds '_pad'",
                )


def _has_layer(operation: Operation) -> bool:
    """Whether an operation is a layer in Keras, under its own name."""
    if operation.primitive.name == "softmax":
        return not operation.attributes["groups"]
    return operation.primitive.name not in UNNAMED


def outer_names(network: Network) -> Iterable[str]:
    """The names of stages, and of layers and blocks outside of them."""
    yield from (stage.name for stage in network.stages)
    within = {index for stage in network.stages for index in stage.steps}
    yield from (step.name for n, step in enumerate(network.root.steps) if n not in within)


def _check_stages(network: Network, places: Places) -> None:
    """RS503 for a layer that `freeze_until` would take for the first of a later stage."""
    for stage in network.stages:
        begin = f"{layer_name(stage.name)}_"
        for canonical, _, span in places:
            if f"{canonical}.".startswith(f"{stage.name}."):
                break
            if f"{layer_name(canonical)}_".startswith(begin):
                fail(
                    "RS503",
                    f"in Keras, the layer {quoted(canonical)} looks like one of "
                    f"{quoted(stage.name)}",
                    span,
                    help=f"rename it or {quoted(stage.name)}; '.' becomes '_' in Keras",
                )


def check_automatic_names(
    network: Network, bodies: Iterable[Sequence[str]], definitions: Mapping[str, str]
) -> None:
    """RS503 for a layer with a name that Keras gives to a function of `keras.ops` itself.

    `bodies` are the lines of a file, which may use `definitions`.
    """
    text = "\n".join(line for body in bodies for line in body)
    text = "\n".join([text, *needed(definitions, {*re.findall(r"\w+(?=\()", text)})])
    functions = set(re.findall(r"\bops\.(\w+)\(", text))
    places = [*network.places()]
    if any(operation.primitive.name == "rescale" for _, operation, _ in places):
        functions |= ARITHMETIC
    for canonical, operation, span in places:
        name, _, number = layer_name(canonical).rpartition("_")
        if not name or not number.isdigit():
            name = layer_name(canonical)
        if name in functions and _has_layer(operation):
            fail(
                "RS503",
                f"a layer can't be called {quoted(canonical)} in Keras, which has a function of "
                "that name",
                span,
                help="rename the layer",
            )
