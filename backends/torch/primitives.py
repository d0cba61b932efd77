"""How each primitive is written in PyTorch: a module in the constructor, a call in `forward`.

Patterns are those of resnet_spec/codegen/patterns.py.
"""

from resnet_spec.codegen.layout import Code
from resnet_spec.codegen.operation import OperationContext, Rule, initializer_of, where
from resnet_spec.expressions import Const, Expr, substitute
from resnet_spec.language import bind
from resnet_spec.primitives import SAME, Initializer


class Context(OperationContext):
    """One operation; `padding: same` is what stands for it in the layer itself."""

    def expr(self, name: str) -> Expr:
        if name == "inplace":
            return Const(self.line.inplace)
        if self.line.attributes[name] == SAME:
            return self.layer_padding
        return super().expr(name)

    @property
    def layer_padding(self) -> Expr:
        """What stands for `padding: same` in the layer: as much on each side, or nothing.

        No layer of PyTorch can follow the size of the input.
        """
        usual = self.line.primitive.attribute("padding")
        if self.is_padded_by_size or usual is None:
            return Const(0)
        numbers = {key: v for key, v in self.line.attributes.items() if isinstance(v, Expr)}
        return substitute(bind.default_expression(str(usual.default)).expr, numbers)


# --- modules -------------------------------------------------------------------------------------


def _conv(op: Context) -> Code:
    standardized = op.has("standardize", True)
    layer = "StdConv2d" if standardized else "Conv2d"
    if op.is_padded_by_size:
        layer += "Same"
    return op.fill(
        f"{'nn.' if layer == 'Conv2d' else ''}{layer}({{channels}}, {{filters}}, {{kernel}}, "
        "stride={stride?1}, padding={padding?0}, dilation={dilation?1}, groups={groups?1}, "
        f"bias={{bias?True}}{', eps={eps?1e-6}' if standardized else ''})"
    )


def _pool(op: Context) -> Code:
    largest = op.line.primitive.name == "max_pool"
    layer = "MaxPool2d" if largest else "AvgPool2d"
    if op.is_padded_by_size:
        return op.fill(f"{layer}Same({{kernel}}, {{stride}})")
    options = "{kernel}, stride={stride}, padding={padding?0}"
    if largest:
        options += ", ceil_mode={ceil?False}"
    elif op.has("ceil", True):
        # Windows that stick out are averaged over what they cover.
        options += ", ceil_mode=True, count_include_pad=False"
    elif op.has("padding", SAME) and not op.is_default("padding", "0"):
        options += ", count_include_pad=False"
    return op.fill(f"nn.{layer}({options})")


def _global_pool(kind: str) -> Rule:
    pool = f"nn.Adaptive{kind}Pool2d(1)"
    return where("keep_map", True, pool, f"nn.Sequential({pool}, nn.Flatten())")


# A primitive in this table is a module of its class.
LAYERS: dict[str, Rule] = {
    "conv": _conv,
    "linear": "nn.Linear({channels}, {features}, bias={bias?True})",
    "batch_norm": "nn.BatchNorm2d({channels}, eps={eps?1e-5}, momentum={momentum?0.1})",
    "group_norm": "nn.GroupNorm({groups}, {channels}, eps={eps?1e-5})",
    "max_pool": _pool,
    "avg_pool": _pool,
    "blur_pool": "BlurPool(stride={stride})",
    "channel_conv": "ChannelConv({kernel})",
    "filter_response_norm": "FilterResponseNorm({channels}, eps={eps?1e-5})",
    "evo_norm": "EvoNorm({groups}, {channels}, eps={eps?1e-5})",
    "threshold": "Threshold({channels})",
    "learned_scale": "LearnedScale()",
    "learned_shift": "LearnedShift()",
    "adaptive_avg_pool": "nn.AdaptiveAvgPool2d({size})",
    "zero_pad": "nn.ZeroPad2d({padding})",
    "dropout": "nn.Dropout({rate})",
    "drop_path": "DropPath({rate})",
}

# One in this table is a module where the spec gives it a name, and a call in `forward` elsewhere.
LAYERS_BY_NAME: dict[str, Rule] = {
    "relu": "nn.ReLU(inplace={inplace?False})",
    "leaky_relu": "nn.LeakyReLU(negative_slope={slope?0.01}, inplace={inplace?False})",
    "silu": "nn.SiLU()",
    "gelu": "nn.GELU()",
    "sigmoid": "nn.Sigmoid()",
    "hard_sigmoid": "nn.Hardsigmoid()",
    "tanh": "nn.Tanh()",
    "softmax": "nn.Softmax(dim=1)",
    "flatten": "nn.Flatten()",
    "global_avg_pool": _global_pool("Avg"),
    "global_max_pool": _global_pool("Max"),
}

# One in this table is a module as a child of the network, so that the children can be called in a
# row, and an expression elsewhere.
CHILDREN: dict[str, Rule] = {
    "rescale": "Rescale({factor}, offset={offset?0})",
    # A window of one with a stride takes every n-th row and column.
    "subsample": "nn.MaxPool2d(1, stride={stride})",
}

# As members of nn.Sequential, all have to be modules.
MODULES: dict[str, Rule] = {**LAYERS, **LAYERS_BY_NAME, **CHILDREN, "identity": "nn.Identity()"}


# --- calls ---------------------------------------------------------------------------------------


def _split(op: Context) -> Code:
    parts = "{x}.chunk({parts}, dim=1)"
    return op.fill(f"list({parts})" if op.line.grows else parts)


CALLS: dict[str, Rule] = {
    "relu": "F.relu({x}, inplace={inplace?False})",
    "leaky_relu": "F.leaky_relu({x}, negative_slope={slope?0.01}, inplace={inplace?False})",
    "silu": "F.silu({x})",
    "gelu": "F.gelu({x})",
    "sigmoid": "torch.sigmoid({x})",
    "hard_sigmoid": "F.hardsigmoid({x})",
    "tanh": "torch.tanh({x})",
    "softmax": where("groups", 0, "F.softmax({x}, dim=1)", "softmax_over_groups({x}, {groups})"),
    "global_avg_pool": "{x}.mean(dim=(2, 3), keepdim={keep_map?False})",
    "global_max_pool": "{x}.amax(dim=(2, 3), keepdim={keep_map?False})",
    "channel_avg_pool": "{x}.mean(dim=1, keepdim=True)",
    "channel_max_pool": "{x}.amax(dim=1, keepdim=True)",
    "rescale": "{rescaled}",
    "flatten": "{x}.flatten(1)",
    "add": lambda op: op.joined("+", "torch.stack({inputs}).sum(dim=0)"),
    "multiply": lambda op: op.joined("*", "reduce(torch.mul, {inputs})"),
    "concat": "torch.cat({inputs}, dim=1)",
    "stack_rows": "torch.cat({inputs}, dim=2)",
    "split": _split,
    "take": "{x}[:, {slice}]",
    "shuffle": "shuffle_channels({x}, {groups}, {parts})",
    "pad_channels": "F.pad({x}, (0, 0, 0, 0, {before}, {after}))",
    "subsample": "{x}[:, :, {step}, {step}]",
    "identity": "{x}",
}


# --- initialisation ------------------------------------------------------------------------------

# A statement that fills a tensor. Of its axes (out, in, height, width) a fan leaves one of the
# first two out; the gain of a leaky ReLU of slope sqrt(5) is sqrt(1/3).
INITIALIZERS = {
    "zeros": "nn.init.zeros_({tensor})",
    "ones": "nn.init.ones_({tensor})",
    "constant": "nn.init.constant_({tensor}, {value})",
    "normal": "nn.init.normal_({tensor}, std={value})",
    "fan_in_normal": "nn.init.normal_({tensor}, std=({value} / {tensor}[0].numel()) ** 0.5)",
    "fan_out_normal": "nn.init.normal_({tensor}, std=({value} / {tensor}[:, 0].numel()) ** 0.5)",
    "he_normal": 'nn.init.kaiming_normal_({tensor}, mode={value}, nonlinearity="relu")',
    "he_uniform": 'nn.init.kaiming_uniform_({tensor}, mode={value}, nonlinearity="relu")',
    "lecun_uniform": "nn.init.kaiming_uniform_({tensor}, a=5**0.5, mode={value?'fan_in'})",
}


def initializer(given: Initializer, tensor: str) -> Code:
    """A statement that fills `tensor`."""
    return initializer_of(INITIALIZERS, given, tensor=tensor)


# module class of a primitive with parameters: what PyTorch's constructor leaves in them
INITIALIZED: dict[str, tuple[str, dict[str, str]]] = {
    "conv": ("nn.Conv2d", {"init": "weight", "bias_init": "bias"}),
    "linear": ("nn.Linear", {"init": "weight", "bias_init": "bias"}),
    "channel_conv": ("ChannelConv", {"init": "weight"}),
    "batch_norm": ("nn.BatchNorm2d", {"init": "weight"}),
    "group_norm": ("nn.GroupNorm", {"init": "weight"}),
    "filter_response_norm": ("FilterResponseNorm", {"init": "weight"}),
    "evo_norm": ("EvoNorm", {"init": "weight"}),
    "learned_scale": ("LearnedScale", {"init": "weight"}),
    "learned_shift": ("LearnedShift", {"init": "bias"}),
}
# Norms come out of their constructor with a scale of one.
NORMS = ("batch_norm", "group_norm", "filter_response_norm", "evo_norm")
ALREADY = {
    **{(norm, "init"): "ones" for norm in NORMS},
    ("learned_scale", "init"): "ones",
    ("learned_shift", "init"): "zeros",
}
