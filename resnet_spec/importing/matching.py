"""Graphs compared: hashes of what each value is made of, and the way from one graph to another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from resnet_spec.importing.graph import Graph, Op, Value, significant
from resnet_spec.importing.normal_form import cuts_off, pads_nothing, same_padding
from resnet_spec.primitives import SAME, Shape

# What has one meaning in whatever order its inputs stand.
_UNORDERED = frozenset({"add", "multiply"})
# What varies between uses of one block; the rest makes a block another one.
_NUMBERS = {
    "conv": {"filters", "stride", "padding", "dilation", "groups"},
    "linear": {"features"},
    "max_pool": {"stride"},
    "avg_pool": {"stride"},
    "blur_pool": {"stride"},
    "subsample": {"stride"},
    "channel_conv": {"kernel"},
    "pad_channels": {"before", "after"},
    "batch_norm": {"eps"},
    "group_norm": {"groups", "eps"},
    "take": {"start", "stop"},
    "shuffle": {"groups", "parts"},
}

Hash = str
Key = tuple[Hash, int]


# --- the folded form -----------------------------------------------------------------------------


def folded(graph: Graph, apart: bool = False) -> Graph:
    """A graph for matching: each convolution with the norm behind it as one operation.

    Exporters fold the two, with the standardisation of kernels, and write padding as rows of zeros.
    The operations that were joined stay in `parts`. With `apart` a convolution with a bias is
    another thing than one with a norm.
    """
    users, ops = graph.users(), []
    gone: set[int] = set()
    for op in graph.ops:
        if id(op) in gone:
            continue
        made = op.copy(parts=(op,))
        following = users.get(op.output, [])
        if op.kind == "conv":
            made.attributes["standardize"] = False
            made.attributes.pop("eps", None)
            joins = len(following) == 1 and following[0].kind == "batch_norm"
            if joins and op.output != graph.output:
                norm = following[0]
                gone.add(id(norm))
                made.parts, made.outputs = (op, norm), list(norm.outputs)
                # An epsilon is no part of what is folded, and one of what is trained further.
                made.attributes["bias"] = f"norm {norm.attributes['eps']:g}" if apart else True
        ops.append(made)
    result = replace(graph, ops=ops, shapes=dict(graph.shapes))
    _join_padding(result)
    _write_same_as_number(result)
    _drop_ceil(result)
    _split_strided_dilation(result)
    result.sort()
    return result


def _join_padding(graph: Graph) -> None:
    """Rows of zeros that one convolution or mean sees are its padding."""
    makers, users = graph.producers(), graph.users()
    for op in graph.ops:
        if op.kind not in ("conv", "avg_pool"):
            continue
        before = makers.get(op.inputs[0])
        if before is None or before.kind != "zero_pad" or len(users[before.output]) > 1:
            continue
        padding, added = op.attributes["padding"], before.attributes["padding"]
        if padding == SAME or (op.kind == "avg_pool" and 2 * added > op.attributes["kernel"]):
            continue
        op.attributes["padding"] = padding + added
        op.inputs = list(before.inputs)


def _write_same_as_number(graph: Graph) -> None:
    """`padding: same` where the graph's own size asks for as much on every side.

    What a pooling adds is no zeros. Where that is at most the last row and column, its windows are
    cut off, as by `ceil: true`; else it stays the rule.
    """
    for op in graph.ops:
        given = graph.shapes[op.inputs[0]]
        if op.kind == "conv" and op.attributes["padding"] == SAME:
            sides = same_sides(op, given)
            if len(sides) == 1:
                op.attributes["padding"] = sides.pop()
        elif op.kind in ("max_pool", "avg_pool") and op.attributes["padding"] == SAME:
            is_whole = pads_nothing(op, given)
            if is_whole or op.attributes["kernel"] == op.attributes["stride"] == 2:
                op.attributes.update(padding=0, ceil=not is_whole)


def _drop_ceil(graph: Graph) -> None:
    """No `ceil: true` where no window is cut off at the graph's own size."""
    for op in graph.ops:
        if op.kind in ("max_pool", "avg_pool"):
            op.attributes["ceil"] = cuts_off(op.attributes, graph.shapes[op.inputs[0]])


def same_sides(op: Op, given: Shape) -> set[int]:
    """How many rows and columns TensorFlow's rule adds on the sides of a convolution's input."""
    rule = (op.attributes["kernel"], op.attributes["stride"], op.attributes["dilation"])
    return {*same_padding(given.height or 1, *rule), *same_padding(given.width or 1, *rule)}


def follows_the_size(op: Op) -> bool:
    """Whether a convolution's source has TensorFlow's rule, which no number is for all sizes."""
    source = (op.parts[0] if op.parts else op).attributes
    reach = (source["kernel"] - 1) * source["dilation"]
    return bool(source["padding"] == SAME and reach and (source["stride"] > 1 or reach % 2))


def _split_strided_dilation(graph: Graph) -> None:
    """A dilated convolution whose stride divides its dilation sees every n-th place alone."""
    more: list[Op] = []
    for op in graph.ops:
        attributes = op.attributes
        if op.kind == "conv" and _sees_every_nth(attributes):
            stride, given = attributes["stride"], graph.shapes[op.inputs[0]]
            height, width = (-(-(size or 1) // stride) for size in (given.height, given.width))
            seen = graph.new_value(Shape(given.channels, height, width))
            more.append(Op("subsample", {"stride": stride}, list(op.inputs), [seen]))
            op.inputs = [seen]
            for name in ("dilation", "padding"):
                attributes[name] //= stride
            attributes["stride"] = 1
        more.append(op)
    graph.ops = more


def _sees_every_nth(attributes: Mapping[str, object]) -> bool:
    stride, dilation, padding = (attributes[name] for name in ("stride", "dilation", "padding"))
    if not (isinstance(stride, int) and isinstance(dilation, int) and isinstance(padding, int)):
        return False
    kernel_sees_more = attributes["kernel"] != 1 and stride > 1 and dilation > 1
    return kernel_sees_more and dilation % stride == 0 and padding % stride == 0


# --- hashes --------------------------------------------------------------------------------------


def word(op: Op, skeleton: bool = False) -> str:
    """What an operation is, as text; a skeleton leaves out what varies between uses of a block.

    Parts of a value that happen to be equal are still the parts that a block takes.
    """
    if skeleton and op.kind == "split":
        return "take()"
    left_out = _NUMBERS.get(op.kind, set()) if skeleton else set()
    said = []
    for name in significant(op.kind):
        value = op.attributes.get(name)
        if name == "eps" and op.kind == "conv":
            continue
        if name == "ceil" and (skeleton or not value):
            continue  # it shows on odd sizes alone
        if name not in left_out:
            said.append(f"{name}={round(value, 9) if isinstance(value, float) else value}")
    return f"{op.kind}({','.join(said)})"


def _digest(*parts: str) -> Hash:
    return hashlib.blake2b("|".join(parts).encode(), digest_size=10).hexdigest()


def hashes(
    ops: Sequence[Op],
    leaves: Mapping[Value, Hash],
    skeleton: bool = False,
    words: Mapping[int, str] | None = None,
) -> dict[Value, Hash]:
    """Of every value a hash of all that it is made of, from the leaves on.

    `words` has what `word` says of operations, by their `id`, where that was asked for before.
    """
    found = dict(leaves)
    for op in ops:
        inputs = [found[each] for each in op.inputs]
        if op.kind in _UNORDERED:
            inputs.sort()
        said = words[id(op)] if words is not None else word(op, skeleton)
        made = _digest(said, *inputs)
        many = len(op.outputs) > 1 and not skeleton
        for place, value in enumerate(op.outputs):
            found[value] = _digest(made, str(place)) if many else made
    return found


def key(ops: Sequence[Op], first: Value, last: Value, skeleton: bool = False) -> Key:
    """Equal for graphs between two values that compute the same."""
    number = sum(len(op.outputs) for op in ops) if skeleton else len(ops)
    return (hashes(ops, {first: "x"}, skeleton)[last], number)


def graph_key(graph: Graph, skeleton: bool = False) -> Key:
    """The key of a whole graph."""
    return key(graph.ops, graph.input, graph.output, skeleton)


# --- the way from one graph to another -----------------------------------------------------------


class Ambiguous(Exception):
    """Two graphs that are alike, but whose operations could not be told apart."""


def isomorphism(left: Graph, right: Graph, skeleton: bool = False) -> list[tuple[Op, Op]]:
    """Each operation of a graph with the one of the other that stands in its place.

    The graphs have equal keys, or equal skeletons. Raises `Ambiguous` where no one way was found.
    """
    marks = _marks(left, skeleton), _marks(right, skeleton)
    makers = left.producers(), right.producers()
    images: dict[Value, Value] = {}
    pairs: dict[int, tuple[Op, Op]] = {}
    waiting = [(left.output, right.output)]
    while waiting:
        one, other = waiting.pop()
        if one in images or (one == left.input) != (other == right.input):
            if images.get(one) != other:
                raise Ambiguous
            continue
        images[one] = other
        if one == left.input:
            continue
        first, second = makers[0][one], makers[1][other]
        if first.outputs.index(one) != second.outputs.index(other):
            raise Ambiguous
        if id(first) in pairs:
            continue
        pairs[id(first)] = (first, second)
        waiting += zip(_in_order(first, marks[0]), _in_order(second, marks[1]), strict=True)
    if len(set(images.values())) != len(images) or len(pairs) != len(left.ops):
        raise Ambiguous
    return list(pairs.values())


def _in_order(op: Op, marks: Mapping[Value, str]) -> list[Value]:
    """Its inputs; of a sum, in an order that both graphs have."""
    return sorted(op.inputs, key=marks.__getitem__) if op.kind in _UNORDERED else op.inputs


def _marks(graph: Graph, skeleton: bool) -> dict[Value, str]:
    """Of every value what it is made of, and what is made of it."""
    words = {id(op): word(op, skeleton) for op in graph.ops}
    above = hashes(graph.ops, {graph.input: "x"}, words=words)
    below: dict[Value, list[Hash]] = {graph.output: ["out"]}
    for op in reversed(graph.ops):
        seen = _digest(words[id(op)], *(_joined(below.get(value, [])) for value in op.outputs))
        for place, value in enumerate(op.inputs):
            where = "" if op.kind in _UNORDERED else str(place)
            below.setdefault(value, []).append(_digest(seen, where))
    return {value: mark + _joined(below.get(value, [])) for value, mark in above.items()}


def _joined(parts: Iterable[Hash]) -> Hash:
    return _digest(*sorted(parts))


def counts(graph: Graph) -> Counter[str]:
    """How often each operation stands in a graph: what two that differ differ in."""
    return Counter(word(op) for op in graph.ops)
