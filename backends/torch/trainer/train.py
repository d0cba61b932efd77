"""Train a network of this folder with PyTorch, by the recipe next to it.

On one device, on eight, on two machines of eight:

    python train.py resnet20 --data fashion-mnist --max-steps 200
    torchrun --nproc-per-node 8 train.py resnet50 --data DIR --precision bf16 --compile
    torchrun --nproc-per-node 8 --nnodes 2 --rdzv-endpoint HOST:29500 \\
        --rdzv-backend c10d train.py resnet50 --data DIR --precision bf16 --compile

The network's name comes first. Every key of its recipe, resnet50.toml, is a flag.
SIGTERM finishes the step and saves; --resume continues as if never interrupted.

    python train.py resnet50 --data DIR --evaluate --weights runs/resnet50/best.pt
    python train.py resnet50 --data DIR --weights best.pt --reset-head --freeze-until fc
"""

from __future__ import annotations

import importlib.util
import os
import sys

if not __package__:
    # A network next to this file may be called json: search this folder last.
    HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [*(path for path in sys.path if path != HERE), HERE]
    for name in ("sources", "recipes", "common", "data", "devices"):
        found = importlib.util.find_spec(name)
        if found and os.path.dirname(os.path.realpath(found.origin or "")) != HERE:
            sys.exit(f"train.py: {found.origin} hides {HERE}/{name}.py; run with -m")

import io
import itertools
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

if TYPE_CHECKING or not __package__:
    import common
    import data
    from devices import HALVES, Place, evaluate, finite, leave, prepared
    from recipes import Options, as_trained, network_of, packed, report
    from sources import Args, Images, Problem, Recipe, reading, write_whole
else:
    from . import common, data
    from .devices import HALVES, Place, evaluate, finite, leave, prepared
    from .recipes import Options, as_trained, network_of, packed, report
    from .sources import Args, Images, Problem, Recipe, reading, write_whole

Batches = Sequence[tuple[Tensor, Tensor]]  # images and targets
ON = "store_true"
FLAGS: Options = {
    "--device": {"choices": ("cpu", "cuda"), "help": "default: cuda, if there is one"},
    "--precision": {"choices": ("fp32", *HALVES, "fp64"), "help": "of the computation"},
    "--sync-batch-norm": {"action": ON, "help": "statistics over all processes"},
    "--compile": {"action": ON, "help": "with torch.compile"},
    "--channels-last": {"action": ON, "help": "memory format; always on cuda"},
}


# --- model and optimizer --------------------------------------------------------------


def build(args: Args, images: Images, place: Place, weights: Path | None) -> nn.Module:
    """The network for these images, with initial weights or those of a file."""
    network = getattr(network_of(args.network), args.network)
    model: nn.Module = network(len(images.classes), images.channels)
    if args.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model.to(place.device, place.dtype)
    model.to(memory_format=place.layout)  # type: ignore[call-overload]
    if weights is not None:
        load_weights(model, weights, args.reset_head)
    if args.freeze_until:
        with reading("--freeze-until", "possible"):
            model.freeze_until(args.freeze_until)  # type: ignore[operator]
    return model


def read(path: Path) -> dict[str, Any]:
    """The contents of a file of weights; raises `Problem`."""
    with reading(path, "a file of weights"):
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                found = {name: file.get_tensor(name) for name in [*file.keys()]}
                return {"model": found, "recipe": (file.metadata() or {}).get("recipe")}
        try:
            return {**torch.load(path, map_location="cpu", weights_only=True)}
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - advises to run what the file says
            kind = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"; it holds {kind[1]}" if kind else ""
            form = f"a dict of tensors, as torch.save writes it{what}"
            raise ValueError(f"expected {form}") from None


def recipe_with(path: Path) -> Any:
    """The recipe in a file of weights, or of the run beside it, or None."""
    files = [each for each in (path, path.with_name("last.pt")) if each.is_file()]
    found = (read(each).get("recipe") for each in files)
    return next((each for each in found if each is not None), None)


def load_weights(model: nn.Module, path: Path, reset_head: bool) -> None:
    """Load weights, with --reset-head except the last layer's; raises `Problem`."""
    saved, own = read(path), model.state_dict()
    head = list(own)[-1].rpartition(".")[0]
    kept = {k: v for k, v in own.items() if reset_head and k.startswith(f"{head}.")}
    groups = (saved.get(key) for key in ("ema", "model", "state_dict"))
    found = next((each for each in groups if isinstance(each, dict)), saved)
    with reading(path, "weights of this network"):
        plain = {name.removeprefix("module."): value for name, value in found.items()}
        weights, wrong = {**plain, **kept}, []
        for name, value in weights.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: {type(value).__name__}, not a tensor")
            like = own.get(name, value)
            if value.is_floating_point() != like.is_floating_point():
                raise ValueError(f"{name}: {value.dtype}, not {like.dtype}")
            wrong += [name] if value.shape != like.shape else []
        if wrong and all(name.startswith(f"{head}.") for name in wrong):
            raise ValueError(f"{head} is for other classes; try --reset-head")
        model.load_state_dict(weights)
        if not finite(model):
            raise ValueError("it holds what is no finite number")


def decayed_names(model: nn.Module, recipe: Recipe) -> list[str]:
    """The trainable parameters with weight decay."""
    found = []
    for path, module in model.named_modules():
        plain = isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear))
        for name, parameter in module.named_parameters(recurse=False):
            kind = ("bias" if name == "bias" else "weight") if plain else "norm"
            if parameter.requires_grad and kind not in recipe["no_decay"]:
                found.append(f"{path}.{name}".lstrip("."))
    return found


def make_optimizer(model: nn.Module, recipe: Recipe) -> tuple[Optimizer, LambdaLR]:
    """SGD or AdamW with two groups, with and without weight decay; and the schedule."""
    decayed = set(decayed_names(model, recipe))
    groups: list[dict[str, Any]] = [{"params": []}, {"params": [], "weight_decay": 0.0}]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name not in decayed]["params"].append(parameter)
    kind: Any = {"sgd": SGD, "adamw": AdamW}[recipe["optimizer"]]
    own: Any = {"momentum": recipe["momentum"], "nesterov": recipe["nesterov"]}
    if kind is AdamW:
        own = {"betas": (recipe["beta1"], recipe["beta2"]), "eps": recipe["epsilon"]}
    own |= {"weight_decay": recipe["weight_decay"]}
    optimizer = kind(groups, lr=1.0, fused=next(model.parameters()).is_cuda, **own)
    rates = LambdaLR(optimizer, lambda step: float(common.rate_at(step, recipe)))
    return optimizer, rates


def update(
    model: nn.Module, optimizer: Optimizer, batches: Batches, clip: float, place: Place
) -> tuple[Tensor, Tensor]:
    """One step over one or more batches; returns the mean loss and the logits."""
    total, logits = torch.zeros((), device=place.device), []
    for number, (images, targets) in enumerate(batches, 1):
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = number == len(batches)
        with torch.autocast(place.device.type, place.half, enabled=bool(place.half)):
            try:
                logits.append(model(images))
            except ValueError as error:  # batch norm has no variance of one value
                if "value per channel" not in str(error):
                    raise
                raise Problem(f"--batch-size is too small: {error}") from None
            loss = F.cross_entropy(logits[-1], targets) / len(batches)
        place.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    place.scaler.unscale_(optimizer)
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    place.scaler.step(optimizer)
    place.scaler.update()
    optimizer.zero_grad()
    return total, torch.cat(logits).detach()


# --- training -------------------------------------------------------------------------


class Run:
    """A model with all that trains it, as a checkpoint keeps them."""

    def __init__(self, args: Args, images: Images, place: Place) -> None:
        self.args, self.place, self.recipe = args, place, args.recipe
        self.model = build(args, images, place, (args.weights or [None])[0])
        self.optimizer, self.rates = make_optimizer(self.model, self.recipe)
        follow = get_ema_multi_avg_fn(self.recipe["ema"])  # type: ignore[no-untyped-call]
        self.ema = AveragedModel(self.model, multi_avg_fn=follow, use_buffers=True)
        self.best_model = self.ema.module if self.recipe["ema"] else self.model
        self.parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer}
        self.parts |= {"rates": self.rates, "scaler": place.scaler}
        self.parts |= {"ema": self.ema.module} if self.recipe["ema"] else {}
        # Since the last log line: loss, errors, images, and processes that are to stop.
        self.sums = torch.zeros(4, device=place.device)
        self.make = torch.compile(prepared) if args.compile else prepared

    def resumed(self) -> dict[str, Any]:
        """Takes up the last checkpoint, which is there with --resume alone."""
        last = self.args.out / "last.pt"
        if not last.is_file():
            return {}
        saved = read(last)
        with reading(last, "a checkpoint of this trainer"):
            common.check_same(saved, self.args)
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            self.sums.copy_(torch.tensor(saved["sums"]) * (self.place.rank == 0))
        return saved

    def trained(self) -> nn.Module:
        """The model as the loop calls it: on several devices, and compiled."""
        model: nn.Module = self.model
        model = DistributedDataParallel(model) if self.place.world > 1 else model
        return torch.compile(model) if self.args.compile else model  # type: ignore[return-value]

    def step(self, model: nn.Module, loaded: Iterator[Any]) -> float:
        """Trains on the next batches; returns the learning rate of this step."""
        recipe, place = self.recipe, self.place
        arrays = itertools.islice(loaded, self.args.accumulate)
        batches = [tuple(map(place.there, each)) for each in arrays]
        made = [self.make(x, c, y, recipe, place) for x, c, y in batches]
        labels = torch.cat([y for *_, y in batches])
        loss, logits = update(model, self.optimizer, made, recipe["clip_norm"], place)
        rate = float(self.rates.get_last_lr()[0])
        self.rates.step()
        wrong = (logits.argmax(dim=1) != labels).sum()
        self.sums[:2] += torch.stack([loss * len(labels), wrong])
        self.sums[2] += len(labels)
        return rate

    def average(self, step: int) -> None:
        """Lets the average of the weights follow them."""
        if self.recipe["ema"] and step % self.recipe["ema_steps"] == 0:
            self.ema.n_averaged.fill_(step > self.recipe["warmup"])  # 0: copied
            self.ema.update_parameters(self.model)

    def tell(self, log: common.Log, rate: float) -> bool:
        """Logs the means since the last line; returns whether a process is to stop."""
        self.sums[3] = len(log.stopped)  # several processes stop when they log
        losses, errors, seen, halts = self.place.summed(self.sums).tolist()
        log.tell(loss=losses / seen, error=errors / seen, rate=rate)
        self.sums.zero_()
        return halts > 0

    def save(self, name: str, log: common.Log) -> None:
        """Writes a checkpoint."""
        state = {key: part.state_dict() for key, part in self.parts.items()}
        buffer = io.BytesIO()
        torch.save(log.state | state | {"sums": self.sums.tolist()}, buffer)
        write_whole(self.args.out / name, buffer.getvalue())

    def save_best(self, log: common.Log) -> None:
        """Writes the model that was evaluated, as a checkpoint and as weights alone."""
        self.save("best.pt", log)
        plain = {k: v.contiguous() for k, v in self.best_model.state_dict().items()}
        path = self.args.out / "best_weights.safetensors"
        about = {"recipe": packed(self.recipe)}  # two would be in any order
        write_whole(path, safetensors.torch.save(plain, about))


def train(args: Args, place: Place) -> int:
    """Train or evaluate; returns the exit status."""
    common.check(args, place.world, "last.pt")
    if args.evaluate:
        as_trained(args, {path: recipe_with(path) for path in args.weights})
    images, held_out = data.prepare(args)
    torch.manual_seed(args.seed)
    if args.evaluate:
        models = [build(args, images, place, path) for path in args.weights]
        errors, counts = evaluate(models, held_out, args, place)
        if place.rank == 0:
            report(args, errors, counts.numpy(), images)
        return 0

    run = Run(args, images, place)
    saved, model = run.resumed(), run.trained()
    halt, quiet = False, place.rank > 0
    with common.alone(args.out, not quiet), common.Log(args, saved, quiet) as log:
        share = (place.rank, place.world, args.accumulate)
        order = data.training(images, args.recipe, args.seed, log.step, share)
        loaded = data.ahead(order, args.workers, images.size is None)
        if log.step == 0 and not quiet:
            run.save("last.pt", log)  # first, so that no run is without
        model.train()
        while log.left and not halt:
            torch.manual_seed((args.seed << 32) + log.step * place.world + place.rank)
            rate = run.step(model, loaded)
            evaluates, saves, logs = log.advance()
            run.average(log.step)
            halt = place.world == 1 and bool(log.stopped)
            if logs:
                halt = run.tell(log, rate)
            if not (saves or halt):
                continue
            log.require(finite(run.model), "a weight is not finite")
            if evaluates:
                found, _ = evaluate([run.best_model], held_out, args, place)
                model.train()
                if log.improves(found) and not quiet:  # first, so that no kill loses it
                    run.save_best(log)
            if not quiet:
                run.save("last.pt", log)
    return log.end(halt)


def main() -> None:
    """Train or evaluate; problems end the program with one line."""
    status: int | str
    try:
        args = common.parse(sys.argv[1:], __doc__ or "", FLAGS)
        status = train(args, Place(args))
    except Problem as problem:  # from a worker process, its text has a traceback
        status = f"train.py: {str(problem).rpartition('Problem: ')[2]}"
        # So that torchrun repeats it in its report.
        get_error_handler().record_exception(problem.with_traceback(None))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        leave()
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
