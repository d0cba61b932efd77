"""Where PyTorch trains: on one device, or on those of the processes that torchrun starts."""

from __future__ import annotations

import argparse
import gc
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn  # here and not by and by: see `leave`
from torch import Tensor, nn

from common import Problem


class Place:
    """Where this process stands among those that torchrun started, and its device."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.workers = 0 if args.overfit_one_batch else args.workers
        self.bf16 = args.precision == "bf16"
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
