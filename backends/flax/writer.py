"""The body of one class in Flax NNX: its constructor and its `__call__`."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from resnet_spec.backends.flax import names, primitives
from resnet_spec.backends.flax.shared import Shared, collect, definitions
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.classes import BODY, ClassWriter
from resnet_spec.codegen.operation import OperationContext
from resnet_spec.codegen.placement import Modules
from resnet_spec.expressions import Const, Expr
from resnet_spec.specialize import OperationLine, Program, Value

MODULES = Modules(
    framework="Flax",
    base="nnx.Module",
    layers=primitives.LAYERS,
    layers_by_name=primitives.LAYERS_BY_NAME,
    children={},
    table=primitives.MODULES,
    calls=primitives.CALLS,
    sequence="Sequential({})",
    named_sequence="SequentialDict({})",
    module_list="nnx.List({})",
    dictionary="{}: nnx.Dict[Any] = nnx.Dict()",
    chain="{}: nnx.Dict[Any] = nnx.Dict()",
    found="get_layer(self, {})",
    names=names.MODULE_NAMES,
    network_names=names.NETWORK_NAMES,
    dictionary_names=names.DICT_NAMES | names.MODULE_NAMES,
    sequence_names=names.SEQUENCE_NAMES | names.MODULE_NAMES,
)


@dataclass(frozen=True)
class Style:
    """How the layers of a module are made: what it shares, and which of its classes draw."""

    shared: Mapping[str, Shared]
    exact: bool
    drawing: set[str]  # classes whose constructor takes `rngs`, of those written so far

    @classmethod
    def of(cls, program: Program) -> Style:
        """How those of a program are made."""
        exact = program.network.numerics == "exact"
        lines = (line for _, line in program.lines() if isinstance(line, OperationLine))
        return cls(collect(lines, exact), exact, set())

    def statements(self) -> list[str]:
        """The statements that make what its layers share."""
        return definitions(self.shared, self.exact)


@dataclass
class Writer(ClassWriter):
    """Writes a class; JAX tells the types of its variables by itself."""

    modules: Modules = MODULES
    style: Style = field(default_factory=lambda: Style({}, False, set()))

    def context(
        self, line: OperationLine, spelling: Mapping[str, str], inputs: Sequence[str] = ()
    ) -> OperationContext:
        return primitives.Context(
            line, spelling, self.style.shared, self.style.exact, inputs=inputs
        )

    def more_parameters(self, name: str, constructor: Sequence[str]) -> Sequence[str]:
        if not self.is_network and "rngs" not in python.names_in("\n".join(constructor)):
            return ()
        self.style.drawing.add(name)
        return ("*", "rngs: nnx.Rngs")

    def more_arguments(self, name: str) -> Mapping[str, str]:
        return {"rngs": "rngs"} if name in self.style.drawing else {}

    def optional(self, target: str, code: layout.Code, condition: Expr) -> list[str]:
        # A module's attribute is an array or a number, or it is none, from the beginning.
        made = python.choice(code, condition, "None")
        return layout.statement(f"{target} = ", made, indent=BODY)

    def within(self, head: str, key: str) -> str:
        usual = key.isidentifier() and not keyword.iskeyword(key)
        return f"self.{head}.{key}" if usual else super().within(head, key)

    def empty_list(self, output: Value) -> str:
        return f"{output.name}: list[jax.Array]"

    def feature_info(self, program: Program) -> list[str]:
        """An attribute of the class, which no transformation of JAX has to compare or hash.

        So it has only the maps whose channels are the same however the network is built.
        """
        maps = tuple(each for each in program.feature_info if isinstance(each.channels, Const))
        if not maps:
            return []
        entries = self.feature_maps(program._replace(feature_info=maps))
        kind = "ClassVar[list[dict[str, Any]]]"
        return layout.statement(f"feature_info: {kind} = ", entries, indent=4)
