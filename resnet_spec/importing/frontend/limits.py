"""What the language has limits for: a network beyond them is named, and is no mistake of ours."""

from __future__ import annotations

import math

from resnet_spec.expressions.evaluate import MAX_MAGNITUDE
from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.graph import Graph, Op, Value, takes_any
from resnet_spec.language.name_resolution import MAX_DIMENSION, MAX_SIZE
from resnet_spec.lower.frame import MAX_OPERATIONS
from resnet_spec.primitives import PRIMITIVES, Attribute


def check(graph: Graph) -> None:
    """Raise `Unsupported` for a graph in normal form that the language has no numbers for."""
    if len(graph.ops) > MAX_OPERATIONS:
        what = f"{len(graph.ops):,} operations: the language has up to {MAX_OPERATIONS:,}"
        raise Unsupported(what, "the model")
    for op in graph.ops:
        for attribute in PRIMITIVES[op.kind].attributes if op.kind in PRIMITIVES else ():
            _check(op, attribute)
    _check_vectors(graph)
    for value, what in ((graph.input, "channels of images"), (graph.output, "classes")):
        number = graph.shapes[value].channels
        if number > MAX_SIZE:
            raise Unsupported(
                f"{number:,} {what}: the language has up to {MAX_SIZE:,}", "the model"
            )


def _check_vectors(graph: Graph) -> None:
    """Norms, poolings and the like work on maps; what is flattened is none any more."""
    vectors: set[Value] = set()
    for op in graph.ops:
        given = any(value in vectors for value in op.inputs)
        if given and op.kind in PRIMITIVES and PRIMITIVES[op.kind].needs == "map":
            what = f"{op.kind} of a vector, which was a map of other sizes: the language has maps"
            raise Unsupported(what, op.place)
        if op.kind in ("flatten", "linear") or (given and takes_any(op.kind)):
            vectors.update(op.outputs)


def _check(op: Op, attribute: Attribute) -> None:
    value = op.attributes.get(attribute.name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    least, most = attribute.minimum, attribute.maximum
    if attribute.type == "int":
        most = MAX_DIMENSION if most is None else min(most, MAX_DIMENSION)
    least = -MAX_MAGNITUDE if least is None else least
    most = MAX_MAGNITUDE if most is None else most
    if not least <= value <= most:
        bound = f"at least {least:,}" if value < least else f"at most {most:,}"
        bound = bound if math.isfinite(value) else "finite numbers"
        what = f"{op.kind} with the {attribute.name} {value:,g}: the language has {bound}"
        raise Unsupported(what, op.place)
