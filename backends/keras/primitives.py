"""How each primitive is written in Keras 3: a layer with a name, or a call of `keras.ops`.

PyTorch's semantics are canonical: numeric padding is on every side. Keras' `padding="same"`, which
pads one side more than the other when a stride is greater than one, is `padding: same` in a spec.
Patterns are those of resnet_spec/codegen/patterns.py.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass

from resnet_spec.codegen.layout import Code, flat
from resnet_spec.codegen.operation import OperationContext, Rule, initializer_of, kept, where
from resnet_spec.expressions import Const, Expr, to_python
from resnet_spec.primitives import SAME, Initializer
from resnet_spec.specialize import OperationLine

Option = Expr | Initializer


# Always a new one where it is made: one object would draw the same values twice.
INITIALIZERS = {
    "zeros": '"zeros"',
    "ones": '"ones"',
    "constant": "initializers.Constant({value})",
    "normal": "initializers.RandomNormal(stddev={value})",
    "fan_in_normal": 'initializers.VarianceScaling({value}, "fan_in", "untruncated_normal")',
    "fan_out_normal": 'initializers.VarianceScaling({value}, "fan_out", "untruncated_normal")',
    "he_normal": 'initializers.VarianceScaling(2.0, {value}, "untruncated_normal")',
    "he_uniform": 'initializers.VarianceScaling(2.0, {value}, "uniform")',
    "lecun_uniform": 'initializers.VarianceScaling(1 / 3, {value}, "uniform")',
}


@dataclass
class Context(OperationContext):
    """One operation with its name in Keras."""

    name: str
    options: Mapping[str, Mapping[str, Option | None]]  # of functions: what varies, with defaults

    initializers = INITIALIZERS

    def get(self, name: str) -> str:
        match name:
            case "name":
                return self.name
            case "function":
                return str(function_of(self.line))
            case "options":  # those of the function that are not its defaults
                defaults = self.options[str(function_of(self.line))]
                given = options(self.line).items()
                stated = [(k, v) for k, v in given if k in defaults and v != defaults[k]]
                return ", ".join(f"{k}={text(v, self.spelling)}" for k, v in stated)
        return super().get(name)


def text(option: Option, spelling: Mapping[str, str] | None = None) -> str:
    """An option as Python."""
    if isinstance(option, Initializer):
        return flat(initializer_of(INITIALIZERS, option))
    return to_python(option, spelling)


# --- functions -----------------------------------------------------------------------------------

KEYWORDS = {"eps": "epsilon"}  # attributes that Keras calls otherwise


def function_of(line: OperationLine) -> str | None:
    """The function that writes the layer of an operation; None: it is written as it is."""
    name, padding = line.primitive.name, line.attributes.get("padding")
    padded = padding not in (Const(0), SAME)
    match name:
        case "conv":
            standardized = line.attributes["standardize"] == Const(True)
            usual = "standardized_conv2d" if standardized else "conv2d"
            return f"{usual}_same" if padding == SAME else usual
        case "max_pool" if padded or line.attributes["ceil"] != Const(False):
            # A last window that is cut off is completed by padding.
            return "max_pool" if line.nonnegative else "max_pool_signed"
        case "avg_pool" if padded:
            return "avg_pool"
        case "batch_norm" | "blur_pool" | "channel_conv":
            return name
    return None


def options(line: OperationLine) -> dict[str, Option]:
    """What a function may be given by keyword, by Keras' names."""
    unsaid = ["filters", "kernel"]
    if line.attributes.get("bias") == Const(False):
        unsaid.append("bias_init")
    found = {
        KEYWORDS.get(name, name): value
        for name, value in line.attributes.items()
        if name not in unsaid and not isinstance(value, str)
    }
    if isinstance(momentum := found.get("momentum"), Expr):
        found["momentum"] = kept(momentum)
    return found


# --- rules ---------------------------------------------------------------------------------------


def _pool(layer: str) -> Rule:
    def write(op: Context) -> Code:
        if function_of(op.line):
            return op.fill("{function}({x}, {kernel}, {options}, name={name})")
        same = op.has("padding", SAME)
        stride = "" if op.expr("stride") == op.expr("kernel") else ", strides={stride}"
        # Windows that a padded average's border cuts off are averaged over what they cover, as
        # PyTorch does then.
        padding = ', padding="same"' if same or op.has("ceil", True) else ""
        # Keras on PyTorch puts copies of the border into an average that is padded on one side
        # more than on the other, unless the window has at most size two.
        own = layer.startswith("Average") and op.is_padded_by_size and not op.has("kernel", 2)
        name = "AveragePooling" if own else f"layers.{layer}"
        return op.fill(f"{name}({{kernel}}{stride}{padding}, name={{name}})({{x}})")

    return write


_NORM = "epsilon={eps}, gamma_initializer={init?ones}, name={name})({x})"
_MAP = "keepdims={keep_map?False}, name={name})({x})"

RULES: dict[str, Rule] = {
    "conv": "{function}({x}, {filters}, {kernel}, {options}, name={name})",
    "linear": "layers.Dense({features}, use_bias={bias?True}, kernel_initializer={init}, "
    "bias_initializer={bias_init?zeros}, name={name})({x})",
    "batch_norm": "{function}({x}, {options}, name={name})",
    "group_norm": f"layers.GroupNormalization({{groups}}, {_NORM}",
    "filter_response_norm": f"FilterResponseNorm({_NORM}",
    "evo_norm": f"EvoNorm({{groups}}, {_NORM}",
    "threshold": "Threshold(name={name})({x})",
    "adaptive_avg_pool": "adaptive_avg_pool({x}, {size})",
    "flatten": "flatten_channels_first({x}, name={name})",
    "zero_pad": "layers.ZeroPadding2D({padding}, name={name})({x})",
    "take": "{x}[..., {slice}]",
    "relu": "layers.ReLU(name={name})({x})",
    "leaky_relu": "layers.LeakyReLU(negative_slope={slope}, name={name})({x})",
    "silu": 'layers.Activation("silu", name={name})({x})',
    "gelu": 'layers.Activation("gelu", name={name})({x})',
    "sigmoid": 'layers.Activation("sigmoid", name={name})({x})',
    "hard_sigmoid": 'layers.Activation("hard_sigmoid", name={name})({x})',
    "tanh": 'layers.Activation("tanh", name={name})({x})',
    "softmax": where(
        "groups", 0, "layers.Softmax(name={name})({x})", "softmax_over_groups({x}, {groups})"
    ),
    "max_pool": _pool("MaxPooling2D"),
    "avg_pool": _pool("AveragePooling2D"),
    "global_avg_pool": f"layers.GlobalAveragePooling2D({_MAP}",
    "global_max_pool": f"layers.GlobalMaxPooling2D({_MAP}",
    "channel_avg_pool": "ops.mean({x}, axis=-1, keepdims=True)",
    "channel_max_pool": "ops.max({x}, axis=-1, keepdims=True)",
    "rescale": "{rescaled}",
    "learned_scale": "LearnedScale({init?ones}, name={name})({x})",
    "learned_shift": "LearnedShift({init?zeros}, name={name})({x})",
    "add": "layers.Add(name={name})({inputs})",
    "multiply": "layers.Multiply(name={name})({inputs})",
    "concat": "layers.Concatenate(name={name})({inputs})",
    "stack_rows": "layers.Concatenate(axis=1, name={name})({inputs})",
    "split": "ops.split({x}, {parts}, axis=-1)",
    "shuffle": "shuffle_channels({x}, {groups}, {parts})",
    "pad_channels": "ops.pad({x}, ((0, 0), (0, 0), (0, 0), ({before}, {after})))",
    "blur_pool": "{function}({x}, {options}, name={name})",
    "channel_conv": "{function}({x}, {kernel}, {options}, name={name})",
    # A window of one with a stride takes every n-th row and column.
    "subsample": "layers.MaxPooling2D(1, strides={stride}, name={name})({x})",
    "dropout": "layers.Dropout({rate}, name={name})({x})",
    "drop_path": "layers.Dropout({rate}, noise_shape=(None, 1, 1, 1), name={name})({x})",
    "identity": "{x}",
}

# With every number as PyTorch has it.
EXACT: Mapping[str, Rule] = ChainMap(
    {
        "gelu": "Gelu(name={name})({x})",
        "leaky_relu": "LeakyReLU(negative_slope={slope}, name={name})({x})",
    },
    RULES,
)
