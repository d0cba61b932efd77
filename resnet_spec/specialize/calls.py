"""The repeated uses of a block as runs: equal or evenly growing arguments make one loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from resnet_spec import expressions
from resnet_spec.expressions import Const, Expr, Name
from resnet_spec.ir import Instance, Step
from resnet_spec.language.syntax import Bound, Expression, Statement
from resnet_spec.specialize.numbers import Numbers
from resnet_spec.specialize.program import Routine, Run
from resnet_spec.specialize.turns import Occurrence
from resnet_spec.specialize.wiring import Unfit

INDEX = Name("i", True)


class Call(NamedTuple):
    """One block of a run: its routine, its arguments and the channels of its output."""

    routine: Routine
    arguments: tuple[Expr, ...]
    channels: Expr | None


class Calls(NamedTuple):
    """The uses of blocks by one statement, over all of its runs."""

    statement: Statement
    runs: Sequence[Occurrence]
    numbers: Numbers
    routine_of: Callable[[Instance], Routine]

    def grouped(self, channels: Expr | None) -> tuple[tuple[Run, ...], Expr | None]:
        """The uses as runs, and the channels of the last output."""
        counts = {len(run.event.steps) for run in self.runs}
        if len(counts) > 1:
            return self.varying(channels)
        number = counts.pop()
        calls = []
        for index in range(number):
            channels = self.entering(index, channels)
            calls.append(self.call(index, channels, Const(index), Const(number)))
            channels = calls[-1].channels
        return tuple(self.collected(calls, Const(number))), channels

    def varying(self, channels: Expr | None) -> tuple[tuple[Run, ...], Expr | None]:
        """Uses with a varying number of repetitions: the first block, then the others in a loop."""
        assert self.statement.repeat is not None
        count = self.numbers.substituted(self.statement.repeat)
        if not self.numbers.fits(count, self.runs, [len(run.event.steps) for run in self.runs]):
            raise Unfit("is repeated as no expression says")
        first = self.call(0, self.entering(0, channels), Const(0), count)
        later = [run for run in self.runs if len(run.event.steps) > 1]
        rest = Calls(self.statement, later, self.numbers, self.routine_of)
        then = rest.call(1, rest.entering(1, first.channels), INDEX, count)
        for run in later:
            for index, step in enumerate(run.event.steps):
                if index and not rest.holds(then, run, index, step):
                    raise Unfit("is repeated with arguments that no expression gives")
        outputs = [run.event.shape.channels for run in self.runs]
        if first.channels is None or not self.numbers.fits(first.channels, self.runs, outputs):
            raise Unfit("gives other channels the more often it is repeated")
        if (first.routine, first.arguments) == (then.routine, then.arguments):
            return (Run(first.routine, Const(0), count, first.arguments),), first.channels
        runs = (
            Run(first.routine, Const(0), Const(1), first.arguments),
            Run(then.routine, Const(1), expressions.binary("-", count, Const(1)), then.arguments),
        )
        return runs, first.channels

    def holds(self, call: Call, run: Occurrence, index: int, step: Step) -> bool:
        """Whether a call over `i` equals one of the recorded blocks."""
        assert isinstance(step.node, Instance)
        known = self.numbers.at(run.instance, run.event.key, {"i": index})
        return self.routine_of(step.node) is call.routine and all(
            expressions.evaluate(value, known) == step.node.scope[parameter.name].value
            for parameter, value in zip(call.routine.parameters, call.arguments, strict=True)
        )

    # - one block -

    def entering(self, index: int, channels: Expr | None) -> Expr | None:
        """The channels of a block's input."""
        inputs = [run.event.steps[index].node.input for run in self.runs]  # type: ignore[union-attr]
        wanted = [each.channels for each in inputs]
        return self.numbers.best(channels, self.runs, wanted, any(each.open for each in inputs))

    def call(self, index: int, channels: Expr | None, position: Expr, count: Expr) -> Call:
        """The block at one place of the repetition, with an expression for each parameter."""
        steps = [run.event.steps[index] for run in self.runs]
        routines = {id(found): found for found in map(self.routine, steps)}
        if len(routines) > 1:
            raise Unfit("is another routine in other uses")
        routine = next(iter(routines.values()))
        names = self.position(position, count)
        arguments = []
        for parameter in routine.parameters:
            if parameter.name == "in_channels":
                if channels is None:
                    raise Unfit("has input channels that no expression gives")
                arguments.append(channels)
            else:
                source = steps[0].sources[parameter.name]
                value = self.argument(source, names, parameter.type)
                if not isinstance(position, Name):
                    self.check(value, parameter.name, steps)
                arguments.append(value)
        known = {p.name: value for p, value in zip(routine.parameters, arguments, strict=True)}
        given = None
        if routine.channels is not None and (channels is not None or "in_channels" in known):
            entering = {} if channels is None else {"in_channels": channels}
            given = expressions.substitute(routine.channels, {**entering, **known})
        elif routine.channels is not None and "in_channels" not in expressions.names(
            routine.channels
        ):
            given = expressions.substitute(routine.channels, known)
        if not isinstance(position, Name):
            outputs = [step.node.output for step in steps]
            given = self.numbers.best(
                given,
                self.runs,
                [each.channels for each in outputs],
                any(each.open for each in outputs),
            )
        return Call(routine, tuple(arguments), given)

    def routine(self, step: Step) -> Routine:
        assert isinstance(step.node, Instance)
        return self.routine_of(step.node)

    def check(self, value: Expr, name: str, steps: Sequence[Step]) -> None:
        wanted = [step.node.scope[name].value for step in steps]  # type: ignore[union-attr]
        if not self.numbers.fits(value, self.runs, wanted):
            raise Unfit(f"has no expression for {name!r} that holds in every use")

    def position(self, position: Expr, count: Expr) -> Mapping[str, Expr]:
        """The values of the names for a repeated block's position, such as `i`."""
        place = self.runs[0].event.place
        first, total = (Const(0), count) if place is None else map(Const, place)
        return {
            **self.numbers.names,
            "i": position,
            "n": count,
            "block_index": expressions.binary("+", position, first),
            "block_count": total,
        }

    def argument(self, source: Any, names: Mapping[str, Expr], kind: str) -> Expr:
        if isinstance(source, Expression):
            value = expressions.substitute(source.expr, names)
        else:
            assert isinstance(source, Bound)
            value = Const(source.value)
        if kind == "float" and isinstance(value, Const):
            return Const(float(value.value))
        return value

    # - runs -

    def collected(self, calls: Sequence[Call], count: Expr) -> Iterator[Run]:
        start = 0
        while start < len(calls):
            end, arguments = self.longest(calls, start, count)
            yield Run(calls[start].routine, Const(start), Const(end - start), arguments)
            start = end

    def longest(
        self, calls: Sequence[Call], start: int, count: Expr
    ) -> tuple[int, tuple[Expr, ...]]:
        """The end of the longest run from `start`, and its arguments over `i`."""
        first = calls[start]
        same = [each.routine is first.routine for each in calls]
        end = start + 1
        while end < len(calls) and same[end] and calls[end].arguments == first.arguments:
            end += 1
        if end > start + 1 or end == len(calls) or not same[end]:
            return end, first.arguments
        symbolic = self.call(start, Name("in_channels", True), INDEX, count).arguments
        second = calls[start + 1].arguments
        forms = tuple(
            _growing(one, other, start, over)
            for one, other, over in zip(first.arguments, second, symbolic, strict=True)
        )
        end = start
        while end < len(calls) and same[end] and _at(forms, end) == calls[end].arguments:
            end += 1
        # Two values are always in line; three are a rule.
        return (end, forms) if end - start > 2 else (start + 1, first.arguments)


def _at(forms: tuple[Expr, ...], index: int) -> tuple[Expr, ...]:
    return tuple(expressions.substitute(form, {"i": Const(index)}) for form in forms)


def _growing(first: Expr, second: Expr, start: int, symbolic: Expr) -> Expr:
    """An expression over `i` that is `first` at `start` and `second` at the next place, or None."""
    if first == second:
        return first
    if "i" in expressions.names(symbolic) and "in_channels" not in expressions.names(symbolic):
        return symbolic
    (base, low), (other, high) = expressions.offset(first), expressions.offset(second)
    if base != other or type(low) is not int or type(high) is not int:
        return first
    step = high - low
    grown = expressions.binary("*", INDEX, Const(step))
    if step != 1:
        grown = expressions.Binary("*", Const(step), INDEX)
    offset = (
        expressions.binary("+", base, Const(low - step * start))
        if base != Const(0)
        else Const(low - step * start)
    )
    return expressions.binary("+", offset, grown)
