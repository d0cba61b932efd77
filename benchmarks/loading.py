"""Loading of images alone: the compiled trainers' data.py beside torchvision's folder and loader.

    python benchmarks/loading.py              by the time of the processor, in one process
    python benchmarks/loading.py --workers 2  by the clock, with processes that read ahead

Both read the same JPEGs of 500x400 pixels, cut a part of random area, resize it to 224x224 and
mirror half of them. The trainers hand out bytes, as the device takes them; torchvision's first
transforms, as its references have them, normalised numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support")]

from measure import Comparison, report  # noqa: E402 - sorted with the line above

from resnet_spec.codegen.generate import generate  # noqa: E402
from resnet_spec.language.library import Library  # noqa: E402
from resnet_spec.language.load import load  # noqa: E402
from resnet_spec.lower import lower  # noqa: E402

OURS, THEIRS = "compiled", "torchvision"
TARGETS = {0: 1 / 1.15, 1: 1.0}  # of the time of theirs: by the processor's, by the clock's
SIZE = 224


def main(words: list[str]) -> None:
    options = parse(words)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder, "images"), options.images)
        tasks = {
            OURS: compiled(Path(folder), options),
            THEIRS: torchvision(Path(folder), options),
        }
        medians = measured(tasks, options)
    number = options.batches * options.batch
    print(f"{number} images of 500x400 as JPEG, {options.workers} workers, images a second:")
    print(", ".join(f"{name} {number / seconds:.0f}" for name, seconds in medians.items()))
    print(report(medians, [Comparison(OURS, THEIRS, TARGETS[bool(options.workers)])]))
    if options.json:
        speeds = {name: number / seconds for name, seconds in medians.items()}
        text = json.dumps({"workers": options.workers, "images_per_second": speeds})
        options.json.write_text(text, encoding="utf-8")


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8192, help="how many there are")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=16, help="that are read in a repetition")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the images a second")
    return parser.parse_args(words)


def write_images(root: Path, number: int) -> None:
    """Image folders of two classes: smooth noise, which packs about as photographs do.

    Each of 128 images has as many names as it takes, so that the order is that of a large set;
    these are validated with, once.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(number):
        path = root / "train" / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < 128:
            coarse = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
            coarse.resize((500, 400), Image.Resampling.BICUBIC).save(path, quality=90)
            held_out = root / "val" / path.parent.name / path.name
            held_out.parent.mkdir(parents=True, exist_ok=True)
            held_out.hardlink_to(path)
        else:
            path.hardlink_to(path.with_name(f"{index % 128}.jpg"))


def measured(
    loaders: Mapping[str, Callable[[], Iterator[Any]]], options: argparse.Namespace
) -> dict[str, float]:
    """The median seconds for some batches; in each repetition every loader starts afresh.

    What it takes to start is left out, and no loader reads ahead in the other's time.
    """
    clock = time.perf_counter if options.workers else time.process_time
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(options.repetitions):
        for name, loader in loaders.items():
            with contextlib.closing(loader()) as batches:  # type: ignore[type-var]
                for _ in itertools.islice(batches, 1 + 2 * options.workers):
                    pass
                started = clock()
                for _ in itertools.islice(batches, options.batches):
                    pass
                times[name].append(clock() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def compiled(folder: Path, options: argparse.Namespace) -> Callable[[], Iterator[Any]]:
    """A trainer's batches, as it compiles with ResNet-50 and a modern recipe."""
    network = lower(load("resnet50", Library(), ["training=imagenet_modern"]))
    for path, text in generate(network, ["torch"], trainer=True).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder / "torch"))
    data, sources = imported("data"), imported("sources")
    recipe = imported("common").parse([network.name], "", {}).recipe
    recipe |= {"batch_size": options.batch, "augment": "none", "train_size": SIZE, "repeats": 1}
    recipe |= dict.fromkeys(("mixup", "cutmix", "erasing"), 0.0)
    images = sources.load(str(folder / "images"), recipe)[0]
    batches = data.training(images, recipe, 0)
    return lambda: data.ahead(batches, options.workers, True)


def imported(name: str) -> ModuleType:
    return importlib.import_module(name)


def torchvision(folder: Path, options: argparse.Namespace) -> Callable[[], Iterator[Any]]:
    """ImageFolder, the transforms of torchvision's reference, and PyTorch's loader."""
    import reference

    vision: Any = reference.torchvision()
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)  # as in its loader's processes: idle threads would count as work
    change = vision.transforms
    steps = [
        change.RandomResizedCrop(SIZE),
        change.RandomHorizontalFlip(),
        change.ToTensor(),
        change.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    images = vision.datasets.ImageFolder(folder / "images" / "train", change.Compose(steps))

    def endless() -> Iterator[Any]:
        loader: Any = DataLoader(
            images,
            options.batch,
            shuffle=True,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
            drop_last=True,
        )
        while True:
            yield from loader

    return endless


if __name__ == "__main__":
    main(sys.argv[1:])
