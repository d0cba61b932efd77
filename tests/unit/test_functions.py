"""Functions of a backend's own file, as a network uses them: what is known is worked out."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping

import pytest

from resnet_spec.backends.keras.helpers import FUNCTIONS
from resnet_spec.codegen.functions import Function, Use

POOL = '''\
def pool(
    x: Tensor, size: int, *, stride: int, padding: int, ceil: bool, init: Init, name: str
) -> Tensor:
    """Pooling{what}."""
    # As much on each side.
    same = stride == 1 and 2 * padding == size - 1
    if padding > 0 and not same:
        x = pad(x, padding, name=f"{name}_pad")
    # The last window may stick out.
    if ceil:
        far = padding + stride - 1
        x = pad(x, (padding, far))
    return Pool(size, strides=stride, mode="same" if same else "valid", init=init, name=name)(x)
'''


def written(
    known: Mapping[str, str],
    options: Mapping[str, str | None],
    passed: Mapping[str, str] | None = None,
) -> str:
    defaults = {"Pool": {"mode": '"valid"', "strides": "1"}}
    function = Function(POOL, Use(known, passed or {}, defaults))
    return "\n".join(function.written("pool", options, {"what": " of windows"}))


def test_what_varies_is_a_parameter_and_the_rest_stays() -> None:
    options = {"stride": "1", "padding": "0", "ceil": "False", "init": "Normal(2.0)"}
    assert written({}, options) == textwrap.dedent('''\
        def pool(
            x: Tensor,
            size: int,
            *,
            stride: int = 1,
            padding: int = 0,
            ceil: bool = False,
            init: Init | None = None,
            name: str,
        ) -> Tensor:
            """Pooling of windows."""
            if init is None:
                init = Normal(2.0)
            # As much on each side.
            same = stride == 1 and 2 * padding == size - 1
            if padding > 0 and not same:
                x = pad(x, padding, name=f"{name}_pad")
            # The last window may stick out.
            if ceil:
                far = padding + stride - 1
                x = pad(x, (padding, far))
            return Pool(
                size, strides=stride, mode="same" if same else "valid", init=init, name=name
            )(x)''')


@pytest.mark.parametrize(
    ("known", "passed", "body"),
    [
        ({"stride": "1", "padding": "0", "ceil": "False", "same": "False"}, {},
         ["return Pool(size, init=init, name=name)(x)"]),
        ({"stride": "2", "padding": "1", "ceil": "False"}, {},
         ['x = pad(x, 1, name=f"{name}_pad")',
          "return Pool(size, strides=2, init=init, name=name)(x)"]),
        ({"stride": "2", "padding": "1", "ceil": "True", "init": '"zeros"'}, {},
         ['x = pad(x, 1, name=f"{name}_pad")',
          "# The last window may stick out.",
          "x = pad(x, (1, 2))",
          'return Pool(size, strides=2, init="zeros", name=name)(x)']),
        ({"padding": "1", "ceil": "False"}, {"size": "3"},
         ["# As much on each side.",
          "same = stride == 1",
          "if not same:",
          '    x = pad(x, 1, name=f"{name}_pad")',
          "return Pool(",
          '    size, strides=stride, mode="same" if same else "valid", init=init, name=name',
          ")(x)"]),
        ({"stride": "1", "padding": "1", "ceil": "False"}, {"size": "3"},
         ['return Pool(size, mode="same", init=init, name=name)(x)']),
    ],
)  # fmt: skip
def test_what_is_known_is_worked_out(
    known: Mapping[str, str], passed: Mapping[str, str], body: list[str]
) -> None:
    text = textwrap.dedent(written(known, {}, passed).partition('windows."""\n')[2])
    assert text.split("\n") == body


def test_an_option_that_nothing_reads_is_no_parameter() -> None:
    text = written({"stride": "1", "padding": "0", "ceil": "False", "init": "0.001"}, {})
    assert text.split("\n")[0] == "def pool(x: Tensor, size: int, *, name: str) -> Tensor:"
    assert "init=0.001" in text


def test_what_is_passed_decides_comparisons_alone() -> None:
    source = 'def f(x: int, size: int) -> int:\n    """F."""\n    return g(size - 1, size == 3)\n'
    assert Function(source, Use({}, {"size": "3"}, {})).body == ["    return g(size - 1, True)"]


def test_what_follows_a_return_is_not_reached() -> None:
    source = (
        "def f(x: int, *, own: bool) -> int:\n"
        '    """F."""\n    if own:\n        return g(x)\n    return x\n'
    )
    bodies = {own: Function(source, Use({"own": own}, {}, {})).body for own in ("True", "False")}
    assert bodies == {"True": ["    return g(x)"], "False": ["    return x"]}
    varying = Function(source, Use({}, {}, {}))
    assert varying.body == ["    if own:", "        return g(x)", "    return x"]
    assert varying.read >= {"own"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_which_nothing_is_known_is_as_it_is_written(name: str) -> None:
    source = FUNCTIONS[name].replace("def conv2d", f"def {name}")
    words = {"biased": "{biased}", "padded": "{padded}"}
    text = "\n".join(Function(source, Use({}, {}, {})).written(name, {}, words))
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(source))
    assert re.findall("# .*", text) == re.findall("# .*", source)
