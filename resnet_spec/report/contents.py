"""What a page says of a network, before any of it is HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resnet_spec.codegen.generate import backend_names, find_backend, generate
from resnet_spec.diagnostics import Diagnostic, Report, SpecError, in_order
from resnet_spec.ir import Network
from resnet_spec.language import dump
from resnet_spec.language.load import Loaded, resolved


class Findings(NamedTuple):
    """Diagnostics, and by path the texts that they point into."""

    diagnostics: Sequence[Diagnostic] = ()
    sources: Mapping[str, str] = {}


class Contents(NamedTuple):
    """A network, the whole of its spec as YAML, and its source by path for each backend.

    `findings` is what a backend can't say of it: the page then lacks that backend's source.
    """

    network: Network
    spec: str
    sources: Mapping[str, str]
    findings: tuple[Diagnostic, ...]


def source_backends() -> list[str]:
    """The backends that write source: those that go by the program, not by the graph alone."""
    return [name for name in backend_names() if hasattr(find_backend(name), "view")]


def contents(loaded: Loaded, network: Network, backends: Sequence[str]) -> Contents:
    """All that a page says of a network, in the words of these backends."""
    found = Report()
    try:
        sources = _texts(network, backends)
    except SpecError:
        sources = {}
        for backend in backends:  # what one of them can't say the others may
            try:
                sources |= _texts(network, [backend])
            except SpecError as error:
                found.extend(error)
    spec = dump.as_yaml(resolved(loaded))
    return Contents(network, spec, sources, in_order(found.diagnostics))


def _texts(network: Network, backends: Sequence[str]) -> dict[str, str]:
    return {path.as_posix(): text for path, text in generate(network, backends).items()}
