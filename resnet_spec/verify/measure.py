"""The measurements of one network, in the order in which they are made."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.ir import Network, evaluate
from resnet_spec.verify import compare, float32, initialization, optimizers, random_inputs
from resnet_spec.verify.compare import Difference
from resnet_spec.verify.frameworks import FRAMEWORKS
from resnet_spec.verify.optimizers import Recipe
from resnet_spec.verify.plan import Plan, normalized
from resnet_spec.verify.session import RunnerError, Session

Arrays = Mapping[str, np.ndarray]
# Given runners, the file in which they save, and that of the weights from which they start.
Task = Callable[[Sequence[str], str, str], object]

ONNX, TORCH, NUMPY = "onnx", "torch", "numpy"
WEIGHTS, ROUNDED = "weights.npz", "rounded.npz"
IMAGES = "images1.npy"  # of whatever looks at one batch
IN_ITSELF = "in PyTorch itself, from weights that are rounded otherwise"
STEPS = 10
PEAK = 0.01
"""Rate of the fastest step, unless the gradients call for less."""
PACE = 0.001
"""The largest change of a tensor in one step, as a fraction of its largest weight. In training that
diverges, every step multiplies the rounding errors, and a comparison proves nothing."""


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

    def __init__(self, plan: Plan, session: Session, folder: Path, network: Network) -> None:
        self.plan, self.session, self.folder, self.network = plan, session, folder, network
        self.parameters = [name for name, each in plan.tensors() if each.trainable]
        self.statistics = [name for name, each in plan.tensors() if not each.trainable]
        self.outputs = [*(f"stage {name}" for name in plan.stages), "logits"]
        self.derivatives = ["loss", *self.parameters, "images"]
        self.whole = [each for each in session if FRAMEWORKS[each].whole]  # who can do everything
        # Who keeps a running variance over N values by itself, where PyTorch's is over N - 1.
        self.biased = [each for each in self.whole if FRAMEWORKS[each].biased and not plan.exact]
        self.before: Arrays = {}

    def tolerance(self, kind: str) -> float:
        engine = self.session.keras_backend if "keras" in self.session else ""
        return compare.tolerance(kind, self.plan, engine)

    # - rows -

    def all(self) -> Iterator[Row]:
        """Every row, as it is measured, without those that depend on one that differs."""
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
        self.evaluate(self.whole, "outputs")
        yield self.row("evaluation", "forward", self.compared("outputs", self.outputs))
        yield self.definition_row()
        if ONNX in self.session:
            yield self.onnx_row()
        if self.plan.precision == "float32":
            yield from self.errors()
            return
        self.look_and_state(self.whole, "state")
        yield self.magnified_row("training", "training", self.look, "state outputs", self.outputs)
        if self.statistics:
            yield self.statistics_row("statistics", "statistics", self.look_and_state, "state", 1)
        self.differentiate(self.whole, "gradients")
        yield self.magnified_row(
            "gradients", "gradients", self.differentiate, "gradients", self.derivatives
        )
        for name, recipe in recipes(self.peak()).items():
            yield from self.trajectory(name, recipe)

    def names(self, described: Mapping[str, Any]) -> Row:
        """Names, shapes and trainability, of each runner against the compiler's own."""
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
        """Gives all runners the same weights, statistics, images and labels."""
        self.save(WEIGHTS, random_inputs.weights(self.plan, seed=1))
        for step in range(STEPS):
            batch, target = (
                random_inputs.images(self.plan, 100 + step),
                random_inputs.targets(self.plan, 200 + step),
            )
            np.save(self.folder / f"images{step}.npy", self.held({"images": batch})["images"])
            np.save(self.folder / f"targets{step}.npy", target)
        first = [np.load(self.folder / f"images{step}.npy") for step in range(STEPS)]
        np.save(self.folder / "batches.npy", np.stack(first))
        labels = [np.load(self.folder / f"targets{step}.npy") for step in range(STEPS)]
        np.save(self.folder / "labels.npy", np.stack(labels))
        torch = self.session["torch"]
        torch.ask("load", weights=WEIGHTS)
        torch.answer()
        torch.ask("calibrate", images="images0.npy", out="calibrated.npz")
        torch.answer()
        weights = random_inputs.near(self.plan, self.read("calibrated.npz"), seed=2)
        self.save(WEIGHTS, self.held(weights))
        self.before = self.read(WEIGHTS)
        self.reset()

    def held(self, values: Arrays) -> Arrays:
        """What the precision can hold of some values."""
        return float32.rounded(values) if self.plan.precision == "float32" else values

    def reset(self) -> None:
        self.session.ask("load", of=self.whole, weights=WEIGHTS)

    def definition_row(self) -> Row:
        """Evaluation of the IR by the definitions of its operations.

        Two backends can agree because both have the same bug.
        """
        made = self.define()
        stages = {f"stage {name}": value for name, value in made.stages.items()}
        self.save(f"{NUMPY}.outputs.npz", {**stages, "logits": made.logits})
        found = self.compared("outputs", self.outputs, [NUMPY])
        note = "by the definition of each operation, in double precision"
        return self.row("evaluation, numpy", "definition", found, note)

    def define(self, watch: evaluate.Watch | None = None) -> evaluate.Outputs:
        """Runs the IR. That needs no process of its own: nothing of a framework takes part."""
        images = np.load(self.folder / IMAGES)
        return evaluate.outputs(self.network, self.before, images, watch)

    def trace(self, of: Sequence[str], training: bool) -> None:
        """The outputs of every operation of some runners."""
        self.reset()
        self.session.ask("trace", of=of, images=IMAGES, training=training, out="trace")

    def onnx_row(self) -> Row:
        """Evaluation of what PyTorch exports; an operation that does not export is no mistake."""
        try:
            self.session.ask("load", of=[ONNX], weights=WEIGHTS)
        except RunnerError as error:
            return Row(
                "evaluation, onnx",
                "skipped",
                0.0,
                0.0,
                0,
                "",
                error.message.removeprefix("NotExported: "),
            )
        self.session.ask("forward", of=[ONNX], images=IMAGES, training=False, out="outputs")
        found = self.compared("outputs", self.outputs, [ONNX])
        return self.row("evaluation, onnx", "single", found, "in single precision")

    # - tasks -

    def evaluate(self, of: Sequence[str], out: str, weights: str = WEIGHTS) -> None:
        """Outputs in evaluation."""
        self.forward(of, out, weights, IMAGES, training=False)

    def look(self, of: Sequence[str], out: str, weights: str = WEIGHTS) -> None:
        """Outputs in training."""
        self.forward(of, out, weights, IMAGES, training=True)

    def forward(
        self, of: Sequence[str], out: str, weights: str, images: str, training: bool
    ) -> None:
        self.session.ask("load", of=of, weights=weights)
        self.session.ask("forward", of=of, images=images, training=training, out=out)

    def state(self, of: Sequence[str], out: str) -> None:
        self.session.ask("state", of=of, out=out)

    def look_and_state(self, of: Sequence[str], out: str, weights: str = WEIGHTS) -> None:
        """Statistics after a step of training."""
        self.look(of, f"{out} outputs", weights)
        self.state(of, out)

    def differentiate(self, of: Sequence[str], out: str, weights: str = WEIGHTS) -> None:
        self.session.ask("load", of=of, weights=weights)
        targets = "targets1.npy"
        self.session.ask("gradients", of=of, images=IMAGES, targets=targets, out=out)

    def train(self, recipe: Recipe, of: Sequence[str], out: str, weights: str = WEIGHTS) -> None:
        """Weights, statistics and losses after training by a recipe."""
        self.session.ask("load", of=of, weights=weights)
        images, targets = "batches.npy", "labels.npy"
        self.session.ask("train", of=of, images=images, targets=targets, recipe=recipe, out=out)

    def train_and_evaluate(
        self, recipe: Recipe, of: Sequence[str], out: str, weights: str = WEIGHTS
    ) -> None:
        """Outputs in evaluation after training by a recipe."""
        self.train(recipe, of, f"{out} weights", weights)
        images = "images0.npy"
        self.session.ask("forward", of=of, images=images, training=False, out=out)

    # - errors of single precision -

    def errors(self) -> Iterator[Row]:
        """The errors of single precision, measured against double precision."""
        after_look: dict[str, Task] = {}
        if self.statistics:
            after_look["statistics"] = lambda of, out, _: self.state(of, out)
        yield from self.lost({"training": self.look, **after_look}, smooth=False)
        trained: dict[str, Task] = {
            f"{name} weights": functools.partial(self.train_at_peak, name) for name in recipes(PEAK)
        }
        yield from self.lost({"gradients": self.differentiate, **trained}, smooth=True)

    def lost(self, tasks: Mapping[str, Task], smooth: bool) -> Iterator[Row]:
        """The errors of some tasks, each of which some runners do and save."""
        folder, torch = str(self.folder), ["torch"]
        self.session.ask("open", of=torch, folder=folder, precision="float64", smooth=smooth)
        for name, task in tasks.items():
            task(torch, f"truth {name}", WEIGHTS)
        self.session.ask("open", of=self.whole, folder=folder, smooth=smooth)
        for name, task in tasks.items():
            task(self.whole, name, WEIGHTS)
            ratios = self.ratios(name)
            worst = max(ratios, key=lambda each: ratios[each])
            found = Difference(ratios[worst], worst, len(ratios))
            note = "the larger over the smaller, against double precision" * (name == "training")
            yield self.row(f"error of {name}", "error", found, note)
        self.session.ask("open", of=self.whole, folder=folder)

    def train_at_peak(self, name: str, of: Sequence[str], out: str, weights: str) -> None:
        self.train(recipes(self.peak("truth gradients"))[name], of, out, weights)

    def ratios(self, name: str) -> dict[str, float]:
        """How many times one framework's error of each tensor is another's."""
        found = {runner: self.read(f"{runner}.{name}.npz") for runner in self.whole}
        for runner in self.biased if name == "statistics" else ():
            found[runner] = self.carried(found[runner], steps=1)
        compared = {
            "training": self.outputs,
            "statistics": self.statistics,
            "gradients": self.derivatives,
        }
        truth = self.read(f"torch.truth {name}.npz")
        return float32.ratios(found, truth, compared.get(name, self.parameters))

    def peak(self, file: str = "gradients") -> float:
        """The largest rate at which no tensor moves by more than its pace."""
        gradients = self.read(f"torch.{file}.npz")
        moves = (
            float(np.abs(gradients[name]).max() / np.abs(self.before[name]).max())
            for name in self.parameters
        )
        largest = max(moves)  # nothing moves where the gradients are zero
        return min(PEAK, PACE / largest) if largest else PEAK

    # - training -

    def trajectory(self, name: str, recipe: Recipe) -> Iterator[Row]:
        """Training by a recipe, and evaluation with what it left."""
        task = functools.partial(self.train_and_evaluate, recipe)
        task(self.whole, "trained outputs")
        train, file = functools.partial(self.train, recipe), "trained outputs weights"
        kind = "trajectory" if recipe.optimizer == "sgd" else "adam"
        moved = compare.largest(self.before, self.read(f"torch.{file}.npz"), self.parameters)
        note = f"the weights moved by up to {moved.value:.2%}"
        names = ["losses", *self.parameters]
        yield self.magnified_row(f"{name} weights", kind, train, file, names, note)
        if self.statistics:
            yield self.statistics_row(f"{name} statistics", kind, train, file, STEPS)
        note = ""
        if self.statistics and self.biased:
            idiomatic = self.compared("trained outputs", self.outputs)
            note = f"{idiomatic.value:.1e} with {self.whose()} own running variance"
            for runner in self.biased:
                self.save("carried.npz", self.carried(self.read(f"{runner}.{file}.npz"), STEPS))
                images = "images0.npy"
                self.forward([runner], "trained outputs", "carried.npz", images, training=False)
        names = self.outputs
        yield self.magnified_row(f"{name} evaluation", kind, task, "trained outputs", names, note)

    def statistics_row(self, measurement: str, kind: str, task: Task, file: str, steps: int) -> Row:
        """Running means and variances, the variances converted to PyTorch's rule."""
        if not self.biased:
            return self.magnified_row(measurement, kind, task, file, self.statistics)
        idiomatic = self.compared(file, self.statistics)
        names = " and ".join(FRAMEWORKS[each].label for each in self.biased)
        keeps = "keeps" if len(self.biased) == 1 else "keep"
        note = f"{idiomatic.value:.1e} as {names} {keeps} the variance: over N values, not N - 1"
        reference = self.read(f"{TORCH}.{file}.npz")
        others = [each for each in self.whole if each != TORCH]
        found = {each: self.read(f"{each}.{file}.npz") for each in others}
        found |= {each: self.carried(found[each], steps) for each in self.biased}
        apart = [compare.largest(each, reference, self.statistics) for each in found.values()]
        largest = max(apart, key=lambda each: each.value)
        row = self.row(measurement, kind, largest, note)
        return self.magnified(row, task, [*found.values()], reference, self.statistics)

    def whose(self) -> str:
        """The frameworks whose running variance is another, in the genitive."""
        labels = [FRAMEWORKS[each].label for each in self.biased]
        return " and ".join(f"{each}'" if each[-1] in "sx" else f"{each}'s" for each in labels)

    def carried(self, found: Arrays, steps: int) -> dict[str, np.ndarray]:
        """The statistics as they would be if each variance divided by N - 1.

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
        """The distribution of fresh parameters, for each runner."""
        seeds = list(range(4 if sum(np.size(v) for v in self.before.values()) < 10**6 else 1))
        answers = self.session.ask("initial", of=self.whole, seeds=seeds)
        for runner, found in answers.items():
            summaries = {name: initialization.Summary(*values) for name, values in found.items()}
            ratio, name, test = initialization.worst(dict(self.plan.tensors()), summaries)
            often = f"{initialization.FALSE_ALARMS:.0e}"
            note = f"{test}; a fair draw goes beyond 1 in {often} of all runs"
            yield Row(f"initial values, {runner}", "chance", ratio, 1.0, len(found), name, note)

    # - comparing -

    def compared(self, file: str, names: list[str], of: Sequence[str] = ()) -> Difference:
        """The largest difference of any other runner from PyTorch's."""
        reference = self.read(f"torch.{file}.npz")
        others = of or [each for each in self.whole if each != "torch"]
        found = [compare.largest(self.read(f"{e}.{file}.npz"), reference, names) for e in others]
        return max(found, key=lambda each: each.value)

    def magnified_row(
        self, measurement: str, kind: str, task: Task, file: str, names: list[str], note: str = ""
    ) -> Row:
        """What is apart in a file that a task made, as rounding is magnified."""
        row = self.row(measurement, kind, self.compared(file, names), note)
        if row.passes:
            return row
        found = [self.read(f"{each}.{file}.npz") for each in self.whole if each != TORCH]
        return self.magnified(row, task, found, self.read(f"{TORCH}.{file}.npz"), names)

    def magnified(
        self, row: Row, task: Task, found: Sequence[Arrays], reference: Arrays, names: list[str]
    ) -> Row:
        """A failing row, judged by how much this network magnifies rounding.

        PyTorch repeats the task, from weights that are rounded differently.
        """
        if row.passes or row.kind not in compare.MAGNIFIED or not math.isfinite(row.difference):
            return row
        self.save(ROUNDED, random_inputs.rounded_otherwise(self.before, seed=3))
        task([TORCH], "again", ROUNDED)
        own = compare.Spread.of(self.read(f"{TORCH}.again.npz"), reference, names)
        note = f"{own.largest:.1e} {IN_ITSELF}"
        wider = row._replace(
            tolerance=max(row.tolerance, min(compare.ALIKE * own.largest, compare.LIMIT)),
            note="; ".join(filter(None, (row.note, note))),
        )
        explained = all(compare.Spread.of(each, reference, names).like(own) for each in found)
        return row if wider.passes and not explained else wider

    def row(self, measurement: str, kind: str, found: Difference, note: str = "") -> Row:
        tolerance = self.tolerance(kind)
        return Row(measurement, kind, found.value, tolerance, found.compared, found.name, note)

    def read(self, name: str) -> Arrays:
        """The arrays of a file, each of which is read when it is asked for: together they fill
        the memory that the frameworks need."""
        found: Arrays = np.load(self.folder / name)
        return found

    def save(self, name: str, values: Arrays) -> None:
        np.savez(self.folder / name, **dict[str, Any](values))
