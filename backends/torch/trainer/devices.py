"""Where PyTorch trains, on one device or several, and what is made of bytes there."""

from __future__ import annotations

import argparse
import gc
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn  # here and not by and by: see `leave`
import torch.nn.functional as F
from torch import Tensor, nn

from common import Problem, Recipe


class Place:
    """Where this process stands among those that torchrun started, and its device."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.workers = 0 if args.overfit_one_batch else args.workers
        halves = {"bf16": torch.bfloat16, "fp16": torch.float16}
        self.half = halves.get(args.precision)
        self.device = torch.device(args.device)
        if self.device.type == "cuda":
            if not torch.cuda.is_available():
                raise Problem("--device: PyTorch finds no cuda here")
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        elif args.sync_batch_norm:
            raise Problem("--sync-batch-norm: PyTorch does it on cuda alone")
        if self.world > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        last = args.channels_last or (
            args.channels_last is None and args.device == "cuda"
        )
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.dtype = torch.float64 if args.precision == "fp64" else torch.float32

    def there(self, array: np.ndarray) -> Tensor:
        """An array on the device."""
        made = torch.from_numpy(array)
        made = made.pin_memory() if self.device.type == "cuda" else made
        return made.to(self.device, non_blocking=True)

    def laid_out(self, images: Tensor) -> Tensor:
        """Images as the network keeps them in memory."""
        return images.contiguous(memory_format=self.layout)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def agree(self, model: nn.Module) -> None:
        """Give all processes the first one's statistics, which are what is saved."""
        for buffer in model.buffers() if self.world > 1 else ():
            dist.broadcast(buffer, 0)


def sync_batch_norms(model: nn.Module) -> None:
    """Let batch norms measure the batches of all processes; frozen ones measure nothing."""
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad:
            convert = nn.SyncBatchNorm.convert_sync_batchnorm
            model.set_submodule(path, convert(module))  # type: ignore[no-untyped-call]


def leave() -> None:
    """End the group of processes, and with it the threads of its own.

    One of gloo's that frees a tensor while Python ends aborts the process. They last as
    long as anything holds the group: a model does until it is collected, and functions
    of torch.distributed.nn do for ever if they are imported once it is there.
    """
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


# --- from bytes to numbers, on the device ---------------------------------------------


def prepared(
    images: Tensor, chances: Tensor, labels: Tensor, recipe: Recipe, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """A batch to train on: images (n, C, H, W) and targets (n, classes), both mixed."""
    made = normalized(images, recipe, dtype)
    smoothing, classes = recipe["label_smoothing"], recipe["classes"]
    targets = F.one_hot(labels, classes).to(dtype) * (1 - smoothing)
    targets += smoothing / classes
    rows, columns = made.shape[2:]
    chances = chances.to(dtype)
    kept, box = chances[:, 0], chances[:, 1:5]
    if recipe["mixup"] or recipe["cutmix"]:  # each with another of the batch
        weight = kept[:, None, None, None] * ~inside(box, rows, columns)
        made = weight * made + (1 - weight) * made.flip(0)
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        share = (kept * (1 - area / (rows * columns)))[:, None]
        targets = share * targets + (1 - share) * targets.flip(0)
    if recipe["erasing"]:
        made = made.masked_fill(inside(chances[:, 5:], rows, columns), 0)
    return made, targets


def normalized(images: Tensor, recipe: Recipe, dtype: torch.dtype) -> Tensor:
    """Bytes (n, H, W, C) as numbers (n, C, H, W), of mean 0 and deviation 1 on the whole."""
    mean, std = (
        torch.tensor(recipe[key], dtype=dtype, device=images.device)[:, None, None]
        for key in ("mean", "std")
    )
    return (images.permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std


def inside(box: Tensor, rows: int, columns: int) -> Tensor:
    """Where the pixels (n, 1, H, W) lie in the box of their image."""
    top, left, bottom, right = box[:, :, None, None, None].unbind(1)
    y = torch.arange(rows, device=box.device)[:, None]
    x = torch.arange(columns, device=box.device)
    return (top <= y) & (y < bottom) & (left <= x) & (x < right)
