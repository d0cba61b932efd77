"""One pure function from a network to files; `compile`, `--check`, tests and docs all call it."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, Protocol

from resnet_spec.codegen import header, python
from resnet_spec.diagnostics import Report, SpecError, escapes, expected, fail, quoted
from resnet_spec.ir import Network
from resnet_spec.specialize import Program, renamed, specialize

GROUP = "resnet_spec.backends"
BUILTIN = ("flax", "json", "keras", "torch")


class Backend(Protocol):
    """A backend that writes the routines of a network, such as a `PythonBackend`.

    `taken` are the names that its files use themselves, which no name of a spec may hide; `write`
    is given the first lines of a file.

    A backend with training also has `trainer`: the files that train any network. They are in its
    package's folder `trainer` or in that of `resnet_spec.backends`.
    """

    name: str
    suffix: str
    taken: Collection[str]

    def write(self, program: Program, head: Sequence[str]) -> str: ...


class TextBackend(Protocol):
    """A backend that writes a network's text from its graph."""

    name: str
    suffix: str

    def render(self, network: Network, header: Sequence[str]) -> str: ...


def backend_names() -> list[str]:
    """The names of all installed backends."""
    return sorted({*BUILTIN, *(entry.name for entry in _entries())})


@functools.cache
def _entries() -> tuple[Any, ...]:
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUP))


@functools.cache
def find_backend(name: str) -> Any:
    """A backend by name; raises `SpecError` (RS501)."""
    if name in BUILTIN:
        # Built-in backends need no search of the environment, which takes longer than compiling.
        return import_module(f"resnet_spec.backends.{name}").backend
    for entry in _entries():
        if entry.name == name:
            return entry.load()
    fail("RS501", f"there is no backend {quoted(name)}", None, expected(name, backend_names()))


def generate(
    network: Network, backends: Sequence[str], trainer: bool = False
) -> dict[PurePosixPath, str]:
    """The files of a network for each backend: texts by path below the output folder.

    With `trainer`, the training scripts and their recipe are included. Writes nothing.

    Raises `SpecError` for an unknown backend (RS501), a network that a backend cannot express
    (RS502, RS503), and, with `trainer`, one without a recipe (RS102).
    """
    found = [find_backend(name) for name in backends]
    files: dict[PurePosixPath, str] = {}
    report = Report()

    @functools.cache
    def program() -> Program:
        """What all backends write."""
        return specialize(network)

    for backend in found:
        try:
            files |= _files(network, program, backend, trainer)
        except SpecError as error:
            report.extend(error)
    report.raise_if_any()
    return files


def _files(
    network: Network, program: Callable[[], Program], backend: Any, trainer: bool
) -> dict[PurePosixPath, str]:
    """The files of a network for one backend."""
    lines = header.lines(network.path, network.digest, command(network, backend.name))
    if hasattr(backend, "render"):
        text = backend.render(network, lines)
    else:
        head = [*(f"# {line}" for line in lines), *_docstring(network)]
        text = backend.write(renamed(program(), backend.taken), head)
    path = PurePosixPath(backend.name) / f"{network.name}{backend.suffix}"
    files = {path: header.seal(text)}
    if trainer and hasattr(backend, "trainer"):
        from resnet_spec.codegen import trainer as beside

        files |= beside.files(network, backend, f"{command(network, backend.name)} --trainer")
    return files


def command(network: Network, backend: str) -> str:
    """The command that regenerates a file."""
    settings = [word for setting in network.overridden for word in ("--set", setting)]
    words = ["resnet-spec", "compile", network.path, "--backend", backend, *settings]
    return shlex.join(words)


def _docstring(network: Network) -> list[str]:
    paragraphs: list[list[str]] = []
    if network.source:
        paragraphs.append([escapes.python(network.source)])
    shape = f"Input: {network.input}, {network.classes} classes."
    paragraphs.append([shape, "", *python.network_table(network)])
    return python.docstring(network.description, *paragraphs)
