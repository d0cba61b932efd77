"""Devices and hosts for Keras; the model that prepares batches; evaluation."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

if TYPE_CHECKING or not __package__:
    import data
    from sources import Args, Images, Problem, Recipe, reading
else:
    from . import data
    from .sources import Args, Images, Problem, Recipe, reading


class Place:
    """One device; base class for several.

    `rank` and `world` are the index and number of processes, one on each host;
    `devices` is the number of devices of all hosts.
    """

    rank, world, devices = 0, 1, 1

    def scope(self) -> Any:
        """The context in which models are made and trained."""
        return contextlib.nullcontext()

    def dealt(self, begin: Callable[[], Iterator[Any]]) -> Any:
        """This process's batches, as Keras takes them."""
        return begin()

    def summed(self, values: np.ndarray) -> np.ndarray:
        """The sum over all processes, which wait here for one another."""
        return values

    def agree(self, model: keras.Model) -> None:
        """Give all devices the first one's statistics, which are what is saved."""


class JaxDevices(Place):
    """All devices of one or more hosts on JAX, which computes on global batches."""

    def __init__(self, hosts: int) -> None:
        import jax

        if hosts > 1:
            keras.distribution.initialize()  # reads KERAS_DISTRIBUTION_...
        names = keras.distribution.list_devices()
        dealt = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
        keras.distribution.set_distribution(dealt)
        self.devices, self.world, self.rank = len(names), hosts, jax.process_index()

    def summed(self, values: np.ndarray) -> np.ndarray:
        from jax.experimental import multihost_utils

        rows = multihost_utils.process_allgather(values)
        return np.reshape(rows, (self.world, *values.shape)).sum(axis=0)


class TensorFlowDevice(Place):
    """One device on TensorFlow; base class for several."""

    def __init__(self) -> None:
        import tensorflow as tf

        self.tf = tf

    def dealt(self, begin: Callable[[], Iterator[Any]]) -> Any:
        given = begin()
        first = next(given)
        begun = iter([itertools.chain([first], given)])
        # Keras begins again where it looked at the first batch.
        return self.dataset(first, lambda: next(begun, None) or begin()).prefetch(1)

    def dataset(self, first: Any, begin: Callable[[], Iterator[Any]]) -> Any:
        """Batches like the first one."""
        spec = self.tf.nest.map_structure(
            lambda each: self.tf.TensorSpec((None, *each.shape[1:]), each.dtype), first
        )
        options = self.tf.data.Options()
        options.autotune.enabled = False  # else it takes up to a minute to end
        made = self.tf.data.Dataset.from_generator(begin, output_signature=spec)
        return made.with_options(options)


class TensorFlowDevices(TensorFlowDevice):
    """All devices of a host, or of the hosts of TF_CONFIG, on TensorFlow."""

    def __init__(self, hosts: int) -> None:
        super().__init__()
        self.world, tf = hosts, self.tf
        if hosts > 1:  # before anything else uses devices
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        else:
            kinds = [tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU")]
            names = [device.name for device in kinds[0] or kinds[1]]
            self.strategy = tf.distribute.MirroredStrategy(names)
        self.devices = self.strategy.num_replicas_in_sync
        if hosts > 1:
            self.rank = self.strategy.cluster_resolver.task_id

    def scope(self) -> Any:
        return self.strategy.scope()

    def dealt(self, begin: Callable[[], Iterator[Any]]) -> Any:
        first = next(begin())  # Keras then calls `begin` again
        # Each of its devices gets an equal part.
        made = self.dataset(first, begin).rebatch(
            len(first[1]) * self.world // self.devices
        )
        return self.strategy.distribute_datasets_from_function(lambda _: made)

    def summed(self, values: np.ndarray) -> np.ndarray:
        if self.world == 1:
            return values
        own = self.devices // self.world
        rows = self.strategy.experimental_distribute_values_from_function(
            lambda at: values * (at.replica_id_in_sync_group % own == 0)
        )
        return np.asarray(self.strategy.reduce("SUM", rows, axis=None))

    def agree(self, model: keras.Model) -> None:
        for weight in model.non_trainable_weights:
            own = ops.convert_to_numpy(weight)
            weight.assign(self.summed(own if self.rank == 0 else np.zeros_like(own)))

    def total(self, gradients: list[Any]) -> Any:
        """The sum of the gradients of all devices, inside a step."""
        return self.tf.distribute.get_replica_context().all_reduce("SUM", gradients)


def place_of(args: Args) -> Place:
    """The devices that flags and environment select; raises `Problem`."""
    if args.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if args.precision == "fp64":
        keras.config.set_floatx("float64")
    backend = keras.backend.backend()
    hosts = hosts_of(backend)
    if hosts == 1 and not args.all_devices:
        return TensorFlowDevice() if backend == "tensorflow" else Place()
    if backend == "jax":
        return JaxDevices(hosts)
    if backend != "tensorflow":
        raise Problem("--all-devices needs KERAS_BACKEND=tensorflow or jax")
    if args.compile:
        raise Problem("--compile: XLA cannot add up gradients of TensorFlow's devices")
    if args.keras_optimizer and args.accumulate > 1:
        raise Problem("--accumulate: Keras' own optimizers have it on one device alone")
    return TensorFlowDevices(hosts)


def hosts_of(backend: str) -> int:
    """The number of hosts in the environment; raises `Problem`."""
    with reading("TF_CONFIG or KERAS_DISTRIBUTION_...", "understood"):
        if backend == "jax":
            return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))
        if backend == "tensorflow":
            cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
            if not cluster.keys() <= {"worker"}:
                raise ValueError("a cluster of workers alone is")
            return max(1, len(cluster.get("worker", [])))
    return 1


# --- from bytes to numbers, on the device ---------------------------------------------


class Trained(keras.Model):
    """Wraps a network: normalises uint8 images, and mixes and erases training images.

    In training the input is (images, random numbers), in evaluation views
    (n, views, H, W, C); then the output is the mean prediction over all views and all
    networks in `evaluated`. With EMA, a second network holds the averages.
    """

    def __init__(self, recipe: Recipe, network: keras.Model, *others: keras.Model):
        super().__init__(dtype=keras.config.floatx())
        self.recipe, self.network, self.others = recipe, network, others
        self.mixes = recipe["mixup"] > 0 or recipe["cutmix"] > 0
        self.built = True
        self.evaluated = [network, *others]

    def call(self, x: Any, training: bool = False) -> Any:
        if not isinstance(x, list | tuple):
            return self.scores(x)
        made, chances = self.normalized(x[0]), ops.cast(x[1], keras.config.floatx())
        if training and self.recipe["erasing"]:
            made = made * (1 - inside(chances[:, 5:], made))
        if training and self.mixes:
            weight = chances[:, :1, None, None] * (1 - inside(chances[:, 1:5], made))
            made = weight * made + (1 - weight) * ops.flip(made, 0)
        logits = self.network(made, training=training)
        return ops.cast(logits, keras.config.floatx())

    def normalized(self, images: Any) -> Any:
        """Images (n, H, W, C), uint8, as normalised floats."""
        kind, recipe = keras.config.floatx(), self.recipe
        mean, std = (ops.convert_to_tensor(recipe[k], kind) for k in ("mean", "std"))
        return (ops.cast(images, kind) / 255 - mean) / std

    def scores(self, views: Any) -> Any:
        """Log of the mean probabilities."""
        made = self.normalized(ops.reshape(views, (-1, *views.shape[2:])))
        found = [network(made, training=False) for network in self.evaluated]
        logits = ops.cast(ops.stack(found, axis=1), keras.config.floatx())
        count = views.shape[1] * len(found)
        scores = ops.reshape(ops.log_softmax(logits), (-1, count, logits.shape[-1]))
        return ops.logsumexp(scores, axis=1) - math.log(count)

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *rest: Any, **more: Any) -> Any:
        """The loss; training targets are smoothed, and mixed like the images."""
        smoothing, classes = self.recipe["label_smoothing"], y_pred.shape[-1]
        targets = ops.one_hot(ops.cast(y, "int32"), classes, dtype=y_pred.dtype)
        if isinstance(x, list | tuple):
            targets = targets * (1 - smoothing) + smoothing / classes
            if self.mixes:
                chances, (rows, columns) = ops.cast(x[1], y_pred.dtype), x[0].shape[1:3]
                top, left, bottom, right = (chances[:, i : i + 1] for i in range(1, 5))
                area = (bottom - top) * (right - left)
                share = chances[:, :1] * (1 - area / (rows * columns))
                targets = share * targets + (1 - share) * ops.flip(targets, 0)
            if self.recipe["loss_weights"]:
                weights = self.recipe["loss_weights"]
                targets = targets * ops.convert_to_tensor(weights, y_pred.dtype)
        return super().compute_loss(x, targets, y_pred, *rest, **more)

    def _maybe_symbolic_build(self, *_: Any, **__: Any) -> None:
        """Do nothing: all is built, and TensorFlow's version would consume a batch."""

    def test_step(self, *given: Any) -> Any:
        """Keras' evaluation step."""
        found = super().test_step(*given)
        return found if keras.backend.backend() == "jax" else of_hosts(found)

    def train_step(self, *given: Any) -> Any:
        """Keras' training step, with the EMA update in the same compiled call."""
        found = super().train_step(*given)
        if keras.backend.backend() != "jax":
            if self.recipe["ema"]:
                self.follow()
            return of_hosts(found)
        if not self.recipe["ema"]:
            return found
        logs, (trained, others, optimizer, metrics) = found
        variables = self.trainable_variables, self.non_trainable_variables
        pairs = [*zip(variables[0], trained), *zip(variables[1], others)]
        pairs += zip(self.optimizer.variables, optimizer)
        with keras.StatelessScope(pairs) as scope:
            self.follow()
        others = [scope.get_current_value(each) for each in variables[1]]
        return logs, (trained, others, optimizer, metrics)

    def follow(self) -> None:
        """Update the EMA of weights and statistics if this step is due."""
        calls, parts = self.optimizer._iterations, self.parts
        every = parts * self.recipe["ema_steps"]
        begun = calls > self.recipe["warmup"] * parts
        share = ops.where(begun, 1 - self.recipe["ema"], 1.0)
        share = ops.where(ops.equal(calls % every, 0), share, 0.0)
        for mean, value in zip(self.others[0].weights, self.network.weights):
            moved = (value - mean) * ops.cast(share, mean.dtype)
            mean.assign(mean + moved)


def of_hosts(logs: Any) -> Any:
    """The logs of a step; on several TensorFlow hosts, Keras averages over an axis."""
    several = keras.backend.backend() == "tensorflow" and hosts_of("tensorflow") > 1
    return {name: value[None] for name, value in logs.items()} if several else logs


def inside(box: Any, images: Any) -> Any:
    """1 where the pixels (n, H, W, 1) lie in the box of their image, else 0."""
    rows, columns = images.shape[1:3]
    top, left, bottom, right = (box[:, i, None, None, None] for i in range(4))
    y = ops.arange(rows, dtype=box.dtype)[:, None, None]
    x = ops.arange(columns, dtype=box.dtype)[:, None]
    found = (top <= y) & (y < bottom) & (left <= x) & (x < right)
    return ops.cast(found, images.dtype)


def loaded(order: Any, args: Args, images: Images) -> Iterator[Any]:
    """Batches outside the memory shared with workers: Keras keeps some to its end."""
    batches = data.ahead(order, args.workers, images.size is None)
    return map(copied, batches)  # a generator would keep the last one that was shared


def copied(batch: Any) -> list[np.ndarray]:
    """A batch of the process's own."""
    return [*map(np.array, batch)]


def evaluate(
    model: keras.Model, images: Images, args: Args, place: Place
) -> dict[str, float]:
    """Loss, top-1 and top-5 error over all images, each counted once."""
    share = place.rank, place.world
    order = data.evaluation(images, args.recipe, share, args.ten_crop, args.test_sizes)

    def weighed() -> Iterator[Any]:  # padding of the last batch has weight 0
        for views, labels in loaded(order, args, images):
            yield views, np.maximum(labels, 0), (labels >= 0).astype(np.float32)

    place.agree(model)
    given, steps = place.dealt(weighed), len(order)
    found = model.evaluate(given, steps=steps, verbose=0, return_dict=True)
    number = len(images)  # so that counts of correct images are exact
    top1, top5 = (round(found[key] * number) / number for key in ("top1", "top5"))
    loss = float(found["entropy"])
    return {"val_loss": loss, "val_error": 1 - top1, "val_error_top5": 1 - top5}
