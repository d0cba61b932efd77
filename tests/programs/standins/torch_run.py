"""A text of PyTorch, run on the stand-ins: what its network computes, owns and freezes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from resnet_spec.ir import Operation, Step
from standins import helpers, torch_layers
from standins.backbone import check_feature_info
from standins.compare import misnamed
from standins.expected import Expected
from standins.expected import Tensor as Owned
from standins.parts import frozen_in_turn
from standins.run import Difference, Run, defaults, execute
from standins.torch_layers import BatchNorm2d
from standins.torch_modules import Module, ModuleDict, ModuleList, Sequential, SequentialDict
from standins.torch_tensors import Tensor


class TorchRun(Run):
    children_are_the_network = False  # whether that was looked at
    children_give_the_maps = False

    def is_auxiliary(self, name: str) -> bool:
        """Whether a layer is one of several that are one of the IR's."""
        return name.rpartition(".")[0] in self.expected.operations


# What is an expression of tensors in PyTorch, whether it has a name or not.
EXPRESSIONS = {
    *("add", "multiply", "concat", "stack_rows", "split", "take", "shuffle", "pad_channels"),
    *("subsample", "rescale", "channel_avg_pool", "channel_max_pool", "identity"),
}


# Modules all the same where they are children of the network.
CHILDREN = {"rescale", "subsample"}


def _is_expression(operation: Operation) -> bool:
    kind = operation.primitive.name
    return kind in EXPRESSIONS or (kind == "softmax" and bool(operation.attributes["groups"]))


def _is_child(step: Step, flat: bool) -> bool:
    """Whether a step is a module; `flat`: no name of the network's own layers is dotted."""
    if not isinstance(step.node, Operation):
        return True
    if flat and step.node.primitive.name in CHILDREN:
        return True
    return not _is_expression(step.node) and (flat or not step.statement.unnamed)


def run_torch(text: str, expected: Expected, given: bool) -> TorchRun:
    """Everything that is compared with the IR; `given`: classes and channels as arguments."""
    run = TorchRun(expected)
    space = execute(text, torch_layers.MODULES, helpers.known("torch"), torch_layers.HELPERS)
    network = expected.network
    build, own = space[network.name], space[network.class_name]
    usual = {"num_classes": network.classes, "in_channels": network.input.channels}
    for function in () if given else (build, own.__init__):
        if {**usual, **defaults(function)} != usual:
            run.note(f"{function.__name__} has the defaults {defaults(function)}, not {usual}")
    model = build(**usual) if given else build()
    if type(model) is not own:
        raise Difference(f"{network.name} builds no {network.class_name}")
    _register(model, run)
    features = _forward(model.forward_features, run)
    run.results = [(name, value.seen(), value.dimensions) for name, value in features.items()]
    run.found += [f"forward_features: {each}" for each in misnamed(run)]
    modules = dict(model.named_modules())
    check_feature_info(run, model.feature_info, lambda name: _hooked(modules, name))
    run.layers.clear()  # `forward` runs the same layers again, and those of the head
    result = _forward(model.forward, run)
    run.results.append(("", result.seen(), result.dimensions))
    live = expected.live()
    run.needed = {
        each.name
        for each in expected.layers
        if each.named and each.name in live and not _is_expression(each.operation)
    }
    _check_order(model, run)
    _check_children(model, run)
    _check_maps(model, run)
    _freeze(model, run)
    return run


def _register(model: Module, run: Run) -> None:
    """Tell every module its name, and note what parameters there are."""
    built = model._build()
    for module, count in Counter(map(id, built.modules)).items():
        if count > 1:
            path = next(each._path for each in built.modules if id(each) == module)
            run.note(f"{path} has several names")
    for name, parameter in built.state.items():
        run.tensors[name] = Owned(parameter.shape, parameter.drawn)


def _forward(function: Any, run: Run) -> Any:
    images = Tensor(run, 0, run.expected.input.dimensions)
    found = function(images)
    if images.storage.version:
        run.note(f"{function.__name__} changes the images that it is given")
    return found


# They hold others, do nothing themselves, and stand where the first of these stands.
HOLDERS = (Module, ModuleDict, ModuleList, Sequential, SequentialDict)


def _begins(module: Module, first: Mapping[str, int]) -> int:
    """Which operation a module begins with; -1 for one that has none."""
    if type(module) in HOLDERS:
        inner = next(iter(module._modules.values()), None)
        return _begins(inner, first) if inner is not None else -1
    return first.get(module._path, -1)


def _check_order(model: Module, run: Run) -> None:
    """Modules stand in the order in which they run, so that children in a row are the network."""
    first: dict[str, int] = {}  # of everything that a module may be: which operation it begins with
    own = {module._path for module in model.modules() if type(module) not in HOLDERS}
    for index, layer in enumerate(run.expected.layers):
        prefixes = [*accumulate(layer.name.split("."), "{}.{}".format)]
        while prefixes and prefixes[-1] not in own:
            prefixes.pop()  # a call of a function, which stands nowhere itself
        for prefix in prefixes:
            first.setdefault(prefix, index)
    last: dict[str, tuple[int, str]] = {}
    for module in model.modules():
        place = (_begins(module, first), module._path)
        if place[0] >= 0:
            above = module._path.rpartition(".")[0]
            if place < last.get(above, place):
                run.note(f"{module._path} stands after {last[above][1]}, but runs before it")
            last[above] = place


def _is_chain(steps: Iterable[Step], flat: bool) -> bool:
    """Whether steps are modules that take one another's output alone."""
    before = 0
    for step in steps:
        if not _is_child(step, flat) or step.inputs != (before,):
            return False
        before = step.outputs[0]
    return True


def _check_children(model: Module, run: TorchRun) -> None:
    """The children one after the other are the network, where its layers are a chain."""
    network = run.expected.network
    if not _is_chain(network.root.steps, network.is_flat):
        return
    children = [*model.children()]
    if any(type(each) in (Module, ModuleDict, ModuleList) for each in children):
        return  # they hold names of several parts, and can't be called
    layers = [*run.layers]
    try:
        x = _forward(Sequential(*children), run)
    except Difference as error:
        run.note(f"the children in turn: {error}")
    else:
        if x.number != run.expected.result[0]:
            run.note(f"the children in turn are {run.graph.rows[x.number]}, and not the network")
    run.layers[:] = layers
    run.children_are_the_network = True


def _check_maps(model: Any, run: TorchRun) -> None:
    """The children up to the last map, one after the other, give the maps of `feature_info`.

    That is how torchvision's IntermediateLayerGetter and all like it run a backbone.
    """
    network = run.expected.network
    if not _is_chain(network.root.steps[: network.head], network.is_flat):
        return
    modules = dict(model.named_modules())
    wanted = {each["module"]: _hooked(modules, each["module"]) for each in model.feature_info}
    last = next(reversed(wanted), "").split(".")[0]
    names = [name for name, _ in model.named_children()]
    children = [*model.children()][: names.index(last) + 1] if last else []
    if any(type(each) in (Module, ModuleDict, ModuleList) for each in children):
        return
    layers = [*run.layers]
    _forward(Sequential(*children), run)
    run.layers[:] = layers
    for name, value in wanted.items():
        found = _hooked(modules, name)
        if value is not None and found is not None and found.number != value.number:
            run.note(f"the children in turn give another {name}")
    run.children_give_the_maps = True


def _hooked(modules: Mapping[str, Module], name: str) -> Tensor | None:
    """What a hook on a module is given."""
    return modules[name].hooked() if name in modules else None


def _freeze(model: Any, run: Run) -> None:
    """`freeze_until` trains what runs from a stage or layer on, and freezes what runs before it."""
    owned = [
        (path, each, path.rpartition(".")[0])
        for path, each in model.named_parameters()
        if path in run.expected.tensors
    ]

    def turn(trained: set[str]) -> None:
        for _, parameter, layer in owned:
            parameter.requires_grad = layer not in trained

    for name, trained in frozen_in_turn(run, turn, getattr(model, "freeze_until", None)):
        for path, parameter, layer in owned:
            if parameter.requires_grad != (layer in trained):
                run.note(f"freeze_until({name!r}): {path} is {_state(parameter.requires_grad)}")
        for module in model.modules():
            if isinstance(module, BatchNorm2d) and module.training != module.weight.requires_grad:
                run.note(f"freeze_until({name!r}): {module._path} is {_state(module.training)}")
    if model.train(False) is not model or any(each.training for each in model.modules()):
        run.note("train(False) does not put the whole network into evaluation")


def _state(trains: bool) -> str:
    return "trained" if trains else "frozen"
