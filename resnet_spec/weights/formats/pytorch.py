"""PyTorch's .pt and .pth: read by `torch.load` with `weights_only`, written as plain tensors."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from resnet_spec.diagnostics import expected, quoted
from resnet_spec.ir import Network
from resnet_spec.weights.checkpoint import Checkpoint, Tensor, bounded, refused, unreadable
from resnet_spec.weights.formats import inert

# Wrappers that training code puts around a model; the names of its tensors begin so.
_PREFIXES = ("module.", "_orig_mod.")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The tensors of a file; nothing that a pickle holds beside them is made or run."""
    import torch  # noqa: F401  before anything is looked at, so that its absence is told first

    _check_archive(path, shown)
    loaded, passed = _load(path, shown)
    state, notes = _state(loaded, shown)
    notes += passed
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            notes.append(f"{quoted(prefix)} was taken off every name")
    tensors = bounded((_tensor(name, value, shown) for name, value in state.items()), shown)
    yield Checkpoint(shown, "PyTorch", "torch", tensors, tuple(notes))


def _check_archive(path: Path, shown: str) -> None:
    """PyTorch stores without compressing; what would grow was made to fill the memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(each.file_size for each in archive.infolist())
        if size > path.stat().st_size:
            refused(shown, f"{quoted(shown)} would grow to {size:,} bytes while it is read")


def _load(path: Path, shown: str) -> tuple[Any, list[str]]:
    """What the file holds, and notes on what in it was passed over."""
    import pickle

    import torch

    archive = zipfile.is_zipfile(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
        return loaded, []
    except pickle.UnpicklingError as error:
        if archive:
            return _load_inert(path, shown)
        named = _GLOBAL.search(str(error))
        if named is not None:
            _refuse_program(named.group(1), shown)
        unreadable(shown, f"{quoted(shown)} is no file that torch.save wrote")
    except Exception as error:  # whatever a broken archive makes the library say
        _cut_off(error, shown)


def _load_inert(path: Path, shown: str) -> tuple[Any, list[str]]:
    """The tensors of an archive that holds other things, too, of which none is made."""
    import torch

    skipped: set[str] = set()
    try:
        loaded = torch.load(
            path,
            map_location="cpu",
            weights_only=False,
            mmap=True,
            pickle_module=inert.pickle_module(skipped),
        )
    except inert.AsksForProgram as error:
        _refuse_program(error.what, shown)
    except Exception as error:
        _cut_off(error, shown)
    if isinstance(loaded, inert.Placeholder):
        message = f"{quoted(shown)} holds more than tensors: it is a whole {quoted(loaded.what)}"
        refused(shown, message, "save the state alone: torch.save(model.state_dict(), path)")
    names = ", ".join(quoted(name) for name in sorted(skipped)[:8])
    more = f" and {len(skipped) - 8:,} more" if len(skipped) > 8 else ""
    return loaded, [f"not read, for it is no tensor: {names}{more}"]


def _refuse_program(what: str, shown: str) -> NoReturn:
    refused(
        shown,
        f"{quoted(shown)} holds more than tensors: it asks for {quoted(what)}",
        "save the state alone: torch.save(model.state_dict(), path)",
    )


def _cut_off(error: Exception, shown: str) -> NoReturn:
    reason = str(error).partition("\n")[0].lower() or type(error).__name__
    unreadable(
        shown,
        f"{quoted(shown)} is no whole PyTorch file: {reason[:200]}",
        "was it written or copied to its end?",
    )


def _state(loaded: Any, shown: str) -> tuple[dict[str, Any], list[str]]:
    """The state within a checkpoint, which may hold an optimizer's and more beside it."""
    if not isinstance(loaded, Mapping):
        unreadable(shown, f"{quoted(shown)} holds {_kind(loaded)}, not tensors by name")
    loaded = {k: v for k, v in loaded.items() if not isinstance(v, inert.Placeholder)}
    if _is_state(loaded):
        return dict(loaded), []
    inner = {key: value for key, value in loaded.items() if _is_state(value)}
    named = [key for key in ("state_dict", "model", "model_state_dict") if key in inner]
    keys = named[:1] or (list(inner) if len(inner) == 1 else [])
    if not keys:
        hint = expected("state_dict", map(str, loaded)) if loaded else None
        unreadable(
            shown, f"{quoted(shown)} has no tensors by name, nor 'state_dict' with them", hint
        )
    return dict(inner[keys[0]]), [f"taken from {quoted(keys[0])} of the checkpoint"]


def _is_state(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(n, str) and isinstance(t, torch.Tensor) for n, t in value.items())
    )


def _kind(value: Any) -> str:
    return f"a value of type {quoted(type(value).__name__)}"


def _tensor(name: str, value: Any, shown: str) -> Tensor:
    import torch

    if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
        refused(shown, f"{quoted(name)} in {quoted(shown)} is no plain tensor")
    dtype = str(value.dtype).removeprefix("torch.")
    return Tensor(name, tuple(value.shape), dtype, partial(_array, value))


def _array(value: Any) -> Any:
    import torch

    value = value.detach().contiguous()
    if value.dtype is torch.bfloat16:
        import ml_dtypes

        return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()


def write(path: Path, network: Network, state: Mapping[str, Any]) -> None:
    """A state in PyTorch's names and order of axes, which `weights_only` loads."""
    import torch

    tensors = {name: _plain(value) for name, value in state.items()}
    try:
        torch.save(tensors, path)
    except RuntimeError as error:  # a full disk, of which the archive's writer does not tell
        raise OSError(f"PyTorch could not write all of it: {error}") from None


def _plain(value: Any) -> Any:
    import numpy
    import torch

    array = numpy.array(value)  # a copy that the tensor can own
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
