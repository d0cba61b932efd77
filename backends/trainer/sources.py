"""Readers of data sets. Files are not trusted: everything that is read is bounded."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import math
import os
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image, ImageSequence

# Where Debian's package dataset-fashion-mnist puts it.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
SUFFIXES = {b".jpg", b".jpeg", b".png", b".bmp", b".webp", b".tif", b".tiff"}
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  # by content, not by suffix
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # 8 bits or fewer
MAX_PIXELS = 1 << 26  # of an image, before it is decoded
MAX_BYTES = 1 << 32  # of a file of many images, before it is unpacked
MAX_CLASSES = 1 << 16
MAX_TEXT = 4096  # letters of a path or a label in a table
UNREADABLE = (OSError, ValueError, EOFError, KeyError, MemoryError, zlib.error)
Recipe = dict[str, Any]
Planes = list[Image.Image]  # an image: RGB in one, else a plane for each channel
Part = tuple[Any, Any]  # images and labels: arrays, or paths and names of classes


class Problem(Exception):
    """Something that the user can fix; the text says what and how."""


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
    """The image of a file: grey, RGB, or one page per channel."""
    row = given["image"] if isinstance(given, dict) else {"path": os.fsdecode(given)}
    path: Any = row["path"] or "an image of --data"
    try:
        packed: Any = row.get("bytes")
        if not packed and not os.path.isfile(path):
            raise ValueError("not a regular file")
        content = io.BytesIO(packed) if packed else path
        with Image.open(content, formats=FORMATS) as file:
            check_page(file, max(channels, 3) / 3)
            if channels in (1, 3):
                return [file.convert("RGB" if channels == 3 else "L")]
            if (pages := getattr(file, "n_frames", 1)) != channels:
                raise ValueError(f"{pages} pages for {channels} channels")
            planes, size = [], file.size
            for page in ImageSequence.Iterator(file):
                check_page(page, channels / 3, size)
                planes.append(page.convert("L"))
            return planes
    except Exception as error:  # noqa: BLE001 - a broken file may raise anything
        wrong(path, f"not an image that can be read: {error}")


def check_page(page: Image.Image, times: float, size: Any = None) -> None:
    """Raise `ValueError` for too many pixels, more than 8 bits, or another size."""
    if math.prod(page.size) * times > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    deep = ";16" in str(getattr(page, "tile", ""))  # 16-bit RGB has the mode RGB, too
    if deep or page.mode not in MODES:
        kind = "16 bits" if deep else f"mode {page.mode}"
        raise ValueError(f"{kind}; convert it to 8 bits")
    if size and (page.size != size or page.mode not in ("1", "L")):
        raise ValueError("pages that are not grey and of one size")


def wrong(what: object, message: str) -> NoReturn:
    """Raise `Problem`, with control characters in file names escaped."""
    text = f"{what}: {message}"
    raise Problem("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


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
        temporary.unlink(missing_ok=True)
        what = f"cannot write {path}: {error.strerror or error}"
        raise Problem(f"{what}; the last checkpoint is as before") from None


# --- sources --------------------------------------------------------------------------


def load(data: str, recipe: Recipe) -> tuple[Images, Images]:
    """The training and evaluation images of --data; raises `Problem`."""
    folder = FASHION_MNIST if data == "fashion-mnist" else Path(data)
    if data == "synthetic":
        return synthetic(recipe), synthetic(recipe)
    if folder.suffix == ".npz" and folder.is_file():
        parts = [arrays(folder, part) for part in ("train", "test")]
    elif not folder.is_dir():
        hint = f"; {HOW_TO_GET}" if data == "fashion-mnist" else ""
        wrong("--data", f"there is no folder {str(folder)!r}{hint}")
    elif list(folder.glob("*-idx3-ubyte*")):
        parts = [idx(folder, "train"), idx(folder, "t10k")]
    elif (folder / "test_batch.bin").is_file():
        names = [f"data_batch_{i}.bin" for i in range(1, 6)]
        parts = [cifar(folder, names, 3073), cifar(folder, ["test_batch.bin"], 3073)]
    elif (folder / "test.bin").is_file():  # CIFAR-100
        parts = [cifar(folder, [f"{part}.bin"], 3074) for part in ("train", "test")]
    elif (folder / "train.csv").is_file():
        parts = [table(folder, f"{part}.csv") for part in ("train", "val")]
    elif (folder / "dataset_dict.json").is_file():
        parts = hugging_face(folder)
    elif (folder / "train").is_dir() and (folder / "val").is_dir():
        parts = [tree(folder / part) for part in ("train", "val")]
    else:
        wrong("--data", f"{str(folder)!r} holds none of {KINDS}")
    return labelled(data, parts, recipe["input"][0])


HOW_TO_GET = (
    "on Debian: apt-get install dataset-fashion-mnist; elsewhere give the folder of "
    "the four files of https://github.com/zalandoresearch/fashion-mnist"
)
KINDS = (
    "train-images-idx3-ubyte, data_batch_1.bin, train.bin, train.csv, "
    "dataset_dict.json, and folders train and val with a folder for each class"
)


def labelled(data: str, parts: list[Part], channels: int) -> tuple[Images, Images]:
    """Checked images; classes are the training labels' names, or 0 to the highest."""
    made = []
    for source, labels in parts:
        if len(source) == 0 or 0 in getattr(source, "shape", ()):
            wrong("--data", f"{data} has no images")
        if len(labels) != len(source):
            wrong("--data", f"{data}: {len(source)} images, but {len(labels)} labels")
        first = parts[0][0]
        if getattr(source, "ndim", 1) == 4 and source.shape[1:] != first.shape[1:]:
            shapes = f"{first.shape[1:]} to train on, {source.shape[1:]} to evaluate"
            wrong("--data", f"{data} has images of two shapes: {shapes}")
        classes = np.unique(parts[0][1]).tolist()
        if labels.dtype.kind == "U":
            if odd := set(labels.tolist()) - set(classes):
                wrong("--data", f"{data}: not in training: {', '.join(sorted(odd))}")
            labels = np.searchsorted(classes, labels)
        elif max(classes) >= MAX_CLASSES:
            wrong("--data", f"{data}: a label of {max(classes)} means too many classes")
        else:
            classes = [str(i) for i in range(max(classes) + 1)]
        if len(classes) < 2:
            wrong("--data", f"{data} has only one class: {classes}")
        if min(labels) < 0 or max(labels) >= len(classes):
            found = f"{min(labels)} to {max(labels)} for {len(classes)} classes"
            wrong("--data", f"{data} has labels {found}")
        depth = source.shape[3] if getattr(source, "ndim", 1) == 4 else channels
        images = Images(source, labels.astype(np.int64), depth, classes)
        made.append(images)
        few = min(len(images), 1000) if images.size is None else 0
        for index in np.linspace(0, len(images) - 1, few):  # the others when used
            images.planes(int(index))
    return made[0], made[1]


def synthetic(recipe: Recipe) -> Images:
    """Random noise to measure speed: 256 different images, repeated to 10,000."""
    channels, height, width = recipe["input"]
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (256, height, width, channels), np.uint8)
    labels = rng.integers(0, recipe["classes"], 256)[np.arange(10_000) % 256]
    return Images(source, labels, channels, [str(i) for i in range(recipe["classes"])])


def idx(folder: Path, part: str) -> Part:
    """MNIST's format, gzipped or not: train-images-idx3-ubyte, train-labels-..."""
    images = read_idx(folder, f"{part}-images-idx3-ubyte", 3)
    return images[..., None], read_idx(folder, f"{part}-labels-idx1-ubyte", 1)


def read_idx(folder: Path, name: str, rank: int) -> np.ndarray:
    """An array of uint8: magic number, sizes, values."""
    path = max(folder.glob(f"*{name}*"), default=folder / name)
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4 + 4 * rank)
            shape = [int(n) for n in np.frombuffer(head[4:], ">u4")]
            if head[:4] != bytes([0, 0, 8, rank]) or math.prod(shape) > MAX_BYTES:
                raise ValueError(f"its head is {head.hex()}")
            raw = file.read(math.prod(shape) + 1)
            return np.frombuffer(raw, np.uint8).reshape(shape)
    except UNREADABLE as error:
        wrong(path, f"not a whole idx file of bytes with {rank} dimensions: {error}")


def cifar(folder: Path, names: list[str], size: int) -> Part:
    """CIFAR's binary format: one or two labels, then red, green and blue, 32x32."""
    found = []
    for path in [folder / name for name in names]:
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError as error:
            wrong(path, str(error.strerror))
        if len(raw) == 0 or len(raw) % size:
            wrong(path, f"{len(raw)} bytes are not whole records of {size:,}")
        found.append(raw.reshape(-1, size))
    records = np.concatenate(found)
    planes = records[:, -3072:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, -3073]


def arrays(path: Path, part: str) -> Part:
    """The arrays x_PART and y_PART of an .npz file."""
    try:
        with zipfile.ZipFile(path) as file:
            if sum(each.file_size for each in file.infolist()) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as file:
            images, labels = file[f"x_{part}"], file[f"y_{part}"].squeeze()
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        wrong(path, f"x_{part} and y_{part} cannot be read: {error}")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or labels.ndim != 1:
        kind = f"{images.dtype} {images.shape} and labels {labels.shape}"
        wrong(path, f"images {kind}; they are to be uint8 (N, H, W, C) and (N,)")
    if labels.dtype.kind not in "iu":
        wrong(path, f"labels of {labels.dtype}; they are to be whole numbers")
    return images if images.ndim == 4 else images[..., None], labels


def table(folder: Path, name: str) -> Part:
    """A CSV file with the columns path, relative to the folder, and label."""
    try:
        with open(folder / name, encoding="utf-8-sig", newline="") as file:
            rows = [(row["path"] or "", row["label"]) for row in csv.DictReader(file)]
    except (*UNREADABLE, csv.Error) as error:
        wrong(folder / name, f"not a table with the columns path and label: {error}")
    for path, label in rows:
        outside = os.path.isabs(path) or ".." in Path(path).parts
        if outside or not (path and label) or len(path) + len(label) > MAX_TEXT:
            told = f"not a label and a path into the folder: {path[:80]!r}"
            wrong(folder / name, told)
    paths = [os.fsencode(folder / path) for path, _ in rows]
    return np.array(paths, "S"), np.array([label for _, label in rows], "U")


def tree(folder: Path) -> Part:
    """A folder per class, such as train/cat, with images at any depth."""
    paths: list[bytes] = []
    labels: list[str] = []
    others = links = 0
    for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        every = []
        for where, folders, inside in os.walk(folder / name):
            every += [os.fsencode(os.path.join(where, each)) for each in inside]
            links += sum(os.path.islink(os.path.join(where, each)) for each in folders)
        found = sorted(p for p in every if p[p.rfind(b".") :].lower() in SUFFIXES)
        if not found:
            wrong(folder / name, "no images")
        paths, labels = paths + found, labels + [name] * len(found)
        others += len(every) - len(found)
    known = b", ".join(sorted(SUFFIXES)).decode()
    kinds = ((others, f"files skipped that are not {known}"), (links, "links skipped"))
    for number, what in kinds:
        if number and os.environ.get("RANK", "0") == "0":
            print(f"{folder}: {number:,} {what}", file=sys.stderr)
    return np.array(paths, "S"), np.array(labels, "U")


def hugging_face(folder: Path) -> list[Part]:
    """A data set saved by `save_to_disk` of Hugging Face's datasets."""
    try:
        import datasets  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        wrong("--data", "this folder is read with: pip install datasets")
    try:
        found = datasets.load_from_disk(str(folder))
        names = [name for name in ("validation", "test") if name in found]
        parts = [found["train"], found[names[0]]]
        kinds = datasets.Image, datasets.ClassLabel
        features = found["train"].features
        image, label = (
            next(name for name, each in features.items() if isinstance(each, kind))
            for kind in kinds
        )
        if any(min(part[label]) < 0 for part in parts):
            raise ValueError("labels of -1, of no class")
        plain = datasets.Image(decode=False)  # decoded by `opened`, which is bounded
        return [
            (
                part.select_columns(image)
                .rename_columns({image: "image"})
                .cast_column("image", plain),
                np.array(features[label].names)[np.array(part[label])],
            )
            for part in parts
        ]
    except (*UNREADABLE, StopIteration, IndexError, TypeError) as error:
        what = "not train and test, or validation, with images and classes"
        wrong(folder, f"{what}: {error}")
