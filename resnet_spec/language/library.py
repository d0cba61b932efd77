"""Where specs and blocks are found: files by path, our own by name; every file is read once."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from resnet_spec.diagnostics import Report, Span, SpecError, expected, fail, quoted
from resnet_spec.disk.projects import is_within, project_of, settings_files
from resnet_spec.language import nodes, other_libraries
from resnet_spec.language.blocks import read_block
from resnet_spec.language.nodes import Node
from resnet_spec.language.syntax import Definition
from resnet_spec.primitives import PRIMITIVES

SUFFIXES = (".yaml", ".yml")
BLOCKS, RECIPES = "blocks", "recipes"  # folders of files that are no networks


@functools.cache
def builtin_folder() -> Path:
    """The folder of the specs that come with the package, installed or in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "specs"
    return installed if installed.is_dir() else package.parent / "specs"


@functools.cache
def builtin_specs() -> dict[str, Path]:
    """Our networks: name to file."""
    root = builtin_folder()
    files = sorted(
        path for path in root.rglob("*.yaml") if path.parent.name not in (BLOCKS, RECIPES)
    )
    return {path.stem: path for path in files}


@functools.cache
def builtin_blocks() -> dict[str, Path]:
    """Our blocks: name to file."""
    return {path.stem: path for path in sorted((builtin_folder() / BLOCKS).glob("*.yaml"))}


@functools.cache
def builtin_recipes() -> dict[str, Path]:
    """Our recipes of training: name to file."""
    return {path.stem: path for path in sorted((builtin_folder() / RECIPES).glob("*.yaml"))}


def shown_path(path: Path) -> str:
    """How messages and headers name a file: as a person would from the working folder.

    Never absolute: a file elsewhere is named by its relative path, one of ours by `specs/…`.
    """
    if path.absolute().is_relative_to(builtin_folder()):
        return (Path("specs") / path.absolute().relative_to(builtin_folder())).as_posix()
    try:
        return Path(os.path.relpath(path)).as_posix()
    except ValueError:  # another drive
        return path.name


class Library:
    """The files of one run: their texts for messages, their trees, the blocks read from them.

    What a person names is read; what a file names is read where it lies in the project of a file
    that a person named, or comes with the package: a stranger's spec gets at nothing else.
    """

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}
        # Every file that was looked for, there or not: what comes out may change with each.
        self.asked: set[Path] = set()
        self._nodes: dict[Path, Node] = {}
        self._blocks: dict[Path, Definition | SpecError] = {}
        self._projects: dict[Path, Path] = {}

    def name_folder(self, folder: Path) -> None:
        """Take over the folder of what a person named: its project may be read from now on."""
        if folder not in self._projects and not folder.is_relative_to(builtin_folder()):
            self._projects[folder] = project_of(folder)
            self.asked.update(settings_files(folder.absolute()))

    def name_file(self, path: Path) -> Path:
        """Take over a file that a person named; RS006 for a link that leads out of its project."""
        self.name_folder(path.parent)
        if os.path.islink(path) and not self._may_read(path):
            shown = shown_path(path)
            message = f"{quoted(shown)} is a link that leads out of its project"
            fail("RS006", message, Span(shown), "name the file itself")
        return path

    def _may_read(self, path: Path) -> bool:
        projects = dict.fromkeys((builtin_folder(), *self._projects.values()))
        return any(is_within(path, project) for project in projects)

    def _check_asked(self, path: Path, name: str, span: Span | None) -> None:
        """RS006 for a file that a file asks for and may not have, whether there is one or not."""
        if not name.endswith(SUFFIXES):
            message = f"{quoted(name)} is no spec: its name does not end in .yaml or .yml"
            fail("RS006", message, span, "name a spec")
        if not self._may_read(path):
            message = f"{quoted(name)} is outside of the project"
            fail(
                "RS006",
                message,
                span,
                "a file reads those of its own folder and of the folder with the settings: move it "
                "there, or put a resnet-spec.toml, which may be empty, into a folder above both",
            )

    def read(self, path: Path) -> tuple[str, Node]:
        """The shown path and the tree of a file."""
        shown = shown_path(path)
        self.asked.add(path)
        if path not in self._nodes:
            # Kept before it is parsed, so that messages can show the line that is wrong.
            self.sources[shown] = nodes.read_text(path, shown)
            self._nodes[path] = nodes.parse(self.sources[shown], shown)
        return shown, self._nodes[path]

    def add_text(self, data: bytes, shown: str) -> Node:
        """The tree of a text that stands in no file, such as standard input."""
        self.sources[shown] = nodes.decode(data, shown)
        return nodes.parse(self.sources[shown], shown)

    def find_spec(self, name: str, near: Path | None, span: Span | None = None) -> Path:
        """The file of a spec given by path or by the name of one of ours (RS107)."""
        looks_like_path = name.endswith(SUFFIXES) or "/" in name or os.sep in name
        candidate = (near / name) if near is not None else Path(name)
        self.asked.add(candidate)
        if looks_like_path and near is not None:
            self._check_asked(candidate, name, span)
        # os.path: a name that no file can have is a name of no file, not an error of its own.
        if looks_like_path or (near is None and os.path.isfile(candidate)):
            if not os.path.exists(candidate):
                fail("RS107", f"there is no file {quoted(name)}", span, _path_help(name))
            return self.name_file(candidate) if near is None else candidate
        beside = (near or Path()) / f"{name}.yaml"
        self.asked.add(beside)
        if near is not None and os.path.isfile(beside):
            self._check_asked(beside, beside.name, span)
            return beside
        builtin = builtin_specs().get(name)
        if builtin is None:
            hint = expected(name, builtin_specs())
            fail("RS107", f"there is no spec {quoted(name)}", span, hint)
        return builtin

    def find_recipe(self, name: str, near: Path, span: Span) -> Path:
        """The file of a recipe: by path, in `recipes/` beside the spec, or one of ours (RS107)."""
        if name.endswith(SUFFIXES) or "/" in name or os.sep in name:
            self._check_asked(near / name, name, span)
            self.asked.add(near / name)
            if not os.path.exists(near / name):
                fail("RS107", f"there is no file {quoted(name)}", span)
            return near / name
        beside = near / RECIPES / f"{name}.yaml"
        self.asked.add(beside)
        if name.isidentifier() and os.path.isfile(beside):
            self._check_asked(beside, beside.name, span)
            return beside
        if name not in builtin_recipes():
            known = {*builtin_recipes(), *(p.stem for p in (near / RECIPES).glob("*.yaml"))}
            fail("RS107", f"there is no recipe {quoted(name)}", span, expected(name, known))
        return builtin_recipes()[name]

    def find_block(self, name: str, near: Path) -> Definition | None:
        """A block's definition from `blocks/` beside the spec, or one of ours; None: no such block.

        Raises `SpecError` with what is wrong in the block's file.
        """
        beside = near / BLOCKS / f"{name}.yaml"
        self.asked.add(beside)
        is_beside = name.isidentifier() and os.path.isfile(beside)
        path = beside if is_beside else builtin_blocks().get(name)
        if path is None:
            return None
        if path not in self._blocks:
            try:
                if is_beside:
                    self._check_asked(path, path.name, Span(shown_path(path)))
                self._blocks[path] = self.read_block(path)
            except SpecError as error:
                self._blocks[path] = error
        found = self._blocks[path]
        if isinstance(found, SpecError):
            raise found
        return found

    def read_block(self, path: Path) -> Definition:
        """The definition in a file, whose name must be the block's; raises `SpecError`."""
        report = Report()
        _, node = self.read(path)
        definition = read_block(node, report)
        if definition is not None and definition.name != path.stem:
            report.add(
                "RS105",
                f"this file defines the block {quoted(definition.name)}, "
                f"but is called {quoted(path.name)}",
                definition.span,
                help=f"call the file {definition.name}.yaml, or the block {path.stem}",
            )
        report.raise_if_any()
        assert definition is not None
        return definition

    def block_names(self, near: Path) -> set[str]:
        """Every block that `find_block` would find."""
        return {path.stem for path in (near / BLOCKS).glob("*.yaml")} | set(builtin_blocks())


class Blocks:
    """The blocks that a spec can use: its own (None: has a mistake), `blocks/` beside it, ours."""

    def __init__(
        self, own: Mapping[str, Definition | None], library: Library, folder: Path
    ) -> None:
        self.own, self.library, self.folder = own, library, folder
        self.used = {name: block for name, block in own.items() if block is not None}

    def find(self, name: str, span: Span, slot: bool = False) -> Definition:
        """A block by name; raises `SpecError` (RS301, or what is wrong in its file).

        `slot` tells that a primitive could stand there as well. The error of a block of the spec's
        own is empty: its mistake has been told.
        """
        if name in self.used:
            return self.used[name]
        if name in self.own:
            raise SpecError([])
        found = self.library.find_block(name, self.folder)
        if found is None:
            what = "block or primitive" if slot else "block"
            known = {*self.names(), *(PRIMITIVES if slot else ())}
            hint = other_libraries.hint(name, known)
            if name in PRIMITIVES:
                hint = f"it is a primitive, which a block or the stem can have: {{{name}: …}}"
            fail("RS301", f"there is no {what} {quoted(name)}", span, hint)
        self.used[name] = found
        return found

    def names(self) -> set[str]:
        """Every block that `find` would find."""
        return {*self.own, *self.library.block_names(self.folder)}


def _path_help(name: str) -> str | None:
    stem = Path(name).stem
    if stem in builtin_specs():
        return f"a spec of that name comes with the package: resnet-spec compile {stem}"
    return None
