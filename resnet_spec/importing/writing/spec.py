"""A whole spec from the parts of a graph: stem, stages and head, and what they say alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.graph import Dropout, Graph, Op, Value
from resnet_spec.importing.structure.arguments import Solution
from resnet_spec.importing.structure.parse import Part
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.importing.structure.roles import Roles
from resnet_spec.importing.writing import own_blocks
from resnet_spec.importing.writing.fillers import Fillers
from resnet_spec.importing.writing.layers import Layer, Scope
from resnet_spec.importing.writing.names import Names
from resnet_spec.importing.writing.stages import (
    Signature,
    Use,
    arguments_of,
    hoist,
    key_of,
    named,
    patterns_of,
    runs,
    shortened,
)
from resnet_spec.importing.writing.wiring import Wiring


class Plan(NamedTuple):
    """What is to be written, and how."""

    graph: Graph  # folded
    parts: Sequence[Part]
    taken: Sequence[Solution | None]
    roles: Roles
    prober: Prober
    unfold: bool
    hints: bool  # take the model's names
    fillers: Fillers | None  # blocks of the library within others; None: without the library
    apart: bool = False  # a block for each use


@dataclass
class Written:
    """A spec as plain values."""

    spec: dict[str, Any] = field(default_factory=dict)
    from_library: int = 0  # uses of blocks of the library
    own: int = 0  # uses of blocks of the spec's own
    left_out: list[Dropout] = field(default_factory=list)


def written(plan: Plan, name: str, description: str) -> Written:
    """The spec of a parsed graph; raises `Unsupported` for a graph without blocks or logits."""
    graph = plan.graph
    given, result = graph.shapes[graph.input], graph.shapes[graph.output]
    if result.dimensions[1:] != (1, 1):
        raise Unsupported(f"its output is a {result} map, not one number for each class")
    items = own_blocks.items(plan.graph, plan.parts, plan.taken)
    inner = [k for k, item in enumerate(items) if isinstance(item, Use | own_blocks.Draft)]
    if not inner:
        raise Unsupported("there is nothing in it that could be a stage", "the model")
    first = own_blocks.first_stage(items, inner)
    last = own_blocks.last_stage(graph, items, inner[inner.index(first) :])
    scope = Scope(
        graph,
        plan.roles,
        plan.unfold,
        users=graph.users(),
        hint=_hint(plan),
        fillers=plan.fillers,
    )
    stem = _layers(_ops(items[:first]), scope, graph.input)
    definitions = own_blocks.defined(items[first : last + 1], scope, plan.hints, plan.apart)
    head = _head(items[last:], scope)
    classes = {"classes": result.channels} if _say_classes(head, result.channels) else {}
    staged = _stages(plan, definitions, Names(_names(stem + head)))
    stages = [dict(stage) for _, stage in staged]

    def holds(place: int, name: str, value: Any) -> bool:
        run, stage = staged[place]
        return _is(plan, run, {**_arguments(stage), name: value})

    defaults = {**plan.roles.defaults, **hoist(stages, definitions.blocks, holds)}
    spec: dict[str, Any] = {
        "spec_version": 1,
        "name": name,
        "description": description,
        "input": {"channels": given.channels, "height": given.height, "width": given.width},
        **classes,
    }
    sections = {
        "defaults": _needed(defaults, [stem, stages, head], definitions),
        "blocks": definitions.blocks,
        "stem": stem,
    }
    spec.update({key: value for key, value in sections.items() if value})
    spec.update({"stages": stages, "head": head})
    library = sum(1 for use in definitions.uses if use.block not in definitions.blocks)
    left = [each for value, each in graph.dropouts.items() if value not in scope.dropped]
    return Written(spec, library, len(definitions.uses) - library, left)


def _hint(plan: Plan) -> Any:
    return (lambda name: name) if plan.hints else (lambda name: "")


def _layers(
    items: Sequence[Any], scope: Scope, start: Value, starts_with_x: bool = True
) -> list[Layer]:
    wiring = Wiring(scope, start, starts_with_x=starts_with_x)
    if not starts_with_x and sum(op.inputs.count(start) for op in items) > 1:
        wiring.name_start()
    for op in items:
        wiring.add(op)
    return wiring.finished()


def _head(items: Sequence[own_blocks.Item], scope: Scope) -> list[Layer]:
    """What follows the last stage, the first of the items."""
    before, *behind = items
    assert isinstance(before, Use | own_blocks.Draft)
    # As in the stem, `x` is the images, not what the last stage gives.
    return _layers(_ops(behind), scope, before.last, starts_with_x=False)


def _ops(items: Sequence[own_blocks.Item]) -> list[Op]:
    return [op for item in items for op in ([item] if isinstance(item, Op) else item.ops)]


def _names(layers: Sequence[Layer]) -> list[str]:
    """The names of layers, which no stage may have."""
    found = []
    for layer in layers:
        value = next(iter(layer.values()))
        found.append(str(layer.get("name", value)))
    return found


def _say_classes(head: Sequence[Layer], classes: int) -> bool:
    """The last layer has as many outputs as there are classes, if it is one that can say so."""
    for layer in reversed(head):
        if layer.get("features") == classes:
            layer["features"] = "classes"
            return True
    return False


def _stages(
    plan: Plan, definitions: own_blocks.Definitions, names: Names
) -> list[tuple[Sequence[Use], dict[str, Any]]]:
    """The uses of each stage, and what it says."""

    def signature(block: str) -> Signature:
        if block in definitions.blocks:
            return definitions.signature(block)
        return Signature.of(plan.prober.definition(block).arguments)

    stages = [
        part
        for run in runs(definitions.uses, signature)
        for part in _checked(plan, definitions, run, signature(run[0].block))
    ]
    patterns = patterns_of(run for run, _ in stages) if plan.hints else None
    return [(run, named(run, arguments, names, patterns)) for run, arguments in stages]


def _checked(
    plan: Plan, definitions: own_blocks.Definitions, run: Sequence[Use], signature: Signature
) -> list[tuple[Sequence[Use], dict[str, Any]]]:
    """A run as one stage; of the library, as several where one stage is not the same graph."""
    arguments = arguments_of(run, signature)
    block = run[0].block
    if block in definitions.blocks:
        return [(run, definitions.plainest(block, arguments))]
    found = shortened(arguments, lambda tried: _is(plan, run, tried))
    if found is not None:
        return [(run, found)]
    return [each for use in run for each in _checked(plan, definitions, [use], signature)]


def _is(plan: Plan, run: Sequence[Use], arguments: Mapping[str, Any]) -> bool:
    """Whether a stage with these arguments is what uses of a block of the library are."""
    given = plan.graph.shapes[run[0].first]
    return plan.prober.key(run[0].block, arguments, given) == key_of(run)


def _arguments(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in stage.items() if k not in ("name", "names", "block")}


def _needed(
    defaults: dict[str, Any], sections: Sequence[Sequence[Layer]], definitions: Any
) -> dict[str, Any]:
    """Defaults that something takes: one that nothing does is an error of the language."""
    bodies = [*sections, *(block["layers"] for block in definitions.blocks.values())]
    stated = {key for body in bodies for layer in body for key in layer}
    library = any(
        "block" in layer and layer["block"] not in definitions.blocks for layer in sections[1]
    )
    return {
        name: value
        for name, value in defaults.items()
        if library or name not in ("norm", "act", "conv") or name in stated
    }
