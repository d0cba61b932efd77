"""Runs generated code of both backends with the same weights; what the parity tests stand on."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from resnet_spec.backends.flax.variables import VARIABLES as FLAX
from resnet_spec.codegen.generate import generate
from resnet_spec.ir import Network, evaluate
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.verify import compare
from resnet_spec.weights import keras_model as keras_model_of

SPECS = Path(__file__).parents[1] / "specs"


# These have every primitive between them,
OPERATIONS = ("primitives", "more_primitives", "gates_and_pools", "flat")
# and these every way in which a class or function is written, too.
TELLING = frozenset({*OPERATIONS, "children", "dense", "gallery", "option_a", "selective"})


def costly(names: Iterable[str], usual: Container[str] = TELLING) -> list[Any]:
    """Names of networks or paths of specs as parameters of a test, the unusual ones as slow."""
    slow = pytest.mark.slow
    return [
        pytest.param(each, marks=() if Path(each).stem in usual else slow, id=Path(each).stem)
        for each in names
    ]


def network_of(spec: str | Path, *settings: str) -> Network:
    """The network of a spec given by name or path, with `key=value` set."""
    if not settings and spec in builtin_specs():
        return _builtin(str(spec))
    return lower(load(str(spec), Library(), settings))


@cache
def _builtin(name: str) -> Network:
    return lower(load(name, Library()))


def network_of_text(text: str) -> Network:
    """The network of a spec given as text."""
    return lower(load("text.yaml", Library(), text=text.encode()))


def source_of(network: Network, backend: str) -> str:
    """The generated source of a network."""
    (text,) = generate(network, [backend]).values()
    return text


def module_of(network: Network, backend: str) -> types.ModuleType:
    """The generated module of a network, imported."""
    return run(source_of(network, backend), f"generated_{backend}_{network.name}")


def run(source: str, name: str) -> types.ModuleType:
    """A module from its source."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses and pickling look a class up there
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module


def build(network: Network, backend: str, **arguments: Any) -> Any:
    """A model of the generated module."""
    return getattr(module_of(network, backend), network.name)(**arguments)


@contextmanager
def undrawn() -> Iterator[None]:
    """Models are made without drawing weights, which takes as long as the rest: all are replaced.

    PyTorch leaves what is in memory, Keras has zeros.
    """
    with ExitStack() as patches:
        for owner, names, draw in _draws():
            for name in names:
                patches.enter_context(patch.object(owner, name, draw))
        yield


def _draws() -> Iterator[tuple[Any, Sequence[str], Callable[..., Any]]]:
    """The functions and methods of the imported frameworks that draw weights; what stands in."""
    if "torch" in sys.modules:
        from torch.nn import init

        names = [each for each in vars(init) if each.endswith(("normal_", "uniform_"))]
        yield init, [each for each in names if each[0] != "_"], lambda tensor, *_, **__: tensor
    if "keras" in sys.modules:
        from keras import initializers, ops

        def zeros(_: Any, shape: Any, dtype: Any = None) -> Any:
            return ops.zeros(shape, dtype)

        for each in (initializers.RandomNormal, initializers.VarianceScaling):
            yield each, ["__call__"], zeros


def randomize(model: Any, seed: int = 0, gain: float = 2.0) -> None:
    """Random weights, biases and statistics, so that nothing is zero, one or alike.

    A zero-initialised scale would hide a whole branch, a variance of one a wrong epsilon. `gain` is
    the variance of a convolution's weights times their number for one output.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            value = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                value += 0.5
            elif tensor.dim() > 1:
                fan_in = tensor[0].numel()
                value -= 0.5
                value *= (12 * gain / fan_in) ** 0.5
            else:
                value += -0.5 if name.endswith(("bias", "running_mean")) else 0.5
            tensor.copy_(value)


def carry_over(network: Network, torch_model: Any, keras_model: Any) -> int:
    """Copies every parameter from PyTorch to Keras by the names of the IR; returns their number."""
    # Copies, because JAX would share its memory with PyTorch, which changes it in training.
    state = {name: value.numpy().copy() for name, value in torch_model.state_dict().items()}
    carried = keras_model_of.assign(network, keras_model, state)
    assert carried == len(keras_model.weights)
    return carried


def images(*shape: int, seed: int = 1) -> np.ndarray:
    """A batch (N, C, H, W) of float64 in PyTorch's order."""
    return np.random.default_rng(seed).standard_normal(shape)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest absolute difference, relative to the largest value."""
    assert one.shape == other.shape, f"{one.shape} and {other.shape}"
    return compare.relative(one, other)


def keras_to_torch(value: Any) -> np.ndarray:
    """An output of Keras in PyTorch's order of axes."""
    import keras

    array: np.ndarray = keras.ops.convert_to_numpy(value)
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def tensor(batch: np.ndarray, like: Any = None) -> Any:
    """A batch as a tensor, of the same type as a model's parameters where one is given."""
    import torch

    value = torch.from_numpy(batch)
    return value if like is None else value.to(next(like.parameters()).dtype)


def torch_outputs(model: Any, batch: np.ndarray, training: bool = False) -> dict[str, np.ndarray]:
    """The logits and every stage's output of a PyTorch model."""
    import torch

    model.train(training)
    with torch.no_grad():
        given = tensor(batch, model)
        found = {name: value.numpy() for name, value in model.forward_features(given).items()}
        return found | {"logits": model(given).numpy()}


def keras_outputs(
    logits: Any, features: Any, batch: np.ndarray, training: bool = False
) -> dict[str, np.ndarray]:
    """The same of a Keras model and its backbone."""
    given = batch.transpose(0, 2, 3, 1)
    found = features(given, training=training)
    outputs = {name: keras_to_torch(value) for name, value in found.items()}
    return outputs | {"logits": keras_to_torch(logits(given, training=training))}


def tolerance(network: Network, usual: float = 1e-10) -> float:
    """How far outputs in double precision may be apart."""
    used = {operation.primitive.name for _, operation in network.operations()}
    # TensorFlow rounds their constants to single precision, whatever their input is.
    rounded = used & {"gelu", "leaky_relu"} and network.numerics == "idiomatic"
    return 1e-5 if rounded else usual


# --- both models of a network --------------------------------------------------------------------


@contextmanager
def float64() -> Iterator[None]:
    """Keras computes in double precision."""
    with keras_model_of.precision("float64"):
        yield


@dataclass
class Pair:
    """Both models of a network with one set of random weights."""

    network: Network
    torch: Any
    keras: Any
    features: Any

    def outputs(
        self, batch: np.ndarray, training: bool = False
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The logits and every stage's output of both."""
        return (
            torch_outputs(self.torch, batch, training),
            keras_outputs(self.keras, self.features, batch, training),
        )

    def value(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """The same by the definition of each operation, in evaluation and double precision."""
        weights = {name: value.numpy() for name, value in self.torch.state_dict().items()}
        found = evaluate.outputs(self.network, weights, batch)
        return {**found.stages, "logits": found.logits}

    def beside_value(self, batch: np.ndarray) -> dict[str, float]:
        """How far each backend is from that, at the most."""
        right = self.value(batch)
        return {
            backend: max(difference(given[name], right[name]) for name in given)
            for backend, given in zip(("torch", "keras"), self.outputs(batch), strict=True)
        }

    def differences(self, batch: np.ndarray, training: bool = False) -> dict[str, float]:
        """How far the two are apart at each output."""
        one, other = self.outputs(batch, training)
        assert one.keys() == other.keys()
        return {name: difference(one[name], other[name]) for name in one}


def pair(network: Network, keras_source: str | None = None, **arguments: Any) -> Pair:
    """Both models with the same random weights, in Keras' precision."""
    import keras
    import torch

    keras.backend.clear_session(free_memory=False)
    with undrawn():
        torch_model = build(network, "torch")
    if keras.config.floatx() == "float64":
        torch_model = torch_model.double()
    else:
        assert next(torch_model.parameters()).dtype == torch.float32
    randomize(torch_model)
    source = keras_source or source_of(network, "keras")
    module = run(source, f"generated_keras_{network.name}")
    with undrawn():
        keras_model = getattr(module, network.name)(**arguments)
        features = getattr(module, f"{network.name}_features")(**arguments)
    carry_over(network, torch_model, keras_model)
    share(keras_model, features)
    return Pair(network, torch_model, keras_model, features)


def share(model: Any, features: Any) -> None:
    """Gives a backbone the weights that the whole model has."""
    for layer in features.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())


# --- Flax ----------------------------------------------------------------------------------------


@contextmanager
def jax_float64() -> Iterator[None]:
    """JAX computes in float64 where it is given float64."""
    import jax

    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def flax_state(model: Any) -> dict[str, Any]:
    """The parameters and statistics of a Flax model by their dotted paths."""
    from flax import nnx

    kept = nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): variable for path, variable in kept}


def flax_variables(network: Network) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Of each tensor of the IR: the path in Flax, and PyTorch's axes in Flax's order."""
    found = {}
    for name, operation in network.operations():
        for parameter in operation.parameters:
            leaf, axes = FLAX[operation.primitive.name, parameter.name]
            found[f"{name}.{parameter.name}"] = (f"{name}.{leaf}", axes)
    return found


def flax_model(network: Network, weights: Mapping[str, np.ndarray], source: str = "") -> Any:
    """A Flax model with the weights of a PyTorch model, in their precision."""
    variables = flax_variables(network).items()
    values = {path: weights[name].transpose(axes) for name, (path, axes) in variables}
    return flax_filled(network, values, source)


def flax_filled(network: Network, values: Mapping[str, np.ndarray], source: str = "") -> Any:
    """A Flax model with values by the paths of its variables, in their precision.

    Its own weights are never drawn: JAX would compile each draw. Nor are draws counted: at each
    count Flax goes through all that was traced before, for minutes where a network is deep.
    """
    import jax
    import jax.numpy as jnp
    from flax import nnx

    module = run(source or source_of(network, "flax"), f"generated_flax_{network.name}")
    with patch.object(nnx.RngStream, "__call__", lambda stream: stream.key[...]):
        model = nnx.eval_shape(lambda: getattr(module, network.name)(rngs=nnx.Rngs(0)))
    state = flax_state(model)
    assert state.keys() == values.keys()
    for path, variable in state.items():
        assert variable.shape == values[path].shape, path
        variable.set_value(jnp.asarray(values[path]))
        assert variable.dtype == values[path].dtype
    for _, node in nnx.iter_graph(model):  # what is left draws the masks of a dropout
        if isinstance(node, nnx.RngKey):
            node.set_value(jax.random.key(0))
        elif isinstance(node, nnx.RngCount):
            node.set_value(jnp.uint32(0))
    return model


def flax_to_torch(value: Any) -> np.ndarray:
    """A value of Flax in PyTorch's order of axes."""
    return np.moveaxis(np.asarray(value), -1, 1)


def flax_outputs(model: Any, batch: np.ndarray, training: bool = False) -> dict[str, np.ndarray]:
    """The logits and every stage's output of a Flax model, without compilation."""
    (model.train if training else model.eval)()
    given = np.moveaxis(batch, 1, -1)
    found = {name: flax_to_torch(value) for name, value in model.forward_features(given).items()}
    return {**found, "logits": flax_to_torch(model(given))}


def flax_counts(model: Any) -> tuple[int, int]:
    """Numbers of a Flax model: what is trained, and statistics."""
    from flax import nnx

    state = flax_state(model).values()
    trained = sum(each.size for each in state if isinstance(each, nnx.Param))
    return trained, sum(each.size for each in state) - trained


def flax_beside_value(network: Network, source: str = "") -> float:
    """How far Flax is from the definition of each operation, at the most, in double precision."""
    weights, batch = weights_of(network), images(2, *network.input.dimensions)
    right = evaluate.outputs(network, weights, batch)
    with jax_float64():
        found = flax_outputs(flax_model(network, weights, source), batch)
    expected = {**right.stages, "logits": right.logits}
    return max(difference(found[name], expected[name]) for name in found)


def weights_of(network: Network) -> dict[str, np.ndarray]:
    """Weights and statistics that keep values in scale, none of them zero or one."""
    from resnet_spec.verify import random_inputs
    from resnet_spec.verify.plan import plan_of

    return random_inputs.weights(plan_of(network, "float64")[0], seed=0)


# --- numbers of parameters: (trainable, statistics) ----------------------------------------------


def ir_counts(network: Network) -> tuple[int, int]:
    """Of the compiler's own inference."""
    return network.root.parameters, network.root.statistics


def torch_counts(model: Any) -> tuple[int, int]:
    """Of a PyTorch model; the counter of batches is no statistic."""
    statistics = [b for name, b in model.named_buffers() if not name.endswith("_tracked")]
    trainable = [p for p in model.parameters() if p.requires_grad]
    return sum(p.numel() for p in trainable), sum(b.numel() for b in statistics)


def keras_counts(model: Any) -> tuple[int, int]:
    """Of a Keras model."""
    return (
        sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights),
    )


# --- the text ------------------------------------------------------------------------------------


def complaints(texts: Mapping[str, str]) -> str:
    """What ruff with its own defaults says about some files; nothing where they are clean."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            # Not the name of a package: imports are sorted by where they come from.
            Path(folder, f"generated_{name}.py").write_text(text)
        found = ""
        for command in (["format", "--diff"], ["check", "--output-format=concise"]):
            ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--quiet", "."]
            done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True, check=False)
            found += done.stdout + done.stderr
        return found


def random_values(layer: Any, generator: np.random.Generator) -> list[np.ndarray]:
    """Weights for a Keras layer, none of them zero or one; none where it has no weights."""
    values = []
    for variable in layer.weights:
        value = generator.uniform(-0.5, 0.5, variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            value += 1.0
        elif value.ndim > 1:
            value *= (24 / np.prod(value.shape[:-1])) ** 0.5
        values.append(value)
    return values
