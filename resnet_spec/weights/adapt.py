"""What is to be done with each tensor of a network: taken as it is, adapted, or drawn afresh.

Nothing is adapted that was not asked for, and everything that is not taken as it is gets a line.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from resnet_spec.diagnostics import Diagnostic, Span, counted, quoted
from resnet_spec.ir import Instance, Network, walk
from resnet_spec.weights import wiring
from resnet_spec.weights.checkpoint import FLOATS, Checkpoint, Layout, Tensor, read, shape_text
from resnet_spec.weights.entries import Entry, entries
from resnet_spec.weights.match import Match, Pair, array

How = Literal["taken", "reset", "adapted", "fresh"]
InputRule = Literal["mean", "repeat"]

_MAX_CHANNELS = 4096  # of a kernel that is adapted: a file may state any size, and store nothing


class Options(NamedTuple):
    """What may be done where a file does not fit."""

    reset_head: bool = False
    adapt_input: InputRule | None = None
    partial: bool = False


class Step(NamedTuple):
    """How one tensor of the network comes about."""

    entry: Entry
    how: How
    tensor: Tensor | None

    def text(self, layout: Layout, rule: InputRule | None) -> str:
        """The line that tells it: what it is now, and what the file has."""
        shape = shape_text(self.entry.shape(layout))
        line = f"{self.how:<8} {self.entry.name} {shape}"
        given = (
            f"the file has {shape_text(self.tensor.shape)}" if self.tensor else "not in the file"
        )
        if self.how == "adapted":
            return f"{line}: {rule}, {given}"
        return f"{line}: {self.entry.parameter.initializer}, {given}"


class Plan(NamedTuple):
    """Every tensor's step, what of the file is dropped, and what stands in the way."""

    steps: tuple[Step, ...]
    dropped: tuple[Tensor, ...]
    problems: tuple[Diagnostic, ...]


def plan(found: Match, options: Options) -> Plan:
    """What to do so that the network gets all of its tensors."""
    layout = found.checkpoint.layout
    given = {pair.entry.name: pair.tensor for pair in (*found.fitting, *found.wrong)}
    fitting = {pair.entry.name for pair in found.fitting}
    head = set(_head(found.network)) if options.reset_head else set()
    stem = set(_stem(found.network)) if options.adapt_input else set()
    steps = []
    for name, entry in entries(found.network).items():
        tensor = given.get(name)
        if name in head:
            how: How | None = "reset"
        elif name in fitting:
            how = "taken"
        elif name in stem and tensor is not None and _has_other_input(entry, tensor, layout):
            how = "adapted"
        else:
            how = "fresh" if options.partial else None
        if how is not None:
            steps.append(Step(entry, how, tensor))
    dropped = tuple(each.tensor for each in found.extra) if options.partial else ()
    unsettled = {step.entry.name for step in steps}
    problems = [*_useless(found, options, head, stem, steps), *_misfits(found, options, unsettled)]
    return Plan(tuple(steps), dropped, tuple(problems))


# - which tensors -


def _head(network: Network) -> Iterator[str]:
    """The tensors whose shape follows from the number of classes."""
    for step in network.root.steps[network.head :]:
        if isinstance(step.node, Instance):
            below = [(f"{step.name}.{name}", operation) for name, operation in walk(step.node)]
        else:
            below = [(step.name, step.node)]
        for name, operation in below:
            if operation.output.open:
                yield from (f"{name}.{parameter.name}" for parameter in operation.parameters)


def _stem(network: Network) -> list[str]:
    """The kernels that see the image itself."""
    return [f"{name}.weight" for name in wiring.stem(network)]


def _has_other_input(entry: Entry, tensor: Tensor, layout: Layout) -> bool:
    """Whether a kernel differs in its input channels and in nothing else."""
    axes = entry.place(layout).axes
    if len(tensor.shape) != len(axes) or tensor.dtype not in FLOATS:
        return False
    axis = axes.index(1)
    wanted = entry.shape(layout)
    return all(
        size == other or (place == axis and 0 < size <= _MAX_CHANNELS)
        for place, (size, other) in enumerate(zip(tensor.shape, wanted, strict=True))
    )


# - what stands in the way -


def _useless(
    found: Match, options: Options, head: set[str], stem: set[str], steps: list[Step]
) -> Iterator[Diagnostic]:
    """What was asked for and can't be done."""
    name = quoted(found.network.name)
    for asked, there, what in (
        (options.reset_head, head, "tensor in its head that depends on the number of classes"),
        (options.adapt_input is not None, stem, "convolution without groups that sees the image"),
    ):
        if asked and not there:
            yield _problem(found, "RS906", f"{name} has no {what}")
    if options.partial and not any(step.how in ("taken", "adapted") for step in steps):
        yield _problem(
            found,
            "RS906",
            f"nothing in {quoted(found.checkpoint.shown)} fits {name}",
            "'resnet-spec weights inspect' compares the two",
        )


def _misfits(found: Match, options: Options, settled: set[str]) -> Iterator[Diagnostic]:
    """One finding for each kind of misfit; their names stand in the report."""
    name = quoted(found.network.name)
    missing = [entry for entry in found.missing if entry.name not in settled]
    wrong = [pair for pair in found.wrong if pair.entry.name not in settled]
    if missing:
        message = f"{counted(len(missing), 'tensor')} of {name} {_is(missing)} missing"
        yield _problem(found, "RS903", message, _MISSING)
    if found.extra and not options.partial:
        message = f"{counted(len(found.extra), 'tensor')} {_is(found.extra)} none of {name}'s"
        yield _problem(found, "RS904", message, "drop them with --partial")
    if wrong:
        verb = "has" if len(wrong) == 1 else "have"
        message = f"{counted(len(wrong), 'tensor')} of {name} {verb} another shape or type"
        yield _problem(found, "RS905", message, _shape_help(found, wrong))


_MISSING = (
    "if the file has them by other names, say so with --rename; --partial draws them afresh, to be "
    "trained"
)


def _shape_help(found: Match, wrong: list[Pair]) -> str:
    kinds = sorted({pair.tensor.dtype for pair in wrong} - set(FLOATS))
    if kinds:
        what = "has complex numbers" if "complex" in kinds[0] else "is quantised"
        return f"the file {what} ({', '.join(kinds)}): take the weights as they were before"
    names = {pair.entry.name for pair in wrong}
    head, stem = set(_head(found.network)), set(_stem(found.network))
    hints = []
    if any(_is_turned(pair, found.checkpoint.layout) for pair in wrong):
        return "the kernels stand as height, width, in, out: --kernel-order hwio turns them"
    if all(pair.tensor.shape == pair.entry.shape("torch")[::-1] for pair in wrong):
        return "the matrices stand as in, out, where PyTorch has out, in: save them transposed"
    if names & head:
        hints.append("for another number of classes, begin the head anew with --reset-head")
    if names & stem:
        hints.append("for another number of input channels, use --adapt-input mean or repeat")
    if names - head - stem:
        hints.append("draw them afresh with --partial, or use a spec that has these shapes")
    return "; ".join(hints)


def _is_turned(pair: Pair, layout: Layout) -> bool:
    """Whether a kernel of PyTorch's name has the order of TensorFlow."""
    turned = len(pair.tensor.shape) == 4 and pair.tensor.shape == pair.entry.shape("keras")
    return layout == "torch" and turned


def _problem(found: Match, code: str, message: str, help: str | None = None) -> Diagnostic:
    return Diagnostic(code, message, Span(found.checkpoint.shown), help)


def _is(things: object) -> str:
    return "is" if len(things) == 1 else "are"  # type: ignore[arg-type]


# - values -


def adapted(step: Step, checkpoint: Checkpoint, rule: InputRule) -> Any:
    """A kernel for another number of input channels, in PyTorch's order of axes.

    `mean` gives each channel the mean of the old ones, `repeat` the old ones in turn; both scaled
    by old / new, so that an image with the same value in all channels gives what it gave before
    (with `repeat`, where new is a multiple of old). timm takes `mean` for one channel and `repeat`
    for more (timm.models._manipulate.adapt_input_conv).
    """
    import numpy

    assert step.tensor is not None
    axes = step.entry.place(checkpoint.layout).axes
    kernel = read(step.tensor, checkpoint.shown).transpose(numpy.argsort(axes))
    old, new = kernel.shape[1], step.entry.parameter.shape[1]
    exact = kernel.astype(numpy.float64)
    if rule == "mean":
        exact = numpy.repeat(exact.mean(axis=1, keepdims=True), new, axis=1)
    else:
        exact = exact[:, numpy.arange(new) % old]
    return (exact * (old / new)).astype(kernel.dtype)


def taken(step: Step, checkpoint: Checkpoint) -> Any:
    """The values of the file in PyTorch's order of axes."""
    assert step.tensor is not None
    return array(Pair(step.entry, step.tensor), checkpoint)
