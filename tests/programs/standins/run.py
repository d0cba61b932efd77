"""What the stand-ins of both frameworks share: values that record, and the run of a text."""

from __future__ import annotations

import ast
import builtins
import collections
import collections.abc
import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Self

from standins.expected import Expected, Tensor
from standins.graph import Graph, Pair

# Modules that a text may import beside its framework.
STANDARD = {
    "math": math,
    "collections": collections,
    "functools": functools,
    "collections.abc": collections.abc,
    "dataclasses": dataclasses,
    "typing": typing,
}


class Difference(Exception):
    """Something in which the text differs from the IR."""


class Run:
    """One run of a text: the graph that it draws, its layers, and what was noticed on the way."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.graph: Graph = expected.graph
        self.found: list[str] = []
        self.layers: list[tuple[str, int]] = []  # the name of each layer that ran, and its value
        self.needed: set[str] = set()  # the names of layers that must be there
        self.tensors: dict[str, Tensor] = {}
        self.results: list[tuple[str, int, tuple[int, ...]]] = []

    def is_auxiliary(self, name: str) -> bool:
        """Whether a layer of this name may help another, which is one of the IR's."""
        return False

    def note(self, text: str) -> None:
        if text not in self.found:
            self.found.append(text)


class Value:
    """A value of the program: its number in the graph, and its shape without the batch."""

    def __init__(self, run: Run, number: int, dimensions: tuple[int, ...]) -> None:
        self.run, self.number, self.dimensions = run, number, dimensions

    @property
    def channels(self) -> int:
        return self.dimensions[0]

    def seen(self) -> int:
        """The number, where the value is read."""
        return self.number

    def like(self, number: int, dimensions: tuple[int, ...] | None = None) -> Self:
        """Another value of the same run."""
        return type(self)(self.run, number, dimensions or self.dimensions)

    def made(
        self,
        kind: str,
        *others: Value,
        name: str = "",
        shape: tuple[int, ...] | None = None,
        **attributes: Any,
    ) -> Self:
        """The output of an operation that has one spelling."""
        inputs = [self.seen(), *(other.seen() for other in others)]
        return self.like(self.run.graph.add(kind, inputs, name, **attributes), shape)

    # - arithmetic -

    def __add__(self, other: Value | float) -> Self:
        if isinstance(other, Value):
            return self.joined("add", [self, other])
        return self.like(self.run.graph.plus(self.seen(), other))

    def __mul__(self, other: Value | float) -> Self:
        if isinstance(other, Value):
            return self.joined("multiply", [self, other])
        return self.like(self.run.graph.times(self.seen(), other))

    def __radd__(self, other: float) -> Self:
        return self + other

    def __rmul__(self, other: float) -> Self:
        return self * other

    def __neg__(self) -> Self:
        return self * -1.0

    def __sub__(self, other: float) -> Self:
        return self + -other

    def __rsub__(self, other: float) -> Self:
        return self * -1.0 + other

    def joined(self, kind: str, values: Iterable[Value]) -> Self:
        """A sum or product of many values, which may be of fewer rows, columns or channels."""
        listed = list(values)
        shape = functools.reduce(broadcast, (value.dimensions for value in listed))
        return self.like(self.run.graph.chained(kind, [v.seen() for v in listed]), shape)

    def put_together(self, kind: str, values: Iterable[Value], axis: int) -> Self:
        """Values side by side along one axis of (channels, rows, columns)."""
        listed = list(values)
        for value in listed:
            one, other = list(value.dimensions), list(self.dimensions)
            one[axis] = other[axis] = 0
            if one != other:
                raise Difference(f"{value.dimensions} can't stand beside {self.dimensions}")
        shape = list(self.dimensions)
        shape[axis] = sum(value.dimensions[axis] for value in listed)
        number = self.run.graph.add(kind, [value.seen() for value in listed])
        return self.like(number, tuple(shape))


def broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    if len(one) != len(other) or any(
        1 not in (a, b) and a != b for a, b in zip(one, other, strict=True)
    ):
        raise Difference(f"{one} and {other} do not fit")
    return tuple(map(max, zip(one, other, strict=True)))


def pair(given: int | tuple[int, ...]) -> Pair:
    """Height and width of what may be one number for both."""
    if isinstance(given, int):
        return (given, given)
    rows, columns = given
    return (rows, columns)


def refuse_truths(layer: Any) -> None:
    """True equals 1, but no framework takes it for a size."""
    for each in dataclasses.fields(layer) if dataclasses.is_dataclass(layer) else ():
        sizes = str(each.type).startswith(("int", "Size"))
        if sizes and isinstance(getattr(layer, each.name), bool):
            raise Difference(f"{each.name} is no number but {getattr(layer, each.name)}")


def whole(part: slice) -> bool:
    return part == slice(None)


def is_range(part: Any) -> bool:
    """Whether it is a slice without steps."""
    return isinstance(part, slice) and part.step in (None, 1)


def step(part: Any) -> int:
    """The n of a slice that takes every n-th from the first."""
    if not isinstance(part, slice) or part.start or part.stop is not None:
        raise Difference(f"[{part}] takes no regular part")
    return part.step or 1


# --- the text ------------------------------------------------------------------------------------


@functools.cache
def _dump(source: str) -> str:
    return ast.dump(ast.parse(source).body[0])


@functools.lru_cache(4)  # a text runs with its own numbers, and once more with others
def parsed(text: str) -> ast.Module:
    """The syntax tree of a text, which nobody changes."""
    return ast.parse(text)


def execute(
    text: str,
    modules: Mapping[str, Any],
    known: Mapping[str, str],
    helpers: Mapping[str, Any],
) -> dict[str, Any]:
    """The names of the module after its run.

    What `known` names are helpers of one fixed text each: `helpers` stands in for them, if the
    text is that one to the letter, layout apart.
    """
    space: dict[str, Any] = {"__name__": "emitted", "__builtins__": _builtins(modules)}
    body = []
    for node in parsed(text).body:
        name = getattr(node, "name", "")
        if name not in known:
            body.append(node)
        elif ast.dump(node) != _dump(known[name]):
            raise Difference(f"{name}: the text of this helper is not the backend's")
        else:
            space[name] = helpers.get(name)
    exec(compile(ast.Module(body, []), "<emitted>", "exec", dont_inherit=True), space)
    return space


def _builtins(modules: Mapping[str, Any]) -> dict[str, Any]:
    """Python's own names, with an import that knows the given modules alone."""
    allowed = {**STANDARD, **modules}

    def load(name: str, g: Any = None, l: Any = None, names: Any = (), level: int = 0) -> Any:  # noqa: E741
        if name not in allowed:
            raise Difference(f"imports {name}")
        # `import jax.numpy as jnp` asks for the package, and then for its part.
        return allowed[name if names else name.partition(".")[0]]

    return {**vars(builtins), "__import__": load}


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that may be left out, each with its default."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def namespace(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(**values)
