"""From images to batches: crops, mirrors and mixtures, the same in every framework.

Every random choice is a function of the seed, the epoch and the image's number. So a
run that is resumed sees the same images as one that never stopped, and so do any number
of processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from common import Recipe
from images import Images


def input_size(images: Images, recipe: Recipe) -> tuple[int, int]:
    """Height and width that the network sees: of the images, or where they are resized, its own."""
    if images.size is not None and recipe["crop"] in ("none", "pad"):
        return images.size
    return recipe["input"][1], recipe["input"][2]


class Batches:
    """One process's share of an epoch, batch by batch: images, targets and labels.

    Images are (n, H, W, C), targets (n, classes), both float32. What is left of the last batch is
    dropped. With `accumulate` a step takes as many batches.
    """

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        seed: int,
        epoch: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
    ) -> None:
        self.images, self.recipe, self.seed, self.epoch = images, recipe, seed, epoch
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self.order = np.random.default_rng([seed, epoch]).permutation(len(images))
        self.share = recipe["batch_size"] // (world * accumulate)

    def __len__(self) -> int:
        steps = len(self.images) // int(self.recipe["batch_size"])
        return steps * self.accumulate

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first = (number * self.world + self.rank) * self.share
        chosen = [int(i) for i in self.order[first : first + self.share]]
        size = input_size(self.images, self.recipe)
        found = [
            augmented(
                self.images[i],
                size,
                self.recipe,
                np.random.default_rng([self.seed, self.epoch, i]),
            )
            for i in chosen
        ]
        labels = self.images.labels[chosen]
        spread = self.recipe["label_smoothing"]
        targets = np.full((len(chosen), len(self.images.classes)), spread, np.float32)
        targets /= targets.shape[1]
        targets[np.arange(len(chosen)), labels] += 1 - spread
        rng = np.random.default_rng([self.seed, self.epoch, number, 1])
        inputs, targets = mixed(
            normalized(found, self.recipe), targets, self.recipe, rng
        )
        return inputs, targets, labels


class Views:
    """One process's share of the images for evaluation, batch by batch: images and labels.

    Each image is its centre, or ten crops one after the other: corners and centre, mirrored too.
    No batch holds more than `share` of them, the last one fewer.
    """

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        ten: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images, self.recipe, self.crops = images, recipe, 10 if ten else 1
        self.share = math.ceil(recipe["batch_size"] / world) * self.crops
        self.parts = [
            range(start, min(start + recipe["batch_size"], len(images)))[rank::world]
            for start in range(0, len(images), recipe["batch_size"])
        ]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        size = input_size(self.images, self.recipe)
        found = [
            crop
            for i in self.parts[number]
            for crop in self._crops(self.images[i], size)
        ]
        inputs = (
            normalized(found, self.recipe)
            if found
            else np.zeros((0, *size, self.images.channels), np.float32)
        )
        return inputs, self.images.labels[list(self.parts[number])]

    def _crops(self, image: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        image = larger(image, size, self.recipe)
        down, right = image.shape[0] - size[0], image.shape[1] - size[1]
        yield image[down // 2 :, right // 2 :][: size[0], : size[1]]
        if self.crops == 10:
            yield image[down // 2 :, right // 2 :][: size[0], : size[1]][:, ::-1]
            for y, x in ((0, 0), (0, right), (down, 0), (down, right)):
                corner = image[y : y + size[0], x : x + size[1]]
                yield corner
                yield corner[:, ::-1]


def augmented(
    image: np.ndarray, size: tuple[int, int], recipe: Recipe, rng: np.random.Generator
) -> np.ndarray:
    """A training image: cropped as the recipe says, mirrored or not."""
    if recipe["crop"] == "resized":
        image = _random_area(image, size, recipe["min_area"], rng)
    elif recipe["crop"] == "scaled":
        least, most = recipe["scales"]
        side = max(int(rng.integers(least, most + 1)), *size)
        image = _random_crop(_resized(image, side), size, rng)
    elif recipe["crop"] == "pad":
        image = _random_crop(larger(image, size, recipe), size, rng)
    else:
        image = larger(image, size, recipe)
        top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
        image = image[top : top + size[0], left : left + size[1]]
    return image[:, ::-1] if recipe["flip"] and rng.random() < 0.5 else image


def larger(image: np.ndarray, size: tuple[int, int], recipe: Recipe) -> np.ndarray:
    """The image before a crop: with a border if it fits the network, else resized."""
    if image.shape[:2] != size or recipe["crop"] in ("resized", "scaled"):
        return _resized(image, max(recipe["resize"], *size))
    border = recipe["padding"] if recipe["crop"] == "pad" else 0
    return np.pad(image, ((border, border), (border, border), (0, 0)))


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    """The image with a shorter side of so many pixels."""
    scale = side / min(image.shape[:2])
    height, width = (max(side, round(n * scale)) for n in image.shape[:2])
    return _stretched(image, (height, width))


def _stretched(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    flat = image[..., 0] if image.shape[2] == 1 else image
    made = Image.fromarray(flat).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(made).reshape(*size, image.shape[2])


def _random_crop(
    image: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    top = rng.integers(image.shape[0] - size[0] + 1)
    left = rng.integers(image.shape[1] - size[1] + 1)
    return image[top : top + size[0], left : left + size[1]]


def _random_area(
    image: np.ndarray, size: tuple[int, int], min_area: float, rng: np.random.Generator
) -> np.ndarray:
    """A part of random area and aspect (Szegedy et al. 2015), resized; the whole if none fits."""
    rows, columns = image.shape[:2]
    for _ in range(10):
        area = rows * columns * rng.uniform(min_area, 1)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        height, width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < height <= rows and 0 < width <= columns:
            image = _random_crop(image, (height, width), rng)
            break
    return _stretched(image, size)


def normalized(found: list[np.ndarray], recipe: Recipe) -> np.ndarray:
    """Images of bytes as numbers of mean 0 and deviation 1, over all of the training images."""
    mean, std = np.float32(recipe["mean"]), np.float32(recipe["std"])
    return (np.stack(found).astype(np.float32) / 255 - mean) / std


def mixed(
    images: np.ndarray, targets: np.ndarray, recipe: Recipe, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each image with another of its batch: blended by mixup, or a box of it by CutMix."""
    kinds = [kind for kind in ("mixup", "cutmix") if recipe[kind] > 0]
    if not kinds:
        return images, targets
    kind = kinds[rng.integers(len(kinds))]
    share = rng.beta(recipe[kind], recipe[kind])
    if kind == "mixup":
        images = share * images + (1 - share) * images[::-1]
    else:
        rows, columns = images.shape[1:3]
        height, width = (int(n * math.sqrt(1 - share)) for n in (rows, columns))
        y, x = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        box = np.s_[:, y : y + height, x : x + width]
        others, images = images[::-1], images.copy()
        images[box] = others[box]
        share = 1 - height * width / (rows * columns)
    targets = share * targets + (1 - share) * targets[::-1]
    return images.astype(np.float32), targets.astype(np.float32)
