"""HDF5 as Keras writes it: `.weights.h5` of Keras 3, and the `.h5` that was there before.

Keras 3 has a group for each layer, by its class and number or, in a model that is a class itself,
by the attribute that holds it; the layer's own name is an attribute of the group `vars` within,
whose members are numbered. Before, a layer's group bears its name, and the attribute `weight_names`
names what is in it. Links that lead elsewhere and values that stand in other files are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.ir import Network
from resnet_spec.weights.checkpoint import (
    BROKEN,
    CUT_OFF,
    MAX_TENSORS,
    Checkpoint,
    Stated,
    Tensor,
    bounded,
    refused,
    unreadable,
)
from resnet_spec.weights.formats import keras_config
from resnet_spec.weights.formats.hdf5_heaps import is_endless

_MAX_DEPTH = 16
_MAX_VISITS = 3 * MAX_TENSORS  # the largest files that are known need a tenth
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # groups that say nothing
_BESIDE = ("optimizer", "optimizer_weights", "metrics")  # what training keeps beside the layers
# What Keras keeps of a layer beside its weights: the state of a generator of random numbers.
_GENERATORS = ("seed_generator", "seed_generator_state")


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The tensors of a file."""
    with open_regular(path) as file:
        endless = is_endless(file)
    _check_heaps(endless, shown)
    with opened_as(path, shown, "HDF5") as checkpoint:
        yield checkpoint


def _check_heaps(endless: bool, shown: str) -> None:
    if endless:
        unreadable(
            shown,
            f"{quoted(shown)} is a broken HDF5 file: its heaps have no end",
            CUT_OFF,
        )


@contextmanager
def opened_as(
    file: Any, shown: str, kind: str, config: bytes | str | None = None
) -> Iterator[Checkpoint]:
    """The tensors of a file by its path or of an open one; `config` is the model as JSON."""
    import h5py

    try:
        if not isinstance(file, Path):
            _check_heaps(is_endless(file), shown)
            file.seek(0)
        root = h5py.File(file, "r")
    except (*BROKEN, ValueError) as error:
        reason = str(error).partition("(")[2].rstrip(")").lower() or str(error).lower()
        unreadable(
            shown,
            f"{quoted(shown)} is no whole HDF5 file: {reason}",
            CUT_OFF,
        )
    with root:
        walked = _File(shown)
        try:
            tensors = bounded(_tensors(root, walked), shown)
            stated = _stated(root, walked, config)
        except (*BROKEN, KeyError, TypeError, ValueError) as error:
            unreadable(shown, f"{quoted(shown)} is a broken HDF5 file: {error}", CUT_OFF)
        if not tensors and (config is not None or "model_config" in root.attrs):
            unreadable(
                shown,
                f"{quoted(shown)} has a model without weights",
                "was it saved before it was built? Build it, as by "
                "model.build((None, 224, 224, 3)), and save it again",
            )
        if not tensors:
            unreadable(
                shown,
                f"{quoted(shown)} holds no weights as Keras writes them",
                "write it with model.save_weights, or with model.save",
            )
        paths = tuple(walked.paths) if len(walked.paths) == len(tensors) else ()
        yield Checkpoint(shown, kind, "keras", tensors, stated=stated, paths=paths)


def _stated(root: Any, file: _File, config: bytes | str | None) -> Stated:
    """What the model's configuration says, and where there is none, what its layers are called."""
    text = config if config is not None else root.attrs.get("model_config")
    return keras_config.stated(text, file.layers)


class _File:
    """A file while it is walked through: how messages name it, how much of it may be seen.

    `layers` has for the name of each of its layers that of its group, which tells its class in a
    file of Keras 3; `paths` are the places of its tensors.
    """

    def __init__(self, shown: str) -> None:
        self.shown, self.left = shown, _MAX_VISITS
        self.layers: dict[str, str] = {}
        self.paths: list[str] = []

    def visit(self) -> None:
        """RS902 beyond a number: links lead to a group on many ways, which no depth bounds."""
        self.left -= 1
        if self.left < 0:
            message = f"{quoted(self.shown)} links its groups to more than {_MAX_VISITS:,} members"
            refused(self.shown, message)


def _tensors(root: Any, file: _File) -> Iterator[Tensor]:
    if "model_weights" in root:
        root = _member(root, "model_weights", file)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        yield from _named(root, file)
    else:
        yield from _numbered(root, (), file)


# - Keras 3 -


def _numbered(group: Any, above: tuple[str, ...], file: _File) -> Iterator[Tensor]:
    """The layers below a group; one that is named twice is a layer within another."""
    if len(above) > _MAX_DEPTH:
        refused(file.shown, f"the groups in {quoted(file.shown)} are too deep, or go in circles")
    for key in group:
        if not above and key in _BESIDE:
            continue
        member = _member(group, key, file)
        if not _is_group(member):
            continue
        if key == "vars":
            yield from _variables(member, above, file)
        else:
            yield from _numbered(member, (*above, key), file)


def _variables(group: Any, above: tuple[str, ...], file: _File) -> Iterator[Tensor]:
    """The variables of a layer, by its own name or, where the file has none, by its place."""
    place = "/".join(part for part in above if part not in _CONTAINERS)
    name = _text(group.attrs.get("name", "")) or place
    file.layers[name] = above[-1] if above else ""
    if name in _GENERATORS or above[-1:] in [(each,) for each in _GENERATORS] or not len(group):
        return
    for key in sorted(group, key=lambda each: (len(each), each)):
        file.paths.append(f"{place}/{key}")
        yield _tensor(f"{name}/{key}", _member(group, key, file), file)


# - before -


def _named(root: Any, file: _File) -> Iterator[Tensor]:
    for layer in _attribute(root, "layer_names"):
        file.layers[layer] = layer
        group = _member(root, layer, file)
        names = _attribute(group, "weight_names")
        owners = {_owner(name, layer) for name in names}
        for name in names:
            variable = name.rsplit("/", 1)[-1].partition(":")[0]
            if variable in _GENERATORS:
                continue
            # Layers within a layer share its group, and are told apart by the paths of the weights.
            owner = layer if len(owners) == 1 else _owner(name, layer)
            yield _tensor(f"{owner}/{variable}", _member(group, name, file), file)


def _owner(weight: str, layer: str) -> str:
    parts = weight.split("/")
    return parts[-2] if len(parts) > 1 else layer


def _attribute(group: Any, name: str) -> list[str]:
    """A list of texts, which HDF5 makes Keras cut in pieces where it is long."""
    if name in group.attrs:
        return [_text(each) for each in group.attrs[name]]
    found: list[str] = []
    for number in range(len(group.attrs)):
        piece = group.attrs.get(f"{name}{number}")
        if piece is None:
            break
        found += [_text(each) for each in piece]
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# - members -


def _is_group(value: Any) -> bool:
    import h5py

    return isinstance(value, h5py.Group)


def _member(group: Any, path: str, file: _File) -> Any:
    """What a group holds under a path, no link on the way."""
    import h5py

    for part in path.split("/"):
        file.visit()
        link = group.get(part, getlink=True) if _is_group(group) else None
        if link is None:
            unreadable(file.shown, f"{quoted(file.shown)} lacks {quoted(path)}, which it names")
        if not isinstance(link, h5py.HardLink):
            where = f"{quoted(path)} in {quoted(file.shown)}"
            refused(file.shown, f"{where} leads to another place or file")
        group = group[part]
    return group


def _tensor(name: str, data: Any, file: _File) -> Tensor:
    import h5py

    if not isinstance(data, h5py.Dataset) or data.shape is None:
        unreadable(file.shown, f"{quoted(name)} in {quoted(file.shown)} is no array")
    if data.external or data.is_virtual:
        refused(
            file.shown, f"{quoted(name)} in {quoted(file.shown)} takes its values from another file"
        )
    is_bfloat16 = _text(data.attrs.get("dtype", "")) == "bfloat16"
    dtype = "bfloat16" if is_bfloat16 else data.dtype.name
    return Tensor(name, tuple(data.shape), dtype, partial(_array, data, is_bfloat16))


def _array(data: Any, is_bfloat16: bool) -> Any:
    if is_bfloat16:
        import ml_dtypes

        return data[()].view(ml_dtypes.bfloat16)
    return data[()]


def write(path: Path, network: Network, state: Mapping[str, Any]) -> None:
    """The weights of the generated Keras model, which alone says how its groups are numbered."""
    from resnet_spec.weights import keras_model

    keras_model.filled(network, state).save_weights(path)
