"""Devices and processes for PyTorch; preparing batches there; evaluation."""

from __future__ import annotations

import gc
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn  # not later: see `leave`
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING or not __package__:
    import data
    from sources import Args, Images, Problem, Recipe, reading
else:
    from . import data
    from .sources import Args, Images, Problem, Recipe, reading

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Place:
    """This process's device, and its rank among those that torchrun started."""

    def __init__(self, args: Args) -> None:
        with reading("WORLD_SIZE, RANK, LOCAL_RANK", "numbers, as torchrun sets them"):
            names = ("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0")
            self.world, self.rank, local = (int(os.environ.get(*n)) for n in names)
        self.half = HALVES.get(args.precision)
        self.dtype = torch.float64 if args.precision == "fp64" else torch.float32
        found = torch.cuda.is_available()
        cuda = (args.device or ("cuda" if found else "cpu")) == "cuda"
        if cuda and not found:
            raise Problem("--device: PyTorch finds no cuda here")
        if args.sync_batch_norm and not cuda:
            raise Problem("--sync-batch-norm: PyTorch does it on cuda alone")
        self.device = torch.device("cuda", local) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        if self.world > 1:
            with reading("WORLD_SIZE", "as torchrun sets it"):
                dist.init_process_group("nccl" if cuda else "gloo")
        last = args.channels_last or cuda
        self.layout = torch.channels_last if last else torch.contiguous_format
        half = self.half == torch.float16  # whose gradients are scaled
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)

    def there(self, array: np.ndarray) -> Tensor:
        """Copy an array to the device."""
        made = torch.from_numpy(array)
        made = made.pin_memory() if self.device.type == "cuda" else made
        return made.to(self.device, non_blocking=True)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()


def leave() -> None:
    """Destroy the process group and its threads.

    A thread of gloo that frees a tensor during interpreter shutdown aborts the process.
    The threads live as long as anything references the group: a model does until it is
    collected, and torch.distributed.nn does for ever if it is imported after the group.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


# --- from bytes to numbers, on the device ---------------------------------------------


def normalized(images: Tensor, recipe: Recipe, place: Place) -> Tensor:
    """Images (n, H, W, C), uint8, as normalised floats (n, C, H, W)."""
    options: Any = {"dtype": place.dtype, "device": images.device}
    mean, std = (torch.tensor(recipe[key], **options) for key in ("mean", "std"))
    made = ((images.to(place.dtype) / 255 - mean) / std).permute(0, 3, 1, 2)
    return made.contiguous(memory_format=place.layout)


def prepared(
    images: Tensor, chances: Tensor, labels: Tensor, recipe: Recipe, place: Place
) -> tuple[Tensor, Tensor]:
    """A training batch, mixed and erased: images (n, C, H, W), targets (n, classes)."""
    made, chances = normalized(images, recipe, place), chances.to(place.dtype)
    smoothing, classes = recipe["label_smoothing"], recipe["classes"]
    targets = F.one_hot(labels, classes).to(place.dtype) * (1 - smoothing)
    targets += smoothing / classes
    kept, box = chances[:, 0], chances[:, 1:5]
    if recipe["erasing"]:
        made = made.masked_fill(inside(chances[:, 5:], made), 0)
    if recipe["mixup"] or recipe["cutmix"]:  # with its mirror position in the batch
        weight = kept[:, None, None, None] * ~inside(box, made)
        made = weight * made + (1 - weight) * made.flip(0)
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        share = (kept * (1 - area / math.prod(made.shape[2:])))[:, None]
        targets = share * targets + (1 - share) * targets.flip(0)
    if recipe["loss_weights"]:
        targets = targets * targets.new_tensor(recipe["loss_weights"])
    return made, targets


def inside(box: Tensor, images: Tensor) -> Tensor:
    """Mask (n, 1, H, W) of the pixels inside the box of each image."""
    top, left, bottom, right = box[:, :, None, None, None].unbind(1)
    y = torch.arange(images.shape[2], device=box.device)[:, None]
    x = torch.arange(images.shape[3], device=box.device)
    return (top <= y) & (y < bottom) & (left <= x) & (x < right)


def finite(model: nn.Module) -> bool:
    """Whether all weights and statistics are finite."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


@torch.inference_mode()
def evaluate(
    models: list[nn.Module], images: Images, args: Args, place: Place
) -> tuple[dict[str, float], Tensor]:
    """Loss and errors of the models' mean prediction; for --confusion, the matrix."""
    share, files = (place.rank, place.world), images.size is None
    order = data.evaluation(images, args.recipe, share, args.ten_crop, args.test_sizes)
    classes = len(images.classes) if args.confusion else 0
    sums = torch.zeros(3, dtype=torch.float64)
    counts = torch.zeros(classes**2, dtype=torch.int64)
    for model in models:
        model.eval()
        for buffer in model.buffers() if place.world > 1 else ():
            dist.broadcast(buffer, 0)  # rank 0 saves its statistics, so all use them
    for views, labels in data.ahead(order, args.workers, files):
        made = normalized(place.there(views).flatten(0, 1), args.recipe, place)
        with torch.autocast(place.device.type, place.half, enabled=bool(place.half)):
            logits = torch.stack([model(made) for model in models]).float().cpu()
        shape = len(models), len(labels), views.shape[1], len(images.classes)
        scores = logits.log_softmax(dim=2).view(shape)
        real = labels >= 0  # -1 pads the last batch
        scores, truth = scores[:, real], torch.from_numpy(labels[real])
        mean = scores.logsumexp(dim=(0, 2)) - math.log(len(models) * views.shape[1])
        best = mean.topk(min(5, mean.shape[1])).indices
        hit, loss = best == truth[:, None], F.nll_loss(mean, truth, reduction="sum")
        sums += torch.stack([loss, hit[:, 0].sum(), hit.sum()])
        if classes:
            pairs = truth * classes + best[:, 0]
            counts += torch.bincount(pairs, minlength=classes**2)
    loss, top1, top5 = (place.summed(sums) / len(images)).tolist()
    errors = {"val_loss": loss, "val_error": 1 - top1, "val_error_top5": 1 - top5}
    return errors, place.summed(counts).view(classes, classes)
