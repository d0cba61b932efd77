"""A text of PyTorch, run on the stand-ins: what its network computes, owns and freezes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from standins import helpers, torch_layers
from standins.expected import Expected
from standins.expected import Tensor as Owned
from standins.run import Difference, Run, defaults, execute
from standins.torch_layers import BatchNorm2d
from standins.torch_modules import Module
from standins.torch_tensors import Tensor


def run_torch(text: str, expected: Expected, given: bool) -> Run:
    """Everything that is compared with the IR; `given`: classes and channels as arguments."""
    run = Run(expected)
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
    run.layers.clear()  # `forward` runs the same layers again, and those of the head
    result = _forward(model.forward, run)
    run.results.append(("", result.seen(), result.dimensions))
    _freeze(model, run)
    return run


def _register(model: Module, run: Run) -> None:
    """Tell every module its name, and note what parameters there are."""
    built = model.build()
    for module, count in Counter(map(id, built.modules)).items():
        if count > 1:
            path = next(each.path for each in built.modules if id(each) == module)
            run.note(f"{path} has several names")
    for name, parameter in built.state.items():
        run.tensors[name] = Owned(parameter.shape, parameter.drawn)


def _forward(function: Any, run: Run) -> Any:
    images = Tensor(run, 0, run.expected.input.dimensions)
    found = function(images)
    if images.storage.version:
        run.note(f"{function.__name__} changes the images that it is given")
    return found


def _freeze(model: Any, run: Run) -> None:
    """`freeze_until` trains what comes from a part on, and freezes what comes before it."""
    order = list(dict.fromkeys(run.expected.parts.values()))
    order.sort(key=lambda part: (part == "head", part != "stem"))
    owned = [
        (path, each, run.expected.parts[path.rpartition(".")[0]])
        for path, each in model.named_parameters()
        if path in run.expected.tensors
    ]
    for name in order:
        if name == "stem" and not any(p == "stem" for p in _learning(run)):
            continue
        model.freeze_until(name)
        first = order.index(name)
        for path, parameter, part in owned:
            if parameter.requires_grad != (order.index(part) >= first):
                run.note(f"freeze_until({name!r}): {path} is {_state(parameter.requires_grad)}")
        for module in model.modules():
            if isinstance(module, BatchNorm2d) and module.training != module.weight.requires_grad:
                run.note(f"freeze_until({name!r}): {module.path} is {_state(module.training)}")


def _learning(run: Run) -> list[str]:
    """The part of each layer that has something to learn."""
    layers = run.expected.layers
    return [run.expected.parts[each.name] for each in layers if each.operation.parameters]


def _state(trains: bool) -> str:
    return "trained" if trains else "frozen"
