"""The last steps of a routine: remove unused parameters, and inline local values used once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from resnet_spec import expressions
from resnet_spec.expressions import Const, Expr, Name
from resnet_spec.language.syntax import Definition
from resnet_spec.specialize.program import (
    Line,
    OperationLine,
    Parameter,
    Value,
    substituted,
    used_expressions,
)


def used_names(body: Iterable[Line], locals_: Iterable[tuple[str, Expr]]) -> set[str]:
    found: set[str] = set()
    for line in body:
        for each in used_expressions(line):
            found |= expressions.names(each)
    for _, value in locals_:
        found |= expressions.names(value)
    return found


def parameters_of(
    block: Definition, names: Mapping[str, Expr], used: set[str]
) -> tuple[Parameter, ...]:
    """The arguments that vary and are used; those with a default come last."""
    parameters = []
    for name in ("in_channels", *block.arguments):
        if (names[name] != Name(name) and not isinstance(names[name], Name)) or name not in used:
            continue
        argument = block.arguments.get(name)
        default = argument.default if argument is not None else None
        literal = None
        if default is not None and isinstance(default.expr, Const):
            literal = default.expr.value
            if argument is not None and argument.type == "float":
                literal = float(literal)
        parameters.append(Parameter(name, argument.type if argument else "int", literal))
    return tuple(sorted(parameters, key=lambda p: p.default is not None))


def expanded_locals(locals_: Iterable[tuple[str, Expr]]) -> Iterator[tuple[str, Expr]]:
    known: dict[str, Expr] = {}
    for name, value in locals_:
        known[name] = expressions.substitute(value, known)
        yield name, known[name]


def inline_locals(
    locals_: list[tuple[str, Expr]], body: tuple[Line, ...], channels: Expr | None
) -> tuple[tuple[tuple[str, Expr], ...], tuple[Line, ...], Expr | None]:
    """Inline local values that are used once, and remove unused ones."""
    changed = True
    while changed:
        changed = False
        for number, (name, value) in enumerate(locals_):
            uses = sum(
                sum(isinstance(n, Name) and n.name == name for n in expressions.walk(each))
                for line in body
                for each in used_expressions(line)
            ) + sum(
                sum(isinstance(n, Name) and n.name == name for n in expressions.walk(other))
                for _, other in locals_
            )
            if uses <= 1:
                names = {name: value}
                rest = locals_[:number] + locals_[number + 1 :]
                locals_ = [(n, expressions.substitute(v, names)) for n, v in rest]
                body = tuple(substituted(line, names) for line in body)
                channels = channels and expressions.substitute(channels, names)
                changed = True
                break
    return tuple(locals_), body, channels


def is_chain(body: tuple[Line, ...]) -> bool:
    """A sequence of operations, each on the output of the one before, with numbers for names."""
    named = [line for line in body if isinstance(line, OperationLine) and line.named]
    return bool(named) and all(
        isinstance(line, OperationLine)
        and line.primitive.takes == "one"
        and line.primitive.gives == "one"
        and line.output == Value("x") == line.inputs[0]
        and len(line.path) == 1
        and (not line.named or str(line.path[0]).isdigit())
        for line in body
    )


def snake_case(class_name: str, block: Definition) -> str:
    """The function's name: the block's, with the suffix that its class got."""
    suffix = class_name.removeprefix(block.class_name)
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in suffix)
    return block.name + (words if not words or words.startswith("_") else f"_{words}")
