"""What `make_divisible` of the language computes; compiled modules have a copy of it."""


def make_divisible(
    value: float, divisor: int, minimum: int | None = None, round_limit: float = 0.9
) -> int:
    """The multiple of `divisor` nearest to `value`, at least `minimum` or else `divisor`.

    If rounding would lose more than `1 - round_limit` of the value, it is one step more, as
    in the reference implementation of MobileNet and in timm (layers/helpers.py).
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded
