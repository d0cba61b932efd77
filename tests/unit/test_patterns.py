"""Patterns: a line of a target's text with an operation's attributes in it."""

import pytest

from resnet_spec.codegen.layout import Applied, Bracket, flat, statement
from resnet_spec.codegen.patterns import code, fill

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
