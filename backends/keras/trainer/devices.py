"""Where Keras trains, on one device, all of a host or several hosts, and on what numbers."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from typing import Any

import keras
import numpy as np
from keras import ops

from common import Problem, Recipe

# Of each batch that makes up a step: images and chances, as data.py makes them, and labels.
Batches = list[tuple[tuple[np.ndarray, np.ndarray], np.ndarray]]


class Place:
    """One device, where nothing needs dealing out; the others are of this form.

    `rank` and `world` number the processes of a run, one on each host; `devices` are those of all.
    """

    rank, world, devices = 0, 1, 1
    keras_accumulates = True  # gradients of several batches, from call to call

    def scope(self) -> Any:
        """The context in which models are made and trained."""
        return contextlib.nullcontext()

    def step(self, model: keras.Model, batches: Batches) -> tuple[float, float]:
        """Train on this process's share of a step; gives mean loss and error of all shares."""
        found = [model.train_on_batch(*batch) for batch in batches]
        loss, accuracy = np.mean(found, axis=0, dtype=np.float64)
        return float(loss), 1 - float(accuracy)

    def logits(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        """What a model makes of this process's images."""
        return np.asarray(model.predict_on_batch(images))

    def summed(self, values: list[float]) -> list[float]:
        """The sums over all processes, which wait here for one another."""
        return values

    def agree(self, model: keras.Model) -> None:
        """Give all devices the first one's statistics, which are what is saved."""


class JaxDevices(Place):
    """All devices of one or more hosts on JAX, which sees each batch as one."""

    def __init__(self, hosts: int) -> None:
        import jax

        if hosts > 1:
            keras.distribution.initialize()  # as KERAS_DISTRIBUTION_... say
        names = keras.distribution.list_devices()
        self.distribution = keras.distribution.DataParallel(devices=names)
        keras.distribution.set_distribution(self.distribution)
        self.devices, self.world, self.rank = len(names), hosts, jax.process_index()
        self.jax, self._logits = jax, jax.jit(self._logits_of_all, static_argnums=0)

    def logits(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        """What a model makes of this process's images; Keras would fetch those of all."""
        layout = self.distribution.get_data_layout(images.shape).backend_layout
        dealt = self.jax.make_array_from_process_local_data(layout, images)
        weights = [each.value for each in model.trainable_variables]
        others = [each.value for each in model.non_trainable_variables]
        found = self._logits(model, weights, others, dealt).addressable_shards
        return np.concatenate(
            [s.data for s in sorted(found, key=lambda s: s.index[0].start)]
        )

    def _logits_of_all(
        self, model: keras.Model, weights: list[Any], others: list[Any], images: Any
    ) -> Any:
        return model.stateless_call(weights, others, images, training=False)[0]

    def summed(self, values: list[float]) -> list[float]:
        """The sums over all processes, which wait here for one another."""
        from jax.experimental import multihost_utils

        rows = multihost_utils.process_allgather(np.array([values]))
        return rows.reshape(self.world, -1).sum(axis=0).tolist()


class TensorFlowDevices(Place):
    """All devices of a host, or of the hosts of TF_CONFIG, on TensorFlow.

    Keras' `train_on_batch` and `predict_on_batch` would give each the whole batch.
    """

    keras_accumulates = False

    def __init__(self, hosts: int) -> None:
        import tensorflow as tf

        self.tf, self.strategy, self.world = tf, strategy_of(tf, hosts), hosts
        self.devices = self.strategy.num_replicas_in_sync
        if hosts > 1:
            self.rank = self.strategy.cluster_resolver.task_id
        self._step = tf.function(self._step_on_all, reduce_retracing=True)
        self._logits = tf.function(self._logits_on_all, reduce_retracing=True)

    def scope(self) -> Any:
        """The context in which models are made and trained."""
        return self.strategy.scope()

    def step(self, model: keras.Model, batches: Batches) -> tuple[float, float]:
        """Train on this process's share of a step; gives mean loss and error of all shares."""
        model.optimizer.total = self._total
        deal = self.tf.nest.map_structure
        dealt = [deal(self._dealt, batch) for batch in batches]
        loss, error = self._step(model, dealt)
        return float(loss), float(error)

    def _step_on_all(self, model: keras.Model, batches: Any) -> list[Any]:
        def on_each(batches: Any) -> tuple[Any, Any]:
            sums: list[Any] = []
            for batch in batches:
                with self.tf.control_dependencies(sums):  # holds one batch at a time
                    found = self._gradients(model, *batch)
                sums = [a + b for a, b in zip(sums, found)] if sums else found
            loss, error, *gradients = [each / len(batches) for each in sums]
            model.optimizer.apply(gradients, model.trainable_variables)
            return loss * self.devices, error

        found = self.strategy.run(on_each, (batches,))
        return [self.strategy.reduce("MEAN", each, axis=None) for each in found]

    def _gradients(self, model: keras.Model, given: Any, labels: Any) -> list[Any]:
        """A batch's loss, as its part in that of all devices, its error and its gradients."""
        with self.tf.GradientTape() as tape:
            logits = model(given, training=True)
            loss = model.compute_loss(given, labels, logits)
        right = keras.metrics.sparse_categorical_accuracy(labels, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        return [loss, 1 - ops.mean(right), *gradients]

    def _total(self, gradients: list[Any]) -> Any:
        """The sum of the gradients of all devices, within a step."""
        return self.tf.distribute.get_replica_context().all_reduce("SUM", gradients)

    def logits(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        """What a model makes of this process's images."""
        found = self._logits(model, self._dealt(images))
        local = self.strategy.experimental_local_results(found)
        return np.concatenate([each.numpy() for each in local])

    def _logits_on_all(self, model: keras.Model, images: Any) -> Any:
        return self.strategy.run(lambda each: model(each, training=False), (images,))

    def _dealt(self, array: np.ndarray) -> Any:
        """An array in equal parts, one for each device of this host."""
        parts = np.split(array, self.devices // self.world)
        return self.strategy.experimental_distribute_values_from_function(
            lambda device: parts[device.replica_id_in_sync_group % len(parts)]
        )

    def summed(self, values: list[float]) -> list[float]:
        """The sums over all processes, which wait here for one another."""
        local = self.devices // self.world
        rows = np.zeros((local, len(values)))
        rows[0] = values
        total = self.strategy.reduce("SUM", self._dealt(rows), axis=0)
        return np.asarray(total).tolist()

    def agree(self, model: keras.Model) -> None:
        """Give all devices the first one's statistics, which are what is saved."""
        for weight in model.non_trainable_weights:
            own = ops.convert_to_numpy(weight)
            mine = own.ravel() if self.rank == 0 else np.zeros(own.size)
            weight.assign(np.reshape(self.summed(mine.tolist()), own.shape))


def place_of(args: argparse.Namespace) -> Place:
    """Where the flags and the environment say; raises `Problem` for what cannot be."""
    if args.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if args.precision == "fp64":
        keras.config.set_floatx("float64")
    backend = keras.backend.backend()
    hosts = hosts_of(backend)
    if hosts == 1 and not args.all_devices:
        return Place()
    if backend == "jax":
        return JaxDevices(hosts)
    if backend != "tensorflow":
        raise Problem("--all-devices needs KERAS_BACKEND=tensorflow or jax")
    if args.compile:
        raise Problem("--compile: XLA cannot add up gradients of TensorFlow's devices")
    return TensorFlowDevices(hosts)


def hosts_of(backend: str) -> int:
    """How many hosts the environment names, for a backend; raises `Problem`."""
    try:
        if backend == "jax":
            return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))
        if backend == "tensorflow":
            cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
            if not cluster.keys() <= {"worker"}:
                raise Problem("TF_CONFIG: a cluster of workers alone is understood")
            return max(1, len(cluster.get("worker", [])))
    except (ValueError, AttributeError, TypeError) as error:
        raise Problem(f"TF_CONFIG or KERAS_DISTRIBUTION_...: {error}") from None
    return 1


def strategy_of(tf: Any, hosts: int) -> Any:
    """TensorFlow's way to train on the devices of one or more hosts."""
    if hosts > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    kinds = [tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU")]
    return tf.distribute.MirroredStrategy([d.name for d in kinds[0] or kinds[1]])


# --- from bytes to numbers, on the device ---------------------------------------------


class Trained(keras.Model):
    """A network that is given bytes: it normalises them, and mixes those to train on.

    Logits leave it in full precision.
    """

    def __init__(self, network: keras.Model, recipe: Recipe) -> None:
        super().__init__(dtype=keras.config.floatx())
        self.network, self.recipe, self.built = network, recipe, True

    def call(self, x: Any, training: bool = False) -> Any:
        images = x[0] if training else x
        mean, std = (
            ops.convert_to_tensor(self.recipe[key], keras.config.floatx())
            for key in ("mean", "std")
        )
        made = (ops.cast(images, keras.config.floatx()) / 255 - mean) / std
        if training and self.mixes:
            kept, box, _ = self.chances(x[1])
            weight = kept[:, :, None, None] * (1 - inside(box, made))
            made = weight * made + (1 - weight) * ops.flip(made, 0)
        if training and self.recipe["erasing"]:
            made = made * (1 - inside(self.chances(x[1])[2], made))
        logits = self.network(made, training=training)
        return ops.cast(logits, keras.config.floatx())

    @property
    def mixes(self) -> bool:
        return self.recipe["mixup"] > 0 or self.recipe["cutmix"] > 0

    def chances(self, chances: Any) -> tuple[Any, Any, Any]:
        """How much is kept of each image; the boxes that its partner fills, that are erased."""
        chances = ops.cast(chances, keras.config.floatx())
        return chances[:, :1], chances[:, 1:5], chances[:, 5:]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any
    ) -> Any:
        """The loss beside targets that are smoothed and mixed as the images are."""
        smoothing, classes = self.recipe["label_smoothing"], y_pred.shape[-1]
        targets = ops.one_hot(ops.cast(y, "int32"), classes, dtype=y_pred.dtype)
        targets = targets * (1 - smoothing) + smoothing / classes
        if self.mixes:
            kept, box, _ = self.chances(x[1])
            rows, columns = x[0].shape[1:3]
            area = (box[:, 2:3] - box[:, :1]) * (box[:, 3:] - box[:, 1:2])
            share = kept * (1 - area / (rows * columns))
            targets = share * targets + (1 - share) * ops.flip(targets, 0)
        return super().compute_loss(y=targets, y_pred=y_pred)


def inside(box: Any, images: Any) -> Any:
    """1 where the pixels (n, H, W, 1) lie in the box of their image, else 0."""
    rows, columns = images.shape[1:3]
    top, left, bottom, right = (box[:, i, None, None, None] for i in range(4))
    y = ops.arange(rows, dtype=box.dtype)[:, None, None]
    x = ops.arange(columns, dtype=box.dtype)[:, None]
    found = (top <= y) & (y < bottom) & (left <= x) & (x < right)
    return ops.cast(found, images.dtype)
