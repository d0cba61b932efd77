""".keras: a zip archive with the model as JSON and its weights as HDF5."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.ir import Network
from resnet_spec.weights.checkpoint import BROKEN, CUT_OFF, Checkpoint, refused, unreadable
from resnet_spec.weights.formats import hdf5

_WEIGHTS = "model.weights.h5"
_CONFIG = "config.json"
_SHARD = ".weights.h5"
_MAX_GROWTH = 100  # weights hardly shrink: what grows more was made to fill the memory


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The tensors of a file, and what the model in it states; no layer of it is made."""
    with zipfile.ZipFile(path) as archive:
        try:
            member = archive.getinfo(_WEIGHTS)
        except KeyError:
            if any(name.endswith(_SHARD) for name in archive.namelist()):
                message, hint = "holds its weights in several files", "without 'max_shard_size'"
                unreadable(shown, f"{quoted(shown)} {message}", f"save it {hint}")
            message = f"{quoted(shown)} has no weights: there is no {quoted(_WEIGHTS)} in it"
            unreadable(shown, message, "save the model with model.save('model.keras')")
        _check_growth(member, shown)
        try:
            config = _config(archive, shown)
            file = archive.open(member)
        except (*BROKEN, NotImplementedError) as error:
            message = f"{quoted(shown)} is a broken archive: {str(error).lower()}"
            unreadable(shown, message, CUT_OFF)
        with file, hdf5.opened_as(file, shown, "Keras", config) as checkpoint:
            yield checkpoint


def _check_growth(member: zipfile.ZipInfo, shown: str) -> None:
    if member.file_size > _MAX_GROWTH * max(member.compress_size, 1):
        size = f"{member.file_size:,} bytes"
        refused(shown, f"{quoted(shown)} would grow to {size} while it is read")


def _config(archive: zipfile.ZipFile, shown: str) -> bytes | None:
    """The model as JSON; None where the archive has none."""
    try:
        member = archive.getinfo(_CONFIG)
    except KeyError:
        return None
    _check_growth(member, shown)
    return archive.read(member)


def write(path: Path, network: Network, state: Mapping[str, Any]) -> None:
    """The generated Keras model with its weights."""
    from resnet_spec.weights import keras_model

    keras_model.filled(network, state).save(path)
