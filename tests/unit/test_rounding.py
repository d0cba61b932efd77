"""`make_divisible` against values worked out by hand: compiled files have its source as it is."""

from __future__ import annotations

import pytest

from resnet_spec.expressions import make_divisible
from resnet_spec.expressions.evaluate import evaluate
from resnet_spec.expressions.parse import parse


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ((8, 8), 8),
        ((12, 8), 16),  # halfway goes up
        ((11, 8), 16),  # 8 would be less than nine tenths of 11
        ((11, 8, 8, 0.0), 8),  # however much that loses
        ((17.5, 8), 16),  # 16 is more than nine tenths of 17.5
        ((3, 8), 8),  # at least the divisor
        ((3, 8, 24), 24),  # at least what is asked for
        ((100, 8, 32), 104),
    ],
)
def test_the_nearest_multiple(arguments: tuple[float, ...], right: int) -> None:
    assert make_divisible(*arguments) == right  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("make_divisible(11, divisor=8)", 16),
        ("make_divisible(divisor=8, value=11)", 16),
        ("make_divisible(3, 8, minimum=24)", 24),
        ("make_divisible(11, 8, round_limit=0.0)", 8),  # the minimum is the divisor
        ("make_divisible(3, 8, round_limit=0.0)", 8),
    ],
)
def test_arguments_by_name(text: str, right: int) -> None:
    assert evaluate(parse(text)[0], {}) == right
