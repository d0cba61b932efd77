"""Models with odd content that is legal: each comes out right, or is refused by name and place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from odd_models import SHAPE, Apply, brought, network, of, of_blocks, read, refused

from resnet_spec.diagnostics import SpecError
from resnet_spec.importing import proof
from resnet_spec.importing.readers import onnx_file
from resnet_spec.importing.run import Options, imported
from resnet_spec.importing.writing.stages import Signature, Use, runs

pytestmark = pytest.mark.torch


# --- one value, taken twice ----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["images", "stem", "tail"])
@pytest.mark.parametrize("operation", ["add", "multiply", "part"])
def test_a_value_that_is_taken_twice(operation: str, place: str, tmp_path: Path) -> None:
    apply: Apply = {
        "add": lambda x: x + x,
        "multiply": lambda x: x * x,
        "part": lambda x: (x + x).chunk(x.shape[1], 1)[0] * x,
    }[operation]
    given: dict[str, Any] = {place: of(apply)}
    brought(network(**given), tmp_path)


def test_a_value_beside_itself(tmp_path: Path) -> None:
    import torch

    brought(network(tail=of(lambda x: torch.cat([x, x], 1)), channels=16), tmp_path, library=True)
    brought(network(tail=of(lambda x: x.chunk(2, 1)[1]), channels=4), tmp_path)


@pytest.mark.parametrize("kind", ["Sum", "Mean"])
@pytest.mark.parametrize("given", ["x", "xxx", "cxx", "xcx", "xxc", "cxxc"])
def test_a_sum_of_any_number(kind: str, given: str, tmp_path: Path) -> None:
    """Exporters write sums of two alone; the operators take one value or several, and constants."""
    import onnx
    from onnx import helper, numpy_helper

    model = networks.randomized(network(stem=of(lambda x: x.relu())))
    path = networks.exported(model, SHAPE, tmp_path / "odd.onnx", False)
    proto = onnx.load(str(path))
    place, relu = next((k, n) for k, n in enumerate(proto.graph.node) if n.op_type == "Relu")
    inputs = [{"x": relu.input[0], "c": "constant"}[each] for each in given]
    made = helper.make_node(kind, inputs, list(relu.output), name="many")
    constant = np.array(0.375, np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(constant, "constant"))
    proto.graph.node.remove(relu)
    proto.graph.node.insert(place, made)
    path.write_bytes(proto.SerializeToString())
    options = Options("odd", "Odd", False)
    found = imported(onnx_file.read(path, "odd.onnx"), options, str(tmp_path / "odd.yaml"))
    share = 1 if kind == "Sum" else 1 / len(given)
    factor, offset = share * given.count("x"), share * given.count("c") * 0.375
    wanted = networks.randomized(network(stem=of(lambda x: factor * x + offset)))
    wanted.load_state_dict(model.state_dict())
    assert networks.distance(found, wanted, SHAPE) < 1e-6, found.text


@pytest.mark.parametrize(
    "apply",
    [lambda x: x**2, lambda x: -x, lambda x: x - x.relu(), lambda x: x * x * x],
    ids=["square", "negative", "difference", "cube"],
)
def test_arithmetic(apply: Apply, tmp_path: Path) -> None:
    brought(network(stem=of(apply)), tmp_path)


@pytest.mark.parametrize("rate", [-0.5, 1.0, 2.0, float("nan")])
def test_a_dropout_of_no_rate(rate: float, tmp_path: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    path = networks.exported(network(stem=of(lambda x: x.relu())), SHAPE, tmp_path / "odd.onnx")
    proto = onnx.load(str(path))
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    made = helper.make_node("Dropout", [relu.input[0], "rate"], list(relu.output), name="drop")
    relu.CopyFrom(made)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(rate, np.float32), "rate"))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(SpecError, match=f"a rate of {rate:g}"):
        imported(onnx_file.read(path, "odd.onnx"), Options("odd", "Odd"), "odd.yaml")


# --- other orders of channels --------------------------------------------------------------------


def test_images_in_another_order_are_the_stem(tmp_path: Path) -> None:
    found = brought(network(images=of(lambda x: x[:, [2, 1, 0]])), tmp_path)
    stem = found.text.partition("stem:\n")[2].partition("\nstages:")[0]
    assert "  - {split: split, parts: 3, as: part}\n" in stem and "conv: 1" in stem
    assert "concat: [part.2, part.1, part.0]" in stem


@pytest.mark.parametrize(
    "apply",
    [
        lambda x: x[:, [0, 2, 3, 1, 1, 7, 5, 6]],
        lambda x: x.flip(1),
        lambda x: x[:, ::2].repeat(1, 2, 1, 1),
        lambda x: x.flatten(2).mean(2)[:, :, None, None] * x,
        lambda x: x.flatten(2).transpose(1, 2).amax(1)[:, :, None, None] * x,
    ],
    ids=["any", "flipped", "every other", "flat", "flat and last"],
)
def test_channels_in_another_order(apply: Apply, tmp_path: Path) -> None:
    brought(network(stem=of(apply)), tmp_path)


def test_a_norm_of_a_vector(tmp_path: Path) -> None:
    """Norms are of maps here: a fully connected layer before one is a convolution of all places."""
    from torch import nn

    body = (*network()[:2], nn.MaxPool2d(2), nn.Flatten())
    first = (nn.Linear(8 * 36, 6), nn.BatchNorm1d(6), nn.ReLU())
    second = (nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))
    found = brought(nn.Sequential(*body, *first, *second), tmp_path)
    assert "{conv: 4, filters: 6, kernel: 6, padding: 0" in found.text
    assert "{conv: 7, filters: 5, kernel: 1" in found.text


def test_a_norm_behind_the_logits(tmp_path: Path) -> None:
    """The network gives a vector like the model, although its last norm is one of a map."""
    from torch import nn

    body = (*network()[:2], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = brought(nn.Sequential(*body, nn.Linear(8, 5), nn.BatchNorm1d(5)), tmp_path)
    assert found.network.root.output.height is None


def test_a_norm_of_a_vector_that_was_no_square_map(tmp_path: Path) -> None:
    from torch import nn

    body = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 32, 6)
    model = nn.Sequential(*body, nn.BatchNorm1d(6), nn.Linear(6, 4))
    path = networks.exported(model.eval(), (1, 3, 4, 8), tmp_path / "odd.onnx", False)
    with pytest.raises(SpecError, match="batch_norm of a vector, which was a map of other"):
        options = Options("odd", "Odd", False)
        imported(onnx_file.read(path, "odd.onnx"), options, str(tmp_path / "odd.yaml"))


@pytest.mark.parametrize("place", ["stem", "tail"])
def test_a_factor_for_each_channel(place: str, tmp_path: Path) -> None:
    """A layer scale: a convolution of each channel by itself has its weights and its gradient."""
    import torch
    from torch import nn

    class LayerScale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.arange(1.0, 9.0).view(8, 1, 1))

        def forward(self, x: Any) -> Any:
            return self.gamma * x.relu() + x

    given: dict[str, Any] = {place: LayerScale()}
    found = brought(network(**given), tmp_path)
    assert "kernel: 1, groups: in_channels" in found.text
    (note,) = (each for each in found.notes if "a factor for each channel" in each)
    assert note.startswith("Mul '/")


# --- images that are normalised ------------------------------------------------------------------


def normalised(mean: list[float], deviation: list[float], scale: float) -> Any:
    """What torchvision does to images, as a part of the model."""
    import torch
    from torch import nn

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
            self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1))

        def forward(self, x: Any) -> Any:
            return (x / scale - self.mean) / self.deviation

    return Normalised()


@pytest.mark.parametrize("deviation", [[0.2, 0.3, 0.4], [-0.2, 0.3, 0.4], [1e3, 1e3, 1e3]])
def test_a_normalisation_is_a_norm_with_its_statistics(
    deviation: list[float], tmp_path: Path
) -> None:
    found = brought(network(images=normalised([0.4, 0.5, 0.6], deviation, 255)), tmp_path)
    assert "stem:\n  - {norm: " in found.text and "  - {conv: 1, filters: 8" in found.text
    (note,) = (each for each in found.notes if "fixed numbers for each channel" in each)
    assert note.startswith("Div '/0/Div_1' has") and "in the file of weights alone" in note
    name = next(each.removesuffix(".running_mean") for each in found.state if "mean" in each)
    if deviation[0] > 0:  # in training, too, it makes of such images about what it did
        assert np.allclose(found.state[f"{name}.running_mean"], [102, 127.5, 153])
        spread = np.sqrt(found.state[f"{name}.running_var"] + 1e-5)
        assert np.allclose(spread, np.array(deviation) * 255, rtol=1e-5)


def test_a_normalisation_alike_for_all_channels_is_a_rescaling(tmp_path: Path) -> None:
    found = brought(network(images=normalised([0.5] * 3, [0.5] * 3, 1)), tmp_path)
    assert "{rescale: rescale, factor: 2.0, offset: -1.0}" in found.text
    assert not any("fixed numbers" in each for each in found.notes)


# --- weights that are shared ---------------------------------------------------------------------


@pytest.mark.parametrize("folds", [False, True])
def test_shared_weights_are_told(folds: bool, tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x: Any) -> Any:
            for _ in range(2):
                x = torch.relu(self.norm(self.conv(x)))
            return x

    model = read(network(stem=Twice()), tmp_path, folds)
    found = imported(model, Options("odd", "Odd", False), str(tmp_path / "odd.yaml"))
    (note,) = (each for each in found.notes if "used at several places" in each)
    assert "in the spec are apart and are trained apart: '1.conv'" in note
    apart = network(stem=nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)))
    fresh = networks.exported(of_blocks(torch.relu).eval(), SHAPE, tmp_path / "fresh.onnx", folds)
    begun = onnx_file.read(fresh, "fresh.onnx")
    found = imported(begun, Options("odd", "Odd", False), str(tmp_path / "odd.yaml"))
    assert not any("several places" in each for each in found.notes)
    assert not any("several places" in each for each in brought(apart, tmp_path).notes)


# --- limits of the language ----------------------------------------------------------------------


def leaky(slope: float) -> Any:
    from torch import nn

    return nn.LeakyReLU(slope)


def test_numbers_beyond_the_language(tmp_path: Path) -> None:
    where = "LeakyRelu '/1/LeakyRelu': leaky_relu with the slope"
    said = refused(network(stem=leaky(-0.5)), tmp_path)
    assert said == f"{where} -0.5: the language has at least 0"
    said = refused(network(stem=leaky(1e30)), tmp_path)
    assert said.startswith(f"{where} 1e+30: the language has at most 9,007,")
    found = brought(network(stem=leaky(1.5)), tmp_path)
    assert "slope: 1.5" in found.text


def test_more_classes_than_the_language_has(tmp_path: Path) -> None:
    from torch import nn

    many = nn.Sequential(*network()[:-1], nn.Linear(8, 65_537))
    assert refused(many, tmp_path) == "the model: 65,537 classes: the language has up to 65,536"


@pytest.mark.parametrize(
    "apply",
    [
        lambda x: x + x.mean((2, 3), keepdim=True),
        lambda x: x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True) + x,
        lambda x: x - x.mean((2, 3), keepdim=True),
        lambda x: x.mean((2, 3), keepdim=True) - x,
        lambda x: x + x.mean(1, keepdim=True),
    ],
)
def test_sums_of_maps_and_their_means(apply: Apply, tmp_path: Path) -> None:
    found = brought(network(tail=of(apply)), tmp_path)
    assert "factor: 0.0, offset: 1.0" in found.text


def test_sums_that_are_larger_than_each_value_are_refused(tmp_path: Path) -> None:
    def apply(x: Any) -> Any:
        return x.mean((2, 3), keepdim=True) + x.mean(1, keepdim=True)

    said = refused(network(tail=of(apply)), tmp_path)
    assert said.endswith("a sum of 8x1x1 and 1x12x12: the language adds values of one shape alone")


def test_a_mean_over_one_axis_says_how_to_take_it_over_both(tmp_path: Path) -> None:
    from torch import nn

    model = nn.Sequential(*network()[:-3], of(lambda x: x.mean(3).mean(2)), nn.Linear(8, 4))
    with pytest.raises(SpecError) as caught:
        imported(read(model, tmp_path), Options("odd", "Odd", False), str(tmp_path / "odd.yaml"))
    (found,) = caught.value.diagnostics
    assert "a mean over the axes [3]" in found.message and "x.mean((2, 3))" in (found.help or "")


@pytest.mark.parametrize(
    ("operator", "stated", "told"),
    [
        ("AveragePool", {"pads": [0, 0, 1, 1]}, "a mean that counts padding on one side"),
        ("Conv", {"kernel_shape": [1, 1]}, r"a kernel_shape of [1, 1] for a kernel of [3, 3]"),
    ],
)
def test_what_a_node_states_is_what_is_read(
    operator: str, stated: dict[str, list[int]], told: str, tmp_path: Path
) -> None:
    from torch import nn

    model = read(network(tail=nn.AvgPool2d(3, 2, 1)), tmp_path)
    nodes = [each._replace(attributes={**each.attributes, **stated})
             if each.kind == operator else each for each in model.nodes]  # fmt: skip
    with pytest.raises(SpecError, match=re.escape(told)):
        imported(
            model._replace(nodes=tuple(nodes)), Options("odd", "Odd", False), str(tmp_path / "o")
        )


def test_windows_are_cut_off_at_other_sizes_alone(tmp_path: Path) -> None:
    """What a pooling says of them is kept where there are none at the size of the file."""
    from torch import nn

    found = brought(network(tail=nn.MaxPool2d(2, 2, ceil_mode=True)), tmp_path)
    assert ", kernel: 2, ceil: true}" in found.text
    padded = [nn.ZeroPad2d(1), nn.AvgPool2d(3, 1, ceil_mode=True), nn.AvgPool2d(4, ceil_mode=True)]
    for tail in (nn.Sequential(*padded), nn.MaxPool2d(2, 2, padding=1, ceil_mode=True)):
        found = brought(network(tail=tail), tmp_path)
        assert "ceil" not in found.text  # the language has none for such windows


@pytest.mark.parametrize("changed", [{"bias": True}, {"dilation": 2}, {"groups": 4}, {}])
def test_a_blur_with_more_to_it_is_none(changed: dict[str, int], tmp_path: Path) -> None:
    """A bias, another window, or another padding is no part of a blur."""
    import torch
    from torch import nn

    stated: dict[str, Any] = {"bias": False, "groups": 8, **changed}
    padding = stated.get("dilation", 1)
    blur = nn.Conv2d(8, 8, 3, 2, padding, padding_mode="reflect", **stated)
    window = torch.outer(*2 * [torch.tensor([1.0, 2, 1])]) / 16

    class Blur(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = blur

        def forward(self, x: Any) -> Any:
            kernel = window.to(x.dtype).expand(blur.weight.shape)
            padded = nn.functional.pad(x, [1] * 4, "reflect")
            beside = padding - 1
            return nn.functional.conv2d(padded, kernel, blur.bias, 2, beside, padding, blur.groups)

    if not changed:
        assert "blur_pool" in brought(network(tail=Blur()), tmp_path).text
    else:
        assert "reflect" in refused(network(tail=Blur()), tmp_path)


# --- what is told --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Sigmoid", "Softmax"])
def test_what_stands_behind_the_logits_is_told(kind: str, tmp_path: Path) -> None:
    from torch import nn

    last = nn.Sigmoid() if kind == "Sigmoid" else nn.Softmax(1)
    found = brought(nn.Sequential(*network(), last), tmp_path)
    (note,) = (each for each in found.notes if "at its end" in each)
    assert ("stays" in note) == ("sigmoid" in found.text) == (kind == "Sigmoid")


def test_norms_without_a_scale_are_told(tmp_path: Path) -> None:
    from torch import nn

    plain = nn.Sequential(nn.BatchNorm2d(8, affine=False), nn.GroupNorm(2, 8, affine=False))
    found = brought(network(stem=plain, tail=nn.InstanceNorm2d(8)), tmp_path)
    assert "3 norms without a scale and a centre: ones and zeros stand for them" in found.notes
    told = "norms without a scale"
    assert not any(
        told in each for each in brought(network(stem=nn.BatchNorm2d(8)), tmp_path).notes
    )


def test_chance_in_evaluation_is_refused(tmp_path: Path) -> None:
    from torch.nn import functional

    said = refused(network(tail=of(lambda x: functional.dropout(x, 0.5, True))), tmp_path)
    assert said.startswith("Dropout '/2/Dropout': it zeroes values at random in evaluation, too")
    brought(network(tail=of(lambda x: functional.dropout(x, 0.5, False))), tmp_path)
    brought(network(tail=of(lambda x: functional.dropout(x, 0.0, True))), tmp_path)


def test_images_too_large_to_prove_are_not_run(tmp_path: Path) -> None:
    found = brought(network(), tmp_path)
    model = read(network(), tmp_path)._replace(shape=(250_000, 3, 12, 12))

    def never() -> None:
        raise AssertionError("it was run")

    compared = proof.compared(
        found.network, tmp_path / "w", model, proof.Runtime((), never), tmp_path, None
    )
    assert compared.difference is None
    assert compared.reason == "for images of 250000x3x12x12 a map would take 1.2 GB of memory"


def test_more_blocks_than_a_stage_repeats() -> None:
    uses = [Use("block", {}, (), 0, 0)] * 5000
    assert [len(run) for run in runs(uses, lambda block: Signature({}))] == [2048, 2048, 904]
