"""Blocks of random networks: what each is called and takes, and the uses that it is drawn for.

What a block gives for what it is given, its contract, is known before its layers are drawn. So the
callers of a block are drawn before the block itself, and its layers are drawn to fit all its uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from random_values import (
    BLOCKS,
    NUMBERS,
    ONE,
    RESERVED,
    Expression,
    Fill,
    Layer,
    Numbers,
    Shape,
    World,
    computed,
    constant,
    named,
    number_of,
)

MAX_CHANNELS = 24
MAX_USES = 8  # of a block that its layers are drawn for
POSITION = ("i", "n", "block_index", "block_count")

NORMS: tuple[tuple[Any, Fill], ...] = (
    ("batch_norm", Fill("batch_norm", weights=True)),
    ({"batch_norm": {"eps": 1e-3, "momentum": 0.05}}, Fill("batch_norm", weights=True)),
    ({"group_norm": {"groups": 2}}, Fill("group_norm", 2, weights=True)),
    ({"evo_norm": {"groups": 2}}, Fill("evo_norm", 2, weights=True)),
    ("filter_response_norm", Fill("filter_response_norm", weights=True)),
    ("none", Fill()),
    ("identity", Fill("identity")),
)
ACTS: tuple[tuple[Any, Fill], ...] = (
    *((name, Fill(name)) for name in ("relu", "silu", "gelu", "tanh", "sigmoid", "identity")),
    ({"leaky_relu": {"slope": 0.2}}, Fill("leaky_relu")),
    ("hard_sigmoid", Fill("hard_sigmoid")),
    ("threshold", Fill("threshold", weights=True)),
    ("none", Fill()),
)
# Blocks of the package that keep the shape of a map.
KEEPING: tuple[tuple[Any, Fill], ...] = (
    ({"squeeze_excitation": {"reduction": 4, "divisor": 4}}, Fill("map", weights=True)),
    ({"channel_attention": {"reduction": 2}}, Fill("map", weights=True)),
    ({"spatial_attention": {"kernel": 3}}, Fill("map", weights=True)),
    ("efficient_channel_attention", Fill("map", weights=True)),
)
PRIMITIVES: tuple[tuple[Any, Fill], ...] = (
    *ACTS,
    ({"rescale": {"factor": 2}}, Fill("rescale")),
    ({"dropout": {"rate": 0.1}}, Fill("dropout")),
    ({"max_pool": {"kernel": 3, "stride": 1}}, Fill("map")),
    ("batch_norm", Fill("batch_norm", weights=True)),
    ({"group_norm": {"groups": 2, "eps": 1e-3}}, Fill("group_norm", 2, weights=True)),
    ("learned_scale", Fill("learned_scale", weights=True)),
)


class Argument(NamedTuple):
    """An argument: its type, its default (None: it must be given), as the YAML has it."""

    kind: str
    default: Expression | None
    first: bool
    written: Any


@dataclass
class Block:
    """A block, its layers drawn last."""

    name: str
    index: int
    contract: str  # same: keeps the shape; filters: gives so many channels; grow: adds some
    vector: bool = False
    weightless: bool = False
    in_file: bool = False
    arguments: dict[str, Argument] = field(default_factory=dict)
    filters: str = ""  # the arguments that the contract speaks of
    stride: str = ""
    slots: dict[str, tuple[Any, Fill]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)  # of the network
    written: Layer = field(default_factory=dict)
    worlds: list[World] = field(default_factory=list)
    seen: set[Any] = field(default_factory=set)
    used: bool = False
    needed: bool = False  # it is named somewhere

    def output(self, numbers: Numbers, given: Shape) -> Shape | None:
        """What it gives; None where that is nothing that a small network has."""
        channels = given[0]
        if self.contract != "same":
            asked = numbers[self.filters]
            if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
                return None
            channels = asked if self.contract == "filters" else channels + asked
        if channels > MAX_CHANNELS:
            return None
        step = numbers.get(self.stride, 1)
        if step != 1 and (step != 2 or min(given[1:], default=0) < 6):
            return None
        return (channels, *(-(-size // step) for size in given[1:]))

    def use(self, numbers: Numbers, given: Shape, fills: dict[str, Fill]) -> None:
        """One use more to draw the layers for."""
        self.used = True
        key = (tuple(numbers.items()), given, tuple(map(str, fills.values())))
        if len(self.worlds) < MAX_USES and key not in self.seen:
            self.seen.add(key)
            self.worlds.append(World(numbers, given, fills))

    def numbers(self, given: dict[str, Any], position: Numbers) -> Numbers | None:
        """All arguments, those that are not given by their defaults; None where one has none."""
        found: Numbers = {}
        for name, argument in self.arguments.items():
            value = given.get(name, self.defaults.get(name))
            if argument.first and position["i"]:
                value = None
            if value is None and argument.default is not None:
                value = number_of(argument.default, position)
            if value is None or (argument.kind == "bool") != isinstance(value, bool):
                return None
            found[name] = value
        return found


def signature(r: Random, index: int, taken: set[str], last: bool) -> Block:
    """A block without layers."""
    words = [word for word in (*BLOCKS, "a_block", f"block{index}") if word not in taken]
    block = Block(
        r.choice(words),
        index,
        r.choice(("same", "same", "filters", "filters", "filters", "grow")),
        in_file=r.random() < 0.3,
    )
    if last and r.random() < 0.3:
        block.weightless, block.contract = True, "same"
    elif last and r.random() < 0.3:
        block.vector, block.contract = True, r.choice(("same", "filters"))
    _arguments(r, block)
    return block


def _arguments(r: Random, block: Block) -> None:
    words = list(NUMBERS)
    r.shuffle(words)
    if r.random() < 0.02:
        words.append(r.choice(RESERVED))
    if block.contract != "same":
        block.filters = "filters" if r.random() < 0.3 else words.pop()
        words = [word for word in words if word != block.filters]
        written: Any = "int" if r.random() < 0.7 else {"type": "int", "description": "How many"}
        block.arguments[block.filters] = Argument("int", None, False, written)
    if block.contract == "filters" and not block.vector and r.random() < 0.6:
        block.stride = "stride" if r.random() < 0.5 else words.pop()
        first = r.random() < 0.6
        written = {"default": 1, "only": "first"} if first else 1
        block.arguments[block.stride] = Argument("int", constant(1), first, written)
    kinds = r.choices(("int", "bool", "float"), weights=(4, 4, 2), k=r.choice((0, 1, 1, 2, 3)))
    for kind in kinds:
        block.arguments[words.pop()] = _argument(r, kind)


def _argument(r: Random, kind: str) -> Argument:
    """One that the contract does not speak of; it has a default."""
    default = constant({"int": r.choice((1, 2, 2, 3, 0)), "bool": False, "float": 0.0}[kind])
    if r.random() < 0.25:
        turn = named(r.choice(("i", "i", "n", "block_index", "block_count")))
        if kind == "bool":
            default = Expression(f"{turn.text} == 0", lambda numbers: turn.value(numbers) == 0)
        elif kind == "int":
            default = computed(r.choice(ONE[:8]), turn) if r.random() < 0.5 else turn
        return Argument(kind, default, False, {"type": kind, "default": default.text})
    first = r.random() < 0.15
    if first or r.random() < 0.2:
        only = {"only": "first"} if first else {}
        return Argument(kind, default, first, {"default": default.text, **only})
    return Argument(kind, default, False, default.text)


def call_position(index: int, count: int, before: int = 0, all_blocks: int = 1) -> Numbers:
    return {"i": index, "n": count, "block_index": before + index, "block_count": all_blocks}
