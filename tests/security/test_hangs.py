"""What would block, or go on for hours, is refused; each test has a clock against hanging."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import processes
import pytest

from resnet_spec.project import patterns

NET = "spec_version: 1\nname: net\ndescription: A net\nextends: resnet18\n"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pipe": pipe, "a device": device, "a socket": listener,
}  # fmt: skip
READERS = {
    "a spec": ("net.yaml", ["check", "net.yaml"]),
    "a spec that is extended": ("base.yaml", ["check", "mine.yaml"]),
    "a block": ("blocks/own.yaml", ["check", "own.yaml"]),
    "a folder": ("nets/net.yaml", ["check", "nets"]),
    "settings": ("named.toml", ["compile", "--config", "named.toml"]),
    "settings that are found": ("resnet-spec.toml", ["compile"]),
    "a project": ("pyproject.toml", ["compile"]),
    "a generated file": ("generated/json/mine.json", ["compile", "mine18.yaml", "--check"]),
    "weights": ("net.safetensors", ["weights", "inspect", "net.safetensors", "resnet18"]),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("what", READERS)
def test_only_files_are_opened(
    what: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    clock: Callable[[], object],
) -> None:  # fmt: skip
    from resnet_spec import cli

    monkeypatch.chdir(tmp_path)
    name, arguments = READERS[what]
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    SPECIAL[kind](Path(name))
    Path("mine.yaml").write_text(NET.replace("resnet18", "base.yaml"))
    Path("own.yaml").write_text(f"{NET}stem: [{{block: own, name: s}}]\n")
    Path("mine18.yaml").write_text(NET)
    clock()
    code = cli.main(arguments)
    assert code in (1, 2)


def test_a_pipe_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.yaml")
    done = processes.run([*processes.installed(tmp_path / "bin"), "check", "net.yaml"], tmp_path)
    assert done.stdout.startswith(
        "net.yaml:1:1: error RS001: cannot read 'net.yaml': it is a pipe or a device, not a file"
    )


# --- patterns ------------------------------------------------------------------------------------


def deep(folder: Path) -> None:
    """A tree in which `**` has many ways to each folder."""
    for number in range(12):
        folder = folder / f"d{number}"
        folder.mkdir()
        (folder / "net.yaml").touch()


PATTERNS = [
    "*.yaml", "**/*.yaml", "**/d3/*.yaml", "d0/**/d5/*", "d0/./d1/n?t.yaml", "d[0-9]/net.yaml",
    "d0/../d0/*.yaml", "**/d2/**/*.yaml", "nothing/*.yaml", "d0", "./d0/net.yaml", ".hidden/*.yaml",
    "*/*.yaml", "**/.hidden/*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_those_of_pathlib(pattern: str, tmp_path: Path) -> None:
    deep(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "net.yaml").touch()
    expected = {path for path in tmp_path.glob(pattern) if path.is_file()}
    assert set(patterns.matches(tmp_path, pattern)) == expected


@pytest.mark.parametrize(
    ("pattern", "count"), [("/".join(["**"] * 40), 12), ("/".join(["**", "*"] * 5), 8)]
)
def test_a_folder_is_searched_once_for_each_part(
    pattern: str, count: int, tmp_path: Path, clock: Callable[[], object]
) -> None:
    deep(tmp_path)
    clock()
    found = patterns.matches(tmp_path, f"{pattern}/net.yaml")
    assert len(found) == count


@pytest.mark.parametrize("pattern", ["", ".", "/etc/*.yaml", "a\0b", "a**/b", "/".join("*" * 100)])
def test_what_is_no_pattern(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pattern"):
        patterns.matches(tmp_path, pattern)


def test_a_search_has_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep(tmp_path)
    monkeypatch.setattr(patterns, "MAX_ENTRIES", 20)
    assert len(patterns.matches(tmp_path, "d0/*/*.yaml")) == 1
    with pytest.raises(patterns.TooManyFiles):
        patterns.matches(tmp_path, "**/*.yaml")


# --- weights -------------------------------------------------------------------------------------


def diamonds(path: Path) -> None:
    """Sixteen groups, each of which holds the next under sixteen names."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("layers")
        for _ in range(15):
            below = group.create_group("0")
            for number in range(1, 16):
                group[str(number)] = below
            group = below


def wide(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        data = group.create_dataset("0", data=[0.0])
        for number in range(1, 600):
            group[str(number)] = data


def header(count: int) -> bytes:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return json.dumps({f"a{number}": entry for number in range(count)}).encode()


def entries(path: Path) -> None:
    text = header(300_000)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0")


def some_entries(path: Path) -> None:
    text = header(20_001)
    path.write_bytes(len(text).to_bytes(8, "little") + text)


FILES: dict[str, Callable[[Path], None]] = {
    "net.weights.h5": diamonds,
    "wide.weights.h5": wide,
    "net.safetensors": entries,
    "some.safetensors": some_entries,
}


@pytest.mark.parametrize("name", FILES)
def test_weights_have_a_budget(
    name: str, tmp_path: Path, clock: Callable[[], object], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from resnet_spec import cli
    from resnet_spec.weights import checkpoint
    from resnet_spec.weights.formats import hdf5

    if name.endswith(".h5"):  # which are slow to write, and to read
        monkeypatch.setattr(checkpoint, "MAX_TENSORS", 500)
        monkeypatch.setattr(hdf5, "_MAX_VISITS", 2_000)
    FILES[name](tmp_path / name)
    clock()
    assert cli.main(["weights", "inspect", str(tmp_path / name), "resnet18"]) == 1
    assert "error RS902" in capsys.readouterr().err


def endless_heap(path: Path, number: int, size: int) -> None:
    """A file whose first heap has an object that leads to itself."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        group.create_dataset("0", data=[0.0])
    data = bytearray(path.read_bytes())
    place = data.index(b"GCOL") + 16
    data[place : place + 2] = number.to_bytes(2, "little")
    data[place + 8 : place + 16] = size.to_bytes(8, "little")
    path.write_bytes(data)


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
@pytest.mark.parametrize(("number", "size"), [(0, 0), (1, 2**64 - 16), (1, 2**64 - 23)])
def test_heaps_of_hdf5_have_an_end(number: int, size: int, ending: str, tmp_path: Path) -> None:
    """In a process of its own: the library holds the interpreter, which no signal gets through."""
    import zipfile

    endless_heap(tmp_path / "net.weights.h5", number, size)
    if ending == "keras":
        with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
            archive.write(tmp_path / "net.weights.h5", "model.weights.h5")
    words = ["weights", "inspect", f"net.{ending}", "resnet18"]
    done = processes.run([*processes.installed(tmp_path / "bin"), *words], tmp_path)
    assert (done.returncode, "its heaps have no end" in done.stderr) == (1, True), done.stderr


def test_heaps_between_two_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from resnet_spec.weights.formats import hdf5_heaps

    head = b"\x89HDF\r\n\x1a\n" + b"\0\0\0\0\0\x08\x08\0"
    heap = b"GCOL\x01\0\0\0" + (4096).to_bytes(8, "little") + bytes(4080)
    for before in range(64):
        monkeypatch.setattr(hdf5_heaps, "_CHUNK", 32)
        assert hdf5_heaps.is_endless(io.BytesIO(head + bytes(before) + heap))
        assert not hdf5_heaps.is_endless(io.BytesIO(head + bytes(before) + heap[1:]))
