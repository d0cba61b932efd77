"""What every reader gives: a graph of nodes in ONNX's words, with constants by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MAX_NODES = 100_000  # the deepest networks have some ten thousand
MAX_FOLDED = 1 << 26  # elements of what is computed of constants alone


LEFT_OUT = "what is done in training alone is left out: {}"
FROZEN = (
    "fixed in the model, and trained in the spec: {}; --freeze-until of the trainers freezes what "
    "runs before a layer"
)
_ANY_SIZE = "it takes images of any size; the spec says {}x{}, or what --input says"
ADAPTIVE_POOL = "resnet_spec::AdaptiveAveragePool"  # as we export it, since ONNX has none
_PASSING = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze")
_SHOWN = 4  # names in a message


def listed(names: Sequence[str]) -> str:
    """The first names of several, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def told_of(places: Sequence[str], what: str) -> str:
    """A note on the first of several places, and how many more there are."""
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}: {what}"


class Node(NamedTuple):
    """One operator as ONNX defines it (https://onnx.ai/onnx/operators); "" is no input.

    `name` is the dotted name of the layer that it is written for, `norm` that of the norm that was
    folded into it, as far as the source tells them.
    """

    kind: str
    name: str
    place: str  # how messages name it
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    norm: str = ""


class Model(NamedTuple):
    """A model's graph: from one batch of images, (N, C, H, W) or (N, H, W, C), to one output.

    `constants` are numpy arrays; `parameters` tells the dotted names of those that are parameters,
    `learned` which of them training moves, where the source tells it.
    """

    shown: str
    format: str
    nodes: tuple[Node, ...]
    constants: dict[str, Any]
    parameters: Mapping[str, str]
    input: str
    shape: tuple[int, int, int, int]
    output: str
    notes: tuple[str, ...] = ()
    stated_last: bool | None = None  # where the source says how images lie
    open_sides: tuple[bool, bool] = (False, False)  # whether it leaves rows and columns open
    takes_one_size: bool = False  # its code takes no images of the other sizes that were tried
    learned: frozenset[str] | None = None
    elsewhere: tuple[Model, ...] = ()  # what it is for images of other sizes, where its code says

    @property
    def is_channels_last(self) -> bool:
        """Whether the images' channels stand last: as stated, or else by which are few."""
        if self.stated_last is not None:
            return self.stated_last
        return self.shape[3] in (1, 3, 4) and self.shape[1] not in (1, 3, 4)

    @property
    def image_size(self) -> tuple[int, int]:
        """The rows and columns of its images."""
        _, *sizes = self.shape
        return (sizes[0], sizes[1]) if self.is_channels_last else (sizes[1], sizes[2])

    def with_open_sides(self, sides: tuple[bool, bool]) -> Model:
        """The same, with a note where it leaves rows or columns open."""
        if not any(sides):
            return self
        note = _ANY_SIZE.format(*self.image_size)
        return self._replace(open_sides=sides, notes=(note, *self.notes))

    def for_images_of(self, size: tuple[int, int]) -> Model:
        """The same for images of other rows and columns, as far as it leaves these open."""
        sides = zip(self.open_sides, size, self.image_size, strict=True)
        rows, columns = (other if is_open else own for is_open, other, own in sides)
        batch, first, _, last = self.shape
        if self.is_channels_last:
            return self._replace(shape=(batch, rows, columns, last))
        return self._replace(shape=(batch, first, rows, columns))

    @property
    def ends_in_softmax(self) -> bool:
        """Whether its output is probabilities, not logits."""
        made = {name: node for node in self.nodes for name in node.outputs}
        node = made.get(self.output)
        while node is not None and node.kind in _PASSING:
            node = made.get(node.inputs[0])
        return node is not None and node.kind == "Softmax"

    @property
    def size(self) -> int:
        """Bytes of all constants."""
        return sum(int(value.nbytes) for value in self.constants.values())
