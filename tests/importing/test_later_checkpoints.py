"""Checkpoints that an imported model gets later, under its own names, are converted by its spec."""

from __future__ import annotations

import importlib.util
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest

from resnet_spec import cli
from resnet_spec.importing.writing import renames
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.language.renames import renamed
from resnet_spec.lower import lower

SHAPE = (1, 3, 32, 32)
TOLERANCE = 1e-5
# Names that no block of the library has, and a list of modules that is not called itself.
SOURCE = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.c2 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.n2 = nn.BatchNorm2d(outputs)
        self.c1 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.n1 = nn.BatchNorm2d(outputs)
        self.fit = nn.Identity()
        if stride != 1 or inputs != outputs:
            fit = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.fit = nn.Sequential(fit, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = torch.relu(self.n2(self.c2(x)))
        return torch.relu(self.n1(self.c1(y)) + self.fit(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        first = nn.Sequential(Block(16, 16), Block(16, 16))
        self.parts = nn.ModuleList([first, nn.Sequential(Block(16, 32, 2), Block(32, 32))])
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        for part in self.parts:
            x = part(x)
        return self.out(x.mean((2, 3)))


class Swapped(nn.Module):
    # Its blocks have the names of the library's, the second before the first.
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv2 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn1(self.conv1(y)) + x)


def swapped():
    layer1 = nn.Sequential(Swapped(3, 3), Swapped(3, 3))
    return nn.Sequential(layer1, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))


def weight_normed():
    model = Net()
    nn.utils.parametrizations.weight_norm(model.parts[0][1].c1)
    return model


def tied():
    model = Net()
    model.parts[0][1].c1 = model.parts[0][0].c1
    return model


def with_unused():
    model = Net()
    model.unused = nn.Linear(4, 4)
    return model


def biased():
    model = Net()
    model.parts[0][1].c1 = nn.Conv2d(16, 16, 3, 1, 1)
    return model


def flattened():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU())
            self.fit = nn.Conv2d(8, 8, 3, 1, 1)
            self.out = nn.Linear(8 * 8 * 8, 5)

        def forward(self, x):
            x = self.body(x)
            return self.out(torch.relu(x + self.fit(x)).permute(0, 2, 3, 1).flatten(1))

    return Net()


def mixed_epsilons():
    model = Net()
    for part in model.parts:
        for block in part:
            block.n1.eps = 1e-3
            block.n1.running_var *= 0.01
            block.n2.running_var *= 0.01
    return model


def with_norms(norm):
    model = Net()
    for layer in model.modules():
        for name, child in [*layer.named_children()]:
            if isinstance(child, nn.BatchNorm2d):
                setattr(layer, name, norm(child.num_features))
    return model


def one_channel_a_group():
    return with_norms(lambda channels: nn.GroupNorm(channels, channels))


def four_groups():
    return with_norms(lambda channels: nn.GroupNorm(4, channels))


def one_group():
    return with_norms(lambda channels: nn.GroupNorm(1, channels))


def instances():
    return with_norms(lambda channels: nn.InstanceNorm2d(channels, affine=True))


def by_columns():
    last = nn.Linear(8 * 16 * 16, 5)
    return nn.Sequential(nn.Conv2d(3, 8, 2, 2), Columns(), last)


class Columns(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 2, 1).flatten(1)
"""


def a_model(folder: Path, name: str = "Net", seed: int = 0) -> Any:
    """A model of the source with weights that are those of no other seed."""
    import torch

    path = folder / "mynets.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("mynets_of_tests", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(seed)
    model = networks.randomized(getattr(module, name)())
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.mul_(1 + 0.2 * torch.rand(value.shape)) if value.is_floating_point() else None
    return model


# --- sources -------------------------------------------------------------------------------------


def by_tracing(model: Any, path: Path) -> str:
    return networks.exported(model, SHAPE, path.with_suffix(".onnx"), folds=False).name


def by_tracing_folded(model: Any, path: Path) -> str:
    return networks.exported(model, SHAPE, path.with_suffix(".onnx")).name


def by_dynamo(model: Any, path: Path, optimize: bool = True) -> str:
    """Its norms are folded, and their names kept beside."""
    import torch

    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = (torch.zeros(SHAPE),)
        options: dict[str, Any] = {"dynamo": True, "verbose": False, "optimize": optimize}
        torch.onnx.export(model, given, str(path.with_suffix(".onnx")), **options)
    return path.with_suffix(".onnx").name


def by_dynamo_unfolded(model: Any, path: Path) -> str:
    return by_dynamo(model, path, optimize=False)


def by_export(model: Any, path: Path) -> str:
    import torch

    torch.export.save(torch.export.export(model, (torch.zeros(SHAPE),)), path.with_suffix(".pt2"))
    return path.with_suffix(".pt2").name


def as_function(model: Any, path: Path) -> str:
    return "mynets.py:Net"


class Imported:
    """The command lines of one folder, and what they did."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capture = folder, capture

    def imported(self, source: str, *flags: str) -> tuple[str, str]:
        """The spec, and what was told."""
        code, told = self.tried(source, *flags)
        assert code == 0, told
        return (self.folder / "net.yaml").read_text(), told

    def tried(self, source: str, *flags: str) -> tuple[int, str]:
        given = ["--out", "net.yaml", "--weights", "net.safetensors", "--input", "3x32x32"]
        code = cli.main(["import", source, *given, *flags, "--force"])
        return code, "".join(self.capture.readouterr())

    def converted(self, *flags: str, file: str = "later.pth") -> tuple[int, str]:
        given = ["--to", "torch", "--out", "later.safetensors", "--force"]
        code = cli.main(["weights", "convert", file, "net.yaml", *given, *flags])
        return code, "".join(self.capture.readouterr())

    def difference(self, model: Any) -> float:
        """How far the converted weights are from a model, relative to its largest output."""
        import torch
        from safetensors.torch import load_file

        network = lower(load(str(self.folder / "net.yaml"), Library()))
        ours = networks.built(network)
        ours.load_state_dict(load_file(self.folder / "later.safetensors"), strict=True)
        images = torch.from_numpy(np.random.default_rng(0).standard_normal(SHAPE, np.float32))
        with torch.no_grad():
            wanted = model.eval()(images)
            return float((ours.eval()(images) - wanted).abs().max() / wanted.abs().max())


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Imported:
    monkeypatch.chdir(tmp_path)
    return Imported(tmp_path, capsys)


def saved_later(folder: Path, name: str = "Net", wrapped: bool = False) -> Any:
    """The same model with other weights, its state in a file."""
    import torch

    model = a_model(folder, name, seed=1)
    state = model.state_dict()
    torch.save({f"module.{k}" if wrapped else k: v for k, v in state.items()}, folder / "later.pth")
    return model


# --- PyTorch -------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("source", [by_tracing, by_dynamo, by_export, as_function])
def test_checkpoints_of_pytorch(source: Callable[..., str], here: Imported) -> None:
    text, _ = here.imported(source(a_model(here.folder), here.folder / "model"))
    assert '"parts.{s}.{b}.c1": "parts.{s}.{b}.conv2"' in text
    later = saved_later(here.folder)
    code, told = here.converted()
    assert code == 0, told
    assert here.difference(later) < TOLERANCE
    saved_later(here.folder, wrapped=True)
    assert here.converted()[0] == 0
    assert here.difference(later) < TOLERANCE


@pytest.mark.torch
def test_folded_norms_that_kept_their_names_come_back(here: Imported) -> None:
    source = by_dynamo(a_model(here.folder), here.folder / "model")
    _, told = here.imported(source, "--no-library", "--unfold-norms", "no")
    assert "with --unfold-norms yes the spec has them, with their names" in told
    _, told = here.imported(source, "--no-library", "--unfold-norms", "yes")
    assert "can't be converted" not in told
    later = saved_later(here.folder)
    code, told = here.converted()
    assert code == 0, told
    assert here.difference(later) < TOLERANCE


@pytest.mark.torch
def test_the_spec_s_own_names_stay(here: Imported) -> None:
    here.imported(as_function(a_model(here.folder), here.folder / "model"))
    assert here.converted(file="net.safetensors")[0] == 0
    (here.folder / "net.safetensors").replace(here.folder / "before.safetensors")
    (here.folder / "later.safetensors").replace(here.folder / "net.safetensors")
    assert here.converted(file="net.safetensors")[0] == 0


@pytest.mark.torch
def test_a_wrong_rule_is_seen(here: Imported) -> None:
    text, _ = here.imported(as_function(a_model(here.folder), here.folder / "model"))
    wrong = text.replace("conv2", "conv0").replace("conv1", "conv2").replace("conv0", "conv1")
    (here.folder / "net.yaml").write_text(wrong)
    later = saved_later(here.folder)
    assert here.converted("--partial")[0] == 0
    assert here.difference(later) > 100 * TOLERANCE


@pytest.mark.torch
def test_a_changed_spec_keeps_its_rules(here: Imported) -> None:
    """Rules for layers that are gone are no mistake, and those of a spec are those of its heirs."""
    text, _ = here.imported(as_function(a_model(here.folder), here.folder / "model"))
    lines = [line for line in text.splitlines() if "name: parts.1" not in line]
    (here.folder / "less.yaml").write_text("\n".join(lines).replace("name: net", "name: less"))
    assert cli.main(["check", "less.yaml"]) == 0
    (here.folder / "heir.yaml").write_text(
        "spec_version: 1\nname: heir\ndescription: Same\nextends: net.yaml\n"
    )
    saved_later(here.folder)
    assert cli.main(["weights", "inspect", "later.pth", "heir.yaml"]) == 0


@pytest.mark.torch
def test_names_that_the_spec_has_for_others(here: Imported) -> None:
    """Nothing in a file tells whose names they are, so it is asked."""
    a_model(here.folder)
    text, told = here.imported("mynets.py:swapped")
    assert "conv2: " not in text and "weights convert --from model" in told
    later = saved_later(here.folder, "swapped")
    for flags in ((), ("--partial",)):
        code, told = here.converted(*flags)
        assert code == 1 and "RS908" in told and "--from spec or --from model" in told
    assert here.converted("--from", "model")[0] == 0
    assert here.difference(later) < TOLERANCE
    assert here.converted("--from", "spec")[0] == 0
    assert here.difference(later) > 100 * TOLERANCE


@pytest.mark.torch
def test_names_that_are_gone(here: Imported) -> None:
    model = a_model(here.folder)
    text, told = here.imported(by_tracing_folded(model, here.folder / "model"))
    assert "references" not in text
    assert "can't be converted: its file has no names for " in told
    saved_later(here.folder)
    assert here.converted()[0] == 1


@pytest.mark.torch
def test_each_norm_keeps_its_epsilon(here: Imported) -> None:
    """A variance that makes up for another one would not be that of a later checkpoint."""
    a_model(here.folder)
    text, _ = here.imported("mynets.py:mixed_epsilons")
    assert "eps: 0.001" in text
    later = saved_later(here.folder, "mixed_epsilons")
    code, told = here.converted()
    assert code == 0, told
    assert here.difference(later) < TOLERANCE


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("one_channel_a_group", None),
        ("one_group", None),
        ("instances", None),
        ("four_groups", by_tracing),
        ("four_groups", by_dynamo_unfolded),
        ("four_groups", by_export),
    ],
)
def test_norms_of_groups_keep_their_names(
    name: str, source: Callable[..., str] | None, here: Imported
) -> None:
    model = a_model(here.folder, name)
    _, told = here.imported(source(model, here.folder / "net") if source else f"mynets.py:{name}")
    assert "note" not in told
    later = saved_later(here.folder, name)
    code, told = here.converted()
    assert code == 0, told
    assert here.difference(later) < TOLERANCE


@pytest.mark.torch
@pytest.mark.parametrize("source", [by_tracing_folded, by_dynamo])
def test_norms_of_groups_whose_tensors_lost_their_names(
    source: Callable[..., str], here: Imported
) -> None:
    _, told = here.imported(source(a_model(here.folder, "four_groups"), here.folder / "net"))
    assert "its file has no names for 20 tensors ('parts.1.1.bn2.weight' …)" in told
    assert "do_constant_folding=False, with dynamo optimize=False" in told


@pytest.mark.torch
def test_an_order_that_no_framework_flattens_along_is_refused(here: Imported) -> None:
    a_model(here.folder)
    code, told = here.tried("mynets.py:by_columns")
    assert code == 1 and "a map that is flattened along columns, rows, channels" in told


@pytest.mark.torch
def test_weights_that_layers_share(here: Imported) -> None:
    """What is lacking would be drawn afresh, so nothing leads from one to the other."""
    a_model(here.folder)
    text, told = here.imported("mynets.py:tied", "--no-library")
    assert "can't be converted: 1 tensor (" in told
    assert "of the spec are another layer's in theirs, which has its weights at several" in told
    assert "references" not in text
    saved_later(here.folder, "tied")
    code, told = here.converted()
    assert code == 1 and "if the file has them by other names, say so with --rename" in told


@pytest.mark.torch
def test_weights_that_are_computed(here: Imported) -> None:
    a_model(here.folder)
    _, told = here.imported("mynets.py:weight_normed")
    assert "can't be converted: these weights are computed from theirs: parts.0.1.c1.weight" in told
    saved_later(here.folder, "weight_normed")
    code, told = here.converted()
    assert code == 1 and "parts.0.1.conv2.weight" in told


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "told", "flag"),
    [
        ("with_unused", "lacks 2 tensors ('unused.weight' …) of the model", "--partial"),
        ("biased", "1 bias before norms went into", "--fold-biases"),
        ("flattened", "it flattens maps along rows, columns, channels", "--flatten-order=hwc"),
    ],
)
def test_what_one_flag_does(name: str, told: str, flag: str, here: Imported) -> None:
    a_model(here.folder)
    _, found = here.imported(f"mynets.py:{name}")
    assert told in found and flag.partition("=")[0] in found
    later = saved_later(here.folder, name)
    code, found = here.converted(flag)
    assert code == 0, found
    assert here.difference(later) < TOLERANCE


# --- Keras ---------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("ending", ["keras", "weights.h5", "h5"])
def test_checkpoints_of_keras(ending: str, here: Imported) -> None:
    import keras
    from keras import layers as kl
    from keras_models import randomized, residual

    given = kl.Input((32, 32, 3))
    x = kl.Conv2D(8, 3, 2, padding="same", use_bias=False, name="stem")(given)
    x = kl.ReLU()(kl.BatchNormalization(name="stem_bn")(x))
    for number, (filters, stride) in enumerate(((8, 1), (16, 2), (16, 1))):
        x = residual(x, filters, stride, f"block{number}")
    x = kl.Flatten()(kl.SeparableConv2D(4, 3, 2, padding="same", name="last")(x))
    model = randomized(keras.Model(given, kl.Dense(5, name="predictions")(x)))
    model.save("model.keras")
    text, told = here.imported("model.keras")
    assert "block2_conv{n}" in text and "--fold-biases" in told
    for variable in model.weights:
        draw = np.random.default_rng(len(variable.path))
        variable.assign(variable + 0.1 * draw.random(variable.shape))
    save = model.save_weights if ending == "weights.h5" else model.save
    save(f"later.{ending}")
    code, told = here.converted("--fold-biases", file=f"later.{ending}")
    assert code == 0, told

    class Runs:
        def eval(self) -> Any:
            import torch

            return lambda images: torch.from_numpy(
                np.array(model(images.numpy().transpose(0, 2, 3, 1), training=False))
            )

    assert here.difference(Runs()) < TOLERANCE


# --- rules ---------------------------------------------------------------------------------------

BLOCKS = {
    f"{stage}.{block}.{layer}": f"layer{stage + 1}.{block}.{ours}"
    for stage in range(3)
    for block in range(2)
    for layer, ours in (("c1", "conv1"), ("c2", "conv2"), ("n.0", "bn1"), ("n.1", "bn2"))
}


@pytest.mark.parametrize(
    ("names", "rules"),
    [
        ({"a.b": "a.b"}, {}),
        ({"a": "b", "b": "a"}, {"a": "b", "b": "a"}),
        ({"a.b": "b", "a.c.d": "c.d"}, {"a": ""}),
        (
            BLOCKS,
            {
                "{s}.{b}.c{n}": "layer{s + 1}.{b}.conv{n}",
                "{s}.{b}.n.{n}": "layer{s + 1}.{b}.bn{n + 1}",
            },
        ),
        # Blocks numbered through all stages: a rule for each.
        (
            {"f.0.a": "s1.0.a", "f.1.a": "s1.1.a", "f.2.a": "s2.0.a", "f.3.a": "s2.1.a"},
            {"f.0": "s1.0", "f.1": "s1.1", "f.2": "s2.0", "f.3": "s2.1"},
        ),
    ],
)
def test_few_rules_say_a_map(names: dict[str, str], rules: dict[str, str]) -> None:
    assert renames.rules(names) == rules


@pytest.mark.parametrize("seed", range(20))
def test_rules_say_the_whole_map_and_nothing_else(seed: int) -> None:
    """Of maps without any order, too."""
    draw = random.Random(seed)
    texts = [f"{a}{n}.{b}" for a in "ab" for n in range(4) for b in ("c", "d.1", "d.2")]
    ours = draw.sample(texts, len(texts)) if seed % 2 else [f"x.{each}" for each in texts]
    names = dict(zip(texts, ours, strict=True))
    found = renames.rules(names)
    assert found is not None
    assert {name: renamed(name, found) for name in names} == names
    assert seed % 2 or len(found) < len(names)


def test_a_number_that_counts_nothing_stays() -> None:
    """The numbers of Keras' names are by chance those of the spec and one more or less."""
    numbered = {"conv2d": "layer1.conv1", "conv2d_1": "layer1.conv2", "bn_3": "layer2.conv1.bn_3"}
    assert renames.rules(numbered) == numbered
    counted = {"stage2.0.fit": "stage2.0.downsample", "stage2.0.c": "stage2.0.c"}
    assert renames.rules(counted) == {"stage{s}.{b}.fit": "stage{s}.{b}.downsample"}


def test_a_wrong_rule_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    right = renames._number

    def off_by_one(*given: Any) -> Any:
        number = right(*given)
        return (
            number._replace(more=number.more + 1) if isinstance(number, renames.Shift) else number
        )

    assert renames.rules(BLOCKS) is not None
    monkeypatch.setattr(renames._Rule, "replacement", lambda self: "layer1")
    assert renames.rules(BLOCKS) is None
