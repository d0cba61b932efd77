"""Same recipe, same steps: both trainers take the same weights to the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest
import trainers
from trainers import NO_DROPOUT, compiled, imported, write_idx

pytestmark = [pytest.mark.torch, pytest.mark.keras]

STEPS = 8
RECIPES: dict[str, dict[str, Any]] = {
    "the paper's": {"length": 8, "unit": "steps", "milestones": [3, 6]},
    "all of SGD": {
        "schedule": "cosine",
        "warmup": 1,
        "nesterov": True,
        "no_decay": ["norm", "bias"],
        "weight_decay": 0.01,
        "clip_norm": 0.5,
        "label_smoothing": 0.1,
        "mixup": 0.4,
        "cutmix": 1.0,
    },
    "AdamW": {
        "optimizer": "adamw",
        "schedule": "one_cycle",
        "learning_rate": 0.01,
        "warmup": 10,
        "warmup_start": 0.1,
        "no_decay": ["bias"],
        "weight_decay": 0.05,
    },
    "no momentum": {"momentum": 0.0, "schedule": "constant", "no_decay": ["norm"]},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("same")
    compiled(folder, "torch", NO_DROPOUT)
    compiled(folder, "keras", NO_DROPOUT)
    write_idx(folder / "idx")
    return folder


def weights_of(pair: parity.Pair) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Every trained parameter of both, by PyTorch's name and in its order of axes."""
    from resnet_spec.backends.keras.variables import VARIABLES, layer_name

    state = pair.torch.state_dict()
    found = []
    for name, operation in pair.network.operations():
        for parameter in operation.parameters:
            if parameter.trainable:
                attribute, axes = VARIABLES[operation.primitive.name, parameter.name]
                value = np.asarray(getattr(pair.keras.get_layer(layer_name(name)), attribute))
                one = state[f"{name}.{parameter.name}"].numpy()
                found.append((f"{name}.{parameter.name}", one, value.transpose(np.argsort(axes))))
    return found


def as_keras(names: list[str], pair: parity.Pair) -> set[str]:
    """Names of PyTorch's parameters as Keras has them."""
    from resnet_spec.backends.keras.variables import VARIABLES, layer_name

    paths = {
        f"{name}.{p.name}": f"{layer_name(name)}/{VARIABLES[op.primitive.name, p.name][0]}"
        for name, op in pair.network.operations()
        for p in op.parameters
    }
    return {paths[name] for name in names}


def normalized(images: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A batch whose targets add up to one in double precision, as TensorFlow's gradient takes."""
    exact = targets.astype(np.float64)
    return images.astype(np.float64), exact / exact.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_both_trainers_take_the_same_steps(root: Path, name: str, parts: int) -> None:
    import keras
    import torch

    keras_trainer = imported(root / "keras", "train")
    text = trainers.SPEC.replace(*NO_DROPOUT)
    torch_trainer = imported(root / "torch", "train")
    batches, images = (sys.modules[each] for each in ("batches", "images"))
    common: Any = sys.modules["common"]
    recipe = trainers.recipe_of(root / "torch", **RECIPES[name])
    data = images.load_images(str(root / "idx"), True, recipe)
    recipe = images.measured(data, recipe)
    unit = 8 if recipe["unit"] == "epochs" else 1
    assert [each for each in RECIPES[name] if recipe[each] != RECIPES[name][each]] == []

    with parity.float64():
        pair = parity.pair(parity.network_of_text(text))
        pair.torch.train()
        optimizer = torch_trainer.make_optimizer(pair.torch, recipe, fused=False)
        names = torch_trainer.decayed_names(pair.torch, recipe)
        assert as_keras(names, pair) == set(keras_trainer.decayed_names(pair.keras, recipe))
        model = keras_trainer.make_ready(pair.keras, recipe, unit, STEPS, parts, False)
        epoch = batches.Batches(data, recipe, 0, 0, accumulate=parts)
        for step in range(STEPS):
            share = [normalized(*epoch[step * parts + part][:2]) for part in range(parts)]
            rate = common.lr_at(step, recipe, unit)
            assert float(model.optimizer.learning_rate) == pytest.approx(rate, rel=1e-12, abs=0)
            given = [
                (torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)) for x, y in share
            ]
            loss, _ = torch_trainer.update(pair.torch, optimizer, given, recipe, rate)
            losses = [float(model.train_on_batch(*each)[0]) for each in share]
            assert np.mean(losses) == pytest.approx(float(loss), rel=1e-9)
            for key, one, other in weights_of(pair):
                assert parity.difference(one, other) < 1e-9, (step, key)
    keras.backend.clear_session(free_memory=False)


def test_the_shared_files_are_the_same(root: Path) -> None:
    """Recipe, schedule and images are one text in both folders."""
    for name in ("flags.py", "common.py", "images.py", "batches.py"):
        bodies = [
            (root / backend / name).read_text().split('"""', 1)[1] for backend in ("torch", "keras")
        ]
        assert bodies[0] == bodies[1]


def test_no_file_is_longer_than_it_may_be(root: Path) -> None:
    for path in root.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def commands() -> list[list[str]]:
    """The command lines of docs/training.md that start a trainer: its folder and its words."""
    page = (Path(__file__).parents[1] / "docs/training.md").read_text(encoding="utf-8")
    lines = [line.split() for line in page.splitlines() if "/train.py " in line]
    return [line[next(i for i, w in enumerate(line) if "/train.py" in w) :] for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_of_the_page_are_understood(words: list[str]) -> None:
    folder = Path(__file__).parents[1] / "generated" / Path(words[0]).parent.name
    train = imported(folder, "train")
    name = "resnet50"  # the only recipes in the repository's output are the paper networks'
    args, recipe = sys.modules["flags"].parse([name, *words[2:]], "", train.FLAGS)
    assert args.data
    assert recipe["batch_size"] == 256


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="dataset-fashion-mnist"
)
@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_the_newcomers_path(tmp_path: Path, backend: str) -> None:
    from resnet_spec import cli

    out = str(tmp_path / "generated")
    assert cli.main(["compile", "resnet20", "--backend", backend, "--out", out, "--quiet"]) == 0
    flags = ("--data", "fashion-mnist", "--max-steps", "200", "--out", str(tmp_path / "run"))
    program = [sys.executable, f"{out}/{backend}/train.py", "resnet20", *flags]
    assert subprocess.run(program, check=False).returncode == 0
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    losses = [line["loss"] for line in told if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
