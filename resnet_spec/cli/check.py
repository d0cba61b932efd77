"""`check`: validate specs, blocks and recipes, infer shapes, work out the code; no framework."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import STDIN, Exit, Reader
from resnet_spec.diagnostics import Diagnostic, Report, Span, SpecError, counted, in_order, quoted
from resnet_spec.diagnostics.render import as_json
from resnet_spec.language.library import BLOCKS, RECIPES, SUFFIXES
from resnet_spec.language.nodes import Mapping
from resnet_spec.project import settings

if TYPE_CHECKING:
    from resnet_spec.ir import Network


def run(arguments: argparse.Namespace) -> Exit:
    """Check the given paths; findings go to standard output."""
    shared.check_stdin(arguments.paths, arguments.stdin_filename)
    reader = Reader(arguments.set, arguments.stdin_filename)
    try:
        backends = _backends(arguments.backend or _wanted(arguments.allow_outside))
    except settings.SettingsError as error:
        findings, sources = error.diagnostics, error.sources
        output.findings(findings, sources, arguments.format, arguments.color, sys.stderr)
        return Exit.FAILURE
    except SpecError as error:
        found = in_order(error.diagnostics)
        output.findings(found, {}, arguments.format, arguments.color, sys.stderr)
        return Exit.FAILURE
    numbers = {"specs": 0, "blocks": 0, "recipes": 0}
    for name in _files(arguments.paths, reader):
        kind = _kind(name, reader)
        numbers[kind] += 1
        if kind != "specs":
            _check_part(Path(name), kind, reader)
        elif (read := reader.network(name)) is not None:
            _check_program(read[1], backends, reader)
    found = in_order(reader.findings)
    if arguments.format == "json":
        output.as_json({**as_json(found), **numbers})
    elif found:
        output.findings(found, reader.sources, arguments.format, arguments.color, sys.stdout)
    elif not arguments.quiet:
        parts = [counted(number, kind[:-1]) for kind, number in numbers.items() if number]
        *most, last = parts or ["0 specs"]
        listed = f"{', '.join(most)} and {last}" if most else last
        output.say(f"{listed} checked, no errors")
    return shared.outcome(found)


def _files(names: list[str], reader: Reader) -> Iterator[str]:
    """Every file once, folders searched; a name that is neither stays as it is."""
    seen: set[str] = set()
    for name in names:
        found = [name]
        if name != STDIN and os.path.isdir(name):
            reader.name_folder(Path(name))
            found = list(_below(Path(name)))
        if not found:
            reader.fail(
                [
                    Diagnostic(
                        "RS107",
                        f"there is no spec in the folder {quoted(name)}",
                        Span(name),
                        help="specs are found by the ending .yaml",
                    )
                ]
            )
        for each in found:
            identity = os.path.realpath(each) if os.path.exists(each) else each
            if identity not in seen:
                seen.add(identity)
                yield each


def _below(folder: Path) -> Iterator[str]:
    """The YAML files below a folder, hidden folders left out."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield str(Path(root, name))


def _kind(name: str, reader: Reader) -> str:
    """The kind of a file: a block or a recipe is in a folder of that name, or a block says so."""
    path = Path(name)
    if name == STDIN or not path.is_file():
        return "specs"
    folder = path.absolute().parent.name
    if folder in (BLOCKS, RECIPES):
        return folder
    try:
        _, node = reader.library.read(reader.library.name_file(path))
    except SpecError:
        return "specs"  # told when it is read as a spec
    keys = node.entries if isinstance(node, Mapping) else {}
    return "blocks" if "block" in keys and "stages" not in keys else "specs"


def _wanted(outside: bool) -> Sequence[str]:
    """The backends that the settings name; the usual ones without settings."""
    found = settings.find(Path.cwd(), outside)
    named = [name for target in found.targets for name in target.backends] if found else []
    return named or settings.DEFAULT_BACKENDS


def _backends(names: Iterable[str]) -> list[Any]:
    """The backends of these names; raises `SpecError` (RS501)."""
    from resnet_spec.codegen.generate import find_backend

    return [find_backend(name) for name in dict.fromkeys(names)]


def _check_program(network: Network, backends: Iterable[Any], reader: Reader) -> None:
    """Errors that keep a network from being written as Python and by these backends."""
    from resnet_spec.codegen import trainer
    from resnet_spec.specialize import renamed, specialize

    found = Report()
    try:
        trainer.check_name(network)
        program = specialize(network)
    except SpecError as error:
        found.extend(error)
        backends = ()
    for backend in backends:
        try:
            if hasattr(backend, "view"):
                backend.view(renamed(program, backend.taken))
        except SpecError as error:
            found.extend(error)
    if found.diagnostics:
        reader.fail(found.diagnostics)


def _check_part(path: Path, kind: str, reader: Reader) -> None:
    """Check a block or a recipe."""
    try:
        reader.library.name_folder(path.absolute().parent.parent)
        reader.library.name_file(path)
        if kind == RECIPES:
            from resnet_spec.language import recipes

            recipes.check_file(path, reader.library)
        else:
            from resnet_spec.language.check_names import check_block
            from resnet_spec.language.library import Blocks

            report = Report()
            blocks = Blocks({}, reader.library, path.parent.parent)
            check_block(reader.library.read_block(path), blocks, report)
            report.raise_if_any()
    except SpecError as error:
        reader.fail(error.diagnostics)
    reader.sources.update(reader.library.sources)
