"""Weights travel between PyTorch's and Flax's names and axes, and into a model of Flax."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy as safetensors

from resnet_spec import cli, read_network
from resnet_spec.ir import Network, evaluate
from resnet_spec.weights.entries import counters, entries

TEXTS = Path(__file__).parent.parent / "programs"
State = dict[str, Any]


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network whose weights stand in `a.safetensors`, as PyTorch has them."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(TEXTS / "small_flax.yaml", "small.yaml")
    found = read_network("small.yaml", ())
    safetensors.save_file(drawn(found), "a.safetensors", metadata={"format": "pt"})
    return found


def drawn(network: Network) -> State:
    generator = np.random.default_rng(0)
    state: State = {
        name: generator.uniform(0.5, 1.5, entry.parameter.shape).astype(np.float32)
        for name, entry in entries(network).items()
    }
    return state | {name: np.array(0) for name in counters(network)}


def command(*arguments: str) -> int:
    return cli.main(["weights", *arguments, "--quiet"])


def assert_alike(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert np.array_equal(value, other[name]), name


def test_a_file_has_the_names_and_axes_of_flax(network: Network) -> None:
    assert (
        command("convert", "a.safetensors", "small.yaml", "--to", "flax", "--out", "b.safetensors")
        == 0
    )
    ours, theirs = (safetensors.load_file(f"{file}.safetensors") for file in "ab")
    assert len(theirs) == len(entries(network))
    assert theirs["conv1.kernel"].shape == (7, 7, 3, 8)
    turned = ours["layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0)
    assert np.array_equal(theirs["layer2.0.downsample.0.kernel"], turned)
    for leaf, name in (("scale", "weight"), ("mean", "running_mean"), ("var", "running_var")):
        assert np.array_equal(theirs[f"bn1.{leaf}"], ours[f"bn1.{name}"])
    assert np.array_equal(theirs["fc.kernel"], ours["fc.weight"].T)


@pytest.mark.parametrize("metadata", [None, {"format": "flax"}])
def test_it_comes_back_bit_for_bit(network: Network, metadata: Any) -> None:
    command("convert", "a.safetensors", "small.yaml", "--to", "flax", "--out", "b.safetensors")
    saved = safetensors.load_file("b.safetensors")
    safetensors.save_file(saved, "b.safetensors", metadata=metadata)
    assert command("convert", "b.safetensors", "small.yaml", "--out", "c.safetensors") == 0
    assert_alike(*(safetensors.load_file(f"{file}.safetensors") for file in "ac"))


def test_what_does_not_fit_is_told_in_the_axes_of_flax(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    command("convert", "a.safetensors", "small.yaml", "--to", "flax", "--out", "b.safetensors")
    state = safetensors.load_file("b.safetensors")
    state["fc.kernel"] = state["fc.kernel"].T.copy()
    state["layer1.0.conv1.weight"] = state.pop("layer1.0.conv1.kernel")
    safetensors.save_file(state, "b.safetensors", metadata={"format": "flax"})
    assert command("convert", "b.safetensors", "small.yaml", "--out", "c.safetensors") == 1
    told = capsys.readouterr().err
    assert "7x16 float32, expected 16x7" in told
    assert "2 tensors of 'small'" in told or "1 tensor of 'small'" in told


def test_another_number_of_channels_and_classes(network: Network) -> None:
    command("convert", "a.safetensors", "small.yaml", "--to", "flax", "--out", "b.safetensors")
    given = (
        "--set",
        "input.channels=1",
        "--set",
        "classes=4",
        "--reset-head",
        "--adapt-input",
        "mean",
    )
    for source, out in (("a", "c"), ("b", "d")):
        assert (
            command(
                "convert",
                f"{source}.safetensors",
                "small.yaml",
                *given,
                "--out",
                f"{out}.safetensors",
            )
            == 0
        )
    assert_alike(*(safetensors.load_file(f"{file}.safetensors") for file in "cd"))


def test_a_file_that_cannot_be_meant(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("convert", "a.safetensors", "small.yaml", "--to", "flax", "--out", "b.pt") == 2
    assert "--out 'b.pt' must end in one of .safetensors for --to flax" in capsys.readouterr().err
    assert command("convert", "a.safetensors", "small.yaml", "--to", "keras", "--out", "b.pt") == 2
    assert "one of .weights.h5, .keras for --to keras" in capsys.readouterr().err


# --- in Flax -------------------------------------------------------------------------------------


def model() -> Any:
    """The model of a text that a person wrote in the layout of the backend."""
    import parity
    from flax import nnx

    text = (TEXTS / "small_flax.txt").read_text(encoding="utf-8")
    return parity.run(text, "small_flax").small(rngs=nnx.Rngs(0))


@pytest.mark.flax
def test_a_model_of_flax_takes_the_file(network: Network) -> None:
    import jax.numpy as jnp
    from flax import nnx
    from safetensors.flax import load_file

    command("convert", "a.safetensors", "small.yaml", "--to", "flax", "--out", "b.safetensors")
    small = model()
    weights = load_file("b.safetensors")
    for path, variable in nnx.iter_graph(small):
        if isinstance(variable, nnx.Param | nnx.BatchStat):
            variable[...] = weights.pop(".".join(map(str, path)))
    assert not weights
    images = np.random.default_rng(1).standard_normal((2, 3, 64, 64)).astype(np.float32)
    small.eval()
    found = np.asarray(small(jnp.asarray(images.transpose(0, 2, 3, 1))))
    expected = evaluate.outputs(network, safetensors.load_file("a.safetensors"), images).logits
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.flax
def test_the_weights_of_a_model_come_to_pytorch(network: Network) -> None:
    from flax import nnx
    from safetensors.flax import save_file

    small = model()
    state = nnx.to_flat_state(nnx.state(small, nnx.Any(nnx.Param, nnx.BatchStat)))
    save_file({".".join(map(str, path)): each[...] for path, each in state}, "b.safetensors")
    assert command("convert", "b.safetensors", "small.yaml", "--out", "c.safetensors") == 0
    found = safetensors.load_file("c.safetensors")
    assert found.keys() == safetensors.load_file("a.safetensors").keys()
    kernel = np.asarray(small.layer2[0].conv1.kernel[...])
    assert np.array_equal(found["layer2.0.conv1.weight"], kernel.transpose(3, 2, 0, 1))
