"""What a Keras model's configuration, JSON of any version, states beside its weights.

No layer is made. What the configuration lacks or says in another way is left out, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from resnet_spec.weights.checkpoint import FlattenOrder, Stated

_MAX_BYTES = 50_000_000
_MAX_DEPTH = 32  # of models within models
# Keras' names of activations, and its layers that are one, by our primitives' names.
_ACTIVATIONS = {
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
    "hard_sigmoid": "hard_sigmoid",
    "LeakyReLU": "leaky_relu",
    "leaky_relu": "leaky_relu",
    "gelu": "gelu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "ReLU": "relu",
    "ELU": "elu",
    "PReLU": "prelu",
    "Softmax": "softmax",
}
_CONVOLUTIONS = ("Conv2D", "Convolution2D", "DepthwiseConv2D", "SeparableConv2D")


# Keras' own layers that residual networks are made of, which run no code of the file.
# fmt: off
_STANDARD = frozenset((
    "InputLayer", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense", "BatchNormalization",
    "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Dropout", "SpatialDropout2D",
    "Flatten", "Reshape", "Permute", "Add", "Multiply", "Average", "Maximum", "Concatenate",
    "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
    "ZeroPadding2D", "Cropping2D", "UpSampling2D", "Rescaling", "Normalization",
    "GroupNormalization", "LayerNormalization",
))
# fmt: on


class _Layer(NamedTuple):
    kind: str
    name: str
    config: Mapping[str, Any]
    sources: tuple[str, ...]  # names of the layers that feed it


def stated(text: bytes | str | None, groups: Mapping[str, str]) -> Stated:
    """What a configuration says; without one, what the names of a file's layers do.

    `groups` has for each layer of the file the name of its group, which is its class. Keras' own
    `Flatten` goes along rows, columns, channels; what we generate turns the map first, by a layer
    of its name and `_order`.
    """
    model = _parsed(text)
    layers = {layer.name: layer for layer in _layers(model, 0)}
    if not layers:
        return Stated(flatten_order=_order_by_names(groups))
    kinds = [kind for layer in layers.values() for kind in _activations(layer)]
    last = list(layers.values())[-1]
    softmax_last = "softmax" in _activations(last)
    inner = kinds[:-1] if softmax_last else kinds
    found = {layer.name: said for layer in layers.values() if (said := _said(layer, layers))}
    for layer in layers.values():
        if layer.kind == "SeparableConv2D" and layer.name in found:
            whole = found[layer.name]
            found[f"{layer.name}/depthwise"] = {**whole, "groups": None, "bias": False}
            found[f"{layer.name}/pointwise"] = {"stride": 1, "bias": whole["bias"]}
    standard = all(layer.kind in _STANDARD for layer in layers.values()) and _of_keras(model)
    return Stated(found, frozenset(inner), softmax_last, _order(layers), standard)


def _parsed(text: bytes | str | None) -> Any:
    if text is None or len(text) > _MAX_BYTES:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _of_keras(model: Any) -> bool:
    """Whether whatever a configuration asks for is Keras' own, initializers and all."""
    waiting = [model]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            module = node.get("module")
            if not (module is None or f"{module}.".startswith("keras.")):
                return False
            if str(node.get("class_name", "")).startswith("__lambda"):
                return False
            waiting += list(node.values())
        elif isinstance(node, list):
            waiting += node
    return True


def _layers(model: Any, depth: int) -> Iterator[_Layer]:
    """All layers that are no models, in the order in which they are listed."""
    config = model.get("config") if isinstance(model, Mapping) else None
    listed = config.get("layers") if isinstance(config, Mapping) else config  # Keras 1: a list
    if not isinstance(listed, list) or depth > _MAX_DEPTH:
        return
    before = ""
    for each in listed:
        config = each.get("config") if isinstance(each, Mapping) else None
        if not isinstance(config, Mapping | list):
            continue
        if isinstance(config, list) or isinstance(config.get("layers"), list):
            yield from _layers(each, depth + 1)
            continue
        kind, name = str(each.get("class_name")), str(config.get("name"))
        inbound = each.get("inbound_nodes")
        sources = tuple(_sources(inbound)) if inbound is not None else (before,)
        yield _Layer(kind, name, config, sources)
        before = name


def _sources(nodes: Any) -> Iterator[str]:
    """The layers of a list of calls: `[[["conv1", 0, 0, {}]]]`, or in Keras 3 within arguments."""
    waiting = [nodes]
    for _ in range(10_000):
        if not waiting:
            return
        node = waiting.pop()
        if isinstance(node, Mapping):
            history = node.get("keras_history")
            if isinstance(history, list) and history:
                yield str(history[0])
            else:
                waiting += list(node.values())
        elif isinstance(node, list):
            if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
                yield node[0]
            else:
                waiting += node


# - what a layer states -


def _said(layer: _Layer, layers: Mapping[str, _Layer]) -> dict[str, Any]:
    """In the words of the primitives."""
    config = layer.config
    if layer.kind == "BatchNormalization":
        said = {"eps": config.get("epsilon")}
        flags = {"scale": config.get("scale", True), "center": config.get("center", True)}
        return {**said, **flags}
    if layer.kind == "Dense":
        return {"bias": bool(config.get("use_bias", True))}
    if layer.kind not in _CONVOLUTIONS:
        return {}
    groups = None if layer.kind == "DepthwiseConv2D" else config.get("groups", 1)
    stride, dilation = _one(config.get("strides", 1)), _one(config.get("dilation_rate", 1))
    return {
        "stride": stride,
        "dilation": dilation,
        "padding": _paddings(layer, layers, stride, dilation),
        "groups": groups,
        "bias": bool(config.get("use_bias", True)),
    }


def _one(value: Any) -> int | None:
    """A number that stands for height and width alike."""
    if isinstance(value, list) and value and all(each == value[0] for each in value):
        value = value[0]
    return value if isinstance(value, int) else None


def _paddings(
    layer: _Layer, layers: Mapping[str, _Layer], stride: int | None, dilation: int | None
) -> frozenset[int | str] | None:
    """The paddings in a spec that are what the layer does, zeros before it counted or not."""
    kernel, said = _one(layer.config.get("kernel_size")), layer.config.get("padding")
    if kernel is None or stride is None or dilation is None:
        return None
    if said == "same":
        total = (kernel - 1) * dilation
        alike = total == 0 or (stride == 1 and total % 2 == 0)
        return frozenset({"same", total // 2}) if alike else frozenset({"same"})
    if said != "valid":
        return None
    before = layers.get(layer.sources[0]) if len(layer.sources) == 1 else None
    if before is None or before.kind != "ZeroPadding2D":
        return frozenset({0})
    pad = before.config.get("padding")
    sides = {tuple(each) if isinstance(each, list) else each for each in pad} if pad else set()
    if sides == {(0, 1)}:
        return frozenset({0, "same"})
    flat = {side for each in sides for side in (each if isinstance(each, tuple) else (each,))}
    return frozenset({0, *flat}) if len(flat) == 1 else None


def _activations(layer: _Layer) -> list[str]:
    """What a layer applies, by the primitives' names; others by Keras' own."""
    given = layer.config.get("activation")
    if isinstance(given, Mapping):  # a class of Keras 3, or of others
        given = given.get("class_name") or given.get("config")
    if isinstance(given, str) and given != "linear":
        return [_ACTIVATIONS.get(given, given)]
    if layer.kind not in _ACTIVATIONS:
        return []
    kind, most = _ACTIVATIONS[layer.kind], layer.config.get("max_value")
    return [kind if most is None else f"{kind}{most:g}"]


# - the order of flattened values -


def _order(layers: Mapping[str, _Layer]) -> FlattenOrder | None:
    """That of all layers that flatten; None where there is none, or they differ."""
    orders = {_order_of(layer, layers) for layer in layers.values() if layer.kind == "Flatten"}
    return orders.pop() if len(orders) == 1 else None


def _order_of(layer: _Layer, layers: Mapping[str, _Layer]) -> FlattenOrder | None:
    before = layers.get(layer.sources[0]) if len(layer.sources) == 1 else None
    if before is not None and before.kind == "Permute":
        return "chw" if before.config.get("dims") == [3, 1, 2] else None
    first = layer.config.get("data_format") == "channels_first"
    return "chw" if first else "hwc"


def _order_by_names(groups: Mapping[str, str]) -> FlattenOrder | None:
    flat = {name for name, group in groups.items() if group.rstrip("_0123456789") == "flatten"}
    turned = {name for name in flat if f"{name}_order" in groups}
    if not flat or (turned and turned != flat):
        return None
    return "chw" if turned else "hwc"
