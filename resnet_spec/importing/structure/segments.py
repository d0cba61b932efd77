"""A graph cut where everything passes through one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from resnet_spec.importing.graph import Graph, Op, Value


class Segment(NamedTuple):
    """What lies between two values through which all of a graph passes."""

    first: Value
    last: Value
    ops: tuple[Op, ...]


def segments(graph: Graph) -> list[Segment]:
    """The segments of a graph, by one sweep: where one value alone is live, it is a cut."""
    last_use: dict[Value, int] = {graph.output: len(graph.ops)}
    for number, op in enumerate(graph.ops):
        for value in op.inputs:
            last_use[value] = max(number, last_use.get(value, -1))
    live, first = {graph.input}, graph.input
    found: list[Segment] = []
    ops: list[Op] = []
    for number, op in enumerate(graph.ops):
        ops.append(op)
        live.update(op.outputs)
        live = {value for value in live if last_use.get(value, -1) > number}
        if len(live) == 1:
            (last,) = live
            found.append(Segment(first, last, tuple(ops)))
            first, ops = last, []
    return found


def halved(graph: Graph, whole: Sequence[Segment], eps: float) -> list[Segment]:
    """Convolutions with a bias as two: the norm that was folded into one may be the next block's.

    A block that begins with its norm follows a convolution, and exporters fold the two.
    """
    found = []
    for segment in whole:
        op = segment.ops[0]
        if len(segment.ops) > 1 or op.kind != "conv" or not op.attributes["bias"]:
            found.append(segment)
            continue
        between = graph.new_value(graph.shapes[op.output])
        attributes = {**op.attributes, "bias": False}
        conv = op.copy(attributes=attributes, outputs=[between], parts=op.parts[:1], whole=op)
        norm_eps = op.parts[1].attributes["eps"] if len(op.parts) > 1 else eps
        norm = Op("batch_norm", {"eps": norm_eps}, [between], list(op.outputs), whole=op)
        norm.parts = op.parts[1:] or (norm,)
        found.append(Segment(segment.first, between, (conv,)))
        found.append(Segment(between, segment.last, (norm,)))
    return found


def joined(ops: Iterable[Op]) -> list[Op]:
    """Operations in which both halves of one, side by side, are whole again."""
    result: list[Op] = []
    for op in ops:
        if result and op.whole is not None and result[-1].whole is op.whole:
            result[-1] = op.whole
        else:
            result.append(op)
    return result
