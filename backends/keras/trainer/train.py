"""Train a network of this folder with Keras, by the recipe next to it.

On TensorFlow, JAX or PyTorch, on one device or, on the first two, on all of a host:

    python train.py resnet20 --data fashion-mnist --max-steps 200
    KERAS_BACKEND=jax python train.py resnet50 --data DIR --precision bf16 --all-devices

The network's name comes first. Every key of its recipe, resnet50.toml, is a flag.
SIGTERM finishes the step and saves; --resume continues as if never interrupted.

    python train.py resnet50 --data DIR --evaluate --weights runs/resnet50/best.weights.h5
    python train.py resnet50 --data DIR --weights best.weights.h5 --reset-head --freeze-until fc
"""

from __future__ import annotations

import importlib.util
import os
import sys

if not __package__:
    # A network next to this file may be called json: search this folder last.
    HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [*(path for path in sys.path if path != HERE), HERE]
    for name in ("sources", "recipes", "common", "data", "devices", "fitting"):
        found = importlib.util.find_spec(name)
        if found and os.path.dirname(os.path.realpath(found.origin or "")) != HERE:
            sys.exit(f"train.py: {found.origin} hides {HERE}/{name}.py; run with -m")

import argparse
import functools
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, metrics, ops

if TYPE_CHECKING or not __package__:
    import common
    import data
    from devices import Place, Trained, evaluate, place_of
    from fitting import SGD, AdamW, Rates, Run, Stopped, finite, keras_own, read
    from recipes import as_trained
    from sources import Images, Problem, Recipe
else:
    from . import common, data
    from .devices import Place, Trained, evaluate, place_of
    from .fitting import SGD, AdamW, Rates, Run, Stopped, finite, keras_own, read
    from .recipes import as_trained
    from .sources import Images, Problem, Recipe

WITH_KERNEL = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
ON = "store_true"
FLAGS: dict[str, dict[str, Any]] = {
    "--precision": {"choices": ("fp32", "bf16", "fp64"), "help": "of the computation"},
    "--all-devices": {"action": ON, "help": "train on all devices of this host"},
    "--compile": {"action": ON, "help": "with XLA, even where Keras would not"},
    "--keras-optimizer": {"action": ON, "help": "use Keras' own, not PyTorch's form"},
}


# --- model and optimizer --------------------------------------------------------------


def build(
    args: argparse.Namespace, images: Images, recipe: Recipe, weights: Path | None
) -> keras.Model:
    """The network for these images, with initial weights or those of a file."""
    keras.utils.set_random_seed(args.seed)
    sys.setrecursionlimit(100_000)  # Keras goes back through the layers by recursion
    module, size = common.network_of(args.network), data.input_size(images, recipe)
    if size != data.input_size(images, recipe, training=True):
        size = (None, None)
    model = getattr(module, args.network)(len(images.classes), (*size, images.channels))
    if weights:
        load_weights(model, weights, args.reset_head)
    if args.freeze_until:
        own = getattr(module, "freeze_until", None)
        common.freeze(args.freeze_until, own and functools.partial(own, model))
    return model


def load_weights(model: keras.Model, path: Path, reset_head: bool) -> None:
    """Load weights, with --reset-head except the last layer's; raises `Problem`."""
    head, kept = model.layers[-1], model.layers[-1].get_weights()
    with warnings.catch_warnings(record=True) as told:
        try:
            model.load_weights(path, skip_mismatch=reset_head)
            wrong = [text for each in told if (text := mismatch(each.message, head))]
        except Exception as error:  # noqa: BLE001 - a broken file may raise anything
            wrong = [" ".join(str(error).split())[:200]]
    if wrong:
        what = f"{path}: cannot be read as weights of this network: {wrong[0]}"
        raise Problem(f"{what}; for other classes try --reset-head (of {head.name})")
    if reset_head:
        head.set_weights(kept)
    if not finite(model):
        raise Problem(f"{path}: holds what is no finite number")


def mismatch(warning: Any, head: keras.Layer) -> str:
    """Keras' warning about skipped layers, unless it is about the head alone."""
    text = " ".join(str(warning).split())
    only = text.startswith("A total of 1 objects") and head.name in text
    wrong = "could not be loaded" in text or "imaginary part" in text
    return text[:200] if wrong and not only else ""


def kind_of(layer: keras.Layer, name: str) -> str:
    """The kind of a weight for weight decay: weight, bias, or norm."""
    if isinstance(layer, WITH_KERNEL):
        return "bias" if name == "bias" else "weight"
    return "norm"


def decayed_names(model: keras.Model, recipe: Recipe) -> list[str]:
    """The trainable weights with weight decay."""
    return [
        weight.path
        for layer in model.layers
        for weight in layer.trainable_weights
        if kind_of(layer, weight.name) not in recipe["no_decay"]
    ]


def make_ready(
    raw: keras.Model,
    recipe: Recipe,
    unit: int,
    steps: int,
    parts: int = 1,
    jit: bool | str = "auto",
    own: bool = False,
) -> Trained:
    """The model to train, compiled with optimizer, loss and metrics; with its EMA."""
    calls = range(steps * parts)
    rates = Rates([common.rate_at(step // parts, recipe, unit) for step in calls])
    decayed = decayed_names(raw, recipe)
    averages = [keras.models.clone_model(raw)] if recipe["ema"] else []
    for average in averages:
        average.set_weights(raw.get_weights())
        average.trainable = False
    model = Trained(recipe, raw, *averages)
    model.parts, model.first_average = parts, recipe["warmup"] * unit
    model.evaluated = averages or [raw]
    if own:
        optimizer = keras_own(recipe, decayed, rates, parts, model)
    else:
        kind = AdamW if recipe["optimizer"] == "adamw" else SGD
        optimizer = kind(recipe, decayed, rates, parts)
    optimizer.build(model.trainable_variables)
    make_measured(model, optimizer, jit)
    return model


def make_measured(
    model: Trained, optimizer: Any = None, jit: bool | str = "auto", *more: Any
) -> None:
    """Compile a model with its loss and metrics, and build it."""
    rows, columns, channels = model.network.input_shape[1:]
    measured = [
        metrics.SparseCategoricalCrossentropy(name="entropy", from_logits=True),
        metrics.SparseCategoricalAccuracy(name="top1"),
        metrics.MeanMetricWrapper(top5, name="top5"),
    ]
    measured += more
    model.compile(optimizer, cross_entropy, weighted_metrics=measured, jit_compile=jit)
    views = np.zeros((1, 1, rows or 224, columns or 224, channels), np.uint8)
    one = np.zeros(1, np.int64), np.zeros(1, np.float32)
    # Else it would consume a training batch.
    model._symbolic_build(data_batch=(views, *one))


def top5(labels: Any, scores: Any) -> Any:
    """Whether the label is among the top five; Keras' own has no double precision."""
    own = ops.cast(ops.reshape(labels, (-1, 1)), "int32")
    better = scores > ops.take_along_axis(scores, own, axis=1)
    return ops.sum(ops.cast(better, "int32"), axis=1) < 5


def cross_entropy(targets: Any, logits: Any) -> Any:
    """The loss of each image; its targets need not sum to 1."""
    return -ops.sum(targets * ops.log_softmax(logits), axis=-1)


# --- training -------------------------------------------------------------------------


def steps_of(
    images: Images, recipe: Recipe, args: argparse.Namespace, place: Place, step: int
) -> Iterator[Any]:
    """Endlessly, from `step` on: (images, random numbers), labels."""
    share = place.rank, place.world, args.accumulate
    order = data.training(images, recipe, args.seed, step, share)
    for pixels, chances, labels in data.ahead(order, args.workers, images.size is None):
        yield (pixels, chances), labels


def train(args: argparse.Namespace, recipe: Recipe, place: Place) -> int:
    """Train or evaluate; returns the exit status."""
    # data
    common.check(args, recipe, place.devices)
    common.check_folder(args, "last.npz", ["last.pt", "best.pt", "*.safetensors"])
    if args.evaluate:
        beside = [path.with_name("last.npz") for path in args.weights]
        kept = [read(path).get("recipe") for path in beside if path.is_file()]
        trained = [each for each in kept if isinstance(each, dict)]
        recipe = as_trained(args, recipe, trained)
    images, held_out, recipe = data.prepare(args, recipe)
    epoch = len(images) // recipe["batch_size"]  # in steps
    unit = epoch if recipe["unit"] == "epochs" else 1
    steps = min(recipe["length"] * unit, args.max_steps or sys.maxsize)
    epoch = epoch if epoch > 1 else steps  # do not evaluate after every step
    if args.evaluate:
        return evaluate_all(args, recipe, place, held_out)

    # model
    raw = build(args, images, recipe, args.weights[0] if args.weights else None)
    several = place.devices > 1 and keras.backend.backend() == "tensorflow"
    jit = True if args.compile else (False if several else "auto")
    own = args.keras_optimizer
    model = make_ready(raw, recipe, unit, steps, args.accumulate, jit, own)
    if several and not own:
        model.optimizer.total = place.total

    # loop
    run = Run(model, args, recipe, place)
    run.held_out, run.unit, run.calls = held_out, unit, run.step * args.accumulate
    with common.Log(args, run.step, steps, place.rank == 0) as run.log:
        while run.step < steps and not run.done:
            step = run.step  # to the end of the epoch, or whole epochs
            count = min(epoch - step % epoch, steps - step)
            epochs = (steps - step) // epoch if count == epoch else 1
            begin = functools.partial(steps_of, images, recipe, args, place, step)
            first = step // epoch
            run.ends = {step + count, *range(epoch, steps + 1, epoch)}
            try:
                model.fit(
                    place.dealt(begin),
                    steps_per_epoch=count * args.accumulate,
                    initial_epoch=first,
                    epochs=first + epochs,
                    callbacks=[run],
                    shuffle=False,
                    verbose=0,
                )
            except Stopped:
                break
    place.summed(np.zeros(1))  # wait for the process that saves
    if run.halted and run.step < steps:
        print(f"stopped after step {run.step}; go on with --resume", file=sys.stderr)
        return 128 + (run.stopped or [signal.SIGTERM])[0]
    return 0


def evaluate_all(
    args: argparse.Namespace, recipe: Recipe, place: Place, held_out: Images
) -> int:
    """Report the errors of the mean prediction of all --weights."""
    networks = [build(args, held_out, recipe, path) for path in args.weights]
    model = Trained(recipe, *networks)
    classes = held_out.classes
    table = metrics.MeanIoU(len(classes), sparse_y_pred=False)  # has the matrix
    make_measured(model, None, "auto", *([table] if args.confusion else []))
    errors = evaluate(model, held_out, recipe, args, place)
    if place.rank == 0:
        counts = ops.convert_to_numpy(table.total_cm).astype(int)
        data.report(errors, counts, classes, args.confusion)
    return 0


def main() -> None:
    """Train or evaluate; problems end the program with one line."""
    status: int | str
    try:
        args, recipe = common.parse(sys.argv[1:], __doc__ or "", FLAGS)
        place = place_of(args)
        with place.scope():
            status = train(args, recipe, place)
    except Problem as problem:  # from a worker process, its text has a traceback
        status = f"train.py: {str(problem).rpartition('Problem: ')[2].strip()}"
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
