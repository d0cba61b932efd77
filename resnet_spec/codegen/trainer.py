"""The files beside a network that train it: its recipe as TOML, and the trainer of its backend."""

from __future__ import annotations

import functools
import json
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from resnet_spec.codegen import header
from resnet_spec.diagnostics import escapes, fail, quoted
from resnet_spec.ir import Network
from resnet_spec.language.load import digest
from resnet_spec.language.recipes import keys
from resnet_spec.language.syntax import Recipe


def files(network: Network, backend: Any, command: str) -> dict[PurePosixPath, str]:
    """The network's recipe, and the trainer, which is the same for every network."""
    check_name(network)
    recipe = network.recipe
    if recipe is None:
        fail(
            "RS102",
            "a trainer needs a recipe, but the spec has no 'training'",
            network.root.definition.span,
            help="for example training: imagenet_paper; or leave out --trainer, and trainer = true "
            "in the settings",
        )
    folder = PurePosixPath(backend.name)
    found = {folder / f"{network.name}.toml": header.seal(recipe_text(network, recipe, command))}
    anyone = header.shared(f"resnet-spec compile NETWORK --backend {backend.name} --trainer")
    head = "".join(f"# {line}\n" for line in anyone)
    own = _package_folder(type(backend).__module__)
    for name in backend.trainer:
        path = own / name
        if not path.is_file():
            path = _package_folder("resnet_spec.backends") / name
        found[folder / name] = header.seal(head + path.read_text(encoding="utf-8"))
    return found


def check_name(network: Network) -> None:
    """RS106 for a network with a recipe whose file would be one of the trainer's."""
    if network.recipe is not None and network.name in modules():
        fail(
            "RS106",
            f"a network called {quoted(network.name)} would overwrite the trainer's file",
            network.root.definition.node.span_of("name"),
            help="give the network another name",
        )


@functools.cache
def modules() -> frozenset[str]:
    """The names of the trainers' modules, which stand beside the networks."""
    root = _package_folder("resnet_spec.backends").parent
    return frozenset(path.stem for path in root.glob("**/trainer/*.py"))


def _package_folder(package: str) -> Path:
    """The folder of a package that holds its part of a trainer."""
    file = import_module(package).__file__
    assert file is not None
    return Path(file).parent / "trainer"


def recipe_text(network: Network, recipe: Recipe, command: str) -> str:
    """The recipe as TOML: every key with its value and, in a column of its own, what it means."""
    facts = {
        "input": network.input.dimensions,
        "classes": network.classes,
    }
    meanings = {"input": "channels, height and width of an image", "classes": "number of classes"}
    values = {**facts, **recipe.settings}
    meanings |= keys()
    lines = [f"{key} = {_value(value)}" for key, value in values.items()]
    width = max(map(len, lines))
    body = [f"{line:<{width}}  # {meanings[key]}" for line, key in zip(lines, values, strict=True)]
    found = digest([network.name, facts["input"], facts["classes"], dict(recipe.settings)])
    head = [f"# {line}" for line in header.lines(network.path, found, command)]
    return "\n".join([*head, *_title(network, recipe), "", *body]) + "\n"


def _title(network: Network, recipe: Recipe) -> list[str]:
    """How the network is trained, and who says so."""
    said = recipe.description or "A recipe of its own"
    texts = [f"{network.name}: {said}", *([recipe.source] if recipe.source else [])]
    return ["#", *(f"# {' '.join(escapes.python(text).split())}" for text in texts)]


def _value(value: object) -> str:
    """A value as TOML writes it; floats as Python does, which reads them back the same."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return escapes.toml(value)
    return repr(value) if isinstance(value, float) else json.dumps(value)
