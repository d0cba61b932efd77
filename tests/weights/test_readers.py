"""Every format that people have is read to the same values, whatever stands before or beside them.

Each test writes a file as its library does and compares what `convert` makes of it, bit for bit.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy as safetensors

from resnet_spec import read_network
from resnet_spec.ir import Network
from resnet_spec.weights.entries import counters, entries

SPEC = """\
spec_version: 1
name: net
description: A small network with each kind of layer that files keep in their own way
input: {channels: 3, height: 16, width: 16}
classes: 5
stem:
  - {conv: conv1, filters: 4, kernel: 3}
  - {norm: bn1}
  - {act: act1}
stages:
  - {name: layer1, block: cells, repeat: 2, filters: 6}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
blocks:
  cells:
    description: A depthwise and a pointwise convolution, and a norm
    args: {filters: int}
    layers:
      - {conv: sep.depthwise, filters: in_channels, groups: in_channels, kernel: 3}
      - {conv: sep.pointwise, filters: filters, kernel: 1, bias: true}
      - {norm: bn}
      - {act: act}
"""
State = dict[str, Any]
Run = Callable[..., tuple[int, str]]


def net() -> Network:
    return read_network("net.yaml", ())


def drawn(seed: int = 0) -> State:
    generator = np.random.default_rng(seed)
    return {
        name: generator.uniform(0.5, 1.5, entry.parameter.shape).astype(np.float32)
        for name, entry in entries(net()).items()
    }


def converted(run: Run, file: str, *arguments: str) -> State:
    """What the command makes of a file; the command succeeds."""
    code, told = run("convert", file, "net.yaml", "--out", "o.safetensors", "--force", *arguments)
    assert code == 0, told
    found = safetensors.load_file("o.safetensors")
    return {name: value for name, value in found.items() if name not in counters(net())}


def assert_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value), name


def of_keras(state: State) -> State:
    """A state by the names of Keras' variables, in its order of axes."""
    found = {}
    for name, entry in entries(net()).items():
        place = entry.place("keras")
        found[f"{place.layer}/{place.variable}"] = state[name].transpose(place.axes)
    return found


# --- prefixes ------------------------------------------------------------------------------------

PREFIXES = {
    "of DataParallel": "module.{}",
    "of compiled models": "_orig_mod.{}",
    "of both": "module._orig_mod.{}",
    "of both, the other way round": "_orig_mod.module.{}",
    "of Lightning": "model.{}",
    "of a detector": "backbone.body.{}",
    "any": "my_net.inner.x.{}",
    "with a number": "models.0.{}",
}


@pytest.mark.parametrize("beside", [(), ("n_averaged",)], ids=["alone", "beside a counter"])
@pytest.mark.parametrize("name", PREFIXES)
def test_what_stands_before_every_name(run: Run, name: str, beside: tuple[str, ...]) -> None:
    state = drawn()
    given = {PREFIXES[name].format(each): value for each, value in state.items()}
    given |= {each: np.array(3) for each in beside}
    safetensors.save_file(given, "a.safetensors")
    assert_same(converted(run, "a.safetensors"), state)
    code, told = run("inspect", "a.safetensors", "net.yaml")
    assert (code, "taken off every name" in told) == (0, True), told


def test_a_wrapper_within_the_names(run: Run) -> None:
    """A compiled or wrapped part of a model has the wrapper's name in the middle of its own."""
    state = drawn()
    given = {name.replace("layer1.", "layer1._orig_mod."): value for name, value in state.items()}
    safetensors.save_file(given, "a.safetensors")
    assert_same(converted(run, "a.safetensors"), state)
    count = sum("_orig_mod" in name for name in given)
    told = f"note: '_orig_mod.' was taken off {count} of {len(given)} names"
    assert told in run("inspect", "a.safetensors", "net.yaml")[1]


def test_matrices_that_stand_the_other_way_round_are_told(run: Run) -> None:
    state = drawn()
    state["fc.weight"] = np.ascontiguousarray(state["fc.weight"].T)
    safetensors.save_file(state, "a.safetensors")
    told = run("convert", "a.safetensors", "net.yaml", "--out", "b.safetensors")[1]
    assert "help: the matrices stand as in, out" in told and "--reset-head" not in told


def test_a_prefix_of_most_names(run: Run) -> None:
    """A detector has another head: its extra tensors are reported, and not loaded."""
    state = drawn()
    given = {f"backbone.{name}": value for name, value in state.items()}
    safetensors.save_file({**given, "head.weight": np.ones(3, np.float32)}, "a.safetensors")
    code, told = run("inspect", "a.safetensors", "net.yaml")
    assert code == 1
    assert f"note: 'backbone.' was taken off {len(given)} of {len(given) + 1} names" in told
    assert "0 missing, 1 extra" in told


def test_a_prefix_and_a_rule(run: Run) -> None:
    state = drawn()
    given = {f"module.{n}".replace("layer1", "blocks"): value for n, value in state.items()}
    safetensors.save_file(given, "a.safetensors")
    assert_same(converted(run, "a.safetensors", "--rename", "blocks=layer1"), state)


# --- rules ---------------------------------------------------------------------------------------


def test_a_rule_that_removes(run: Run) -> None:
    state = drawn()
    given = {n.replace("layer1.", "layer1.cells."): value for n, value in state.items()}
    safetensors.save_file(given, "a.safetensors")
    rule = ("--rename", "layer1.cells.{n}=layer1.{n}")
    assert_same(converted(run, "a.safetensors", *rule), state)
    given = {f"a.{n}" if n.startswith("fc") else n: value for n, value in state.items()}
    safetensors.save_file(given, "a.safetensors")
    assert_same(converted(run, "a.safetensors", "--rename", "a="), state)


@pytest.mark.parametrize(("letters", "counter"), [("ab", "{b:a}"), ("AB", "{b:A}")])
def test_letters_that_count(run: Run, letters: str, counter: str) -> None:
    """`res2a` and `res2b` of Caffe and of Keras' older networks."""
    state = drawn()
    given = {}
    for name, value in state.items():
        number = next((n for n in range(2) if name.startswith(f"layer1.{n}.")), None)
        rest = name.partition(".")[2].partition(".")[2]
        given[name if number is None else f"res2{letters[number]}_branch.{rest}"] = value
    safetensors.save_file(given, "a.safetensors")
    rule = f"res{{s}}{counter}_branch=layer{{s - 1}}.{{b}}"
    assert_same(converted(run, "a.safetensors", "--rename", rule), state)


def test_a_rule_that_hits_nothing_is_told(run: Run) -> None:
    safetensors.save_file(drawn(), "a.safetensors")
    rule = ("--rename", "res{s}{b:a}=layer{s}.{b}")
    code, told = run("convert", "a.safetensors", "net.yaml", "--out", "o.safetensors", *rule)
    assert code == 1
    assert "RS906: --rename 'res{s}{b:a}=layer{s}.{b}' renames nothing in the file" in told
    assert not Path("o.safetensors").exists()


def test_a_spec_has_the_rules_of_the_one_that_it_extends(run: Run) -> None:
    rules = "references: [{library: timm, model: net, rename: {'stages.{s}': 'layer{s + 1}'}}]\n"
    Path("base.yaml").write_text(SPEC.replace("name: net", "name: base") + rules)
    Path("net.yaml").write_text("name: net\ndescription: Mine\nextends: base.yaml\n")
    state = drawn()
    given = {name.replace("layer1", "stages.0"): value for name, value in state.items()}
    safetensors.save_file(given, "a.safetensors")
    arguments = ("a.safetensors", "net.yaml", "--out", "o.safetensors")
    code, told = run("import", *arguments)
    assert code == 0, told
    found = safetensors.load_file("o.safetensors")
    assert np.array_equal(found["layer1.0.bn.weight"], state["layer1.0.bn.weight"])


# --- states --------------------------------------------------------------------------------------


def assert_state_is_chosen(run: Run, file: str, averaged: State, raw: State) -> None:
    """The average is the default, the raw state is listed, and each can be selected."""
    assert_same(converted(run, file), averaged)
    code, told = run("inspect", file, "net.yaml")
    assert code == 0
    assert "it also holds 'model" in told or "it also holds 'state_dict" in told
    name = told.partition("--state ")[2].split()[0]
    assert_same(converted(run, file, "--state", name), raw)
    code, told = run("inspect", file, "net.yaml", "--state", "nothing")
    assert (code, "RS907" in told) == (1, True)


def test_states_of_a_flat_file(run: Run) -> None:
    raw, averaged = drawn(0), drawn(1)
    given = {
        f"{key}.{n}": v for key, s in (("model", raw), ("ema", averaged)) for n, v in s.items()
    }
    safetensors.save_file(given, "a.safetensors")
    assert_state_is_chosen(run, "a.safetensors", averaged, raw)


def test_states_of_the_trainers_of_keras(run: Run) -> None:
    """`last.npz` as the generated trainer leaves it: numbers as JSON, groups of arrays."""
    raw, averaged = drawn(0), drawn(1)
    groups = {"model": of_keras(raw), "ema": of_keras(averaged)}
    for name in ("optimizer", "seeds"):  # no states of the network
        groups[name] = {"0": np.zeros(3, np.float32)}
    arrays = {f"{group}|{n}": v for group, held in groups.items() for n, v in held.items()}
    np.savez("last.npz", state=np.array(json.dumps({"step": 3})), **arrays)
    assert_state_is_chosen(run, "last.npz", averaged, raw)
    assert "it also holds 'model': --state model" in run("inspect", "last.npz", "net.yaml")[1]


def test_one_state_leaves_no_choice(run: Run) -> None:
    safetensors.save_file(drawn(), "a.safetensors")
    code, told = run("inspect", "a.safetensors", "net.yaml", "--state", "ema")
    assert (code, "RS907: 'a.safetensors' holds one state alone, not 'ema'" in told) == (1, True)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("averaged", "raw"),
    [("ema", "model"), ("state_dict_ema", "state_dict"), ("model_ema", "model_state_dict")],
)
@pytest.mark.parametrize("module", [False, True])
def test_states_of_pytorch(run: Run, averaged: str, raw: str, module: bool) -> None:
    import torch

    def tensors(state: State) -> Any:
        found = {name: torch.from_numpy(value) for name, value in state.items()}
        return {"module": found} if module else found

    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    given = {"step": 3, raw: tensors(drawn(0)), averaged: tensors(drawn(1)), "optimizer": optimizer}
    torch.save(given, "a.pt")
    assert_state_is_chosen(run, "a.pt", drawn(1), drawn(0))


DINO, BYOL = ("student", "teacher"), ("online_network", "target_network")
MOCO = ("encoder_q", "encoder_k")


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["states", "flat", "lightning"])
@pytest.mark.parametrize(
    ("pair", "taken", "why"),
    [
        (DINO, 1, "'teacher' of the checkpoint, the average of 'student', which is what is eval"),
        (BYOL, 0, "'online_network' of the checkpoint, of which 'target_network' is an average"),
        (MOCO, 0, "'encoder_q' of the checkpoint, of which 'encoder_k' is an average"),
    ],
)
def test_a_network_and_the_one_that_it_learns_from(
    run: Run, kind: str, pair: tuple[str, str], taken: int, why: str
) -> None:
    import torch

    held = [{f"module.{n}": torch.from_numpy(v) for n, v in drawn(k).items()} for k in (0, 1)]
    states: dict[str, Any] = dict(zip(pair, held, strict=True))
    flat = {f"module.{key}.{n}": v for key, state in states.items() for n, v in state.items()}
    flat |= {"module.queue": torch.zeros(3), "module.loss.center": torch.zeros(3)}
    torch.save({"states": states, "flat": flat, "lightning": {"state_dict": flat}}[kind], "a.pt")
    assert_same(converted(run, "a.pt"), drawn(taken))
    code, told = run("inspect", "a.pt", "net.yaml")
    other = pair[1 - taken]
    assert (code, f"note: taken from {why}" in told) == (0, True), told
    assert f"; it also holds '{other}': --state {other}" in told
    assert_same(converted(run, "a.pt", "--state", other), drawn(1 - taken))


@pytest.mark.torch
def test_a_teacher_that_is_another_network(run: Run) -> None:
    """Of a distillation it is the student that was trained."""
    import torch

    student = {name: torch.from_numpy(value) for name, value in drawn().items()}
    torch.save({"student": student, "teacher": {**student, "fc.bias": torch.ones(9)}}, "a.pt")
    assert_same(converted(run, "a.pt"), drawn())
    told = run("inspect", "a.pt", "net.yaml")[1]
    assert "'student' of the checkpoint, which learned from 'teacher', another network; it" in told


@pytest.mark.torch
def test_states_without_a_name_that_tells(run: Run) -> None:
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in drawn().items()}
    torch.save({"one": tensors, "two": tensors}, "a.pt")
    code, told = run("inspect", "a.pt", "net.yaml")
    assert code == 1
    assert "RS907: 'a.pt' holds several states: 'one', 'two'" in told
    assert_same(converted(run, "a.pt", "--state", "two"), drawn())


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_shards_of_safetensors(run: Run, kind: str) -> None:
    wanted = {name: value.astype(kind) for name, value in drawn().items()}
    owners: dict[str, str] = {}
    for number in range(3):
        part = dict(list(wanted.items())[number::3])
        safetensors.save_file(part, f"model-{number}.safetensors")
        owners |= dict.fromkeys(part, f"model-{number}.safetensors")
    Path("model.safetensors.index.json").write_text(json.dumps({"weight_map": owners}))
    assert_same(converted(run, "model.safetensors.index.json"), wanted)
    Path("model-1.safetensors").unlink()
    code, told = run("inspect", "model.safetensors.index.json", "net.yaml")
    assert (code, "RS901: cannot read 'model-1.safetensors'" in told) == (1, True)


BROKEN_INDEX = {
    "no JSON": ('{"weight_map": ' + "[" * 5000, "RS901: "),
    "another file": ('{"a": 1, "b": 222222}', "RS901: 'a.index.json' is JSON, no file of weights"),
    "a way out": ('{"weight_map": {"a": "../../etc/passwd"}}', "RS902: "),
    "an absolute way out": ('{"weight_map": {"a": "/etc/passwd"}}', "RS902: "),
    "a circle": ('{"weight_map": {"a": "a.index.json"}}', "RS902: "),
    "nothing there": ('{"weight_map": {"a": "nothing.pt"}}', "RS901: "),
}


@pytest.mark.parametrize("name", BROKEN_INDEX)
def test_broken_indices(run: Run, name: str) -> None:
    text, message = BROKEN_INDEX[name]
    Path("a.index.json").write_text(text)
    code, told = run("inspect", "a.index.json", "net.yaml")
    assert (code, message in told) == (1, True), told


@pytest.mark.parametrize("layout", ["torch", "keras", "flax"])
def test_arrays_of_numpy(run: Run, layout: str) -> None:
    state = drawn()
    given = state
    if layout == "keras":
        given = of_keras(state)
    elif layout == "flax":
        places = {name: entry.place("flax") for name, entry in entries(net()).items()}
        given = {p.path: state[name].transpose(p.axes) for name, p in places.items()}
    np.savez("a.npz", **given)
    assert_same(converted(run, "a.npz"), state)
    np.savez_compressed("a.npz", note=np.array({"an": "object"}), **given)
    assert_same(converted(run, "a.npz"), state)
    assert (
        "note: not read, for it is no array of numbers: 'note'"
        in run("inspect", "a.npz", "net.yaml")[1]
    )


def test_bfloat16_of_numpy(run: Run) -> None:
    wanted = {name: value.astype(ml_dtypes.bfloat16) for name, value in drawn().items()}
    np.savez("a.npz", **wanted)
    assert_same(converted(run, "a.npz"), wanted)


def npz(header: bytes, size: int = 64) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        text = header + b" " * (117 - len(header)) + b"\n"
        start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
        archive.writestr("conv1.weight.npy", start + text + bytes(size))
    return file.getvalue()


BROKEN_NPZ = {
    "no header": (zipped := npz(b"nothing"), "RS901"),
    "more than it holds": (
        npz(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3, 3, 3)}"), "RS901",
    ),
    "a bomb": (
        npz(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999, 999)}", 10**7), "RS902",
    ),
    "cut off": (zipped[:-40], "RS901"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_NPZ)
def test_broken_arrays(run: Run, name: str) -> None:
    data, code = BROKEN_NPZ[name]
    Path("a.npz").write_bytes(data)
    arguments = ("a.npz", "net.yaml", "--out", "o.safetensors", "--partial")
    found, told = run("convert", *arguments)
    assert (found, f"error {code}: " in told) == (1, True), told


def test_variables_of_older_programs_of_tensorflow(run: Run) -> None:
    """Names with `/` at any depth, `weights` and `biases`, behind a scope."""
    state = drawn()
    given = {}
    for name, value in of_keras(state).items():
        layer, variable = name.split("/")
        other = {"kernel": "weights", "bias": "biases"}.get(variable, variable)
        given[f"scope/{layer.replace('layer1_', 'layer1/')}/{other}:0"] = value
    np.savez("a.npz", **given)
    assert_same(converted(run, "a.npz"), state)


# --- PyTorch -------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Any:
    """The generated PyTorch model with the values of `drawn()`."""
    import parity
    import torch

    built = parity.build(net(), "torch").eval()
    built.load_state_dict({n: torch.from_numpy(v) for n, v in drawn().items()}, strict=False)
    return built


@pytest.mark.torch
def test_torchscript(run: Run, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters are read from the archive; PyTorch is never asked to load a program."""
    import torch

    torch.jit.trace(model, torch.zeros(1, 3, 16, 16)).save("a.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(torch, "load", None)
    assert_same(converted(run, "a.pt"), drawn())


@pytest.mark.torch
def test_archives_of_torch_export(run: Run, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors are read without PyTorch; it alone can run the program, which is compared."""
    import torch

    torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, 3, 16, 16),)), "a.pt2")
    code, told = run("convert", "a.pt2", "net.yaml", "--out", "b.safetensors")
    assert (code, "PyTorch gives the same with the file's own model: " in told) == (0, True), told
    monkeypatch.setattr(torch.export, "load", None)
    monkeypatch.setattr(torch, "load", None)
    assert_same(converted(run, "a.pt2"), drawn())


@pytest.mark.torch
def test_an_archive_with_shared_and_half_tensors(tmp_path: Path) -> None:
    import torch

    from resnet_spec.weights import formats

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            both = torch.arange(12.0).reshape(3, 4)
            self.first = torch.nn.Parameter(both[1:, ::2].T)
            self.register_buffer("second", both)
            self.third = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))

        def forward(self, x: Any) -> Any:
            return x * self.first.sum() + self.second.sum() + self.third.float().sum()

    net = Net()
    path = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(2),)), path)
    with formats.opened(path, "a.pt2") as file:
        found = {tensor.name: tensor.read() for tensor in file.tensors}
    assert found.keys() == {"first", "second", "third"}
    for name, value in net.state_dict().items():
        assert found[name].dtype.name == str(value.dtype).removeprefix("torch.")
        assert np.array_equal(found[name].astype("float32"), value.float().numpy())


@pytest.mark.torch
def test_torchscript_that_was_scripted(tmp_path: Path) -> None:
    import torch

    from resnet_spec.weights import formats

    kernel = torch.nn.Conv2d(3, 4, 3).half().to(memory_format=torch.channels_last)
    script = torch.jit.script(torch.nn.Sequential(kernel, torch.nn.BatchNorm2d(4)))
    script.save(path := tmp_path / "a.pt")
    with formats.opened(path, "a.pt") as file:
        found = {tensor.name: tensor.read() for tensor in file.tensors}
    wanted = {name: value.numpy() for name, value in script.state_dict().items()}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)


@pytest.mark.torch
def test_a_frozen_program_is_told(run: Run, model: Any) -> None:
    import torch

    torch.jit.freeze(torch.jit.trace(model, torch.zeros(1, 3, 16, 16))).save("a.pt")
    code, told = run("inspect", "a.pt", "net.yaml")
    assert code == 1
    assert "RS901: 'a.pt' is a TorchScript archive without parameters: it was frozen" in told


@pytest.mark.torch
@pytest.mark.parametrize("within", [False, True], ids=["alone", "in a checkpoint"])
def test_a_whole_model(run: Run, model: Any, within: bool) -> None:
    """Its parameters are found in the pickle, and none of its classes is imported."""
    import sys

    import torch

    name = type(model).__module__
    torch.save({"model": model, "epoch": 3} if within else model, "a.pt")
    sys.modules.pop(name, None)
    assert_same(converted(run, "a.pt"), drawn())
    assert name not in sys.modules


@pytest.mark.torch
def test_a_state_beside_what_is_no_tensor(run: Run) -> None:
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in drawn().items()}
    torch.save({**tensors, "epoch": 3, "name": "net"}, "a.pt")
    assert_same(converted(run, "a.pt"), drawn())


# --- Keras ---------------------------------------------------------------------------------------


@pytest.fixture
def keras_model() -> Any:
    """A model that a Keras user writes for the spec, with separable convolutions."""
    from keras import Input, Model, layers

    given = Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(given)
    x = layers.BatchNormalization(epsilon=1e-5, scale=False, name="bn1")(x)
    x = layers.ReLU()(x)
    for turn in range(2):
        x = layers.SeparableConv2D(6, 3, padding="same", name=f"layer1_{turn}_sep")(x)
        x = layers.BatchNormalization(epsilon=1e-5, center=turn == 0, name=f"layer1_{turn}_bn")(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    built = Model(given, layers.Dense(5, name="fc")(x))
    generator = np.random.default_rng(5)
    built.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in built.weights])
    return built


def values_of(built: Any) -> State:
    """What the spec is to have of the model, put together here by hand."""
    wanted = {}
    for name in ("conv1", "fc"):
        kernel, *bias = built.get_layer(name).get_weights()
        wanted[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        wanted |= {f"{name}.bias": each for each in bias}
    for turn in range(2):
        deep, point, bias = built.get_layer(f"layer1_{turn}_sep").get_weights()
        wanted[f"layer1.{turn}.sep.depthwise.weight"] = deep.transpose(2, 3, 0, 1)
        wanted[f"layer1.{turn}.sep.pointwise.weight"] = point.transpose(3, 2, 0, 1)
        wanted[f"layer1.{turn}.sep.pointwise.bias"] = bias
    for ours, theirs in (("bn1", "bn1"), *((f"layer1.{n}.bn", f"layer1_{n}_bn") for n in (0, 1))):
        norm = built.get_layer(theirs)
        mean, variance = norm.get_weights()[-2:]
        size = len(mean)
        scale, centre = (
            None if each is None else np.asarray(each) for each in (norm.gamma, norm.beta)
        )
        wanted[f"{ours}.weight"] = np.ones(size, np.float32) if scale is None else scale
        wanted[f"{ours}.bias"] = np.zeros(size, np.float32) if centre is None else centre
        wanted |= {f"{ours}.running_mean": mean, f"{ours}.running_var": variance}
    return wanted


@pytest.mark.keras
@pytest.mark.parametrize(
    ("ending", "nested"),
    [
        ("keras", False),
        pytest.param("keras", True, marks=pytest.mark.slow),
        pytest.param("h5", False, marks=pytest.mark.slow),
        ("h5", True),
    ],
)
def test_layers_of_keras(run: Run, keras_model: Any, ending: str, nested: bool) -> None:
    import keras

    model = keras_model
    if nested:
        model = keras.Sequential([keras.Input((16, 16, 3)), keras_model])
    model.save(f"a.{ending}")
    assert_same(converted(run, f"a.{ending}"), values_of(keras_model))
    told = run("inspect", f"a.{ending}", "net.yaml")[1]
    assert "note: the scale of 1 norm is ones, for the file has none" in told
    assert "note: the centre of 1 norm is zeros, for the file has none" in told


@pytest.mark.keras
def test_a_model_of_keras_that_is_a_class(run: Run) -> None:
    """Its layers stand by the attributes that hold them."""
    import keras
    from keras import layers

    class Cell(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.sep = layers.SeparableConv2D(6, 3, padding="same")
            self.bn = layers.BatchNormalization()

        def call(self, x: Any) -> Any:
            return keras.ops.relu(self.bn(self.sep(x)))

    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")
            self.bn1 = layers.BatchNormalization(name="bn1")
            self.blocks = [Cell(), Cell()]
            self.fc = layers.Dense(5, name="fc")

        def call(self, x: Any) -> Any:
            x = keras.ops.relu(self.bn1(self.conv1(x)))
            for cell in self.blocks:
                x = cell(x)
            return self.fc(keras.ops.mean(x, (1, 2)))

    built = Net()
    built(np.zeros((1, 16, 16, 3), np.float32))
    built.save_weights("a.weights.h5")
    rules = ("blocks.cell=layer1.0", "blocks.cell_1=layer1.1")
    words = [word for rule in rules for word in ("--rename", rule)]
    found = converted(run, "a.weights.h5", *words)
    cell = built.blocks[1].sep.get_weights()
    assert np.array_equal(found["layer1.1.sep.pointwise.bias"], cell[2])
    assert np.array_equal(found["layer1.1.sep.depthwise.weight"], cell[0].transpose(2, 3, 0, 1))
    assert np.array_equal(found["conv1.weight"], built.conv1.get_weights()[0].transpose(3, 2, 0, 1))


BASIC = """
spec_version: 1
name: basic_net
description: A residual network, whose shortcut has a norm beside the others where it projects
input: {{channels: 3, height: 16, width: 16}}
classes: 5
stem: [{{conv: conv1, filters: 4, kernel: 3}}, {{norm: bn1}}, {{act: act1}}]
stages: [{{name: layer1, block: basic, repeat: 2, filters: {filters}}}]
head: [{{global_avg_pool: avgpool}}, {{linear: fc, features: classes}}]
"""


def numbered(filters: int) -> State:
    """A file with the numbers of layers alone, as versions of Keras 3 wrote it; its values."""
    import h5py

    from resnet_spec.weights import keras_model

    Path("basic.yaml").write_text(BASIC.format(filters=filters))
    network = read_network("basic.yaml", ())
    model = keras_model.build(network)
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    model.save_weights("a.weights.h5")
    with h5py.File("a.weights.h5", "r+") as file:
        for layer in file["layers"].values():
            layer["vars"].attrs.pop("name", None)
    return keras_model.values(network, model)


NUMBERED = ("convert", "a.weights.h5", "basic.yaml", "--out", "o.safetensors")


@pytest.mark.keras
def test_layers_that_are_numbered(run: Run) -> None:
    wanted = numbered(filters=4)
    code, told = run(*NUMBERED)
    assert code == 0 and "note: 11 layers are told by their numbers: " in told, told
    found = safetensors.load_file("o.safetensors")
    assert_same({n: v for n, v in found.items() if not n.endswith("num_batches_tracked")}, wanted)


@pytest.mark.keras
def test_layers_that_numbers_do_not_tell(run: Run) -> None:
    """Which of two norms comes first depends on how somebody wrote the sum behind them."""
    wanted = numbered(filters=6)
    code, told = run(*NUMBERED)
    assert code == 1 and "RS903: 20 tensors of 'basic_net' are missing" in told, told
    assert "as 'layer1.0.downsample.1', which run side by side: tell it by --rename" in told, told
    assert not Path("o.safetensors").exists()
    order = ("bn1", "bn2", "downsample.1")  # as the model's text happens to have them
    rules = [f"batch_normalization_{n}=layer1.0.{name}" for n, name in enumerate(order, 1)]
    code, told = run(*NUMBERED, *(word for rule in rules for word in ("--rename", rule)))
    assert code == 0, told
    found = safetensors.load_file("o.safetensors")
    assert_same({n: v for n, v in found.items() if not n.endswith("num_batches_tracked")}, wanted)


# --- TensorFlow ----------------------------------------------------------------------------------


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["a checkpoint", "a saved model", "an older checkpoint"])
def test_files_of_tensorflow(run: Run, keras_model: Any, kind: str) -> None:
    import keras

    tensorflow = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only Keras on TensorFlow makes such files")
    wanted = values_of(keras_model)
    if kind == "a checkpoint":
        step = tensorflow.Variable(3)
        whole = tensorflow.train.Checkpoint(net=keras_model, step=step)
        file = whole.save("saved/ckpt")
    elif kind == "a saved model":
        keras_model.export(file := "saved", verbose=False)
    else:
        given = {
            "conv1/weights": wanted["conv1.weight"].transpose(2, 3, 1, 0),
            **{
                w.path: np.asarray(w) for w in keras_model.weights if not w.path.startswith("conv1")
            },
        }
        file = older_checkpoint(given)
    assert_same(converted(run, file), wanted)
    Path(f"{file}.data-00000-of-00001" if kind != "a saved model" else
         "saved/variables/variables.data-00000-of-00001").unlink()  # fmt: skip
    code, told = run("convert", file, "net.yaml", "--out", "p.safetensors")
    assert (code, "RS901" in told) == (1, True), told


def older_checkpoint(values: Mapping[str, Any]) -> str:
    """As TensorFlow 1 wrote it: by names, with an optimizer's slots beside them."""
    import tensorflow as tf

    one = tf.compat.v1
    with tf.Graph().as_default(), one.Session() as session:
        for name, value in values.items():
            one.get_variable(f"net/{name}", initializer=value)
        one.get_variable("net/conv1/weights/Momentum", initializer=values["conv1/weights"])
        one.get_variable("global_step", initializer=np.int64(3))
        session.run(one.global_variables_initializer())
        return str(one.train.Saver().save(session, "saved/model.ckpt"))


# --- ONNX ----------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("names", ["kept", "by scopes"])
def test_graphs_of_onnx(run: Run, model: Any, names: str) -> None:
    onnx = pytest.importorskip("onnx")
    export(model, "a.onnx", folded=False)
    rules: tuple[str, ...] = ()
    if names == "by scopes":
        # A module that only holds others never runs, and so is no scope.
        for part in ("depthwise", "pointwise"):
            rules += ("--rename", f"layer1.{{n}}.{part}=layer1.{{n}}.sep.{part}")
        graph = onnx.load("a.onnx")
        for number, tensor in enumerate(graph.graph.initializer):
            rename_constant(graph.graph, tensor.name, f"onnx::any_{number}")
        onnx.save(graph, "a.onnx")
    assert_same(converted(run, "a.onnx", *rules), drawn())


def export(model: Any, path: str, folded: bool) -> None:
    import torch

    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        model, torch.zeros(1, 3, 16, 16), path, dynamo=False, training=mode, verbose=False
    )


def rename_constant(graph: Any, old: str, new: str) -> None:
    for tensor in graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = new if name == old else name


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["constant nodes", "a matrix turned", "values beside the graph"])
def test_constants_of_onnx(run: Run, model: Any, kind: str) -> None:
    onnx = pytest.importorskip("onnx")
    export(model, "a.onnx", folded=False)
    graph = onnx.load("a.onnx")
    if kind == "constant nodes":
        for tensor in list(graph.graph.initializer):
            node = onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
            graph.graph.node.insert(0, node)
        del graph.graph.initializer[:]
    elif kind == "a matrix turned":
        multiplied(graph.graph)
    sizes = {"save_as_external_data": True, "location": "a.data", "size_threshold": 0}
    onnx.save(graph, "a.onnx", **(sizes if kind == "values beside the graph" else {}))
    assert_same(converted(run, "a.onnx"), drawn())
    if kind == "values beside the graph":
        Path("a.data").write_bytes(Path("a.data").read_bytes()[:-8])
        code, told = run("convert", "a.onnx", "net.yaml", "--out", "p.safetensors")
        assert (code, "can't be read: the file beside it has" in told) == (1, True), told


def multiplied(graph: Any) -> None:
    """The last layer as MatMul and Add, its matrix transposed by a node."""
    from onnx import helper

    last = next(node for node in graph.node if node.op_type == "Gemm")
    place = list(graph.node).index(last)
    nodes = [
        helper.make_node("Transpose", ["fc.weight"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", [last.input[0], "turned"], ["product"]),
        helper.make_node("Add", ["product", "fc.bias"], [last.output[0]]),
    ]
    graph.node.remove(last)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)


@pytest.mark.torch
def test_norms_of_onnx_that_are_a_factor_and_a_summand(run: Run, model: Any) -> None:
    """As converters write them: what remains of the statistics is in both."""
    onnx = pytest.importorskip("onnx")
    export(model, "a.onnx", folded=False)
    graph, state = onnx.load("a.onnx"), drawn()
    wanted = {}
    for node in [each for each in graph.graph.node if each.op_type == "BatchNormalization"]:
        name = node.input[1].removesuffix(".weight")
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = (state[f"{name}.weight"] / np.sqrt(variance + 1e-5)).astype(np.float32)
        wanted[f"{name}.weight"] = scale
        wanted[f"{name}.bias"] = (state[f"{name}.bias"] - mean * scale).astype(np.float32)
        place = list(graph.graph.node).index(node)
        graph.graph.node.remove(node)
        given, constants = node.input[0], (f"{name}_scale", f"{name}_offset")
        add = onnx.helper.make_node("Add", [f"{name}_scaled", constants[1]], [node.output[0]])
        multiply = onnx.helper.make_node("Mul", [given, constants[0]], [f"{name}_scaled"])
        graph.graph.node.insert(place, add)
        graph.graph.node.insert(place, multiply)
        for constant, leaf in zip(constants, ("weight", "bias"), strict=True):
            value = wanted[f"{name}.{leaf}"].reshape(1, -1, 1, 1)
            graph.graph.initializer.append(onnx.numpy_helper.from_array(value, constant))
    onnx.save(graph, "a.onnx")
    found = converted(run, "a.onnx")
    for name, value in wanted.items():
        assert np.array_equal(found[name], value)
    assert (found["bn1.running_mean"] == 0).all()
    assert np.allclose(found["bn1.running_var"], 1 - 1e-5, rtol=0, atol=1e-7)
    told = run("inspect", "a.onnx", "net.yaml")[1]
    assert "note: 3 norms are a factor and a summand in the file" in told


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/b", ".."])
def test_values_of_onnx_elsewhere_are_refused(run: Run, location: str) -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.TensorProto(name="conv1.weight", data_type=1, dims=[4, 3, 3, 3], data_location=1)
    tensor.external_data.add(key="location", value=location)
    node = onnx.helper.make_node("Conv", ["x", "conv1.weight"], ["y"], pads=[1] * 4)
    graph = onnx.helper.make_graph([node], "g", [], [], [tensor])
    onnx.save(onnx.helper.make_model(graph), "a.onnx")
    code, told = run("convert", "a.onnx", "net.yaml", "--out", "o.safetensors", "--partial")
    assert (code, "RS902" in told and "leads to another place or file" in told) == (1, True), told
