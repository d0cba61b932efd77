"""Batches of uint8 images: the same in every framework, for any number of processes.

Every random choice is a function of the seed and the position in the run, so a resumed
run sees the same images as an uninterrupted one. Grain shuffles, shards and prefetches,
Pillow crops and resizes; normalising and mixing happen on the device.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import itertools
import math
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import grain  # type: ignore[import-untyped]
import numpy as np
from absl import flags
from PIL import Image, ImageEnhance, ImageOps

if TYPE_CHECKING or not __package__:
    from recipes import measured, same_classes
    from sources import Args, Images, Planes, Problem, Recipe, load, say
else:
    from .recipes import measured, same_classes
    from .sources import Args, Images, Planes, Problem, Recipe, load, say

Size = tuple[int, int]  # height and width
Span = tuple[float, float]  # least and most
Box = tuple[int, int, int, int]  # top, left, bottom, right
Share = tuple[int, int, int]  # rank, number of processes, batches per step
Chance = np.random.Generator
Change = Callable[[Image.Image], Image.Image]
BILINEAR = Image.Resampling.BILINEAR
OPEN: Any = weakref.WeakKeyDictionary()  # iterators over batches, and their first ones


def prepare(args: Args) -> tuple[Images, Images]:
    """The images for training and evaluation; completes args and args.recipe for them.

    The recipe gets their classes, channels, mean and deviation, and is then in steps, of
    which args.epoch are between evaluations and args.steps is the last. With
    --overfit-one-batch both are the same few images, without augmentation.
    """
    images, others = load(args.data, args.recipe)
    recipe, batch, classes = args.recipe, args.recipe["batch_size"], len(images.classes)
    if (epoch := len(images) // batch) == 0 and not args.evaluate:
        few = f"{len(images)} training images do not fill a batch of {batch}"
        raise Problem(f"--data: {args.data}: {few}")
    unit = epoch if recipe["unit"] == "epochs" else 1
    recipe |= {key: unit * recipe[key] for key in ("length", "warmup")}
    recipe |= {"milestones": [unit * n for n in recipe["milestones"]], "unit": "steps"}
    recipe |= {"input": [images.channels, *recipe["input"][1:]], "classes": classes}
    trained_on = recipe.setdefault("class_names", images.classes)
    same_classes(trained_on, images.classes)
    recipe["loss_weights"] = []
    if recipe["class_weights"] == "balanced":  # all classes have equal total weight
        counts = np.maximum(np.bincount(images.labels, minlength=classes), 1)
        recipe["loss_weights"] = (len(images) / (classes * counts)).tolist()
    args.steps = min(recipe["length"], args.max_steps or sys.maxsize)
    if args.overfit_one_batch:
        chosen = np.linspace(0, len(images) - 1, batch).astype(int)
        choose = getattr(images.source, "select", images.source.__getitem__)
        source, labels = choose(chosen % len(images.source)), images.labels[chosen]
        images = others = dataclasses.replace(images, source=source, labels=labels)
        recipe |= dict.fromkeys(("flip", "mixup", "cutmix", "erasing"), 0)
        recipe |= {"crop": "none", "augment": "none"}
    say_what_is_seen(images, recipe)
    args.epoch = epoch if epoch > 1 and not args.overfit_one_batch else args.steps
    args.recipe = measured(images, recipe)
    return images, others


def input_size(images: Images, recipe: Recipe, training: bool = False) -> Size:
    """Height and width of the network's input: the images' own, or the recipe's."""
    if images.size is not None and recipe["crop"] in ("none", "pad"):
        return images.size
    own = training and recipe["train_size"]
    return (own, own) if own else (recipe["input"][1], recipe["input"][2])


def say_what_is_seen(images: Images, recipe: Recipe) -> None:
    """Tell the user if the network sees but a small part of each image."""
    if images.size is not None and recipe["crop"] in ("none", "pad"):
        return
    rows, columns = input_size(images, recipe)
    for key in ("resize", "scales") if recipe["crop"] == "scaled" else ("resize",):
        side = np.min(recipe[key])
        if side > 2 * max(rows, columns):
            say(f"--{key} {side}: the network sees only {rows}x{columns} pixels of it")


def trained(images: Images, recipe: Recipe, index: int, rng: Chance) -> Any:
    """An augmented training image, the box to erase, and its label."""
    planes, size = images.planes(index), input_size(images, recipe, training=True)
    if recipe["crop"] == "resized":  # random area and aspect (Szegedy et al. 2015)
        own, areas = planes[0].size[::-1], (recipe["min_area"], 1.0)
        box = random_box(own, areas, (3 / 4, 4 / 3), rng) or (0, 0, *own)
        planes = cut(planes, box, size)
    else:
        least, most = recipe["scales"]
        scaled = recipe["crop"] == "scaled"
        side = int(rng.integers(least, most + 1)) if scaled else 0
        place = (0.5, 0.5) if recipe["crop"] == "none" else rng.random(2)
        planes = crop(planes, size, recipe, side, *place)
    if recipe["augment"] == "trivial":
        planes = altered(planes, rng)
    pixels = np.dstack([*map(np.asarray, planes)])
    if recipe["flip"] and rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    box = (0, 0, 0, 0)
    if rng.random() < recipe["erasing"]:  # like torchvision's RandomErasing
        box = random_box(size, (0.02, 0.33), (0.3, 3.3), rng) or box
    return pixels, np.array(box, np.float32), images.labels[index]


def viewed(images: Images, recipe: Recipe, ten: bool, sides: Any, index: int) -> Any:
    """Views of an image to evaluate, at each resize size, and its label.

    The centre crop, or ten crops: centre and corners, each mirrored. Padding has -1.
    """
    planes, size = images.planes(index % len(images)), input_size(images, recipe)
    places = [(0.5, 0.5), (0, 0), (1, 0), (0, 1), (1, 1)] if ten else [(0.5, 0.5)]
    found = []
    for side, place in itertools.product(sides, places):
        shown = crop(planes, size, recipe, side, *place)
        view = np.dstack([*map(np.asarray, shown)])
        found += [view, view[:, ::-1]] if ten else [view]
    return np.stack(found), images.labels[index] if index < len(images) else -1


def crop(planes: Planes, size: Size, recipe: Recipe, side: int, *at: float) -> Planes:
    """A crop of an image whose shorter side is resized to `side`, or as the recipe says.

    For pad, it is of the padded middle. An image of the input size is not resized for
    none and pad. `at` is the relative position: (0, 1) is the lower left corner.
    """
    own, border, ends = planes[0].size[::-1], 0, []
    if recipe["crop"] == "pad" and own != size and not side:
        side = recipe["resize"] or max(size)
        planes, own, side = crop(planes, size, recipe, side, 0.5, 0.5), size, 0
    short = max(side or recipe["resize"] or round(max(size) / 0.875), *size)
    sides = [max(short, round(n * short / min(own))) for n in own]
    if own == size and recipe["crop"] in ("none", "pad") and not side:
        sides, border = list(own), recipe["padding"] if recipe["crop"] == "pad" else 0
    for made, old, share, length in zip(sides, own, at[::-1], size):
        room = made + 2 * border - length
        first = min(int(share * (room + 1)), room) - border
        ends.append((first * old / made, (first + length) * old / made))
    (top, bottom), (left, right) = ends
    return cut(planes, (top, left, bottom, right), size)


def cut(planes: Planes, box: tuple[float, ...], size: Size) -> Planes:
    """The box (top, left, bottom, right) of the image, resized to `size`."""
    top, left, bottom, right = box
    if (bottom - top, right - left) == size:  # no resizing; black beyond the edges
        edges = int(left), int(top), int(right), int(bottom)
        return [plane.crop(edges) for plane in planes]
    inner = left, top, min(right, planes[0].width), min(bottom, planes[0].height)
    return [plane.resize(size[::-1], BILINEAR, inner) for plane in planes]


def altered(planes: Planes, rng: Chance) -> Planes:
    """TrivialAugment, wide range, as in torchvision (Mueller and Hutter 2021).

    One random operation of random strength; uncovered areas are black.
    """
    kind, level, sign = rng.integers(14), rng.integers(31) / 30, rng.choice([-1, 1])
    strength, pixels = 0.99 * level * sign, int(32 * level) * sign

    def moved(*matrix: float) -> Change:
        affine = Image.Transform.AFFINE
        return lambda plane: plane.transform(plane.size, affine, matrix, BILINEAR)

    changes: list[Change] = [
        lambda plane: plane,
        moved(1, strength, 0, 0, 1, 0),
        moved(1, 0, 0, strength, 1, 0),
        moved(1, 0, -pixels, 0, 1, 0),
        moved(1, 0, 0, 0, 1, -pixels),
        lambda plane: plane.rotate(135 * level * sign, BILINEAR),
        lambda plane: ImageEnhance.Brightness(plane).enhance(1 + strength),
        lambda plane: ImageEnhance.Color(plane).enhance(1 + strength),
        lambda plane: ImageEnhance.Contrast(plane).enhance(1 + strength),
        lambda plane: ImageEnhance.Sharpness(plane).enhance(1 + strength),
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
    images: Images, recipe: Recipe, seed: int, start: int = 0, share: Share = (0, 1, 1)
) -> Any:
    """Endless batches of a process, from a step on: images, random numbers, labels.

    The incomplete batch at the end of an epoch is dropped. Repeated images are
    consecutive, in different processes; an epoch then has fewer different ones.
    """
    batch, (rank, world, accumulate) = recipe["batch_size"], share
    whole = len(images) // batch * batch
    once = grain.MapDataset.range(len(images)).seed(seed).shuffle()
    if recipe["repeats"] > 1:
        once = grain.MapDataset.mix([once] * recipe["repeats"])
    order = once[:whole].repeat()
    each = order.random_map(functools.partial(trained, images, recipe))[rank::world]
    batches = each.batch(batch // (world * accumulate), drop_remainder=True)
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
    sides: Sequence[int] = (0,),
) -> Any:
    """The evaluation batches of one process, equally many in each: views and labels."""
    rank, world = share
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
        options = grain.MultiprocessingOptions(workers, 2)
        found = found.mp_prefetch(options, end_with_parent)
    flags.FLAGS.mark_as_parsed()  # absl's flags, which grain's workers read
    try:
        with contextlib.closing(iter(found)) as iterator:
            first: list[Any] = OPEN.setdefault(iterator, [])
            if files and workers:  # all have started when each has made a batch
                with starting():
                    first += itertools.islice(iterator, workers)
            while first:
                yield first.pop(0)
            yield from iterator
    except RuntimeError as error:
        if "Worker process was terminated" not in str(error):
            raise
        raise Problem(f"--workers: {error} If memory is short, give fewer") from None


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Start processes that import no framework and leave signals to this one."""
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # which would unblock them, started later
        both = {signal.SIGINT, signal.SIGTERM}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    # Workers import the main module: make it this one.
    main, sys.modules["__main__"] = sys.modules["__main__"], sys.modules[__name__]
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_with_parent(*_: int) -> None:
    """End this worker when its parent ends, which may have been killed."""
    parent: Any = multiprocessing.parent_process()
    wait = threading.Thread(target=lambda: parent.join() or os._exit(1), daemon=True)
    wait.start()


@atexit.register
def free() -> None:
    """End workers, and wait for grain's thread that frees the memory shared with them."""
    for iterator, first in [*OPEN.items()]:  # that a framework has kept
        first.clear()
        iterator.close()
    if pool := grain.multiprocessing.SharedMemoryArray._del_thread_pool:
        pool.apply(int)
