"""`import`: what it writes, what it tells, what it refuses, and that its proof finds mistakes."""

from __future__ import annotations

import contextlib
import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
import safetensors.numpy as safetensors

from resnet_spec import cli
from resnet_spec.importing import carry, proof
from resnet_spec.importing.frontend import layers
from resnet_spec.importing.readers import onnx_file, tensors
from resnet_spec.importing.writing.yaml_text import spec_text
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

pytestmark = pytest.mark.torch

SPEC = networks.SMALL.format("bottleneck", 4, 8)


class Result:
    """What a command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Result:
        code = cli.main(["import", *arguments])
        done = capsys.readouterr()
        return Result(code, done.out, done.err)

    return command


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The small network as ONNX, each norm by itself."""
    return exported(tmp_path, SPEC)


def exported(folder: Path, spec: str, folds: bool = False, name: str = "model.onnx") -> str:
    network = lower(load("small.yaml", Library(), text=spec.encode()))
    shape = (1, *network.input.dimensions)
    networks.exported(networks.built(network), shape, folder / name, folds)
    return name


def test_writes_a_spec_and_weights(run: Run, model: str, tmp_path: Path) -> None:
    result = run(model, "--out", "mine.yaml", "--weights", "mine.safetensors")
    assert result.code == 0, result.err
    expected = SPEC.replace("small", "mine", 1).replace(
        "A small network", "Imported from model.onnx"
    )
    written = (tmp_path / "mine.yaml").read_text()
    assert [line for line in written.splitlines() if line] == expected.splitlines()
    assert "same graph: " in result.out and "4 blocks of the library" in result.out
    assert "same logits: " in result.out
    assert cli.main(["check", "mine.yaml"]) == 0
    assert cli.main(["weights", "inspect", "mine.safetensors", "mine.yaml"]) == 0


def test_nothing_is_replaced_without_force(run: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine\n")
    result = run(model, "--out", "mine.yaml", "--weights", "w.safetensors")
    assert result.code == 2 and "RS602" in result.err
    assert (tmp_path / "mine.yaml").read_text() == "mine\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.yaml", "model.onnx"]


def test_the_model_is_never_replaced(run: Run, model: str, tmp_path: Path) -> None:
    before = (tmp_path / model).read_bytes()
    os.link(tmp_path / model, tmp_path / "link.yaml")
    os.link(tmp_path / model, tmp_path / "link.safetensors")
    for flags in (("--out", "link.yaml"), ("--out", "o.yaml", "--weights", "link.safetensors")):
        result = run(model, *flags, "--force")
        assert result.code == 2 and f"{flags[-1]}' is the file that is read" in result.err
    assert (tmp_path / model).read_bytes() == before and not (tmp_path / "o.yaml").exists()


def test_blocks_of_its_own(run: Run, model: str, tmp_path: Path) -> None:
    result = run(model, "--out", "mine.yaml", "--no-library", "--name", "other")
    assert result.code == 0, result.err
    text = (tmp_path / "mine.yaml").read_text()
    assert "name: other\n" in text and "blocks:\n  residual_block:\n" in text
    assert "when: stride != 1 or in_channels != out_channels" in text


def test_folded_norms_are_told(run: Run, tmp_path: Path) -> None:
    model = exported(tmp_path, SPEC, folds=True)
    auto = run(model, "--out", "auto.yaml")
    assert "15 convolutions have a bias and no norm" in auto.err
    kept = run(model, "--out", "kept.yaml", "--unfold-norms", "no")
    assert kept.code == 0, kept.err
    text = (tmp_path / "kept.yaml").read_text()
    assert "norm: none" in text and "conv: {bias: true}" in text and "bottleneck" in text


def strided(node: Any) -> bool:
    """Whether a node is a convolution with a window of three and a stride of two."""
    stated = {each.name: [*each.ints] for each in node.attribute}
    return stated.get("kernel_shape") == [3, 3] and stated.get("strides") == [2, 2]


@pytest.mark.parametrize("before", ["zeros before it", "its own padding"])
def test_padding_on_one_side_is_told(before: str, run: Run, model: str, tmp_path: Path) -> None:
    """It is TensorFlow's rule for images of an even size alone."""
    import onnx
    from onnx import numpy_helper

    assert "padded on one side" not in run(model, "--out", "even.yaml").err
    graph = onnx.load(tmp_path / model)
    first = next(each for each in graph.graph.node if strided(each))
    sides = next(each for each in first.attribute if each.name == "pads")
    if before == "its own padding":
        sides.ints[:] = [0, 0, 1, 1]
    else:
        sides.ints[:] = [0, 0, 0, 0]
        values = np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64)
        graph.graph.initializer.append(numpy_helper.from_array(values, "sides"))
        pad = onnx.helper.make_node("Pad", [first.input[0], "sides"], ["padded"], "pad")
        first.input[0] = "padded"
        graph.graph.node.insert([*graph.graph.node].index(first), pad)
    onnx.save(graph, tmp_path / "one_sided.onnx")
    result = run("one_sided.onnx", "--out", "odd.yaml")
    assert result.code == 0 and "are padded on one side" in result.err, result.err
    assert "padding: same" in (tmp_path / "odd.yaml").read_text()


# --- mistakes that are planted -------------------------------------------------------------------


def test_the_proof_finds_a_stride_in_another_place(
    run: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(spec: Any) -> str:
        return spec_text(spec).replace("bottleneck,", "bottleneck_v1,")

    monkeypatch.setattr("resnet_spec.importing.run.spec_text", moved)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 1 and "RS954" in result.err and "another graph" in result.err
    assert "only in the spec: conv(filters=8,kernel=1,stride=2" in result.err
    assert not (tmp_path / "mine.yaml").exists()


def test_the_proof_finds_a_weight_in_another_place(
    run: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = carry.Carried.put

    def put(self: carry.Carried, op: Any, values: Any, sources: Any) -> None:
        original(self, op, values, sources)
        pair = "layer1.0.conv1.weight", "layer1.1.conv1.weight"
        if pair[1] in self.state and self.state[pair[1]].shape == self.state[pair[0]].shape:
            self.state[pair[0]], self.state[pair[1]] = (self.state[each] for each in pair[::-1])

    spec = SPEC.replace("filters: 8, kernel: 3", "filters: 16, kernel: 3")
    other = exported(tmp_path, spec)
    monkeypatch.setattr(carry.Carried, "put", put)
    result = run(other, "--out", "mine.yaml", "--weights", "mine.safetensors")
    assert result.code == 1 and "RS954" in result.err and "computes something else" in result.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx"]


def test_the_proof_finds_an_epsilon_that_was_dropped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.replace("stem:", "defaults: {norm: {batch_norm: {eps: 0.1}}}\nstem:")
    model = exported(tmp_path, spec)
    assert run(model, "--out", "right.yaml").code == 0
    assert "norm: {batch_norm: {eps: 0.1}}" in (tmp_path / "right.yaml").read_text()
    monkeypatch.setattr(layers, "epsilon", lambda call: 1e-5)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 1 and "computes something else" in result.err


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_an_output_that_does_not_depend_on_the_images_is_told(
    run: Run, model: str, tmp_path: Path, bias: float
) -> None:
    assert "the same for other images" not in run(model, "--out", "right.yaml").err

    def change(proto: Any) -> None:
        fc = next(each for each in proto.graph.initializer if each.name == "fc.weight")
        fc.raw_data = np.zeros(fc.dims, np.float32).tobytes()
        (shift,) = (each for each in proto.graph.initializer if each.name == "fc.bias")
        shift.raw_data = np.full(shift.dims, bias, np.float32).tobytes()

    edited(tmp_path / model, change)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 0 and "same logits: 0.0e+00 apart" in result.out, result.err
    assert "note: the logits are the same for other images" in result.err


def test_without_a_runtime_the_logits_are_not_compared(
    run: Run, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "installed", lambda package: package != "onnxruntime")
    result = run(model, "--out", "mine.yaml")
    assert result.code == 0
    assert "logits not compared: onnxruntime is not installed" in result.out


# --- what is refused -----------------------------------------------------------------------------


def onnx_of(module: Any, shape: tuple[int, ...], path: Path) -> str:
    networks.exported(module.eval(), shape, path)
    return path.name


def test_what_the_language_can_not_say_is_named(run: Run, tmp_path: Path) -> None:
    from torch import nn

    body = nn.Sequential(nn.Conv2d(3, 8, (1, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    result = run(onnx_of(body, (1, 3, 32, 32), tmp_path / "a.onnx"), "--out", "mine.yaml")
    assert result.code == 1
    assert (
        "a.onnx:1:1: error RS953: Conv '/0/Conv': a window of 1x3: windows are square" in result.err
    )
    bounded = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    result = run(onnx_of(bounded, (1, 3, 32, 32), tmp_path / "b.onnx"), "--out", "mine.yaml")
    assert "RS953: Clip '/1/Clip': the language has no operation for bounds from 0.0 to 6.0" in (
        result.err
    )
    assert not (tmp_path / "mine.yaml").exists()


def edited(path: Path, change: Callable[[Any], None]) -> None:
    import onnx

    proto = onnx.load(str(path), load_external_data=False)
    change(proto)
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "", "folder/file.bin"])
def test_tensors_outside_of_the_folder_are_refused(
    run: Run, model: str, tmp_path: Path, location: str
) -> None:
    def change(proto: Any) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location

    edited(tmp_path / model, change)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 1 and "RS952" in result.err and "not in the folder" in result.err


def test_tensors_beside_the_model_are_read(run: Run, model: str, tmp_path: Path) -> None:
    def change(proto: Any) -> None:
        for tensor in proto.graph.initializer:
            (tmp_path / "weights.bin").open("ab").write(tensor.raw_data)
            size, end = len(tensor.raw_data), (tmp_path / "weights.bin").stat().st_size
            tensor.ClearField("raw_data")
            tensor.data_location = 1
            for key, value in (
                ("location", "weights.bin"), ("offset", str(end - size)), ("length", str(size)),
            ):  # fmt: skip
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value

    edited(tmp_path / model, change)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 0, result.err
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:-1])
    assert "is not whole in 'weights.bin'" in run(model, "--out", "other.yaml").err


def test_huge_sizes_are_refused_before_they_are_made(run: Run, model: str, tmp_path: Path) -> None:
    def change(proto: Any) -> None:
        from onnx import helper, numpy_helper

        size = numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "size")
        proto.graph.initializer.append(size)
        proto.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["huge"]))

    edited(tmp_path / model, change)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 1 and "a constant of 1048576x1048576 is too large" in result.err


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "'bad.onnx' is empty"),
        (b"\x08\x07\xff\xff\xff", "'bad.onnx' is no whole ONNX file"),
        (safetensors.save({"a": np.ones(3)}), "'bad.onnx' is a file of weights alone: it has no"),
        (b"hello", "'bad.onnx' is no model"),
    ],
)
def test_other_files_are_named(run: Run, tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(data)
    result = run("bad.onnx", "--out", "mine.yaml")
    assert result.code == 1 and f"RS951: {message}" in result.err


def with_integers(proto: Any) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = 2


def with_huge_images(proto: Any) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 100_000


def with_no_numbers(proto: Any) -> None:
    bias = next(each for each in proto.graph.initializer if len(each.dims) == 1)
    bias.raw_data = np.full(bias.dims[0], np.nan, np.float32).tobytes()


def with_an_old_softmax(proto: Any) -> None:
    """Of a map: before version 13 over channels, rows and columns together."""
    from onnx import helper

    proto.opset_import[0].version = 11
    place, conv = next((i, n) for i, n in enumerate(proto.graph.node) if n.op_type == "Conv")
    softmax = helper.make_node("Softmax", ["before_softmax"], [conv.output[0]], axis=1)
    conv.output[0] = "before_softmax"
    proto.graph.node.insert(place + 1, softmax)


def with_a_value_given_twice(proto: Any) -> None:
    first, second, *_ = (node for node in proto.graph.node if node.op_type == "Relu")
    second.output[0] = first.output[0]


def with_rounded_values(proto: Any) -> None:
    from onnx import helper

    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    output, relu.output[0] = relu.output[0], "exact"
    casts = (("exact", "whole", "rounded", 6), ("whole", output, "back", 1))
    for given, made, name, kind in casts:
        proto.graph.node.append(helper.make_node("Cast", [given], [made], name=name, to=kind))
    order = [*proto.graph.node]
    at = order.index(relu) + 1
    order[at:at] = [order.pop(-2), order.pop(-1)]
    del proto.graph.node[:]
    proto.graph.node.extend(order)


def with_a_line_in_an_operator(proto: Any) -> None:
    next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Bad\nx.py:1:1: y"


def with_no_stride(proto: Any) -> None:
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    next(each for each in conv.attribute if each.name == "strides").ints[:] = [0, 0]


def with_nodes_out_of_order(proto: Any) -> None:
    order = [*proto.graph.node][::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(order)


def without_a_tensor(proto: Any) -> None:
    held = proto.graph.initializer
    held.remove(next(each for each in held if each.name == "fc.bias"))


def with_a_sparse_tensor(proto: Any) -> None:
    without_a_tensor(proto)
    proto.graph.sparse_initializer.add().values.name = "fc.bias"


def having(kind: str) -> Callable[[Any], None]:
    """What has the first activation stand in a graph within the graph."""

    def change(proto: Any) -> None:
        from onnx import TensorProto, helper

        relu = next(node for node in proto.graph.node if node.op_type == "Relu")
        given, output = relu.input[0], helper.make_tensor_value_info("made", 1, None)
        body = helper.make_graph([helper.make_node("Relu", [given], ["made"])], "b", [], [output])
        proto.graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
        bodies: dict[str, dict[str, Any]] = {
            "If": {"then_branch": body, "else_branch": body},
            "Loop": {"body": body},
            "Scan": {"body": body, "num_scan_inputs": 1},
        }
        inputs = {"If": ["true"], "Loop": ["", "true", given], "Scan": [given]}[kind]
        made = helper.make_node(kind, inputs, [*relu.output], name="inner", **bodies[kind])
        relu.CopyFrom(made)

    change.__name__ = f"having_{kind}"
    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_integers, "RS953: the model: its images are integers, which it converts itself"),
        (with_a_line_in_an_operator, "RS953: Bad?x.py:1:1: y '/act1/Relu'"),
        (with_huge_images, "RS953: the model: images of 1x3x100000x32"),
        (with_no_numbers, "RS951: the output of 'model.onnx' is not finite"),
        (with_an_old_softmax, "a softmax over several axes at once"),
        (with_a_value_given_twice, "RS951: 'model.onnx' is no ONNX file: two nodes give "),
        (with_rounded_values, "RS953: Cast 'rounded': a cast to whole numbers or truth values"),
        (with_no_stride, "strides of [0, 0]: the language has at least 1"),
        (with_nodes_out_of_order, "which no node before it gives"),
        (
            without_a_tensor,
            "RS951: Gemm '/fc/Gemm' takes 'fc.bias', which is no tensor of the file",
        ),
        (with_a_sparse_tensor, "RS953: the model: a sparse tensor, 'fc.bias'"),
        *(
            (having(kind), f"RS953: {kind} 'inner': the language has no {what}: a network is one")
            for kind, what in (("If", "conditions"), ("Loop", "loops"), ("Scan", "loops"))
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_would_come_out_wrong_is_refused(
    run: Run, model: str, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    edited(tmp_path / model, change)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 1 and message in result.err
    assert not (tmp_path / "mine.yaml").exists()


def test_what_the_runtime_can_not_run_is_told(run: Run, model: str, tmp_path: Path) -> None:
    def change(proto: Any) -> None:
        proto.ir_version = 99

    edited(tmp_path / model, change)
    result = run(model, "--out", "mine.yaml")
    assert result.code == 0, result.err
    assert "logits not compared: ONNX Runtime can't run it: " in result.out


def test_images_of_any_size_are_told(run: Run, model: str, tmp_path: Path) -> None:
    def change(proto: Any) -> None:
        for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
            dim.ClearField("dim_value")

    edited(tmp_path / model, change)
    result = run(model, "--out", "mine.yaml", "--input", "3x40x48")
    assert result.code == 0, result.err
    assert "it takes images of any size; the spec says 40x48, or what --input says" in result.err


def test_usage(run: Run, model: str) -> None:
    assert "must end in .yaml" in run(model, "--out", "mine.txt").err
    assert "must end in one of" in run(model, "--out", "m.yaml", "--weights", "w.bin").err
    assert "is not of the form 3x224x224" in run(model, "--out", "m.yaml", "--input", "32").err
    named = run(model, "--out", "m.yaml", "--name", "torch").err
    assert "use another name: torch_net (--name)" in named
    taken = run(model, "--out", "self.yaml").err
    assert "a network can't be called 'self'" in taken and "choose another one: --name" in taken


# --- PyTorch -------------------------------------------------------------------------------------

MODULE = """\
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 8 * 8, 10),
    )

def number():
    return 1

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = build()

    def forward(self, images):
        return self.inner(images if images.max() < 20 else images / 255)
"""


def test_code_that_decides_by_values_is_refused(run: Run, tmp_path: Path) -> None:
    """Also where it decides outside of PyTorch, which no trace of it shows."""
    outside = MODULE.replace("images.max() < 20", "images.numpy().max() < 20")
    for text, where in ((MODULE, "at mynets.py:19 by values"), (outside, "for pixels from 0 to")):
        (tmp_path / "mynets.py").write_text(text)
        result = run("mynets.py:Scaled", "--out", "mine.yaml", "--input", "3x32x32")
        assert result.code == 1 and "RS953" in result.err and where in result.err
    assert not (tmp_path / "mine.yaml").exists()


def test_a_function_of_the_users(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mynets.py").write_text(MODULE)
    for name in ("mynets:build", "mynets.py:build"):
        result = run(name, "--out", "mine.yaml", "--input", "3x32x32", "--force")
        assert result.code == 0, result.err
        assert f"running the code of {name}" in result.err
        assert "same logits: 0.0e+00 apart" in result.out
    text = (tmp_path / "mine.yaml").read_text()
    assert "norm: none" in text and "{flatten: flatten, height: 8}" in text
    assert "gives a int, no torch.nn.Module" in run("mynets:number", "--out", "b.yaml").err


ENDING = """\
import atexit, logging, pathlib, sys, tempfile, warnings
import kept_apart

log = open("log.txt", "w")
log.write("begun, ")
kept = tempfile.NamedTemporaryFile(dir=".", prefix="kept")
atexit.register(lambda: log.write("ended"))
warnings.showwarning = lambda *given: print(log)  # is held from outside

class Closing(logging.Handler):
    def close(self):
        import kept_apart  # the same as before
        pathlib.Path("closed.txt").write_text(kept_apart.state)

logging.getLogger("ending").addHandler(Closing())
kept_apart.state = "changed"

class Odd:
    def __getattr__(self, name): return Odd()

sys.modules["odd"] = Odd()
"""


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_users_code_does_at_its_end_is_done(run: Run, tmp_path: Path, fails: bool) -> None:
    """As at the end of any program, also in a folder that is no package, and when it is refused."""
    (tmp_path / "models").mkdir()
    build = MODULE.replace("nn.ReLU()", "nn.ELU()") if fails else MODULE
    (tmp_path / "models" / "ending.py").write_text(ENDING + build)
    (tmp_path / "kept_apart.py").write_text("state = 'new'\nopen('runs.txt', 'a').write('run ')\n")
    result = run("models.ending:build", "--out", "ended.yaml", "--input", "3x32x32")
    assert result.code == fails, result.err
    assert (tmp_path / "log.txt").read_text() == "begun, ended"
    assert (tmp_path / "closed.txt").read_text() == "changed"
    assert (tmp_path / "runs.txt").read_text() == "run "
    assert list(tmp_path.glob("kept*")) == [tmp_path / "kept_apart.py"]


DROPPED = """\
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        y = self.drop(torch.relu(self.bn1(self.conv1(x))))
        return torch.relu(self.bn2(self.conv2(y)) + x)

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Block(), Block(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 4),
    )
"""


@pytest.mark.parametrize("source", ["dropped.py:build", "dropped.pt2"])
def test_dropout_comes_back(run: Run, tmp_path: Path, source: str) -> None:
    import torch

    (tmp_path / "dropped.py").write_text(DROPPED)
    if source.endswith(".pt2"):
        found: dict[str, Any] = {}
        exec(DROPPED, found)
        program = torch.export.export(found["build"]().eval(), (torch.zeros(1, 3, 12, 12),))
        torch.export.save(program, str(tmp_path / source))
    own = run(source, "--out", "own.yaml", "--input", "3x12x12", "--no-library")
    assert own.code == 0 and "left out" not in own.err, own.err
    text = (tmp_path / "own.yaml").read_text()
    assert text.count("dropout: ") == 2 and ", rate: 0.3}\n" in text and ", rate: 0.2}\n" in text
    assert "same logits: 0.0e+00 apart" in own.out
    library = run(source, "--out", "library.yaml", "--input", "3x12x12")
    assert library.err.count("note: dropout is left out: ") == 1 and "of 0.3" in library.err
    text = (tmp_path / "library.yaml").read_text()
    assert "block: basic" in text and text.count("dropout: ") == 1


TRAINED = """\
import atexit, pathlib, sys, tempfile
import torch
from torch import nn

kept = tempfile.NamedTemporaryFile(dir=".", prefix="kept")
assert sys.stdin.read() == ""  # what it reads is not what it is asked

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        y = self.bn(self.conv(x))
        return torch.relu(self.drop(y * y) + x)

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout2d(0.2), Block(), Block(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""


def test_dropout_before_a_sum_comes_back_and_of_channels_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trained.py").write_text(TRAINED)
    result = run("trained:build", "--out", "trained.yaml", "--input", "3x12x12")
    assert result.code == 0, result.err
    assert "note: what is done in training alone is left out: dropout2d" in result.err
    assert "{dropout: drop, rate: 0.3}" in (tmp_path / "trained.yaml").read_text()
    assert list(tmp_path.glob("kept*")) == []


WRAPPED = """\
import torch
from torch import nn
from torch.nn.utils import parametrizations

def build():
    return nn.DataParallel(torch.compile(nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(),
        parametrizations.spectral_norm(nn.Conv2d(8, 8, 3)), nn.ReLU(),
        nn.utils.weight_norm(nn.Conv2d(8, 8, 3)), nn.ReLU(), nn.MaxPool2d(2),
        nn.utils.spectral_norm(nn.Conv2d(8, 8, 1)), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    )))
"""


def test_what_is_around_a_model_is_left_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "wrapped.py").write_text(WRAPPED)
    result = run("wrapped.py:build", "--out", "mine.yaml", "--input", "3x12x12")
    assert result.code == 0, result.err
    assert "same logits: " in result.out
    assert (
        "{conv: conv1, filters: 8, kernel: 3, padding: 0}" in (tmp_path / "mine.yaml").read_text()
    )


SLOW = """\
import subprocess, sys, time

def build():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"])
    time.sleep(60)
"""


def test_a_function_has_a_time_limit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    begin = time.monotonic()
    result = run("slow:build", "--out", "mine.yaml", "--time-limit", "2")
    assert result.code == 1 and "RS951: 'slow:build' gave no answer within 2 seconds" in result.err
    assert "give it more time: --time-limit 4" in result.err
    assert time.monotonic() - begin < 30 and not (tmp_path / "mine.yaml").exists()
    for wrong in ("0", "-1", "nan", "inf"):
        assert run("slow:build", "--out", "mine.yaml", f"--time-limit={wrong}").code == 2


# What a function does with its own process, before it gives a model; and what is told of it.
ROUGH = {
    "leaves a process": ("os.fork() or time.sleep(60)", ""),
    "comes back twice": ("os.fork()", ""),
    "is left by its parent": (
        "os.fork() and os._exit(7); time.sleep(60)",
        "RS951: 'rough:build' gave no model: the process ended with code 7",
    ),
    "closes all files": (
        "os.closerange(0, 64)",
        "RS951: 'rough:build' gave no model: the process ended with code 120: something had closed",
    ),
    "prints no end": ("print('a', end=''); os.write(1, b'b' * 100_000)", ""),
}
# Where the function notes which processes there are.
NOTED = """\
import os, time
from pathlib import Path
from torch import nn

def build():
    {0}
    with Path("processes").open("a") as file:
        file.write(f"{{os.getpgid(0)}}\\n")
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.mark.parametrize("how", ROUGH)
def test_a_function_that_is_rough_with_processes(how: str, run: Run, tmp_path: Path) -> None:
    """It neither holds up the command until its time is over, nor leaves anything that runs."""
    does, told = ROUGH[how]
    (tmp_path / "rough.py").write_text(NOTED.format(does))
    begin = time.monotonic()
    result = run("rough:build", "--out", "mine.yaml", "--input", "3x8x8", "--no-library")
    assert time.monotonic() - begin < 50
    assert (result.code, told in result.err) == (1 if told else 0, True), result.err
    assert (tmp_path / "mine.yaml").exists() != bool(told)
    while not told and any(map(lasts, (tmp_path / "processes").read_text().split())):
        assert time.monotonic() - begin < 60
        time.sleep(0.05)


def lasts(group: str) -> bool:
    """Whether there are processes of a group, or some that ended and were not asked how."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(int(group), 0)
        return True
    return False


def test_tensors_are_mapped_not_read(tmp_path: Path) -> None:
    given = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.turned": np.arange(6.0).reshape(2, 3).T,
        "a.count": np.array(7),
        "a.none": np.zeros((0, 3), np.float16),
    }
    tensors.write(tmp_path / "made", given)
    found = tensors.mapped(tmp_path / "made")
    assert list(found) == list(given)
    for name, value in given.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value)
        assert not found[name].flags.writeable and not found[name].flags.owndata
    tensors.write(tmp_path / "nothing", {})
    assert tensors.mapped(tmp_path / "nothing") == {}


def test_no_process_holds_the_values_of_an_export(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the graph are small, and the weights of the model are views of one file."""
    sizes, original = [], onnx_file.read

    def read(path: Path, *arguments: Any, **named: Any) -> Any:
        sizes.append(path.stat().st_size)
        model = original(path, *arguments, **named)
        weights = [each for each in model.constants.values() if each.size > 100]
        assert weights and not any(each.flags.writeable for each in weights)
        assert sum(each.nbytes for each in weights) > 40_000
        return model

    monkeypatch.setattr(onnx_file, "read", read)
    (tmp_path / "mynets.py").write_text(MODULE)
    assert run("mynets.py:build", "--out", "mine.yaml", "--input", "3x32x32").code == 0
    assert len(sizes) == 3 and max(sizes) < 10_000  # of its own size and two others


def archive(path: Path) -> None:
    import torch

    network = lower(load("small.yaml", Library(), text=SPEC.encode()))
    model = networks.built(network)
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 32, 32),)), str(path))


def test_an_archive_of_torch_export(run: Run, tmp_path: Path) -> None:
    archive(tmp_path / "model.pt2")
    result = run("model.pt2", "--out", "mine.yaml", "--weights", "mine.pt")
    assert result.code == 0, result.err
    assert "4 blocks of the library" in result.out and "same logits: " in result.out


@pytest.mark.parametrize(
    ("target", "help"),
    [
        ("os.system", ""),
        ("torch.hub.load", ""),
        ("torch.ops.aten.relu", ""),
        ("torch.ops.higher_order.wrap_with_autocast", "export the model without torch.autocast"),
    ],
)
def test_an_archive_that_calls_something_else(
    run: Run, tmp_path: Path, target: str, help: str
) -> None:
    archive(tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2") as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(tmp_path / "bad.pt2", "w") as new:
        for name, data in members.items():
            if "/models/" in name:
                described = json.loads(data)
                described["graph_module"]["graph"]["nodes"][0]["target"] = target
                data = json.dumps(described).encode()  # noqa: PLW2901 - the changed one
            new.writestr(name, data)
    result = run("bad.pt2", "--out", "mine.yaml")
    assert result.code == 1 and f"RS902: 'bad.pt2' calls '{target}'" in result.err
    assert help in result.err


def test_quiet(run: Run, model: str) -> None:
    assert run(model, "--out", "mine.yaml", "--quiet").out == ""
