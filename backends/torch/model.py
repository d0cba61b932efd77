"""A program as a PyTorch module: what the template needs of each class."""

from collections.abc import Container, Sequence
from typing import NamedTuple

from resnet_spec.backends.torch import primitives
from resnet_spec.backends.torch.initialization import stored_for_initialization
from resnet_spec.backends.torch.primitives import Context
from resnet_spec.backends.torch.writer import Writer
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.classes import BODY
from resnet_spec.expressions import to_python
from resnet_spec.specialize import OperationLine, Program, Routine

SUPER = f"{' ' * BODY}super().__init__()"


class ClassView(NamedTuple):
    """What the template needs of one block's class."""

    name: str
    base: str
    docstring: list[str]
    signature: list[str]
    constructor: list[str]
    forward: list[str]


def class_view(routine: Routine) -> ClassView:
    """The class of a routine."""
    signature = python.signature(
        "def __init__", ["self", *python.declared(routine.parameters)], " -> None:", 4
    )
    if is_sequential(routine):
        return ClassView(
            routine.class_name,
            "nn.Sequential",
            python.docstring(routine.description, indent=4),
            signature,
            _sequence(routine),
            [],
        )
    writer = Writer(routine.parameters, routine.locals, routine.body)
    forward = writer.returning(routine.body, routine.result)
    writer.stored |= stored_for_initialization(routine)
    constructor = writer.constructor()
    return ClassView(
        routine.class_name,
        "nn.Module",
        python.docstring(routine.description, indent=4),
        signature,
        [SUPER, *constructor] if constructor or routine.parameters else [],
        forward,
    )


def is_sequential(routine: Routine) -> bool:
    """Whether the class is a plain `nn.Sequential`."""
    return routine.is_chain and all(
        isinstance(line, OperationLine) and line.primitive.name in primitives.MODULES
        for line in routine.body
    )


def _sequence(routine: Routine) -> list[str]:
    """`super().__init__(…)` with the members of a sequence."""
    text = [
        statement
        for name, value in routine.locals
        for statement in layout.statement(f"{name} = ", to_python(value), indent=BODY)
    ]
    members: list[tuple[str, layout.Code]] = []
    in_place = True
    for index, line in enumerate(routine.body):
        assert isinstance(line, OperationLine)
        code = Context(line, {}).write(primitives.MODULES)
        if line.when is not None:
            code = python.choice(code, line.when, "nn.Identity()")
        name = "".join(part for part in line.path if isinstance(part, str))
        in_place = in_place and (not line.named or name == str(index))
        members.append((name, code))
    if in_place:
        items = tuple(("", code) for _, code in members)
        return [*text, *layout.statement("super().__init__", layout.Bracket("(", items), "", BODY)]
    pairs = [layout.Bracket("(", (("", f'"{n}"'), ("", code))) for n, code in members]
    inner = layout.Bracket("OrderedDict(", (("", layout.array(pairs)),))
    whole = layout.Bracket("(", (("", inner),))
    return [*text, *layout.statement("super().__init__", whole, "", BODY)]


class NetworkView(NamedTuple):
    """What the template needs of the network's own class."""

    name: str
    function: str
    docstring: list[str]
    feature_info: list[str]
    signature: list[str]
    constructor: list[str]
    features: list[str]
    head: list[str]
    build: list[str]
    build_docstring: list[str]
    build_call: list[str]


def network_view(program: Program) -> NetworkView:
    """The class of the network."""
    network = program.network
    writer = Writer(
        program.parameters, program.locals, [*program.body, *program.head], is_network=True
    )
    features = writer.method(program.body)
    stage = network.stages[-1].name
    given = program.features.name
    head = [f'{" " * BODY}{given} = self.forward_features(x)["{stage}"]']
    writer.given = ("x", given)
    head += writer.returning(program.head, program.result)
    writer.stored |= stored_for_initialization(program)
    maps = writer.feature_info(program)
    parameters = python.declared(program.parameters)
    passed = ", ".join(p.name for p in program.parameters)
    return NetworkView(
        name=network.class_name,
        function=network.name,
        docstring=python.docstring(network.description, indent=4),
        # Of an instance: channels may follow from the arguments of its constructor.
        feature_info=layout.statement("self.feature_info = ", maps, indent=BODY),
        signature=python.signature("def __init__", ["self", *parameters], " -> None:", 4),
        constructor=[SUPER, *writer.constructor()],
        features=features,
        head=head,
        build=python.signature(f"def {network.name}", parameters, f" -> {network.class_name}:"),
        build_docstring=python.docstring(f"Build {network.name} with random weights", indent=4),
        build_call=[f"    return {network.class_name}({passed})"],
    )


def code_of(blocks: Sequence[ClassView], network: NetworkView, init: Sequence[str]) -> str:
    """All statements of a module, as Python that can be parsed."""
    lines: list[str] = []
    for block in blocks:
        lines.append(f"class {block.name}({block.base}):")
        lines += [*block.signature, *block.constructor] if block.constructor else []
        if block.forward:
            lines += ["    def forward(self, x: Tensor) -> Tensor:", *block.forward]
    lines += [f"class {network.name}(nn.Module):", "    feature_info: list[dict[str, Any]]"]
    lines += [*network.signature, *network.constructor, *network.feature_info]
    lines += ["    def forward_features(self, x):", *network.features]
    lines += ["    def forward(self, x: Tensor) -> Tensor:", *network.head]
    if init:
        lines += ["def init_weights(module: nn.Module) -> None:", *init]
    return "\n".join(lines)


def imports(used: Container[str]) -> list[str]:
    """The import block, of the names that the module uses and nothing else."""
    standard = ["import math"] if "math" in used else []
    if "OrderedDict" in used:
        standard.append("from collections import OrderedDict")
    if "reduce" in used:
        standard.append("from functools import reduce")
    typing = [name for name in ("Any", "Self") if name in used]
    if typing:
        standard.append(f"from typing import {', '.join(typing)}")
    needs = ["import torch"] if "torch" in used else []
    needs.append("from torch import Tensor, nn")
    if "F" in used:
        needs.append("from torch.nn import functional as F")
    return [*standard, *([""] if standard else []), *needs]
