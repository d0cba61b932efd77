"""The generated Flax model as a runner."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from resnet_spec.backends.flax.variables import VARIABLES
from resnet_spec.verify import optimizers
from resnet_spec.verify.align import IMAGES, Node, Value, align
from resnet_spec.verify.optimizers import Recipe
from resnet_spec.verify.plan import RANDOM, Plan

Arrays = Mapping[str, np.ndarray]

_RELU = nnx.relu


def set_smooth(wanted: bool) -> None:
    """Computes softplus wherever a model asks for ReLU, or ReLU again."""
    nnx.relu = nnx.softplus if wanted else _RELU


class Runner:
    """One network in Flax; arrays go in and out in PyTorch's order of axes."""

    def __init__(self, plan: Plan, module: types.ModuleType) -> None:
        self.plan, self.module = plan, module
        # Where JAX has doubles, some constants of single precision would become such, too.
        jax.config.update("jax_enable_x64", plan.precision == "float64")
        self.model = self.build(0)
        for variable in self.kept(self.model).values():
            variable.set_value(variable[...].astype(plan.precision))
        for operation in plan.operations:
            if operation.primitive in RANDOM:
                _layer(self.model, operation.name).rate = 0.0
        self.run = nnx.jit(_outputs)
        self.differentiate = nnx.jit(nnx.value_and_grad(self.loss, argnums=_ARGUMENTS))

    def build(self, seed: int) -> Any:
        # Each draw is a program that runs once: optimising it takes longer than it does.
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            return getattr(self.module, self.plan.name)(rngs=nnx.Rngs(seed))
        finally:
            jax.config.update("jax_disable_most_optimizations", False)

    def kept(self, model: Any) -> dict[str, Any]:
        """Every parameter and statistic by its path."""
        nodes = nnx.iter_graph(model)
        kinds = (nnx.Param, nnx.BatchStat)
        return {_dotted(path): node for path, node in nodes if isinstance(node, kinds)}

    def variables(self, model: Any) -> Iterator[tuple[str, str, Any, tuple[int, ...]]]:
        """Canonical name, path, variable, and PyTorch's axes in Flax's order."""
        kept = self.kept(model)
        for operation in self.plan.operations:
            for tensor in operation.tensors:
                attribute, axes = VARIABLES[operation.primitive, tensor.name]
                path = f"{operation.name}.{attribute}"
                if path in kept:
                    yield f"{operation.name}.{tensor.name}", path, kept[path], axes

    def describe(self) -> dict[str, Any]:
        """Name, shape and trainability of every parameter and statistic."""
        left, found = self.kept(self.model), {}
        for name, path, variable, axes in self.variables(self.model):
            del left[path]
            shape = [variable.shape[axis] for axis in np.argsort(axes)]
            found[name] = {"shape": shape, "trainable": isinstance(variable, nnx.Param)}
        for path, variable in left.items():
            trainable = isinstance(variable, nnx.Param)
            found[path] = {"shape": list(variable.shape), "trainable": trainable}
        return found

    def load(self, weights: Arrays) -> None:
        """Takes over every parameter and statistic."""
        for name, _, variable, axes in self.variables(self.model):
            value = np.transpose(weights[name], axes).astype(self.plan.precision)
            variable.set_value(jnp.asarray(value))

    def state(self) -> dict[str, np.ndarray]:
        return self.values(self.model)

    def values(self, model: Any) -> dict[str, np.ndarray]:
        """A model's parameters and statistics by their canonical names."""
        return {
            name: np.asarray(variable[...]).transpose(np.argsort(axes))
            for name, _, variable, axes in self.variables(model)
        }

    def images(self, batch: np.ndarray) -> jax.Array:
        return jnp.asarray(batch.transpose(0, 2, 3, 1), self.plan.precision)

    def targets(self, targets: np.ndarray) -> jax.Array:
        return jnp.asarray(np.moveaxis(targets, 1, -1), self.plan.precision)

    def set_mode(self, training: bool) -> None:
        if training:
            self.model.train()
        else:
            self.model.eval()

    def forward(self, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        """The logits and the output of every stage."""
        self.set_mode(training)
        stages, logits = self.run(self.model, self.images(images))
        outputs = {f"stage {name}": array(value) for name, value in stages.items()}
        return outputs | {"logits": array(logits)}

    def loss(self, model: Any, images: jax.Array, targets: jax.Array) -> jax.Array:
        """Cross entropy over the channels, the mean over samples."""
        return -jnp.sum(targets * nnx.log_softmax(model(images))) / self.plan.batch

    def gradients(self, images: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        """Of the loss in training mode: every parameter's and the images'."""
        self.set_mode(training=True)
        given = self.images(images), self.targets(targets)
        loss, (by_weights, by_images) = self.differentiate(self.model, *given)
        own = {_dotted(path): each for path, each in nnx.to_flat_state(by_weights)}
        found = {
            name: np.asarray(own[path][...]).transpose(np.argsort(axes))
            for name, path, _, axes in self.variables(self.model)
            if path in own
        }
        return {"loss": np.array(loss), "images": array(by_images), **found}

    def train(
        self, batches: Sequence[np.ndarray], targets: Sequence[np.ndarray], recipe: Recipe
    ) -> dict[str, np.ndarray]:
        """Trains; what is left are the weights, given are the losses."""
        optimizer = optimizers.optimizer(recipe)
        trained = [e for e in self.variables(self.model) if isinstance(e[2], nnx.Param)]
        losses = []
        for step, (batch, target) in enumerate(zip(batches, targets, strict=True)):
            found = self.gradients(batch, target)
            for number, (name, _, variable, axes) in enumerate(trained):
                gradient = found.pop(name).transpose(axes)
                value = optimizer.update(number, np.asarray(variable[...]), gradient, step)
                variable.set_value(jnp.asarray(value))
            losses.append(float(found["loss"]))
        return {"losses": np.array(losses), **self.state()}

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """The parameters and statistics of a fresh model."""
        return self.values(self.build(seed))

    def trace(self, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        """The outputs of every operation that can be told, by its name and number."""
        self.set_mode(training)
        tape = Tape(self.plan, self.module)
        tape.record(self.model, self.images(images))
        places = align(self.plan.operations, tape.nodes, self.plan.batch)
        return {
            f"{name}:{k}": tape.values[node][k]
            for name, outputs in places.items()
            for node, k in outputs
        }


_ARGUMENTS = (nnx.DiffState(0, nnx.Param), 1)  # what the loss is differentiated by


def array(value: Any) -> np.ndarray:
    """A value of JAX in PyTorch's order of axes."""
    found = np.array(value)
    return np.moveaxis(found, -1, 1) if found.ndim > 2 else found


def _dotted(path: Sequence[Any]) -> str:
    return ".".join(map(str, path))


def _layer(model: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), model)


def _outputs(model: Any, images: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """The output of every stage and the logits, in one run: in training a second would count."""
    kind, found = type(model), dict[str, jax.Array]()
    own = kind.forward_features

    def keep(self: Any, x: jax.Array) -> dict[str, jax.Array]:
        outputs: dict[str, jax.Array] = own(self, x)
        found.update(outputs)
        return outputs

    kind.forward_features = keep
    try:
        return found, model(images)
    finally:
        kind.forward_features = own


# --- which operation computes what ---------------------------------------------------------------


class Tape:
    """Writes down what runs: layers that the spec names, helper functions, and bare calls.

    JAX tells every operation of its own, with the scope and the line in which it was asked for. So
    each layer and each call of a helper opens a scope, and what stands in one scope is one node;
    outside of them what one line asks for is one.
    """

    def __init__(self, plan: Plan, module: types.ModuleType) -> None:
        self.plan, self.module = plan, module
        self.nodes: list[Node] = []
        self.values: list[list[np.ndarray]] = []
        self.scopes: dict[str, str | None] = {}  # the layer that a scope is of; None: no layer
        self.last = ""

    def record(self, model: Any, images: jax.Array) -> None:
        definition, state = nnx.split(model)
        leaves, tree = jax.tree.flatten(state)

        def run(images: jax.Array, *leaves: Any) -> Any:
            merged = nnx.merge(definition, jax.tree.unflatten(tree, leaves))
            self.watch(merged)
            return merged(images)

        with self.watched_helpers():
            program = jax.make_jaxpr(run)(images, *leaves)
        self.play(program, [images, *leaves])

    def watch(self, model: Any) -> None:
        """Lets each layer that the spec names open a scope, past what Flax would check."""
        for operation in self.plan.operations:
            above, _, name = operation.name.rpartition(".")
            try:
                parent = _layer(model, above) if above else model
                layer = getattr(parent, name)
            except AttributeError:
                continue  # an expression, or what is left out
            if callable(layer):
                object.__setattr__(parent, name, self.scoped(layer, operation.name))

    def scoped(self, function: Callable[..., Any], name: str | None) -> Callable[..., Any]:
        """The function within a scope of its own."""

        def call(*arguments: Any, **options: Any) -> Any:
            scope = f"node{len(self.scopes)}"
            self.scopes[scope] = name
            with jax.named_scope(scope):
                return function(*arguments, **options)

        return call

    def watched_helpers(self) -> ExitStack:
        """A context in which the functions of the module, and poolings, open a scope each."""
        stack = ExitStack()
        for name, function in list(vars(self.module).items()):
            if inspect.isfunction(function) and function.__module__ == self.module.__name__:
                stack.enter_context(patch.object(self.module, name, self.scoped(function, None)))
        for name in ("avg_pool", "gelu"):
            stack.enter_context(patch.object(nnx, name, self.scoped(getattr(nnx, name), None)))
        return stack

    def play(self, program: Any, arguments: Sequence[Any]) -> None:
        """Runs the operations one by one, and gathers them to nodes."""
        values: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
        values.update(zip(program.jaxpr.invars, arguments, strict=True))
        places: dict[Any, Value] = {program.jaxpr.invars[0]: IMAGES}
        open_nodes: dict[str, int] = {}
        for equation in program.jaxpr.eqns:
            read = [v for v in equation.invars if not isinstance(v, Literal)]
            alone = program.jaxpr.replace(
                constvars=(), invars=read, outvars=equation.outvars, eqns=[equation]
            )
            made = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*(values[v] for v in read))
            values.update(zip(equation.outvars, made, strict=True))
            inputs = tuple(places[v] for v in read if v in places)
            self.note(equation, inputs, made, places, open_nodes)

    def note(
        self,
        equation: Any,
        inputs: tuple[Value, ...],
        made: Sequence[Any],
        places: dict[Any, Value],
        open_nodes: dict[str, int],
    ) -> None:
        """One operation, as a node or as a part of that of its scope."""
        if not inputs:
            return  # a constant, or a part of the weights
        scope = str(equation.source_info.name_stack).split("/")[0]
        known = scope if scope in self.scopes else f"line {self.line(equation)}"
        if known not in open_nodes or (scope not in self.scopes and known != self.last):
            open_nodes[known] = len(self.nodes)
            self.nodes.append(Node(self.scopes.get(known), inputs, ()))
            self.values.append([])
        self.last = known
        number = open_nodes[known]
        node = self.nodes[number]
        outside = tuple(each for each in inputs if each[0] != number)
        found = [array(value) for value in made]
        # The last operation of a layer gives its output.
        shapes = tuple(each.shape for each in found)
        self.nodes[number] = Node(node.name, tuple(dict.fromkeys((*node.inputs, *outside))), shapes)
        self.values[number] = found
        places.update((v, (number, k)) for k, v in enumerate(equation.outvars))

    def line(self, equation: Any) -> int:
        """The line of the module that asked for an operation."""
        traceback = equation.source_info.traceback
        frames = traceback.frames if traceback is not None else ()
        own = (each.line_num for each in frames if each.file_name == self.module.__file__)
        return next(own, 0)
