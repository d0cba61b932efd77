"""The body of one class in PyTorch: its constructor and its forward function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from resnet_spec.backends.torch import primitives
from resnet_spec.backends.torch.primitives import Context
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.classes import BODY, NESTED, ClassWriter
from resnet_spec.codegen.placement import Modules
from resnet_spec.expressions import Expr, to_python
from resnet_spec.specialize import Line, OperationLine, Run, Value

MODULES = Modules(
    framework="PyTorch",
    is_module=primitives.is_module,
    names=frozenset(
        {
            *("T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init"),
            *("children", "compile", "cpu", "cuda", "double", "dump_patches", "eval"),
            *("extra_repr", "float", "forward", "get_buffer", "get_extra_state"),
            *("get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules"),
            *("mtia", "named_buffers", "named_children", "named_modules", "named_parameters"),
            *("parameters", "register_backward_hook", "register_buffer", "register_forward_hook"),
            *("register_forward_pre_hook", "register_full_backward_hook"),
            *("register_full_backward_pre_hook", "register_load_state_dict_post_hook"),
            *("register_load_state_dict_pre_hook", "register_module", "register_parameter"),
            *("register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_"),
            *("set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty"),
            *("train", "training", "type", "xpu", "zero_grad"),
        }
    ),
    network_names=frozenset({"feature_info", "forward_features", "freeze_until"}),
    dictionary_names=frozenset({"clear", "items", "keys", "pop", "update", "values"}),
    sequence_names=frozenset({"append", "extend", "insert", "pop"}),
)


@dataclass
class Writer(ClassWriter):
    """Writes a class; a type checker knows `given`, and what is in `typed`, to be tensors."""

    modules: Modules = MODULES
    given: Sequence[str] = ("x",)
    typed: set[str] = field(default_factory=set)

    def method(self, lines: Sequence[Line]) -> list[str]:
        self.typed = {*self.given}
        return super().method(lines)

    def layer(self, line: OperationLine) -> layout.Code:
        return Context(line, {}).write(primitives.MODULES)

    def call(self, line: OperationLine, inputs: list[str]) -> layout.Code:
        return Context(line, self.spelling, inputs=inputs).write(primitives.CALLS)

    def block(self, run: Run) -> layout.Code:
        positional, keywords = python.passed(run.arguments, {})
        return layout.call(run.routine.class_name, *positional, **keywords)

    def optional(self, target: str, code: layout.Code, condition: Expr) -> list[str]:
        return [
            f"{' ' * BODY}{target} = None",
            *layout.condition("if", to_python(condition), BODY),
            *layout.statement(f"{target} = ", code, indent=NESTED),
        ]

    def container(self, name: str, in_turn: bool) -> str:
        return f"self.{name} = {'SequentialDict' if in_turn else 'nn.ModuleDict'}()"

    def sequence(self, blocks: Sequence[layout.Code]) -> layout.Code:
        items = tuple(("", block) for block in blocks)
        return layout.Bracket("nn.Sequential(", items, spread=True)

    def named_sequence(self, pairs: Sequence[layout.Code]) -> layout.Code:
        match pairs:
            case [layout.Comprehension(_, pair, clause)]:
                return layout.call(
                    "nn.Sequential", layout.Comprehension("OrderedDict(", pair, clause)
                )
        return layout.call("nn.Sequential", layout.call("OrderedDict", layout.array(pairs)))

    def module_list(self, element: layout.Code, clause: str) -> layout.Code:
        return layout.Comprehension("nn.ModuleList(", element, clause)

    def elements(self, made: Sequence[layout.Code]) -> layout.Code:
        return layout.call("nn.ModuleList", layout.array(made))

    def found(self, name: str) -> layout.Bracket:
        return layout.call("self.get_submodule", name)

    # Modules are typed to return anything; naming the type once is enough.

    def target(self, output: Value, many: bool = False) -> str:
        known = many or output.name in self.typed
        self.typed.add(output.name)
        return output.name if known else f"{output.name}: Tensor"

    def empty_list(self, output: Value) -> str:
        known = output.name in self.typed
        self.typed.add(output.name)
        return output.name if known else f"{output.name}: list[Tensor]"
