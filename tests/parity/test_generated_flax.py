"""Generated Flax models: their names, numbers and values, and how they are trained and frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import parity
import pytest

from resnet_spec.ir import Network
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower

pytestmark = pytest.mark.flax

# JAX compiles each operation anew for each shape, so these are the ones with few of them; each
# primitive alone is in test_flax_primitives.py.
QUICK = {"highway", "option_a", "preact", "weighted"}
SPECS = [
    pytest.param(str(path), marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem)
    for path in sorted(parity.SPECS.glob("*.yaml"))
]


def smallest_of_each_family() -> list[str]:
    found: dict[str, str] = {}
    networks = (parity.network_of(name) for name in builtin_specs())
    for network in sorted(networks, key=lambda each: each.root.parameters):
        found.setdefault(network.family or network.name, network.name)
    return [*found.values()]


@pytest.mark.parametrize("spec", SPECS)
def test_a_network_is_its_definition(spec: str) -> None:
    assert parity.flax_beside_value(parity.network_of(spec)) < 1e-12


@pytest.mark.slow
def test_the_smallest_networks_are_their_definition() -> None:
    for name in smallest_of_each_family():
        network = lower(load(name, Library(), ["input.height=64", "input.width=75"]))
        assert parity.flax_beside_value(network) < 1e-12, name


# What is planted in a text whose counts, names and shapes stay right.
PLANTED = {
    "padding by the size": ("strides=stride, padding=1", "strides=stride"),
    "the order of columns": ("self.avgpool(x)", "self.avgpool(x[..., ::-1])"),
    "an epsilon": ("momentum=0.9", "momentum=0.9, epsilon=1e-4"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found(name: str) -> None:
    network = small()
    right, wrong = PLANTED[name]
    text = parity.source_of(network, "flax")
    assert right in text
    assert parity.flax_beside_value(network) < 1e-12
    assert parity.flax_beside_value(network, text.replace(right, wrong)) > 1e-6


SPEC = """\
spec_version: 1
name: small
description: A small network with small maps, where few values make a variance
input: {channels: 3, height: 16, width: 12}
classes: 5
stem:
  - {conv: conv1, filters: 8, kernel: 3, stride: 2}
  - {norm: bn1}
  - act
stages:
  - {name: layer1, block: basic, filters: 8}
  - {name: layer10, block: basic, filters: 16, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


def small(numerics: str = "idiomatic") -> Network:
    return parity.network_of_text(f"{SPEC}numerics: {numerics}\n")


# --- names and numbers ---------------------------------------------------------------------------


def abstract(network: Network) -> Any:
    """A model without arrays."""
    from flax import nnx

    module = parity.module_of(network, "flax")
    return nnx.eval_shape(lambda: getattr(module, network.name)(rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("spec", [*SPECS, "resnet18"])
def test_names_and_numbers(spec: str) -> None:
    network = parity.network_of(spec)
    model = abstract(network)
    state = parity.flax_state(model)
    assert state.keys() == {path for path, _ in parity.flax_variables(network).values()}
    assert parity.flax_counts(model) == parity.ir_counts(network)
    assert {str(each.dtype) for each in state.values()} == {"float32"}, Path(spec).stem


@pytest.mark.slow
def test_names_and_numbers_of_the_smallest_networks() -> None:
    for name in smallest_of_each_family():
        test_names_and_numbers(name)


def test_arrays_are_of_single_precision_where_there_are_doubles() -> None:
    with parity.jax_float64():
        model = abstract(parity.network_of(parity.SPECS / "gallery.yaml"))
    assert {str(each.dtype) for each in parity.flax_state(model).values()} == {"float32"}


def test_a_compiled_model_is_the_model() -> None:
    """Twice through `nnx.jit`, which sorts the attributes of a model by name."""
    import jax
    from flax import nnx

    network = small()
    weights = parity.weights_of(network)
    model = parity.flax_model(network, {k: v.astype("float32") for k, v in weights.items()})
    images = parity.images(2, 3, 16, 12).astype("float32")
    expected = parity.flax_outputs(model, images)["logits"]
    images = np.moveaxis(images, 1, -1)

    @nnx.jit
    def run(model: Any, images: jax.Array) -> jax.Array:
        logits: jax.Array = model(images)
        return logits

    for _ in range(2):
        assert parity.difference(np.asarray(run(model, images)), np.asarray(expected)) < 1e-5


def test_images_in_the_order_of_pytorch_are_an_error() -> None:
    """As docs/flax.md says."""
    from flax import nnx

    network = small()
    with pytest.raises(ValueError, match="conv_general_dilated lhs feature dimension size"):
        nnx.eval_shape(lambda model: model(np.zeros((2, 3, 16, 12))), abstract(network))


# --- half precision ------------------------------------------------------------------------------


def halved(model: Any) -> Any:
    """The model, with every layer that has a `dtype` computing in bfloat16."""
    import jax.numpy as jnp
    from flax import nnx

    for _, module in nnx.iter_graph(model):
        if isinstance(module, nnx.Module) and hasattr(module, "dtype"):
            module.dtype = jnp.bfloat16
    return model


def equations(program: Any) -> Iterator[Any]:
    """Every operation of a program of JAX, those of inner programs too."""
    for equation in program.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from equations(value.jaxpr)


@pytest.mark.parametrize("spec", SPECS)
def test_every_product_is_in_half_precision_and_the_state_is_not(spec: str) -> None:
    import jax
    from flax import nnx

    network = parity.network_of(spec)
    model = abstract(network)
    halved(model).train()
    definition, state = nnx.split(model)
    leaves, tree = jax.tree.flatten(state)

    def run(images: Any, *leaves: Any) -> Any:
        model = nnx.merge(definition, jax.tree.unflatten(tree, leaves))
        return model(images), [each[...] for each in parity.flax_state(model).values()]

    channels, height, width = network.input.dimensions
    images = jax.ShapeDtypeStruct((2, height, width, channels), "float32")
    program = jax.make_jaxpr(run)(images, *leaves)
    products = [
        each
        for each in equations(program.jaxpr)
        if each.primitive.name in ("conv_general_dilated", "dot_general")
    ]
    assert products
    assert {str(v.aval.dtype) for each in products for v in each.invars} == {"bfloat16"}
    logits, *kept = program.out_avals
    assert logits.dtype == "bfloat16"
    assert {str(each.dtype) for each in kept} == {"float32"}


def test_half_precision_is_rounded_and_no_more() -> None:
    network = small()
    weights = {k: v.astype("float32") for k, v in parity.weights_of(network).items()}
    images = parity.images(2, 3, 16, 12).astype("float32")
    models = (parity.flax_model(network, weights), halved(parity.flax_model(network, weights)))
    whole, half = (
        np.asarray(parity.flax_outputs(model, images)["logits"], "float32") for model in models
    )
    assert 1e-4 < parity.difference(half, whole) < 3e-2


# --- training ------------------------------------------------------------------------------------


def step(model: Any, trained: Any, images: np.ndarray, wanted: np.ndarray) -> None:
    """One step of plain gradient descent on what a filter lets through, compiled."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    @nnx.jit
    def gradients_of(model: Any) -> Any:
        def loss_of(model: Any) -> Any:
            return jnp.square(model(np.moveaxis(images, 1, -1)) - wanted).mean()

        return nnx.grad(loss_of, argnums=nnx.DiffState(0, trained))(model)

    model.train()
    moved = jax.tree.map(lambda value: -0.05 * value, gradients_of(model))
    state = parity.flax_state(model)
    for path, gradient in nnx.to_flat_state(moved):
        variable = state[".".join(map(str, path))]
        variable.set_value(variable[...] + gradient[...])


def values(model: Any) -> dict[str, np.ndarray]:
    return {name: np.array(each[...]) for name, each in parity.flax_state(model).items()}


def torch_step(model: Any, images: np.ndarray, wanted: np.ndarray) -> None:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = model.train()(parity.tensor(images, model))
    torch.nn.functional.mse_loss(found, parity.tensor(wanted, model)).backward()
    optimizer.step()


def stepped(numerics: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What one step makes of the same weights in PyTorch and in Flax, by PyTorch's names."""
    from flax import nnx

    network = small(numerics)
    weights = parity.weights_of(network)
    images, wanted = parity.images(2, 3, 16, 12), parity.images(2, 5)
    torch_model = parity.build(network, "torch").double()
    torch_model.load_state_dict({k: parity.tensor(v) for k, v in weights.items()}, strict=False)
    torch_step(torch_model, images, wanted)
    with parity.jax_float64():
        model = parity.flax_model(network, weights)
        step(model, nnx.Param, images, wanted)
        found = values(model)
    return {k: v.numpy() for k, v in torch_model.state_dict().items()}, renamed(network, found)


def renamed(network: Network, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: found[path].transpose(np.argsort(axes))
        for name, (path, axes) in parity.flax_variables(network).items()
    }


slow = pytest.mark.slow


@pytest.mark.torch
@pytest.mark.parametrize("numerics", ["exact", pytest.param("idiomatic", marks=slow)])
def test_a_step_makes_the_same_weights_and_exact_statistics(numerics: str) -> None:
    ours, theirs = stepped(numerics)
    for name, value in theirs.items():
        apart = parity.difference(value, ours[name])
        biased = numerics == "idiomatic" and name.endswith("running_var")
        assert apart > 1e-4 if biased else apart < 1e-12, name


@pytest.mark.parametrize(
    "until", [pytest.param("conv1", marks=slow), "layer10", pytest.param("fc", marks=slow)]
)
def test_a_step_moves_what_is_not_frozen(until: str) -> None:
    """`layer1` is frozen without `layer10`, and the other way round."""
    from flax import nnx

    network = small()
    with parity.jax_float64():
        model = parity.flax_model(network, parity.weights_of(network))
        trained = model.freeze_until(until)
        copied = nnx.clone(model)
        before = values(model)
        for each in (model, copied):
            step(each, trained, parity.images(2, 3, 16, 12), parity.images(2, 5))
            order = ["conv1", "bn1", "layer1", "layer10", "fc"]
            frozen = order[: order.index(until)]
            for name, value in values(each).items():
                stays = name.split(".")[0] in frozen
                assert np.array_equal(value, before[name]) == stays, name


def test_freezing_keeps_the_mode() -> None:
    model = abstract(small())
    norms = (model.bn1, model.layer1.bn1, model.layer10.bn1)

    def evaluating() -> list[bool]:
        return [norm.use_running_average for norm in norms]

    model.eval()
    model.freeze_until("layer10")
    assert evaluating() == [True, True, True]
    model.train()
    assert evaluating() == [True, True, False]
    model.freeze_until("layer1")
    assert evaluating() == [True, False, False]
    model.eval()
    model.freeze_until("conv1")
    assert evaluating() == [True, True, True]
    model.train()
    assert evaluating() == [False, False, False]


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(ValueError, match="there is no layer 'layer9'"):
        abstract(small()).freeze_until("layer9")


# --- maxima --------------------------------------------------------------------------------------


@pytest.mark.parametrize("helper", ["channel_max_pool", "global_max_pool", "Threshold"])
def test_a_compiled_maximum_has_the_gradient_of_a_maximum(helper: str) -> None:
    """With `jnp.max` in the helper's place they are up to a seventh apart, in JAX 0.10.2."""
    import flax_layers
    import jax
    import jax.numpy as jnp

    found = flax_layers.space()[helper]
    maximum = found(64) if helper == "Threshold" else found

    def loss(x: Any, scale: Any, gate: Any) -> Any:
        y = (x - x.mean((0, 1, 2))) * jax.lax.rsqrt(x.var((0, 1, 2)) + 1e-5) * scale + 0.1
        y = y * gate
        largest = maximum(y).reshape(len(y), -1)
        return y.sum() * largest.sum() + jnp.square(largest).sum()

    generator = np.random.default_rng(0)
    given = [generator.standard_normal(shape) for shape in ((2, 16, 19, 64), 64, (2, 1, 1, 64))]
    with parity.jax_float64():
        gradients = jax.grad(loss, argnums=(0, 1, 2))
        for one, other in zip(gradients(*given), jax.jit(gradients)(*given), strict=True):
            assert parity.difference(np.asarray(one), np.asarray(other)) < 1e-12
