"""The measurements of one network, in the order in which they are made."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.verify import compare, draw, initial, optimizers, single
from resnet_spec.verify.compare import Difference
from resnet_spec.verify.optimizers import Recipe
from resnet_spec.verify.plan import Plan, normalized
from resnet_spec.verify.session import Session, WitnessError

Arrays = Mapping[str, np.ndarray]
Task = Callable[[Sequence[str], str], object]  # given witnesses, and the file in which to save

ONNX = "onnx"
STEPS = 10
PEAK = 0.01
"""Rate of the fastest step, unless the gradients call for less."""
PACE = 0.001
"""Part of its largest weight by which a tensor moves in one step, at most: training that diverges
multiplies every rounding with each step and compares nothing."""


def recipes(peak: float) -> dict[str, Recipe]:
    """Momentum, decay and a rate that changes at every step; Adam's steps are of the rate's size.

    Adam's epsilon is large enough for its place in the update to show.
    """
    return {
        "SGD": Recipe("sgd", optimizers.rates(peak, STEPS), momentum=0.9, weight_decay=1e-2),
        "AdamW": Recipe("adamw", optimizers.rates(1e-5, STEPS), 0.9, 1e-2, epsilon=1e-5),
    }


class Row(NamedTuple):
    """One measurement: what was compared, the largest difference, how large it may be."""

    measurement: str
    kind: str  # of tolerance
    difference: float
    tolerance: float
    compared: int
    worst: str  # the tensor that differs most
    note: str = ""

    @property
    def passes(self) -> bool:
        return self.difference <= self.tolerance


class Measurements:
    """Runs one network through all measurements."""

    def __init__(self, plan: Plan, session: Session, folder: Path) -> None:
        self.plan, self.session, self.folder = plan, session, folder
        self.parameters = [name for name, each in plan.tensors() if each.trainable]
        self.statistics = [name for name, each in plan.tensors() if not each.trainable]
        self.outputs = [*(f"stage {name}" for name in plan.stages), "logits"]
        self.derivatives = ["loss", *self.parameters, "images"]
        self.whole = [each for each in session if each != ONNX]  # who can do everything
        self.before: Arrays = {}

    def tolerance(self, kind: str) -> float:
        return compare.tolerance(kind, self.plan, self.session.keras_backend)

    # - rows -

    def all(self) -> Iterator[Row]:
        """Every row, as it is measured; what rests on something that differs is left out."""
        self.session.ask("open", folder=str(self.folder))
        row = self.names(self.session.ask("describe", of=self.whole))
        yield row
        if not row.passes:
            return
        self.prepare()
        for row in self.computed():
            yield row
            if not row.passes:
                break
        yield from self.initialisation()

    def computed(self) -> Iterator[Row]:
        yield self.outputs_row("evaluation", training=False)
        if ONNX in self.session:
            yield self.onnx_row()
        if self.plan.precision == "float32":
            yield from self.errors()
            return
        yield self.outputs_row("training", training=True)
        if self.statistics:
            self.session.ask("state", of=self.whole, out="state")
            yield self.statistics_row("statistics", "statistics", "state", steps=1)
        yield self.gradients()
        for name, recipe in recipes(self.peak()).items():
            yield from self.trajectory(name, recipe)

    def names(self, described: Mapping[str, Any]) -> Row:
        """Names, shapes and trainability, of each witness against the compiler's own."""
        expected = {
            name: {"shape": list(each.shape), "trainable": each.trainable}
            for name, each in self.plan.tensors()
        }
        wrong = [
            name
            for found in described.values()
            for name in sorted(found.keys() | expected.keys())
            if found.get(name) != expected.get(name)
        ]
        return Row("parameters", "exact", len(wrong), 0, len(expected), (wrong or [""])[0])

    def prepare(self) -> None:
        """Gives all witnesses the same weights, statistics, images and labels."""
        self.save("weights.npz", draw.weights(self.plan, seed=1))
        for step in range(STEPS):
            batch, target = draw.images(self.plan, 100 + step), draw.targets(self.plan, 200 + step)
            np.save(self.folder / f"images{step}.npy", self.held({"images": batch})["images"])
            np.save(self.folder / f"targets{step}.npy", target)
        first = [np.load(self.folder / f"images{step}.npy") for step in range(STEPS)]
        np.save(self.folder / "batches.npy", np.stack(first))
        labels = [np.load(self.folder / f"targets{step}.npy") for step in range(STEPS)]
        np.save(self.folder / "labels.npy", np.stack(labels))
        torch = self.session["torch"]
        torch.ask("load", weights="weights.npz")
        torch.answer()
        torch.ask("calibrate", images="images0.npy", out="calibrated.npz")
        torch.answer()
        weights = draw.near(self.plan, self.read("calibrated.npz"), seed=2)
        self.save("weights.npz", self.held(weights))
        self.before = self.read("weights.npz")
        self.reset()

    def held(self, values: Arrays) -> Arrays:
        """What the precision can hold of some values."""
        return single.rounded(values) if self.plan.precision == "float32" else values

    def reset(self) -> None:
        self.session.ask("load", of=self.whole, weights="weights.npz")

    def outputs_row(self, measurement: str, training: bool) -> Row:
        self.session.ask(
            "forward", of=self.whole, images="images1.npy", training=training, out="outputs"
        )
        kind = "training" if training else "forward"
        return self.row(measurement, kind, self.compared("outputs", self.outputs))

    def onnx_row(self) -> Row:
        """Evaluation of what PyTorch exports; an operation that does not export is no mistake."""
        images = "images1.npy"
        try:
            self.session.ask("load", of=[ONNX], weights="weights.npz")
        except WitnessError as error:
            return Row(
                "evaluation, onnx",
                "skipped",
                0.0,
                0.0,
                0,
                "",
                error.message.removeprefix("NotExported: "),
            )
        self.session.ask("forward", of=[ONNX], images=images, training=False, out="outputs")
        found = self.compared("outputs", self.outputs, [ONNX])
        return self.row("evaluation, onnx", "single", found, "in single precision")

    def gradients(self) -> Row:
        self.differentiate(self.whole, "gradients")
        found = self.compared("gradients", self.derivatives)
        return self.row("gradients", "gradients", found)

    def differentiate(self, of: Sequence[str], out: str) -> None:
        self.session.ask("load", of=of, weights="weights.npz")
        images, targets = "images1.npy", "targets1.npy"
        self.session.ask("gradients", of=of, images=images, targets=targets, out=out)

    def look(self, of: Sequence[str], out: str) -> None:
        """Outputs in training."""
        self.session.ask("load", of=of, weights="weights.npz")
        self.session.ask("forward", of=of, images="images1.npy", training=True, out=out)

    def errors(self) -> Iterator[Row]:
        """What is lost in single precision, against what double precision makes of the same."""
        after_look: dict[str, Task] = {}
        if self.statistics:
            after_look["statistics"] = lambda of, out: self.session.ask("state", of=of, out=out)
        yield from self.lost({"training": self.look, **after_look}, smooth=False)
        trained: dict[str, Task] = {
            f"{name} weights": functools.partial(self.train_at_peak, name) for name in recipes(PEAK)
        }
        yield from self.lost({"gradients": self.differentiate, **trained}, smooth=True)

    def lost(self, tasks: Mapping[str, Task], smooth: bool) -> Iterator[Row]:
        """The errors of some tasks, each of which some witnesses do and save."""
        folder, torch = str(self.folder), ["torch"]
        self.session.ask("open", of=torch, folder=folder, precision="float64", smooth=smooth)
        for name, task in tasks.items():
            task(torch, f"truth {name}")
        self.session.ask("open", of=self.whole, folder=folder, smooth=smooth)
        for name, task in tasks.items():
            task(self.whole, name)
            ratios = self.ratios(name)
            worst = max(ratios, key=lambda each: ratios[each])
            found = Difference(ratios[worst], worst, len(ratios))
            note = "the larger over the smaller, against double precision" * (name == "training")
            yield self.row(f"error of {name}", "error", found, note)
        self.session.ask("open", of=self.whole, folder=folder)

    def train_at_peak(self, name: str, of: Sequence[str], out: str) -> None:
        self.train(recipes(self.peak("truth gradients"))[name], of, out)

    def ratios(self, name: str) -> dict[str, float]:
        """How many times one framework's error of each tensor is another's."""
        found = {witness: self.read(f"{witness}.{name}.npz") for witness in self.whole}
        if name == "statistics" and not self.plan.exact:
            found["keras"] = self.carried(found["keras"], steps=1)
        compared = {
            "training": self.outputs,
            "statistics": self.statistics,
            "gradients": self.derivatives,
        }
        truth = self.read(f"torch.truth {name}.npz")
        return single.ratios(found, truth, compared.get(name, self.parameters))

    def peak(self, file: str = "gradients") -> float:
        """The largest rate at which no tensor moves by more than its pace."""
        gradients = self.read(f"torch.{file}.npz")
        moves = (
            float(np.abs(gradients[name]).max() / np.abs(self.before[name]).max())
            for name in self.parameters
        )
        return min(PEAK, PACE / max(moves))

    def trajectory(self, name: str, recipe: Recipe) -> Iterator[Row]:
        """Training by a recipe, and evaluation with what it left."""
        self.train(recipe, self.whole, "trained")
        found = self.compared("trained", ["losses", *self.parameters])
        moved = compare.largest(self.before, self.read("torch.trained.npz"), self.parameters)
        note = f"the weights moved by up to {moved.value:.2%}"
        kind = "trajectory" if recipe.optimizer == "sgd" else "adam"
        yield self.row(f"{name} weights", kind, found, note)
        if self.statistics:
            yield self.statistics_row(f"{name} statistics", kind, "trained", STEPS)
        yield self.evaluation_after(name, kind)

    def train(self, recipe: Recipe, of: Sequence[str], out: str) -> None:
        self.session.ask("load", of=of, weights="weights.npz")
        images, targets = "batches.npy", "labels.npy"
        self.session.ask("train", of=of, images=images, targets=targets, recipe=recipe, out=out)

    def evaluation_after(self, name: str, kind: str) -> Row:
        """Evaluation with what training left, the running variance carried over."""
        self.session.ask(
            "forward", of=self.whole, images="images0.npy", training=False, out="outputs"
        )
        found, note = self.compared("outputs", self.outputs), ""
        if self.statistics and not self.plan.exact:
            note = f"{found.value:.1e} with Keras' own running variance"
            self.save("carried.npz", self.carried(self.read("keras.trained.npz"), STEPS))
            keras = ["keras"]
            self.session.ask("load", of=keras, weights="carried.npz")
            self.session.ask(
                "forward", of=keras, images="images0.npy", training=False, out="outputs"
            )
            found = self.compared("outputs", self.outputs)
        return self.row(f"{name} evaluation", kind, found, note)

    def statistics_row(self, measurement: str, kind: str, file: str, steps: int) -> Row:
        """Running means and variances, the variance carried from Keras' rule to PyTorch's."""
        found, note = self.compared(file, self.statistics), ""
        if not self.plan.exact:
            note = f"{found.value:.1e} as Keras keeps the variance: over N values, not N - 1"
            reference = self.read(f"torch.{file}.npz")
            carried = self.carried(self.read(f"keras.{file}.npz"), steps)
            found = compare.largest(carried, reference, self.statistics)
        return self.row(measurement, kind, found, note)

    def carried(self, found: Arrays, steps: int) -> dict[str, np.ndarray]:
        """What the statistics would be had each variance been taken over N - 1 values.

        A running variance is `kept * before` and a weighted sum of the variances of the batches,
        each of which PyTorch multiplies by N / (N - 1).
        """
        moved = dict(found)
        for operation in self.plan.operations:
            name = f"{operation.name}.running_var"
            if name in found:
                kept = (1 - operation.momentum) ** steps * self.before[name]
                count = normalized(self.plan, operation)
                moved[name] = kept + (found[name] - kept) * count / (count - 1)
        return moved

    def initialisation(self) -> Iterator[Row]:
        """The distribution of fresh parameters, for each witness."""
        seeds = list(range(4 if sum(np.size(v) for v in self.before.values()) < 10**6 else 1))
        answers = self.session.ask("initial", of=self.whole, seeds=seeds)
        for witness, found in answers.items():
            summaries = {name: initial.Summary(*values) for name, values in found.items()}
            ratio, name, test = initial.worst(dict(self.plan.tensors()), summaries)
            note = f"{test}; a fair draw goes beyond 1 in {initial.FALSE_ALARMS:.0e} of all runs"
            yield Row(f"initial values, {witness}", "chance", ratio, 1.0, len(found), name, note)

    # - comparing -

    def compared(self, file: str, names: list[str], of: Sequence[str] = ()) -> Difference:
        """The largest difference of any other witness from PyTorch's."""
        reference = self.read(f"torch.{file}.npz")
        others = of or [each for each in self.whole if each != "torch"]
        found = [compare.largest(self.read(f"{e}.{file}.npz"), reference, names) for e in others]
        return max(found, key=lambda each: each.value)

    def row(self, measurement: str, kind: str, found: Difference, note: str = "") -> Row:
        tolerance = self.tolerance(kind)
        return Row(measurement, kind, found.value, tolerance, found.compared, found.name, note)

    def read(self, name: str) -> Arrays:
        with np.load(self.folder / name) as found:
            return {each: found[each] for each in found.files}

    def save(self, name: str, values: Arrays) -> None:
        np.savez(self.folder / name, **dict[str, Any](values))
