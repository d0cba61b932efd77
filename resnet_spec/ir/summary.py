"""What follows from a network without running it: its table of sizes, and the checked numbers.

Equal instances are one object, so each is analysed once and a network of a thousand equal blocks
costs hardly more than one of ten.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from resnet_spec.diagnostics import Diagnostic, quoted
from resnet_spec.ir.graph import Instance, Network, Operation, Step
from resnet_spec.ir.reach import Reach, Reaches
from resnet_spec.language.load import Loaded
from resnet_spec.language.nodes import Mapping as MappingNode
from resnet_spec.primitives import Shape

Kind = Literal["stem", "stage", "head"]


class Section(NamedTuple):
    """The stem, a stage or the head: what it is made of and what it costs.

    `filters` holds the distinct values of the argument of that name, in order. `receptive_field`
    and `stride` are those of the section's output; None where it sees the whole input.
    """

    name: str
    kind: Kind
    blocks: str
    filters: tuple[int, ...]
    output: Shape
    parameters: int
    statistics: int
    macs: int
    receptive_field: int | None
    stride: int | None
    operations: int


class Summary(NamedTuple):
    """The sections of a network and its totals."""

    sections: tuple[Section, ...]
    parameters: int
    statistics: int
    macs: int
    operations: int
    peak_activation: int


def summarize(network: Network) -> Summary:
    """The table that `show` prints: sections, as in table 1 of the ResNet paper, and totals.

    Multiply-adds and the peak activation (in elements) are for one sample, receptive fields and
    strides in pixels of the image. https://arxiv.org/abs/1512.03385
    """
    root = network.root
    reached = Reaches().along(root)
    sections: list[Section] = []
    last = -1  # a stage without steps (a `when` that is false) ends where the one before it ends
    for name, kind, indices, output in stretches(network):
        last = indices[-1] if indices else last
        reach = reached[last] if last >= 0 else Reach()
        steps = tuple(root.steps[index] for index in indices)
        sections.append(_section(name, kind, steps, output, reach, root))
    return Summary(
        tuple(sections),
        root.parameters,
        root.statistics,
        root.macs,
        root.size,
        peak_activation(network),
    )


def stretches(network: Network) -> Iterator[tuple[str, Kind, Sequence[int], Shape]]:
    """Name, kind, steps and output of each section."""
    root, stages = network.root, network.stages
    in_stages = {index for stage in stages for index in stage.steps}
    stem = [index for index in range(network.head) if index not in in_stages]
    if stem:
        yield "stem", "stem", stem, stages[0].input if stages else root.output
    for stage in stages:
        yield stage.name, "stage", stage.steps, stage.output
    head = range(network.head, len(root.steps))
    if head:
        yield "head", "head", head, root.output


def _section(
    name: str,
    kind: Kind,
    steps: tuple[Step, ...],
    output: Shape,
    reach: Reach | None,
    root: Instance,
) -> Section:
    part = Instance(root.definition, {}, {}, root.input, output, steps, 0)
    return Section(
        name=name,
        kind=kind,
        blocks=_described(steps),
        filters=_filters(steps),
        output=output,
        parameters=part.parameters,
        statistics=part.statistics,
        macs=part.macs,
        receptive_field=reach.field if reach else None,
        stride=reach.stride if reach else None,
        operations=part.size,
    )


def _described(steps: Iterable[Step]) -> str:
    """`3 x bottleneck`, or the operations with weights or a window: `conv 7x7, max_pool 3x3`."""
    runs: list[tuple[str, int]] = []
    for step in steps:
        if isinstance(step.node, Instance):
            text = step.node.definition.name
        else:
            text = _operation(step.node)
        if text and runs and runs[-1][0] == text:
            runs[-1] = (text, runs[-1][1] + 1)
        elif text:
            runs.append((text, 1))
    return ", ".join(f"{count} x {text}" if count > 1 else text for text, count in runs)


def _operation(operation: Operation) -> str:
    primitive = operation.primitive
    if "kernel" in operation.attributes:
        kernel = operation.attributes["kernel"]
        return f"{primitive.name} {kernel}x{kernel}"
    # Activations and norms follow nearly every layer; a table of them would tell nothing.
    return "" if primitive.group in ("activation", "norm", "merge") else primitive.name


def _filters(steps: Iterable[Step]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for step in steps:
        if isinstance(step.node, Instance):
            bound = step.node.scope.get("filters")
            value = bound.value if bound is not None else None
        else:
            given = step.node.attributes.get("filters")
            value = given if isinstance(given, int) else None
        if isinstance(value, int):
            found[value] = None
    return tuple(found)


# --- memory --------------------------------------------------------------------------------------


def peak_activation(network: Network) -> int:
    """The largest number of elements that are alive at one time, for one sample.

    Operations run one after the other, in the order of the spec. While one runs, these values are
    alive: its inputs, its outputs, and every value that a later operation reads or that is the
    result. Nothing is overwritten in place, parts of a split count as values of their own, and
    parameters are not counted. The input image is alive until it has been read for the last time.
    """
    return _Peaks().of(network.root, keep_input=False)


def peak_activations(network: Network) -> list[int]:
    """The same for each section: the most elements that are alive while it runs.

    Values of other sections that are alive then are counted. A section without steps has 0.
    """
    during = _Peaks().during(network.root, keep_input=False)
    return [
        max((during[index] for index in indices), default=0)
        for _, _, indices, _ in stretches(network)
    ]


class _Peaks:
    def __init__(self) -> None:
        self.known: dict[tuple[int, bool], int] = {}

    def of(self, instance: Instance, keep_input: bool) -> int:
        """The peak while an instance runs, its input and output counted."""
        key = (id(instance), keep_input)
        if key not in self.known:
            during = self.during(instance, keep_input)
            self.known[key] = max([instance.input.elements, *during])
        return self.known[key]

    def during(self, instance: Instance, keep_input: bool) -> list[int]:
        """The peak while each step of an instance runs."""
        peaks: list[int] = []
        last = {number: index for index, s in enumerate(instance.steps) for number in s.inputs}
        last[instance.result] = len(instance.steps)
        if keep_input:
            last[0] = len(instance.steps)
        sizes = {0: instance.input.elements}
        alive = sizes[0]
        for index, step in enumerate(instance.steps):
            for number in step.outputs:
                sizes[number] = step.node.output.elements
                alive += sizes[number]
            if isinstance(step.node, Operation):
                peaks.append(alive)
            else:
                source = step.inputs[0]
                inside = self.of(step.node, keep_input=last[source] > index)
                own = sizes[source] + sum(sizes[number] for number in step.outputs)
                peaks.append(alive - own + inside)
            for number in {*step.inputs, *step.outputs}:
                if last.get(number, -1) <= index:
                    alive -= sizes[number]
                    sizes[number] = 0
        return peaks


# --- checked numbers -----------------------------------------------------------------------------


def expectations(loaded: Loaded, network: Network) -> list[Diagnostic]:
    """RS406 for every number under `expect` that is not the network's."""
    expected = loaded.model.expect
    node = loaded.node.get("expect")
    if expected is None or not isinstance(node, MappingNode):
        return []
    found = []
    for key in ("parameters", "statistics", "macs"):
        given, actual = getattr(expected, key), getattr(network.root, key)
        if given is not None and given != actual:
            found.append(
                Diagnostic(
                    "RS406",
                    f"{quoted(key)} should be {given:,}, but the network has {actual:,}",
                    node.span_of(key),
                    help=f"correct the network, or write {key}: {actual}",
                )
            )
    return found
