"""The body of one class: its constructor and its forward function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from resnet_spec.backends.torch import primitives
from resnet_spec.backends.torch.placement import (
    Layer,
    Place,
    Placement,
    container_of,
    is_layer,
    layers_in,
    text_of,
)
from resnet_spec.backends.torch.primitives import Context
from resnet_spec.codegen import layout, python
from resnet_spec.expressions import Expr, Name, names, to_python, unary
from resnet_spec.specialize import (
    AssignLine,
    CallLine,
    FeatureLine,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Path,
    Run,
    Value,
    line_expressions,
)

BODY = 8  # indentation of a method's body


@dataclass
class Writer:
    """Writes the constructor and the forward function of one class.

    `lines` are all lines of the class, which say where its layers are kept; the children of a
    network can be called one after the other.
    """

    parameters: Sequence[Parameter]
    locals: Sequence[tuple[str, Expr]]
    lines: Sequence[Line]
    is_network: bool = False
    stored: set[str] = field(default_factory=set)  # names that forward needs
    containers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.placement = Placement(self.lines)
        self.own = {p.name for p in self.parameters} | {name for name, _ in self.locals}

    # - constructor -

    def constructor(self) -> list[str]:
        """The statements after `super().__init__()`; written after what needs `stored` names."""
        text = [
            statement
            for name, value in self.locals
            for statement in layout.statement(f"{name} = ", to_python(value), indent=BODY)
        ]
        order = [*(p.name for p in self.parameters), *(name for name, _ in self.locals)]
        kept = [name for name in order if name in self.stored]
        text += [f"{' ' * BODY}{self.kept_as(name)} = {name}" for name in kept]
        body = [line for line in self.lines if any(layers_in([line]))]
        layers = python.spaced(body, self.construct)
        return [*text, *([""] if text and layers else []), *layers]

    def construct(self, line: Line) -> list[str]:
        if isinstance(line, LoopLine):
            return [*self.module_lists(line), *self.added(line, BODY)]
        assert isinstance(line, OperationLine | CallLine)
        if self.placement.of(line) is Place.SUBMODULE:
            return self.added(line, BODY)
        return self.assign(line)

    def assign(self, line: Layer) -> list[str]:
        """`self.name = layer`, with the line that makes its container where it is within one."""
        code = self.module(line) if isinstance(line, OperationLine) else self.blocks(line)
        target, before = self.target(line)
        if line.when is None:
            return [*before, *layout.statement(f"{target} = ", code, indent=BODY)]
        # A key that is not there tells the same as an attribute that is None.
        absent = [] if self.placement.of(line) is Place.KEY else [f"{' ' * BODY}{target} = None"]
        return [
            *before,
            *absent,
            *layout.condition("if", to_python(line.when), BODY),
            *layout.statement(f"{target} = ", code, indent=BODY + 4),
        ]

    def target(self, line: Layer) -> tuple[str, list[str]]:
        head, _, rest = str(text_of(container_of(line)[0])).partition(".")
        if not rest:
            return f"self.{head}", []
        before = []
        if head not in self.containers:
            self.containers.add(head)
            in_turn = self.is_network and self.placement.runs_in_turn(head)
            kind = "SequentialDict" if in_turn else "nn.ModuleDict"
            before.append(f"{' ' * BODY}self.{head} = {kind}()")
        return f'self.{head}["{rest}"]', before

    def module(self, line: OperationLine) -> layout.Code:
        return primitives.MODULES[line.primitive.name](Context(line, {}))

    def blocks(self, line: CallLine) -> layout.Code:
        """A block, or a sequence of blocks under their names."""
        _, own = container_of(line)
        if own is None:
            return self.block(line.runs[0])
        if own != (Name("i", True),):
            return self.named_blocks(line.runs, own)
        items: list[tuple[str, layout.Code]] = []
        for run in line.runs:
            if run.is_single:
                items.append(("", self.block(run)))
                continue
            counter = "i" if run.uses_index else "_"
            over = python.run_range(run, {})
            if not run.uses_index:
                over = f"range({to_python(run.count)})"
            clause = f"for {counter} in {over}"
            items.append(("", layout.Comprehension("*(", self.block(run), clause)))
        return layout.Bracket("nn.Sequential(", tuple(items), spread=True)

    def named_blocks(self, runs: Sequence[Run], own: Path) -> layout.Code:
        items: list[layout.Code] = []
        for run in runs:
            name = python.literal(python.spelled(own, {}))
            if run.is_single:
                name = python.literal(python.spelled(python.at_index(own, run.start), {}))
            pair = layout.Bracket("(", (("", name), ("", self.block(run))))
            if run.is_single:
                items.append(pair)
            else:
                clause = f"for i in {python.run_range(run, {})}"
                items.append(layout.Comprehension("*(", pair, clause))
        if len(items) == 1 and isinstance(items[0], layout.Comprehension):
            only = items[0]
            inner: layout.Code = layout.Comprehension("OrderedDict(", only.element, only.clause)
        else:
            inner = layout.Bracket("OrderedDict(", (("", layout.array(items)),))
        return layout.Bracket("nn.Sequential(", (("", inner),))

    def block(self, run: Run) -> layout.Code:
        positional, keywords = python.passed(run.arguments, {})
        return layout.call(run.routine.class_name, *positional, **keywords)

    def module_lists(self, loop: LoopLine) -> list[str]:
        """A list for each layer of a loop that ends with its counter."""
        text = []
        for line, _ in layers_in(loop.body):
            if self.placement.of(line) is not Place.ITEM:
                continue
            element = self.module(line) if isinstance(line, OperationLine) else self.blocks(line)
            made_of = line_expressions(line._replace(path=()))
            counted = any(loop.variable in names(each) for each in made_of)
            counter = loop.variable if counted else "_"
            clause = f"for {counter} in range({to_python(loop.count)})"
            code = layout.Comprehension("nn.ModuleList(", element, clause)
            text += layout.statement(f"self.{str(line.path[0])[:-1]} = ", code, indent=BODY)
        return text

    def added(self, line: Line, indent: int) -> list[str]:
        """`add_layer(self, name, layer)`, within the loops and conditions of `forward`."""
        if isinstance(line, LoopLine):
            inner = [text for each in line.body for text in self.added(each, indent + 4)]
            over = python.loop(line.variable, to_python(line.count), indent)
            return [*over, *inner] if inner else []
        if not isinstance(line, OperationLine | CallLine) or not is_layer(line):
            return []
        if self.placement.of(line) is not Place.SUBMODULE:
            return []
        if line.when is not None:
            condition = layout.condition("if", to_python(line.when), indent)
            return [*condition, *self.added_always(line, indent + 4)]
        return self.added_always(line, indent)

    def added_always(self, line: Layer, indent: int) -> list[str]:
        if isinstance(line, OperationLine):
            return self.add_layer(line.path, self.module(line), indent)
        if line.names is None:
            return self.add_layer(line.path, self.block(line.runs[0]), indent)
        text = []
        for run in line.runs:
            path = (*line.path, ".", *line.names)
            if run.is_single:
                path = python.at_index(path, run.start)
                text += self.add_layer(path, self.block(run), indent)
            else:
                text.append(f"{' ' * indent}for i in {python.run_range(run, {})}:")
                text += self.add_layer(path, self.block(run), indent + 4)
        return text

    def add_layer(self, path: Path, code: layout.Code, indent: int) -> list[str]:
        name = python.literal(python.spelled(path, {}))
        return layout.statement("", layout.call("add_layer", "self", name, code), indent=indent)

    # - forward -

    def spelling(self) -> dict[str, str]:
        return {name: self.kept_as(name) for name in self.own}

    def kept_as(self, name: str) -> str:
        """The attribute that keeps a value of the constructor for `forward`."""
        while self.placement.hides(name):
            name += "_"
        return f"self.{name}"

    def forward(self, lines: Sequence[Line], typed: set[str], indent: int = BODY) -> list[str]:
        """The statements of a forward function; `typed` are variables known to be tensors."""
        return python.spaced(lines, lambda line: self.run(line, typed, indent))

    def returning(
        self, lines: Sequence[Line], result: Value, typed: Iterable[str] = ("x",)
    ) -> list[str]:
        """The statements of a forward function with its `return`."""

        def write(each: Sequence[Line]) -> list[str]:
            for line, other in zip(lines, each, strict=True):
                self.placement.replace(line, other)
            return self.forward(each, set(typed))

        return python.returning(lines, result, write, BODY)

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
                return self.run_module(line, typed, indent)
            case AssignLine():
                if not line.inputs:
                    annotation = "" if line.output.name in typed else ": list[Tensor]"
                    typed.add(line.output.name)
                    return [f"{margin}{line.output.name}{annotation} = []"]
                return self.store(line.output, self.value(line.inputs[0]), typed, indent)
            case LoopLine():
                count = self.printed(line.count)
                body = self.forward(line.body, typed, indent + 4)
                return [*python.loop(line.variable, count, indent), *body] if body else []
            case FeatureLine():
                return [f'{margin}features["{line.stage}"] = {self.value(line.value)}']

    def run_operation(self, line: OperationLine, typed: set[str], indent: int) -> list[str]:
        if is_layer(line):
            return self.run_module(line, typed, indent)
        code = self.call(line)
        many = line.primitive.gives == "many"
        passing = line.otherwise or line.inputs[0]
        if line.when is not None and code == line.output.name and line.output != passing:
            # Only where the condition does not hold is there something to do.
            negated = self.printed(unary("not", line.when))
            known = {*typed, line.output.name}
            other = self.store(line.output, self.value(passing), known, indent + 4)
            return [*layout.condition("if", negated, indent), *other]

        def write(known: set[str], at: int) -> list[str]:
            return self.store(line.output, code, known, at, many)

        return self.guarded(line, write, typed, indent)

    def guarded(
        self,
        line: Layer,
        write: Callable[[set[str], int], list[str]],
        typed: set[str],
        indent: int,
    ) -> list[str]:
        """What `write` gives, under the condition of the line where it has one."""
        if line.when is None:
            return write(typed, indent)
        condition = layout.condition("if", self.printed(line.when), indent)
        passing = line.otherwise or line.inputs[0]
        body = write({*typed, line.output.name}, indent + 4)
        if line.output == passing:
            return [*condition, *body] if body else []
        other = self.value(passing)
        clobbers = any(line.output.name == each.name for each in line.inputs if each != passing)
        # An element need not be there where it is not read.
        if clobbers or line.output.index is not None or passing.index is not None:
            typed.add(line.output.name)
            rest = self.store(line.output, other, typed, indent + 4)
            return [*condition, *body, f"{' ' * indent}else:", *rest]
        return [*self.store(line.output, other, typed, indent), *condition, *body]

    def run_module(self, line: Layer, typed: set[str], indent: int) -> list[str]:
        if self.placement.of(line) is Place.SUBMODULE:

            def write(known: set[str], at: int) -> list[str]:
                return self.run_submodule(line, known, at)

            return self.guarded(line, write, typed, indent)
        module = self.attribute(line)
        code = layout.call(module, self.value(line.inputs[0]))
        if line.when is None:
            return self.store(line.output, code, typed, indent)
        present, absent = f"{module} is not None", f"{module} is None"
        if self.placement.of(line) is Place.KEY:
            container, key = module[:-1].split("[")
            present, absent = f"{key} in {container}", f"{key} not in {container}"
        if line.output == (line.otherwise or line.inputs[0]):
            inner = self.store(line.output, code, typed, indent + 4)
            return [f"{' ' * indent}if {present}:", *inner]
        passing = self.value(line.otherwise or line.inputs[0])
        whole = layout.Choice(passing, absent, layout.flat(code))
        return self.store(line.output, whole, typed, indent)

    def run_submodule(self, line: Layer, typed: set[str], indent: int) -> list[str]:
        """A layer, or repeated blocks one after the other, by their dotted names."""
        source = self.value(line.inputs[0])
        if isinstance(line, OperationLine) or line.names is None:
            return self.apply(line.output, line.path, source, typed, indent)
        text: list[str] = []
        output = line.output
        for number, run in enumerate(line.runs):
            path = (*line.path, ".", *line.names)
            if run.is_single:
                at = python.at_index(path, run.start)
                text += self.apply(output, at, source, typed, indent)
            else:
                if source != output.name and number == 0:
                    text += self.store(output, source, typed, indent)
                text.append(f"{' ' * indent}for i in {python.run_range(run, self.kept(run))}:")
                text += self.apply(output, path, output.name, typed, indent + 4)
            source = output.name
        return text

    def kept(self, run: Run) -> dict[str, str]:
        """How `forward` spells the names in the range of a run."""
        for each in (run.start, run.count):
            self.printed(each)
        return self.spelling()

    def apply(
        self, output: Value, path: Path, source: str, typed: set[str], indent: int
    ) -> list[str]:
        """`output = self.get_submodule(name)(source)`."""
        for part in path:
            if isinstance(part, Expr):
                self.printed(part)
        name = python.literal(python.spelled(path, self.spelling()))
        found = layout.call("self.get_submodule", name)
        if output.index is None:
            return self.store(output, found, typed, indent, suffix=f"({source})")
        code = layout.Applied(found, source)
        return self.store(output, code, typed, indent)

    def attribute(self, line: Layer) -> str:
        path, _ = container_of(line)
        if self.placement.of(line) is Place.ITEM:
            counter = path[1]
            assert isinstance(counter, Expr)
            return f"self.{str(path[0])[:-1]}[{to_python(counter, self.spelling())}]"
        head, _, rest = str(text_of(path)).partition(".")
        return f'self.{head}["{rest}"]' if rest else f"self.{head}"

    def store(
        self,
        output: Value,
        code: layout.Code,
        typed: set[str],
        indent: int,
        many: bool = False,
        suffix: str = "",
    ) -> list[str]:
        if code == output.name and output.index is None and not suffix:
            return []  # a value that is itself: scaled by one, the sum of one
        if output.index is not None:
            appended = layout.Bracket(f"{output.name}.append(", (("", code),))
            return layout.statement("", appended, indent=indent)
        # Modules are typed to return anything; naming the type once is enough.
        known = many or output.name in typed or output == python.RETURNED
        typed.add(output.name)
        name = output.name if known else f"{output.name}: Tensor"
        return python.store(name, code, suffix, indent)

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
