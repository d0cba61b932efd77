"""What the primitives are defined to compute, against PyTorch's functions, and whole networks."""

from __future__ import annotations

import math
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import parity
import pytest
from primitive_cases import (
    CASES,
    POOLED,
    SIZES,
    SPEC,
    Expected,
    Given,
    convolutions,
    given_to,
    operation_of,
    poolings,
)

from resnet_spec.ir import Network, evaluate
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.primitives import PRIMITIVES
from resnet_spec.primitives.numpy_values import VALUES


def assert_is(layers: Sequence[str] | str, expected: Expected) -> None:
    """The value of the last layer is what PyTorch makes of the same numbers, at all sizes."""
    import torch

    for height, width in SIZES:
        operation = operation_of([layers] if isinstance(layers, str) else layers, height, width)
        inputs, parameters = given_to(operation)
        found = evaluate.apply(operation, inputs, parameters)
        given = Given(
            [torch.from_numpy(each) for each in inputs],
            {name: torch.from_numpy(each) for name, each in parameters.items()},
        )
        wanted = expected(given)
        wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == np.float64
            assert one.shape == (3, *operation.output.dimensions)
            assert parity.difference(one, other.numpy()) < 1e-13, (height, width)


def test_every_primitive_has_a_value() -> None:
    assert VALUES.keys() == PRIMITIVES.keys()


def test_every_primitive_is_compared() -> None:
    text = [line for layers, _ in CASES.values() for line in layers]
    text += [*(layer for layer, _ in convolutions()), *(layer for layer, _ in poolings())]
    assert {line.split(":")[0] for line in text} == PRIMITIVES.keys()


def test_the_compiler_does_without_numpy() -> None:
    script = (
        "import sys, resnet_spec.cli, resnet_spec.codegen.generate, resnet_spec.lower;"
        "print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout.strip() == b"False"


@pytest.mark.torch
@pytest.mark.parametrize(("layer", "expected"), list(convolutions()))
def test_convolution(layer: str, expected: Expected) -> None:
    assert_is(layer, expected)


@pytest.mark.torch
@pytest.mark.parametrize(("layer", "expected"), list(poolings()))
def test_pooling(layer: str, expected: Expected) -> None:
    assert_is(layer, expected)


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_primitive(name: str) -> None:
    assert_is(*CASES[name])


def test_activations_of_large_values() -> None:
    """Nothing overflows, and what is left of a value is exact in its last bits."""
    x = np.array([[-1000.0, -40.0, -9.0, 0.0, 9.0, 40.0, 1000.0, -0.5]])
    values: dict[str, Callable[[float], float]] = {
        "sigmoid": lambda v: 1 / (1 + math.exp(-v)) if v > -700 else 0.0,
        "silu": lambda v: v / (1 + math.exp(-v)) if v > -700 else 0.0,
        "gelu": lambda v: v * math.erfc(-v / math.sqrt(2)) / 2,
        "softmax": lambda v: 1.0 if v == 1000 else 0.0,
    }
    for name, expected in values.items():
        operation = operation_of([POOLED, f"{name}: one"])
        (found,) = evaluate.apply(operation, [x], {})
        np.testing.assert_allclose(found[0], [expected(v) for v in x[0]], rtol=1e-15, err_msg=name)


# --- whole networks ------------------------------------------------------------------------------


def drawn(network: Network) -> dict[str, np.ndarray]:
    """Weights and statistics that keep values in scale, none of them zero or one."""
    from resnet_spec.verify import random_inputs
    from resnet_spec.verify.plan import plan_of

    return random_inputs.weights(plan_of(network, "float64")[0], seed=0)


def images_of(network: Network) -> np.ndarray:
    return parity.images(2, *network.input.dimensions)


def small(name: str) -> Network:
    """A network of ours for small oblong images."""
    return lower(load(name, Library(), ["input.height=64", "input.width=75"]))


SMALL = sorted(path.stem for path in parity.SPECS.glob("*.yaml"))
LARGE = {"keras_resnet50", "resnext50_32x4d", "wide_resnet50_2"}
OURS = ("resnet18", "resnet50", "resnetv2_18", "seresnet18", "densenet121", "res2net50_48w_2s")


@pytest.mark.torch
@pytest.mark.parametrize("name", parity.costly([*SMALL, *OURS], {*SMALL, "resnet18"} - LARGE))
def test_a_network_is_what_pytorch_computes(name: str) -> None:
    path = parity.SPECS / f"{name}.yaml"
    network = parity.network_of(path) if path.exists() else small(name)
    model = parity.build(network, "torch").double()
    parity.randomize(model, gain=1.0)
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    images = images_of(network)
    found = evaluate.outputs(network, weights, images)
    expected = parity.torch_outputs(model, images)
    outputs = {**found.stages, "logits": found.logits}
    assert expected.keys() <= outputs.keys()
    for key, value in expected.items():
        assert parity.difference(outputs[key], value) < 1e-12, key


@pytest.mark.slow
@pytest.mark.torch
def test_a_thousand_layers() -> None:
    test_a_network_is_what_pytorch_computes("resnet1202")


def test_every_operation_is_watched_and_has_the_shape_that_was_inferred() -> None:
    network = small("resnet18")
    seen: dict[str, list[tuple[int, ...]]] = {}

    def watch(name: str, values: Sequence[np.ndarray]) -> None:
        seen[name] = [value.shape for value in values]

    evaluate.outputs(network, drawn(network), images_of(network), watch)
    expected = {name: (2, *each.output.dimensions) for name, each in network.operations()}
    assert list(seen) == list(expected)
    assert all(set(shapes) == {expected[name]} for name, shapes in seen.items())


def test_what_is_no_longer_needed_is_let_go() -> None:
    network = small("resnet50")
    alive: dict[str, weakref.ref[np.ndarray]] = {}
    most = 0

    def watch(name: str, values: Sequence[np.ndarray]) -> None:
        nonlocal most
        alive.update((f"{name}:{k}", weakref.ref(value)) for k, value in enumerate(values))
        most = max(most, sum(each() is not None for each in alive.values()))

    evaluate.outputs(network, drawn(network), images_of(network), watch)
    assert len(alive) > 150
    assert most < 12  # the four stages, and a few within a block


def test_single_precision_is_computed_in_double() -> None:
    network = parity.network_of(parity.SPECS / "blur.yaml")
    weights = {name: value.astype(np.float32) for name, value in drawn(network).items()}
    images = images_of(network).astype(np.float32)
    found = evaluate.outputs(network, weights, images)
    assert found.logits.dtype == np.float64
    widened = {name: value.astype(np.float64) for name, value in weights.items()}
    again = evaluate.outputs(network, widened, images.astype(np.float64))
    assert np.array_equal(found.logits, again.logits)


def test_a_stage_that_is_left_out_has_the_output_of_the_one_before() -> None:
    text = SPEC.format(layers="  - {relu: one}", height=6, width=5)
    text = text.replace("head:", "  - {name: other, block: same, when: classes > 9}\nhead:")
    network = parity.network_of_text(text)
    images = images_of(network)
    found = evaluate.outputs(network, {}, images)
    assert np.array_equal(found.stages["stage"], images)
    assert np.array_equal(found.stages["other"], images)
    assert np.array_equal(found.logits, np.maximum(images, 0))
