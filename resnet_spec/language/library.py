"""Finds specs and blocks: files by path, built-in ones by name; every file is read once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from resnet_spec.diagnostics import Report, Span, SpecError, expected, fail, quoted
from resnet_spec.disk.files import DISK, Files
from resnet_spec.disk.projects import project_of, settings_files
from resnet_spec.language import nodes, other_libraries
from resnet_spec.language.blocks import read_block
from resnet_spec.language.memo import Memo
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

    Never absolute: a file elsewhere is named by its relative path, a built-in one by `specs/…`.
    """
    if path.absolute().is_relative_to(builtin_folder()):
        return (Path("specs") / path.absolute().relative_to(builtin_folder())).as_posix()
    try:
        return Path(os.path.relpath(path)).as_posix()
    except ValueError:  # another drive
        return path.name


class Library:
    """The files of one run: their texts for messages, their trees, the blocks read from them.

    A file that the user names is read. A file that a spec refers to is read only if it is in the
    project of a file that the user named, or built in: a stranger's spec can read nothing else.
    `files` says where all this is: on disk, or in a repository's past.
    """

    def __init__(self, files: Files = DISK) -> None:
        self.files = files
        self.memo = Memo()
        self.sources: dict[str, str] = {}
        # Every file that was looked for, there or not: what comes out may change with each.
        self.asked: set[Path] = set()
        self._nodes: dict[Path, Node] = {}
        self._blocks: dict[Path, Definition | SpecError] = {}
        self._projects: dict[Path, Path] = {}

    def name_folder(self, folder: Path) -> None:
        """Take over the folder of what a person named: its project may be read from now on."""
        if folder not in self._projects and not folder.is_relative_to(builtin_folder()):
            self._projects[folder] = project_of(folder, self.files)
            self.asked.update(settings_files(folder.absolute()))

    def name_file(self, path: Path) -> Path:
        """Take over a file that a person named; RS006 for a link that leads out of its project."""
        self.name_folder(path.parent)
        if self.files.is_link(path) and not self._may_read(path):
            shown = self.shown(path)
            message = f"{quoted(shown)} is a link that leads out of its project"
            fail("RS006", message, Span(shown), "name the file itself")
        return path

    def _may_read(self, path: Path) -> bool:
        projects = dict.fromkeys((builtin_folder(), *self._projects.values()))
        return any(self.files.is_within(path, project) for project in projects)

    def _check_asked(self, path: Path, name: str, span: Span | None) -> None:
        """RS006 for a file that a spec may not read, whether it exists or not."""
        if not name.endswith(SUFFIXES):
            message = f"{quoted(name)} is not a spec: its name does not end in .yaml or .yml"
            fail("RS006", message, span, "name a spec")
        if not self._may_read(path):
            message = f"{quoted(name)} is outside the project"
            fail(
                "RS006",
                message,
                span,
                "a spec reads only files in its own folder or below the folder with the settings: "
                "move it there, or put a resnet-spec.toml (may be empty) into a folder above both",
            )

    def shown(self, path: Path) -> str:
        """How messages name a file."""
        return self.files.shown(shown_path(path))

    def read(self, path: Path) -> tuple[str, Node]:
        """The shown path and the tree of a file."""
        shown = self.shown(path)
        self.asked.add(path)
        if path not in self._nodes:
            # Kept before it is parsed, so that messages can show the line that is wrong.
            self.sources[shown] = nodes.read_text(path, shown, self.files)
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
        if looks_like_path or (near is None and self.files.is_file(candidate)):
            if not self.files.exists(candidate):
                fail("RS107", f"there is no file {quoted(name)}", span, _path_help(name))
            return self.name_file(candidate) if near is None else candidate
        beside = (near or Path()) / f"{name}.yaml"
        self.asked.add(beside)
        if near is not None and self.files.is_file(beside):
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
            if not self.files.exists(near / name):
                fail("RS107", f"there is no file {quoted(name)}", span)
            return near / name
        beside = near / RECIPES / f"{name}.yaml"
        self.asked.add(beside)
        if name.isidentifier() and self.files.is_file(beside):
            self._check_asked(beside, beside.name, span)
            return beside
        if name not in builtin_recipes():
            known = {*builtin_recipes(), *self._stems(near / RECIPES)}
            fail("RS107", f"there is no recipe {quoted(name)}", span, expected(name, known))
        return builtin_recipes()[name]

    def find_block(self, name: str, near: Path) -> Definition | None:
        """A block's definition from `blocks/` beside the spec, or one of ours; None: no such block.

        Raises `SpecError` with what is wrong in the block's file.
        """
        beside = near / BLOCKS / f"{name}.yaml"
        self.asked.add(beside)
        is_beside = name.isidentifier() and self.files.is_file(beside)
        path = beside if is_beside else builtin_blocks().get(name)
        if path is None:
            return None
        if path not in self._blocks:
            try:
                if is_beside:
                    self._check_asked(path, path.name, Span(self.shown(path)))
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
        return {*self._stems(near / BLOCKS), *builtin_blocks()}

    def _stems(self, folder: Path) -> set[str]:
        names = self.files.names(folder)
        return {name.removesuffix(".yaml") for name in names if name.endswith(".yaml")}


class Blocks:
    """The blocks that a spec can use: its own (None: has a mistake), `blocks/` beside it, ours."""

    def __init__(
        self, own: Mapping[str, Definition | None], library: Library, folder: Path
    ) -> None:
        self.own, self.library, self.folder = own, library, folder
        self.used = self._sound()

    def _sound(self) -> dict[str, Definition]:
        return {name: block for name, block in self.own.items() if block is not None}

    def used_by(self, step: Callable[[], None]) -> dict[str, Definition]:
        """The blocks that a step finds, as if there had been none before."""
        outer, self.used = self.used, self._sound()
        try:
            step()
            return self.used
        finally:
            self.used = outer

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
                hint = f"it is a primitive: use it as a layer of a block or the stem: {{{name}: …}}"
            fail("RS301", f"there is no {what} {quoted(name)}", span, hint)
        self.used[name] = found
        return found

    def names(self) -> set[str]:
        """Every block that `find` would find."""
        return {*self.own, *self.library.block_names(self.folder)}


def _path_help(name: str) -> str | None:
    stem = Path(name).stem
    if stem in builtin_specs():
        return f"there is a built-in spec of that name: resnet-spec compile {stem}"
    return None
