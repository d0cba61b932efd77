"""The trainers' images and schedules, which need no framework: what is read, refused and made."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
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
def sources(folder: Path) -> ModuleType:
    return imported(folder, "sources")


@pytest.fixture
def data(folder: Path) -> ModuleType:
    return imported(folder, "data")


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
    sources: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    where = write_idx(tmp_path / "idx")
    plain, others = sources.load(str(where), recipe)
    assert (plain.source.shape, len(others)) == ((64, 8, 8, 1), 24)
    assert list(plain.labels[:12]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    for path in list(where.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed, _ = sources.load(str(where), recipe)
    assert (packed.source == plain.source).all()


def test_idx_files_have_any_number_of_classes(
    sources: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    where = write_idx(tmp_path / "idx")
    labels = where / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + bytes([46]))
    for images in sources.load(str(where), recipe):
        assert len(images.classes) == 47


def test_cifar_is_red_green_blue(sources: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    import numpy as np

    found, others = sources.load(str(write_cifar(tmp_path / "cifar")), recipe)
    assert (found.source.shape, others.source.shape) == ((20, 32, 32, 3), (4, 32, 32, 3))
    assert list(found.source[0, 5, 7]) == [0, 1, 2]
    assert np.array_equal(np.asarray(found.planes(0)[0]), found.source[0])
    assert set(found.labels) == {3}


def test_the_finer_of_two_labels_counts(
    sources: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(bytes([9, 4]) + bytes([7]) * 3072 + bytes([8, 2]) * 1537)
    found, _ = sources.load(str(tmp_path), recipe)
    assert list(found.labels) == [4, 2]
    assert len(found.classes) == 5


def test_arrays_are_read(sources: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    import numpy as np

    path, images = tmp_path / "five.npz", np.arange(1920, dtype=np.uint8).reshape(6, 8, 8, 5)
    labels = np.arange(6)[:, None] % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])
    found, others = sources.load(str(path), recipe)
    assert (found.channels, found.classes, len(others)) == (5, ["0", "1", "2"], 2)
    assert (np.dstack([np.asarray(p) for p in found.planes(3)]) == images[3]).all()


def test_folders_are_read(
    sources: ModuleType, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those within a class's folder, too; what is skipped is told."""
    root = write_folder(tmp_path / "data")
    (root / "train/class1/deep/er").mkdir(parents=True)
    (root / "train/class1/2.png").rename(root / "train/class1/deep/er/2.PNG")
    (root / "train/class0/notes.txt").touch()
    found, _ = sources.load(str(root), recipe)
    assert (len(found), found.size, found.classes) == (6, None, ["class0", "class1"])
    assert found.planes(4)[0].size == (14, 10)
    assert found.planes(4)[0].getpixel((0, 0)) == 101
    assert "train: 1 files or links skipped that are hidden or not .bmp" in capsys.readouterr().err


def test_tables_are_read(sources: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    for part in ("train", "val"):
        rows = [f"{part}/class{i}/{j}.png,{name}" for i, name in enumerate("ba") for j in range(3)]
        (root / f"{part}.csv").write_text("\n".join(["path,label", *rows]))
    found, _ = sources.load(str(root), recipe)
    assert (found.classes, list(found.labels)) == (["a", "b"], [1, 1, 1, 0, 0, 0])
    assert found.planes(4)[0].getpixel((0, 0)) == 101
    (root / "val.csv").write_text("path,label\n../val/class0/0.png,a\n")
    with pytest.raises(sources.Problem, match=r"val.csv: .*: no label and path into its"):
        sources.load(str(root), recipe)


def test_a_name_need_not_be_text(sources: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    strange = os.fsdecode(b"\xff\x1b[31m.png")
    (root / "train/class0/0.png").rename(root / "train/class0" / strange)
    found, _ = sources.load(str(root), recipe)
    assert len(found) == 6
    (root / "train/class0" / strange).write_bytes(b"no image")
    with pytest.raises(sources.Problem, match="not an image") as raised:
        sources.load(str(root), recipe)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("P", 1, (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (10, 20, 30)),
        ("LA", (10, 200), (10, 10, 10)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (255, 255, 255, 0), (0, 0, 0)),
    ],
)
def test_modes_become_colours(
    sources: ModuleType, tmp_path: Path, mode: str, pixel: Any, expected: tuple[int, ...]
) -> None:
    from PIL import Image

    image = Image.new(mode, (4, 4), pixel)
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    path = tmp_path / "image.tif"
    image.save(path)
    assert sources.opened(bytes(path), 3)[0].getpixel((2, 2)) == expected


def test_pages_are_channels(sources: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    pages = [Image.new("L", (4, 3), value) for value in (5, 6, 7, 8)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    found = sources.opened(bytes(tmp_path / "stack.tif"), 4)
    assert [plane.getpixel((3, 2)) for plane in found] == [5, 6, 7, 8]
    with pytest.raises(sources.Problem, match="4 pages for 5 channels"):
        sources.opened(bytes(tmp_path / "stack.tif"), 5)


def test_mean_and_deviation_are_measured(data: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    found, _ = data.load(str(write_idx(tmp_path / "idx")), recipe)
    measured = data.measured(found, recipe)
    scaled = found.source / 255
    assert measured["mean"] == [pytest.approx(scaled.mean(), abs=1e-12)]
    assert measured["std"] == [pytest.approx(scaled.std(), abs=1e-12)]


def test_data_sets_of_hugging_face_are_read(
    sources: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["b", "a"]), "img": datasets.Image()}
    )
    images = [Image.fromarray(np.full((10, 14), 20 * i, np.uint8)) for i in range(6)]
    rows = {"img": images, "label": [0, 0, 0, 1, 1, 1]}
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(str(tmp_path / "set"))
    found, _ = sources.load(str(tmp_path / "set"), recipe)
    assert (found.classes, list(found.labels)) == (["a", "b"], [1, 1, 1, 0, 0, 0])
    assert found.planes(4)[0].size == (14, 10)
    assert found.planes(4)[0].getpixel((0, 0)) == 80


def test_boxes_of_cutmix_lie_around_any_pixel(data: ModuleType, recipe: Recipe) -> None:
    """And are cut off at the edges: with half of 8x8 replaced, they have sides of 2 to 4."""
    import numpy as np

    changed = {**recipe, "cutmix": 1000.0}
    batch = np.zeros((2, 8, 8, 1), np.uint8), np.zeros((2, 4), np.float32), np.arange(2)
    sides = set()
    for number in range(100):
        _, chances, _ = data.mixture((8, 8), changed, 0, number, batch)
        top, left, bottom, right = chances[0, 1:5]
        sides |= {(bottom - top), (right - left)}
    assert sides == {2, 3, 4}


def test_what_is_hidden_is_no_class_and_no_image(
    sources: ModuleType, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "data")
    for hidden in (".ipynb_checkpoints", "class0/.cache"):
        shutil.copytree(root / "train/class1", root / "train" / hidden)
    (root / "train/class0/._0.png").write_bytes(b"of another system")
    found, _ = sources.load(str(root), recipe)
    assert (len(found), found.classes) == (6, ["class0", "class1"])
    assert "train: 1 files or links skipped that are hidden or not" in capsys.readouterr().err


def test_labels_of_tables_have_no_blanks_around(
    sources: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "data")
    for part in ("train", "val"):
        rows = [f"{part}/class0/0.png, a", f"{part}/class0/1.png,a", f"{part}/class1/0.png,b "]
        (root / f"{part}.csv").write_text("\n".join(["path,label", *rows]))
    assert sources.load(str(root), recipe)[0].classes == ["a", "b"]


def test_noise_is_told(
    sources: ModuleType, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.load("synthetic", recipe)
    assert capsys.readouterr().err == (
        "train.py: --data synthetic: random noise, to measure speed\n"
    )


# --- refusing ------------------------------------------------------------------------------------


def write_arrays(path: Path, kind: str) -> Path:
    """Arrays with one thing wrong."""
    import numpy as np

    images: Any = np.zeros((4, 8, 8, 3), np.float32 if kind == "npz float" else np.uint8)
    labels: Any = np.arange(4) / 2 if kind == "npz halves" else np.arange(4)
    if kind == "npz transposed":
        images = images.transpose(0, 3, 1, 2)
    if kind == "npz objects":
        labels = np.array([print] * 4, object)
    if kind == "npz classes":
        labels = labels + 2_000_000_000
    names = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels[:3]}
    if kind in ("npz channels", "npz classes"):
        names |= {"x_test": images[..., : 1 if kind == "npz channels" else 3], "y_test": labels}
    if kind == "npz less":
        del names["x_test"]
    np.savez(path, **names)
    if kind == "npz bomb":
        pack = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        with pack as file, file.open("x_train.npy", "w", force_zip64=True) as member:
            for _ in range(65):
                member.write(bytes(1 << 26))
    return path


def write_png(path: Path, width: int, height: int, bits: int) -> None:
    """A black PNG of RGB, whose pixels may be fewer than it says."""
    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    text = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        text += struct.pack(">I", len(body)) + kind + body
        text += struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(text)


def write_sixteen_bits(path: Path) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path)


def write_avif(path: Path) -> None:
    """What begins as AVIF does, for which Pillow has a decoder."""
    path.write_bytes(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(64))


FILES: dict[str, Callable[[Path], object]] = {
    "avif": write_avif,
    "bomb": lambda path: write_png(path, 50_000, 40_000, 8),  # a few bytes long
    "sixteen bits of colours": lambda path: write_png(path, 8, 8, 16),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "sixteen bits": write_sixteen_bits,
    "postscript": lambda path: path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    ),
}


def broken_idx(kind: str, root: Path) -> Path:
    """Files of arrays with one thing wrong."""
    path = write_idx(root) / "train-labels-idx1-ubyte"
    text = path.read_bytes()
    wrong = {"idx cut": text[:-1], "idx long": text + b"x", "idx magic": b"x" + text}
    path.write_bytes(wrong.get(kind, text))
    if kind == "idx several":
        (path.parent / f"emnist-{path.name}.gz").write_bytes(gzip.compress(text))
    elif kind == "idx label":
        path = path.with_name("t10k-labels-idx1-ubyte")
        path.write_bytes(path.read_bytes()[:-1] + b"\n")
    elif kind in ("idx bomb", "idx packed bomb"):
        shape = b"\xff" * 12 if kind == "idx bomb" else struct.pack(">III", 64, 8, 8)
        packed = gzip.compress(bytes([0, 0, 8, 3]) + shape + bytes(1 << 28), 1)
        (path.parent / "train-images-idx3-ubyte").unlink()
        (path.parent / "train-images-idx3-ubyte.gz").write_bytes(packed)
    return path.parent


def broken(kind: str, root: Path) -> Path:
    """Data with one thing wrong."""
    if kind.startswith("idx"):
        return broken_idx(kind, root / "idx")
    if kind.startswith("npz"):
        return write_arrays(root / "some.npz", kind)
    if kind.startswith("cifar"):
        path = write_cifar(root / "cifar") / "data_batch_2.bin"
        path.write_bytes(path.read_bytes()[:-1])
        if kind == "cifar file missing":
            path.unlink()
        return path.parent
    if kind == "nothing known":
        (root / "empty").mkdir()
        return root / "empty"
    data = write_folder(root / "data", (3,) if kind == "one class" else (3, 3))
    if kind == "semicolons":
        (data / "train.csv").write_text("path;label\ntrain/class0/0.png;a\n")
    elif kind == "corrupt image":
        (data / "train" / "class1" / "1.png").write_bytes(b"no image")
    elif kind in FILES:
        FILES[kind](data / "train" / "class1" / "1.png")
    elif kind == "truncated image":
        path = data / "train" / "class1" / "1.png"
        path.write_bytes(path.read_bytes()[:45])
    elif kind == "empty class":
        shutil.rmtree(data / "train" / "class1")
        (data / "train" / "class1").mkdir()
    elif kind == "strange class":
        shutil.copytree(data / "val" / "class1", data / "val" / "class7")
    return data


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing known", r"there is no folder .*empty. with one of \*-idx3-ubyte"),
        ("cifar cut", "data_batch_2.bin: not whole records of 3,073 bytes: "),
        ("cifar file missing", "data_batch_2.bin: not whole records .* No such file"),
        ("idx label", "labels 0 to 10, not 0 to 9"),
        ("idx cut", "train-labels-idx1-ubyte: not a whole idx file"),
        ("idx long", "train-labels-idx1-ubyte: not a whole idx file"),
        ("idx magic", "not a whole idx file"),
        ("idx bomb", "train-images-idx3-ubyte.gz: not a whole idx file"),
        ("idx packed bomb", "train-images-idx3-ubyte.gz: not a whole idx file"),
        ("npz float", "some.npz: not arrays x_train and y_train: float32 "),
        ("npz transposed", r"looks like \(N, C, H, W\); np.moveaxis\(x, 1, 3\) makes"),
        ("idx several", "give a folder with one of emnist-train-labels-idx1-ubyte.gz, train-la"),
        ("semicolons", "train.csv: not a table .*, with commas between: it begins with 'path;la"),
        ("npz halves", "labels of float64"),
        ("npz objects", "not arrays x_train and y_train: Object arrays cannot be loaded"),
        ("npz less", "not arrays x_test and y_test: .*x_test"),
        ("npz labels", "some.npz: not usable: 4 images, but 3 labels"),
        pytest.param("npz bomb", "more than 4,294,967,296 bytes", marks=pytest.mark.slow),
        ("one class", r"only one class: \['class0'\]"),
        ("corrupt image", "class1/1.png: not an image that can be read"),
        ("truncated image", "class1/1.png: not an image that can be read"),
        ("bomb", r"1.png: not an image that can be read: .*pixels"),
        ("sixteen bits", r"1.png: not an image that can be read: 16 bits; convert it to 8"),
        ("postscript", "1.png: not an image that can be read: cannot identify"),
        ("avif", "1.png: not an image that can be read: cannot identify"),
        ("empty class", "class1: no images"),
        ("strange class", "not in training: class7"),
        ("npz channels", r"images of two shapes: \(8, 8, 3\) in training, \(8, 8, 1\)"),
        ("npz classes", "labels 2000000000 to 2000000003, not 0 to 65535"),
        ("sixteen bits of colours", "1.png: not an image that can be read: 16 bits; convert it"),
        ("pipe", "1.png: not an image that can be read: not a regular file"),
    ],
)
def test_wrong_data_is_told(
    sources: ModuleType, recipe: Recipe, tmp_path: Path, kind: str, message: str
) -> None:
    """And takes no memory beside what a few images do."""
    import tracemalloc

    where = str(broken(kind, tmp_path))
    tracemalloc.start()
    try:
        with pytest.raises(sources.Problem, match=message):
            sources.load(where, recipe)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_a_class_may_have_nothing_to_evaluate(
    sources: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "data")
    shutil.rmtree(root / "val" / "class1")
    for images in sources.load(str(root), recipe):
        assert images.classes == ["class0", "class1"]


def test_links_are_skipped_and_told(
    sources: ModuleType, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "data")
    (root / "train/class0/more").symlink_to(root / "val/class0", target_is_directory=True)
    assert len(sources.load(str(root), recipe)[0]) == 6
    assert "train: 1 files or links skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"size": (9, 8)}, "pages that are not grey and of one size"),
        ({"mode": "RGB"}, "pages that are not grey"),
        ({"mode": "I;16"}, "16 bits"),
        ({"mode": "F"}, "mode F"),
    ],
)
def test_every_page_is_checked(
    sources: ModuleType, tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    from PIL import Image

    given = {"mode": "L", "size": (8, 8)}
    pages = [Image.new(**each) for each in (given, given, given | other, given)]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(sources.Problem, match=message):
        sources.opened(os.fsencode(path), 4)


def test_tables_may_begin_as_spreadsheets_write_them(
    sources: ModuleType, recipe: Recipe, tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "data")
    for part in ("train", "val"):
        rows = [f"{part}/class{i}/0.png,{'ab'[i]}" for i in range(2)]
        text = "\n".join(["\ufeffpath,label", *rows])
        (root / f"{part}.csv").write_text(text, encoding="utf-8")
    assert sources.load(str(root), recipe)[0].classes == ["a", "b"]
    with (root / "train.csv").open("a") as file:
        file.write(f"\ntrain/class0/0.png,{'x' * 100_000}")
    with pytest.raises(sources.Problem, match="no label and path into its folder"):
        sources.load(str(root), recipe)


def test_how_to_get_fashion_mnist_is_told(
    sources: ModuleType, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FASHION_MNIST", tmp_path / "none")
    with pytest.raises(sources.Problem, match="apt-get install dataset-fashion-mnist; elsewhere"):
        sources.load("fashion-mnist", recipe)
    monkeypatch.setattr(sources, "FASHION_MNIST", write_idx(tmp_path / "idx"))
    assert len(sources.load("fashion-mnist", recipe)[0]) == 64


def test_a_folder_is_not_measured(data: ModuleType, recipe: Recipe, tmp_path: Path) -> None:
    found, _ = data.load(str(write_folder(tmp_path / "data")), recipe)
    with pytest.raises(data.Problem, match="give --mean and --std"):
        data.measured(found, recipe)


# --- making --------------------------------------------------------------------------------------


def test_each_image_of_an_epoch_is_seen_once_by_one_process(folder: Path) -> None:
    trainer_checks.images_in_order(folder)


@pytest.mark.parametrize("files", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_batches_are_the_same_for_any_number_of_workers(
    folder: Path, data: ModuleType, recipe: Recipe, tmp_path: Path, files: bool
) -> None:
    import numpy as np

    sources = imported(folder, "sources")
    data = imported(folder, "data")
    where = write_folder(tmp_path / "data", (5, 6)) if files else write_idx(tmp_path / "idx")
    changed = {**recipe, "crop": "resized", "batch_size": 4, "cutmix": 1.0}
    images, _ = sources.load(str(where), changed)
    order = data.training(images, changed, 0, start=3)
    expected = [order[step] for step in range(9)]
    sys.path.insert(0, str(folder))  # where grain's processes find it, too
    for workers in (0, 1, 2, 4):
        loaded = itertools.islice(data.ahead(order, workers, files), 9)
        for one, other in zip(loaded, expected, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    sys.path.remove(str(folder))


@pytest.mark.parametrize("crop", ["none", "pad", "resized", "scaled"])
def test_crops_have_the_size_of_the_network(
    folder: Path, sources: ModuleType, recipe: Recipe, crop: str
) -> None:
    import numpy as np

    changed = {**recipe, "crop": crop, "scales": [9, 12], "resize": 9, "input": [3, 8, 8]}
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 30, 3), np.uint8)
    images = sources.Images(pixels, np.array([0]), 3, ["a", "b"])
    data = imported(folder, "data")
    data.input_size = lambda *_, **__: (8, 8)
    for seed in range(20):
        made, box, label = data.trained(images, changed, 0, np.random.default_rng(seed))
        assert (made.shape, made.dtype, label) == ((8, 8, 3), np.uint8, 0)
        assert not box.any()
        again, *_ = data.trained(images, changed, 0, np.random.default_rng(seed))
        assert (made == again).all()


@pytest.mark.parametrize(("crop", "side"), [("pad", 8), ("none", 9)])
def test_files_are_seen_whole(
    folder: Path, recipe: Recipe, tmp_path: Path, crop: str, side: int
) -> None:
    """By default, the shorter side becomes that of the input, or an eighth longer.

    Training and evaluation see the same scale; to pad, a border is put around its middle.
    """
    import numpy as np
    from PIL import Image

    data, sources = imported(folder, "data"), sys.modules["sources"]
    noise = np.random.default_rng(0).integers(1, 256, (64, 96), np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    paths = np.array([bytes(tmp_path / "image.png")])
    images = sources.Images(paths, np.array([0]), 1, ["a", "b"])
    changed = {**recipe, "crop": crop, "flip": False}
    short, long = side, round(96 * side / 64)
    whole = Image.fromarray(noise).resize((long, short), Image.Resampling.BILINEAR)
    top, left = (short - 7) // 2, (long - 7) // 2
    middle = np.asarray(whole)[top : top + 8, left : left + 8].astype(int)
    views, _ = data.evaluation(images, changed)[0]
    assert np.abs(views[0, 0, ..., 0] - middle).max() <= 1
    border = np.pad(middle, recipe["padding"] if crop == "pad" else 0)
    places = [border[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    places = [each for each in places if each.shape == (8, 8)]
    seen = set()
    for seed in range(100):
        made = data.trained(images, changed, 0, np.random.default_rng(seed))[0][..., 0]
        seen |= {i for i, each in enumerate(places) if np.abs(made - each).max() <= 1}
    assert seen == set(range(9 if crop == "pad" else 1))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), ""),
        (("--resize", 16), ""),
        (("--resize", 17), "--resize 17: the network sees only 8x8 pixels of it"),
        (("--crop", "scaled"), "--scales 256: the network sees only 8x8 pixels of it"),
    ],
)
def test_small_parts_of_images_are_told(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
    told: str,
) -> None:
    imported(folder, "train")
    common, data = sys.modules["common"], sys.modules["data"]
    where = str(write_folder(tmp_path / "data", (6, 2)))
    more = ["--mean", "0.5", "--std", "0.5", *map(str, words)]
    data.prepare(common.parse(["small", "--data", where, *more], "", {}))
    assert capsys.readouterr().err == (f"train.py: {told}\n" if told else "")


def test_padding_and_mirrors(folder: Path, recipe: Recipe) -> None:
    import numpy as np

    data, sources = imported(folder, "data"), sys.modules["sources"]
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
    images = sources.Images(image, np.array([0]), 1, ["a", "b"])
    seen = {
        data.trained(images, recipe, 0, np.random.default_rng(seed))[0].tobytes()
        for seed in range(300)
    }
    border = np.pad(image[0, ..., 0], 1)
    views = [border[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    assert seen == {each.tobytes() for view in views for each in (view, view[:, ::-1])}


def test_a_part_is_resized_as_if_it_were_cut_out_of_the_whole(folder: Path, recipe: Recipe) -> None:
    import numpy as np
    from PIL import Image

    data = imported(folder, "data")
    ramp = np.linspace(0, 255, 40 * 30).reshape(30, 40).astype(np.uint8)
    image = Image.fromarray(ramp)
    made = data.crop([image], (8, 8), {**recipe, "crop": "scaled"}, 10, 1, 0)
    found = np.dstack(made)
    whole = np.asarray(image.resize((13, 10), Image.Resampling.BILINEAR))
    assert np.abs(found[..., 0].astype(int) - whole[:8, 5:].astype(int)).max() <= 1


def test_ten_crops_are_corners_and_centre_with_mirrors(folder: Path, recipe: Recipe) -> None:
    import numpy as np

    data, sources = imported(folder, "data"), sys.modules["sources"]
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    images = sources.Images(image, np.array([0]), 1, ["a", "b"])
    found, labels = data.evaluation(images, recipe, ten=True)[0]
    assert (found.shape, list(labels)) == ((8, 10, 8, 8, 1), [0] + [-1] * 7)
    border = np.pad(image[0, ..., 0], 1)
    places = [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)]
    expected = np.stack([border[y : y + 8, x : x + 8] for y, x in places])
    assert (found[0, 0::2, ..., 0] == expected).all()
    assert (found[0, 1::2, ..., 0] == expected[:, :, ::-1]).all()


def test_images_and_targets_are_mixed_alike(folder: Path, recipe: Recipe) -> None:
    """By mixup half and half; by CutMix a quarter; what is erased is the mean."""
    import torch

    devices = imported(folder, "devices")
    place = trainer_checks.place_of(devices)
    changed = {**recipe, "mean": [0.0], "std": [1.0], "classes": 4, "label_smoothing": 0.2}
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].repeat(1, 4, 4, 1)
    labels, none = torch.tensor([1, 2]), [0.0] * 4
    plain = torch.tensor([[1.0, *none, *none]] * 2)
    made, targets = devices.prepared(images, plain, labels, changed, place)
    assert made.unique().tolist() == [0, 1]
    assert targets[0].tolist() == pytest.approx([0.05, 0.85, 0.05, 0.05])
    for row, kept in (([0.75, *none], 0.75), ([1.0, 2, 0, 4, 2], 0.75)):
        chances = torch.tensor([[*row, *none]] * 2)
        mixed = {**changed, "mixup": 1.0}
        found, mixture = devices.prepared(images, chances, labels, mixed, place)
        assert found.mean(dim=(1, 2, 3)).tolist() == pytest.approx([1 - kept, kept])
        assert mixture[0].tolist() == pytest.approx([0.05, 0.05 + 0.8 * kept, 0.25, 0.05])
    assert (found[0, 0, 2:, :2] == 1).all() and found[0].sum() == 4


class Chosen:
    """Stands for chance: a kind of change, a strength of 31, and a sign."""

    def __init__(self, kind: int, level: int, sign: int) -> None:
        self.numbers, self.sign = [kind, level], sign

    def integers(self, most: int) -> int:
        return self.numbers.pop(0)

    def choice(self, _: object) -> int:
        return self.sign


# What torchvision's TrivialAugmentWide calls them, in the order of ours.
CHANGES = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness"),
    *("Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)


@pytest.mark.parametrize("kind", range(14))
def test_changes_are_those_of_torchvision(data: ModuleType, kind: int) -> None:
    """Of each strength and sign; where pixels move, but for rounding."""
    import numpy as np
    import reference
    from PIL import Image

    transforms = reference.torchvision().transforms
    space = transforms.TrivialAugmentWide()._augmentation_space(31)
    assert set(space) == set(CHANGES)
    from torchvision.transforms.autoaugment import _apply_op

    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
    magnitudes, signed = space[CHANGES[kind]]
    for level, sign in itertools.product((0, 1, 13, 30), (-1, 1) if signed else (1,)):
        amount = float(magnitudes[level]) * sign if magnitudes.ndim else 0.0
        bilinear = transforms.InterpolationMode.BILINEAR
        expected = _apply_op(image, CHANGES[kind], amount, bilinear, None)
        (found,) = data.altered([image], Chosen(kind, level, sign))
        apart = np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int))
        assert np.quantile(apart, 0.97) <= 1, (level, sign)


def test_images_may_be_repeated(folder: Path, recipe: Recipe) -> None:
    """So many times in a row, each time cropped anew and by another process."""
    import numpy as np

    data, sources = imported(folder, "data"), sys.modules["sources"]
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
    images = sources.Images(pixels, np.arange(64), 1, [str(i) for i in range(64)])
    order = data.training(images, {**recipe, "repeats": 4}, 0)
    epoch = [order[step] for step in range(8)]
    labels = np.concatenate([labels for *_, labels in epoch])
    assert (labels.reshape(16, 4) == labels[::4, None]).all()
    assert len(set(labels)) == 16
    first = epoch[0][0][:4]
    assert any(not np.array_equal(first[0], other) for other in first[1:])
    later = np.concatenate([order[step][2] for step in range(8, 16)])
    assert set(later) != set(labels)
    shares = [data.training(images, {**recipe, "repeats": 4}, 0, share=(r, 2, 1)) for r in (0, 1)]
    assert all(sorted(share[0][2]) == sorted(labels[:8:2]) for share in shares)


def test_training_may_have_another_size(folder: Path, recipe: Recipe) -> None:
    import numpy as np

    data, sources = imported(folder, "data"), sys.modules["sources"]
    pixels = np.random.default_rng(0).integers(0, 256, (8, 20, 30, 1), np.uint8)
    images = sources.Images(pixels, np.arange(8) % 2, 1, ["a", "b"])
    changed = {**recipe, "crop": "resized", "train_size": 6, "augment": "trivial", "resize": 9}
    assert data.training(images, changed, 0)[0][0].shape == (8, 6, 6, 1)
    assert data.evaluation(images, changed)[0][0].shape == (8, 1, 8, 8, 1)
    several = data.evaluation(images, changed, ten=True, sides=[8, 16, 20])[0][0]
    assert several.shape == (8, 30, 8, 8, 1)
    alone = [data.evaluation(images, changed, ten=True, sides=[n])[0][0] for n in (8, 16, 20)]
    assert np.array_equal(several, np.concatenate(alone, axis=1))


def test_rare_classes_may_weigh_more(folder: Path, tmp_path: Path) -> None:
    imported(folder, "train")
    common, data = sys.modules["common"], sys.modules["data"]
    where = write_folder(tmp_path / "data", (6, 2))
    more = ["--mean", "0.5", "--std", "0.5", "--class-weights", "balanced", "--batch-size", "4"]
    args = common.parse(["small", "--data", str(where), *more], "", {})
    data.prepare(args)
    assert args.recipe["loss_weights"] == [8 / 12, 2.0]


@pytest.mark.parametrize(
    ("words", "factor", "epoch"),
    [
        (["--unit", "epochs"], 8, 8),  # 64 images in batches of 8
        (["--unit", "steps"], 1, 8),
        (["--unit", "epochs", "--overfit-one-batch"], 8, 320),  # evaluated at the end
    ],
)
def test_a_recipe_becomes_one_in_steps(
    folder: Path, tmp_path: Path, words: list[str], factor: int, epoch: int
) -> None:
    imported(folder, "train")
    common, data = sys.modules["common"], sys.modules["data"]
    where = str(write_idx(tmp_path / "idx"))
    args = common.parse(["small", "--data", where, "--warmup", "2", *words], "", {})
    data.prepare(args)
    found = [args.recipe[key] for key in ("length", "warmup", "milestones", "unit")]
    assert found == [40 * factor, 2 * factor, [20 * factor, 30 * factor], "steps"]
    assert (args.steps, args.epoch) == (40 * factor, epoch)


# --- the learning rate ---------------------------------------------------------------------------


def test_the_learning_rate_of_each_schedule(folder: Path) -> None:
    trainer_checks.rates(folder)
