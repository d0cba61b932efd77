"""Where a run of a text differs from the IR, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from standins.expected import Layer
from standins.graph import Meaning
from standins.run import Run

SHOWN = 8  # of each kind of difference


def compared(run: Run) -> list[str]:
    """Every difference, the first operation that differs before the others."""
    found = [
        *run.found,
        *_limited(_operations(run)),
        *_limited(_results(run)),
        *_limited(_tensors(run)),
        *_limited(misnamed(run)),
    ]
    return list(dict.fromkeys(found))


def _limited(texts: Iterator[str]) -> list[str]:
    found = list(texts)
    more = len(found) - SHOWN
    return [*found[:SHOWN], *([f"and {more} more like the last"] if more > 0 else [])]


def _results(run: Run) -> Iterator[str]:
    expected = run.expected
    wanted = [(name, *each) for name, each in expected.features.items()]
    wanted.append(("", *expected.result))
    names = [name for name, _, _ in run.results]
    if names != [name for name, _, _ in wanted]:
        yield f"the features are {names[:-1]}, and should be {list(expected.features)}"
        return
    for (name, number, shape), (_, right, size) in zip(run.results, wanted, strict=True):
        what = f"the feature {name}" if name else "the result"
        if number != right:
            is_, should = described(run, number), described(run, right)
            yield f"{what} is {is_}, and should be {should}"
        elif shape != size:
            yield f"{what} has the shape {shape}, and should have {size}"


def described(run: Run, number: int) -> str:
    """A value by its meaning, and by the names of the operations that it comes from."""
    row = run.graph.rows[number]
    own = sorted(run.expected.names.get(number, ()))
    name = f"{row.name or own[0]}: " if row.name or own else ""
    sources = ", ".join(_called(run, each) for each in row.inputs)
    return f"{name}{row} of {sources}" if sources else f"{name}{row}"


def _called(run: Run, number: int) -> str:
    names = sorted(run.expected.names.get(number, ()))
    row = run.graph.rows[number]
    return names[0] if names else row.name or ("the input" if row.kind == "input" else row.kind)


def _operations(run: Run) -> Iterator[str]:
    """The first operation of the IR that the text does not perform, and what stands for it."""
    reached = _reached(run)
    for layer in run.expected.layers:
        for number in layer.numbers:
            if number not in reached and run.expected.result[0] not in reached:
                yield f"{layer.name} {_instead(run, layer, number, reached)}"
                return


def _instead(run: Run, layer: Layer, number: int, reached: Mapping[int, Meaning]) -> str:
    right = run.graph.rows[number]
    should = f"should be {right} of {', '.join(_called(run, each) for each in right.inputs)}"
    ours = [n for n in reached if n not in run.expected.names]
    same = [n for n in ours if reached[n].name and reached[n].name == right.name]
    same = same or [n for n in ours if reached[n].inputs == right.inputs]
    same = same or [n for n in ours if reached[n].kind == right.kind]
    if not same:
        return f"does not run; it {should}"
    return f"is {described(run, same[0])}, and {should}"


def _reached(run: Run) -> dict[int, Meaning]:
    """Every value that the results of the text come from."""
    numbers = run.graph.reached(number for _, number, _ in run.results)
    return {number: run.graph.rows[number] for number in numbers}


def _tensors(run: Run) -> Iterator[str]:
    wanted = run.expected.tensors
    for name in wanted:
        if name not in run.tensors:
            yield f"there is no parameter {name}, {wanted[name]}"
        elif run.tensors[name] != wanted[name]:
            yield f"the parameter {name} is {run.tensors[name]}, and should be {wanted[name]}"
    for name in (each for each in run.tensors if each not in wanted):
        yield f"the parameter {name} is none of the network's"


def misnamed(run: Run) -> Iterator[str]:
    """Layers that compute something else than the operation of their name."""
    seen: set[str] = set()
    for name, number in run.layers:
        if name in seen:
            yield f"the layer {name} runs twice"
        seen.add(name)
        right = run.expected.names.get(number, set())
        if name not in right and not run.is_auxiliary(name):
            known = f", whose name is {sorted(right)}" if right else ""
            yield f"the layer {name} is {described(run, number)}{known}"
    for name in sorted(run.needed - seen):
        yield f"there is no layer {name}"
