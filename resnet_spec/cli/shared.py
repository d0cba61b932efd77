"""Shared by the verbs: exit codes, reading of specs, tables."""

from __future__ import annotations

import argparse
import enum
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from resnet_spec.diagnostics import Diagnostic
    from resnet_spec.disk.files import Files
    from resnet_spec.ir import Network
    from resnet_spec.language.library import Library
    from resnet_spec.language.load import Loaded

STDIN = "-"


class Exit(enum.IntEnum):
    """The exit codes of every verb."""

    CLEAN = 0
    """Nothing to complain about, and everything up to date."""
    FINDINGS = 1
    """Something is wrong with a spec, or a file is out of date or not ours to replace."""
    FAILURE = 2
    """Wrong usage, unusable settings, an output folder that can't be written, a bug."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""
    BROKEN_PIPE = 141
    """The reader of the output went away."""


class UsageError(Exception):
    """A command line that makes no sense; the text says why."""


def reject_pairs(arguments: argparse.Namespace, pairs: Iterable[tuple[str, str]]) -> None:
    """`UsageError` for the first pair of flags of which both are given."""
    for first, second in pairs:
        if _given(arguments, first) and _given(arguments, second):
            raise UsageError(f"{first} cannot be used with {second}")


def _given(arguments: argparse.Namespace, flag: str) -> bool:
    option, _, value = flag.partition(" ")
    found = getattr(arguments, option.lstrip("-").replace("-", "_"))
    return found == value if value else found not in (None, False, [])


def check_is_not_read(read: str, flag: str, written: str) -> None:
    """`UsageError` where the file that is to be written is the one that is read."""
    from resnet_spec.diagnostics import quoted

    try:
        same = os.path.samefile(read, written)
    except (OSError, ValueError):
        return
    if same:
        raise UsageError(f"{flag} {quoted(written)} is the file that is read")


def check_text(flag: str, values: Iterable[str]) -> None:
    """`UsageError` for a value whose bytes are not UTF-8."""
    for value in values:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the value of {flag} is not UTF-8: {value!a}") from None


def check_stdin(names: Sequence[str], stdin_name: str | None) -> None:
    """`UsageError` for a --stdin-filename that names nothing."""
    if stdin_name is not None and STDIN not in names:
        raise UsageError("--stdin-filename needs the SPEC -")
    if stdin_name == "":
        raise UsageError("--stdin-filename needs a name")


def backends_exist(arguments: argparse.Namespace) -> bool:
    """Whether each `--backend` exists; the first that does not is reported (RS501)."""
    from resnet_spec.cli import output
    from resnet_spec.codegen.generate import find_backend
    from resnet_spec.diagnostics import SpecError

    try:
        for name in arguments.backend:
            find_backend(name)
    except SpecError as error:
        output.findings(error.diagnostics, {}, color=arguments.color)
        return False
    return True


# --- reading -------------------------------------------------------------------------------------


class Reader:
    """Reads the specs of one run; collects findings and the texts that they point into."""

    def __init__(
        self,
        settings: Sequence[str] = (),
        stdin_name: str | None = None,
        files: Files | None = None,
    ) -> None:
        from pathlib import Path

        from resnet_spec.disk.files import DISK
        from resnet_spec.language.library import Library, shown_path

        self.settings = settings
        self.stdin_name = "<stdin>" if stdin_name is None else shown_path(Path(stdin_name))
        self.files = files or DISK
        self.library: Library = Library(self.files)
        self.folders: list[Path] = []
        self.sources: dict[str, str] = {}
        self.asked: set[Path] = set()  # every file that was looked for, there or not
        self.findings: list[Diagnostic] = []

    def name_folder(self, folder: Path) -> None:
        """A folder that the command line or its settings named: all specs may read its project."""
        self.folders.append(folder)
        self.library.name_folder(folder)

    def network(self, name: str) -> tuple[Loaded, Network] | None:
        """A spec and its network, `expect` checked; None where there are findings."""
        from resnet_spec.diagnostics import SpecError
        from resnet_spec.language.load import load
        from resnet_spec.language.nodes import MAX_BYTES
        from resnet_spec.lower import lower
        from resnet_spec.lower.unused import findings

        try:
            if name == STDIN:
                if sys.stdin is None:
                    raise UsageError("standard input is closed")
                text = sys.stdin.buffer.read(MAX_BYTES + 1)
                loaded = load(self.stdin_name, self.library, self.settings, text)
            else:
                loaded = load(name, self.library, self.settings)
            network = lower(loaded)
            found = findings(loaded, network)
            if found:
                raise SpecError(found)
        except SpecError as error:
            self.fail(error.diagnostics)
            return None
        finally:
            self._take_over()
        return loaded, network

    def fail(self, found: Iterable[Diagnostic]) -> None:
        from resnet_spec.language.library import Library

        self.findings.extend(found)
        self._take_over()
        # The library tells a broken file once, but the next spec may rest on it as well; findings
        # that come twice are printed once.
        self.library = Library(self.files)
        for folder in self.folders:
            self.library.name_folder(folder)

    def _take_over(self) -> None:
        self.sources.update(self.library.sources)
        self.asked |= self.library.asked

    def path(self, name: str) -> Path | None:
        """The file of a spec; None for standard input or, as a finding, where there is none."""
        from resnet_spec.diagnostics import SpecError

        if name == STDIN:
            return None
        try:
            return self.library.find_spec(name, None)
        except SpecError as error:
            self.fail(error.diagnostics)
            return None


def network_of_project(spec: str, reader: Reader, root: Path) -> Network | None:
    """The network of `read_of_project`."""
    read = read_of_project(spec, reader, root)
    return None if read is None else read[1]


def read_of_project(spec: str, reader: Reader, root: Path) -> tuple[Loaded, Network] | None:
    """A spec and its network, whose spec's path is relative to the project's folder.

    So output is the same whichever folder the compiler is started in.
    """
    from pathlib import Path

    from resnet_spec.language.library import builtin_folder

    read = reader.network(spec)
    if read is None:
        return None
    loaded, network = read
    path = reader.path(spec)
    if path is None:
        return read
    if path.is_relative_to(builtin_folder()) and builtin_folder().parent != Path(root):
        return loaded, network._replace(path=path.stem)  # known everywhere by its name
    relative = os.path.relpath(path, root)
    if relative.startswith(".."):
        return read
    return loaded, network._replace(path=Path(relative).as_posix())


def outcome(found: Iterable[Diagnostic]) -> Exit:
    """The exit code of a run with these findings."""
    from resnet_spec.diagnostics import INTERNAL

    codes = {each.code for each in found}
    if INTERNAL in codes:
        return Exit.FAILURE
    return Exit.FINDINGS if codes else Exit.CLEAN


# --- writing -------------------------------------------------------------------------------------


def write(arguments: argparse.Namespace, out: str, text: str) -> Exit:
    """Write a sealed text to one file, unless that was edited or is not ours, and say so."""
    from pathlib import Path, PurePosixPath

    from resnet_spec.cli import output
    from resnet_spec.project import files

    path = Path(out)
    try:
        entries = files.plan(path.parent, {PurePosixPath(path.name): text}, str(path.parent))
        refused = [] if arguments.force else files.refusals(entries)
        if refused:
            output.findings(refused, {}, color=arguments.color)
            return Exit.FINDINGS
        files.write(entries)
    except files.OutputError as error:
        output.findings(error.diagnostics, {}, color=arguments.color)
        return Exit.FAILURE
    if not arguments.quiet:
        status = "unchanged" if entries[0].status == "identical" else "wrote"
        output.say(f"{status} {out}")
    return Exit.CLEAN


# --- printing ------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Rows in columns that are as wide as they need to be; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
