"""Batches of uint8 images: the same in every framework, for any number of processes.

Every random choice is a function of the seed and the position in the run, so a resumed
run sees the same images as an uninterrupted one. Grain shuffles, shards and prefetches,
Pillow crops and resizes; normalising and mixing happen on the device.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import functools
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grain  # type: ignore[import-untyped]
import numpy as np
from absl import flags
from PIL import Image, ImageEnhance, ImageOps

if TYPE_CHECKING or not __package__:
    from sources import Images, Planes, Problem, Recipe, load, write_whole
else:
    from .sources import Images, Planes, Problem, Recipe, load, write_whole

Size = tuple[int, int]  # height and width
Span = tuple[float, float]  # least and most
Box = tuple[int, int, int, int]  # top, left, bottom, right
Chance = np.random.Generator
Change = Callable[[Image.Image], Image.Image]
BILINEAR = Image.Resampling.BILINEAR


def prepare(args: argparse.Namespace, recipe: Recipe) -> tuple[Images, Images, Recipe]:
    """The images for training and evaluation, and the recipe completed for them.

    It gets their classes and channels, and the mean and deviation of each channel. With
    --overfit-one-batch both are the same few images, without augmentation.
    """
    images, others = load(args.data, recipe)
    if len(images) < recipe["batch_size"]:
        fill = f"do not fill a batch of {recipe['batch_size']}"
        raise Problem(f"--data: {args.data}: {len(images)} training images {fill}")
    shape, weights = [images.channels, *recipe["input"][1:]], []
    if recipe["class_weights"] == "balanced":  # all classes have equal total weight
        counts = np.bincount(images.labels, minlength=len(images.classes))
        weights = (len(images) / (len(counts) * np.maximum(counts, 1))).tolist()
    recipe = {**recipe, "classes": len(images.classes), "input": shape}
    recipe["loss_weights"] = weights
    if args.overfit_one_batch:
        steps = len(images) // recipe["batch_size"] if recipe["unit"] == "epochs" else 1
        recipe |= {key: steps * recipe[key] for key in ("length", "warmup")}
        recipe |= {"milestones": [steps * n for n in recipe["milestones"]]}
        chosen = np.linspace(0, len(images) - 1, recipe["batch_size"]).astype(int)
        choose = getattr(images.source, "select", images.source.__getitem__)
        source = choose(chosen % len(images.source))
        labels = images.labels[chosen]
        images = others = dataclasses.replace(images, source=source, labels=labels)
        chance = dict.fromkeys(("flip", "mixup", "cutmix", "erasing"), 0)
        recipe |= {"unit": "steps", "crop": "none", "augment": "none", **chance}
    return images, others, measured(images, recipe)


def measured(images: Images, recipe: Recipe) -> Recipe:
    """The recipe with mean and deviation of each channel, measured if it has none."""
    if not recipe["mean"] and not recipe["std"]:
        if images.size is None:
            raise Problem("image folders are not measured: give --mean and --std")
        mean, std, levels = [], [], np.arange(256) / 255
        for plane in np.moveaxis(images.source, 3, 0):  # plane by plane, to save memory
            shares = np.bincount(plane.ravel(), minlength=256) / plane.size
            mean.append(float(shares @ levels))
            std.append(float(np.sqrt(shares @ (levels - mean[-1]) ** 2)))
        return {**recipe, "mean": mean, "std": std}
    for key in ("mean", "std"):
        if len(recipe[key]) != images.channels:
            count = f"--{key}: {len(recipe[key])} values for images of"
            hint = "give as many, or none for both to measure them"
            raise Problem(f"{count} {images.channels} channels; {hint}")
    return recipe


def input_size(images: Images, recipe: Recipe, training: bool = False) -> Size:
    """Height and width of the network's input: the images' own, or the recipe's."""
    if images.size is not None and recipe["crop"] in ("none", "pad"):
        return images.size
    own = training and recipe["train_size"]
    return (own, own) if own else (recipe["input"][1], recipe["input"][2])


def trained(images: Images, recipe: Recipe, index: int, rng: Chance) -> Any:
    """An augmented training image, the box to erase, and its label."""
    planes, size = images.planes(index), input_size(images, recipe, training=True)
    if recipe["crop"] == "resized":  # random area and aspect (Szegedy et al. 2015)
        width, height = planes[0].size
        areas, whole = (recipe["min_area"], 1.0), (0, 0, height, width)
        box = random_box((height, width), areas, (3 / 4, 4 / 3), rng) or whole
        planes = cut(planes, (box[1], box[0], box[3], box[2]), size)
    else:
        least, most = recipe["scales"]
        scaled = recipe["crop"] == "scaled"
        side = int(rng.integers(least, most + 1)) if scaled else 0
        place = (0.5, 0.5) if recipe["crop"] == "none" else rng.random(2)
        planes = crop(planes, size, recipe, side, *place)
    if recipe["augment"] == "trivial":
        planes = altered(planes, rng)
    pixels = stacked(planes)
    if recipe["flip"] and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    box = (0, 0, 0, 0)
    if rng.random() < recipe["erasing"]:  # like torchvision's RandomErasing
        box = random_box(size, (0.02, 0.33), (0.3, 3.3), rng) or box
    return pixels, np.array(box, np.float32), images.labels[index]


def viewed(
    images: Images, recipe: Recipe, ten: bool, sides: list[int], index: int
) -> Any:
    """Views of an image to evaluate, at each resize size, and its label.

    The centre crop, or ten crops: centre and corners, each mirrored. Padding has -1.
    """
    planes, size = images.planes(index % len(images)), input_size(images, recipe)
    places = [(0.5, 0.5), (0, 0), (1, 0), (0, 1), (1, 1)] if ten else [(0.5, 0.5)]
    found = [
        stacked(crop(planes, size, recipe, side, *place))
        for side in sides
        for place in places
    ]
    if ten:
        found = [each for one in found for each in (one, one[:, ::-1])]
    return np.stack(found), images.labels[index] if index < len(images) else -1


def crop(planes: Planes, size: Size, recipe: Recipe, side: int, *at: float) -> Planes:
    """A crop of the padded image if that has the input size, else of the resized one.

    The shorter side is resized to `side`, or if that is 0, as the recipe says. `at` is
    the relative position, across and down: (0, 1) is the lower left corner.
    """
    own, border, ends = planes[0].size, 0, []
    short = max(side or recipe["resize"], *size)
    sides = [max(short, round(n * short / min(own))) for n in own]
    if own == size[::-1] and recipe["crop"] in ("none", "pad") and not side:
        sides, border = list(own), recipe["padding"] if recipe["crop"] == "pad" else 0
    for made, old, share, length in zip(sides, own, at, size[::-1]):
        room = made + 2 * border - length
        first = min(int(share * (room + 1)), room) - border
        ends.append((first * old / made, (first + length) * old / made))
    (left, right), (top, bottom) = ends
    return cut(planes, (left, top, right, bottom), size)


def cut(planes: Planes, box: tuple[float, ...], size: Size) -> Planes:
    """The box (left, top, right, bottom) of the image, resized to `size`."""
    left, top, right, bottom = box
    if (bottom - top, right - left) == size:  # no resizing; black beyond the edges
        edges = int(left), int(top), int(right), int(bottom)
        return [plane.crop(edges) for plane in planes]
    inner = left, top, min(right, planes[0].width), min(bottom, planes[0].height)
    return [plane.resize(size[::-1], BILINEAR, inner) for plane in planes]


def stacked(planes: Planes) -> np.ndarray:
    """The planes as one array (H, W, C), uint8."""
    return np.dstack([np.asarray(plane) for plane in planes])


def altered(planes: Planes, rng: Chance) -> Planes:
    """TrivialAugment, wide range, as in torchvision (Mueller and Hutter 2021).

    One random operation of random strength; uncovered areas are black.
    """
    kind, level, sign = rng.integers(14), rng.integers(31) / 30, rng.choice([-1, 1])
    strength, pixels = 0.99 * level * sign, int(32 * level) * sign

    def moved(*matrix: float) -> Change:
        affine = Image.Transform.AFFINE
        return lambda plane: plane.transform(plane.size, affine, matrix, BILINEAR)

    def enhanced(how: Any) -> Change:
        return lambda plane: how(plane).enhance(1 + strength)

    changes: list[Change] = [
        lambda plane: plane,
        moved(1, strength, 0, 0, 1, 0),
        moved(1, 0, 0, strength, 1, 0),
        moved(1, 0, -pixels, 0, 1, 0),
        moved(1, 0, 0, 0, 1, -pixels),
        lambda plane: plane.rotate(135 * level * sign, BILINEAR),
        enhanced(ImageEnhance.Brightness),
        enhanced(ImageEnhance.Color),
        enhanced(ImageEnhance.Contrast),
        enhanced(ImageEnhance.Sharpness),
        lambda plane: ImageOps.posterize(plane, 8 - round(6 * level)),
        lambda plane: ImageOps.solarize(plane, round(255 * (1 - level))),
        ImageOps.autocontrast,
        ImageOps.equalize,
    ]
    return [changes[kind](plane) for plane in planes]


def random_box(size: Size, areas: Span, aspects: Span, rng: Chance) -> Box | None:
    """A box of random area and aspect ratio within `size`; None if none fits."""
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
    """Endless batches of a process, from a step on: images, random numbers, labels.

    `share` is (rank, number of processes, batches per step). The incomplete batch at
    the end of an epoch is dropped. Repeated images are consecutive, in different
    processes, and an epoch then has fewer different ones.
    """
    batch, (rank, world, accumulate) = recipe["batch_size"], share
    whole = len(images) // batch * batch
    once = grain.MapDataset.range(len(images)).seed(seed).shuffle()
    if recipe["repeats"] > 1:
        once = grain.MapDataset.mix([once] * recipe["repeats"])
    order = once[:whole].repeat()
    each = order.random_map(functools.partial(trained, images, recipe))[rank::world]
    batches = each.batch(batch // (world * accumulate))
    size = input_size(images, recipe, training=True)
    mixed = functools.partial(mixture, size, recipe, seed)
    return batches.map_with_index(mixed)[start * accumulate :]


def mixture(size: Size, recipe: Recipe, seed: int, number: int, batch: Any) -> Any:
    """The batch with nine random numbers per image, for the augmentation on the device.

    Its share in mixup, its CutMix box that the partner fills, and the box to erase.
    """
    images, erased, labels = batch
    rng = np.random.default_rng([seed, number])
    kinds = [kind for kind in ("mixup", "cutmix") if recipe[kind] > 0]
    row = np.array([1, 0, 0, 0, 0], np.float32)
    if kinds:
        kind = kinds[rng.integers(len(kinds))]
        row[0] = kept = rng.beta(recipe[kind], recipe[kind])
        if kind == "cutmix":
            # Around any pixel, cut off at the edges (Yun et al. 2019, section 3.1).
            half = np.array([int(n * math.sqrt(1 - kept) / 2) for n in size])
            centre = rng.integers(size)
            ends = np.clip([centre - half, centre + half], 0, size)
            row = np.array([1, *ends.ravel()], np.float32)
    return images, np.hstack([np.tile(row, (len(images), 1)), erased]), labels


def evaluation(
    images: Images,
    recipe: Recipe,
    share: tuple[int, int] = (0, 1),
    ten: bool = False,
    sides: list[int] | None = None,
) -> Any:
    """The evaluation batches of one process, equally many in each: views and labels."""
    (rank, world), sides = share, sides or [0]
    number = math.ceil(recipe["batch_size"] / world)
    whole = math.ceil(len(images) / (number * world)) * number * world
    each = grain.MapDataset.range(whole)[rank::world]
    view = functools.partial(viewed, images, recipe, ten, sides)
    return each.map(view).batch(number)


def ahead(batches: Any, workers: int, files: bool) -> Iterator[Any]:
    """Prefetch batches: image files in worker processes, arrays in threads."""
    threads = 0 if files else workers
    found = batches.to_iter_dataset(grain.ReadOptions(threads, 2 * threads))
    if files and workers:
        found = found.mp_prefetch(grain.MultiprocessingOptions(workers, 2))
    flags.FLAGS.mark_as_parsed()  # absl's flags, which grain's workers read
    main = sys.modules["__main__"]
    try:
        sys.modules["__main__"] = sys.modules[
            __name__
        ]  # the only module that workers import
        iterator = iter(found)
        iterator.start_prefetch()
    finally:
        sys.modules["__main__"] = main
    with contextlib.closing(iterator):
        yield from iterator


def report(
    errors: dict[str, float], counts: np.ndarray, classes: list[str], path: Path | None
) -> None:
    """Print the errors, and write the confusion matrix to a CSV file.

    Its rows are true classes with their accuracy, its columns predicted classes.
    """
    if not all(map(math.isfinite, errors.values())):
        raise Problem("--weights: the loss is not finite")
    print(json.dumps(errors))
    if path is None:
        return
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["class", "accuracy", *classes])
    for name, row, right in zip(classes, counts, counts.diagonal()):
        table.writerow([name, round(right / max(row.sum(), 1), 6), *row])
    write_whole(path, text.getvalue().encode(errors="surrogateescape"))
