"""The generated Keras model and its variables, by the names and in the order of axes of the IR."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resnet_spec.codegen.generate import generate
from resnet_spec.ir import Network
from resnet_spec.weights.entries import Entry, entries


def filled(network: Network, state: Mapping[str, Any]) -> Any:
    """A model with the values and the data type of a state in PyTorch's names and axes."""
    prepare()
    (dtype,) = {state[name].dtype.name for name in entries(network)}
    with precision(dtype):
        model = build(network)
    assign(network, model, state)
    return model


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Within the context, Keras creates variables of this data type and computes in it."""
    import keras

    # The policy follows from floatx only until one is asked for the first time.
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def prepare() -> None:
    """Select an installed backend of Keras and silence TensorFlow; call it before importing Keras.

    A backend that the user has chosen (by `KERAS_BACKEND`, `keras.json` or an import) is kept.
    """
    silence()
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    if "KERAS_BACKEND" in os.environ or (home / "keras.json").exists() or "keras" in sys.modules:
        return
    os.environ["KERAS_BACKEND"] = next(_installed("tensorflow", "jax", "torch"), "tensorflow")


def comparing() -> dict[str, str]:
    """The environment of a process in which a model of Keras says what is right.

    That is TensorFlow where it is installed, whatever the user has chosen: Keras' layers mean what
    it does, and PyTorch's means with `padding="same"` are others at the borders of a map.
    """
    chosen = os.environ.get("KERAS_BACKEND", "torch")
    return {"KERAS_BACKEND": next(_installed("tensorflow", "jax"), chosen)}


def _installed(*names: str) -> Iterator[str]:
    return (name for name in names if find_spec(name) is not None)


def silence() -> None:
    """Let TensorFlow print nothing of its own when it is imported after this.

    That it uses oneDNN is told whatever the level; by the variable it is not used either, and our
    processes agree on that with those of `verify`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def build(network: Network) -> Any:
    """The Keras model of a network, with random weights: its generated source is executed.

    Raises `SpecError` for a network that Keras cannot express.
    """
    # Keras goes back through the layers by recursion.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 100_000))
    (source,) = generate(network, ["keras"]).values()
    module = types.ModuleType(f"generated_keras_{network.name}")
    exec(compile(source, f"{module.__name__}.py", "exec"), module.__dict__)
    return getattr(module, network.name)()


def assign(network: Network, model: Any, state: Mapping[str, Any]) -> int:
    """Set a model's variables from a state in PyTorch's names and axes; returns their number."""
    count = 0
    for entry, variable in _variables(network, model):
        variable.assign(state[entry.name].transpose(entry.place("keras").axes))
        count += 1
    return count


def values(network: Network, model: Any) -> dict[str, Any]:
    """The values of a model by PyTorch's names and in PyTorch's order of axes, as numpy arrays."""
    import keras
    import numpy

    return {
        entry.name: numpy.ascontiguousarray(
            keras.ops.convert_to_numpy(variable).transpose(numpy.argsort(entry.place("keras").axes))
        )
        for entry, variable in _variables(network, model)
    }


def _variables(network: Network, model: Any) -> Iterator[tuple[Entry, Any]]:
    for entry in entries(network).values():
        place = entry.place("keras")
        yield entry, getattr(model.get_layer(place.layer), place.variable)
