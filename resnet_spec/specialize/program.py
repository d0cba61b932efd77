"""The result of specialisation: routines, their parameters and lines over variables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from resnet_spec import expressions
from resnet_spec.diagnostics import Span
from resnet_spec.expressions import Const, Expr
from resnet_spec.ir import Network
from resnet_spec.primitives import Initializer, Primitive

Path = tuple[str | Expr, ...]  # of a layer within its block, numbers of loops as expressions


class Parameter(NamedTuple):
    """A parameter of a routine, with a `default` if most callers can leave it out."""

    name: str
    type: str
    default: expressions.Number | None = None


class Value(NamedTuple):
    """A variable, one element of a list (`index`), or all elements of a list (`whole`)."""

    name: str
    index: Expr | None = None  # type: ignore[assignment] # hides that of tuples
    whole: bool = False


class OperationLine(NamedTuple):
    """`output = primitive(inputs)`; if `when` is false, the first input passes through."""

    primitive: Primitive
    attributes: Mapping[str, Expr | Initializer | str]
    path: Path
    inputs: tuple[Value, ...]
    channels: tuple[Expr | None, ...]  # of the inputs; None: no expression gives them
    output: Value
    when: Expr | None = None
    otherwise: Value | None = None  # passes where `when` does not hold; None: the first input
    inplace: bool = False  # the input is needed nowhere else
    nonnegative: bool = False  # no value of the input is below zero
    named: bool = True  # the spec gave the name
    child: bool = False  # of the network itself, whose layers can be called in a row
    grows: bool = False  # its output is a list that others add to
    span: Span | None = None


class Run(NamedTuple):
    """Uses of one routine, one after the other: for `i` from `start`, `count` of them."""

    routine: "Routine"
    start: Expr
    count: Expr  # type: ignore[assignment] # hides that of tuples
    values: tuple[Expr, ...]  # of the routine's parameters

    @property
    def arguments(self) -> tuple[tuple[Parameter, Expr], ...]:
        """Each parameter with its value."""
        return tuple(zip(self.routine.parameters, self.values, strict=True))

    @property
    def is_single(self) -> bool:
        return self.count == Const(1)

    @property
    def uses_index(self) -> bool:
        return any("i" in expressions.names(value) for value in self.values)


class CallLine(NamedTuple):
    """`output = routine(input)`, or a chain of `runs` where `names` is given."""

    runs: tuple[Run, ...]
    path: Path
    names: Path | None  # of the repeated blocks, an expression over `i`
    inputs: tuple[Value, ...]
    output: Value
    when: Expr | None = None
    otherwise: Value | None = None
    span: Span | None = None


def is_repeated(line: object) -> bool:
    """Whether a line is a chain of blocks."""
    return isinstance(line, CallLine) and line.names is not None


class AssignLine(NamedTuple):
    """`output = input`: a second name for a value whose variable is about to change."""

    inputs: tuple[Value, ...]
    output: Value


class LoopLine(NamedTuple):
    """`for variable in range(count)`."""

    variable: str
    count: Expr  # type: ignore[assignment] # hides that of tuples
    body: "tuple[Line, ...]"


class FeatureLine(NamedTuple):
    """Marks the end of a stage whose output is one of the network's feature maps."""

    stage: str
    value: Value


class LeftOutLine(NamedTuple):
    """Layers that the spec's own numbers leave out. Where `when` holds, they would be needed."""

    layers: tuple[str, ...]
    when: Expr


Line = OperationLine | CallLine | AssignLine | LoopLine | FeatureLine | LeftOutLine


class Routine(NamedTuple):
    """One block as the network needs it. `channels`: of the output, over the parameters."""

    name: str
    class_name: str
    description: str
    source: str | None
    parameters: tuple[Parameter, ...]
    locals: tuple[tuple[str, Expr], ...]
    body: tuple[Line, ...]
    result: Value
    channels: Expr | None  # None: no expression gives them in every use
    is_chain: bool  # a plain sequence whose layers are called 0, 1, …


class FeatureInfo(NamedTuple):
    """A feature map of `ir.feature_maps`, its channels over the parameters of the network."""

    name: str  # of the stage, or of the layer or block of the stem
    block: str  # the last of the stage
    layer: str | None  # of the stem: the operation that gives the map; None: a stage
    channels: Expr
    stride: int


class Program(NamedTuple):
    """A network as routines, each defined before it is used, and the network's own lines."""

    network: Network
    routines: tuple[Routine, ...]
    parameters: tuple[Parameter, ...]
    locals: tuple[tuple[str, Expr], ...]
    body: tuple[Line, ...]
    features: Value  # the last value of the stages
    head: tuple[Line, ...]
    result: Value
    feature_info: tuple[FeatureInfo, ...] = ()  # finest first

    def lines(self) -> Iterator[tuple[Routine | None, Line]]:
        """Every line of every routine; None stands for the network itself."""
        for routine in self.routines:
            for line in flat(routine.body):
                yield routine, line
        for line in flat((*self.body, *self.head)):
            yield None, line


def flat(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines with those within loops."""
    for line in lines:
        yield line
        if isinstance(line, LoopLine):
            yield from flat(line.body)


def line_expressions(line: Line) -> Iterator[Expr]:
    """Every expression of a line, those within a loop included."""
    match line:
        case OperationLine():
            yield from (v for v in line.attributes.values() if isinstance(v, Expr))
            yield from filter(None, line.channels)
        case CallLine():
            for run in line.runs:
                yield from (run.start, run.count, *run.values)
        case LoopLine():
            yield line.count
            for inner in line.body:
                yield from line_expressions(inner)
        case LeftOutLine():
            yield line.when
    if isinstance(line, OperationLine | CallLine):
        yield from (part for part in line.path if isinstance(part, Expr))
        if line.when is not None:
            yield line.when
    if isinstance(line, OperationLine | CallLine | AssignLine):
        passing = () if isinstance(line, AssignLine) else (line.otherwise,)
        for value in (*line.inputs, line.output, *passing):
            if value is not None and value.index is not None:
                yield value.index


def used_expressions(line: Line) -> Iterator[Expr]:
    """The expressions that a backend prints; input channels only where they size parameters."""
    for inner in flat([line]):
        if isinstance(inner, OperationLine) and not inner.primitive.is_sized_by_input:
            yield from line_expressions(inner._replace(channels=()))
        elif not isinstance(inner, LoopLine):
            yield from line_expressions(inner)
        else:
            yield inner.count


def substituted(line: Line, names: Mapping[str, Expr]) -> Line:
    return changed(line, lambda each: expressions.substitute(each, names))


def where_it_runs(line: Line) -> Line:
    """A line with expressions that hold under its condition, which is all that anyone asks for."""
    if isinstance(line, LoopLine):
        return line._replace(body=tuple(where_it_runs(each) for each in line.body))
    when = line.when if isinstance(line, OperationLine | CallLine) else None
    return line if when is None else changed(line, lambda each: expressions.given(each, when))


def changed(line: Line, change: Callable[[Expr], Expr]) -> Line:
    """A line with all its expressions changed."""

    def new(value: Any) -> Any:
        return _changed(value, change)

    match line:
        case LoopLine(variable, count, body):
            return LoopLine(variable, new(count), tuple(changed(each, change) for each in body))
        case FeatureLine():
            return line
        case LeftOutLine(layers, when):
            return LeftOutLine(layers, new(when))
        case AssignLine(inputs, output):
            return AssignLine(new(inputs), new(output))
    changes: dict[str, Any] = {
        "path": new(line.path),
        "inputs": new(line.inputs),
        "output": new(line.output),
        "when": new(line.when),
        "otherwise": new(line.otherwise),
    }
    if isinstance(line, OperationLine):
        return line._replace(
            **changes, attributes=new(dict(line.attributes)), channels=new(line.channels)
        )
    return line._replace(**changes, runs=new(line.runs))


def _changed(value: Any, change: Callable[[Expr], Expr]) -> Any:
    """A part of a line with all its expressions changed."""

    def new(inner: Any) -> Any:
        return _changed(inner, change)

    match value:
        case Expr():
            return change(value)
        case Value(_, index) if index is not None:
            return value._replace(index=change(index))
        case Run(routine, start, count, values):
            return Run(routine, new(start), new(count), new(values))
        case Value():
            return value
        case tuple() if type(value) is tuple:
            return tuple(new(each) for each in value)
        case dict():
            return {key: new(each) for key, each in value.items()}
    return value
