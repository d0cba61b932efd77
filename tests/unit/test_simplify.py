"""A simplified expression has the same value for all numbers, and reads as one would write it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resnet_spec.expressions import (
    Binary,
    Call,
    Conditional,
    Const,
    Expr,
    ExpressionError,
    Name,
    evaluate,
    parse,
    substitute,
    to_python,
)

COUNT, RATE = Name("count", True), Name("rate", False)


def _composed(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    arithmetic = st.sampled_from(["+", "-", "*", "/", "//", "%"])
    compared = st.builds(Binary, st.sampled_from(["==", "<", ">="]), inner, inner)
    rounded = st.sampled_from(["int", "ceil", "floor", "round", "abs"])
    return st.one_of(
        st.builds(Binary, arithmetic, inner, inner),
        st.builds(Conditional, compared, inner, inner),
        st.builds(Call, rounded, st.tuples(inner)),
        st.builds(Call, st.sampled_from(["min", "max"]), st.tuples(inner, inner)),
    )


EXPRESSIONS = st.recursive(
    st.one_of(st.sampled_from([COUNT, RATE]), st.builds(Const, st.integers(-4, 12))),
    _composed,
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, st.integers(-64, 64), st.floats(-2, 2).map(lambda value: round(value, 1)))
def test_the_value_stays_the_same(expression: Expr, count: int, rate: float) -> None:
    scope = {"count": count, "rate": rate}
    try:
        right = evaluate(expression, scope)
    except ExpressionError:
        assume(False)
    assert evaluate(substitute(expression, {}), scope) == right


@pytest.mark.parametrize(
    ("written", "shorter"),
    [
        ("count * 2 / 4", "count / 2"),
        ("count * 4 / 4", "count"),
        ("count * 6 / 4", "count * 3 / 2"),
        ("count * 3 / 9", "count / 3"),
        ("rate * 3 / 9", "rate * 3 / 9"),  # its third may be rounded otherwise
        ("round(count * 2 / 2)", "count"),
        ("int(rate)", "int(rate)"),
        ("make_divisible(count / 4, 8, 8, 0)", "make_divisible(count / 4, 8, round_limit=0)"),
        ("make_divisible(count, 8, 32)", "make_divisible(count, 8, minimum=32)"),
    ],
)
def test_what_is_left_is_what_one_would_write(written: str, shorter: str) -> None:
    parsed, _ = parse(written)
    assert to_python(substitute(parsed, {"count": COUNT, "rate": RATE})) == shorter
