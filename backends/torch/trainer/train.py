"""Train a network of this folder with PyTorch, as the recipe beside it says.

On one device, on eight, on two machines of eight:

    python train.py resnet20 --data fashion-mnist --max-steps 200
    torchrun --nproc-per-node 8 train.py resnet50 --data DIR --precision bf16 --compile
    torchrun --nproc-per-node 8 --nnodes 2 --rdzv-endpoint HOST:29500 \\
        --rdzv-backend c10d train.py resnet50 --data DIR --precision bf16 --compile

The network's name comes first. Every key of its recipe, resnet50.toml, is a flag.
SIGTERM ends a step and saves; --resume goes on as if nothing had been.

    python train.py resnet50 --data DIR --evaluate --weights runs/resnet50/best.pt
    python train.py resnet50 --data DIR --weights best.pt --reset-head --freeze-until fc
"""

from __future__ import annotations

import argparse
import copy
import importlib
import io
import itertools
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import common
from common import Log, Problem, Recipe
from data import ahead, evaluation, training
from devices import Place, leave, sync_batch_norms
from flags import check, parse
from sources import Images, prepare

FLAGS: dict[str, Any] = {
    "--device": {
        "choices": ("cpu", "cuda"),
        "default": "cuda" if torch.cuda.is_available() else "cpu",
        "help": "where to train (default: cuda, where there is one)",
    },
    "--sync-batch-norm": {
        "action": "store_true",
        "help": "measure statistics over the batches of all processes",
    },
    "--compile": {"action": "store_true", "help": "the network, with torch.compile"},
    "--channels-last": {
        "action": argparse.BooleanOptionalAction,
        "help": "keep images in memory as NHWC (default: on cuda)",
    },
}


# --- flags and loaders ----------------------------------------------------------------


def steps_of(
    images: Images, recipe: Recipe, args: argparse.Namespace, place: Place, step: int
) -> Iterator[tuple[list[tuple[Tensor, Tensor]], Tensor]]:
    """From a step on, without end: the batches of each step, and all their labels."""
    share = place.rank, place.world, args.accumulate
    order = training(images, recipe, args.seed, step, share)
    loaded = ahead(order, place.workers, images.size is None)
    make = torch.compile(prepared) if args.compile else prepared
    while True:
        parts = [
            [place.there(array) for array in batch]
            for batch in itertools.islice(loaded, args.accumulate)
        ]
        made = [make(x, c, y, recipe, place.dtype) for x, c, y in parts]
        batches = [(place.laid_out(inputs), targets) for inputs, targets in made]
        yield batches, torch.cat([y for *_, y in parts])


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


# --- model ----------------------------------------------------------------------------


def build(args: argparse.Namespace, images: Images, place: Place) -> nn.Module:
    """The network for these images, with fresh weights or those of --weights."""
    module = importlib.import_module(args.network)
    build_network = getattr(module, args.network)
    model: nn.Module = build_network(
        num_classes=len(images.classes), in_channels=images.channels
    )
    model.to(place.device, place.dtype)
    model.to(memory_format=place.layout)  # type: ignore[call-overload]
    if args.weights:
        load_weights(model, read(args.weights), args)
    if args.freeze_until:
        common.freeze(args.freeze_until, getattr(model, "freeze_until", None))
    return model


def load_weights(model: nn.Module, saved: Recipe, args: argparse.Namespace) -> None:
    """Take over weights, with --reset-head not the last layer's; raises `Problem`."""
    weights, own = saved.get("ema") or saved.get("model") or saved, model.state_dict()
    head = list(own)[-1].rpartition(".")[0]
    if args.reset_head:
        kept = {key: value for key, value in own.items() if key.startswith(f"{head}.")}
        weights = {**weights, **kept}
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += [key for key in own if not wrong and own[key].shape != weights[key].shape]
    if wrong:
        what = f"{args.weights}: not of this network: {', '.join(wrong[:3])}"
        raise Problem(f"{what}; for other classes try --reset-head (of {head})")
    model.load_state_dict(weights)


# --- optimizer ------------------------------------------------------------------------


def kind_of(module: nn.Module, name: str) -> str:
    """What a parameter is to weight decay: a weight, a bias, or of a normalisation."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
        return "bias" if name == "bias" else "weight"
    return "norm"


def decayed_names(model: nn.Module, recipe: Recipe) -> list[str]:
    """The trainable parameters that decay."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad and kind_of(module, name) not in recipe["no_decay"]
    ]


def make_optimizer(
    model: nn.Module, recipe: Recipe, fused: bool
) -> torch.optim.Optimizer:
    """SGD or AdamW over two groups: what decays, and what does not."""
    decayed = set(decayed_names(model, recipe))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained.items() if name in decayed]},
        {"params": [p for name, p in trained.items() if name not in decayed]},
    ]
    groups[1]["weight_decay"] = 0.0
    options: Any = {"lr": 0.0, "fused": fused, "weight_decay": recipe["weight_decay"]}
    if recipe["optimizer"] == "adamw":
        betas = recipe["beta1"], recipe["beta2"]
        return torch.optim.AdamW(groups, betas=betas, eps=recipe["epsilon"], **options)
    nesterov, momentum = recipe["nesterov"], recipe["momentum"]
    return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, **options)


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[tuple[Tensor, Tensor]],
    recipe: Recipe,
    rate: float,
    bf16: bool = False,
) -> tuple[Tensor, Tensor]:
    """A step at a learning rate, over one or more batches; gives mean loss and logits."""
    total, logits = torch.zeros((), device=batches[0][0].device), []
    for number, (images, targets) in enumerate(batches, 1):
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = number == len(batches)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits.append(model(images))
            loss = F.cross_entropy(logits[-1], targets) / len(batches)
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    if recipe["clip_norm"]:
        nn.utils.clip_grad_norm_(model.parameters(), recipe["clip_norm"])
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    return total, torch.cat(logits).detach()


@torch.no_grad()
def average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics a little to where the model's are."""
    for mean, value in zip(ema.state_dict().values(), model.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


# --- checkpoints ----------------------------------------------------------------------


def read(path: Path) -> dict[str, Any]:
    """A file of weights; raises `Problem`."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a broken file may raise anything
        text = str(error).partition("\n")[0]
        raise Problem(f"{path}: cannot be read: {text}") from None
    if not isinstance(saved, dict):
        raise Problem(f"{path}: holds no weights")
    return saved


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    common.write_whole(path, buffer.getvalue())


# --- evaluation -----------------------------------------------------------------------


@torch.inference_mode()
def evaluate(
    model: nn.Module, images: Images, recipe: Recipe, ten: bool, place: Place
) -> dict[str, float]:
    """Loss, top-1 and top-5 error over all images, each counted once."""
    batches = evaluation(images, recipe, ten, place.rank, place.world)
    sums = torch.zeros(4, dtype=torch.float64)
    place.agree(model)
    model.eval()
    for views, labels in ahead(batches, place.workers, images.size is None):
        real = torch.from_numpy(labels) >= 0  # the others fill up the last batch
        made = normalized(place.there(views).flatten(0, 1), recipe, place.dtype)
        with torch.autocast(place.device.type, torch.bfloat16, enabled=place.bf16):
            logits = model(place.laid_out(made)).float().cpu()
        logits = logits.unflatten(0, (len(labels), -1)).mean(dim=1)[real]
        truth = torch.from_numpy(labels)[real]
        best = logits.topk(min(5, logits.shape[1])).indices == truth[:, None]
        loss = F.cross_entropy(logits, truth, reduction="sum")
        sums += torch.tensor([loss, best[:, 0].sum(), best.sum(), len(truth)])
    sums = place.summed(sums)
    loss, top1, top5 = (sums[:3] / sums[3]).tolist()
    return {"val_loss": loss, "val_error": 1 - top1, "val_error_top5": 1 - top5}


# --- training -------------------------------------------------------------------------


def train(args: argparse.Namespace, recipe: Recipe, place: Place) -> int:
    """The whole of it; gives the status to leave with."""
    # data
    check(args, recipe, place.world)
    images, held_out, recipe = prepare(args, recipe)
    if args.evaluate:
        trained = read(args.weights).get("recipe", recipe)
        recipe = {**recipe, "mean": trained["mean"], "std": trained["std"]}
    epoch_steps = len(images) // recipe["batch_size"]
    unit = epoch_steps if recipe["unit"] == "epochs" else 1
    steps = min(recipe["length"] * unit, args.max_steps or sys.maxsize)

    # model
    torch.manual_seed(args.seed)
    raw = build(args, images, place)
    if args.evaluate:
        print(evaluate(raw, held_out, recipe, args.ten_crop, place))
        return 0
    if args.sync_batch_norm:
        sync_batch_norms(raw)
    ema = copy.deepcopy(raw) if recipe["ema"] else None
    optimizer = make_optimizer(raw, recipe, fused=place.device.type == "cuda")

    # what an earlier run left
    step, best, last = 0, float("inf"), args.out / "last.pt"
    if last.is_file():  # and with --resume, or it would not have come here
        saved = read(last)
        common.check_same(saved, args, recipe)
        raw.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        if ema is not None:
            ema.load_state_dict(saved["ema"])
        step, best = saved["step"], saved["best"]

    model: nn.Module = DistributedDataParallel(raw) if place.world > 1 else raw
    if args.compile:
        model = torch.compile(model)  # type: ignore[assignment]

    def state() -> dict[str, Any]:
        own = common.identity(args, recipe)
        mean = ema.state_dict() if ema is not None else None
        own |= {"step": step, "best": best, "model": raw.state_dict(), "ema": mean}
        return {**own, "optimizer": optimizer.state_dict()}

    # loop
    stopped = common.stop_signals()
    sums, halt = torch.zeros(4, device=place.device), False
    with Log(args.out, step, steps, recipe["batch_size"], place.rank == 0) as log:
        model.train()
        endless = steps_of(images, recipe, args, place, step)
        for batches, labels in itertools.islice(endless, max(steps - step, 0)):
            torch.manual_seed((args.seed << 32) + step * place.world + place.rank)
            rate = common.lr_at(step, recipe, unit)
            loss, logits = update(model, optimizer, batches, recipe, rate, place.bf16)
            step += 1
            if ema is not None:
                average(ema, raw, recipe["ema"])
            sums[0] += loss * len(labels)
            sums[1] += (logits.argmax(dim=1) != labels).sum()
            sums[2] += len(labels)
            log.advance()

            # now and then: tell, and after each epoch evaluate and save
            ends = step == steps or (epoch_steps > 1 and step % epoch_steps == 0)
            saves = ends or (args.save_every and step % args.save_every == 0)
            alone = place.world == 1 and bool(stopped)
            if not (saves or alone or step % args.log_every == 0):
                continue
            sums[3] = len(stopped)
            loss_sum, wrong, seen, halts = place.summed(sums).tolist()
            sums.zero_()
            halt = halts > 0
            saves = saves or halt
            log.tell(loss=loss_sum / seen, error=wrong / seen, rate=rate)
            if saves and not all(bool(p.isfinite().all()) for p in raw.parameters()):
                raise Problem(
                    f"weights are not finite after step {step}{common.DIVERGED}"
                )
            if ends:
                found = evaluate(ema or raw, held_out, recipe, args.ten_crop, place)
                model.train()
                is_best, best = found["val_error"] < best, min(best, found["val_error"])
                log.tell(**found)
            if saves and place.rank == 0:
                save(last, state())
                if ends and is_best:
                    save(args.out / "best.pt", state())
            if halt:
                break
    if halt and step < steps:
        print(f"stopped after step {step}; go on with --resume", file=sys.stderr)
        return 128 + (stopped or [signal.SIGTERM])[0]
    return 0


def main() -> None:
    """Train or evaluate; what is wrong is told in a line."""
    status: int | str
    try:
        args, recipe = parse(sys.argv[1:], __doc__, FLAGS)
        status = train(args, recipe, Place(args))
    except Problem as problem:  # one of a loader's process comes with its traceback
        status = f"train.py: {str(problem).rpartition('Problem: ')[2].strip()}"
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        leave()
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
