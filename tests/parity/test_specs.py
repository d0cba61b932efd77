"""The networks of tests/specs and of the paper: one network in PyTorch and in Keras."""

from __future__ import annotations

import parity
import pytest

from resnet_spec.primitives import PRIMITIVES

PAPER = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
LARGE = {"keras_resnet50", "resnext50_32x4d", "wide_resnet50_2"}
SMALL = sorted(path.stem for path in parity.SPECS.glob("*.yaml") if path.stem not in LARGE)
RANDOM = {"dropout", "drop_path"}  # differ from run to run in training
FIXED = {"adaptive_avg_pool"}  # has to know how large the map is

pytestmark = [pytest.mark.torch, pytest.mark.keras]


def spec(name: str) -> str:
    return name if name in PAPER else str(parity.SPECS / f"{name}.yaml")


def used(name: str) -> set[str]:
    network = parity.network_of(spec(name))
    return {operation.primitive.name for _, operation in network.operations()}


def test_every_primitive_has_a_case() -> None:
    # An identity has no code of its own; it gives a value a second name.
    assert set().union(*map(used, SMALL)) | {"identity"} == set(PRIMITIVES)
    assert set().union(*map(used, parity.TELLING)) | {"identity"} == set(PRIMITIVES)


# How maps are padded, beside all primitives; as `same` does it, test_padding_same.py looks at.
USUAL = parity.TELLING | {"blur", "ceil_pool", "dilated"}


@pytest.mark.parametrize("name", parity.costly(SMALL, USUAL))
def test_both_backends_agree_in_double_precision(name: str) -> None:
    network = parity.network_of(spec(name))
    with parity.float64():
        channels, *size = network.input.dimensions
        fixed = bool(used(name) & FIXED)
        shape = (*(size if fixed else (None, None)), channels)
        pair = parity.pair(network, input_shape=shape)
        assert parity.torch_counts(pair.torch) == parity.ir_counts(network)
        assert parity.keras_counts(pair.keras) == parity.ir_counts(network)
        bound = parity.tolerance(network)
        for height, width in [size] if fixed else [size, [37, 46]]:
            images = parity.images(2, channels, height, width)
            assert max(pair.differences(images).values()) < bound
        if not used(name) & RANDOM:
            assert max(pair.differences(images, training=True).values()) < bound


@pytest.mark.parametrize(
    "name", parity.costly(["se", "preact", "res2net", "resnest", "primitives"], {"se", "resnest"})
)
def test_both_backends_agree_in_single_precision(name: str) -> None:
    network = parity.network_of(spec(name))
    pair = parity.pair(network)
    images = parity.images(2, *network.input.dimensions).astype("float32")
    assert max(pair.differences(images).values()) < 1e-4


# The code of the others is that of resnet50, or of resnet18, with other numbers of blocks; a test
# below has that, in single precision.
@pytest.mark.parametrize("name", parity.costly(PAPER, {"resnet50"}))
def test_the_networks_of_the_paper_agree(name: str) -> None:
    network = parity.network_of(name)
    with parity.float64():
        pair = parity.pair(network, input_shape=(None, None, 3))
        assert parity.torch_counts(pair.torch) == parity.ir_counts(network)
        assert parity.keras_counts(pair.keras) == parity.ir_counts(network)
        for shape in ((2, 3, 64, 64), (1, 3, 97, 75)):
            assert max(pair.differences(parity.images(*shape)).values()) < 1e-10


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_the_networks_of_the_paper_agree_in_single_precision(name: str) -> None:
    pair = parity.pair(parity.network_of(name), input_shape=(64, 64, 3))
    images = parity.images(2, 3, 64, 64).astype("float32")
    assert max(pair.differences(images).values()) < 1e-4


def test_training_moves_the_running_mean_alike() -> None:
    """The variance is by design another: Keras averages over N values, PyTorch over N - 1."""
    network = parity.network_of(spec("bottleneck_v1"))
    with parity.float64():
        pair = parity.pair(network)
        images = parity.images(2, *network.input.dimensions)
        layer, module = pair.keras.get_layer("bn1"), pair.torch.bn1
        before = module.running_var.numpy().copy()
        pair.torch.train()(parity.tensor(images))
        pair.keras(images.transpose(0, 2, 3, 1), training=True)
        mean = layer.moving_mean.numpy()
        assert parity.difference(mean, module.running_mean.numpy()) < 1e-12
        count = images.size // images.shape[1]
        moved = (layer.moving_variance.numpy() - 0.9 * before) * count / (count - 1)
        assert parity.difference(moved, module.running_var.numpy() - 0.9 * before) < 1e-10
