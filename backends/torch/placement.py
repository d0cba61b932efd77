"""Where the layers of a class are kept, so that each has its own name in the state_dict.

A name of one part is an attribute, one of two parts a key of an `nn.ModuleDict`, and one that ends
with the counter of its loop an item of an `nn.ModuleList`. Whatever else a spec calls a layer is
put below the module part by part, and found by its dotted name.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeGuard

from resnet_spec.backends.torch import primitives
from resnet_spec.diagnostics import fail, quoted
from resnet_spec.expressions import Expr, Name
from resnet_spec.ir import Instance, Network, Operation, Step
from resnet_spec.language.identifiers import FirstParts
from resnet_spec.specialize import CallLine, FeatureLine, Line, LoopLine, OperationLine, Path

Layer = OperationLine | CallLine


class Place(enum.Enum):
    """How a class keeps one layer, or the repeated blocks of one line."""

    ATTRIBUTE = "self.name"
    KEY = 'self.container["name"]'
    ITEM = "self.name[counter]"
    SUBMODULE = 'self.get_submodule("any.dotted.name")'


# Methods of nn.ModuleDict and of nn.Sequential, which can't be names of what they hold.
_DICT_NAMES = frozenset({"clear", "items", "keys", "pop", "update", "values"})
_SEQUENTIAL_NAMES = frozenset({"append", "extend", "insert", "pop"})


def is_layer(line: Line) -> bool:
    """Whether a line needs a module of its own."""
    if isinstance(line, OperationLine):
        return primitives.is_module(line.primitive.name, line.attributes, line.named)
    return isinstance(line, CallLine)


def layers_in(
    lines: Iterable[Line], loops: tuple[LoopLine, ...] = ()
) -> Iterator[tuple[Layer, tuple[LoopLine, ...]]]:
    """Each line that needs a module, with the loops around it."""
    for line in lines:
        if isinstance(line, LoopLine):
            yield from layers_in(line.body, (*loops, line))
        elif isinstance(line, OperationLine | CallLine) and is_layer(line):
            yield line, loops


def container_of(line: Layer) -> tuple[Path, Path | None]:
    """The name of a layer, or of what holds repeated blocks, and what these are called in it.

    What `names` begins with belongs to the container: `blocks.{i}` in `stage1` is `{i}` in
    `stage1.blocks`.
    """
    if not isinstance(line, CallLine) or line.names is None:
        return line.path, None
    first, *rest = line.names
    if isinstance(first, str) and "." in first:
        outer, _, inner = first.rpartition(".")
        return (*line.path, f".{outer}"), (*([inner] if inner else ()), *rest)
    return line.path, line.names


def text_of(path: Path) -> str | None:
    """A name that is the same in every use; None for one with an expression."""
    return None if any(isinstance(part, Expr) for part in path) else "".join(map(str, path))


class Placement:
    """The places of all layers of one class."""

    def __init__(self, lines: Sequence[Line]) -> None:
        found = list(layers_in(lines))
        self.places = {id(line): _place(line, loops) for line, loops in found}
        heads = {id(line): _head(line.path) for line, _ in found}
        self._find_shared(found, heads)
        self.chains = {head for head in heads.values() if head and _is_chain(lines, head)}
        self.attributes = FirstParts(line.path for line, _ in found)

    def _find_shared(
        self,
        found: Sequence[tuple[Layer, tuple[LoopLine, ...]]],
        heads: dict[int, str | None],
    ) -> None:
        """What is below one name is kept in one way."""
        numbers = Counter(heads.values())
        held = Counter(container_of(line)[0] for line, _ in found if _is_repeated(line))
        below = [line for line, _ in found if self.places[id(line)] is Place.SUBMODULE]
        wild = FirstParts(line.path for line in below if heads[id(line)] is None)
        taken = {heads[id(line)] for line in below}
        for line, _ in found:
            head, place = heads[id(line)], self.places[id(line)]
            holds = _is_repeated(line)
            shared = place is not Place.KEY and numbers[head] > 1
            shared = shared or (holds and held[container_of(line)[0]] > 1)
            # A name with an expression may be any of the first parts that it fits.
            if shared or (head is not None and head in wild):
                self.places[id(line)] = Place.SUBMODULE
                taken.add(head)
        # The layers of a loop are made in the order in which they run.
        mixed = {id(loops[0]) for line, loops in found if loops and heads[id(line)] in taken}
        for line, loops in found:
            if heads[id(line)] in taken or (loops and id(loops[0]) in mixed):
                self.places[id(line)] = Place.SUBMODULE

    def of(self, line: Layer) -> Place:
        return self.places[id(line)]

    def runs_in_turn(self, head: str) -> bool:
        """Whether all layers of a container run one after the other, with nothing in between."""
        return head in self.chains

    def replace(self, line: Line, other: Line) -> None:
        """Keep a line that stands for another where that one is kept."""
        if id(line) in self.places:
            self.places[id(other)] = self.places[id(line)]

    def hides(self, name: str) -> bool:
        """Whether an attribute of this name would be in the way of a layer."""
        return name in self.attributes or name in MODULE_NAMES or name in NETWORK_NAMES


def _is_repeated(line: Layer) -> bool:
    return isinstance(line, CallLine) and line.names is not None


def _head(path: Path) -> str | None:
    """The first part of a dotted name; None where that has an expression."""
    first = path[0]
    if not isinstance(first, str) or ("." not in first and len(path) > 1):
        return None
    return first.split(".")[0]


def _place(line: Layer, loops: tuple[LoopLine, ...]) -> Place:
    path, names = container_of(line)
    if names is not None and (
        any("." in part for part in names if isinstance(part, str))
        or text_of(names) in _SEQUENTIAL_NAMES
    ):
        return Place.SUBMODULE
    if loops:
        first, *rest = path
        is_item = (
            len(loops) == 1
            and line.when is None
            and names is None
            and isinstance(first, str)
            and first.count(".") == 1
            and first.endswith(".")
            and rest == [Name(loops[0].variable, True)]
        )
        return Place.ITEM if is_item and _is_attribute(str(first)[:-1]) else Place.SUBMODULE
    text = text_of(path)
    if text is None:
        return Place.SUBMODULE
    head, *rest_ = text.split(".")
    if not _is_attribute(head) or len(rest_) > 1 or (rest_ and rest_[0] in _DICT_NAMES):
        return Place.SUBMODULE
    return Place.KEY if rest_ else Place.ATTRIBUTE


def _is_chain(lines: Sequence[Line], head: str) -> bool:
    """Whether lines whose layers are below a name take one another's output alone."""
    within = [number for number, line in enumerate(lines) if _is_below(line, head)]
    called = (line for line in lines if isinstance(line, OperationLine) and not is_layer(line))
    if not within or any(_head(line.path) == head for line in called):
        return False
    span = lines[within[0] : within[-1] + 1]
    between = [each for each in span if not isinstance(each, FeatureLine)]
    chain = [each for each in between if _is_below(each, head) and each.when is None]
    in_turn = all(each.inputs == (before.output,) for before, each in pairwise(chain))
    return in_turn and len(chain) == len(between)


def _is_below(line: Line, head: str) -> TypeGuard[Layer]:
    if not isinstance(line, OperationLine | CallLine):
        return False
    return is_layer(line) and _head(line.path) == head


def _is_attribute(name: str) -> bool:
    return name.isidentifier()


# --- names that torch.nn.Module takes ------------------------------------------------------------

# Attributes that a layer must not hide: of nn.Module, and of the class of a network.
NETWORK_NAMES = frozenset({"feature_info", "forward_features", "freeze_until"})
MODULE_NAMES = frozenset(
    {
        *("T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init"),
        *("children", "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr"),
        *("float", "forward", "get_buffer", "get_extra_state"),
        *("get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules"),
        *("mtia", "named_buffers", "named_children", "named_modules", "named_parameters"),
        *("parameters", "register_backward_hook", "register_buffer", "register_forward_hook"),
        *("register_forward_pre_hook", "register_full_backward_hook"),
        *("register_full_backward_pre_hook", "register_load_state_dict_post_hook"),
        *("register_load_state_dict_pre_hook", "register_module", "register_parameter"),
        *("register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_"),
        *("set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty"),
        *("train", "training", "type", "xpu", "zero_grad"),
    }
)


def check_names(network: Network) -> None:
    """RS503 for a layer or block that can't be a module's attribute, wherever it stands."""
    seen: set[int] = set()
    waiting = [network.root]
    while waiting:
        instance = waiting.pop()
        if id(instance) in seen:
            continue
        seen.add(id(instance))
        for step in instance.steps:
            if isinstance(step.node, Instance):
                waiting.append(step.node)
            elif not _is_module(step):
                continue
            for part in step.name.split("."):
                if part in MODULE_NAMES or (instance is network.root and part in NETWORK_NAMES):
                    fail(
                        "RS503",
                        f"{instance.definition.name}: a layer can't be called {quoted(step.name)} "
                        f"in PyTorch, where {quoted(part)} is an attribute of every module",
                        step.statement.name.span if step.statement.name else step.statement.span,
                        help="call the layer something else",
                    )


def _is_module(step: Step) -> bool:
    assert isinstance(step.node, Operation)
    operation, named = step.node, not step.statement.unnamed
    return primitives.is_module(operation.primitive.name, operation.attributes, named)
