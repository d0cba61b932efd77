"""One use of each primitive and more, with what PyTorch's own functions make of the same numbers.

The functions of PyTorch are called here as its documentation has them: neither a backend nor what
it writes takes part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import parity

from resnet_spec.ir import Operation

SIZES = ((13, 10), (8, 7), (16, 16))  # odd and even, oblong and square

SPEC = """\
spec_version: 1
name: small
description: A head of some layers, of which the last is looked at
input: {{channels: 8, height: {height}, width: {width}}}
classes: 5
blocks:
  same:
    description: Nothing
    layers:
      - {{identity: same}}
stages:
  - {{name: stage, block: same}}
head:
{layers}
"""


def operation_of(layers: Sequence[str], height: int = 13, width: int = 10) -> Operation:
    """The last operation of some layers on a map of 8 channels, but for one that ends a network."""
    ended = [*layers, "concat: part"] if layers[-1].startswith("split") else layers
    lines = "\n".join(f"  - {{{layer}}}" for layer in ended)
    network = parity.network_of_text(SPEC.format(layers=lines, height=height, width=width))
    return list(network.operations())[len(layers) - len(ended) - 1][1]


class Given(NamedTuple):
    """The same numbers for PyTorch: inputs, and parameters by name."""

    inputs: list[Any]
    parameters: dict[str, Any]

    @property
    def x(self) -> Any:
        return self.inputs[0]

    def channels(self, name: str) -> Any:
        return self.parameters[name][:, None, None]

    def affine(self, x: Any) -> Any:
        return x * self.channels("weight") + self.channels("bias")


Expected = Callable[[Given], Any]


def given_to(operation: Operation) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Inputs (3, C, …) and parameters for one operation, the same at each call."""
    source = np.random.default_rng(0)
    inputs = [2 * source.standard_normal((3, *each.dimensions)) for each in operation.inputs]
    parameters = {
        each.name: source.uniform(0.5, 1.5, each.shape)
        if each.name.startswith("running_var")
        else source.standard_normal(each.shape)
        for each in operation.parameters
    }
    return inputs, parameters


# --- convolutions and poolings -------------------------------------------------------------------


def padded_same(x: Any, kernel: int, stride: int, dilation: int = 1, value: float = 0.0) -> Any:
    """`SAME` as TensorFlow's documentation has it: by what is left of the size over the stride."""
    from torch.nn import functional as F

    extent = (kernel - 1) * dilation + 1
    amounts = []
    for size in (x.shape[3], x.shape[2]):
        total = max(extent - (size % stride or stride), 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts, value=value)


def convolutions() -> Iterator[tuple[str, Expected]]:
    """Layers with what PyTorch makes of them."""
    for kernel, stride, dilation, groups in (
        (1, 1, 1, 1), (1, 2, 1, 1), (2, 2, 1, 1), (3, 1, 1, 1), (3, 2, 1, 1), (3, 3, 1, 2),
        (3, 1, 2, 4), (3, 2, 2, 8), (4, 3, 1, 2), (5, 2, 1, 1), (7, 2, 1, 4),
    ):  # fmt: skip
        sizes = f"filters: 16, kernel: {kernel}, stride: {stride}, dilation: {dilation}"
        layer = f"conv: one, {sizes}, groups: {groups}"
        usual = (kernel - 1) // 2 * dilation
        yield layer, convolved(stride, usual, dilation, groups)
        yield f"{layer}, bias: true, padding: 1", convolved(stride, 1, dilation, groups)
        yield f"{layer}, padding: 0", convolved(stride, 0, dilation, groups)
        yield f"{layer}, padding: same", convolved(stride, "same", dilation, groups)
        yield f"{layer}, standardize: true", convolved(stride, usual, dilation, groups, 1e-6)
        exact = f"{layer}, standardize: true, eps: 0.1, bias: true"
        yield exact, convolved(stride, usual, dilation, groups, 0.1)


def convolved(
    stride: int, padding: int | str, dilation: int, groups: int, eps: float | None = None
) -> Expected:
    def expected(given: Given) -> Any:
        from torch.nn import functional as F

        weight, bias, x = given.parameters["weight"], given.parameters.get("bias"), given.x
        if eps is not None:
            # A layer norm of the filters, without a scale of its own.
            weight = F.layer_norm(weight, weight.shape[1:], eps=eps)
        if padding == "same":
            x = padded_same(x, weight.shape[2], stride, dilation)
        around = 0 if isinstance(padding, str) else padding
        return F.conv2d(x, weight, bias, stride, around, dilation, groups)

    return expected


def poolings() -> Iterator[tuple[str, Expected]]:
    """Layers with what PyTorch makes of them."""
    for kernel, stride in ((1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (4, 2), (5, 3)):
        for pool in ("max_pool", "avg_pool"):
            layer, usual = f"{pool}: one, kernel: {kernel}, stride: {stride}", (kernel - 1) // 2
            yield layer, pooled(pool, kernel, stride, usual)
            yield f"{layer}, padding: 0", pooled(pool, kernel, stride, 0)
            yield f"{layer}, padding: same", pooled(pool, kernel, stride, "same")
        if usual + stride <= kernel:
            yield (
                f"max_pool: one, kernel: {kernel}, stride: {stride}, ceil: true",
                pooled("max_pool", kernel, stride, usual, ceil=True),
            )
    yield "max_pool: one, kernel: 3", pooled("max_pool", 3, 3, 1)
    ceil = "avg_pool: one, kernel: 2, padding: 0, ceil: true"
    yield ceil, pooled("avg_pool", 2, 2, 0, ceil=True)


def pooled(pool: str, kernel: int, stride: int, padding: int | str, ceil: bool = False) -> Expected:
    def expected(given: Given) -> Any:
        import torch
        from torch.nn import functional as F

        if pool == "max_pool":
            if isinstance(padding, str):
                return F.max_pool2d(
                    padded_same(given.x, kernel, stride, 1, -math.inf), kernel, stride
                )
            return F.max_pool2d(given.x, kernel, stride, padding, ceil_mode=ceil)
        if isinstance(padding, str):
            covered = padded_same(torch.ones_like(given.x), kernel, stride)
            sums = F.avg_pool2d(padded_same(given.x, kernel, stride), kernel, stride)
            return sums / F.avg_pool2d(covered, kernel, stride)
        return F.avg_pool2d(given.x, kernel, stride, padding, ceil_mode=ceil)

    return expected


# --- all others ----------------------------------------------------------------------------------


def functional(name: str, *arguments: Any, **options: Any) -> Expected:
    """A function of `torch.nn.functional` on the first input."""

    def expected(given: Given) -> Any:
        from torch.nn import functional as F

        return getattr(F, name)(given.x, *arguments, **options)

    return expected


def normed(name: str, *arguments: Any, **options: Any) -> Expected:
    """A norm of `torch.nn.functional` with its parameters."""
    return lambda given: functional(name, *arguments, **given.parameters, **options)(given)


def _filter_response_norm(eps: float) -> Expected:
    return lambda given: given.affine(given.x / (given.x.square().mean((2, 3), True) + eps).sqrt())


def _evo_norm(groups: int, eps: float) -> Expected:
    """The group norm of x has mean and deviation of its groups; only the deviation is wanted."""

    def expected(given: Given) -> Any:
        import torch

        parts = given.x.chunk(groups, dim=1)
        deviations = [(part.var((1, 2, 3), correction=0) + eps).sqrt() for part in parts]
        divided = [p / d[:, None, None, None] for p, d in zip(parts, deviations, strict=True)]
        gate = torch.sigmoid(given.channels("v") * given.x)
        return given.affine(torch.cat(divided, dim=1) * gate)

    return expected


def _softmax_over_groups(groups: int) -> Expected:
    def expected(given: Given) -> Any:
        import torch

        stacked = torch.stack(given.x.chunk(groups, dim=1)).softmax(dim=0)
        return torch.cat(list(stacked), dim=1)

    return expected


def _blurred(stride: int) -> Expected:
    """The filter of Zhang (2019) as a depthwise convolution."""

    def expected(given: Given) -> Any:
        import torch
        from torch.nn import functional as F

        row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
        kernel = (row[:, None] * row / 16).expand(8, 1, 3, 3)
        x = F.pad(given.x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(x, kernel, stride=stride, groups=8)

    return expected


def _channel_conv(given: Given) -> Any:
    from torch.nn import functional as F

    weight = given.parameters["weight"]
    along = F.conv1d(given.x.flatten(2).transpose(1, 2), weight, padding=weight.shape[2] // 2)
    return along.transpose(1, 2)[..., None]


def _linear(given: Given) -> Any:
    from torch.nn import functional as F

    return F.linear(given.x, given.parameters["weight"], given.parameters.get("bias"))


def _joined(dim: int) -> Expected:
    def expected(given: Given) -> Any:
        import torch

        return torch.cat(given.inputs, dim=dim)

    return expected


def _multiplied(given: Given) -> Any:
    import torch

    return math.prod(given.inputs[1:], start=given.x) + torch.zeros_like(given.x)


def _maximum(given: Given) -> Any:
    import torch

    return torch.maximum(given.x, given.channels("tau"))


POOLED = "global_avg_pool: pooled"
GATE = "global_avg_pool: gate, keep_map: true, as: gate"
PLACE = "channel_avg_pool: place, from: x, as: place"

# By what is looked at: the layers, of which the last is compared, and what PyTorch makes of it.
CASES: dict[str, tuple[list[str], Expected]] = {
    "linear": ([POOLED, "linear: one, features: 6"], _linear),
    "linear without a bias": ([POOLED, "linear: one, features: 6, bias: false"], _linear),
    "batch_norm": (["batch_norm: one"], normed("batch_norm")),
    "epsilon of a batch_norm": (["batch_norm: one, eps: 0.3"], normed("batch_norm", eps=0.3)),
    "group_norm": (["group_norm: one, groups: 4"], normed("group_norm", 4)),
    "one group": (["group_norm: one, groups: 1, eps: 0.2"], normed("group_norm", 1, eps=0.2)),
    "filter_response_norm": (["filter_response_norm: one"], _filter_response_norm(1e-5)),
    "its epsilon": (["filter_response_norm: one, eps: 0.2"], _filter_response_norm(0.2)),
    "evo_norm": (["evo_norm: one, groups: 4"], _evo_norm(4, 1e-5)),
    "evo_norm of one group": (["evo_norm: one, groups: 1, eps: 0.5"], _evo_norm(1, 0.5)),
    "relu": (["relu: one"], functional("relu")),
    "threshold": (["threshold: one"], _maximum),
    "leaky_relu": (["leaky_relu: one"], functional("leaky_relu", 0.01)),
    "its slope": (["leaky_relu: one, slope: 0.3"], functional("leaky_relu", 0.3)),
    "silu": (["silu: one"], functional("silu")),
    "gelu": (["gelu: one"], functional("gelu")),
    "sigmoid": (["sigmoid: one"], functional("sigmoid")),
    "hard_sigmoid": (["hard_sigmoid: one"], functional("hardsigmoid")),
    "tanh": (["tanh: one"], functional("tanh")),
    "activation of a vector": ([POOLED, "silu: one"], functional("silu")),
    "softmax": (["softmax: one"], functional("softmax", dim=1)),
    "softmax of a vector": ([POOLED, "softmax: one"], functional("softmax", dim=1)),
    "softmax over groups": (["softmax: one, groups: 2"], _softmax_over_groups(2)),
    "the same of a vector": ([POOLED, "softmax: one, groups: 4"], _softmax_over_groups(4)),
    "global_avg_pool": (["global_avg_pool: one"], lambda given: given.x.mean((2, 3))),
    "its map": (["global_avg_pool: one, keep_map: true"], functional("adaptive_avg_pool2d", 1)),
    "global_max_pool": (["global_max_pool: one"], lambda given: given.x.amax((2, 3))),
    "the largest as a map": (
        ["global_max_pool: one, keep_map: true"], functional("adaptive_max_pool2d", 1),
    ),
    "channel_avg_pool": (["channel_avg_pool: one"], lambda given: given.x.mean(1, keepdim=True)),
    "channel_max_pool": (["channel_max_pool: one"], lambda given: given.x.amax(1, keepdim=True)),
    "adaptive_avg_pool": (
        ["adaptive_avg_pool: one, size: 5"], functional("adaptive_avg_pool2d", 5),
    ),
    "more parts than cells": (
        ["adaptive_avg_pool: one, size: 11"], functional("adaptive_avg_pool2d", 11),
    ),
    "flatten": (
        ["adaptive_avg_pool: part, size: 3", "flatten: one, height: 3"], lambda g: g.x.flatten(1),
    ),
    "zero_pad": (["zero_pad: one, padding: 2"], functional("pad", (2, 2, 2, 2))),
    "add": (["relu: y, as: y", "add: [x, y, x]"], lambda given: sum(given.inputs)),
    "add of vectors": ([POOLED + ", as: y", "add: [y, y]"], lambda given: sum(given.inputs)),
    "multiply": (["relu: y, as: y", "multiply: [x, y]"], _multiplied),
    "multiply by channel": ([GATE, "multiply: [x, gate]"], _multiplied),
    "multiply by place": ([GATE, PLACE, "multiply: [x, place, gate]"], _multiplied),
    "concat": (
        ["conv: y, filters: 3, kernel: 1, as: y", "concat: [y, x, y]"], _joined(1),
    ),
    "concat of vectors": ([POOLED + ", as: y", "concat: [y, y]"], _joined(1)),
    "stack_rows": ([GATE, "stack_rows: [gate, gate]"], _joined(2)),
    "split": (["split: one, parts: 4, as: part"], lambda given: given.x.chunk(4, dim=1)),
    "take": (["take: one, start: 2, stop: 5"], lambda given: given.x[:, 2:5]),
    "take what follows": (["take: one, start: 3"], lambda given: given.x[:, 3:]),
    "take of a vector": ([POOLED, "take: one, stop: 3"], lambda given: given.x[:, :3]),
    "shuffle": (["shuffle: one, groups: 4, parts: 2"], functional("channel_shuffle", 4)),
    "shuffle of parts": (
        ["shuffle: one, groups: 2, parts: 2"],
        lambda given: given.x[:, [0, 1, 4, 5, 2, 3, 6, 7]],
    ),
    "pad_channels": (
        ["pad_channels: one, before: 2, after: 3"], functional("pad", (0, 0, 0, 0, 2, 3)),
    ),
    "subsample": (["subsample: one, stride: 3"], functional("max_pool2d", 1, 3)),
    "blur_pool": (["blur_pool: one"], _blurred(2)),
    "blur": (["blur_pool: one, stride: 1"], _blurred(1)),
    "channel_conv": ([GATE, "channel_conv: one, kernel: 3"], _channel_conv),
    "wide channel_conv": ([GATE, "channel_conv: one, kernel: 5"], _channel_conv),
    "rescale": (["rescale: one, factor: -0.5, offset: 0.2"], lambda given: 0.2 - given.x / 2),
    "learned_scale": (["learned_scale: one"], lambda given: given.x * given.parameters["weight"]),
    "learned_shift": (["learned_shift: one"], lambda given: given.x + given.parameters["bias"]),
    "dropout": (["dropout: one, rate: 0.5"], functional("dropout", 0.5, training=False)),
    "drop_path": (["drop_path: one, rate: 0.5"], lambda given: given.x),
    "identity": (["identity: one"], lambda given: given.x),
}  # fmt: skip
