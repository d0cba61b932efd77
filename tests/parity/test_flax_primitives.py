"""What the Flax backend writes for each primitive, against its definition and PyTorch itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax_layers
import numpy as np
import parity
import pytest
from flax_layers import applied, called, fill, first, last, made
from primitive_cases import (
    CASES,
    Expected,
    Given,
    convolutions,
    given_to,
    operation_of,
    poolings,
)

from resnet_spec.backends.flax import names, primitives
from resnet_spec.backends.flax.variables import VARIABLES
from resnet_spec.backends.flax.writer import MODULES
from resnet_spec.ir import Operation, evaluate
from resnet_spec.primitives import PRIMITIVES
from resnet_spec.verify import compare

ALL: dict[str, tuple[list[str], Expected]] = {
    **{layer: ([layer], expected) for layer, expected in (*convolutions(), *poolings())},
    **CASES,
}
# JAX compiles each size anew: of the forms of a convolution three are slow, others for the next.
USUAL = {*CASES} | {n for i, (n, _) in enumerate(convolutions()) if (i + i // 6) % 2 == 0}
USUAL |= {layer for index, (layer, _) in enumerate(poolings()) if index % 2 == 0}
LEARNED = [
    *(name for name in CASES if name in primitives.LAYERS and "drop" not in name),
    *("linear without a bias", "epsilon of a batch_norm", "evo_norm of one group"),
    *(layer for layer, _ in convolutions() if "kernel: 3, stride: 2, dilation: 2" in layer),
]
SIZE = (13, 10)  # odd and even


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with flax_layers.double_precision():
        yield


def test_every_primitive_is_written() -> None:
    written = primitives.MODULES.keys() | primitives.CALLS.keys()
    assert written == PRIMITIVES.keys()
    assert not primitives.LAYERS.keys() & primitives.CALLS.keys()
    assert primitives.LAYERS_BY_NAME.keys() <= primitives.CALLS.keys()


def test_every_parameter_is_kept_somewhere() -> None:
    operations = [operation_of(layers) for layers, _ in ALL.values()]
    owned = {(o.primitive.name, each.name) for o in operations for each in o.parameters}
    assert owned == VARIABLES.keys()


def found_by(operation: Operation, inputs: Sequence[np.ndarray], parameters: Any) -> Iterator[Any]:
    """The outputs of each way in which the operation is written, by what it is."""
    name = operation.primitive.name
    if name in primitives.CALLS:
        yield "call", called(operation, inputs)
    if MODULES.is_module(name, operation.attributes, named=True):
        text, layer = made(operation)
        fill(layer, operation, parameters)
        yield text, applied(layer, inputs[0])


@pytest.mark.flax
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in ALL],
)
def test_primitive(name: str) -> None:
    operation = operation_of(ALL[name][0], *SIZE)
    ways = differences(operation)
    assert ways
    assert all(each < 1e-13 for each in ways.values()), ways


def differences(operation: Operation) -> dict[str, float]:
    """How far each way to write an operation is from its definition."""
    inputs, parameters = given_to(operation)
    expected = evaluate.apply(operation, inputs, parameters)
    result = {}
    for way, found in found_by(operation, inputs, parameters):
        assert all(each.dtype == np.float64 for each in found)
        apart = (compare.relative(*pair) for pair in zip(found, expected, strict=True))
        result[way] = max(apart)
    return result


# A layer, what is replaced in its text, and by what.
PLANTED = {
    "far padding": ("conv: one, filters: 4, kernel: 3, stride: 2", ", padding=1", ""),
    "no padding": ("conv: one, filters: 4, kernel: 3", "padding=1", "padding=0"),
    "another stride": ("conv: one, filters: 4, kernel: 3", "padding=1", "padding=2, strides=2"),
    "other groups": (
        "conv: one, filters: 8, kernel: 3, dilation: 2", "kernel_dilation=2", "kernel_dilation=1",
    ),
    "epsilon": ("batch_norm: one, eps: 0.3", "epsilon=0.3", "epsilon=1e-3"),
    "Flax's own epsilon": ("group_norm: one, groups: 4, eps: 0.1", "epsilon=0.1, ", ""),
    "number of groups": ("group_norm: one, groups: 4", "8, 4", "8, 2"),
    "approximate gelu": ("gelu: one", "False", "True"),
    "slope": ("leaky_relu: one, slope: 0.3", "0.3", "0.01"),
    "uncounted padding": (
        "avg_pool: one, kernel: 3, stride: 2", ")))", ")), count_include_pad=False)",
    ),
    "zeros for -inf": ("max_pool: one, kernel: 3, stride: 2", "nnx.max_pool", "zero_padded_pool"),
    "a window that is cut off": (
        "max_pool: one, kernel: 3, stride: 2, ceil: true", "(1, 2)", "(1, 1)",
    ),
    "rows for columns": (
        "adaptive_avg_pool: one, size: 3", "adaptive_avg_pool", "turned_pool",
    ),
    "usual filters": (
        "conv: one, filters: 4, kernel: 3, standardize: true",
        ", conv_general_dilated=standardized_conv", "",
    ),
}  # fmt: skip


@pytest.mark.flax
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given, planted = PLANTED[name]
    operation = operation_of([layer], *SIZE)
    usual = flax_layers.text_of

    def text(operation: Operation, exact: bool) -> str:
        right = usual(operation, exact)
        wrong = right.replace(given, planted)
        assert wrong != right
        return wrong

    def zero_padded_pool(x: Any, **options: Any) -> Any:
        import jax.numpy as jnp
        from flax import nnx

        near = options.pop("padding")
        return nnx.max_pool(jnp.pad(x - 9, ((0, 0), *near, (0, 0))), **options) + 9

    def turned_pool(x: Any, size: int) -> Any:
        return flax_layers.space()["adaptive_avg_pool"](x, size).swapaxes(1, 2)

    for each in (zero_padded_pool, turned_pool):
        monkeypatch.setitem(flax_layers.space(), each.__name__, each)
    monkeypatch.setattr(flax_layers, "text_of", text)
    ways = differences(operation)
    ways.pop("call", None)
    assert min(ways.values()) > 1e-6


# --- gradients -----------------------------------------------------------------------------------


def gradients_of_torch(
    expected: Expected, inputs: Sequence[np.ndarray], parameters: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Of the sum of the squares of what PyTorch's function gives."""
    import torch

    given = Given(
        [torch.from_numpy(each).requires_grad_() for each in inputs],
        {name: torch.from_numpy(each) for name, each in parameters.items()},
    )
    for name, each in given.parameters.items():
        each.requires_grad_(not name.startswith("running_"))
    (expected(given) ** 2).sum().backward()
    found = {name: each.grad for name, each in given.parameters.items()}
    found["x"] = given.x.grad
    return {name: each.numpy() for name, each in found.items() if each is not None}


def gradients_of_flax(
    operation: Operation, inputs: Sequence[np.ndarray], parameters: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    from flax import nnx

    _, layer = made(operation)
    fill(layer, operation, parameters)
    layer.eval()

    def loss(layer: Any, x: Any) -> Any:
        return (layer(x) ** 2).sum()

    own, by_input = nnx.grad(loss, argnums=(nnx.DiffState(0, nnx.Param), 1))(layer, last(inputs[0]))
    found = {"x": first(by_input)}
    for parameter in operation.parameters:
        name, axes = VARIABLES[operation.primitive.name, parameter.name]
        if name in own:
            found[parameter.name] = np.asarray(own[name][...]).transpose(np.argsort(axes))
    return found


@pytest.mark.flax
@pytest.mark.torch
@pytest.mark.parametrize("name", LEARNED)
def test_gradients(name: str) -> None:
    layers, expected = ALL[name]
    operation = operation_of(layers, 8, 7)
    inputs, parameters = given_to(operation)
    found = gradients_of_flax(operation, inputs, parameters)
    wanted = gradients_of_torch(expected, inputs, parameters)
    trained = {each.name for each in operation.parameters if each.trainable}
    assert found.keys() == {"x", *trained}
    for each in found:
        assert parity.difference(found[each], wanted[each]) < 1e-12, each


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.flax
def test_no_layer_may_have_the_name_of_a_method() -> None:
    """Flax adds methods from time to time; each would be hidden by a layer of its name."""
    from flax import nnx

    def public(owner: type) -> set[str]:
        return {name for name in dir(owner) if not name.startswith("_")}

    set_by_them = {"deterministic", "use_running_average"}  # by `train` and `eval`
    assert public(nnx.Module) | set_by_them == names.MODULE_NAMES
    assert public(nnx.Dict) - public(nnx.Module) == names.DICT_NAMES
    assert public(nnx.List) - public(nnx.Module) == names.LIST_NAMES
