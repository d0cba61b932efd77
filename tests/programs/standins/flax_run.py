"""A text of Flax, run on the stand-ins: what its network computes, owns and freezes."""

from __future__ import annotations

from typing import Any

from standins import flax_layers, helpers
from standins.backbone import check_feature_info
from standins.compare import misnamed
from standins.expected import Expected
from standins.expected import Tensor as Owned
from standins.flax_layers import BatchNorm, ExactBatchNorm, Leaf
from standins.flax_modules import Array, Module, Param, Rngs, Variable
from standins.parts import frozen_in_turn, kept
from standins.run import Difference, Run, defaults, execute

# What is an expression of arrays in Flax, whether it has a name or not.
EXPRESSIONS = {
    *("add", "multiply", "concat", "stack_rows", "split", "take", "shuffle", "pad_channels"),
    *("subsample", "rescale", "channel_avg_pool", "channel_max_pool", "identity"),
}


class FlaxRun(Run):
    def is_auxiliary(self, name: str) -> bool:
        """Functions of a sequence may be the second name of a value."""
        return False


def run_flax(text: str, expected: Expected, given: bool) -> Run:
    """Everything that is compared with the IR; `given`: classes and channels as arguments."""
    run = FlaxRun(expected)
    space = execute(text, flax_layers.MODULES, helpers.known("flax"), flax_layers.HELPERS)
    network = expected.network
    build, own = space[network.name], space[network.class_name]
    usual = {"num_classes": network.classes, "in_channels": network.input.channels}
    for function in () if given else (build, own.__init__):
        if {**usual, **defaults(function)} != usual:
            run.note(f"{function.__name__} has the defaults {defaults(function)}, not {usual}")
    model = build(**usual, rngs=Rngs()) if given else build(rngs=Rngs())
    if type(model) is not own:
        raise Difference(f"{network.name} builds no {network.class_name}")
    model._build()
    owners = _register(model, run)
    features = model.forward_features(_images(run))
    run.results = [(name, value.seen(), value.dimensions) for name, value in features.items()]
    run.found += [f"forward_features: {each}" for each in misnamed(run)]
    _check_maps(run, getattr(own, "feature_info", ()), features)
    run.layers.clear()  # the whole network runs the same layers again, and those of the head
    result = model(_images(run))
    run.results.append(("", result.seen(), result.dimensions))
    live = expected.live()
    run.needed = {
        each.name
        for each in expected.layers
        if each.named
        and each.name in live
        and each.operation.primitive.name not in EXPRESSIONS
        and not (each.operation.primitive.name == "softmax" and each.operation.attributes["groups"])
    }
    _check_exact(model, run)
    if not given and hasattr(model, "order"):  # with other classes a layer may not be there
        _check_order(model, run)
    _freeze(model, owners, run)
    return run


def _check_maps(run: FlaxRun, info: Any, features: dict[str, Array]) -> None:
    """`feature_info` is checked against the outputs of the stages and of the stem's layers."""
    numbers = dict(run.layers)
    shapes = {each.name: each.operation.output for each in run.expected.layers}

    def map_of(name: str) -> Array | None:
        for stage, value in features.items():
            if f"{name}.".startswith(f"{stage}."):
                return value
        if name not in numbers:
            return None
        shape = shapes[name]
        sizes = (shape.channels, shape.height or 1, shape.width or 1)
        return Array(run, numbers[name], sizes)

    # What a block of the stem gives is no layer's, and is not seen here.
    blocks = {each.block for each in run.expected.layers}
    of_stages = tuple(f"{stage}." for stage in features)
    told = [
        each
        for each in info
        if each["module"] not in blocks or f"{each['module']}.".startswith(of_stages)
    ]
    check_feature_info(run, told, map_of, of_class=True)


def _images(run: Run) -> Array:
    return Array(run, 0, run.expected.input.dimensions)


def _register(model: Module, run: Run) -> dict[tuple[str, ...], tuple[str, Variable]]:
    """Note what variables there are; by its path, the layer of each."""
    nodes = model._nodes()
    layers = {path: node for path, node in nodes if isinstance(node, Leaf)}
    owners = {}
    for path, node in nodes:
        if not isinstance(node, Variable):
            continue
        *above, leaf = path
        name, axes = layers[tuple(above)].torch[leaf]
        layer = ".".join(above)
        shape = tuple(node.shape[axis] for axis in axes)
        run.tensors[f"{layer}.{name}"] = Owned(shape, node.drawn)
        owners[path] = (layer, node)
    return owners


def _check_exact(model: Module, run: Run) -> None:
    """Norms keep PyTorch's variance where the network asks for it, and Flax's own elsewhere."""
    exact = run.expected.network.numerics == "exact"
    for _, node in model._nodes():
        if isinstance(node, BatchNorm):
            own = isinstance(node, ExactBatchNorm) and not node.use_fast_variance
            if own != exact:
                run.note(f"{node._path} keeps {'the unbiased' if own else 'a biased'} variance")


def _freeze(model: Any, owners: dict[tuple[str, ...], tuple[str, Variable]], run: Run) -> None:
    """`freeze_until` gives the filter of what runs from a stage or layer on."""
    chosen: list[Any] = []
    freeze = getattr(model, "freeze_until", None)
    model.train()

    def freeze_until(name: str) -> None:
        assert freeze is not None
        chosen.append(freeze(name))

    def turn(trained: set[str]) -> None:
        freeze_until(model.order[-1])

    given = None if freeze is None else freeze_until
    norms = [node for _, node in model._nodes() if isinstance(node, BatchNorm)]
    for name, trained in frozen_in_turn(run, turn, given, within_blocks=False):
        for path, (layer, variable) in owners.items():
            right = layer in trained and isinstance(variable, Param)
            if chosen[-1](path, variable) != right:
                run.note(f"freeze_until({name!r}): {'.'.join(path)} is {_state(not right)}")
        for norm in norms:
            if norm.use_running_average == (norm._path in trained):
                run.note(f"freeze_until({name!r}): {norm._path} is in the wrong mode")
    model.eval()
    if freeze is not None:
        freeze_until(model.order[0])
    if not all(norm.use_running_average for norm in norms):
        run.note("eval() does not put the whole network into evaluation, for good")


def _check_order(model: Any, run: Run) -> None:
    """What `freeze_until` can name is every stage, and what stands beside them, as they run."""
    network = run.expected.network
    stages = [stage.name for stage in network.stages]
    found: dict[str, None] = {}
    for name in kept(run.expected.layers):
        own = [each for each in model.order if f"{name}.".startswith(f"{each}.")]
        stage = [each for each in stages if f"{name}.".startswith(f"{each}.")]
        if len(own) != 1 or (stage and own != stage):
            run.note(f"the order has {own} for {name}")
        found.update(dict.fromkeys(own))
    empty = {*stages, *(step.name for step in network.root.steps)} - found.keys()  # nothing runs
    if [*found] != [each for each in model.order if each not in empty]:
        run.note(f"the order is {model.order}, not {(*found,)}")


def _state(trains: bool) -> str:
    return "trained" if trains else "frozen"
