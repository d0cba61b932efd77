"""Expressions over a routine's names that give the recorded number in every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from resnet_spec import expressions
from resnet_spec.expressions import Const, Expr, Name, Number
from resnet_spec.ir import Instance, Key, Read
from resnet_spec.language import bind
from resnet_spec.language.syntax import Bound, Expression, Pattern, Source
from resnet_spec.primitives import Attribute, Initializer, Primitive
from resnet_spec.specialize.program import Path
from resnet_spec.specialize.wiring import Unfit


class Run(Protocol):
    """One run of a statement or loop: an event, and the instance that it belongs to."""

    @property
    def instance(self) -> int: ...
    @property
    def event(self) -> Any: ...


def common_value(name: str, instances: Sequence[Instance]) -> Const | None:
    """The value of a name, if it is the same in every instance and certain to stay the same."""
    values = [instance.scope[name] for instance in instances]
    first = values[0]
    same = all(v.value == first.value and type(v.value) is type(first.value) for v in values)
    return Const(first.value) if same and not any(v.open for v in values) else None


def read_locals(
    lets: Mapping[str, Expression], names: dict[str, Expr], instances: Sequence[Instance]
) -> list[tuple[str, Expr]]:
    """Adds each `let` to the names: as a constant, as another name, or as a local value."""
    kept = []
    for name, expression in lets.items():
        value = expressions.substitute(expression.expr, names)
        if not isinstance(value, Const | Name):
            value = common_value(name, instances) or value
        if isinstance(value, Const | Name):
            names[name] = value
        else:
            kept.append((name, value))
            integral = all(type(instance.scope[name].value) is int for instance in instances)
            names[name] = Name(name, integral)
    return kept


class Numbers:
    """The names of a routine: what they are in its text, and their numbers in each run.

    `names` maps a name of the spec to an expression over names of the routine; `counters` are those
    of the loops around the current statement, by depth.
    """

    def __init__(self, names: dict[str, Expr], instances: Sequence[Instance]) -> None:
        self.names = names
        self.counters: dict[str, int] = {}
        self.scopes: list[dict[str, Number]] = [
            {
                value.name: instance.scope[name].value
                for name, value in names.items()
                if isinstance(value, Name)
            }
            for instance in instances
        ]

    def substituted(self, expression: Expression) -> Expr:
        """An expression of the spec over the names of the routine."""
        tree = expression.expr
        return tree if isinstance(tree, Const) else expressions.substitute(tree, self.names)

    def at(self, instance: int, key: Key, more: Mapping[str, Number] | None = None) -> Any:
        """The number of each name in one run."""
        known: dict[str, Number] = self.scopes[instance]
        if self.counters or more:
            turns = {name: key[2 * depth + 1] for name, depth in self.counters.items()}
            known = {**known, **turns, **(more or {})}
        return known

    def is_flag(self, name: Name) -> bool:
        """Whether a name is true or false, which Python takes for 1 and 0."""
        return any(isinstance(scope.get(name.name), bool) for scope in self.scopes)

    def fits(self, value: Expr, runs: Sequence[Run], wanted: Sequence[Any]) -> bool:
        """Whether an expression has the recorded number in every run."""
        if isinstance(value, Const):
            return all(value.value == each for each in wanted)
        try:
            return all(
                expressions.evaluate(value, self.at(run.instance, run.event.key)) == each
                for run, each in zip(runs, wanted, strict=True)
            )
        except (KeyError, expressions.ExpressionError):
            return False

    def best(
        self,
        value: Expr | None,
        runs: Sequence[Run],
        wanted: Sequence[Number],
        is_open: bool,
        some: bool = False,
    ) -> Expr | None:
        """A constant where all agree, else the expression if it fits, else a name that does.

        `some`: these are not all runs of a statement. That they agree says nothing about the
        others, so the expression is tried first. Nor does a name that fits where other numbers of
        classes or of input channels make other ones (`is_open`): there it is the last resort.
        """
        agree = not is_open and all(each == wanted[0] for each in wanted)
        if agree and not some:
            return Const(wanted[0])
        fits = value is not None and self.fits(value, runs, wanted)
        if value is not None and fits and (is_open or not _branches(value)):
            return value
        own = expressions.names(value) if value is not None else set()
        known = [each for each in self.names.values() if isinstance(each, Name)]
        known = [each for each in known if not self.is_flag(each)]
        for name in sorted(known, key=lambda each: each.name not in own):
            if self.fits(name, runs, wanted):
                return name
        if fits:
            return value
        return Const(wanted[0]) if agree else None

    def index(self, reads: Sequence[Read], runs: Sequence[Run]) -> Expr:
        """The index of an element, as an expression that holds in every run."""
        wanted = [read.place for read in reads]
        value = None
        if reads[0].expression is not None:
            value = self.substituted(reads[0].expression)
        if value is not None and self.fits(value, runs, wanted):
            return value
        if all(each == wanted[0] for each in wanted):
            return Const(wanted[0])
        raise Unfit("takes elements that no expression tells")

    def attributes(
        self, ran: Sequence[Run], primitive: Primitive
    ) -> dict[str, Expr | Initializer | str]:
        """Each attribute as an expression that gives the recorded number in every run."""
        steps = [run.event.steps[0] for run in ran]
        values: dict[str, Any] = {}
        for attribute in primitive.in_order:
            value = self.attribute(attribute, steps[0].sources[attribute.name], values)
            if isinstance(value, Expr):
                wanted = [step.node.attributes[attribute.name] for step in steps]
                if not self.fits(value, ran, wanted):
                    raise Unfit(f"has no expression for {attribute.name!r} that always holds")
                if attribute.selects and any(bool(each) != bool(wanted[0]) for each in wanted):
                    raise Unfit("is another layer in other uses")
                if attribute.selects and all(each == wanted[0] for each in wanted):
                    value = Const(wanted[0])
            values[attribute.name] = value
        return {attribute.name: values[attribute.name] for attribute in primitive.attributes}

    def attribute(
        self, attribute: Attribute, source: Source, values: dict[str, Any]
    ) -> Expr | Initializer | str:
        value: Expr | Initializer | str
        if isinstance(source, Expression):
            value = self.substituted(source)
        elif isinstance(source, Bound):
            value = Const(source.value)
        elif source is not None:
            value = source
        elif isinstance(attribute.default, str):
            value = expressions.substitute(bind.default_expression(attribute.default).expr, values)
        elif isinstance(attribute.default, Initializer):
            value = attribute.default
        else:
            assert attribute.default is not None
            value = Const(attribute.default)
        if attribute.type == "float" and isinstance(value, Const):
            return Const(float(value.value))
        return value

    def filled(self, pattern: Pattern, more: Mapping[str, Expr] | None = None) -> Path:
        """A name with its braces as expressions over the names of the routine."""
        parts: list[str | Expr] = []
        for part in pattern.parts:
            value: str | Expr
            if isinstance(part, str):
                value = part
            else:
                value = expressions.substitute(
                    part.expr, {**self.names, **more} if more else self.names
                )
            if isinstance(value, Const):
                value = str(value.value)
            if isinstance(value, str) and parts and isinstance(parts[-1], str):
                parts[-1] += value
            else:
                parts.append(value)
        return tuple(parts)


def _branches(value: Expr) -> bool:
    """Whether an expression has a condition, so that it is easier to read under a name."""
    return any(isinstance(each, expressions.Conditional) for each in expressions.walk(value))
