"""The functions at the top of a Keras module: those of functions.py, as a network uses them.

An option with the same value everywhere is written into the function; one that varies is a keyword.
Its default is the usual default of PyTorch and Keras, or else the most frequent value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from resnet_spec.backends.keras.primitives import Option, function_of, options, text
from resnet_spec.codegen.definitions import sources
from resnet_spec.codegen.functions import Function, Use
from resnet_spec.codegen.operation import counted, grouped
from resnet_spec.expressions import Const
from resnet_spec.primitives import Initializer
from resnet_spec.specialize import OperationLine

_SOURCES = sources(Path(__file__).with_name("functions.py"))
FUNCTIONS = _SOURCES | dict.fromkeys(
    ("conv2d_same", "standardized_conv2d", "standardized_conv2d_same"), _SOURCES["conv2d"]
)

# What says nothing, so a call without it reads as it does in both frameworks.
_NEUTRAL = {"stride": Const(1), "padding": Const(0), "dilation": Const(1), "groups": Const(1)}

# What Keras' layers do if nothing is said.
_CONV = {
    **{"strides": "1", "dilation_rate": "1", "groups": "1", "use_bias": "True"},
    **{"padding": '"valid"', "bias_initializer": '"zeros"'},
}
_NORM = {"gamma_initializer": '"ones"'}
_DEFAULTS = {
    **{"layers.Conv2D": _CONV, "StandardizedConv2D": _CONV},
    **{"layers.BatchNormalization": _NORM, "BatchNormalization": _NORM},
}


def collect(lines: Iterable[OperationLine], exact: bool) -> dict[str, Usage]:
    """The helper functions that the lines call."""
    found = grouped(lines, function_of)
    return {name: Usage(name, each, exact) for name, each in found.items()}


class Usage:
    """How one helper function is used; `varying` has the options that vary, with their defaults."""

    def __init__(self, name: str, lines: Sequence[OperationLine], exact: bool) -> None:
        self.name, self.known = name, {"exact": str(exact)}
        varying: dict[str, Option | None] = {}
        counts = counted(pair for line in lines for pair in options(line).items())
        counts.setdefault("bias_init", Counter([Initializer("zeros")]))  # where nothing has a bias
        for each, counter in counts.items():
            constants = [v for v, _ in counter.most_common() if isinstance(v, Const | Initializer)]
            usual = constants[0] if constants else None
            if len(counter) == 1 and usual is not None:
                self.known[each] = text(usual)
            else:
                varying[each] = _NEUTRAL.get(each, usual)
        if self.by_size or not self.pads:
            self.known["same"] = str(self.by_size)
        kernel, *others = {line.attributes.get("kernel") for line in lines}
        passed = {"kernel_size": text(kernel)} if isinstance(kernel, Const) and not others else {}
        self.function = Function(FUNCTIONS[name], Use(self.known, passed, _DEFAULTS))
        self.varying = {k: usual for k, usual in varying.items() if k in self.function.read}

    @property
    def by_size(self) -> bool:
        """Whether padding depends on the size of the input."""
        return self.name.endswith("_same")

    @property
    def pads(self) -> bool:
        """Whether there is an amount of padding."""
        return not self.by_size and self.known.get("padding") != "0"

    def write(self) -> list[str]:
        """The source of the function."""
        defaults = {k: None if v is None else text(v) for k, v in self.varying.items()}
        biased = {"True": " with a bias", "False": " without a bias"}
        by_size = ", with padding that depends on the input size" if self.by_size else ""
        padded = ", symmetrically padded" if self.pads else by_size
        words = {"biased": biased.get(self.known.get("bias", ""), ""), "padded": padded}
        return self.function.written(self.name, defaults, words)
