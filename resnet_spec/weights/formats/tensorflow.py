"""TensorFlow's checkpoints and saved models: an index, and the values in files beside it.

A checkpoint of objects names variables by their place in the model, and keeps their own names in a
description of the objects; an older one has the names alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.weights import keras_model
from resnet_spec.weights.checkpoint import Checkpoint, Tensor, bounded, unreadable

_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# Of a run, and no layer: an optimizer's, and what counts.
_BESIDE = ("optimizer", "save_counter", "global_step", "step", "_CHECKPOINTABLE_OBJECT_GRAPH")
_SLOTS = ("/Momentum", "/Adam", "/Adam_1", "/RMSProp", "/RMSProp_1", ".OPTIMIZER_SLOT")


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The variables of a checkpoint; `path` is that of its index."""
    keras_model.silence()
    import tensorflow

    prefix = str(path).removesuffix(".index")
    try:
        reader = tensorflow.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        kinds = reader.get_variable_to_dtype_map()
        names = _own_names(reader) if _OBJECTS in shapes else {}
    except Exception as error:  # TensorFlow's own kinds, and what a broken file makes of Python's
        reason = str(error).partition("\n")[0].lower()[:200]
        unreadable(
            shown,
            f"{quoted(shown)} is no whole checkpoint of TensorFlow: {reason}",
            "the index and the files of data belong together, in one folder",
        )
    keys = sorted(key for key in shapes if _is_variable(key, names))
    own = {key: names.get(key) or key.removesuffix(_VALUE) for key in keys}
    first = {name: key for key, name in reversed(own.items())}  # one variable under two keys
    keys = [key for key in keys if first[own[key]] == key]
    tensors = bounded(
        (_tensor(reader, key, own[key], tuple(shapes[key]), kinds[key].name) for key in keys), shown
    )
    if not tensors:
        unreadable(shown, f"{quoted(shown)} is a checkpoint of TensorFlow without variables")
    paths = tuple(key.removesuffix(_VALUE) for key in keys) if names else ()
    yield Checkpoint(shown, "TensorFlow", "keras", tensors, paths=paths)


def _own_names(reader: Any) -> dict[str, str]:
    """The name that each variable has by itself, by its key."""
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    graph = TrackableObjectGraph.FromString(reader.get_tensor(_OBJECTS))
    return {
        attribute.checkpoint_key: attribute.full_name
        for node in graph.nodes
        for attribute in node.attributes
        if "/" in attribute.full_name
    }


def _is_variable(key: str, names: dict[str, str]) -> bool:
    if names and key not in names:
        return False
    return not key.startswith(_BESIDE) and not any(slot in key for slot in _SLOTS)


def _tensor(reader: Any, key: str, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    return Tensor(name, shape, dtype, partial(_array, reader, key))


def _array(reader: Any, key: str) -> Any:
    try:
        return reader.get_tensor(key)
    except Exception as error:  # TensorFlow's own kinds
        raise EOFError(str(error).partition("\n")[0]) from None
