"""Patterns: a line of a target's text with an operation's attributes in it."""

import pytest

from resnet_spec.codegen.layout import (
    Applied,
    Bracket,
    Code,
    Comprehension,
    collection,
    flat,
    statement,
)
from resnet_spec.codegen.module import imported, imports
from resnet_spec.codegen.patterns import code, fill
from resnet_spec.codegen.patterns import statement as patterns_statement

EACH = Comprehension("*(", "a", "for _ in b")

VALUES = {"x": "x", "groups": "32", "eps": "1e-05", "pair": "(a, b)", "inputs": "[x, *parts]"}


def written(pattern: str, *defaults: str) -> str:
    return flat(fill(pattern, VALUES.__getitem__, lambda name, _: name in defaults))


@pytest.mark.parametrize(
    ("pattern", "defaults", "text"),
    [
        ("f({x})", "", "f(x)"),
        ("f({x}, eps={eps?1e-5})", "", "f(x, eps=1e-05)"),
        ("f({x}, eps={eps?1e-5})", "eps", "f(x)"),
        ("f({groups?1}, eps={eps?1e-5})", "groups", "f(eps=1e-05)"),
        ("f({groups?1}, eps={eps?1e-5})", "groups eps", "f()"),
        ("{x}.mean(dim=(2, 3), keepdim={eps?False})", "eps", "x.mean(dim=(2, 3))"),
        ("Layer({groups}, name={x})({inputs})", "", "Layer(32, name=x)([x, *parts])"),
        ("pad({x}, ({pair}, {pair}))", "", "pad(x, ((a, b), (a, b)))"),
    ],
)
def test_an_argument_with_its_default_is_left_out(pattern: str, defaults: str, text: str) -> None:
    assert written(pattern, *defaults.split()) == text


def test_a_value_is_no_pattern_itself() -> None:
    assert flat(fill("f(name={x})", lambda _: 'f"{name}_conv1"')) == 'f(name=f"{name}_conv1")'


def test_calls_and_displays_are_broken_as_such() -> None:
    match code("f(a)(x)"), code("f(a).sum(dim=0)"), code("g((1, 2), [*parts], h(1))"):
        case (
            Applied(Bracket(), "x", ""),
            Applied(Bracket(), "dim=0", "sum"),
            Bracket(items=(("", Bracket(display=True)), ("", Bracket("[")), ("", Bracket("h(")))),
        ):
            pass
        case other:
            pytest.fail(str(other))


def test_a_long_line_is_laid_out_as_ruff_does() -> None:
    made = code(f"layers.Dense({'a' * 40}, kernel_initializer={'b' * 20}, name=name)(x)")
    assert statement("x = ", made, indent=4) == [
        "    x = layers.Dense(",
        f"        {'a' * 40},",
        f"        kernel_initializer={'b' * 20},",
        "        name=name,",
        "    )(x)",
    ]


LONG = "layers.Conv2D(filters, kernel_size, strides=stride, use_bias=False, name=name)(x)"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = f(a)", ["    x = f(a)"]),
        ("if padding > 0:", ["    if padding > 0:"]),
        ("    x = f(a)", ["        x = f(a)"]),
        (f"# {LONG} is as it is", [f"    # {LONG} is as it is"]),
        ('"""What stands here, however (long it is)."""',
         ['    """What stands here, however (long it is)."""']),
        (f"return {LONG}",
         ["    return layers.Conv2D(",
          "        filters, kernel_size, strides=stride, use_bias=False, name=name",
          "    )(x)"]),
    ],
)  # fmt: skip
def test_a_statement_on_one_line_is_laid_out(text: str, lines: list[str]) -> None:
    assert patterns_statement(text, 4) == lines


@pytest.mark.parametrize(
    ("pattern", "items", "text"),
    [
        ("List({})", ["a", "b"], "List([a, b])"),
        ("Sequential(*{})", ["a", "b"], "Sequential(a, b)"),
        ("Sequential(Named({}))", ["a"], "Sequential(Named([a]))"),
        ("List({})", [EACH], "List(a for _ in b)"),
        ("Sequential(*{})", [EACH], "Sequential(*(a for _ in b))"),
        ("Sequential(*{})", [EACH, "c"], "Sequential(*(a for _ in b), c)"),
        ("Sequential(Named({}))", [EACH], "Sequential(Named(a for _ in b))"),
        ("List({})", [EACH._replace(opening="Made(")], "List([Made(a for _ in b)])"),
        ("List({})", [EACH, "c"], "List([*(a for _ in b), c])"),
    ],
)
def test_containers_hold_items_and_comprehensions(
    pattern: str, items: list[Code], text: str
) -> None:
    assert flat(collection(pattern, items)) == text


BLOCK = """\
import math
from typing import Any, Self

import keras
import jax.numpy as jnp
from torch.nn import functional as F
"""


def test_a_file_imports_what_it_uses() -> None:
    assert imported(BLOCK) == {"math", "Any", "Self", "keras", "jnp", "F"}
    assert imports(BLOCK, {"Self", "math", "F"}) == [
        "import math",
        "from typing import Self",
        "",
        "from torch.nn import functional as F",
    ]
    assert imports(BLOCK, {"jnp", "numpy", "nn"}) == ["import jax.numpy as jnp"]
