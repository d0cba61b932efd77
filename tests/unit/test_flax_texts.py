"""The texts of the Flax backend: what stands in a layer, what is said once for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from resnet_spec.backends.flax import primitives, shared
from resnet_spec.backends.flax.primitives import Context
from resnet_spec.codegen.layout import flat
from resnet_spec.expressions import Const, Name
from resnet_spec.primitives import PRIMITIVES, SAME, Initializer
from resnet_spec.specialize import OperationLine, Value

USUAL: dict[str, dict[str, Any]] = {
    "conv": {
        "filters": 8, "kernel": 3, "stride": 1, "padding": 1, "dilation": 1, "groups": 1,
        "bias": False, "init": Initializer("he_normal", "fan_out"),
        "bias_init": Initializer("zeros"), "standardize": False, "eps": 1e-6,
    },
    "linear": {
        "features": 5, "bias": True, "init": Initializer("normal", 0.01),
        "bias_init": Initializer("zeros"),
    },
    "batch_norm": {"eps": 1e-5, "momentum": 0.1, "init": Initializer("ones")},
    "group_norm": {"groups": 4, "eps": 1e-5, "init": Initializer("ones")},
    "max_pool": {"kernel": 3, "stride": 2, "padding": 1, "ceil": False},
    "avg_pool": {"kernel": 2, "stride": 2, "padding": 0, "ceil": False},
    "leaky_relu": {"slope": 0.01},
    "gelu": {},
    "drop_path": {"rate": 0.2},
    "global_avg_pool": {"keep_map": False},
    "learned_scale": {"init": Initializer("ones")},
    "channel_conv": {"kernel": 3, "init": Initializer("he_normal", "fan_out")},
    "split": {"parts": 4},
    "add": {},
}  # fmt: skip


def line(primitive: str, **others: Any) -> OperationLine:
    given = {**USUAL[primitive], **others}
    attributes = {
        name: Const(value) if isinstance(value, int | float) else value
        for name, value in given.items()
    }
    made = PRIMITIVES[primitive]
    return OperationLine(made, attributes, ("one",), (Value("x"),), (Const(16),), Value("x"))


def text(each: OperationLine, made: Mapping[str, shared.Shared] | None = None) -> str:
    found = shared.collect([each], exact=False) if made is None else made
    return flat(Context(each, {}, found).write(primitives.MODULES))


HE = 'nnx.initializers.variance_scaling(2.0, "fan_out", "normal")'


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (line("conv"),
         f"nnx.Conv(16, 8, (3, 3), padding=1, use_bias=False, kernel_init={HE}, rngs=rngs)"),
        (line("conv", kernel=1, padding=0, stride=2, bias=True),
         f"nnx.Conv(16, 8, (1, 1), strides=2, kernel_init={HE}, rngs=rngs)"),
        (line("conv", padding=SAME, stride=2, groups=4, dilation=2, bias=True),
         "nnx.Conv(16, 8, (3, 3), strides=2, kernel_dilation=2, feature_group_count=4, "
         f"kernel_init={HE}, rngs=rngs)"),
        (line("conv", kernel=Name("k"), padding=0, bias=True),
         f"nnx.Conv(16, 8, (k, k), padding=0, kernel_init={HE}, rngs=rngs)"),
        (line("conv", standardize=True, eps=0.1, bias=True),
         f"nnx.Conv(16, 8, (3, 3), padding=1, kernel_init={HE}, "
         "conv_general_dilated=partial(standardized_conv, epsilon=0.1), rngs=rngs)"),
        (line("linear"),
         "nnx.Linear(16, 5, kernel_init=nnx.initializers.normal(0.01), rngs=rngs)"),
        (line("batch_norm"), "nnx.BatchNorm(16, momentum=0.9, rngs=rngs)"),
        (line("batch_norm", momentum=0.01, eps=1e-3, init=Initializer("zeros")),
         "nnx.BatchNorm(16, epsilon=0.001, scale_init=nnx.initializers.zeros, rngs=rngs)"),
        (line("batch_norm", momentum=Name("m")),
         "nnx.BatchNorm(16, momentum=1 - m, rngs=rngs)"),
        (line("group_norm"), "nnx.GroupNorm(16, 4, epsilon=1e-5, rngs=rngs)"),
        (line("max_pool"),
         "partial(nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))"),
        (line("max_pool", ceil=True),
         "partial(nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 2), (1, 2)))"),
        (line("max_pool", padding=0, stride=1), "partial(nnx.max_pool, window_shape=(3, 3))"),
        (line("avg_pool"), "partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))"),
        (line("avg_pool", ceil=True),
         'partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2), padding="SAME", '
         "count_include_pad=False)"),
        (line("leaky_relu"), "nnx.leaky_relu"),
        (line("leaky_relu", slope=0.2), "partial(nnx.leaky_relu, negative_slope=0.2)"),
        (line("gelu"), "partial(nnx.gelu, approximate=False)"),
        (line("drop_path"), "nnx.Dropout(0.2, broadcast_dims=(1, 2, 3), rngs=rngs)"),
        (line("global_avg_pool"), "partial(jnp.mean, axis=(1, 2))"),
        (line("learned_scale"), "LearnedScale(rngs=rngs)"),
        (line("channel_conv"), f"ChannelConv(3, kernel_init={HE}, rngs=rngs)"),
    ],
)  # fmt: skip
def test_a_layer_alone(each: OperationLine, expected: str) -> None:
    assert text(each) == expected


def test_what_most_layers_have_in_common_is_said_once() -> None:
    usual = [line("conv"), line("conv", kernel=1, padding=0)]
    zero = line("conv", init=Initializer("zeros"), bias=True, bias_init=Initializer("ones"))
    norms = [line("batch_norm"), line("batch_norm", init=Initializer("zeros"))]
    found = shared.collect([*usual, zero, *norms, line("linear")], exact=False)
    assert shared.definitions(found, exact=False) == [
        "conv = partial(",
        "    nnx.Conv,",
        "    use_bias=False,",
        f"    kernel_init={HE},",
        ")",
        "batch_norm = partial(nnx.BatchNorm, momentum=0.9)",
    ]
    assert text(usual[1], found) == "conv(16, 8, (1, 1), rngs=rngs)"
    assert text(zero, found) == (
        "conv(16, 8, (3, 3), padding=1, use_bias=True, kernel_init=nnx.initializers.zeros, "
        "bias_init=nnx.initializers.ones, rngs=rngs)"
    )
    assert text(norms[1], found) == "batch_norm(16, scale_init=nnx.initializers.zeros, rngs=rngs)"
    assert text(line("linear"), found).startswith("nnx.Linear(")


def test_a_layer_that_is_usual_where_others_are_not() -> None:
    standard = [line("conv", standardize=True, bias=True)] * 2
    found = shared.collect([*standard, line("conv", bias=True)], exact=False)
    assert found["conv"].stated["conv_general_dilated"] == shared.Standardized(Const(1e-6))
    assert "conv_general_dilated=lax.conv_general_dilated" in text(line("conv", bias=True), found)


def test_an_expression_is_never_shared() -> None:
    varying = [line("batch_norm", momentum=Name("m"), eps=Name("e"))] * 3
    found = shared.collect(varying, exact=False)
    assert shared.definitions(found, exact=False) == []
    assert text(varying[0], found) == "nnx.BatchNorm(16, momentum=1 - m, epsilon=e, rngs=rngs)"


def test_exact_numbers() -> None:
    norms = [line("batch_norm")] * 2
    found = shared.collect(norms, exact=True)
    assert shared.definitions(found, exact=True) == [
        "batch_norm = partial(BatchNorm, momentum=0.9, use_fast_variance=False)"
    ]
    alone = shared.collect(norms[:1], exact=True)
    made = Context(norms[0], {}, alone, exact=True).write(primitives.MODULES)
    expected = "BatchNorm(16, momentum=0.9, use_fast_variance=False, rngs=rngs)"
    assert flat(made) == expected


def test_calls() -> None:
    def call(each: OperationLine, *inputs: str) -> str:
        return flat(Context(each, {}, inputs=inputs).write(primitives.CALLS))

    assert call(line("add"), "x", "y") == "x + y"
    assert call(line("add"), "*parts") == "reduce(jnp.add, parts)"
    assert call(line("add"), "x", "*parts") == "reduce(jnp.add, [x, *parts])"
    assert call(line("split"), "x") == "jnp.split(x, 4, axis=-1)"
    assert call(line("gelu"), "x") == "nnx.gelu(x, approximate=False)"
