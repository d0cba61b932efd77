"""Operations as layers of the language: what is a default is not said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resnet_spec.importing.graph import GATED, Graph, Op, Value, is_point, takes_any
from resnet_spec.importing.matching import follows_the_size
from resnet_spec.importing.structure.roles import Roles
from resnet_spec.importing.writing.fillers import Fillers
from resnet_spec.importing.writing.names import Names, norm_beside
from resnet_spec.primitives import PRIMITIVES, SAME

Layer = dict[str, Any]

_NEED_NAMES = ("learned_scale", "learned_shift", "channel_conv")


@dataclass
class Scope:
    """Where layers are written: their names, and what the network says once for all of them."""

    graph: Graph
    roles: Roles
    unfold: bool
    names: Names = field(default_factory=Names)
    users: Mapping[Value, Sequence[Op]] = field(default_factory=dict)
    hint: Callable[[str], str] = lambda name: name
    fillers: Fillers | None = None  # blocks of the library within blocks; None: without the library
    dropped: set[Value] = field(default_factory=set)  # the values whose dropout was written


def usual_padding(attributes: Mapping[str, Any]) -> int:
    """The padding that the language takes where none is said."""
    return int((attributes["kernel"] - 1) // 2 * attributes.get("dilation", 1))


def layers_of(op: Op, scope: Scope, stated: Mapping[str, Any] | None = None) -> list[Layer]:
    """One folded operation as one or two layers; `stated` has expressions for its attributes."""
    stated = stated or {}
    if op.kind == "conv":
        return _conv(op, scope, stated)
    attributes = op.attributes
    if op.kind == "linear":
        layer: Layer = {"linear": _named(op, scope, "fc"), "features": attributes["features"]}
        layer.update(stated)
        layer = layer if attributes["bias"] else {**layer, "bias": False}
        if _is_vector(scope.graph, op.inputs[0]):
            return [layer]
        return [{"flatten": scope.names.only("flatten"), "height": 1}, layer]
    if op.kind in ("batch_norm", "group_norm"):
        return [_norm(op, scope, scope.hint(op.parts[0].name if op.parts else op.name))]
    if op.kind in ("max_pool", "avg_pool"):
        return [_pool(op, scope, stated)]
    if scope.roles.is_act(op):
        return [{"act": scope.names.take("", "act")}]
    if op.kind.startswith(GATED):
        block = scope.roles.gates[op.kind][0]
        return [{"block": block, "name": scope.names.take("", "act")}]
    return [_plain(op, scope, stated)]


def dropout_of(column: Sequence[Value], scope: Scope) -> Layer | None:
    """The dropout of a value, where all uses of a block have the same there."""
    graph, most = scope.graph, PRIMITIVES["dropout"].attributes[0].maximum
    found = [graph.dropouts.get(value) for value in column]
    first = found[0]
    users = [len(scope.users.get(value, ())) for value in column]
    if first is None or max(users) > 1 or first.rate > (most or 1):
        return None
    if not scope.dropped.isdisjoint(column):
        return None
    if any(each is None or each.rate != first.rate for each in found):
        return None
    scope.dropped.update(column)
    return {"dropout": scope.names.take(scope.hint(first.name), "dropout"), "rate": first.rate}


def _is_vector(graph: Graph, value: Value) -> bool:
    """Whether a value of one place is a vector, and not a map, as norms need and give one."""
    makers = graph.producers()
    while (op := makers.get(value)) is not None:
        if op.kind in ("linear", "flatten"):
            return True
        if op.kind in ("global_avg_pool", "global_max_pool"):
            return not op.attributes["keep_map"]
        if not takes_any(op.kind):
            return False
        value = op.inputs[0]
    return False


def _named(op: Op, scope: Scope, kind: str) -> str:
    part = op.parts[0] if op.parts else op
    return scope.names.take(scope.hint(part.name) if part.name else "", kind)


def _conv(op: Op, scope: Scope, stated: Mapping[str, Any]) -> list[Layer]:
    attributes = op.attributes
    layer: Layer = {"conv": _named(op, scope, "conv"), "filters": attributes["filters"]}
    layer["kernel"] = attributes["kernel"]
    for name, default in (("stride", 1), ("dilation", 1), ("groups", 1)):
        if attributes[name] != default:
            layer[name] = attributes[name]
    padding = SAME if follows_the_size(op) else attributes["padding"]
    if not scope.roles.same and padding != usual_padding(attributes):
        layer["padding"] = padding
    layer.update(stated)
    norm = op.parts[1] if len(op.parts) > 1 else None
    biased = bool(op.parts[0].attributes["bias"]) if op.parts else bool(attributes["bias"])
    point = is_point(scope.graph.shapes[op.inputs[0]])
    unfolds = norm is None and biased and scope.unfold and not point and op.whole is None
    if op.whole is not None:
        biased = False
    if biased != scope.roles.bias and not unfolds:
        layer["bias"] = biased
    if norm is not None:
        return [layer, _norm(norm, scope, scope.hint(norm.name), layer["conv"])]
    if unfolds:
        wanted = scope.hint(op.norm) or norm_beside(layer["conv"])
        return [layer, {"norm": scope.names.take(wanted, "bn")}]
    return [layer]


def _norm(op: Op, scope: Scope, wanted: str, conv: str | None = None) -> Layer:
    if not wanted and conv is not None:
        wanted = norm_beside(conv)
    name = scope.names.take(wanted, "bn" if op.kind == "batch_norm" else "norm")
    if scope.roles.is_norm(op):
        return {"norm": name}
    if op.kind == "batch_norm" and scope.roles.norm.startswith("batch_norm"):
        return {"norm": name, "eps": op.attributes["eps"]}
    return {op.kind: name, **_said(op)}


def _pool(op: Op, scope: Scope, stated: Mapping[str, Any]) -> Layer:
    if op.adaptive and not stated:
        return {"adaptive_avg_pool": scope.names.take("", "pool"), "size": op.adaptive}
    attributes = op.attributes
    if op.parts and op.parts[0].attributes["padding"] == SAME:  # whatever that is for this size
        attributes = op.parts[0].attributes
    layer: Layer = {op.kind: scope.names.take("", "pool"), "kernel": attributes["kernel"]}
    if attributes["stride"] != attributes["kernel"]:
        layer["stride"] = attributes["stride"]
    if attributes["padding"] != usual_padding(attributes):
        layer["padding"] = attributes["padding"]
    if attributes["ceil"] or (op.parts and op.parts[0].attributes["ceil"]):
        layer["ceil"] = True
    return {**layer, **stated}


def _plain(op: Op, scope: Scope, stated: Mapping[str, Any]) -> Layer:
    if op.kind in _NEED_NAMES:
        name = _named(op, scope, op.kind)
    elif op.kind == "global_avg_pool":
        name = scope.names.only("squeeze" if op.attributes["keep_map"] else "avgpool")
    else:
        name = scope.names.only(op.kind)
    return {op.kind: name, **_said(op), **stated}


def _said(op: Op) -> Layer:
    """The attributes that differ from their defaults."""
    found = {}
    for attribute in PRIMITIVES[op.kind].attributes:
        value = op.attributes.get(attribute.name)
        default = attribute.default
        if attribute.type == "init" or value is None or value == default:
            continue
        if attribute.name == "width" and value == op.attributes.get("height"):
            continue
        if attribute.name != "momentum":
            found[attribute.name] = value
    return found
