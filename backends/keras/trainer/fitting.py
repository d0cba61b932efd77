"""For Keras' `fit`: optimizers, and a callback that logs, evaluates and saves.

The optimizers are in PyTorch's form, so that both trainers take the same steps. Keras'
SGD multiplies by the learning rate before momentum, decouples weight decay from the
gradient, and its AdamW adds epsilon before bias correction.
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py  # type: ignore[import-untyped]
import keras
import numpy as np
from keras import ops

if TYPE_CHECKING or not __package__:
    import common
    from devices import Place, Trained, evaluate
    from recipes import packed, unpacked
    from sources import Args, Images, Problem, Recipe, reading, write_whole
else:
    from . import common
    from .devices import Place, Trained, evaluate
    from .recipes import packed, unpacked
    from .sources import Args, Images, Problem, Recipe, reading, write_whole

Changes = list[tuple[Any, Any]]  # variables with their new values


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """The recipe's learning rate; a step is so many calls of the optimizer."""

    def __init__(self, recipe: Recipe, parts: int) -> None:
        self.recipe, self.parts = recipe, parts

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step // self.parts, keras.config.floatx())
        return common.rate_at(step, self.recipe, ops)


class Optimizer(keras.optimizers.Optimizer):
    """Base of the optimizers in PyTorch's form: decay, clipping and accumulation.

    Each part of an accumulated step computes the update, and only the last one applies
    it: TensorFlow's devices cannot synchronise inside a condition.
    """

    def __init__(self, recipe: Recipe, decayed: list[str], parts: int = 1) -> None:
        super().__init__(learning_rate=Rate(recipe, parts))
        self.recipe, self.decayed, self.parts = recipe, set(decayed), parts
        # On several devices, each with the gradients of its own images: their sum.
        self.devices, self.total = 1, list

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        decay, new = self.recipe["weight_decay"], self.add_variable_from_reference
        self.decays = [decay * (v.path in self.decayed) for v in variables]
        self.first = [new(v, name="first") for v in variables]
        if self.recipe["optimizer"] == "adamw":
            self.second = [new(v, name="second") for v in variables]
        if self.parts > 1:
            self.sums = [new(v, name="sum") for v in variables]

    def last(self) -> Any:
        """Whether this part is the last one of its step."""
        return ops.equal((self.iterations + 1) % self.parts, 0)

    def apply(self, grads: list[Any], trainable_variables: Any = None) -> None:
        if self.parts > 1:  # Keras adds up what the devices give
            pairs = zip(grads, self.sums)
            grads = [new / self.parts + total / self.devices for new, total in pairs]
        if most := self.recipe["clip_norm"]:
            norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in self.total(grads)))
            share = ops.minimum(most / (norm + 1e-6), 1.0)
            share = ops.where(self.last(), share, 1.0)
            grads = [grad * share for grad in grads]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index, dtype = self._get_variable_index(variable), variable.dtype
        rate, gradient = ops.cast(learning_rate, dtype), ops.cast(gradient, dtype)
        changes = self.changes(index, gradient, variable, rate)
        if self.parts > 1:
            last, total = self.last(), self.sums[index]
            was = [ops.convert_to_tensor(each) for each, _ in changes]
            changes = [(v, ops.where(last, to, w)) for (v, to), w in zip(changes, was)]
            changes.append((total, ops.where(last, ops.zeros_like(gradient), gradient)))
        for each, to in changes:
            self.assign(each, to)

    def changes(self, index: int, gradient: Any, variable: Any, rate: Any) -> Changes:
        raise NotImplementedError


class SGD(Optimizer):
    """Momentum of gradients with weight decay; the learning rate is applied last."""

    def changes(self, index: int, gradient: Any, variable: Any, rate: Any) -> Changes:
        momentum = self.recipe["momentum"]
        gradient = gradient + self.decays[index] * variable
        velocity = momentum * self.first[index] + gradient
        change = velocity
        if self.recipe["nesterov"]:
            change = gradient + momentum * velocity
        return [(self.first[index], velocity), (variable, variable - rate * change)]


class AdamW(Optimizer):
    """Epsilon is added after the bias correction of the second moment."""

    def changes(self, index: int, gradient: Any, variable: Any, rate: Any) -> Changes:
        beta1, beta2, dtype = self.recipe["beta1"], self.recipe["beta2"], variable.dtype
        step = ops.cast(self.iterations // self.parts + 1, dtype)
        first = self.first[index] * beta1 + gradient * (1 - beta1)
        second = self.second[index] * beta2 + ops.square(gradient) * (1 - beta2)
        one, two = (ops.convert_to_tensor(beta, dtype) for beta in (beta1, beta2))
        root = ops.sqrt(second) / ops.sqrt(1 - ops.power(two, step))
        spread = root + self.recipe["epsilon"]
        change = first / (1 - ops.power(one, step)) / spread
        kept = variable * (1 - rate * self.decays[index])
        moments = [(self.first[index], first), (self.second[index], second)]
        return [*moments, (variable, kept - rate * change)]


def keras_own(
    recipe: Recipe, decayed: list[str], parts: int, model: keras.Model
) -> keras.optimizers.Optimizer:
    """Keras' SGD or AdamW with the recipe's hyperparameters."""
    options = {"learning_rate": Rate(recipe, parts)}
    options["weight_decay"] = recipe["weight_decay"] or None
    options["global_clipnorm"] = recipe["clip_norm"] or None
    options["gradient_accumulation_steps"] = parts if parts > 1 else None
    if recipe["optimizer"] == "adamw":
        betas = {"beta_1": recipe["beta1"], "beta_2": recipe["beta2"]}
        made = keras.optimizers.AdamW(epsilon=recipe["epsilon"], **betas, **options)
    else:
        own = {key: recipe[key] for key in ("momentum", "nesterov")}
        made = keras.optimizers.SGD(**own, **options)
    others = [v for v in model.trainable_variables if v.path not in decayed]
    made.exclude_from_weight_decay(var_list=others)
    return made


# --- checkpoints ----------------------------------------------------------------------


def save(path: Path, state: dict[str, Any], **groups: dict[str, Any]) -> None:
    """Write a checkpoint: state as JSON, and groups of arrays."""
    buffer, arrays = io.BytesIO(), {}
    for group, values in groups.items():
        for name, value in values.items():
            arrays[f"{group}|{name}"] = ops.convert_to_numpy(value)
    np.savez(buffer, state=np.array(json.dumps(state)), **arrays)
    write_whole(path, buffer.getvalue())


def save_weights(path: Path, model: keras.Model, recipe: Recipe) -> None:
    """Write weights for Keras' `load_weights`, and what an evaluation of them needs.

    Completely or not at all; raises `Problem`.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole.weights.h5")
        try:
            # HDF5 crashes the process if the disk is full, so check for space first.
            size = sum(weight.nbytes for weight in model.get_weights())
            whole.write_bytes(bytes(size + 4096 * len(model.weights)))
            model.save_weights(whole, overwrite=True)
            with h5py.File(whole, "r+") as file:
                file["recipe"] = packed(recipe)
        except OSError as error:
            what = f"cannot write {path}: {error.strerror or error}"
            raise Problem(f"{what}; what was there before stays") from None
        write_whole(path, whole.read_bytes())


def read(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint; raises `Problem`."""
    with reading(path, "a checkpoint"), np.load(path, allow_pickle=False) as file:
        saved = unpacked(str(file["state"]))
        for key in file.files[1:]:
            group, _, name = key.partition("|")
            saved.setdefault(group, {})[name] = file[key]
        return {"model": {}, "ema": {}, **saved}


def recipe_with(path: Path) -> Any:
    """The recipe in a file of weights, or of the run beside it, or None."""
    with reading(path, "a file of weights"):
        if path.is_file() and h5py.is_hdf5(path):
            with h5py.File(path) as file:
                if "recipe" in file and file["recipe"].shape == ():
                    return file["recipe"].asstr()[()]
    beside = path.with_name("last.npz")
    return read(beside).get("recipe") if beside.is_file() else None


def check_numbers(path: Path) -> None:
    """Raise `ValueError` for integers, of quantised weights, which Keras would cast."""

    def check(name: str, found: Any) -> None:
        if getattr(found, "dtype", np.dtype("f")).kind in "iu" and "seed" not in name:
            raise ValueError(f"{name}: {found.dtype}, not floating-point numbers")

    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            file.visititems(check)


def finite(model: keras.Model) -> bool:
    """Whether all weights are finite."""
    return all(bool(np.isfinite(weight).all()) for weight in model.get_weights())


# --- the callback ---------------------------------------------------------------------


class Run(keras.callbacks.Callback):
    """Logs, evaluates, saves and resumes; Keras' own callbacks restart the epoch."""

    log: common.Log

    def __init__(
        self, model: Trained, images: Images, args: Args, place: Place
    ) -> None:
        super().__init__()
        self.set_model(model)
        self.images, self.args, self.recipe = images, args, args.recipe
        self.place, self.raw, self.evaluated = place, model.network, model.evaluated[0]
        self.part, self.halted = 0, False
        self.measured: list[float] = []  # in the metrics, since the last log line
        averages = self.evaluated.weights if self.recipe["ema"] else []
        kept = {id(weight) for weight in self.raw.weights}
        seeds = [each for each in self.raw.variables if id(each) not in kept]
        self.groups = {
            "model": {v.path: v for v in self.raw.weights},
            "ema": {v.path: v for v in averages},
            "optimizer": dict(enumerate(model.optimizer.variables)),
            "seeds": dict(enumerate(seeds)),
        }
        self.saved, last = {}, args.out / "last.npz"
        if last.is_file():  # only with --resume: see common.check
            self.saved = saved = read(last)
            with reading(last, "a checkpoint of this trainer"):
                common.check_same(saved, args)
                for group, variables in self.groups.items():
                    for name, variable in variables.items():
                        variable.assign(saved[group][str(name)])
                self.measured = [float(value) for value in saved["measured"]]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Go on with the checkpoint's metrics, which `fit` has just reset."""
        for variable, value in zip(self.model.metrics_variables, self.measured):
            variable.assign(value)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """On PyTorch, seed dropout, whose generator is in no checkpoint."""
        if keras.backend.backend() == "torch":
            calls = self.log.step * self.args.accumulate + self.part
            keras.utils.set_random_seed((self.args.seed << 16) + calls & 0xFFFFFFFF)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count a step; log, evaluate, save or stop if it is time."""
        self.part = (self.part + 1) % self.args.accumulate
        if self.part:
            return
        evaluates, saves, tells = self.log.advance()
        self.halted = self.place.world == 1 and bool(self.log.stopped)
        if not (tells or self.halted):
            return
        getattr(self.model, "jax_state_sync", lambda: None)()
        best = False
        if tells:
            rate = float(common.rate_at(self.log.step - 1, self.recipe))
            mean = {"loss": float(logs["loss"]), "error": 1 - float(logs["top1"])}
            self.log.tell(**mean, rate=rate)
            halts: np.ndarray = self.place.summed(np.array([len(self.log.stopped)]))
            self.halted = bool(halts[0] > 0)  # several hosts stop when they log
            if evaluates:
                found = evaluate(self.model, self.images, self.args, self.place)
                best = self.log.improves(found)
            self.model.reset_metrics()
        if saves or self.halted:
            self.save(best)
        self.model.stop_training = self.halted or not self.log.left

    def save(self, best: bool) -> None:
        """Save the evaluated weights, and the checkpoint to resume from."""
        self.log.require(finite(self.raw), "a weight is not finite")
        measured = map(ops.convert_to_numpy, self.model.metrics_variables)
        sums = {"measured": [float(value) for value in measured]}  # summed over hosts
        self.place.agree(self.model)
        if self.place.rank:
            return
        # In this order, so that no kill loses the best.
        for name in ["best"] * best + ["last"] * (self.log.step > 0):
            path = self.args.out / f"{name}.weights.h5"
            save_weights(path, self.evaluated, self.recipe)
        save(self.args.out / "last.npz", self.log.state | sums, **self.groups)
