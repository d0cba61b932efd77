"""The parameters of whole modules that a pickle holds, without making a module.

A saved module is an object with its attributes; an unpickler that makes nothing keeps those.
PyTorch keeps parameters, buffers and modules in three dictionaries, TorchScript as attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resnet_spec.weights.formats.inert import Placeholder

_MAX_DEPTH = 64
_MAX_MODULES = 100_000  # on all ways: links lead to a module on many


class TooDeep(Exception):
    """Modules within modules without an end."""


def is_module(value: Any) -> bool:
    """Whether a placeholder stands for a module of PyTorch."""
    return isinstance(value, Placeholder) and isinstance(value.kept.get("_modules"), Mapping)


def tensors(module: Placeholder, is_tensor: Callable[[Any], bool]) -> dict[str, Any]:
    """What `state_dict()` would give, of a module of PyTorch or TorchScript; raises `TooDeep`."""
    left = [_MAX_MODULES]
    return dict(_walk(module, "", is_tensor, left, 0))


def _walk(
    module: Placeholder, prefix: str, is_tensor: Callable[[Any], bool], left: list[int], depth: int
) -> Iterator[tuple[str, Any]]:
    left[0] -= 1
    if left[0] < 0 or depth > _MAX_DEPTH:
        raise TooDeep
    held, below = _parts(module)
    yield from ((f"{prefix}{name}", each) for name, each in held.items() if is_tensor(each))
    for name, each in below.items():
        if isinstance(each, Placeholder):
            yield from _walk(each, f"{prefix}{name}.", is_tensor, left, depth + 1)


def _parts(module: Placeholder) -> tuple[dict[str, Any], dict[str, Any]]:
    """What may be a tensor, and what may be a module, each by its name."""
    kept = module.kept
    if not is_module(module):
        return kept, kept
    passing = kept.get("_non_persistent_buffers_set")
    passing = passing if isinstance(passing, set | frozenset) else frozenset()
    held: dict[str, Any] = {}
    for key in ("_parameters", "_buffers"):
        found = kept.get(key)
        if isinstance(found, Mapping):
            held.update((str(n), each) for n, each in found.items() if n not in passing)
    return held, {str(name): each for name, each in kept["_modules"].items()}
