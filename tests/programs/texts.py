"""Networks with their emitted texts, for the tests that run these on stand-ins."""

from __future__ import annotations

import functools
from pathlib import Path

from resnet_spec.codegen.generate import generate
from resnet_spec.ir import Network
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower

ROOT = Path(__file__).parent.parent.parent
BACKENDS = ("torch", "keras", "flax")
FOLDERS = ("examples", "tests/specs")
NAMES = [
    *builtin_specs(),
    *(f"{each}/{p.stem}" for each in FOLDERS for p in sorted((ROOT / each).glob("*.yaml"))),
]
LIBRARY = Library()  # each block is read once


def network_of(name: str, *settings: str) -> Network:
    """One of our networks by its name, any other by its file without the ending."""
    path = str(ROOT / f"{name}.yaml") if "/" in name else name
    return lower(load(path, LIBRARY, settings))


def text_of(network: Network, backend: str) -> str:
    (text,) = generate(network, [backend]).values()
    return text


def texts_of(network: Network) -> dict[str, str]:
    """The text of every backend, which costs little more than that of one."""
    files = generate(network, BACKENDS)
    return dict(zip(BACKENDS, files.values(), strict=True))


@functools.lru_cache(maxsize=40)
def case(name: str, backend: str) -> tuple[Network, str]:
    """A network with its text, once for all tests of it."""
    network = _kept(name)
    return network, text_of(network, backend)


@functools.lru_cache(maxsize=40)
def wider(name: str) -> Network:
    """The network with more classes and input channels, which are arguments of its text."""
    usual = _kept(name)
    numbers = (f"classes={usual.classes + 3}", f"input.channels={usual.input.channels + 1}")
    return network_of(name, *numbers)


_kept = functools.lru_cache(maxsize=40)(network_of)
