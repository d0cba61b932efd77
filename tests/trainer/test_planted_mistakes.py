"""Mistakes planted into the trainers: each is one that a check must not let pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trainer_checks import (
    averages,
    goes_on,
    images_in_order,
    rates,
    same_run,
    same_steps,
    write_root,
)
from trainers import compiled

pytestmark = [pytest.mark.torch, pytest.mark.keras]

Check = Callable[[Path, str], None]  # of the folder that holds both trainers, and of one of them


def steps(recipe: str, parts: int = 1) -> Check:
    return lambda root, _: same_steps(root, recipe, parts, steps=4)


def run(root: Path, _: str) -> None:
    same_run(root, root / "out")


def resumed(root: Path, backend: str) -> None:
    goes_on(root / "dropout" / backend, root / "idx", root / "out")


def averaged(root: Path, backend: str) -> None:
    averages(root / backend, root / "idx", root / "out")


def order(root: Path, backend: str) -> None:
    images_in_order(root / backend)


def schedule(root: Path, backend: str) -> None:
    rates(root / backend)


@dataclass(frozen=True)
class Mistake:
    """What is changed where, and the check that is to fail."""

    name: str
    file: str
    changes: dict[str, str]
    check: Check


MISTAKES = [
    Mistake(
        "torch: all parameters decay",
        "torch/train.py",
        {' and kind not in recipe["no_decay"]': ""},
        steps("AdamW"),
    ),
    Mistake(
        "torch: the others decay, too",
        "torch/train.py",
        {', "weight_decay": 0.0}': "}"},
        steps("no momentum"),
    ),
    Mistake(
        "torch: no Nesterov",
        "torch/train.py",
        {'"nesterov": recipe["nesterov"]': '"nesterov": False'},
        steps("all of SGD"),
    ),
    Mistake(
        "torch: no clipping",
        "torch/train.py",
        {"if clip:": "if False:"},
        steps("all of SGD"),
    ),
    Mistake(
        "torch: clipping after the step",
        "torch/train.py",
        {
            "if clip:": "if False:",
            "    place.scaler.step(optimizer)\n": "    place.scaler.step(optimizer)\n"
            "    nn.utils.clip_grad_norm_(model.parameters(), clip)\n",
        },
        steps("all of SGD"),
    ),
    Mistake(
        "torch: the sum over the parts of a step",
        "torch/train.py",
        {"targets) / len(batches)": "targets)"},
        steps("the paper's", parts=2),
    ),
    Mistake(
        "torch: Adam's decay by the gradient",
        "torch/train.py",
        {"kind(groups": "(torch.optim.Adam if kind is AdamW else kind)(groups"},
        steps("AdamW"),
    ),
    Mistake(
        "torch: another epsilon",
        "torch/train.py",
        {'"eps": recipe["epsilon"]': '"eps": 1e-8'},
        steps("AdamW"),
    ),
    Mistake(
        "torch: the rate of the next step",
        "torch/train.py",
        {"common.rate_at(step, recipe)": "common.rate_at(step + 1, recipe)"},
        steps("AdamW"),
    ),
    Mistake(
        "torch: the first batches again",
        "torch/train.py",
        {"args.seed, log.step, share": "args.seed, 0, share"},
        resumed,
    ),
    Mistake(
        "torch: a fresh optimizer",
        "torch/train.py",
        {
            "in self.parts.items():\n                part.load": "in self.parts.items():\n"
            '                if name != "optimizer": part.load'
        },
        resumed,
    ),
    Mistake(
        "torch: fresh averages",
        "torch/train.py",
        {
            "in self.parts.items():\n                part.load": "in self.parts.items():\n"
            '                if name != "ema": part.load'
        },
        resumed,
    ),
    Mistake(
        "torch: fresh sums of the log",
        "torch/train.py",
        {'saved["sums"]) *': 'saved["sums"]) * 0 *'},
        resumed,
    ),
    Mistake(
        "torch: chance goes on by itself",
        "torch/train.py",
        {"torch.manual_seed((args.seed << 32) + log.step * place.world + place.rank)": "pass"},
        resumed,
    ),
    Mistake(
        "torch: averages without statistics",
        "torch/train.py",
        {"use_buffers=True": "use_buffers=False"},
        averaged,
    ),
    Mistake(
        "torch: the averages are copies",
        "torch/train.py",
        {'ema.n_averaged.fill_(step > self.recipe["warmup"])': "ema.n_averaged.fill_(0)"},
        run,
    ),
    Mistake(
        "torch: the averages follow through the warm-up",
        "torch/train.py",
        {'ema.n_averaged.fill_(step > self.recipe["warmup"])': "ema.n_averaged.fill_(1)"},
        run,
    ),
    Mistake(
        "keras: all parameters decay",
        "keras/train.py",
        {'if kind not in recipe["no_decay"]': "if True"},
        steps("AdamW"),
    ),
    Mistake(
        "keras: no Nesterov",
        "keras/fitting.py",
        {"change = gradient + momentum * velocity": "pass"},
        steps("all of SGD"),
    ),
    Mistake(
        "keras: Nesterov without the gradient",
        "keras/fitting.py",
        {"change = gradient + momentum * velocity": "change = momentum * velocity"},
        steps("all of SGD"),
    ),
    Mistake(
        "keras: momentum remembers the rate",
        "keras/fitting.py",
        {
            "self.first[index] + gradient": "self.first[index] + rate * gradient",
            "variable - rate * change": "variable - change",
        },
        steps("the paper's"),
    ),
    Mistake(
        "keras: no decay",
        "keras/fitting.py",
        {"gradient = gradient + self.decays[index] * variable": "pass"},
        steps("the paper's"),
    ),
    Mistake(
        "keras: decay without the rate",
        "keras/fitting.py",
        {"variable * (1 - rate * self.decays[index])": "variable * (1 - self.decays[index])"},
        steps("AdamW"),
    ),
    Mistake(
        "keras: epsilon before the correction",
        "keras/fitting.py",
        {"= ops.sqrt(second) /": '= (ops.sqrt(second) + self.recipe["epsilon"]) /'},
        steps("AdamW"),
    ),
    Mistake(
        "keras: no clipping",
        "keras/fitting.py",
        {"ops.minimum(most / (norm + 1e-6), 1.0)": "1.0"},
        steps("all of SGD"),
    ),
    Mistake(
        "keras: a rate for each part of a step",
        "keras/fitting.py",
        {"ops.cast(step // self.parts,": "ops.cast(step,"},
        steps("all of SGD", parts=2),
    ),
    Mistake(
        "keras: a step for each part",
        "keras/fitting.py",
        {"return ops.equal((self.iterations + 1) % self.parts, 0)": "return True"},
        steps("the paper's", parts=2),
    ),
    Mistake(
        "keras: the first batches again",
        "keras/train.py",
        {"args.seed, log.step, share": "args.seed, 0, share"},
        resumed,
    ),
    Mistake(
        "keras: a fresh optimizer",
        "keras/fitting.py",
        {
            "in self.groups.items():\n                    for": "in "
            "list(self.groups.items())[:2]:\n                    for"
        },
        resumed,
    ),
    Mistake(
        "keras: fresh sums of the log",
        "keras/fitting.py",
        {"            variable.assign(value)\n": "            pass\n"},
        resumed,
    ),
    Mistake(
        "keras: chance begins anew",
        "keras/fitting.py",
        {"in self.raw.variables if": "in self.raw.weights if"},
        resumed,
    ),
    Mistake(
        "keras: averages without statistics",
        "keras/devices.py",
        {
            "zip(self.others[0].weights, self.network.weights)": "zip("
            "self.others[0].weights, [w if w.trainable else m for w, m in "
            "zip(self.network.weights, self.others[0].weights)])"
        },
        averaged,
    ),
    Mistake(
        "keras: averages follow each part of a step",
        "keras/devices.py",
        {"every = parts * ": "every = "},
        run,
    ),
    Mistake(
        "keras: what was evaluated counts in training",
        "keras/fitting.py",
        {"            self.model.reset_metrics()\n": ""},
        run,
    ),
    Mistake(
        "warm-up off by one",
        "torch/common.py",
        {"way = step / max(warmup, 1)": "way = (step + 1) / max(warmup, 1)"},
        schedule,
    ),
    Mistake(
        "milestones off by one",
        "torch/common.py",
        {"ops.where(step >= milestone,": "ops.where(step > milestone,"},
        schedule,
    ),
    Mistake(
        "the same order in each epoch",
        "torch/data.py",
        {".repeat()": ".repeat(reseed_each_epoch=False)"},
        order,
    ),
    Mistake(
        "chance by the place in a share",
        "torch/data.py",
        {
            ".random_map(functools.partial(trained, images, recipe))[rank::world]": "[rank::world]"
            ".random_map(functools.partial(trained, images, recipe))"
        },
        order,
    ),
    Mistake(
        "the same share for each process",
        "torch/data.py",
        {"recipe))[rank::world]": "recipe))[0::world]"},
        order,
    ),
    Mistake(
        "a batch too many when it goes on",
        "torch/data.py",
        {"[start * accumulate :]": "[start :]"},
        order,
    ),
    Mistake(
        "each process evaluates all",
        "torch/data.py",
        {"range(whole)[rank::world]": "range(whole)"},
        order,
    ),
    Mistake(
        "what fills up the last batch counts",
        "torch/data.py",
        {
            "if index < len(images) else -1": "if True else -1",
            "images.labels[index] if": "images.labels[index % len(images)] if",
        },
        order,
    ),
    Mistake(
        "torch: targets are not mixed",
        "torch/devices.py",
        {"        targets = share * targets + (1 - share) * targets.flip(0)\n": ""},
        steps("all of SGD"),
    ),
    Mistake(
        "torch: nothing is erased",
        "torch/devices.py",
        {'if recipe["erasing"]:': "if False:"},
        steps("all of SGD"),
    ),
    Mistake(
        "keras: the box of CutMix is erased",
        "keras/devices.py",
        {"inside(chances[:, 5:], made)": "inside(chances[:, 1:5], made)"},
        steps("all of SGD"),
    ),
    Mistake(
        "keras: targets are not mixed",
        "keras/devices.py",
        {"                targets = share * targets + (1 - share) * ops.flip(targets, 0)\n": ""},
        steps("all of SGD"),
    ),
    Mistake(
        "keras: images are not mixed",
        "keras/devices.py",
        {"            made = weight * made + (1 - weight) * ops.flip(made, 0)\n": ""},
        steps("all of SGD"),
    ),
]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_root(tmp_path_factory.mktemp("clean"))
    for backend in ("torch", "keras"):
        compiled(root / "dropout", backend)
    return root


# Whole runs find these; others of their kind are found in a few steps.
DEAR = {
    "keras: chance begins anew",
    "keras: averages follow each part of a step",
    "torch: the averages follow through the warm-up",
}


def cases() -> Iterator[Any]:
    """Each mistake; one that is planted into both trainers is slow in the second."""
    planted = {mistake.name for mistake in MISTAKES}
    for mistake in MISTAKES:
        again = mistake.name.replace("keras: ", "torch: ") in planted - {mistake.name}
        marks = pytest.mark.slow if again or mistake.name in DEAR else ()
        yield pytest.param(mistake, id=mistake.name, marks=marks)


@pytest.mark.parametrize("mistake", cases())
def test_a_planted_mistake_is_found(clean: Path, tmp_path: Path, mistake: Mistake) -> None:
    root = tmp_path / "root"
    shutil.copytree(clean, root)
    text = (clean / mistake.file).read_text(encoding="utf-8")
    for old, new in mistake.changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    for folder in (root, root / "dropout"):
        (folder / mistake.file).write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError):
        mistake.check(root, mistake.file.partition("/")[0])
