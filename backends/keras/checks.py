"""What Keras can't have: names of layers that collide, and what its convolution can't do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from resnet_spec.backends.keras.primitives import RULES
from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.diagnostics import Diagnostic, Span, fail, quoted
from resnet_spec.ir import Network, Operation
from resnet_spec.ir.origins import error_at_origin
from resnet_spec.primitives import SAME

Places = Sequence[tuple[str, Operation, Span]]  # operations of a network

# Layers that go with the one of an operation, and are called after it.
BESIDE = {
    **dict.fromkeys(("conv", "max_pool", "avg_pool"), ("pad",)),
    **{"blur_pool": ("blur",), "channel_conv": ("in", "out"), "flatten": ("order",)},
}

_INPUT = "images"


def check(network: Network, text: str) -> None:
    """RS502 and RS503 for a network and its text."""
    places = [*network.places()]
    for canonical, operation, span in places:
        stride, dilation = (operation.attributes.get(key) for key in ("stride", "dilation"))
        if operation.primitive.name == "conv" and stride != 1 and dilation != 1:
            # The stride or the dilation is told where it is given, which may be far away.
            found = Diagnostic(
                "RS502",
                f"{quoted(canonical)}: a Keras convolution can't have both a stride and a dilation",
                span,
                help="give 'stride' to another layer, or leave out the backend keras",
            )
            raise error_at_origin(network, canonical, found, ("stride", "dilation"))
    _check_collisions(places)
    _check_stages(network, places)
    _check_functions(places, text)


def _names(canonical: str, operation: Operation) -> Iterator[str]:
    """The names of an operation's layers, its own first; none where it is a function."""
    primitive, attributes = operation.primitive.name, operation.attributes
    rule, name = RULES[primitive], layer_name(canonical)
    grouped = primitive == "softmax" and attributes["groups"]
    if grouped or (isinstance(rule, str) and "{name}" not in rule):
        return
    yield name
    completed = primitive == "max_pool" and attributes["ceil"]
    if completed or attributes.get("padding") not in (0, SAME):
        yield from (f"{name}_{each}" for each in BESIDE.get(primitive, ()))


def _check_collisions(places: Places) -> None:
    """RS503 for two layers whose dotted names are one name in Keras."""
    seen: dict[str, str] = {}
    for canonical, operation, span in places:
        for name in _names(canonical, operation):
            if seen.setdefault(name, canonical) != canonical:
                fail(
                    "RS503",
                    f"the layers {quoted(seen[name])} and {quoted(canonical)} are both "
                    f"{quoted(name)} in Keras",
                    span,
                    help="rename one of them; '.' becomes '_', and what goes with a layer "
                    "adds '_pad', '_blur', '_in', '_out' or '_order'",
                )


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


def _check_functions(places: Places, text: str) -> None:
    """RS503 for a layer with a name that is taken: by the input, or a function of `keras.ops`."""
    functions = set(re.findall(r"\bops\.(\w+)\(", text))
    if any(operation.primitive.name == "rescale" for _, operation, _ in places):
        functions |= {"add", "multiply", "subtract"}  # what Keras calls arithmetic
    for canonical, operation, span in places:
        own = next(_names(canonical, operation), "")
        name, _, number = own.rpartition("_")
        called_after = name if name and number.isdigit() else own
        if own == _INPUT or called_after in functions:
            has = "an input" if own == _INPUT else "a function"
            fail(
                "RS503",
                f"a layer can't be called {quoted(canonical)} in Keras, which has {has} of that "
                "name",
                span,
                help="rename the layer",
            )
