"""Weights that have to be turned are turned exactly, or refused with the flag that does it.

What the network computes is told by the definitions of its operations, in numpy; what the file's
network computed is put together here, from its weights as they stand in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy as safetensors

from resnet_spec import read_network
from resnet_spec.ir import Network, evaluate
from resnet_spec.weights.entries import counters, entries

SPEC = """\
spec_version: 1
name: net
description: A network with norms, a bias, and a linear layer on a whole map
input: {channels: 3, height: 8, width: 10}
classes: 5
stem:
  - {conv: conv1, filters: 4, kernel: 3, padding: 0}
  - {norm: bn1}
  - {act: act1}
stages:
  - {name: layer1, block: basic, filters: 6, stride: 2}
head:
  - {flatten: flat, height: 3, width: 4}
  - {dropout: drop, rate: 0.1}
  - {linear: fc, features: classes}
"""
State = dict[str, Any]
Run = Callable[..., tuple[int, str]]


def net(file: str = "net.yaml") -> Network:
    return read_network(file, ())


def drawn(network: Network, seed: int = 0) -> State:
    generator = np.random.default_rng(seed)
    return {
        name: generator.uniform(0.5, 1.5, entry.parameter.shape).astype(np.float32)
        for name, entry in entries(network).items()
    }


def write(layout: str, state: State, path: str = "a.npz") -> None:
    """A state as a framework keeps it; nothing in the file tells how it flattens."""
    if layout == "torch":
        np.savez(path, **state)
        return
    places = {name: entry.place(layout) for name, entry in entries(net()).items()}  # type: ignore[arg-type]
    mark = "/" if layout == "keras" else "."
    np.savez(
        path,
        **{f"{p.layer}{mark}{p.variable}": state[n].transpose(p.axes) for n, p in places.items()},
    )


def converted(run: Run, file: str, *arguments: str, spec: str = "net.yaml") -> State:
    code, told = run("convert", file, spec, "--out", "o.safetensors", "--force", *arguments)
    assert code == 0, told
    found = safetensors.load_file("o.safetensors")
    return {name: value for name, value in found.items() if name not in counters(net(spec))}


def refused(run: Run, file: str, flag: str, spec: str = "net.yaml") -> None:
    """Nothing is written, and the help names the flag."""
    Path("p.safetensors").unlink(missing_ok=True)
    code, told = run("convert", file, spec, "--out", "p.safetensors")
    assert (code, "RS908" in told, flag in told) == (1, True, True), told
    assert not Path("p.safetensors").exists()


def logits(network: Network, state: Mapping[str, Any], images: Any) -> Any:
    return evaluate.outputs(network, state, images).logits


def images(seed: int = 1) -> Any:
    return np.random.default_rng(seed).uniform(0, 255, (2, 3, 8, 10))


def apart(one: Any, other: Any) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


# --- flattened maps ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["keras", "flax"])
def test_an_order_that_the_file_does_not_tell(run: Run, layout: str) -> None:
    """Names and shapes fit, and every value would stand at another place."""
    state = drawn(net())
    by_rows = dict(state)
    weight = state["fc.weight"].reshape(5, 6, 3, 4)
    by_rows["fc.weight"] = weight.transpose(0, 2, 3, 1).reshape(5, -1)
    write(layout, by_rows)
    refused(run, "a.npz", "--flatten-order hwc")
    found = converted(run, "a.npz", "--flatten-order", "hwc")
    for name, value in state.items():
        assert np.array_equal(found[name], value), name
    found = converted(run, "a.npz", "--flatten-order", "chw")
    assert np.array_equal(found["fc.weight"], by_rows["fc.weight"])
    wrong = apart(logits(net(), found, images()), logits(net(), state, images()))
    assert wrong > 1e-3  # what nobody would have been told


def test_files_of_pytorch_flatten_as_we_do(run: Run) -> None:
    state = drawn(net())
    write("torch", state)
    assert np.array_equal(converted(run, "a.npz")["fc.weight"], state["fc.weight"])
    code, told = run("inspect", "a.npz", "net.yaml", "--flatten-order", "hwc")
    assert (code, "fc: its 6x3x4 values were in the order row, column" in told) == (0, True)


def test_what_we_write_is_read_without_a_flag(run: Run) -> None:
    state = drawn(net())
    write("torch", state)
    run("convert", "a.npz", "net.yaml", "--to", "flax", "--out", "f.safetensors")
    assert np.array_equal(converted(run, "f.safetensors")["fc.weight"], state["fc.weight"])


@pytest.mark.keras
@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_what_we_write_for_keras_is_read_without_a_flag(run: Run, ending: str) -> None:
    state = drawn(net())
    write("torch", state)
    assert run("convert", "a.npz", "net.yaml", "--out", f"a.{ending}")[0] == 0
    assert np.array_equal(converted(run, f"a.{ending}")["fc.weight"], state["fc.weight"])


OF_KERAS = (
    SPEC.replace("{norm: bn1}", "{batch_norm: bn1, eps: 0.001}").replace(
        "block: basic, filters: 6, stride: 2", "block: down"
    )
    + """\
blocks:
  down:
    description: A step
    layers: [{conv: conv, filters: 6, kernel: 3, stride: 2, bias: true}]
"""
)


@pytest.mark.keras
@pytest.mark.parametrize("ending", ["keras", "h5", "weights.h5"])
def test_a_model_of_keras_that_flattens(run: Run, ending: str) -> None:
    """Its own layer `Flatten` tells the order, and the outputs are the model's."""
    import keras
    from keras import Input, Model, layers

    Path("net.yaml").write_text(OF_KERAS)
    given = Input((8, 10, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="conv1")(given)
    x = layers.ReLU()(layers.BatchNormalization(name="bn1")(x))
    x = layers.Conv2D(6, 3, strides=2, name="layer1_conv")(layers.ZeroPadding2D(1)(x))
    built = Model(given, layers.Dense(5, name="fc")(layers.Flatten()(x)))
    generator = np.random.default_rng(5)
    built.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in built.weights])
    (built.save_weights if ending == "weights.h5" else built.save)(f"a.{ending}")
    found = converted(run, f"a.{ending}", "--no-verify")
    batch = images()
    theirs = keras.ops.convert_to_numpy(built(batch.transpose(0, 2, 3, 1), training=False))
    assert apart(logits(net(), found, batch), theirs) < 1e-5


# --- norms ---------------------------------------------------------------------------------------


def folded(state: State, eps: float = 1e-5) -> State:
    """A state whose norms stand in the convolutions before them."""
    found = dict(state)
    for conv, norm in (
        ("conv1", "bn1"), ("layer1.conv1", "layer1.bn1"), ("layer1.conv2", "layer1.bn2"),
        ("layer1.downsample.0", "layer1.downsample.1"),
    ):  # fmt: skip
        factor = found.pop(f"{norm}.weight") / np.sqrt(found.pop(f"{norm}.running_var") + eps)
        found[f"{conv}.weight"] = found[f"{conv}.weight"] * factor[:, None, None, None]
        shift = found.pop(f"{norm}.running_mean") * factor
        found[f"{conv}.bias"] = found.pop(f"{norm}.bias") - shift
    return found


def test_norms_that_are_folded(run: Run) -> None:
    state = drawn(net())
    safetensors.save_file(folded(state), "a.safetensors")
    refused(run, "a.safetensors", "--unfold-norms")
    found = converted(run, "a.safetensors", "--unfold-norms")
    assert apart(logits(net(), found, images()), logits(net(), state, images())) < 1e-5
    assert (found["bn1.weight"] == 1).all()
    code, told = run("inspect", "a.safetensors", "net.yaml", "--unfold-norms")
    assert (code, "note: 4 norms were folded into convolutions" in told) == (0, True)


BIASED = """\
spec_version: 1
name: net
description: The same without norms
input: {channels: 3, height: 8, width: 10}
classes: 5
stem:
  - {conv: conv1, filters: 4, kernel: 3, padding: 0, bias: true}
  - {act: act1}
stages:
  - {name: layer1, block: plain_basic, filters: 6, stride: 2}
head:
  - {flatten: flat, height: 3, width: 4}
  - {linear: fc, features: classes}
blocks:
  plain_basic:
    description: A basic block without norms
    args: {filters: int, stride: int}
    layers:
      - {conv: conv1, filters: filters, kernel: 3, stride: stride, bias: true}
      - {act: act1}
      - {conv: conv2, filters: filters, kernel: 3, bias: true, as: residual}
      - conv: downsample.0
        filters: filters
        kernel: 1
        stride: stride
        bias: true
        from: x
        as: short
      - {add: [residual, short]}
      - {act: act2}
"""


def test_norms_that_the_network_has_not(run: Run) -> None:
    state = drawn(net())
    safetensors.save_file(state, "a.safetensors")
    Path("biased.yaml").write_text(BIASED)
    refused(run, "a.safetensors", "--fold-norms", "biased.yaml")
    found = converted(run, "a.safetensors", "--fold-norms", spec="biased.yaml")
    wanted = logits(net(), state, images())
    assert apart(logits(net("biased.yaml"), found, images()), wanted) < 1e-5
    told = run("inspect", "a.safetensors", "biased.yaml", "--fold-norms")[1]
    assert "the file does not state the epsilon of bn1: 1e-05 is taken" in told


def test_biases_before_norms(run: Run) -> None:
    """Keras' ResNet-50 has them: the mean of the norm takes them up."""
    state = drawn(net())
    biased = dict(state)
    for conv, norm in (("conv1", "bn1"), ("layer1.conv1", "layer1.bn1")):
        bias = np.arange(len(state[f"{norm}.bias"]), dtype=np.float32)
        biased[f"{conv}.bias"] = bias
        biased[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] + bias
    safetensors.save_file(biased, "a.safetensors")
    refused(run, "a.safetensors", "--fold-biases")
    found = converted(run, "a.safetensors", "--fold-biases")
    assert apart(logits(net(), found, images()), logits(net(), state, images())) < 1e-5


# --- orders --------------------------------------------------------------------------------------


def test_kernels_of_tensorflow_under_names_of_pytorch(run: Run) -> None:
    state = drawn(net())
    turned = {
        name: state[name].transpose(entry.place("keras").axes)
        for name, entry in entries(net()).items()
    }
    safetensors.save_file({n: np.ascontiguousarray(v) for n, v in turned.items()}, "a.safetensors")
    code, told = run("convert", "a.safetensors", "net.yaml", "--out", "p.safetensors")
    assert code == 1
    assert "the kernels stand as height, width, in, out: --kernel-order hwio turns them" in told
    assert "--reset-head" not in told
    found = converted(run, "a.safetensors", "--kernel-order", "hwio")
    for name, value in state.items():
        assert np.array_equal(found[name], value), name


@pytest.mark.parametrize("layout", ["torch", "keras"])
def test_images_of_blue_green_red(run: Run, layout: str) -> None:
    state = drawn(net())
    write(layout, state)
    flags = ("--input-order", "bgr", "--flatten-order", "chw")
    found = converted(run, "a.npz", *flags)
    wanted = logits(net(), state, images()[:, ::-1])
    assert apart(logits(net(), found, images()), wanted) < 1e-6


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["torch", "keras"])
def test_mean_and_deviation_of_images(run: Run, layout: str, order: str) -> None:
    """They are the file's own, in its order of channels."""
    mean, std = np.array([123.7, 116.8, 103.9]), np.array([58.4, 57.1, 57.4])
    state = drawn(net())
    write(layout, state)
    flags = ["--input-mean", "123.7,116.8,103.9", "--input-std", "58.4,57.1,57.4"]
    found = converted(run, "a.npz", *flags, "--flatten-order", "chw", "--input-order", order)
    given = images()[:, ::-1] if order == "bgr" else images()
    given = (given - mean[:, None, None]) / std[:, None, None]
    assert apart(logits(net(), found, images()), logits(net(), state, given)) < 1e-5


def test_a_mean_that_padding_would_break(run: Run) -> None:
    spec = SPEC.replace("padding: 0", "padding: 1")
    Path("net.yaml").write_text(spec.replace("height: 3, width: 4", "height: 4, width: 5"))
    state = drawn(net())
    write("torch", state)
    flags = ("--input-mean", "1,2,3", "--input-std", "4,5,6")
    code, told = run("convert", "a.npz", "net.yaml", "--out", "p.safetensors", *flags)
    assert (code, "'conv1' pads with zeros, which would no longer be the mean" in told) == (1, True)
    found = converted(run, "a.npz", "--input-std", "4,5,6")
    given = images() / np.array([4, 5, 6])[:, None, None]
    assert apart(logits(net(), found, images()), logits(net(), state, given)) < 1e-6


USELESS = {
    "--unfold-norms": "no norm is missing that a bias stands for",
    "--fold-norms": "no norm of the file stands behind a convolution that lacks one",
    "--fold-biases": "no bias stands before a norm that has none in the network",
    "--kernel-order hwio": "no kernel of the file has that order",
    "--input-mean 1,2": "--input-mean and --input-std take 3 numbers",
    "--input-std 1,0,1": "the latter not 0",
}


@pytest.mark.parametrize("flags", USELESS)
def test_what_is_asked_for_and_has_no_place_is_told(run: Run, flags: str) -> None:
    safetensors.save_file(drawn(net()), "a.safetensors")
    code, told = run("inspect", "a.safetensors", "net.yaml", *flags.split())
    assert (code, USELESS[flags] in told) == (1, True), told


@pytest.mark.parametrize("text", ["a", "1,,2", "nan,1,1", "1;2;3"])
def test_numbers_that_are_none(run: Run, text: str) -> None:
    safetensors.save_file(drawn(net()), "a.safetensors")
    code, told = run("inspect", "a.safetensors", "net.yaml", "--input-mean", text)
    assert (code, "is not of the form 0.485,0.456,0.406" in told) == (2, True), told
