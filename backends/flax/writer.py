"""The body of one class in Flax NNX: its constructor and its `__call__`."""

from __future__ import annotations

import keyword
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from resnet_spec.backends.flax import names, primitives
from resnet_spec.backends.flax.primitives import Context
from resnet_spec.backends.flax.shared import Shared
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.classes import BODY, ClassWriter
from resnet_spec.codegen.placement import Modules
from resnet_spec.expressions import Expr
from resnet_spec.specialize import OperationLine, Run, Value

MODULES = Modules(
    framework="Flax",
    is_module=primitives.is_module,
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
    drawing: Container[str]  # classes whose constructor takes `rngs`


@dataclass
class Writer(ClassWriter):
    """Writes a class; JAX tells the types of its variables by itself."""

    modules: Modules = MODULES
    style: Style = field(default_factory=lambda: Style({}, False, ()))

    def layer(self, line: OperationLine) -> layout.Code:
        op = Context(line, {}, self.style.shared, self.style.exact)
        return op.write(primitives.MODULES)

    def call(self, line: OperationLine, inputs: list[str]) -> layout.Code:
        style = self.style
        op = Context(line, self.spelling, style.shared, style.exact, inputs=inputs)
        return op.write(primitives.CALLS)

    def block(self, run: Run) -> layout.Code:
        positional, keywords = python.passed(run.arguments, {})
        name = run.routine.class_name
        drawn = {"rngs": "rngs"} if name in self.style.drawing else {}
        return layout.call(name, *positional, **keywords, **drawn)

    def optional(self, target: str, code: layout.Code, condition: Expr) -> list[str]:
        # A module's attribute is an array or a number, or it is none, from the beginning.
        made = python.choice(code, condition, "None")
        return layout.statement(f"{target} = ", made, indent=BODY)

    def container(self, name: str, in_turn: bool) -> str:
        return f"self.{name}: nnx.Dict[Any] = nnx.Dict()"

    def within(self, container: str, key: str) -> str:
        usual = key.isidentifier() and not keyword.iskeyword(key)
        return f"{container}.{key}" if usual else f'{container}["{key}"]'

    def sequence(self, blocks: Sequence[layout.Code]) -> layout.Code:
        match blocks:
            case [layout.Comprehension(_, block, clause)]:
                return layout.Comprehension("Sequential(", block, clause)
        items = tuple(("", block) for block in blocks)
        return layout.call("Sequential", layout.Bracket("[", items, "]", spread=True))

    def named_sequence(self, pairs: Sequence[layout.Code]) -> layout.Code:
        match pairs:
            case [layout.Comprehension(_, pair, clause)]:
                return layout.Comprehension("SequentialDict(", pair, clause)
        return layout.call("SequentialDict", layout.array(pairs))

    def module_list(self, element: layout.Code, clause: str) -> layout.Code:
        return layout.Comprehension("nnx.List(", element, clause)

    def elements(self, made: Sequence[layout.Code]) -> layout.Code:
        return layout.call("nnx.List", layout.array(made))

    def found(self, name: str) -> layout.Bracket:
        return layout.call("get_layer", "self", name)

    def empty_list(self, output: Value) -> str:
        return f"{output.name}: list[jax.Array]"
