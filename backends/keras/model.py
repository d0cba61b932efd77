"""A program as Keras functions: one for each block, one for the stages, two that build a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet_spec.backends.keras import helpers
from resnet_spec.backends.keras.primitives import EXACT, RULES, Context, Option
from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.codegen import layout, patterns, python
from resnet_spec.codegen.operation import Rule
from resnet_spec.codegen.statements import StatementWriter
from resnet_spec.expressions import Const, Expr, to_python
from resnet_spec.ir import Network
from resnet_spec.specialize import (
    CallLine,
    FeatureInfo,
    FeatureLine,
    LeftOutLine,
    OperationLine,
    Parameter,
    Path,
    Program,
    Routine,
    Run,
    Value,
    function_names,
)


class Style(NamedTuple):
    """What all functions of a module share."""

    options: Mapping[str, Mapping[str, Option | None]]  # those of each helper function that vary
    names: Mapping[str, str]  # routine: its function's name
    rules: Mapping[str, Rule]


@dataclass
class _Writer(StatementWriter):
    """Writes the lines of one function; `prefixed` tells that layers are named below `name`."""

    style: Style
    prefixed: bool
    spelling: Mapping[str, str] = field(default_factory=dict)

    apart = (FeatureLine, LeftOutLine)

    def operation(self, line: OperationLine) -> layout.Code:
        inputs = [self.value(each) for each in line.inputs]
        name = self.name(line.path)
        op = Context(line, self.spelling, name, self.style.options, inputs=inputs)
        return op.write(self.style.rules)

    def run_call(self, line: CallLine, indent: int) -> list[str]:
        def write(run: Run, source: Value, path: Path, at: int) -> list[str]:
            return self.store(line.output, self.block(run, source, path), at)

        return self.guarded(line, lambda at: self.in_turn(line, write, at), indent)

    def block(self, run: Run, source: Value, path: Path) -> layout.Code:
        given = [(p, value) for p, value in run.arguments if _is_passed(p)]
        positional, keywords = python.passed(given, self.spelling, by_position=1)
        function = self.style.names[run.routine.class_name]
        return layout.call(
            function, self.value(source), *positional, **keywords, name=self.name(path)
        )

    def name(self, path: Path) -> str:
        """A layer's name: its dotted path with `_`, below the block's own."""
        text = layer_name(python.spelled(path, self.spelling))
        return python.literal(f"{{name}}_{text}" if self.prefixed else text)


def _is_passed(parameter: Parameter) -> bool:
    """Whether a function takes a parameter: channels are read off its input."""
    return parameter.name != "in_channels"


def view(program: Program, taken: Collection[str]) -> dict[str, Any]:
    """What the template needs of a program; no function has a name that is taken."""
    network, given = program.network, program.network.input
    backbone, exact = f"{network.name}_features", network.numerics == "exact"
    lines = [line for _, line in program.lines() if isinstance(line, OperationLine)]
    usages = helpers.collect(lines, exact)
    options = {name: usage.varying for name, usage in usages.items()}
    names = function_names(program, {*taken, backbone})
    style = Style(options, names, EXACT if exact else RULES)
    writer = _Writer(style, prefixed=False)
    stages = _assigning("x", program.locals, writer.statements(program.body, 4))
    head = _assigning("inputs", program.locals, writer.statements(program.head, 4))
    declared = python.declared(filter(_is_passed, program.parameters))
    counting = "num_classes" in python.names_in("\n".join(stages))
    shape = f"({given.height}, {given.width}, {given.channels})"
    size = f"input_shape: tuple[int | None, int | None, int] = {shape}"
    return {
        "functions": [
            *(usage.write() for usage in usages.values()),
            *(_function(routine, style) for routine in program.routines),
        ],
        "program": program,
        "stages": stages,
        "counting": counting,  # whether the stages know the number of classes
        "head": head,
        "build": python.signature(f"def {network.name}", [*declared, size], " -> keras.Model:"),
        "docstring": python.docstring(_what_is_built(network), indent=4),
        "build_features": python.signature(
            f"def {backbone}", [*(declared if counting else []), size], " -> keras.Model:"
        ),
        "backbone": patterns.statement(
            f'model = keras.Model(inputs, features, name="{backbone}")', 4
        ),
        "feature_info": _feature_info(program.feature_info),
        "pyramid": _pyramid(program.feature_info),
    }


def _function(routine: Routine, style: Style) -> list[str]:
    """The function of a routine."""
    writer = _Writer(style, prefixed=True)
    writer.result = routine.result.name
    lines = python.returning(
        routine.body, routine.result, lambda each: writer.statements(each, 4), 4
    )
    parameters = python.declared(filter(_is_passed, routine.parameters))
    return [
        *python.signature(
            f"def {style.names[routine.class_name]}",
            ["x: KerasTensor", *parameters, "*", "name: str"],
            " -> KerasTensor:",
        ),
        *python.docstring(routine.description, indent=4),
        *_assigning("x", routine.locals, lines, apart=True),
    ]


def _assigning(
    images: str, values: Sequence[tuple[str, Expr]], lines: Sequence[str], apart: bool = False
) -> list[str]:
    """The lines of a function, which reads its number of channels off its input."""
    channels = ("in_channels", f"{images}.shape[-1]")
    return python.assigning([channels, *((n, to_python(v)) for n, v in values)], lines, apart)


def _what_is_built(network: Network) -> str:
    """For the docstring, with what a network needs that is deeper than Python usually recurses.

    `keras.Model` goes back from the output, a call for each layer (keras/src/ops/function.py).
    """
    layers = 2 * network.root.size  # each operation may come with a layer that pads for it
    limit = f", after sys.setrecursionlimit({(layers // 1000 + 2) * 1000})"
    return f"Build {network.name} with random weights{limit if layers >= 1200 else ''}"


def _feature_info(maps: Sequence[FeatureInfo]) -> list[str]:
    """The feature maps of a backbone, as its attribute.

    The names are keys of its output, and before the stages those of layers, as Keras has them.
    """

    def channels(each: FeatureInfo) -> str:
        if isinstance(each.channels, Const):
            return to_python(each.channels)
        return f"{_map(each)}.shape[-1]"  # follows from the arguments

    named = [
        each if each.layer is None else each._replace(name=layer_name(each.layer)) for each in maps
    ]
    entries = python.feature_info(named, channels)
    return layout.statement("model.feature_info = ", entries, indent=4)


def _pyramid(maps: Sequence[FeatureInfo]) -> list[str]:
    """The last map at each stride 2**n, under the name that KerasHub has for it: `Pn`."""
    last = {each.stride.bit_length() - 1: each for each in maps if each.stride.bit_count() == 1}
    entries = tuple(("", f'"P{level}": {_map(each)}') for level, each in last.items())
    pyramid = layout.Bracket("{", entries, "}", display=True)
    return layout.statement("model.pyramid_outputs = ", pyramid, indent=4)


def _map(info: FeatureInfo) -> str:
    if info.layer is None:
        return f'features["{info.name}"]'
    return f'model.get_layer("{layer_name(info.layer)}").output'
