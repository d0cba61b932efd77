"""A text of Keras, run on the stand-ins: both of its models, their layers, what it freezes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from standins import helpers
from standins.backbone import check_feature_info
from standins.compare import misnamed
from standins.expected import Expected, Layer
from standins.keras_layers import (
    EXACT,
    HELPERS,
    Activation,
    BatchNormalization,
    KerasRun,
    KerasTensor,
    LeakyReLU,
    modules,
)
from standins.parts import frozen_in_turn
from standins.run import Difference, Run, defaults, execute

IMAGES = "images"  # the name of the input

# Primitives that are functions in Keras, so that no layer has their name.
FUNCTIONS = frozenset(
    {
        *("adaptive_avg_pool", "channel_avg_pool", "channel_max_pool", "identity", "split"),
        *("pad_channels", "rescale", "shuffle", "take"),
    }
)


class Model:
    """A model between an input and its outputs."""

    def __init__(self, run: KerasRun, inputs: KerasTensor, outputs: Any, name: str | None) -> None:
        self.inputs, self.outputs, self.name = inputs, outputs, name
        self.layers = list(run.all)
        self.feature_info: list[dict[str, Any]] = []
        self.pyramid_outputs: dict[str, KerasTensor] = {}

    def get_layer(self, name: str) -> Any:
        return next(each for each in self.layers if each.name == name)


def run_keras(text: str, expected: Expected, given: bool) -> Run:
    """Everything that is compared with the IR; `given`: classes and channels as arguments."""
    network = expected.network
    run = KerasRun(expected)

    def inputs(shape: tuple[int | None, ...], name: str | None = None) -> KerasTensor:
        if name != IMAGES:
            run.note(f"the input is called {name!r}, and should be {IMAGES!r}")
        *size, channels = shape
        if (channels, *size) != expected.input.dimensions:
            raise Difference(f"the input is {shape}")
        return KerasTensor(run, 0, expected.input.dimensions)

    def model(inputs: KerasTensor, outputs: Any, name: str | None = None) -> Model:
        return Model(run, inputs, outputs, name)

    space = execute(text, modules(inputs, model), helpers.known("keras"), HELPERS)
    features = _build(space, f"{network.name}_features", run, given)
    _compare_features(features, run)
    _check_backbone(features, run)
    run.found += [f"the backbone alone: {each}" for each in misnamed(run)]
    for kept in (run.layers, run.all):
        kept.clear()
    whole = _build(space, network.name, run, given)
    run.results.append(("", whole.outputs.seen(), whole.outputs.dimensions))
    live = expected.live()
    needed = (each for each in expected.layers if each.name in live)
    run.needed = {each.name for each in needed if _is_layer(each)}
    _check_numerics(run)
    _freeze(space.get("freeze_until"), whole, run)
    return run


def _build(space: Mapping[str, Any], name: str, run: KerasRun, given: bool) -> Model:
    """A model on the expected input; the defaults must be the network's own, if none are given."""
    function = space[name]
    rows, columns = run.expected.network.input.dimensions[1:]
    usual = {
        "num_classes": run.expected.network.classes,
        "input_shape": (rows, columns, run.expected.network.input.channels),
    }
    found = defaults(function)
    if not given and {**usual, **found} != usual:
        run.note(f"{name} has the defaults {found}, not {usual}")
    channels, rows, columns = run.expected.input.dimensions
    arguments: dict[str, Any] = {"input_shape": (rows, columns, channels)}
    if given and "num_classes" in found:
        arguments["num_classes"] = usual["num_classes"]
    built = function(**arguments)
    if not isinstance(built, Model) or built.name != name:
        raise Difference(f"{name} builds {getattr(built, 'name', built)!r}")
    if built.inputs.number != 0:
        raise Difference(f"{name} does not begin at its input")
    return built


def _compare_features(features: Model, run: KerasRun) -> None:
    for name, value in features.outputs.items():
        run.results.append((name, value.seen(), value.dimensions))


def _check_backbone(features: Model, run: KerasRun) -> None:
    """`feature_info`, and the last map at each stride 2**n as `pyramid_outputs`."""

    def map_of(name: str) -> KerasTensor | None:
        if name in features.outputs:
            return features.outputs[name]  # type: ignore[no-any-return]
        return next((each.output for each in features.layers if each.name == name), None)

    check_feature_info(run, features.feature_info, map_of)
    last = {each["reduction"]: each["module"] for each in features.feature_info}
    pyramid = {f"P{n}": last[2**n] for n in range(16) if 2**n in last}
    if [*features.pyramid_outputs] != [*pyramid]:
        run.note(f"the pyramid has {[*features.pyramid_outputs]}, and should have {[*pyramid]}")
    for level, value in features.pyramid_outputs.items():
        right = map_of(pyramid.get(level, ""))
        if right is not None and value.number != right.number:
            run.note(f"the pyramid's {level} is another map than {pyramid[level]}")


def _is_layer(layer: Layer) -> bool:
    kind = layer.operation.primitive.name
    grouped = kind == "softmax" and layer.operation.attributes["groups"]
    return kind not in FUNCTIONS and not grouped


def _check_numerics(run: KerasRun) -> None:
    """`numerics: exact` has twins of some layers, and only that has them."""
    exact = run.expected.network.numerics == "exact"
    for layer in run.all:
        idiomatic = type(layer) in (BatchNormalization, LeakyReLU)
        idiomatic = idiomatic or (isinstance(layer, Activation) and layer.activation == "gelu")
        if (idiomatic and exact) or (type(layer) in EXACT.values() and not exact):
            numerics = run.expected.network.numerics
            run.note(f"{layer.name} is a {type(layer).__name__}, but numerics are {numerics}")


def _freeze(freeze_until: Callable[[Any, str], None] | None, model: Model, run: KerasRun) -> None:
    """`freeze_until` trains what runs from a stage or layer on, and freezes what runs before it."""
    owners = {name.rpartition(".")[0] for name in run.expected.tensors}
    named = [(layer, run.dotted.get(layer.name or "", "")) for layer in model.layers]
    owned = [(layer, name) for layer, name in named if name in owners]

    def turn(trained: set[str]) -> None:
        for layer, name in owned:
            layer.trainable = name not in trained

    freeze = None if freeze_until is None else functools.partial(freeze_until, model)
    for until, trained in frozen_in_turn(run, turn, freeze, by_depth=True, within_blocks=False):
        for layer, name in owned:
            if layer.trainable != (name in trained):
                run.note(f"freeze_until({until!r}): {layer.name} is trainable={layer.trainable}")
