"""Expressions over a routine's names, and constants where all of its instances agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from resnet_spec import expr, link
from resnet_spec.expr import Const, Expr, Name
from resnet_spec.ir import (
    Bound,
    Expression,
    Instance,
    Operation,
    Pattern,
    Statement,
    Step,
)
from resnet_spec.ops import Attribute, Initializer, Primitive
from resnet_spec.specialize.draft import Scope
from resnet_spec.specialize.program import Path


def common_value(name: str, instances: list[Instance]) -> Const | None:
    """The value that a name has in every instance, if it is one and surely stays one."""
    values = [instance.scope[name] for instance in instances]
    first = values[0]
    same = all(v.value == first.value and type(v.value) is type(first.value) for v in values)
    return Const(first.value) if same and not any(v.open for v in values) else None


def read_locals(
    lets: Mapping[str, Expression], names: dict[str, Expr], instances: list[Instance]
) -> list[tuple[str, Expr]]:
    """Adds each `let` to the names: as a constant, as another name, or as a local value."""
    kept = []
    for name, expression in lets.items():
        value = expr.substitute(expression.expr, names)
        if not isinstance(value, Const | Name):
            value = common_value(name, instances) or value
        if isinstance(value, Const | Name):
            names[name] = value
        else:
            kept.append((name, value))
            integral = all(type(instance.scope[name].value) is int for instance in instances)
            names[name] = Name(name, integral)
    return kept


def simplified(expression: Expression, scope: Scope) -> Expr:
    """An expression over the routine's names; a constant where it is one in every instance."""
    value = expr.substitute(expression.expr, scope.names)
    if isinstance(value, Const) or any(v in expression.names for v, _ in scope.loops):
        return value
    if any(name not in i.scope for i in scope.instances for name in expression.names):
        return value
    results = {
        expr.evaluate(expression.expr, {n: i.scope[n].value for n in expression.names})
        for i in scope.instances
    }
    is_open = any(i.scope[n].open for i in scope.instances for n in expression.names)
    return Const(results.pop()) if len(results) == 1 and not is_open else value


def condition_of(statement: Statement, scope: Scope, ran: bool) -> Expr | Literal[False] | None:
    """None: the statement always runs; False: never; else the condition."""
    if statement.when is None:
        return None if ran or not scope.loops else False
    value = simplified(statement.when, scope)
    if isinstance(value, Const):
        return None if value.value else False
    return value if ran else False


def is_identity(target: Primitive | Statement) -> bool:
    return isinstance(target, Primitive) and target.name == "identity"


def input_channels(symbolic: tuple[Expr, ...], steps: list[Step]) -> tuple[Expr, ...]:
    """The channels of each input: constants where the instances agree."""
    operations = [step.node for step in steps if isinstance(step.node, Operation)]
    if any(len(operation.inputs) != len(symbolic) for operation in operations):
        return symbolic  # a list among the inputs
    result = []
    for number, value in enumerate(symbolic):
        shapes = {(o.inputs[number].channels, o.inputs[number].open) for o in operations}
        constant = len(shapes) == 1 and not next(iter(shapes))[1]
        result.append(Const(next(iter(shapes))[0]) if constant else value)
    return tuple(result)


def constant_output(steps: list[Step]) -> Const | None:
    shapes = {(step.node.output.channels, step.node.output.open) for step in steps}
    if len(shapes) == 1:
        channels, is_open = next(iter(shapes))
        return None if is_open else Const(channels)
    return None


def attribute_of(
    attribute: Attribute, given: link.Given | None, values: Mapping[str, Any], scope: Scope
) -> Expr | Initializer | str:
    if isinstance(given, Expression):
        value: Expr | Initializer | str = expr.substitute(given.expr, scope.names)
    elif isinstance(given, Bound):
        value = Const(given.value)
    elif given is not None:
        value = given
    elif isinstance(attribute.default, str):
        value = expr.substitute(link.default_expression(attribute.default), values)
    elif isinstance(attribute.default, Initializer):
        value = attribute.default
    else:
        assert attribute.default is not None
        value = Const(attribute.default)
    if attribute.type == "float" and isinstance(value, Const):
        return Const(float(value.value))
    return value


def filled_pattern(pattern: Pattern, names: Mapping[str, Expr]) -> Path:
    parts: list[str | Expr] = []
    for part in pattern.parts:
        value: str | Expr = part if isinstance(part, str) else expr.substitute(part.expr, names)
        if isinstance(value, Const):
            value = str(value.value)
        if isinstance(value, str) and parts and isinstance(parts[-1], str):
            parts[-1] += value
        else:
            parts.append(value)
    return tuple(parts)


def path_of(statement: Statement, scope: Scope) -> Path:
    """The layer's name; without one of its own, the statement's with the counters around it."""
    if statement.name is not None:
        return filled_pattern(statement.name, scope.names)
    parts: list[str | Expr] = [scope.automatic[id(statement)]]
    for variable, _ in scope.loops:
        parts += [".", Name(variable, True)]
    if len(parts) > 1:
        parts[0:2] = [f"{parts[0]}."]
    return tuple(parts)
