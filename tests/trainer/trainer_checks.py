"""What both trainers must do, as checks that a test runs and that a planted mistake must fail."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest
import trainers
from trainers import NO_DROPOUT, called, compiled, imported, write_idx

EXACT = ("classes: 10", "classes: 10\nnumerics: exact")  # statistics like PyTorch's
TEXT = trainers.SPEC.replace(*NO_DROPOUT).replace(*EXACT)
# Changes of the recipe of `small` that bring in each part of an update.
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
        "erasing": 0.5,
    },
    "AdamW": {
        "optimizer": "adamw",
        "schedule": "one_cycle",
        "learning_rate": 0.01,
        "warmup": 10,
        "warmup_start": 0.1,
        "no_decay": ["bias"],
        "weight_decay": 0.05,
        "epsilon": 1e-4,
        "label_smoothing": 0.1,
        "loss_weights": [0.5 + 0.2 * i for i in range(10)],
    },
    "no momentum": {"momentum": 0.0, "schedule": "constant", "no_decay": ["norm"]},
}
# Flags of a run with everything that has a state or a choice by chance.
RICH = (
    "--ema",
    0.9,
    "--mixup",
    0.2,
    "--cutmix",
    1.0,
    "--erasing",
    0.5,
    "--label-smoothing",
    0.1,
    "--nesterov",
)
# Flags of a run that both trainers should make the same; without dropout.
SAME = (
    *("--schedule", "cosine", "--length", 4, "--warmup", 1, "--nesterov", "--no-decay", "norm"),
    *("--weight-decay", 0.01, "--clip-norm", 1, "--ema", 0.9, "--accumulate", 2),
    *("--precision", "fp64", "--max-steps", 12, "--log-every", 4),
)


def write_root(folder: Path) -> Path:
    """Both trainers, with a network that is the same in training, and images."""
    compiled(folder, "torch", NO_DROPOUT, EXACT)
    compiled(folder, "keras", NO_DROPOUT, EXACT)
    write_idx(folder / "idx", test=27)
    return folder


# --- the same updates ----------------------------------------------------------------------------


def same_steps(root: Path, name: str, parts: int, steps: int = 8) -> None:
    """Rates, decayed parameters, losses and weights are the same, step by step."""
    import keras
    import torch

    keras_trainer = imported(root / "keras", "train")
    torch_trainer = imported(root / "torch", "train")
    data, common = sys.modules["data"], sys.modules["common"]
    place = place_of(sys.modules["devices"])
    args = common.parse(["small", "--data", str(root / "idx")], "", {})
    args.recipe |= RECIPES[name]
    images, _ = data.prepare(args)
    recipe = {**args.recipe, "loss_weights": RECIPES[name].get("loss_weights", [])}
    with parity.float64():
        pair = parity.pair(parity.network_of_text(TEXT))
        pair.torch.train()
        optimizer, rates = torch_trainer.make_optimizer(pair.torch, recipe)
        names = torch_trainer.decayed_names(pair.torch, recipe)
        assert _as_keras(names, pair) == set(keras_trainer.decayed_names(pair.keras, recipe))
        model = keras_trainer.make_ready(pair.keras, recipe, parts, False)
        order = data.training(images, recipe, 0, share=(0, 1, parts))
        for step in range(steps):
            share = [order[step * parts + part] for part in range(parts)]
            rate = common.rate_at(step, recipe)
            assert float(model.optimizer.learning_rate) == pytest.approx(rate, rel=1e-12, abs=0)
            assert rates.get_last_lr()[0] == rate
            given = [
                torch_trainer.prepared(*map(torch.from_numpy, each), recipe, place)
                for each in share
            ]
            clip = recipe["clip_norm"]
            loss, _ = torch_trainer.update(pair.torch, optimizer, given, clip, place)
            rates.step()
            losses = [float(model.train_on_batch((x, c), y)[0]) for x, c, y in share]
            assert np.mean(losses) == pytest.approx(float(loss), rel=1e-9)
            for key, one, other in weights_of(pair):
                assert parity.difference(one, other) < 1e-9, (step, key)
    keras.backend.clear_session(free_memory=False)


def place_of(devices: Any) -> Any:
    """One CPU, in double precision."""
    flags = {"precision": "fp64", "device": "cpu", "sync_batch_norm": 0, "channels_last": 0}
    return devices.Place(argparse.Namespace(**flags))


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


def _as_keras(names: list[str], pair: parity.Pair) -> set[str]:
    """Names of PyTorch's parameters as Keras has them."""
    from resnet_spec.backends.keras.variables import VARIABLES, layer_name

    paths = {
        f"{name}.{p.name}": f"{layer_name(name)}/{VARIABLES[op.primitive.name, p.name][0]}"
        for name, op in pair.network.operations()
        for p in op.parameters
    }
    return {paths[name] for name in names}


# --- the same runs -------------------------------------------------------------------------------


def same_run(root: Path, out: Path) -> None:
    """Whole runs of both, from the same weights: what they tell, and the averaged weights."""
    import keras
    import torch

    with parity.float64():
        pair = parity.pair(parity.network_of_text(TEXT))
        out.mkdir()
        torch.save(pair.torch.state_dict(), out / "weights.pt")
        pair.keras.save_weights(out / "of.weights.h5")
        for backend, name in (("torch", "weights.pt"), ("keras", "of.weights.h5")):
            start = ("--weights", out / name, "--out", out / backend)
            called(root / backend, "--data", root / "idx", *start, *SAME)
        pair.torch.load_state_dict(torch.load(out / "torch/last.pt")["ema"])
        saved = np.load(out / "keras/last.npz")
        for weight in pair.keras.weights:
            weight.assign(saved[f"ema|{weight.path}"])
        for key, one, other in weights_of(pair):
            assert parity.difference(one, other) < 1e-9, key
    keras.backend.clear_session(free_memory=False)
    lines = [trainers.told(out / backend) for backend in ("torch", "keras")]
    assert len(lines[0]) == len(lines[1]) == 5
    for first, second in zip(*lines, strict=True):
        for key in first.keys() - {"images_per_second"}:
            assert first[key] == pytest.approx(second[key], rel=1e-6), (key, first["step"])


def goes_on(folder: Path, data: Path, out: Path) -> None:
    """A run in two parts leaves what one does that never stopped, to the bit."""
    flags = ("--data", data, *RICH, "--max-steps", 11)
    called(folder, *flags, "--out", out / "whole")
    with pytest.raises(SystemExit):
        stop = trainers.signals(signal.SIGTERM, 9)  # an epoch has eight steps
        called(folder, *flags, "--out", out / "parts", change=stop)
    called(folder, *flags, "--out", out / "parts", "--resume")
    whole, parts = (trainers.contents(out / name) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert [name for name in whole if whole[name] != parts[name]] == []


def averages(folder: Path, data: Path, out: Path) -> None:
    """A tenth of each step's weights and statistics joins the averaged ones."""
    flags = ("--data", data, "--out", out / "run", "--ema", 0.9)
    before: dict[str, np.ndarray] = {}
    for step in (1, 2):
        called(folder, *flags, "--max-steps", step, *(("--resume",) if step > 1 else ()))
        found = trainers.arrays(folder, out / "run")
        means = {key[4:]: value for key, value in found.items() if key.startswith("ema|")}
        assert len(means) > 20
        for key, mean in means.items() if before else ():
            expected = 0.9 * before[key] + 0.1 * found[f"model|{key}"]
            if mean.dtype.kind == "f":
                assert mean == pytest.approx(expected, abs=1e-6), key
        before = means


# --- the learning rate ---------------------------------------------------------------------------


def rates(folder: Path) -> None:
    """The learning rate of each schedule, step by step."""
    common = imported(folder, "common")
    given = {"length": 100, "learning_rate": 2.0, "milestones": [50, 75], "factor": 0.1}

    def found(**changes: Any) -> list[float]:
        recipe = trainers.recipe_of(folder, **given, **changes)
        return [common.rate_at(step, recipe) for step in range(100)]

    assert found(schedule="constant") == [2.0] * 100
    step = [2.0] * 50 + [0.2] * 25 + [0.02] * 25
    assert found(schedule="step") == pytest.approx(step)
    cosine = [1 + math.cos(math.pi * i / 100) for i in range(100)]
    assert found(schedule="cosine") == pytest.approx(cosine)
    assert found(schedule="cosine", final_rate=0.5)[99] == pytest.approx(1 + cosine[99] / 2)
    warm = found(schedule="step", warmup=10, warmup_start=0.5)
    assert warm[:11] == pytest.approx([1 + i / 10 for i in range(11)])
    assert warm[10:] == pytest.approx(step[10:])
    flat = found(schedule="step", warmup=10, warmup_start=0.1, warmup_shape="constant")
    assert flat == pytest.approx([0.2] * 10 + step[10:])
    cycle = found(schedule="one_cycle", warmup=20)
    assert cycle[:20] == pytest.approx([1 - math.cos(math.pi * i / 20) for i in range(20)])
    assert cycle[20:] == pytest.approx([1 + math.cos(math.pi * i / 80) for i in range(80)])


# --- images --------------------------------------------------------------------------------------


def images_in_order(folder: Path) -> None:
    """Each image is seen once in an epoch, the same by any number of processes."""
    data, sources = imported(folder, "data"), sys.modules["sources"]
    source = np.arange(64, dtype=np.uint8).reshape(64, 1, 1, 1) + np.zeros((4, 4, 1), np.uint8)
    source[:, 0, 0] = 200  # a corner that tells a crop
    images = sources.Images(source, np.arange(64), 1, [str(i) for i in range(64)])
    recipe = {**trainers.recipe_of(folder), "mixup": 0.2, "cutmix": 1.0, "erasing": 0.5}
    order = data.training(images, recipe, 0)
    whole = [order[step] for step in range(16)]
    for epoch in (whole[:8], whole[8:]):
        assert sorted(np.concatenate([labels for *_, labels in epoch])) == list(range(64))
    parts = [data.training(images, recipe, 0, share=(rank, 2, 2)) for rank in range(2)]
    later = data.training(images, recipe, 0, start=3, share=(1, 2, 2))
    for step in range(8):
        for part in (2 * step, 2 * step + 1):
            assert_same(later[part], parts[1][part + 6])
        shares = [parts[rank][2 * step + part] for part in range(2) for rank in range(2)]
        found = [
            dict(zip(labels, zip(pixels, chances[:, 5:], strict=True), strict=True))
            for pixels, chances, labels in (
                whole[step],
                [np.concatenate(s) for s in zip(*shares, strict=True)],
            )
        ]
        assert found[0].keys() == found[1].keys()
        for label, (pixels, erased) in found[0].items():
            assert_same((pixels, erased), found[1][label])
    assert_chances([chances for _, chances, _ in whole])
    first, again = (
        {
            int(n): image
            for images, _, labels in epoch
            for n, image in zip(labels, images, strict=True)
        }
        for epoch in (whole[:8], whole[8:])
    )
    assert any(not np.array_equal(first[n], again[n]) for n in first)
    assert list(first) != list(again)
    assert len({tuple((image == 200).ravel()) for image in first.values()}) > 4

    batches = [data.evaluation(images, recipe, (rank, 3)) for rank in range(3)]
    assert {len(each) for each in batches} == {8}
    seen = np.concatenate([each[i][1] for each in batches for i in range(8)])
    assert sorted(seen) == [-1] * 8 + list(range(64))


def assert_chances(rows: list[np.ndarray]) -> None:
    """Mixup keeps a share of all, CutMix a box of all; some images have a box to erase."""
    mixed = np.stack([row[:, :5] for row in rows])
    assert (mixed == mixed[:, :1]).all()
    kept, boxes = mixed[:, 0, 0], mixed[:, 0, 1:]
    assert {bool(share < 1) for share in kept} == {True, False}
    assert not boxes[kept < 1].any()
    erased = np.concatenate([row[:, 5:] for row in rows])
    assert 0.2 < (erased[:, 2] > 0).mean() < 0.8
    for each in (boxes, erased):
        assert (each[:, :2] <= each[:, 2:]).all() and each.min() == 0 and each.max() <= 4
        assert len(np.unique(each, axis=0)) > 4


def assert_same(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def plant(root: Path, backend: str, file: str, old: str, new: str) -> None:
    """Change a trainer's text, which must hold what is changed once."""
    path = root / backend / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} holds {text.count(old)} of: {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")
