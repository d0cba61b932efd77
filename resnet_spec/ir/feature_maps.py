"""The feature maps of a network: what detectors, U-Nets and pyramids take from a backbone."""

from collections.abc import Iterator
from typing import NamedTuple

from resnet_spec.ir.graph import Instance, Network, Operation, Step
from resnet_spec.ir.reach import Reach, Reaches
from resnet_spec.language.syntax import Statement
from resnet_spec.primitives import Shape

# What makes something of a map; pooling and padding belong to what comes after them.
_MAKING = frozenset({"weights", "norm", "activation", "merge"})


class FeatureMap(NamedTuple):
    """A feature map; one of its pixels stands for `stride` rows and columns of the image.

    `name` is that of the stage, or of the layer or block of the stem, that outputs it; `block` that
    of the last block of the stage; `layer` that of the operation, None for a stage.
    """

    name: str
    block: str
    layer: str | None
    shape: Shape
    stride: int
    statement: Statement


def feature_maps(network: Network) -> tuple[FeatureMap, ...]:
    """The feature maps of a backbone, finest first, as in timm's `feature_info`.

    These are the outputs of all stages, preceded by the stem's last map at each smaller stride.
    """
    reached = Reaches().values(network.root)
    stages = []
    for stage in network.stages:
        reach = reached[stage.result]
        if stage.feature and stage.steps and stage.output.is_map and reach is not None:
            block = network.root.steps[stage.steps[-1]].name
            found = FeatureMap(stage.name, block, None, stage.output, reach.stride, stage.statement)
            stages.append(found)
    finest = min((each.stride for each in stages), default=0)
    stem = [each for each in _of_stem(network, reached) if each.stride < finest]
    return (*stem, *sorted(stages, key=lambda each: each.stride))


def _of_stem(network: Network, reached: dict[int, Reach | None]) -> Iterator[FeatureMap]:
    """The last map at each stride: of a layer that computes something, else of a pooling."""
    groups: dict[int, list[Step]] = {}
    live = _live(network)
    for step in _stem(network):
        if live.isdisjoint(step.outputs):
            continue
        reach = reached[step.outputs[-1]]
        if reach is not None and step.node.output.is_map:
            groups.setdefault(reach.stride, []).append(step)
    for stride, steps in sorted(groups.items()):
        making = [step for step in steps if _makes(step)]
        pools = [step for step in steps if isinstance(step.node, Operation) and _pools(step.node)]
        for last in (making or pools)[-1:]:
            layer = _layer(last, network.is_flat)
            if layer is not None:
                shape = last.node.output
                yield FeatureMap(last.name, last.name, layer, shape, stride, last.statement)


def _stem(network: Network) -> tuple[Step, ...]:
    first = min((min(stage.steps) for stage in network.stages if stage.steps), default=0)
    return network.root.steps[:first]


def _live(network: Network) -> set[int]:
    """The values that a feature map comes from."""
    needed = {stage.result for stage in network.stages if stage.feature}
    for step in reversed(network.root.steps):
        if not needed.isdisjoint(step.outputs):
            needed.update(step.inputs)
    return needed


def _makes(step: Step) -> bool:
    node = step.node
    if isinstance(node, Instance):
        return True
    return bool(node.parameters) or node.primitive.group in _MAKING


def _pools(operation: Operation) -> bool:
    return operation.primitive.name in ("max_pool", "avg_pool", "blur_pool")


def _layer(step: Step, always_named: bool) -> str | None:
    """The operation that computes a step's output, if it is a layer in every framework."""
    node, name = step.node, step.name
    if isinstance(node, Operation):
        is_layer = _is_layer(node) and node.primitive.group != "merge"
        return name if is_layer and (always_named or not step.statement.unnamed) else None
    while isinstance(node, Instance):
        result = node.result
        inner = next((each for each in node.steps if result in each.outputs), None)
        if inner is None:
            return None  # its input
        name, node = f"{name}.{inner.name}", inner.node
    return name if _is_layer(node) else None


def _is_layer(operation: Operation) -> bool:
    """Whether an operation is more than a function of tensors."""
    if operation.primitive.name == "softmax":
        return not operation.attributes["groups"]
    learns = bool(operation.parameters)
    return learns or operation.primitive.group in _MAKING or _pools(operation)
