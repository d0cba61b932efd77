"""The blocks of the library that a graph may hold, by what they are without their numbers."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from resnet_spec.importing.graph import Graph
from resnet_spec.importing.matching import Key, graph_key
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.language.library import builtin_blocks
from resnet_spec.language.syntax import Definition, Loop, Statement
from resnet_spec.primitives import Shape

# What fills a slot of a block, beside its default; some with an argument that changes the graph.
_FILLERS: dict[str, tuple[Any, ...]] = {
    "attention": ("none", "squeeze_excitation", "efficient_channel_attention", "cbam"),
    "shortcut": (
        "projection",
        "avg_pool_shortcut",
        "conv_shortcut",
        "zero_pad_shortcut",
        "projection_3x3",
        {"conv_shortcut": {"pooled": True}},
    ),
    "aa": ("blur_pool", {"avg_pool": {"kernel": 2}}, {"avg_pool": {"kernel": 3}}),
}
# Arguments that make another graph of a block: their values, the default first.
_STRUCTURAL: dict[str, tuple[Any, ...]] = {
    "anti_alias": (False, True),
    "always_project": (False, True),
    "pool_first": (False, True),
    "split_input": (True, False),
    "first": (False, True),
    "project": (False, True),
    "apart": (False, True),
    "scale": (4, 2, 3, 6, 8),
    "radix": (2, 1, 4),
    "depth": (1, 2, 3, 4),
}
# Blocks that are parts of others; a stage of one would say less than its layers.
_PARTS = frozenset(
    {
        "conv_norm_act", "norm_act_conv", "deep_stem", "projection", "projection_3x3",
        "conv_shortcut", "avg_pool_shortcut", "zero_pad_shortcut", "fixup_projection",
        "channel_attention", "spatial_attention", "squeeze_excitation",
        "efficient_channel_attention", "cbam", "split_attention", "selective_kernel",
    }
)  # fmt: skip
# Operations that no normal form writes as another: a graph without one has no block with it.
_TELLING = frozenset(
    {
        "add", "concat", "softmax", "learned_scale", "learned_shift", "channel_conv", "stack_rows",
        "blur_pool", "channel_avg_pool", "channel_max_pool", "pad_channels", "hard_sigmoid",
        "sigmoid", "multiply", "rescale",
    }
)  # fmt: skip
# What a filler or a flag brings in where it shows at all: without it, it says nothing.
_BRINGS = {
    "avg_pool_shortcut": "avg_pool",
    "conv_shortcut": "bare conv",
    "zero_pad_shortcut": "pad_channels",
    "blur_pool": "blur_pool",
    "avg_pool": "avg_pool",
    "pooled": "avg_pool",
    "norm": "norm",
}
_SIZE = 56  # rows and columns of the map on which blocks are tried
_FILTERS = 64


class Variant(NamedTuple):
    """A block with what makes it another graph: slots and structural arguments."""

    block: str
    arguments: tuple[tuple[str, str], ...]  # as JSON, so that variants are told apart

    def chosen(self) -> dict[str, Any]:
        """The arguments as values."""
        return {name: json.loads(value) for name, value in self.arguments}


Index = dict[Key, list[Variant]]


def index(prober: Prober, graph: Graph) -> Index:
    """Every variant of a block that a graph may hold, by its skeleton."""
    kinds = _kinds(graph)
    found: dict[Key, dict[Variant, None]] = defaultdict(dict)
    for block in builtin_blocks():
        definition = prober.definition(block)
        if block in _PARTS or not _needed(prober, definition) <= kinds:
            continue
        for variant in _variants(prober, definition, kinds):
            for skeleton in _skeletons(prober, definition, variant):
                found[skeleton].setdefault(variant)
    return {skeleton: list(variants) for skeleton, variants in found.items()}


def _kinds(graph: Graph) -> set[str]:
    """The operations of a folded graph; convolutions without a bias and norms by themselves."""
    found = {op.kind for op in graph.ops}
    if any(op.kind == "conv" and not op.attributes["bias"] for op in graph.ops):
        found.add("bare conv")
    if found & {"batch_norm", "group_norm"}:
        found.add("norm")
    return found


def _needed(prober: Prober, definition: Definition) -> set[str]:
    """Telling operations that a block always has.

    One that begins with its norm has it by itself, wherever its shortcut is the input.
    """
    found: set[str] = set()
    first = definition.body[0]
    if isinstance(first, Statement) and first.target in ("norm", "batch_norm"):
        found.add("norm")
    for statement in _always(definition.body):
        if statement.kind == "primitive":
            found |= {statement.target} & _TELLING
        elif statement.kind == "block":
            found |= _needed(prober, prober.definition(statement.target))
    return found


def _always(body: tuple[Statement | Loop, ...]) -> Iterator[Statement]:
    for each in body:
        if isinstance(each, Statement) and each.when is None:
            yield each


def _variants(prober: Prober, definition: Definition, kinds: set[str]) -> Iterator[Variant]:
    """All ways to fill the slots and to choose the structural arguments, as far as kinds allow."""
    choices: dict[str, list[Any]] = {}
    for slot in definition.slots:
        default = definition.slots[slot].target
        fillers = [
            each
            for each in _FILLERS.get(slot, ())
            if each == default or _may_fill(prober, each, kinds)
        ]
        if default is not None and default not in fillers and slot in _FILLERS:
            fillers.append(default)
        if fillers:
            choices[slot] = sorted(fillers, key=lambda each: each != default)
    for argument in definition.arguments:
        if argument == "anti_alias" and not kinds & {"blur_pool", "avg_pool"}:
            continue
        if argument in _STRUCTURAL:
            choices[argument] = list(_STRUCTURAL[argument])
    for combination in itertools.product(*choices.values()):
        chosen = dict(zip(choices, combination, strict=True))
        if not chosen.get("anti_alias"):
            if chosen.get("aa", "blur_pool") != choices.get("aa", ["blur_pool"])[0]:
                continue
            chosen.pop("aa", None)
        yield Variant(
            definition.name, tuple((name, json.dumps(value)) for name, value in chosen.items())
        )


def _may_fill(prober: Prober, filler: Any, kinds: set[str]) -> bool:
    name = next(iter(filler)) if isinstance(filler, dict) else filler
    brought = {name, *(filler[name] if isinstance(filler, dict) else ())} & set(_BRINGS)
    if not {_BRINGS[each] for each in brought} <= kinds:
        return False
    return name not in builtin_blocks() or _needed(prober, prober.definition(name)) <= kinds


def _skeletons(prober: Prober, definition: Definition, variant: Variant) -> Iterator[Key]:
    """What a variant is on inputs with more, as many and fewer channels, and with a stride."""
    names = definition.arguments
    chosen = variant.chosen()
    for stride in (1, 2) if "stride" in names else (1,):
        for channels in (_FILTERS, 4 * _FILTERS, _FILTERS // 2):
            arguments = dict(chosen)
            for name, value in (("filters", _FILTERS), ("growth", 32), ("width", _FILTERS)):
                argument = names.get(name)
                if argument is not None and argument.default is None:
                    arguments[name] = value
            if "stride" in names:
                arguments["stride"] = stride
            graph = prober.graph(definition.name, arguments, Shape(channels, _SIZE, _SIZE))
            if graph is not None:
                yield graph_key(graph, skeleton=True)
