"""`weights match` ranks the built-in networks that a file may be of, and a stored pair decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest
import safetensors.numpy as safetensors

from resnet_spec import cli, read_network
from resnet_spec.ir import evaluate
from resnet_spec.language.renames import renamed
from resnet_spec.weights import candidates
from resnet_spec.weights.entries import entries

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    # The built-in networks are read once for all tests of a process.
    monkeypatch.setattr(candidates, "load", lambda name, _: name)
    monkeypatch.setattr(candidates, "lower", parity.network_of)

    def call(*arguments: str) -> tuple[int, str]:
        code = cli.main(["weights", "match", *arguments])
        return code, "".join(capsys.readouterr())

    return call


def drawn(name: str) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    state = {}
    for key, entry in entries(read_network(name)).items():
        shape = entry.parameter.shape
        state[key] = generator.uniform(0.5, 1.5, shape).astype(np.float32)
        if len(shape) > 1:
            value = generator.standard_normal(shape) / np.prod(shape[1:]) ** 0.5
            state[key] = value.astype(np.float32)
    return state


def test_names_and_shapes_tell_the_network(run: Run) -> None:
    """Under any prefix; networks that are nearly the same come behind it."""
    given = {f"module.{name}": value for name, value in drawn("resnet20").items()}
    safetensors.save_file(given, "a.safetensors")
    code, told = run("a.safetensors")
    fitting = [line.split()[1] for line in told.splitlines() if line.startswith("fits ")]
    assert (code, fitting) == (0, ["plain20", "resnet20"]), told  # shortcuts have no weights
    assert "  layers: add, pad_channels, subsample\n" in told
    found = json.loads(run("a.safetensors", "--format", "json")[1])
    assert found["candidates"][0]["share"] == 1.0
    shares = [each["share"] for each in found["candidates"] if not each["whole"]]
    assert shares == sorted(shares, reverse=True)


def test_names_of_a_published_network(run: Run) -> None:
    network = read_network("resnetv2_18")
    (published,) = [each for each in network.references if each.library == "timm"][:1]
    theirs = {ours: name for name, ours in _inverse(network, published.rename).items()}
    safetensors.save_file({theirs[k]: v for k, v in drawn("resnetv2_18").items()}, "a.safetensors")
    code, told = run("a.safetensors")
    assert code == 0, told
    assert "resnetv2_18" in told and f"the names of timm's {published.model}" in told


def _inverse(network: Any, rules: Any) -> dict[str, str]:
    """Names that the rules lead to ours, found by trying: `{theirs: ours}`."""
    found = {}
    for ours in entries(network):
        parts = ours.split(".")
        tries = []
        if parts[0].startswith("layer"):
            stage = int(parts[0].removeprefix("layer")) - 1
            tries.append(".".join([f"stages.{stage}.blocks", *parts[1:]]))
            tries.append(
                ".".join([f"stages.{stage}.blocks", parts[1], "downsample.conv", parts[-1]])
            )
        stem = ours.replace("conv1.", "stem.conv.") if ours.startswith("conv1.") else ours
        tries += [stem, f"head.{ours}", ours]
        name = next(t for t in tries if renamed(t, rules) == ours)
        found[name] = ours
    return found


def test_what_the_weights_do_not_show_is_told(run: Run) -> None:
    """Two networks with the same weights: blurred maps, and maps that are not."""
    safetensors.save_file(drawn("resnet18"), "a.safetensors")
    code, told = run("a.safetensors")
    assert code == 0
    assert "2 networks fit; they differ in what the weights do not show:" in told
    assert "stride: " in told and "layers: blur_pool" in told


def test_a_stored_pair_decides(run: Run) -> None:
    """Two networks with the same weights: one with shortcuts, and one without."""
    state = drawn("resnet20")
    safetensors.save_file(state, "a.safetensors")
    images = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    made = evaluate.outputs(read_network("plain20"), state, images)
    np.savez("io.npz", input=images, output=made.logits)
    code, told = run("a.safetensors", "--probe", "io.npz")
    first, second = told.splitlines()[1:3]
    assert (code, first.split()[1], second.split()[1]) == (0, "plain20", "resnet20"), told
    assert "e-0" in first and "from what was stored" in first
    np.savez("io.npz", input=images, output=made.logits + 1)
    assert run("a.safetensors", "--probe", "io.npz")[0] == 1


def test_a_stored_pair_that_can_not_be_compared(run: Run) -> None:
    """Its images have another number of channels than those of all networks that fit."""
    safetensors.save_file(drawn("resnet20"), "a.safetensors")
    np.savez("io.npz", input=np.zeros((1, 5, 32, 32)), output=np.zeros((1, 10)))
    code, told = run("a.safetensors", "--probe", "io.npz")
    assert (code, "RS911: 'io.npz' has images of 5 channels, the spec of 3" in told) == (1, True)
    assert "no built-in network" not in told and "weights verify FILE plain20" in told, told


def test_folded_norms_are_told_with_their_flag(run: Run) -> None:
    """A norm that was folded leaves its convolution a bias, which the network has not."""
    state = drawn("resnet20")
    folded = {name: each for name, each in state.items() if "bn" not in name}
    for name in [name for name in folded if "conv" in name]:
        bias = name.replace(".weight", ".bias")
        folded[bias] = np.ones(len(folded[name]), np.float32)
    safetensors.save_file(folded, "a.safetensors")
    code, told = run("a.safetensors")
    lines = [line for line in told.splitlines() if line.startswith("fits ")]
    needing = [line for line in lines if "with --unfold-norms: 19 norms of " in line]
    assert code == 0 and {"resnet20", "plain20"} <= {line.split()[1] for line in needing}, told


def test_a_file_of_no_known_network(run: Run) -> None:
    safetensors.save_file({"a.weight": np.ones((3, 3), np.float32)}, "a.safetensors")
    code, told = run("a.safetensors")
    assert (code, "no built-in network is this one" in told) == (1, True), told
    assert run("a.safetensors", "--probe", "nothing.npz")[0] == 2
    Path("b.pt").write_bytes(b"nothing at all, and no file of weights")
    code, told = run("b.pt")
    assert (code, "RS901: 'b.pt' is no file of weights" in told) == (1, True), told
