"""`weights verify` runs the source of the weights, and tells how far apart and where that begins.

The same is done by `convert` where a file has a model in it; what the file states of its layers is
compared with the spec. Each test plants what would pass unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy as safetensors

from resnet_spec import read_network
from resnet_spec.ir import evaluate
from resnet_spec.weights.entries import counters, entries

SPEC = """\
spec_version: 1
name: net
description: A small network
input: {channels: 3, height: 24, width: 20}
classes: 5
stem:
  - {conv: conv1, filters: 4, kernel: 3}
  - {norm: bn1}
  - {act: act1}
stages:
  - {name: layer1, block: basic, filters: 4}
  - {name: layer2, block: basic, filters: 8, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""
Run = Callable[..., tuple[int, str]]


def drawn() -> dict[str, Any]:
    """Weights whose outputs differ where anything does; the counters of PyTorch with them."""
    network, generator = read_network("net.yaml", ()), np.random.default_rng(0)
    state: dict[str, Any] = {}
    for name, entry in entries(network).items():
        shape = entry.parameter.shape
        state[name] = generator.uniform(0.5, 1.5, shape).astype(np.float32)
        if len(shape) > 1:  # values of the size of one at every layer
            value = generator.standard_normal(shape) / np.prod(shape[1:]) ** 0.5
            state[name] = value.astype(np.float32)
    return state | {name: np.array(0) for name in counters(network)}


@pytest.fixture
def source(run: Run) -> Any:
    """The generated PyTorch model with the weights of `net.safetensors`."""
    import parity
    import torch

    safetensors.save_file(drawn(), "net.safetensors")
    model = parity.build(read_network("net.yaml", ()), "torch").eval()
    model.load_state_dict({n: torch.from_numpy(v) for n, v in drawn().items()}, strict=True)
    return model


def exported(model: Any, kind: str, size: tuple[int, int] = (24, 20), dtype: Any = None) -> str:
    import torch

    images = torch.zeros(2, 3, *size, dtype=dtype)
    if kind == "pt2":
        torch.export.save(torch.export.export(model, (images,)), "net.pt2")
    elif kind == "pt":
        torch.jit.trace(model, images).save("net.pt")
    else:
        pytest.importorskip("onnxruntime")
        kept = torch.onnx.TrainingMode.PRESERVE
        mode = torch.onnx.TrainingMode.EVAL if kind == "folded.onnx" else kept
        torch.onnx.export(model, (images,), f"net.{kind}", dynamo=False, training=mode)
    return f"net.{kind}"


def stored(softmax: bool = False) -> str:
    """Images with the logits that the definitions of the operations give."""
    images = np.random.default_rng(3).standard_normal((2, 3, 24, 20)).astype(np.float32)
    made = evaluate.outputs(read_network("net.yaml", ()), drawn(), images)
    powers = np.exp(made.logits)
    output = powers / powers.sum(1, keepdims=True) if softmax else made.logits
    first = made.stages["layer1"].transpose(0, 2, 3, 1)  # channels last
    np.savez("net.npz", input=images, output=output, a=first, b=made.stages["layer2"])
    return "net.npz"


SLOW = pytest.mark.slow  # a process for each framework that runs
SOURCES = ("onnx", pytest.param("folded.onnx", marks=SLOW), "pt2", pytest.param("pt", marks=SLOW))


@pytest.mark.torch
@pytest.mark.parametrize("kind", SOURCES)
def test_sources_of_pytorch(run: Run, source: Any, kind: str) -> None:
    path = exported(source, kind)
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert code == 0, told
    assert "equal within 0.0001 of the largest value" in told
    assert ("not seen there" in told) == (kind == "pt")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        pytest.param("onnx", "layer1", marks=SLOW),
        ("folded.onnx", "layer2"),
        pytest.param("pt2", "layer2", marks=SLOW),
        pytest.param("pt", "", marks=SLOW),
    ],
)
def test_the_first_stage_that_differs(run: Run, source: Any, kind: str, stage: str) -> None:
    """Another activation in one stage: names and shapes are all the same."""
    path = exported(source, kind)
    other = f"{stage or 'layer1'}, block: basic,"
    Path("net.yaml").write_text(SPEC.replace(other, f"{other} act: silu,"))
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, "RS910: net is " in told) == (1, True), told
    named = f"the first stage that differs is '{stage}'" if stage else "does not show its stages"
    assert named in told


def test_a_tolerance(run: Run) -> None:
    values = drawn()
    values["fc.bias"] += 0.01
    safetensors.save_file(values, "net.safetensors")
    arguments = ("verify", "net.safetensors", "net.yaml", "--against", stored())
    code, told = run(*arguments)
    assert (code, "no stage differs: look at what comes behind" in told) == (1, True), told
    assert run(*arguments, "--tolerance", "0.1")[0] == 0
    assert run(*arguments, "--tolerance", "2")[0] == 2


def giving(model: Any, gives: Callable[[Any], Any]) -> Any:
    """A model whose output is in something."""
    from torch import nn

    class Giving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Any) -> Any:
            return gives(self.inner(x))

    return Giving().eval()


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["pt2", pytest.param("onnx", marks=SLOW)])
def test_another_number_of_classes(run: Run, source: Any, kind: str) -> None:
    import torch

    source.fc = torch.nn.Linear(8, 7)
    path = exported(source.eval(), kind)
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, "inf" in told) == (1, False), told
    assert f"RS911: the output of '{path}' has another shape than the spec's 2x5: '" in told
    assert "' 2x7\n  = help: the source has 7 classes: --set classes=7, with weights" in told


def test_stored_outputs_of_another_number_of_classes(run: Run) -> None:
    safetensors.save_file(drawn(), "net.safetensors")
    np.savez("net.npz", input=np.zeros((2, 3, 24, 20)), output=np.zeros((2, 7)))
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", "net.npz")
    assert (code, "another shape than the spec's 2x5: 'output' 2x7" in told) == (1, True), told
    assert "--set classes=7" in told


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["pt2", pytest.param("onnx", marks=SLOW)])
def test_the_output_of_the_size_of_the_logits_is_taken(run: Run, source: Any, kind: str) -> None:
    """Whatever is beside it, and first."""
    path = exported(giving(source, lambda y: {"first": y[:, :2], "logits": y}), kind)
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, "equal within" in told) == (0, True), told


@pytest.mark.torch
def test_several_outputs_are_named(run: Run, source: Any) -> None:
    path = exported(giving(source, lambda y: {"out": y, "aux": [y + 1]}), "pt2")
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, "has several outputs of the size of the spec's: " in told) == (1, True), told
    assert "'out' 2x5, 'aux.0' 2x5\n  = help: store" in told
    Path(path).unlink()
    path = exported(giving(source, lambda y: {"out": y.flatten(0)[:3], "aux": y[:1, :2]}), "pt2")
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert "another shape than the spec's 2x5: 'out' 3, 'aux' 1x2\n1 error" in told


@pytest.mark.keras
def test_the_one_of_several_outputs_of_keras(run: Run) -> None:
    from keras import Input, Model, layers

    Path("net.yaml").write_text(KERAS)
    given = Input((24, 20, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv1")(given)
    x = layers.ReLU()(layers.BatchNormalization(name="bn1")(x))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="layer1_conv")(x)
    x = layers.GlobalAveragePooling2D()(x)
    Model(given, {"features": x, "logits": layers.Dense(5, name="fc")(x)}).save("net.keras")
    code, told = run("convert", "net.keras", "net.yaml", "--out", "o.safetensors")
    assert (code, "Keras gives the same with the file's own model" in told) == (0, True), told


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=SLOW)])
@pytest.mark.parametrize(
    "kind", ["pt2", *(pytest.param(each, marks=SLOW) for each in ("pt", "onnx"))]
)
def test_sources_of_half_precision_run_in_single(
    run: Run, source: Any, kind: str, dtype: str
) -> None:
    """So what is compared is the network, and not how often its values were rounded."""
    import torch

    half = getattr(torch, dtype)
    rounded = {n: np.asarray(v.float()) for n, v in source.to(half).state_dict().items()}
    safetensors.save_file(rounded, "net.safetensors")
    path = exported(source, kind, dtype=half)
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, "equal within" in told) == (0, True), told


@pytest.mark.slow
@pytest.mark.torch
def test_images_of_another_size(run: Run, source: Any) -> None:
    path = exported(source, "onnx", (32, 40))
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, "2 images of 3x32x40" in told) == (0, True), told


@pytest.mark.parametrize("softmax", [pytest.param(False, marks=SLOW), True])
def test_what_was_stored(run: Run, softmax: bool) -> None:
    """No framework is needed; probabilities are compared with probabilities."""
    safetensors.save_file(drawn(), "net.safetensors")
    path = stored(softmax)
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, ("after a softmax" in told) == softmax) == (0, True), told
    assert "not seen there" not in told
    found = run("verify", "net.safetensors", "net.yaml", "--against", path, "--format", "json")[1]
    assert json.loads(found)["output"] < 1e-5
    values = drawn()
    values["layer2.bn2.bias"] += 0.01
    safetensors.save_file(values, "net.safetensors")
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, "the first stage that differs is 'layer2'" in told) == (1, True), told


BROKEN = {
    "net.npz": (b"PK\x03\x04 nothing", "RS901: 'net.npz' is too short"),
    "net.onnx": (b"\x08\x09 nothing is here", "and is no whole ONNX file"),
    "net.pt2": (b"PK\x03\x04 nothing is here", "RS901: 'net.pt2' is no whole archive"),
    "net.keras": (b"PK\x03\x04 nothing is here", "RS901: 'net.keras' is a broken zip archive"),
    "net.h5": (b"\x89HDF\r\n\x1a\n nothing is here", "RS901: 'net.h5' is a broken HDF5 file"),
    "net.pt": (b"PK\x03\x04 nothing is here", "RS901: 'net.pt' is a broken zip archive"),
}


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize(
    "path", [*list(BROKEN)[:2], *(pytest.param(each, marks=SLOW) for each in list(BROKEN)[2:])]
)
def test_broken_sources(run: Run, path: str) -> None:
    data, message = BROKEN[path]
    safetensors.save_file(drawn(), "net.safetensors")
    Path(path).write_bytes(data)
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
    assert (code, message in told, "Traceback" in told) == (1, True, False), told
    assert "was it written or copied to its end?" in told


@pytest.mark.torch
def test_weights_alone_are_no_source(run: Run, source: Any) -> None:
    import torch

    torch.save(source.state_dict(), "net.pth")
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", "net.pth")
    assert (code, "RS911: 'net.pth' holds weights, and no model" in told) == (1, True), told
    assert "save the model with torch.export.save" in told


def test_sources_that_cannot_be_meant(run: Run) -> None:
    safetensors.save_file(drawn(), "net.safetensors")
    for path, message in (("net.txt", "must end in one of .onnx"), ("none.npz", "is no file")):
        code, told = run("verify", "net.safetensors", "net.yaml", "--against", path)
        assert (code, message in told) == (2, True), told
    np.savez("other.npz", a=np.zeros(3))
    code, told = run("verify", "net.safetensors", "net.yaml", "--against", "other.npz")
    assert (code, "RS901: 'other.npz' has no array 'input'" in told) == (1, True), told
    for shape, message in (
        ((2, 4, 9, 9), "RS911: 'other.npz' has images of 4 channels, the spec of 3"),
        ((2, 3, 9), "RS911: the images in 'other.npz' are 2x3x9, not N x C x H x W"),
    ):
        np.savez("other.npz", input=np.zeros(shape), output=np.zeros((2, 5)))
        code, told = run("verify", "net.safetensors", "net.yaml", "--against", "other.npz")
        assert (code, message in told) == (1, True), told


@pytest.mark.torch
def test_stored_images_of_another_size(run: Run) -> None:
    """A network runs them that averages its last map; one that flattens it says what to set."""
    safetensors.save_file(drawn(), "net.safetensors")
    images = np.random.default_rng(1).standard_normal((2, 3, 40, 32)).astype(np.float32)
    network = read_network("net.yaml", ["input.height=40", "input.width=32"])
    made = evaluate.outputs(network, drawn(), images)
    for stored in (images, images.transpose(0, 2, 3, 1)):
        np.savez("other.npz", input=stored, output=made.logits)
        code, told = run("verify", "net.safetensors", "net.yaml", "--against", "other.npz")
        assert (code, "2 images of 3x40x32" in told) == (0, True), told


# --- what convert does by itself -----------------------------------------------------------------


@pytest.mark.torch
def test_convert_runs_the_graph_that_it_reads(run: Run, source: Any) -> None:
    path = exported(source, "onnx")
    arguments = ("convert", path, "net.yaml", "--out", "o.safetensors")
    code, told = run(*arguments)
    assert (code, "note: ONNX Runtime gives the same with the file's own model: " in told) == (
        0,
        True,
    )
    Path("o.safetensors").unlink()
    # A pooling that no name, shape or number of a layer tells.
    other = SPEC.replace(
        "  - {act: act1}\n", "  - {act: act1}\n  - {max_pool: pool, kernel: 3, stride: 1}\n"
    )
    Path("net.yaml").write_text(other)
    code, told = run(*arguments)
    assert (code, "RS910: net is " in told) == (1, True), told
    assert not Path("o.safetensors").exists()
    assert run(*arguments, "--no-verify")[0] == 0


@pytest.mark.torch
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{norm: bn1}",
            "{batch_norm: bn1, eps: 0.001}",
            "an epsilon of 1e-05, the spec 0.001: 'bn1'",
        ),
        (
            "filters: 8, stride: 2",
            "filters: 8",
            "a stride of 2, the spec 1: 'layer2.conv1', 'layer2",
        ),
        ("kernel: 3}", "kernel: 3, padding: 0}", "a padding of 1, the spec 0: 'conv1'"),
        (
            "kernel: 3}",
            "kernel: 3, padding: 2, dilation: 2}",
            "a dilation of 1, the spec 2: 'conv1'",
        ),
        ("{act: act1}", "{silu: act1}", "the spec applies 'silu', which the file's layers do not"),
    ],
)
def test_what_a_graph_states_is_compared(
    run: Run, source: Any, old: str, new: str, message: str
) -> None:
    path = exported(source, "onnx")
    assert old in SPEC
    Path("net.yaml").write_text(SPEC.replace(old, new))
    arguments = ("convert", path, "net.yaml", "--out", "o.safetensors")
    code, told = run(*arguments)
    assert (code, "RS909: " in told, message in told) == (1, True, True), told
    assert not Path("o.safetensors").exists()
    assert run(*arguments, "--trust-spec")[0] == 0


KERAS = """\
spec_version: 1
name: net
description: A small network of Keras
input: {channels: 3, height: 24, width: 20}
classes: 5
stem:
  - {conv: conv1, filters: 4, kernel: 3, stride: 2, padding: same}
  - {batch_norm: bn1, eps: 0.001}
  - {relu: act1}
stages:
  - {name: layer1, block: step}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
blocks:
  step:
    description: A step
    layers: [{conv: conv, filters: 6, kernel: 3, bias: true}, {relu: act}]
"""


@pytest.fixture
def keras_model(run: Run) -> Any:
    """A model of Keras for the spec, saved with its configuration; it ends with a softmax."""
    Path("net.yaml").write_text(KERAS)
    return saved_keras_model()


def saved_keras_model(pooled: bool = False) -> Any:
    from keras import Input, Model, layers

    given = Input((24, 20, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv1")(given)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.ReLU()(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(x) if pooled else x
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="layer1_conv")(x)
    x = layers.GlobalAveragePooling2D()(x)
    built = Model(given, layers.Dense(5, activation="softmax", name="fc")(x))
    generator = np.random.default_rng(5)
    built.set_weights([generator.uniform(0.1, 1.0, w.shape) for w in built.weights])
    built.save("net.keras")
    built.save("net.h5")
    return built


@pytest.mark.keras
@pytest.mark.parametrize("path", ["net.keras", pytest.param("net.h5", marks=SLOW)])
def test_models_of_keras(run: Run, keras_model: Any, path: str) -> None:
    code, told = run("convert", path, "net.yaml", "--out", "o.safetensors")
    assert code == 0, told
    assert "note: Keras gives the same with the file's own model: " in told
    assert "note: the file's model gives probabilities, net what a softmax makes them of" in told
    code, told = run("verify", "o.safetensors", "net.yaml", "--against", path)
    assert (code, "after a softmax" in told, "not seen there" in told) == (0, True, False), told


@pytest.mark.keras
def test_the_user_s_backend_of_keras_does_not_matter(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's means of windows that are cut off by the border are others than TensorFlow's."""
    pool = "  - {avg_pool: pool, kernel: 3, stride: 2, padding: same}\n"
    Path("net.yaml").write_text(KERAS.replace("stages:", f"{pool}stages:"))
    saved_keras_model(pooled=True)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    code, told = run("convert", "net.keras", "net.yaml", "--out", "o.safetensors")
    assert code == 0 and "note: Keras gives the same with the file's own model: " in told, told


@pytest.mark.keras
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", eps: 0.001", "", "an epsilon of 0.001, the spec 1e-05: 'bn1'"),
        (", padding: same", "", "a padding of same, the spec 1: 'conv1'"),
        ("stride: 2, ", "", "a stride of 2, the spec 1: 'conv1'"),
        ("relu: act1", "silu: act1", "the spec applies 'silu', which the file's layers do not"),
    ],
)
@pytest.mark.parametrize("path", ["net.keras", pytest.param("net.h5", marks=SLOW)])
def test_what_a_model_of_keras_states_is_compared(
    run: Run, keras_model: Any, path: str, old: str, new: str, message: str
) -> None:
    Path("net.yaml").write_text(KERAS.replace(old, new))
    arguments = ("convert", path, "net.yaml", "--out", "o.safetensors")
    code, told = run(*arguments)
    assert (code, "RS909: " in told, message in told) == (1, True, True), told
    assert run("inspect", path, "net.yaml")[0] == 1
    assert not Path("o.safetensors").exists()


@pytest.mark.keras
def test_a_model_that_would_run_code_is_not_run_by_itself(run: Run, keras_model: Any) -> None:
    """What its configuration names outside of Keras is not imported unless it is asked for."""
    import zipfile

    Path("planted.py").write_text("open('was_run', 'w')\n")
    with zipfile.ZipFile("net.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    text = (
        parts["config.json"]
        .decode()
        .replace('"module": "keras.initializers"', '"module": "planted"')
    )
    with zipfile.ZipFile("net.keras", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, text if name == "config.json" else data)
    code, told = run("convert", "net.keras", "net.yaml", "--out", "o.safetensors")
    assert (code, "gives the same" in told) == (0, False), told
    assert not Path("was_run").exists()
