"""Renames in a program what would hide a name that a backend's files use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import count

from resnet_spec import expressions
from resnet_spec.expressions import Expr, Name
from resnet_spec.specialize.program import (
    AssignLine,
    CallLine,
    FeatureLine,
    LeftOutLine,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Program,
    Routine,
    Run,
    Value,
    flat,
    substituted,
)


def renamed(program: Program, taken: Collection[str]) -> Program:
    """The program with `_` appended to each reserved variable, and a number to each reserved class.

    The parameters of the whole network are the backend's own names and stay.
    """
    classes = {routine.class_name for routine in program.routines}
    own = {*classes, program.network.class_name}
    new: dict[int, Routine] = {}
    for routine in program.routines:
        spelling = _spelling(assigned_names(routine), taken)
        class_name = routine.class_name
        if class_name in taken:
            names = (f"{routine.class_name}{number}" for number in count(2))
            class_name = next(each for each in names if each not in own and each not in taken)
            own.add(class_name)
        if not spelling and class_name == routine.class_name and not _calls(routine.body, new):
            continue
        new[id(routine)] = routine._replace(
            class_name=class_name,
            parameters=tuple(_parameter(each, spelling) for each in routine.parameters),
            locals=_locals(routine.locals, spelling),
            body=_lines(routine.body, spelling, new),
            result=_value(routine.result, spelling),
            channels=routine.channels and _expression(routine.channels, spelling),
        )
    fixed = {parameter.name for parameter in program.parameters}
    spelling = _spelling((name for name in assigned_names(program) if name not in fixed), taken)
    if not spelling and not new:
        return program
    return program._replace(
        routines=tuple(new.get(id(routine), routine) for routine in program.routines),
        locals=_locals(program.locals, spelling),
        body=_lines(program.body, spelling, new),
        features=_value(program.features, spelling),
        head=_lines(program.head, spelling, new),
        result=_value(program.result, spelling),
    )


def function_names(program: Program, taken: Collection[str]) -> dict[str, str]:
    """The name of a function for each routine, by its class; no variable hides it."""
    used = {program.network.name, "i", *taken, *assigned_names(program)}
    used.update(name for routine in program.routines for name in assigned_names(routine))
    found: dict[str, str] = {}
    for routine in program.routines:
        name = routine.name
        while name in used:
            name += "_block"
        used.add(name)
        found[routine.class_name] = name
    return found


def assigned_names(owner: Routine | Program) -> Iterator[str]:
    """Every name that a routine, or the network itself, gives a value."""
    yield from (parameter.name for parameter in owner.parameters)
    yield from (name for name, _ in owner.locals)
    lines = owner.body if isinstance(owner, Routine) else (*owner.body, *owner.head)
    for line in flat(lines):
        if isinstance(line, LoopLine):
            yield line.variable
        elif isinstance(line, OperationLine | CallLine | AssignLine):
            yield line.output.name


def _spelling(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """A new name for each of these that is taken."""
    used = dict.fromkeys(names)
    found: dict[str, str] = {}
    for name in used:
        new = name
        while new in taken or (new != name and (new in used or new in found.values())):
            new += "_"
        if new != name:
            found[name] = new
    return found


def _calls(lines: Iterable[Line], new: Mapping[int, Routine]) -> bool:
    """Whether lines use a routine that has been renamed."""
    return any(
        id(run.routine) in new
        for line in flat(lines)
        if isinstance(line, CallLine)
        for run in line.runs
    )


def _parameter(parameter: Parameter, spelling: Mapping[str, str]) -> Parameter:
    return parameter._replace(name=spelling.get(parameter.name, parameter.name))


def _locals(
    values: Iterable[tuple[str, Expr]], spelling: Mapping[str, str]
) -> tuple[tuple[str, Expr], ...]:
    return tuple((spelling.get(name, name), _expression(v, spelling)) for name, v in values)


def _expression(value: Expr, spelling: Mapping[str, str]) -> Expr:
    return expressions.substitute(value, _names(spelling)) if spelling else value


def _names(spelling: Mapping[str, str]) -> dict[str, Expr]:
    return {old: Name(new) for old, new in spelling.items()}


def _value(value: Value, spelling: Mapping[str, str]) -> Value:
    index = value.index and _expression(value.index, spelling)
    return Value(spelling.get(value.name, value.name), index, value.whole)


def _lines(
    lines: Iterable[Line], spelling: Mapping[str, str], new: Mapping[int, Routine]
) -> tuple[Line, ...]:
    return tuple(_line(line, spelling, new) for line in lines)


def _line(line: Line, spelling: Mapping[str, str], new: Mapping[int, Routine]) -> Line:
    if isinstance(line, LoopLine):
        variable = spelling.get(line.variable, line.variable)
        body = _lines(line.body, spelling, new)
        return LoopLine(variable, _expression(line.count, spelling), body)
    if isinstance(line, LeftOutLine):
        return substituted(line, _names(spelling))
    if isinstance(line, FeatureLine):
        return line._replace(value=_value(line.value, spelling))
    inputs = tuple(_value(each, spelling) for each in line.inputs)
    output = _value(line.output, spelling)
    if isinstance(line, AssignLine):
        return AssignLine(inputs, output)
    otherwise = line.otherwise and _value(line.otherwise, spelling)
    if isinstance(line, CallLine):
        runs = tuple(_run(run, new) for run in line.runs)
        line = line._replace(inputs=inputs, output=output, otherwise=otherwise, runs=runs)
    else:
        line = line._replace(inputs=inputs, output=output, otherwise=otherwise)
    return substituted(line, _names(spelling))


def _run(run: Run, new: Mapping[int, Routine]) -> Run:
    return run._replace(routine=new.get(id(run.routine), run.routine))
