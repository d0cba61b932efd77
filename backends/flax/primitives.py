"""How each primitive is written in Flax NNX: a layer in the constructor, a call in `__call__`.

PyTorch's semantics are canonical: numeric padding is on every side, while Flax's default is
TensorFlow's `"SAME"`. Maps are (N, H, W, C), so channels are the last axis.

A kernel size is always a tuple: with a number, `nnx.Conv` convolves along the columns only, and the
output may still have the right shape.

Nothing uses `jnp.max` or `jnp.maximum`: their gradients go to the elements equal to the result, but
in compiled code XLA may compute a value twice with different rounding, so that none is equal.

Patterns are those of resnet_spec/codegen/patterns.py.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from resnet_spec.backends.flax.shared import Shared, option
from resnet_spec.codegen.layout import Code, flat
from resnet_spec.codegen.operation import OperationContext, Rule, where
from resnet_spec.expressions import Const, binary, to_python
from resnet_spec.primitives import SAME


@dataclass
class Context(OperationContext):
    """One operation; `shared` are constructors that the module has with arguments of its own."""

    shared: Mapping[str, Shared] = field(default_factory=dict)
    exact: bool = False  # every number as PyTorch has it

    def made(self, arguments: str = "") -> Code:
        """The layer of a primitive that has parameters, with what Flax would not do by itself."""
        shared = self.shared[self.line.primitive.name]
        options = "".join(
            f", {name}={flat(option(value, self.spelling))}"
            for name, value in shared.of(self.line, self.exact).items()
        )
        return self.fill(f"{shared.function}({arguments}{options}, rngs=rngs)".replace("(, ", "("))


# --- windows -------------------------------------------------------------------------------------


def _conv(op: Context) -> Code:
    # Flax pads by the size, as TensorFlow does, unless it is told otherwise. A window of one cell
    # stands in every cell, however it is padded.
    unsaid = op.has("padding", SAME) or (op.has("kernel", 1) and op.has("padding", 0))
    return op.made(
        "{channels}, {filters}, ({kernel}, {kernel}), strides={stride?1}"
        f"{'' if unsaid else ', padding={padding}'}"
        ", kernel_dilation={dilation?1}, feature_group_count={groups?1}"
    )


def _pool_options(op: Context) -> str:
    """The arguments of a pooling beside its window."""
    # Flax's own default is one, not the window.
    options = "" if op.has("stride", 1) else ", strides=({stride}, {stride})"
    average = op.line.primitive.name == "avg_pool"
    # An average's window of two, the only one that may be cut off, is as one by the size.
    if op.has("padding", SAME) or (average and op.has("ceil", True)):
        options += ', padding="SAME"'
    elif (far := _far_padding(op)) is not None:
        options += f", padding=(({{padding}}, {far}), ({{padding}}, {far}))"
    else:
        return options
    return f"{options}, count_include_pad=False" if average and "SAME" in options else options


def _far_padding(op: Context) -> str | None:
    """What is padded after the rows and the columns; None where nothing is on any side."""
    far = op.expr("padding")
    if op.has("ceil", True):
        # The last window may stick out by up to stride - 1.
        far = binary("+", far, binary("-", op.expr("stride"), Const(1)))
    if op.expr("padding") == far == Const(0):
        return None
    return to_python(far, op.spelling)


def _pool(function: str) -> tuple[Callable[[Context], Code], Callable[[Context], Code]]:
    window = "({kernel}, {kernel})"

    def layer(op: Context) -> Code:
        return op.fill(f"partial({function}, window_shape={window}{_pool_options(op)})")

    def call(op: Context) -> Code:
        return op.fill(f"{function}({{x}}, {window}{_pool_options(op)})")

    return layer, call


_MAX_POOL, _AVG_POOL = _pool("nnx.max_pool"), _pool("nnx.avg_pool")


# --- layers --------------------------------------------------------------------------------------


def _made(arguments: str = "") -> Callable[[Context], Code]:
    return lambda op: op.made(arguments)


# A primitive in this table is a module of its class.
LAYERS: dict[str, Rule] = {
    "conv": _conv,
    "linear": _made("{channels}, {features}"),
    "batch_norm": _made("{channels}"),
    "group_norm": _made("{channels}, {groups}"),
    "filter_response_norm": _made("{channels}"),
    "evo_norm": _made("{channels}, {groups}"),
    "channel_conv": _made("{kernel}"),
    "threshold": "Threshold({channels})",
    "learned_scale": _made(),
    "learned_shift": _made(),
    "dropout": "nnx.Dropout({rate}, rngs=rngs)",
    # One number for each sample: nothing else of the mask is drawn.
    "drop_path": "nnx.Dropout({rate}, broadcast_dims=(1, 2, 3), rngs=rngs)",
}


_AROUND = "((0, 0), ({padding}, {padding}), ({padding}, {padding}), (0, 0))"

# One in this table is an attribute where the spec gives it a name, and a call elsewhere. Flax has
# no classes of them; its own examples keep `nnx.relu` and a `partial` of a pooling.
LAYERS_BY_NAME: dict[str, Rule] = {
    "relu": "nnx.relu",
    "leaky_relu": where(
        "slope", 0.01, "nnx.leaky_relu", "partial(nnx.leaky_relu, negative_slope={slope})"
    ),
    "silu": "nnx.silu",
    "gelu": "partial(nnx.gelu, approximate=False)",
    "sigmoid": "nnx.sigmoid",
    "hard_sigmoid": "nnx.hard_sigmoid",
    "tanh": "nnx.tanh",
    "softmax": "nnx.softmax",
    "max_pool": _MAX_POOL[0],
    "avg_pool": _AVG_POOL[0],
    "blur_pool": "partial(blur_pool, stride={stride})",
    "adaptive_avg_pool": "partial(adaptive_avg_pool, size={size})",
    "zero_pad": f"partial(jnp.pad, pad_width={_AROUND})",
    "flatten": "flatten_channels_first",
    "global_avg_pool": "partial(jnp.mean, axis=(1, 2), keepdims={keep_map?False})",
    "global_max_pool": where(
        "keep_map", True, "partial(global_max_pool, keepdims=True)", "global_max_pool"
    ),
}

_PASSING: dict[str, Rule] = {"identity": "nnx.identity"}

# As members of a sequence, all have to be layers.
MODULES = ChainMap(LAYERS, LAYERS_BY_NAME, _PASSING)


# --- calls ---------------------------------------------------------------------------------------


CALLS: dict[str, Rule] = {
    "relu": "nnx.relu({x})",
    "leaky_relu": "nnx.leaky_relu({x}, negative_slope={slope?0.01})",
    "silu": "nnx.silu({x})",
    "gelu": "nnx.gelu({x}, approximate=False)",
    "sigmoid": "nnx.sigmoid({x})",
    "hard_sigmoid": "nnx.hard_sigmoid({x})",
    "tanh": "nnx.tanh({x})",
    "softmax": where("groups", 0, "nnx.softmax({x})", "softmax_over_groups({x}, {groups})"),
    "max_pool": _MAX_POOL[1],
    "avg_pool": _AVG_POOL[1],
    "blur_pool": "blur_pool({x}, stride={stride})",
    "adaptive_avg_pool": "adaptive_avg_pool({x}, {size})",
    "zero_pad": f"jnp.pad({{x}}, {_AROUND})",
    "flatten": "flatten_channels_first({x})",
    "global_avg_pool": "{x}.mean(axis=(1, 2), keepdims={keep_map?False})",
    "global_max_pool": "global_max_pool({x}, keepdims={keep_map?False})",
    "channel_avg_pool": "{x}.mean(axis=-1, keepdims=True)",
    "channel_max_pool": "channel_max_pool({x})",
    "rescale": "{rescaled}",
    "add": lambda op: op.joined("+", "reduce(jnp.add, {inputs})"),
    "multiply": lambda op: op.joined("*", "reduce(jnp.multiply, {inputs})"),
    "concat": "jnp.concatenate({inputs}, axis=-1)",
    "stack_rows": "jnp.concatenate({inputs}, axis=1)",
    "split": "jnp.split({x}, {parts}, axis=-1)",
    "take": "{x}[..., {slice}]",
    "shuffle": "shuffle_channels({x}, {groups}, {parts})",
    "pad_channels": "jnp.pad({x}, ((0, 0), (0, 0), (0, 0), ({before}, {after})))",
    "subsample": "{x}[:, {step}, {step}]",
    "identity": "{x}",
}
