"""Models that others saved, as they are compared here: in single precision, outputs by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def outputs(given: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in what a model gives, by their keys or places: `logits`, `aux.0`.

    One that stands alone is called `output`.
    """
    if hasattr(given, "shape"):
        yield name or "output", given
        return
    for key, value in _members(given):
        yield from outputs(value, f"{name}.{key}" if name else str(key))


def _members(given: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(given, Mapping):
        return given.items()
    if dataclasses.is_dataclass(given):
        return vars(given).items()
    if isinstance(given, list | tuple):
        return zip(getattr(given, "_fields", range(len(given))), given, strict=True)
    return ()


def in_single_precision(module: Any) -> Any:
    """The program of an archive of `torch.export` with float32 for half precision throughout.

    So it takes the same images as any other, and what it gives is not rounded on the way.
    """
    import torch
    from torch.fx.node import map_aggregate

    halves = (torch.float16, torch.bfloat16)
    for node in [*module.graph.nodes]:
        # What checks types and sizes as they were.
        if node.target in (torch.ops.aten._assert_tensor_metadata.default, "_guards_fn"):
            module.graph.erase_node(node)
            continue
        for part in ("args", "kwargs"):
            stated = getattr(node, part)
            setattr(
                node, part, map_aggregate(stated, lambda v: torch.float32 if v in halves else v)
            )
    module.recompile()
    return module.float()


def graph_in_single_precision(path: Path) -> bytes | None:
    """The same of a graph of ONNX; None where it has no half precision, and is run as it is."""
    import onnx

    if not any(_halves(onnx.load(path, load_external_data=False))):
        return None
    model = onnx.load(path)
    for holder, field in _halves(model):
        if field == "data_type":
            wide = onnx.numpy_helper.to_array(holder).astype("float32")
            holder.CopyFrom(onnx.numpy_helper.from_array(wide, holder.name))
        else:
            setattr(holder, field, onnx.TensorProto.FLOAT)
    data: bytes = model.SerializeToString()
    return data


def _halves(model: Any) -> Iterator[tuple[Any, str]]:
    """What states half precision in a graph, with the name of the field that does."""
    from onnx import TensorProto

    graph = model.graph
    values = [each.type.tensor_type for each in (*graph.input, *graph.output, *graph.value_info)]
    attributes = [each for node in graph.node for each in node.attribute]
    tensors = [*graph.initializer, *(each.t for each in attributes if each.HasField("t"))]
    casts = [each for each in attributes if each.name in ("to", "dtype")]
    fields = {"elem_type": values, "data_type": tensors, "i": casts}
    for field, holders in fields.items():
        for holder in holders:
            if getattr(holder, field) in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
                yield holder, field
