"""The body of one class: its constructor and its forward function."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from resnet_spec.backends.torch import primitives
from resnet_spec.backends.torch.primitives import Context

from resnet_spec import emit, layout
from resnet_spec.diagnostics import Span, fail, quoted
from resnet_spec.expr import Expr, Name, names, to_python, unary
from resnet_spec.specialize import (
    AssignLine,
    CallLine,
    FeatureLine,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Path,
    Routine,
    Run,
    Value,
    flat,
    line_expressions,
)

BODY = 8  # indentation of a method's body


@dataclass
class Writer:
    """Writes the constructor and the forward function of one class."""

    name: str
    parameters: Sequence[Parameter]
    locals: Sequence[tuple[str, Expr]]
    layers: Container[str] = ()  # attributes that hold layers
    stored: set[str] = field(default_factory=set)  # names that forward needs
    containers: set[str] = field(default_factory=set)

    @property
    def own(self) -> set[str]:
        return {p.name for p in self.parameters} | {name for name, _ in self.locals}

    # - constructor -

    def constructor(self, lines: Sequence[Line]) -> list[str]:
        """The statements after `super().__init__()`."""
        text = [
            statement
            for name, value in self.locals
            for statement in layout.statement(f"{name} = ", to_python(value), indent=BODY)
        ]
        order = [*(p.name for p in self.parameters), *(name for name, _ in self.locals)]
        kept = [name for name in order if name in self.stored]
        text += [f"{' ' * BODY}{self.kept_as(name)} = {name}" for name in kept]
        body = [line for line in lines if self.makes_module(line)]
        for line, gap in zip(body, emit.groups(body), strict=True):
            if gap or (text and line is body[0]):
                text.append("")
            text += self.construct(line)
        return text

    def makes_module(self, line: Line) -> bool:
        match line:
            case OperationLine():
                return line.primitive.name in primitives.MODULES
            case CallLine():
                return True
            case LoopLine():
                return any(self.makes_module(inner) for inner in line.body)
        return False

    def construct(self, line: Line) -> list[str]:
        match line:
            case OperationLine():
                return self.assign(line, self.module(line))
            case CallLine():
                return self.assign(line, self.blocks(line))
            case LoopLine():
                return self.module_lists(line)
        raise TypeError(line)

    def module(self, line: OperationLine) -> layout.Code:
        return primitives.MODULES[line.primitive.name](Context(line, {}))

    def assign(self, line: OperationLine | CallLine, code: layout.Code) -> list[str]:
        if any(isinstance(part, Expr) for part in line.path):
            fail(
                "RS502",
                f"{self.name}: the name of a layer with parameters can't vary",
                line.span,
                help="use names with expressions within a loop, or for repeated blocks",
            )
        target, lines = self.target(line.path, line.span)
        if line.when is None:
            return [*lines, *layout.statement(f"{target} = ", code, indent=BODY)]
        return [
            *lines,
            f"{' ' * BODY}{target} = None",
            *layout.condition("if", to_python(line.when), BODY),
            *layout.statement(f"{target} = ", code, indent=BODY + 4),
        ]

    def target(self, path: Path, span: Span | None) -> tuple[str, list[str]]:
        """`self.name`, with the line that makes its container where the name is dotted."""
        text = "".join(part for part in path if isinstance(part, str))
        head, _, rest = text.partition(".")
        check_attribute(head, self.name, span)
        if not rest:
            return f"self.{head}", []
        if "." in rest:
            fail(
                "RS503",
                f"{self.name}: the name {quoted(text)} is more than two levels deep",
                span,
                help="let a block of its own give the inner names",
            )
        lines = []
        if head not in self.containers:
            self.containers.add(head)
            lines.append(f"{' ' * BODY}self.{head} = nn.ModuleDict()")
        return f'self.{head}["{rest}"]', lines

    def blocks(self, line: CallLine) -> layout.Code:
        if line.names is None:
            return self.block(line.routine, line.runs[0])
        positional = line.names == (Name("i", True),)
        if not positional:
            return self.named_blocks(line)
        items: list[tuple[str, layout.Code]] = []
        for run in line.runs:
            if run.is_single:
                items.append(("", self.block(line.routine, run)))
                continue
            counter = "i" if run.uses_index else "_"
            over = emit.run_range(run, {})
            if not run.uses_index:
                over = f"range({to_python(run.count)})"
            clause = f"for {counter} in {over}"
            items.append(("", layout.Comprehension("*(", self.block(line.routine, run), clause)))
        return layout.Bracket("nn.Sequential(", tuple(items), spread=True)

    def named_blocks(self, line: CallLine) -> layout.Code:
        assert line.names is not None
        items: list[layout.Code] = []
        for run in line.runs:
            name = emit.literal(emit.spelled(line.names, {}))
            if run.is_single:
                name = emit.literal(emit.spelled(emit.at_index(line.names, run.start), {}))
            pair = layout.Bracket("(", (("", name), ("", self.block(line.routine, run))))
            if run.is_single:
                items.append(pair)
            else:
                clause = f"for i in {emit.run_range(run, {})}"
                items.append(layout.Comprehension("*(", pair, clause))
        if len(items) == 1 and isinstance(items[0], layout.Comprehension):
            only = items[0]
            inner: layout.Code = layout.Comprehension("OrderedDict(", only.element, only.clause)
        else:
            inner = layout.Bracket("OrderedDict(", (("", layout.array(items)),))
        return layout.Bracket("nn.Sequential(", (("", inner),))

    def block(self, routine: Routine, run: Run) -> layout.Code:
        positional, keywords = emit.passed(run.arguments, {})
        return layout.call(routine.class_name, *positional, **keywords)

    def module_lists(self, loop: LoopLine) -> list[str]:
        """A list for each module that a loop makes."""
        text = []
        for line in flat(loop.body):
            if not isinstance(line, OperationLine | CallLine) or not self.makes_module(line):
                continue
            base = self.list_name(line, loop)
            element = self.module(line) if isinstance(line, OperationLine) else self.blocks(line)
            counted = any(
                loop.variable in names(each)
                for each in line_expressions(line)
                if not any(each is part for part in line.path)
            )
            counter = loop.variable if counted else "_"
            clause = f"for {counter} in range({to_python(loop.count)})"
            code = layout.Comprehension("nn.ModuleList(", element, clause)
            text += layout.statement(f"self.{base} = ", code, indent=BODY)
        return text

    def list_name(self, line: OperationLine | CallLine, loop: LoopLine) -> str:
        """The list of a layer called `convs.{i}`; other names within a loop have no module."""
        ok = (
            line.when is None
            and len(line.path) == 2
            and isinstance(line.path[0], str)
            and line.path[0].endswith(".")
            and line.path[0].count(".") == 1
            and line.path[1] == Name(loop.variable, True)
        )
        if not ok or not isinstance(line.path[0], str):
            fail(
                "RS502",
                f"{self.name}: a layer with parameters in a loop must always run and be called "
                f'"name.{{{loop.variable}}}"',
                line.span,
                help="move 'when' to a layer without parameters",
            )
        base = line.path[0][:-1]
        check_attribute(base, self.name, line.span)
        return base

    # - forward -

    def spelling(self) -> dict[str, str]:
        return {name: self.kept_as(name) for name in self.own}

    def kept_as(self, name: str) -> str:
        """The attribute that keeps a value of the constructor for `forward`."""
        hides = name in self.layers or name in _MODULE_NAMES
        return f"self.{name}_" if hides else f"self.{name}"

    def forward(self, lines: Sequence[Line], typed: set[str], indent: int = BODY) -> list[str]:
        """The statements of a forward function; `typed` are variables known to be tensors."""
        text: list[str] = []
        for line, gap in zip(lines, emit.groups(lines), strict=True):
            if gap:
                text.append("")
            text += self.run(line, typed, indent)
        return text

    def returning(
        self, lines: Sequence[Line], result: Value, typed: Iterable[str] = ("x",)
    ) -> list[str]:
        """The statements of a forward function with its `return`."""
        text = self.forward(lines, set(typed))
        last = lines[-1] if lines else None
        if (
            isinstance(last, OperationLine)
            and last.primitive.name in primitives.CALLS
            and last.when is None
            and last.output == result
        ):
            gap = [""] if emit.groups(lines)[-1] else []
            before = self.forward(lines[:-1], set(typed))
            return [*before, *gap, *layout.statement("return ", self.call(last), "", BODY)]
        return [*text, f"{' ' * BODY}return {result.name}"]

    def call(self, line: OperationLine) -> layout.Code:
        """An operation that is no module."""
        for value in line.attributes.values():
            if isinstance(value, Expr):
                self.printed(value)
        inputs = [self.value(each) for each in line.inputs]
        return primitives.CALLS[line.primitive.name](Context(line, self.spelling()), inputs)

    def run(self, line: Line, typed: set[str], indent: int) -> list[str]:
        margin = " " * indent
        match line:
            case OperationLine():
                return self.run_operation(line, typed, indent)
            case CallLine():
                return self.run_module(line, line.path, typed, indent)
            case AssignLine():
                if not line.inputs:
                    typed.add(line.output.name)
                    return [f"{margin}{line.output.name}: list[Tensor] = []"]
                return self.store(line.output, self.value(line.inputs[0]), typed, indent)
            case LoopLine():
                count = self.printed(line.count)
                body = self.forward(line.body, typed, indent + 4)
                return [f"{margin}for {line.variable} in range({count}):", *body]
            case FeatureLine():
                return [f'{margin}features["{line.stage}"] = {self.value(line.value)}']

    def run_operation(self, line: OperationLine, typed: set[str], indent: int) -> list[str]:
        if line.primitive.name in primitives.MODULES:
            return self.run_module(line, line.path, typed, indent)
        code = self.call(line)
        if line.when is None:
            return self.store(line.output, code, typed, indent, line.primitive.gives == "many")
        condition = layout.condition("if", self.printed(line.when), indent)
        passing = line.otherwise or line.inputs[0]
        same = line.output == passing
        body = self.store(line.output, code, set(typed) | {line.output.name}, indent + 4)
        if same:
            return [*condition, *body]
        if code == line.output.name:
            # Only where the condition does not hold is there something to do.
            negated = self.printed(unary("not", line.when))
            other = self.stored_to(line.output, self.value(passing), typed)
            return [*layout.condition("if", negated, indent), f"{' ' * (indent + 4)}{other}"]
        clobbers = any(line.output.name == each.name for each in line.inputs if each != passing)
        if clobbers or line.output.index is not None:
            other = self.stored_to(line.output, self.value(passing), typed)
            return [*condition, *body, f"{' ' * indent}else:", f"{' ' * (indent + 4)}{other}"]
        return [*self.store(line.output, self.value(passing), typed, indent), *condition, *body]

    def run_module(
        self, line: OperationLine | CallLine, path: Path, typed: set[str], indent: int
    ) -> list[str]:
        module = self.attribute(path)
        given = self.value(line.inputs[0])
        code = layout.call(module, given)
        if line.when is None:
            return self.store(line.output, code, typed, indent)
        if line.output == (line.otherwise or line.inputs[0]):
            inner = self.store(line.output, code, typed, indent + 4)
            return [f"{' ' * indent}if {module} is not None:", *inner]
        passing = self.value(line.otherwise or line.inputs[0])
        whole = layout.Choice(passing, f"{module} is None", layout.flat(code))
        return self.store(line.output, whole, typed, indent)

    def attribute(self, path: Path) -> str:
        if len(path) == 2 and isinstance(path[0], str) and isinstance(path[1], Expr):
            return f"self.{path[0][:-1]}[{to_python(path[1], self.spelling())}]"
        text = "".join(part for part in path if isinstance(part, str))
        head, _, rest = text.partition(".")
        return f'self.{head}["{rest}"]' if rest else f"self.{head}"

    def store(
        self,
        output: Value,
        code: layout.Code,
        typed: set[str],
        indent: int,
        many: bool = False,
    ) -> list[str]:
        if output.index is not None:
            appended = layout.Bracket(f"{output.name}.append(", (("", code),))
            return layout.statement("", appended, indent=indent)
        if many:
            return layout.statement(f"{output.name} = ", code, indent=indent)
        # Modules are typed to return anything; naming the type once is enough.
        annotation = "" if output.name in typed else ": Tensor"
        typed.add(output.name)
        return layout.statement(f"{output.name}{annotation} = ", code, indent=indent)

    def stored_to(self, output: Value, text: str, typed: set[str]) -> str:
        if output.index is not None:
            return f"{output.name}.append({text})"
        typed.add(output.name)
        return f"{output.name} = {text}"

    def value(self, value: Value) -> str:
        if value.whole:
            return f"*{value.name}"
        if value.index is not None:
            return f"{value.name}[{self.printed(value.index)}]"
        return value.name

    def printed(self, expression: Expr) -> str:
        """An expression in forward; the names of the constructor are kept as attributes."""
        self.stored |= names(expression) & self.own
        return to_python(expression, self.spelling())


# Attributes of nn.Module that a layer must not hide.
_MODULE_NAMES = frozenset(
    {
        *("T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init"),
        *("children", "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr"),
        *("float", "forward", "forward_features", "freeze_until", "get_buffer", "get_extra_state"),
        *("get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules"),
        *("mtia", "named_buffers", "named_children", "named_modules", "named_parameters"),
        *("parameters", "register_buffer", "register_module", "register_parameter"),
        *("requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict"),
        *("to", "to_empty", "train", "training", "type", "xpu", "zero_grad"),
    }
)


def check_attribute(name: str, where: str, span: Span | None) -> None:
    """RS503 for a layer that can't be an attribute of a module."""
    if not name.isidentifier() or name in _MODULE_NAMES or name.startswith("_"):
        fail(
            "RS503",
            f"{where}: a layer can't be called {quoted(name)} in PyTorch",
            span,
            help="a number is a name only in a block that is a plain sequence"
            if name[:1].isdigit()
            else "torch.nn.Module has an attribute of this name; call the layer something else",
        )
