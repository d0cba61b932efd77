"""Weight files with other contents than tensors: reported, and never executed."""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest

from resnet_spec import cli, read_network

np = pytest.importorskip("numpy")
SPEC = """\
spec_version: 1
name: net
description: A net
input: {height: 32, width: 32}
stages: [{name: layer1, block: basic, filters: 8}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(SPEC)
    return tmp_path


def shapes() -> dict[str, tuple[int, ...]]:
    from resnet_spec.weights.entries import entries

    return {name: each.parameter.shape for name, each in entries(read_network("net.yaml")).items()}


# --- bfloat16, in a process that has imported nothing --------------------------------------------


def write_bfloat16(path: Path) -> None:
    """A safetensors file by hand: no library is there that would make the type known."""
    header, values = {}, b""
    for name, shape in shapes().items():
        size = 2 * int(np.prod(shape))
        offsets = [len(values), len(values) + size]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": offsets}
        values += b"\x80\x3f" * (size // 2)  # ones
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)


ACTIONS = {
    "inspect": ["inspect", "net.safetensors", "net.yaml"],
    "convert": ["convert", "net.safetensors", "net.yaml", "--out", "out.safetensors"],
    "convert to another type": [
        "convert", "net.safetensors", "net.yaml", "--out", "out.safetensors", "--dtype", "float32",
    ],
}  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
def test_bfloat16_in_a_process_of_its_own(action: str, folder: Path) -> None:
    write_bfloat16(folder / "net.safetensors")
    words = [*processes.installed(folder / "bin"), "weights", *ACTIONS[action]]
    done = processes.run(words, folder)
    assert done.returncode == 0, done.stderr
    if action == "inspect":
        assert "bfloat16" in done.stdout
    else:
        from safetensors import safe_open

        kind = "F32" if "--dtype" in ACTIONS[action] else "BF16"
        with safe_open(folder / "out.safetensors", framework="numpy") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        assert kinds == {kind, "I64"}  # of the counters of batches


# --- what is no file of weights ------------------------------------------------------------------


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"nothing")
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "TorchScript": (
        lambda: zipped("net/data.pkl", "net/constants.pkl", "net/code/net.py"),
        "is no whole TorchScript archive: ",
    ),
    "a part of TensorFlow Lite": (
        lambda: b"\x1c\0\0\0TFL3" + bytes(20),
        "is a TensorFlow Lite model, whose weights are fused",
    ),
    "an exported program": (
        lambda: zipped("net/archive_format", "net/models/model.json"),
        "is an archive of torch.export without parameters",
    ),
    "a broken graph": (
        lambda: b"\x08\x09" + b"\xff" * 30,
        "is no file of weights that is known, and is no whole",
    ),
    "npy": (npy, "is an array of NumPy (.npy), no file of weights"),
    "a zip": (lambda: zipped("a.txt"), "is a zip archive, without weights in it"),
    "a web page": (lambda: b"<!DOCTYPE html><html>", "is a web page or XML, no file"),
    "Git LFS": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid",
        "is a pointer of Git LFS, whose file was not fetched, no file of weights",
    ),
    "gzip": (lambda: b"\x1f\x8b" + bytes(20), "is compressed by gzip, no file of weights"),
    "GGUF": (lambda: b"GGUF" + bytes(20), "is a GGUF file, no file of weights"),
    "JSON": (lambda: json.dumps({"a": [0] * 20}).encode(), "is JSON, no file of weights"),
    "anything": (lambda: bytes(range(99, 140)), "is no file of weights"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_named_for_what_they_are(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = OTHERS[name]
    Path("file.pt").write_bytes(make())
    assert cli.main(["weights", "inspect", "file.pt", "net.yaml"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"file.pt:1:1: error RS901: 'file.pt' {message}")
    assert "= help: " in error


# --- archives of torch.export --------------------------------------------------------------------


class Runs:
    """What leaves a file where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (pathlib.Path("ran"),)


def described(shape: tuple[int, ...], use_pickle: bool = False, **changed: Any) -> dict[str, Any]:
    """How an archive lists a tensor of single precision."""
    meta = {
        "dtype": 7,
        "sizes": [{"as_int": each} for each in shape],
        "strides": [{"as_int": each} for each in np.zeros(shape, np.uint8).strides],
        "storage_offset": {"as_int": 0},
    }
    return {"path_name": "weight_0", "use_pickle": use_pickle, "tensor_meta": {**meta, **changed}}


def program(listed: Any, values: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("a/archive_format", "pt2")
        archive.writestr("a/models/model.json", "{}")
        archive.writestr("a/data/weights/model_weights_config.json", json.dumps(listed))
        archive.writestr("a/data/weights/weight_0", values)
    return file.getvalue()


def lists(**changed: Any) -> dict[str, Any]:
    """A list of one tensor, which the spec has."""
    name, shape = next((n, shape) for n, shape in shapes().items() if len(shape) == 4)
    return {"config": {name: described(shape, **changed)}}


def pickled() -> bytes:
    return program(lists(use_pickle=True), pickle.dumps(Runs()))


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a pickle": (
        pickled,
        "RS902: 'net.pt2' holds a pickle, which could run code",
    ),
    "values that are not there": (
        lambda: program(lists(), bytes(40)),
        "' in 'net.pt2' states more values than it holds",
    ),
    "values far behind": (
        lambda: program(lists(storage_offset={"as_int": 2**50}), bytes(864)),
        "' in 'net.pt2' states more values than it holds",
    ),
    "a negative stride": (
        lambda: program(lists(strides=[{"as_int": -1}] * 4), bytes(864)),
        "RS901: 'a/data/weights/model_weights_config.json' in 'net.pt2' lists no tensors: ",
    ),
    "a type of eight bits": (
        lambda: program(lists(dtype=30), bytes(864)),
        "RS901: 'a/data/weights/model_weights_config.json' in 'net.pt2' lists no tensors: ",
    ),
    "no list": (
        lambda: program([], bytes(864)),
        "RS901: 'a/data/weights/model_weights_config.json' in 'net.pt2' lists no tensors: ",
    ),
    "what grows": (
        lambda: program(lists(), bytes(50_000_000), zipfile.ZIP_DEFLATED),
        "RS902: 'net.pt2' would grow to 50,000,",
    ),
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_an_archive_is_data(what: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = ARCHIVES[what]
    Path("net.pt2").write_bytes(make())
    words = ["weights", "convert", "net.pt2", "net.yaml", "--partial", "--out", "o.safetensors"]
    assert cli.main(words) == 1
    assert message in capsys.readouterr().err
    assert {each.name for each in folder.iterdir()} == {"net.yaml", "net.pt2"}


@pytest.mark.torch
def test_an_archive_that_is_run_is_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PyTorch's own reader loads pickles; it is not asked where there is one."""
    Path("net.pt2").write_bytes(pickled())
    write_bfloat16(folder / "net.safetensors")
    words = ["weights", "verify", "net.safetensors", "net.yaml", "--against", "net.pt2"]
    assert cli.main(words) == 1
    assert "RS902: 'net.pt2' holds a pickle, which could run code" in capsys.readouterr().err
    assert not Path("ran").exists()


# --- pickles -------------------------------------------------------------------------------------


class Mine:
    """A class of a training program, which nobody here can import."""

    def __init__(self, value: object = None) -> None:
        self.value = value


class Slots:
    __slots__ = ("a",)


class MyDict(dict[str, int]):
    pass


def slots() -> Slots:
    made = Slots()
    made.a = 3  # type: ignore[attr-defined]
    return made


EXTRAS: dict[str, Any] = {
    "a namespace": argparse.Namespace(rate=0.1, arch="resnet18"),
    "a scalar of numpy": np.float64(3),
    "an array of numpy": np.zeros(3),
    "a path": pathlib.PurePosixPath("a/b"),
    "a defaultdict": collections.defaultdict(list, a=[1]),
    "a counter": collections.Counter("abc"),
    "a set": {1, 2},
    "an own class": Mine({"a": [1, 2]}),
    "a class with slots": slots(),
    "an own dictionary": MyDict(a=1),
    "a class": Mine,
    "a function": os.path.join,
    "an error": ValueError("a"),
    "a deque": collections.deque([1, 2]),
    "a complex number": 1j,
}


def state() -> dict[str, Any]:
    import torch

    return {name: torch.ones(shape) for name, shape in shapes().items()}


def save(value: object, protocol: int = 2) -> None:
    import torch

    torch.save(value, "net.pt", pickle_protocol=protocol)


def run_weights(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.main(["weights", "inspect", "net.pt", "net.yaml"])
    return code, "".join(capsys.readouterr())


@pytest.mark.torch
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", EXTRAS)
def test_what_is_no_tensor_is_passed_over(
    name: str, protocol: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save({"state_dict": state(), "epoch": 3, "extra": EXTRAS[name]}, protocol)
    code, told = run_weights(capsys)
    assert (code, "net.pt fits net" in told) == (0, True), told
    save({**state(), "extra": EXTRAS[name]}, protocol)
    code, told = run_weights(capsys)
    if "note: not read, for it is no tensor" in told:
        assert code == 0, told


@pytest.mark.torch
def test_what_was_passed_over_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save({"state_dict": state(), "args": EXTRAS["a namespace"], "own": EXTRAS["an own class"]})
    code, told = run_weights(capsys)
    assert code == 0
    assert "note: not read, for it is no tensor: 'argparse.Namespace', '" in told
    assert "Mine'" in told


@pytest.mark.torch
def test_values_are_those_of_the_file(folder: Path) -> None:
    import torch

    wanted = {name: torch.randn(value.shape) for name, value in state().items()}
    save({"state_dict": wanted, "extra": Mine()})
    assert cli.main(["weights", "convert", "net.pt", "net.yaml", "--out", "out.pt"]) == 0
    found = torch.load("out.pt", weights_only=True)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


class Calls:
    """Makes a pickle that calls a function when it is read without care."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def planted(text: str) -> None:
    """What must not run: it is imported, and leaves a file."""
    Path("was_run").write_text(text)


PROGRAMS: dict[str, tuple[Any, ...]] = {
    "a command": (os.system, "touch was_run"),
    "a process": (__import__("subprocess").call, ["touch", "was_run"]),
    "eval": (eval, "open('was_run', 'w')"),
    "exec": (exec, "open('was_run', 'w')"),
    "an attribute": (getattr, os, "system"),
    "a file": (open, "was_run", "w"),
    "a function of their own": (planted, "a"),
    "a method of a path": (Path.touch, Path("was_run")),
}


@pytest.mark.torch
@pytest.mark.parametrize("old", [False, True], ids=["zip", "pickle"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_of_a_pickle_runs(
    name: str, old: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if name == "an attribute":  # a module can't be pickled; its name can
        value: Any = Calls(getattr, Calls(__import__, "os"), "system")
    else:
        value = Calls(*PROGRAMS[name])
    whole = {"state_dict": state(), "extra": value}
    torch.save(whole, "net.pt", _use_new_zipfile_serialization=not old)
    code, told = run_weights(capsys)
    assert not Path("was_run").exists()
    harmless = not old and name == "a function of their own"
    assert (code, "RS902" in told) == (0 if harmless else 1, not harmless), told


@pytest.mark.torch
def test_a_whole_model_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(Mine(state()))
    code, told = run_weights(capsys)
    assert code == 1
    assert "RS902: 'net.pt' holds more than tensors: it is a whole '" in told
    assert "torch.save(model.state_dict(), path)" in told


@pytest.mark.torch
def test_a_pickle_that_states_more_than_it_holds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To keep a value under a number, Python takes memory for as many."""
    import torch

    torch.save({"a": torch.zeros(1), "b": Mine()}, "net.pt")
    with zipfile.ZipFile("net.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in parts if name.endswith("data.pkl"))
    start = pickle.PROTO + b"\x02" + b"N" + pickle.LONG_BINPUT + (2**32 - 1).to_bytes(4, "little")
    parts[name] = start + pickle.POP + parts[name][2:]
    with zipfile.ZipFile("net.pt", "w") as archive:
        for each, data in parts.items():
            archive.writestr(each, data)
    code, told = run_weights(capsys)
    assert code == 1
    assert "RS901: 'net.pt' is no whole PyTorch file: it states more values than" in told
