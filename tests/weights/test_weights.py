"""`weights`: files are read, compared, adapted and written; nothing here imports a framework."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy as safetensors

import resnet_spec
from resnet_spec import cli, read_network
from resnet_spec.ir import Network
from resnet_spec.primitives import INITIALIZERS, Initializer, Parameter, distribution
from resnet_spec.weights.entries import counters, entries
from resnet_spec.weights.initialize import fresh

SPEC = """\
spec_version: 1
name: small
description: A small network
input: {channels: 3, height: 16, width: 16}
classes: 10
stem:
  - {conv: conv1, filters: 4, kernel: 3}
  - {norm: bn1}
  - {act: act1}
stages:
  - {name: layer1, block: basic, filters: 4}
  - {name: layer2, block: basic, filters: 8, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""
State = dict[str, Any]


class Result:
    """What a command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`resnet-spec weights` in an empty folder with the spec `small.yaml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESNET_SPEC_TRACEBACK", raising=False)
    Path("small.yaml").write_text(SPEC)

    def call(*arguments: str) -> Result:
        code = cli.main(["weights", *arguments])
        return Result(code, *capsys.readouterr())

    return call


def small(*settings: str) -> Network:
    return read_network("small.yaml", settings)


def random_state(network: Network, dtype: Any = "float32", seed: int = 0) -> State:
    """Values for every tensor, all different, with the counters of PyTorch."""
    generator = np.random.default_rng(seed)
    state = {
        name: generator.standard_normal(entry.parameter.shape).astype(dtype)
        for name, entry in entries(network).items()
    }
    state |= {name: abs(each) for name, each in state.items() if name.endswith(".running_var")}
    return state | {name: np.array(7) for name in counters(network)}


def save(state: Mapping[str, Any], path: str = "small.safetensors") -> str:
    safetensors.save_file(dict(state), path)
    return path


def loaded(path: str) -> State:
    return dict(safetensors.load_file(path))


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Bit for bit, types and names too."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


# --- inspect -------------------------------------------------------------------------------------


def test_a_file_that_fits(run: Run) -> None:
    save(random_state(small()))
    result = run("inspect", "small.safetensors", "small.yaml")
    assert (result.code, result.err) == (0, "")
    assert "\n32 matched, 0 missing, 0 extra, 0 of another shape\n" in result.out
    assert result.out.endswith("small.safetensors fits small\n")


def test_everything_that_does_not_fit_is_listed(run: Run) -> None:
    state = random_state(small())
    state["layer2.conv_1.weight"] = state.pop("layer2.conv1.weight")
    state["head.extra"] = np.zeros(3, np.float32)
    state["fc.bias"] = np.zeros(7, np.float32)
    state["bn1.weight"] = np.zeros(4, np.int32)
    save(state)

    result = run("inspect", "small.safetensors", "small.yaml")
    assert result.code == 1
    for line in (
        "  layer2.conv1.weight  8x4x3x3  did you mean 'layer2.conv_1.weight'?",
        "  layer2.conv_1.weight  8x4x3x3  did you mean 'layer2.conv1.weight'?",
        "  head.extra            3",
        "  fc.bias  7 float32, expected 10",
        "  bn1.weight  4 int32, expected one of float16, bfloat16, float32, float64",
        "29 matched, 1 missing, 2 extra, 1 of another shape, 1 of another type",
    ):
        assert f"{line}\n" in result.out

    found = run("inspect", "small.safetensors", "small.yaml", "--format", "json").json
    assert found["fits"] is False
    assert [each["name"] for each in found["missing"]] == ["layer2.conv1.weight"]
    assert found["missing"][0]["nearest"] == "layer2.conv_1.weight"
    assert [each["name"] for each in found["extra"]] == ["head.extra", "layer2.conv_1.weight"]
    assert {each["name"]: (each["shape"], each["expected"]) for each in found["wrong_shape"]} == {
        "fc.bias": ([7], [10]),
        "bn1.weight": ([4], [4]),
    }
    assert len(found["matched"]) == 29


def test_values_that_are_not_finite(run: Run) -> None:
    state = random_state(small())
    state["conv1.weight"][0, 0, 0, 0] = np.nan
    state["fc.bias"][2] = -np.inf
    save(state)
    result = run("inspect", "small.safetensors", "small.yaml")
    assert result.code == 1
    assert "not finite: conv1.weight\nnot finite: fc.bias\n" in result.out
    found = run("inspect", "small.safetensors", "small.yaml", "--format", "json").json
    assert found["not_finite"] == ["conv1.weight", "fc.bias"]
    assert found["fits"] is True


def test_values_of_no_trained_network_are_told(run: Run) -> None:
    """A file that is converted may be one to be looked into, so it is written all the same."""
    state = random_state(small())
    state["bn1.running_var"][1] = -1
    state["fc.bias"][2] = np.nan
    state["layer1.bn1.running_var"][:] = 0
    state["layer1.bn2.running_var"][1:] = 0  # of channels that ReLU has ended
    save(state)
    result = run("inspect", "small.safetensors", "small.yaml")
    told = (
        "not finite: fc.bias\nnegative variance: bn1.running_var\n"
        "zero variance: layer1.bn1.running_var\nsmall"
    )
    assert result.code == 1 and told in result.out, result.out
    words = ("convert", "small.safetensors", "small.yaml", "--out", "out.safetensors")
    result = run(*words, "--quiet")
    assert result.code == 0
    assert result.err.splitlines()[:3] == [
        "note: not finite: fc.bias",
        "note: negative variance: bn1.running_var",
        "note: zero variance: layer1.bn1.running_var",
    ]
    found = run(*words, "--force", "--format", "json").json
    assert found["negative_variance"] == ["bn1.running_var"]
    assert found["zero_variance"] == ["layer1.bn1.running_var"]


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
def test_quantised_values_are_named(run: Run, dtype: str) -> None:
    import ml_dtypes

    state = random_state(small())
    kind = getattr(ml_dtypes, dtype, dtype)
    state["conv1.weight"] = state["conv1.weight"].astype(kind)
    save(state)
    result = run("convert", "small.safetensors", "small.yaml", "--out", "out.safetensors")
    assert result.code == 1
    told = "int8" if dtype == "int8" else "f8_e4m3"
    assert f"the file is quantised ({told}): take the weights" in result.err


def test_all_lists_what_fits(run: Run) -> None:
    save(random_state(small()))
    out = run("inspect", "small.safetensors", "small.yaml", "--all").out
    assert "matched:\n  conv1.weight " in out
    assert out.count("\n  ") == 32


# --- convert -------------------------------------------------------------------------------------


def test_safetensors_to_safetensors_is_the_same(run: Run) -> None:
    state = random_state(small())
    save(state)
    result = run("convert", "small.safetensors", "small.yaml", "--out", "new/o.safetensors")
    assert (result.code, result.out) == (0, "")
    assert result.err == "wrote new/o.safetensors: 32 tensors of small\n"
    assert same(loaded("new/o.safetensors"), state)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_types_are_kept(run: Run, dtype: str) -> None:
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    state = random_state(small(), kind)
    save(state)
    assert run("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors").code == 0
    assert same(loaded("o.safetensors"), state)


def test_types_are_converted(run: Run) -> None:
    state = random_state(small(), "float64")
    save(state)
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    assert run(*arguments, "--dtype", "bfloat16").code == 0
    found = loaded("o.safetensors")
    for name, value in state.items():
        kind = np.int64 if name.endswith("_tracked") else ml_dtypes.bfloat16
        assert found[name].dtype == kind
        assert (found[name] == value.astype(kind)).all()


def test_values_that_a_type_cannot_hold(run: Run) -> None:
    state = random_state(small())
    state["fc.bias"][0] = 1e6
    save(state)
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    result = run(*arguments, "--dtype", "float16")
    assert result.code == 1
    assert "RS906: 'fc.bias' has 1e+06, which float16 can't hold" in result.err
    assert not Path("o.safetensors").exists()


def test_counters_of_batches_may_be_missing(run: Run) -> None:
    state = random_state(small())
    save({name: value for name, value in state.items() if not name.endswith("_tracked")})
    assert run("inspect", "small.safetensors", "small.yaml").code == 0
    assert run("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors").code == 0
    found = loaded("o.safetensors")
    assert found.keys() == state.keys()
    assert found["bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_strict(run: Run, change: str) -> None:
    state = random_state(small())
    if change == "missing":
        del state["fc.bias"], state["bn1.bias"]
    elif change == "extra":
        state["other"] = np.zeros(3, np.float32)
    else:
        state["bn1.bias"] = np.zeros(9, np.float32)
    save(state)
    result = run("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    code = {"missing": "RS903", "extra": "RS904", "shape": "RS905"}[change]
    names = {"missing": ["fc.bias", "bn1.bias"], "extra": ["other"], "shape": ["bn1.bias"]}[change]
    assert result.code == 1
    assert code in result.err
    assert all(f"  {name} " in result.err for name in names)
    assert not Path("o.safetensors").exists()


# --- adapting ------------------------------------------------------------------------------------


def test_another_number_of_classes(run: Run) -> None:
    state = random_state(small())
    save(state)
    arguments = ("convert", "small.safetensors", "small.yaml", "--set", "classes=5")
    refused = run(*arguments, "--out", "o.safetensors")
    assert refused.code == 1
    assert "--reset-head" in refused.err

    result = run(*arguments, "--reset-head", "--out", "o.safetensors")
    assert result.code == 0
    assert result.out.splitlines() == [
        "reset    fc.weight 5x8: normal(0.01), the file has 10x8",
        "reset    fc.bias 5: zeros, the file has 10",
    ]
    found = loaded("o.safetensors")
    assert same({**found, **random_fc(state)}, state)
    assert 0.002 < found["fc.weight"].std() < 0.03
    assert not found["fc.bias"].any()

    assert run(*arguments, "--reset-head", "--out", "same.safetensors").code == 0
    assert same(loaded("same.safetensors"), found)
    assert run(*arguments, "--reset-head", "--seed", "1", "--out", "o2.safetensors").code == 0
    assert not np.array_equal(loaded("o2.safetensors")["fc.weight"], found["fc.weight"])


def random_fc(state: State) -> State:
    return {name: state[name] for name in ("fc.weight", "fc.bias")}


@pytest.mark.parametrize("rule", ["mean", "repeat"])
@pytest.mark.parametrize("channels", [1, 2, 6, 7])
def test_another_number_of_input_channels(run: Run, rule: str, channels: int) -> None:
    state = random_state(small())
    save(state)
    arguments = ("convert", "small.safetensors", "small.yaml")
    setting = ("--set", f"input.channels={channels}")
    refused = run(*arguments, *setting, "--out", "o.safetensors")
    assert refused.code == 1
    assert "--adapt-input" in refused.err

    result = run(*arguments, *setting, "--adapt-input", rule, "--out", "o.safetensors")
    assert result.code == 0
    assert result.out == f"adapted  conv1.weight 4x{channels}x3x3: {rule}, the file has 4x3x3x3\n"
    old, new = state["conv1.weight"], loaded("o.safetensors")["conv1.weight"]
    for channel in range(channels):
        source = old.mean(1) if rule == "mean" else old[:, channel % 3]
        assert np.allclose(new[:, channel], source * 3 / channels, rtol=1e-6, atol=1e-7)
    if rule == "mean" or channels == 6:  # a grey image gives what it gave before
        assert np.allclose(new.sum(1), old.sum(1), rtol=1e-5, atol=1e-6)


def test_partial(run: Run) -> None:
    state = random_state(small())
    kept = dict(state)
    del kept["layer1.bn1.running_var"]
    kept["fc.bias"] = np.zeros(7, np.float32)
    kept["other"] = np.ones(3, np.float32)
    save(kept)
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    result = run(*arguments, "--partial")
    assert result.code == 0
    assert result.out.splitlines() == [
        "fresh    layer1.bn1.running_var 4: ones, not in the file",
        "fresh    fc.bias 10: zeros, the file has 7",
        "dropped  other 3",
    ]
    expected = state | {
        "layer1.bn1.running_var": np.ones(4, np.float32),
        "fc.bias": np.zeros(10, np.float32),
    }
    assert same(loaded("o.safetensors"), expected)


def test_partial_needs_something_that_fits(run: Run) -> None:
    save({"other": np.ones(3, np.float32)})
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    result = run(*arguments, "--partial")
    assert result.code == 1
    assert "RS906: nothing in 'small.safetensors' fits 'small'" in result.err


def test_a_head_that_does_not_depend_on_the_classes(run: Run) -> None:
    text = SPEC.replace("features: classes", "features: 10").replace("classes: 10\n", "")
    Path("small.yaml").write_text(text)
    save(random_state(small()))
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    result = run(*arguments, "--reset-head")
    assert result.code == 1
    assert "RS906" in result.err


def test_a_head_that_is_a_block(run: Run) -> None:
    """The norm before the classes is kept: its size does not follow from their number."""
    text = SPEC.replace(
        "  - {linear: fc, features: classes}", "  - {block: classifier, name: top, size: classes}"
    )
    text += """\
blocks:
  classifier:
    description: A hidden layer, then the classes
    args: {size: int}
    layers:
      - {linear: hidden, features: 6}
      - {act: act}
      - {linear: out, features: size}
"""
    Path("small.yaml").write_text(text)
    state = random_state(small())
    save(state)
    arguments = ("convert", "small.safetensors", "small.yaml", "--set", "classes=5")
    result = run(*arguments, "--reset-head", "--out", "o.safetensors")
    assert result.code == 0
    assert [line.split()[1] for line in result.out.splitlines()] == [
        "top.out.weight",
        "top.out.bias",
    ]
    kept = {name: value for name, value in state.items() if not name.startswith("top.out")}
    found = loaded("o.safetensors")
    assert same({name: found[name] for name in kept}, kept)


def test_fresh_values_are_as_the_spec_states(run: Run) -> None:
    """Mean and deviation of what --partial draws, over enough values to tell."""
    Path("small.yaml").write_text(SPEC.replace("filters: 8", "filters: 128"))
    save({"bn1.weight": np.ones(4, np.float32)})
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    assert run(*arguments, "--partial").code == 0
    value = loaded("o.safetensors")["layer2.conv2.weight"]  # 128x128x3x3, he_normal(fan_out)
    deviation = (2 / (128 * 9)) ** 0.5
    # Six standard errors: wrong once in half a billion.
    assert abs(value.mean()) < 6 * deviation / value.size**0.5
    assert abs(value.std() / deviation - 1) < 6 / (2 * value.size) ** 0.5


# --- names ---------------------------------------------------------------------------------------


def test_names_by_rules_of_the_command_line(run: Run) -> None:
    state = random_state(small())
    theirs = {
        name.replace("layer1.", "stages.0.").replace("layer2.", "stages.1."): value
        for name, value in state.items()
    }
    save(theirs)
    assert run("inspect", "small.safetensors", "small.yaml").code == 1
    rule = ("--rename", "stages.{s}=layer{s + 1}")
    assert run("inspect", "small.safetensors", "small.yaml", *rule).code == 0
    arguments = ("import", "small.safetensors", "small.yaml", *rule, "--out", "o.safetensors")
    assert run(*arguments).code == 0
    assert same(loaded("o.safetensors"), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rename", "nothing"], "--rename 'nothing' is not of the form FROM=TO"),
        (["--rename", "{A}=b"], "--rename: 'A' can't name a counter: use a lower-case word"),
        (["--rename", "fc={n}"], "--rename: 'n' is no counter of 'fc'"),
        (["--rename", "stem.{i=conv"], "--rename: 'stem.{i' has a brace without its other one"),
        (["--rename", "stem.{i}=a{i +}"], "--rename: 'i +' is not an expression"),
        (["--rename", "fc=a", "--rename", "fc=b"], "--rename 'fc' is given twice"),
        (["--from", "timm"], "the spec small names no network of timm: it names none"),
    ],
)
def test_wrong_names(run: Run, arguments: Sequence[str], message: str) -> None:
    save(random_state(small()))
    result = run("inspect", "small.safetensors", "small.yaml", *arguments)
    assert result.code == 2
    assert result.err.startswith(f"error: {message}")


@pytest.mark.parametrize("action", ["inspect", "import"])
@pytest.mark.parametrize("ending", ["safetensors", "weights.h5"])
def test_a_rule_that_fits_nothing_is_told(run: Run, action: str, ending: str) -> None:
    save(random_state(small()))
    if ending != "safetensors":
        run("convert", "small.safetensors", "small.yaml", "--out", f"small.{ending}")
    rules = ["fc=fc", "layer9=layer1", "conv2.weight=conv1.weight", "fc.{n}=fc"]
    words = [word for rule in rules for word in ("--rename", rule)]
    out = [] if action == "inspect" else ["--out", "o.safetensors"]
    result = run(action, f"small.{ending}", "small.yaml", *words, *out)
    assert result.code == 1
    told = [line for line in result.err.splitlines() if "RS906" in line]
    assert len(told) == 3 and not any("'fc=fc'" in line for line in told)
    assert told[2].endswith("error RS906: --rename 'layer9=layer1' renames nothing in the file")
    assert "'fc' comes before it: put the longer one first" not in result.err
    assert not Path("o.safetensors").exists()


def test_a_rule_behind_one_that_takes_its_names_is_told(run: Run) -> None:
    save(random_state(small()))
    rules = ("--rename", "layer{n}=layer{n}", "--rename", "layer{n}.conv1=layer1.conv1")
    result = run("inspect", "small.safetensors", "small.yaml", *rules)
    assert result.code == 1
    assert "'layer{n}' comes before it: put the longer one first" in result.err


def test_a_name_that_comes_twice_is_left_over(run: Run) -> None:
    """Two names of the file for one tensor: the second is not lost in silence."""
    state = random_state(small())
    save(state | {"again.weight": state["conv1.weight"]})
    result = run("inspect", "small.safetensors", "small.yaml", "--rename", "again=conv1")
    assert result.code == 1
    assert "1 extra" in result.out


# --- what must not happen to files ---------------------------------------------------------------


def test_nothing_is_replaced_unless_forced(run: Run) -> None:
    save(random_state(small()))
    Path("o.safetensors").write_text("mine")
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    result = run(*arguments)
    assert result.code == 2
    assert "RS602" in result.err
    assert Path("o.safetensors").read_text() == "mine"
    assert run(*arguments, "--force").code == 0
    assert same(loaded("o.safetensors"), random_state(small()))


def test_the_input_is_never_replaced(run: Run) -> None:
    save(random_state(small()))
    os.link("small.safetensors", "link.safetensors")
    before = Path("small.safetensors").read_bytes()
    for out in ("small.safetensors", "./small.safetensors", "link.safetensors"):
        result = run("convert", "small.safetensors", "small.yaml", "--out", out, "--force")
        assert (result.code, result.err) == (2, f"error: --out '{out}' is the file that is read\n")
    assert Path("small.safetensors").read_bytes() == before


def test_a_file_is_as_readable_as_others(run: Run) -> None:
    save(random_state(small()))
    Path("beside").touch()
    for name in ("a.safetensors", "a.pt"):
        assert run("convert", "small.safetensors", "small.yaml", "--out", name).code == 0
        assert Path(name).stat().st_mode == Path("beside").stat().st_mode
        Path(name).chmod(0o640)
        assert run("convert", "small.safetensors", "small.yaml", "--out", name, "--force").code == 0
        assert Path(name).stat().st_mode & 0o777 == 0o640


def test_a_failure_leaves_nothing_behind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_spec.weights import formats

    def fail(path: Path, *_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    save(random_state(small()))
    Path("o.safetensors").write_text("mine")
    monkeypatch.setattr(formats, "write", fail)
    before = sorted(os.listdir())
    for out in ("o.safetensors", "new/folder/o.safetensors"):
        arguments = ("convert", "small.safetensors", "small.yaml", "--out", out, "--force")
        result = run(*arguments)
        assert result.code == 2
        assert f"RS601: cannot write '{out}': no space left on device" in result.err
    assert sorted(os.listdir()) == before
    assert Path("o.safetensors").read_text() == "mine"


def test_a_disk_that_is_full(run: Run) -> None:
    """What the libraries say of it becomes one line; a limit stands for the disk."""
    script = (
        "import resource, signal, sys; from resnet_spec.cli import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); sys.exit(main(sys.argv[1:]))"
    )
    save(random_state(small()))
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", script, "weights", *arguments],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(resnet_spec.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 2
    assert "RS601: cannot write 'o.safetensors': file too large" in done.stderr
    assert sorted(os.listdir()) == ["small.safetensors", "small.yaml"]


def test_a_folder_as_output(run: Run) -> None:
    save(random_state(small()))
    Path("o.safetensors").mkdir()
    arguments = ("convert", "small.safetensors", "small.yaml", "--out", "o.safetensors")
    result = run(*arguments, "--force")
    assert result.code == 2
    assert "RS605" in result.err


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("ending", ["safetensors", "pt", "weights.h5", "keras"])
def test_a_file_as_folder(run: Run, ending: str) -> None:
    """Messages do not name the temporary file, which users never see."""
    save(random_state(small()))
    result = run("convert", "small.safetensors", "small.yaml", "--out", f"small.yaml/o.{ending}")
    assert result.code == 2
    message = f"RS601: cannot write 'small.yaml/o.{ending}': not a directory\n"
    assert message in result.err


@pytest.mark.parametrize("out", ["o.h5", "o", "o.onnx", "o.bin"])
def test_an_unknown_ending(run: Run, out: str) -> None:
    save(random_state(small()))
    result = run("convert", "small.safetensors", "small.yaml", "--out", out)
    assert result.code == 2
    assert f"--out '{out}' must end in one of .safetensors, .pt, .pth, .weights.h5" in result.err


# --- files that are none -------------------------------------------------------------------------


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def hdf5(fill: Callable[[Any], object]) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        fill(root)
    return file.getvalue()


def layer(root: Any, name: str = "conv1") -> Any:
    group = root.create_group("layers/conv2d/vars")
    group.attrs["name"] = name
    return group


def external_link(root: Any) -> None:
    layer(root)["0"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(root: Any) -> None:
    layer(root)["0"] = h5py.SoftLink("/layers")


def external_values(root: Any) -> None:
    layer(root).create_dataset("0", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def circle(root: Any) -> None:
    group = root.create_group("layers")
    group["again"] = group


def no_array(root: Any) -> None:
    layer(root).create_group("0")


def lacking(root: Any) -> None:
    root.attrs["layer_names"] = [b"conv1"]


TENSORS = safetensors.save({"conv1.weight": np.zeros((4, 3, 3, 3), np.float32)})
HDF5 = hdf5(lambda root: layer(root).create_dataset("0", data=np.zeros((3, 3, 3, 4))))
KERAS = zipped(("model.weights.h5", HDF5))
SQUEEZED = zipped(("model.weights.h5", HDF5 + os.urandom(4096)), method=zipfile.ZIP_DEFLATED)
SQUEEZED = SQUEEZED[:100] + b"?" * 60 + SQUEEZED[160:]
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "RS901"),
    "short": (b"abc", "RS901"),
    "text": (b"these are no weights at all", "RS901"),
    "zeros": (bytes(1000), "RS901"),
    "safetensors cut off": (TENSORS[:-4], "RS901"),
    "safetensors, cut off in its header": (TENSORS[:30], "RS901"),
    "safetensors, a huge header": ((2**62).to_bytes(8, "little") + b'{"a": 1}' * 9, "RS901"),
    "safetensors, a header of 90 MB": ((9 * 10**7).to_bytes(8, "little") + b'{"a"' * 9, "RS901"),
    "safetensors, no JSON": ((16).to_bytes(8, "little") + b"{" * 24, "RS901"),
    "HDF5 cut off": (HDF5[:-100], "RS901"),
    "HDF5 garbage": (HDF5[:64] + b"\xff" * 2000, "RS901"),
    "HDF5 without weights": (hdf5(lambda root: root.create_group("x")), "RS901"),
    "HDF5, not an array": (hdf5(no_array), "RS901"),
    "HDF5, a layer that is not there": (hdf5(lacking), "RS901"),
    "HDF5, a link to another file": (hdf5(external_link), "RS902"),
    "HDF5, a link to another place": (hdf5(soft_link), "RS902"),
    "HDF5, values in another file": (hdf5(external_values), "RS902"),
    "HDF5, a circle": (hdf5(circle), "RS902"),
    "keras, its weights no HDF5": (zipped(("model.weights.h5", b"nothing")), "RS901"),
    "keras, its weights not what was stored": (KERAS.replace(HDF5[-40:], b"?" * 40), "RS901"),
    "keras, its weights not what was compressed": (SQUEEZED, "RS901"),
    "keras, weights in parts": (zipped(("model.weights.json", b"{}")), "RS901"),
    "keras, a bomb": (
        zipped(("model.weights.h5", bytes(10**7)), method=zipfile.ZIP_DEFLATED),
        "RS902",
    ),
    "zip cut off": (zipped(("model.weights.h5", HDF5))[:-30], "RS901"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("ending", ["safetensors", "weights.h5"])
def test_broken_files(run: Run, name: str, ending: str) -> None:
    """Each is reported in a line with its code, whatever the name of the file."""
    data, code = BROKEN[name]
    path = f"broken.{ending}"
    Path(path).write_bytes(data)
    for arguments in (
        ["inspect", path, "small.yaml"],
        ["convert", path, "small.yaml", "--out", "o.safetensors"],
    ):
        result = run(*arguments)
        assert result.code == 1
        assert result.err.startswith(f"{path}:1:1: error {code}: ")
        assert result.err.endswith("1 error in 1 file\n")
    assert not Path("o.safetensors").exists()


def test_files_that_are_not_there(run: Run) -> None:
    Path("folder").mkdir()
    for path, reason in (
        ("nothing.pt", "cannot read 'nothing.pt': no such file or directory"),
        ("folder", "'folder' is a folder, no file"),
        ("a\0b", "cannot read 'a\\x00b'"),
    ):
        result = run("inspect", path, "small.yaml")
        assert result.code == 1
        assert f"RS901: {reason}" in result.err


def test_a_bomb_of_zeros_is_not_read(run: Run) -> None:
    """HDF5 can state any size for values that it does not hold: only what fits is read."""

    def fill(root: Any) -> None:
        group = layer(root)
        group.create_dataset("0", (10**6, 10**6), "f8", chunks=(1000, 1000), compression="gzip")

    Path("bomb.weights.h5").write_bytes(hdf5(fill))
    result = run("inspect", "bomb.weights.h5", "small.yaml")
    assert result.code == 1
    assert "conv1.weight  1000000x1000000 float64, expected 3x3x3x4" in result.out


def test_names_that_a_terminal_would_obey(run: Run) -> None:
    state = random_state(small())
    save(state | {"\x1b[2J" + "x" * 500 + "\n": np.zeros(3, np.float32)})
    result = run("inspect", "small.safetensors", "small.yaml")
    assert "\x1b" not in result.out
    assert "  \\x1b[2Jxxx" in result.out
    assert max(map(len, result.out.splitlines())) < 150


def test_values_that_are_broken(run: Run) -> None:
    """The names and shapes are in order, and the values are not."""
    state, network = random_state(small()), small()

    def fill(root: Any) -> None:
        new_layout(state, network)(root)
        for group in root["layers"].values():
            if "vars" in group and group["vars"].attrs["name"] == "fc":
                del group["vars/0"]
                group["vars"].create_dataset(
                    "0", data=state["fc.weight"].T, chunks=(8, 10), compression="gzip"
                )

    data = hdf5(fill)
    # What zlib writes begins so.
    position = data.rindex(b"\x78\x5e") if b"\x78\x5e" in data else data.rindex(b"\x78\x9c")
    broken = data[: position + 10] + b"\xff" * 20 + data[position + 30 :]
    Path("k.weights.h5").write_bytes(broken)
    for arguments in (["inspect"], ["convert", "--out", "o.safetensors"]):
        action, *rest = arguments
        result = run(action, "k.weights.h5", "small.yaml", *rest)
        assert result.code == 1
        assert "error RS901: 'fc/0' in 'k.weights.h5' can't be read" in result.err
    assert not Path("o.safetensors").exists()


def test_a_spec_with_a_mistake(run: Run) -> None:
    save(random_state(small()))
    Path("small.yaml").write_text(SPEC + "nothing: 1\n")
    result = run("inspect", "small.safetensors", "small.yaml")
    assert result.code == 1
    assert "small.yaml:" in result.err


# --- Keras' files, written here as Keras does ----------------------------------------------------


def keras_variables(state: State, network: Network) -> dict[str, dict[str, Any]]:
    """Layer by layer, each variable in Keras' order of axes."""
    layers: dict[str, dict[str, Any]] = {}
    for name, entry in entries(network).items():
        place = entry.place("keras")
        layers.setdefault(place.layer, {})[place.variable] = state[name].transpose(place.axes)
    return layers


def old_layout(state: State, network: Network) -> Callable[[Any], object]:
    def fill(root: Any) -> None:
        layers = keras_variables(state, network)
        root.attrs["layer_names"] = [name.encode() for name in ("input_1", *layers)]
        root.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
        for name, variables in layers.items():
            group = root.create_group(name)
            paths = [f"{name}/{variable}:0" for variable in variables]
            group.attrs["weight_names"] = [path.encode() for path in paths]
            for path, value in zip(paths, variables.values(), strict=True):
                group[path] = value

    return fill


def new_layout(state: State, network: Network) -> Callable[[Any], object]:
    def fill(root: Any) -> None:
        for number, (name, variables) in enumerate(keras_variables(state, network).items()):
            group = root.create_group(f"layers/layer_{number}/vars")
            group.attrs["name"] = name
            for index, value in enumerate(variables.values()):
                data = group.create_dataset(str(index), data=value)
                if value.dtype == ml_dtypes.bfloat16:
                    data.attrs["dtype"] = "bfloat16"
        generator = root.create_group("layers/dropout/seed_generator/vars")
        generator.attrs["name"] = "seed_generator"
        generator["0"] = np.zeros(2, np.uint32)

    return fill


@pytest.mark.parametrize("layout", [old_layout, new_layout])
@pytest.mark.parametrize("nested", [False, True])
def test_layouts_of_keras(run: Run, layout: Any, nested: bool) -> None:
    """To PyTorch's names and axes, bit for bit; no framework is imported."""
    state = random_state(small())
    fill = layout(state, small())
    if nested and layout is old_layout:  # a whole model: beside its weights there is more
        Path("k.h5").write_bytes(hdf5(lambda root: fill(root.create_group("model_weights"))))
    elif nested:
        Path("k.h5").write_bytes(zipped(("config.json", b"{}"), ("model.weights.h5", hdf5(fill))))
    else:
        Path("k.h5").write_bytes(hdf5(fill))
    assert run("inspect", "k.h5", "small.yaml").code == 0
    assert run("convert", "k.h5", "small.yaml", "--out", "o.safetensors").code == 0
    zeros = {name: np.array(0) for name in counters(small())}
    assert same(loaded("o.safetensors"), state | zeros)


def test_bfloat16_of_keras(run: Run) -> None:
    state = random_state(small(), ml_dtypes.bfloat16)
    Path("k.weights.h5").write_bytes(hdf5(new_layout(state, small())))
    assert run("convert", "k.weights.h5", "small.yaml", "--out", "o.safetensors").code == 0
    zeros = {name: np.array(0) for name in counters(small())}
    assert same(loaded("o.safetensors"), state | zeros)


def test_a_norm_of_keras_without_a_scale(run: Run) -> None:
    """Three variables of which none has a name could be any of four with the same shape."""
    state, network = random_state(small()), small()

    def fill(root: Any) -> None:
        new_layout(state, network)(root)
        for group in list(root["layers"].values()):
            if "vars" in group and group["vars"].attrs["name"] == "bn1":
                del group["vars/3"]

    Path("k.weights.h5").write_bytes(hdf5(fill))
    found = run("inspect", "k.weights.h5", "small.yaml", "--format", "json").json
    assert [each["name"].rpartition(".")[0] for each in found["missing"]] == ["bn1"] * 4
    assert [each["name"] for each in found["extra"]] == ["bn1/0", "bn1/1", "bn1/2"]


def test_kernels_are_turned(run: Run) -> None:
    """A square kernel would fit unturned as well: the values tell."""
    Path("small.yaml").write_text(SPEC.replace("channels: 3", "channels: 4"))
    state = random_state(small())
    Path("k.weights.h5").write_bytes(hdf5(new_layout(state, small())))
    run("convert", "k.weights.h5", "small.yaml", "--out", "o.safetensors")
    kernel = loaded("o.safetensors")["layer1.conv1.weight"]
    assert kernel.shape == (4, 4, 3, 3)
    assert np.array_equal(kernel, state["layer1.conv1.weight"])


# --- without what it needs -----------------------------------------------------------------------


def test_a_package_that_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save(random_state(small()))
    Path("k.weights.h5").write_bytes(HDF5)
    Path("old.pth").write_bytes(pickle.dumps({"a": list(range(30))}, 2))
    for package, path, extra in (
        ("safetensors", "small.safetensors", "weights"),
        ("h5py", "k.weights.h5", "weights"),
        ("torch", "old.pth", "torch"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        result = run("inspect", path, "small.yaml")
        assert result.code == 2
        assert result.err == (
            f"error: reading '{path}' needs {package}, which is not installed\n"
            f"install it: pip install 'resnet-spec[{extra}]'\n"
        )


def test_no_framework_is_imported() -> None:
    script = (
        "import sys, resnet_spec.cli.weights, resnet_spec.weights.formats.hdf5;"
        "heavy = {'torch', 'keras', 'tensorflow', 'numpy', 'h5py'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", INITIALIZERS)
def test_fresh_values_of_each_initializer(kind: str) -> None:
    value = INITIALIZERS[kind][1]
    tensor = Parameter("weight", (64, 32, 5, 5), True, Initializer(kind, value))
    stated = distribution(tensor.initializer, tensor.shape)
    drawn = fresh(tensor, np.random.default_rng(0)).astype("float64")
    assert drawn.shape == tensor.shape
    assert abs(drawn.mean() - stated.mean) <= 0.02 * stated.deviation
    assert drawn.std() == pytest.approx(stated.deviation, rel=0.01)
    if stated.bound is not None:
        assert np.abs(drawn).max() <= stated.bound
