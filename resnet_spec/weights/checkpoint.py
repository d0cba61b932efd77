"""What a file of weights holds: tensors by name, their values not read yet."""

import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, NoReturn

from resnet_spec.diagnostics import Diagnostic, Span, SpecError, quoted

Layout = Literal["torch", "keras", "flax"]

# What reading a broken file raises, within an archive too.
BROKEN = (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
CUT_OFF = "was it written or copied to its end?"
MAX_TENSORS = 20_000  # the deepest networks have some thousands
FLOATS = ("float16", "bfloat16", "float32", "float64")


class Tensor(NamedTuple):
    """One array of a file, with its name and its order of axes there.

    In PyTorch's layout a name is `layer1.0.conv1.weight`, in Flax's `layer1.0.conv1.kernel`; in
    Keras' it is the layer's name and the variable's, or its number where the file has no name for
    it: `layer1_0_conv1/0`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str  # as numpy calls it
    read: Callable[[], Any]  # gives a numpy array


FlattenOrder = Literal["chw", "hwc"]


class Stated(NamedTuple):
    """What a file says of its model beside the weights; what it does not say is None or absent.

    `layers` has by a layer's name what it states of it, in the words of the primitives: `eps`,
    `stride`, `padding` (a set of those that would be the same), `dilation`, `groups`, `bias`.
    """

    layers: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    activations: frozenset[str] | None = None  # of all layers, by the primitives' names
    softmax_last: bool = False
    flatten_order: FlattenOrder | None = None
    runnable: bool = False  # the file has a model, which runs without code of its own


class Checkpoint(NamedTuple):
    """An open file: `shown` is how messages name it, `notes` what was passed over in it.

    A file may hold several `states` of a network, by name, such as the raw weights and their
    average; then `tensors` are those of one. `paths` are other names of the same tensors, in the
    same order, where a file has two for each.
    """

    shown: str
    format: str
    layout: Layout
    tensors: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()
    states: Mapping[str, tuple[Tensor, ...]] = MappingProxyType({})
    stated: Stated = Stated()
    paths: tuple[str, ...] = ()


def bounded(tensors: Iterable[Tensor], shown: str) -> tuple[Tensor, ...]:
    """All tensors of a file; RS902 for more than any network has, which would take hours."""
    found = tuple(itertools.islice(tensors, MAX_TENSORS + 1))
    if len(found) > MAX_TENSORS:
        refused(shown, f"{quoted(shown)} holds more than {MAX_TENSORS:,} tensors")
    return found


def layout_of(names: Sequence[str]) -> Layout:
    """Whose names and axes tensors have, by what kernels and norms are called."""
    leaves = {name.replace("/", ".").rpartition(".")[2] for name in names}
    if leaves & _KERAS_ALONE or ("kernel" in leaves and any("/" in name for name in names)):
        return "keras"
    return "flax" if "kernel" in leaves and "weight" not in leaves else "torch"


_KERAS_ALONE = {"gamma", "beta", "moving_mean", "moving_variance", "depthwise_kernel"}


def read(tensor: Tensor, shown: str) -> Any:
    """A tensor's values as a numpy array; raises RS901 where the file is broken there."""
    try:
        return tensor.read()
    except BROKEN as error:
        reason = str(error).partition("\n")[0].lower()[:200]
        message = f"{quoted(tensor.name)} in {quoted(shown)} can't be read: {reason}"
        unreadable(shown, message, CUT_OFF)


class MissingPackage(Exception):
    """A format that needs a package which is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs {package}, which is not installed\n"
            f"install it: pip install 'resnet-spec[{extra}]'"
        )


def unreadable(shown: str, reason: str, help: str | None = None) -> NoReturn:
    """Raise RS901 about a file."""
    raise SpecError([Diagnostic("RS901", reason, Span(shown), help)])


def refused(shown: str, reason: str, help: str | None = None) -> NoReturn:
    """Raise RS902 about a file."""
    raise SpecError([Diagnostic("RS902", reason, Span(shown), help)])


def shape_text(shape: tuple[int, ...]) -> str:
    """`64x3x7x7`; `scalar` where there are no axes."""
    return "x".join(map(str, shape)) or "scalar"
