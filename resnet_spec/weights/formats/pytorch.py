"""PyTorch's .pt and .pth: read by `torch.load` with `weights_only`, written as plain tensors.

What holds other things, too, is read by an unpickler that makes none of them; of whole modules it
finds the parameters.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from resnet_spec.diagnostics import expected, quoted
from resnet_spec.ir import Network
from resnet_spec.weights.checkpoint import CUT_OFF, Checkpoint, Tensor, bounded, refused, unreadable
from resnet_spec.weights.formats import inert, modules

# What holds tensors and is no network's state.
_OPTIMIZERS = ("optim", "scheduler", "scaler", "lr_")
_MAX_DEPTH = 3  # of states within what a checkpoint holds
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Checkpoint]:
    """The tensors of a file; nothing that a pickle holds beside them is made or run."""
    import torch  # noqa: F401  before anything is looked at, so that its absence is told first

    _check_archive(path, shown)
    loaded, notes = _load(path, shown)
    if not isinstance(loaded, Mapping) and not modules.is_module(loaded):
        unreadable(shown, f"{quoted(shown)} holds {_kind(loaded)}, not tensors by name")
    states = dict(_states(loaded, "", shown, 0))
    if not states and _is_optimizers(loaded):
        unreadable(
            shown,
            f"{quoted(shown)} holds the state of an optimizer, and no weights",
            "take the file of the same training that has them, saved from model.state_dict()",
        )
    if not states:
        names = [str(name) for name in loaded] if isinstance(loaded, Mapping) else []
        hint = expected("state_dict", names) if names else None
        unreadable(
            shown, f"{quoted(shown)} has no tensors by name, nor 'state_dict' with them", hint
        )
    read = {
        name: bounded((_tensor(each, value, shown) for each, value in state.items()), shown)
        for name, state in states.items()
    }
    yield Checkpoint(shown, "PyTorch", "torch", read.get("", ()), tuple(notes), _inner(read))


def _is_optimizers(loaded: Any) -> bool:
    """Whether it is what an optimizer keeps, or has that under some name."""
    if not isinstance(loaded, Mapping):
        return False
    held = (loaded, *loaded.values())
    return any(isinstance(each, Mapping) and "param_groups" in each for each in held)


def _inner(states: dict[str, tuple[Tensor, ...]]) -> dict[str, tuple[Tensor, ...]]:
    """The states to choose from; a file that is one by itself leaves no choice."""
    return {} if "" in states else states


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles by others than PyTorch
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
        return loaded, []
    except pickle.UnpicklingError as error:
        if archive:
            return _load_inert(path, shown)
        named = _GLOBAL.search(str(error))
        if named is not None:
            _refuse_program(named.group(1), shown)
        unreadable(
            shown,
            f"{quoted(shown)} is a pickle that torch.save did not write",
            "save its arrays by name: numpy.savez(path, **arrays)",
        )
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
    if isinstance(loaded, inert.Placeholder) and not modules.is_module(loaded):
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
        CUT_OFF,
    )


def _states(value: Any, name: str, shown: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The states within a checkpoint, which may hold an optimizer's and more beside them."""
    import torch

    if modules.is_module(value):
        try:
            value = modules.tensors(value, lambda each: isinstance(each, torch.Tensor))
        except modules.TooDeep:
            refused(shown, f"the modules in {quoted(shown)} are too deep, or go in circles")
    if not isinstance(value, Mapping):
        return
    held = {key: each for key, each in value.items() if isinstance(each, torch.Tensor)}
    below = {key: each for key, each in value.items() if isinstance(key, str)}
    if depth < _MAX_DEPTH:
        for key, each in below.items():
            if key not in held and not key.startswith(_OPTIMIZERS):
                yield from _states(each, f"{name}.{key}" if name else key, shown, depth + 1)
    if held and all(isinstance(key, str) for key in held) and _is_state(held, value):
        yield name, held


def _is_state(held: Mapping[str, Any], value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a network's state, not only some tensors among a run's numbers."""
    return len(held) == len(value) or any("." in name for name in held)


def _kind(value: Any) -> str:
    return f"a value of type {quoted(type(value).__name__)}"


def _tensor(name: str, value: Any, shown: str) -> Tensor:
    import torch

    if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
        kind = f"{value.layout} {value.dtype} on {value.device.type}".replace("torch.", "")
        refused(
            shown,
            f"{quoted(name)} in {quoted(shown)} is no plain tensor: {kind}",
            "take the weights as they were before they were quantised or made sparse",
        )
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
