"""The blocks of the library that a graph may hold, by what they are without their numbers."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from resnet_spec.expressions import names
from resnet_spec.importing.graph import Graph
from resnet_spec.importing.matching import Key, graph_key, word
from resnet_spec.importing.structure.arguments import is_sought
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.importing.structure.vocabulary import Vocabulary
from resnet_spec.language.nodes import plain
from resnet_spec.language.syntax import Argument, Binding, Definition, Loop, Statement
from resnet_spec.primitives import Shape

# Operations that no normal form writes as another: a graph without one has no block with it.
_TELLING = frozenset(
    {
        "add", "concat", "softmax", "learned_scale", "learned_shift", "channel_conv", "stack_rows",
        "blur_pool", "channel_avg_pool", "channel_max_pool", "pad_channels", "hard_sigmoid",
        "sigmoid", "multiply", "rescale",
    }
)  # fmt: skip
_NORMS = ("batch_norm", "group_norm")
_SIZE = 56  # rows and columns of the map on which blocks are tried
_FILTERS = 64
_CHANNELS = (_FILTERS, 4 * _FILTERS, _FILTERS // 2)  # as many as filters, more and fewer
# What a use must say, and never makes another graph by itself.
_SIZES = {"filters": _FILTERS, "growth": _FILTERS // 4, "width": _FILTERS, "stride": 1}


class Variant(NamedTuple):
    """A block with what makes it another graph: slots and structural arguments."""

    block: str
    arguments: tuple[tuple[str, str], ...]  # as JSON, so that variants are told apart

    def chosen(self) -> dict[str, Any]:
        """The arguments as values."""
        return {name: json.loads(value) for name, value in self.arguments}


Index = dict[Key, list[Variant]]


def index(prober: Prober, graph: Graph, words: Vocabulary) -> Index:
    """Every variant of a block that a graph may hold, by its skeleton."""
    has = {word(op, skeleton=True) for op in graph.ops}
    kinds = {op.kind for op in graph.ops} | {"norm" for op in graph.ops if op.kind in _NORMS}
    branches = any(len(op.inputs) > 1 for op in graph.ops)
    found: dict[Key, dict[Variant, None]] = defaultdict(dict)
    for block in words.stages:
        definition = prober.definition(block)
        if not _needed(prober, definition) <= kinds:
            continue
        if branches and _is_of_chains(prober, block, words):
            continue
        for variant, arguments in _variants(_Trial(prober, definition), words, has):
            for skeleton in _skeletons(prober, definition, arguments):
                found[skeleton].setdefault(variant)
    return {skeleton: list(variants) for skeleton, variants in found.items()}


def _is_of_chains(prober: Prober, block: str, words: Vocabulary) -> bool:
    """Whether a block stands only in networks without any branch: elsewhere it is no sign."""
    return not any(
        _needed(prober, prober.definition(each)) & {"add", "concat"} for each in words.beside[block]
    )


def _needed(prober: Prober, definition: Definition) -> set[str]:
    """Telling operations that a block always has.

    One that begins with its norm has it by itself, wherever its shortcut is the input.
    """
    found: set[str] = set()
    first = definition.body[0]
    if isinstance(first, Statement) and first.target in ("norm", *_NORMS):
        found.add("norm")
    for statement in definition.body:
        if isinstance(statement, Loop) or statement.when is not None:
            continue
        if statement.kind == "primitive":
            found |= {statement.target} & _TELLING
        elif statement.kind == "block":
            found |= _needed(prober, prober.definition(statement.target))
    return found


# --- variants ------------------------------------------------------------------------------------


class _Trial:
    """A block where it changes its input's size and channels, and where it keeps them."""

    def __init__(self, prober: Prober, definition: Definition) -> None:
        self.prober, self.definition = prober, definition
        usual = self._graph({}, _FILTERS // 2, 2)
        self.kept = _FILTERS if usual is None else usual.shapes[usual.output].channels

    def of(self, arguments: Mapping[str, Any]) -> tuple[tuple[Key | None, ...], set[str]]:
        """The skeletons, None where the arguments do not fit, and all that stands in them."""
        graphs = [
            self._graph(arguments, channels, stride)
            for channels, stride in ((_FILTERS // 2, 2), (self.kept, 1))
        ]
        said = {word(op, skeleton=True) for each in graphs if each for op in each.ops}
        return tuple(graph_key(each, skeleton=True) if each else None for each in graphs), said

    def _graph(self, arguments: Mapping[str, Any], channels: int, stride: int) -> Graph | None:
        made = _completed(self.definition, arguments, stride)
        return self.prober.graph(self.definition.name, made, Shape(channels, _SIZE, _SIZE))


class _Choice(NamedTuple):
    """The values of a slot or an argument that make other graphs, and what they show with."""

    values: list[Any]
    context: Mapping[str, Any] = {}  # flags without which only the first one is another graph


def _variants(
    trial: _Trial, words: Vocabulary, has: set[str]
) -> Iterator[tuple[Variant, dict[str, Any]]]:
    """All ways to fill the slots and to choose structural arguments, as far as a graph has them.

    Beside each its arguments with a value for those that are sought by the graph's own numbers.
    """
    choices = _choices(trial, words, has)
    for values in itertools.product(*(each.values for each in choices.values())):
        arguments = dict(zip(choices, values, strict=True))
        if any(
            arguments[name] != choice.values[0] and not choice.context.items() <= arguments.items()
            for name, choice in choices.items()
        ):
            continue
        chosen = tuple(
            (name, json.dumps(value)) for name, value in arguments.items() if not is_sought(name)
        )
        yield Variant(trial.definition.name, chosen), arguments


def _choices(trial: _Trial, words: Vocabulary, has: set[str]) -> dict[str, _Choice]:
    definition = trial.definition
    fillers = {name: _fillers(name, each, words) for name, each in definition.slots.items()}
    asked = {name: _flags(definition, name) for name in fillers}
    deciding = _deciding(definition)
    found: dict[str, _Choice] = {}
    for name, argument in definition.arguments.items():
        values = _values(argument, words) if name in deciding and name not in _SIZES else []
        # What a flag lets into a slot may be what the model has, or not.
        slots = [slot for slot, flags in asked.items() if name in flags]
        contexts = [{slot: each} for slot in slots for each in fillers[slot]] or [{}]
        tried = (_that_show(trial, name, values, context, has) for context in contexts)
        kept = next((each for each in tried if len(each) > 1), None) if values else None
        if kept is not None:
            found[name] = _Choice(kept)
    for name, values in fillers.items():
        on = {flag: found[flag].values[1] for flag in asked[name] if flag in found}
        choice = _Choice(_that_show(trial, name, values, {}, has))
        if on and len(choice.values) == 1:
            choice = _Choice(_that_show(trial, name, values, on, has), on)
        found[name] = choice
    return found


def _fillers(slot: str, binding: Binding, words: Vocabulary) -> list[Any]:
    """What may fill a slot: first what does by itself, then what does in networks."""
    usual: Any = "none" if binding.target is None else binding.target
    if binding.arguments.entries:
        usual = {usual: plain(binding.arguments)}
    return [usual, *(each for each in words.values.get(slot, ()) if each != usual)]


def _that_show(
    trial: _Trial, name: str, values: list[Any], context: Mapping[str, Any], has: set[str]
) -> list[Any]:
    """The first value, and those with which a block is another graph of what the model has."""
    usual, has_by_itself = trial.of({**context, name: values[0]})
    kept, known = [values[0]], {usual, (None, None)}
    for value in values[1:]:
        made, said = trial.of({**context, name: value})
        if made not in known and said - has_by_itself <= has:
            kept.append(value)
        known.add(made)
    return kept


def _values(argument: Argument, words: Vocabulary) -> list[Any]:
    """Flags both ways; numbers as networks have them."""
    default = argument.default.text if argument.default is not None else ""
    if argument.type == "bool":
        return [False, True] if default == "False" else [True, False]
    said = [each for each in words.values.get(argument.name, ()) if type(each) is int]
    usual = [int(default)] if default.isdigit() else []
    return list(dict.fromkeys((*usual, *said)))


def _deciding(definition: Definition) -> set[str]:
    """Arguments that decide what stands in a block: by conditions, counts and blocks in it."""
    found: set[str] = set()
    waiting: list[Statement | Loop] = list(definition.body)
    while waiting:
        each = waiting.pop()
        if isinstance(each, Loop):
            found |= names(each.count.expr)
            waiting += each.body
            continue
        for expression in (each.when, each.repeat):
            if expression is not None:
                found |= names(expression.expr)
        for name, node in each.arguments.entries.items():
            if each.kind == "block" or name == "parts":
                found |= set(str(plain(node)).split())
    return found


def _flags(definition: Definition, slot: str) -> set[str]:
    """What the condition of a slot asks."""
    for each in definition.body:
        if isinstance(each, Statement) and each.target == slot and each.when is not None:
            return names(each.when.expr)
    return set()


def _completed(definition: Definition, arguments: Mapping[str, Any], stride: int) -> dict[str, Any]:
    """With values for what must be given."""
    sizes = {
        name: value
        for name, value in _SIZES.items()
        if name in definition.arguments and definition.arguments[name].default is None
    }
    stated = {"stride": stride} if "stride" in definition.arguments else {}
    return {**sizes, **stated, **arguments}


def _skeletons(
    prober: Prober, definition: Definition, arguments: Mapping[str, Any]
) -> Iterator[Key]:
    """What a variant is on inputs with more, as many and fewer channels, and with a stride."""
    for stride in (1, 2) if "stride" in definition.arguments else (1,):
        for channels in _CHANNELS:
            given = Shape(channels, _SIZE, _SIZE)
            made = _completed(definition, arguments, stride)
            graph = prober.graph(definition.name, made, given)
            if graph is not None:
                yield graph_key(graph, skeleton=True)
