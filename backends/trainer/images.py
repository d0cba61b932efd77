"""Where images come from: Fashion-MNIST, CIFAR-10, image folders, noise; all are checked."""

from __future__ import annotations

import argparse
import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import Problem, Recipe

# Where Debian's package dataset-fashion-mnist puts it.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


class Images:
    """Labelled images: arrays (N, H, W, C) of bytes, or files that are opened when they are read."""

    def __init__(
        self, source: Any, labels: Any, channels: int, classes: list[str]
    ) -> None:
        self.source, self.labels, self.channels = source, labels, channels
        self.classes = classes

    def __len__(self) -> int:
        return int(self.labels.size)

    def __getitem__(self, index: int) -> np.ndarray:
        """An image (H, W, C) of bytes."""
        if isinstance(self.source, np.ndarray):
            return np.asarray(self.source[index % len(self.source)])
        try:
            with Image.open(self.source[index]) as file:
                image = np.asarray(file.convert("RGB" if self.channels == 3 else "L"))
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            raise Problem(
                f"{self.source[index]}: not an image that can be read: {error}"
            ) from None
        return image.reshape(*image.shape[:2], self.channels)

    def some(self, number: int) -> Images:
        """So many of the images, evenly spread."""
        chosen = np.linspace(0, len(self) - 1, number).astype(int)
        if isinstance(self.source, np.ndarray):
            source: Any = self.source[chosen % len(self.source)]
        else:
            source = [self.source[i] for i in chosen]
        return Images(source, self.labels[chosen], self.channels, self.classes)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width; None for files, which may all differ."""
        if isinstance(self.source, np.ndarray):
            return self.source.shape[1], self.source.shape[2]
        return None


def load_images(data: str, train: bool, recipe: Recipe) -> Images:
    """The images that --data names, checked; raises `Problem`."""
    folder = FASHION_MNIST if data == "fashion-mnist" else Path(data)
    if data == "synthetic":
        images = _synthetic(recipe)
    elif not folder.is_dir():
        hint = (
            "; on Debian: apt-get install dataset-fashion-mnist; elsewhere give the folder of "
            "the four files of https://github.com/zalandoresearch/fashion-mnist"
            if data == "fashion-mnist"
            else ""
        )
        raise Problem(f"--data: there is no folder {str(folder)!r}{hint}")
    elif list(folder.glob("*-idx3-ubyte*")):
        images = _idx(folder, "train" if train else "t10k")
    elif (folder / "test_batch.bin").is_file():
        images = _cifar(folder, train)
    elif (folder / "train").is_dir() and (folder / "val").is_dir():
        images = _folder(folder, "train" if train else "val", recipe["input"][0])
    else:
        raise Problem(
            f"--data: {str(folder)!r} holds neither train-images-idx3-ubyte, nor test_batch.bin, "
            "nor the folders train and val with a folder for each class"
        )
    _check(images, data)
    return images


def _check(images: Images, data: str) -> None:
    if len(images.classes) < 2:
        raise Problem(f"--data: {data} has only one class: {images.classes}")
    if len(images) == 0 or (images.size is not None and 0 in images.size):
        raise Problem(f"--data: {data} has no images")
    labels = np.asarray(images.labels)
    if labels.min() < 0 or labels.max() >= len(images.classes):
        found = f"{labels.min()} to {labels.max()}"
        raise Problem(
            f"--data: {data} has labels {found} for {len(images.classes)} classes"
        )
    if (
        images.size is None
    ):  # files: some of all classes now, the others when it is their turn
        for index in np.linspace(0, len(images) - 1, min(len(images), 1000)):
            images[int(index)]


def _synthetic(recipe: Recipe) -> Images:
    """Noise for measuring speed: 256 images, seen as 10,000."""
    channels, height, width = recipe["input"]
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (256, height, width, channels), np.uint8)
    labels = rng.integers(0, recipe["classes"], 256)[np.arange(10_000) % 256]
    return Images(source, labels, channels, [str(i) for i in range(recipe["classes"])])


def _idx(folder: Path, part: str) -> Images:
    images = _read_idx(folder, f"{part}-images-idx3-ubyte", 3)
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise Problem(
            f"{folder}: {len(images)} images, but {len(labels)} labels of {part}"
        )
    return Images(
        images[..., None], labels.astype(np.int64), 1, [str(i) for i in range(10)]
    )


def _read_idx(folder: Path, name: str, rank: int) -> np.ndarray:
    """An array of bytes, packed by gzip or not: magic number, sizes, values."""
    path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise Problem(f"{path}: {error}") from None
    shape = tuple(int(n) for n in np.frombuffer(raw[4 : 4 + 4 * rank], ">u4"))
    if raw[:4] != bytes([0, 0, 8, rank]) or len(raw) != 4 + 4 * rank + math.prod(shape):
        raise Problem(f"{path}: not a whole idx file of bytes with {rank} dimensions")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _cifar(folder: Path, train: bool) -> Images:
    """CIFAR-10's binary version: a byte for the label, then red, green and blue of 32x32 pixels."""
    parts = []
    for name in (
        [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    ):
        try:
            raw = np.fromfile(folder / name, np.uint8)
        except OSError as error:
            raise Problem(f"{folder / name}: {error.strerror}") from None
        if len(raw) == 0 or len(raw) % 3073:
            raise Problem(
                f"{folder / name}: {len(raw)} bytes are not whole records of 3,073"
            )
        parts.append(raw.reshape(-1, 3073))
    records = np.concatenate(parts)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = records[:, 0].astype(np.int64)
    return Images(np.ascontiguousarray(images), labels, 3, [str(i) for i in range(10)])


def _folder(folder: Path, part: str, channels: int) -> Images:
    """ImageNet's layout: train/CLASS/*.jpg and val/CLASS/*.jpg."""
    classes = sorted(
        path.name for path in (folder / "train").iterdir() if path.is_dir()
    )
    strange = {path.name for path in (folder / part).iterdir() if path.is_dir()} - set(
        classes
    )
    if strange:
        raise Problem(
            f"{folder / part}: classes that train lacks: {', '.join(sorted(strange))}"
        )
    if channels not in (1, 3):
        raise Problem(
            f"image folders have 1 or 3 channels, but the network takes {channels}"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / part / name).is_dir():
            raise Problem(f"{folder / part}: the class {name!r} has no folder")
        found = sorted(
            p for p in (folder / part / name).iterdir() if p.suffix.lower() in SUFFIXES
        )
        if not found:
            raise Problem(f"{folder / part / name}: no images")
        paths += found
        labels += [label] * len(found)
    return Images(paths, np.array(labels, np.int64), channels, classes)


def prepare(args: argparse.Namespace, recipe: Recipe) -> tuple[Images, Images, Recipe]:
    """The images for training and evaluation, and the recipe that fits them.

    That has their classes and channels, and mean and deviation of each channel. With --overfit-one-batch both are the same few images, as they are.
    """
    images, others = (load_images(args.data, part, recipe) for part in (True, False))
    if len(images.classes) != len(others.classes):
        raise Problem(
            f"--data: {args.data}: evaluation has not the classes of training"
        )
    if len(images) < recipe["batch_size"]:
        fill = f"do not fill a batch of {recipe['batch_size']}"
        raise Problem(f"--data: {args.data}: {len(images)} training images {fill}")
    shape = [images.channels, *recipe["input"][1:]]
    recipe = {**recipe, "classes": len(images.classes), "input": shape}
    if args.overfit_one_batch:
        images = others = images.some(recipe["batch_size"])
        recipe = {**recipe, "crop": "none", "flip": False, "mixup": 0.0, "cutmix": 0.0}
    return images, others, measured(images, recipe)


def measured(images: Images, recipe: Recipe) -> Recipe:
    """The recipe with mean and deviation of each channel, measured where it gives none."""
    if not recipe["mean"] and not recipe["std"]:
        if images.size is None:
            raise Problem("an image folder is not measured: give --mean and --std")
        counts = [
            np.bincount(images.source[..., c].ravel(), minlength=256)
            for c in range(images.channels)
        ]
        levels = np.arange(256) / 255
        mean = [float(n @ levels / n.sum()) for n in counts]
        std = [
            float(np.sqrt(n @ (levels - m) ** 2 / n.sum()))
            for n, m in zip(counts, mean)
        ]
        return {**recipe, "mean": mean, "std": std}
    for key in ("mean", "std"):
        if len(recipe[key]) != images.channels:
            given = (
                f"{len(recipe[key])} values for images of {images.channels} channels"
            )
            raise Problem(
                f"--{key}: {given}; give as many, or none for both to measure them"
            )
    return recipe
