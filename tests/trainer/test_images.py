"""The trainers' images and schedules, which need no framework: what is read, refused and made."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trainer_checks
import trainers
from trainers import compiled, imported, write_idx

pytestmark = pytest.mark.torch  # numpy, pillow and tqdm come with the frameworks

Recipe = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("compiled"), "torch")


@pytest.fixture
def images(folder: Path) -> ModuleType:
    return imported(folder, "images")


@pytest.fixture
def batches(folder: Path) -> ModuleType:
    return imported(folder, "batches")


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    return trainers.recipe_of(folder)


def write_folder(root: Path, sizes: tuple[int, ...] = (3, 3)) -> Path:
    """Image folders with a class for each number, and so many images in it."""
    import numpy as np
    from PIL import Image

    for part in ("train", "val"):
        for label, number in enumerate(sizes):
            (root / part / f"class{label}").mkdir(parents=True)
            for index in range(number):
                pixels = np.full((10, 14), 100 * label + index, np.uint8)
                Image.fromarray(pixels).save(root / part / f"class{label}" / f"{index}.png")
    return root


def write_cifar(root: Path, label: int = 3) -> Path:
    root.mkdir()
    record = bytes([label]) + bytes(1024) + bytes([1]) * 1024 + bytes([2]) * 1024
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (root / name).write_bytes(record * 4)
    return root


# --- reading -------------------------------------------------------------------------------------


def test_idx_files_are_read_packed_or_not(
    images: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    data = write_idx(tmp_path / "idx")
    plain = images.load_images(str(data), True, recipe)
    assert plain.source.shape == (64, 8, 8, 1)
    assert list(plain.labels[:12]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    for path in list(data.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = images.load_images(str(data), True, recipe)
    assert (packed.source == plain.source).all()


def test_cifar_is_red_green_blue(images: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    found = images.load_images(str(write_cifar(tmp_path / "cifar")), True, recipe)
    assert found.source.shape == (20, 32, 32, 3)
    assert list(found[0][5, 7]) == [0, 1, 2]
    assert set(found.labels) == {3}


def test_folders_are_read(images: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    found = images.load_images(str(write_folder(tmp_path / "data")), True, recipe)
    assert (len(found), found.size, found.classes) == (6, None, ["class0", "class1"])
    assert found[4].shape == (10, 14, 1)
    assert int(found[4][0, 0, 0]) == 101


def test_mean_and_deviation_are_measured(
    images: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    found = images.load_images(str(write_idx(tmp_path / "idx")), True, recipe)
    measured = images.measured(found, recipe)
    scaled = found.source / 255
    assert measured["mean"] == [pytest.approx(scaled.mean(), abs=1e-12)]
    assert measured["std"] == [pytest.approx(scaled.std(), abs=1e-12)]


# --- refusing ------------------------------------------------------------------------------------


def broken(kind: str, root: Path) -> Path:
    """Data with one thing wrong."""
    if kind == "no folder":
        return root / "none"
    if kind == "nothing known":
        (root / "empty").mkdir()
        return root / "empty"
    if kind == "cifar label":
        return write_cifar(root / "cifar", label=10)
    if kind == "cifar cut":
        path = write_cifar(root / "cifar") / "data_batch_2.bin"
        path.write_bytes(path.read_bytes()[:-1])
        return path.parent
    if kind == "cifar file missing":
        path = write_cifar(root / "cifar") / "data_batch_2.bin"
        path.unlink()
        return path.parent
    if kind.startswith("idx"):
        path = write_idx(root / "idx") / "train-labels-idx1-ubyte"
        text = path.read_bytes()
        wrong = {"idx label": text[:-1] + b"\n", "idx cut": text[:-1], "idx magic": b"x" + text}
        path.write_bytes(wrong[kind])
        return path.parent
    data = write_folder(root / "data", (3,) if kind == "one class" else (3, 3))
    if kind == "corrupt image":
        (data / "train" / "class1" / "1.png").write_bytes(b"no image")
    elif kind == "truncated image":
        path = data / "train" / "class1" / "1.png"
        path.write_bytes(path.read_bytes()[:45])
    elif kind == "empty class":
        shutil.rmtree(data / "train" / "class1")
        (data / "train" / "class1").mkdir()
    elif kind == "strange class":
        (data / "val" / "class7").mkdir()
    elif kind == "missing class":
        shutil.rmtree(data / "val" / "class1")
    return data


@pytest.mark.parametrize(
    ("kind", "train", "message"),
    [
        ("no folder", True, "there is no folder"),
        ("nothing known", True, "holds neither"),
        ("cifar label", True, "has labels 10 to 10 for 10 classes"),
        ("cifar cut", True, r"data_batch_2.bin: 12291 bytes are not whole records"),
        ("cifar file missing", True, "data_batch_2.bin: No such file"),
        ("idx label", True, "has labels 0 to 10 for 10 classes"),
        ("idx cut", True, "train-labels-idx1-ubyte: not a whole idx file"),
        ("idx magic", True, "not a whole idx file"),
        ("one class", True, r"has only one class: \['class0'\]"),
        ("corrupt image", True, "class1/1.png: not an image that can be read"),
        ("truncated image", True, "class1/1.png: not an image that can be read"),
        ("empty class", True, "class1: no images"),
        ("strange class", False, "classes that train lacks: class7"),
        ("missing class", False, "'class1' has no folder"),
    ],
)
def test_wrong_data_is_told(
    folder: Path, recipe: Recipe, tmp_path: Path, kind: str, train: bool, message: str
) -> None:
    images = imported(folder, "images")
    with pytest.raises(images.Problem, match=message):
        images.load_images(str(broken(kind, tmp_path)), train, recipe)


def test_how_to_get_fashion_mnist_is_told(
    images: ModuleType, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "FASHION_MNIST", tmp_path / "none")
    with pytest.raises(images.Problem, match="apt-get install dataset-fashion-mnist; elsewhere"):
        images.load_images("fashion-mnist", True, recipe)
    monkeypatch.setattr(images, "FASHION_MNIST", write_idx(tmp_path / "idx"))
    assert len(images.load_images("fashion-mnist", True, recipe)) == 64


def test_a_folder_is_not_measured(images: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    found = images.load_images(str(write_folder(tmp_path / "data")), True, recipe)
    with pytest.raises(images.Problem, match="give --mean and --std"):
        images.measured(found, recipe)


# --- making --------------------------------------------------------------------------------------


def test_each_image_of_an_epoch_is_seen_once_by_one_process(folder: Path) -> None:
    trainer_checks.images_in_order(folder)


@pytest.mark.parametrize("crop", ["none", "pad", "resized", "scaled"])
def test_crops_have_the_size_of_the_network(batches: ModuleType, recipe: Recipe, crop: str) -> None:
    import numpy as np

    changed = {**recipe, "crop": crop, "scales": [9, 12], "resize": 9, "input": [3, 8, 8]}
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for seed in range(20):
        made = batches.augmented(image, (8, 8), changed, np.random.default_rng(seed))
        assert (made.shape, made.dtype) == ((8, 8, 3), np.uint8)
        again = batches.augmented(image, (8, 8), changed, np.random.default_rng(seed))
        assert (made == again).all()


def test_padding_and_mirrors(batches: ModuleType, recipe: Recipe) -> None:
    import numpy as np

    image = np.arange(1, 65, dtype=np.uint8).reshape(8, 8, 1)
    seen = {
        batches.augmented(image, (8, 8), recipe, np.random.default_rng(seed)).tobytes()
        for seed in range(300)
    }
    border = np.pad(image[..., 0], 1)
    views = [border[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    assert seen == {each.tobytes() for view in views for each in (view, view[:, ::-1])}


def test_targets_are_smoothed_and_mixed(batches: ModuleType, recipe: Recipe) -> None:
    import numpy as np

    source = np.repeat(np.arange(8, dtype=np.uint8) * 30, 16).reshape(8, 4, 4, 1)
    data = batches.Images(source, np.arange(8) % 4, 1, list("abcd"))
    plain = {**recipe, "crop": "none", "mean": [0.0], "std": [1.0], "label_smoothing": 0.2}
    _, targets, labels = batches.Batches(data, plain, 0, 0)[0]
    assert targets[0] == pytest.approx([0.85 if c == labels[0] else 0.05 for c in range(4)])

    for kind in ("mixup", "cutmix"):
        inputs, targets, labels = batches.Batches(data, {**plain, kind: 1.0}, 0, 0)[0]
        values = inputs.mean(axis=(1, 2, 3)) * 255
        first = source[batches.Batches(data, plain, 0, 0).order][:, 0, 0, 0].astype(float)
        difference = first - first[::-1]
        share = (values - first[::-1])[difference != 0] / difference[difference != 0]
        assert share == pytest.approx([share[0]] * len(share), abs=1e-4)
        kept = targets[np.arange(8), labels] - 0.05
        different = labels != labels[::-1]
        assert kept[different] / 0.8 == pytest.approx([share[0]] * different.sum(), abs=1e-4)
        assert targets.sum(axis=1) == pytest.approx([1.0] * 8)


def test_ten_crops_are_corners_and_centre_with_mirrors(batches: ModuleType, recipe: Recipe) -> None:
    import numpy as np

    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    data = batches.Images(image, np.array([0]), 1, ["a", "b"])
    plain = {**recipe, "mean": [0.0], "std": [1.0]}
    inputs, _ = batches.Views(data, plain, True)[0]
    crops = (inputs[..., 0] * 255).round().astype(int)
    border = np.pad(image[0, ..., 0], 1)
    places = [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)]
    expected = [border[y : y + 8, x : x + 8] for y, x in places]
    assert (crops[0::2] == np.stack(expected)).all()
    assert (crops[1::2] == np.stack(expected)[:, :, ::-1]).all()


# --- the learning rate ---------------------------------------------------------------------------


def test_the_learning_rate_of_each_schedule(folder: Path) -> None:
    trainer_checks.rates(folder)
