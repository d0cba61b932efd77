"""The generated Keras model as a runner, on TensorFlow, JAX or PyTorch."""

from __future__ import annotations

import functools
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from resnet_spec.backends.keras.variables import VARIABLES, layer_name
from resnet_spec.verify import optimizers
from resnet_spec.verify.align import IMAGES, Node, align
from resnet_spec.verify.optimizers import Recipe
from resnet_spec.verify.plan import RANDOM, Plan

Arrays = Mapping[str, np.ndarray]
Derivatives = tuple[Any, list[Any], Any]  # of the loss: itself, by weights, by the images


def keep_double_precision() -> None:
    """Lets Keras compute norms and means in double precision on JAX and PyTorch, too.

    Except on TensorFlow, its rules for mixed dtypes turn float64 and float32 into float32. The
    rules are in a private table; a version without it is left unchanged, and then these operations
    differ by single precision.
    """
    from keras.src.backend.common import dtypes

    table = getattr(dtypes, "BIT64_TO_BIT32_DTYPE", {})
    if "float64" in table:
        table["float64"] = "float64"


@functools.cache
def keep_kernels_in_order() -> None:
    """Lets Keras differentiate a convolution with one filter in double precision on PyTorch.

    Keras transposes kernels, which PyTorch's convolution of doubles refuses for a single filter:
    "slow_conv2d: grad_weight must be contiguous". The memory order does not change the values.
    """
    if keras.backend.backend() != "torch":
        return
    from torch.nn import functional

    convolve: Any = functional.conv2d

    @functools.wraps(convolve)
    def conv2d(inputs: Any, weight: Any, *arguments: Any, **options: Any) -> Any:
        return convolve(inputs, weight.contiguous(), *arguments, **options)

    functional.conv2d = conv2d  # type: ignore[assignment]


_RELU = keras.layers.ReLU.call


def set_smooth(wanted: bool) -> None:
    """Computes softplus wherever a model asks for ReLU, or ReLU again."""

    def softplus(layer: Any, inputs: Any) -> Any:
        return keras.ops.softplus(inputs)

    keras.layers.ReLU.call = softplus if wanted else _RELU


class Runner:
    """One network in Keras; arrays go in and out in PyTorch's order of axes."""

    def __init__(self, plan: Plan, module: types.ModuleType) -> None:
        self.plan, self.module = plan, module
        keep_double_precision()
        keep_kernels_in_order()
        _compiled.cache_clear()
        _traced.cache_clear()
        keras.backend.clear_session(free_memory=False)
        keras.config.set_floatx(plan.precision)
        # Keras goes back through the layers by recursion.
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 100_000))
        channels, height, width = plan.input
        self.shape = (height, width, channels)
        self.model = getattr(module, plan.name)(input_shape=self.shape)
        self.features = getattr(module, f"{plan.name}_features")(input_shape=self.shape)
        for operation in plan.operations:
            if operation.primitive in RANDOM:
                for layer in self.layers_of(operation.name):
                    layer.rate = 0.0
        self.differentiate = _DIFFERENTIATE[keras.backend.backend()](self.model, self.loss)

    def layers_of(self, name: str) -> list[Any]:
        """The layers of an operation: the backbone has its own, but none of the head."""
        models = (self.layers(self.model), self.layers(self.features))
        return [found[layer_name(name)] for found in models if layer_name(name) in found]

    def layers(self, model: Any) -> dict[str, Any]:
        return {layer.name: layer for layer in model.layers}

    def variables(self, model: Any) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
        """Canonical name, variable, and PyTorch's axes in Keras' order."""
        layers = self.layers(model)
        for operation in self.plan.operations:
            for tensor in operation.tensors:
                attribute, axes = VARIABLES[operation.primitive, tensor.name]
                layer = layers.get(layer_name(operation.name))
                variable = getattr(layer, attribute, None)
                if variable is not None:
                    yield f"{operation.name}.{tensor.name}", variable, axes

    def describe(self) -> dict[str, Any]:
        """Name, shape and trainability of every parameter and statistic."""
        found, seen = {}, set()
        for name, variable, axes in self.variables(self.model):
            seen.add(id(variable))
            shape = [variable.shape[axis] for axis in np.argsort(axes)]
            found[name] = {"shape": shape, "trainable": variable.trainable}
        canonical = {layer_name(each.name): each.name for each in self.plan.operations}
        for variable in self.model.weights:
            if id(variable) not in seen:
                layer, _, rest = variable.path.partition("/")
                name = f"{canonical.get(layer, layer)}.{rest}"
                found[name] = {"shape": list(variable.shape), "trainable": variable.trainable}
        return found

    def load(self, weights: Arrays) -> None:
        """Takes over every parameter and statistic."""
        for name, variable, axes in self.variables(self.model):
            variable.assign(np.transpose(weights[name], axes))

    def state(self) -> dict[str, np.ndarray]:
        return {
            name: keras.ops.convert_to_numpy(variable).transpose(np.argsort(axes))
            for name, variable, axes in self.variables(self.model)
        }

    def images(self, batch: np.ndarray) -> Any:
        return keras.ops.convert_to_tensor(batch.transpose(0, 2, 3, 1).astype(self.plan.precision))

    def forward(self, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        """The logits and the output of every stage."""
        given = self.images(images)
        self.share()
        found = run(self.features, given, training)
        outputs = {f"stage {name}": array(value) for name, value in found.items()}
        return outputs | {"logits": array(run(self.model, given, training))}

    def share(self) -> None:
        """Gives the backbone the weights that the whole model has."""
        layers = self.layers(self.model)
        for layer in self.features.layers:
            for own, given in zip(layer.weights, layers[layer.name].weights, strict=True):
                own.assign(given)

    def loss(self, logits: Any, targets: Any) -> Any:
        """Cross entropy over the channels, the mean over samples."""
        return -keras.ops.sum(targets * keras.ops.log_softmax(logits)) / self.plan.batch

    def targets(self, targets: np.ndarray) -> Any:
        moved = np.moveaxis(targets, 1, -1).astype(self.plan.precision)
        return keras.ops.convert_to_tensor(moved)

    def gradients(self, images: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        """Of the loss in training mode: every parameter's and the images'."""
        loss, by_weights, by_images = self.differentiate(self.images(images), self.targets(targets))
        values = {
            id(variable): keras.ops.convert_to_numpy(gradient)
            for variable, gradient in zip(self.model.trainable_variables, by_weights, strict=True)
        }
        found = {
            name: values[id(variable)].transpose(np.argsort(axes))
            for name, variable, axes in self.variables(self.model)
            if id(variable) in values
        }
        return {"loss": keras.ops.convert_to_numpy(loss), "images": array(by_images), **found}

    def train(
        self, batches: Sequence[np.ndarray], targets: Sequence[np.ndarray], recipe: Recipe
    ) -> dict[str, np.ndarray]:
        """Trains; what is left are the weights, given are the losses."""
        optimizer = optimizers.optimizer(recipe)
        variables = self.model.trainable_variables
        losses = []
        for step, (batch, target) in enumerate(zip(batches, targets, strict=True)):
            loss, found, _ = self.differentiate(self.images(batch), self.targets(target))
            gradients = [*found]
            del found
            for number, variable in enumerate(variables):
                value, gradient = map(keras.ops.convert_to_numpy, (variable, gradients[number]))
                gradients[number] = None  # so that its memory is free before the last is used
                variable.assign(optimizer.update(number, value, gradient, step))
            losses.append(float(loss))
        return {"losses": np.array(losses), **self.state()}

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """The parameters and statistics of a fresh model."""
        keras.utils.set_random_seed(seed)
        model = getattr(self.module, self.plan.name)(input_shape=self.shape)
        return {
            name: keras.ops.convert_to_numpy(variable).transpose(np.argsort(axes))
            for name, variable, axes in self.variables(model)
        }

    def trace(self, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        """The outputs of every operation that can be told, by its name and number."""
        calls = sorted(_calls(self.model), key=lambda call: _order(call.output_tensors[0]))
        outputs = [tensor for call in calls for tensor in call.output_tensors]
        whole = keras.Model(self.model.inputs, outputs)
        values = iter([array(value) for value in run(whole, self.images(images), training)])
        names = {output_name(each.primitive, each.name): each.name for each in self.plan.operations}
        places = {id(self.model.inputs[0]): IMAGES}
        nodes, kept = [], []
        for number, call in enumerate(calls):
            made = [next(values) for _ in call.output_tensors]
            inputs = tuple(places[id(tensor)] for tensor in call.input_tensors)
            shapes = tuple(value.shape for value in made)
            nodes.append(Node(names.get(call.operation.name), inputs, shapes))
            kept.append(made)
            places.update((id(each), (number, k)) for k, each in enumerate(call.output_tensors))
        aligned = align(self.plan.operations, nodes, self.plan.batch)
        return {
            f"{name}:{k}": kept[node][k] for name, found in aligned.items() for node, k in found
        }


def output_name(primitive: str, canonical: str) -> str:
    """The layer that gives an operation's output: where several write it, the last."""
    return f"{layer_name(canonical)}_out" if primitive == "channel_conv" else layer_name(canonical)


def array(value: Any) -> np.ndarray:
    """A value of Keras in PyTorch's order of axes."""
    found: np.ndarray = keras.ops.convert_to_numpy(value)
    return np.moveaxis(found, -1, 1) if found.ndim > 2 else found


def _calls(model: Any) -> Iterator[Any]:
    """Every call within a functional model, the input's own left out."""
    for depth in model._nodes_by_depth.values():
        yield from (node for node in depth if not node.is_input)


def _order(tensor: Any) -> int:
    """Tensors are numbered as they are made."""
    found = re.search(r"(\d+)$", tensor.name)
    return int(found[1]) if found else 0


# --- what the frameworks do in words of their own ------------------------------------------------


def run(model: Any, images: Any, training: bool) -> Any:
    """A model's outputs; training moves its statistics."""
    if keras.backend.backend() == "tensorflow" and _has_groups(model):
        return _traced(model, training)(images)
    if keras.backend.backend() != "jax":
        return model(images, training=training)
    state = [each.value for each in model.non_trainable_variables]
    values = [each.value for each in model.trainable_variables]
    outputs, updated = _compiled(model, training)(values, state, images)
    if training:
        for variable, value in zip(model.non_trainable_variables, updated, strict=True):
            variable.assign(value)
    return outputs


@functools.lru_cache(maxsize=8)
def _compiled(model: Any, training: bool) -> Any:
    """A model as a function for JAX, which is slow to compile one and to run its parts."""
    import jax

    return jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=training))


def _has_groups(model: Any) -> bool:
    return any(getattr(layer, "groups", 1) > 1 for layer in model.layers)


@functools.lru_cache(maxsize=8)
def _traced(model: Any, training: bool) -> Any:
    """A model as a function of TensorFlow; else each grouped convolution is compiled each time."""
    import tensorflow as tf

    return tf.function(lambda images: model(images, training=training))


def _on_tensorflow(model: Any, loss_of: Callable[[Any, Any], Any]) -> Callable[..., Derivatives]:
    import tensorflow as tf

    def differentiate(images: Any, targets: Any) -> Derivatives:
        variables = [each.value for each in model.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = loss_of(model(images, training=True), targets)
        none = tf.UnconnectedGradients.ZERO
        *found, by_images = tape.gradient(loss, [*variables, images], unconnected_gradients=none)
        return loss, found, by_images

    compiled: Callable[..., Derivatives] = tf.function(differentiate)  # far faster than its parts
    return compiled


def _on_jax(model: Any, loss_of: Callable[[Any, Any], Any]) -> Callable[..., Derivatives]:
    import jax

    def loss(weights: Any, images: Any, state: Any, targets: Any) -> Any:
        logits, updated = model.stateless_call(weights, state, images, training=True)
        return loss_of(logits, targets), updated

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))

    def differentiate(images: Any, targets: Any) -> Derivatives:
        weights = [each.value for each in model.trainable_variables]
        state = [each.value for each in model.non_trainable_variables]
        (found, updated), (by_weights, by_images) = compiled(weights, images, state, targets)
        for variable, value in zip(model.non_trainable_variables, updated, strict=True):
            variable.assign(value)
        return found, by_weights, by_images

    return differentiate


def _on_torch(model: Any, loss_of: Callable[[Any, Any], Any]) -> Callable[..., Derivatives]:
    import torch

    def differentiate(images: Any, targets: Any) -> Derivatives:
        given = images.detach().requires_grad_()
        variables = [each.value for each in model.trainable_variables]
        loss = loss_of(model(given, training=True), targets)
        found: Any = torch.autograd.grad(loss, [*variables, given], allow_unused=True)
        pairs = zip(found, [*variables, given], strict=True)
        *by_weights, by_images = [torch.zeros_like(v) if g is None else g for g, v in pairs]
        return loss.detach(), by_weights, by_images

    return differentiate


_DIFFERENTIATE = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
