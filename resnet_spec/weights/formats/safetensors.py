"""safetensors: a JSON header, then plain values; https://github.com/huggingface/safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.ir import Network
from resnet_spec.weights.checkpoint import (
    CUT_OFF,
    MAX_TENSORS,
    Checkpoint,
    Layout,
    Stated,
    Tensor,
    bounded,
    layout_of,
    refused,
    unreadable,
)
from resnet_spec.weights.entries import entries

_MAX_HEADER = 400 * MAX_TENSORS  # bytes
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The tensors of a file; the library checks the header against the file's size."""
    from safetensors import SafetensorError, safe_open

    _check_header(path, shown)
    try:
        file: Any = safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        unreadable(
            shown,
            f"{quoted(shown)} is no whole safetensors file: {reason.lower()}",
            CUT_OFF,
        )
    with file:
        tensors = bounded(_tensors(file), shown)
        metadata = file.metadata() or {}
        said = metadata.get("flatten_order")
        stated = Stated(flatten_order="chw" if said == "chw" else None)
        layout = _layout(metadata, tensors)
        yield Checkpoint(shown, "safetensors", layout, tensors, stated=stated)


def _layout(metadata: Mapping[str, str], tensors: Sequence[Tensor]) -> Layout:
    """Whose names a file has, by what it says of itself, or by what kernels are called."""
    said = metadata.get("format")
    if said in ("pt", "flax"):
        return "torch" if said == "pt" else "flax"
    return layout_of([tensor.name for tensor in tensors])


def _check_header(path: Path, shown: str) -> None:
    """RS902 for a header that would take minutes; the library reads up to 100 MB of it."""
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
    if _MAX_HEADER < size < path.stat().st_size:
        refused(
            shown, f"the header of {quoted(shown)} has {size:,} bytes, for tensors' names alone"
        )


def _tensors(file: Any) -> Iterator[Tensor]:
    for name in sorted(file.keys()):
        view = file.get_slice(name)
        kind = view.get_dtype()
        dtype = _TYPES.get(kind, kind.lower())
        yield Tensor(name, tuple(view.get_shape()), dtype, partial(_array, file, name, dtype))


def _array(file: Any, name: str, dtype: str) -> Any:
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  by which numpy knows the type
    return file.get_tensor(name)


def write(path: Path, network: Network, state: Mapping[str, Any]) -> None:
    """A state in the names and the order of axes of PyTorch or Flax."""
    import numpy
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {name: numpy.ascontiguousarray(value) for name, value in state.items()}
    # ascontiguousarray makes a scalar a vector of one.
    arrays = {name: value.reshape(numpy.shape(state[name])) for name, value in arrays.items()}
    metadata = {"format": written_for(network, state)}
    if metadata["format"] != "pt":  # whose layers flatten otherwise by themselves
        metadata["flatten_order"] = "chw"
    try:
        save_file(arrays, path, metadata=metadata)
    except SafetensorError as error:  # a full disk, which it wraps
        raise OSError(str(error).rpartition("I/O error: ")[2]) from None


def written_for(network: Network, state: Mapping[str, Any]) -> str:
    """Whose names a state has, as the format calls it."""
    return "pt" if entries(network).keys() <= state.keys() else "flax"
