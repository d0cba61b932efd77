"""Primitives drawn at random so that they fit, mostly, in every use of their block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol

from random_values import Expression, Layer, Shape, resized, window


class Operation(NamedTuple):
    """A layer without its name, and what it gives in each use of the block."""

    layer: Layer
    shapes: list[Shape]
    weights: bool = False


class Hand(Protocol):
    """What draws numbers for the attributes."""

    r: Random
    free_size: bool  # whether the size of a map may change

    def channels(self) -> tuple[Expression, list[int]]: ...
    def integer(self, low: int, high: int, same: bool = True) -> Expression | None: ...
    def rate(self) -> Any: ...
    def test(self, turns: bool = True) -> Expression | None: ...


Maker = Callable[[Hand, list[Shape]], Operation | None]

FANNED: tuple[Any, ...] = (
    *("zeros", "ones", "lecun_uniform", 0, 1, {"constant": 0.5}, {"normal": 0.1}),
    *({"he_normal": "fan_in"}, {"fan_out_normal": 0.5}, {"fan_in_normal": 1.5}),
    {"he_uniform": "fan_out"},
)
PLAIN: tuple[Any, ...] = ("zeros", "ones", {"constant": 0.5}, {"normal": 0.1}, 0, 1)


def dividing(given: Sequence[Shape], *numbers: int) -> list[int]:
    """Those of the numbers that divide the channels in every use."""
    return [n for n in numbers if all(shape[0] % n == 0 for shape in given)]


def _sometimes(hand: Hand, layer: Layer, **choices: Sequence[Any]) -> None:
    for key, values in choices.items():
        if hand.r.random() < 0.2:
            layer[key] = hand.r.choice(values)


def alike(name: str, weights: bool = False, **choices: Sequence[Any]) -> Maker:
    """A primitive that keeps the shape, sometimes with attributes."""

    def make(hand: Hand, given: list[Shape]) -> Operation:
        layer: Layer = {name: None}
        _sometimes(hand, layer, **choices)
        return Operation(layer, given, weights)

    return make


def conv(hand: Hand, given: list[Shape]) -> Operation | None:
    r = hand.r
    filters, numbers = hand.channels()
    layer: Layer = {"conv": None, "filters": filters.text, "kernel": r.choice((1, 1, 3, 3, 5))}
    shapes = [(n, *shape[1:]) for n, shape in zip(numbers, given, strict=True)]
    if r.random() < 0.08:
        # Other windows than odd ones keep the size only where the padding follows from it.
        layer |= {"kernel": r.choice((2, 3, 4)), "padding": "same"}
    elif r.random() < 0.1 and (size := hand.integer(0, 1, same=False)) is not None:
        layer["kernel"] = f"2 * ({size.text}) + 1"
    if r.random() < 0.08:
        layer["dilation"] = r.choice((2, "3 - 1"))
    elif hand.free_size and r.random() < 0.3 and all(min(s[1:]) > 5 for s in given):
        layer["stride"] = 2
        if layer["kernel"] in (2, 4) and "padding" not in layer:
            layer["padding"] = "same"
        shapes = [resized(shape, lambda size: -(-size // 2)) for shape in shapes]
    groups = [n for n in dividing(given, 2, 4) if all(each % n == 0 for each in numbers)]
    if groups and r.random() < 0.15:
        flag = hand.test() if r.random() < 0.4 else None
        layer["groups"] = groups[0] if flag is None else f"{groups[0]} if ({flag.text}) else 1"
    _sometimes(hand, layer, bias=(True, True, False), init=FANNED)
    if layer.get("bias") and r.random() < 0.3:
        layer["bias_init"] = r.choice(PLAIN)
    if r.random() < 0.06:
        layer |= {"standardize": True, "eps": r.choice((1e-5, 1e-3))}
    return Operation(layer, shapes, True)


def linear(hand: Hand, given: list[Shape]) -> Operation:
    filters, numbers = hand.channels()
    layer: Layer = {"linear": None, "features": filters.text}
    _sometimes(hand, layer, bias=(False, True), init=FANNED, bias_init=PLAIN)
    return Operation(layer, [(n,) for n in numbers], True)


def grouped(name: str, weights: bool = True) -> Maker:
    def make(hand: Hand, given: list[Shape]) -> Operation | None:
        groups = dividing(given, 1, 2, 4)
        layer: Layer = {name: None, "groups": hand.r.choice(groups)}
        if weights:
            _sometimes(hand, layer, eps=(1e-3, 1e-4), init=PLAIN)
        elif hand.r.random() < 0.4:
            del layer["groups"]
        return Operation(layer, given, weights)

    return make


def pool(name: str) -> Maker:
    def make(hand: Hand, given: list[Shape]) -> Operation | None:
        r = hand.r
        if not hand.free_size or r.random() < 0.5:
            layer: Layer = {name: None, "kernel": r.choice((3, 3, 1)), "stride": 1}
            if r.random() < 0.3:
                layer |= {"kernel": r.choice((2, 3)), "padding": "same"}
            return Operation(layer, given)
        if any(min(shape[1:]) < 5 for shape in given):
            return None
        kernel = r.choice((2, 3)) if name == "max_pool" else 2
        layer = {name: None, "kernel": kernel, "stride": 2}
        ceil, padding = r.random() < 0.3, (kernel - 1) // 2
        if padding and ceil:
            layer["padding"] = padding = 0
        if ceil:
            layer["ceil"] = True
        shapes = [resized(s, lambda n: window(n, kernel, 2, padding, ceil)) for s in given]
        return Operation(layer, shapes)

    return make


def shuffle(hand: Hand, given: list[Shape]) -> Operation | None:
    if not dividing(given, 4):
        return None
    return Operation({"shuffle": None, "groups": 2, "parts": hand.r.choice((2, 1))}, given)


def dropping(name: str) -> Maker:
    return lambda hand, given: Operation({name: None, "rate": hand.rate()}, given)


def rescale(hand: Hand, given: list[Shape]) -> Operation:
    factor, offset = hand.r.choice(((-1, 1), (2, 0), (1, -0.25), (0.3, 0.1), ("1 / 2", 0)))
    return Operation({"rescale": None, "factor": factor, "offset": offset}, given)


def leaky_relu(hand: Hand, given: list[Shape]) -> Operation:
    layer: Layer = {"leaky_relu": None}
    if hand.r.random() < 0.7:
        turn = hand.integer(0, 3, same=False)
        layer["slope"] = hand.r.choice((0.2, 0.5)) if turn is None else f"0.1 * ({turn.text})"
    return Operation(layer, given)


def take(hand: Hand, given: list[Shape]) -> Operation | None:
    least = min(shape[0] for shape in given)
    if least < 4:
        return None
    start = hand.r.choice((0, 1, 2))
    stop = hand.r.choice((0, least, least - 1))
    layer: Layer = {"take": None}
    layer |= {key: n for key, n in (("start", start), ("stop", stop)) if n}
    return Operation(layer, [((stop or s[0]) - start, *s[1:]) for s in given])


def pad_channels(hand: Hand, given: list[Shape]) -> Operation:
    before, after = hand.r.choice(((2, 2), (0, 4), (1, 0), (0, 2)))
    layer: Layer = {"pad_channels": None}
    layer |= {key: n for key, n in (("before", before), ("after", after)) if n}
    return Operation(layer, [(s[0] + before + after, *s[1:]) for s in given])


def blur_pool(hand: Hand, given: list[Shape]) -> Operation | None:
    if any(min(shape[1:]) < 5 for shape in given):
        return None
    if not hand.free_size or hand.r.random() < 0.5:
        return Operation({"blur_pool": None, "stride": 1}, given)
    return Operation({"blur_pool": None}, [resized(s, lambda n: -(-n // 2)) for s in given])


def subsample(hand: Hand, given: list[Shape]) -> Operation | None:
    step = 2 if hand.free_size and all(min(s[1:]) > 5 for s in given) else 1
    shapes = [resized(shape, lambda n: -(-n // step)) for shape in given]
    return Operation({"subsample": None, "stride": step}, shapes)


def channel_conv(hand: Hand, given: list[Shape]) -> Operation | None:
    if any(shape[1:] != (1, 1) for shape in given):
        return None
    layer: Layer = {"channel_conv": None, "kernel": hand.r.choice((1, 3, 5))}
    _sometimes(hand, layer, init=FANNED)
    return Operation(layer, given, True)


# What a map may become, and what a vector may, with weights.
ANY: tuple[tuple[Maker, int], ...] = (
    *((alike(name), 2) for name in ("relu", "silu", "gelu", "sigmoid", "hard_sigmoid", "tanh")),
    (leaky_relu, 4),
    (grouped("softmax", weights=False), 3),
    (rescale, 4),
    (alike("learned_scale", True, init=PLAIN), 4),
    (alike("learned_shift", True, init=PLAIN), 4),
    (dropping("dropout"), 4),
    (alike("identity"), 6),
    (take, 5),
    (shuffle, 4),
)
MAPS: tuple[tuple[Maker, int], ...] = (
    *ANY,
    (conv, 34),
    (alike("batch_norm", True, eps=(1e-3,), momentum=(0.2, 0.01), init=PLAIN), 6),
    (grouped("group_norm"), 4),
    (grouped("evo_norm"), 3),
    (alike("filter_response_norm", True, eps=(1e-4,), init=PLAIN), 3),
    (alike("threshold", True), 3),
    (pool("max_pool"), 5),
    (pool("avg_pool"), 5),
    (dropping("drop_path"), 4),
    (pad_channels, 5),
    (blur_pool, 4),
    (subsample, 3),
    (channel_conv, 4),
)
VECTORS: tuple[tuple[Maker, int], ...] = (*ANY, (linear, 20))
ROLES = ("norm", "act")


def table(entries: Sequence[tuple[Maker, int]]) -> list[Maker]:
    """Each maker as often as its weight says, to choose from."""
    return [maker for maker, weight in entries for _ in range(weight)]


MAP_TABLE, VECTOR_TABLE = table(MAPS), table(VECTORS)
