"""What random networks are drawn with: words, expressions, shapes, and the uses of a block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

from resnet_spec.expressions import make_divisible

Numbers = dict[str, Any]
Shape = tuple[int, ...]  # (channels,) or (channels, height, width)
Value = Shape | list[Shape]
Layer = dict[str, Any]

# One small pool for all names, so that they collide on purpose.
VALUES = ("y", "out", "k", "i", "sum", "filters", "residual", "train", "forward", "x", "j")
LISTS = ("l", "out", "y", "k", "sum", "features_", "parts")
COUNTERS = ("k", "j", "y", "out", "sum", "x", "residual", "filters", "forward")
NUMBERS = ("filters", "out", "k", "sum", "y", "residual", "depth", "train", "forward", "flag")
LAYERS = (
    *("conv", "y", "out", "k", "i", "sum", "math", "layers", "F", "self", "filters", "residual"),
    *("torch", "nn", "ops", "keras", "features", "conv2d", "len", "range", "list", "name", "x"),
)
ATTRIBUTES = ("train", "forward", "in_channels")  # names of torch.nn.Module, and of arguments
BLOCKS = ("residual", "sum", "out", "y", "filters", "train", "forward", "k", "plain", "transition")
# Words that today's language refuses for values; that is decided where they are read.
RESERVED = (
    "math",
    "layers",
    "torch",
    "nn",
    "ops",
    "keras",
    "features",
    "self",
    "conv2d",
    "name",
    "len",
)


# --- expressions ---------------------------------------------------------------------------------


class Expression(NamedTuple):
    """What stands in the YAML, and the number that it has."""

    text: Any
    value: Callable[[Numbers], Any]


_FUNCTIONS = {
    "make_divisible": make_divisible,
    **{name: getattr(math, name) for name in ("ceil", "floor", "log2")},
}
_ONE = (
    *("{a} * 2", "{a} // 2", "{a} + 1", "{a} - 1", "max({a}, 2)", "min({a}, 8)", "{a} % 3"),
    *("4 if {a} > 4 else 8", "abs({a} - 8)", "round({a} / 2)", "int({a} / 2)", "ceil({a} / 2)"),
    *("floor({a} / 3)", "make_divisible({a}, 4)", "2 ** {a}", "int(log2({a} + 1))", "{a} * 4"),
    # A truth within a sum is a number.
    *("({a} > 2) + 1", "({a} == 1) * 1 + 1", "max(({a} > 1) + 0, 1)", "1 + (not {a} > 3) ** 1"),
)
_TWO = ("{a} + {b}", "{a} * {b}", "max({a}, {b})", "{a} // {b}", "{a} if {a} > {b} else {b}")
_TESTS = ("{a} > 1", "{a} == 0", "{a} != 2", "{a} % 2 == 0", "{a} >= {b}", "{a} != {b}", "{a} > 0")
_LOGIC = ("not {p}", "{p} and {q}", "{p} or {q}", "{q} if {p} else not {q}")


def _compiled(templates: Iterable[str]) -> list[tuple[str, Callable[..., Any]]]:
    names = {"a": "a", "b": "b", "p": "a", "q": "b"}
    return [
        (text, eval(f"lambda a, b=0: {text.format(**names)}", dict(_FUNCTIONS)))
        for text in templates
    ]


ONE, TWO, TESTS, LOGIC = map(_compiled, (_ONE, _TWO, _TESTS, _LOGIC))


def constant(value: Any) -> Expression:
    return Expression(value, lambda numbers: value)


def named(name: str) -> Expression:
    return Expression(name, lambda numbers: numbers[name])


def computed(template: tuple[str, Callable[..., Any]], *operands: Expression) -> Expression:
    """A template with its operands, each an atom or within brackets."""
    text, function = template
    shown = [
        f"({each.text})" if isinstance(each.text, str) and " " in each.text else each.text
        for each in operands
    ]
    one, two = shown[0], shown[-1]
    values = [each.value for each in operands]

    def value(numbers: Numbers) -> Any:
        return function(*(each(numbers) for each in values))

    return Expression(text.format(a=one, b=two, p=one, q=two), value)


def number_of(expression: Expression, numbers: Numbers) -> Any:
    """None where it has no value."""
    try:
        return expression.value(numbers)
    except (ArithmeticError, ValueError, TypeError):
        return None


# --- shapes --------------------------------------------------------------------------------------


def window(size: int, kernel: int, stride: int, padding: int, ceil: bool = False) -> int:
    room = size + 2 * padding - kernel
    return (-(-room // stride) if ceil else room // stride) + 1


def resized(shape: Shape, change: Callable[[int], int]) -> Shape:
    return (shape[0], change(shape[1]), change(shape[2]))


# --- uses of a block -----------------------------------------------------------------------------


class Fill(NamedTuple):
    """What fills a slot or a role: nothing, a primitive or a block."""

    target: Any = None  # None, the name of a primitive, or a Block
    groups: int = 1  # that must divide the channels
    arguments: tuple[tuple[str, Any], ...] = ()
    slots: tuple[tuple[str, Fill], ...] = ()
    weights: bool = False


class World:
    """One use of a block: its numbers, what fills its slots, the shapes of its values.

    Within a loop there are several sets of numbers, one for each turn of each loop around; shapes
    are those of the first turn.
    """

    def __init__(self, numbers: Numbers, given: Shape, fills: dict[str, Fill]) -> None:
        self.contexts = [{**numbers, "in_channels": given[0]}]
        self.values: dict[str, Value] = {"x": given}
        self.given: Shape = given
        self.current: Shape = given
        self.fills = fills

    def copy(self) -> World:
        made = World({}, self.given, self.fills)
        made.current = self.current
        made.contexts, made.values = list(self.contexts), dict(self.values)
        return made


# --- names of layers -----------------------------------------------------------------------------


class Places:
    """The dotted names of one block's layers: none within another."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.outer: set[str] = set()

    def claim(self, pattern: str, counters: Sequence[str]) -> bool:
        """Take a name with counters in braces, where it is free."""
        names = set(_spelled(pattern, counters))
        outer = {name[:end] for name in names for end, c in enumerate(name) if c == "."}
        if names & (self.taken | self.outer) or outer & self.taken:
            return False
        self.taken |= names
        self.outer |= outer
        return True


def _spelled(pattern: str, counters: Sequence[str]) -> Iterable[str]:
    if "{" not in pattern:
        return [pattern]
    found = []
    for turns in itertools.product((0, 1, 2), repeat=len(counters)):
        name = pattern
        for counter, turn in zip(counters, turns, strict=True):
            name = name.replace(f"{{{counter}}}", str(turn))
            name = name.replace(f"{{{counter} + 1}}", str(turn + 1))
        found.append(name)
    return found


def layer_name(r: Random, counters: Sequence[str], words: Sequence[str]) -> str:
    """A name, plain or dotted, in which every counter stands."""
    word = r.choice(words)
    if r.random() < 0.6:
        word += str(r.randrange(10))
    if not counters:
        kind = r.random()
        if kind < 0.75:
            return word
        if kind < 0.92:
            return f"{word}.{r.choice((0, 1, 7, *words[:4]))}"
        if kind < 0.935:
            return f"body.{word}.{r.randrange(3)}.{r.choice(words)}"
        return str(r.randrange(12)) if kind < 0.97 else word
    kind = r.random()
    braces = [f"{{{each}}}" for each in counters]
    if kind < 0.6:
        return f"{word}.{'.'.join(braces)}"
    if kind < 0.7:
        return f"{word}{'_'.join(braces)}"
    if kind < 0.78:
        return f"{'.'.join(braces)}.{word}"
    if kind < 0.86:
        return f"{word}.{'.'.join(f'{{{each} + 1}}' for each in counters)}"
    if kind < 0.94:
        return ".".join(f"{r.choice(words)}.{each}" for each in braces)
    return f"{word}.{'.'.join(braces)}.{r.choice(words)}"
