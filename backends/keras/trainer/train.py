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

import re
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import keras
except (ImportError, ValueError) as error:
    known = "KERAS_BACKEND may be tensorflow, jax or torch"
    sys.exit(f"train.py: cannot import Keras: {error}; {known}")
import numpy as np
from keras import layers, metrics, ops

if TYPE_CHECKING or not __package__:
    import common
    import data
    from devices import Place, Trained, evaluate, loaded, place_of
    from fitting import SGD, AdamW, Run, check_numbers, finite, keras_own, recipe_with
    from recipes import Options, as_trained, network_of, report
    from sources import Args, Images, Problem, Recipe, reading
else:
    from . import common, data
    from .devices import Place, Trained, evaluate, loaded, place_of
    from .fitting import SGD, AdamW, Run, check_numbers, finite, keras_own, recipe_with
    from .recipes import Options, as_trained, network_of, report
    from .sources import Args, Images, Problem, Recipe, reading

WITH_KERNEL = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
ON = "store_true"
FLAGS: Options = {
    "--precision": {"choices": ("fp32", "bf16", "fp64"), "help": "of the computation"},
    "--all-devices": {"action": ON, "help": "train on all devices of this host"},
    "--compile": {"action": ON, "help": "with XLA, even where Keras would not"},
    "--keras-optimizer": {"action": ON, "help": "use Keras' own, not PyTorch's form"},
}


# --- model and optimizer --------------------------------------------------------------


def build(args: Args, images: Images, weights: Path | None) -> keras.Model:
    """The network for these images, with initial weights or those of a file."""
    keras.utils.set_random_seed(args.seed)
    sys.setrecursionlimit(100_000)  # Keras goes back through the layers by recursion
    module, size = network_of(args.network), data.input_size(images, args.recipe)
    if size != data.input_size(images, args.recipe, training=True):
        size = (None, None)
    model = getattr(module, args.network)(len(images.classes), (*size, images.channels))
    if weights:
        load_weights(model, weights, args.reset_head)
    if args.freeze_until:
        with reading("--freeze-until", "possible"):
            module.freeze_until(model, args.freeze_until)
    return model


def load_weights(model: keras.Model, path: Path, reset_head: bool) -> None:
    """Load weights, with --reset-head except the last layer's; raises `Problem`."""
    head, kept = model.layers[-1], model.layers[-1].get_weights()
    of_head = f"A total of 1 objects could not be loaded.* name={head.name},"
    what = "weights of this network"
    with reading(path, what), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")  # whatever python -W says
        check_numbers(path)
        try:
            model.load_weights(path, skip_mismatch=reset_head)
        except ValueError as error:
            if re.match(of_head, str(error)):
                other = f"{head.name} is for other classes; try --reset-head"
                raise ValueError(other) from None
            raise
        if reset_head:
            head.set_weights(kept)
        for text in (" ".join(str(each.message).split()) for each in told):
            lost = "could not be loaded" in text and not re.match(of_head, text)
            if lost or "imaginary" in text:
                raise ValueError(text)
        if not finite(model):
            raise ValueError("it holds what is no finite number")


def decayed_names(model: keras.Model, recipe: Recipe) -> list[str]:
    """The trainable weights with weight decay."""
    found = []
    for layer in model.layers:
        for weight in layer.trainable_weights:
            kind = "bias" if weight.name == "bias" else "weight"
            kind = kind if isinstance(layer, WITH_KERNEL) else "norm"
            if kind not in recipe["no_decay"]:
                found.append(weight.path)
    return found


def make_ready(
    raw: keras.Model,
    recipe: Recipe,
    parts: int = 1,
    jit: bool | str = "auto",
    own: bool = False,
) -> Trained:
    """The model to train, compiled with optimizer, loss and metrics; with its EMA."""
    given = recipe, decayed_names(raw, recipe), parts
    averages = [keras.models.clone_model(raw)] if recipe["ema"] else []
    for average in averages:
        average.set_weights(raw.get_weights())
        average.trainable = False
    model = Trained(recipe, raw, *averages)
    model.parts, model.evaluated = parts, averages or [raw]
    if own:
        optimizer = keras_own(*given, model)
    else:
        optimizer = {"sgd": SGD, "adamw": AdamW}[recipe["optimizer"]](*given)
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
        *more,
    ]
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


def train(args: Args, place: Place) -> int:
    """Train or evaluate; returns the exit status."""
    # data
    common.check(args, place.devices, "last.npz")
    if args.evaluate:
        as_trained(args, {path: recipe_with(path) for path in args.weights})
    images, held_out = data.prepare(args)
    if args.evaluate:
        evaluate_all(args, place, held_out)
        return 0

    # model
    raw = build(args, images, args.weights[0] if args.weights else None)
    several = place.devices > 1 and keras.backend.backend() == "tensorflow"
    jit = True if args.compile else (False if several else "auto")
    parts, own = args.accumulate, args.keras_optimizer
    model = make_ready(raw, args.recipe, parts, jit, own)
    if several and not own:
        model.optimizer.devices, model.optimizer.total = place.devices, place.total

    # loop
    run = Run(model, held_out, args, place)
    quiet, share = place.rank > 0, (place.rank, place.world, parts)
    with common.alone(args.out, not quiet), common.Log(args, run.saved, quiet) as log:
        run.log = log
        if log.step == 0:
            run.save(best=False)  # first, so that no run is without
        if log.left:
            order = data.training(images, args.recipe, args.seed, log.step, share)
            given = place.dealt(lambda: paired(order, args, images))
            options: Any = {"callbacks": [run], "shuffle": False, "verbose": 0}
            model.fit(given, steps_per_epoch=log.left * parts, **options)
    place.summed(np.zeros(1))  # wait for the process that saves
    return log.end(run.halted)


def paired(order: Any, args: Args, images: Images) -> Iterator[Any]:
    """Batches for `fit`: images with their random numbers, and labels."""
    for pixels, chances, labels in loaded(order, args, images):
        yield (pixels, chances), labels


def evaluate_all(args: Args, place: Place, images: Images) -> None:
    """Report the errors of the mean prediction of all --weights."""
    networks = [build(args, images, path) for path in args.weights]
    model = Trained(args.recipe, *networks)
    table = metrics.MeanIoU(len(images.classes), sparse_y_pred=False)  # has the matrix
    make_measured(model, None, "auto", *([table] if args.confusion else []))
    errors = evaluate(model, images, args, place)
    if place.rank == 0:
        counts = ops.convert_to_numpy(table.total_cm).astype(int)
        report(args, errors, counts, images)


def main() -> None:
    """Train or evaluate; problems end the program with one line."""
    status: int | str
    try:
        args = common.parse(sys.argv[1:], __doc__ or "", FLAGS)
        place = place_of(args)
        with place.scope():
            status = train(args, place)
    except Problem as problem:  # from a worker process, its text has a traceback
        status = f"train.py: {str(problem).rpartition('Problem: ')[2]}"
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    if status:  # not in a handler, where what was raised keeps the workers
        sys.exit(status)


if __name__ == "__main__":
    main()
