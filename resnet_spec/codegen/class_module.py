"""A module with a class for each block and for the network, as in PyTorch and Flax."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from resnet_spec.codegen import layout, python
from resnet_spec.codegen.classes import BODY, ClassWriter
from resnet_spec.codegen.module import PythonBackend
from resnet_spec.codegen.placement import Modules, check_names
from resnet_spec.specialize import OperationLine, Program, Routine

Writers = Callable[..., ClassWriter]  # takes the arguments of a `ClassWriter`


class ClassBackend(PythonBackend):
    """A backend that writes a class for each block and for the network."""

    modules: Modules

    @abstractmethod
    def writers(self, program: Program) -> Writers:
        """What makes the writer of each class of a program."""

    def view(self, program: Program) -> dict[str, Any]:
        network = program.network
        check_names(network, self.modules)
        self.check_name(network)
        writers = self.writers(program)
        return {
            "blocks": [class_view(routine, writers) for routine in program.routines],
            "network": network_view(program, writers),
            "ordered": python.stands_as_it_runs(network),
            "normed": network.root.statistics > 0,
        }


class ClassView(NamedTuple):
    """What a template needs of one block's class."""

    name: str
    base: str
    docstring: list[str]
    signature: list[str]
    constructor: list[str]
    method: list[str]


def class_view(routine: Routine, writers: Writers) -> ClassView:
    """The class of a routine."""
    writer = writers(routine.parameters, routine.locals, routine.body)
    if is_sequential(routine, writer.modules):
        base, constructor = _sequence(routine, writer)
        method = []
    else:
        base = writer.modules.base
        method = writer.returning(routine.body, routine.result)
        constructor = writer.constructor()
        if constructor or routine.parameters:
            constructor = [*writer.opening, *constructor] or [f"{' ' * BODY}pass"]
    more = writer.more_parameters(routine.class_name, constructor)
    return ClassView(
        routine.class_name,
        base,
        python.docstring(routine.description, indent=4),
        _signature([*python.declared(routine.parameters), *more]),
        constructor,
        method,
    )


def _signature(parameters: Sequence[layout.Code]) -> list[str]:
    return python.signature("def __init__", ["self", *parameters], " -> None:", 4)


def is_sequential(routine: Routine, modules: Modules) -> bool:
    """Whether the class is a plain sequence of layers."""
    return routine.is_chain and all(
        isinstance(line, OperationLine) and line.primitive.name in modules.table
        for line in routine.body
    )


def _sequence(routine: Routine, writer: ClassWriter) -> tuple[str, list[str]]:
    """The base of a sequence's class, and `super().__init__(…)` with its members."""
    members: list[tuple[str, layout.Code]] = []
    named = False
    for index, line in enumerate(routine.body):
        assert isinstance(line, OperationLine)
        code = writer.layer(line)
        if line.when is not None:
            code = python.choice(code, line.when, str(writer.modules.table["identity"]))
        name = "".join(part for part in line.path if isinstance(part, str))
        named = named or (line.named and name != str(index))
        members.append((name, code))
    items: list[layout.Code] = [code for _, code in members]
    if named:
        items = [layout.Bracket("(", (("", f'"{n}"'), ("", code))) for n, code in members]
    pattern = writer.modules.named_sequence if named else writer.modules.sequence
    made = layout.collection(pattern, items)
    base, made = made.opening.removesuffix("("), made._replace(opening="super().__init__(")
    return base, [*writer.local_values(), *layout.statement("", made, indent=BODY)]


class NetworkView(NamedTuple):
    """What a template needs of the network's own class."""

    name: str
    docstring: list[str]
    signature: list[str]
    constructor: list[str]
    feature_info: list[str]
    features: list[str]
    head: list[str]
    build: list[str]
    build_docstring: list[str]
    build_call: list[str]


def network_view(program: Program, writers: Writers) -> NetworkView:
    """The class of the network."""
    network, given = program.network, program.features.name
    lines = [*program.body, *program.head]
    writer = writers(program.parameters, program.locals, lines, is_network=True)
    features = writer.method(program.body)
    head = [f'{" " * BODY}{given} = self.forward_features(x)["{network.stages[-1].name}"]']
    writer.given = ("x", given)
    head += writer.returning(program.head, program.result)
    constructor = [*writer.opening, *writer.constructor()]
    more = writer.more_parameters(network.class_name, constructor)
    parameters = [*python.declared(program.parameters), *more]
    passed = [parameter.name for parameter in program.parameters]
    passed += [
        f"{name}={name}" for name, colon, _ in (each.partition(":") for each in more) if colon
    ]
    return NetworkView(
        name=network.class_name,
        docstring=python.docstring(network.description, indent=4),
        signature=_signature(parameters),
        constructor=constructor,
        feature_info=writer.feature_info(program),
        features=features,
        head=head,
        build=python.signature(f"def {network.name}", parameters, f" -> {network.class_name}:"),
        build_docstring=python.docstring(f"Build {network.name} with random weights", indent=4),
        build_call=[f"    return {network.class_name}({', '.join(passed)})"],
    )
