"""The generated PyTorch model as a runner."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from resnet_spec.verify.align import IMAGES, Node, Value, align
from resnet_spec.verify.optimizers import Recipe
from resnet_spec.verify.plan import RANDOM, Plan

Arrays = Mapping[str, np.ndarray]

_RELU = F.relu


def set_smooth(wanted: bool) -> None:
    """Computes softplus wherever a model asks for ReLU, or ReLU again."""

    def softplus(x: Tensor, inplace: bool = False) -> Tensor:
        return F.softplus(x)

    F.relu = softplus if wanted else _RELU  # type: ignore[assignment]


class Runner:
    """One network in PyTorch; arrays go in and out in its order of axes."""

    def __init__(self, plan: Plan, module: types.ModuleType) -> None:
        self.plan, self.module = plan, module
        self.dtype = getattr(torch, plan.precision)
        self.model: Any = getattr(module, plan.name)().to(self.dtype)
        for operation in plan.operations:
            if operation.primitive in RANDOM:
                layer = self.model.get_submodule(operation.name)
                setattr(layer, "p" if hasattr(layer, "p") else "rate", 0.0)

    def describe(self) -> dict[str, Any]:
        """Name, shape and trainability of every parameter and statistic."""
        trainable = {name for name, each in self.model.named_parameters() if each.requires_grad}
        return {
            name: {"shape": list(value.shape), "trainable": name in trainable}
            for name, value in self._tensors()
        }

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self.model.state_dict().items():
            if not name.endswith("num_batches_tracked"):  # a counter that is never computed with
                yield name, value

    def load(self, weights: Arrays) -> None:
        """Takes over every parameter and statistic."""
        with torch.no_grad():
            for name, value in self._tensors():
                value.copy_(torch.from_numpy(weights[name]))

    def state(self) -> dict[str, np.ndarray]:
        return {name: value.numpy().copy() for name, value in self._tensors()}

    def images(self, batch: np.ndarray) -> Tensor:
        return torch.from_numpy(batch).to(self.dtype)

    def calibrate(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every parameter and statistic, the statistics being those of one batch."""
        norms = [each for each in self.model.modules() if hasattr(each, "running_mean")]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            self.model.train()(self.images(images))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return self.state()

    def forward(self, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        """The logits and the output of every stage."""
        self.model.train(training)
        found: dict[str, np.ndarray] = {}
        features: Callable[[Tensor], dict[str, Tensor]] = self.model.forward_features

        def keep(x: Tensor) -> dict[str, Tensor]:
            outputs = features(x)
            found.update((f"stage {k}", v.numpy().copy()) for k, v in outputs.items())
            return outputs

        self.model.forward_features = keep
        try:
            with torch.no_grad():
                found["logits"] = self.model(self.images(images)).numpy()
        finally:
            del self.model.forward_features
        return found

    def gradients(self, images: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        """Of the loss in training mode: every parameter's and the images'."""
        given = self.images(images).requires_grad_()
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        loss = self.loss(self.model(given), targets)
        loss.backward()
        found = {name: _gradient(each) for name, each in self.model.named_parameters()}
        return {"loss": loss.detach().numpy(), "images": _gradient(given), **found}

    def loss(self, logits: Tensor, targets: np.ndarray) -> Tensor:
        """Cross entropy over the channels, the mean over samples."""
        target = torch.from_numpy(targets).to(self.dtype)
        return -(target * F.log_softmax(logits, dim=1)).sum() / len(targets)

    def train(
        self, batches: Sequence[np.ndarray], targets: Sequence[np.ndarray], recipe: Recipe
    ) -> dict[str, np.ndarray]:
        """Trains; what is left are the weights, given are the losses."""
        self.model.train()
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                self.model.parameters(), momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )
        else:
            optimizer = torch.optim.AdamW(
                self.model.parameters(),
                betas=(recipe.momentum, recipe.beta2),
                eps=recipe.epsilon,
                weight_decay=recipe.weight_decay,
            )
        losses = []
        for rate, batch, target in zip(recipe.rates, batches, targets, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss = self.loss(self.model(self.images(batch)), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return {"losses": np.array(losses), **self.state()}

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """The parameters and statistics of a fresh model."""
        torch.manual_seed(seed)
        model = getattr(self.module, self.plan.name)()
        return {name: value.numpy() for name, value in model.state_dict().items()}

    def trace(self, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        """The outputs of every operation that can be told, by its name and number."""
        tape = Tape(self.images(images))
        self.model.train(training)
        with tape.around(self.model, self.module, self.plan), torch.no_grad():
            self.model(tape.kept[0])
        places = align(self.plan.operations, tape.nodes, self.plan.batch)
        return {
            f"{name}:{k}": tape.values[node][k]
            for name, outputs in places.items()
            for node, k in outputs
        }


def _gradient(tensor: Tensor) -> np.ndarray:
    """A gradient; zeros where nothing depends on the tensor."""
    given = tensor.grad
    return (torch.zeros_like(tensor) if given is None else given).detach().numpy().copy()


class Tape(TorchFunctionMode):
    """Writes down what runs: layers that the spec names, helper functions, and bare calls."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.values: list[list[np.ndarray]] = []
        self.kept: list[Tensor] = [images]  # alive, so that no other tensor has its identity
        self.places: dict[int, Value] = {id(images): IMAGES}
        self.depth = 0
        self.undo: list[Callable[[], object]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # PyTorch's signature
        inputs = self.inputs(args) if self.depth == 0 else ()
        output = func(*args, **(kwargs or {}))
        if self.depth == 0:
            self.write(None, inputs, output)
        return output

    def inputs(self, values: Any) -> tuple[Value, ...]:
        found = (self.places.get(id(each)) for each in _tensors(values))
        return tuple(each for each in found if each is not None)

    def write(self, name: str | None, inputs: tuple[Value, ...], output: Any) -> None:
        outputs = list(_tensors(output))
        if not outputs or not inputs:
            return
        for k, each in enumerate(outputs):
            self.kept.append(each)
            self.places[id(each)] = (len(self.nodes), k)
        self.depth += 1  # reading a value is no call of the model's
        values = [each.detach().numpy().copy() for each in outputs]
        self.depth -= 1
        self.nodes.append(Node(name, inputs, tuple(value.shape for value in values)))
        self.values.append(values)

    def around(self, model: nn.Module, module: types.ModuleType, plan: Plan) -> Tape:
        """This tape, with layers and helper functions told apart from what they do inside."""
        layers = dict(model.named_modules())
        for operation in plan.operations:
            if operation.name in layers:
                self.watch(layers[operation.name], "forward", operation.name)
        for name, function in list(vars(module).items()):
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                self.watch(module, name, None)
        return self

    def watch(self, owner: Any, attribute: str, name: str | None) -> None:
        """Makes one node of each call of a function, until the tape ends."""
        function = getattr(owner, attribute)
        if attribute in vars(owner):
            self.undo.append(lambda: setattr(owner, attribute, function))
        else:
            self.undo.append(lambda: delattr(owner, attribute))
        setattr(owner, attribute, self.whole(function, name))

    def whole(self, function: Callable[..., Any], name: str | None) -> Callable[..., Any]:
        """The function as one node."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            inputs = self.inputs(args)
            self.depth += 1
            try:
                output = function(*args, **kwargs)
            finally:
                self.depth -= 1
            if self.depth == 0:
                self.write(name, inputs, output)
            return output

        return call

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        for restore in self.undo:
            restore()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
