"""A program as Keras functions: one for each block, one for the stages, two that build a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from resnet_spec.backends.keras import helpers
from resnet_spec.backends.keras.primitives import RULES, Context
from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.statements import StatementWriter
from resnet_spec.expressions import Const, Expr, names, to_python
from resnet_spec.ir import Network
from resnet_spec.specialize import (
    CallLine,
    FeatureInfo,
    FeatureLine,
    OperationLine,
    Parameter,
    Path,
    Program,
    Routine,
    Run,
    Value,
    assigned_names,
)


class Style(NamedTuple):
    """What all functions of a module share."""

    usages: Mapping[str, helpers.Usage]
    functions: Mapping[str, str]  # routine: its function's name
    exact: bool  # every number as PyTorch has it

    @classmethod
    def of(cls, program: Program, taken: Collection[str]) -> Style:
        """How those of a program are written; no function has a name that is taken."""
        lines = [line for _, line in program.lines() if isinstance(line, OperationLine)]
        functions = function_names(program, taken)
        exact = program.network.numerics == "exact"
        return cls(helpers.collect(lines, exact), functions, exact)


def function_names(program: Program, reserved: Collection[str]) -> dict[str, str]:
    """The function of each routine, under a name that no variable hides."""
    name = program.network.name
    taken = {name, f"{name}_features", "i", *reserved, *assigned_names(program)}
    taken.update(name for routine in program.routines for name in assigned_names(routine))
    found = {}
    for routine in program.routines:
        name = routine.name
        while name in taken:
            name += "_block"
        taken.add(name)
        found[routine.class_name] = name
    return found


@dataclass
class _Writer(StatementWriter):
    """Writes the lines of one function; `prefixed` tells that layers are named below `name`."""

    style: Style
    prefixed: bool
    spelling: Mapping[str, str] = field(default_factory=dict)

    apart = (FeatureLine,)

    def operation(self, line: OperationLine) -> layout.Code:
        functions = {name: usage.varying for name, usage in self.style.usages.items()}
        inputs = [self.value(each) for each in line.inputs]
        name = self.name(line.path)
        op = Context(line, self.spelling, name, functions, self.style.exact, inputs=inputs)
        return op.write(RULES)

    def run_call(self, line: CallLine, indent: int) -> list[str]:
        def write(run: Run, source: Value, path: Path, at: int) -> list[str]:
            return self.store(line.output, self.block(run, source, path), at)

        return self.guarded(line, lambda at: self.in_turn(line, write, at), indent)

    def block(self, run: Run, source: Value, path: Path) -> layout.Code:
        positional, keywords = python.passed(_shown(run.arguments), self.spelling, by_position=1)
        function = self.style.functions[run.routine.class_name]
        return layout.call(
            function, self.value(source), *positional, **keywords, name=self.name(path)
        )

    def name(self, path: Path) -> str:
        """A layer's name: its dotted path with `_`, below the block's own."""
        text = python.spelled(path, self.spelling).replace(".", "_")
        return python.literal(f"{{name}}_{text}" if self.prefixed else text)


def _shown(arguments: Iterable[tuple[Parameter, Expr]]) -> list[tuple[Parameter, Expr]]:
    """The arguments that a function takes: channels are read off its input."""
    return [(p, value) for p, value in arguments if p.name != "in_channels"]


class FunctionView(NamedTuple):
    """What the template needs of one function."""

    signature: list[str]
    docstring: list[str]
    body: list[str]


def function_view(routine: Routine, style: Style) -> FunctionView:
    """The function of a routine."""
    writer = _Writer(style, prefixed=True)
    lines = python.returning(
        routine.body, routine.result, lambda each: writer.statements(each, 4), 4
    )
    body = _read(lines, routine.locals, "x")
    if body:
        body.append("")
    parameters = [p for p in routine.parameters if p.name != "in_channels"]
    declared = python.declared(parameters)
    signature = python.signature(
        f"def {style.functions[routine.class_name]}",
        ["x: KerasTensor", *declared, "*", "name: str"],
        " -> KerasTensor:",
    )
    return FunctionView(signature, python.docstring(routine.description, indent=4), [*body, *lines])


def _read(lines: Sequence[str], locals_: Sequence[tuple[str, Expr]], images: str) -> list[str]:
    """The values that the lines of a function read, assigned before them."""
    used = _used(lines, locals_)
    text = [f"    in_channels = {images}.shape[-1]"] if "in_channels" in used else []
    for name, value in locals_:
        if name in used:
            text += layout.statement(f"{name} = ", to_python(value), indent=4)
    return text


# What a network's functions are given as numbers, or read off their input.
ARGUMENTS = ("in_channels", "num_classes")


def _used(lines: Sequence[str], locals_: Sequence[tuple[str, Expr]]) -> set[str]:
    """The names that lines read, and those that the values among them stand on."""
    text = "\n".join(lines)
    if not any(name in text for name in (*ARGUMENTS, *(name for name, _ in locals_))):
        return set()
    found = set(python.names_in(text))
    for name, value in reversed(locals_):
        if name in found:
            found |= names(value)
    return found


class NetworkView(NamedTuple):
    """What the template needs of the network."""

    stages_signature: list[str]
    stages: list[str]
    stages_call: str
    backbone: list[str]
    feature_info: list[str]
    pyramid: list[str]
    features: str
    head: list[str]
    result: str
    name: str
    last_stage: str
    build: list[str]
    build_docstring: list[str]
    build_features: list[str]


def network_view(program: Program, style: Style) -> NetworkView:
    """The functions that build the network."""
    network, given = program.network, program.network.input
    shape = f"({given.height}, {given.width}, {given.channels})"
    size = f"input_shape: tuple[int | None, int | None, int] = {shape}"
    classes = [p for p in program.parameters if p.name != "in_channels"]
    declared = [f"{p.name}: int = {p.default}" for p in classes]
    # Stages that know the number of classes are given it.
    writer = _Writer(style, prefixed=False)
    stages, head = writer.statements(program.body, 4), writer.statements(program.head, 4)
    used = _used(stages, program.locals)
    given_on = [p.name for p in classes if p.name in used]
    needed = [text for p, text in zip(classes, declared, strict=True) if p.name in used]
    stages_call = f"stages({', '.join(['inputs', *given_on])})"
    features = layout.call("keras.Model", "inputs", "features", name=f'"{network.name}_features"')
    return NetworkView(
        stages_signature=python.signature(
            "def stages",
            ["x: KerasTensor", *(f"{name}: int" for name in given_on)],
            " -> dict[str, KerasTensor]:",
        ),
        stages=[*_read(stages, program.locals, "x"), *stages],
        stages_call=stages_call,
        backbone=layout.statement("model = ", features, "", 4),
        feature_info=_feature_info(program),
        pyramid=_pyramid(program),
        features=program.features.name,
        head=[*_read(head, program.locals, "inputs"), *head],
        result=program.result.name,
        name=network.name,
        last_stage=network.stages[-1].name,
        build=python.signature(f"def {network.name}", [*declared, size], " -> keras.Model:"),
        build_docstring=python.docstring(_what_is_built(network), indent=4),
        build_features=python.signature(
            f"def {network.name}_features", [*needed, size], " -> keras.Model:"
        ),
    )


def _feature_info(program: Program) -> list[str]:
    """The feature maps of a backbone, as its attribute."""

    def channels(each: FeatureInfo) -> str:
        if isinstance(each.channels, Const):
            return to_python(each.channels)
        return f"{_map(each)}.shape[-1]"  # follows from the arguments

    entries = python.feature_info(program.feature_info, channels)
    return layout.statement("model.feature_info = ", entries, indent=4)


def _pyramid(program: Program) -> list[str]:
    """The last map at each stride 2**n, under the name that KerasHub has for it: `Pn`."""
    maps = {each.stride: each for each in program.feature_info}
    entries = []
    for stride, each in maps.items():
        level = stride.bit_length() - 1
        if stride == 2**level:
            entries.append(("", f'"P{level}": {_map(each)}'))
    pyramid = layout.Bracket("{", tuple(entries), "}", display=True)
    return layout.statement("model.pyramid_outputs = ", pyramid, indent=4)


def _map(info: FeatureInfo) -> str:
    if info.layer is None:
        return f'features["{info.name}"]'
    return f'model.get_layer("{layer_name(info.layer)}").output'


def _what_is_built(network: Network) -> str:
    """For the docstring, with what a network needs that is deeper than Python usually recurses.

    `keras.Model` goes back from the output, a call for each layer (keras/src/ops/function.py).
    """
    what = f"Build {network.name} with random weights"
    layers = 2 * network.root.size  # each operation may come with a layer that pads for it
    if layers < 1200:
        return what
    return f"{what}, after sys.setrecursionlimit({(layers // 1000 + 2) * 1000})"
