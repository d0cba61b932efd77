"""A model's configuration again, of nothing but what was understood: for Keras to run.

Keras makes whatever a configuration names. What it gets here are layers of its own with the values
that rules took, each in its place, and the calls between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resnet_spec.importing.readers.keras.layers import PASSING
from resnet_spec.importing.readers.keras.topology import Layer, Part, Ref, Scope, stated_shape


def restated(scope: Scope, shape: Sequence[int]) -> dict[str, Any]:
    """The configuration of a model for batches of images of this shape."""
    return _model(scope, "model", [None, *shape[1:]])


def _model(scope: Scope, name: str, shape: list[int | None]) -> dict[str, Any]:
    layers = [_part(each, part, scope.kind, shape) for each, part in scope.parts.items()]
    config: dict[str, Any] = {"name": name, "trainable": True, "layers": layers}
    if scope.kind == "Sequential":
        first = next(iter(scope.parts.values())).made_of
        if isinstance(first, Layer) and first.kind != "InputLayer":
            layers.insert(0, _layer("InputLayer", "images", {"batch_shape": shape}))
        return _own("keras", "Sequential", config)
    for key, ends in (("input_layers", scope.inputs), ("output_layers", scope.outputs)):
        config[key] = [_end(ref, scope) for ref in ends]
    return _own("keras", "Model", config)


def _end(ref: Ref, scope: Scope) -> list[Any]:
    """An input or output, by the number that Keras 3 gives it: of a model with an input from 1."""
    made_of = scope.parts[ref.layer].made_of
    is_model = isinstance(made_of, Scope) and made_of.kind != "Sequential"
    return [ref.layer, ref.call + int(is_model), 0]


def _part(name: str, part: Part, above: str, shape: list[int | None]) -> dict[str, Any]:
    if isinstance(part.made_of, Layer):
        kind, config = part.made_of.kind, part.made_of.options.taken
        if kind == "InputLayer":
            config = {"batch_shape": shape}
        made = _layer(*(("Activation", name, {}) if kind in PASSING else (kind, name, config)))
    else:
        made = _model(part.made_of, name, _sizes(stated_shape(part.made_of)))
    if above == "Sequential":
        return {**made, "name": name}
    calls = [[[ref.layer, ref.call, 0, {}] for ref in call] for call in part.calls]
    return {**made, "name": name, "inbound_nodes": calls}


def _sizes(stated: Any) -> list[int | None]:
    """The shape of the input of a model within one: what of it is a size, and open sizes."""
    sizes = stated if isinstance(stated, list) and len(stated) <= 8 else [None] * 4
    return [None, *(each if type(each) is int else None for each in sizes[1:])]


def _layer(kind: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    beside = {"activation": "linear"} if kind == "Activation" and not config else {}
    return _own("keras.layers", kind, {"name": name, **beside, **config})


def _own(module: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}
