"""A program as a Flax NNX module: what the template needs of each class."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import NamedTuple

from resnet_spec.backends.flax import primitives
from resnet_spec.backends.flax.writer import Style, Writer
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.classes import BODY
from resnet_spec.expressions import Const
from resnet_spec.ir import Network
from resnet_spec.specialize import OperationLine, Program, Routine

MAPS = "ClassVar[list[dict[str, Any]]]"
RNGS = ("*", "rngs: nnx.Rngs")


class ClassView(NamedTuple):
    """What the template needs of one block's class."""

    name: str
    base: str
    docstring: list[str]
    signature: list[str]
    constructor: list[str]
    call: list[str]


def class_views(program: Program, style: Style) -> list[ClassView]:
    """The classes of all routines; each knows which of those before it draw numbers."""
    drawing: set[str] = set()
    views = []
    for routine in program.routines:
        view = _class_view(routine, replace(style, drawing=drawing))
        if "rngs" in python.names_in("\n".join(view.constructor)):
            drawing.add(view.name)
            view = view._replace(signature=_signature(routine, RNGS))
        views.append(view)
    return views


def _signature(routine: Routine, more: Sequence[str]) -> list[str]:
    declared = python.declared(routine.parameters)
    return python.signature("def __init__", ["self", *declared, *more], " -> None:", 4)


def _class_view(routine: Routine, style: Style) -> ClassView:
    writer = Writer(routine.parameters, routine.locals, routine.body, style=style)
    docstring = python.docstring(routine.description, indent=4)
    if is_sequential(routine):
        base, made = _sequence(routine, writer)
        return ClassView(routine.class_name, base, docstring, _signature(routine, ()), made, [])
    call = writer.returning(routine.body, routine.result)
    constructor = writer.constructor()
    if routine.parameters and not constructor:
        constructor = [f"{' ' * BODY}pass"]
    signature = _signature(routine, ())
    return ClassView(routine.class_name, "nnx.Module", docstring, signature, constructor, call)


def is_sequential(routine: Routine) -> bool:
    """Whether the class is a plain sequence."""
    return routine.is_chain and all(
        isinstance(line, OperationLine) and line.primitive.name in primitives.MODULES
        for line in routine.body
    )


def _sequence(routine: Routine, writer: Writer) -> tuple[str, list[str]]:
    """The class of a sequence, and `super().__init__(…)` with its members."""
    members: list[tuple[str, layout.Code]] = []
    for line in routine.body:
        assert isinstance(line, OperationLine)
        code = writer.layer(line)
        if line.when is not None:
            code = python.choice(code, line.when, "nnx.identity")
        members.append(("".join(part for part in line.path if isinstance(part, str)), code))
    named = [
        name
        for index, ((name, _), line) in enumerate(zip(members, routine.body, strict=True))
        if isinstance(line, OperationLine) and line.named and name != str(index)
    ]
    items: list[layout.Code] = [code for _, code in members]
    if named:
        items = [layout.Bracket("(", (("", f'"{n}"'), ("", code))) for n, code in members]
    made = layout.call("super().__init__", layout.array(items))
    base = "SequentialDict" if named else "Sequential"
    return base, [*writer.local_values(), *layout.statement("", made, indent=BODY)]


class NetworkView(NamedTuple):
    """What the template needs of the network's own class."""

    name: str
    function: str
    docstring: list[str]
    order: list[str]
    feature_info: list[str]
    signature: list[str]
    constructor: list[str]
    features: list[str]
    head: list[str]
    build: list[str]
    build_docstring: list[str]
    build_call: list[str]


def network_view(program: Program, style: Style) -> NetworkView:
    """The class of the network."""
    network = program.network
    lines = [*program.body, *program.head]
    writer = Writer(program.parameters, program.locals, lines, is_network=True, style=style)
    features = writer.method(program.body)
    stage = network.stages[-1].name
    head = [f'{" " * BODY}{program.features.name} = self.forward_features(x)["{stage}"]']
    head += writer.returning(program.head, program.result)
    parameters = [*python.declared(program.parameters), *RNGS]
    passed = ", ".join([*(p.name for p in program.parameters), "rngs=rngs"])
    names = [python.string(name) for name in order_of(network)]
    order = layout.Bracket("(", tuple(("", n) for n in names), ")" if len(names) > 1 else ",)")
    return NetworkView(
        name=network.class_name,
        function=network.name,
        docstring=python.docstring(network.description, indent=4),
        order=layout.statement("order = ", order._replace(display=True), indent=4),
        feature_info=_feature_info(program, writer),
        signature=python.signature("def __init__", ["self", *parameters], " -> None:", 4),
        constructor=writer.constructor(),
        features=features,
        head=head,
        build=python.signature(f"def {network.name}", parameters, f" -> {network.class_name}:"),
        build_docstring=python.docstring(f"Build {network.name} with random weights", indent=4),
        build_call=[f"    return {network.class_name}({passed})"],
    )


def _feature_info(program: Program, writer: Writer) -> list[str]:
    """An attribute of the class, which no transformation of JAX has to compare or hash.

    So it has only the maps whose channels are the same however the network is built.
    """
    maps = [each for each in program.feature_info if isinstance(each.channels, Const)]
    if not maps:
        return []
    entries = writer.feature_info(program._replace(feature_info=tuple(maps)))
    return layout.statement(f"feature_info: {MAPS} = ", entries, indent=4)


def order_of(network: Network) -> list[str]:
    """The stages, and the layers and blocks outside of them, in the order in which they run."""
    names: dict[str, None] = {}
    within = {index: stage.name for stage in network.stages for index in stage.steps}
    for number, step in enumerate(network.root.steps):
        stage = within.get(number, "")
        if python.is_kept(step, network, network.root):
            names[stage if f"{step.name}.".startswith(f"{stage}.") else step.name] = None
    return [*names]


def code_of(blocks: Sequence[ClassView], network: NetworkView, shared: Sequence[str]) -> str:
    """All statements of a module, as Python that can be parsed."""
    lines = [*shared]
    for block in blocks:
        lines.append(f"class {block.name}({block.base}):")
        lines += [*block.signature, *block.constructor] if block.constructor else []
        lines += ["    def __call__(self, x: jax.Array) -> jax.Array:", *block.call] * bool(
            block.call
        )
        lines += ["    pass"]
    lines += [f"class {network.name}(nnx.Module):", *network.feature_info]
    lines += [*network.signature, *network.constructor]
    lines += ["        pass", "    def forward_features(self, x):", *network.features]
    lines += ["    def __call__(self, x: jax.Array) -> jax.Array:", *network.head]
    return "\n".join(lines)


def imports(used: Container[str]) -> list[str]:
    """The import block, of the names that the module uses and nothing else."""
    standard = ["import math"] if "math" in used else []
    for module, names in (
        ("collections.abc", ("Callable", "Iterable")),
        ("dataclasses", ("dataclass",)),
        ("functools", ("partial", "reduce")),
        ("typing", ("Any", "ClassVar")),
    ):
        if found := [name for name in names if name in used]:
            standard.append(f"from {module} import {', '.join(found)}")
    needs = ["import jax"]
    needs += ["import jax.numpy as jnp"] if "jnp" in used else []
    needs.append("from flax import nnx")
    needs += ["from jax import lax"] if "lax" in used else []
    return [*standard, *([""] if standard else []), *needs]
