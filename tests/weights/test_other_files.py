"""What is no file of weights and no model is named for what it is, with what to do next."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resnet_spec import cli

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
Command = Callable[..., str]


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        held = tarfile.TarInfo("net/weights.pth")
        held.mtime = 1.5  # which stands in an entry of its own before the file's
        archive.addfile(held)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("README", "net/", "net/weights.pth"):
            archive.writestr(name, b"")
    return file.getvalue()


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)

    def call(verb: str, name: str) -> str:
        given = {"import": [name, "--out", "net.yaml"], "weights": ["inspect", name, "resnet20"]}
        assert cli.main([verb, *given[verb]]) == 1
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize("verb", ["import", "weights"])
@pytest.mark.parametrize(
    ("data", "what", "help"),
    [
        (tar(), "is a tar archive", "unpack it: tar -xf {}; it holds 'net/weights.pth'"),
        (
            gzip.compress(tar()),
            "is compressed by gzip",
            "unpack it: tar -xf {}; it holds 'net/weights.pth'",
        ),
        (
            lzma.compress(tar()),
            "is compressed by xz",
            "unpack it: tar -xf {}; it holds 'net/weights.pth'",
        ),
        (gzip.compress(bytes(99)), "is compressed by gzip", "unpack it: gzip -d {}"),
        (zipped(), "is a zip archive", "unpack it; it holds 'net/weights.pth', 'README'"),
        (POINTER, "is a pointer of Git LFS, whose file was not fetched", "fetch it: git lfs pull"),
        (b"", "is empty", "was it written or copied to its end?"),
    ],
    ids=["tar", "tar.gz", "tar.xz", "gzip", "zip", "pointer", "empty"],
)
def test_files(data: bytes, what: str, help: str, verb: str, command: Command) -> None:
    for name in ("net.onnx", "net.safetensors"):
        if name == "net.safetensors" and data != POINTER:
            continue  # by its name it is a broken one
        Path(name).write_bytes(data)
        told = command(verb, name)
        assert f"'{name}' {what}" in told and f"= help: {help.format(name)}\n" in told, told


@pytest.mark.parametrize(
    ("names", "what", "weights", "model"),
    [
        (
            ("config.json", "model.safetensors"),
            "a folder of Hugging Face",
            "name the file of weights in it: net/model.safetensors",
            "'resnet-spec weights match net/model.safetensors' finds the built-in network",
        ),
        (
            ("notes.txt", "best.pth"),
            "a folder",
            "name the file that is meant: net/best.pth",
            "'resnet-spec weights match net/best.pth' finds the built-in network",
        ),
        (("saved_model.pb",), "a saved model of TensorFlow", "", "--saved-model net --output"),
    ],
)
def test_folders(
    names: tuple[str, ...], what: str, weights: str, model: str, command: Command
) -> None:
    Path("net").mkdir()
    for name in names:
        Path("net", name).touch()
    for verb, help in (("weights", weights), ("import", model)):
        told = command(verb, "net")
        assert f"'net' is {what}, no" in told and help in told, told


@pytest.mark.torch
@pytest.mark.parametrize("verb", ["import", "weights"])
def test_the_state_of_an_optimizer_alone(verb: str, command: Command) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(3, requires_grad=True)], 0.1).state_dict()
    for held in (optimizer, {"epoch": 3, "optimizer": optimizer}):
        torch.save(held, "last.pt")
        told = command(verb, "last.pt")
        assert "'last.pt' holds the state of an optimizer, and no weights" in told
        assert "= help: take the file of the same training that has them" in told


@pytest.mark.torch
@pytest.mark.filterwarnings("error")
def test_a_pickle_of_arrays(command: Command) -> None:
    Path("net.pkl").write_bytes(pickle.dumps({"weight": np.zeros(3)}, 4))
    told = command("weights", "net.pkl")
    assert "'net.pkl' is a pickle that torch.save did not write" in told
    assert "= help: save its arrays by name: numpy.savez" in told
