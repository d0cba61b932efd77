"""The weights of each layer, as the readers of `weights` find them in a file.

Keras 3 numbers them below a group for each layer, whose name tells its class and number; newer
versions state the layer's name there, too. Before, they had names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import Unsupported, refused
from resnet_spec.importing.readers.keras.topology import Layer
from resnet_spec.weights.checkpoint import Checkpoint, Tensor, read

_MAX_GROWTH = 100  # weights hardly shrink: what grows more was made to fill the memory
_LEAST = 1 << 20  # bytes that any file may hold
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# Names that variables have had in older versions.
_OLDER = {"kernel": ("depthwise_kernel",)}


class Variables:
    """Finds the tensors of layers; `size` is that of the file, beyond which little may be made."""

    def __init__(self, checkpoint: Checkpoint, size: int) -> None:
        self.shown = checkpoint.shown
        self.left = max(_MAX_GROWTH * size, _LEAST)
        self.by_place: dict[str, list[Tensor]] = {}
        self.by_name: dict[str, list[Tensor]] = {}
        self.owners: dict[int, Layer] = {}  # by the identity of a tensor, whose it is
        self.has_places = bool(checkpoint.paths)
        for number, tensor in enumerate(checkpoint.tensors):
            self.by_name.setdefault(tensor.name, []).append(tensor)
            if self.has_places:
                place = checkpoint.paths[number].rpartition("/")[0]
                self.by_place.setdefault(place, []).append(tensor)

    def of(self, layer: Layer, names: Sequence[str]) -> list[Any]:
        """The arrays of a layer's variables by their names, in Keras' order."""
        found = self._numbered(layer, names) if self.has_places else self._named(layer, names)
        arrays = []
        for tensor in found:
            if self.owners.setdefault(id(tensor), layer) is not layer:
                other = self.owners[id(tensor)].shown
                raise Unsupported(f"by its name its weights in the file are those of {other}, too")
            self._check_size(tensor)
            array = read(tensor, self.shown)
            # Small types are kept exactly; torch and numpy know no common one for bfloat16.
            arrays.append(array.astype("float32") if tensor.dtype == "bfloat16" else array)
        return arrays

    def _check_size(self, tensor: Tensor) -> None:
        size = _BYTES.get(tensor.dtype, 8)
        for each in tensor.shape:
            size *= each
        self.left -= size
        if self.left < 0:
            message = f"{quoted(tensor.name)} in {quoted(self.shown)} would grow beyond all that"
            refused(self.shown, f"{message} the file holds")

    def _numbered(self, layer: Layer, names: Sequence[str]) -> list[Tensor]:
        found = self.by_place.get("/".join(layer.place), [])
        own = layer.name.rpartition("/")[2]
        stated = {tensor.name.rpartition("/")[0] for tensor in found}
        if stated - {own, "/".join(layer.place)}:
            other = ", ".join(quoted(each) for each in sorted(stated))
            raise Unsupported(f"where its weights should be in the file are those of {other}")
        if len(found) != len(names):
            raise Unsupported(
                f"the file has {len(found)} variables of it; its configuration asks for "
                f"{len(names)}: {', '.join(names)}"
            )
        return found

    def _named(self, layer: Layer, names: Sequence[str]) -> list[Tensor]:
        """By names, in which a model within the model may stand for the only layer that it has."""
        parts, found = layer.name.split("/"), []
        for name in names:
            words = (name, *_OLDER.get(name, ()))
            keys = [f"{owner}/{word}" for owner in {parts[0], parts[-1]} for word in words]
            held = [tensor for key in keys for tensor in self.by_name.get(key, [])]
            if len(held) != 1:
                what = f"{len(held)} tensors, not one," if held else "no tensor"
                raise Unsupported(f"the file has {what} that may be its {name}")
            found += held
        return found

    def unused(self) -> list[str]:
        """The tensors that no layer took."""
        every = [tensor for held in self.by_name.values() for tensor in held]
        return [tensor.name for tensor in every if id(tensor) not in self.owners]
