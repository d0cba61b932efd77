"""The boxes of one block: its operations, with norms and activations folded into their neighbours.

A block inside a block is one box with its name if it branches, and is expanded if it is a mere
chain. Boxes are in the order in which they run, the block's input first, its output last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from resnet_spec.ir import Instance, Operation, Step, walk

INPUT, OUTPUT, BLOCK, CHAIN, MORE = "input", "output", "block", "chain", "more"
JOINS = {"add": "+", "multiply": "×"}
BARS = ("split", "concat", "stack_rows")

# Norms and activations by the names that papers give them; any other goes by its own.
_SHORT = {
    "batch_norm": "BN",
    "group_norm": "GN",
    "evo_norm": "EvoNorm",
    "filter_response_norm": "FRN",
    "relu": "ReLU",
    "silu": "SiLU",
    "leaky_relu": "LeakyReLU",
    "threshold": "TLU",
    "gelu": "GELU",
    "hard_sigmoid": "h-sigmoid",
    "learned_shift": "+ bias",
    "learned_scale": "× scale",
}
_FOLDED = ("learned_shift", "learned_scale", "flatten")
_HOSTS = ("conv", "linear", "channel_conv")

Port = tuple[int, int]  # a box, and which of its outputs
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Box:
    """One box: an operation, a block that is drawn apart, or norms and activations alone.

    `before` and `after` are the norms and activations that run around its operation.
    """

    index: int
    kind: str  # a primitive's name, or one of the five above
    name: str
    inputs: tuple[Port, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    outputs: int = 1
    channels: int = 0
    nested: Instance | None = None
    shortcut: bool = False
    depthwise: bool = False
    optional: bool = False  # only where its stride is above one

    @property
    def folds(self) -> bool:
        """Whether it is drawn within a neighbour, not by itself."""
        is_act = self.group in ("norm", "activation") and self.kind != "softmax"
        return is_act or self.kind in _FOLDED

    @property
    def is_bar(self) -> bool:
        return self.kind in BARS

    @property
    def is_join(self) -> bool:
        return self.kind in JOINS


def boxes_of(steps: Sequence[Step], start: int, result: int) -> tuple[Box, ...]:
    """The boxes of some steps of an instance, from the value `start` to the value `result`."""
    flat = _Flat()
    values = flat.run(steps, {start: (0, 0)}, "", False)
    end = values.get(result, (0, 0))
    return _folded([*flat.boxes, Box(len(flat.boxes), OUTPUT, OUTPUT, (end,))])


def branches(instance: Instance) -> bool:
    """Whether a block is more than a chain of layers."""
    uses = Counter(value for step in instance.steps for value in step.inputs)
    joined = any(len(step.inputs) > 1 for step in instance.steps)
    return joined or any(count > 1 for count in uses.values())


class _Flat:
    """The operations of a block as boxes; chains within it are written out."""

    def __init__(self) -> None:
        self.boxes = [Box(0, INPUT, INPUT)]

    def run(
        self, steps: Sequence[Step], values: dict[int, Port], prefix: str, shortcut: bool
    ) -> dict[int, Port]:
        """The ports of all values once these steps have run."""
        shortcuts = _shortcuts(steps)
        for step in steps:
            # What was computed before the first of these steps comes in from outside.
            inputs = tuple(values.get(value, (0, 0)) for value in step.inputs)
            name = f"{prefix}{step.name}"
            if isinstance(step.node, Operation):
                self.operation(step, step.node, name, inputs, values, shortcut)
            elif branches(step.node):
                ports = ((len(self.boxes), 0),)
                self.add(BLOCK, name, inputs, nested=step.node, channels=step.node.output.channels)
                values.update(zip(step.outputs, ports, strict=True))
            else:
                inside = self.run(
                    step.node.steps,
                    {0: inputs[0]},
                    f"{name}.",
                    shortcut or id(step) in shortcuts,
                )
                values[step.outputs[0]] = inside[step.node.result]
        return values

    def operation(
        self,
        step: Step,
        node: Operation,
        name: str,
        inputs: tuple[Port, ...],
        values: dict[int, Port],
        shortcut: bool,
    ) -> None:
        kind = node.primitive.name
        if kind == "identity":
            values[step.outputs[0]] = inputs[0]
            return
        groups = node.attributes.get("groups", 1)
        for port, value in enumerate(step.outputs):
            values[value] = (len(self.boxes), port)
        self.add(
            kind,
            name,
            inputs,
            attributes=node.attributes,
            group=node.primitive.group,
            outputs=len(step.outputs),
            channels=node.output.channels,
            shortcut=shortcut,
            depthwise=kind == "conv" and groups == node.inputs[0].channels != 1,
        )

    def add(self, kind: str, name: str, inputs: tuple[Port, ...], **more: Any) -> None:
        self.boxes.append(Box(len(self.boxes), kind, name, inputs, **more))


def _shortcuts(steps: Sequence[Step]) -> set[int]:
    """The steps (by `id`) in a shortcut, which is added to a branch with more weights.

    What both branches come from belongs to neither.
    """
    given_by = {value: step for step in steps for value in step.outputs}
    found: set[int] = set()
    for step in steps:
        if not isinstance(step.node, Operation) or step.node.primitive.name != "add":
            continue
        above = [_above(value, given_by) for value in step.inputs]
        for number, branch in enumerate(above):
            others = [each for n, each in enumerate(above) if n != number]
            alone = branch - set().union(*others)
            heaviest = max(_weights(each - branch, given_by) for each in others)
            if _weights(alone, given_by) < heaviest:
                found |= {id(given_by[value]) for value in alone}
    return found


def _above(value: int, given_by: Mapping[int, Step]) -> set[int]:
    """The values that a value comes from, itself included."""
    found, waiting = set[int](), [value]
    while waiting:
        each = waiting.pop()
        if each not in found and each in given_by:
            found.add(each)
            waiting += given_by[each].inputs
    return found


def _weights(values: set[int], given_by: Mapping[int, Step]) -> int:
    """How many operations with weights give some values."""
    steps = {id(given_by[each]): given_by[each] for each in values}
    return sum(_weighty(step) for step in steps.values())


def _weighty(step: Step) -> int:
    inner = walk(step.node) if isinstance(step.node, Instance) else [("", step.node)]
    return sum(operation.primitive.group == "weights" for _, operation in inner)


# --- folding -------------------------------------------------------------------------------------


def _folded(boxes: list[Box]) -> tuple[Box, ...]:
    """Norms and activations go into the operation before them, or behind where they go ahead."""
    chains = _Chains(boxes)
    ahead = any(chains.goes_ahead(chain) for chain in chains.found)
    changed: dict[int, Box] = {}
    gone: dict[int, Port] = {}
    for chain in chains.found:
        texts = tuple(_SHORT.get(box.kind, box.kind.replace("_", " ")) for box in chain)
        host, follower = chains.host(chain), chains.follower(chain)
        if follower is not None and (ahead or host is None):
            base = changed.get(follower.index, follower)
            changed[follower.index] = replace(base, before=texts)
            gone.update((box.index, chain[0].inputs[0]) for box in chain)
        elif host is not None:
            base = changed.get(host.index, host)
            changed[host.index] = replace(base, after=texts)
            gone.update((box.index, chain[0].inputs[0]) for box in chain)
        else:
            first = chain[0].index
            changed[first] = replace(chain[0], kind=CHAIN, after=texts)
            gone.update((box.index, (first, 0)) for box in chain[1:])
    return without([changed.get(box.index, box) for box in boxes], gone)


class _Chains:
    """The longest runs of boxes that fold, and what stands around each."""

    def __init__(self, boxes: list[Box]) -> None:
        self.boxes = boxes
        self.readers: dict[int, list[Box]] = {box.index: [] for box in boxes}
        for box in boxes:
            for source, _ in box.inputs:
                self.readers[source].append(box)
        self.found: list[list[Box]] = []
        seen: set[int] = set()
        for box in boxes:
            if box.folds and box.index not in seen:
                chain = [box]
                while (following := self._only_reader(chain[-1])) and following.folds:
                    chain.append(following)
                seen.update(each.index for each in chain)
                self.found.append(chain)

    def _only_reader(self, box: Box) -> Box | None:
        readers = self.readers[box.index]
        return readers[0] if len(readers) == 1 else None

    def host(self, chain: list[Box]) -> Box | None:
        """The operation with weights before it, which nothing else reads."""
        box = self.boxes[chain[0].inputs[0][0]]
        return box if box.kind in _HOSTS and self._only_reader(box) else None

    def follower(self, chain: list[Box]) -> Box | None:
        """The operation with weights that alone reads it."""
        box = self._only_reader(chain[-1])
        return box if box is not None and box.kind in _HOSTS else None

    def goes_ahead(self, chain: list[Box]) -> bool:
        """Whether the block norms before it convolves, as pre-activation blocks do."""
        read = any(box.kind in _HOSTS for box in self.readers[chain[-1].index])
        return self.host(chain) is None and any(box.group == "norm" for box in chain) and read


def without(boxes: Sequence[Box], gone: Mapping[int, Port]) -> tuple[Box, ...]:
    """The boxes but for those that are gone, each with the port that stands in its place."""
    kept = [box for box in boxes if box.index not in gone]
    number = {box.index: place for place, box in enumerate(kept)}

    def port(given: Port) -> Port:
        while given[0] in gone:
            given = gone[given[0]]
        return number[given[0]], given[1]

    return tuple(
        replace(box, index=place, inputs=tuple(map(port, box.inputs)))
        for place, box in enumerate(kept)
    )
