"""Readers of data sets. Files are not trusted: everything that is read is bounded."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import gzip
import io
import math
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Where Debian's package dataset-fashion-mnist puts it.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
SUFFIXES = {b".jpg", b".jpeg", b".png", b".bmp", b".webp", b".tif", b".tiff"}
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  # by content, not by suffix
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # 8 bits or fewer
MAX_PIXELS = 1 << 26  # of an image, before it is decoded
MAX_BYTES = 1 << 32  # of a file of many images, before it is unpacked
MAX_CLASSES = 1 << 16
MAX_TEXT = 4096  # letters of a path or a label in a table
Args = argparse.Namespace
Recipe = dict[str, Any]
Planes = list[Image.Image]  # an image: RGB in one, else a plane for each channel
Part = tuple[Any, Any]  # images and labels: arrays, or paths and names of classes


class Problem(Exception):
    """Something that the user can fix; the text, of one line, says what and how."""

    def __init__(self, text: str) -> None:
        letters = " ".join(text.split())
        shown = (c if c.isprintable() else ascii(c)[1:-1] for c in letters)
        super().__init__("".join(shown))


def say(text: str) -> None:
    """Tell the user, once for all processes, something that does not end the run."""
    if os.environ.get("RANK", "0") == "0":
        print(f"train.py: {text}", file=sys.stderr)


@contextlib.contextmanager
def reading(path: object, what: str) -> Iterator[None]:
    """Raise `Problem` for whatever is raised while a file is read that is not `what`."""
    try:
        yield
    except Problem:
        raise
    except Exception as error:  # noqa: BLE001 - a broken file may raise anything
        raise Problem(f"{path}: not {what}: {str(error)[:300]}") from None


def write_whole(path: Path, data: bytes, append: bool = False) -> None:
    """Write a file completely or not at all; raises `Problem`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(path if append else temporary, "ab" if append else "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not append:
            os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        what = f"cannot write {path}: {error.strerror or error}"
        raise Problem(f"{what}; what was there before stays") from None


@dataclasses.dataclass(frozen=True)
class Images:
    """Labelled images: an array (N, H, W, C), uint8, or files to open on demand.

    Files are an array of paths (bytes), or rows of a Hugging Face data set.
    """

    source: Any
    labels: np.ndarray
    channels: int
    classes: list[str]

    def __len__(self) -> int:
        return int(self.labels.size)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width; None for files, whose sizes may differ."""
        return self.source.shape[1:3] if getattr(self.source, "ndim", 1) == 4 else None

    def planes(self, index: int) -> Planes:
        """An image as Pillow images; `Problem` for a file that cannot be read."""
        found = self.source[int(index) % len(self.source)]
        if self.size is None:
            return opened(found, self.channels)
        kept = [found] if self.channels == 3 else np.moveaxis(found, 2, 0)
        return [Image.fromarray(np.ascontiguousarray(plane)) for plane in kept]


def opened(given: Any, channels: int) -> Planes:
    """The image of a path or row: grey, RGB, or one page per channel."""
    row: Any = given["image"] if isinstance(given, dict) else {"path": given}
    path, packed = os.fsdecode(row["path"] or "an image of --data"), row.get("bytes")
    content: Any = io.BytesIO(packed) if packed else path
    planes: Planes = []
    with reading(path, "an image that can be read"):
        if not packed and not os.path.isfile(path):
            raise ValueError("not a regular file")
        pages = 1 if channels in (1, 3) else channels
        with Image.open(content, formats=FORMATS) as file:
            size, found = file.size, getattr(file, "n_frames", 1) if pages > 1 else 1
            if found != pages:
                raise ValueError(f"{found} pages for {channels} channels")
            for number in range(pages):
                file.seek(number)
                if math.prod(file.size) * max(channels / 3, 1) > MAX_PIXELS:
                    raise ValueError(f"more than {MAX_PIXELS:,} pixels")
                # RGB of 16 bits has the mode of 8 bits.
                deep = ";16" in str(getattr(file, "tile", ""))
                if deep or file.mode not in MODES:
                    kind = "16 bits" if deep else f"mode {file.mode}"
                    raise ValueError(f"{kind}; convert it to 8 bits")
                if pages > 1 and (file.size != size or file.mode not in ("1", "L")):
                    raise ValueError("pages that are not grey and of one size")
                planes.append(file.convert("RGB" if channels == 3 else "L"))
    return planes


# --- readers --------------------------------------------------------------------------


def idx(folder: Path, part: str) -> Part:
    """MNIST's format, gzipped or not: a magic number, sizes, values."""
    arrays = []
    for kind, rank in (("images-idx3", 3), ("labels-idx1", 1)):
        name = f"{part}-{kind}-ubyte"
        found = sorted(folder.glob(f"*{name}*"))  # packed ones are the last
        path = (found or [folder / name])[-1]
        if len({str(each).removesuffix(".gz") for each in found}) > 1:
            several = ", ".join(each.name for each in found)
            raise Problem(f"--data: {folder}: give a folder with one of {several}")
        with reading(path, f"a whole idx file of bytes with {rank} dimensions"):
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                head = file.read(4 + 4 * rank)
                shape = [int(n) for n in np.frombuffer(head[4:], ">u4")]
                if head[:4] != bytes([0, 0, 8, rank]) or math.prod(shape) > MAX_BYTES:
                    raise ValueError(f"its head is {head.hex()}")
                raw = file.read(math.prod(shape) + 1)
            arrays.append(np.frombuffer(raw, np.uint8).reshape(shape))
    return arrays[0][..., None], arrays[1]


def cifar(folder: Path, part: str) -> Part:
    """CIFAR's binary format: one or two labels, then red, green and blue, 32x32."""
    size = 3073 if "batch" in part else 3074  # CIFAR-10, CIFAR-100
    names = [f"{part}_{i}" for i in range(1, 6)] if part == "data_batch" else [part]
    found = []
    for path in [folder / f"{name}.bin" for name in names]:
        with reading(path, f"whole records of {size:,} bytes"):
            found.append(np.fromfile(path, np.uint8).reshape(-1, size))
    records = np.concatenate(found)
    planes = records[:, -3072:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, -3073]


def arrays(path: Path, part: str) -> Part:
    """The arrays x_PART and y_PART of an .npz file."""
    with reading(path, f"arrays x_{part} and y_{part}"):
        with zipfile.ZipFile(path) as pack:
            if sum(each.file_size for each in pack.infolist()) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as file:
            images, labels = file[f"x_{part}"], file[f"y_{part}"].squeeze()
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(f"{images.dtype} {images.shape}, not uint8 (N, H, W, C)")
        shape = images.shape
        if len(shape) == 4 and shape[1] in (1, 3) and shape[2] == shape[3] > 4:
            hint = "np.moveaxis(x, 1, 3) makes (N, H, W, C) of it"
            raise ValueError(f"{shape} looks like (N, C, H, W); {hint}")
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"labels of {labels.dtype} {labels.shape}, not int (N,)")
    return images if images.ndim == 4 else images[..., None], labels


def table(folder: Path, part: str) -> Part:
    """A CSV file with the columns path, relative to the folder, and label."""
    path, paths, labels = folder / f"{part}.csv", [], []
    with reading(path, "a table with the columns path and label, with commas between"):
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(io.StringIO(text))
        if not {"path", "label"} <= {*(rows.fieldnames or ())}:
            raise ValueError(f"it begins with {text[:80]!r}")
        for row in rows:
            name, label = row["path"] or "", (row["label"] or "").strip()
            outside = os.path.isabs(name) or ".." in Path(name).parts
            if outside or not (name and label) or len(name + label) > MAX_TEXT:
                raise ValueError(f"no label and path into its folder: {name[:80]!r}")
            paths.append(os.fsencode(folder / name))
            labels.append(label)
    return np.array(paths, "S"), np.array(labels, "U")


def tree(folder: Path, part: str) -> Part:
    """A folder per class, such as train/cat, with images at any depth."""
    root, others = folder / part, 0
    paths: list[bytes] = []
    labels: list[str] = []
    with reading(root, "a folder with a folder for each class"):
        names = sorted(path.name for path in root.glob("[!.]*") if path.is_dir())
    for name in names:
        found: list[bytes] = []
        for where, folders, files in os.walk(os.fsencode(root / name)):
            folders[:] = [each for each in folders if not each.startswith(b".")]
            others += sum(os.path.islink(os.path.join(where, each)) for each in folders)
            shown = (each for each in files if not each.startswith(b"."))
            images = [p for p in shown if os.path.splitext(p)[1].lower() in SUFFIXES]
            others += len(files) - len(images)
            found += [os.path.join(where, each) for each in images]
        if not found:
            raise Problem(f"{root / name}: no images")
        paths += sorted(found)
        labels += [name] * len(found)
    if others:
        known = b", ".join(sorted(SUFFIXES)).decode()
        say(f"{root}: {others:,} files or links skipped that are hidden or not {known}")
    return np.array(paths, "S"), np.array(labels, "U")


def hugging_face(folder: Path, part: str) -> Part:
    """A data set saved by `save_to_disk` of Hugging Face's datasets."""
    with reading(folder, "a data set of images and classes (pip install datasets)"):
        import datasets  # type: ignore[import-not-found, unused-ignore]

        found = datasets.load_from_disk(str(folder))
        found = found[part if part in found else "test"]
        kinds = {type(each): name for name, each in found.features.items()}
        image, label = kinds[datasets.Image], kinds[datasets.ClassLabel]
        labels, names = np.array(found[label]), np.array(found.features[label].names)
        if min(labels) < 0:
            raise ValueError("labels of -1, of no class")
        rows = found.select_columns(image).rename_columns({image: "image"})
        plain = datasets.Image(decode=False)  # decoded by `opened`, which is bounded
    return rows.cast_column("image", plain), names[labels]


# What a folder holds, how that is read, and what its parts are called.
READERS: dict[str, tuple[Any, str, str]] = {
    "*-idx3-ubyte*": (idx, "train", "t10k"),
    "test_batch.bin": (cifar, "data_batch", "test_batch"),
    "test.bin": (cifar, "train", "test"),
    "train.csv": (table, "train", "val"),
    "dataset_dict.json": (hugging_face, "train", "validation"),
    "train": (tree, "train", "val"),
}
HOW_TO_GET = (
    "on Debian: apt-get install dataset-fashion-mnist; elsewhere give the folder of "
    "the four files of https://github.com/zalandoresearch/fashion-mnist"
)


def load(data: str, recipe: Recipe) -> tuple[Images, Images]:
    """The training and evaluation images of --data; raises `Problem`."""
    if data == "synthetic":
        say("--data synthetic: random noise, to measure speed")
        return synthetic(recipe), synthetic(recipe)
    folder = FASHION_MNIST if data == "fashion-mnist" else Path(data)
    kinds = (READERS[name] for name in READERS if any(folder.glob(name)))
    reader = (arrays, "train", "test") if folder.is_file() else next(kinds, None)
    if reader is None:
        hint = HOW_TO_GET if data == "fashion-mnist" else "or an .npz file"
        kind = f"there is no folder {str(folder)!r} with one of {', '.join(READERS)}"
        raise Problem(f"--data: {kind}; {hint}")
    read, *names = reader
    parts: list[Part] = [read(folder, name) for name in names]
    with reading(f"--data: {data}", "usable"):
        first, second = (labelled(*part, *parts[0], recipe) for part in parts)
    return first, second


def labelled(
    source: Any, labels: np.ndarray, first: Any, names: np.ndarray, recipe: Recipe
) -> Images:
    """Checked images; classes are the training labels' names, or 0 to the highest."""
    shape, like = source.shape, first.shape
    if 0 in shape or len(labels) != shape[0]:
        raise ValueError(f"{shape[0]} images, but {len(labels)} labels")
    if shape[1:] != like[1:]:
        raise ValueError(f"images of two shapes: {like[1:]} in training, {shape[1:]}")
    classes = np.unique(names).tolist()
    if names.dtype.kind == "U":
        if unknown := set(labels.tolist()) - set(classes):
            raise ValueError(f"not in training: {', '.join(sorted(unknown))}")
        labels = np.searchsorted(classes, labels)
    else:
        classes = [str(i) for i in range(min(classes[-1], MAX_CLASSES) + 1)]
    if len(classes) < 2:
        raise ValueError(f"only one class: {classes}")
    least, most, last = labels.min(), labels.max(), min(len(classes), MAX_CLASSES) - 1
    if least < 0 or most > last:
        raise ValueError(f"labels {least} to {most}, not 0 to {last}")
    files = len(shape) < 4
    depth = recipe["input"][0] if files else shape[3]
    images = Images(source, labels.astype(np.int64), depth, classes)
    few = min(len(images), 1000) if files else 0
    for index in np.linspace(0, len(images) - 1, few):  # the others when used
        images.planes(int(index))
    return images


def synthetic(recipe: Recipe) -> Images:
    """Random noise to measure speed: 256 different images, repeated to 10,000."""
    channels, height, width = recipe["input"]
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (256, height, width, channels), np.uint8)
    labels = rng.integers(0, recipe["classes"], 256)[np.arange(10_000) % 256]
    return Images(source, labels, channels, [str(i) for i in range(recipe["classes"])])
