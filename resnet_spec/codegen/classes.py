"""The class of a block or network: a constructor that makes its layers, a method that runs them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from resnet_spec.codegen import layout, patterns, python
from resnet_spec.codegen.branches import Branch, passing
from resnet_spec.codegen.operation import OperationContext
from resnet_spec.codegen.placement import (
    Layer,
    Modules,
    Place,
    Placement,
    container_of,
    is_counted,
    text_of,
)
from resnet_spec.codegen.statements import StatementWriter, refused
from resnet_spec.expressions import Expr, names, to_python
from resnet_spec.specialize import (
    CallLine,
    LeftOutLine,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Path,
    Program,
    Run,
    Value,
    line_expressions,
)

BODY = 8  # indentation of a method's body
NESTED = BODY + layout.INDENT


@dataclass
class ClassWriter(StatementWriter):
    """Writes the constructor of a class and the method that runs its layers.

    `lines` are all lines of the class; they determine where its layers are kept. The children of a
    network can be called in order. A backend defines how its modules are constructed and called.
    """

    parameters: Sequence[Parameter]
    locals: Sequence[tuple[str, Expr]]
    lines: Sequence[Line]
    modules: Modules
    is_network: bool = False
    given: Sequence[str] = ("x",)  # what the method is given
    stored: set[str] = field(default_factory=set)  # names that the method needs
    containers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.placement = Placement(self.lines, self.modules, self.is_network)
        self.own = {p.name for p in self.parameters} | {name for name, _ in self.locals}
        self.spelling = {name: self.kept_as(name) for name in self.own}

    # - what a backend says -

    opening: ClassVar[Sequence[str]] = ()  # the first lines of every constructor

    @abstractmethod
    def context(
        self, line: OperationLine, spelling: Mapping[str, str], inputs: Sequence[str] = ()
    ) -> OperationContext:
        """An operation for the rules of the backend's tables."""

    @abstractmethod
    def optional(self, target: str, code: layout.Code, condition: Expr) -> list[str]:
        """The statements that construct a layer if a condition holds, and set None otherwise."""

    def chain(self, head: str) -> str:
        """The pattern of an empty container whose layers run one after the other."""
        return self.modules.chain

    def within(self, head: str, key: str) -> str:
        """A module of a container."""
        return f'self.{head}["{key}"]'

    def more_parameters(self, name: str, constructor: Sequence[str]) -> Sequence[str]:
        """What the constructor of the class `name` takes beside the parameters of its block."""
        return ()

    def more_arguments(self, name: str) -> Mapping[str, str]:
        """What the constructor of the class `name` is given for them."""
        return {}

    # - layers and blocks -

    def layer(self, line: OperationLine) -> layout.Code:
        """The code that constructs the module of an operation."""
        return self.context(line, {}).write(self.modules.table)

    def call(self, line: OperationLine, inputs: Sequence[str]) -> layout.Code:
        """The code that runs an operation that is not a module."""
        return self.context(line, self.spelling, inputs).write(self.modules.calls)

    def block(self, run: Run) -> layout.Code:
        """The code that constructs one block."""
        name = run.routine.class_name
        positional, keywords = python.passed(run.arguments, {})
        return layout.call(name, *positional, **keywords, **self.more_arguments(name))

    # - constructor -

    def constructor(self) -> list[str]:
        """Its statements; written after those of the method, which say what it needs."""
        text = self.local_values()
        order = [*(p.name for p in self.parameters), *(name for name, _ in self.locals)]
        kept = [name for name in order if name in self.stored]
        text += [f"{' ' * BODY}{self.kept_as(name)} = {name}" for name in kept]
        layers = python.spaced([*self.units_of_layers()], self.construct)
        return [*text, *([""] if text and layers else []), *layers]

    def local_values(self) -> list[str]:
        """Its first statements, with the errors for numbers that other layers would need."""
        text = []
        for name, value in self.locals:
            text += layout.statement(f"{name} = ", to_python(value), indent=BODY)
        for line in self.lines:
            if isinstance(line, LeftOutLine):
                text += refused(line, to_python(line.when), BODY)
        return text

    def units(self, lines: Sequence[Line]) -> Sequence[Line | Branch]:
        """Without the layers that are left out, which the constructor tells of."""
        return super().units([line for line in lines if not isinstance(line, LeftOutLine)])

    def units_of_layers(self) -> Iterator[Line | Branch]:
        """The lines and branches that have layers."""
        for unit in self.units(self.lines):
            if isinstance(unit, Branch):
                layers = tuple(line for line in unit.lines if self.modules.is_layer(line))
                if layers:
                    yield unit._replace(lines=layers)
            elif any(self.modules.layers_in([unit])):
                yield unit

    def construct(self, unit: Line | Branch) -> list[str]:
        match unit:
            case Branch():
                return self.construct_branch(unit)
            case LoopLine():
                return [*self.module_lists(unit), *self.added(unit, BODY)]
        assert isinstance(unit, OperationLine | CallLine)
        match self.placement.of(unit):
            case Place.SUBMODULE:
                return self.added(unit, BODY)
            case Place.ELEMENT:
                return self.assign_elements(unit)
        return self.assign(unit)

    def construct_branch(self, branch: Branch) -> list[str]:
        """Its layers, which only the same branch of the method asks for.

        Containers are always there, where the first of their layers runs.
        """
        condition = layout.condition("if", to_python(branch.when), BODY)
        text: list[str] = []
        again = True  # the condition has to be said for the next layer
        for line in branch.lines:
            assert self.modules.is_layer(line)
            if self.placement.of(line) is Place.SUBMODULE:
                made = self.added_always(line, NESTED)
            else:
                target, container = self.kept_in(line)
                made = layout.statement(f"{target} = ", self.made(line), indent=NESTED)
                text += container
                again = again or bool(container)
            text += [*condition, *made] if again else made
            again = False
        return text

    def assign_elements(self, line: Layer) -> list[str]:
        """`self.name = [layer, …]`, once for all elements."""
        head = str(line.path[0]).partition(".")[0]
        first, *others = self.placement.elements[head]
        if line is not first:
            return []
        made = [self.made(each) for each in (first, *others)]
        code = layout.collection(self.modules.module_list, made)
        return layout.statement(f"self.{head} = ", code, indent=BODY)

    def assign(self, line: Layer) -> list[str]:
        """`self.name = layer`, with the line that makes its container where it is within one."""
        code = self.made(line)
        target, before = self.kept_in(line)
        if line.when is None:
            return [*before, *layout.statement(f"{target} = ", code, indent=BODY)]
        if self.placement.of(line) is not Place.KEY:
            return [*before, *self.optional(target, code, line.when)]
        # A key that is not there tells the same as an attribute that is None.
        made = layout.statement(f"{target} = ", code, indent=NESTED)
        return [*before, *layout.condition("if", to_python(line.when), BODY), *made]

    def kept_in(self, line: Layer) -> tuple[str, list[str]]:
        """The attribute or key of a layer, and the line that makes its container."""
        head, _, rest = str(text_of(container_of(line)[0])).partition(".")
        if not rest:
            return f"self.{head}", []
        before = []
        if head not in self.containers:
            self.containers.add(head)
            in_turn = self.is_network and self.placement.runs_in_turn(head)
            made = self.chain(head) if in_turn else self.modules.dictionary
            before.append(f"{' ' * BODY}{made.replace('{}', f'self.{head}')}")
        return self.within(head, rest), before

    def made(self, line: Layer) -> layout.Code:
        """The code for a layer, a block, or a sequence of blocks under their names."""
        if isinstance(line, OperationLine):
            return self.layer(line)
        _, own = container_of(line)
        if own is None:
            return self.block(line.runs[0])
        if is_counted(own):
            blocks = [self.repeated(run) for run in line.runs]
            return layout.collection(self.modules.sequence, blocks, spread=True)
        pairs = [self.named(run, own) for run in line.runs]
        return layout.collection(self.modules.named_sequence, pairs)

    def repeated(self, run: Run) -> layout.Code:
        """The blocks of one run."""
        if run.is_single:
            return self.block(run)
        over = f"for _ in range({to_python(run.count)})"
        if run.uses_index:
            over = f"for i in {python.run_range(run, {})}"
        return layout.Comprehension("*(", self.block(run), over)

    def named(self, run: Run, names: Path) -> layout.Code:
        """The blocks of one run with their names."""
        path = python.at_index(names, run.start) if run.is_single else names
        name = python.literal(python.spelled(path, {}))
        pair = layout.Bracket("(", (("", name), ("", self.block(run))))
        over = f"for i in {python.run_range(run, {})}"
        return pair if run.is_single else layout.Comprehension("*(", pair, over)

    def module_lists(self, loop: LoopLine) -> list[str]:
        """A list for each layer of a loop that ends with its counter."""
        text = []
        for line, _ in self.modules.layers_in(loop.body):
            if self.placement.of(line) is not Place.ITEM:
                continue
            made_of = line_expressions(line._replace(path=()))
            counted = any(loop.variable in names(each) for each in made_of)
            counter = loop.variable if counted else "_"
            clause = f"for {counter} in range({to_python(loop.count)})"
            each = layout.Comprehension("*(", self.made(line), clause)
            code = layout.collection(self.modules.module_list, [each])
            text += layout.statement(f"self.{str(line.path[0])[:-1]} = ", code, indent=BODY)
        return text

    def added(self, line: Line, indent: int) -> list[str]:
        """`add_layer(self, name, layer)`, within the loops and conditions of the method."""
        if isinstance(line, LoopLine):
            inner = [text for each in line.body for text in self.added(each, indent + 4)]
            over = python.loop(line.variable, to_python(line.count), indent)
            return [*over, *inner] if inner else []
        if not self.modules.is_layer(line) or self.placement.of(line) is not Place.SUBMODULE:
            return []
        if line.when is not None:
            condition = layout.condition("if", to_python(line.when), indent)
            return [*condition, *self.added_always(line, indent + 4)]
        return self.added_always(line, indent)

    def added_always(self, line: Layer, indent: int) -> list[str]:
        if isinstance(line, OperationLine):
            return self.add_layer(line.path, self.layer(line), indent)
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

    # - the method that runs the layers -

    def kept_as(self, name: str) -> str:
        """The attribute that keeps a value of the constructor."""
        while self.placement.hides(name):
            name += "_"
        return f"self.{name}"

    def printed(self, expression: Expr) -> str:
        self.stored |= names(expression) & self.own
        return super().printed(expression)

    def method(self, lines: Sequence[Line]) -> list[str]:
        """The statements of the whole method."""
        return self.statements(lines, BODY)

    def returning(self, lines: Sequence[Line], result: Value) -> list[str]:
        """The statements of the method with its `return`."""

        self.result = None if self.is_network else result.name

        def write(each: Sequence[Line]) -> list[str]:
            for line, other in zip(lines, each, strict=True):
                self.placement.replace(line, other)
            return self.method(each)

        return python.returning(lines, result, write, BODY)

    def operation(self, line: OperationLine) -> layout.Code:
        for value in line.attributes.values():
            if isinstance(value, Expr):
                self.printed(value)
        return self.call(line, [self.value(each) for each in line.inputs])

    def run_operation(self, line: OperationLine, indent: int) -> list[str]:
        if self.modules.is_layer(line):
            return self.run_module(line, indent)
        return super().run_operation(line, indent)

    def run_call(self, line: CallLine, indent: int) -> list[str]:
        return self.run_module(line, indent)

    def run_module(self, line: Layer, indent: int) -> list[str]:
        if self.placement.of(line) is Place.SUBMODULE:
            return self.guarded(line, lambda at: self.run_submodule(line, at), indent)
        module = self.attribute(line)
        code = layout.call(module, self.value(line.inputs[0]))
        if self.condition(line) is None:
            return self.store(line.output, code, indent)
        present, absent = f"{module} is not None", f"{module} is None"
        if self.placement.of(line) is Place.KEY:
            head, _, key = str(text_of(container_of(line)[0])).partition(".")
            present, absent = f'"{key}" in self.{head}', f'"{key}" not in self.{head}'
        if line.output == passing(line):
            return [f"{' ' * indent}if {present}:", *self.store(line.output, code, indent + 4)]
        whole = layout.Choice(self.value(passing(line)), absent, layout.flat(code))
        return self.store(line.output, whole, indent)

    def run_submodule(self, line: Layer, indent: int) -> list[str]:
        """A layer, or repeated blocks one after the other, by their dotted names."""
        if isinstance(line, OperationLine):
            return self.apply(line.output, line.path, line.inputs[0], indent)

        def write(_: Run, source: Value, path: Path, at: int) -> list[str]:
            return self.apply(line.output, path, source, at)

        return self.in_turn(line, write, indent)

    def apply(self, output: Value, path: Path, source: Value, indent: int) -> list[str]:
        """Assign the output of the module with a dotted name."""
        for part in path:
            if isinstance(part, Expr):
                self.printed(part)
        name = python.literal(python.spelled(path, self.spelling))
        module = patterns.code(self.modules.found.replace("{}", name))
        assert isinstance(module, layout.Bracket)
        return self.store(output, layout.Applied(module, self.value(source)), indent)

    def attribute(self, line: Layer) -> str:
        path, _ = container_of(line)
        if self.placement.of(line) is Place.ITEM:
            counter = path[1]
            assert isinstance(counter, Expr)
            return f"self.{str(path[0])[:-1]}[{to_python(counter, self.spelling)}]"
        head, _, rest = str(text_of(path)).partition(".")
        if self.placement.of(line) is Place.ELEMENT:
            return f"self.{head}[{rest}]"
        return self.within(head, rest) if rest else f"self.{head}"

    # - the maps that others build upon -

    def feature_info(self, program: Program) -> list[str]:
        """The statement that lists them: of an instance, since their channels may follow from the
        arguments of its constructor."""
        return layout.statement("self.feature_info = ", self.feature_maps(program), indent=BODY)

    def feature_maps(self, program: Program) -> layout.Code:
        """A network's feature maps under the names of the modules that output them."""
        holders = {
            text_of(line.path): text_of(container_of(line)[0])
            for line in program.body
            # Blocks that are kept one by one are no module together: the last stands for all.
            if isinstance(line, CallLine)
            and line.names
            and self.placement.of(line) is not Place.SUBMODULE
        }
        maps = [
            each._replace(name=holders.get(each.name) or each.block)
            for each in program.feature_info
        ]
        return python.feature_info(maps, lambda each: to_python(each.channels))
