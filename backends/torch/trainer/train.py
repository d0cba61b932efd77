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

import os
import sys

# Networks stand beside this file, and one may be called json: look here last.
sys.path.sort(key=os.path.dirname(os.path.abspath(__file__)).__eq__)

import argparse
import io
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import common
from common import Log, Problem, Recipe
from data import ahead, evaluation, training
from devices import Place, leave, normalized, prepared, sync_batch_norms
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
    "--precision": {
        "choices": ("fp32", "bf16", "fp16", "fp64"),
        "default": "fp32",
        "help": "bf16, fp16: of activations alone (default: fp32)",
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


# --- model ----------------------------------------------------------------------------


def build(args: argparse.Namespace, images: Images, place: Place) -> nn.Module:
    """The network for these images, with fresh weights or those of --weights."""
    module = common.network_of(args.network)
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
    half: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[Tensor, Tensor]:
    """A step at a learning rate, over one or more batches; gives mean loss and logits."""
    device, logits = batches[0][0].device, []
    total = torch.zeros((), device=device)
    scaler = scaler or torch.amp.GradScaler(device.type, enabled=False)
    for number, (images, targets) in enumerate(batches, 1):
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = number == len(batches)
        with torch.autocast(device.type, half, enabled=half is not None):
            logits.append(model(images))
            loss = F.cross_entropy(logits[-1], targets) / len(batches)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    scaler.unscale_(optimizer)
    if recipe["clip_norm"]:
        nn.utils.clip_grad_norm_(model.parameters(), recipe["clip_norm"])
    for group in optimizer.param_groups:
        group["lr"] = rate
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return total, torch.cat(logits).detach()


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model whose weights and statistics follow it slowly, from here on."""
    follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    made = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
    made.n_averaged.fill_(1)  # or the first step would replace it
    return made


# --- checkpoints ----------------------------------------------------------------------


def read(path: Path) -> dict[str, Any]:
    """A file of weights; raises `Problem`."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
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
        with torch.autocast(
            place.device.type, place.half, enabled=place.half is not None
        ):
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
        beside = args.weights.with_name("last.pt")  # of the run that left the weights
        trained = read(beside).get("recipe", recipe) if beside.is_file() else recipe
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
    ema = averaged(raw, recipe["ema"]) if recipe["ema"] else None
    optimizer = make_optimizer(raw, recipe, fused=place.device.type == "cuda")

    scaler = torch.amp.GradScaler(
        place.device.type, enabled=place.half == torch.float16
    )

    # what an earlier run left
    step, best, last = 0, float("inf"), args.out / "last.pt"
    if last.is_file():  # and with --resume, or it would not have come here
        saved = read(last)
        common.check_same(saved, args, recipe)
        raw.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        if ema is not None:
            ema.module.load_state_dict(saved["ema"])
        step, best = saved["step"], saved["best"]

    model: nn.Module = DistributedDataParallel(raw) if place.world > 1 else raw
    if args.compile:
        model = torch.compile(model)  # type: ignore[assignment]

    def state() -> dict[str, Any]:
        own = common.identity(args, recipe)
        mean = ema.module.state_dict() if ema is not None else None
        own |= {"step": step, "best": best, "model": raw.state_dict(), "ema": mean}
        own["scaler"] = scaler.state_dict()
        return {**own, "optimizer": optimizer.state_dict()}

    # loop
    stopped = common.stop_signals()
    sums, halt = torch.zeros(4, device=place.device), False
    with Log(args, step, steps, recipe["batch_size"], place.rank == 0) as log:
        model.train()
        endless = steps_of(images, recipe, args, place, step)
        for batches, labels in itertools.islice(endless, max(steps - step, 0)):
            torch.manual_seed((args.seed << 32) + step * place.world + place.rank)
            rate = common.lr_at(step, recipe, unit)
            loss, logits = update(
                model, optimizer, batches, recipe, rate, place.half, scaler
            )
            step += 1
            if ema is not None:
                ema.update_parameters(raw)
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
                evaluated = ema.module if ema is not None else raw
                found = evaluate(evaluated, held_out, recipe, args.ten_crop, place)
                model.train()
                is_best, best = found["val_error"] < best, min(best, found["val_error"])
                log.tell(**found)
            if saves and place.rank == 0:
                if (
                    ends and is_best
                ):  # before `last`, or a kill in between would lose it
                    save(args.out / "best.pt", state())
                    whole = {
                        k: v.contiguous() for k, v in evaluated.state_dict().items()
                    }
                    path = args.out / "best_weights.safetensors"
                    common.write_whole(path, safetensors.torch.save(whole))
                save(last, state())
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
