"""What a spec and its blocks say, as written: statements over expressions, with positions."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from resnet_spec.diagnostics import Span
from resnet_spec.expressions import Expr, Number
from resnet_spec.language.nodes import EMPTY
from resnet_spec.language.nodes import Mapping as MappingNode
from resnet_spec.primitives import Initializer


class Expression(NamedTuple):
    """An expression with its text and position; `names` maps each name to its offset."""

    expr: Expr
    text: str
    span: Span
    names: Mapping[str, int] = {}
    exact: bool = True  # columns of the text map one to one to columns of the file

    def span_at(self, offset: int, length: int) -> Span:
        return self.span.narrowed(offset, length) if self.exact else self.span


class Pattern(NamedTuple):
    """A name that may hold expressions in braces: `denselayer{i + 1}`, `part.{i}`."""

    parts: tuple[str | Expression, ...]
    text: str
    span: Span

    @property
    def is_fixed(self) -> bool:
        return len(self.parts) == 1 and isinstance(self.parts[0], str)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return tuple(part for part in self.parts if isinstance(part, Expression))


class Reference(NamedTuple):
    """A value by its name, or one element of a list of values: `part.{i}`."""

    name: str
    index: Expression | None  # type: ignore[assignment] # hides that of tuples
    span: Span
    whole: bool = False  # of an operation that joins values: its only one, so it must be a list

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.name}.{{{self.index.text}}}"


class Binding(NamedTuple):
    """What fills a slot: nothing, a primitive or a block, with arguments of its own.

    The arguments stay nodes until the target is known: what is an expression, an initializer or
    the name of a block depends on it.
    """

    target: str | None
    arguments: MappingNode
    span: Span


OF_EVERY_LAYER = ("from", "as", "when", "else")  # keys that stand beside any operation


class Statement(NamedTuple):
    """One line of a block. `target` names a primitive, a slot or a block, as `kind` says.

    `unnamed`: `name` is not from the spec but derived from the target. A broken one stands for a
    line with an error, so that the names that it defines are not missing elsewhere.
    """

    kind: Literal["primitive", "slot", "block", "broken"]
    target: str
    span: Span
    name: Pattern | None = None
    inputs: tuple[Reference, ...] = ()  # empty: the previous output
    result: Reference | None = None
    when: Expression | None = None
    otherwise: Reference | None = None  # what passes where `when` does not hold, if not the input
    arguments: MappingNode = EMPTY
    repeat: Expression | None = None
    names: Pattern | None = None  # of the repeated blocks
    feature: bool = True  # of a stage: its output is one of the network's feature maps
    unnamed: bool = False
    meant: Literal["primitive", "slot", "block", ""] = ""  # the kind that a broken one would have


class Loop(NamedTuple):
    """Statements that are repeated with a counter; unrolled while lowering."""

    variable: str
    count: Expression  # type: ignore[assignment] # hides that of tuples
    body: "tuple[Statement | Loop, ...]"
    span: Span


class Argument(NamedTuple):
    """An argument of a block; without a default it must be given."""

    name: str
    type: Literal["int", "float", "bool"]
    default: Expression | None
    first_only: bool
    description: str | None
    span: Span


class Definition(NamedTuple):
    """A block as written."""

    name: str
    class_name: str
    description: str
    source: str | None
    arguments: Mapping[str, Argument]
    slots: Mapping[str, Binding]
    lets: Mapping[str, Expression]
    body: tuple[Statement | Loop, ...]
    span: Span
    node: MappingNode


class Bound(NamedTuple):
    """A number, and whether it follows from an argument of the generated model."""

    value: Number
    open: bool = False


Source = Expression | Bound | Initializer | str | None  # None: the default of the attribute


class Published(NamedTuple):
    """A network that a spec says it equals; `rename` leads from its names to ours.

    Where `library` is empty, it is the model that the spec was imported from.
    """

    library: str
    model: str
    rename: Mapping[str, str]


class Recipe(NamedTuple):
    """How a network is trained: each key of the language with its value, and whose recipe it is."""

    settings: Mapping[str, object]
    name: str | None
    description: str | None
    source: str | None
