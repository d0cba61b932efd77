"""Batches of bytes: the same in every framework, for any number of processes.

Every choice by chance is a function of the seed and of a place in the run, so a run that
goes on sees what one sees that never stopped. Grain orders, deals out and reads ahead,
Pillow resizes; to make numbers of the bytes is left to the device.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Iterator
from typing import Any

import grain  # type: ignore[import-untyped]
import numpy as np
from absl import flags
from PIL import Image

from common import Recipe
from sources import Images, Planes

Size = tuple[int, int]  # height and width
Span = tuple[float, float]  # least and most
Box = tuple[int, int, int, int]  # top, left, bottom, right
Chance = np.random.Generator


def input_size(images: Images, recipe: Recipe) -> tuple[int, int]:
    """Height and width that the network sees: of the images, or where resized, its own."""
    if images.size is not None and recipe["crop"] in ("none", "pad"):
        return images.size
    return recipe["input"][1], recipe["input"][2]


def trained(images: Images, recipe: Recipe, index: int, rng: Chance) -> Any:
    """An image to train on, cropped as the recipe says; the box to erase; its label."""
    planes, size = images.planes(index), input_size(images, recipe)
    if recipe["crop"] == "resized":  # of random area and aspect (Szegedy et al. 2015)
        width, height = planes[0].size
        areas, whole = (recipe["min_area"], 1.0), (0, 0, height, width)
        box = random_box((height, width), areas, (3 / 4, 4 / 3), rng) or whole
        pixels = cut(planes, (box[1], box[0], box[3], box[2]), size)
    else:
        least, most = recipe["scales"]
        scaled = recipe["crop"] == "scaled"
        side = int(rng.integers(least, most + 1)) if scaled else recipe["resize"]
        place = (0.5, 0.5) if recipe["crop"] == "none" else rng.random(2)
        pixels = crop(planes, size, recipe, side, *place)
    if recipe["flip"] and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    box = (0, 0, 0, 0)
    if rng.random() < recipe["erasing"]:  # as torchvision's RandomErasing
        box = random_box(size, (0.02, 0.33), (0.3, 3.3), rng) or box
    return pixels, np.array(box, np.float32), images.labels[index]


def viewed(images: Images, recipe: Recipe, ten: bool, index: int) -> Any:
    """An image to evaluate: its centre, or ten crops, the corners too, all mirrored.

    With its label, or -1 for what fills up the last batch.
    """
    planes, size = images.planes(index % len(images)), input_size(images, recipe)
    places = [(0.5, 0.5), (0, 0), (1, 0), (0, 1), (1, 1)] if ten else [(0.5, 0.5)]
    found = [crop(planes, size, recipe, recipe["resize"], *place) for place in places]
    if ten:
        found = [each for one in found for each in (one, one[:, ::-1])]
    return np.stack(found), images.labels[index] if index < len(images) else -1


def crop(planes: Planes, size: Size, recipe: Recipe, side: int, *place: float) -> Any:
    """A crop of the image with a border, if that fits the network, or else resized.

    Its place is from 0 to 1 across and down: (0, 1) is the lower left corner.
    """
    own, border, ends = planes[0].size, 0, []
    sides = [max(side, *size, round(n * max(side, *size) / min(own))) for n in own]
    if own == size[::-1] and recipe["crop"] in ("none", "pad"):
        sides, border = list(own), recipe["padding"] if recipe["crop"] == "pad" else 0
    for made, old, share, length in zip(sides, own, place, size[::-1]):
        room = made + 2 * border - length
        first = min(int(share * (room + 1)), room) - border
        ends.append((first * old / made, (first + length) * old / made))
    (left, right), (top, bottom) = ends
    return cut(planes, (left, top, right, bottom), size)


def cut(planes: Planes, box: tuple[float, ...], size: Size) -> np.ndarray:
    """What is from left and top to right and bottom, as bytes (H, W, C) of this size."""
    left, top, right, bottom = box
    if (bottom - top, right - left) == size:  # all is black beyond the image's edge
        edges = int(left), int(top), int(right), int(bottom)
        made = [plane.crop(edges) for plane in planes]
    else:
        inner = left, top, min(right, planes[0].width), min(bottom, planes[0].height)
        how = Image.Resampling.BILINEAR
        made = [plane.resize(size[::-1], how, inner) for plane in planes]
    return np.dstack([np.asarray(plane) for plane in made])


def random_box(size: Size, areas: Span, aspects: Span, rng: Chance) -> Box | None:
    """Top, left, bottom and right of a box of random area and aspect; None if none fits."""
    rows, columns = size
    for _ in range(10):
        area = rows * columns * rng.uniform(*areas)
        aspect = math.exp(rng.uniform(math.log(aspects[0]), math.log(aspects[1])))
        height, width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < height <= rows and 0 < width <= columns:
            top = int(rng.integers(rows - height + 1))
            left = int(rng.integers(columns - width + 1))
            return top, left, top + height, left + width
    return None


# --- batches --------------------------------------------------------------------------


def training(
    images: Images,
    recipe: Recipe,
    seed: int,
    start: int = 0,
    share: tuple[int, int, int] = (0, 1, 1),
) -> Any:
    """From a step on, without end, the batches of one process: bytes, chances and labels.

    `share` is its rank, the number of processes, and of batches that make up its step.
    What is left of an epoch's last batch is dropped.
    """
    batch, (rank, world, accumulate) = recipe["batch_size"], share
    whole = len(images) // batch * batch
    order = grain.MapDataset.range(len(images)).seed(seed).shuffle()[:whole].repeat()
    each = order.random_map(functools.partial(trained, images, recipe))[rank::world]
    batches = each.batch(batch // (world * accumulate))
    mixed = functools.partial(mixture, input_size(images, recipe), recipe, seed)
    return batches.map_with_index(mixed)[start * accumulate :]


def mixture(size: Size, recipe: Recipe, seed: int, number: int, batch: Any) -> Any:
    """The batch with what chance makes of it on the device, nine numbers for each image.

    How much is kept beside its partner, by mixup; the box that its partner fills, by
    CutMix; the box that is erased.
    """
    images, erased, labels = batch
    rng = np.random.default_rng([seed, number])
    kinds = [kind for kind in ("mixup", "cutmix") if recipe[kind] > 0]
    row = np.array([1, 0, 0, 0, 0], np.float32)
    if kinds:
        kind = kinds[rng.integers(len(kinds))]
        row[0] = kept = rng.beta(recipe[kind], recipe[kind])
        if kind == "cutmix":
            height, width = (int(n * math.sqrt(1 - kept)) for n in size)
            top = rng.integers(size[0] - height + 1)
            left = rng.integers(size[1] - width + 1)
            row = np.array([1, top, left, top + height, left + width], np.float32)
    return images, np.hstack([np.tile(row, (len(images), 1)), erased]), labels


def evaluation(images: Images, recipe: Recipe, ten: bool, rank: int, world: int) -> Any:
    """The batches of one process, equal in number and size for all: bytes and labels."""
    share = math.ceil(recipe["batch_size"] / world)
    whole = math.ceil(len(images) / (share * world)) * share * world
    each = grain.MapDataset.range(whole)[rank::world]
    return each.map(functools.partial(viewed, images, recipe, ten)).batch(share)


def ahead(batches: Any, workers: int, files: bool) -> Iterator[Any]:
    """The batches, read ahead: files by processes, arrays by threads of this one."""
    threads = 0 if files else workers
    found = batches.to_iter_dataset(grain.ReadOptions(threads, 2 * threads))
    if files and workers:
        found = found.mp_prefetch(grain.MultiprocessingOptions(workers, 2))
    flags.FLAGS.mark_as_parsed()  # of absl, which grain's processes ask
    main = sys.modules["__main__"]
    try:
        sys.modules["__main__"] = sys.modules[__name__]  # all that they import
        iterator = iter(found)
        iterator.start_prefetch()
    finally:
        sys.modules["__main__"] = main
    with contextlib.closing(iterator):
        yield from iterator
