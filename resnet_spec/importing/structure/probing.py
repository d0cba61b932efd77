"""What a block of the library is on an input: lowered, as a folded graph, each once."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from resnet_spec.diagnostics import SpecError
from resnet_spec.importing.graph import Graph
from resnet_spec.importing.lowered import flattened
from resnet_spec.importing.matching import Key, folded, graph_key
from resnet_spec.importing.structure.roles import Roles
from resnet_spec.language.library import Library, builtin_folder
from resnet_spec.language.load import load
from resnet_spec.language.syntax import Definition
from resnet_spec.lower import lower
from resnet_spec.primitives import Shape

Arguments = Mapping[str, Any]

# Beside the package's own blocks, so that none of the working folder takes their place.
_PATH = str(builtin_folder() / "probe.yaml")


class Prober:
    """Lowers blocks of the library in a network whose norm and activation are given."""

    def __init__(self, roles: Roles, apart: bool = False) -> None:
        self.roles, self.apart = roles, apart

    def definition(self, block: str) -> Definition:
        """A block of the library."""
        found = library().find_block(block, builtin_folder())
        assert found is not None
        return found

    def graph(self, block: str, arguments: Arguments, given: Shape) -> Graph | None:
        """The folded graph of a stage; None where the arguments or the input do not fit."""
        height, width = given.height, given.width
        spec = {
            "spec_version": 1,
            "name": "probe",
            "description": "One stage",
            "input": {"channels": given.channels, "height": height, "width": width},
            "stages": [{"name": "probe", "block": block, **arguments}],
        }
        sections = {"defaults": self.roles.defaults, "blocks": self.roles.blocks}
        spec.update({key: value for key, value in sections.items() if value})
        return _lowered(json.dumps(spec), self.apart)

    def key(self, block: str, arguments: Arguments, given: Shape) -> Key | None:
        """Equal for stages that are the same graph."""
        graph = self.graph(block, arguments, given)
        return None if graph is None else graph_key(graph)


@functools.cache
def library() -> Library:
    """The package's own blocks, read once."""
    return Library()


@functools.cache
def _lowered(spec: str, apart: bool) -> Graph | None:
    """The folded graph of a spec; several plans for a model, and several models, ask for one."""
    try:
        loaded = load(_PATH, library(), text=spec.encode())
        return folded(flattened(lower(loaded)), apart)
    except SpecError:
        return None
