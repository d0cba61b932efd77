"""The body of one class in PyTorch: its constructor and its forward function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from resnet_spec.backends.torch import primitives
from resnet_spec.codegen import layout
from resnet_spec.codegen.classes import BODY, NESTED, ClassWriter
from resnet_spec.codegen.operation import OperationContext
from resnet_spec.codegen.placement import Modules, Place, text_of
from resnet_spec.expressions import Expr, names, to_python
from resnet_spec.specialize import Line, OperationLine, Value

MODULES = Modules(
    framework="PyTorch",
    base="nn.Module",
    layers=primitives.LAYERS,
    layers_by_name=primitives.LAYERS_BY_NAME,
    children=primitives.CHILDREN,
    table=primitives.MODULES,
    calls=primitives.CALLS,
    sequence="nn.Sequential(*{})",
    named_sequence="nn.Sequential(OrderedDict({}))",
    module_list="nn.ModuleList({})",
    dictionary="{} = nn.ModuleDict()",
    chain="{} = SequentialDict()",
    found="self.get_submodule({})",
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
    typed: set[str] = field(default_factory=set)

    opening = (f"{' ' * BODY}super().__init__()",)

    def constructor(self) -> list[str]:
        self.stored |= self.needed_to_initialize()
        return super().constructor()

    def needed_to_initialize(self) -> set[str]:
        """The names that `init_weights` needs to find the layers of loops.

        Which initializers are unusual depends on the whole program, so this takes all of them.
        """
        found: set[str] = set()
        for line, loops in self.modules.layers_in(self.lines):
            if (
                not isinstance(line, OperationLine)
                or self.placement.of(line) is not Place.SUBMODULE
            ):
                continue
            initialized = line.primitive.name in primitives.INITIALIZED
            if initialized and (loops or text_of(line.path) is None):
                each = [*(loop.count for loop in loops), *([line.when] if line.when else [])]
                each += [part for part in line.path if isinstance(part, Expr)]
                found |= {name for value in each for name in names(value)} & self.own
        return found

    def method(self, lines: Sequence[Line]) -> list[str]:
        self.typed = {*self.given}
        return super().method(lines)

    def context(
        self, line: OperationLine, spelling: Mapping[str, str], inputs: Sequence[str] = ()
    ) -> OperationContext:
        return primitives.Context(line, spelling, inputs=inputs)

    def optional(self, target: str, code: layout.Code, condition: Expr) -> list[str]:
        return [
            f"{' ' * BODY}{target} = None",
            *layout.condition("if", to_python(condition), BODY),
            *layout.statement(f"{target} = ", code, indent=NESTED),
        ]

    def chain(self, head: str) -> str:
        # To a type checker, what a Sequential holds may be a tensor.
        return "{}: Any = nn.Sequential()" if self.is_sequential(head) else super().chain(head)

    def within(self, head: str, key: str) -> str:
        return f"self.{head}.{key}" if self.is_sequential(head) else super().within(head, key)

    def is_sequential(self, head: str) -> bool:
        """Whether a container is a Sequential, and what it holds are its attributes."""
        taken = self.modules.names | self.modules.sequence_names
        fits = all(key.isidentifier() and key not in taken for key in self.placement.held[head])
        return fits and self.is_network and self.placement.runs_in_turn(head)

    # Modules are typed to return anything; naming the type once is enough.

    def target(self, output: Value, many: bool = False) -> str:
        annotated = self.annotated(output, "Tensor")
        return output.name if many else annotated

    def empty_list(self, output: Value) -> str:
        return self.annotated(output, "list[Tensor]")

    def annotated(self, output: Value, type_: str) -> str:
        known = output.name in self.typed
        self.typed.add(output.name)
        return output.name if known else f"{output.name}: {type_}"
