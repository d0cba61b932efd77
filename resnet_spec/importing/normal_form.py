"""One form for graphs that compute the same: both sides of every comparison come to it.

Exporters and specs write one thing in several ways: a sum of three as two sums, a swish as a
product with its gate, a split as slices, a grown list as concatenations of all of it. What stands
here is true for any input of the graph's size, and loses no parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resnet_spec.importing.graph import GATED, Graph, Op, Value, is_point, takes_any
from resnet_spec.primitives import SAME, Shape


def normalized(graph: Graph) -> Graph:
    """Bring a graph to its normal form, in place."""
    graph.sort()
    rules: tuple[Callable[[Graph], bool], ...] = (
        _windows,
        _rescalings,
        _gates,
        _sums,
        _splits,
        _split_products,
        _split_products,  # the sides of a product that was split
        _splits,
        _concatenations,
        _vectors,
    )
    for rule in rules:
        if rule(graph):  # which may have left something that nothing takes
            graph.sort()
    return graph


# --- windows -------------------------------------------------------------------------------------


def _windows(graph: Graph) -> bool:
    """Poolings that see all, one place, or parts of one size."""
    passing: dict[Value, Value] = {}
    for op in graph.ops:
        given = graph.shapes[op.inputs[0]]
        if op.kind == "adaptive_avg_pool":
            _as_windows(op, given.height or 1, given.width or 1)
        if op.kind in ("avg_pool", "max_pool"):
            _simplify_pool(graph, op)
        if op.kind in _MAY_DO_NOTHING and _does_nothing(graph, op):
            passing[op.output] = op.inputs[0]
    graph.replaced(passing)
    return bool(passing)


def _as_windows(op: Op, height: int, width: int) -> None:
    size = op.attributes["size"]
    if size == 1:
        op.kind, op.attributes = "global_avg_pool", {"keep_map": True}
    elif height == width and height % size == 0:
        kernel = height // size
        op.kind, op.adaptive = "avg_pool", size
        op.attributes = {"kernel": kernel, "stride": kernel, "padding": 0, "ceil": False}


def _simplify_pool(graph: Graph, op: Op) -> None:
    given, attributes = graph.shapes[op.inputs[0]], op.attributes
    kernel, stride, padding = (attributes[name] for name in ("kernel", "stride", "padding"))
    sizes = (given.height or 1, given.width or 1)
    if kernel == 1 and padding in (0, SAME):
        op.kind, op.attributes = "subsample", {"stride": stride}
        return
    if sizes == (kernel, kernel) and (padding == 0 or pads_nothing(op, given)):
        op.kind = "global_avg_pool" if op.kind == "avg_pool" else "global_max_pool"
        op.attributes = {"keep_map": True}


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Rows before and after that TensorFlow's rule adds for one size."""
    last = (size - 1) // stride * stride
    total = max(last + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def cuts_off(pool: Mapping[str, Any], given: Shape) -> bool:
    """Whether the last window of a pooling leaves its map, by `ceil: true`, at this size."""
    kernel, stride, padding = (pool[name] for name in ("kernel", "stride", "padding"))
    if padding == SAME or not pool["ceil"]:
        return False
    return any((n + 2 * padding - kernel) % stride for n in (given.height or 1, given.width or 1))


def pads_nothing(op: Op, given: Shape) -> bool:
    """Whether a pooling has TensorFlow's rule, and a map of a size for which that adds nothing."""
    kernel, stride, padding = (op.attributes[name] for name in ("kernel", "stride", "padding"))
    sizes = (given.height or 1, given.width or 1)
    return padding == SAME and all(same_padding(n, kernel, stride) == (0, 0) for n in sizes)


_MAY_DO_NOTHING = ("subsample", "shuffle", "zero_pad", "flatten", "pad_channels")


def _does_nothing(graph: Graph, op: Op) -> bool:
    match op.kind:
        case "subsample":
            return bool(op.attributes["stride"] == 1)
        case "zero_pad":
            return bool(op.attributes["padding"] == 0)
        case "pad_channels":
            return not op.attributes["before"] and not op.attributes["after"]
        case "flatten":
            return is_point(graph.shapes[op.inputs[0]])
        case _:
            return 1 in (op.attributes["groups"], op.attributes["parts"])


# --- elementwise ---------------------------------------------------------------------------------


def _rescalings(graph: Graph) -> bool:
    """Several in a row as one; one that changes nothing as none."""
    found = [op for op in graph.ops if op.kind == "rescale"]
    if not found:
        return False
    users, makers = graph.users(), graph.producers()
    passing: dict[Value, Value] = {}
    for op in found:
        before = makers.get(op.inputs[0])
        while before is not None and before.kind == "rescale" and len(users[op.inputs[0]]) == 1:
            factor, offset = op.attributes["factor"], op.attributes["offset"]
            op.attributes = {
                "factor": before.attributes["factor"] * factor,
                "offset": before.attributes["offset"] * factor + offset,
            }
            op.inputs = list(before.inputs)
            before = makers.get(op.inputs[0])
        if (op.attributes["factor"], op.attributes["offset"]) == (1, 0):
            passing[op.output] = op.inputs[0]
    graph.replaced(passing)
    return True


def _gates(graph: Graph) -> bool:
    """A value times what activations make of it as one operation; with a sigmoid that is `silu`."""
    found = [op for op in graph.ops if op.kind == "multiply" and len(op.inputs) == 2]
    makers = graph.producers() if found else {}
    users = graph.users() if found else {}
    for op in found:
        for value, gate in (op.inputs, op.inputs[::-1]):
            chain: list[Op] = []
            at = gate
            while at != value and (maker := makers.get(at)) is not None:
                if maker.kind not in _IN_GATES or len(users[at]) > 1 or at == graph.output:
                    break
                chain.insert(0, maker)
                at = maker.inputs[0]
            if at == value and any(each.kind != "rescale" for each in chain):
                _gate(op, value, chain)
                break
    return bool(found)


_IN_GATES = frozenset({
    "sigmoid", "hard_sigmoid", "tanh", "relu", "leaky_relu", "silu", "gelu", "rescale",
})  # fmt: skip


def _gate(op: Op, value: Value, chain: list[Op]) -> None:
    op.inputs, op.attributes = [value], {}
    if [each.kind for each in chain] == ["sigmoid"]:
        op.kind = "silu"
        return
    gate = tuple((each.kind, tuple(each.attributes.items())) for each in chain)
    said = (f"{kind}{dict(attributes) or ''}" for kind, attributes in gate)
    op.kind, op.attributes = f"{GATED}{', '.join(said)}", {"gate": gate}


def _sums(graph: Graph) -> bool:
    """A sum that only another one takes is part of that one."""
    found = [op for op in graph.ops if op.kind == "add"]
    if len(found) < 2:
        return False
    users, makers = graph.users(), graph.producers()
    for op in found:
        terms: list[Value] = []
        for value in op.inputs:
            maker = makers.get(value)
            inner = maker is not None and maker.kind == "add" and value != graph.output
            if inner and users[value] == [op] and op.inputs.count(value) == 1:
                assert maker is not None
                terms += maker.inputs  # which were flattened before
            else:
                terms.append(value)
        op.inputs = terms
    return True


# --- channels ------------------------------------------------------------------------------------


def _splits(graph: Graph) -> bool:
    """Equal takes that cover a value as one split; one split for each value and number of parts."""
    takes: dict[Value, dict[tuple[int, int], Op]] = {}
    passing: dict[Value, Value] = {}
    for op in graph.ops:
        if op.kind != "take":
            continue
        value, channels = op.inputs[0], graph.shapes[op.inputs[0]].channels
        bounds = (op.attributes["start"], op.attributes["stop"] or channels)
        op.attributes = dict(zip(("start", "stop"), bounds, strict=True))
        first = takes.setdefault(value, {}).setdefault(bounds, op)
        if bounds == (0, channels):
            passing[op.output] = value
        elif first is not op:
            passing[op.output] = first.output
    graph.replaced(passing)
    for value, parts in takes.items():
        _split_where_equal(graph, value, parts)
    return _join_equal_splits(graph) or bool(takes)


def _split_where_equal(graph: Graph, value: Value, parts: dict[tuple[int, int], Op]) -> None:
    number = len(parts)
    size, rest = divmod(graph.shapes[value].channels, number)
    bounds = [(size * k, size * (k + 1)) for k in range(number)]
    if number < 2 or rest or sorted(parts) != bounds:
        return
    first, outputs = parts[bounds[0]], [parts[each].output for each in bounds]
    taken = {id(op) for op in parts.values()}
    graph.ops = [op for op in graph.ops if id(op) not in taken]
    graph.ops.append(Op("split", {"parts": number}, [value], outputs, {}, first.name, first.place))


def _join_equal_splits(graph: Graph) -> bool:
    known: dict[tuple[Value, int], Op] = {}
    passing: dict[Value, Value] = {}
    for op in graph.ops:
        if op.kind == "split":
            first = known.setdefault((op.inputs[0], op.attributes["parts"]), op)
            if first is not op:
                passing.update(zip(op.outputs, first.outputs, strict=True))
    graph.replaced(passing)
    return bool(passing)


def _split_products(graph: Graph) -> bool:
    """Parts of a concatenation are what it was made of; of its product, products of these."""
    found = [op for op in graph.ops if op.kind == "split"]
    if not found:
        return False
    users, makers = graph.users(), graph.producers()
    passing: dict[Value, Value] = {}
    for op in found:
        number, maker = op.attributes["parts"], makers.get(op.inputs[0])
        if maker is None:
            continue
        if maker.kind == "concat" and _has_equal_parts(graph, maker, number):
            passing.update(zip(op.outputs, maker.inputs, strict=True))
        elif maker.kind == "multiply" and len(maker.inputs) == 2 and users[maker.output] == [op]:
            joined = [makers.get(each) for each in maker.inputs]
            channels = {graph.shapes[each].channels for each in maker.inputs}
            if len(channels) == 1 and any(
                each is not None and _has_equal_parts(graph, each, number) for each in joined
            ):
                _distribute(graph, op, maker)
    graph.replaced(passing)
    return True


def _has_equal_parts(graph: Graph, op: Op, number: int) -> bool:
    sizes = {graph.shapes[each].channels for each in op.inputs}
    return op.kind == "concat" and len(op.inputs) == number and len(sizes) == 1


def _distribute(graph: Graph, split: Op, product: Op) -> None:
    """Split both sides of a product, and multiply part by part."""
    number = split.attributes["parts"]
    sides = []
    for value in product.inputs:
        shape = graph.shapes[value]
        part = shape._replace(channels=shape.channels // number)
        outputs = []
        for _ in range(number):
            outputs.append(graph.new_value(part))
        graph.ops.append(Op("split", {"parts": number}, [value], outputs, {}, "", split.place))
        sides.append(outputs)
    for output, first, second in zip(split.outputs, *sides, strict=True):
        graph.ops.append(Op("multiply", {}, [first, second], [output], {}, "", product.place))
    graph.ops.remove(split)


def _concatenations(graph: Graph) -> bool:
    """Of a list that grows, each takes the one before it; of one value, none."""
    passing: dict[Value, Value] = {}
    whole: dict[Value, tuple[Value, ...]] = {}
    for op in graph.ops:
        if op.kind != "concat":
            continue
        op.inputs = [passing.get(value, value) for value in op.inputs]
        if len(op.inputs) == 1:
            passing[op.output] = op.inputs[0]
            continue
        whole[op.output] = tuple(each for value in op.inputs for each in whole.get(value, (value,)))
    graph.replaced(passing)
    known: dict[tuple[Value, ...], Value] = {}
    for op in graph.ops:
        if op.kind != "concat" or op.output not in whole:
            continue
        parts = whole[op.output]
        lengths = (n for n in range(len(parts) - 1, 1, -1) if parts[:n] in known)
        longest = next(lengths, 0)
        op.inputs = [known[parts[:longest]], *parts[longest:]] if longest else list(parts)
        known.setdefault(parts, op.output)
    return bool(whole) or bool(passing)


# --- vectors -------------------------------------------------------------------------------------


def _vectors(graph: Graph) -> bool:
    """What is a vector on every way to the output, and what is a map of one row and one column.

    On a vector a 1x1 convolution is a fully connected layer, and on a map the other way round. One
    on a flattened map is a convolution by a window as large as the map.
    """
    flat, makers = _flat_values(graph), graph.producers()
    for op in graph.ops:
        point = is_point(graph.shapes[op.inputs[0]]) and len(op.inputs) == 1
        if op.kind in ("global_avg_pool", "global_max_pool"):
            op.attributes = {"keep_map": op.output not in flat}
        elif op.kind == "conv" and point and op.output in flat:
            bias = op.attributes["bias"]
            op.attributes = {"features": op.attributes["filters"], "bias": bias}
            op.kind = "linear"
        elif op.kind == "linear" and op.output not in flat:
            filters, bias = op.attributes["features"], op.attributes["bias"]
            before, kernel = makers.get(op.inputs[0]), 1
            if before is not None and before.kind == "flatten":
                kernel, columns = before.attributes["height"], before.attributes["width"]
                if kernel != columns:
                    continue  # windows are square: see `frontend.limits`
                op.inputs = list(before.inputs)
            op.kind, op.attributes = "conv", at_one_place(filters, bias, kernel)
    return True


def at_one_place(filters: int, bias: bool, kernel: int = 1) -> dict[str, object]:
    """The attributes of a convolution whose window sees one place, or all of a small map."""
    return {
        "filters": filters,
        "kernel": kernel,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": bias,
        "standardize": False,
    }


def _flat_values(graph: Graph) -> set[Value]:
    """The values that can be vectors: no operation that needs a map sees them, or comes after."""
    users = graph.users()
    flat: set[Value] = set()
    for op in reversed(graph.ops):
        for value in op.outputs:
            following = users.get(value, [])
            if value != graph.output and not following:
                continue
            if is_point(graph.shapes[value]) and all(
                _takes_vector(each, flat) for each in following
            ):
                flat.add(value)
    return flat


def _takes_vector(op: Op, flat: set[Value]) -> bool:
    if op.output not in flat:
        return False
    if op.kind == "conv":
        return bool(op.attributes["groups"] == 1) and not op.attributes.get("standardize")
    return op.kind == "linear" or takes_any(op.kind)
