"""A model's one output is taken out of what holds it; half precision is run as single precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest

from resnet_spec import cli
from resnet_spec.verify.worker import load_module

pytestmark = pytest.mark.torch

Run = Callable[..., tuple[int, str]]
MODULE = """\
from collections import OrderedDict

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, gives, norm=nn.BatchNorm2d(8)):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, bias=False), norm
        self.fc = nn.Linear(8, 5)
        self.gives = gives

    def forward(self, images):
        values = self.norm(self.conv1(images)).relu().mean((2, 3))
        return self.gives(self.fc(values))


def plain(): return Net(lambda y: y)
def dictionary(): return Net(lambda y: {"logits": y})
def ordered(): return Net(lambda y: OrderedDict(out=y))
def nested(): return Net(lambda y: {"heads": [y], "loss": None})
def several(): return Net(lambda y: {"out": y, "aux": y.relu()})
def none(): return Net(lambda y: None)
def groups(): return Net(lambda y: y, nn.GroupNorm(2, 8))
def broken():
    model = Net(lambda y: y)
    model.conv1.weight.data.fill_(torch.nan)
    return model


def layers(): return Net(lambda y: y, nn.LayerNorm([8, 14, 14]))
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("mynets.py").write_text(MODULE)

    def call(model: str) -> tuple[int, str]:
        code = cli.main(["import", model, "--out", "net.yaml", "--input", "3x16x16", "--force"])
        return code, "".join(capsys.readouterr())

    return call


def built(name: str) -> Any:
    return networks.randomized(getattr(load_module(Path("mynets.py"), "mynets"), name)()).eval()


def archive(model: Any, images: Any, path: str = "net.pt2") -> str:
    import torch

    torch.export.save(torch.export.export(model, (images,)), path)
    return path


@pytest.mark.parametrize("name", ["dictionary", "ordered", "nested"])
def test_the_one_output_is_taken(run: Run, name: str) -> None:
    import torch

    for source in (f"mynets.py:{name}", archive(built(name), torch.zeros(1, 3, 16, 16))):
        code, told = run(source)
        assert (code, "same logits: " in told) == (0, True), told


def test_several_outputs_are_named(run: Run) -> None:
    import torch

    for source in ("mynets.py:several", archive(built("several"), torch.zeros(1, 3, 16, 16))):
        code, told = run(source)
        assert (code, "RS953: the model: several outputs: 'out', 'aux'\n" in told) == (1, True), (
            told
        )
        assert "wrap it in a module that gives the logits alone" in told
    code, told = run("mynets.py:none")
    assert (code, "RS953: the model: no tensor as its output" in told) == (1, True), told


def test_weights_that_are_no_numbers_are_told(run: Run) -> None:
    import torch

    model = load_module(Path("mynets.py"), "mynets").broken().eval()
    for source in ("mynets.py:broken", archive(model, torch.zeros(1, 3, 16, 16))):
        code, told = run(source)
        assert (code, f"RS951: the output of '{source}' is not finite" in told) == (1, True), told
        assert "are its weights numbers" in told and not Path("net.yaml").exists()


def test_norms_of_pytorch_decide_nothing(run: Run) -> None:
    """What they check of sizes while they are exported is no decision of the model's code."""
    code, told = run("mynets.py:groups")
    assert (code, "decides" in told) == (0, False), told


def test_a_norm_that_the_language_has_not_is_named_with_its_layer(run: Run) -> None:
    import torch

    code, told = run("mynets.py:layers")
    assert "RS953: LayerNormalization '/norm/LayerNormalization': the language has no" in told
    code, told = run(archive(built("layers"), torch.zeros(1, 3, 16, 16)))
    assert "RS953: LayerNormalization '/LayerNormalization' of 'norm': the language has" in told
    assert code == 1


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_half_precision_is_read_and_run(run: Run, kind: str, ending: str) -> None:
    import torch

    dtype = getattr(torch, kind)
    model, images = built("plain").to(dtype), torch.zeros(1, 3, 16, 16, dtype=dtype)
    if ending == "pt2":
        archive(model, images)
    else:
        pytest.importorskip("onnxruntime")
        torch.onnx.export(model, (images,), "net.onnx", dynamo=False)
    code, told = run(f"net.{ending}")
    assert (code, "same logits: " in told) == (0, True), told


def test_casts_within_a_graph_are_to_single_precision(run: Run) -> None:
    """Those that a model states itself, and the checks of types that an export adds for them."""
    import torch

    model = built("plain")
    model.gives = lambda y: (y.to(torch.bfloat16) * 0.333).to(torch.float32)
    code, told = run(archive(model, torch.zeros(1, 3, 16, 16)))
    assert (code, "same logits: " in told) == (0, True), told


def test_a_type_of_onnx_that_is_quantised_is_named(run: Run) -> None:
    import ml_dtypes
    import onnx
    import torch

    torch.onnx.export(built("plain"), (torch.zeros(1, 3, 16, 16),), "net.onnx", dynamo=False)
    proto = onnx.load("net.onnx")
    tensor = proto.graph.initializer[0]
    values = onnx.numpy_helper.to_array(tensor).astype(ml_dtypes.float8_e4m3fn)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    Path("net.onnx").write_bytes(proto.SerializeToString())
    code, told = run("net.onnx")
    assert (code, "a tensor of the type float8e4m3fn" in told) == (1, True), told
    assert "take the model as it was before it was quantised" in told


def test_bfloat16_that_is_listed_as_numbers() -> None:
    """ONNX keeps values raw or, in older files, as a list of whole numbers."""
    from onnx import TensorProto, helper

    from resnet_spec.importing.readers.onnx_file import _Tensors

    tensor = helper.make_tensor("x", TensorProto.BFLOAT16, [2], [1.5, -2.0])
    assert not tensor.HasField("raw_data")
    found = _Tensors(Path(), "net.onnx").array(tensor)
    assert (found.dtype, found.tolist()) == (np.float32, [1.5, -2.0])


# --- files that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.5, 0.999])
@pytest.mark.parametrize("kind", ["pt2", "pth", "npz", "keras"])
def test_files_that_are_cut_off(run: Run, kind: str, part: float) -> None:
    """An archive of torch.export ends with others, whose end may be taken for its own."""
    import torch

    path = Path(f"net.{kind}")
    if kind == "pt2":
        archive(built("plain"), torch.zeros(1, 3, 16, 16))
    elif kind == "pth":
        torch.save(built("plain").state_dict(), path)
    else:
        np.savez("net.npz", **{"config.json": np.zeros(9), "weights": np.ones(999)})
        Path("net.npz").replace(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    code, told = run(path.name)
    assert (code, "was it written or copied to its end?" in told) == (1, True), told


def test_weights_alone_are_told(run: Run) -> None:
    import safetensors.torch
    import torch

    state = built("plain").state_dict()
    torch.save(state, "net.pth")
    torch.save(state, "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, "net.safetensors")
    np.savez("net.npz", weights=np.ones(9))
    for path in ("net.pth", "old.pth", "net.safetensors", "net.npz"):
        code, told = run(path)
        assert (code, f"RS951: '{path}' is a file of weights alone" in told) == (1, True), told
        assert "'resnet-spec weights match' finds the built-in network" in told
