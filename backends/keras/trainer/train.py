"""Train a network of this folder with Keras, as the recipe beside it says.

On TensorFlow or JAX, on one device or on all that they see:

    python train.py resnet20 --data fashion-mnist --max-steps 200
    KERAS_BACKEND=jax python train.py resnet50 --data DIR --precision bf16 --all-devices

The network's name comes first. Every key of its recipe, resnet50.toml, is a flag.
SIGTERM ends a step and saves; --resume goes on as if nothing had been.

    python train.py resnet50 --data DIR --evaluate --weights runs/resnet50/best.weights.h5
    python train.py resnet50 --data DIR --weights best.weights.h5 --reset-head --freeze-until fc
"""

from __future__ import annotations

import os
import sys

# Networks stand beside this file, and one may be called json: look here last.
sys.path.sort(key=os.path.dirname(os.path.abspath(__file__)).__eq__)

import argparse
import functools
import io
import itertools
import json
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import common
from common import Log, Problem, Recipe
from data import ahead, evaluation, input_size, training
from devices import Batches, Place, Trained, place_of
from flags import check, parse
from optimizers import SGD, AdamW, Rates
from sources import Images, prepare

FLAGS: dict[str, Any] = {
    "--all-devices": {
        "action": "store_true",
        "help": "deal each batch out to all devices of this host",
    },
    "--compile": {
        "action": "store_true",
        "help": "with XLA, also where Keras would not",
    },
}
WITH_KERNEL = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)


# --- flags and loader ------------------------------------------------------------------


def steps_of(
    images: Images, recipe: Recipe, args: argparse.Namespace, place: Place, step: int
) -> Iterator[Batches]:
    """From a step on, without end: the batches of each step, as data.py makes them."""
    share = place.rank, place.world, args.accumulate
    order = training(images, recipe, args.seed, step, share)
    loaded = ahead(order, args.workers, images.size is None)
    while True:
        batches = list(itertools.islice(loaded, args.accumulate))
        yield [((images, chances), labels) for images, chances, labels in batches]


# --- model ----------------------------------------------------------------------------


def build(args: argparse.Namespace, images: Images, recipe: Recipe) -> keras.Model:
    """The network for these images, with fresh weights or those of --weights."""
    keras.utils.set_random_seed(args.seed)
    sys.setrecursionlimit(100_000)  # Keras goes back through the layers by recursion
    module = common.network_of(args.network)
    shape = (*input_size(images, recipe), images.channels)
    model = getattr(module, args.network)(len(images.classes), shape)
    if args.weights:
        load_weights(model, args)
    if args.freeze_until:
        freeze_until = getattr(module, "freeze_until", None)
        common.freeze(
            args.freeze_until, freeze_until and functools.partial(freeze_until, model)
        )
    return model


def load_weights(model: keras.Model, args: argparse.Namespace) -> None:
    """Take over weights, with --reset-head not the last layer's; raises `Problem`."""
    head, kept = model.layers[-1], model.layers[-1].get_weights()
    with warnings.catch_warnings(record=True) as told:
        try:
            model.load_weights(args.weights, skip_mismatch=args.reset_head)
            wrong = [text for each in told if (text := mismatch(each.message, head))]
        except Exception as error:  # noqa: BLE001 - a broken file may raise anything
            wrong = [" ".join(str(error).split())[:200]]
    if wrong:
        what = f"{args.weights}: cannot be read as weights of this network: {wrong[0]}"
        raise Problem(f"{what}; for other classes try --reset-head (of {head.name})")
    if args.reset_head:
        head.set_weights(kept)


def mismatch(warning: Any, head: keras.Layer) -> str:
    """What Keras tells of layers that it skipped, unless that is the head alone."""
    text = " ".join(str(warning).split())
    only = text.startswith("A total of 1 objects") and head.name in text
    return text[:200] if "could not be loaded" in text and not only else ""


# --- optimizer ------------------------------------------------------------------------


def decayed_names(model: keras.Model, recipe: Recipe) -> list[str]:
    """The trainable weights that decay."""
    return [
        weight.path
        for layer in model.layers
        for weight in layer.trainable_weights
        if kind_of(layer, weight.name) not in recipe["no_decay"]
    ]


def kind_of(layer: keras.Layer, name: str) -> str:
    """What a weight is to weight decay: a weight, a bias, or of a normalisation."""
    if isinstance(layer, WITH_KERNEL):
        return "bias" if name == "bias" else "weight"
    return "norm"


def make_ready(
    raw: keras.Model, recipe: Recipe, unit: int, steps: int, parts: int, jit: bool | str
) -> keras.Model:
    """The network as it is trained, with its loss and optimizer."""
    rates = [common.lr_at(step // parts, recipe, unit) for step in range(steps * parts)]
    kind = AdamW if recipe["optimizer"] == "adamw" else SGD
    accumulation = {"gradient_accumulation_steps": parts} if parts > 1 else {}
    optimizer = kind(recipe, decayed_names(raw, recipe), Rates(rates), **accumulation)
    model = Trained(raw, recipe)
    loss, right = (
        keras.losses.CategoricalCrossentropy(True),
        "sparse_categorical_accuracy",
    )
    model.compile(optimizer, loss, metrics=[right], jit_compile=jit)
    optimizer.build(model.trainable_variables)
    return model


def reseed(droppers: list[Any], seed: int, step: int, parts: int) -> None:
    """Make chance in a step a function of the seed and the step; a batch counts one on."""
    for number, layer in enumerate(droppers, step * len(droppers)):
        layer.seed_generator.state.assign([seed, number * parts])


def average(ema: keras.Model, model: keras.Model, decay: float) -> None:
    """Move the averaged weights and statistics a little to where the model's are."""
    for mean, value in zip(ema.weights, model.weights, strict=True):
        mean.assign(mean + (value - mean) * (1 - decay))


# --- checkpoints ----------------------------------------------------------------------


def save(path: Path, state: dict[str, Any], **groups: dict[str, Any]) -> None:
    """Write what a run needs, numbers as JSON and groups of arrays, whole or not at all."""
    buffer = io.BytesIO()
    arrays = {
        f"{group}|{name}": ops.convert_to_numpy(value)
        for group, values in groups.items()
        for name, value in values.items()
    }
    np.savez(buffer, state=np.array(json.dumps(state)), **arrays)
    common.write_whole(path, buffer.getvalue())


def save_weights(path: Path, model: keras.Model) -> None:
    """Write weights as `load_weights` of Keras reads them, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder, common.writing(path):
        whole = Path(folder, "whole.weights.h5")
        # HDF5 brings the process down where a disk is full: see first that it is not.
        size = sum(weight.nbytes for weight in model.get_weights())
        whole.write_bytes(bytes(size + 4096 * len(model.weights)))
        model.save_weights(whole, overwrite=True)
        data = whole.read_bytes()
    common.write_whole(path, data)


def read(path: Path) -> dict[str, Any]:
    """What a run left for itself; raises `Problem`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            saved: dict[str, Any] = json.loads(str(file["state"]))
            for key in file.files[1:]:
                group, _, name = key.partition("|")
                saved.setdefault(group, {})[name] = file[key]
    except Exception as error:  # noqa: BLE001 - a broken file may raise anything
        raise Problem(f"{path}: cannot be read: {error}") from None
    return {"model": {}, "ema": {}, **saved}


# --- evaluation -----------------------------------------------------------------------


def evaluate(
    model: keras.Model,
    images: Images,
    recipe: Recipe,
    args: argparse.Namespace,
    place: Place,
) -> dict[str, float]:
    """Loss, top-1 and top-5 error over all images, each counted once."""
    place.agree(model)
    given, sums = Trained(model, recipe), np.zeros(3)
    batches = evaluation(images, recipe, args.ten_crop, place.rank, place.world)
    for views, labels in ahead(batches, args.workers, images.size is None):
        logits = place.logits(given, views.reshape(-1, *views.shape[2:]))
        logits = logits.reshape(len(views), views.shape[1], -1).mean(axis=1)
        real = labels >= 0  # the others fill up the last batch
        logits, labels = logits[real].astype(np.float64), labels[real]
        shifted = logits - logits.max(axis=1, keepdims=True)
        right = shifted[np.arange(len(labels)), labels]
        loss = np.log(np.exp(shifted).sum(axis=1)) - right
        better = (shifted > right[:, None]).sum(axis=1)
        sums += [loss.sum(), (better >= 1).sum(), (better >= 5).sum()]
    loss, error, top5 = np.divide(place.summed(sums.tolist()), len(images)).tolist()
    return {"val_loss": loss, "val_error": error, "val_error_top5": top5}


# --- training -------------------------------------------------------------------------


def train(args: argparse.Namespace, recipe: Recipe, place: Place) -> None:
    # data
    check(args, recipe, place.devices)
    images, held_out, recipe = prepare(args, recipe)
    if args.evaluate:
        beside = args.weights.with_name("last.npz")  # of the run that left the weights
        trained = read(beside)["recipe"] if beside.is_file() else recipe
        recipe = {**recipe, "mean": trained["mean"], "std": trained["std"]}
    epoch_steps = len(images) // recipe["batch_size"]
    unit = epoch_steps if recipe["unit"] == "epochs" else 1
    steps = min(recipe["length"] * unit, args.max_steps or sys.maxsize)

    # model
    raw = build(args, images, recipe)
    if args.evaluate:
        found = evaluate(raw, held_out, recipe, args, place)
        if place.rank == 0:
            print(found)
        return
    ema = keras.models.clone_model(raw) if recipe["ema"] else None
    if ema is not None:
        ema.set_weights(raw.get_weights())
    jit = True if args.compile else "auto"
    parts = args.accumulate
    calls = parts if place.keras_accumulates else 1
    model = make_ready(raw, recipe, unit, steps, calls, jit)
    droppers = [layer for layer in raw.layers if hasattr(layer, "seed_generator")]

    groups = {"model": {weight.path: weight for weight in raw.weights}}
    groups["ema"] = {weight.path: weight for weight in ema.weights} if ema else {}
    groups["optimizer"] = {str(i): v for i, v in enumerate(model.optimizer.variables)}

    # what an earlier run left
    step, best, last = 0, float("inf"), args.out / "last.npz"
    if last.is_file():  # and with --resume, or it would not have come here
        saved = read(last)
        common.check_same(saved, args, recipe)
        for group, variables in groups.items():
            for name, variable in variables.items():
                variable.assign(saved[group][name])
        step, best = saved["step"], saved["best"]

    # loop
    stopped = common.stop_signals()
    losses, errors, halt = [], [], False
    with Log(args, step, steps, recipe["batch_size"], place.rank == 0) as log:
        endless = steps_of(images, recipe, args, place, step)
        for batches in itertools.islice(endless, max(steps - step, 0)):
            reseed(droppers, args.seed, step, parts)
            loss, error = place.step(model, batches)
            losses.append(loss)
            errors.append(error)
            step += 1
            if ema is not None:
                average(ema, raw, recipe["ema"])
            log.advance()

            # now and then: tell, and after each epoch evaluate and save
            ends = step == steps or (epoch_steps > 1 and step % epoch_steps == 0)
            saves = ends or (args.save_every and step % args.save_every == 0)
            alone = place.world == 1 and bool(stopped)
            if not (saves or alone or step % args.log_every == 0):
                continue
            halt = place.summed([len(stopped)])[0] > 0
            saves = saves or halt
            rate = common.lr_at(step - 1, recipe, unit)
            log.tell(
                loss=float(np.mean(losses)), error=float(np.mean(errors)), rate=rate
            )
            losses, errors = [], []
            if saves and not all(np.isfinite(w).all() for w in raw.get_weights()):
                raise Problem(
                    f"weights are not finite after step {step}{common.DIVERGED}"
                )
            if ends:
                found = evaluate(ema or raw, held_out, recipe, args, place)
                is_best, best = found["val_error"] < best, min(best, found["val_error"])
                log.tell(**found)
            if saves and place.rank == 0:
                own = common.identity(args, recipe) | {"step": step, "best": best}
                evaluated = raw if ema is None else ema
                if (
                    ends and is_best
                ):  # before `last`, or a kill in between would lose it
                    save_weights(args.out / "best.weights.h5", evaluated)
                save_weights(args.out / "last.weights.h5", evaluated)
                save(last, own, **groups)
            if halt:
                break
    place.summed([0])  # the others wait for the one that saves
    if halt and step < steps:
        print(f"stopped after step {step}; go on with --resume", file=sys.stderr)
        sys.exit(128 + (stopped or [signal.SIGTERM])[0])


def main() -> None:
    """Train or evaluate; what is wrong is told in a line."""
    try:
        args, recipe = parse(sys.argv[1:], __doc__, FLAGS)
        place = place_of(args)
        with place.scope():
            train(args, recipe, place)
    except Problem as problem:
        sys.exit(f"train.py: {problem}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
