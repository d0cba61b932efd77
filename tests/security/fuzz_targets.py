"""What reads the data of strangers, one function for each kind: it may tell findings, and no more.

Each target takes bytes and gives nothing; what it raises is a mistake of ours. Its seeds are what
mutations begin with.
"""

from __future__ import annotations

import importlib.util
import json
import math
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import strategies

from resnet_spec import read_network
from resnet_spec.codegen.generate import generate
from resnet_spec.diagnostics import SpecError
from resnet_spec.diagnostics.render import FORMATS, render
from resnet_spec.expressions import ExpressionError
from resnet_spec.expressions.parse import parse as parse_expression
from resnet_spec.ir import Network
from resnet_spec.language import recipes
from resnet_spec.language.library import Library, builtin_blocks, builtin_recipes
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.lower.unused import findings
from resnet_spec.project import settings

SMALL = b"""\
spec_version: 1
name: net
description: A net
input: {height: 32, width: 32}
classes: 3
stages: [{name: layer1, block: basic, filters: 4}]
head: [{global_avg_pool: pool}, {linear: fc, features: classes}]
"""
LIBRARY = Library()


class Target(NamedTuple):
    reads: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def told(error: SpecError, sources: dict[str, str]) -> None:
    """Each finding can be shown, and none is an internal error."""
    assert error.diagnostics
    assert "RS504" not in {found.code for found in error.diagnostics}, error
    for style in FORMATS:
        assert render(error.diagnostics, sources, style, color=True)


def spec(data: bytes) -> None:
    library = Library()
    try:
        loaded = load("spec.yaml", library, text=data)
        network = lower(loaded)
        if found := findings(loaded, network):
            raise SpecError(found)
        generate(network, ("json", "torch", "keras"))
    except SpecError as error:
        told(error, library.sources)


def override(data: bytes) -> None:
    library = Library()
    try:
        lower(load("spec.yaml", library, (data.decode("utf-8", "replace"),), SMALL))
    except SpecError as error:
        told(error, library.sources)


def in_file(name: str, data: bytes, read: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="resnet-spec-fuzz-") as folder:
        path = Path(folder) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        try:
            read(path)
        except settings.SettingsError as error:
            told(error, dict(error.sources))
        except SpecError as error:
            told(error, {})


def block(data: bytes) -> None:
    from resnet_spec.diagnostics import Report
    from resnet_spec.language.check_names import check_block
    from resnet_spec.language.library import Blocks

    def read(path: Path) -> None:
        report, library = Report(), Library()
        found = library.read_block(path)
        check_block(found, Blocks({}, library, path.parent.parent), report)
        report.raise_if_any()

    in_file("blocks/basic.yaml", data, read)


def recipe(data: bytes) -> None:
    in_file("recipes/fashion_mnist.yaml", data, lambda path: recipes.check_file(path, Library()))


def project(data: bytes) -> None:
    in_file("resnet-spec.toml", data, settings.read)


def expression(data: bytes) -> None:
    try:
        parse_expression(data.decode("utf-8", "replace"))
    except ExpressionError as error:
        assert str(error)


def weights(name: str) -> Callable[[bytes], None]:
    def read(path: Path) -> None:
        from resnet_spec.weights import checkpoint, formats, stated
        from resnet_spec.weights.match import match
        from resnet_spec.weights.naming import OWN
        from resnet_spec.weights.transforms import Asked, transformed

        with formats.opened(path, path.name) as file:
            found, _ = transformed(match(file, small(), [OWN]), Asked())
            stated.differences(found)
            for pair in found.fitting:
                checkpoint.read(pair.tensor, file.shown)

    return lambda data: in_file(name, data, read)


def model(data: bytes) -> None:
    """A graph of ONNX that is to become a spec."""
    from resnet_spec.importing.readers import onnx_file
    from resnet_spec.importing.run import Options, imported

    in_file(
        "a.onnx",
        data,
        lambda path: imported(onnx_file.read(path, path.name), Options("net", "A net"), "net.yaml"),
    )


def keras_model(name: str) -> Callable[[bytes], None]:
    def read(path: Path) -> None:
        from resnet_spec.importing.readers.keras import file
        from resnet_spec.importing.run import Options, imported

        imported(file.read(path, path.name).model, Options("net", "A net"), "net.yaml")

    return lambda data: in_file(name, data, read)


def archive(data: bytes) -> None:
    from resnet_spec.weights.formats.exported import check_archive

    in_file("a.pt2", data, lambda path: check_archive(path, path.name))


# --- what mutations begin with -------------------------------------------------------------------


@cache
def small() -> Network:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.yaml"
        path.write_bytes(SMALL)
        return read_network(str(path))


def written(name: str) -> bytes:
    """A file of weights as we write it."""
    import numpy

    from resnet_spec.weights import formats
    from resnet_spec.weights.entries import entries

    state = {n: numpy.ones(e.parameter.shape, "float32") for n, e in entries(small()).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        formats.write(path, name, small(), state)
        return path.read_bytes()


def hdf5() -> bytes:
    """A file as Keras writes it, without Keras."""
    import io

    import h5py

    from resnet_spec.weights.entries import entries

    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        for number, entry in enumerate(entries(small()).values()):
            group = root.require_group(f"layers/layer_{number}/vars")
            group.attrs["name"] = entry.place("keras").layer
            group.create_dataset("0", data=[1.0])
    return file.getvalue()


def keras() -> bytes:
    import io
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", hdf5())
    return file.getvalue()


def saved(name: str) -> bytes:
    """A small model that Keras 2 saved."""
    return (Path(__file__).parents[1] / "importing" / "data" / name).read_bytes()


def npz() -> bytes:
    import io

    import numpy

    from resnet_spec.weights.entries import entries

    file = io.BytesIO()
    state: dict[str, Any] = {
        n: numpy.ones(e.parameter.shape, "float32") for n, e in entries(small()).items()
    }
    numpy.savez(file, note=numpy.array("a run"), **state)
    return file.getvalue()


def index() -> bytes:
    return json.dumps({"weight_map": {"conv1.weight": "a.safetensors"}}).encode()


def onnx() -> bytes:
    """A graph with one convolution of the network."""
    import numpy
    from onnx import helper, numpy_helper

    kernel = numpy_helper.from_array(numpy.ones((4, 3, 3, 3), "float32"), "layer1.conv1.weight")
    node = helper.make_node("Conv", ["x", kernel.name], ["y"], "/layer1/conv1/Conv", pads=[1] * 4)
    graph = helper.make_graph([node], "g", [], [], [kernel])
    return bytes(helper.make_model(graph).SerializeToString())


def trained() -> bytes:
    """Two blocks of convolutions whose norms were folded into them."""
    import numpy
    from onnx import TensorProto, helper, numpy_helper

    tensors, nodes = [], []

    def layer(kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def affine(kind: str, name: str, given: str, *shape: int, **attributes: Any) -> str:
        for part, size in (("weight", shape), ("bias", shape[:1])):
            values = numpy.ones(size, "float32")
            tensors.append(numpy_helper.from_array(values, f"{name}.{part}"))
        return layer(kind, name, given, f"{name}.weight", f"{name}.bias", **attributes)

    last = layer("Relu", "relu", affine("Conv", "conv1", "x", 4, 3, 3, 3, pads=[1] * 4))
    for block in "ab":
        conv = affine("Conv", f"{block}.conv1", last, 4, 4, 3, 3, pads=[1] * 4)
        act = layer("Relu", f"{block}.act1", conv)
        conv = affine("Conv", f"{block}.conv2", act, 4, 4, 3, 3, pads=[1] * 4)
        last = layer("Relu", f"{block}.act2", layer("Add", f"{block}.sum", conv, last))
    flat = layer("Flatten", "flat", layer("GlobalAveragePool", "pool", last))
    affine("Gemm", "fc", flat, 3, 4, transB=1)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))
    logits = helper.make_tensor_value_info("fc", TensorProto.FLOAT, (1, 3))
    graph = helper.make_graph(nodes, "g", [image], [logits], tensors)
    return bytes(helper.make_model(graph).SerializeToString())


def description() -> bytes:
    """An archive as `torch.export.save` writes it."""
    import io
    import zipfile

    from resnet_spec.weights.entries import entries

    call = {"target": "torch.ops.aten.relu.default", "inputs": [{"name": "x"}], "outputs": []}
    graph = {"graph_module": {"graph": {"nodes": [call]}}, "range_constraints": {}}
    name, parameter = next((n, e.parameter) for n, e in entries(small()).items())
    strides = [math.prod(parameter.shape[axis + 1 :]) for axis in range(len(parameter.shape))]
    meta = {
        "dtype": 7,
        "sizes": [{"as_int": size} for size in parameter.shape],
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": 0},
    }
    entry = {"path_name": "weight_0", "use_pickle": False, "tensor_meta": meta}
    listed = {"config": {name: entry}}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/archive_format", "pt2")
        archive.writestr("a/models/model.json", json.dumps(graph))
        archive.writestr("a/data/weights/model_weights_config.json", json.dumps(listed))
        archive.writestr("a/data/weights/weight_0", b"0" * 4 * math.prod(parameter.shape))
    return file.getvalue()


def torchscript() -> bytes:
    import io

    import torch

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))), file)
    return file.getvalue()


def specs() -> list[bytes]:
    return [strategies.dumped(tree).encode() for tree in strategies.whole_specs()]


TOML = b"""\
[[compile]]
specs = ["specs/**/*.yaml"]
backends = ["torch"]
out = "made"
trainer = true
"""
EXPRESSIONS = (b"max(filters // 4, 8) if stride > 1 else -a % 3", b"make_divisible(a * 0.25, 8)")
OVERRIDES = (b"classes=10", b"stages.layer1.repeat=2", b"stem=[{conv: a, filters: 3, kernel: 1}]")

TARGETS: dict[str, Target] = {
    "spec": Target(spec, specs),
    "override": Target(override, lambda: list(OVERRIDES)),
    "block": Target(block, lambda: [path.read_bytes() for path in builtin_blocks().values()]),
    "recipe": Target(recipe, lambda: [path.read_bytes() for path in builtin_recipes().values()]),
    "settings": Target(project, lambda: [TOML]),
    "expression": Target(expression, lambda: list(EXPRESSIONS)),
    "archive": Target(archive, lambda: [description()]),
}
if importlib.util.find_spec("safetensors") and importlib.util.find_spec("h5py"):
    TARGETS |= {
        "safetensors": Target(weights("a.safetensors"), lambda: [written("a.safetensors")]),
        "hdf5": Target(weights("a.weights.h5"), lambda: [hdf5()]),
        "keras": Target(weights("a.keras"), lambda: [keras()]),
        "keras_model": Target(keras_model("a.keras"), lambda: [saved("keras2.keras")]),
        "keras_model_hdf5": Target(keras_model("a.h5"), lambda: [saved("keras2.h5")]),
        "npz": Target(weights("a.npz"), lambda: [npz()]),
        "exported": Target(weights("a.pt2"), lambda: [description()]),
        "index": Target(weights("a.safetensors.index.json"), lambda: [index()]),
    }
if importlib.util.find_spec("onnx"):
    TARGETS["onnx"] = Target(weights("a.onnx"), lambda: [onnx()])
    TARGETS["model"] = Target(model, lambda: [trained(), onnx()])
if importlib.util.find_spec("torch"):
    TARGETS["torchscript"] = Target(weights("a.pth"), lambda: [torchscript()])
    TARGETS["pytorch"] = Target(weights("a.pt"), lambda: [written("a.pt")])

TOKENS = (
    *(text.encode("utf-8", "surrogatepass") for text in strategies.HOSTILE_TEXTS),
    b"", b"\0", b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"[" * 70, b"{" * 70, b"- " * 70, b"&a ", b"*a",
    b"<<: ", b"!!python/object/apply:os.system ", b"1e999", b"-1", b"0", b"2**99", b"99999999999",
    b"null", b"true", b".nan", b"extends: ", b"\n", b"\r", b"\t", b": ", b"'", b'"', b"# ", b"|\n",
    json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode(),
)  # fmt: skip
