"""No file that is written is called like a module that anything imports."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

import resnet_spec
from resnet_spec.diagnostics import Span, SpecError
from resnet_spec.language import identifiers
from resnet_spec.language.library import builtin_specs

BACKENDS = Path(resnet_spec.__file__).parent / "backends"
# What the compiled networks and their trainers need, by the names of the distributions.
NEEDED = ("torch", "keras", "tensorflow-cpu", "jax", "numpy", "pillow", "tqdm")


def refused(name: str) -> bool:
    try:
        identifiers.check_network(name, Span("net.yaml"))
    except SpecError:
        return True
    return False


@pytest.mark.parametrize("name", sorted(sys.stdlib_module_names))
def test_a_module_of_python_names_no_network(name: str) -> None:
    assert refused(name)


def imported(text: str) -> set[str]:
    """The modules that a text imports, in whatever form."""
    found = re.findall(r"^\s*(?:import|from)\s+(\w+)", text, re.MULTILINE)
    return set(found) - {"resnet_spec"}


def test_what_compiled_files_import_names_no_network() -> None:
    texts = [path.read_text() for path in BACKENDS.rglob("*.jinja")]
    own = {path.stem for path in BACKENDS.glob("**/trainer/*.py")}
    patterns = ("**/trainer/*.py", "*/layers.py", "*/functions.py")
    for path in (path for pattern in patterns for path in BACKENDS.glob(pattern)):
        texts.append(path.read_text())
        ast.parse(texts[-1])
    names = {name for text in texts for name in imported(text)} - own
    assert {"torch", "keras", "numpy", "json", "tqdm"} <= names
    assert [name for name in sorted(names) if not refused(name)] == []


def requirements() -> set[str]:
    """The distributions that are needed, and all that these need, as far as they are installed."""
    found: set[str] = set()
    waiting = list(NEEDED)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            try:
                needs = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            plain = (each for each in needs if "extra ==" not in each)
            waiting += [match[0] for each in plain if (match := re.match(r"[\w.-]+", each))]
    return found


def test_what_frameworks_import_names_no_network() -> None:
    needed = requirements()
    modules = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if needed & {owner.lower().replace("_", "-") for owner in owners}
    }
    assert "numpy" in modules
    assert [name for name in sorted(modules) if not refused(name)] == []


def test_the_networks_that_come_with_the_package_keep_their_names() -> None:
    assert [name for name in builtin_specs() if refused(name)] == []
