"""What a PyTorch model does in training, which its graph, one of evaluation, does not show.

In the process of `worker` alone.
"""

from __future__ import annotations

import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.importing import exporting

_DROPOUT = re.compile(r"(feature_)?(alpha_)?(dropout([123]d)?)_?")
DRAWING = frozenset({"RReLU"})  # layers of PyTorch, but dropouts, that draw in training alone
_MARK = "is_of_images_in_training"


# --- dropout -------------------------------------------------------------------------------------


class _Dropout(NamedTuple):
    """A call of a dropout: what each form of it takes; `train` and `training` are one."""

    input: Any
    p: float = 0.5
    train: bool = True
    inplace: bool = False
    training: bool | None = None

    @property
    def is_on(self) -> bool:
        return self.train if self.training is None else self.training


def _dropouts(replaced: Callable[[str, _Dropout, Callable[[], Any]], Any]) -> Any:
    """Within it each dropout gives what `replaced` does, whatever name its function has in code.

    That is told the function's own name, what it takes, and what calls it.
    """
    from torch.overrides import TorchFunctionMode

    class Dropouts(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, given: Any = (), options: Any = None
        ) -> Any:
            def call() -> Any:
                return function(*given, **(options or {}))

            name = getattr(function, "_opname", "") or getattr(function, "__name__", "")
            if not _DROPOUT.fullmatch(name):
                return call()
            taken = _Dropout(*given, **(options or {}))
            if name.endswith("_"):
                taken = taken._replace(inplace=True)
            return replaced(name.rstrip("_"), taken, call)

    mode: Any = Dropouts
    return mode()


def dropouts_told(left_out: set[str]) -> Any:
    """Within it dropout in evaluation, which is nothing, is a node of what is exported.

    The names of dropouts that the language has not are added to `left_out`.
    """

    def replaced(name: str, taken: _Dropout, call: Callable[[], Any]) -> Any:
        if name == "dropout" and not taken.is_on:
            told = _told_dropout(taken.input, taken.p)
            return taken.input.copy_(told) if taken.inplace else told
        if name != "dropout" and taken.p:
            left_out.add(name)
        return call()

    return _dropouts(replaced)


def _told_dropout(values: Any, rate: float) -> Any:
    import torch

    class Dropout(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, values: Any, rate: float) -> Any:
            return values.clone()

        @staticmethod
        def symbolic(graph: Any, values: Any, rate: float) -> Any:
            ratio = graph.op("Constant", value_t=torch.tensor(rate))
            return graph.op("Dropout", values, ratio)

    apply: Any = Dropout.apply
    return apply(values, rate)


# --- what code does ------------------------------------------------------------------------------


@contextmanager
def asking() -> Iterator[set[str]]:
    """The classes of layers that are asked whether they are in training, but by PyTorch itself."""
    from torch.nn import Module

    found: set[str] = set()

    def get(module: Any) -> Any:
        if "training" not in vars(module):  # a compiled layer, which has it elsewhere
            raise AttributeError("training")
        if not _is_torchs(sys._getframe(1).f_globals.get("__name__", "")):
            found.add(type(module).__name__)
        return vars(module)["training"]

    def put(module: Any, value: bool) -> None:
        vars(module)["training"] = value

    base: Any = Module
    base.training = property(get, put)
    try:
        yield found
    finally:
        del base.training


def _is_torchs(module: str) -> bool:
    return module.partition(".")[0] == "torch"


def norms_kept_in_evaluation(model: Any) -> list[str]:
    """The names of norms that use their running statistics in training, too, as its code says."""
    from torch.nn.modules.batchnorm import _BatchNorm

    model.train()
    norms = {name: each for name, each in model.named_modules() if isinstance(each, _BatchNorm)}
    return [name for name, each in norms.items() if each.track_running_stats and not each.training]


def differing(model: Any, shape: Sequence[int]) -> list[str]:
    """The classes of layers whose code computes otherwise in training than in evaluation.

    Plain dropout and what PyTorch's own layers do are none of it. The model stays in training.
    """
    import torch

    drawn = np.random.default_rng(0).standard_normal((2, *shape[1:]), dtype=np.float32)
    done = []
    for trains in (False, True):
        model.train(trains)
        done.append(_done(model, torch.tensor(drawn)))
    evaluation, training = done
    kinds = {name: type(each) for name, each in model.named_modules()}
    return sorted(
        {
            kind.__name__
            for name, kind in kinds.items()
            if evaluation[name] != training[name] and not _is_torchs(kind.__module__)
        }
    )


def _done(model: Any, images: Any) -> dict[str, list[Any]]:
    """By the name of each layer: the layers that it calls, what it computes, what it draws."""
    import torch
    from torch.utils._pytree import tree_leaves

    done: dict[str, list[Any]] = defaultdict(list)
    within = [("", "")]
    last = _chance()

    def see(function: Any, given: Any, made: Any) -> None:
        leaves = tree_leaves(given)
        is_random = torch.Tag.nondeterministic_seeded in function.tags
        if is_random or any(getattr(each, _MARK, False) for each in leaves):
            # Momentum and whether norms use their statistics, the spec's norms have, too.
            fixed = [] if "batch_norm" in str(function) else map(_fixed, leaves)
            done[within[-1][0]].append((str(function), *fixed))
            for each in tree_leaves(made):
                if isinstance(each, torch.Tensor):
                    setattr(each, _MARK, True)

    def dropped(name: str, taken: _Dropout, call: Callable[[], Any]) -> Any:
        done[within[-1][0]].append((name, taken.p))
        return taken.input

    def moved(name: str) -> None:
        nonlocal last
        if last != (last := _chance()):
            done[within[-1][0]].append("chance")
        done[within[-1][0]].append(name)

    setattr(images, _MARK, True)
    running = exporting.layers(model, within, moved)
    with running, exporting.watched(see), _dropouts(dropped), torch.no_grad():
        model(images)
    return done


def _fixed(value: Any) -> Any:
    """What tells an argument from another one, but for values that are computed."""
    import torch

    if isinstance(value, torch.nn.Parameter):
        return id(value)
    return None if isinstance(value, torch.Tensor) else repr(value)


def _chance() -> Any:
    """How far Python's and NumPy's numbers are drawn; PyTorch's are operators."""
    _, numbers, place, *_ = np.random.get_state()
    return random.getstate(), np.asarray(numbers).tobytes(), place
