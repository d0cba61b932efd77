"""ONNX files: the graph by the library onnx, the tensors by us, within bounds.

The library would follow a tensor's path to another file; here that file must lie in the folder of
the model, and no more of it is read than the tensor's shape asks for.
"""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.importing.errors import Unsupported, refused, unreadable, unsaid
from resnet_spec.importing.readers.model import ADAPTIVE_POOL, MAX_NODES, Model, Node
from resnet_spec.language.name_resolution import MAX_SIZE
from resnet_spec.weights.checkpoint import CUT_OFF, MissingPackage
from resnet_spec.weights.formats import onnx_model

_MAX_BYTES = 1 << 31  # protobuf's own limit
_FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16
_MAX_AXES = 8  # of a tensor; NumPy knows up to 32, networks use 4
_PARAMETER = re.compile(r"(?P<layer>[A-Za-z_][\w.]*)\.(?:weight|bias|running_mean|running_var|\w+)")
_OF_A_LAYER = re.compile(r"\w+(\.\w+)+")
_SCOPE = re.compile(r"/(.*)/[A-Za-z]\w*")
_SCOPES = "pkg.torch.onnx.name_scopes"
_INCOMPLETE = "export the model with its weights in the file, or in one beside it that it names"
_BEFORE = "take the model as it was before it was quantised"
# By ONNX's numbers of types: numpy's, and the field that has its values where they are not raw.
_TYPES = {
    1: ("float32", "float_data"), 2: ("uint8", "int32_data"), 3: ("int8", "int32_data"),
    5: ("int16", "int32_data"), 6: ("int32", "int32_data"), 7: ("int64", "int64_data"),
    9: ("bool", "int32_data"), 10: ("float16", ""), 11: ("float64", "double_data"),
    16: ("bfloat16", ""),
}  # fmt: skip


def read(
    path: Path,
    shown: str,
    size: tuple[int, int] = (224, 224),
    values: Mapping[str, Any] | None = None,
) -> Model:
    """The graph of a file; `size`: rows and columns where the file leaves them open.

    `values` has arrays by the names of inputs that are no images, where the file has none.
    Raises `SpecError` (RS951, RS952, RS953) and `MissingPackage`.
    """
    proto = _parsed(path, shown)
    graph = proto.graph
    if len(graph.node) > MAX_NODES:
        refused(shown, f"{quoted(shown)} has {len(graph.node):,} nodes, more than any network")
    if proto.functions:
        name = proto.functions[0].name
        unsaid(shown, Unsupported(f"a function of its own, {quoted(name)}", "the model"))
    tensors = _Tensors(path.parent, shown)
    constants = {each.name: tensors.array(each) for each in graph.initializer}
    constants.update(values or {})
    given, shape, open_sides = _input(graph, constants, shown, size)
    version = max((e.version for e in proto.opset_import if not e.domain), default=1)
    nodes = tuple(_as_today(_node(each, tensors), version) for each in graph.node)
    _check_given(nodes, (given, *constants), graph.sparse_initializer, shown)
    outputs = [each.name for each in graph.output]
    if not outputs:
        unreadable(shown, f"{quoted(shown)} has no output")
    if len(outputs) > 1:
        names = ", ".join(map(quoted, outputs[:4]))
        hint = "export it with the logits alone as its output"
        unsaid(shown, Unsupported(f"several outputs: {names}", "the model", hint))
    copies = [name for each in graph.node if each.op_type == "Identity" for name in each.output]
    held = (*constants, *copies)
    parameters = _dotted([name for name in held if _OF_A_LAYER.fullmatch(name)])
    parameters |= {name: name for name in values or ()}  # as the model itself calls them
    model = Model(
        shown,
        "ONNX",
        _named(nodes, constants, parameters),
        constants,
        parameters,
        given,
        shape,
        outputs[0],
    )
    return model.with_open_sides(open_sides)


def _parsed(path: Path, shown: str) -> Any:
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        unreadable(shown, f"cannot read {quoted(shown)}: {(error.strerror or str(error)).lower()}")
    if len(data) > _MAX_BYTES:
        refused(shown, f"{quoted(shown)} has more than {_MAX_BYTES:,} bytes")
    try:
        return onnx_model.parsed(data)
    except ModuleNotFoundError as error:
        raise MissingPackage(f"reading {quoted(shown)}", error.name or "onnx", "onnx") from None
    except ValueError as error:
        unreadable(shown, f"{quoted(shown)} {error}", CUT_OFF)


# --- tensors -------------------------------------------------------------------------------------


class _Tensors:
    """Reads tensors of one file, and of those beside it."""

    def __init__(self, folder: Path, shown: str) -> None:
        self.folder, self.shown = folder, shown

    def array(self, tensor: Any) -> Any:
        """A tensor as a numpy array, bfloat16 as float32.

        Any other shares the memory of what was read.
        """
        values = self._array(tensor)
        return values.astype(np.float32) if values.dtype.name == "bfloat16" else values

    def _array(self, tensor: Any) -> Any:
        name, dims = quoted(tensor.name or "a constant"), tuple(tensor.dims)
        if tensor.data_type not in _TYPES:
            kind = onnx_model.type_name(tensor.data_type)
            unsaid(self.shown, Unsupported(f"a tensor of the type {kind}", name, _BEFORE))
        kind, field = _TYPES[tensor.data_type]
        if kind == "bfloat16":
            import ml_dtypes  # noqa: F401  by which numpy knows the type
        dtype = np.dtype(kind).newbyteorder("<")
        count = math.prod(dims)
        if len(dims) > _MAX_AXES or any(each < 0 for each in dims):
            unreadable(self.shown, f"{name} has a shape that no array has")
        if tensor.data_location == 1:
            data = self._external(tensor, name, count * dtype.itemsize)
        elif tensor.HasField("raw_data"):
            data = tensor.raw_data
        else:
            return self._listed(tensor, field, kind, dims, name)
        if len(data) != count * dtype.itemsize:
            unreadable(
                self.shown,
                f"{name} has {len(data):,} bytes; its shape asks for {count * dtype.itemsize:,}",
            )
        return np.frombuffer(data, dtype).reshape(dims)

    def _listed(self, tensor: Any, field: str, kind: str, dims: tuple[int, ...], name: str) -> Any:
        try:
            if not field:  # halves, as whole numbers
                values = np.array(tensor.int32_data, np.uint16).view(kind)
            else:
                values = np.array(getattr(tensor, field), kind)
        except OverflowError:
            unreadable(self.shown, f"{name} has values that its type does not have")
        if values.size != math.prod(dims):
            unreadable(self.shown, f"{name} has {values.size:,} values, not as many as its shape")
        return values.reshape(dims)

    def _external(self, tensor: Any, name: str, size: int) -> bytes:
        """The bytes of a tensor in a file of its own; RS952 for one outside of the folder."""
        said = {each.key: each.value for each in tensor.external_data}
        location = said.get("location", "")
        path = self.folder / location
        inside = os.path.realpath(self.folder) == os.path.realpath(path.parent)
        if not location or os.path.basename(location) != location or not inside:
            refused(
                self.shown,
                f"{name} is kept in {quoted(location)}, not in the folder of {quoted(self.shown)}",
                "put the file with the tensors beside the model",
            )
        if os.path.islink(path):
            refused(self.shown, f"{name} is kept in {quoted(location)}, which is a link")
        try:
            offset = int(said.get("offset", "0"))
            with open_regular(path) as file:
                if offset < 0 or offset + size > os.fstat(file.fileno()).st_size:
                    unreadable(self.shown, f"{name} is not whole in {quoted(location)}")
                file.seek(offset)
                return file.read(size)
        except ValueError:
            unreadable(self.shown, f"{name} has no number for its place in {quoted(location)}")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            unreadable(self.shown, f"{name} is kept in {quoted(location)}: {reason}")


# --- the graph -----------------------------------------------------------------------------------


def _input(
    graph: Any, constants: Mapping[str, Any], shown: str, size: tuple[int, int]
) -> tuple[str, tuple[int, int, int, int], tuple[bool, bool]]:
    """The name and the shape of the images, an open batch of 1; whether rows, columns are open."""
    found = [each for each in graph.input if each.name not in constants]
    if len(found) != 1:
        names = ", ".join(quoted(each.name) for each in found[:4]) or "none"
        unsaid(shown, Unsupported(f"it takes {names}, not one batch of images", "the model"))
    dims = [each.dim_value for each in found[0].type.tensor_type.shape.dim]
    if len(dims) != 4:
        shape = "x".join(str(each or "?") for each in dims) or "an unknown shape"
        unsaid(shown, Unsupported(f"its input has {shape}, not (N, C, H, W)", "the model"))
    if found[0].type.tensor_type.elem_type not in _FLOATS:
        unsaid(shown, Unsupported("its images are integers, which it converts itself", "the model"))
    if any(each > MAX_SIZE for each in dims):
        what = f"images of {'x'.join(map(str, dims))}: the language has up to {MAX_SIZE:,} each way"
        unsaid(shown, Unsupported(what, "the model"))
    # Of an open size nothing else is known.
    last = dims[3] in (1, 3, 4) and dims[1] not in (1, 3, 4)
    open_sizes = (1, *size, 3) if last else (1, 3, *size)
    sizes = [each if each > 0 else other for each, other in zip(dims, open_sizes, strict=True)]
    images = (sizes[0], sizes[1], sizes[2], sizes[3])
    rows, columns = dims[1:3] if last else dims[2:]
    return found[0].name, images, (rows <= 0, columns <= 0)


def _check_given(
    nodes: Iterable[Node], names: Iterable[str], sparse: Iterable[Any], shown: str
) -> None:
    """RS951 for a value that a node takes and nothing before it gives; "" is one left out."""
    known = {"", *names}
    for each in sparse:
        what = f"a sparse tensor, {quoted(each.values.name)}"
        unsaid(shown, Unsupported(what, "the model", "export it with its tensors whole"))
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                reason = f"{node.place} takes {quoted(name)}, which is no tensor of the file"
                unreadable(shown, f"{reason} and which no node before it gives", _INCOMPLETE)
        known.update(node.outputs)


def _node(node: Any, tensors: _Tensors) -> Node:
    attributes = {each.name: _attribute(each, tensors) for each in node.attribute}
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    shown = node.name or (node.output[0] if node.output else "")
    plain = node.op_type if kind == ADAPTIVE_POOL.replace("::", ".") else kind
    plain = "".join(each if each.isprintable() else "?" for each in plain)[:80]
    place = f"{plain} {quoted(shown)}" if shown else plain
    inputs, outputs = tuple(node.input), tuple(node.output)
    return Node(kind, _scope(node), place, inputs, outputs, attributes, _norm(node))


def _as_today(node: Node, version: int) -> Node:
    """Before version 13, a softmax goes over its axis, usually the second, and all behind it."""
    if node.kind != "Softmax" or version >= 13:
        return node
    axis = node.attributes.get("axis", 1)
    return node._replace(attributes={**node.attributes, "axis": axis, "all_behind": True})


def _attribute(attribute: Any, tensors: _Tensors) -> Any:
    """The value of an attribute; graphs within are of loops and conditions, which nothing reads."""
    match attribute.type:
        case 1:
            return attribute.f
        case 2:
            return attribute.i
        case 3:
            return attribute.s
        case 4:
            return tensors.array(attribute.t)
        case 6:
            return list(attribute.floats)
        case 7:
            return list(attribute.ints)
        case _:
            return None


# --- names ---------------------------------------------------------------------------------------


def _scope(node: Any) -> str:
    """The layer that a node was written for, by its name: `/layer1/layer1.0/conv1/Conv`."""
    scopes = _scopes(node)
    if scopes is not None:
        return scopes[-2] if len(scopes) > 1 else ""
    match = _SCOPE.fullmatch(node.name)
    if match is None:
        return ""
    parts: list[str] = []
    for each in match[1].split("/"):
        # A child of a container repeats its name: `layer1.0` below `layer1`.
        if parts and each.startswith(f"{parts[-1]}."):
            parts[-1] = each
        else:
            parts.append(each)
    return ".".join(parts)


def _scopes(node: Any) -> list[str] | None:
    """The modules that a node stands in, and its own name, where the exporter writes them."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                return [str(each) for each in ast.literal_eval(entry.value[:4096]) if each]
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                break
    return None


def _norm(node: Any) -> str:
    """The norm that was folded into a convolution, which has its place then."""
    scopes = _scopes(node) or []
    is_folded = node.op_type == "Conv" and len(scopes) > 1 and "batch_norm" in scopes[-1]
    return scopes[-2] if is_folded else ""


def _dotted(names: Iterable[str]) -> dict[str, str]:
    """Parameters' names without what an exporter puts before all of them: `p_` or `b_`.

    Where some have neither, the others are so called by the model.
    """
    matches = {name: _PARAMETER.fullmatch(name) is not None for name in names}
    if all(name.startswith(("p_", "b_")) for name, is_one in matches.items() if is_one):
        return {name: name[2:] if is_one else name for name, is_one in matches.items()}
    return {name: name for name in matches}


def _named(
    nodes: Iterable[Node], constants: Mapping[str, Any], parameters: Mapping[str, str]
) -> tuple[Node, ...]:
    """Nodes with the names of the layers that own their parameters, where these have names.

    A container that is not called itself is in the names of parameters alone: it is put before
    the names of other layers that begin alike.
    """
    owned: dict[int, str] = {}
    containers: dict[str, str] = {}
    given = list(nodes)
    for place, node in enumerate(given):
        for each in node.inputs[1:]:
            name = parameters.get(each, each)
            match = _PARAMETER.fullmatch(name) if each in constants else None
            if match and not each.startswith("onnx::"):
                layer = owned[place] = match["layer"]
                if node.name and layer.endswith(f".{node.name}"):
                    containers[_first(node)] = layer.removesuffix(node.name)
                break
    scoped = (containers.get(_first(node), "") + node.name for node in given)
    return tuple(
        node._replace(name=owned.get(place, name))
        for place, (node, name) in enumerate(zip(given, scoped, strict=True))
    )


def _first(node: Node) -> str:
    return node.name.partition(".")[0]
