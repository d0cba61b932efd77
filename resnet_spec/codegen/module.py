"""A Python file from a template, with the imports and definitions that its text needs."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any

from resnet_spec.codegen.definitions import needed
from resnet_spec.codegen.python import BUILTINS, names_in
from resnet_spec.diagnostics import fail, quoted
from resnet_spec.ir import Network
from resnet_spec.specialize import Program


class PythonBackend(ABC):
    """A backend that writes a Python module from a template of its package's `templates` folder.

    The template writes what follows the imports. A variable that is a list stands for its lines.
    """

    name: str
    framework: str  # what messages call it
    suffix = ".py"
    template = "model.py.jinja"

    imports: str  # the import block of a file that uses everything
    definitions: Mapping[str, str]  # functions and layers that a file may need, by name
    names: Collection[str]  # what the template calls its own functions and variables

    @functools.cached_property
    def taken(self) -> frozenset[str]:
        """The names that a file uses itself, which no name of a spec may hide."""
        return frozenset({*BUILTINS, *imported(self.imports), *self.definitions, *self.names})

    @abstractmethod
    def view(self, program: Program) -> dict[str, Any]:
        """The variables of the template; raises `SpecError` for what the framework can't have."""

    def write(self, program: Program, head: Sequence[str]) -> str:
        """The text of a file, whose first lines are given; raises `SpecError`."""
        from resnet_spec.codegen.templates import template

        view = self.view(program)
        body = template(type(self).__module__, self.template).render(view).strip("\n")
        used = {*names_in(body)}
        helpers = needed(self.definitions, used)
        top = "\n".join([*head, "", *imports(self.imports, used)])
        apart = "\n\n\n" if helpers or body.startswith(("class ", "def ", "@")) else "\n\n"
        return "\n\n\n".join([top, *helpers]) + f"{apart}{body}\n"

    def check_name(self, network: Network) -> None:
        """RS503 for a network whose function or class would hide a name that its file uses."""
        for name, what in ((network.name, "name"), (network.class_name, "class_name")):
            if name in self.taken:
                why = (
                    "which is a name of Python"
                    if name in {*BUILTINS, "self"}
                    else "since its file uses this name"
                )
                fail(
                    "RS503",
                    f"a network can't be called {quoted(name)} in {self.framework}, {why}",
                    network.root.definition.node.span_of(what),
                    help=f"give it another {what}",
                )


# --- imports -------------------------------------------------------------------------------------


def imported(block: str) -> set[str]:
    """The names that an import block binds."""
    return {name for line in block.split("\n") for name, _ in _bound(line)}


def imports(block: str, used: Container[str]) -> list[str]:
    """The lines of an import block with the names that are used, and nothing else."""
    text: list[str] = []
    for group in block.strip().split("\n\n"):
        lines = []
        for line in group.split("\n"):
            kept = [written for name, written in _bound(line) if name in used]
            if kept:
                lines.append(f"{line.partition('import ')[0]}import {', '.join(kept)}")
        text += [*([""] if text and lines else []), *lines]
    return text


def _bound(line: str) -> list[tuple[str, str]]:
    """The names of one statement, each with what is written for it: `jax.numpy as jnp`."""
    names = line.partition("import ")[2]
    return [(each.split()[-1], each) for each in names.split(", ") if each]
