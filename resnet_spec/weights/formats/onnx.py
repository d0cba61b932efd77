"""ONNX: the constants of a graph, by the names of the layers that they belong to.

A constant is called as the exporter called it, or after the scope of the node that takes it; which
one it is follows from its place among the node's inputs. Nothing is run. Values in another file are
read where it stands beside the graph.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.weights.checkpoint import CUT_OFF, Checkpoint, Tensor, bounded, refused, unreadable
from resnet_spec.weights.formats import onnx_graph, onnx_model

_MAX_BYTES = 2**31  # of the format itself
_ROLES = {
    "Conv": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("", "weight"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
}
_NAMED = re.compile(r"(.+)\.(weight|bias|running_mean|running_var)")
# What exporters put behind a layer's name: operations of TensorFlow, and of its converter.
_OF_TENSORFLOW = re.compile(
    r"(/(Conv2D|depthwise|separable_conv2d|convolution|MatMul|BiasAdd|FusedBatchNorm\w*|batchnorm|"
    r"ReadVariableOp|Cast|Reshape|add|mul)(_\d+)?)+(__\d+)?(:\d+)?$"
)
_SUMMED = ("MatMul", "Mul")
_LEAF = re.compile(r"[._](weights?|kernel|scale|gamma)$")
_FUSED = "_weights_fused_bn"  # of a kernel into which TensorFlow's converter folded a norm


class _Constant(NamedTuple):
    """A constant of the graph; `read` gives its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Any

    def transposed(self, axes: tuple[int, ...]) -> _Constant:
        shape = tuple(self.shape[axis] for axis in axes)
        return self._replace(shape=shape, read=partial(_transposed, self.read, axes))


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The constants of the layers of a graph, and what its nodes state."""
    graph = _graph(path, shown)
    constants = _constants(graph, path, shown)
    owners: dict[int, str] = {}
    tensors = bounded(_tensors(graph, constants, owners), shown)
    if not tensors:
        unreadable(shown, f"{quoted(shown)} is a graph of ONNX without weights in it")
    stated = onnx_graph.stated(graph, owners)
    yield Checkpoint(shown, "ONNX", "torch", tensors, stated=stated)


def _graph(path: Path, shown: str) -> Any:
    with open_regular(path) as file:
        data = file.read(_MAX_BYTES)
    try:
        model = onnx_model.parsed(data)
    except ValueError as error:
        what = f"{quoted(shown)} is no file of weights that is known, and {error}"
        unreadable(shown, what, CUT_OFF)
    if not model.graph.node:
        unreadable(shown, f"{quoted(shown)} is no graph of ONNX: it has no nodes")
    return model.graph


# - constants -


def _constants(graph: Any, path: Path, shown: str) -> dict[str, _Constant]:
    """Initializers, constant nodes, and what the graph makes of them by itself."""
    found = {each.name: _constant(each.name, each, path, shown) for each in graph.initializer}
    for node in graph.node:
        if not node.output:
            continue
        given = onnx_graph.attributes(node)
        if node.op_type == "Constant" and "value" in given:
            found[node.output[0]] = _constant(node.output[0], given["value"], path, shown)
        source = found.get(node.input[0]) if node.input else None
        if source is None:
            continue
        if node.op_type == "Identity":
            found[node.output[0]] = source
        elif node.op_type == "Transpose":
            axes = given.get("perm") or list(reversed(range(len(source.shape))))
            if sorted(axes) == list(range(len(source.shape))):
                found[node.output[0]] = source.transposed(tuple(axes))
    return found


def _constant(name: str, tensor: Any, path: Path, shown: str) -> _Constant:
    from onnx import helper

    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        unreadable(shown, f"{quoted(name)} in {quoted(shown)} has a type that is none")
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        unreadable(shown, f"{quoted(name)} in {quoted(shown)} has a size below zero")
    read = partial(_array, tensor, shape, dtype, path, shown)
    return _Constant(name, shape, dtype.name, read)


def _array(tensor: Any, shape: tuple[int, ...], dtype: Any, path: Path, shown: str) -> Any:
    import numpy
    from onnx import TensorProto, numpy_helper

    if tensor.data_location != TensorProto.EXTERNAL:
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise EOFError(str(error)) from None
    size = math.prod(shape) * dtype.itemsize
    with open_regular(_beside(tensor, path, shown)) as file:
        file.seek(_number(tensor, "offset"))
        data = file.read(size)
    if len(data) < size:
        raise EOFError(f"the file beside it has {len(data):,} of {size:,} bytes")
    return numpy.frombuffer(data, dtype).reshape(shape)


def _beside(tensor: Any, path: Path, shown: str) -> Path:
    """The file with a tensor's values, which has to stand beside the graph."""
    given = {each.key: each.value for each in tensor.external_data}
    location = given.get("location", "").removeprefix("./")
    if location in ("", ".", "..") or set("/\\\0") & set(location):
        refused(shown, f"{quoted(tensor.name)} in {quoted(shown)} leads to another place or file")
    return path.with_name(location)


def _number(tensor: Any, key: str) -> int:
    text = next((each.value for each in tensor.external_data if each.key == key), "0")
    if not text.isdigit():
        raise EOFError(f"{key} is no number")
    return int(text)


def _transposed(read: Any, axes: tuple[int, ...]) -> Any:
    return read().transpose(axes)


# - whose they are -


def _tensors(
    graph: Any, constants: Mapping[str, _Constant], owners: dict[int, str]
) -> Iterator[Tensor]:
    """The constants of layers by dotted names; `owners` gets the layer of each node's number."""
    made = {node.output[0]: number for number, node in enumerate(graph.node) if node.output}
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        roles = _ROLES.get(node.op_type)
        held = _held(node, roles, constants) if roles else {}
        if node.op_type == "Mul":  # the scale of a norm, whose statistics are in it
            scale = _vector(node, constants)
            held = {} if scale is None else {"weight": scale}
        elif node.op_type == "Add":  # its centre, or the bias of a multiplication by a matrix
            sums = [made[name] for name in node.input if name in made]
            bias = _vector(node, constants)
            owner = owners.get(sums[0]) if len(sums) == 1 else None
            if owner is not None and bias is not None and graph.node[sums[0]].op_type in _SUMMED:
                yield from _of_layer(owner, {"bias": bias}, taken)
            continue
        if "weight" in held:
            owners[number] = _owner(node, held["weight"])
            yield from _of_layer(owners[number], held, taken)


def _held(
    node: Any, roles: tuple[str, ...], constants: Mapping[str, _Constant]
) -> dict[str, _Constant]:
    """The constants of a node by what they are, matrices as PyTorch has them."""
    given = zip(roles, node.input, strict=False)
    held = {role: constants[name] for role, name in given if role and name in constants}
    weight = held.get("weight")
    if weight is None or node.op_type not in ("MatMul", "Gemm") or len(weight.shape) != 2:
        return held
    if node.op_type == "MatMul" or not onnx_graph.attributes(node).get("transB", 0):
        held["weight"] = weight.transposed((1, 0))
    return held


def _of_layer(owner: str, held: Mapping[str, _Constant], taken: set[str]) -> Iterator[Tensor]:
    for role, constant in held.items():
        name = f"{owner}.{role}"
        while name in taken:  # a layer that runs twice, or two without a name
            name += "'"
        taken.add(name)
        yield Tensor(name, constant.shape, constant.dtype, constant.read)


def _owner(node: Any, weight: _Constant) -> str:
    """The layer's dotted name: from the constant's where it has one, else from the node's scope."""
    named = _NAMED.fullmatch(weight.name)
    if named is not None and not weight.name.startswith("onnx::"):
        return named[1]
    scopes = next(
        (each.value for each in node.metadata_props if each.key == "pkg.torch.onnx.name_scopes"), ""
    )
    if scopes:
        return _innermost(scopes)
    if "/" in weight.name and not weight.name.startswith("/"):
        name = weight.name.removesuffix(":0").removesuffix(_FUSED)
        return _OF_TENSORFLOW.sub("", name).replace("/", ".")
    for name in (node.name, *node.output):  # one that a converter made anew has its output's alone
        if "/" in name:
            return _scope(_OF_TENSORFLOW.sub("", name))
    return _LEAF.sub("", weight.name) or node.name


def _innermost(scopes: str) -> str:
    """The last module of `['', 'layer1', 'layer1.0', 'conv']`, whose last part is an operation."""
    try:
        found = [str(each) for each in ast.literal_eval(scopes[:10_000]) if each]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ""
    return found[-2] if len(found) > 1 else "".join(found)


def _scope(name: str) -> str:
    """`/layer1/layer1.0/conv1/Conv` as `layer1.0.conv1`: a container's name is repeated within."""
    parts: list[str] = []
    for part in name.strip("/").split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        elif not part[:1].isupper():
            parts.append(part)
    return ".".join(parts)


def _vector(node: Any, constants: Mapping[str, _Constant]) -> _Constant | None:
    """The constant of a node that has a number for each channel."""
    found = [constants[name] for name in node.input if name in constants]
    if len(found) != 1:
        return None
    size = math.prod(found[0].shape)
    if size < 2 or size not in found[0].shape:
        return None
    return found[0]._replace(shape=(size,), read=partial(_ravel, found[0].read))


def _ravel(read: Any) -> Any:
    return read().reshape(-1)
