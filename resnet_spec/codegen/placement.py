"""Where the layers of a class are kept, so that each has its own name in the framework's state.

A name of one part is an attribute. A name of two parts is a key of a dictionary or, if the keys are
0, 1, …, an element of a list. A name that ends with the counter of its loop is an item of a list.
Any other name is added below the module part by part, and looked up as a dotted name.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

from resnet_spec.codegen.operation import Rule
from resnet_spec.diagnostics import fail, quoted
from resnet_spec.expressions import Const, Expr, Name
from resnet_spec.ir import Instance, Network, Operation, Step
from resnet_spec.language.identifiers import FirstParts
from resnet_spec.specialize import CallLine, FeatureLine, Line, LoopLine, OperationLine, Path
from resnet_spec.specialize.program import is_repeated

Layer = OperationLine | CallLine


class Place(enum.Enum):
    """How a class keeps one layer, or the repeated blocks of one line."""

    ATTRIBUTE = "self.name"
    KEY = 'self.container["name"]'
    ELEMENT = "self.container[0]"
    ITEM = "self.name[counter]"
    SUBMODULE = 'self.get_submodule("any.dotted.name")'


class Modules(NamedTuple):
    """How a framework writes operations, what keeps its modules, and the names that it takes.

    Rules are those of resnet_spec/codegen/operation.py. In the patterns of containers, `{}` is the
    list of what they hold.
    """

    framework: str
    base: str  # the class of a module
    # An operation in `layers` is a module of its class; one in `layers_by_name` is where the spec
    # gives it a name, and one in `children` as a child of the network.
    layers: Mapping[str, Rule]
    layers_by_name: Mapping[str, Rule]
    children: Mapping[str, Rule]
    table: Mapping[str, Rule]  # all of these, and what stands for `identity` in a sequence
    calls: Mapping[str, Rule]
    sequence: str
    named_sequence: str  # of pairs of a name and a module
    module_list: str
    dictionary: str  # an empty one, of modules
    chain: str  # the same where they run one after the other
    found: str  # the module of a dotted name
    names: frozenset[str]  # attributes of every module, which a layer must not hide
    network_names: frozenset[str]  # those of the class of a network
    dictionary_names: frozenset[str]  # methods of a dictionary of modules
    sequence_names: frozenset[str]  # methods of a sequence of modules

    def is_module(
        self, primitive: str, attributes: Mapping[str, Any], named: bool, child: bool = False
    ) -> bool:
        """Whether an operation is a module of its class.

        `named` tells that the spec gave its name, `child` that its class is the network.
        """
        if primitive == "softmax" and attributes["groups"] not in (0, Const(0)):
            return False  # no framework has a layer of it
        by_name = (named or child) and primitive in self.layers_by_name
        return primitive in self.layers or by_name or (child and primitive in self.children)

    def is_layer(self, line: Line) -> TypeGuard[Layer]:
        """Whether a line needs a module of its own."""
        if isinstance(line, OperationLine):
            return self.is_module(line.primitive.name, line.attributes, line.named, line.child)
        return isinstance(line, CallLine)

    def layers_in(
        self, lines: Iterable[Line], loops: tuple[LoopLine, ...] = ()
    ) -> Iterator[tuple[Layer, tuple[LoopLine, ...]]]:
        """Each line that needs a module, with the loops around it."""
        for line in lines:
            if isinstance(line, LoopLine):
                yield from self.layers_in(line.body, (*loops, line))
            elif self.is_layer(line):
                yield line, loops


def container_of(line: Layer) -> tuple[Path, Path | None]:
    """The name of a layer or of the container of repeated blocks, and the names of these in it.

    The fixed beginning of `names` belongs to the container: `blocks.{i}` in `stage1` is `{i}` in
    `stage1.blocks`.
    """
    if not isinstance(line, CallLine) or line.names is None:
        return line.path, None
    first, *rest = line.names
    if isinstance(first, str) and "." in first:
        outer, _, inner = first.rpartition(".")
        return (*line.path, f".{outer}"), (*([inner] if inner else ()), *rest)
    return line.path, line.names


def is_counted(names: Path) -> bool:
    """Whether repeated blocks are called by their number alone."""
    return names == (Name("i", True),)


def text_of(path: Path) -> str | None:
    """A name that is the same in every use; None for one with an expression."""
    return None if any(isinstance(part, Expr) for part in path) else "".join(map(str, path))


class Placement:
    """The places of all layers of one class.

    The layers of a network that run one after the other can be called in a row, container by
    container, which a list can't.
    """

    def __init__(self, lines: Sequence[Line], modules: Modules, is_network: bool = False) -> None:
        self.modules = modules
        found = list(modules.layers_in(lines))
        self.places = {id(line): _place(line, loops, modules) for line, loops in found}
        heads = {id(line): _head(line.path) for line, _ in found}
        self._find_shared(found, heads)
        self.held: dict[str, list[str]] = {}  # what the containers hold, by its names in them
        for line, _ in found:
            if self.of(line) is Place.KEY:
                head, _, key = str(text_of(container_of(line)[0])).partition(".")
                self.held.setdefault(head, []).append(key)
        self.chains = {head for head in self.held if self._is_chain(lines, head)}
        self.attributes = FirstParts(line.path for line, _ in found)
        self.elements: dict[str, list[Layer]] = {}
        for line, _ in found:
            if self.of(line) is Place.KEY and not (is_network and heads[id(line)] in self.chains):
                self.elements.setdefault(str(heads[id(line)]), []).append(line)
        self.elements = {h: each for h, each in self.elements.items() if _is_numbered(each)}
        for each in self.elements.values():
            self.places.update((id(line), Place.ELEMENT) for line in each)

    def _find_shared(
        self,
        found: Sequence[tuple[Layer, tuple[LoopLine, ...]]],
        heads: dict[int, str | None],
    ) -> None:
        """Everything below one name is kept in the same way."""
        numbers = Counter(heads.values())
        held = Counter(container_of(line)[0] for line, _ in found if is_repeated(line))
        below = [line for line, _ in found if self.places[id(line)] is Place.SUBMODULE]
        wild = FirstParts(line.path for line in below if heads[id(line)] is None)
        taken = {heads[id(line)] for line in below}
        for line, _ in found:
            head, place = heads[id(line)], self.places[id(line)]
            holds = is_repeated(line)
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
        """Keep a line that replaces another where that one is kept."""
        if id(line) in self.places:
            self.places[id(other)] = self.places[id(line)]

    def hides(self, name: str) -> bool:
        """Whether an attribute of this name would clash with a layer."""
        taken = self.modules.names | self.modules.network_names
        return name in self.attributes or name in taken

    def _is_chain(self, lines: Sequence[Line], head: str) -> bool:
        """Whether lines whose layers are below a name take one another's output alone."""
        is_layer = self.modules.is_layer
        below = {id(line) for line in lines if is_layer(line) and _head(line.path) == head}
        within = [number for number, line in enumerate(lines) if id(line) in below]
        called = (line for line in lines if isinstance(line, OperationLine) and not is_layer(line))
        if not within or any(_head(line.path) == head for line in called):
            return False
        span = lines[within[0] : within[-1] + 1]
        between = [each for each in span if not isinstance(each, FeatureLine)]
        chain = [each for each in between if id(each) in below and is_layer(each)]
        in_turn = all(each.inputs == (before.output,) for before, each in pairwise(chain))
        return in_turn and len(chain) == len(between) and all(each.when is None for each in chain)


def _head(path: Path) -> str | None:
    """The first part of a dotted name; None where that has an expression."""
    first = path[0]
    if not isinstance(first, str) or ("." not in first and len(path) > 1):
        return None
    return first.split(".")[0]


def _place(line: Layer, loops: tuple[LoopLine, ...], modules: Modules) -> Place:
    path, names = container_of(line)
    if names is not None and (
        any("." in part for part in names if isinstance(part, str))
        or text_of(names) in modules.sequence_names
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
    if (
        not _is_attribute(head)
        or len(rest_) > 1
        or (rest_ and rest_[0] in modules.dictionary_names)
    ):
        return Place.SUBMODULE
    return Place.KEY if rest_ else Place.ATTRIBUTE


def _is_numbered(layers: Sequence[Layer]) -> bool:
    """Whether the layers of a container are always there and called 0, 1, …"""
    keys = [str(text_of(container_of(line)[0])).partition(".")[2] for line in layers]
    return keys == [*map(str, range(len(layers)))] and all(line.when is None for line in layers)


def _is_attribute(name: str) -> bool:
    return name.isidentifier()


def check_names(network: Network, modules: Modules) -> None:
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
            elif not _is_module(step, modules, instance is network.root and network.is_flat):
                continue
            for part in step.name.split("."):
                own = instance is network.root and part in modules.network_names
                if own or part in modules.names:
                    whose = "the network's own class" if own else "every module"
                    fail(
                        "RS503",
                        f"{instance.definition.name}: a layer can't be called {quoted(step.name)} "
                        f"in {modules.framework}, where {quoted(part)} is an attribute of {whose}",
                        step.statement.name.span if step.statement.name else step.statement.span,
                        help="rename the layer",
                    )


def _is_module(step: Step, modules: Modules, child: bool) -> bool:
    assert isinstance(step.node, Operation)
    operation, named = step.node, not step.statement.unnamed
    return modules.is_module(operation.primitive.name, operation.attributes, named, child)
