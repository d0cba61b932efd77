"""A program as Keras functions: one for each block, one for the stages, two that build a model."""

import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard

from resnet_spec.backends.keras import helpers
from resnet_spec.backends.keras.primitives import RULES, Context
from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.statements import StatementWriter
from resnet_spec.diagnostics import Span, fail, quoted
from resnet_spec.expressions import Const, Expr, names, to_python
from resnet_spec.ir import Network, Operation
from resnet_spec.primitives import SAME
from resnet_spec.specialize import (
    AssignLine,
    CallLine,
    FeatureInfo,
    FeatureLine,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Path,
    Program,
    Routine,
    Run,
    Value,
    flat,
)


@dataclass
class _Writer(StatementWriter):
    """Writes the lines of one function; `prefixed` tells that layers are named below `name`."""

    usages: Mapping[str, helpers.Usage]
    functions: Mapping[str, str]  # routine: its function's name
    prefixed: bool
    exact: bool
    spelling: Mapping[str, str] = field(default_factory=dict)

    apart = (FeatureLine,)

    def operation(self, line: OperationLine) -> layout.Code:
        helper = helpers.helper_of(line)
        options = self.usages[helper[0]].varying if helper is not None else {}
        inputs = tuple(self.value(each) for each in line.inputs)
        name = self.name(line.path)
        op = Context(line, self.spelling, name, options, self.exact, inputs=inputs)
        return op.write(RULES)

    def run_call(self, line: CallLine, indent: int) -> list[str]:
        if line.names is None:
            code = self.block(line.runs[0], line.inputs[0], line.path)
            return self.guarded(line, lambda at: self.store(line.output, code, at), indent)
        return self.guarded(line, lambda at: self.runs(line, at), indent)

    def runs(self, line: CallLine, indent: int) -> list[str]:
        """Repeated blocks, one statement or one loop for each run."""
        assert line.names is not None
        text: list[str] = []
        source = line.inputs[0]
        for run in line.runs:
            if run.is_single:
                path = (*line.path, ".", *python.at_index(line.names, run.start))
                code = self.block(run, source, path)
                text += self.store(line.output, code, indent)
            else:
                path = (*line.path, ".", *line.names)
                if source != line.output:
                    text += self.store(line.output, self.value(source), indent)
                over = python.run_range(run, self.spelling)
                text.append(f"{' ' * indent}for i in {over}:")
                code = self.block(run, line.output, path)
                text += self.store(line.output, code, indent + layout.INDENT)
            source = line.output
        return text

    def block(self, run: Run, source: Value, path: Path) -> layout.Code:
        positional, keywords = python.passed(_shown(run.arguments), self.spelling, by_position=1)
        function = self.functions[run.routine.class_name]
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


def function_view(
    routine: Routine,
    usages: Mapping[str, helpers.Usage],
    functions: Mapping[str, str],
    exact: bool,
) -> FunctionView:
    """The function of a routine."""
    writer = _Writer(usages, functions, prefixed=True, exact=exact)
    lines = python.returning(
        routine.body, routine.result, lambda each: writer.statements(each, 4), 4
    )
    body = _read(lines, routine.locals, "x")
    if body:
        body.append("")
    parameters = [p for p in routine.parameters if p.name != "in_channels"]
    declared = python.declared(parameters)
    signature = python.signature(
        f"def {functions[routine.class_name]}",
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


def network_view(
    program: Program, usages: Mapping[str, helpers.Usage], functions: Mapping[str, str]
) -> NetworkView:
    """The functions that build the network."""
    network, given = program.network, program.network.input
    shape = f"({given.height}, {given.width}, {given.channels})"
    size = f"input_shape: tuple[int | None, int | None, int] = {shape}"
    classes = [p for p in program.parameters if p.name != "in_channels"]
    declared = [f"{p.name}: int = {p.default}" for p in classes]
    # Stages that know the number of classes are given it.
    exact = network.numerics == "exact"
    writer = _Writer(usages, functions, prefixed=False, exact=exact)
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


def function_names(program: Program, reserved: Collection[str]) -> dict[str, str]:
    """The function of each routine, under a name that no variable hides."""
    taken = {program.network.name, f"{program.network.name}_features", *reserved}
    taken |= {name for routine in program.routines for name in _variables(routine)}
    taken |= {*_variables_in((*program.body, *program.head))}
    found = {}
    for routine in program.routines:
        name = routine.name
        while name in taken:
            name += "_block"
        taken.add(name)
        found[routine.class_name] = name
    return found


def _variables(routine: Routine) -> Iterable[str]:
    """Every name that a routine's function gives a value."""
    yield from (parameter.name for parameter in routine.parameters)
    yield from (name for name, _ in routine.locals)
    yield from _variables_in(routine.body)


def _variables_in(lines: Iterable[Line]) -> Iterable[str]:
    """Every name that lines give a value, the index of repeated blocks among them."""
    for line in flat(lines):
        if isinstance(line, LoopLine):
            yield line.variable
        elif _has_output(line):
            yield line.output.name
        if isinstance(line, CallLine) and line.names is not None:
            yield "i"


def _has_output(line: Line) -> TypeGuard[OperationLine | CallLine | AssignLine]:
    return isinstance(line, OperationLine | CallLine | AssignLine)


Places = Sequence[tuple[str, Operation, Span]]  # every operation of a network


def check_convolutions(places: Places) -> None:
    """RS502 for what Keras' convolution cannot do."""
    for canonical, operation, span in places:
        stride, dilation = (operation.attributes.get(key) for key in ("stride", "dilation"))
        if operation.primitive.name == "conv" and stride != 1 and dilation != 1:
            fail(
                "RS502",
                f"{quoted(canonical)}: a Keras convolution can't have both a stride and a dilation",
                span,
                help="give 'stride' to another layer, or leave out the backend keras",
            )


def outer_names(network: Network) -> Iterable[str]:
    """The names of stages, and of layers and blocks outside of them."""
    yield from (stage.name for stage in network.stages)
    within = {index for stage in network.stages for index in stage.steps}
    yield from (step.name for n, step in enumerate(network.root.steps) if n not in within)


def check_stages(network: Network, places: Places) -> None:
    """RS503 for a layer that `freeze_until` would take for the first of a later stage."""
    for stage in network.stages:
        begin = f"{layer_name(stage.name)}_"
        for canonical, _, _ in places:
            if f"{canonical}.".startswith(f"{stage.name}."):
                break
            if f"{layer_name(canonical)}_".startswith(begin):
                fail(
                    "RS503",
                    f"in Keras, the layer {quoted(canonical)} looks like one of "
                    f"{quoted(stage.name)}",
                    network.root.definition.span,
                    help=f"rename {quoted(stage.name)}; '.' becomes '_' in Keras",
                )


INPUT = "images"

# Written as functions of keras.ops, which name themselves.
UNNAMED = frozenset(
    {
        *("adaptive_avg_pool", "channel_avg_pool", "channel_max_pool", "identity"),
        *("pad_channels", "rescale", "shuffle", "split", "take"),
    }
)
# What Keras calls arithmetic on its tensors.
ARITHMETIC = frozenset({"add", "multiply", "subtract"})


def _has_layer(operation: Operation) -> bool:
    """Whether an operation is a layer in Keras, under its own name."""
    if operation.primitive.name == "softmax":
        return not operation.attributes["groups"]
    return operation.primitive.name not in UNNAMED


def check_automatic_names(places: Places, code: str, helpers_: Iterable[Sequence[str]]) -> None:
    """RS503 for a layer with a name that Keras gives to a function of `keras.ops` itself."""
    text = "\n".join([code, *("\n".join(each) for each in helpers_)])
    functions = set(re.findall(r"\bops\.(\w+)\(", text))
    if any(operation.primitive.name == "rescale" for _, operation, _ in places):
        functions |= ARITHMETIC
    for canonical, operation, span in places:
        name, _, number = layer_name(canonical).rpartition("_")
        if not name or not number.isdigit():
            name = layer_name(canonical)
        if name in functions and _has_layer(operation):
            fail(
                "RS503",
                f"a layer can't be called {quoted(canonical)} in Keras, which has a function of "
                "that name",
                span,
                help="rename the layer",
            )


def check_layer_names(places: Places) -> None:
    """RS503 for two layers whose dotted names are one name in Keras."""
    seen: dict[str, str] = {INPUT: INPUT}
    for canonical, operation, span in places:
        if not _has_layer(operation):
            continue
        names_ = [layer_name(canonical)]
        if operation.attributes.get("padding") not in (None, 0, SAME):
            names_.append(f"{names_[0]}_pad")
        for name in names_:
            if seen.setdefault(name, canonical) != canonical:
                fail(
                    "RS503",
                    f"the layers {quoted(seen[name])} and {quoted(canonical)} are both "
                    f"{quoted(name)} in Keras",
                    span,
                    help="rename one of them; '.' becomes '_', and padding adds '_pad'",
                )


def _what_is_built(network: Network) -> str:
    """For the docstring, with what a network needs that is deeper than Python usually recurses.

    `keras.Model` goes back from the output, a call for each layer (keras/src/ops/function.py).
    """
    what = f"Build {network.name} with random weights"
    layers = 2 * network.root.size  # each operation may come with a layer that pads for it
    if layers < 1200:
        return what
    return f"{what}, after sys.setrecursionlimit({(layers // 1000 + 2) * 1000})"


def code_of(blocks: Iterable[FunctionView], network: NetworkView) -> str:
    """All statements of a module, as Python that can be parsed."""
    lines: list[str] = []
    for block in blocks:
        lines += [*block.signature, *block.body]
    lines += [*network.stages_signature, *network.stages]
    lines += [*network.build, *(network.head or ["    pass"])]
    return "\n".join(lines)


def imports(used: Container[str]) -> list[str]:
    """The import block, of the names that the module uses and nothing else."""
    modules = [name for name in ("initializers", "layers", "ops") if name in used]
    lines = ["import math", ""] if "math" in used else []
    return [*lines, "import keras", f"from keras import {', '.join(['KerasTensor', *modules])}"]
