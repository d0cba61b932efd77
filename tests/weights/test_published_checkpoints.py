"""Weights travel: every network's tensors through both orders of axes, and through real files.

The tests with a framework load what the command wrote into the generated models, as a user would,
and compare logits in float64; the bound is the one for outputs of two frameworks.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import parity
import pytest
import safetensors.numpy as safetensors

from resnet_spec import cli, read_network
from resnet_spec.backends.keras.variables import VARIABLES
from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_specs
from resnet_spec.weights import adapt, convert
from resnet_spec.weights.checkpoint import Checkpoint, Layout, Tensor
from resnet_spec.weights.entries import KEPT, entries
from resnet_spec.weights.match import Match, match
from resnet_spec.weights.naming import OWN

MAX_VALUES = 5_000_000  # of larger networks the names, shapes and axes are compared alone

# The smallest networks of each family, of the paper, and with each primitive that has weights; all
# but a few run with --slow.
SMALLEST = ("resnet20", "test_resnet", "resnet18", "fixup_resnet20")
SMALLEST_SLOW = (
    "cbam_resnet18",
    "highway20",
    "resnet20_gn",
    "weighted_resnet20",
    "dpn48b",
    "ecaresnext26t_32x4d",
    "seresnet18",
    "resnetv2_18",
    "densenet121",
    "keras_densenet121",
    "legacy_seresnet18",
    "plain18",
    "res2next50",
    "resnest14d",
    "resnetrs50",
    "resnetv2_50d_evos",
    "resnetv2_50d_frn",
    "resnetv2_50x1_bit",
    "resnext50_32x4d",
    "skresnet18",
    "vgg11",
    "wide_resnet50_2",
)


# --- every network, without a framework ----------------------------------------------------------


def tensors_of(network: Network, layout: Layout, state: Mapping[str, Any]) -> Checkpoint:
    """A file as a framework keeps it: Keras' layers have numbered variables."""
    found, numbers = [], Counter[str]()
    for entry in entries(network).values():
        place = entry.place(layout)
        value, name = state[entry.name].transpose(place.axes), place.path
        if layout == "keras":
            name = f"{place.layer}/{numbers[place.layer]}"
            numbers[place.layer] += 1
        found.append(Tensor(name, value.shape, value.dtype.name, partial(np.asarray, value)))
    return Checkpoint("file", layout, layout, tuple(found))


def carried(checkpoint: Checkpoint, network: Network) -> dict[str, Any]:
    found = match(checkpoint, network, [OWN])
    assert found.fits, network.name
    plan = adapt.plan(found, adapt.Options())
    assert not plan.problems
    return convert.state(found, plan, None, None, 0)


@pytest.fixture(scope="module")
def noise() -> Any:
    """Values that the tensors of all networks are cut from; no two neighbours are alike."""
    return np.random.default_rng(0).standard_normal(12_000_000).astype(np.float32)


def values(network: Network, noise: Any) -> dict[str, Any]:
    """Another stretch of the noise for each name; broadcast where the network is large."""
    state = {}
    for name, entry in entries(network).items():
        shape = entry.parameter.shape
        if network.root.parameters > MAX_VALUES:
            state[name] = np.broadcast_to(np.float32(zlib.crc32(name.encode())), shape)
        else:
            start = zlib.crc32(name.encode()) % (len(noise) - entry.parameter.size + 1)
            state[name] = noise[start : start + entry.parameter.size].reshape(shape)
    return state


@pytest.mark.parametrize("name", builtin_specs())
def test_to_others_and_back_is_the_same_bit_for_bit(name: str, noise: Any) -> None:
    network = parity.network_of(name)
    state = values(network, noise)
    if network.root.parameters > MAX_VALUES:
        for layout in get_args(Layout):
            file = tensors_of(network, layout, state)
            found = match(file, network, [OWN])
            assert found.fits
            assert [p.tensor for p in found.fitting] == list(file.tensors)
        for entry in entries(network).values():
            for layout in get_args(Layout):
                assert sorted(entry.place(layout).axes) == list(range(len(entry.parameter.shape)))
        return
    for layout in KEPT:
        theirs = tensors_of(network, layout, carried(tensors_of(network, "torch", state), network))
        back = carried(theirs, network)
        assert list(back) == list(state)
        for each, value in state.items():
            assert back[each].shape == value.shape
            assert np.array_equal(back[each].view(np.uint32), value.view(np.uint32)), each


# --- through files, in real frameworks -----------------------------------------------------------


def command(*arguments: str) -> None:
    assert cli.main(["weights", *arguments, "--quiet"]) == 0


def network_and_model(name: str) -> tuple[Network, Any]:
    network = parity.network_of(name)
    model = parity.build(network, "torch").double().eval()
    parity.randomize(model)
    return network, model


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize(
    "name", [*SMALLEST, *(pytest.param(each, marks=pytest.mark.slow) for each in SMALLEST_SLOW)]
)
def test_through_files_and_frameworks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch to .weights.h5 into Keras to .pt into PyTorch: the same logits, the same bits."""
    import torch
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    network, model = network_and_model(name)
    save_file(model.state_dict(), "a.safetensors")
    command("convert", "a.safetensors", name, "--out", "b.weights.h5")
    command("convert", "b.weights.h5", name, "--out", "c.pt")

    size = 224 if name.startswith("vgg") else 64
    batch = parity.images(2, network.input.channels, size, size)
    with torch.no_grad():
        expected = model(torch.from_numpy(batch)).numpy()
    with parity.float64():
        twin = parity.build(network, "keras", input_shape=(size, size, network.input.channels))
        twin.load_weights("b.weights.h5")
        found = parity.keras_to_torch(twin(batch.transpose(0, 2, 3, 1), training=False))
    assert parity.difference(found, expected) < parity.tolerance(network)

    again = parity.build(network, "torch").double().eval()
    again.load_state_dict(torch.load("c.pt", weights_only=True), strict=True)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_every_family_and_primitive_goes_through_files() -> None:
    named = {*SMALLEST, *SMALLEST_SLOW}
    networks = {name: parity.network_of(name) for name in builtin_specs()}
    families = {network.family for network in networks.values()}
    assert {networks[name].family for name in named} == families
    primitives = {
        name: {operation.primitive.name for _, operation in network.operations()}
        for name, network in networks.items()
    }
    with_weights = {primitive for primitive, _ in VARIABLES}
    used = set().union(*primitives.values()) & with_weights
    assert set().union(*(primitives[name] for name in named)) & with_weights == used == with_weights


@pytest.mark.torch
@pytest.mark.keras
def test_keras_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """.keras holds the model too; what Keras saves of it comes back the same."""
    import keras
    import torch

    monkeypatch.chdir(tmp_path)
    spec = str(parity.SPECS / "more_primitives.yaml")
    network = parity.network_of(spec)
    model = parity.build(network, "torch").eval()
    parity.randomize(model)
    torch.save(model.state_dict(), "a.pth")
    command("convert", "a.pth", spec, "--out", "b.keras")
    opened = keras.saving.load_model("b.keras")
    opened.save("c.keras")
    opened.save("old.h5")
    for file in ("c.keras", "old.h5"):
        command("convert", file, spec, "--out", "d.safetensors", "--force")
        state = safetensors.load_file("d.safetensors")
        for key, value in model.state_dict().items():
            assert np.array_equal(state[key], value.numpy()), key


@pytest.mark.keras
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_types_in_keras(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = read_network("resnet20")
    generator = np.random.default_rng(0)
    state = {
        name: generator.standard_normal(entry.parameter.shape).astype(np.float32)
        for name, entry in entries(network).items()
    }
    safetensors.save_file(state, "a.safetensors")
    command("convert", "a.safetensors", "resnet20", "--out", "b.weights.h5", "--dtype", dtype)
    command("convert", "b.weights.h5", "resnet20", "--out", "c.safetensors")
    command("convert", "a.safetensors", "resnet20", "--out", "d.safetensors", "--dtype", dtype)
    one, other = (safetensors.load_file(f"{file}.safetensors") for file in "cd")
    for name in state:
        assert one[name].dtype.name == dtype
        assert one[name].tobytes() == other[name].tobytes()


# --- published networks --------------------------------------------------------------------------


def imported(network: Network, path: str, *arguments: str) -> Any:
    """The generated PyTorch model with the weights of a published file."""
    import torch

    command("import", path, network.name, *arguments, "--out", "ours.pt")
    model = parity.build(network, "torch").double().eval()
    model.load_state_dict(torch.load("ours.pt", weights_only=True), strict=True)
    return model


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "library", "arguments"),
    [
        ("resnet18", "torchvision", ()),
        ("resnet18", "timm", ("--from", "timm")),
        ("resnetv2_18", "timm", ()),
        ("legacy_seresnet18", "timm", ("--from", "timm")),
        pytest.param("densenet121", "torchvision", (), marks=pytest.mark.slow),
        pytest.param("dpn48b", "timm", (), marks=pytest.mark.slow),
        pytest.param("vgg11", "torchvision", (), marks=pytest.mark.slow),
    ],
)
def test_published_checkpoints(
    name: str,
    library: str,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The generated model with the weights of a published one gives the same logits."""
    import torch
    import zoo
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    network = parity.network_of(name)
    published = next(each for each in network.references if each.library == library)
    theirs, _ = zoo.published_state(published, torch.float64)
    if library == "timm":
        save_file(theirs.state_dict(), "theirs.safetensors")
        path = "theirs.safetensors"
    else:
        torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, "theirs.pth")
        path = "theirs.pth"
    ours = imported(network, path, *arguments)
    size = 224 if name.startswith("vgg") else 64
    batch = torch.from_numpy(parity.images(2, 3, size, size))
    with torch.no_grad():
        difference = parity.difference(ours(batch).numpy(), theirs(batch).numpy())
    assert difference < 1e-10


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize(
    "path", ["theirs.weights.h5", pytest.param("theirs.h5", marks=pytest.mark.slow)]
)
def test_checkpoints_of_keras(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both layouts of a network of keras.applications, into PyTorch."""
    import reference
    import torch

    monkeypatch.chdir(tmp_path)
    network = parity.network_of("keras_resnet50")
    with parity.float64():
        theirs = reference.keras_applications().ResNet50(
            weights=None, input_shape=(64, 64, 3), classifier_activation=None
        )
        generator = np.random.default_rng(0)
        for layer in theirs.layers:
            layer.set_weights(parity.random_values(layer, generator))
        (theirs.save_weights if path.endswith(".weights.h5") else theirs.save)(path)
        batch = parity.images(2, 3, 64, 64)
        expected = np.asarray(theirs(batch.transpose(0, 2, 3, 1), training=False))
    ours = imported(network, path, "--from", "keras", "--force")
    with torch.no_grad():
        found = ours(torch.from_numpy(batch)).numpy()
    assert parity.difference(found, expected) < 1e-10


@pytest.mark.torch
def test_names_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --from, the names with which most fits; convert knows the spec's own alone."""
    import reference
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    network = parity.network_of("resnetv2_18")
    model = reference.timm().create_model("resnetv2_18", pretrained=False)
    save_file(model.state_dict(), "theirs.safetensors")
    assert cli.main(["weights", "inspect", "theirs.safetensors", "resnetv2_18"]) == 0
    assert "names: the names of timm's resnetv2_18\n" in capsys.readouterr().out
    arguments = ["convert", "theirs.safetensors", "resnetv2_18", "--out", "o.safetensors"]
    assert cli.main(["weights", *arguments]) == 1
    assert network.name in capsys.readouterr().err


# --- PyTorch's files -----------------------------------------------------------------------------


class Command:
    """Makes a pickle that runs a command when it is read without care."""

    def __reduce__(self) -> Any:
        return os.system, ("touch was_run",)


@pytest.mark.torch
@pytest.mark.parametrize("old", [False, True], ids=["zip", "pickle"])
def test_code_in_a_pickle_is_not_run(
    old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    tensors = {"conv1.weight": torch.zeros(3), "x": Command()}
    torch.save(tensors, "bad.pt", _use_new_zipfile_serialization=not old)
    assert cli.main(["weights", "inspect", "bad.pt", "resnet20"]) == 1
    error = capsys.readouterr().err
    assert "bad.pt:1:1: error RS902: 'bad.pt' holds more than tensors: it asks for" in error
    assert "system" in error
    assert not Path("was_run").exists()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2, 3], "RS901: 'bad.pt' holds a value of type 'list', not tensors by name"),
        ({}, "RS901: 'bad.pt' has no tensors by name"),
        ({"epoch": 1, "ema": {"a": 1}}, "RS901: 'bad.pt' has no tensors by name"),
        ("sparse", "RS902: 'conv1.weight' in 'bad.pt' is no plain tensor"),
    ],
)
def test_other_things_in_a_pickle(
    value: Any,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.eye(3).to_sparse()} if value == "sparse" else value, "bad.pt")
    assert cli.main(["weights", "inspect", "bad.pt", "resnet20"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.torch
@pytest.mark.parametrize("old", [False, True], ids=["zip", "pickle"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_torch_files_that_are_cut_off(
    old: bool,
    part: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    tensors = {"conv1.weight": torch.zeros(16, 3, 3, 3)}
    torch.save(tensors, "bad.pt", _use_new_zipfile_serialization=not old)
    data = Path("bad.pt").read_bytes()
    Path("bad.pt").write_bytes(data[: int(len(data) * part)])
    assert cli.main(["weights", "inspect", "bad.pt", "resnet20"]) == 1
    assert "error RS901: 'bad.pt' is" in capsys.readouterr().err


@pytest.mark.torch
def test_an_archive_that_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch's archives are not compressed; a small one that states much is not read."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("bad.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    assert cli.main(["weights", "inspect", "bad.pt", "resnet20"]) == 1
    assert "RS902: 'bad.pt' would grow to 10,000,000 bytes" in capsys.readouterr().err


@pytest.mark.torch
def test_a_view_that_states_a_huge_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tensor of one value can state any shape: it is compared, and not read."""
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1).expand(10**6, 10**6)}, "bad.pt")
    assert cli.main(["weights", "inspect", "bad.pt", "resnet20"]) == 1
    assert "1000000x1000000 float32, expected 16x3x3x3" in capsys.readouterr().out


@pytest.mark.torch
@pytest.mark.parametrize("wrap", ["module.", "_orig_mod."])
def test_wrappers_of_training(
    wrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    _, model = network_and_model("resnet20")
    state = {f"{wrap}{name}": value for name, value in model.state_dict().items()}
    torch.save({"model": state, "optimizer": {"state": {}}}, "a.pt")
    assert cli.main(["weights", "convert", "a.pt", "resnet20", "--out", "b.pt"]) == 0
    error = capsys.readouterr().err
    assert "note: taken from 'model' of the checkpoint\n" in error
    assert f"note: '{wrap}' was taken off every name\n" in error
    found = torch.load("b.pt", weights_only=True)
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


@pytest.mark.torch
def test_bfloat16_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    _, model = network_and_model("resnet20")
    state = model.bfloat16().state_dict()
    torch.save(state, "a.pt")
    command("convert", "a.pt", "resnet20", "--out", "b.pt")
    found = torch.load("b.pt", weights_only=True)
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_a_match_does_not_read_values() -> None:
    """Only what is asked for is read: a comparison of shapes costs no memory."""
    network = read_network("resnet20")

    def read() -> Any:
        raise AssertionError

    tensors = tuple(
        Tensor(name, entry.parameter.shape, "float32", read)
        for name, entry in entries(network).items()
    )
    found: Match = match(Checkpoint("file", "torch", "torch", tensors), network, [OWN])
    assert found.fits
