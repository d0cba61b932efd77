"""Weights that mean the same in another way: each is turned where it must be, or refused.

A file may keep flattened maps by rows, columns and channels, have its norms folded into
convolutions, or expect images in another order of channels. What the file tells is done; what it
does not tell is asked for, with the flag that answers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from resnet_spec.diagnostics import Diagnostic, Span, quoted
from resnet_spec.weights import folding, stated, wiring
from resnet_spec.weights.checkpoint import Checkpoint, FlattenOrder, Tensor
from resnet_spec.weights.entries import Entry, entries
from resnet_spec.weights.match import Match, rebuilt


class Asked(NamedTuple):
    """The transforms of a command line; `mean` and `std` are those of the file's images."""

    flatten_order: FlattenOrder | None = None
    kernel_order: Literal["oihw", "hwio"] | None = None
    unfold_norms: bool = False
    fold_norms: bool = False
    fold_biases: bool = False
    input_order: Literal["rgb", "bgr"] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class Work:
    """The tensors of a file by our names while they are turned, and what is left over."""

    def __init__(self, found: Match) -> None:
        self.network, self.checkpoint = found.network, found.checkpoint
        self.given: dict[str, Tensor] = {
            pair.entry.name: pair.tensor for pair in (*found.fitting, *found.wrong)
        }
        self.left = {each.name: each.tensor for each in found.extra}
        self.entries = entries(found.network)
        self.notes: list[str] = []
        self.problems: list[Diagnostic] = []

    def turn(self, name: str, change: Callable[[Any], Any]) -> None:
        """Has a tensor's values changed when they are read; `change` takes PyTorch's axes.

        One of another size is left alone: it does not fit, which is told elsewhere.
        """
        entry, tensor = self.entries[name], self.given[name]
        if math.prod(tensor.shape) != entry.parameter.size:
            return
        self.given[name] = tensor._replace(
            read=partial(_turned, tensor, entry, self.checkpoint, change)
        )

    def problem(self, message: str, help: str | None = None, code: str = "RS906") -> None:
        self.problems.append(Diagnostic(code, message, Span(self.checkpoint.shown), help))

    def leftover(self, name: str) -> str | None:
        """The key of what the file has more for one of our names, such as a convolution's bias."""
        if self.checkpoint.layout == "keras":
            layer, _, variable = name.rpartition(".")
            name = f"{layer.replace('.', '_')}/{variable}"
        return name if name in self.left else None


def _turned(
    tensor: Tensor, entry: Entry, checkpoint: Checkpoint, change: Callable[[Any], Any]
) -> Any:
    import numpy

    axes = entry.place(checkpoint.layout).axes
    given = tensor.read().reshape(entry.shape(checkpoint.layout))
    changed = change(given.transpose(numpy.argsort(axes)))
    return numpy.ascontiguousarray(changed.astype(given.dtype).transpose(axes))


def transformed(found: Match, asked: Asked) -> tuple[Match, tuple[Diagnostic, ...]]:
    """A match with what was asked for done, and what stands in the way of it."""
    work = Work(found)
    _order_kernels(work, asked)
    folding.unfold_norms(work, asked.unfold_norms)
    folding.fold_norms(work, asked.fold_norms)
    folding.fold_biases(work, asked.fold_biases)
    _order_flattened(work, asked)
    _normalize_input(work, asked)
    _order_input(work, asked)
    softmax = stated.softmax_note(found)
    notes = (*found.checkpoint.notes, *work.notes, *([softmax] if softmax else []))
    checkpoint = found.checkpoint._replace(notes=notes)
    return rebuilt(found, checkpoint, work.given, work.left), tuple(work.problems)


# - orders -


def _order_kernels(work: Work, asked: Asked) -> None:
    """Kernels of height x width x in x out under PyTorch's names, as TensorFlow's tools write."""
    if asked.kernel_order != "hwio":
        return
    if work.checkpoint.layout != "torch":
        work.problem("--kernel-order is for files with PyTorch's names alone")
        return
    count = 0
    for name, entry in work.entries.items():
        axes = entry.place("keras").axes
        tensor = work.given.get(name)
        if tensor is None or len(axes) < 2 or tensor.shape != entry.shape("keras"):
            continue
        read = partial(_transposed, tensor, axes)
        work.given[name] = tensor._replace(shape=entry.parameter.shape, read=read)
        count += 1
    if not count:
        work.problem("--kernel-order hwio: no kernel of the file has that order")
    else:
        work.notes.append(f"{count:,} kernels were turned from height, width, in, out")


def _transposed(tensor: Tensor, axes: Sequence[int]) -> Any:
    import numpy

    return numpy.ascontiguousarray(tensor.read().transpose(numpy.argsort(axes)))


def _order_flattened(work: Work, asked: Asked) -> None:
    """The rows of matrices that take a flattened map, in the order channel, row, column."""
    maps = {
        name: each for name, each in wiring.flattened(work.network).items() if _there(work, name)
    }
    if not maps:
        if asked.flatten_order is not None:
            work.problem(f"{quoted(work.network.name)} has no linear layer behind a flattened map")
        return
    order = asked.flatten_order or work.checkpoint.stated.flatten_order
    if order is None and work.checkpoint.layout != "torch":
        names = ", ".join(quoted(name) for name in maps)
        work.problem(
            f"in which order {names} takes the values of a map is not told by the file",
            "a model of Keras or Flax flattens row, column, channel: --flatten-order hwc; "
            "one that we generated, channel, row, column: --flatten-order chw",
            "RS908",
        )
        return
    if order != "hwc":
        return
    for name, shape in maps.items():
        work.turn(f"{name}.weight", partial(_by_channels, shape))
        size = "x".join(map(str, shape))
        work.notes.append(f"{name}: its {size} values were in the order row, column, channel")


def _there(work: Work, linear: str) -> bool:
    return f"{linear}.weight" in work.given


def _by_channels(shape: wiring.Flattened, weight: Any) -> Any:
    """A matrix whose columns are row, column, channel as one of channel, row, column."""
    columns = weight.reshape(len(weight), shape.height, shape.width, shape.channels)
    return columns.transpose(0, 3, 1, 2).reshape(len(weight), -1)


# - images -


def _order_input(work: Work, asked: Asked) -> None:
    """The kernels that see the image, for images of red, green, blue."""
    if asked.input_order != "bgr":
        return
    if work.network.input.channels != 3:
        work.problem(
            f"--input-order bgr: {quoted(work.network.name)} takes no images of 3 channels"
        )
        return
    for name in _kernels(work):
        work.turn(name, lambda kernel: kernel[:, ::-1])
        work.notes.append(f"{name}: its channels were blue, green, red")


def _kernels(work: Work) -> Iterator[str]:
    there = [f"{name}.weight" for name in wiring.stem(work.network)]
    fitting = [name for name in there if _fits(work, name)]
    if not fitting or fitting != there:
        work.problem("a kernel that sees the image has another shape, or there is none")
    yield from fitting


def _fits(work: Work, name: str) -> bool:
    tensor = work.given.get(name)
    return tensor is not None and math.prod(tensor.shape) == work.entries[name].parameter.size


def _normalize_input(work: Work, asked: Asked) -> None:
    """The stem for images that are not normalised: the file's network took (x - mean) / std."""
    if not asked.mean and not asked.std:
        return
    channels = work.network.input.channels
    mean = asked.mean or (0.0,) * channels
    std = asked.std or (1.0,) * channels
    if len(mean) != channels or len(std) != channels or not all(std):
        work.problem(f"--input-mean and --input-std take {channels} numbers, the latter not 0")
        return
    graph = wiring.wiring(work.network)
    for name in _kernels(work):
        layer = name.removesuffix(".weight")
        if any(mean) and graph.operations[layer].attributes["padding"] != 0:
            work.problem(
                f"{quoted(layer)} pads with zeros, which would no longer be the mean of the images",
                "give --input-std alone, and take the mean from the images",
            )
        elif any(mean) and not _shift(work, graph, layer, mean, std):
            work.problem(f"{quoted(layer)} has neither a bias nor a norm that takes up the mean")
        work.turn(name, lambda kernel: kernel / _along(kernel, std))
        work.notes.append(f"{name}: takes images as they are, before (x - mean) / std")


def _along(kernel: Any, values: Sequence[float]) -> Any:
    """Numbers for each input channel of a kernel, or for one that is grouped into fewer."""
    import numpy

    return numpy.asarray(values, numpy.float64)[None, :, None, None]


def _shift(
    work: Work,
    graph: wiring.Wiring,
    layer: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> bool:
    """Puts what the mean makes of each output into the bias, or the mean of the norm behind."""
    norm = graph.normed(layer)
    bias, running = f"{layer}.bias", f"{norm}.running_mean"
    target = bias if bias in work.given else running
    if target not in work.given:
        return False
    kernel, entry = work.given[f"{layer}.weight"], work.entries[f"{layer}.weight"]

    def moved(value: Any) -> Any:
        import numpy

        found = _turned(kernel, entry, work.checkpoint, lambda each: each)
        axes = numpy.argsort(entry.place(work.checkpoint.layout).axes)
        offsets = numpy.asarray(mean, numpy.float64) / numpy.asarray(std, numpy.float64)
        shift = found.transpose(axes).astype(numpy.float64).sum((2, 3)) @ offsets
        return value - shift if target == bias else value + shift

    work.turn(target, moved)
    return True
